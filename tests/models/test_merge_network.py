"""The merge network: what it can do without training, what holds whatever its weights are, and its runner in tiles."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import losses, systems, weights
from hdr_tf.image import noise as noise_model
from hdr_tf.image import tone
from hdr_tf.models.merge import merge
from hdr_tf.radiance import merge as runners
from hdr_tf.radiance.merge_classical import MergeClassical, middle
from tests import helpers

NOISE = noise_model.Noise(1e-4, 5e-4, 1 / 65535)
STOPS = {2: (0.0, 2.0), 3: (-2.0, 0.0, 3.0), 9: tuple(np.arange(9) - 4.0)}


def truth_of(stops, height, width):
    """Radiance relative to the reference's clip: from the dark to where the shortest exposure is nearly clipped."""
    scene = helpers.smooth_scene(height, width)
    return np.float32((0.01 + 0.75 * scene**3) / 2 ** min(stops))


def still(count, height=24, width=40, noise=(0, 0, 0, 0)):
    """The inputs for a bracket where nothing moves, without noise, and its true radiance."""
    stops = STOPS[count]
    truth = truth_of(stops, height, width)
    images = np.stack([tone.to_exposure(truth, 2.0**stop) for stop in stops])[None]
    inputs = {"images": images, "inside": np.ones((*images.shape[:4], 1)), "exposures": [2.0 ** np.array(stops)]}
    inputs |= {"reference": [np.equal(stops, 0)], "noise": [noise]}
    return {name: np.float32(values) for name, values in inputs.items()}, truth


def moving(count, height=24, width=40, seed=0, noise=(1e-4, 1e-3, 1 / 255, 5e-4)):
    """Inputs that fit together in no way."""
    rng = np.random.default_rng(seed)
    inputs, _ = still(count, height, width, noise)
    inputs["images"] = rng.random(inputs["images"].shape, np.float32)
    inputs["inside"] = np.float32(rng.choice([0, 1, 2], inputs["inside"].shape, p=[0.2, 0.4, 0.4]))
    return inputs


def run(network, inputs):
    return {name: keras.ops.convert_to_numpy(values) for name, values in network(inputs, training=False).items()}


@pytest.fixture(scope="module")
def untrained():
    return merge()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_sixteen_bits_do_not_reach_the_variances(policy, untrained):
    """Without training the network corrects nothing, so what is left is computed in float32: the result is the same."""
    keras.config.set_dtype_policy(policy)
    try:
        half = merge()
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = moving(3, noise=(1e-6, 1e-5, 1 / 65535, 0))
    expected = run(untrained, inputs)
    for name, values in run(half, inputs).items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    assert half.get_layer("weigh").get_layer("half_entry").compute_dtype == policy.removeprefix("mixed_")


@pytest.fixture(scope="module")
def drawn():
    """A network of random weights, which correct the logits a lot."""
    network = merge()
    helpers.draw_kernels(network, np.random.default_rng(0))
    return network


# What holds without training


@pytest.mark.parametrize("count", STOPS)
def test_a_still_bracket_without_noise_gives_the_truth(count, untrained):
    # Where the reference is clipped the fill has a thousandth of the weight, for the network to raise; it may be a few times
    # as bright as the truth.
    inputs, truth = still(count)
    outputs = run(untrained, inputs)
    for name in ("radiance", "denoised"):
        np.testing.assert_allclose(outputs[name][0], truth, rtol=5e-3, atol=1e-5, err_msg=name)


def test_equal_noisy_exposures_are_averaged(untrained):
    frames, rng = 4, np.random.default_rng(0)
    truth = np.full((64, 64, 3), 0.2, np.float32)
    seen = truth + np.sqrt(NOISE.variance(truth)) * rng.standard_normal((frames, *truth.shape))
    inputs = {"images": seen[None] ** (1 / tone.DISPLAY_GAMMA), "inside": np.ones((1, frames, 64, 64, 1))}
    inputs |= {"exposures": np.ones((1, frames)), "reference": [[1, 0, 0, 0]], "noise": [NOISE]}
    outputs = run(untrained, {name: np.float32(values) for name, values in inputs.items()})
    assert (outputs["radiance"][0] - truth).std() <= 1.15 / frames**0.5 * (seen[0] - truth).std()
    expected = NOISE.variance(truth) / frames
    np.testing.assert_allclose(outputs["variance"][0], expected, rtol=0.2)  # of the noise that is left


