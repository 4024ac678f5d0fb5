"""Colour errors: the truth of a synthetic bracket, and how an image is compared with it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import lab2rgb

from hdr_tf.evaluation import color
from hdr_tf.synthesis import camera


def radiance(seed=0):
    return np.exp2(np.random.default_rng(seed).uniform(-6, 2, (20, 30, 3)))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(camera.CURVES), st.floats(0.9, 1.5))
def test_the_truth_of_an_unclipped_exposure_is_that_exposure(seed, curves, saturation):
    response = camera.random_response(np.random.default_rng(seed), curves)
    exposed = camera.saturated(camera.encode(radiance(seed) / 8, response).astype(float), saturation)
    inside = ((exposed > 0.01) & (exposed < 0.99)).all(axis=-1)
    truth = color.ideal(radiance(seed), response, saturation, np.clip(color.luma(exposed), 0, 1))
    np.testing.assert_allclose(truth[inside], exposed[inside], atol=3e-3)


def test_the_truth_has_the_luma_that_was_asked_for():
    for target in (np.zeros((20, 30)), np.linspace(0, 1, 600).reshape(20, 30), np.ones((20, 30))):
        truth = color.ideal(radiance(), camera.GAMMA_RESPONSE, 1.5, target)
        assert truth.min() >= 0 and truth.max() <= 1
        np.testing.assert_allclose(color.luma(truth), target, atol=1e-9)


def test_the_response_continues_as_a_power_law_and_colours_stay_in_gamut():
    """Above 1 gamma 2.2 continues, so the ratios of the channels stay; what is out of gamut moves towards gray."""
    light, target = np.array([[[1.0, 0.25, 0.1]]]), np.array([[0.8]])
    scaled = light ** (1 / 2.2)
    scaled *= 0.8 / color.luma(scaled)
    assert scaled.max() > 1
    expected = 0.8 + 0.2 / (scaled.max() - 0.8) * (scaled - 0.8)
    np.testing.assert_allclose(color.ideal(light, camera.GAMMA_RESPONSE, 1, target), expected, atol=2e-3)
    black = color.ideal(np.zeros((1, 1, 3)), camera.GAMMA_RESPONSE, 1, target)
    np.testing.assert_allclose(black, np.full((1, 1, 3), 0.8), atol=1e-12)


def test_another_luma_keeps_the_ratios_of_the_channels():
    pixels = np.array([[0.4, 0.2, 0.1], [0, 0, 0], [1, 0.5, 0.5]])
    moved = color.at_luma(pixels, np.array([0.12, 0.3, 0.9]))
    np.testing.assert_allclose(moved[0], pixels[0] * 0.12 / color.luma(pixels[0]))
    np.testing.assert_allclose(moved[1], 0.3)
    np.testing.assert_allclose(color.luma(moved), [0.12, 0.3, 0.9])
    assert moved[2, 0] == 1


def test_classes():
    white, night, shown, red = [1, 1, 1], [0.05, 0.05, 0.05], [0.5, 0.4, 0.3], [0.99, 0.3, 0.3]
    exposures = np.array([[[night, night, white, night]], [[white, shown, red, night]]])
    masks = color.classes(exposures)
    for name, expected in {"rest": 0, "shown": 1, "clipped": 2, "dark": 3}.items():
        np.testing.assert_array_equal(masks[name][0], np.arange(4) == expected)


def test_a_comparison_against_colours_of_known_lab():
    def rgb(chroma, degrees):
        angle = math.radians(degrees)
        return lab2rgb([[60, chroma * math.cos(angle), chroma * math.sin(angle)]])

    same = color.Comparison(rgb(20, 90), rgb(20, 90))
    assert same.error(...) == 0 and same.chroma_ratio(...) == 1 and same.hue_error(...) == 0 and same.shift(...) == (0, 0)
    paler = color.Comparison(rgb(10, -175), rgb(20, 175))
    assert paler.chroma_ratio(...) == pytest.approx(0.5, abs=0.01)
    assert paler.hue_error(...) == pytest.approx(10, abs=0.1)
    # Red turns from -19.92 to -9.96, yellow from 1.74 to -0.87.
    assert paler.shift(...) == pytest.approx((9.96, -2.61), abs=0.05)
    gray = color.Comparison(rgb(10, 0), rgb(0, 0))
    assert gray.chroma_ratio(...) is gray.hue_error(...) is None and gray.error(...) > 5
    assert same.error(np.array([False])) is None
