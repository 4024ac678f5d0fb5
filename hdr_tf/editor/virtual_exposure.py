"""The editor's fusion of two exposures with a virtual exposure between them.

From bigmms/reinforcement_learning_hdr (375578f, utils_file/utils_fusion.py), the program of Yin, Chen, Peng, Hwang, "Automatic
Intermediate Generation With Deep Reinforcement Learning for Robust Two-Exposure Image Fusion", IEEE TNNLS 33(12), 2022. Virtual
exposure and fusion resemble Yang et al., "Multi-scale fusion of two large-exposure-ratio images", IEEE SPL 25(12), 2018. The
quality measures and pyramids are in hdr_tf/image/exposure_fusion.py, the filter of the weights is in guided_filter.py.

Images are [H, W, 3] RGB: uint8 or uint16 over their full range, or float in 0..1.

Kept: the tables are shifted by one level, because MATLAB counts from 1; the program's test loop passes its test images in the
wrong order, so the over-exposed image loses its dark levels and the under-exposed one its bright levels; the weights of red and
blue in the guide are exchanged; the number of pyramid levels; fused values may leave 0..1. As in the program, the gray image
and the guide are computed from BGR in float32, and the lower levels of the guide in float64: where the contrast is nothing but
rounding, the rounding decides the weights, and results differ by a level of 255 in places.

Changed: look-ups and array operations on bands of rows replace loops over pixels, and colours and the weights of the pixels are
float32; results are within 1e-3. Three black images, where the program divides 0 by 0, get equal weights. The program does not
know 16-bit images; here they are fused at their own depth, with the virtual exposure of their 8-bit copies.
"""

import itertools
import math
from collections.abc import Callable

import cv2
import numpy as np

from hdr_tf.image.depth import to_depth, to_unit
from hdr_tf.image.exposure_fusion import contrast, enlarge, gaussian_pyramid, halved, reconstruct, saturation, well_exposedness
from hdr_tf.image.guided_filter import RADIUS, GuidedFilter
from hdr_tf.image.tiling import BAND, bands

LEVELS_OF_8_BIT = np.arange(256)

Fusion = Callable[[np.ndarray], np.ndarray]  # from the virtual exposure to the fused image, [H, W, 3] float32


def _smoothstep(t):
    t = np.clip(t, 0, 1)
    return 3 * t**2 - 2 * t**3


UNDER_WEIGHTS = 1 - _smoothstep((LEVELS_OF_8_BIT - 200) / 50)  # of the under-exposed image's levels: 1 to 200, 0 from 250
OVER_WEIGHTS = _smoothstep((LEVELS_OF_8_BIT - 10) / 45)  # of the over-exposed image's levels: 0 to 10, 1 from 55


