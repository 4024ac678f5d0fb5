"""Splits images into luminance and chroma and joins them again, following each published program.

`*_split(rgb)` takes [H, W, 3] RGB, either uint8 or float32 in 0..255 (a 16-bit image divided by 257), and returns the luminance
and two chroma planes, each [H, W] float32 in 0..255. `*_join(fused, chroma)` takes the fused luminance [H, W] and a list with
one pair of chroma planes for each COLOUR image, and returns [H, W, 3] RGB in the type of the luminance. Leave gray images out
of the list, since they have no colour; an empty list gives a gray result.

The type decides the arithmetic: uint8 follows the original's 8-bit arithmetic with its rounding and truncation; float32 follows
the same formulas without rounding. The original writes the fused luminance as uint8 before it joins.

| system | luminance, chroma | fused chroma |
| --- | --- | --- |
| deepfuse_official | BT.601 studio range, MATLAB's rgb2ycbcr | mean weighted by abs(C - 128) at each pixel |
| deepfuse_sunnerli | BT.601 full range, OpenCV's YCrCb | mean weighted by the sum of abs(C - 127.5) over the image |
| hyperp_mb | CIE Lab, OpenCV's 8-bit scaling | plain mean |
| densefuse_gray | Pillow's L, BT.601 full range | plain mean |

Changed, in all four: any number of images, where the programs take two (for two, nothing changes). Each rule is written once,
with array functions that the argument `ops` provides: `NumpyOps`, or TensorFlow's in hdr_tf/serving/color_ops.py.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import tiling

Chroma = Sequence[tuple[np.ndarray, np.ndarray]]

# rgb2ycbcr.m: rows Y, Cb, Cr for RGB in 0..255. Its inverse is computed, as in ycbcr2rgb.m.
RGB_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
YCBCR_TO_RGB = np.linalg.inv(RGB_TO_YCBCR)

# From OpenCV's float planes to 8-bit scaling: its float YCrCb has chroma around 0.5, its Lab has L in 0..100, a and b around 0.
_LAB_SCALE, _LAB_OFFSET = np.float32([255 / 100, 1, 1]), np.float32([0, 128, 128])
_YCRCB_OFFSET = np.float32([0, 0.5, 0.5])

_STRIP, _TILE = 64, 256  # pixels; both fit into the cache, so float64 needs less time and hardly any memory


class NumpyOps:
    """The array functions that the rules need, for NumPy. The four conversions map [H, W, 3] in 0..255, either uint8 or
    float32, to the same shape and type, with neutral chroma at 128."""

    abs, clip, cumsum, floor, sum, where = np.abs, np.clip, np.cumsum, np.floor, np.sum, np.where
    cast = np.asarray
    stack = staticmethod(lambda planes: np.dstack(np.broadcast_arrays(*planes)))
    histogram = staticmethod(lambda levels: np.bincount(levels.ravel(), minlength=256))

    @staticmethod
    def rgb_to_ycrcb(rgb):
        if rgb.dtype == np.uint8:
            return cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
        return cv2.cvtColor(rgb / 255, cv2.COLOR_RGB2YCrCb) * 255 + _YCRCB_OFFSET

    @staticmethod
    def ycrcb_to_rgb(planes):
        if planes.dtype == np.uint8:
            return cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)
        return cv2.cvtColor((planes - _YCRCB_OFFSET) / 255, cv2.COLOR_YCrCb2RGB) * 255

    @staticmethod
    def rgb_to_lab(rgb):
        if rgb.dtype == np.uint8:
            return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
        # For float colours cv2.COLOR_RGB2Lab uses a coarse table, which is off by 0.5; from linear RGB OpenCV computes.
        return cv2.cvtColor(linear_light(rgb / 255), cv2.COLOR_LRGB2Lab) * _LAB_SCALE + _LAB_OFFSET

    @staticmethod
    def lab_to_rgb(planes):
        if planes.dtype == np.uint8:
            return cv2.cvtColor(planes, cv2.COLOR_Lab2RGB)
        return cv2.cvtColor((planes - _LAB_OFFSET) / _LAB_SCALE, cv2.COLOR_Lab2RGB) * 255


def _in_strips(split):
    """Makes a split process NumPy arrays strip by strip."""

    @functools.wraps(split)
    def split_all(rgb, ops=NumpyOps):
        if ops is not NumpyOps:
            return split(rgb, ops)
        planes = tuple(np.empty(rgb.shape[:2], np.float32) for _ in range(3))
        for start in range(0, len(rgb), _STRIP):
            rows = slice(start, start + _STRIP)
            for plane, part in zip(planes, split(rgb[rows], ops), strict=True):
                plane[rows] = part
        return planes

    return split_all


def _in_tiles(join):
    """Makes a join, which treats each pixel separately, process NumPy arrays tile by tile."""

    @functools.wraps(join)
    def join_all(fused, chroma, ops=NumpyOps):
        def join_tile(planes):
            return join(planes[0], list(zip(planes[1::2], planes[2::2], strict=True)), ops)

        planes = [fused, *itertools.chain(*chroma)]
        return tiling.in_tiles(join_tile, planes, _TILE, halo=0) if ops is NumpyOps else join_tile(planes)

    return join_all


@_in_strips
def deepfuse_official_split(rgb: np.ndarray, ops=NumpyOps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as Gen_Input.m of KRamPrabhakar/DeepFuse (31c226f): Y in 16..235, Cb and Cr in 16..240, rounded for uint8.

    Gen_Input.m and Gen_Result.m also shrink images to at most 512 pixels a side; here they keep their size.
    """
    planes = [_weighted_sum(row, rgb, offset, ops) for row, offset in zip(RGB_TO_YCBCR, (16, 128, 128), strict=True)]
    return tuple(ops.cast(_round(plane, ops) if rgb.dtype == np.uint8 else plane, np.float32) for plane in planes)


