"""Checks what a machine computes, on whatever device is there: hdr-tf benchmark --what=device.

    golden parity        networks against the stored outputs of the original programs (HDR_TF_GOLDEN, or tests/golden)
    tiles against whole  networks that large images pass through in tiles
    training             50 steps of every script, with 32 and with 16 bits: finite, and the loss falls
    fusing               two images of 1 and of 24 megapixels by the default network, memory permitting

With another backend of Keras (KERAS_BACKEND=jax) nothing imports TensorFlow: the first two checks are the same, and the
networks themselves take the steps, on random images, instead of the scripts. Whatever is not reached within `LIMIT_S` seconds
is said. Training the editor, which needs TF-Agents, is not among the scripts.
"""

import contextlib
import csv
import functools
import importlib
import importlib.util
import io
import os
import pathlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np

from hdr_tf import systems, weights
from hdr_tf.cli import one_line
from hdr_tf.image import tiling, tone
from hdr_tf.io.scenes import write_scene

if keras.config.backend() == "tensorflow":
    import tensorflow as tf

    from hdr_tf import device
    from hdr_tf.fusion import compiled
    from hdr_tf.models import esbn
    from hdr_tf.training import initialization
    from tfrecords import dataset, scenes, writer

    OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
else:
    OUT_OF_MEMORY = (MemoryError,)

ROOT = pathlib.Path(__file__).parents[1]
LIMIT_S = 480
SIZES = {"1 megapixel": (1000, 1000), "24 megapixels": (4000, 6000)}
SIDE, TILE = 96, 32  # pixels of the image that passes through a network as a whole and in tiles
PATCH = 32  # pixels, of the networks that train on patches
FALLS = 50  # steps after which the loss has to be lower; in fewer it may rise from batch to batch
PARTS = 5  # of the steps: the mean loss of the first part is compared with that of the last one

