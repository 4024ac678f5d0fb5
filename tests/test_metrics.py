"""Metrics: PSNR and SSIM against formulas, scikit-image and the figures that ESBN's scripts print."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from hdr_tf import metrics
from tests import helpers


def near(truth, seed=1):
    noise = np.random.default_rng(seed).standard_normal(truth.shape, np.float32)
    return truth * (1 + np.float32(0.1) * noise)


@pytest.mark.parametrize(("shape", "peak"), [((5, 7, 3), 1.0), ((2, 11, 13, 3), 255.0), ((17,), 0.5)])
def test_psnr_equals_numpys(shape, peak):
    first = np.random.default_rng(0).random(shape, np.float32)
    error = np.mean((np.float64(first) - np.float64(near(first))) ** 2)
    # float64 throughout
    assert metrics.psnr(first, near(first), peak) == pytest.approx(10 * np.log10(peak**2 / error), rel=1e-12)
    assert metrics.psnr(near(first), first, peak) == metrics.psnr(first, near(first), peak)


def test_psnr_of_equal_images_is_infinite():
    assert metrics.psnr(np.ones((4, 4, 3)), np.ones((4, 4, 3))) == math.inf


@pytest.mark.parametrize("shape", [(7, 7, 3), (7, 31, 3), (23, 29, 3), (40, 33), (12, 11, 1)])
@pytest.mark.parametrize("data_range", [1.0, 9.3, 255.0])
def test_ssim_equals_scikit_images(shape, data_range):
    first = np.random.default_rng(0).random(shape) * data_range
    expected = structural_similarity(
        first, near(first), data_range=data_range, channel_axis=-1 if len(shape) == 3 else None, win_size=7
    )
    assert metrics.ssim(first, near(first), data_range) == pytest.approx(expected, abs=1e-12)
    assert metrics.ssim(first, first, data_range) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(11, 11, 3), (11, 31, 3), (23, 29, 3)])
def test_gaussian_ssim_equals_scikit_images(shape):
    """scikit-image computes what SelfHDR's util.py does by cv2.filter2D, except for its range 0..255."""
    first = np.random.default_rng(0).random(shape)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(first, near(first), data_range=1, channel_axis=-1, **gaussian)
    assert metrics.gaussian_ssim(first, near(first), 1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("shape", "side"), [((10, 13, 3), 10), ((7, 30), 7), ((1, 5, 3), 1)])
def test_gaussian_ssim_of_small_images_has_smaller_windows(shape, side):
    """The mean over all windows, each by the formula."""
    first = np.random.default_rng(0).random(shape)
    second = near(first)
    taps = np.exp(-((np.arange(side) - side // 2) ** 2) / 4.5)
    weights = np.outer(taps, taps) / np.outer(taps, taps).sum()
    scores = []
    for channel in np.ndindex(shape[2:]):
        for row, column in np.ndindex(shape[0] - side + 1, shape[1] - side + 1):
            x, y = (image[row : row + side, column : column + side][(..., *channel)] for image in (first, second))
            mean_x, mean_y = np.sum(weights * x), np.sum(weights * y)
            covariance = np.sum(weights * (x - mean_x) * (y - mean_y))
            variances = np.sum(weights * ((x - mean_x) ** 2 + (y - mean_y) ** 2))
            luminance = (2 * mean_x * mean_y + 1e-4) / (mean_x**2 + mean_y**2 + 1e-4)
            scores.append(luminance * (2 * covariance + 9e-4) / (variances + 9e-4))
    assert metrics.gaussian_ssim(first, second, 1) == pytest.approx(np.mean(scores), abs=1e-12)


@helpers.golden_cases("esbn_reconstruction")
@pytest.mark.parametrize("suffix", ["", "_near"])
def test_parity_figures_of_esbn(golden, golden_case, suffix):
    stored = golden.outputs(golden_case)
    truth = {"L": stored["gt_HDR"], "T": stored["gt_HDR_tm"]}
    result = {"L": stored["recon_hdr"], "T": stored["recon_hdr_tm"]}
    if suffix:
        drawn = golden.inputs(golden_case)["network_hdr"][0]
        result["L"] = (2 * truth["L"] * (1 + np.float32(0.1) * drawn) - 1 + 1) / 2
        result["T"] = np.log(1 + 5000 * result["L"]) / np.float32(np.log(5001))
    for kind in "LT":
        # The script computes PSNR in float32, which costs a few units in the last place of 43 dB.
        assert metrics.psnr(truth[kind], result[kind]) == pytest.approx(float(stored[f"psnr{kind}{suffix}"]), abs=1e-5)
        data_range = float(truth[kind].max() - truth[kind].min())
        similarity = metrics.ssim(truth[kind], result[kind], data_range)
        assert similarity == pytest.approx(float(stored[f"ssim{kind}{suffix}"]), abs=1e-6)


@pytest.mark.parametrize(
    ("sizes", "data_range", "message"),
    [
        ([(8, 8, 3), (8, 9, 3)], 1, "8, 8, 3 8, 9, 3"),
        ([(6, 9, 3), (6, 9, 3)], 1, "7 x 7 6, 9, 3"),
        ([(2, 8, 8, 3), (2, 8, 8, 3)], 1, "7 x 7 2, 8, 8, 3"),
        ([(8, 8), (8, 8)], 0, "0"),
        ([(8, 8), (8, 8)], math.nan, "0 nan"),
    ],
)
def test_ssim_refuses_unfit_arguments(sizes, data_range, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        metrics.ssim(*(np.zeros(size) for size in sizes), data_range)


def test_psnr_refuses_to_broadcast():
    with pytest.raises(ValueError, match=helpers.mentions("4, 4, 3 1")):
        metrics.psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))
