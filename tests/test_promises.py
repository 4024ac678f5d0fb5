"""Ten promises of what holds when things go wrong; what else is tested of each stands in the file named here.

1  damaged images end in an error that names the file, or in pixels          test_files.py
2  headers that lie about a size are refused before memory is taken
3  bad brackets do not harm the others                                         test_bad_input.py
4  a kill leaves complete files, and what it left half written goes            test_make_scenes.py, test_tfrecords.py
5  damage to a record is raised or counted                                     test_scene_records.py
6  a run that goes on ends as an unbroken one                                  test_training.py, test_esbn_training.py, ...
7  what is exported equals what was trained                                    test_scripts.py, test_selfhdr.py, ...
8  the exported network keeps the contract of its signatures                   test_serving.py
9  tiles equal the whole                                                       test_reconstruction.py, test_selfhdr.py
10 the same input gives the same bytes, and any input finite images in range test_models.py
"""

import collections
import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time

import cv2
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

import hdr_tf
from hdr_tf import systems
from hdr_tf.image import tiling
from hdr_tf.image.depth import is_gray
from hdr_tf.io import image_files, scenes
from hdr_tf.io import outputs as output_files
from hdr_tf.radiance import pipeline as radiance_pipeline
from hdr_tf.radiance import selfhdr
from hdr_tf.serving import export
from hdr_tf.training import loop, run_folder
from hdr_tf.training.config import TrainingConfig
from tests import helpers
from tfrecords import dataset, writer
from tools import fuse


