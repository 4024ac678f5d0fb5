"""Splits images into luminance and chroma and joins them again, as each published program does.

Each system has a pair of functions. `*_split(rgb)` takes [H, W, 3] RGB, either uint8 or float32 in 0..255 (a 16-bit image
divided by 257), and returns the luminance and two chroma planes, each [H, W] float32 in 0..255. `*_join(fused, chroma)` takes
the fused luminance [H, W] and a list with one pair of chroma planes for each COLOUR image, and returns [H, W, 3] RGB of the
luminance's type. Leave gray images out of the list, as they have no say in the colour; an empty list gives a gray result.

The type decides the arithmetic: uint8 follows the original's 8-bit arithmetic with its rounding and truncation, float32
the same formulas without any rounding. `fused` as uint8 is what the original writes between network and colour step.

| system | luminance, chroma | the fused chroma |
| --- | --- | --- |
| deepfuse_official | BT.601 studio range, MATLAB's rgb2ycbcr | mean weighted by abs(C - 128) of each pixel |
| deepfuse_sunnerli | BT.601 full range, OpenCV's YCrCb | mean weighted by the sum of abs(C - 127.5) over the image |
| hyperp_mb | CIE Lab, OpenCV's 8-bit scaling | plain mean |
| densefuse_gray | Pillow's L, BT.601 full range | plain mean |

Changed, in all four: any number of images, where the programs take two (for two nothing changes).

Each rule is written once, in terms of `Ops`. The default works on NumPy arrays; hdr_tf/color_ops.py has TensorFlow's.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import tiles

Chroma = Sequence[tuple[np.ndarray, np.ndarray]]

# rgb2ycbcr.m: rows Y, Cb, Cr for RGB in 0..255; its inverse is computed, as ycbcr2rgb.m does.
RGB_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
YCBCR_TO_RGB = np.linalg.inv(RGB_TO_YCBCR)

# Float planes to 8-bit scaling: OpenCV's float YCrCb has chroma around 0.5, its Lab L in 0..100, a and b around 0.
_LAB_SCALE = np.float32([255 / 100, 1, 1])
_LAB_OFFSET = np.float32([0, 128, 128])
_YCRCB_OFFSET = np.float32([0, 0.5, 0.5])

_NEUTRAL = np.array(128.0), np.array(128.0)  # the chroma of a gray image
_STRIP, _TILE = 64, 256  # pixels; both fit the cache, so float64 takes less time and next to no memory


def _split_in_strips(split, rgb):
    planes = tuple(np.empty(rgb.shape[:2], np.float32) for _ in range(3))
    for start in range(0, len(rgb), _STRIP):
        rows = slice(start, start + _STRIP)
        for plane, part in zip(planes, split(rgb[rows]), strict=True):
            plane[rows] = part
    return planes


def _rgb_to_ycrcb(rgb):
    if rgb.dtype == np.uint8:
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    return cv2.cvtColor(rgb / np.float32(255), cv2.COLOR_RGB2YCrCb) * np.float32(255) + _YCRCB_OFFSET


def _ycrcb_to_rgb(planes):
    if planes.dtype == np.uint8:
        return cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)
    return cv2.cvtColor((planes - _YCRCB_OFFSET) / 255, cv2.COLOR_YCrCb2RGB) * 255


def _rgb_to_lab(rgb):
    if rgb.dtype == np.uint8:
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
    # cv2.COLOR_RGB2Lab looks float colours up in a coarse table, 0.5 off; from linear RGB it computes.
    return cv2.cvtColor(linear_light(rgb / 255), cv2.COLOR_LRGB2Lab) * _LAB_SCALE + _LAB_OFFSET


def _lab_to_rgb(planes):
    if planes.dtype == np.uint8:
        return cv2.cvtColor(planes, cv2.COLOR_Lab2RGB)
    return cv2.cvtColor((planes - _LAB_OFFSET) / _LAB_SCALE, cv2.COLOR_Lab2RGB) * 255


def linear_light(rgb, where: Callable = np.where):
    """Returns the linear light of sRGB values in 0..1, in their shape and type."""
    return where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


@dataclasses.dataclass(frozen=True)
class Ops:
    """The operations that the rules below need beyond Python's operators; by default those of NumPy, OpenCV and Pillow.

    The four conversions take and return [H, W, 3] in 0..255, either uint8 or float32, with neutral chroma at 128.
    """

    abs: Callable = np.abs
    cast: Callable = np.asarray
    clip: Callable = np.clip
    floor: Callable = np.floor
    sum: Callable = np.sum
    where: Callable = np.where
    stack: Callable = lambda planes: np.dstack(np.broadcast_arrays(*planes))
    """planes [H, W], or [] for a constant one, to [H, W, channels]"""
    cumulative_histogram: Callable = lambda levels: np.bincount(levels.ravel(), minlength=256).cumsum()
    """uint8 levels to the number of pixels up to each level, [256]"""
    by_strips: Callable = _split_in_strips
    """calls a split with RGB, strip by strip"""
    by_tiles: Callable = lambda join, planes: tiles.in_tiles(join, planes, _TILE, halo=0)
    """calls a join, which treats each pixel alone, with a list of planes, tile by tile"""
    pillow_luminance: Callable = lambda rgb: np.asarray(Image.fromarray(rgb).convert("L"))
    """uint8 RGB to its luminance, uint8"""
    rgb_to_ycrcb: Callable = _rgb_to_ycrcb
    ycrcb_to_rgb: Callable = _ycrcb_to_rgb
    rgb_to_lab: Callable = _rgb_to_lab
    lab_to_rgb: Callable = _lab_to_rgb


NUMPY = Ops()


def _by_strips(split):
    """Makes a split work strip by strip."""

    @functools.wraps(split)
    def split_whole(rgb, ops=NUMPY):
        return ops.by_strips(functools.partial(split, ops=ops), rgb)

    return split_whole


def _by_tiles(join):
    """Makes a join work tile by tile."""

    @functools.wraps(join)
    def join_whole(fused, chroma, ops=NUMPY, **arguments):
        def join_tile(planes):
            return join(planes[0], list(zip(planes[1::2], planes[2::2], strict=True)), ops, **arguments)

        return ops.by_tiles(join_tile, [fused, *(plane for pair in chroma for plane in pair)])

    return join_whole


@_by_strips
def deepfuse_official_split(rgb: np.ndarray, ops: Ops = NUMPY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as Gen_Input.m of KRamPrabhakar/DeepFuse (31c226f): Y in 16..235, Cb and Cr in 16..240, 8-bit ones rounded.

    Gen_Input.m also shrinks images to at most 512 pixels a side, and Gen_Result.m the colours with them; here they keep
    their size.
    """
    planes = [_weighted_sum(row, rgb, offset, ops) for row, offset in zip(RGB_TO_YCBCR, (16, 128, 128), strict=True)]
    return tuple(ops.cast(_round(plane, ops) if rgb.dtype == np.uint8 else plane, np.float32) for plane in planes)


