"""The training scripts of ESBN from records to weights: run folder, exact resume, flags, several accelerators."""

import dataclasses
import json
import pathlib
import shutil
import time
import types

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import losses, weights
from hdr_tf.io import image_files, scenes
from hdr_tf.models import esbn
from hdr_tf.radiance import pipeline
from hdr_tf.systems import build
from hdr_tf.training import kfac, loop, multi_worker
from tests import helpers
from tfrecords import dataset
from tools import make_tfrecord
from train import esbn_align, esbn_end_to_end, esbn_fusion

PATCH = 32
TINY = {"steps": 4, "log_every": 1, "checkpoint_every": 2, "batch": 2, "patch": PATCH, "filters": 4}
SCRIPTS = {
    "low": (esbn_align, {"side": "low"}),
    "high": (esbn_align, {"side": "high"}),
    "fusion": (esbn_fusion, {"growth": 2, "schedule": "cosine", "pretraining_steps": 2, "loss": "l2"}),
    "kfac": (esbn_fusion, {"growth": 2, "schedule": "cosine", "pretraining_steps": 2, "loss": "l2", "optimizer": "kfac"}),
    "joined": (esbn_end_to_end, {"growth": 2, "align_filters": 4}),
}


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """A residual block instead of nine and two dense convolutions instead of six: tracing them is most of a short run.

    The scripts know neither number; tests of the models check gradients through the whole depth.
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
        ldr = helpers.expose([np.roll(hdr, shift, 1) for shift in (1, 0, -1)], stops)
        scenes.write_scene(folder / "scenes" / str(number), ldr, stops, hdr)
    make_tfrecord.main(
        make_tfrecord.Config(scenes=str(folder / "scenes"), output=str(folder / "records"), shards=2, num_processes=1)
    )
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


def assert_equal_runs(actual, expected):
    states = helpers.checkpoint(actual, 4), helpers.checkpoint(expected, 4)
    assert states[0].keys() == states[1].keys()
    for path in states[1]:
        np.testing.assert_array_equal(states[0][path], states[1][path], err_msg=path)
    logs = [[row["loss"] for row in helpers.log(run)] for run in (actual, expected)]
    assert logs[0] == logs[1]  # each loss is of one batch, so the data are equal too
    for sample in ("00000003.png", "00000004.png"):
        assert (actual / "samples" / sample).read_bytes() == (expected / "samples" / sample).read_bytes()


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
    assert helpers.names(run / "checkpoints") == {"00000002.npz", "00000004.npz"}
    assert [path.name for path in sorted((run / "samples").iterdir())] == [f"{step:08d}.png" for step in (1, 2, 3, 4)]
    assert [row["epoch"] for row in helpers.log(run)] == ["0", "1", "2", "3"]
    assert all(np.isfinite(float(row["loss"])) for row in helpers.log(run))
    state = helpers.checkpoint(run, 4)
    assert state["adam/iteration"] == 4 and any(path.endswith("_velocity") for path in state)
    assert name == "fusion" or any(path.endswith("moving_variance") for path in state)


def first_batch(records, names):
    return {name: np.asarray(value[0]) for name, value in next(iter(dataset.patch_dataset(records, 2, names, PATCH))).items()}


def sheet_columns(run, columns):
    """The sheet of the last step, as a list of columns of images."""
    sheet = image_files.read_image(run / "samples" / "00000004.png").pixels
    rows = len(sheet) // PATCH
    assert sheet.shape == (rows * PATCH, columns * PATCH, 3)
    return [np.split(column, rows) for column in np.split(sheet, columns, axis=1)]


def levels(image):
    return ((np.clip(image, -1, 1) + 1) * 127.5 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("side", ["low", "high"])
def test_sample_of_the_alignment_is_laid_out_as_the_original_s(side, runs, records):
    run = runs(side)
    batch = first_batch(records, [f"ldr_{side}", f"hdr_{side}", "ldr_mid", "hdr_mid", f"gt_ldr_{side}"])
    (captured, aligned, true), middles = sheet_columns(run, 2)
    np.testing.assert_array_equal(captured, levels(batch[f"ldr_{side}"]))
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
    for image, side in ((low, "low"), (middle, "mid"), (high, "high")):
        np.testing.assert_array_equal(image, levels(batch[f"ldr_{side}"]))
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
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    for folder in (tmp_path, runs("joined")):
        aligned, radiance = pipeline.reconstruct(pipeline.load("esbn", folder), images, (1, 4, 16))
        assert aligned.shape == (3, 16, 24, 3) and radiance.shape == (16, 24, 3) and np.isfinite(radiance).all()


@pytest.mark.parametrize(
    ("name", "kill_at"),
    [("low", 4), ("fusion", 2), *(pytest.param(name, 4, marks=pytest.mark.slow) for name in ("fusion", "kfac", "joined"))],
)
def test_a_killed_run_continues_as_if_it_had_never_stopped(name, kill_at, train, runs, tmp_path, monkeypatch):
    """Killed before step 4, it continues from step 2; killed before step 2, with no checkpoint yet, it starts again."""
    lay_out, samples = loop.sheet, []

    def sheet(columns):
        samples.append(1)
        if len(samples) == kill_at:
            raise helpers.Killed
        return lay_out(columns)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "sheet", sheet)
        with pytest.raises(helpers.Killed):
            train(name, tmp_path / "run")
    expected = ["00000002.npz"] if kill_at == 4 else []
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == expected
    assert not list((tmp_path / "run").glob("*.h5"))
    assert_equal_runs(train(name, tmp_path / "run"), runs(name))


def test_a_run_stopped_early_continues_to_the_end(train, runs, tmp_path):
    train("low", tmp_path / "run", steps=3)  # leaves a checkpoint although 3 is no multiple of checkpoint_every
    assert (tmp_path / "run" / "checkpoints" / "00000003.npz").exists()
    assert_equal_runs(train("low", tmp_path / "run"), runs("low"))


def test_sides_differ(runs):
    low, high = (helpers.checkpoint(runs(side), 4) for side in ("low", "high"))
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
    """training_fusion.py divides the rate after step 200,000, and would again after step 400,000."""
    optimizer = loop.adam(1e-4, "step", 300_000)
    optimizer.build([keras.Variable(0.0)])
    original, rates, change = 1e-4, {}, 200_000
    for step in range(1, 300_001):
        rates[step] = original
        if step % change == 0:
            original, change = original / 10, change * 2
    for step in (1, 2, 100_000, 199_999, 200_000, 200_001, 200_002, 300_000):
        optimizer.iterations.assign(step - 1)  # its value during this step
        assert float(optimizer.learning_rate) == pytest.approx(rates[step], rel=1e-6), step
    assert optimizer.epsilon == 1e-8 and (optimizer.beta_1, optimizer.beta_2) == (0.9, 0.999)


def test_rate_of_a_step():
    moved = []
    for done in (199_999, 200_000):
        optimizer, variable = loop.adam(1e-4, "step", 300_000), keras.Variable(0.0)
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
        ({"data": ""}, "--data"),
        ({"data": "nowhere"}, "nowhere/manifest.json"),
        ({"steps": 6, "log_every": 2, "checkpoint_every": 3}, "--checkpoint_every --log_every 3 2"),
        ({"patch": 80}, "80 x 80 0 96 x 64"),
        ({"batch": 0}, "batch shuffle_scenes 1"),
    ],
)
def test_flags_that_cannot_be(name, flags, message, records, tmp_path):
    script, own = SCRIPTS[name]
    with pytest.raises(ValueError, match=helpers.mentions(message)) as error:
        script.main(script.Config(**{"data": records, "run": str(tmp_path / "run")} | TINY | own | flags))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"loss": "l1"}, "--optimizer=kfac --loss=l2 --weights --pretraining_steps"),
        ({"pretraining_steps": 0}, "--optimizer=kfac --loss=l2 --weights --pretraining_steps"),
        ({"mixed_precision": True, "weights": "fusion"}, "esbn_fusion float32"),
        ({"strategy": "mirrored", "weights": "fusion"}, "esbn_fusion float32"),
    ],
)
def test_kfac_refuses_what_it_cannot_train(flags, message, train, runs, tmp_path):
    if "weights" in flags:
        flags = flags | {"weights": str(runs(flags["weights"]) / "esbn_fusion.weights.h5"), "pretraining_steps": 0}
    try:
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            train("kfac", tmp_path / "run", **flags)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert not (tmp_path / "run").exists()


def test_inner_kernels_of_one_pixel(runs, train, tmp_path):
    """Only the centres of the inner kernels are used and trained; a run with whole kernels can start from the result."""

    def kernels(run):
        model = build("esbn_fusion", filters=4, growth=2)
        weights.load_weights(model, run / "esbn_fusion.weights.h5")
        return {layer.name: layer.get_weights()[0] for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}

    flags = {"pretraining_steps": 0, "steps": 1, "checkpoint_every": 1}
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
    other = {"fusion": {"pretraining_steps": 0}, "joined": {"align_filters": 5}}.get(name, {})
    with pytest.raises(ValueError, match=r"\.weights\.h5\b.*\besbn_.*/kernel\b.*\(\d.*\(\d") as error:
        train(name, tmp_path / "run", weights=str(start), filters=5, **other)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_records_without_true_exposures(tmp_path, records):
    """Kind esbn_merge has no true low exposure to align to."""
    merge = str(tmp_path / "merge")
    scenes_ = str(pathlib.Path(records).parent / "scenes")
    make_tfrecord.main(
        make_tfrecord.Config(kind="esbn_merge", scenes=scenes_, output=merge, count=4, patch=PATCH, shards=1, num_processes=1)
    )
    with pytest.raises(ValueError, match=helpers.mentions("esbn_merge gt_ldr_low")):
        esbn_align.main(esbn_align.Config(data=merge, run=str(tmp_path / "run"), **TINY))
    run = tmp_path / "fusion"
    esbn_fusion.main(esbn_fusion.Config(data=merge, run=str(run), growth=2, **TINY | {"steps": 1, "checkpoint_every": 1}))
    assert (run / "esbn_fusion.weights.h5").exists()


@pytest.mark.slow
def test_mixed_precision(train, tmp_path, monkeypatch):
    monkeypatch.setattr(esbn, "BLOCKS", 9)  # errors add up with depth
    try:
        run = train("low", tmp_path / "run", mixed_precision=True, steps=1)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(float(helpers.log(run)[0]["loss"]))
    model = build("esbn_align", filters=4)
    weights.load_weights(model, run / "esbn_align_low.weights.h5")
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in model.get_weights())


# In processes of their own: neither deterministic operations nor the number of logical devices can be taken back.
PROGRAM = """
import importlib, json, sys
import tensorflow as tf
from hdr_tf.models import esbn
script, devices, runs = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
esbn.BLOCKS, esbn.DENSE = 1, 2
if devices:
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], logical)
    class Mirrored(tf.distribute.MirroredStrategy):
        def __init__(self):
            super().__init__([f"CPU:{i}" for i in range(devices)])
    tf.distribute.MirroredStrategy = Mirrored
