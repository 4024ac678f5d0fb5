"""Whether a camera's RAW file is whole. LibRaw decodes files that were cut or zeroed without a word, to black or to noise.

What the file says about itself is checked where it is a TIFF inside, as most are: every strip and tile lies within the file,
holds something, and if it is JPEG, begins and ends as such, without markers where samples should be. Of every file the samples
are checked: a sensor's rows all differ, by noise alone, unless they are clipped.
"""

import contextlib
import itertools
import mmap
import pathlib
import re
import struct
from typing import NamedTuple

import numpy as np
import tifffile

_DNG_VERSION = 50706
_JPEG = (6, 7)  # TIFF's compression: lossless JPEG of Canon, and of DNG
_PAGES = 64  # of a file, and below each of those
_ZEROS = 4096  # bytes at the end of a compressed strip that no camera pads with
_LAST, _BLACK = 64, 16  # samples at the end, and the least black level that noise cannot bring to 0 in all of them
_ROWS = 4  # that repeat at the end of an image, at least
_REPEATS = 0.01  # share of the rows before them that may repeat; where more do, nothing was captured by a sensor
_PIXELS_PER_BYTE = 64  # of a compressed file, at most
# In the samples of a JPEG, FF is followed by 00, or by a marker of restart, end, or a further scan with its tables.
_WRONG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7\xd9\xda\xc4\xdd]")


def check_stored(path: pathlib.Path) -> None:
    """Raises ValueError if a RAW file that is a TIFF inside does not hold what it says; other files pass."""
    with path.open("rb") as file:
        head = file.read(4)
        with contextlib.closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as content:
            for page in _stored(path) if head[:2] in (b"II", b"MM") else ():
                _check_page(path, page, content)


def check_samples(path: pathlib.Path, raw) -> None:
    """Raises ValueError if the samples cannot be those of a sensor.

    Args:
        path: for the message.
        raw: rawpy's object.
    """
    width, height = raw.sizes.raw_width, raw.sizes.raw_height
    size = path.stat().st_size
    if width * height > size * _PIXELS_PER_BYTE:
        raise _incomplete(path, f"one of {size:,} bytes that says it has {width} x {height} samples")
    samples = raw.raw_image_visible if raw.raw_image is not None else None
    if samples is None or samples.ndim != 2 or samples.shape[0] <= 2 * _ROWS:
        return
    shown = samples.any(axis=1)
    if not shown.any():
        raise _incomplete(path, "one whose samples are all 0")
    rows = int(np.argmax(shown[::-1]))
    zeros = rows * samples.shape[1] + int(np.argmax(samples[len(samples) - rows - 1, ::-1] > 0))
    if zeros >= _LAST and min(raw.black_level_per_channel) >= _BLACK:
        raise _incomplete(path, f"one whose last {zeros:,} of {samples.size:,} samples are 0, below its black level")
    repeats = (samples[2:] == samples[:-2]).all(axis=1) & (samples[2:].min(axis=1) < raw.white_level)
    last = len(repeats) - (len(repeats) if repeats.all() else int(np.argmin(repeats[::-1])))
    tail = len(repeats) - last
    if tail >= _ROWS and last > tail // 16 and repeats[:last].mean() < _REPEATS:
        raise _incomplete(path, f"one whose last {tail} of {len(samples)} rows repeat")


class _Stored(NamedTuple):
    """How a page of a TIFF is stored."""

    kind: str
    compression: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    is_dng: bool
    expected: int  # bytes of its samples without compression


def _stored(path):
    """Yields a `_Stored` for each page; what tifffile cannot read, as RAW files of some cameras, is left out."""
    with contextlib.suppress(Exception), tifffile.TiffFile(path) as tiff:
        is_dng = _DNG_VERSION in tiff.pages.first.tags
        for first in itertools.islice(tiff.pages, _PAGES):
            for page in (first, *itertools.islice(first.pages or (), _PAGES)):
                if page.dataoffsets and len(page.dataoffsets) == len(page.databytecounts):
                    row = -(-page.imagewidth * page.samplesperpixel * np.min(page.bitspersample).item() // 8)
                    kind = "tile" if page.is_tiled else "strip"
                    places = tuple(page.dataoffsets), tuple(page.databytecounts)
                    yield _Stored(kind, int(page.compression), *places, is_dng, row * page.imagelength)


def _check_page(path, page, content):
    size, ends = len(content), [sum(place) for place in zip(page.offsets, page.counts, strict=True)]
    if max(ends) > size:
        raise _incomplete(path, f"one of {size:,} bytes that says it has {max(ends):,}")
    if page.compression == 1:
        if page.is_dng and page.kind == "strip" and sum(page.counts) < page.expected:
            raise _incomplete(path, f"one with {sum(page.counts):,} bytes of samples, expected {page.expected:,}")
        return
    for number, (offset, end) in enumerate(zip(page.offsets, ends, strict=True), start=1):
        data = content[offset:end]
        fault = _fault_of_jpeg(data) if page.compression in _JPEG and page.is_dng else _fault(data)
        if fault:
            raise _incomplete(path, f"one whose {page.kind} {number} of {len(ends)} {fault}")


def _fault(data):
    zeros = len(data) - len(data.rstrip(b"\0"))
    if data and zeros == len(data):
        return "holds only zeros"
    return f"ends in {zeros:,} zeros" if zeros > max(_ZEROS, len(data) // 64) else None


def _fault_of_jpeg(data):
    if not data.startswith(b"\xff\xd8"):
        return "holds only zeros" if not data.strip(b"\0") else "is not the JPEG that it should be"
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda" and at + 4 <= len(data):
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    end = data.rfind(b"\xff\xd9")
    if data[at : at + 2] != b"\xff\xda" or end < at:
        return "has no end"
    return "is damaged" if _WRONG_MARKER.search(data, at + 2 + struct.unpack_from(">H", data, at + 2)[0], end) else None


def _incomplete(path, found):
    return ValueError(f"{path}: expected a complete RAW file, found {found}; copy it again from the card")
