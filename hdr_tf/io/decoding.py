"""What all readers of images share: the check of a stated size before anything is decoded, one line for whatever a decoder
raises, pixels of OpenCV and of Pillow, and EXIF's orientation.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageCms

from hdr_tf import quiet
from hdr_tf.io import profiles

MAX_PIXELS = 250_000_000

# Deflate compresses at most 1032 bytes to one, which in 1-bit PNG are 8256 pixels; a constant EXR reached 2000 pixels per byte.
_PIXELS_PER_BYTE = 10_000
_PILLOW_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "YCbCr": "RGB"}
_PILLOW_MODES |= {"RGBX": "RGB"}  # a fourth channel that says nothing about alpha


@contextlib.contextmanager
def decoding(path: pathlib.Path, kind: str) -> Iterator[None]:
    """Turns whatever a decoder raises on a damaged file (SyntaxError, struct.error, MemoryError, ...) into a ValueError."""
    try:
        with quiet.decoders():
            yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise damaged(path, kind, error) from error


def damaged(path: pathlib.Path, kind: str, reason: object) -> ValueError:
    """Returns the error for a file of that format, with what a decoder says."""
    reason = " ".join(str(reason).replace(str(path), "the file").split())[:200] or type(reason).__name__
    return ValueError(f"{path}: expected a complete {kind} file, found a damaged or unknown one: {reason}")


def check_size(path: pathlib.Path, width: int, height: int, max_pixels: int) -> None:
    """Raises ValueError for a stated size without pixels, with too many, or with more than the file can hold."""
    if width < 1 or height < 1:
        raise ValueError(f"{path}: expected at least one pixel, its header says {width} x {height}")
    if width * height > max_pixels:
        raise ValueError(
            f"{path}: expected at most {max_pixels:,} pixels, its header says {width} x {height} = {width * height:,}; "
            "--max_pixels raises the limit"
        )
    size = path.stat().st_size
    if width * height > size * _PIXELS_PER_BYTE:
        raise ValueError(f"{path}: expected {width} x {height} pixels as its header says, found a file of {size} bytes")


def pixels_of_pillow(path: pathlib.Path, image: Image.Image) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Decodes an image of 8 bit. Returns [H, W] or [H, W, 3], alpha if there is one, and notes."""
    image.load()
    notes = []
    if image.mode == "CMYK":
        image, notes = _rgb_of_cmyk(path, image), ["CMYK: converted to sRGB by its profile"]
    if image.mode == "La":  # multiplied by alpha
        image = image.convert("LA")
    if image.mode not in _PILLOW_MODES:
        raise ValueError(f"{path}: expected gray or RGB, found {image.mode}; convert it to RGB first")
    alpha = None
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        alpha = np.array(image.convert("RGBA").getchannel("A"))
        image.info.pop("transparency", None)
    mode = _PILLOW_MODES[image.mode]
    return np.array(image if image.mode == mode else image.convert(mode)), alpha, notes


def _rgb_of_cmyk(path, image) -> Image.Image:
    try:
        inks = profiles.opened(image.info["icc_profile"])
        if inks.xcolor_space != "CMYK":
            raise ValueError
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, inks, srgb, intent, outputMode="RGB", flags=flags)
        return cast(Image.Image, converted)  # None only of an image that is converted in its place
    except Exception as error:  # none, or damaged
        raise ValueError(
            f"{path}: is CMYK without a profile that says what its inks look like, which is not supported; convert it to RGB"
        ) from error


def opencv(data: np.ndarray, dtype: type) -> np.ndarray:
    """Decodes a file, [n] uint8; returns [H, W], BGR or BGRA of that type."""
    # Not by imread, which (5.0.0) fails on rotated TIFF files of 16 bit.
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != dtype:
        raise ValueError("not decodable")
    return values


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies EXIF orientation 1 to 8: 5 to 8 exchange rows and columns, then comes mirroring."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