# What holds whatever the weights are


def test_the_order_of_the_exposures_does_not_matter(drawn):
    for inputs in (still(3)[0], moving(3)):
        shuffled = {name: x if name == "noise" else x[:, [2, 0, 1]] for name, x in inputs.items()}
        one, other = run(drawn, inputs), run(drawn, shuffled)
        for name in ("radiance", "variance", "denoised"):
            np.testing.assert_allclose(other[name], one[name], rtol=1e-3, atol=1e-5 * one[name].max(), err_msg=name)
        np.testing.assert_allclose(other["weights"][:, [1, 2, 0, 3]], one["weights"], atol=1e-3)


@pytest.mark.parametrize("stage", ["weigh", "denoise"])
def test_a_changed_pixel_changes_nothing_beyond_the_halo(stage, drawn):
    halo = {stage.layer: stage.halo for stage in systems.SYSTEMS["merge"].stages}[stage]
    inputs, _ = still(3, 16, 256)
    inputs["inside"] *= 2
    inputs["fill"] = np.ones((1, 4, 64, 3), np.float32)
    inputs["radiance"], inputs["variance"] = (np.full((1, 16, 256, 3), value, np.float32) for value in (0.3, 1e-3))
    inputs["radiance"] += np.float32(np.random.default_rng(0).normal(0, 0.03, inputs["radiance"].shape))
    network = drawn.get_layer(stage)
    inputs = {name: inputs[name] for name in network.input}
    before, changed_input = run(network, inputs), "images" if stage == "weigh" else "radiance"
    for column in (0, 5, 7):
        changed = inputs | {changed_input: inputs[changed_input].copy()}
        changed[changed_input][..., 8, column, :] = 0.35
        after = run(network, changed)
        for name, values in before.items():
            difference = np.abs(after[name] - values).reshape(-1, 256, values.shape[-1]).max(axis=(0, 2))
            assert difference[column] > 0 and not difference[column + halo + 1 :].any(), name


