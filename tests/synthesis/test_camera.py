"""Synthetic brackets: what a camera would have seen of known radiance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdr_tf.synthesis import camera, sources
from hdr_tf.synthesis.brackets import sample_bracket
from tests import helpers

SEEDS = st.integers(0, 2**32)


def rng(seed=0):
    return np.random.default_rng(seed)


def scene(height=40, width=60):
    return np.exp(rng(1).normal(0, 1, (height, width, 3))).astype(np.float32)


def test_bracket_against_hand_computed_pixels():
    # Geometric mean luminance 1 (but for the hundredth of the mean that is added), so ev 0 puts 1 on 18 % gray.
    radiance = np.ones((4, 4, 3), np.float32)
    exposures = camera.bracket(radiance, [-1, 0, 1, 3], rng(), full_well=math.inf, read_noise=0)
    assert exposures.dtype == np.uint8 and exposures.shape == (4, 4, 4, 3)
    expected = [255 * min(0.18 / 1.01 * 2**ev, 1) ** (1 / 2.2) for ev in (-1, 0, 1, 3)]
    np.testing.assert_array_equal(exposures[:, 0, 0, 0], np.rint(expected))


def test_sixteen_bits():
    exposures = camera.bracket(np.ones((2, 2, 3)), [0, 9], rng(), full_well=math.inf, read_noise=0, depth=16)
    assert exposures.dtype == np.uint16
    # 1024 knots of the response: linear between them, 2 of 65535 levels off here.
    np.testing.assert_allclose(exposures[:, 0, 0, 0], [65535 * (0.18 / 1.01) ** (1 / 2.2), 65535], atol=2)


def test_the_seed_decides_everything():
    first, again, other = (camera.bracket(scene(), [-2, 2], rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_noise_has_the_variance_of_photons_and_sensor():
    radiance = np.ones((200, 200, 3), np.float32)
    linear = camera.ENCODED_LEVELS
    exposures = camera.bracket(radiance, [0], rng(), response=linear, full_well=1000, read_noise=10, depth=16)
    linear = exposures[0] / 65535
    mean = 0.18 / 1.01
    # 120,000 samples: the variance is known to 0.4 %, four times that is allowed.
    np.testing.assert_allclose(linear.mean(), mean, rtol=1e-3)
    np.testing.assert_allclose(linear.var(), mean / 1000 + (10 / 1000) ** 2, rtol=0.016)


@pytest.mark.parametrize("curves", camera.CURVES)
@pytest.mark.parametrize("seed", range(20))
def test_random_responses_are_monotone_and_invertible(seed, curves):
    response = camera.random_response(rng(seed), curves)
    # The black point is at most 3 % of the gamma-encoded range.
    assert 0 <= response[0] <= 0.03**1.8 and response[-1] == 1 and (np.diff(response) > 0).all()
    encoded = np.linspace(0, 1, 256)
    # Exact up to float32: both directions are linear between the same knots.
    np.testing.assert_allclose(camera.encode(camera.decode(encoded, response), response), encoded, atol=2e-4)
    # Gamma 1.8 to 2.6 alone gives 0.39 to 0.52; the contrast curve may add or take about as much again.
    assert 0.2 < camera.encode(np.float32(0.18), response) < 0.8


def test_responses_of_older_sets_do_not_change():
    expected = [0.103104, 0.212196, 0.364127]
    np.testing.assert_allclose(camera.random_response(rng(0))[[256, 512, 768]], expected, atol=1e-6)


def test_skewed_curves_have_the_colours_of_photographs():
    """Chroma over luma of a colour in a dark exposure, divided by that in an exposure of luma 0.5, as in photographs."""
    lumas, photographs = np.array([0.045, 0.08, 0.125, 0.2, 0.32]), [0.98, 1.06, 1.19, 1.29, 1.38]
    colors = np.array([[1, 0.7, 0.5], [1, 0.5, 0.7], [0.7, 1, 0.5], [0.5, 1, 0.7], [0.7, 0.5, 1], [0.5, 0.7, 1]])
    light = colors[:, None] * np.exp2(np.arange(-14, 0.5, 0.05))[:, None]

    def ratios(response):
        for encoded in camera.encode(light, response):
            luma = encoded @ np.array([0.299, 0.587, 0.114])
            chroma = np.linalg.norm(encoded - luma[:, None], axis=1) / np.maximum(luma, 1e-6)
            yield np.interp(lumas, luma, chroma) / np.interp(0.5, luma, chroma)

    errors = {}
    for curves in camera.CURVES:
        medians = np.median([row for seed in range(60) for row in ratios(camera.random_response(rng(seed), curves))], axis=0)
        errors[curves] = np.sqrt(np.mean(np.log(medians / photographs) ** 2))
    assert errors["skewed"] < 0.12 and errors["symmetric"] > 0.3


@settings(max_examples=200)
@given(st.integers(2, 9), SEEDS)
def test_exposure_values_show_highlights_and_shadows(count, seed):
    ev = camera.exposure_values(scene(), count, rng(seed))
    assert ev.shape == (count,) and ev.dtype == np.float32
    # 11 stops at the most between the ends, 1.5 at the least, to the last bit of float32.
    assert (np.diff(ev) >= 0).all() and 1.4999 < ev[-1] - ev[0] < 11.0001
    darkest, brightest = camera.bracket(scene(), [ev[0], ev[-1]], rng())
    assert (darkest < 255).mean() > 0.69  # the 70th percentile is kept even where the choice is the boldest
    assert brightest.mean() > darkest.mean()


@given(SEEDS)
def test_collage_puts_pieces_of_the_other_image_in(seed):
    first, second = np.ones((64, 64, 3), np.float32), np.full((64, 64, 3), 5, np.float32)
    mixed = sources.collage(first, second, rng(seed))
    assert mixed.shape == first.shape and mixed.dtype == np.float32
    # Second is as bright as first but for the drawn factor, six stops at the most.
    assert mixed.min() >= 2.0**-6 and mixed.max() <= 2.0**6 and np.ptp(mixed) > 0


@given(SEEDS)
def test_vary_keeps_shape_and_range(seed):
    varied = sources.vary(scene(32, 32), rng(seed))
    assert varied.shape == (32, 32, 3) and varied.dtype == np.float32
    assert np.isfinite(varied).all() and varied.min() >= 0


@given(SEEDS, st.integers(0, 255), st.integers(0, 255))
def test_develop_is_what_one_camera_does_to_all_exposures(seed, first, second):
    gray = np.full((2, 16, 16, 3), np.reshape([first, second], (2, 1, 1, 1)), np.uint8)
    # Gray stays gray whatever the settings; JPEG of a flat image may round it by one.
    np.testing.assert_allclose(camera.develop(gray, **camera.random_settings(rng(seed))).astype(int), gray, rtol=0, atol=1)


def test_clean_repairs_what_no_camera_sees():
    flat = np.full((7, 7, 3), 2.0)
    broken = flat.copy()
    broken[1, 1, 0], broken[3, 3], broken[5, 5, 2], broken[0, 6], broken[5, 1] = np.nan, np.inf, -1, 1000, 1e-4
    cleaned = sources.clean(broken)
    assert cleaned.dtype == np.float32
    np.testing.assert_array_equal(cleaned, flat)


def test_clean_fills_the_block_that_a_codec_leaves_around_the_sun():
    radiance = np.full((20, 20, 3), 3.0, np.float32)
    radiance[8:12, 8:12] = [0, 0, 9000]
    radiance[8, 9], radiance[11, 10] = -40, -1000
    np.testing.assert_array_equal(sources.clean(radiance), np.full((20, 20, 3), 3.0))


def test_clean_keeps_noise_around_zero():
    radiance = np.ones((9, 9, 3), np.float32)
    radiance[:, 6:] = 0
    radiance[4, 7] = -0.5
    np.testing.assert_array_equal(sources.clean(radiance), np.maximum(radiance, 0))


def test_clean_keeps_lights_and_edges():
    radiance = np.ones((9, 9, 3), np.float32)
    radiance[:, 5:] = 1000
    radiance[2:4, 1:3] = 500
    np.testing.assert_array_equal(sources.clean(radiance), radiance)


@pytest.mark.parametrize(
    ("radiance", "message"),
    [
        (np.ones((4, 4)), "3 4, 4"),
        (np.full((4, 4, 3), np.nan), "radiance finite"),
    ],
)
def test_clean_refuses_what_is_not_radiance(radiance, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        sources.clean(radiance)


def test_bracket_refuses_darkness_and_other_depths():
    with pytest.raises(ValueError, match=helpers.mentions("radiance zeros")):
        camera.bracket(np.zeros((4, 4, 3)), [0], rng())
    with pytest.raises(ValueError, match=helpers.mentions("8 16 12")):
        camera.bracket(scene(), [0], rng(), depth=12)


@given(st.integers(8, 200), st.integers(8, 200), SEEDS)
def test_random_crop_gives_the_size_asked_for(height, width, seed):
    crop = sources.random_crop(scene(height, width), 16, rng(seed))
    assert crop.shape == (16, 16, 3) and crop.dtype == np.float32 and crop.min() >= 0


@pytest.mark.parametrize("name", sources.PHOTOS)
def test_photos_lie_in_the_wheel(name):
    photo = sources.sample_photo(name)
    assert photo.dtype == np.uint8 and photo.shape[2:] == (3,) and min(photo.shape[:2]) >= 256


def test_an_unknown_photo_lists_the_known_ones():
    with pytest.raises(ValueError, match=helpers.mentions("cat astronaut chelsea")):
        sources.sample_photo("cat")


def test_relight_widens_the_range():
    photo = sources.sample_photo("brick")
    before = camera.decode(photo / 255).mean(axis=2)
    after = sources.relight(photo, rng()).mean(axis=2)
    stops = [np.log2(np.percentile(x, 95) / np.percentile(x, 5)) for x in (before, after)]
    assert after.shape == (512, 512) and np.isfinite(after).all() and after.min() >= 0
    assert stops[1] > stops[0] + 2


def test_no_exposure_of_the_sample_bracket_shows_everything():
    exposures = sample_bracket()
    assert [exposure.shape for exposure in exposures] == [(500, 741, 3)] * 3
    usable = np.stack([(exposure.mean(axis=2) > 25) & (exposure.max(axis=2) < 250) for exposure in exposures])
    assert usable.mean(axis=(1, 2)).max() < 0.8
    assert usable.any(axis=0).mean() > 0.9
    np.testing.assert_array_equal(exposures, sample_bracket())
