"""Formats of phones and of the web: WebP, AVIF, HEIC/HEIF and JPEG XL.

Pillow reads WebP, and AVIF of 8 bit. The extra `formats` adds pillow-heif for HEIC/HEIF, and imagecodecs for JPEG XL and AVIF
of 10 and 12 bit, which Pillow would cut to 8. `OPENERS` read headers only; the size that they find is checked before `decode`
sees the pixels. AVIF and HEIC state their size apart from the pixels: libheif compares the two, libavif does not, see
`boxes.check_avif`.

Levels of 10 and 12 bit become 16 bit, so that white is 65535. Of an animation the first image is read.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import AvifImagePlugin, Image, WebPImagePlugin

from hdr_tf.io import jpegxl, transfer
from hdr_tf.io.boxes import boxes, check_avif
from hdr_tf.io.exif import Metadata

try:
    import imagecodecs
    import pillow_heif
except ImportError:  # the extra `formats`
    imagecodecs = pillow_heif = cast(Any, None)  # `_need` and `missing` say so before they are used

SUFFIXES = (".webp", ".avif", ".heic", ".heif", ".hif", ".jxl")
TURNED = ("HEIC", "JPEG XL")  # their decoders apply the orientation
_JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_TRANSFERS = {16: "PQ", 18: "HLG"}  # of ITU-T H.273
_JXL_HEADER = 200  # bytes that are enough for its size and colours


def kind(head: bytes) -> str | None:
    """Returns the format of a file by its first bytes (32 are enough), None if it is none of these."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((_JXL_BOX, b"\xff\x0a")):
        return "JPEG XL"
    if head[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    if brands & {b"avif", b"avis"}:  # it also names mif1, as HEIC does
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else None


def decode(kind: str, file: BinaryIO) -> np.ndarray:
    """Returns the pixels of a file whose size was checked, [H, W] or [H, W, C], uint8 or uint16, with alpha if there is one.

    ValueError if an encoding is not for a display (PQ, HLG, floating point).
    """
    file.seek(0)
    data = file.read()
    at = data.find(b"colrnclx") if kind in ("AVIF", "HEIC") else -1
    light = _TRANSFERS.get(int.from_bytes(data[at + 10 : at + 12], "big")) if at >= 0 else None
    if light:
        raise ValueError(f"{file.name}: expected an image for a display, found {light}; convert it to a PNG or TIFF of 16 bit")
    file.seek(0)
    if kind == "HEIC":
        image = pillow_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        pixels, bits = np.asarray(image), image.info["bit_depth"]
    elif kind == "JPEG XL":
        pixels, bits = imagecodecs.jpegxl_decode(data), 16  # libjxl uses the full range
    elif kind == "AVIF":
        check_avif(data)
        if (bits := _avif_bits(data)) > 8:
            _need("AVIF of 10 or 12 bit", imagecodecs, file)
            pixels = imagecodecs.avif_decode(_still(data))
        else:
            pixels = np.asarray(_open_avif(file))
    else:
        pixels, bits = np.asarray(WebPImagePlugin.WebPImageFile(file)), 8
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{file.name}: expected 8 or 16 bit, found floating point ({kind}); write it as OpenEXR")
    return widened(pixels, bits) if pixels.dtype == np.uint16 else pixels


def widened(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Returns uint16 levels of 8 to 16 bits in the full range of 16 bit: the highest becomes 65535, and 0 stays."""
    return pixels << (16 - bits) | pixels >> (2 * bits - 16) if bits < 16 else pixels


def _open_avif(file):
    return AvifImagePlugin.AvifImageFile(io.BytesIO(_still(file.read())))


def _still(data):
    """An AVIF file of which decoders take the single image, not the animation next to it."""
    return data[:8] + b"avif" + data[12:]


def _open_webp(file):
    head = file.read(30)
    if head[12:16] == b"VP8X":
        size = 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        size = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        size = tuple(side & 0x3FFF for side in struct.unpack("<HH", head[26:30]))
    file.seek(12)
    found = {kind: file.read(length) for kind, length in _chunks(file) if kind in (b"EXIF", b"ICCP")}
    return _header(size, exif=found.get(b"EXIF"), icc_profile=found.get(b"ICCP"))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    while len(start := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        end = file.tell() + length + length % 2
        yield kind, length
        file.seek(end)


def _open_heic(file):
    _need("HEIC", pillow_heif, file)
    image = pillow_heif.open_heif(file)
    return _header(image.size, exif=image.info.get("exif"), icc_profile=image.info.get("icc_profile"))


def _open_jxl(file):
    _need("JPEG XL", imagecodecs, file)
    codestream, exif, notes = file.read(_JXL_HEADER), None, []
    if codestream.startswith(_JXL_BOX):
        file.seek(0)
        codestream = b""
        for kind, length in boxes(file):
            if kind in (b"jxlc", b"jxlp") and not codestream:
                codestream = file.read(min(length, _JXL_HEADER))[4 * (kind == b"jxlp") :]
            elif kind == b"Exif":
                content = file.read(length)
                exif = content[4 + int.from_bytes(content[:4], "big") :]
            elif kind == b"brob" and file.read(4) == b"Exif":
                notes = ["compressed EXIF dropped"]
    size, colours = jpegxl.read_header(codestream)
    marks = transfer.code_points(*colours) if colours and colours != jpegxl.SRGB else None
    if not colours or marks and not transfer.stated(Metadata(png=marks)):
        marks, notes = None, [*notes, "taken as sRGB: the colour profile of this JPEG XL is not read"]
    return _header(size, exif=exif, notes=notes, png=marks)


def _avif_bits(data):
    """8, 10 or 12, from the configuration of the codec."""
    flags = [data[at + 6] for at in _positions(data, b"av1C") if at + 6 < len(data)]
    return 8 if not any(flag & 0x40 for flag in flags) else 12 if any(flag & 0x20 for flag in flags) else 10


def _positions(data, word):
    at = data.find(word)
    while at >= 0:
        yield at
        at = data.find(word, at + 1)


def _header(size, **info):
    """An image without pixels that has a size and metadata."""
    image = Image.Image()
    image._size = size
    image.info = {name: value for name, value in info.items() if value}
    return image


def _need(what: str, package: Any, file: BinaryIO) -> None:
    if package is None:
        raise missing(file.name, what)


def missing(path: str | os.PathLike, what: str) -> ValueError:
    """Returns the error that says how to install what reads a format."""
    return ValueError(f"{path}: {what} needs packages that are not installed: pip install 'hdr_tf[formats]'")


OPENERS = {"WebP": _open_webp, "AVIF": _open_avif, "HEIC": _open_heic, "JPEG XL": _open_jxl}
"""Read the header of an open file: size, EXIF and colours, as an image of Pillow without pixels."""
