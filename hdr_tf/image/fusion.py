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

Changed: look-ups and array operations instead of loops over pixels, in bands of rows, and colours and the weights of the pixels
in float32; results are within 1e-3. What divides 0 by 0 there has a value here: a flat guide (the filter is then a mean) and
three black pictures (equal weights). Pictures of 16 bit, unknown there, are fused as they are, with the virtual exposure of
their 8-bit copies.
"""

import math

import cv2
import numpy as np

from hdr_tf.image.depth import to_depth, to_unit

RADIUS, EPS = 4, 1 / 1024  # of the guided filter
BAND = 2**18  # pixels that are worked on at a time, where each depends on those near it only: float64 takes much memory
LEVELS_OF_8_BIT = np.arange(256)


def _smoothstep(t):
    t = np.clip(t, 0, 1)
    return 3 * t**2 - 2 * t**3


DARK_WEIGHTS = 1 - _smoothstep((LEVELS_OF_8_BIT - 200) / 50)  # of the levels of the dark picture: 1 to 200, 0 from 250
BRIGHT_WEIGHTS = _smoothstep((LEVELS_OF_8_BIT - 10) / 45)  # of the bright one: 0 to 10, 1 from 55


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
    under, over = (to_depth(picture, 8) for picture in (under, over))
    virtual = np.empty_like(under)
    for channel in range(3):
        dark, bright = under[..., channel], over[..., channel]
        dark_means, bright_means = (
            np.sqrt(LEVELS_OF_8_BIT * np.float64(intensity_table(*pair))) for pair in ((dark, bright), (bright, dark))
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
        self._qualities = [_quality(picture) for picture in (under, over)]

    def __call__(self, virtual: np.ndarray) -> np.ndarray:
        """Returns the fused picture, float32 [H, W, 3], about 0..1; not clipped."""
        sources = [*self._pair, _Source(virtual)]
        weights = _weights([*self._qualities, _quality(virtual)], [source.brightness for source in sources])
        return reconstruct([_blend(sources, weights, level) for level in range(len(sources[0].pyramid))])


class _Source:
    """One of the three pictures: its pyramid and a filter for each level, its mean brightness squared."""

    def __init__(self, picture):
        levels = max(1, round(math.log2(min(picture.shape[:2]))) - 2)
        pixels = to_unit(picture)
        self.pyramid = [picture, *gaussian_pyramid(pixels, levels)[1:]]
        guide = np.empty(picture.shape[:2], np.float32)
        for rows, *_ in _bands(picture, 0):
            guide[rows] = _guide(pixels[rows])
        self.brightness = float(guide.mean()) ** 2
        guides = [_Guide(picture), *gaussian_pyramid(np.float64(guide), levels)[1:]]
        self.filters = [GuidedFilter(guide) for guide in guides]


class _Guide:
    """The guide of a picture, computed wherever rows of it are taken: to keep it whole would take more memory than time."""

    def __init__(self, picture):
        self._picture, self.shape = picture, picture.shape[:2]

    def __getitem__(self, rows):
        return _guide(self._picture[rows])


def _guide(picture):
    return cv2.cvtColor(to_unit(picture)[..., ::-1], cv2.COLOR_RGB2YCrCb)[..., 0]  # BGR taken for RGB, as there


def _bands(plane, halo):
    """Yields the rows of a plane in bands: a slice of rows, one with `halo` more on both sides, and the first in the second."""
    height, width = plane.shape[:2]
    step = max(1, BAND // width)
    for top in range(0, height, step):
        first, bottom = max(0, top - halo), min(top + step, height)
        yield slice(top, bottom), slice(first, bottom + halo), slice(top - first, bottom - first)


def _quality(picture):
    quality = np.empty(picture.shape[:2], np.float32)
    for rows, around, inside in _bands(picture, 1):
        pixels = to_unit(picture[around])
        quality[rows] = (contrast(pixels) * saturation(pixels) * well_exposedness(pixels))[inside]
    return quality


def _weights(qualities, brightnesses):
    """Weights of the pictures, float32 [H, W] each."""
    weights = [np.empty_like(quality) for quality in qualities]
    for rows, *_ in _bands(weights[0], 0):
        shares = _normalised([np.float64(quality[rows]) + 1e-12 for quality in qualities])
        shares = _normalised([share * brightness for share, brightness in zip(shares, brightnesses, strict=True)])
        for weight, share in zip(weights, shares, strict=True):
            weight[rows] = share
    return weights


def _normalised(weights):
    total = sum(weights)
    return [np.divide(weight, total, out=np.full_like(weight, 1 / len(weights)), where=total > 0) for weight in weights]


def _blend(sources, weights, level):
    """The pictures' details at a level of their pyramids, or the last level itself, blended with the filtered weights. What the
    next level needs takes the place of the weights: of a large picture three less count."""
    fused, total = None, np.zeros_like(weights[0])
    for number, source in enumerate(sources):
        picture, coarse = source.pyramid[level], source.pyramid[level + 1 :]
        part = _enlarge(coarse[0], picture) if coarse else np.zeros(picture.shape, np.float32)
        for rows, around, inside in _bands(picture, 2 * RADIUS):
            weight = np.float64(weights[number][around])
            plane = np.float32(source.filters[level].filter_rows(weight, around)[inside] + 1e-12)
            part[rows] = cv2.merge([plane] * 3) * (to_unit(picture[rows]) - part[rows])
            total[rows] += plane
        weights[number] = _halved(weights[number])
        fused = part if fused is None else np.add(fused, part, out=fused)
    for rows, *_ in _bands(fused, 0):
        fused[rows] /= cv2.merge([total[rows]] * 3)
    return fused


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
        pyramid.append(_halved(pyramid[-1]))
    return pyramid


def _halved(picture):
    blurred = cv2.GaussianBlur(picture, (7, 7), 2 / 3, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(blurred, ((blurred.shape[1] + 1) // 2, (blurred.shape[0] + 1) // 2))


def laplacian_pyramid(picture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Returns what each level of the Gaussian pyramid has more than the next one, enlarged linearly, and the last level."""
    pyramid = gaussian_pyramid(picture, levels)
    return [fine - _enlarge(coarse, fine) for fine, coarse in zip(pyramid, pyramid[1:], strict=False)] + pyramid[-1:]


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Returns the picture of a Laplacian pyramid."""
    picture = pyramid[-1]
    for level in pyramid[-2::-1]:
        picture = _enlarge(picture, level)
        picture += level
    return picture


def _enlarge(picture, like):
    return cv2.resize(picture, like.shape[1::-1])


class GuidedFilter:
    """Smooths planes along the edges of a guide (Kou et al. 2015): locally linear in it, the steeper the more it varies.

    Local means are over 2 radius + 1 pixels, mirrored outside, the border itself not repeated. What it knows of a large guide
    is computed anew for each band of rows: kept, it would be several times as large as the guide.
    """

    def __init__(self, guide: np.ndarray, radius: int = RADIUS, eps: float = EPS):
        """Args: guide [H, W] float32 or float64, about 0..1; eps, of its variance, above which an edge is kept."""
        self._guide, self._size, self._eps, self._kept = guide, 2 * radius + 1, eps, None
        pixels, total, inverses, least = guide.shape[0] * guide.shape[1], 0.0, 0.0, math.inf
        for _, around, inside in _bands(guide, radius):
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
        """Filters a plane [H, W] of the guide's size; returns float64."""
        filtered = np.empty(source.shape)
        for rows, around, inside in _bands(source, self._size - 1):
            filtered[rows] = self.filter_rows(source[around], around)[inside]
        return filtered

    def filter_rows(self, source: np.ndarray, rows: slice) -> np.ndarray:
        """Filters rows of a plane as if there were no others: those within 2 radius of a cut come out as others do."""
        if self._kept:
            guide, guide_mean, pull, variance = self._kept
        else:
            guide = self._guide[rows]
            guide, guide_mean, pull, variance = self._lines(guide, *self._moments(guide))
        mean = _box(source, self._size)
        slope = (_box(guide * source, self._size) - guide_mean * mean + pull) / variance
        return _box(slope, self._size) * guide + _box(mean - slope * guide_mean, self._size)

    def _lines(self, guide, mean, variance, edges):
        """The guide, its local mean, what is added to a covariance and what that is then divided by for a line's slope."""
        # eps falls where the guide has more edges than on average; there the filter's slope is drawn to 1, elsewhere to 0.
        eps = self._eps / (edges + 1e-6) / self._inverse
        return guide, mean, eps / (1 + np.exp(-self._steepness * (edges - self._mean))), variance + eps

    def _moments(self, guide):
        """Local mean and variance, float64, and how much of an edge there is."""
        mean, variance = _moments(guide, self._size)
        return mean, variance, np.sqrt(_moments(guide, 3)[1] * variance)


def _moments(plane, size):
    """Local mean and variance, float64."""
    mean = np.float64(_box(plane, size))
    return mean, np.maximum(_box(plane * plane, size) - mean * mean, 0)


def _box(plane, size):
    return cv2.boxFilter(plane, -1, (size, size))
