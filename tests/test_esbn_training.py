"""The training scripts of ESBN from records to weights: run folder, exact resume, flags, several accelerators."""

import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import types

import cv2
import keras
import numpy as np
import pytest

from hdr_tf import kfac, losses, reconstruction, training, weights
from hdr_tf.image import files, scenes, tone
from hdr_tf.models import build, esbn
from tfrecords import dataset
from tools import make_tfrecord
from train import esbn_align, esbn_end_to_end, esbn_fusion

PATCH = 32
TINY = {"steps": 4, "log_every": 1, "checkpoint_every": 2, "batch": 2, "patch": PATCH, "filters": 4}
SCRIPTS = {
    "low": (esbn_align, {"side": "low"}),
    "high": (esbn_align, {"side": "high"}),
    "fusion": (esbn_fusion, {"growth": 2, "schedule": "cosine", "pixel_steps": 2, "loss": "l2"}),
    "kfac": (esbn_fusion, {"growth": 2, "schedule": "cosine", "pixel_steps": 2, "loss": "l2", "optimizer": "kfac"}),
    "joined": (esbn_end_to_end, {"growth": 2, "align_filters": 4}),
}
ROOT = pathlib.Path(__file__).parent.parent


class Killed(BaseException):
    """What a kill is to the program: no handler of its own catches it."""


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """A residual block instead of nine and two dense convolutions instead of six: tracing them is most of a short run.

    The scripts know of neither number; tests/test_models.py has gradients through the whole depth.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esbn, "BLOCKS", 1)
        patch.setattr(esbn, "DENSE", 2)
        patch.setattr(kfac, "INVERT_EVERY", 1)  # moves from the second step on
        patch.setattr(kfac, "POSITIONS", 64)
        yield


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Four scenes of 64 x 96 pixels, in which everything shifts by a pixel between exposures."""
    folder = tmp_path_factory.mktemp("esbn")
    for number in range(4):
        noise = np.random.default_rng(number).random((8, 12, 3), np.float32)
        hdr, stops = cv2.resize(noise**3, (96, 64)), np.array([0.0, 2, 4])
        ldr = [tone.to_exposure(np.roll(hdr, shift, 1), 2**stop) * 65535 for shift, stop in zip((1, 0, -1), stops, strict=True)]
        scenes.write_scene(folder / "scenes" / str(number), np.stack(ldr).astype(np.uint16), stops, hdr)
    make_tfrecord.main(make_tfrecord.Config(scenes=str(folder / "scenes"), output=str(folder / "records"), shards=2, workers=1))
    return str(folder / "records")


@pytest.fixture(scope="module")
def train(records):
    """train(name, run, **flags) runs a script with tiny settings and returns the run folder."""

    def train(name, run, **flags):
        script, own = SCRIPTS[name]
        script.main(script.Config(data=records, run=str(run), **TINY | own | flags))
        return run

    return train


@pytest.fixture(scope="module")
def runs(train, tmp_path_factory):
    """runs(name) is the folder of an unbroken run, made when first asked for."""
    folder = tmp_path_factory.mktemp("runs")
    return lambda name: folder / name if (folder / name).exists() else train(name, folder / name)


def rows(run):
    return list(csv.DictReader((run / "log.csv").open()))


def last_state(run):
    with np.load(run / "checkpoints" / "00000004.npz") as stored:
        return dict(stored)


def assert_equal_runs(found, expected):
    states = last_state(found), last_state(expected)
    assert states[0].keys() == states[1].keys()
    for path in states[1]:
        np.testing.assert_array_equal(states[0][path], states[1][path], err_msg=path)
    assert [row["loss"] for row in rows(found)] == [row["loss"] for row in rows(expected)]  # of one batch each: the data
    for sample in ("00000003.png", "00000004.png"):
        assert (found / "samples" / sample).read_bytes() == (expected / "samples" / sample).read_bytes()


