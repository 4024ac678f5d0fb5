"""What a file states about its tone curve and its primaries.

Linear light, PQ and HLG can be taken at their word. sRGB, Adobe RGB and the like name the encoding for display; a camera's
picture style lies on top of it, so for light they are no more than a start. Stated are, in this order of precedence, PNG's
cICP, an ICC profile (its tag cicp, otherwise its curve, by Little CMS), and PNG's sRGB and gAMA.
"""

import os
import pathlib
import struct
import zlib

import numpy as np

from hdr_tf.image.response import Response
from hdr_tf.io import exif, profiles
from hdr_tf.io.exif import Metadata

LIGHT = ("linear", "pq", "hlg")  # names of the responses that say what the light was

_CODES = {4: "gamma", 8: "linear", 13: "srgb", 16: "pq", 18: "hlg"}  # transfer characteristics of ITU-T H.273
_BT_709, _GAMMA_2_8 = (1, 6, 14, 15), 5
_ALPHA, _BETA = 1.09929682680944, 0.018053968510807  # of BT.709 and BT.2020, exact, so that the curve is continuous
_P3, _WHITE = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06), (0.3127, 0.329)
_PRIMARIES = {  # of ITU-T H.273
    1: profiles.SRGB,
    5: (0.64, 0.33, 0.29, 0.6, 0.15, 0.06, *_WHITE),
    6: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_WHITE),
    7: (0.63, 0.34, 0.31, 0.595, 0.155, 0.07, *_WHITE),
    9: profiles.BT_2020,
    11: (*_P3, 0.314, 0.351),
    12: (*_P3, *_WHITE),
}
_PNG = b"\x89PNG\r\n\x1a\n"
_MARKS = {b"cICP": 4, b"cHRM": 32, b"gAMA": 4, b"sRGB": 1}  # chunks about colour, and their sizes
_STRAIGHT = 0.01  # a gamma, or light, within this of a straight line
_EQUAL = 0.005  # third roots of light within this
_NODES = 4097  # of a curve


def png_marks(path: str | os.PathLike) -> bytes | None:
    """Returns the chunks cICP, cHRM, gAMA and sRGB of a PNG file, whole and one after the other; None if there are none."""
    marks = b""
    with pathlib.Path(path).open("rb") as file:
        if file.read(8) != _PNG:
            return None
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            (size,) = struct.unpack(">I", head[:4])
            if _MARKS.get(head[4:]) == size:
                marks += head + file.read(size + 4)
            else:
                file.seek(size + 4, os.SEEK_CUR)
    return marks or None


def code_points(primaries: int, transfer: int) -> bytes:
    """Returns a chunk cICP, as `png_marks` does, with codes of ITU-T H.273."""
    content = b"cICP" + bytes((primaries, transfer, 0, 1))  # RGB, in the full range
    return struct.pack(">I", 4) + content + struct.pack(">I", zlib.crc32(content))


def stated(metadata: Metadata) -> Response | None:
    """Returns the curve that a file's metadata state, None if they state none. Its name is in `LIGHT` if it says what the light
    was."""
    marks = _split(metadata.png)
    if b"cICP" in marks:
        return _coded(marks[b"cICP"][1])
    if metadata.icc:
        return _of_profile(metadata.icc)
    if b"sRGB" in marks:
        return Response("srgb")
    return _power(1 / _gamma(marks)) if _gamma(marks) else None


def primaries(metadata: Metadata) -> tuple[float, ...] | None:
    """Returns x and y in CIE 1931 of red, green, blue and white, None if the metadata do not state them."""
    marks = _split(metadata.png)
    if b"cICP" in marks:
        return _PRIMARIES.get(marks[b"cICP"][0])
    if metadata.icc:
        return exif.primaries(metadata.icc)
    if b"cHRM" in marks and b"sRGB" not in marks:
        white, colours = (np.divide(part, 100_000) for part in np.split(np.frombuffer(marks[b"cHRM"], ">u4"), [2]))
        triangle = np.column_stack([colours.reshape(3, 2), np.ones(3)])
        if min(colours[1::2].min(), white[1]) > 0 and abs(np.linalg.det(triangle)) > 1e-3:
            return (*colours.tolist(), *white.tolist())
    return None