@contextlib.contextmanager
def start_reader():
    """A process apart, of which a crash or a hang can be told: another takes its place, and no answer comes."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(is_gray, (np.zeros((8, 8), np.uint8),))  # what is imported is not to count
        yield pool


@pytest.fixture(scope="module")
def reader():
    with start_reader() as pool:
        yield pool


# === 1: damaged images ===

IMAGES = {
    "png": helpers.encoded("PNG"),
    "jpeg": helpers.encoded("JPEG"),
    "progressive jpeg": helpers.encoded("JPEG", progressive=True),
    "tiff": helpers.encoded("TIFF"),
    "tiff lzw": helpers.encoded("TIFF", compression="tiff_lzw"),
    "16-bit png": cv2.imencode(".png", helpers.RGB16)[1].tobytes(),
    "16-bit tiff": cv2.imencode(".tif", helpers.RGB16)[1].tobytes(),
    "exr": ".exr",
    "hdr": ".hdr",
}


@pytest.fixture(params=IMAGES)
def image(request, tmp_path):
    """Bytes of a file and what reads it."""
    data = IMAGES[request.param]
    if isinstance(data, bytes):
        return data, image_files.read_image
    image_files.write_radiance(tmp_path / f"a{data}", helpers.SMOOTH.astype(np.float32))
    return (tmp_path / f"a{data}").read_bytes(), image_files.read_radiance


def read(reader, function, path):
    """Pixels, or the message of the error that names the file; fails after 10 s, and at another error."""
    try:
        found = reader.apply_async(function, (path,)).get(timeout=10)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return str(error)
    except multiprocessing.TimeoutError:
        pytest.fail(f"{function.__name__} of {path} has crashed or hangs")
    return found.pixels if isinstance(found, image_files.LoadedImage) else found


def test_1_truncated_images_are_an_error_or_whole(image, reader, tmp_path):
    (data, function), path = image, tmp_path / "cut"
    path.write_bytes(data)
    whole = read(reader, function, path)
    generator = np.random.default_rng(1)
    for length in [*generator.integers(0, len(data), 9), len(data) // 2, len(data) - 1, len(data) - 20]:
        path.write_bytes(data[:length])
        found = read(reader, function, path)
        if not isinstance(found, str):  # only what no pixel depends on is missing
            np.testing.assert_array_equal(found, whole)
            assert length > 0.9 * len(data)


def test_1_flipped_bits_end_in_an_error_or_an_image(image, reader, tmp_path, capfd):
    data, path = image[0], tmp_path / "flipped"
    generator = np.random.default_rng(2)
    for trial in range(16):
        damaged = bytearray(data)
        for _ in range(generator.integers(1, 6)):  # half of the trials in the header
            damaged[generator.integers(0, len(data) if trial % 2 else 200)] ^= 1 << generator.integers(0, 8)
        path.write_bytes(damaged)
        for each in (image_files.read_image, image_files.read_radiance):
            found = read(reader, each, path)
            assert isinstance(found, str) or found.ndim in (2, 3)
    assert capfd.readouterr().out == ""


# === 2: size bombs ===


def peak(reader):
    """Bytes that the reader has held at most."""
    return reader.apply(resource.getrusage, (resource.RUSAGE_SELF,)).ru_maxrss * 1024


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (15_000, 15_000)], ids=["above limit", "above file"])
def test_2_headers_that_lie_about_the_size_cost_no_memory(tmp_path, width, height):
    jpeg = helpers.encoded("JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    lies = {
        "a.png": helpers.png(width, height, 8, 2, [b"\0" * 300]),
        "b.png": helpers.png(width, height, 16, 2, [b"\0" * 300]),
        "a.jpg": jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :],
        "a.tif": helpers.tiff_header(width, height),
        "tile.tif": helpers.tiff_header(64, 64, tile=(width, height)),
        "a.hdr": f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {height} +X {width}\n".encode(),
    }
    for name, data in lies.items():
        (tmp_path / name).write_bytes(data)
    window = (0, 0, width - 1, height - 1)
    helpers.exr(tmp_path / "a.exr", {"Y": helpers.SMOOTH[..., 0].astype(np.float32)}, window)
    with start_reader() as reader:
        before = peak(reader)
        for path in tmp_path.iterdir():
            function = image_files.read_radiance if path.suffix in (".exr", ".hdr") else image_files.read_image
            message = read(reader, function, path)
            assert f"{width} x {height}" in message, message
        assert peak(reader) - before < 50e6


# === 3: bad brackets ===


@pytest.mark.slow
def test_3_three_bad_brackets_of_twenty_leave_seventeen_as_they_are(tmp_path):
    helpers.write_noise_brackets(tmp_path / "in", [f"{number:02d}" for number in range(20)])
    shutil.copytree(tmp_path / "in", tmp_path / "good")
    bad = ("03", "08", "19")
    data = (tmp_path / "in/03/b.png").read_bytes()
    (tmp_path / "in/03/b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "in/08/a.png").unlink()
    image_files.write_image(tmp_path / "in/19/b.png", helpers.noise(16, 21, 3))
    for number in bad:
        shutil.rmtree(tmp_path / "good" / number)

    result = helpers.run_tool("fuse", "--brackets=in", "--output=out", cwd=tmp_path)
    assert result.returncode == 1
    assert helpers.mentioned("17 20 out", result.stdout.splitlines()[-1])
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == list(bad)
    for line, words in zip(errors, ("in/03/b.png", "2 1", "21 x 16"), strict=True):
        assert helpers.mentioned(words, line)
    assert fuse.main(fuse.Config(brackets=str(tmp_path / "good"), output=str(tmp_path / "clean"))) == 0
    found, expected = ({path.name: path.read_bytes() for path in (tmp_path / x).glob("*.png")} for x in ("out", "clean"))
    assert found == expected and len(found) == 17
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


# === 4: kills ===

NOISE = np.random.default_rng(0).integers(0, 60_000, (128, 160, 3), np.uint16)

# Makes, for each line that it reads, a copy of itself that writes in rounds what tells the number of the round.
WRITERS = """
import itertools, os, pathlib, signal, sys
import keras, numpy as np
from hdr_tf import weights
from hdr_tf.io import image_files, scenes
from hdr_tf.training import run_folder
folder, noise = pathlib.Path(sys.argv[1]), np.load(sys.argv[2])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # none of the dead is kept
def write_for_ever():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(512, name="wide")], name="net")
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    for step in itertools.count(1):
        pixels = noise + np.uint16(step)
        image_files.write_image(folder / "fused.png", pixels)
        image_files.write_image(folder / "fused.tif", pixels)
        image_files.write_radiance(folder / "radiance.exr", pixels.astype(np.float32))
        for variable in (*model.variables, *model.optimizer.variables):
            variable.assign(np.full(variable.shape, step))
        run_folder.save_checkpoint(model, folder, step)
        weights.save_weights(model, folder / "net.weights.h5")
        scenes.write_scene(folder / f"scene_{os.getpid()}_{step}", np.stack([pixels] * 3), [0, 2, 4])
