"""Time and memory of fusion, of large files, folders and programs, of records, of training and of HDR merging.

Machines differ and are noisy, so what counts is a ratio to something that the same run measures. Each measurement runs in a
fresh process. Sizes are (height, width) in pixels. `peak_mb`, in 2**20 bytes, is what the process holds above its libraries and
weights; only `measure_large` and `measure_files` report all memory of the process. A system without bundled weights gets random
ones, on which its time does not depend.
"""

import concurrent.futures
import functools
import gc
import multiprocessing
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from hdr_tf import losses, systems, weights
from hdr_tf.fusion import batch as fusion_batch
from hdr_tf.fusion import compiled, pipeline
from hdr_tf.image.depth import to_depth
from hdr_tf.io import brackets, image_files
from hdr_tf.io.scenes import HDR_NAME
from hdr_tf.radiance import pipeline as radiance
from hdr_tf.serving import export
from hdr_tf.serving.signatures import ENCODED, FUSED, exposure_input
from hdr_tf.synthesis import sources
from hdr_tf.synthesis import writer as synthesis_writer
from hdr_tf.synthesis.brackets import sample_bracket
from hdr_tf.training import loop
from hdr_tf.training.config import TrainingConfig
from tfrecords import dataset, patches, scenes, schema

MERTENS, ENFUSE = "mertens", "enfuse"
WARM_UP = 3
MATMUL = 2048  # rows and columns of the matrices whose product shows how fast the machine is
PHOTOS = ("coffee", "motorcycle_left", "chelsea")  # sources of synthetic scenes if there are no better ones
STATUS = pathlib.Path("/proc/self/status")
SAMPLE_EXPOSURES = (1, 8, 64)  # of `sample_bracket`
MOVES = ((3, -2), (0, 0), (-2, 4))  # pixels by which its images move

# Seconds of each of `repeat` calls, with the garbage collection that timeit would switch off.
_seconds = functools.partial(timeit.repeat, setup=gc.enable, number=1)


def measure_fusion(model: str, size: int, rounds: int) -> dict:
    """Times "mertens" or a fusion system, and OpenCV's Mertens (with convertScaleAbs, default weights), on the same two images.
    Both fuse in turn for `rounds` rounds, after at most three to warm up.

    Returns:
        Medians in milliseconds: `network_ms` of the network alone, compiled by TensorFlow, float32 in and out, `fuse_ms` of
        `hdr_tf.fuse` from uint8 to uint8 (of `pyramid` in LiteRT, see `fusion.lite`), and `mertens_ms`; `ratio`, the median of
        fuse divided by Mertens; `gflop`, 10**9 operations of the network (a multiplication and an addition are two);
        `of_matmul`, its operations per second divided by those of the product of two large matrices; `compiled_mb`, the memory
        that compiling the network takes, and `peak_mb`, what the first fusions take after that. The network's figures are None
        for Mertens, for the editor, and for images that are fused in tiles; there `peak_mb` includes the compiling.
    """
    return _alone(_fuse, model, size, rounds)


def _fuse(model, size, rounds):
    exposures = sample_bracket()
    images = [cv2.resize(exposures[i], (size, size), interpolation=cv2.INTER_AREA) for i in (0, 2)]
    merger, warm_up = cv2.createMergeMertens(), min(WARM_UP, rounds)

    def mertens():
        return cv2.convertScaleAbs(merger.process(images), alpha=255)

    fuse, network = mertens, None
    with tempfile.TemporaryDirectory() as folder:
        if model != MERTENS:
            system, path = systems.find(model), _weights(model, folder)
            fuse = functools.partial(pipeline.fuse, images, model, path)
            if not system.steps and size**2 <= compiled.UNTILED_LIMIT:
                arguments = compiled.builder_arguments(system, 2, size, size)
                network = systems.load_network(next(iter(system.networks)), system.weights_path(path), **arguments)
        start = _peak_mb()
        if network:
            corners = [image[:64, :64, : plane.shape[-1]] for image, plane in zip(images, network.inputs, strict=True)]
            compiled.load(system, system.weights_path(path)).network(2, size, size, eight_bit=True)(corners)
        before = _peak_mb()
        _times(warm_up, fuse)
        peak = _peak_mb() - before
        _times(warm_up, mertens)
        times = _times(rounds, fuse, mertens)
    row = {"model": model, "size": size} | _network_figures(network, size, warm_up, rounds)
    row |= dict(zip(("fuse_ms", "mertens_ms"), np.median(times, axis=0), strict=True))
    return row | {"ratio": np.median(times[:, 0] / times[:, 1]), "compiled_mb": before - start, "peak_mb": peak}


