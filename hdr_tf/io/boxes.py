"""Boxes, which AVIF and JPEG XL consist of, and what size the images in an AVIF file really have.

An AVIF file states a size next to its AV1 data, which state their own. libavif decodes the latter and scales the result to the
former in silence, so the two are compared first.

Sources: ISO/IEC 14496-12 (`iloc` says where the data of an item are, `ipco` and `ipma` what its properties are, `ispe` is a
size); AV1 Bitstream & Decoding Process Specification, 5.3 to 5.5 (units of data, sequence header).
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

_SEQUENCE_HEADER = 1


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields the kind and the length of the content of each box of a file, which is open there."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        length = end - at if length == 0 else length  # 0: to the end of the file
        content = at + length - file.tell()
        if content < 0:
            raise ValueError("a box ends before it begins")
        yield kind, min(content, end - file.tell())
        at += length


def check_avif(data: bytes) -> None:
    """Raises ValueError unless all AV1 data of an image have the size that the file states for it."""
    meta = _only(data, b"meta")[4:]
    properties = _only(meta, b"iprp")
    known = _contents(_only(properties, b"ipco"))
    places = _places(_only(meta, b"iloc"))
    for item, numbers in _associated(_only(properties, b"ipma")).items():
        own = [known[number - 1] for number in numbers if 0 < number <= len(known)]
        if not any(kind == b"av1C" for kind, _ in own):
            continue
        stated = [struct.unpack_from(">II", content, 4) for kind, content in own if kind == b"ispe"]
        inside, pieces = places.get(item, (False, []))
        source = _only(meta, b"idat") if inside else data
        coded = b"".join(source[start : start + length if length else None] for start, length in pieces)
        sizes = [_sequence_size(content) for kind, content in _units(coded) if kind == _SEQUENCE_HEADER]
        if len(stated) != 1 or set(sizes) != set(stated):
            raise ValueError(f"the size of an image is stated as {stated[:3]}, that of its AV1 data is {sizes[:3]}")


def _contents(data):
    file = io.BytesIO(data)
    return [(kind, file.read(length)) for kind, length in boxes(file)]


def _only(data, wanted):
    file = io.BytesIO(data)
    found = [file.read(length) for kind, length in boxes(file) if kind == wanted]
    if len(found) != 1:
        raise ValueError(f"expected one box {wanted.decode()}, found {len(found)}")
    return found[0]


def _places(content):
    """{item: (whether it lies in the box idat, [(start, length)])}"""
    file = io.BytesIO(content)

    def number(size):
        return int.from_bytes(_exactly(file, size), "big")

    version, sizes = number(4) >> 24, number(2)
    offset_size, length_size, base_size = (sizes >> shift & 15 for shift in (12, 8, 4))
    index_size = sizes & 15 if version else 0
    width = 4 if version == 2 else 2
    places = {}
    for _ in range(number(width)):
        item = number(width)
        inside = bool(version and number(2) & 1)
        number(2)  # of a file elsewhere; libavif uses this one
        base, pieces = number(base_size), []
        for _ in range(number(2)):
            number(index_size)
            pieces.append((base + number(offset_size), number(length_size)))
        places[item] = inside, pieces
    return places


def _associated(content):
    """{item: [number of a property, from 1]}"""
    file = io.BytesIO(content)

    def number(size):
        return int.from_bytes(_exactly(file, size), "big")

    head = number(4)
    wide = head & 1
    associated = {}
    for _ in range(number(4)):
        item = number(4 if head >> 24 else 2)
        numbers = [number(2) & 0x7FFF if wide else number(1) & 0x7F for _ in range(number(1))]
        associated.setdefault(item, []).extend(numbers)
    return associated


def _exactly(file, size):
    if len(data := file.read(size)) < size:
        raise ValueError("a box that is cut short")
    return data


def _units(coded):
    """Yields the kind and the content of each unit (OBU) of AV1 data."""
    at = 0
    while at < len(coded):
        head = coded[at]
        at += 1 + (head >> 2 & 1)
        size = len(coded) - at
        if head & 2:
            size = shift = 0
            more = True
            while more:
                size, more = size | (coded[at] & 127) << shift, coded[at] & 128
                at, shift = at + 1, shift + 7
        yield head >> 3 & 15, coded[at : at + size]
        at += size


def _sequence_size(header):
    """(width, height) of the frames that a sequence header announces."""
    bits, at = int.from_bytes(header, "big"), 8 * len(header)

    def take(count):
        nonlocal at
        at -= count
        if at < 0:
            raise ValueError("a sequence header that is cut short")
        return bits >> at & ((1 << count) - 1)

    take(4)  # profile, still image
    single = take(1)  # a header for one image
    if single:
        take(5)  # level
    else:
        model = delay = 0
        if take(1):  # timing
            take(64)
            if take(1):  # the same number of ticks for each image
                zeros = 0
                while not take(1):
                    zeros += 1
                take(zeros)
            if model := take(1):
                delay = 1 + take(5)
                take(32 + 10)
        displayed = take(1)
        for _ in range(1 + take(5)):
            take(12)
            if take(5) > 7:  # level
                take(1)
            if model and take(1):
                take(2 * delay + 1)
            if displayed and take(1):
                take(4)
    widths, heights = 1 + take(4), 1 + take(4)
    width, height = 1 + take(widths), 1 + take(heights)
    if not single and (width.bit_length() < widths or height.bit_length() < heights):  # a frame may state one of so many bits
        raise ValueError(f"the frames of its AV1 data may be larger than {width} x {height}")
    return width, height