def deepfuse_official_join(fused: np.ndarray, chroma: Chroma, ops: Ops = NUMPY) -> np.ndarray:
    """Joins as Gen_Result.m: luminance stretched with 1 % of the pixels saturated at each end (imadjust), mapped to
    16..235; every pixel's chroma the mean weighted by |C - 128|, where all are 128 (0/0) 128; ycbcr2rgb.

    The limits of the stretch are 8-bit levels for float luminance too, as MATLAB's stretchlim counts in 256 bins.
    """
    counts = ops.cumulative_histogram(_round(ops.cast(fused, np.float32), ops))
    shares = counts / counts[-1]  # of the pixels up to each level
    low, high = (ops.sum(ops.cast(below, np.float64)) for below in (shares <= 0.01, shares < 0.99))
    flat = low == high
    low, high = ops.where(flat, np.float64(0), low) / 255, ops.where(flat, np.float64(255), high) / 255
    return _official_join(fused, chroma, ops, low=low, high=high)


@_by_tiles
def _official_join(fused, chroma, ops, low, high):
    stretched = (ops.clip(ops.cast(fused, np.float64) / 255, low, high) - low) / (high - low)
    planes = [stretched * 235 + (1 - stretched) * 16]
    for channel in _channels(chroma, ops):
        weights = [ops.abs(plane - 128) for plane in channel]
        total = sum(weights)
        with np.errstate(invalid="ignore"):
            mean = sum(plane * weight / total for plane, weight in zip(channel, weights, strict=True))
        planes.append(ops.where(total == 0, np.float64(128), mean))
    ycbcr = ops.stack(planes)
    if fused.dtype == np.uint8:
        ycbcr = _round(ycbcr, ops)
    return _finish(fused, [_weighted_sum(row, ycbcr, -row @ [16, 128, 128], ops) for row in YCBCR_TO_RGB], ops)