@pytest.mark.parametrize(
    ("name", "files_"),
    [
        ("low", ["esbn_align_low"]),
        ("high", ["esbn_align_high"]),
        ("fusion", ["esbn_fusion"]),
        ("joined", ["esbn_align_high", "esbn_align_low", "esbn_fusion"]),
    ],
)
def test_a_run_leaves_its_folder(name, files_, runs, records):
    run = runs(name)
    assert sorted(path.name for path in run.glob("*.h5")) == [f"{file}.weights.h5" for file in files_]
    script, own = SCRIPTS[name]
    config = dataclasses.asdict(script.Config(data=records, run=str(run), **TINY | own))
    assert json.loads((run / "config.json").read_text()) == config
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["00000002.npz", "00000004.npz"]
    assert [path.name for path in sorted((run / "samples").iterdir())] == [f"{step:08d}.png" for step in (1, 2, 3, 4)]
    assert [row["epoch"] for row in rows(run)] == ["0", "1", "2", "3"]
    assert all(np.isfinite(float(row["loss"])) for row in rows(run))
    state = last_state(run)
    assert state["adam/iteration"] == 4 and any(path.endswith("_velocity") for path in state)
    assert name == "fusion" or any(path.endswith("moving_variance") for path in state)


def first_batch(records, names):
    return {name: np.asarray(value[0]) for name, value in next(iter(dataset.patch_dataset(records, 2, names, PATCH))).items()}


def sheet_columns(run, columns):
    """The sheet of the last step, as a list of columns of pictures."""
    sheet = files.read_picture(run / "samples" / "00000004.png").pixels
    rows = len(sheet) // PATCH
    assert sheet.shape == (rows * PATCH, columns * PATCH, 3)
    return [np.split(column, rows) for column in np.split(sheet, columns, axis=1)]


