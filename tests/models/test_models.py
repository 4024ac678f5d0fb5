"""What every network has to do: any size from 8 up, finite output, gradients everywhere, and the same output after saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import systems
from hdr_tf.models import ahdrnet, blocks, densefuse, esbn
from tests import helpers

# Range of the images of each model, and channels.
IMAGES = {
    "pyramid": (0, 1, 3),
    "deepfuse_official": (0, 255, 1),
    "deepfuse_sunnerli": (-1, 1, 1),
    "densefuse_gray": (0, 255, 1),
    "densefuse_rgb": (0, 255, 3),
    "hyperp_mb": (0, 255, 1),
    "esbn_align": (-1, 1, 3),
    "esbn_fusion": (-1, 1, 3),
    "esbn_end_to_end": (-1, 1, 3),
    "ahdrnet": (0, 1, 3),
    "fshdr": (0, 1, 3),
    "hdr_transformer": (0, 1, 3),
    "sctnet": (0, 1, 3),
}
NARROW = {  # arguments of the builders, for speed
    "esbn_align": {"filters": 4},
    "esbn_fusion": {"filters": 4, "growth": 2},
    "esbn_end_to_end": {"align_filters": 4, "filters": 4, "growth": 2},
    "ahdrnet": {"filters": 8, "growth": 16},  # so many that a ReLU of each convolution is alive
    "fshdr": {"filters": 4},
    "hdr_transformer": {"depths": (2,), "drop": 0},  # else training may leave out a block, and with it its gradients
    "sctnet": {"depths": (2,), "drop": 0},
}
SIZES = [(8, 8), (13, 17), (31, 64)]


@pytest.fixture(scope="module", params=[name for name in systems.networks() if name in IMAGES])
def model(request):
    """Each network with weights from the first seed that leaves it alive: for half of the seeds a final ReLU starts dead.

    The alignment networks of `esbn_end_to_end` have one residual block each, since `esbn_align` itself is tested in full depth.
    """
    blocks = 1 if request.param == "esbn_end_to_end" else esbn.BLOCKS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esbn, "BLOCKS", blocks)
        return _alive(request.param)


def _alive(name):
    for seed in range(20):
        keras.utils.set_random_seed(seed)
        model = systems.build(name, **NARROW.get(name, {}))
        if name.startswith("esbn"):
            helpers.draw_kernels(model, np.random.default_rng(0))
        if np.any(_fuse(model, _draw(model, 13, 17))):
            return model
    pytest.fail(f"{name} returns only zeros")


def _draw(model, height, width, seed=0):
    low, high, channels = IMAGES[model.name]
    generator = np.random.default_rng(seed)
    shape = (1, height, width, channels)
    return {name: generator.uniform(low, high, shape).astype("float32") for name in _names(model)} | _exposures(model)


def _flat(model, level, height=13, width=17):
    low, high, channels = IMAGES[model.name]
    value = np.full((1, height, width, channels), low + level * (high - low), "float32")
    return dict.fromkeys(_names(model), value) | _exposures(model)


def _names(model):
    return sorted(model.input.keys() - {"exposures"})


def _exposures(model):
    return {"exposures": np.array([[1, 4, 16]], "float32")} if "exposures" in model.input else {}


def _fuse(model, images):
    """All output images, one after the other."""
    return tf.concat(list(model(images).values()), 0).numpy()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_odd_sizes(model, height, width):
    fused = _fuse(model, _draw(model, height, width))
    assert fused.shape == (len(model.output), height, width, IMAGES[model.name][2])
    assert np.isfinite(fused).all()


@pytest.mark.parametrize(("height", "width"), [(7, 64), (64, 7), (1, 1)])
def test_too_small(model, height, width):
    with pytest.raises(ValueError, match=rf"\b8 ?x ?8\b.*\b{height} ?x ?{width}\b"):
        model(_draw(model, height, width))


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_flat_images_give_finite_output(model, level):
    assert np.isfinite(_fuse(model, _flat(model, level))).all()


def test_one_pixel_matters(model):
    images = _draw(model, 13, 17)
    before = _fuse(model, images)
    for name in _names(model):
        changed = {key: value.copy() for key, value in images.items()}
        changed[name][0, 6, 8] = changed[name][0, 6, 8].mean() * -0.5 + 0.3 * IMAGES[model.name][1]
        assert np.abs(_fuse(model, changed) - before).max() > 1e-6 * np.abs(before).max(), name


def test_gradient_reaches_every_variable(model):
    with tf.GradientTape() as tape:
        fused = tf.concat(list(model(_draw(model, 31, 64), training=True).values()), 0)
        loss = tf.reduce_mean(tf.random.stateless_normal(fused.shape, [0, 1]) * fused)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_keras_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    images = _draw(model, 13, 17)
    # The same operations in the same order: equal to the last bit.
    np.testing.assert_array_equal(_fuse(loaded, images), _fuse(model, images))


LONG = ("pyramid", "esbn_end_to_end", "sctnet")  # ten seconds each


@pytest.mark.parametrize(
    ("name", "deep"),
    [
        *(pytest.param(name, False, marks=pytest.mark.slow if name in LONG else ()) for name in IMAGES),
        *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("esbn_align", "esbn_fusion")),
    ],
)
def test_saved_model_round_trip(name, deep, tmp_path, monkeypatch):
    """Mostly of shallow networks, whose layers are those of the deep ones: Keras traces a network seven times."""
    for module in (esbn, ahdrnet) if not deep else ():
        monkeypatch.setattr(module, "BLOCKS", 1)
        monkeypatch.setattr(module, "DENSE", 1)
    model = _alive(name)
    model(_draw(model, 31, 64))
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(str(tmp_path / "saved"))
    for height, width in SIZES:
        images = _draw(model, height, width)
        expected = _fuse(model, images)
        # Compiled, TensorFlow joins convolution, bias and activation: float32 sums in another order.
        found = saved.serve(images)
        found = np.concatenate([found[name] for name in model.output])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match=helpers.mentions("deepfuse pyramid deepfuse_official")):
        systems.build("deepfuse")


@pytest.mark.parametrize("name", [name for name, network in systems.networks().items() if network.original_names])
def test_weight_map_is_complete(name):
    names = systems.resolve(systems.networks()[name].original_names)()
    assert {variable.path for variable in systems.build(name).weights} == set(names)


def test_attention_is_reachable_by_its_option():
    runners = [systems.load_runner("densefuse_gray", strategy=strategy) for strategy in (None, "mean", "attention")]
    images = [helpers.noise(24, 32, seed=seed) for seed in (0, 1)]
    default, mean, attention = (runner.fuse(images) for runner in runners)
    np.testing.assert_array_equal(default, mean)
    assert np.any(attention != mean)


@pytest.mark.parametrize("strategy", densefuse.STRATEGIES)
def test_densefuse_of_an_image_with_itself_is_its_reconstruction(strategy):
    model = systems.build("densefuse_gray", exposures=3, strategy=strategy)
    image = _draw(systems.build("densefuse_gray"), 13, 17)["exposure_1"]
    expected = model.get_layer("decoder")(model.get_layer("encoder")(image))
    fused = _fuse(model, dict.fromkeys(model.input, image))
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-5 * np.abs(expected).max())  # three thirds in float32


def test_attention_by_hand():
    # Sums over channels 0 and log(3): weights 1/4 and 3/4.
    features = [np.zeros((1, 1, 1, 2), "float32"), np.array([0, np.log(3)], "float32").reshape(1, 1, 1, 2)]
    np.testing.assert_allclose(np.ravel(densefuse.attention(features)), [0, 0.75 * np.log(3)], rtol=1e-6)


def test_attention_does_not_overflow():
    features = [np.full((1, 8, 8, 64), value, "float32") for value in (600, 601)]  # exp(64 * 600) is infinite in float64 too
    # On some CPUs TensorFlow's softmax is off by one unit in the last place.
    np.testing.assert_allclose(densefuse.attention(features), features[1], rtol=2e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exposures": 1}, "2 1"),
        ({"strategy": "max"}, "max mean"),
    ],
)
def test_densefuse_refuses(arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        systems.build("densefuse_rgb", **arguments)


def test_deepfuse_official_of_black_images_is_black():
    model = systems.build("deepfuse_official")
    assert _fuse(model, _flat(model, 0)).max() == 0


def test_deepfuse_is_symmetric():
    for name in ("deepfuse_official", "deepfuse_sunnerli"):
        model = systems.build(name)
        images = _draw(model, 13, 17)
        swapped = {"under": images["over"], "over": images["under"]}
        np.testing.assert_array_equal(_fuse(model, swapped), _fuse(model, images))


@pytest.mark.parametrize("name", ["deepfuse_official", "deepfuse_sunnerli", "densefuse_gray", "densefuse_rgb", "hyperp_mb"])
def test_exposures_twice_are_exposures_once(name):
    """Features of more than two exposures are averaged; if their number is odd, HyperP_MB uses the middle one twice."""
    networks = {count: systems.build(name, exposures=count) for count in (2, 3, 4)}
    generator = np.random.default_rng(2)
    weights = [np.abs(generator.normal(0, 0.01, v.shape)) for v in networks[2].variables]  # positive ones keep every ReLU alive
    for network in networks.values():
        assert [v.path for v in network.variables] == [v.path for v in networks[2].variables]
        network.set_weights(weights)
    low, high, channels = IMAGES[name]
    under, middle, over = generator.uniform(low, high, (3, 1, 13, 17, channels)).astype("float32")

    def fuse(*images):
        network = networks[len(images)]
        return np.asarray(network(dict(zip(network.input, images, strict=True)))["fused"])

    pair = fuse(under, over)
    assert np.ptp(pair) > 0
    np.testing.assert_allclose(fuse(under, under, over, over), pair, atol=2e-6 * np.abs(pair).max())
    three = fuse(under, middle, over)
    if name == "hyperp_mb":
        np.testing.assert_allclose(three, fuse(under, middle, middle, over), atol=2e-6 * np.abs(three).max())
    else:
        np.testing.assert_allclose(three, fuse(over, under, middle), atol=2e-6 * np.abs(three).max())


def _window_attention(x, bias, heads, shifted):
    """The original's window attention pixel by pixel in float64: x [B, H, W, 3 C], bias [225, heads] -> [B, H, W, C]."""
    batch, height, width, channels = x.shape
    query, key, value = x.reshape(batch, height, width, 3, heads, -1).transpose(3, 0, 1, 2, 4, 5)
    region = np.zeros((height, width), int)  # of the rolled image, as the original counts them
    if shifted:
        for i, rows in enumerate((slice(0, -8), slice(-8, -4), slice(-4, None))):
            for j, columns in enumerate((slice(0, -8), slice(-8, -4), slice(-4, None))):
                region[rows, columns] = 3 * i + j
    result = np.zeros((batch, height, width, heads, channels // (3 * heads)))
    shift = 4 if shifted else 0
    for top, left in np.ndindex(height // 8, width // 8):
        pixels = [(8 * top + i, 8 * left + j) for i in range(8) for j in range(8)]
        regions = np.array([region[pixel] for pixel in pixels])
        index = np.array([[(a[0] - b[0] + 7) * 15 + a[1] - b[1] + 7 for b in pixels] for a in pixels])
        y, x = np.transpose([((i + shift) % height, (j + shift) % width) for i, j in pixels])
        products = np.einsum("bnhc,bmhc->bhnm", query[:, y, x], key[:, y, x]) / np.sqrt(query.shape[-1])
        products += bias[index].transpose(2, 0, 1) - 100 * (regions[:, None] != regions)
        weights = np.exp(products - products.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        result[:, y, x] = np.einsum("bhnm,bmhc->bnhc", weights, value[:, y, x])
    return result.reshape(batch, height, width, -1)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 24), (24, 8)])
def test_window_attention_equals_a_loop_over_windows(height, width, shifted, monkeypatch):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, height, width, 24)).astype("float32")
    layer = blocks.WindowAttention(heads=2, shifted=shifted)
    layer.build(x.shape)
    layer.position_bias.assign(generator.normal(size=(225, 2)))
    expected = _window_attention(x.astype("float64"), np.asarray(layer.position_bias, "float64"), 2, shifted)
    for training in (False, True):  # row by row, and all at once
        np.testing.assert_allclose(layer(x, training=training), expected, rtol=0, atol=2e-6)  # float32 against float64
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    for rows in (1, 4, 100):  # at once, of 2 to 6 in all
        monkeypatch.setattr(blocks, "GROUP", rows * width // 8 * 2 * 64**2)
        np.testing.assert_allclose(layer(x, training=False), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["hdr_transformer", "sctnet"])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (13, 23)])
