"""Classical merges: they reproduce a still scene, and replace values that no exposure shows as documented."""

import numpy as np
import pytest

from hdr_tf.image import hdr_merge, optical_flow, tone
from tests import helpers

STOPS = [(0, 2, 4), (0, 3, 6), (-2, 0, 2)]


def exposed(radiance, exposures, depth=16):
    """Exposures without noise, rounded to a depth, as float32 in 0..1."""
    top = 2**depth - 1
    return np.stack([np.rint(top * tone.to_exposure(radiance, exposure)) / np.float32(top) for exposure in exposures])


def random_radiance(largest, shape=(23, 31, 3), seed=0):
    """Radiance over six stops."""
    rng = np.random.default_rng(seed)
    return np.float32(largest * 2 ** rng.uniform(-6, 0, shape))


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("model", ["hat", "snr"])
def test_still_scene_without_noise_is_reproduced(model, stops, depth):
    exposures = 2.0 ** np.array(stops)
    radiance = random_radiance(0.95 / exposures[0])
    merged = hdr_merge.MERGES[model](exposed(radiance, exposures, depth), exposures)
    assert merged.dtype == np.float32 and merged.shape == radiance.shape
    # 8 bit: half a level of the darkest value that only the shortest exposure shows, v = 0.2: 2.2 * 0.5 / (0.2 * 255).
    # 16 bit: 257 times less, plus the error of float32 powers.
    np.testing.assert_allclose(merged, radiance, rtol=0.025 if depth == 8 else 1e-4)


@pytest.mark.parametrize("stops", STOPS)
def test_debevec_is_in_the_exposures_scale(stops):
    exposures = 2.0 ** np.array(stops)
    radiance = random_radiance(0.95 / exposures[-1])  # nothing clipped: OpenCV also counts clipped values
    merged = hdr_merge.debevec(exposed(radiance, exposures, 8), exposures)
    assert merged.dtype == np.float32
    bright = radiance > 0.02 / exposures[-1]
    # Values down to level 1 of the shortest exposure count, with little weight.
    np.testing.assert_allclose(merged[bright], radiance[bright], rtol=0.05)
    assert np.median(merged / radiance) == pytest.approx(1, abs=0.003)


@pytest.mark.parametrize("stops", STOPS)
def test_medium_is_the_medium_exposure(stops):
    exposures = 2.0 ** np.array(stops)
    radiance = random_radiance(4 / exposures[1])
    merged = hdr_merge.medium(exposed(radiance, exposures), exposures)
    np.testing.assert_allclose(merged, np.minimum(radiance, 1 / exposures[1]), rtol=1e-3)


@pytest.mark.parametrize("model", ["hat", "snr", "debevec"])
def test_clipped_everywhere_uses_the_shortest(model):
    exposures = np.array([1.0, 4, 16])
    merged = hdr_merge.MERGES[model](np.ones((3, 4, 5, 3), np.float32), exposures)
    np.testing.assert_array_equal(merged, np.ones((4, 5, 3)))


@pytest.mark.parametrize("model", ["hat", "snr", "debevec"])
def test_nearly_clipped_everywhere_uses_the_shortest(model):
    ldr = np.ones((3, 4, 5, 3), np.float32)
    ldr[1:] -= np.float32(1e-6)  # as after interpolation
    np.testing.assert_array_equal(hdr_merge.MERGES[model](ldr, np.array([1.0, 4, 16])), np.ones((4, 5, 3)))


@pytest.mark.parametrize("model", list(hdr_merge.MERGES))
def test_black_is_black(model):
    merged = hdr_merge.MERGES[model](np.zeros((3, 4, 5, 3), np.float32), np.array([1.0, 4, 16]))
    np.testing.assert_allclose(merged, 0, atol=1e-6)  # debevec: half a level of each, (0.5 / 255)**2.2 / 4


def test_dark_and_clipped_at_once_uses_the_clipped_exposure():
    ldr = np.zeros((3, 1, 1, 3), np.float32)
    ldr[1:] = 1  # an object moved
    np.testing.assert_array_equal(hdr_merge.hat(ldr, [1.0, 4, 16]), np.full((1, 1, 3), 0.25))