def _network_figures(network, size, warm_up, rounds):
    if network is None:
        return dict.fromkeys(("network_ms", "gflop", "of_matmul"))
    inputs = {x.name: tf.random.uniform([1, size, size, x.shape[-1]], 0, 255) for x in network.inputs}
    run = tf.function(lambda: network(inputs, training=False)["fused"]).get_concrete_function()
    network_ms = np.median(_times(warm_up + rounds, lambda: run().numpy())[warm_up:])
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    gflop = profiler.profile(run.graph, options=options).total_float_ops / 1e9
    matrix = tf.random.uniform([MATMUL, MATMUL])
    matmul_ms = np.median(_times(WARM_UP + 5, lambda: tf.matmul(matrix, matrix).numpy())[WARM_UP:])
    return {"network_ms": network_ms, "gflop": gflop, "of_matmul": gflop / network_ms / (2e-9 * MATMUL**3 / matmul_ms)}


def measure_records(
    hdr_dirs: Sequence[str], size: tuple[int, int], count: int, patch: int, num_patches: int, rounds: int, num_processes: int
) -> dict:
    """Writes and reads synthetic scenes as records.

    Args:
        hdr_dirs: folders of EXR and Radiance files to make the scenes from; none for photographs under synthetic light.
        size, count, patch: of the scenes, their number, and the side of a patch in pixels.
        num_patches: how many patches are written as ESBN's own program writes them, 4.1 MB each at 256 pixels.
        rounds: how many batches of eight patches are read, with all their features.
        num_processes: how many processes write; 0 for one per CPU.

    Returns:
        `scene_mb` (10**6 bytes) and `scene_s`, wall time of all processes, start included, for one scene as a record of kind
        "kalantari"; `patch_mb` and `patch_s` for one of ESBN's own records; `patches`, their number per scene; `times_smaller`
        and `times_faster`, what all of these take divided by what the scene takes; `patches_per_s` that are read by as many
        threads as there are CPUs, at least four, and `patches_per_s_2` by two; `peak_mb` of the process that reads.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _write_scenes(folder, count, size, hdr_dirs, num_processes)
        start = time.perf_counter()
        settings = {"shards": count, "num_processes": num_processes}
        manifest, _ = scenes.write_scenes(folder / "records", "kalantari", folder / "scenes", **settings)
        scene_s = (time.perf_counter() - start) / count
        scene_mb = sum(shard["bytes"] for shard in manifest["shards"].values()) / count / 1e6
        number = patches.count_patches(*size, patch)
        patch_s, patch_mb = _alone(_write_patches, folder, patch, num_patches, number)
        reading = {"patches_per_s_2": _alone(_read_patches, folder / "records", patch, rounds, 2)["patches_per_s"]}
        reading |= _alone(_read_patches, folder / "records", patch, rounds, max(4, os.cpu_count()))
    row = {"size": list(size), "patch": patch, "patches": number, "scene_mb": scene_mb, "scene_s": scene_s}
    row |= {"patch_mb": patch_mb, "patch_s": patch_s, "times_smaller": number * patch_mb / scene_mb}
    return row | {"times_faster": number * patch_s / scene_s, **reading}


def _write_scenes(folder, count, size, hdr_dirs=(), num_processes=1):
    """Writes synthetic scenes into the folder's "scenes", without HDR images from photographs under synthetic light."""
    if not hdr_dirs:
        hdr_dirs = [folder / "photos"]
        hdr_dirs[0].mkdir()
        for number, name in enumerate(PHOTOS):
            relit = sources.relight(sources.sample_photo(name), np.random.default_rng(number))
            image_files.write_radiance(hdr_dirs[0] / f"{name}.hdr", relit)
    synthesis_writer.write_scenes(folder / "scenes", hdr_dirs, count, size, num_processes=num_processes)


