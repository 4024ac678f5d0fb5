"""The run folder, checkpoints and exact resume, on a small model of one layer."""

import csv
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import training

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Killed(BaseException):
    """What a kill is to the program: no handler of its own catches it."""


def run(config, kill_at=None, loss="mse"):
    """Trains and returns the model; `kill_at` is the sample, from 1, that does not come to an end."""
    training.prepare(config)
    layers = [keras.layers.Dense(4, name="first"), keras.layers.Dropout(0.3, name="drop"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="net")
    rate = keras.optimizers.schedules.CosineDecay(0.1, 40)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=config.jit)

    def data(step):
        numbers = tf.data.Dataset.counter(step)
        values = numbers.map(lambda i: tf.random.stateless_uniform([2, 4], tf.stack([tf.cast(config.seed, tf.int64), i])))
        return values.map(lambda x: (x[:, :3], x[:, 3:]))

    samples = []

    def sample():
        samples.append(1)
        if len(samples) == kill_at:
            raise Killed
        return PICTURE

    training.fit(model, data, config, sample)
    return model


def values(model):
    return [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]


@pytest.fixture
def config(tmp_path):
    return training.TrainingConfig(run=str(tmp_path / "run"), steps=20, log_every=5)


def test_a_run_leaves_its_folder(config, tmp_path):
    run(config)
    folder = tmp_path / "run"
    assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(config)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["00000015.npz", "00000020.npz"]
    assert sorted(path.stem for path in (folder / "samples").iterdir()) == ["00000005", "00000010", "00000015", "00000020"]
    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"] and all(float(row["loss"]) > 0 for row in rows)
    assert list((folder / "logs").rglob("events.out.tfevents.*"))


def test_a_longer_run_goes_on_from_a_finished_one(config):
    run(config)
    longer = run(dataclasses.replace(config, steps=30))
    assert int(longer.optimizer.iterations) == 30


def test_a_finished_run_is_not_trained_again(config):
    first, again = run(config), run(config)
    np.testing.assert_array_equal(first.get_weights()[0], again.get_weights()[0])


def test_another_run_in_the_folder_is_refused(config):
    run(config)
    with pytest.raises(ValueError, match="config.json: the run was started with other values of seed; choose another --run"):
        run(dataclasses.replace(config, seed=1))


def test_a_checkpoint_of_another_model_is_refused(config, tmp_path):
    run(config)
    np.savez(tmp_path / "run" / "checkpoints" / "00000025.npz", other=np.zeros(3))
    with pytest.raises(ValueError, match="00000025.npz: expected the variables of this model, found differences"):
        run(dataclasses.replace(config, steps=30))


def test_a_run_killed_in_its_first_epoch_starts_again(config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").touch()  # the logger makes it before it knows its header
    run(config)
    assert [row["epoch"] for row in csv.DictReader((tmp_path / "run" / "log.csv").open())] == ["0", "1", "2", "3"]


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(config, tmp_path):
    with pytest.raises(ValueError, match="run: the loss is nan before step 5; the last checkpoint is an earlier one"):
        run(config, loss=lambda truth, found: np.nan * found)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_steps_fill_epochs(config):
    with pytest.raises(ValueError, match="multiple of --log_every, found 12 and 5"):
        training.prepare(dataclasses.replace(config, steps=12))


def test_checkpoints_may_be_rarer_than_samples(config, tmp_path):
    run(dataclasses.replace(config, steps=15, checkpoint_every=10))
    names = [sorted(path.stem for path in (tmp_path / "run" / kind).iterdir()) for kind in ("checkpoints", "samples")]
    assert names == [["00000010", "00000015"], ["00000005", "00000010", "00000015"]]  # the last step has one always


@pytest.mark.parametrize("steps", [7, -5])
def test_checkpoints_fall_on_samples(config, steps):
    with pytest.raises(ValueError, match=f"--checkpoint_every to be a multiple of --log_every, found {steps} and 5"):
        training.prepare(dataclasses.replace(config, checkpoint_every=steps))


@pytest.mark.parametrize("told", [None, "", "worker 0", "[]", '{"task": 0}', '{"cluster": {"worker": ["a:1"]}}'])
def test_workers_are_told_which_they_are(config, told, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if told is not None:
        monkeypatch.setenv("TF_CONFIG", told)
    with pytest.raises(ValueError, match=f"--strategy=multi_worker: expected TF_CONFIG .*, found {re.escape(told or '')}"):
        training.prepare(dataclasses.replace(config, strategy="multi_worker"))


def test_waiting_for_data_is_told(monkeypatch, caplog):
    model = types.SimpleNamespace(make_train_function=lambda: None, train_function=next)
    clock, logs = training._clock(model), {}
    clock.set_params({"steps": 1})
    times = iter([0, 0, 3, 4])  # the epoch begins, the batch is asked for, it comes, the epoch ends
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(times))
    clock.on_epoch_begin(0)
    model.train_function(iter(["batch"]))
    clock.on_epoch_end(0, logs)
    assert logs == {"steps_per_second": 0.25, "input_share": 0.75}
    assert "75 % of the time went into waiting for data" in caplog.text


def test_several_accelerators_need_a_model_made_for_them(config):
    with pytest.raises(ValueError, match="--strategy=mirrored: this network is trained on one accelerator"):
        run(dataclasses.replace(config, strategy="mirrored"))


def test_jit_compiles_with_xla(config):
    # In a process of its own: nothing takes back the deterministic operations that the other tests ask for.
    flags = dataclasses.asdict(config) | {"jit": True}
    script = f"import test_training as t; assert t.run(t.training.TrainingConfig(**{flags})).jit_compile"
    folder = pathlib.Path(__file__).parent
    result = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_mixed_precision(config):
    try:
        model = run(dataclasses.replace(config, mixed_precision=True))
        assert all(np.isfinite(value).all() for value in model.get_weights())
        assert model.layers[0].compute_dtype == "bfloat16"
    finally:
        keras.mixed_precision.set_global_policy("float32")
