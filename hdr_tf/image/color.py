"""Luminance and chroma as each published program splits and joins them.

A pair of functions for each system. `*_split(rgb)` takes [H, W, 3] RGB, either uint8 or float32 in 0..255 (a 16-bit picture
over 257), and returns luminance and two chroma planes, each [H, W] float32 in 0..255. `*_join(fused, chroma)` takes the fused
luminance [H, W] and a list with one pair of chroma planes for each COLOUR picture (a gray picture has no say in the colour:
leave it out; with an empty list the result is gray) and returns [H, W, 3] RGB of the luminance's kind.

The kind decides the arithmetic: uint8 follows the original's 8-bit arithmetic with its rounding and truncation, float32
the same formulas without any rounding. `fused` as uint8 is what the original writes between network and colour step.

| system | luminance, chroma | the fused chroma |
| --- | --- | --- |
| deepfuse_official | BT.601 studio range, MATLAB's rgb2ycbcr | mean weighted by abs(C - 128) of each pixel |
| deepfuse_sunnerli | BT.601 full range, OpenCV's YCrCb | mean weighted by the sum of abs(C - 127.5) over the picture |
| hyperp_mb | CIE Lab, OpenCV's 8-bit scaling | plain mean |
| densefuse_gray | Pillow's L, BT.601 full range | plain mean |

Changed, in all four: any number of pictures, where the programs take two (for two nothing changes).

Pixels are split strip by strip and joined tile by tile, which fit the cache: so float64 takes less time, and next to no memory.
"""

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import tiles

Chroma = Sequence[tuple[np.ndarray, np.ndarray]]

# rgb2ycbcr.m: rows Y, Cb, Cr for RGB in 0..255; its inverse is computed, as ycbcr2rgb.m does.
STUDIO = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
STUDIO_INVERSE = np.linalg.inv(STUDIO)

# Float planes to 8-bit scaling: OpenCV's float YCrCb has chroma around 0.5, its Lab L in 0..100, a and b around 0.
_LAB_SCALE = np.float32([255 / 100, 1, 1])
_LAB_OFFSET = np.float32([0, 128, 128])
_YCRCB_OFFSET = np.float32([0, 0.5, 0.5])

_STRIP, _TILE = 64, 256  # pixels


def _in_strips(split):
    """Makes a split go strip by strip."""

    @functools.wraps(split)
    def of_all(rgb):
        planes = tuple(np.empty(rgb.shape[:2], np.float32) for _ in range(3))
        for start in range(0, len(rgb), _STRIP):
            rows = slice(start, start + _STRIP)
            for plane, part in zip(planes, split(rgb[rows]), strict=True):
                plane[rows] = part
        return planes

    return of_all


def _in_tiles(join: Callable, fused: np.ndarray, chroma: Chroma) -> np.ndarray:
    """Runs a join, which looks at single pixels, tile by tile."""

    def run(seen):
        return join(seen[0], list(zip(seen[1::2], seen[2::2], strict=True)))

    return tiles.in_tiles(run, [fused, *(plane for pair in chroma for plane in pair)], _TILE, halo=0)


