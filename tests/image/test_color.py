"""Colour rules and tone functions: parity with the originals' arithmetic, literal numbers, properties."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdr_tf.image import color, tone
from tests import helpers

NAMES = ("deepfuse_official", "deepfuse_sunnerli", "hyperp_mb", "densefuse_gray")
RULES = {name: getattr(color, name.upper()) for name in NAMES}


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@helpers.golden_cases("deepfuse_sunnerli_color")
def test_parity_deepfuse_sunnerli_color(golden, golden_case):
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    chroma = [tuple(inputs[name][0, 1:3].astype(np.float32)) for name in ("image1", "image2")]
    cr, cb = color.sunnerli_chroma(chroma, color.sunnerli_weights(chroma))
    # The original sums in float32, which its manifest puts at 1.7e-5.
    np.testing.assert_allclose(cr, expected["cr_fused"][0, 0], atol=5e-5)
    np.testing.assert_allclose(cb, expected["cb_fused"][0, 0], atol=5e-5)
    fused = ((inputs["y_fused"][0, 0] + 1) * np.float32(127.5)).astype(np.uint8)
    np.testing.assert_array_equal(color.deepfuse_sunnerli_join(fused, chroma), expected["bgr"][0, ..., ::-1])


@helpers.golden_cases("hyperp_mb_hyperparameters")
@pytest.mark.parametrize("contrast", ["high", "low", "mixed"])
def test_parity_gamma_of_hyperp_mb(golden, golden_case, contrast):
    names = {
        "high": ("under_high", "over_high", "target_high"),
        "low": ("under_low", "over_low", "target_low"),
        "mixed": ("under_low", "over_high", "target_high"),
    }[contrast]
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    for name, gamma in zip(names, ("gamma1", "gamma2", "gamma"), strict=True):
        found = tone.gamma_statistics(inputs[name].astype(np.float32))
        # The golden scalars are stored in float32.
        assert found == pytest.approx(float(expected[f"{contrast}.{gamma}"]), rel=1e-7)


@helpers.golden_cases("hyperp_mb_hyperparameters")
@pytest.mark.parametrize("name", ["under_low", "over_low", "under_high", "over_high"])
def test_parity_adaptive_gamma_of_hyperp_mb(golden, golden_case, name):
    found = tone.adaptive_gamma(golden.inputs(golden_case)[name])
    np.testing.assert_array_equal(found, golden.outputs(golden_case)[f"agc.{name}"])


@given(st.integers(0, 255))
def test_constant_image_has_no_gamma_and_stays(level):
    gray = np.full((13, 17), level, np.uint8)
    assert tone.gamma_statistics(gray) == 1
    np.testing.assert_array_equal(tone.adaptive_gamma(gray), gray)


def test_official_split_is_rgb2ycbcr():
    rgb = np.uint8([[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [100, 150, 200]]])
    found = np.dstack(color.deepfuse_official_split(rgb))
    # From the matrix by hand: red has Y = 16 + 65.481 = 81.481, Cb = 128 - 37.797 = 90.203, Cr = 240.
    expected = [[235, 128, 128], [16, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110], [137, 157, 102]]
    np.testing.assert_array_equal(found[0], expected)
    unrounded = np.dstack(color.deepfuse_official_split(rgb.astype(np.float32)))
    np.testing.assert_allclose(unrounded[0, 2], [81.481, 90.203, 240], atol=1e-4)


def test_official_stretch_saturates_one_percent():
    # 1000 pixels: 10 of level 0 are exactly 1 %, not more, so the low limit is the next level, 50; the high limit is the first
    # level with at least 99 % of the pixels up to it, 200.
    fused = np.uint8([0] * 10 + [50] * 490 + [200] * 490 + [255] * 10).reshape(25, 40)
    found = color.deepfuse_official_join(fused, [])[..., 0].ravel()
    np.testing.assert_array_equal(found[[0, 10, 500, 999]], [0, 0, 255, 255])
    fused = np.uint8([0] * 11 + [50] * 489 + [100] * 100 + [200] * 389 + [255] * 11).reshape(25, 40)
    found = color.deepfuse_official_join(fused, [])[..., 0].ravel()
    # Limits 0 and 255, so 50 becomes 16 + 219 * 50 / 255 = 58.94 -> 59 -> (59 - 16) * 255 / 219 = 50.07.
    np.testing.assert_array_equal(found[[0, 11, 500, 700, 999]], [0, 50, 100, 200, 255])


def test_official_flat_image_is_not_stretched():
    found = color.deepfuse_official_join(np.full((8, 8), 100, np.uint8), [])
    np.testing.assert_array_equal(found, np.full((8, 8, 3), 100))


def test_official_chroma_is_weighted_pixel_by_pixel():
    fused = np.uint8([[0] * 4, [255] * 4])
    one = (np.float32([[128, 138, 118, 128]] * 2), np.full((2, 4), 128, np.float32))
    two = (np.float32([[128, 158, 158, 148]] * 2), np.full((2, 4), 128, np.float32))
    found = color.deepfuse_official_join(fused.astype(np.float32), [one, two])
    # Cb: 0/0 -> 128; (10*138 + 30*158)/40 = 153; (10*118 + 30*158)/40 = 148; 148. Blue is Y' + 516.41/256 (Cb - 128), in
    # the first row, where Y' is 0.
    np.testing.assert_allclose(found[0, :, 2], 2.017232 * np.array([0, 25, 20, 20]), atol=1e-3)


def test_gray_images_do_not_change_the_colour(rgb):
    chroma = color.densefuse_gray_split(rgb)[1:]
    fused = color.densefuse_gray_split(rgb)[0].astype(np.uint8)
    # L is rounded to 8 bit, and clipping may follow: 1 level.
    np.testing.assert_allclose(color.densefuse_gray_join(fused, [chroma]).astype(int), rgb, atol=1)


@pytest.mark.parametrize("name", RULES)
def test_join_undoes_split(name, rgb):
    split, join = RULES[name]
    rgb = np.concatenate([rgb, np.broadcast_to(np.uint8([[[0]], [[255]]]), (2, 32, 3))])
    luminance, *chroma = split(rgb.astype(np.float32))
    if name == "deepfuse_official":  # stretched from 16..235, as by its network
        luminance = (luminance - 16) * np.float32(255 / 219)
        luminance[-1] = 255  # more than 1 % at both ends, so that the limits are 0 and 255
    found = join(luminance, [chroma, chroma])
    assert found.dtype == np.float32 and found.shape == rgb.shape
    # OpenCV's YCrCb uses coefficients of three digits, its Lab a spline for the cube root.
    np.testing.assert_allclose(found, rgb, atol={"deepfuse_sunnerli": 0.4, "hyperp_mb": 0.1}.get(name, 0.01))


@pytest.mark.parametrize("name", RULES)
def test_8_bit_and_float_agree_within_rounding(name, rgb):
    split, join = RULES[name]
    smooth = cv2.GaussianBlur(rgb, (0, 0), 3)
    eight, floating = split(smooth), split(smooth.astype(np.float32))
    for a, b in zip(eight, floating, strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, atol=1.01)  # rounded, and OpenCV's fixed-point Lab is up to 1 off
    fused = np.linspace(0, 255, 24 * 32).reshape(24, 32)
    one = join(fused.astype(np.uint8), [eight[1:], eight[1:]])
    two = join(np.floor(fused).astype(np.float32), [floating[1:], floating[1:]])
    assert one.dtype == np.uint8
    # One level of chroma is up to 2 levels of blue; in Lab, up to 6 in shadows.
    assert np.abs(one - two).max() < (8 if name == "hyperp_mb" else 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", RULES)
def test_without_colour_images_the_result_is_gray(name, dtype):
    fused = np.linspace(0, 255, 20 * 30).reshape(20, 30).astype(dtype)
    found = RULES[name][1](fused, [])
    assert found.dtype == dtype and found.shape == (20, 30, 3)
    # In OpenCV's 8-bit Lab a channel of some grays is one level off.
    tolerance = 1 if name == "hyperp_mb" and dtype == np.uint8 else 0.01
    np.testing.assert_allclose(found.astype(float).max(-1), found.min(-1), atol=tolerance)


def test_sunnerli_mean_of_equal_chroma_is_exact():
    plane = np.random.default_rng(1).integers(0, 256, (20, 30)).astype(np.float32)
    chroma = [(plane, plane), (plane, plane)]
    cr, cb = color.sunnerli_chroma(chroma, color.sunnerli_weights(chroma))
    np.testing.assert_array_equal(cr, plane)
    np.testing.assert_array_equal(cb, plane)


def test_hyperp_mb_truncates_the_mean_of_lab(rgb):
    other = rgb[::-1].copy()
    (_, a1, b1), (luminance, a2, b2) = color.hyperp_mb_split(rgb), color.hyperp_mb_split(other)
    lab = np.dstack([luminance, (a1 + a2) // 2, (b1 + b2) // 2]).astype(np.uint8)
    expected = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)[..., ::-1]  # the original's call
    found = color.hyperp_mb_join(luminance.astype(np.uint8), [(a1, b1), (a2, b2)])
    np.testing.assert_array_equal(found, expected)


def test_hyperp_mb_split_equals_the_bgr_call_of_the_original(rgb):
    expected = cv2.cvtColor(rgb[..., ::-1].copy(), cv2.COLOR_BGR2Lab)
    np.testing.assert_array_equal(np.dstack(color.hyperp_mb_split(rgb)), expected)


def test_densefuse_luminance_is_pillows(rgb):
    red, green, blue = np.moveaxis(rgb.astype(np.int64), -1, 0)
    expected = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    np.testing.assert_array_equal(color.densefuse_gray_split(rgb)[0], expected)