@_by_strips
def deepfuse_sunnerli_split(rgb: np.ndarray, ops: Ops = NUMPY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as inference.py of SunnerLi/DeepFuse.pytorch (2986225) by cv2.COLOR_RGB2YCrCb; returns Y, Cr, Cb.

    The network takes (Y - 127.5)/127.5. The original also resizes every image to 256 x 256; here it keeps its size.
    """
    return _planes(ops.rgb_to_ycrcb(rgb), ops)


def deepfuse_sunnerli_join(fused: np.ndarray, chroma: Chroma, ops: Ops = NUMPY) -> np.ndarray:
    """Joins as fusePostProcess of lib/utils.py: one weight for each image and channel, the sum of |C - 127.5| over the
    image; chroma truncated to 8 bit; cv2.COLOR_YCrCb2RGB.

    Changed: weights are summed in float64. The original's float32 sums leave a mean of equal values on either side of the
    integer, which truncation turns into one level.
    """
    return _sunnerli_join(fused, chroma, ops, weights=sunnerli_weights(chroma, ops))


@_by_tiles
def _sunnerli_join(fused, chroma, ops, weights):
    return _convert(ops.ycrcb_to_rgb, fused, sunnerli_chroma(chroma, weights, ops), ops)


def sunnerli_weights(chroma: Chroma, ops: Ops = NUMPY) -> list[list[float]]:
    """Returns the weights for `sunnerli_chroma`: for Cr and for Cb one for each image."""
    return [[ops.sum(ops.abs(plane - 127.5)) for plane in channel] for channel in _channels(chroma, ops)]


def sunnerli_chroma(chroma: Chroma, weights: Sequence[Sequence[float]], ops: Ops = NUMPY) -> list[np.ndarray]:
    """Returns the fused Cr and Cb of `deepfuse_sunnerli_join` before truncation (weightedFusion), float64."""
    fused = []
    for channel, shares in zip(_channels(chroma, ops), weights, strict=True):
        total = sum(shares)
        mean = sum(plane * share for plane, share in zip(channel, shares, strict=True))
        with np.errstate(invalid="ignore"):
            fused.append(ops.where(total == 0, np.float64(128), mean / total))
    return fused


@_by_strips
def hyperp_mb_split(rgb: np.ndarray, ops: Ops = NUMPY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as utils.py of Changi-Im/HyperP_MB (9f676f6): OpenCV's 8-bit Lab, L times 255/100, a and b plus 128."""
    return _planes(ops.rgb_to_lab(rgb), ops)


@_by_tiles
def hyperp_mb_join(fused: np.ndarray, chroma: Chroma, ops: Ops = NUMPY) -> np.ndarray:
    """Joins as save_images_lab of utils.py: a and b averaged, truncated to 8 bit; cv2.COLOR_Lab2RGB."""
    return _convert(ops.lab_to_rgb, fused, _mean(chroma, ops), ops)


@_by_strips
def densefuse_gray_split(rgb: np.ndarray, ops: Ops = NUMPY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits into Pillow's L, which test_image.py of hli1221/densefuse-pytorch (4394b63) reads, and full-range Cb and Cr
    of BT.601, not rounded."""
    cb = _weighted_sum([-0.168736, -0.331264, 0.5], rgb, 128, ops)
    cr = _weighted_sum([0.5, -0.418688, -0.081312], rgb, 128, ops)
    return tuple(ops.cast(plane, np.float32) for plane in (luminance(rgb, ops), cb, cr))


def luminance(rgb: np.ndarray, ops: Ops = NUMPY) -> np.ndarray:
    """Returns Pillow's L, [H, W] of the image's type: rounded as Pillow does for uint8, not rounded for float32."""
    if rgb.dtype == np.uint8:
        return ops.pillow_luminance(rgb)
    return ops.cast(_weighted_sum([19595 / 65536, 38470 / 65536, 7471 / 65536], rgb, 0, ops), np.float32)  # Pillow's weights


@_by_tiles
def densefuse_gray_join(fused: np.ndarray, chroma: Chroma, ops: Ops = NUMPY) -> np.ndarray:
    """Joins by full-range BT.601 with the mean chroma.

    Changed: the original writes the gray image only. The mean is what its network does with the features ("addition").
    """
    y = ops.cast(fused, np.float64)
    cb, cr = (plane - 128 for plane in _mean(chroma, ops))
    return _finish(fused, [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], ops)


def _weighted_sum(weights, image, offset, ops):
    """The weighted sum of three channels, in float64."""
    first, second, third = (weight * ops.cast(image[..., i], np.float64) for i, weight in enumerate(weights))
    return first + second + third + offset


def _channels(chroma, ops):
    """The planes of all images, channel by channel, float64."""
    return [[ops.cast(plane, np.float64) for plane in channel] for channel in zip(*(chroma or [_NEUTRAL]), strict=True)]


def _mean(chroma, ops):
    return [sum(channel) / len(channel) for channel in _channels(chroma, ops)]


def _planes(image, ops):
    return tuple(ops.cast(image[..., i], np.float32) for i in range(3))


def _convert(conversion, fused, chroma, ops):
    """Converts the fused planes to RGB, in the type of the fused luminance, to which the chroma is truncated."""
    rgb = conversion(ops.stack([ops.cast(plane, fused.dtype) for plane in (fused, *chroma)]))
    return rgb if fused.dtype == np.uint8 else ops.clip(rgb, 0, 255)


def _round(values, ops):
    """MATLAB's conversion to uint8: halves up, saturated."""
    return ops.cast(ops.clip(ops.floor(values + 0.5), 0, 255), np.uint8)


def _finish(fused, planes, ops):
    """Stacks R, G and B in the type of the fused luminance."""
    rgb = ops.stack(planes)
    return _round(rgb, ops) if fused.dtype == np.uint8 else ops.cast(ops.clip(rgb, 0, 255), np.float32)