def intensity_table(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns a table, [256] uint8, from each level of `image` to the level of `reference` with the nearest cumulative pixel
    count. Level v becomes the match of level v - 1, plus one; 0 stays 0.

    Args:
        image, reference: one channel each, uint8, of any shape, with the same number of pixels.
    """
    counts, target = (np.bincount(x.ravel(), minlength=256).cumsum() for x in (image, reference))
    nearest = np.abs(counts[:, None] - target).argmin(axis=1)
    return np.append(0, np.minimum(nearest + 1, 255)[:-1]).astype(np.uint8)


def virtual_exposure(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Estimates the exposure between two images, uint8 or uint16 [H, W, 3] of one size and type.

    Each image is matched to the brightness of the other, and the geometric mean of the image and its match is taken. The result
    is the average of both means, weighted by the levels of the images: uint8 [H, W, 3], truncated; 0 where both weights are 0.
    """
    under, over = (to_depth(image, 8) for image in (under, over))
    virtual = np.empty_like(under)
    for channel in range(3):
        pair = under[..., channel], over[..., channel]
        means = [np.sqrt(LEVELS_OF_8_BIT * np.float64(intensity_table(*images))) for images in (pair, pair[::-1])]
        # The value of a pixel depends on its two levels only, so a table of 256 x 256 holds all values.
        sums = np.add.outer(UNDER_WEIGHTS * means[0], OVER_WEIGHTS * means[1])
        table = (sums / (np.add.outer(UNDER_WEIGHTS, OVER_WEIGHTS) + 1e-17)).astype(np.uint8)
        virtual[..., channel] = table[pair]
    return virtual


def repaired_virtual_exposure(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """Estimates the exposure between two images without the artefacts of `virtual_exposure`; returns float32 [H, W, 3] in 0..1.

    Changed: the over-exposed image loses its bright levels, where it is clipped, and the under-exposed one its dark levels,
    which are noise; with these weights exchanged, as in the program, clipping leaves a contour, and what is nearly black has
    coloured speckle. A pixel has one weight, that of its brightest channel, and all channels have one table, so no colour
    appears where the channels clip one after the other. What is both black in one image and clipped in the other is gray, since
    its colour is noise. Nothing is rounded, so gradients have no steps.
    """
    pair = [to_depth(image, 8) for image in (under, over)]
    over_share, under_share = OVER_WEIGHTS[pair[0].max(axis=2)], UNDER_WEIGHTS[pair[1].max(axis=2)]
    known = np.float32(np.minimum(over_share + under_share, 1))[..., None]
    # The smallest share keeps the brightness of what is both black in one image and clipped in the other.
    share = np.float32((over_share + 1e-3) / (over_share + under_share + 2e-3))[..., None]
    means = [np.float32(np.sqrt(LEVELS_OF_8_BIT * _matches(*images)) / 255) for images in (pair, pair[::-1])]
    virtual = share * means[0][pair[0]] + (1 - share) * means[1][pair[1]]
    gray = virtual.mean(axis=2, keepdims=True)
    return np.minimum(gray + known * (virtual - gray), 1)


def _matches(image, reference):
    """For each level of an image, the level of the other, float, below which as many values lie. Beyond the levels that are
    well exposed in both, the ratio of the two stays what it is at their ends."""
    counts, target = (np.bincount(x.ravel(), minlength=256) for x in (image, reference))
    levels = np.interp(counts.cumsum() - counts / 2, target.cumsum() - target / 2, LEVELS_OF_8_BIT)
    darker, brighter = np.minimum(levels, LEVELS_OF_8_BIT), np.maximum(levels, LEVELS_OF_8_BIT)
    good = np.flatnonzero((counts > 0) & (darker > 10) & (brighter < 250))
    return LEVELS_OF_8_BIT * np.interp(LEVELS_OF_8_BIT, good, levels[good] / good) if good.size else levels


class PairFusion:
    """Fuses a pair with any number of virtual exposures; everything that depends on the pair alone is computed once. `pair` is
    the two exposures.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> under, over, virtual = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
        >>> PairFusion(under, over)(virtual).shape
        (16, 16, 3)
    """

    def __init__(self, under: np.ndarray, over: np.ndarray):
        """Args: the two exposures, [H, W, 3] of one size, at least 8 pixels a side."""
        if under.shape != over.shape or under.ndim != 3 or under.shape[2] != 3 or min(under.shape[:2]) < 8:
            raise ValueError(
                f"expected two images [H, W, 3] of one size, at least 8 x 8, found {list(under.shape)} and {list(over.shape)}"
            )
        self.pair = under, over
        self._sources = [_Source(image) for image in self.pair]
        self._qualities = [_quality(image) for image in self.pair]

    def __call__(self, virtual: np.ndarray) -> np.ndarray:
        """Returns the fused image, float32 [H, W, 3], about 0..1; not clipped."""
        sources = [*self._sources, _Source(virtual)]
        weights = _weights([*self._qualities, _quality(virtual)], [source.brightness for source in sources])
        return reconstruct([_blend(sources, weights, level) for level in range(len(sources[0].pyramid))])


class _Source:
    """One of the three images: its pyramid, a filter for each level, and its squared mean brightness. The Laplacian pyramid and
    the guide are kept for a small image and computed again from its parts for a large one."""

    def __init__(self, image):
        levels = max(1, round(math.log2(min(image.shape[:2]))) - 2)
        pixels = to_unit(image)
        self.pyramid = [image, *gaussian_pyramid(pixels, levels)[1:]]
        guide = np.empty(image.shape[:2], np.float32)
        for rows, *_ in bands(image, 0):
            guide[rows] = _guide(pixels[rows])
        self.brightness = float(guide.mean()) ** 2
        small = guide.size <= BAND
        self.laplacian = _laplacian([pixels, *self.pyramid[1:]]) if small else None
        guides = [guide if small else _Guide(image), *gaussian_pyramid(np.float64(guide), levels)[1:]]
        self.filters = [GuidedFilter(guide) for guide in guides]


def _laplacian(pyramid):
    return [*(image - enlarge(coarse, image) for image, coarse in itertools.pairwise(pyramid)), pyramid[-1]]


class _Guide:
    """The guide of an image. Rows are computed on access, because the memory of the whole guide costs more than the time."""

    def __init__(self, image):
        self._image, self.shape = image, image.shape[:2]

    def __getitem__(self, rows):
        return _guide(self._image[rows])


def _guide(image):
    return cv2.cvtColor(to_unit(image)[..., ::-1], cv2.COLOR_RGB2YCrCb)[..., 0]  # treats BGR as RGB, as in the original


def _quality(image):
    quality = np.empty(image.shape[:2], np.float32)
    for rows, around, inside in bands(image, 1):
        pixels = to_unit(image[around])
        quality[rows] = (contrast(pixels) * saturation(pixels) * well_exposedness(pixels))[inside]
    return quality


def _weights(qualities, brightnesses):
    weights = [np.empty_like(quality) for quality in qualities]
    for rows, *_ in bands(weights[0], 0):
        shares = _normalised([np.float64(quality[rows]) + 1e-12 for quality in qualities])
        shares = _normalised([share * brightness for share, brightness in zip(shares, brightnesses, strict=True)])
        for weight, share in zip(weights, shares, strict=True):
            weight[rows] = share
    return weights


def _normalised(weights):
    total = sum(weights)
    return [np.divide(weight, total, out=np.full_like(weight, 1 / len(weights)), where=total > 0) for weight in weights]


def _blend(sources, weights, level):
    """Blends a level of the images' Laplacian pyramids with the filtered weights. Replaces the weights by those of the next
    level, because three more planes of a large image take much memory."""
    fused, total = None, np.zeros_like(weights[0])
    for number, source in enumerate(sources):
        image, coarse, detail = source.pyramid[level], source.pyramid[level + 1 :], source.laplacian and source.laplacian[level]
        if detail is None:
            part = enlarge(coarse[0], image) if coarse else np.zeros(image.shape, np.float32)
        else:
            part = np.empty_like(detail)
        for rows, around, inside in bands(image, 2 * RADIUS):
            weight = np.float64(weights[number][around])
            plane = np.float32(source.filters[level].filter_rows(weight, around)[inside] + 1e-12)
            kept = to_unit(image[rows]) - part[rows] if detail is None else detail[rows]
            part[rows] = cv2.merge([plane] * 3) * kept
            total[rows] += plane
        weights[number] = halved(weights[number])
        fused = part if fused is None else np.add(fused, part, out=fused)
    for rows, *_ in bands(fused, 0):
        fused[rows] /= cv2.merge([total[rows]] * 3)
    return fused
