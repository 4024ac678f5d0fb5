"""The guided filter: smooths planes along the edges of a guide.

Kou et al., "Gradient domain guided image filtering", IEEE TIP 24(11), 2015, as in bigmms/reinforcement_learning_hdr (375578f,
utils_file/utils_fusion.py). Changed: rows are filtered in bands; with a flat guide, where the program divides 0 by 0, the
filter is a mean.
"""

import math

import cv2
import numpy as np

from hdr_tf.image.tiling import bands

RADIUS, EPS = 4, 1 / 1024


class GuidedFilter:
    """Smooths planes along the edges of a guide: the result is locally linear in it, and steeper where the guide varies more.

    Local means cover 2 radius + 1 pixels; outside, the image is mirrored without repeating its border. The statistics of a
    large guide are computed again for each band of rows, since they are several times as large as the guide.

    Args:
        guide: [H, W] float32 or float64, about 0..1.
        radius: of the local means, in pixels.
        eps: variance of the guide above which an edge is kept.
    """

    def __init__(self, guide: np.ndarray, radius: int = RADIUS, eps: float = EPS):
        self._guide, self._size, self._eps, self._kept = guide, 2 * radius + 1, eps, None
        pixels, total, inverses, least = guide.shape[0] * guide.shape[1], 0.0, 0.0, math.inf
        for _, around, inside in bands(guide, radius):
            some = guide[around]
            moments = self._moments(some)
            edges = moments[2][inside]
            total, least = total + edges.sum(), min(least, edges.min())
            inverses += (1 / (edges + 1e-6)).sum()
        self._mean, self._inverse = total / pixels, inverses / pixels
        self._steepness = 4 / (self._mean - least) if self._mean > least else 0.0
        if len(some) == guide.shape[0]:
            self._kept = self._lines(some, *moments)

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Filters a plane [H, W], of the size of the guide; returns float64."""
        filtered = np.empty(source.shape)
        for rows, around, inside in bands(source, self._size - 1):
            filtered[rows] = self.filter_rows(source[around], around)[inside]
        return filtered

    def filter_rows(self, source: np.ndarray, rows: slice) -> np.ndarray:
        """Filters rows of a plane as if they were all of it: the 2 radius rows next to a cut differ from the whole result."""
        if self._kept:
            guide, guide_mean, pull, variance = self._kept
        else:
            guide = self._guide[rows]
            guide, guide_mean, pull, variance = self._lines(guide, *self._moments(guide))
        mean = _box(source, self._size)
        slope = _box(guide * source, self._size)
        slope -= guide_mean * mean
        slope += pull
        slope /= variance
        mean -= slope * guide_mean
        result = _box(slope, self._size)
        result *= guide
        result += _box(mean, self._size)
        return result

    def _lines(self, guide, mean, variance, edges):
        """The guide, its local mean, and for the slope of the local line the summand and the divisor of the covariance."""
        # Where the guide has more edges than on average, eps is small and the slope is pulled to 1, elsewhere to 0.
        eps = self._eps / (edges + 1e-6) / self._inverse
        return guide, mean, eps / (1 + np.exp(-self._steepness * (edges - self._mean))), variance + eps

    def _moments(self, guide):
        """Local mean and variance, float64, and the strength of edges."""
        mean, variance = _moments(guide, self._size)
        return mean, variance, np.sqrt(_moments(guide, 3)[1] * variance)


def _moments(plane, size):
    """Local mean and variance, float64."""
    mean = np.float64(_box(plane, size))
    return mean, np.maximum(_box(plane * plane, size) - mean * mean, 0)


def _box(plane, size):
    return cv2.boxFilter(plane, -1, (size, size))