@_in_strips
def deepfuse_official_split(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as Gen_Input.m of KRamPrabhakar/DeepFuse (31c226f): Y in 16..235, Cb and Cr in 16..240, 8-bit ones rounded.

    Gen_Input.m also shrinks pictures to at most 512 pixels a side, and Gen_Result.m the colours with them; here they keep
    their size.
    """
    planes = [_linear(row, rgb, offset) for row, offset in zip(STUDIO, (16, 128, 128), strict=True)]
    return tuple((_round(plane) if rgb.dtype == np.uint8 else plane).astype(np.float32) for plane in planes)


def deepfuse_official_join(fused: np.ndarray, chroma: Chroma) -> np.ndarray:
    """Joins as Gen_Result.m: luminance stretched with 1 % of the pixels saturated at each end (imadjust), mapped to
    16..235; every pixel's chroma the mean weighted by |C - 128|, where all are 128 (0/0) 128; ycbcr2rgb.

    The limits of the stretch are 8-bit levels for float luminance too, as MATLAB's stretchlim counts in 256 bins.
    """
    levels = np.bincount(_round(fused).ravel(), minlength=256).cumsum() / fused.size
    low, high = np.argmax(levels > 0.01), np.argmax(levels >= 0.99)
    if low == high:  # flat
        low, high = 0, 255
    return _in_tiles(functools.partial(_official_join, low=low / 255, high=high / 255), fused, chroma)


def _official_join(fused, chroma, low, high):
    stretched = (np.clip(fused / np.float64(255), low, high) - low) / (high - low)
    planes = [stretched * 235 + (1 - stretched) * 16]
    for channel in _channels(chroma):
        weights = [np.abs(plane - np.float64(128)) for plane in channel]
        total = sum(weights)
        with np.errstate(invalid="ignore"):
            mean = sum(plane * weight / total for plane, weight in zip(channel, weights, strict=True))
        planes.append(np.where(total == 0, 128.0, mean))
    ycbcr = np.dstack(np.broadcast_arrays(*planes))
    if fused.dtype == np.uint8:
        ycbcr = _round(ycbcr)
    return _finish(fused, [_linear(row, ycbcr, -row @ [16, 128, 128]) for row in STUDIO_INVERSE])


@_in_strips
def deepfuse_sunnerli_split(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as inference.py of SunnerLi/DeepFuse.pytorch (2986225) by cv2.COLOR_RGB2YCrCb; returns Y, Cr, Cb.

    The network takes (Y - 127.5)/127.5. The original also resizes every picture to 256 x 256; here it keeps its size.
    """
    if rgb.dtype == np.uint8:
        return _planes(cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb))
    return _planes(cv2.cvtColor(rgb / np.float32(255), cv2.COLOR_RGB2YCrCb) * np.float32(255) + _YCRCB_OFFSET)


def deepfuse_sunnerli_join(fused: np.ndarray, chroma: Chroma) -> np.ndarray:
    """Joins as fusePostProcess of lib/utils.py: one weight for each picture and channel, the sum of |C - 127.5| over the
    picture; chroma truncated to 8 bit; cv2.COLOR_YCrCb2RGB.

    Changed: weights are summed in float64. The original's float32 sums leave a mean of equal values on either side of the
    integer, which truncation turns into one level.
    """
    return _in_tiles(functools.partial(_sunnerli_join, weights=sunnerli_weights(chroma)), fused, chroma)


def _sunnerli_join(fused, chroma, weights):
    fused_chroma = sunnerli_chroma(chroma, weights)
    if fused.dtype == np.uint8:
        planes = [fused, *(plane.astype(np.uint8) for plane in fused_chroma)]
        return cv2.cvtColor(np.dstack(np.broadcast_arrays(*planes)), cv2.COLOR_YCrCb2RGB)
    planes = np.dstack(np.broadcast_arrays(fused, *fused_chroma)).astype(np.float32)
    return np.clip(cv2.cvtColor((planes - _YCRCB_OFFSET) / 255, cv2.COLOR_YCrCb2RGB) * 255, 0, 255)


def sunnerli_weights(chroma: Chroma) -> list[list[float]]:
    """Returns the weights of `sunnerli_chroma`: of Cr and of Cb one for each picture."""
    return [[np.abs(plane - np.float64(127.5)).sum() for plane in channel] for channel in _channels(chroma)]