for _ in sys.stdin:
    if not (process := os.fork()):
        write_for_ever()
    print(process, flush=True)
"""
WRITTEN = ("fused.png", "fused.tif", "radiance.exr", "checkpoints", "net.weights.h5", "scene_*")


def left_over(folder):
    return [path for path in folder.rglob(".*") if path.parent in (folder, folder / "checkpoints")]


def state(folder, names):
    return {(path.name, path.stat().st_mtime_ns) for path in folder.glob(names)}


def assert_complete(folder):
    """All there is belongs to one round each."""
    for name in ("fused.png", "fused.tif"):
        if (folder / name).exists():
            assert np.ptp(image_files.read_image(folder / name).pixels - NOISE) == 0
    if (folder / "radiance.exr").exists():
        assert np.ptp(image_files.read_radiance(folder / "radiance.exr") - NOISE) == 0
    for path in run_folder.checkpoints(folder):
        with np.load(path) as arrays:
            assert {number for array in arrays.values() for number in np.unique(array)} == {int(path.stem)}
    if (folder / "net.weights.h5").exists():
        with h5py.File(folder / "net.weights.h5") as arrays:
            assert len({number for name in ("wide/kernel", "wide/bias") for number in np.unique(arrays[name])}) == 1
    for path in folder.glob("scene_*"):
        assert np.ptp(scenes.read_scene(path).ldr - NOISE) == 0
        shutil.rmtree(path)


@pytest.mark.slow
def test_4_a_kill_at_any_moment_leaves_complete_files(tmp_path):
    folder = tmp_path / "out"
    (folder / "checkpoints").mkdir(parents=True)
    np.save(tmp_path / "noise.npy", NOISE)
    command = [sys.executable, "-c", WRITERS, str(folder), str(tmp_path / "noise.npy")]
    generator, left = np.random.default_rng(0), 0
    with subprocess.Popen(command, cwd=helpers.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writers:
        for kill in range(50):
            names = WRITTEN[kill % len(WRITTEN)]
            before = state(folder, names)
            print(file=writers.stdin, flush=True)
            process, deadline = int(writers.stdout.readline()), time.monotonic() + 60
            while state(folder, names) == before:
                time.sleep(0.001)
                assert time.monotonic() < deadline
            time.sleep(generator.uniform(0, 0.03))
            os.kill(process, signal.SIGKILL)
            while output_files._is_running(process):
                time.sleep(0.001)
            found = left_over(folder)
            assert len({path.parent for path in found}) == len(found)  # those of the kills before are gone
            left += len(found)
            assert_complete(folder)
        writers.stdin.close()
    assert left > 10
    for path in (folder / "fused.png", folder / "checkpoints" / "last.png"):
        image_files.write_image(path, NOISE)
    assert not left_over(folder)


def test_4_what_a_living_process_is_writing_stays(tmp_path):
    program = f"from hdr_tf.io import outputs\nwith outputs.atomic({str(tmp_path / 'b')!r}) as path: path.touch()"
    with output_files.atomic(tmp_path / "a") as path:
        path.touch()
        helpers.run_python("-c", program, cwd=helpers.ROOT, check=True)
    assert helpers.names(tmp_path) == {"a", "b"}


def test_4_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "00000005.npz"
    np.savez(path, kernel=np.arange(100.0))
    data = path.read_bytes()
    for damaged in (b"", data[:1], data[:500], data[:-1], data[:400] + bytes([data[400] ^ 1]) + data[401:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=helpers.mentions("00000005.npz")):
            run_folder.restore_checkpoint(None, tmp_path)


# === 5: damaged records ===


def arrays(folder, **options):
    return [{name: value.numpy() for name, value in record.items()} for record in dataset.load(folder, **options)]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Sets of 12 records in 2 shards: compressed as a whole, and not."""

    def make(folder, kind, example):
        writer.write(folder, kind, example, 12, shards=2, num_processes=1)
        return folder, arrays(folder)

    scene = helpers.bracket_record(0)["exposures"].astype(np.uint16)

    def whole_scene(index):
        rng = np.random.default_rng(index)
        hdr = rng.random((16, 24, 3), np.float32)
        return {"ldr": scene + np.uint16(index), "depth": np.int32(16), "stops": rng.random(3), "hdr": hdr, "name": str(index)}

    folder = tmp_path_factory.mktemp("records")
    return {
        "bracket": make(folder / "bracket", "bracket", helpers.bracket_record),
        "kalantari": make(folder / "kalantari", "kalantari", whole_scene),
    }


