"""What a file states about its tone curve, where that can be believed: linear light, PQ or HLG.

sRGB and the like name the encoding for display. A camera's picture style lies on top of it, so they say little about light.
Three places are read: the chunks cICP and gAMA of PNG, and in an ICC profile the tag cicp and the curves of a matrix profile.
"""

import os
import pathlib
import struct

_CODES = {8: "linear", 16: "pq", 18: "hlg"}  # transfer characteristics of ITU-T H.273
_PNG = b"\x89PNG\r\n\x1a\n"
_LINEAR = 0.01  # a gamma, or a table's values, within this of a straight line


def stated(path: str | os.PathLike | None, icc: bytes | None) -> str | None:
    """Returns "linear", "pq" or "hlg" if the file or its profile states one of them, otherwise None.

    Args:
        path: of a file that can be read as an image; None for pixels without a file.
        icc: its profile, None for none.
    """
    chunks = {} if path is None else _png_chunks(pathlib.Path(path))
    if len(chunks.get(b"cICP", b"")) == 4:
        return _CODES.get(chunks[b"cICP"][1])
    if icc:
        return _of_profile(icc)
    gamma = chunks.get(b"gAMA", b"")
    return "linear" if len(gamma) == 4 and abs(struct.unpack(">I", gamma)[0] / 1e5 - 1) < _LINEAR else None


def _png_chunks(path):
    """The two chunks, {name: data}; none of a file that is no PNG."""
    chunks = {}
    with path.open("rb") as file:
        if file.read(8) != _PNG:
            return chunks
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            size = struct.unpack(">I", head[:4])[0]
            if head[4:] in (b"cICP", b"gAMA"):
                chunks[head[4:]] = file.read(min(size, 64))
                size -= min(size, 64)
            file.seek(size + 4, os.SEEK_CUR)
    return chunks


def _of_profile(icc):
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        entries = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 200)))
        tags = {name: icc[offset : offset + size] for name, offset, size in entries}
        if b"cicp" in tags:
            return _CODES.get(tags[b"cicp"][9])
        curves = [tags[name] for name in (b"rTRC", b"gTRC", b"bTRC", b"kTRC") if name in tags]
        return "linear" if curves and all(map(_is_line, curves)) else None
    except (struct.error, IndexError):
        return None


def _is_line(curve):
    kind, number = curve[:4], struct.unpack_from(">I", curve, 8)[0]
    if kind == b"para":  # the function's type in the upper half; type 0 is a plain power
        return number >> 16 == 0 and abs(struct.unpack_from(">i", curve, 12)[0] / 65536 - 1) < _LINEAR
    if kind != b"curv":
        return False
    if number == 1:
        return abs(struct.unpack_from(">H", curve, 12)[0] / 256 - 1) < _LINEAR
    values = struct.unpack_from(f">{number}H", curve, 12)
    return all(abs(value / 65535 - i / (number - 1)) < _LINEAR for i, value in enumerate(values))
