"""Fusion of two exposures with a virtual exposure between them, as the editor does it.

    intensity_table     which level of one image is as bright as a level of the other, by their histograms
    virtual_exposure    the exposure between two, estimated from both
    PairFusion          pyramid fusion of under, over and virtual, for many virtual exposures of one pair

From bigmms/reinforcement_learning_hdr (375578f, utils_file/utils_fusion.py), the program of Yin, Chen, Peng, Hwang, "Automatic
Intermediate Generation With Deep Reinforcement Learning for Robust Two-Exposure Image Fusion", IEEE TNNLS 33(12), 2022. Virtual
exposure and fusion resemble Yang et al., "Multi-scale fusion of two large-exposure-ratio images", IEEE SPL 25(12), 2018. The
quality measures and pyramids stand in exposure_fusion.py, the filter of the weights in guided_filter.py.

Images are [H, W, 3] RGB: uint8 or uint16 over their full range, or float in 0..1.

Kept: the tables' shift by one level, as MATLAB counts from 1; which image trusts which levels: the program's test loop hands
its test images over in the wrong order, so that the bright image loses its dark levels and the dark one its bright levels; a
guide whose weights of red and blue are exchanged; the number of levels; fused values that leave 0..1. Gray and guide are
computed as there, in float32 of BGR and the lower levels of the guide in float64: where the contrast is nothing but rounding,
the rounding decides the weights, and results differ by a level of 255 in places.

Changed: look-ups and array operations instead of loops over pixels, in bands of rows, and colours and the weights of the pixels
in float32; results are within 1e-3. Three black images, where the program divides 0 by 0, have equal weights. Images of 16 bit,
which the program does not know, are fused as they are, with the virtual exposure of their 8-bit copies.
"""

import math

import cv2
import numpy as np

from hdr_tf.image.depth import to_depth, to_unit
from hdr_tf.image.exposure_fusion import contrast, enlarge, gaussian_pyramid, halved, reconstruct, saturation, well_exposedness
from hdr_tf.image.guided_filter import RADIUS, GuidedFilter
from hdr_tf.image.tiles import bands

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
        for rows, *_ in bands(picture, 0):
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


def _quality(picture):
    quality = np.empty(picture.shape[:2], np.float32)
    for rows, around, inside in bands(picture, 1):
        pixels = to_unit(picture[around])
        quality[rows] = (contrast(pixels) * saturation(pixels) * well_exposedness(pixels))[inside]
    return quality


def _weights(qualities, brightnesses):
    """Weights of the pictures, float32 [H, W] each."""
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
    """The pictures' details at a level of their pyramids, or the last level itself, blended with the filtered weights. What the
    next level needs takes the place of the weights: of a large picture three less count."""
    fused, total = None, np.zeros_like(weights[0])
    for number, source in enumerate(sources):
        picture, coarse = source.pyramid[level], source.pyramid[level + 1 :]
        part = enlarge(coarse[0], picture) if coarse else np.zeros(picture.shape, np.float32)
        for rows, around, inside in bands(picture, 2 * RADIUS):
            weight = np.float64(weights[number][around])
            plane = np.float32(source.filters[level].filter_rows(weight, around)[inside] + 1e-12)
            part[rows] = cv2.merge([plane] * 3) * (to_unit(picture[rows]) - part[rows])
            total[rows] += plane
        weights[number] = halved(weights[number])
        fused = part if fused is None else np.add(fused, part, out=fused)
    for rows, *_ in bands(fused, 0):
        fused[rows] /= cv2.merge([total[rows]] * 3)
    return fused
