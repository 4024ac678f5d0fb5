"""ESBN's networks beyond what every network has to do: sizes, the enlarging convolution, precision, the joined model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import systems
from hdr_tf.models import blocks, esbn

EXPOSURES = np.array([[0.25, 1, 4]], "float32")


def _draw(names, height=16, width=24, batch=1):
    generator = np.random.default_rng(0)
    return {name: generator.uniform(-1, 1, (batch, height, width, 3)).astype("float32") for name in names}


def _enliven(model):
    """Draws kernels that keep the size of the features, and uneven norms: the published start hides errors below float32."""
    generator = np.random.default_rng(1)
    for variable in model.weights:
        if variable.name == "kernel":
            variable.assign(generator.normal(0, np.prod(variable.shape[:-1]) ** -0.5, variable.shape))
        else:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))


@pytest.fixture(scope="module")
def joined():
    model = systems.build("esbn_end_to_end", align_filters=4, filters=4, growth=2)
    _enliven(model)
    return model


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 5), (8, 7)])
def test_enlarging_convolution_equals_the_plain_one(size, height, width):
    enlarging = blocks.EnlargingConvolution(6, size)
    x = np.random.default_rng(0).normal(size=(2, height, width, 5)).astype("float32")
    enlarging.build(x.shape)
    enlarging.bias.assign(np.arange(6))
    found = enlarging(x)
    plain = keras.layers.Conv2D(6, size, padding="same")
    plain.build((None, None, None, 5))
    plain.set_weights(enlarging.get_weights())
    expected = plain(x.repeat(2, 1).repeat(2, 2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)  # float32: taps are added before they are multiplied
    assert enlarging.compute_output_shape(x.shape) == found.shape


@pytest.mark.parametrize("name", ["esbn_align", "esbn_fusion"])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 15), (13, 24), (16, 17)])
def test_other_sizes_are_mirrored_and_cropped(joined, name, height, width):
    model = joined.get_layer("esbn_align_low" if name == "esbn_align" else name)
    images = _draw(model.input, height, width)
    padding = ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0))
    padded = {key: np.pad(image, padding, mode="reflect") for key, image in images.items()}
    (found,) = model(images).values()
    (expected,) = model(padded).values()
    np.testing.assert_array_equal(found, expected[:, :height, :width])  # the same operations


def test_size_is_known_to_whoever_asks(joined):
    shapes = {name: tuple(output.shape) for name, output in joined.output.items()}
    assert shapes == dict.fromkeys(("aligned_low", "aligned_high", "hdr"), (None, None, None, 3))
    assert blocks.PadToMultiple(8).compute_output_shape((2, 9, None, 3)) == (2, 16, None, 3)


def test_start_of_the_training():
    model = systems.build("esbn_fusion")
    for variable in model.weights:
        if variable.name == "bias":
            assert not variable.numpy().any()
        elif variable.shape[2] >= 64:  # enough values for statistics
            assert variable.numpy().std() == pytest.approx(0.0088, rel=0.05)  # 0.01, truncated at two deviations
            assert np.abs(variable.numpy()).max() <= 0.02


def test_radiance_input_by_hand():
    images = np.array([-1, 0, 1], "float32").reshape(1, 1, 3, 1).repeat(2, 0)
    found = esbn.radiance_input(images, np.array([0.25, 4], "float32"))
    half = 0.5**2.2
    np.testing.assert_allclose(found[..., 0], [[[-1, 8 * half - 1, 7]], [[-1, half / 2 - 1, -0.5]]], rtol=1e-6)


def test_joined_model_equals_the_three_networks(joined):
    images = _draw(esbn.EXPOSURES, 13, 17)
    expected, inputs = {}, dict(images)
    for at, side in ((0, "low"), (2, "high")):
        align = joined.get_layer(f"esbn_align_{side}")
        aligned = align(
            {
                "ldr_low": images[f"ldr_{side}"],
                "hdr_low": images[f"hdr_{side}"],
                "ldr_mid": images["ldr_mid"],
                "hdr_mid": images["hdr_mid"],
            }
        )["aligned"]
        expected[f"aligned_{side}"] = inputs[f"ldr_{side}"] = aligned
        inputs[f"hdr_{side}"] = ((np.asarray(aligned, "float64") + 1) / 2) ** 2.2 / EXPOSURES[0, at] * 2 - 1
    expected |= joined.get_layer("esbn_fusion")({name: np.asarray(value, "float32") for name, value in inputs.items()})
    found = joined(images | {"exposures": EXPOSURES})
    assert set(found) == set(expected) == {"aligned_low", "aligned_high", "hdr"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5, err_msg=name)  # float32 power against float64


def test_loss_of_the_merged_image_trains_the_alignment(joined):
    images = _draw(esbn.EXPOSURES, 16, 16) | {"exposures": EXPOSURES}
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(joined(images, training=True)["hdr"] ** 2)
    gradients = tape.gradient(loss, joined.trainable_variables)
    for variable, gradient in zip(joined.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path


def test_a_black_aligned_image_has_a_gradient():
    image = tf.Variable(np.full((1, 2, 2, 3), -1, "float32"))
    with tf.GradientTape() as tape:
        values = esbn.radiance_input(image, np.ones(1, "float32"))
    np.testing.assert_array_equal(values, np.full((1, 2, 2, 3), -1))
    assert np.isfinite(tape.gradient(values, image)).all()


def test_paths_of_the_joined_model_are_unique(joined):
    paths = [variable.path for variable in joined.weights]
    assert len(set(paths)) == len(paths) == 2 * len(esbn.align_names()) + len(esbn.fusion_names())


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(joined, precision):
    exact = joined.get_layer("esbn_align_low")
    keras.config.set_dtype_policy(precision)
    try:
        mixed = systems.build("esbn_align", filters=4)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(exact.get_weights())
    images = _draw(mixed.input, 32, 32, batch=2)
    outputs = {}
    for name, model in (("mixed", mixed), ("exact", keras.models.clone_model(exact))):
        model.set_weights(exact.get_weights())
        outputs[name] = model(images, training=True)["aligned"].numpy(), model.get_weights()
    assert mixed.get_layer("decoder_conv3").compute_dtype == precision.removeprefix("mixed_")
    assert outputs["mixed"][0].dtype == np.float32
    for variable in mixed.weights:
        assert variable.dtype == "float32", variable.path
    # A tanh of features that are off by 2**-8 or 2**-11 in each of thirty layers.
    assert np.abs(outputs["mixed"][0] - outputs["exact"][0]).mean() < 0.03
    # Moving statistics are kept in float32: a mean of many values hardly moves.
    moved = mixed.get_layer("low_encoder_norm2").moving_variance.numpy()
    assert (moved.astype("bfloat16" if "b" in precision else "float16").astype("float32") != moved).any()
    index = [variable.path for variable in mixed.weights].index("low_encoder_norm2/moving_variance")
    np.testing.assert_allclose(outputs["mixed"][1][index], outputs["exact"][1][index], rtol=0.01)
