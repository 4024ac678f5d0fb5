"""Training of the published fusion networks, from records to weights: batches, dead starts, run folder, exact resume."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import weights
from hdr_tf.io import image_files
from hdr_tf.systems import build
from hdr_tf.training import initialization, kfac, loop
from hdr_tf.training.config import TrainingConfig
from tests import helpers
from tfrecords import dataset, examples, images
from train import deepfuse, densefuse, hyperp_mb

SIZE = 40  # of the images
TINY = {"steps": 2, "log_every": 1, "patch": 32}
SCRIPTS = {
    "deepfuse_official": (deepfuse, {"batch": 2}),
    "deepfuse_sunnerli": (deepfuse, {"form": "sunnerli", "batch": 2}),
    "densefuse_gray": (densefuse, {"batch": 2}),
    "hyperp_mb": (hyperp_mb, {}),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Five brackets of three exposures in trios/, the same images in images/."""
    folder = tmp_path_factory.mktemp("fusion")
    noise = np.random.default_rng(0).random((5, SIZE, SIZE, 3))
    for name, gain in {"input1": 80, "target": 180, "input2": 400}.items():
        (folder / name).mkdir()
        for number in range(5):
            pixels = np.clip(noise[number] * gain, 0, 255).astype(np.uint8)
            image_files.write_image(folder / name / f"{number}.png", pixels)
    images.write_triplets(folder / "trios", folder, SIZE, shards=2, num_processes=1)
    images.write_images(folder / "images", folder / "target", SIZE, shards=2, num_processes=1)
    return folder


@pytest.fixture(scope="module")
def train(sets, tmp_path_factory):
    """train(name, run, **flags) runs a script with tiny settings and returns the run folder."""
    folder = tmp_path_factory.mktemp("runs")

    def train(name, run="", **flags):
        script, own = SCRIPTS[name]
        script.main(script.Config(data=str(sets / "trios"), run=str(folder / (run or name)), **TINY | own | flags))
        return folder / (run or name)

    return train


@pytest.fixture(scope="module")
def runs(train):
    """runs(name) is the folder of an unbroken run, made when first asked for."""
    return functools.cache(train)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_run_leaves_its_folder(name, runs):
    run = runs(name)
    assert [path.name for path in run.glob("*.h5")] == [f"{name}.weights.h5"]
    model = build(name)
    weights.load_weights(model, run / f"{name}.weights.h5")
    stored = helpers.checkpoint(run, 2)
    for variable in model.trainable_variables:  # those that were trained, in the network that is used
        same = [value for path, value in stored.items() if value.shape == variable.shape and np.array_equal(value, variable)]
        assert same, variable.path
    assert stored["adam/iteration"] == 2 and json.loads((run / "config.json").read_text())["patch"] == 32
    assert [path.name for path in sorted((run / "samples").iterdir())] == ["00000001.png", "00000002.png"]
    for row in helpers.log(run):
        assert np.isfinite(float(row["loss"]))
        assert float(row["steps_per_second"]) > 0 and 0 < float(row["input_share"]) < 1
    if name in ("densefuse_gray", "hyperp_mb"):
        factor, (row, *_) = {"densefuse_gray": 100, "hyperp_mb": 1000}[name], helpers.log(run)
        least = float(row["pixel"]) + factor * float(row["ssim"])  # lambdas add up to 2
        assert float(row["loss"]) == pytest.approx(least, rel=1e-5 if name == "densefuse_gray" else 1)


@pytest.mark.parametrize("name", ["deepfuse_sunnerli", pytest.param("hyperp_mb", marks=pytest.mark.slow)])
def test_a_run_stopped_early_continues_as_if_it_had_never_stopped(name, train, runs):
    stopped = train(name, f"{name}_stopped", steps=1)
    assert [row["epoch"] for row in helpers.log(stopped)] == ["0"]
    (stopped / f"{name}.weights.h5").unlink()
    train(name, stopped.name)
    actual, expected = helpers.checkpoint(stopped, 2), helpers.checkpoint(runs(name), 2)
    assert actual.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(actual[path], expected[path], err_msg=path)
    assert [row["loss"] for row in helpers.log(stopped)] == [row["loss"] for row in helpers.log(runs(name))]
    assert (stopped / "samples/00000002.png").read_bytes() == (runs(name) / "samples/00000002.png").read_bytes()