@pytest.mark.parametrize("kind", ["bracket", "kalantari"])
def test_5_a_flipped_bit_or_a_cut_tail_is_raised_and_counted(kind, records, tmp_path, caplog):
    folder, whole = records[kind]
    generator = np.random.default_rng(0)
    for trial in range(16):
        damaged = shutil.copytree(folder, tmp_path / str(trial))
        path = sorted(damaged.glob("*tfrecord*"))[trial % 2]
        content = bytearray(path.read_bytes())
        if trial < 8:
            content[generator.integers(len(content))] ^= 1 << generator.integers(8)
        else:
            del content[generator.integers(1, len(content)) :]
        path.write_bytes(content)
        with pytest.raises(ValueError, match=helpers.mentions(path.name)):
            dataset.load(damaged)
        caplog.clear()
        with caplog.at_level("WARNING", logger="absl"):
            left = [
                {name: value.numpy() for name, value in record.items()} for record in dataset.load(damaged, skip_damaged=True)
            ]
        assert helpers.mentioned(f"{path.name} {12 - len(left)} 6", caplog.text)
        intact = iter(whole)  # those left are whole ones, in their order
        assert all(any(_equal(record, other) for other in intact) for record in left)


def _equal(record, other):
    return all(np.array_equal(value, other[name]) for name, value in record.items())


# === 7: export ===


def test_7_exported_equals_trained(tmp_path):
    """Of a network with batch norm, whose averages move while it is trained."""
    config = TrainingConfig(run=str(tmp_path / "run"), steps=4, log_every=2)
    loop.prepare(config)
    network = systems.build("deepfuse_sunnerli")
    start = [np.array(variable) for variable in network.weights]
    model = loop.Trainer(network, lambda batch, outputs: {"loss": keras.ops.mean((outputs["fused"] - 0.3) ** 2)})
    model.compile(keras.optimizers.Adam(1e-3))
    batch = {x.name: np.random.default_rng(0).random((2, 16, 24, 1), np.float32) for x in network.inputs}
    loop.fit(model, lambda step: tf.data.Dataset.from_tensors(batch).repeat(), config, lambda: helpers.RGB8)
    assert all((np.asarray(variable) != before).any() for variable, before in zip(network.weights, start, strict=True))
    run_folder.save_weights({"deepfuse_sunnerli": network}, config)
    export.export("deepfuse_sunnerli", tmp_path / "exported", tmp_path / "run" / "deepfuse_sunnerli.weights.h5")
    folder = next((tmp_path / "exported").rglob("saved_model.pb")).parent
    served = tf.saved_model.load(folder).signatures["serving_default"]
    expected = network(batch, training=False)["fused"]
    # The same operations in another graph: sums in another order.
    np.testing.assert_allclose(served(**{name: tf.constant(x) for name, x in batch.items()})["fused"], expected, atol=1e-5)


# === 9: tiles ===


@given(st.integers(5, 64), st.integers(4, 9))
def test_9_tiles_equal_the_whole(tile, halo):
    images = np.random.default_rng(0).random((2, 37, 53, 3), np.float32)

    def mean(seen):  # of 9 x 9 pixels, fewer at the borders
        ones = np.ones(seen[0].shape[:2], np.float32)
        total = [cv2.boxFilter(x, -1, (9, 9), normalize=False, borderType=cv2.BORDER_CONSTANT) for x in (*seen, ones)]
        return (total[0] + total[1]) / total[2][..., None]

    np.testing.assert_allclose(tiling.in_tiles(mean, images, tile, halo), mean(images), rtol=1e-5)  # running sums