def _write_patches(folder, patch, num_patches, number):
    """Returns the seconds and megabytes that a patch of ESBN's own records takes. The time is a lower bound: as ESBN's program
    does, this reads and scales the whole scene for each patch, but then it cuts the patch from a scene in memory."""
    scene, path = folder / "scenes" / "001", folder / "patches.tfrecord"
    order = np.random.default_rng(0).integers(number, size=num_patches)
    maker = scenes.PatchMaker("esbn_align", (scene,), (number,), order, patch)
    maker(0)  # reads the scene
    start = time.perf_counter()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for index in range(num_patches):
            for image in sorted(scene.glob("*.tif")):
                cv2.imread(str(image)).astype(np.float32) / 255
            cv2.imread(str(scene / HDR_NAME), cv2.IMREAD_UNCHANGED)
            writer.write(schema.encode(schema.ESBN_ALIGN, maker(index)))
    return (time.perf_counter() - start) / num_patches, path.stat().st_size / num_patches / 1e6


def _read_patches(records, patch, rounds, threads):
    before, batch, options = _peak_mb(), 8, tf.data.Options()
    options.threading.private_threadpool_size = threads
    batches = iter(dataset.patch_dataset(records, batch, [*patches.FEATURES, "exposures"], patch).with_options(options))
    _times(WARM_UP, lambda: next(batches))
    times = _times(rounds, lambda: next(batches))
    return {"patches_per_s": 1e3 * batch * rounds / times.sum(), "peak_mb": _peak_mb() - before}