@pytest.mark.parametrize("name", ["densefuse_gray", pytest.param("hyperp_mb", marks=pytest.mark.slow)])
def test_natural_gradient_starts_from_weights(name, train, runs, monkeypatch):
    monkeypatch.setattr(kfac, "INVERT_EVERY", 1)
    monkeypatch.setattr(kfac, "POSITIONS", 64)
    with pytest.raises(ValueError, match=helpers.mentions("--optimizer=kfac --weights")):
        train(name, f"{name}_kfac", optimizer="kfac")
    start = runs(name) / f"{name}.weights.h5"
    flags = {"optimizer": "kfac", "schedule": "cosine", "weights": str(start), "learning_rate": 1e-2}
    run = train(name, f"{name}_kfac", **flags)
    models = [build(name) for _ in range(2)]
    for model, path in zip(models, (start, run / start.name), strict=True):
        weights.load_weights(model, path)
    moved = [np.any(a != b) for a, b in zip(*(model.get_weights() for model in models), strict=True)]
    assert all(moved) and all(np.isfinite(float(row["loss"])) for row in helpers.log(run))


def test_hyperp_mb_starts_as_the_autoencoder_of_the_flag(train, tmp_path):
    autoencoder = build("densefuse_gray")
    weights.save_weights(autoencoder, tmp_path / "densefuse_gray.weights.h5")
    flags = {"autoencoder": str(tmp_path / "densefuse_gray.weights.h5"), "learning_rate": 0.0, "steps": 1}
    run = train("hyperp_mb", "hyperp_mb_begun", **flags)
    network = build("hyperp_mb")
    weights.load_weights(network, run / "hyperp_mb.weights.h5")
    under, over = np.float32(np.random.default_rng(0).uniform(0, 255, (2, 1, 20, 24, 1)))
    expected = autoencoder({"exposure_1": under, "exposure_2": over})["fused"]
    np.testing.assert_allclose(network({"under": under, "over": over})["fused"], expected, rtol=1e-6, atol=1e-5)


@pytest.mark.slow
def test_densefuse_in_colour_from_images_with_mixed_precision(sets, train):
    try:
        densefuse.main(
            densefuse.Config(
                data=str(sets / "images"),
                run=str(sets / "rgb"),
                colour="rgb",
                mixed_precision=True,
                **TINY | {"batch": 2, "steps": 1},
            )
        )
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model = build("densefuse_rgb")
    weights.load_weights(model, sets / "rgb" / "densefuse_rgb.weights.h5")
    assert all(np.isfinite(value).all() for value in model.get_weights())


def test_sample_of_sunnerli_shows_under_over_fused_and_target(sets, runs):
    sheet = image_files.read_image(runs("deepfuse_sunnerli") / "samples/00000002.png").pixels
    assert sheet.shape == (2 * 32, 4 * 32, 3) and (sheet == sheet[..., :1]).all()
    under, over, fused, target = (part.astype(float) for part in np.split(sheet[..., 0], 4, axis=1))
    assert under.mean() < over.mean()
    darker = ((under - 127.5) ** 2).sum() > ((over - 127.5) ** 2).sum()
    expected = (3 * under + over) / 4 if darker else (5 * over - under) / 4
    assert np.abs(target - np.clip(expected, 0, 255)).max() <= 1.5  # each of the three is rounded
    assert np.ptp(fused) > 0


def test_training_moves_every_variable(runs):
    first, last = (np.load(runs("hyperp_mb") / "checkpoints" / f"0000000{step}.npz") for step in (1, 2))
    trained = [path for path in first if "adam" not in path and path.endswith(("kernel", "bias"))]
    moved = {path: (first[path] != last[path]).any() for path in trained}
    assert len(moved) == 24 and all(moved.values()), moved  # two encoders and a decoder of four convolutions each


def batches(folder, seed=0, start=0, count=4, exposures=1):
    example = functools.partial(examples.densefuse, patch=8, channels=3)
    examples_ = dataset.example_dataset(folder, example, 2, exposures, seed, start)
    return [batch["picture"].numpy() for batch in examples_.take(count)]