def test_snr_of_black_without_read_noise_is_black():
    merged = hdr_merge.snr(np.zeros((3, 2, 2, 3), np.float32), [1.0, 4, 16], read_noise=0)
    np.testing.assert_array_equal(merged, 0)


def test_snr_beats_every_exposure_and_the_hat_in_noise():
    rng = np.random.default_rng(0)
    exposures, radiance = np.array([1.0, 4, 16]), random_radiance(0.05, (64, 64, 3))
    noisy = []
    for exposure in exposures:
        linear = radiance * exposure
        deviation = np.sqrt(np.minimum(linear, 1) / 10_000 + 5e-4**2)
        noisy.append(np.clip(linear + deviation * rng.standard_normal(linear.shape), 0, 1) ** (1 / tone.DISPLAY_GAMMA))
    noisy = np.float32(noisy)

    def error(merged):
        return np.mean((merged / radiance - 1) ** 2)

    best = error(hdr_merge.snr(noisy, exposures))
    others = [tone.to_radiance(image, exposure) for image, exposure in zip(noisy, exposures, strict=True)]
    assert best < min(error(merged) for merged in [*others, hdr_merge.hat(noisy, exposures)])


def test_flow_then_merge_beats_merge_of_a_moved_scene():
    exposures = np.array([1.0, 4, 16])
    texture = np.kron(random_radiance(0.9, (14, 16, 3)), np.ones((8, 8, 1), np.float32))
    views = [np.roll(texture, move, (0, 1)) for move in ((0, 3), (0, 0), (-2, 0))]
    moved = np.stack([exposed(view, [exposure])[0] for view, exposure in zip(views, exposures, strict=True)])
    inner = np.s_[16:-16, 16:-16]

    def error(ldr):
        return np.mean((tone.mu_law(hdr_merge.snr(ldr, exposures)) - tone.mu_law(texture))[inner] ** 2)

    assert error(optical_flow.flow(moved, exposures)) < 0.5 * error(moved)


@helpers.golden_cases("selfhdr_losses")
def test_parity_syn_hdr(golden, golden_case):
    inputs = golden.inputs(golden_case)
    merged = sum(hdr_merge.triangles(inputs["ldr1"]) * np.stack([inputs[f"hdr{index}"] for index in range(3)]))
    np.testing.assert_allclose(merged, golden.outputs(golden_case)["syn_hdr"], rtol=0, atol=2e-7)  # float32


def test_syn_hdr_numbers():
    ldr = np.full((3, 5, 1, 3), 0.5, np.float32)
    ldr[1] = np.array([0, 0.25, 0.5, 0.75, 1])[:, None, None]
    # 0.5**2.2 = 0.217638, 0.25**2.2 = 0.0473661, 0.75**2.2 = 0.531049
    expected = [0.217638 / 16, (0.0473661 / 4 + 0.217638 / 16) / 2, 0.217638 / 4, (0.217638 + 0.531049 / 4) / 2, 0.217638]
    merged = hdr_merge.syn_hdr(ldr, [1.0, 4, 16])
    assert merged.dtype == np.float32 and merged.shape == (5, 1, 3)
    np.testing.assert_allclose(merged, np.broadcast_to(np.reshape(expected, (5, 1, 1)), (5, 1, 3)), rtol=3e-6)


def test_triangles_add_up_to_one():
    weights = hdr_merge.triangles(np.linspace(0, 1, 11, dtype=np.float32))
    assert weights.dtype == np.float32 and weights.min() == 0
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[:, [0, 5, 10]], [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-7)


@pytest.mark.parametrize("stops", [(0, 2, 4), (-2, 0, 2)])
def test_syn_hdr_of_a_still_scene(stops):
    exposures = 2.0 ** np.array(stops)
    radiance = random_radiance(1 / exposures[0])
    np.testing.assert_allclose(hdr_merge.syn_hdr(exposed(radiance, exposures), exposures), radiance, rtol=1e-3)


def test_syn_hdr_counts_a_clipped_long_exposure():
    """At three stops the long exposure is clipped while the medium one is below 0.5."""
    radiance = np.full((1, 1, 3), 0.44**2.2 / 8, np.float32)
    merged = hdr_merge.syn_hdr(exposed(radiance, [1.0, 8, 64]), [1.0, 8, 64])
    np.testing.assert_allclose(merged, radiance * (1 - 0.0287), rtol=1e-3)