def deepfuse_official_join(fused: np.ndarray, chroma: Chroma, ops=NumpyOps) -> np.ndarray:
    """Joins as Gen_Result.m. The luminance is stretched so that 1 % of the pixels saturate at each end (imadjust), and mapped
    to 16..235. The chroma of a pixel is the mean weighted by |C - 128|, or 128 where all are 128 (0/0). ycbcr2rgb follows.
    The limits of the stretch are 8-bit levels for float luminance too, because MATLAB's stretchlim uses 256 bins.
    """
    counts = ops.cumsum(ops.histogram(_round(ops.cast(fused, np.float32), ops)))
    shares = counts / counts[-1]  # fraction of the pixels up to each level
    low, high = (ops.sum(ops.cast(below, np.float64)) for below in (shares <= 0.01, shares < 0.99))
    flat = low == high
    low, high = ops.where(flat, np.float64(0), low) / 255, ops.where(flat, np.float64(255), high) / 255

    @_in_tiles
    def join(fused, chroma, ops):
        stretched = (ops.clip(ops.cast(fused, np.float64) / 255, low, high) - low) / (high - low)
        planes = [stretched * 235 + (1 - stretched) * 16]
        for channel in _channels(chroma):
            channel = [ops.cast(plane, np.float64) for plane in channel]
            weights = [ops.abs(plane - 128) for plane in channel]
            total = sum(weights)
            with np.errstate(invalid="ignore"):
                mean = sum(plane * weight / total for plane, weight in zip(channel, weights, strict=True))
            planes.append(ops.where(total == 0, np.float64(128), mean))
        ycbcr = ops.stack(planes)
        if fused.dtype == np.uint8:
            ycbcr = _round(ycbcr, ops)
        return _finish(fused, [_weighted_sum(row, ycbcr, -row @ [16, 128, 128], ops) for row in YCBCR_TO_RGB], ops)

    return join(fused, chroma, ops)