def test_padding_of_the_original_s_test(name, height, width):
    """Half of 8 - size % 8 before and the rest after, a whole 8 where nothing is missing; mirrored, then cropped."""
    model, padding = systems.build(name, depths=(2,)), systems.build(name, depths=(2,), test_padding=True)
    padding.set_weights(model.get_weights())
    images = _draw(model, height, width)
    missing = [8 - size % 8 for size in (height, width)]
    around = [(0, 0), *((pixels // 2, pixels - pixels // 2) for pixels in missing), (0, 0)]
    padded = model({key: np.pad(image, around, "reflect") for key, image in images.items()})["hdr"]
    top, left = around[1][0], around[2][0]
    found = padding(images)["hdr"]
    assert np.ptp(found) > 0
    expected = padded[:, top : top + height, left : left + width]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # threads add up in another order


def test_blocks_are_skipped_more_often_the_deeper_they_are():
    first, second = blocks.drop_rates((2, 3), 0.1)
    assert [*first, *second] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1]) and len(first) == 2
    assert blocks.drop_rates((1,), 0.1) == [[0]]


def test_a_skipped_block_hands_on_its_input():
    image = keras.Input((8, 8, 12))
    model = keras.Model(image, blocks.swin_block(image, 6, False, 0.5, "block")[0])
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 12)).astype("float32")
    keras.utils.set_random_seed(0)
    skipped = np.all(np.asarray(model(x, training=True)) == x, axis=(1, 2, 3))
    assert 4 < skipped.sum() < 28  # both parts of a quarter of the examples; five deviations of the binomial distribution
    assert not np.any(np.asarray(model(x)) == x, axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    ("name", "filters", "message"),
    [
        ("hdr_transformer", 20, "6 8 20"),
        ("hdr_transformer", 6, "8 6"),
        ("sctnet", 30, "6 12 30"),
    ],
)
def test_transformers_refuse(name, filters, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        systems.build(name, filters=filters)
