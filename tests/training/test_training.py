"""The run folder, checkpoints and exact resume, on a small model of one layer."""

import dataclasses
import itertools
import json
import multiprocessing
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from hdr_tf import device, systems
from hdr_tf.training import loop, run_folder
from hdr_tf.training.config import TrainingConfig
from tests import helpers
from train import esbn_fusion, selfhdr

IMAGE = np.zeros((8, 8, 3), np.uint8)


def run(config, kill_at=None, loss="mse", steps_per_execution=1):
    """Trains and returns the model; `kill_at` is the sample, from 1, that does not come to an end."""
    loop.prepare(config)
    layers = [keras.layers.Dense(4, name="first"), keras.layers.Dropout(0.3, name="drop"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="net")
    rate = keras.optimizers.schedules.CosineDecay(0.1, 40)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=config.jit, steps_per_execution=steps_per_execution)

    def data(step):
        numbers = tf.data.Dataset.counter(step)
        values = numbers.map(lambda i: tf.random.stateless_uniform([2, 4], tf.stack([tf.cast(config.seed, tf.int64), i])))
        return values.map(lambda x: (x[:, :3], x[:, 3:]))

    samples = []

    def sample():
        samples.append(1)
        if len(samples) == kill_at:
            raise helpers.Killed
        return IMAGE

    loop.fit(model, data, config, sample)
    return model


def values(model):
    return [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]


@pytest.fixture
def config(tmp_path):
    return TrainingConfig(run=str(tmp_path / "run"), steps=20, log_every=5)


def test_a_run_leaves_its_folder(config, tmp_path):
    run(config)
    folder = tmp_path / "run"
    assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(config)
    assert helpers.names(folder / "checkpoints") == {"00000015.npz", "00000020.npz"}
    assert sorted(path.stem for path in (folder / "samples").iterdir()) == ["00000005", "00000010", "00000015", "00000020"]
    rows = helpers.log(folder)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"] and all(float(row["loss"]) > 0 for row in rows)
    assert list((folder / "logs").rglob("events.out.tfevents.*"))


def test_a_longer_run_continues_a_finished_one(config):
    run(config)
    longer = run(dataclasses.replace(config, steps=30))
    assert int(longer.optimizer.iterations) == 30


def test_a_finished_run_is_not_trained_again(config):
    first, again = run(config), run(config)
    np.testing.assert_array_equal(first.get_weights()[0], again.get_weights()[0])


def test_another_run_in_the_folder_is_refused(config):
    run(config)
    with pytest.raises(ValueError, match=helpers.mentions("config.json seed --run")):
        run(dataclasses.replace(config, seed=1))


def test_a_checkpoint_of_another_model_is_refused(config, tmp_path):
    run(config)
    np.savez(tmp_path / "run" / "checkpoints" / "00000025.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match=helpers.mentions("00000025.npz")):
        run(dataclasses.replace(config, steps=30))


@pytest.mark.parametrize(
    ("config", "old"),
    [
        (esbn_fusion.Config(pretraining_steps=3), {"pretraining_steps": ("pixel_steps", 3)}),
        (selfhdr.Config(stage="pointwise"), {"stage": ("stage", "pixels")}),
        (selfhdr.Config(stage="supervised"), {"stage": ("stage", "truth")}),
    ],
)
def test_a_run_with_former_names_of_flags_continues(config, old, tmp_path):
    flags = dict(old.get(name, (name, value)) for name, value in dataclasses.asdict(config).items())
    (tmp_path / "config.json").write_text(json.dumps(flags))
    run_folder.write_config(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text()) == dataclasses.asdict(config)
    with pytest.raises(ValueError, match=helpers.mentions("config.json seed")):
        run_folder.write_config(tmp_path, dataclasses.replace(config, seed=1))


# Variables in the checkpoints that train/pyramid.py and train/deepfuse.py have written since their first versions.
CONTEXT = ["context_entry", *(f"context_block{number}" for number in range(1, 6)), "fine_context", "fine_report"]
PYRAMID = [f"{name}/{kind}" for name in ("stem_conv1", "stem_conv2", "fine_head", *CONTEXT) for kind in ("kernel", "bias")]
PYRAMID += ["coarse_logit/kernel", *(f"{name}_mean/kernel" for name in CONTEXT)]
DEEPFUSE = [f"conv{number}/kernel" for number in range(1, 7)]


@pytest.mark.parametrize(("name", "variables", "rate"), [("pyramid", PYRAMID, None), ("deepfuse_official", DEEPFUSE, 1e-3)])
def test_checkpoints_of_former_versions_restore(name, variables, rate, tmp_path):
    loop.prepare(TrainingConfig())
    model = systems.build(name)
    model.compile(keras.optimizers.Adam(rate or keras.optimizers.schedules.CosineDecay(1e-3, 10)))
    model.optimizer.build(model.trainable_variables)
    shapes = {variable.path: variable.shape for variable in model.variables}
    moments = {f"adam/{path.replace('/', '_')}_{kind}": path for path in variables for kind in ("momentum", "velocity")}
    shapes = {path: shapes[moments.get(path, path)] for path in [*variables, *moments]}
    arrays = {path: np.random.default_rng(0).random(shape, np.float32) for path, shape in shapes.items()}
    arrays |= {"adam/iteration": 40} | ({"adam/learning_rate": rate} if rate else {})
    (tmp_path / "checkpoints").mkdir()
    np.savez(tmp_path / "checkpoints" / "00000040.npz", **arrays)
    assert run_folder.restore_checkpoint(model, tmp_path) == 40
    for variable in [*model.variables, *model.optimizer.variables]:
        np.testing.assert_array_equal(variable, np.asarray(arrays[variable.path], variable.dtype), err_msg=variable.path)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 3)), np.full((3, 3, 1, 16), "7"), np.float32(1)], ids=["shape", "type", "number"]
)
def test_a_checkpoint_of_another_shape_changes_nothing(array, tmp_path):
    model = systems.build("deepfuse_official")
    model.compile("sgd")
    model.optimizer.build(model.trainable_variables)
    variables = {x.path: x for x in [*model.variables, *model.optimizer.variables]}
    before = {name: np.array(x) for name, x in variables.items()}
    (tmp_path / "checkpoints").mkdir()
    np.savez(tmp_path / "checkpoints" / "00000040.npz", **{name: x + 1 for name, x in before.items()} | {"conv6/kernel": array})
    with pytest.raises(ValueError, match=helpers.mentions("00000040.npz conv6/kernel")):
        run_folder.restore_checkpoint(model, tmp_path)
    for name, x in variables.items():
        np.testing.assert_array_equal(x, before[name])