def profile(metadata: Metadata, gray: bool) -> bytes | None:
    """Returns a colour profile that says what the metadata state, for files that hold no chunks of PNG; None if they state
    nothing.

    Args:
        metadata: of an image.
        gray: whether a profile that has to be made is for gray images.
    """
    marks = _split(metadata.png)
    if b"cICP" not in marks and (metadata.icc or not stated(metadata)):
        return metadata.icc
    colours = None if gray else primaries(metadata) or profiles.SRGB
    if b"cICP" in marks:
        name = {"linear": "linear", "pq": "PQ", "hlg": "HLG"}.get(_CODES.get(marks[b"cICP"][1], ""), "video")
        gamma = {4: 2.2, 5: 2.8, 8: 1.0}.get(marks[b"cICP"][1])
        return profiles.make(name, colours, gamma, marks[b"cICP"])
    gamma = None if b"sRGB" in marks else 1 / _gamma(marks)
    return profiles.make("sRGB" if gamma is None else f"gamma {gamma:.3g}", colours, gamma)


def encoded(metadata: Metadata, gray: bool) -> Metadata:
    """Returns the metadata of linear light after it was encoded with the curve of sRGB; primaries are kept."""
    colours = primaries(metadata) or profiles.SRGB
    name = "sRGB" if np.allclose(colours, profiles.SRGB, atol=1e-3) else "curve of sRGB"
    return metadata._replace(icc=profiles.make(name, None if gray else colours, None), png=None)


def displayed(metadata: Metadata) -> Metadata:
    """Returns the metadata for images of gamma 2.2, or tone-mapped ones, that were made of an image with `metadata`."""
    curve = stated(metadata)
    return metadata if curve is None or curve.name in ("srgb", "gamma") else encoded(metadata, False)


def gray(metadata: Metadata) -> Metadata:
    """Returns the metadata of a gray image that was made of images in colour: the profile becomes one of the same curve."""
    curve = stated(metadata) if metadata.icc else None
    if curve is None:
        return metadata
    nodes = np.linspace(0, 1, _NODES, dtype=np.float32)
    gamma = {"srgb": None, "gamma": 2.2, "linear": 1.0}.get(curve.name, curve.decode(nodes))
    return metadata._replace(icc=profiles.make(f"gray, {curve.name}", None, gamma))


def _split(png):
    """The data of the chunks by their names."""
    marks, at = {}, 0
    while png and at < len(png):
        size, name = struct.unpack_from(">I4s", png, at)
        marks[name] = png[at + 8 : at + 8 + size]
        at += 12 + size
    return marks


def _gamma(marks):
    return struct.unpack(">I", marks[b"gAMA"])[0] / 1e5 if b"gAMA" in marks else 0


def _coded(code):
    values = np.linspace(0, 1, _NODES)
    if code in _BT_709:
        curved = (1 - (1 - values) / _ALPHA) ** (1 / 0.45)
        return Response("BT.709", values, np.where(values < 4.5 * _BETA, values / 4.5, curved))
    if code == _GAMMA_2_8:
        return _power(2.8)
    return Response(_CODES[code]) if code in _CODES else None


def _power(gamma):
    if abs(gamma - 1) < _STRAIGHT:
        return Response("linear")
    if abs(gamma - 2.2) < _STRAIGHT:
        return Response("gamma")
    if not 0.2 < gamma < 5:  # nonsense
        return None
    values = np.linspace(0, 1, _NODES)
    return Response(f"gamma {gamma:.3g}", values, values**gamma)


def _of_profile(icc):
    code = _cicp(icc)
    if code is not None:
        return _coded(code)
    found = profiles.curve(icc)
    if found is None:
        return None
    values, roots = found
    if np.abs(roots**3 - values).max() < _STRAIGHT:
        return Response("linear")
    for name in ("srgb", "gamma"):
        if np.abs(np.cbrt(Response(name).decode(values)) - roots).max() < _EQUAL:
            return Response(name)
    nodes = np.linspace(0, 1, _NODES)
    light = np.interp(nodes, values, roots) ** 3
    return Response("profile", nodes, (light + nodes * 1e-9) / (1 + 1e-9))  # strictly rising, also where a table does not


def _cicp(icc):
    """The transfer characteristics in the tag cicp of a profile, None if there is none."""
    try:
        (count,) = struct.unpack_from(">I", icc, 128)
        entries = (struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 200)))
        tags = {name: icc[offset : offset + size] for name, offset, size in entries}
        return tags[b"cicp"][9] if b"cicp" in tags else None
    except (struct.error, IndexError):
        return None