# Golden case, which has the name of its network: the network's inputs from the case's arrays, the stored output, and what it
# may differ by (None: 1e-5 of the largest value), as in tests/models/test_parity.py, where the reasons are.
_PAIRS = {"exposure_1": "image1", "exposure_2": "image2"}
_LUMINANCES = {"under": "y1", "over": "y2"}
GOLDEN = {
    "densefuse_gray": (_PAIRS, "fused", None),
    "densefuse_rgb": (_PAIRS, "fused", None),
    "deepfuse_official": (_LUMINANCES, "normalised", None),
    "deepfuse_sunnerli": (_LUMINANCES, "output", None),
    "hyperp_mb": (None, "fused", None),
    "esbn_align": ("input_{}", "output_low", 2e-6),
    "esbn_fusion": ("input_{}", "output_hdr", 4e-6),
    **dict.fromkeys(("ahdrnet", "fshdr", "hdr_transformer", "sctnet"), ("halves", "output", 3e-6)),
}
# Systems of one network that large images pass through in tiles, except for merge, whose stages take several exposures at once.
TILED = tuple(
    name
    for name, system in systems.SYSTEMS.items()
    if name in system.networks and name != "merge" and any(stage.halo is not None for stage in system.stages)
)
_ESBN = {"batch": 2, "patch": PATCH, "filters": 4}
SCRIPTS = {  # script: kind of records, and flags
    "pyramid": ("bracket", {"filters": 4}),
    "deepfuse": ("bracket", {"batch": 2, "patch": PATCH // 2}),  # in bfloat16 slow where the CPU lacks it
    "densefuse": ("bracket", {"batch": 2, "patch": PATCH, "learning_rate": 1e-3}),
    "hyperp_mb": ("bracket", {"patch": PATCH, "learning_rate": 1e-3}),
    "esbn_align": ("kalantari", {**_ESBN, "learning_rate": 1e-3, "start": "he"}),
    "esbn_fusion": ("kalantari", {**_ESBN, "growth": 2, "learning_rate": 1e-3, "weights": "esbn_fusion.weights.h5"}),
    "esbn_end_to_end": ("kalantari", {**_ESBN, "growth": 2, "align_filters": 4, "learning_rate": 1e-3, "weights": "."}),
    "selfhdr": ("kalantari", {"stage": "supervised", "batch": 2, "patch": PATCH, "filters": 8, "learning_rate": 1e-3}),
    "merge": ("merge", {"batch": 2, "filters": 4}),
}


class _Skipped(Exception):
    """Says why a check cannot be made here."""


def measure_device(steps: int = 50) -> list[dict]:
    """Makes all checks, with so many steps of training; returns a row for each: {"check", "what", "precision", "result",
    "found"}. "result" is "pass", or begins with "FAIL", "skipped" or "not reached"."""
    rows, end = [], time.perf_counter() + LIMIT_S
    with tempfile.TemporaryDirectory() as folder:
        for check, what, precision, function in _checks(pathlib.Path(folder), steps):
            row = {"check": check, "what": what, "precision": precision, "result": "pass", "found": ""}
            rows.append(row)
            if time.perf_counter() > end:
                row["result"] = f"not reached in {LIMIT_S} s"
                continue
            try:
                row["found"] = function()
            except _Skipped as reason:
                row["result"] = f"skipped: {reason}"
            except OUT_OF_MEMORY:
                row["result"] = "skipped: out of memory"
            except Exception as error:  # whatever a device makes of a network is what this asks
                row["result"] = f"FAIL: {type(error).__name__}: {one_line(error):.200}"
            finally:
                keras.config.set_dtype_policy("float32")
    return rows


def _checks(folder, steps) -> Iterator[tuple[str, str, str, Callable[[], str]]]:
    on_tensorflow = keras.config.backend() == "tensorflow"
    for name in GOLDEN:
        yield "golden parity", name, "float32", functools.partial(_compare_with_original, name)
    for name in TILED:
        yield "tiles against whole", name, "float32", functools.partial(_compare_tiles, name)
    half = device.half_precision() if on_tensorflow else "mixed_bfloat16"
    if on_tensorflow:
        for size, shape in SIZES.items():
            yield "fusing", size, "float32", functools.partial(_fuse, shape)
    for precision in ("float32", half):
        if on_tensorflow:
            for name in SCRIPTS:
                yield "training", f"train/{name}.py", precision, functools.partial(_run_script, folder, name, precision, steps)
        else:
            for name in (*GOLDEN, "pyramid"):
                yield "training", name, precision, functools.partial(_train_network, name, precision, steps)


# === Golden parity ===


@functools.cache
def _golden():
    """The module golden.py of the folder of golden cases, None without one."""
    path = pathlib.Path(os.environ.get("HDR_TF_GOLDEN", ROOT / "tests" / "golden")) / "golden.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compare_with_original(name):
    golden = _golden()
    if golden is None or not (golden.FOLDER / f"{name}.json").exists():
        raise _Skipped("no golden case; HDR_TF_GOLDEN names their folder")
    network, model = systems.networks()[name], systems.build(name)
    weights.assign(model, golden.parameters(name), systems.resolve(network.original_names)(), network.layout)
    inputs, output, tolerance = GOLDEN[name]
    arrays, expected = golden.inputs(name), golden.outputs(name)[output]
    if network.layout != "keras":
        arrays, expected = {key: _channels_last(array) for key, array in arrays.items()}, _channels_last(expected)
    if inputs == "halves":
        sides = list(zip(("low", "mid", "high"), arrays.values(), strict=True))
        arrays = {f"hdr_{side}": x[..., :3] for side, x in sides} | {f"ldr_{side}": x[..., 3:] for side, x in sides}
    elif isinstance(inputs, str):
        arrays = {key: arrays[inputs.format(key[:3].upper() + key[3:])] for key in model.input}
    elif inputs:
        arrays = {key: arrays[theirs] for key, theirs in inputs.items()}
    (found,) = (_array(x) for x in keras.tree.flatten(model(arrays, training=False)))
    tolerance = tolerance or 1e-5 * np.abs(expected).max()
    return _within(np.abs(found - expected).max(), tolerance)


def _channels_last(array):
    return array.transpose(0, 2, 3, 1)


def _array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def _within(difference, tolerance):
    if not difference <= tolerance:
        raise ValueError(f"expected a difference of at most {tolerance:.1e}, found {difference:.1e}")
    return f"{difference / tolerance:.2f} of the tolerance"


# === Tiles against whole ===


def _compare_tiles(name):
    system = systems.find(name)
    sizes = systems.resolve(system.size_arguments)(2, SIDE, SIDE) if getattr(system, "size_arguments", None) else {}
    _seed()
    model = systems.load_network(name, system.weights_path(), **sizes) if system.bundled else systems.build(name, **sizes)
    rng = np.random.default_rng(0)
    images = {key: rng.random((SIDE, SIDE - 8, x.shape[-1]), np.float32) for key, x in model.input.items()}
    whole, arrays = _run(model, images), dict(images)
    first = next(iter(images.values()))
    for stage in system.stages:
        part = model.get_layer(stage.layer) if stage.layer else model
        taken = {key: arrays[key] for key in part.input}

        def run(tiles, part=part, taken=taken):  # the first gives tile and halo their unit
            return list(_run(part, dict(zip(taken, tiles[1:], strict=True))).values())

        found = run([first, *taken.values()])
        if stage.halo is not None:
            found = tiling.several_in_tiles(run, [first, *taken.values()], TILE, stage.halo)
        arrays |= dict(zip(part.output, found, strict=True))
    largest = max(np.abs(array).max() for array in whole.values())
    return _within(max(np.abs(arrays[key] - array).max() for key, array in whole.items()), 1e-5 * largest)


def _seed():
    """Makes initial weights the same in every run. Keras's own function imports TensorFlow wherever that is installed."""
    random.seed(0)


def _run(model, arrays):
    outputs = model({key: array[None] for key, array in arrays.items()}, training=False)
    return {key: _array(outputs[key])[0] for key in model.output}


# === Training ===


def _train_network(name, precision, steps):
    """Steps of a network towards random images, on the same batch every time."""
    _seed()
    keras.config.set_dtype_policy(precision)
    model, rng = systems.build(name), np.random.default_rng(0)
    inputs = {key: rng.random((2, PATCH, PATCH, x.shape[-1]), np.float32) for key, x in model.input.items()}
    targets = {key: rng.random(x.shape, np.float32) for key, x in model(inputs).items()}
    model.compile(keras.optimizers.Adam(1e-3), loss=dict.fromkeys(targets, "mean_squared_error"))
    model.train_on_batch(inputs, targets)  # compiles
    start = time.perf_counter()
    found = []
    for _ in range(steps):
        model.reset_metrics()  # else this is the mean of all steps so far
        found.append(float(model.train_on_batch(inputs, targets)))
    seconds = time.perf_counter() - start
    return _falling([part.mean() for part in np.array_split(found, min(steps, PARTS))], steps, 2 * steps / seconds)


def _falling(means, steps, samples_per_s):
    """The verdict on the mean losses of `PARTS` equal parts of the steps."""
    if not np.isfinite(means).all():
        raise ValueError(f"the loss is {means[-1]}")
    if steps >= FALLS and not means[-1] < means[0]:
        raise ValueError(f"the loss rose from {means[0]:.4g} to {means[-1]:.4g}")
    return f"loss x {means[-1] / means[0]:.2f}, {samples_per_s:.0f} samples/s"


def _run_script(folder, name, precision, steps):
    if not (ROOT / "train" / f"{name}.py").exists():
        raise _Skipped("there are no training scripts next to hdr_tf")
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    script = importlib.import_module(f"train.{name}")
    kind, flags = SCRIPTS[name]
    every, run = max(1, steps // PARTS), folder / precision / name
    if "weights" in flags:
        flags = flags | {"weights": str(_esbn_weights(folder / "esbn") / flags["weights"])}
    config = script.Config(
        data=str(_records(folder / kind, kind)),
        run=str(run),
        steps=every * PARTS,
        log_every=every,
        mixed_precision=precision != "float32",
        **flags,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        script.main(config)
    means, rates = (_logged(run, column) for column in ("loss", "steps_per_second"))
    other = folder / "float32" / name
    if precision != "float32" and (other / "log.csv").exists() and means == _logged(other, "loss"):
        raise ValueError("the loss is the same in all digits as with float32")
    return _falling(means, steps, getattr(config, "batch", 4) * rates[-1])


def _logged(run, column):
    with (run / "log.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def _esbn_weights(folder):
    """Weights that the loss depends on: from the start of ESBN's merging network, hardly anything reaches the output."""
    if not folder.exists():
        keras.utils.set_random_seed(0)
        merging = esbn.esbn_fusion(_ESBN["filters"], growth=2)
        initialization.he_normal(merging, last="output")
        weights.save_weights(merging, folder / "esbn_fusion.weights.h5")
        for side in ("low", "high"):
            aligning = esbn.esbn_align(_ESBN["filters"])
            initialization.he_normal(aligning, last="decoder_output")
            weights.save_weights(aligning, folder / f"esbn_align_{side}.weights.h5")
    return folder


def _records(folder, kind):
    if not folder.exists():
        if kind == "kalantari":
            for number in range(4):
                stops, hdr = np.array([0.0, 2, 4]), _scene(number, 2 * PATCH)
                ldr = np.stack([np.uint16(65535 * tone.to_exposure(hdr, 2.0**stop)) for stop in stops])
                write_scene(folder.with_name("scenes") / str(number), ldr, stops, hdr)
            scenes.write_scenes(folder, kind, folder.with_name("scenes"), shards=2, num_processes=1)
        else:
            make, arguments = {"bracket": (_bracket, {"exposures": [5, 5]}), "merge": (_registered, {})}[kind]
            writer.write(folder, kind, make, 4, shards=2, arguments=arguments, num_processes=1)
    return folder


def _scene(seed, side):
    """Smooth radiance in 0..1 with a little noise, [side, side, 3] float32."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.random((side // 16, side // 16, 3)), np.ones((16, 16, 1)))
    return np.float32(np.clip(coarse**3 + 0.02 * rng.random((side, side, 3)), 0, 1))


def _bracket(index):
    scene = _scene(index, 64)
    exposures = [np.uint8(255 * tone.to_exposure(scene, 2.0**stop)) for stop in range(-2, 3)]
    return {"exposures": np.array(exposures), "ev": np.arange(-2, 3, dtype=np.float32), "source": str(index)}


def _registered(index):
    exposures, hdr = np.float32([0.5, 1, 4]), _scene(index, dataset.SIDE)[None]
    images = np.stack([tone.to_exposure(hdr, exposure) for exposure in exposures], axis=1)
    fields = {"images": np.uint16(65535 * images), "inside": np.ones(images.shape[:-1], np.uint8), "exposures": exposures}
    return fields | {"reference": np.int32(1), "noise": np.float32([1e-4, 1e-3, 1 / 255, 0]), "hdr": hdr}


# === Fusing ===


def _fuse(shape):
    system = systems.find(systems.names("fusion")[0])
    runner = compiled.load(system, system.weights_path())
    levels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    runner.fuse(list(levels))  # compiles
    start = time.perf_counter()
    fused = runner.fuse(list(levels))
    seconds = time.perf_counter() - start
    if fused.shape != levels.shape[1:] or not np.ptp(fused):
        raise ValueError(f"found an image of {fused.shape} with levels from {fused.min()} to {fused.max()}")
    return f"{seconds:.2f} s"