@pytest.mark.parametrize("count", STOPS)
def test_weights_are_shares(count, drawn, untrained):
    for network in (drawn, untrained):
        outputs = run(network, moving(count))
        shares = outputs["weights"]
        assert shares.shape == (1, count + 1, 24, 40, 3) and (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert (outputs["radiance"] >= 0).all() and (outputs["variance"] >= 0).all()
        assert all(np.isfinite(values).all() for values in outputs.values())


@pytest.mark.parametrize("noise", [(0, 0, 0, 0), (1e-4, 1e-3, 1 / 255, 5e-4)], ids=["none", "some"])
@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_flat_black_and_white_images_are_merged(level, noise, drawn, untrained):
    for network in (drawn, untrained):
        inputs, _ = still(3, noise=noise)
        outputs = run(network, inputs | {"images": np.full_like(inputs["images"], level)})
        assert all(np.isfinite(values).all() for values in outputs.values())
        assert (outputs["radiance"] >= 0).all()
    if level == 1:
        assert (outputs["radiance"] >= 0.999).all()  # of the untrained network: at least where the reference clips


@pytest.mark.parametrize("noise", [(0, 0, 0, 0), (1e-4, 1e-3, 1 / 255, 5e-4)], ids=["none", "some"])
def test_gradients_are_finite(noise, drawn, untrained):
    for network in (drawn, untrained):
        for inputs, truth in (still(3, noise=noise), (moving(3, noise=noise), np.ones((24, 40, 3), np.float32))):
            with tf.GradientTape() as tape:
                loss = losses.merge(inputs | {"hdr": truth[None]}, network(inputs, training=True))["loss"]
            gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
            assert np.isfinite(loss) and all(np.isfinite(gradient).all() for gradient in gradients)
            assert any(np.any(gradient) for gradient in gradients)


def test_noise_is_removed_as_by_wiener(untrained):
    inputs, truth = still(3, 40, 56, (1e-3, 2e-3, 1 / 255, 0))
    rng = np.random.default_rng(0)
    linear = inputs["images"] ** 2.2
    seen = linear + np.sqrt(1e-3 * linear + 4e-6) * rng.standard_normal(linear.shape)
    outputs = run(untrained, inputs | {"images": np.float32(np.clip(seen, 0, 1) ** (1 / 2.2))})
    radiance, variance = outputs["radiance"][0], outputs["variance"][0]
    expected = noise_model.wiener(radiance, variance)
    assert np.abs(expected - radiance).max() > 1e-3
    np.testing.assert_allclose(outputs["denoised"][0], expected, atol=1e-5, rtol=1e-5)


def test_what_is_removed_is_bounded_by_the_noise(drawn):
    """And where there is no noise, nothing is removed, whatever the weights are."""
    rng = np.random.default_rng(0)
    radiance = np.float32(rng.random((1, 16, 24, 3)))
    clean = drawn.get_layer("denoise")
    for variance in (0, 1e-4, 1):
        denoised = run(clean, {"radiance": radiance, "variance": np.full_like(radiance, variance)})["denoised"]
        assert np.abs(denoised - radiance).max() <= 3 * variance**0.5 * (1 + 1e-5) and (denoised >= 0).all()
    assert np.abs(denoised - radiance).max() > 0.1


def test_weights_come_back(drawn, tmp_path):
    weights.save_weights(drawn, tmp_path / "merge.weights.h5")
    loaded = systems.load_network("merge", tmp_path / "merge.weights.h5")
    inputs = moving(2)
    np.testing.assert_array_equal(run(loaded, inputs)["radiance"], run(drawn, inputs)["radiance"])


def test_the_bundled_weights_have_the_shapes_of_the_network(untrained, bundled):
    assert [w.shape for w in bundled.network.weights] == [w.shape for w in untrained.weights]


# The runner


@pytest.fixture(scope="module")
def bundled():
    return systems.load_runner("merge")


@pytest.fixture(scope="module")
def both(untrained):
    """The runners of the untrained network and of the classical merge."""
    return runners.Merge(untrained), MergeClassical()


def photographs(count, height, width):
    truth = truth_of(STOPS[count], height, width)
    return list(helpers.expose(truth, STOPS[count])), 2.0 ** np.array(STOPS[count]), truth


@pytest.mark.parametrize("count", STOPS)
@pytest.mark.parametrize("size", [(8, 8), (13, 17), (61, 67)], ids=str)
def test_any_size_and_number(size, count, both):
    images, exposures, truth = photographs(count, *size)
    for runner in both:
        merged = runner.reconstruct(images, exposures, denoise=0)
        assert merged.radiance.dtype == np.float32 and merged.source.dtype == np.uint8
        assert merged.radiance.shape == (*size, 3) and merged.source.shape == size and merged.source.max() <= count
        np.testing.assert_allclose(merged.radiance, truth, rtol=0.02, atol=0.002, err_msg=type(runner).__name__)


def test_the_middle_exposure_is_the_reference_by_default():
    assert [middle(exposures) for exposures in ((1, 4), (4, 1), (1, 4, 16), (16, 1, 4, 64), (1, 1))] == [0, 1, 1, 2, 0]


@pytest.fixture(scope="module")
def runner_of_drawn(drawn):
    return runners.Merge(drawn)


@pytest.mark.parametrize("changed", [0, 2], ids=["short", "long"])
@pytest.mark.parametrize("brightness", [0.2, 0.5, 2, 5])
def test_an_object_in_one_exposure_only_leaves_no_ghost(changed, brightness, bundled):
    """Of the trained network: where it is, the error is at most 1.5 times that of the reference alone."""
    rng, place = np.random.default_rng(0), np.s_[24:72, 40:88]
    small = rng.random((16, 22, 3), np.float32)
    scene = 0.05 + 0.3 * cv2.resize(small, (128, 96), interpolation=cv2.INTER_LINEAR)
    images = []
    for number, exposure in enumerate((0.25, 1, 4)):
        view = scene.copy()
        if number == changed:
            view[place] *= brightness
        signal = np.clip(view * exposure, 0, 1)
        signal = signal + np.sqrt(NOISE.variance(signal)) * rng.standard_normal(signal.shape)
        images.append(np.uint16(np.rint(65535 * np.clip(signal, 0, 1) ** (1 / tone.DISPLAY_GAMMA))))
    merged = bundled.reconstruct(images, [0.25, 1, 4], 1, align=False, noise=NOISE).radiance
    alone = tone.to_radiance(images[1] / np.float32(65535), 1)
    errors = [np.sqrt(np.mean((values - scene)[place] ** 2)) for values in (merged, alone)]
    assert errors[0] <= 1.5 * errors[1], errors


def test_what_is_black_in_the_short_exposures_comes_from_the_long_ones(bundled):
    """Of the trained network: seven frames of a room at night, in whose black a camera leaves coloured blotches."""
    stops, rng = np.arange(-6, 8, 2.0), np.random.default_rng(0)
    truth = np.full((96, 128, 3), 1e-4, np.float32)
    truth[:, :48] = 0.2 * cv2.resize(rng.random((8, 8, 3), np.float32), (48, 96))
    images = []
    for stop in stops:
        blotches = cv2.resize(rng.random((24, 32, 3), np.float32), (128, 96)) * np.float32([4e-3, 0, 4e-3])
        signal = np.where(truth * 2**stop < 4e-3, blotches, truth * 2**stop)
        images.append(np.uint8(np.rint(255 * np.clip(signal, 0, 1) ** (1 / tone.DISPLAY_GAMMA))))
    dark = np.s_[:, 64:]
    errors = [
        np.abs(runner.reconstruct(images, 2.0**stops, 3, align=False, dark_error=2e-3).radiance - truth)[dark].mean()
        for runner in (bundled, MergeClassical())
    ]
    assert errors[0] <= 1.5 * errors[1], errors


@pytest.mark.parametrize("count", [2, 3])
def test_tiles_give_the_whole(count, runner_of_drawn, monkeypatch):
    images, exposures, _ = photographs(count, 45, 645)
    images = [np.uint16(np.clip(image + np.random.default_rng(0).normal(0, 300, image.shape), 0, 65535)) for image in images]
    runner, sizes = runner_of_drawn, []
    weigh = runner._weigh
    monkeypatch.setattr(runner, "_weigh", lambda images, *rest: sizes.append(images.shape[2:4]) or weigh(images, *rest))
    whole = runner.reconstruct(images, exposures)
    assert sizes == [(48, 648)]
    monkeypatch.setattr(runners, "TILE_VALUES", 2**10)
    tiled = runner.reconstruct(images, exposures)
    assert len(sizes) == 1 + 3
    np.testing.assert_allclose(tiled.radiance, whole.radiance, atol=1e-5 * whole.radiance.max())
    assert (tiled.source == whole.source).mean() > 0.999


@pytest.mark.parametrize("dark_error", [0, 2e-4, 4e-3])
def test_the_untrained_network_trusts_as_the_classical_merge(dark_error, both):
    """Three exposures whose black is crushed and where a corner moved."""
    images, exposures, _ = photographs(3, 48, 64)
    images = [np.where(image < 5000, 0, image).astype(np.uint16) for image in images]
    images[2][:24, :24] = images[2][24:, 40:]
    noise = NOISE._replace(dark_error=dark_error)
    one, other = (runner.reconstruct(images, exposures, 1, align=False, denoise=0, noise=noise) for runner in both)
    np.testing.assert_allclose(one.radiance, other.radiance, rtol=0.02, atol=5e-4)


def test_without_fill_the_clip_stands_there(both):
    """The reference shows a white square, the short exposure something else there."""
    truth = np.full((128, 128, 3), 0.3, np.float32)
    truth[16:112, 16:112] = 3
    short, reference = helpers.expose([truth, truth], [-2, 0])
    short[44:84, 44:84] = 8000
    for runner in both:
        filled, plain = (
            runner.reconstruct([short, reference], [0.25, 1], 1, align=False, denoise=0, fill=fill) for fill in (True, False)
        )
        place = np.s_[50:78, 50:78]
        assert (filled.radiance[place] >= plain.radiance[place] - 1e-6).all() and (plain.radiance[place] > 0.99).all()
        assert filled.radiance[place].mean() > 1.5  # continues what the short exposure shows around
        assert (filled.source[place] == 2).all()