@pytest.mark.parametrize("kind", ["trios", "images"])
def test_examples_depend_on_seed_and_step_alone(sets, kind):
    first = batches(sets / kind)
    assert {batch.shape for batch in first} == {(2, 8, 8, 3)} and {batch.dtype for batch in first} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(first, batches(sets / kind))
    np.testing.assert_array_equal(first[3:], batches(sets / kind, start=3, count=1))  # beyond the end of the first epoch
    assert not np.array_equal(first, batches(sets / kind, seed=1))
    assert len({batch.tobytes() for batch in first}) == 4


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": ""}, "--data"),
        ({"data": "nowhere"}, "nowhere/manifest.json"),
        ({"patch": 41}, "trios 41 x 41 40 x 40"),
        ({"log_every": 3}, "--log_every 2 3"),
    ],
)
def test_flags_that_cannot_be(name, flags, message, sets, tmp_path):
    script, own = SCRIPTS[name]
    with pytest.raises(ValueError, match=helpers.mentions(message)) as error:
        script.main(script.Config(**{"data": str(sets / "trios"), "run": str(tmp_path / "run")} | TINY | own | flags))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_records_that_do_not_fit(sets):
    with pytest.raises(ValueError, match=helpers.mentions("bracket images")):
        batches(sets / "images", exposures=2)
    with pytest.raises(ValueError, match=helpers.mentions("trios 4 3")):
        batches(sets / "trios", exposures=4)


def test_defaults_are_the_originals():
    assert dataclasses.asdict(deepfuse.Config())["form"] == "official"
    assert deepfuse.FORMS["official"] == {"steps": 60_000, "batch": 50, "patch": 77, "learning_rate": 1e-3}
    assert deepfuse.FORMS["sunnerli"] == {"steps": 600, "batch": 8, "patch": 256, "learning_rate": 1e-4}
    dense, hyperp = densefuse.Config(), hyperp_mb.Config()
    assert (dense.steps, dense.batch, dense.patch, dense.learning_rate, dense.ssim_weight) == (40_000, 4, 256, 1e-4, 100)
    assert (hyperp.steps, hyperp.patch, hyperp.learning_rate, hyperp.ssim_weight) == (40 * 460, 256, 1e-4, 1000)


def start(bias):
    """A network of one convolution with ReLU."""
    image = keras.Input((None, None, 1), name="picture")
    layer = keras.layers.Conv2D(2, 1, activation="relu", kernel_initializer="zeros", name="last")
    network = keras.Model({"picture": image}, {"fused": layer(image)})
    layer.bias.assign(bias)
    return network


def test_dead_networks_are_drawn_again(caplog):
    batch = {"picture": tf.ones([2, 4, 4, 1]), "other": tf.ones([2])}
    biases = iter([[0, 0], [1, -1], [1, 2]])  # the second is dead in one channel
    with caplog.at_level("WARNING", logger="absl"):
        network = initialization.draw_alive(lambda: start(next(biases)), batch)
    np.testing.assert_array_equal(network.get_layer("last").bias, [1, 2])
    assert helpers.mentioned("2", caplog.messages[-1])
    with pytest.raises(ValueError, match=helpers.mentions("3 --seed")):
        initialization.draw_alive(lambda: start([0, 1]), batch, tries=3)


@pytest.mark.parametrize("name", ["densefuse_gray", "hyperp_mb"])
def test_initial_weights_are_pytorch_s(name):
    """Kernels and biases uniform within 1 / sqrt(fan in): torch's kaiming_uniform(a=sqrt(5)) and its bias."""
    network = build(name)
    for variable in network.trainable_variables:
        layer = variable.path.rsplit("/", 1)[0]
        (kernel,) = (v for v in network.trainable_variables if v.path == f"{layer}/kernel")
        bound = np.prod(kernel.shape[:3]) ** -0.5
        assert np.abs(variable).max() <= bound
        if np.size(variable) > 500:
            assert np.std(variable) == pytest.approx(bound / 3**0.5, rel=0.1)


def test_the_log_shows_what_the_data_cost(tmp_path):
    loop.prepare(config := TrainingConfig(run=str(tmp_path / "run"), steps=4, log_every=2))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="layer")], name="net")
    model.compile("adam", "mse")

    def slow(x):
        tf.py_function(lambda: __import__("time").sleep(0.2), [], [])
        return x, x[:, :1]

    def data(step):
        return tf.data.Dataset.from_tensors(tf.ones([2, 3])).repeat().map(slow)

    loop.fit(model, data, config, lambda: np.zeros((8, 8, 3), np.uint8))
    last = helpers.log(tmp_path / "run")[-1]
    assert 0 < float(last["input_share"]) < 1
    assert 0 < float(last["steps_per_second"]) < 5  # each step waits for 0.2 s