def sunnerli_chroma(chroma: Chroma, weights: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Returns the fused Cr and Cb of `deepfuse_sunnerli_join` before truncation (weightedFusion), float64."""
    fused = []
    for channel, shares in zip(_channels(chroma), weights, strict=True):
        total = sum(shares)
        mean = sum(plane * share for plane, share in zip(channel, shares, strict=True))
        fused.append(mean / total if total else np.array(128.0))
    return fused


@_in_strips
def hyperp_mb_split(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits as utils.py of Changi-Im/HyperP_MB (9f676f6): OpenCV's 8-bit Lab, L times 255/100, a and b plus 128."""
    if rgb.dtype == np.uint8:
        return _planes(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab))
    # cv2.COLOR_RGB2Lab looks float colours up in a coarse table, 0.5 off; from linear RGB it computes.
    rgb = rgb / np.float32(255)
    linear = np.where(rgb <= 0.04045, rgb / np.float32(12.92), ((rgb + np.float32(0.055)) / np.float32(1.055)) ** 2.4)
    return _planes(cv2.cvtColor(linear.astype(np.float32), cv2.COLOR_LRGB2Lab) * _LAB_SCALE + _LAB_OFFSET)


def hyperp_mb_join(fused: np.ndarray, chroma: Chroma) -> np.ndarray:
    """Joins as save_images_lab of utils.py: a and b averaged, truncated to 8 bit; cv2.COLOR_Lab2RGB."""
    return _in_tiles(_hyperp_mb_join, fused, chroma)


def _hyperp_mb_join(fused, chroma):
    planes = np.dstack(np.broadcast_arrays(fused, *_mean(chroma)))
    if fused.dtype == np.uint8:
        return cv2.cvtColor(planes.astype(np.uint8), cv2.COLOR_Lab2RGB)
    lab = (planes.astype(np.float32) - _LAB_OFFSET) / _LAB_SCALE
    return np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB) * 255, 0, 255)


@_in_strips
def densefuse_gray_split(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits into Pillow's L, which test_image.py of hli1221/densefuse-pytorch (4394b63) reads, and full-range Cb and Cr
    of BT.601, not rounded."""
    cb = _linear([-0.168736, -0.331264, 0.5], rgb, 128)
    cr = _linear([0.5, -0.418688, -0.081312], rgb, 128)
    return tuple(plane.astype(np.float32) for plane in (luminance(rgb), cb, cr))


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Returns Pillow's L, [H, W] of the picture's type: rounded as Pillow does for uint8, not rounded for float32."""
    if rgb.dtype == np.uint8:
        return np.asarray(Image.fromarray(rgb).convert("L"))
    return _linear([19595 / 65536, 38470 / 65536, 7471 / 65536], rgb, 0).astype(np.float32)  # Pillow's coefficients


def densefuse_gray_join(fused: np.ndarray, chroma: Chroma) -> np.ndarray:
    """Joins by full-range BT.601 with the mean chroma.

    Changed: the original writes the gray picture only. The mean is what its network does with the features ("addition").
    """
    return _in_tiles(_densefuse_gray_join, fused, chroma)


def _densefuse_gray_join(fused, chroma):
    cb, cr = (plane - 128 for plane in _mean(chroma))
    return _finish(fused, [fused + 1.402 * cr, fused - 0.344136 * cb - 0.714136 * cr, fused + 1.772 * cb])


def _linear(coefficients, image, offset):
    """The weighted sum of three channels, in float64."""
    first, second, third = np.float64(coefficients)
    return first * image[..., 0] + second * image[..., 1] + third * image[..., 2] + offset


def _channels(chroma):
    """The planes of all pictures, channel by channel."""
    return zip(*chroma, strict=True) if chroma else [(), ()]


def _mean(chroma):
    if not chroma:
        return [np.array(128.0)] * 2
    return [sum(plane.astype(np.float64) for plane in channel) / len(channel) for channel in zip(*chroma, strict=True)]


def _planes(image):
    return tuple(plane.astype(np.float32) for plane in cv2.split(image))


def _round(values):
    """MATLAB's conversion to uint8: halves up, saturated."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _finish(fused, planes):
    """Stacks R, G and B in the kind of the fused luminance."""
    rgb = np.dstack(np.broadcast_arrays(*planes))
    return _round(rgb) if fused.dtype == np.uint8 else np.clip(rgb, 0, 255).astype(np.float32)