# === 10: same input, same bytes; any input ===

SHAPE = (24, 31, 3)
LEVELS = {"black": (0, 0, 0), "white": (1, 1, 1), "flat": (0.2, 0.5, 0.9), "noise": None}


def bracket(kind, dtype=np.uint16):
    """Three exposures, [3, H, W, 3]."""
    noise = np.random.default_rng(0).random((3, *SHAPE))
    values = noise if kind == "noise" else np.reshape(LEVELS[kind], (3, 1, 1, 1)) * np.ones(SHAPE)
    return (values * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("model", systems.names("fusion"))
@pytest.mark.filterwarnings("error:invalid value", "error:divide by zero")  # as of a cast of what is not finite
def test_10_any_bracket_gives_a_finite_image(model, weights):
    for kind, dtype in itertools.product(LEVELS, (np.uint8, np.uint16)):
        images = bracket(kind, dtype)[:2]
        fused = hdr_tf.fuse(images, model, weights.get(model))
        assert (fused.shape[:2], fused.dtype) == (SHAPE[:2], dtype)
        if model == "pyramid" and kind in ("black", "white"):
            np.testing.assert_allclose(fused, images[0, ..., 0], atol=np.iinfo(dtype).max // 255)


@pytest.mark.slow
@pytest.mark.parametrize("model", systems.names("radiance"))
@pytest.mark.filterwarnings("error:invalid value", "error:divide by zero")
def test_10_any_bracket_gives_finite_radiance(model):
    if systems.find(model).exposures != (3, 3):
        for kind in LEVELS:
            radiance = radiance_pipeline.load(model).reconstruct(list(bracket(kind)), (1, 4, 16)).radiance
            assert radiance.shape == SHAPE and radiance.min() >= 0 and np.isfinite(radiance).all(), kind
        return
    if model == "esbn":
        system = radiance_pipeline.load(model)
    else:
        system = selfhdr.SelfHdr(systems.find(model), systems.build(model, **helpers.SMALL[model]))
    for kind in LEVELS:
        _, radiance = radiance_pipeline.reconstruct(system, bracket(kind), (1, 4, 16))
        assert radiance.shape == SHAPE and radiance.min() >= 0 and radiance.max() <= 1, kind


PROGRAM = """
import json, sys
import cv2, tensorflow as tf
from hdr_tf.fusion import pipeline
from tests import helpers
threads, folder, weights = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
cv2.setNumThreads(threads)
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
images = helpers.bracket(gains=(0.4, 1.7), height=90, width=131)
for name, path in weights.items():
    pipeline.fuse_files(images, f"{folder}/{name}_{threads}.png", model=name, weights=path, depth=16, align="mtb")
"""


@pytest.mark.slow
def test_10_one_or_two_threads_give_the_same_bytes(weights, tmp_path):
    files_of = json.dumps({name: str(path) for name, path in weights.items()} | {"dqn_editor": None})
    for threads in "12":
        environment = {"OMP_NUM_THREADS": threads}
        helpers.run_python("-c", PROGRAM, threads, str(tmp_path), files_of, cwd=helpers.ROOT, check=True, env=environment)
    found = collections.defaultdict(set)
    for path in tmp_path.glob("*.png"):
        found[path.stem[:-2]].add(path.read_bytes())
    assert found.keys() == set(systems.names("fusion"))
    assert not {name for name, versions in found.items() if len(versions) > 1}


def test_10_order_by_exif_does_not_depend_on_that_of_the_arguments(tmp_path):
    paths = []
    for number, seconds in enumerate((0.5, 0.01, 0.08)):  # the first is the darkest, by its pixels
        pixels = bracket("noise", np.uint8)[number] // (4 - number)
        paths.append(helpers.write_photograph(tmp_path / f"{number}.jpg", pixels, seconds))
    expected = hdr_tf.fuse([paths[1], paths[2], paths[0]], keep_order=True)
    for order in itertools.permutations(paths):
        np.testing.assert_array_equal(hdr_tf.fuse(order), expected)
