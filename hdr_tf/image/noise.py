"""Noise: the model of an exposure, its blind estimation from developed images, and its removal from the merged radiance.

The model is that of Granados et al., "Optimal HDR reconstruction with linear digital cameras", CVPR 2010, with the rounding of
the file added: shot noise, whose variance grows with the signal, the sensor's own noise, and the steps of 8 or 16 bit.

Linear images are float32 in 0..1, RGB; 1 is where the exposure clips.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy

from hdr_tf.image import tone
from hdr_tf.image.tiling import bands

BLOCK = 16  # side of the blocks in which detail is measured, in pixels; a multiple of 2
BORDER = 1  # pixels around a block that the filter needs
SAMPLES = 1_200_000  # pixels of all exposures together that are measured, at most
LEVELS, LEVEL_BLOCKS = 16, 16  # levels of the signal, at most, and the least number of blocks in one
QUANTILE = 0.1  # of the blocks of a level: those with the least texture
CLIPPED = 0.95  # the noise of a linear value above may be cut off
# Share of the detail at even columns of chroma, minus a half: at most 0.017 in synthetic images that were not compressed, above
# 0.06 after JPEG with 4:2:0, and above 0.058 in real JPEG files, some of which had been scaled and compressed again.
UNEVEN = 0.03

# The filter [1, -2, 1] x [1, -2, 1], which removes slopes and straight edges along rows and columns: its sum of squares, and
# the sum of squares of the correlation of its results for white noise, (1 + 2 (2/3)**2 + 2 (1/6)**2)**2.
_NORM, _CORRELATION = 36, 3.78
_LUMA = np.float32([0.299, 0.587, 0.114])  # of JPEG

# Measured on 24 still scenes of training images, among 3 to 9, 3 to 11 and 1.0 to 1.6.
FINEST, WINDOW = 3, 5  # sides of the means that detail is taken from, and of those in which its variance is measured
REMOVAL = 1.2  # the expected variance counts more, because the measured one scatters
HALO = FINEST // 2 + WINDOW // 2
LARGEST_CHANGE = 3  # standard deviations of the noise


class Noise(NamedTuple):
    """Noise of a camera's exposures, in linear values where 1 is the clip."""

    gain: float = 0.0
    """variance of the shot noise per signal: 1 / electrons of a saturated pixel"""
    read: float = 0.0
    """standard deviation of the sensor's own noise"""
    step: float = 0.0
    """between encoded values: 1 / 255 for 8 bit, 1 / 65535 for 16 bit, 0 for none"""
    dark_error: float = 0.0
    """of values near black that a response decoded (`image.response.Response.dark_error`); no noise, and not in the variance"""

    def variance(self, signal: np.ndarray) -> np.ndarray:
        """Returns the variance of the noise at a linear signal (any shape; clipped to 0..1), float32 of the same shape.

        Rounding counts with the slope of gamma 2.2: (d linear / d encoded)**2 * step**2 / 12.
        """
        signal = np.clip(np.float32(signal), 0, 1)
        return np.float32(self.gain) * signal + np.float32(self.read**2) + _rounding(signal, self.step)


