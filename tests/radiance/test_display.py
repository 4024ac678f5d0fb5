"""Radiance for displays."""

import numpy as np
import pytest

import hdr_tf
from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit
from hdr_tf.radiance import display
from tests import helpers


@pytest.fixture
def radiance():
    """Of eight stops and a few specks of eight more, [64, 80, 3]."""
    light = np.float32(2.0 ** (8 * helpers.smooth_scene(64, 80)[..., :1])) * np.float32([1, 0.8, 0.6])
    light[5, 5:8] *= 2**8
    return light


def test_virtual_exposures_show_all_of_it(radiance):
    stops = display.virtual_stops(radiance)
    assert (np.diff(stops) > 0).all() and np.abs(np.diff(stops) - 2).max() < 1
    assert np.mean(radiance.max(axis=2) * 2.0 ** stops[0] > 1) <= 0.002
    assert 0.05 < np.mean(radiance.mean(axis=2) * 2.0 ** stops[-1] < 0.18) < 0.2
    np.testing.assert_allclose(display.virtual_stops(radiance / 64), stops + 6, atol=1e-5)


@pytest.mark.parametrize("value, count", [(0, 2), (0.3, 2)])
def test_radiance_of_one_value(value, count):
    flat = np.full((16, 16, 3), value, np.float32)
    assert len(display.virtual_stops(flat)) == count
    for tonemap in display.TONEMAPS:
        assert np.ptp(display.tone_map(flat, tonemap)) <= 1


def test_black_parts_and_negative_values_do_not_count(radiance):
    expected = display.virtual_stops(radiance)
    radiance[:, :40] = 0
    assert len(display.virtual_stops(radiance)) <= len(expected) + 1
    np.testing.assert_array_equal(
        display.tone_map(np.where(radiance > 0, radiance, np.float32(-0.5))), display.tone_map(radiance)
    )


def test_fusion_is_that_of_the_exposures(radiance):
    exposures = [from_unit(tone.to_exposure(radiance, 2.0**stop), np.uint8) for stop in display.virtual_stops(radiance)]
    np.testing.assert_array_equal(display.tone_map(radiance), hdr_tf.fuse(exposures, keep_order=True))


@pytest.mark.parametrize("tonemap", display.TONEMAPS)
def test_tone_maps(radiance, tonemap):
    shown = display.tone_map(radiance, tonemap)
    assert shown.dtype == np.uint8 and shown.shape == radiance.shape and shown.std() > 20
    ranks = [np.argsort(np.argsort(image.mean(axis=2).ravel())) for image in (radiance, shown)]
    assert np.corrcoef(*ranks)[0, 1] > 0.8  # brighter light is brighter
    np.testing.assert_allclose(display.tone_map(1000 * radiance, tonemap), shown, atol=1)


def test_gain():
    radiance = np.float32([[[0.1, 0.2, 1.0], [0, 0, 2], [3, 1, 1], [100, 0, 0], [0, 0, 0]]])
    np.testing.assert_allclose(display.gain(radiance, 1, 812), [[1, 2, 3, 4, 1]])
    np.testing.assert_allclose(display.gain(radiance, 2, 812), [[1, 1, 1.5, 4, 1]])
    for peak in (203, 20_000, float("nan")):
        with pytest.raises(ValueError, match="peak"):
            display.gain(radiance, 1, peak)
    with pytest.raises(ValueError, match=helpers.mentions("bright mantiuk")):
        display.tone_map(radiance, "bright")