module = importlib.import_module(f"train.{script}")
for flags in runs:
    module.main(module.Config(**flags))
"""


def in_a_process(script, devices, *runs):
    """Runs a script with each of the flags, one after the other."""
    flags = json.dumps([TINY | flags for flags in runs])
    result = helpers.run_python("-c", PROGRAM, script, str(devices), flags, cwd=helpers.ROOT)
    assert result.returncode == 0, result.stderr


def program(script, flags):
    """The arguments of Python that run a script with flags."""
    return "-c", PROGRAM, script, "0", json.dumps([TINY | flags])


@pytest.mark.slow
def test_jit_compiles_with_xla(records, tmp_path):
    in_a_process("esbn_fusion", 0, {"data": records, "run": str(tmp_path / "run"), "growth": 2, "jit": True, "steps": 1})
    assert np.isfinite(float(helpers.log(tmp_path / "run")[0]["loss"]))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_two_train_as_one(strategy, records, train, runs, tmp_path):
    """The merging network has no batch norm: shares of a batch add up to the whole."""
    flags = {"growth": 2, "loss": "l2", "learning_rate": 1e-2, "batch": 4}
    flags["weights"] = str(runs("fusion") / "esbn_fusion.weights.h5")
    two = flags | {"data": records, "run": str(tmp_path / "two"), "strategy": strategy}
    if strategy == "mirrored":
        in_a_process("esbn_fusion", 2, two)
    else:
        helpers.run_two_workers(*program("esbn_fusion", two | {"steps": 2}))
        helpers.run_two_workers(*program("esbn_fusion", two))
    one = train("fusion", tmp_path / "one", schedule="step", pretraining_steps=0, **flags)
    for actual, expected in zip(helpers.log(tmp_path / "two"), helpers.log(one), strict=True):
        assert float(actual["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)  # float32 sums, over four steps
    actual, expected = helpers.checkpoint(tmp_path / "two", 4), helpers.checkpoint(one, 4)
    assert actual.keys() == expected.keys()
    for path in expected:
        # Adam divides by the root of a mean square: where a gradient is near zero its rounding shows.
        np.testing.assert_allclose(actual[path], expected[path], rtol=1e-2, atol=1e-4, err_msg=path)


@pytest.mark.slow
def test_two_workers_train_the_joined_networks_as_two_accelerators_do(records, tmp_path):
    """Batch norm sees the same halves of a batch."""
    flags = {"growth": 2, "align_filters": 4, "data": records, "batch": 4, "steps": 2}
    in_a_process("esbn_end_to_end", 2, flags | {"run": str(tmp_path / "one"), "strategy": "mirrored"})
    helpers.run_two_workers(*program("esbn_end_to_end", flags | {"run": str(tmp_path / "two"), "strategy": "multi_worker"}))
    one, two = (helpers.log(tmp_path / run) for run in ("one", "two"))
    assert len(one) == 2
    for actual, expected in zip(two, one, strict=True):
        assert float(actual["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)  # float32 sums
    for name in ("esbn_align_low", "esbn_align_high", "esbn_fusion"):
        assert (tmp_path / "two" / f"{name}.weights.h5").exists()


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_other_worker_ends_where_one_is_lost(lost, records, tmp_path):
    flags = {"growth": 2, "data": records, "run": str(tmp_path), "strategy": "multi_worker", "checkpoint_every": 1}
    workers = helpers.start_two_workers(*program("esbn_fusion", flags | {"steps": 100_000}))
    while not list(tmp_path.glob("checkpoints/*.npz")):
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.1)
    workers[lost].kill()
    message = workers[1 - lost].communicate(timeout=120)[1]
    assert workers[1 - lost].returncode == 1
    assert "\nConnectionError: " in message
    workers[lost].communicate()
    steps = len(helpers.log(tmp_path))
    helpers.run_two_workers(*program("esbn_fusion", flags | {"steps": steps + 2}))
    assert len(helpers.log(tmp_path)) == steps + 2


@pytest.mark.slow
def test_two_accelerators_with_batch_norm_resume_exactly(records, tmp_path):
    """Each accelerator normalises its own share; the averages of the first are kept."""
    flags = {"data": records, "batch": 4, "strategy": "mirrored", "side": "low"}
    unbroken, stopped = (flags | {"run": str(tmp_path / run)} for run in ("unbroken", "stopped"))
    in_a_process("esbn_align", 2, unbroken, stopped | {"steps": 2})
    in_a_process("esbn_align", 2, stopped)
    assert_equal_runs(tmp_path / "stopped", tmp_path / "unbroken")
    moved = [path for path in helpers.checkpoint(tmp_path / "stopped", 4) if path.endswith("moving_variance")]
    assert moved and all((helpers.checkpoint(tmp_path / "stopped", 4)[path] != 1).any() for path in moved)


@pytest.mark.parametrize(("name", "chief"), [("fusion", False), ("joined", False), ("joined", True)])
def test_the_chief_writes_weights_and_all_workers_wait(name, chief, train, tmp_path, monkeypatch):
    """A worker that ends before the others counts as lost, so the last thing that each does is to wait."""
    waits = []
    monkeypatch.setattr(multi_worker, "strategy", tf.distribute.get_strategy)
    monkeypatch.setattr(multi_worker, "is_chief", lambda: chief)
    monkeypatch.setattr(multi_worker, "mean", lambda _: waits.append(len(list(tmp_path.rglob("*.weights.h5")))))
    monkeypatch.setattr(loop, "fit", lambda *_: None)
    train(name, tmp_path / "run", strategy="multi_worker")
    assert waits == [3 if chief else 0]


def test_a_batch_is_shared_evenly(train, tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow.distribute.MirroredStrategy", lambda: types.SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(ValueError, match=helpers.mentions("--batch 2 3")):
        train("fusion", tmp_path / "run", strategy="mirrored", batch=3, pretraining_steps=0)
    assert not (tmp_path / "run").exists()


def test_one_device_will_do(train, tmp_path):
    run = train("fusion", tmp_path / "run", strategy="mirrored", steps=1, pretraining_steps=0)
    assert np.isfinite(float(helpers.log(run)[0]["loss"]))