@pytest.mark.parametrize("content", [b"epoch,loss\nx,1\n", b"epoch\n\n", b"epoch\n\xff\n", b"epoch\n1\0\n"])
def test_a_damaged_log_is_named(content, tmp_path):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(ValueError, match=helpers.mentions("log.csv")):
        run_folder.cut_log(tmp_path / "log.csv", 1)
    assert (tmp_path / "log.csv").read_bytes() == content


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"[]", b"\xff", b""])
def test_a_damaged_config_is_named(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=helpers.mentions("config.json")):
        run_folder.write_config(tmp_path, TrainingConfig())
    assert (tmp_path / "config.json").read_bytes() == content


def test_a_run_killed_in_its_first_epoch_starts_again(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").touch()  # the logger makes it before it knows its header
    run(config)
    assert [row["epoch"] for row in helpers.log(tmp_path / "run")] == ["0", "1", "2", "3"]


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(config, tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("run nan 5")):
        run(config, loss=lambda truth, output: np.nan * output)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_step_whose_loss_is_not_finite_ends_the_run_after_its_epoch(config, tmp_path):
    steps = itertools.count(1)

    def loss(truth, output):
        return factor() * tf.reduce_mean((truth - output) ** 2, axis=-1)

    @tf.autograph.experimental.do_not_convert
    def factor():
        return tf.ensure_shape(tf.numpy_function(lambda: np.float32([1, np.inf][next(steps) == 7]), [], tf.float32), [])

    with pytest.raises(ValueError, match=helpers.mentions("run 10")):
        run(config, loss=loss)
    assert helpers.names(tmp_path / "run" / "checkpoints") == {"00000005.npz"}


def test_no_callback_looks_at_a_step(config, monkeypatch):
    """On an accelerator, a look at the loss would wait for the step to end."""
    looked = []
    monkeypatch.setattr(loop.device, "prefetched", lambda batches: batches)

    class Fit(Exception):
        pass

    def fit(self, batches, callbacks, **_):
        looked.extend(type(callback).__name__ for callback in callbacks if _sees_steps(callback))
        raise Fit

    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(Fit):
        run(config)
    assert looked == ["TensorBoard"]  # which looks at the steps that it is asked to profile, here none


def _sees_steps(callback):
    names = ("on_batch_end", "on_train_batch_end")
    return any(getattr(type(callback), name) is not getattr(keras.callbacks.Callback, name) for name in names)


def test_several_steps_at_once(config):
    model = run(config)
    several = run(dataclasses.replace(config, run=config.run + "_several"), steps_per_execution=5)
    assert int(several.optimizer.iterations) == 20
    np.testing.assert_array_equal(several.get_weights()[0], model.get_weights()[0])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The folder of a run without a break, and its variables, those of the optimizer among them."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, values(run(TrainingConfig(run=str(folder), steps=20, log_every=5)))


@pytest.mark.parametrize("kill_at", [1, 2, 4])
def test_a_killed_run_continues_as_if_it_had_never_stopped(config, tmp_path, unbroken, kill_at):
    """The learning rate is a function of the optimizer's step, and the weights depend on the order of the data."""
    with pytest.raises(helpers.Killed):
        run(config, kill_at)
    resumed = run(config)
    for expected, actual in zip(unbroken[1], values(resumed), strict=True):
        np.testing.assert_array_equal(actual, expected)
    logs = [helpers.log(folder) for folder in (unbroken[0], tmp_path / "run")]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_steps_fill_epochs(config):
    with pytest.raises(ValueError, match=helpers.mentions("--log_every 12 5")):
        loop.prepare(dataclasses.replace(config, steps=12))


def test_checkpoints_may_be_rarer_than_samples(config, tmp_path):
    run(dataclasses.replace(config, steps=15, checkpoint_every=10))
    names = [sorted(path.stem for path in (tmp_path / "run" / kind).iterdir()) for kind in ("checkpoints", "samples")]
    assert names == [["00000010", "00000015"], ["00000005", "00000010", "00000015"]]  # the last step always has one


@pytest.mark.parametrize("steps", [7, -5])
def test_checkpoints_fall_on_samples(config, steps):
    with pytest.raises(ValueError, match=helpers.mentions(f"--checkpoint_every --log_every {steps} 5")):
        loop.prepare(dataclasses.replace(config, checkpoint_every=steps))


@pytest.mark.parametrize("text", [None, "", "worker 0", "[]", '{"task": 0}', '{"cluster": {"worker": ["a:1"]}}'])
def test_workers_need_to_know_which_they_are(config, text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=helpers.mentions(f"--strategy=multi_worker TF_CONFIG {text or ''}")):
        loop.prepare(dataclasses.replace(config, strategy="multi_worker"))


def test_waiting_for_data_is_reported(monkeypatch, caplog):
    model = types.SimpleNamespace(make_train_function=lambda: None, train_function=next, steps_per_execution=1)
    clock, logs = loop._Clock(model), {}
    clock.set_params({"steps": 1})
    times = iter([0, 0, 3, 4])  # the epoch begins, the batch is asked for, it comes, the epoch ends
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(times))
    clock.on_epoch_begin(0)
    model.train_function(iter(["batch"]))
    clock.on_epoch_end(0, logs)
    assert logs == {"steps_per_second": 0.25, "input_share": 0.75}
    assert helpers.mentioned("75 %", caplog.text)


