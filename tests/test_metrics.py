"""Metrics: PSNR and SSIM beside numpy, scikit-image and ESBN's scripts; MEF-SSIM beside the MEFB benchmark."""

import json
import math

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from hdr_tf import metrics

SCENES = ["ArchSequence", "Balloons", "Chair", "House", "ICCV_02", "ICCV_04"]
SCENES += ["ICCV_07", "ICCV_14", "Land", "LivingRoom", "Night", "flower"]


@pytest.mark.parametrize("scene", SCENES)
def test_mef_ssim_equals_the_benchmark(golden, reference, scene):
    scores = json.loads((golden.FOLDER / "mef_ssim.json").read_text())["scenes"][scene]
    bgr = [cv2.imread(str(next((reference / "mefb_dev" / scene).glob(f"*_{letter}.*")))) for letter in "AB"]
    first, second = exposures = [picture[..., ::-1] for picture in bgr]
    # The stored scores come from BGR pictures; Mertens' contrast weight is not the same for RGB.
    mertens = cv2.createMergeMertens().process(bgr)[..., ::-1]
    results = {
        "mean": ((first.astype(int) + second + 1) // 2, 1e-5),
        "A": (first, 1e-5),
        "B": (second, 1e-5),
        # Another release of OpenCV rounds differently here and there.
        "mertens": (np.clip(np.rint(mertens * 255), 0, 255), 1e-3),
    }
    assert results.keys() == scores.keys()
    for name, (fused, tolerance) in results.items():
        score = metrics.mef_ssim(exposures, fused)
        np.testing.assert_allclose(score, scores[name]["score"], atol=tolerance, err_msg=name)
    scales = metrics.mef_ssim_scales(exposures, results["mean"][0])
    np.testing.assert_allclose(scales, scores["mean"]["scales"], atol=1e-5)


def test_gray_is_rounded_half_up():
    # 0.298936021293775 * 255 = 76.23, 0.114020904255103 * 255 = 29.08, luma of (1, 0, 2) = 0.527, (0, 0, 4) = 0.456
    picture = np.array([[[255, 0, 0], [0, 0, 255], [1, 0, 2], [0, 0, 4], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(metrics.gray(picture), [[76, 29, 1, 0, 255]])
    np.testing.assert_array_equal(metrics.gray(np.array([[0.5, 1.49, 254.5]])), [[1, 1, 255]])


def test_colour_counts_by_its_gray_alone():
    rng = np.random.default_rng(0)
    exposures, fused = rng.integers(0, 256, (3, 48, 50, 3)), rng.integers(0, 256, (48, 50, 3))
    grays = [np.asarray(metrics.gray(picture)) for picture in (*exposures, fused)]
    assert metrics.mef_ssim(exposures, fused) == metrics.mef_ssim(grays[:3], grays[3])


@pytest.mark.parametrize(
    ("sizes", "fused", "message"),
    [
        ([(50, 50)], (50, 50), "at least 2 exposures, found 1"),
        ([(50, 50), (50, 51)], (50, 50), "exposure 2 of the result's size .*50, 50.*found .*50, 51"),
        ([(40, 50), (40, 50)], (40, 50), "at least 44 pixels"),
    ],
)
def test_what_does_not_fit_is_named(sizes, fused, message):
    with pytest.raises(ValueError, match=message):
        metrics.mef_ssim([np.zeros(size) for size in sizes], np.zeros(fused))


def near(truth, seed=1):
    noise = np.random.default_rng(seed).standard_normal(truth.shape, np.float32)
    return truth * (1 + np.float32(0.1) * noise)


@pytest.mark.parametrize(("shape", "peak"), [((5, 7, 3), 1.0), ((2, 11, 13, 3), 255.0), ((17,), 0.5)])
def test_psnr_beside_numpy(shape, peak):
    first = np.random.default_rng(0).random(shape, np.float32)
    error = np.mean((np.float64(first) - np.float64(near(first))) ** 2)
    # float64 throughout
    assert metrics.psnr(first, near(first), peak) == pytest.approx(10 * np.log10(peak**2 / error), rel=1e-12)
    assert metrics.psnr(near(first), first, peak) == metrics.psnr(first, near(first), peak)


def test_psnr_of_equal_pictures_is_infinite():
    assert metrics.psnr(np.ones((4, 4, 3)), np.ones((4, 4, 3))) == math.inf


@pytest.mark.parametrize("shape", [(7, 7, 3), (7, 31, 3), (23, 29, 3), (40, 33), (12, 11, 1)])
@pytest.mark.parametrize("data_range", [1.0, 9.3, 255.0])
def test_ssim_beside_skimage(shape, data_range):
    first = np.random.default_rng(0).random(shape) * data_range
    expected = structural_similarity(
        first, near(first), data_range=data_range, channel_axis=-1 if len(shape) == 3 else None, win_size=7
    )
    # The sums of a window are taken in another order.
    assert metrics.ssim(first, near(first), data_range) == pytest.approx(expected, abs=1e-12)
    assert metrics.ssim(first, first, data_range) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", [(11, 11, 3), (11, 31, 3), (23, 29, 3)])
def test_gaussian_ssim_beside_skimage(shape):
    """Which computes what SelfHDR's util.py does by cv2.filter2D, apart from its 0..255."""
    first = np.random.default_rng(0).random(shape)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(first, near(first), data_range=1, channel_axis=-1, **gaussian)
    assert metrics.gaussian_ssim(first, near(first), 1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("golden_case", ["esbn_reconstruction"], indirect=True)
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
        # The script computes PSNR in float32: some units of the last digit of 43 dB, and 1e-6 in the figures.
        assert metrics.psnr(truth[kind], result[kind]) == pytest.approx(float(stored[f"psnr{kind}{suffix}"]), abs=1e-5)
        data_range = float(truth[kind].max() - truth[kind].min())
        similarity = metrics.ssim(truth[kind], result[kind], data_range)
        assert similarity == pytest.approx(float(stored[f"ssim{kind}{suffix}"]), abs=1e-6)


@pytest.mark.parametrize(
    ("sizes", "data_range", "message"),
    [
        ([(8, 8, 3), (8, 9, 3)], 1, "one shape, found .8, 8, 3. and .8, 9, 3."),
        ([(6, 9, 3), (6, 9, 3)], 1, "at least 7 x 7 pixels, found .6, 9, 3."),
        ([(2, 8, 8, 3), (2, 8, 8, 3)], 1, "H, W, C. or .H, W. of at least 7 x 7"),
        ([(8, 8), (8, 8)], 0, "a range above 0, found 0"),
        ([(8, 8), (8, 8)], math.nan, "a range above 0, found nan"),
    ],
)
def test_ssim_names_what_does_not_fit(sizes, data_range, message):
    with pytest.raises(ValueError, match=message):
        metrics.ssim(*(np.zeros(size) for size in sizes), data_range)


def test_psnr_refuses_to_broadcast():
    with pytest.raises(ValueError, match="one shape, found .4, 4, 3. and .4, 4, 1."):
        metrics.psnr(np.zeros((4, 4, 3)), np.zeros((4, 4, 1)))
