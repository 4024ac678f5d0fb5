"""MEF-SSIM: the scores of the MEFB benchmark on real pictures, and its own steps."""

import json

import cv2
import numpy as np
import pytest

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