@_in_strips
def deepfuse_sunnerli_split(rgb: np.ndarray, ops=NumpyOps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as inference.py of SunnerLi/DeepFuse.pytorch (2986225), by cv2.COLOR_RGB2YCrCb; returns Y, Cr, Cb.

    The original also resizes every image to 256 x 256; here it keeps its size.
    """
    return _planes(ops.rgb_to_ycrcb(rgb), ops)


def deepfuse_sunnerli_join(fused: np.ndarray, chroma: Chroma, ops=NumpyOps) -> np.ndarray:
    """Joins as fusePostProcess of lib/utils.py: each image and channel has one weight, the sum of |C - 127.5| over the image;
    the chroma is truncated to 8 bit; cv2.COLOR_YCrCb2RGB follows.

    Changed: weights are summed in float64. With the original's float32 sums the mean of equal values may be slightly below an
    integer, which truncation turns into a difference of one level.
    """
    weights = sunnerli_weights(chroma, ops)

    @_in_tiles
    def join(fused, chroma, ops):
        return _convert(ops.ycrcb_to_rgb, fused, sunnerli_chroma(chroma, weights, ops), ops)

    return join(fused, chroma, ops)


def sunnerli_weights(chroma: Chroma, ops=NumpyOps) -> list[list[float]]:
    """Returns the weights for `sunnerli_chroma`: one per image, for Cr and for Cb."""
    return [[ops.sum(ops.abs(ops.cast(plane, np.float64) - 127.5)) for plane in channel] for channel in _channels(chroma)]


def sunnerli_chroma(chroma: Chroma, weights: Sequence[Sequence[float]], ops=NumpyOps) -> list[np.ndarray]:
    """Returns the fused Cr and Cb of `deepfuse_sunnerli_join` before truncation, float64 (weightedFusion)."""
    fused = []
    for channel, shares in zip(_channels(chroma), weights, strict=True):
        total = sum(shares)
        mean = sum(ops.cast(plane, np.float64) * share for plane, share in zip(channel, shares, strict=True))
        with np.errstate(invalid="ignore"):
            fused.append(ops.where(total == 0, np.float64(128), mean / total))
    return fused


@_in_strips
def hyperp_mb_split(rgb: np.ndarray, ops=NumpyOps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as utils.py of Changi-Im/HyperP_MB (9f676f6) into OpenCV's 8-bit Lab: L times 255/100, a and b plus 128."""
    return _planes(ops.rgb_to_lab(rgb), ops)


@_in_tiles
def hyperp_mb_join(fused: np.ndarray, chroma: Chroma, ops=NumpyOps) -> np.ndarray:
    """Joins as save_images_lab of utils.py: a and b are averaged and truncated to 8 bit; cv2.COLOR_Lab2RGB follows."""
    return _convert(ops.lab_to_rgb, fused, _mean(chroma, ops), ops)


@_in_strips
def densefuse_gray_split(rgb: np.ndarray, ops=NumpyOps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits into Pillow's L, which test_image.py of hli1221/densefuse-pytorch (4394b63) uses, and unrounded full-range Cb and
    Cr of BT.601."""
    cb = _weighted_sum([-0.168736, -0.331264, 0.5], rgb, 128, ops)
    cr = _weighted_sum([0.5, -0.418688, -0.081312], rgb, 128, ops)
    return tuple(ops.cast(plane, np.float32) for plane in (luminance(rgb, ops), cb, cr))


def luminance(rgb: np.ndarray, ops=NumpyOps) -> np.ndarray:
    """Returns Pillow's L, [H, W] of the image's type: rounded as in Pillow for uint8, unrounded for float32."""
    if rgb.dtype == np.uint8 and ops is NumpyOps:  # Pillow is faster than the sum below and equal
        return np.asarray(Image.fromarray(rgb).convert("L"))
    plane = _weighted_sum([19595 / 65536, 38470 / 65536, 7471 / 65536], rgb, 0, ops)  # Pillow's weights
    return _round(plane, ops) if rgb.dtype == np.uint8 else ops.cast(plane, np.float32)


@_in_tiles
def densefuse_gray_join(fused: np.ndarray, chroma: Chroma, ops=NumpyOps) -> np.ndarray:
    """Joins by full-range BT.601 with the mean chroma.

    Changed: the original writes only the gray image. Its network fuses the features by the mean, too.
    """
    y = ops.cast(fused, np.float64)
    cb, cr = (plane - 128 for plane in _mean(chroma, ops))
    return _finish(fused, [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], ops)


def linear_light(rgb, where=np.where):
    """Returns the linear light of sRGB values in 0..1, with their shape and type."""
    return where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _weighted_sum(weights, image, offset, ops):
    """The weighted sum of three channels, in float64."""
    first, second, third = (weight * ops.cast(image[..., i], np.float64) for i, weight in enumerate(weights))
    return first + second + third + offset


def _channels(chroma):
    """The planes of all images, channel by channel; neutral ones if all images are gray."""
    return list(zip(*(chroma or [(np.array(128.0), np.array(128.0))]), strict=True))


def _mean(chroma, ops):
    return [sum(ops.cast(plane, np.float64) for plane in channel) / len(channel) for channel in _channels(chroma)]


def _planes(image, ops):
    return tuple(ops.cast(image[..., i], np.float32) for i in range(3))


def _convert(conversion, fused, chroma, ops):
    """Converts the fused planes to RGB of the type of the luminance, to which the chroma is truncated."""
    rgb = conversion(ops.stack([ops.cast(plane, fused.dtype) for plane in (fused, *chroma)]))
    return rgb if fused.dtype == np.uint8 else ops.clip(rgb, 0, 255)


def _round(values, ops):
    """MATLAB's conversion to uint8: rounds half up, saturates."""
    return ops.cast(ops.clip(ops.floor(values + 0.5), 0, 255), np.uint8)


def _finish(fused, planes, ops):
    """Stacks R, G and B in the type of the fused luminance."""
    rgb = ops.stack(planes)
    return _round(rgb, ops) if fused.dtype == np.uint8 else ops.cast(ops.clip(rgb, 0, 255), np.float32)


class Rule(NamedTuple):
    """The split and the join of a system."""

    split: Callable
    join: Callable


DEEPFUSE_OFFICIAL = Rule(deepfuse_official_split, deepfuse_official_join)
DEEPFUSE_SUNNERLI = Rule(deepfuse_sunnerli_split, deepfuse_sunnerli_join)
HYPERP_MB = Rule(hyperp_mb_split, hyperp_mb_join)
DENSEFUSE_GRAY = Rule(densefuse_gray_split, densefuse_gray_join)