def estimate(images: Sequence[np.ndarray], step: float) -> Noise:
    """Estimates the noise that the exposures of a bracket share, from the images alone. They need not be aligned.

    In blocks the finest detail is measured, where most scenes show little: of the difference between two channels after both
    are scaled to the same mean, which cancels the texture of surfaces of one colour. Among blocks of similar signal, a low
    quantile is compared with the one that noise alone would have, and a line over the signal is fitted to these. Chroma that
    was stored at half size, as in most JPEG files, has lost this detail, which shows as columns that are alternately sharp and
    interpolated; then the luma is measured at half size. The files' compression removes noise and adds errors of its own, so
    the result is then only rough.

    Args:
        images: [H, W, 3] each, float32 in 0..1, linear; sizes may differ.
        step: between encoded values, which is known from the file: 1 / 255 for 8 bit, 1 / 65535 for 16 bit, 0 for none.

    Returns the noise; only `step` in it is above 0 if the images have too few usable pixels (neither black nor clipped).
    """
    blocks = [_blocks(image, SAMPLES // len(images)) for image in images]
    blocks = np.concatenate([chosen for chosen in blocks if len(chosen)] or [np.empty((0, 3, BLOCK, BLOCK), np.float32)])
    if len(blocks) < LEVEL_BLOCKS:
        return Noise(step=step)
    if np.ptp(blocks, axis=1).max() < 1e-6:  # gray images: three equal channels
        mean, detail = _mean_and_detail(blocks[:, :1])
        measured = _combined(mean, detail, np.ones_like(mean))
        return _fitted(*measured, variance_left=1, values=BLOCK**2, step=step)
    if _chroma_is_smoothed(blocks):
        half = blocks.reshape(len(blocks), 3, BLOCK // 2 + BORDER, 2, BLOCK // 2 + BORDER, 2).mean(axis=(3, 5))
        # A quarter of the variance is left in the mean of four pixels.
        return _fitted(*_luma_detail(half), variance_left=1 / 4, values=(BLOCK // 2 - BORDER) ** 2, step=step)
    return _fitted(*_chroma_detail(blocks), variance_left=1, values=BLOCK**2, step=step)


def wiener(radiance: np.ndarray, variance: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Removes noise of known variance from the finest detail of a merged radiance; the result has the scale of the radiance.

    The difference to the mean of 3 x 3 pixels is divided by that mean. Thus a surface of one colour has equal detail in all
    channels, and no bright channel outweighs a dark one. The channels' mean, weighted by the inverse variance of their noise,
    is the detail of the luma; the rest is that of chroma. Each is scaled by Wiener's factor,
    max(0, 1 - expected variance of the noise / measured variance), so edges and texture stay while flat surfaces are smoothed.

    Args:
        radiance: [H, W, 3] float32, finite.
        variance: of its noise, [H, W, 3] or [H, W, 1], in units of radiance**2. Where it is 0, nothing changes.
        strength: factor on the variance, from 0, which changes nothing.

    Returns [H, W, 3] float32. No value differs from the radiance by more than three standard deviations of its noise.
    """
    if radiance.shape[2:] != (3,) or variance.shape not in (radiance.shape, (*radiance.shape[:2], 1)):
        raise ValueError(f"expected radiance [H, W, 3] and its variance, found shapes {radiance.shape} and {variance.shape}")
    result = np.empty(radiance.shape, np.float32)
    for rows, with_halo, inside in bands(radiance, HALO):
        planes, noise = (np.ascontiguousarray(np.moveaxis(x[with_halo], 2, 0), np.float32) for x in (radiance, variance))
        removed = _noise_in_detail(planes, noise, strength)
        cleaned = np.maximum(planes - removed, np.minimum(planes, 0))  # radiance does not become negative
        result[rows] = cv2.merge(list(cleaned))[inside]
    return result


def _noise_in_detail(planes, variance, strength):
    """What to subtract from the planes, [3, h, w]; variance is [3, h, w] or [1, h, w]."""
    mean, near = _means(planes, FINEST), _means(variance, FINEST)
    scale = 1 / (np.maximum(mean, 0) + np.sqrt(near) + np.float32(1e-12))
    detail = (planes - mean) * scale
    # Sum of squares of the filter: 1 - 2 / 9 of the pixel's own variance, 1 / 9 of the mean's.
    share = np.float32(1 / FINEST**2)
    expected = np.maximum(((1 - 2 * share) * variance + share * near) * scale**2, np.float32(1e-20))
    weights = 1 / expected
    expected_luma = 1 / weights.sum(axis=0, keepdims=True)
    luma = (weights * detail).sum(axis=0, keepdims=True) * expected_luma
    chroma = detail - luma
    expected_chroma = np.maximum(expected - expected_luma, np.float32(1e-3) * expected)
    removal = np.float32(REMOVAL * strength)
    removed = luma * _noise_part(luma, expected_luma, removal) + chroma * _noise_part(chroma, expected_chroma, removal)
    largest = LARGEST_CHANGE * np.sqrt(variance)
    return np.minimum(np.maximum(removed / scale, -largest), largest)  # faster than np.clip


def _noise_part(detail, expected, removal):
    with np.errstate(over="ignore"):  # infinite where there is detail but no noise
        measured = _means(detail**2 / expected, WINDOW)
    return np.minimum(removal / np.maximum(measured, np.float32(1e-12)), 1)


def _means(planes, side):
    """Means of side x side pixels, summed at each pixel anew: running sums would depend on where a band begins."""
    kernel = np.full(side, 1 / side, np.float32)
    return np.stack([cv2.sepFilter2D(plane, -1, kernel, kernel) for plane in planes])


def _blocks(image, budget):
    """The usable ones among blocks spread over the image, [n, 3, side, side]. They begin at even columns."""
    image, side = np.asarray(image, np.float32), BLOCK + 2 * BORDER
    if min(image.shape[:2]) < side:
        return image[:0]
    stride = BLOCK * max(1, np.sqrt(image.shape[0] * image.shape[1] / budget))
    stride = 2 * int(stride / 2)
    blocks = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))[::stride, ::stride]
    blocks = blocks.reshape(-1, 3, side, side)
    extremes = blocks.min(axis=(1, 2, 3)), blocks.max(axis=(1, 2, 3))
    return blocks[(extremes[0] > 0) & (extremes[1] < CLIPPED)]


def _chroma_is_smoothed(blocks):
    """Whether even and odd columns of red - green and blue - green differ in their third difference. At every other column it
    is 0 where chroma of half the width was interpolated linearly; seams of JPEG's blocks lie at even columns too."""
    encoded = blocks ** np.float32(1 / tone.DISPLAY_GAMMA)
    detail = np.square(np.diff(encoded[:, ::2] - encoded[:, 1:2], 3)).sum(axis=(1, 2))
    even, odd = detail[:, ::2].mean(axis=1), detail[:, 1::2].mean(axis=1)
    colored = even + odd > 0
    shares = even[colored] / (even + odd)[colored]
    if len(shares) < LEVEL_BLOCKS:
        return False
    return abs(shares.mean() - 0.5) > max(UNEVEN, 3 * shares.std() / np.sqrt(len(shares)))


def _chroma_detail(blocks):
    """For each block, twice: the mean square of the finest detail of a difference of two channels, the signal that has the same
    shot noise, and the part of the rounding's variance (per step**2 / 12)."""
    mean, detail = _mean_and_detail(blocks)
    results = []
    for first, second in ((0, 1), (1, 2)):
        # Weights that cancel equal relative detail, with a sum of squares of 1, which keeps the read noise as it is.
        weights = np.stack([mean[:, second], -mean[:, first]], 1)
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        results.append(_combined(mean[:, [first, second]], detail[:, [first, second]], weights))
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def _luma_detail(blocks):
    """The same of the luma, once for each block."""
    mean, detail = _mean_and_detail(blocks)
    weights = _LUMA * mean ** np.float32(1 / tone.DISPLAY_GAMMA - 1)  # the luma is a sum of encoded values
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return _combined(mean, detail, weights)


def _mean_and_detail(blocks):
    inside = slice(BORDER, -BORDER)
    return blocks[..., inside, inside].mean(axis=(2, 3)), np.diff(np.diff(blocks, 2, axis=2), 2, axis=3)


def _combined(mean, detail, weights):
    combined = sum(detail[:, i] * weights[:, i, None, None] for i in range(mean.shape[1]))
    squares = np.square(combined).mean(axis=(1, 2)) / _NORM
    return squares, (weights**2 * mean).sum(axis=1), (weights**2 * _rounding(mean, 1)).sum(axis=1)


def _fitted(squares, signals, rounding, variance_left, values, step):
    """The noise whose variance follows the low quantiles of the squares; `values` is the number of values in a block."""
    degrees = values / _CORRELATION
    expected = scipy.stats.chi2.ppf(QUANTILE, degrees) / degrees
    order = np.argsort(signals)
    levels = np.array_split(order, np.clip(len(order) // (2 * LEVEL_BLOCKS), 1, LEVELS))
    low = np.array([np.quantile(squares[level], QUANTILE) for level in levels]) / (expected * variance_left)
    low = np.maximum(low - step**2 * np.array([rounding[level].mean() for level in levels]), 0)
    design = np.array([(signals[level].mean(), 1) for level in levels])
    parameters, weights = np.zeros(2), 1 / np.maximum(low, 1e-12)
    for _ in range(10):  # relative errors count; those above the line less, because texture only adds to the noise
        parameters, _ = scipy.optimize.nnls(design * weights[:, None], low * weights)
        line = np.maximum(design @ parameters, 1e-12)
        weights = np.where(low > line, 0.3, 1) / line
    gain, read_variance = np.where(parameters > 1e-12, parameters, 0)
    return Noise(float(gain), float(np.sqrt(read_variance)), step)


def _rounding(signal, step):
    slope = np.float32(tone.DISPLAY_GAMMA) * signal ** np.float32(1 - 1 / tone.DISPLAY_GAMMA)
    return slope**2 * np.float32(step**2 / 12)
