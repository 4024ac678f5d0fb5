"""Classical fusion of two exposures: a virtual exposure between them, and a pyramid fusion of the three; and of any number.

    intensity_table     which level of one picture is as bright as a level of the other, by their histograms
    virtual_exposure    the middle exposure, estimated from both
    three_fusion        pyramid fusion of under, over and virtual; PairFusion does it for many virtual exposures of one pair
    fusion_virtual      both steps: what the editor (hdr_tf/image/editing.py) starts from
    mertens             exposure fusion of any number of pictures, OpenCV's
    contrast, saturation, well_exposedness, gaussian_pyramid, laplacian_pyramid, reconstruct, GuidedFilter     their parts

From bigmms/reinforcement_learning_hdr (375578f, utils_file/utils_fusion.py), the program of Yin, Chen, Peng, Hwang, "Automatic
Intermediate Generation With Deep Reinforcement Learning for Robust Two-Exposure Image Fusion", IEEE TNNLS 33(12), 2022. Virtual
exposure and fusion resemble Yang et al., "Multi-scale fusion of two large-exposure-ratio images", IEEE SPL 25(12), 2018; the
quality measures are those of Mertens et al., "Exposure fusion", Pacific Graphics 2007; the guided filter is Kou et al.,
"Gradient domain guided image filtering", IEEE TIP 24(11), 2015.

Pictures are [H, W, 3] RGB: uint8 or uint16 over their full range, or float in 0..1.

Kept: the tables' shift by one level, as MATLAB counts from 1; which picture trusts which levels: the program's test loop hands
its test pictures over in the wrong order, so that the bright picture loses its dark levels and the dark one its bright levels;
exp(-0.4 ..) for well-exposedness where Mertens has -0.5; zeros around the picture for the contrast, so that its frame has much
of it; a guide whose weights of red and blue are exchanged; the number of levels; fused values that leave 0..1. Gray and guide
are computed as there, in float32 of BGR and the lower levels of the guide in float64: where the contrast is nothing but
rounding, the rounding decides the weights, and results differ by a level of 255 in places.

Changed: look-ups and array operations instead of loops over pixels, and colours in float32; results are within 1e-3. What
divides 0 by 0 there has a value here: a flat guide (the filter is then a mean) and three black pictures (equal weights).
Pictures of 16 bit, unknown there, are fused as they are, with the virtual exposure of their 8-bit copies.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import files

RADIUS, EPS = 4, 1 / 1024  # of the guided filter
LEVELS = np.arange(256)


def _smoothstep(t):
    t = np.clip(t, 0, 1)
    return 3 * t**2 - 2 * t**3


DARK_WEIGHTS = 1 - _smoothstep((LEVELS - 200) / 50)  # of the levels of the dark picture: 1 to 200, 0 from 250
BRIGHT_WEIGHTS = _smoothstep((LEVELS - 10) / 45)  # of the bright one: 0 to 10, 1 from 55


def intensity_table(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns the level of `reference` that as many pixels do not exceed as the level of `picture`, for each level.

    Level v takes what the nearest cumulative count says of v - 1, plus one; 0 stays 0.

    Args:
        picture: one channel, uint8 of any shape.
        reference: likewise, of as many pixels.

    Returns:
        [256] uint8.
    """
    counts, target = (np.bincount(x.ravel(), minlength=256).cumsum() for x in (picture, reference))
    nearest = np.abs(counts[:, None] - target).argmin(axis=1)
    return np.append(0, np.minimum(nearest + 1, 255)[:-1]).astype(np.uint8)


