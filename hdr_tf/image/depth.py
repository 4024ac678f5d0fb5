"""Pixel values: conversions between 8 bit, 16 bit and 0..1, and between gray and RGB.

Integers use their full range, so that 255, 65535 and 1.0 are the same white.
"""

import cv2
import numpy as np

GRAY_TOLERANCE = 3  # levels of 255; JPEG makes the channels of a gray image differ by so much


def to_depth(pixels: np.ndarray, depth: int) -> np.ndarray:
    """Converts uint8 to uint16 (times 257) or back (divided by 257 and rounded). Raises ValueError for another depth."""
    if depth not in (8, 16):
        raise ValueError(f"expected a depth of 8 or 16 bit, found {depth}")
    if pixels.itemsize * 8 == depth:
        return pixels
    if depth == 16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """Converts uint8 or uint16 to float32 in 0..1, correctly rounded; other floats become float32 unchanged."""
    if pixels.dtype.kind == "u":
        return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)
    return pixels.astype(np.float32, copy=False)


def from_unit(values: np.ndarray, dtype: np.dtype | type[np.unsignedinteger]) -> np.ndarray:
    """Converts floats to uint8 or uint16: clips to 0..1, scales in the precision of the floats, rounds half to even."""
    return np.rint(np.iinfo(dtype).max * np.clip(values, 0, 1)).astype(dtype)


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Returns [H, W, 3]: a gray image [H, W] gets three equal channels; an RGB image stays as it is."""
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels


def is_gray(pixels: np.ndarray) -> bool:
    """Returns whether the channels of uint8 or uint16 pixels differ everywhere by at most `GRAY_TOLERANCE` levels of 255."""
    if pixels.ndim == 2:
        return True
    tolerance = GRAY_TOLERANCE * (1 if pixels.dtype == np.uint8 else 257)

    def gray(pixels):
        red, green, blue = cv2.split(pixels)
        return all(cv2.absdiff(a, b).max() <= tolerance for a, b in ((red, green), (green, blue), (blue, red)))

    return gray(pixels[::16, ::16]) and gray(pixels)  # a few pixels are enough to recognise most colour images