def measure_training(model: str, filters: int, batch: int, patch: int, rounds: int) -> dict:
    """Times the training step of train/esbn_align.py or train/esbn_fusion.py on `batch` patches, `patch` pixels wide and high,
    of synthetic scenes: `rounds` steps, after three to warm up.

    Returns:
        Milliseconds per batch, a mean because batches are prepared ahead: `input_ms` to prepare a batch, `step_ms` for a step
        on the same batch every time, `both_ms` for a step on a new one; `steps_per_s` on new ones; `peak_mb`.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _write_scenes(folder, 4, (max(256, patch), max(384, patch)))
        scenes.write_scenes(folder / "records", "kalantari", folder / "scenes", shards=4, num_processes=1)
        return _alone(_train, folder / "records", model, filters, batch, patch, rounds)


def _train(records, model, filters, batch, patch, rounds):
    loop.prepare(TrainingConfig())  # deterministic operations, as in the scripts
    network = systems.build(model, **_widths(model, filters))
    (output,), inputs = network.output, list(network.input)
    truths = {"esbn_align": ("gt_ldr_low", "mean_squared_error"), "esbn_fusion": ("gt_hdr", loop.whole_batch(losses.mu_law_l1))}
    truth, loss = truths[model]
    network.compile(loop.adam(1e-4, "step", 300_000), loss={output: loss})
    before = _peak_mb()
    batches = iter(dataset.patch_dataset(records, batch, [*inputs, truth], patch))

    def step(values):
        network.train_on_batch({name: values[name] for name in inputs}, {output: values[truth]})

    same = next(batches)
    row = {"model": model, "filters": filters, "batch": batch, "patch": patch}
    functions = {"input_ms": lambda: next(batches), "step_ms": lambda: step(same), "both_ms": lambda: step(next(batches))}
    for key, function in functions.items():
        _times(WARM_UP, function)
        row[key] = float(_times(rounds, function).mean())
    return row | {"steps_per_s": 1e3 / row["both_ms"], "peak_mb": _peak_mb() - before}


def _widths(network, filters):
    """Returns the builder's arguments for a network of ESBN: the dense block of the merging network adds half its width."""
    return {"filters": filters} | ({"growth": max(1, filters // 2)} if network == "esbn_fusion" else {})


def measure_reconstruction(
    model: str, size: tuple[int, int], align_filters: int, filters: int, rounds: int, mixed_precision: bool = False
) -> dict:
    """Times a radiance system with three 16-bit exposures of a photograph, moved by a few pixels, and with random weights.

    `align_filters` and `filters` are the widths of ESBN's alignment and merging networks; the other systems have their
    published width.

    Returns:
        `first_s` for the first reconstruction, compiling included, `seconds` for `rounds` others (median), `peak_mb`. For the
        systems that take any number of exposures also `unaligned_s`, the same without optical flow, which is the time of the
        noise estimate and the merge; `flow_s`, the rest; and `of_esbn`, the median of the time divided by that of esbn, where
        both take turns for `rounds` rounds.
    """
    return _alone(_reconstruct, model, size, align_filters, filters, rounds, mixed_precision)


def _reconstruct(model, size, align_filters, filters, rounds, mixed_precision):
    row = {"model": model, "size": list(size), "precision": "mixed_bfloat16" if mixed_precision else "float32"}
    row |= {"align_filters": align_filters, "filters": filters} if model == "esbn" else {}
    images = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC) for image in sample_bracket()]
    images = np.stack([np.roll(to_depth(image, 16), move, (0, 1)) for image, move in zip(images, MOVES, strict=True)])

    def reconstruct(runner, **options):
        if systems.find(model).exposures != (3, 3):
            return functools.partial(runner.reconstruct, list(images), SAMPLE_EXPOSURES, **options)
        return functools.partial(radiance.reconstruct, runner, images, SAMPLE_EXPOSURES)

    runner, before = _random_runner(model, align_filters, filters, mixed_precision), _peak_mb()
    times = _times(1 + rounds, reconstruct(runner))[:, 0] / 1e3
    row |= {"first_s": times[0], "seconds": np.median(times[1:]), "peak_mb": _peak_mb() - before}
    if systems.find(model).exposures == (3, 3):
        return row
    row["unaligned_s"] = np.median(_times(rounds, reconstruct(runner, align=False))) / 1e3
    row["flow_s"] = row["seconds"] - row["unaligned_s"]
    esbn = functools.partial(radiance.reconstruct, _random_runner("esbn", align_filters, filters), images, SAMPLE_EXPOSURES)
    esbn()
    times = _times(rounds, reconstruct(runner), esbn)
    return row | {"of_esbn": np.median(times[:, 0] / times[:, 1])}


def _random_runner(model, align_filters, filters, mixed_precision=False):
    with tempfile.TemporaryDirectory() as folder:
        if model == "esbn":
            for side in ("low", "high"):
                _save_random(folder, f"esbn_align_{side}", "esbn_align", **_widths("esbn_align", align_filters))
            _save_random(folder, "esbn_fusion", "esbn_fusion", **_widths("esbn_fusion", filters))
        elif systems.find(model).weight_files:
            _save_random(folder, model, model)
        return radiance.load(model, folder if systems.find(model).weight_files else None, mixed_precision=mixed_precision)


def measure_large(model: str, size: tuple[int, int]) -> dict:
    """Fuses two JPEG files into a PNG file by a fusion system. `seconds` and `peak_mb`, all memory of the process, include
    TensorFlow, which `fuse_files` imports, and everything else that is loaded and compiled."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        arguments = {"model": model, "weights": _weights(model, folder)}
        call = functools.partial(pipeline.fuse_files, _write_pair(folder, size), folder / "fused.png", **arguments)
        (seconds,), peak_mb = _time_alone(call, 1)
        return {"model": model, "size": list(size), "seconds": seconds, "peak_mb": peak_mb}


def measure_folder(model: str, size: tuple[int, int], count: int) -> dict:
    """Fuses `count` pairs of JPEG files into PNG files by a fusion system, in one process. Seconds per pair are `single_s` one
    after another and `folder_s` as a folder, where reading, fusing and writing overlap; `gain` is the quotient."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pairs = [_write_pair(folder / "brackets" / str(number), size) for number in range(count)]
        return {"size": list(size), "count": count} | _alone(_fuse_folder, model, folder, pairs)


def _fuse_folder(model, folder, pairs):
    path = _weights(model, folder)
    pipeline.fuse_files(pairs[0], folder / "first.png", model=model, weights=path)  # compiles
    before, start = _peak_mb(), time.perf_counter()
    for pair in pairs:
        pipeline.fuse_files(pair, folder / "single" / f"{pair[0].parent.name}.png", model=model, weights=path)
    middle = time.perf_counter()
    for _, fused in fusion_batch.fuse_brackets(brackets.list_brackets(folder / "brackets"), folder / "out", model, path):
        if isinstance(fused, Exception):
            raise fused
    single_s, folder_s = (seconds / len(pairs) for seconds in (middle - start, time.perf_counter() - middle))
    row = {"model": model, "single_s": single_s, "folder_s": folder_s, "gain": single_s / folder_s}
    return row | {"peak_mb": _peak_mb() - before}


def measure_files(model: str, size: tuple[int, int], rounds: int) -> list[dict]:
    """Fuses two JPEG files into a PNG file by "enfuse" or a fusion system, in every way that there is.

    Returns:
        A row for each way: the programs "enfuse" and "hdr-tf fuse", started each time; "fuse_files" in one process; "encoded",
        the exported signature in one process, if the system has it. Each row has `first_s` for the first time, `seconds` for
        `rounds` others (median) and `peak_mb`, all memory of the process. In one process, the first time includes what is
        loaded and compiled: for fuse_files TensorFlow too, for encoded the SavedModel. The memory of encoded includes the
        libraries of this module, more than such a program needs.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        paths, output = _write_pair(folder, size), folder / "fused.png"
        calls = {ENFUSE: [ENFUSE, f"--output={output}", *paths]}
        if model != ENFUSE:
            path = _weights(model, folder)
            words = [*paths, f"--output={output}", f"--model={model}", *([f"--weights={path}"] if path else [])]
            calls = {
                "hdr-tf fuse": [sys.executable, "-m", "hdr_tf.commands", "fuse", *words],
                "fuse_files": functools.partial(pipeline.fuse_files, paths, output, model=model, weights=path),
            }
        figures = {way: _time_alone(call, 1 + rounds) for way, call in calls.items()}
        if model != ENFUSE and systems.find(model).client:
            exported = _alone(export.export, model, folder / "exported" / model, path)
            figures["encoded"] = _alone(_time_encoded, exported, paths, output, rounds)
    row = {"model": None if model == ENFUSE else model, "size": list(size)}
    return [
        row | {"way": way, "first_s": times[0], "seconds": np.median(times[1:]), "peak_mb": peak_mb}
        for way, (times, peak_mb) in figures.items()
    ]


def _time_encoded(exported, paths, output, rounds):
    start = time.perf_counter()
    encoded = tf.saved_model.load(exported).signatures[ENCODED]

    def fuse():
        images = {exposure_input(number): tf.constant([path.read_bytes()]) for number, path in enumerate(paths, start=1)}
        output.write_bytes(encoded(**images)[FUSED].numpy()[0])

    fuse()
    return [time.perf_counter() - start, *_seconds(fuse, repeat=rounds)], _peak_mb()


def _time_alone(call, repeat):
    """Returns the seconds of each call of a function, or of a program (a list of words), and the peak memory of its process.

    The process does not import this module. With TensorFlow in it, the first call would be too fast, and a program would seem
    to hold TensorFlow: Linux counts the memory of the process that starts a program as the program's."""
    program = isinstance(call, list)
    call = functools.partial(subprocess.run, call, check=True, capture_output=True) if program else call
    with _process() as pool:
        times = pool.submit(_seconds, call, repeat=repeat).result()
        if program:
            return times, pool.submit(resource.getrusage, resource.RUSAGE_CHILDREN).result().ru_maxrss / 2**10
        return times, _peak_mb(pool.submit(STATUS.read_text).result())


def _write_pair(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    exposures = sample_bracket()
    paths = [folder / "dark.jpg", folder / "bright.jpg"]
    for path, pixels in zip(paths, (exposures[0], exposures[2]), strict=True):
        image_files.write_image(path, cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC))
    return paths


def _weights(model, folder):
    """Returns None, which means bundled weights, or a new file of random ones if a fusion system has none."""
    system = systems.find(model, "fusion")
    return None if system.bundled else _save_random(folder, system.weight_files[0], next(iter(system.networks)))


def _save_random(folder, file, network, **arguments):
    path = pathlib.Path(folder) / f"{file}.weights.h5"
    weights.save_weights(systems.build(network, **arguments), path)
    return path


def _alone(function, *arguments):
    """Returns the function's result, from a fresh process."""
    with _process() as pool:
        return pool.submit(function, *arguments).result()


def _process():
    return concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _times(rounds, *functions):
    """Returns the milliseconds that each function takes in each round, [rounds, functions]."""
    return np.array([[1e3 * _seconds(function, repeat=1)[0] for function in functions] for _ in range(rounds)])


def _peak_mb(status=None):
    """Returns the peak memory of this process, or of the one with this status, in 2**20 bytes."""
    # `resource.getrusage` counts the memory of the process that started it too.
    return int(re.search(r"VmHWM:\s+(\d+) kB", status or STATUS.read_text())[1]) / 2**10
