"""Time and memory: of fusion beside OpenCV's Mertens fusion, of ESBN's records, its training and its reconstruction.

Machines differ and are noisy, so what counts is a ratio to something measured in the same run.

    measure                  a system and Mertens (createMergeMertens().process and convertScaleAbs, default weights) fuse the
                             same two pictures in turn; the median of the ratios
    measure_records          a scene written as one record, beside its patches written one by one as ESBN's own program does it
    measure_training         steps, beside the time that their input takes
    measure_reconstruction   three exposures aligned and merged
    measure_large            a pair of large files, as tools/fuse.py fuses it
    measure_folder           a folder of brackets, as tools/fuse.py fuses it, beside the same brackets one after another
    measure_files            a pair of files to a file, by tools/fuse.py and enfuse with their start, and by a process that
                             runs already, with `fuse_files` and with an exported model

Each runs in a process of its own, whose peak memory above what it held before the first picture, libraries and weights loaded,
is reported too. A published network gets random weights, on which its time does not depend.
"""

import concurrent.futures
import functools
import multiprocessing
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from hdr_tf import fusing
from hdr_tf.image import files, patches, scene_sets, synthesis
from hdr_tf.image.scenes import HDR_NAME

MERTENS, ENFUSE = "mertens", "enfuse"
WARM_UP = 3
WHOLE = 2**21  # pixels; a larger picture is not sent through the whole network, which would take too much memory
MATMUL = 2048  # rows and columns of the matrices whose product shows how fast the machine is
PHOTOS = ("coffee", "motorcycle_left", "chelsea")  # sources of made scenes, where there are no better ones


def measure(system: str, size: int, rounds: int) -> dict:
    """Times one system in a fresh process.

    Args:
        system: "mertens" or a name in `fusing.MODELS`.
        size: height and width of the pictures in pixels.
        rounds: how often both fuse, after as many to warm up, at most three.

    Returns:
        system and size; medians in milliseconds: `network_ms` of the compiled network alone, float32 in and out,
        `fuse_ms` of `hdr_tf.fuse` from uint8 arrays to the uint8 result, and `mertens_ms`; `ratio`, the median of
        fuse over Mertens; `gflop`, 10**9 operations of the network, of which a multiplication and an addition are two, and
        `of_matmul`, how many of them it does in a second over how many the product of two large matrices does; memory in 2**20
        bytes, `compiled_mb` of what is compiled ahead, `peak_mb` of the first fusions behind it; in tiles all is in the latter.
        None is what Mertens and the editor have not, and all of a large picture's network, which is run in tiles.
    """
    return _alone(_measure, system, size, rounds)


def measure_records(
    hdr_dirs: Sequence[str], size: tuple[int, int], count: int, patch: int, drawn: int, rounds: int, workers: int | None = None
) -> dict:
    """Writes and reads made scenes as records.

    Args:
        hdr_dirs: folders of EXR and Radiance files to make the scenes of; none for photographs under made-up light.
        size: height and width of the scenes.
        count: of the scenes.
        patch: side of the patches in pixels.
        drawn: how many patches are written as ESBN's own program writes them, 4.1 MB each at 256 pixels.
        rounds: batches of eight patches that are read, all features of each.
        workers: processes that write; None or 0 for one per CPU.

    Returns:
        Of kind "kalantari", `scene_mb` (10**6 bytes) and `scene_s`, wall time of all processes, their start included, for one
        scene; `patch_mb` and `patch_s` of ESBN's own records, see `_write_patches`; `patches` a scene; `times_smaller` and
        `times_faster`, what all of them take over what the scene takes. `patches_per_s` read; `peak_mb` of the process that
        reads (2**20 bytes).
    """
    from tfrecords import scenes

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        scene_sets.write_scenes(folder / "scenes", hdr_dirs or [_photographs(folder / "photos")], count, size, workers=workers)

        start = time.perf_counter()
        records = folder / "records"
        manifest, _ = scenes.write_scenes(records, "kalantari", folder / "scenes", shards=count, workers=workers)
        scene_s = (time.perf_counter() - start) / count
        scene_mb = sum(shard["bytes"] for shard in manifest["shards"].values()) / count / 1e6
        number = patches.count_patches(*size, patch)
        patch_s, patch_mb = _alone(_write_patches, folder, patch, drawn, number)
        reading = _alone(_read, records, patch, rounds)
    return {
        "size": list(size),
        "patch": patch,
        "scene_mb": scene_mb,
        "scene_s": scene_s,
        "patches": number,
        "patch_mb": patch_mb,
        "patch_s": patch_s,
        "times_smaller": number * patch_mb / scene_mb,
        "times_faster": number * patch_s / scene_s,
        **reading,
    }