def virtual_exposure(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Returns the exposure between two: geometric means of each with itself as bright as the other, weighted by the levels.

    Args:
        under: uint8 or uint16 [H, W, 3].
        over: likewise.

    Returns:
        uint8 [H, W, 3], truncated. 0 where neither picture has a weight.
    """
    under, over = (files.to_depth(picture, 8) for picture in (under, over))
    virtual = np.empty_like(under)
    for channel in range(3):
        dark, bright = under[..., channel], over[..., channel]
        dark_means, bright_means = (
            np.sqrt(LEVELS * np.float64(intensity_table(*pair))) for pair in ((dark, bright), (bright, dark))
        )
        # All pixels of the same two levels get the same value: a table of 256 x 256 holds every one.
        means = np.add.outer(DARK_WEIGHTS * dark_means, BRIGHT_WEIGHTS * bright_means)
        table = (means / (np.add.outer(DARK_WEIGHTS, BRIGHT_WEIGHTS) + 1e-17)).astype(np.uint8)
        virtual[..., channel] = table[dark, bright]
    return virtual


def fusion_virtual(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Fuses two pictures with the virtual exposure between them.

    Args:
        under: uint8 or uint16 [H, W, 3], 8 pixels a side and more.
        over: likewise, of the same shape.

    Returns:
        float32 [H, W, 3], about 0..1; not clipped.
    """
    return PairFusion(under, over)(virtual_exposure(under, over))


def three_fusion(under: np.ndarray, over: np.ndarray, virtual: np.ndarray) -> np.ndarray:
    """Fuses three pictures [H, W, 3]; see `PairFusion`."""
    return PairFusion(under, over)(virtual)


def mertens(exposures: Sequence[np.ndarray]) -> np.ndarray:
    """Fuses exposures, uint8 [N, H, W, 3] RGB, with OpenCV's exposure fusion (Mertens et al. 2007), contrast, saturation and
    well-exposedness weighted alike; returns uint8 [H, W, 3]."""
    fused = cv2.createMergeMertens(1, 1, 1).process([np.ascontiguousarray(exposure[..., ::-1]) for exposure in exposures])
    return np.uint8(np.clip(fused[..., ::-1] * 255 + 0.5, 0, 255))


class PairFusion:
    """Fuses a pair with as many virtual exposures as there are; what depends on the pair alone is computed once.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> under, over, virtual = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
        >>> PairFusion(under, over)(virtual).shape
        (16, 16, 3)
    """

    def __init__(self, under: np.ndarray, over: np.ndarray):
        """Args: two pictures [H, W, 3] of one size, 8 pixels a side and more. Raises ValueError for others."""
        if under.shape != over.shape or under.ndim != 3 or under.shape[2] != 3 or min(under.shape[:2]) < 8:
            raise ValueError(
                f"expected two pictures [H, W, 3] of one size, at least 8 x 8, found {list(under.shape)} and {list(over.shape)}"
            )
        self._pair = [_Source(picture) for picture in (under, over)]

    def __call__(self, virtual: np.ndarray) -> np.ndarray:
        """Returns the fused picture, float32 [H, W, 3], about 0..1; not clipped."""
        sources = [*self._pair, _Source(virtual)]
        weights = _normalised([source.quality + 1e-12 for source in sources])
        weights = _normalised([weight * source.brightness for weight, source in zip(weights, sources, strict=True)])
        levels = len(sources[0].details)
        fused, total = [0.0] * levels, [0.0] * levels
        for source, weight in zip(sources, weights, strict=True):
            for level, plane in enumerate(gaussian_pyramid(weight, levels)):
                plane = source.filters[level](plane) + 1e-12
                fused[level] = fused[level] + np.float32(plane)[..., None] * source.details[level]
                total[level] = total[level] + plane
        return reconstruct([x / np.float32(y)[..., None] for x, y in zip(fused, total, strict=True)])


class _Source:
    """One of the three pictures: its quality [H, W], its mean brightness squared, its filters and details level by level."""

    def __init__(self, picture):
        picture = _unit(picture)
        levels = max(1, round(math.log2(min(picture.shape[:2]))) - 2)
        guide = cv2.cvtColor(picture[..., ::-1], cv2.COLOR_RGB2YCrCb)[..., 0]  # BGR taken for RGB, as there
        self.quality = contrast(picture) * saturation(picture) * well_exposedness(picture)
        self.brightness = float(guide.mean()) ** 2
        self.filters = [GuidedFilter(plane) for plane in (guide, *gaussian_pyramid(np.float64(guide), levels)[1:])]
        self.details = laplacian_pyramid(picture, levels)


def _unit(picture):
    """To float32 in 0..1, each value the nearest to the quotient."""
    if picture.dtype.kind == "u":
        return (picture / np.iinfo(picture.dtype).max).astype(np.float32)
    return picture.astype(np.float32, copy=False)


def _normalised(weights):
    total = sum(weights)
    return [np.divide(weight, total, out=np.full_like(weight, 1 / len(weights)), where=total > 0) for weight in weights]


def contrast(picture: np.ndarray) -> np.ndarray:
    """Returns the absolute Laplacian of the gray picture, zeros around it: [H, W, 3] float32 -> [H, W] float64, 0..4."""
    gray = np.float64(cv2.cvtColor(picture[..., ::-1], cv2.COLOR_BGR2GRAY))
    return np.abs(cv2.Laplacian(gray, -1, borderType=cv2.BORDER_CONSTANT))


def saturation(picture: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the channels, exactly 0 for gray: [H, W, 3] float32 -> [H, W]."""
    red, green, blue = cv2.split(picture)
    return np.sqrt((red - green) ** 2 + (green - blue) ** 2 + (blue - red) ** 2) / np.float32(3)


def well_exposedness(picture: np.ndarray) -> np.ndarray:
    """Returns the product of exp(-0.4 (v - 0.5)**2 / 0.2**2) over the channels: [H, W, 3] float32 -> [H, W], 0..1."""
    return np.exp(np.float32(-10) * sum((channel - np.float32(0.5)) ** 2 for channel in cv2.split(picture)))


def gaussian_pyramid(picture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Returns the picture and levels - 1 smaller ones, each blurred with sigma 2/3 and scaled linearly to half, rounded up.

    Args:
        picture: [H, W] or [H, W, C], float32 or float64, which is kept.
        levels: 1 and more.
    """
    pyramid = [picture]
    for _ in range(levels - 1):
        blurred = cv2.GaussianBlur(pyramid[-1], (7, 7), 2 / 3, borderType=cv2.BORDER_REFLECT)
        pyramid.append(cv2.resize(blurred, ((blurred.shape[1] + 1) // 2, (blurred.shape[0] + 1) // 2)))
    return pyramid


def laplacian_pyramid(picture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Returns what each level of the Gaussian pyramid has more than the next one, enlarged linearly, and the last level."""
    pyramid = gaussian_pyramid(picture, levels)
    return [fine - _enlarge(coarse, fine) for fine, coarse in zip(pyramid, pyramid[1:], strict=False)] + pyramid[-1:]


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Returns the picture of a Laplacian pyramid."""
    picture = pyramid[-1]
    for level in pyramid[-2::-1]:
        picture = level + _enlarge(picture, level)
    return picture


def _enlarge(picture, like):
    return cv2.resize(picture, like.shape[1::-1])


class GuidedFilter:
    """Smooths planes along the edges of a guide (Kou et al. 2015): locally linear in it, the steeper the more it varies.

    Local means are over 2 radius + 1 pixels, mirrored outside, the border itself not repeated.
    """

    def __init__(self, guide: np.ndarray, radius: int = RADIUS, eps: float = EPS):
        """Args: guide [H, W] float32 or float64, about 0..1; eps, of its variance, above which an edge is kept."""
        self._guide, self._size = guide, 2 * radius + 1
        self._mean, variance = _moments(guide, self._size)
        edges = np.sqrt(_moments(guide, 3)[1] * variance)
        # eps falls where the guide has more edges than on average; there the filter's slope is drawn to 1, elsewhere to 0.
        inverse = 1 / (edges + 1e-6)
        eps = eps * inverse / inverse.mean()
        mean, least = edges.mean(), edges.min()
        steepness = 4 / (mean - least) if mean > least else 0.0
        self._pull = eps / (1 + np.exp(-steepness * (edges - mean)))
        self._variance = variance + eps

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Filters a plane [H, W] of the guide's size; returns float64."""
        mean = _box(source, self._size)
        slope = (_box(self._guide * source, self._size) - self._mean * mean + self._pull) / self._variance
        return _box(slope, self._size) * self._guide + _box(mean - slope * self._mean, self._size)


def _moments(plane, size):
    """Local mean and variance, float64."""
    mean = np.float64(_box(plane, size))
    return mean, np.maximum(_box(plane * plane, size) - mean * mean, 0)


def _box(plane, size):
    return cv2.boxFilter(plane, -1, (size, size))