def levels(picture):
    return ((np.clip(picture, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("side", ["low", "high"])
def test_sample_of_the_alignment_is_laid_out_as_the_original_s(side, runs, records):
    run = runs(side)
    batch = first_batch(records, [f"ldr_{side}", f"hdr_{side}", "ldr_mid", "hdr_mid", f"gt_ldr_{side}"])
    (taken, aligned, true), middles = sheet_columns(run, 2)
    np.testing.assert_array_equal(taken, levels(batch[f"ldr_{side}"]))
    np.testing.assert_array_equal(true, levels(batch[f"gt_ldr_{side}"]))
    for middle in middles:
        np.testing.assert_array_equal(middle, levels(batch["ldr_mid"]))
    model = build("esbn_align", filters=4)
    weights.load_weights(model, run / f"esbn_align_{side}.weights.h5")
    inputs = {"ldr_low": f"ldr_{side}", "hdr_low": f"hdr_{side}", "ldr_mid": "ldr_mid", "hdr_mid": "hdr_mid"}
    expected = model({slot: batch[name][None] for slot, name in inputs.items()}, training=False)["aligned"][0]
    assert np.abs(aligned.astype(int) - levels(expected)).max() <= 1  # a batch of one may be summed in another order


def test_sample_of_the_merging_is_laid_out_as_the_original_s(runs, records):
    run = runs("fusion")
    batch = first_batch(records, [*esbn.EXPOSURES, "gt_hdr"])
    (low, true), (middle, result), (high, true_again) = sheet_columns(run, 3)
    for found, side in ((low, "low"), (middle, "mid"), (high, "high")):
        np.testing.assert_array_equal(found, levels(batch[f"ldr_{side}"]))
    np.testing.assert_array_equal(true, true_again)
    # As training_fusion.py: 255 * log(1 + 5000 * radiance) / log(5001).
    expected = 255 * np.log(1 + 5000 * (batch["gt_hdr"] + 1) / 2) / np.log(5001)
    assert np.abs(true - expected).max() <= 0.51
    model = build("esbn_fusion", filters=4, growth=2)
    weights.load_weights(model, run / "esbn_fusion.weights.h5")
    merged = model({name: batch[name][None] for name in esbn.EXPOSURES}, training=False)["hdr"][0]
    assert np.abs(result.astype(int) - levels(losses.mu_law_signed(merged))).max() <= 1


def test_sample_of_the_joined_networks(runs, records):
    run = runs("joined")
    batch = first_batch(records, [*esbn.EXPOSURES, "gt_ldr_low", "gt_ldr_high", "gt_hdr"])
    columns = sheet_columns(run, 3)
    for column, side in zip(columns, ("low", "mid", "high"), strict=True):
        np.testing.assert_array_equal(column[0], levels(batch[f"ldr_{side}"]))
    for column, side in ((columns[0], "low"), (columns[2], "high")):
        np.testing.assert_array_equal(column[2], levels(batch[f"gt_ldr_{side}"]))
        assert np.abs(column[3].astype(int) - levels(losses.mu_law_signed(batch["gt_hdr"]))).max() <= 1


def test_weights_make_radiance(runs, tmp_path):
    for name in ("low", "high", "fusion"):
        for path in runs(name).glob("*.h5"):
            shutil.copy(path, tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    for folder in (tmp_path, runs("joined")):
        aligned, radiance = reconstruction.reconstruct(reconstruction.load_esbn(folder), pictures, (1, 4, 16))
        assert aligned.shape == (3, 16, 24, 3) and radiance.shape == (16, 24, 3) and np.isfinite(radiance).all()


@pytest.mark.parametrize(
    ("name", "kill_at"),
    [("low", 4), ("fusion", 2), ("fusion", 4), *(pytest.param(name, 4, marks=pytest.mark.slow) for name in ("kfac", "joined"))],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(name, kill_at, train, runs, tmp_path, monkeypatch):
    """Killed before step 4 it goes on from step 2, killed before step 2, where the first checkpoint is due, from the start."""
    lay_out, samples = training.sheet, []

    def sheet(columns):
        samples.append(1)
        if len(samples) == kill_at:
            raise Killed
        return lay_out(columns)

    with monkeypatch.context() as patched:
        patched.setattr(training, "sheet", sheet)
        with pytest.raises(Killed):
            train(name, tmp_path / "run")
    expected = ["00000002.npz"] if kill_at == 4 else []
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == expected
    assert not list((tmp_path / "run").glob("*.h5"))
    assert_equal_runs(train(name, tmp_path / "run"), runs(name))


def test_a_run_stopped_early_goes_on_to_the_end(train, runs, tmp_path):
    train("low", tmp_path / "run", steps=3)  # leaves a checkpoint although 3 is no multiple of checkpoint_every
    assert (tmp_path / "run" / "checkpoints" / "00000003.npz").exists()
    assert_equal_runs(train("low", tmp_path / "run"), runs("low"))


def test_sides_differ(runs):
    low, high = last_state(runs("low")), last_state(runs("high"))
    assert any((low[path] != high[path]).any() for path in low if path.endswith("kernel"))


def test_frozen_norms_keep_all_their_arrays(train, runs, tmp_path):
    start = runs("low") / "esbn_align_low.weights.h5"
    train("low", tmp_path / "run", weights=str(start), frozen_norm=True, steps=2)
    models = [build("esbn_align", filters=4) for _ in range(2)]
    for model, path in zip(models, (start, tmp_path / "run" / "esbn_align_low.weights.h5"), strict=True):
        weights.load_weights(model, path)
    for before, after in zip(*(model.weights for model in models), strict=True):
        frozen = before.name in ("gamma", "beta", "moving_mean", "moving_variance")
        assert np.array_equal(before, after) == frozen, before.path


def test_rate_is_the_original_s():
    """training_fusion.py divides the rate behind step 200,000, and would again behind 400,000."""
    optimizer = training.adam(1e-4, "step", 300_000)
    optimizer.build([keras.Variable(0.0)])
    original, rates, change = 1e-4, {}, 200_000
    for step in range(1, 300_001):
        rates[step] = original
        if step % change == 0:
            original, change = original / 10, change * 2
    for step in (1, 2, 100_000, 199_999, 200_000, 200_001, 200_002, 300_000):
        optimizer.iterations.assign(step - 1)  # as it stands while this step is taken
        assert float(optimizer.learning_rate) == pytest.approx(rates[step], rel=1e-6), step
    assert optimizer.epsilon == 1e-8 and (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)


def test_rate_of_a_step_that_is_taken():
    moved = []
    for done in (199_999, 200_000):
        optimizer, variable = training.adam(1e-4, "step", 300_000), keras.Variable(0.0)
        optimizer.build([variable])
        optimizer.iterations.assign(done)
        optimizer.apply([keras.ops.ones(())])
        moved.append(float(variable))
    assert moved[0] == pytest.approx(10 * moved[1], rel=1e-5)  # float32


@pytest.mark.parametrize("script", [esbn_align, esbn_fusion, esbn_end_to_end])
def test_defaults_are_the_original_s(script):
    config = script.Config()
    assert (config.steps, config.log_every, config.checkpoint_every) == (300_000, 1_000, 10_000)
    assert (config.patch, config.learning_rate, config.schedule, config.filters) == (256, 1e-4, "step", 64)
    assert config.batch == (8 if script is esbn_align else 4)


@pytest.mark.parametrize("name", ["low", "fusion", "joined"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": ""}, "--data: expected a folder of records"),
        ({"data": "nowhere"}, "nowhere/manifest.json: cannot be read"),
        ({"steps": 6, "log_every": 2, "checkpoint_every": 3}, "expected --checkpoint_every to be a multiple of --log_every"),
        ({"patch": 80}, "expected scenes of at least 80 x 80 pixels, found 0 of 96 x 64; choose a smaller patch"),
        ({"batch": 0}, "expected batch and shuffle_scenes of 1 or more"),
    ],
)
def test_flags_that_cannot_be(name, flags, message, records, tmp_path):
    script, own = SCRIPTS[name]
    with pytest.raises(ValueError) as error:
        script.main(script.Config(**{"data": records, "run": str(tmp_path / "run")} | TINY | own | flags))
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"loss": "l1"}, "--optimizer=kfac: expected --loss=l2 and either --weights or --pixel_steps"),
        ({"pixel_steps": 0}, "--optimizer=kfac: expected --loss=l2 and either --weights or --pixel_steps"),
        ({"mixed_precision": True, "weights": "fusion"}, "esbn_fusion: natural gradients want float32 and one accelerator"),
        ({"strategy": "mirrored", "weights": "fusion"}, "esbn_fusion: natural gradients want float32 and one accelerator"),
    ],
)
def test_kfac_says_what_it_is_not_made_for(flags, message, train, runs, tmp_path):
    if "weights" in flags:
        flags = flags | {"weights": str(runs(flags["weights"]) / "esbn_fusion.weights.h5"), "pixel_steps": 0}
    try:
        with pytest.raises(ValueError, match=message):
            train("kfac", tmp_path / "run", **flags)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert not (tmp_path / "run").exists()


def test_inner_kernels_of_one_pixel(runs, train, tmp_path):
    """Only the middle of the inner kernels is used and trained; a run with whole kernels goes on where that one ends."""

    def kernels(run):
        model = build("esbn_fusion", filters=4, growth=2)
        weights.load_weights(model, run / "esbn_fusion.weights.h5")
        return {layer.name: layer.get_weights()[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}

    flags = {"pixel_steps": 0, "steps": 1, "checkpoint_every": 1}
    path = str(runs("fusion") / "esbn_fusion.weights.h5")
    small = train("fusion", tmp_path / "small", weights=path, inner_kernel_size=1, learning_rate=1e-2, **flags)
    inner, outer = kernels(small)["merge_conv"], kernels(small)["low_conv"]
    assert inner.shape[:2] == (3, 3) and np.all(inner.any(axis=(2, 3)) == np.outer([0, 1, 0], [0, 1, 0]))
    assert outer.any(axis=(2, 3)).all()
    whole = train("fusion", tmp_path / "whole", weights=str(small / "esbn_fusion.weights.h5"), learning_rate=1e-9, **flags)
    for name, kernel in kernels(whole).items():
        np.testing.assert_allclose(kernel, kernels(small)[name], atol=1e-8)


@pytest.mark.parametrize(("name", "file"), [("low", "esbn_align_low"), ("fusion", "esbn_fusion"), ("joined", "")])
def test_weights_of_another_width(name, file, runs, train, tmp_path):
    start = runs(name) / f"{file}.weights.h5" if file else runs(name)
    other = {"fusion": {"pixel_steps": 0}, "joined": {"align_filters": 5}}.get(name, {})
    with pytest.raises(ValueError, match=r"\.weights\.h5 .*does not fit esbn_.*wrongly shaped") as error:
        train(name, tmp_path / "run", weights=str(start), filters=5, **other)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_records_without_true_exposures(tmp_path, records):
    """Kind esbn_merge has no true low exposure to align to."""
    merge = str(tmp_path / "merge")
    scenes_ = str(pathlib.Path(records).parent / "scenes")
    make_tfrecord.main(
        make_tfrecord.Config(kind="esbn_merge", scenes=scenes_, output=merge, count=4, patch=PATCH, shards=1, workers=1)
    )
    with pytest.raises(ValueError, match="a set of kind 'esbn_merge' gives .*, not gt_ldr_low"):
        esbn_align.main(esbn_align.Config(data=merge, run=str(tmp_path / "run"), **TINY))
    run = tmp_path / "fusion"
    esbn_fusion.main(esbn_fusion.Config(data=merge, run=str(run), growth=2, **TINY | {"steps": 1, "checkpoint_every": 1}))
    assert (run / "esbn_fusion.weights.h5").exists()


def test_mixed_precision(train, tmp_path, monkeypatch):
    monkeypatch.setattr(esbn, "BLOCKS", 9)  # errors add up with depth
    try:
        run = train("low", tmp_path / "run", mixed_precision=True, steps=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(float(rows(run)[0]["loss"]))
    model = build("esbn_align", filters=4)
    weights.load_weights(model, run / "esbn_align_low.weights.h5")
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in model.get_weights())


# In processes of their own: neither deterministic operations nor the number of logical devices can be taken back.
PROGRAM = """
import json, sys
import tensorflow as tf
from hdr_tf.models import esbn
from train import esbn_align, esbn_fusion
script, devices, runs = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
esbn.BLOCKS, esbn.DENSE = 1, 2
if devices:
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    class Mirrored(tf.distribute.MirroredStrategy):
        def __init__(self):
            super().__init__([f"CPU:{i}" for i in range(devices)])
    tf.distribute.MirroredStrategy = Mirrored
module = {"esbn_align": esbn_align, "esbn_fusion": esbn_fusion}[script]
for flags in runs:
    module.main(module.Config(**flags))
"""


def in_a_process(script, devices, *runs):
    """Runs a script with each of the flags, one after the other."""
    program = [sys.executable, "-c", PROGRAM, script, str(devices), json.dumps([TINY | flags for flags in runs])]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr


def two_workers(script, flags):
    """Starts a script in two processes that are workers of each other."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        cluster = {"worker": [f"127.0.0.1:{found.getsockname()[1]}" for found in sockets]}
    command = [sys.executable, "-c", PROGRAM, script, "0", json.dumps([TINY | flags])]
    workers = []
    for index in range(2):
        told = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        workers.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | told, stderr=subprocess.PIPE, text=True))
    return workers


def as_two_workers(script, flags):
    """Runs a script in two processes that are workers of each other."""
    workers = two_workers(script, flags)
    errors = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors


@pytest.mark.slow
def test_jit_compiles_with_xla(records, tmp_path):
    in_a_process("esbn_fusion", 0, {"data": records, "run": str(tmp_path / "run"), "growth": 2, "jit": True, "steps": 1})
    assert np.isfinite(float(rows(tmp_path / "run")[0]["loss"]))


@pytest.mark.parametrize("strategy", ["mirrored", pytest.param("multi_worker", marks=pytest.mark.slow)])
def test_two_train_as_one(strategy, records, train, runs, tmp_path):
    """The merging network has no batch norm: shares of a batch add up to the whole."""
    flags = {"growth": 2, "loss": "l2", "learning_rate": 1e-2, "batch": 4}
    flags["weights"] = str(runs("fusion") / "esbn_fusion.weights.h5")
    two = flags | {"data": records, "run": str(tmp_path / "two"), "strategy": strategy}
    if strategy == "mirrored":
        in_a_process("esbn_fusion", 2, two)
    else:
        as_two_workers("esbn_fusion", two | {"steps": 2})
        as_two_workers("esbn_fusion", two)
    one = train("fusion", tmp_path / "one", schedule="step", pixel_steps=0, **flags)
    for found, expected in zip(rows(tmp_path / "two"), rows(one), strict=True):
        assert float(found["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)  # float32 sums, over four steps
    found, expected = last_state(tmp_path / "two"), last_state(one)
    assert found.keys() == expected.keys()
    for path in expected:
        # Adam divides by the root of a mean square: where a gradient is near zero its rounding shows.
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-2, atol=1e-4, err_msg=path)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_other_worker_ends_where_one_is_lost(lost, records, tmp_path):
    flags = {"growth": 2, "data": records, "run": str(tmp_path), "strategy": "multi_worker", "checkpoint_every": 1}
    workers = two_workers("esbn_fusion", flags | {"steps": 100_000})
    while not list(tmp_path.glob("checkpoints/*.npz")):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    workers[lost].kill()
    told = workers[1 - lost].communicate(timeout=120)[1]
    assert workers[1 - lost].returncode == 1
    assert (
        "\nConnectionError: a worker was lost; end the others, and the same commands go on from the last checkpoint\n" in told
    )
    workers[lost].communicate()
    steps = len(rows(tmp_path))
    as_two_workers("esbn_fusion", flags | {"steps": steps + 2})
    assert len(rows(tmp_path)) == steps + 2


@pytest.mark.slow
def test_two_accelerators_with_batch_norm_resume_exactly(records, tmp_path):
    """Each accelerator normalises its own share; the averages of the first are kept."""
    flags = {"data": records, "batch": 4, "strategy": "mirrored", "side": "low"}
    unbroken, stopped = (flags | {"run": str(tmp_path / run)} for run in ("unbroken", "stopped"))
    in_a_process("esbn_align", 2, unbroken, stopped | {"steps": 2})
    in_a_process("esbn_align", 2, stopped)
    assert_equal_runs(tmp_path / "stopped", tmp_path / "unbroken")
    moved = [path for path in last_state(tmp_path / "stopped") if path.endswith("moving_variance")]
    assert moved and all((last_state(tmp_path / "stopped")[path] != 1).any() for path in moved)


def test_a_batch_is_shared_evenly(train, tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow.distribute.MirroredStrategy", lambda: types.SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(ValueError, match="expected --batch to be a multiple of 2, the number of accelerators, found 3"):
        train("fusion", tmp_path / "run", strategy="mirrored", batch=3, pixel_steps=0)
    assert not (tmp_path / "run").exists()


def test_one_device_will_do(train, tmp_path):
    run = train("fusion", tmp_path / "run", strategy="mirrored", steps=1, pixel_steps=0)  # on the CPU, or whatever there is
    assert np.isfinite(float(rows(run)[0]["loss"]))