def _photographs(folder):
    """Writes photographs under made-up light as Radiance files."""
    folder.mkdir()
    for number, name in enumerate(PHOTOS):
        radiance = synthesis.relight(synthesis.sample_photo(name), np.random.default_rng(number))
        files.write_radiance(folder / f"{name}.hdr", radiance)
    return folder


def _write_patches(folder, patch, drawn, number):
    """Seconds and megabytes of a patch of ESBN's own records.

    Its program is one process that reads and scales the whole scene for each patch, which is done here too; the patch itself is
    then made in our way from a scene in memory, with less work than the original has: a bound from below.
    """
    import tensorflow as tf

    from tfrecords import scenes, schema

    scene, path = folder / "scenes" / "001", folder / "patches.tfrecord"
    order = np.random.default_rng(0).integers(number, size=drawn)
    maker = scenes.PatchMaker("esbn_align", (scene,), (number,), order, patch)
    maker(0)  # reads the scene
    start = time.perf_counter()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(drawn):
            for picture in sorted(scene.glob("*.tif")):
                cv2.imread(str(picture)).astype(np.float32) / 255
            cv2.imread(str(scene / HDR_NAME), cv2.IMREAD_UNCHANGED)
            writer.write(schema.encode(schema.ESBN_ALIGN, maker(index)))
    return (time.perf_counter() - start) / drawn, path.stat().st_size / drawn / 1e6


def _read(records, patch, rounds):
    from tfrecords import dataset

    before, batch = _peak_mb(), 8
    batches = iter(dataset.patch_dataset(records, batch, [*patches.FEATURES, "exposures"], patch))
    _times(WARM_UP, lambda: next(batches))
    times = _times(rounds, lambda: next(batches))
    return {"patches_per_s": 1e3 * batch * rounds / times.sum(), "peak_mb": _peak_mb() - before}


def measure_training(model: Literal["esbn_align", "esbn_fusion"], filters: int, batch: int, patch: int, rounds: int) -> dict:
    """Times the training step of train/esbn_align.py or train/esbn_fusion.py on records of made scenes.

    Args:
        model: the network.
        filters: its width.
        batch: patches in a step.
        patch: side of the patches in pixels.
        rounds: steps, after three to warm up.

    Returns:
        model, filters, batch and patch; milliseconds of a batch, on average as batches are made ahead: `input_ms` of its making
        alone, `step_ms` of a step on one and the same batch, `both_ms` of steps on new ones; `steps_per_s` of the last;
        `peak_mb`.
    """
    from tfrecords import scenes

    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        size = max(256, patch), max(384, patch)
        scene_sets.write_scenes(folder / "scenes", [_photographs(folder / "photos")], 4, size, workers=1)
        scenes.write_scenes(folder / "records", "kalantari", folder / "scenes", shards=4, workers=1)
        return _alone(_train, folder / "records", model, filters, batch, patch, rounds)