def test_several_accelerators_need_a_model_made_for_them(config):
    with pytest.raises(ValueError, match=helpers.mentions("--strategy=mirrored")):
        run(dataclasses.replace(config, strategy="mirrored"))


@pytest.mark.parametrize("flag", ["auto", "on", "off"])
@pytest.mark.parametrize("jit", [False, True])
def test_determinism_and_xla_are_two_flags(flag, jit, config):
    config = dataclasses.replace(config, deterministic=flag, jit=jit)
    if flag == "on" and jit:
        with pytest.raises(ValueError, match=helpers.mentions("--deterministic --jit")):
            loop.is_deterministic(config)
    else:
        assert loop.is_deterministic(config) == (flag == "on" or (flag == "auto" and not jit))


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_off_in_training_unless_the_flag_allows_it(tf32, config, capsys):
    try:
        loop.prepare(dataclasses.replace(config, tf32=tf32))
        assert tf.config.experimental.tensor_float_32_execution_enabled() == tf32
    finally:
        device.allow_tf32(False)
    (line,) = capsys.readouterr().out.splitlines()
    assert helpers.mentioned(f"float32 TF32 {'on' if tf32 else 'off'} XLA off deterministic on", line)


def test_a_run_that_is_older_than_a_flag_continues(config, tmp_path):
    flags = {name: value for name, value in dataclasses.asdict(config).items() if name not in ("tf32", "deterministic")}
    (tmp_path / "config.json").write_text(json.dumps(flags))
    with pytest.raises(ValueError, match=helpers.mentions("config.json tf32")):
        run_folder.write_config(tmp_path, dataclasses.replace(config, tf32=True))
    run_folder.write_config(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text()) == dataclasses.asdict(config)


def test_jit_compiles_with_xla_and_off_asks_for_no_determinism(config):
    # In a process of its own: nothing takes back the deterministic operations that the other tests ask for.
    configs = [dataclasses.replace(config, deterministic="off"), dataclasses.replace(config, run=config.run + "_jit", jit=True)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(_are_compiled, (configs,)).get(timeout=300) == ([False, True], False)


def _are_compiled(configs):
    return [run(config).jit_compile for config in configs], is_op_determinism_enabled()


def test_mixed_precision(config):
    try:
        model = run(dataclasses.replace(config, mixed_precision=True))
        assert all(np.isfinite(value).all() for value in model.get_weights())
        assert model.layers[0].compute_dtype == "bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
