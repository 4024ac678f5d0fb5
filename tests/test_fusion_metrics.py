"""The fusion metrics of the MEFB benchmark: a literal copy of its MATLAB code, numbers by hand, and errors."""

import math

import cv2
import numpy as np
import pytest
from scipy.signal import convolve2d
from skimage.measure import shannon_entropy

from hdr_tf import metrics
from tests import helpers


def noise(count, shape=(9, 12, 3), seed=0):
    """Images with edges of all directions, equal neighbours and equal edges."""
    return list(np.random.default_rng(seed).integers(0, 4, (count, *shape)) * 85)


# metricsQabf.m, pixel by pixel


def edges_by_pixel(plane):
    plane = 255 * np.float64(plane)
    across = convolve2d(plane, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "same")
    down = convolve2d(plane, [[1, 2, 1], [0, 0, 0], [-1, -2, -1]], "same")
    angle = [
        [math.pi / 2 if x == 0 else math.atan(y / x) for x, y in zip(*rows, strict=True)]
        for rows in zip(across, down, strict=True)
    ]
    return np.sqrt(across**2 + down**2), np.array(angle)


def quality_of_pixel(strength, angle, fused_strength, fused_angle):
    if strength > fused_strength:
        ratio = fused_strength / strength
    elif strength == fused_strength:
        ratio = fused_strength
    else:
        ratio = strength / fused_strength
    agreement = 1 - abs(angle - fused_angle) / (math.pi / 2)
    return 0.9994 / (1 + math.exp(-15 * (ratio - 0.5))) * (0.9879 / (1 + math.exp(-22 * (agreement - 0.8))))


def q_abf_by_pixel(exposures, fused):
    result, kept, total = edges_by_pixel(fused), 0, 0
    for source in map(edges_by_pixel, exposures):
        for where in np.ndindex(fused.shape):
            kept += quality_of_pixel(source[0][where], source[1][where], result[0][where], result[1][where]) * source[0][where]
            total += source[0][where]
    return kept / total


@pytest.mark.parametrize("count", [2, 3])
def test_q_abf_equals_the_benchmark(count):
    *exposures, fused = noise(count + 1)
    for result in (fused, exposures[0]):
        channels = [q_abf_by_pixel([exposure[..., c] for exposure in exposures], result[..., c]) for c in range(3)]
        assert metrics.q_abf(exposures, result) == pytest.approx(np.mean(channels), rel=1e-12)  # the order of the sums
    gray = [exposure[..., 0] for exposure in exposures]
    assert metrics.q_abf(gray, fused[..., 0]) == pytest.approx(q_abf_by_pixel(gray, fused[..., 0]), rel=1e-12)


def test_q_abf_of_kept_and_lost_edges():
    first, second = noise(2)
    best = 0.9994 / (1 + math.exp(-15 * 1e9)) * (0.9879 / (1 + math.exp(-22 * 0.2)))  # equal strengths, equal orientations
    assert metrics.q_abf([first, first], first) == pytest.approx(best, rel=1e-12)
    assert metrics.q_abf([first, second], first) > metrics.q_abf([first, second], np.zeros_like(first))
    # A flat result has edges only at its frame: inside, the ratio is 0 and the orientation pi/2.
    assert metrics.q_abf([first, second], np.full_like(first, 128)) < 0.2


def test_q_abf_of_white_beside_black_is_its_frame():
    # The zeros outside make an edge of every border pixel; black has none and does not count.
    white, black = np.full((5, 6), 255), np.zeros((5, 6))
    best = 0.9994 * 0.9879 / (1 + math.exp(-22 * 0.2))
    assert metrics.q_abf([white, black], white) == pytest.approx(best, rel=1e-12)
    assert math.isnan(metrics.q_abf([black, black], white))


def test_opposed_orientations_at_the_turn_of_arctan():
    # Nearly horizontal edges that lean a little to either side: arctan near +pi/2 and -pi/2, agreement near -1, nothing kept.
    row, column = np.mgrid[:12, :12]
    left, right = 100 + 8 * row + (column > 5), 100 + 8 * row - (column > 5)
    inside = metrics.q_abf([left[2:-2, 4:8]] * 2, right[2:-2, 4:8])
    assert inside < metrics.q_abf([left[2:-2, 4:8]] * 2, left[2:-2, 4:8])
    assert inside == pytest.approx(q_abf_by_pixel([left[2:-2, 4:8]], right[2:-2, 4:8]), rel=1e-12)


# metricsAvg_gradient.m, metricsEntropy.m, metricsSpatial_frequency.m


def test_average_gradient_by_hand():
    # dx = 2 everywhere, dy = 0, then the sum over 6 pixels is divided by 1 * 2.
    assert metrics.average_gradient(np.array([[0, 2, 4], [0, 2, 4]])) == pytest.approx(6 * math.sqrt(2) / 2, rel=1e-12)
    # Columns 0, 0, 6: one-sided at the border, dx = 0, 3, 6.
    assert metrics.average_gradient([[0, 0, 6], [0, 0, 6]]) == pytest.approx(2 * 9 / math.sqrt(2) / 2, rel=1e-12)
    assert metrics.average_gradient(np.full((5, 7, 3), 9)) == 0


def test_average_gradient_beside_numpy():
    (image,) = noise(1)
    expected = []
    for channel in range(3):
        down, across = np.gradient(np.float64(image[..., channel]))
        expected.append(np.sqrt((across**2 + down**2) / 2).sum() / (8 * 11))
    assert metrics.average_gradient(image) == pytest.approx(np.mean(expected), rel=1e-12)


def test_spatial_frequency_by_hand():
    # Two differences of 3 to the left, three of 4 upwards, six pixels.
    assert metrics.spatial_frequency([[0, 3, 3], [4, 7, 7]]) == pytest.approx(math.sqrt((2 * 9 + 3 * 16) / 6), rel=1e-12)
    # The mean of the channels' roots: of 2/4, 32/4 and 0.
    image = np.zeros((2, 2, 3))
    image[:, 1, 0], image[1, :, 1] = 1, 4
    assert metrics.spatial_frequency(image) == pytest.approx((math.sqrt(0.5) + math.sqrt(8) + 0) / 3, rel=1e-12)


def test_entropy_is_scikit_images():
    # hdr_tf/evaluation/fusion.py relies on it: 256 bins and base 2, as in the benchmark.
    (image,) = noise(1, (9, 12))
    share = np.bincount(image.ravel(), minlength=256) / image.size
    expected = -sum(p * math.log2(p) for p in share if p)
    assert shannon_entropy(np.uint8(image), base=2) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("shapes", "fused", "message"),
    [
        ([(5, 5)], (5, 5), "2 1"),
        ([(5, 5, 3), (5, 6, 3)], (5, 5, 3), "2 5, 5 3 5, 6"),
        ([(5, 5), (5, 5)], (5, 5, 3), "5, 5 3 1"),
    ],
)
def test_errors_name_the_shapes(shapes, fused, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        metrics.q_abf([np.zeros(shape) for shape in shapes], np.zeros(fused))


def test_mertens_keeps_more_edges_than_the_mean(reference):
    bgr = [cv2.imread(str(path)) for path in sorted((reference / "mefb_dev" / "Chair").iterdir())]
    mertens = np.clip(np.rint(255 * cv2.createMergeMertens().process(bgr)), 0, 255)
    mean = (bgr[0].astype(int) + bgr[1]) // 2
    assert metrics.q_abf(bgr, mertens) > metrics.q_abf(bgr, mean) > 0.3