def _train(records, name, filters, batch, patch, rounds):
    from hdr_tf import losses, training
    from hdr_tf.models import esbn
    from tfrecords import dataset

    training.prepare(training.TrainingConfig())  # deterministic operations, as the scripts have them
    if name == "esbn_align":
        inputs, truth, loss = ("ldr_low", "ldr_mid", "hdr_low", "hdr_mid"), "gt_ldr_low", "mean_squared_error"
        network = esbn.esbn_align(filters)
    else:
        inputs, truth, loss = esbn.EXPOSURES, "gt_hdr", training.whole_batch(losses.mu_law_l1)
        network = esbn.esbn_fusion(filters, max(1, filters // 2))
    (output,) = network.output
    network.compile(training.adam(1e-4, "step", 300_000), loss={output: loss})
    before = _peak_mb()
    batches = iter(dataset.patch_dataset(records, batch, [*inputs, truth], patch))

    def step(values):
        network.train_on_batch({name: values[name] for name in inputs}, {output: values[truth]})

    values = next(batches)
    times = {}
    for key, function in {
        "input_ms": lambda: next(batches),
        "step_ms": lambda: step(values),
        "both_ms": lambda: step(next(batches)),
    }.items():
        _times(WARM_UP, function)
        times[key] = float(_times(rounds, function).mean())
    row = {"model": name, "filters": filters, "batch": batch, "patch": patch, **times}
    return row | {"steps_per_s": 1e3 / times["both_ms"], "peak_mb": _peak_mb() - before}


def measure_reconstruction(
    model: str, size: tuple[int, int], align_filters: int, filters: int, rounds: int, mixed_precision: bool = False
) -> dict:
    """Times `reconstruction.reconstruct` of three 16-bit exposures.

    Args:
        model: a name in `reconstruction.MODELS`; of those that SelfHDR trains the network has its published width.
        size: height and width of the pictures.
        align_filters: width of ESBN's alignment networks.
        filters: width of its merging network, whose dense block adds half as many channels each time.
        rounds: how often, after one to warm up.
        mixed_precision: whether in bfloat16.

    Returns:
        model and size; of esbn the widths; `precision`; `merged`, "tiled" or "whole"; `first_s` of the first reconstruction,
        with what is compiled for it, `seconds` of the others (median); `peak_mb`.
    """
    return _alone(_reconstruct, model, size, align_filters, filters, rounds, mixed_precision)


def _reconstruct(model, size, align_filters, filters, rounds, mixed_precision):
    import keras

    from hdr_tf import models, reconstruction, selfhdr
    from hdr_tf.models import esbn

    precision = "mixed_bfloat16" if mixed_precision else "float32"
    keras.config.set_dtype_policy(precision)
    row = {"model": model, "size": list(size), "precision": precision, "merged": "tiled"}
    if model == "esbn":
        networks = [esbn.esbn_align(align_filters, name=f"esbn_align_{side}") for side in ("low", "high")]
        system = reconstruction.Esbn(*networks, esbn.esbn_fusion(filters, max(1, filters // 2)))
        row |= {"align_filters": align_filters, "filters": filters}
    elif model in selfhdr.REACH:
        system = selfhdr.SelfHdr(model, models.build(model))
    else:
        system = selfhdr.SelfHdr(model, models.build(model, test_padding=True))
        row["merged"] = "whole"
    pictures = np.random.default_rng(0).integers(0, 65536, (3, *size, 3), np.uint16)
    before = _peak_mb()
    times = _times(1 + rounds, lambda: reconstruction.reconstruct(system, pictures, (1, 4, 16)))[:, 0] / 1e3
    times = {"first_s": float(times[0]), "seconds": float(np.median(times[1:]))}
    return row | times | {"peak_mb": _peak_mb() - before}


def measure_large(model: str, size: tuple[int, int]) -> dict:
    """Fuses two JPEG files to a PNG.

    Args:
        model: a name in `fusing.MODELS`.
        size: height and width of the pictures.

    Returns:
        model and size; `seconds` from the files to the file, with all that is loaded and compiled for it; `peak_mb`, all memory
        that the process held at once, libraries included (2**20 bytes).
    """
    with tempfile.TemporaryDirectory() as name:
        return _alone(_fuse_large, model, _write_pair(pathlib.Path(name), size)) | {"size": list(size)}


def _fuse_large(model, paths):
    start = time.perf_counter()
    folder = paths[0].parent
    fusing.fuse_files(paths, folder / "fused.png", model=model, weights=_weights(model, folder))
    return {"model": model, "seconds": time.perf_counter() - start, "peak_mb": _peak_mb()}


def measure_folder(model: str, size: tuple[int, int], count: int) -> dict:
    """Fuses pairs of JPEG files to PNG files, in one process one after another, then as a folder.

    Args:
        model: a name in `fusing.MODELS`.
        size: height and width of the pictures.
        count: of the pairs.

    Returns:
        model, size and count; seconds of a pair: `single_s` one after another, `folder_s` where reading, fusing and writing
        overlap; `gain`, the first over the second; `peak_mb`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        paths = [_write_pair(folder / "brackets" / str(number), size) for number in range(count)]
        return _alone(_fuse_folder, model, folder, paths) | {"size": list(size), "count": count}


def _fuse_folder(model, folder, paths):
    weights = _weights(model, folder)
    fusing.fuse_files(paths[0], folder / "first.png", model=model, weights=weights)  # compiles
    before, start = _peak_mb(), time.perf_counter()
    for pair in paths:
        fusing.fuse_files(pair, folder / "single" / f"{pair[0].parent.name}.png", model=model, weights=weights)
    middle = time.perf_counter()
    brackets = fusing.list_brackets(folder / "brackets")
    failed = [x for _, x in fusing.fuse_brackets(brackets, folder / "out", model, weights) if isinstance(x, Exception)]
    if failed:
        raise failed[0]
    single_s, folder_s = (seconds / len(paths) for seconds in (middle - start, time.perf_counter() - middle))
    times = {"single_s": single_s, "folder_s": folder_s, "gain": single_s / folder_s}
    return {"model": model, **times, "peak_mb": _peak_mb() - before}


def measure_files(name: str, size: tuple[int, int], rounds: int) -> list[dict]:
    """Fuses two JPEG files to a PNG file, in all ways that there are.

    Args:
        name: "enfuse", the program, or a name in `fusing.MODELS`.
        size: height and width of the pictures.
        rounds: how often, after the first time.

    Returns:
        A row for each way: "enfuse" and "tools/fuse.py", started anew each time; "fuse_files", in one process; "encoded", the
        exported signature in one process, which dqn_editor has not. Each is model, way and size; `first_s` of the first time,
        in one process with what is loaded and compiled for it; `seconds` of the others (median); `peak_mb`, all memory that the
        process held at once, libraries included (2**20 bytes).
    """
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        paths = _write_pair(folder, size)
        if name == ENFUSE:
            functions = {ENFUSE: (_run_enfuse,)}
        else:
            weights = _alone(_weights, name, folder)
            functions = {"tools/fuse.py": (_run_tool, name, weights), "fuse_files": (_run_fuse_files, name, weights)}
            if name != fusing.EDITOR:
                functions["encoded"] = _run_encoded, _alone(_export, name, weights, folder)
        rows = []
        for way, (function, *arguments) in functions.items():
            row = {"model": None if name == ENFUSE else name, "way": way, "size": list(size)}
            rows.append(row | _alone(_repeat, rounds, function, paths, folder / "fused.png", *arguments))
        return rows


def _repeat(rounds, make, paths, output, *arguments):
    """Times a way from files to a file; `make` returns the function that goes it, and whether it starts a program."""
    start = time.perf_counter()
    run, program = make(paths, output, *arguments)
    run()
    first_s = time.perf_counter() - start
    seconds = np.median(_times(rounds, run)) / 1e3
    whose = resource.RUSAGE_CHILDREN if program else resource.RUSAGE_SELF
    return {"first_s": first_s, "seconds": seconds, "peak_mb": _peak_mb(whose)}


def _run_enfuse(paths, output):
    return functools.partial(_call, ENFUSE, f"--output={output}", *paths), True


def _run_tool(paths, output, model, weights):
    tool = pathlib.Path(__file__).parents[1] / "tools" / "fuse.py"
    return functools.partial(
        _call, sys.executable, tool, *paths, f"--output={output}", f"--model={model}", f"--weights={weights}"
    ), True


def _call(*words):
    subprocess.run(words, check=True, capture_output=True)


def _run_fuse_files(paths, output, model, weights):
    return lambda: fusing.fuse_files(paths, output, model=model, weights=weights), False


def _run_encoded(paths, output, exported):
    import tensorflow as tf

    encoded = tf.saved_model.load(exported).signatures["encoded"]

    def run():
        pictures = {f"exposure_{number}": tf.constant([path.read_bytes()]) for number, path in enumerate(paths, start=1)}
        output.write_bytes(encoded(**pictures)["fused_bytes"].numpy()[0])

    return run, False


def _export(model, weights, folder):
    from hdr_tf import serving

    return serving.export(model, folder / "exported" / model, weights)


def _write_pair(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    exposures = synthesis.sample_bracket()
    paths = [folder / "dark.jpg", folder / "bright.jpg"]
    for path, pixels in zip(paths, (exposures[0], exposures[2]), strict=True):
        files.write_picture(path, cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC))
    return paths


def _alone(function, *arguments):
    """The function's result, from a fresh process."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _measure(system, size, rounds):
    exposures = synthesis.sample_bracket()
    pictures = [cv2.resize(exposures[i], (size, size), interpolation=cv2.INTER_AREA) for i in (0, 2)]
    merger = cv2.createMergeMertens()

    def mertens():
        return cv2.convertScaleAbs(merger.process(pictures), alpha=255)

    warm_up = min(WARM_UP, rounds)
    with tempfile.TemporaryDirectory() as name:
        nothing = mertens, None, lambda: None
        fuse, network, compile_ahead = nothing if system == MERTENS else _system(system, pictures, pathlib.Path(name))
        start = _peak_mb()
        compile_ahead()
        before = _peak_mb()
        _times(warm_up, fuse)
        peak = _peak_mb() - before
        _times(warm_up, mertens)
        times = _times(rounds, fuse, mertens)
        row = _network_row(network, warm_up, rounds) if network else dict.fromkeys(("network_ms", "gflop", "of_matmul"))
    return row | {
        "system": system,
        "size": size,
        "fuse_ms": np.median(times[:, 0]),
        "mertens_ms": np.median(times[:, 1]),
        "ratio": np.median(times[:, 0] / times[:, 1]),
        "compiled_mb": before - start,
        "peak_mb": peak,
    }


def _network_row(network, warm_up, rounds):
    import tensorflow as tf

    network = network.get_concrete_function()
    network_ms = np.median(_times(warm_up + rounds, lambda: network().numpy())[warm_up:])
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    gflop = profiler.profile(network.graph, options=options).total_float_ops / 1e9

    matrix = tf.random.uniform([MATMUL, MATMUL])
    matmul_ms = np.median(_times(WARM_UP + 5, lambda: tf.matmul(matrix, matrix).numpy())[WARM_UP:])
    of_matmul = gflop / network_ms / (2e-9 * MATMUL**3 / matmul_ms)
    return {"network_ms": network_ms, "gflop": gflop, "of_matmul": of_matmul}


def _system(name, pictures, folder):
    """Returns three functions without arguments: `hdr_tf.fuse` of the pictures; the network alone, None if it is not run; and
    one that compiles what the first needs, unless it works in tiles."""
    import tensorflow as tf

    path, (height, width) = _weights(name, folder), pictures[0].shape[:2]
    if name == fusing.EDITOR or height * width > WHOLE:
        return lambda: fusing.fuse(pictures, name, path), None, lambda: None
    network = fusing.load_network(name, path, **fusing.SYSTEMS[name].arguments(2, height, width))
    inputs = {x.name: tf.random.uniform([1, height, width, x.shape[-1]], 0, 255) for x in network.inputs}
    corners = [picture[:64, :64, : x.shape[-1]] for picture, x in zip(pictures, network.inputs, strict=True)]
    return (
        lambda: fusing.fuse(pictures, name, path),
        tf.function(lambda: network(inputs, training=False)["fused"]),
        lambda: fusing.compiled(name, path, 2, height, width, eight_bit=True)(corners),
    )


def _weights(name, folder):
    """The file of a network's weights, of random ones where none come with the software."""
    from hdr_tf import models, weights

    path = weights.pretrained(name)
    if path is None:
        path = folder / f"{name}.weights.h5"
        weights.save_weights(models.build(name), path)
    return path


def _times(rounds, *functions):
    """Milliseconds that each function took in each round, [rounds, functions]."""
    times = np.empty((rounds, len(functions)))
    for row in times:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            row[i] = 1e3 * (time.perf_counter() - start)
    return times


def _peak_mb(whose=resource.RUSAGE_SELF):
    return resource.getrusage(whose).ru_maxrss / 1024
