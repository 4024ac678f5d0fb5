"""Images that a screen of high dynamic range shows as such: Ultra HDR JPEG, and PNG or AVIF with PQ.

An image for a display and one gain, by which a pixel is brighter than in that image, make the HDR image. Ultra HDR (Android's
format v1 and ISO 21496-1) holds both: the image, which programs without HDR show, and behind it the gain as a second JPEG. What
belongs to which is written three times, as readers differ: in CIPA's multi-picture format, in XMP (hdrgm) and as ISO says.

The container is written here: encoders that take an image of our own come with no Python package (imagecodecs' libultrahdr maps
the tones itself); its decoder reads what is written (tests/io/test_hdr_files.py).
"""

import math
import os
import pathlib
import struct

import cv2
import numpy as np
from absl import logging

from hdr_tf.image.depth import from_unit
from hdr_tf.image.response import Response
from hdr_tf.io import codecs, exif, image_files, profiles, transfer
from hdr_tf.io.outputs import atomic

SDR_WHITE = 203.0  # cd/m² of an SDR image's white next to HDR, ITU-R BT.2408
PQ_PEAK = 10_000  # cd/m²
PQ_SUFFIXES = (".png", ".avif")

_BT_2020, _PQ, _BT_2020_MATRIX = 9, 16, 9  # of ITU-T H.273
_ISO = b"urn:iso:std:iso:ts:21496:-1\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_DENOMINATOR = 2**20  # of the stops in ISO's metadata
_PRIMARY = 0x030000  # type of the first image, in the multi-picture format
_APP1, _APP2 = 0xE1, 0xE2


def write_ultrahdr(
    path: str | os.PathLike,
    base: np.ndarray,
    gain: np.ndarray,
    peak: float,
    metadata: exif.Metadata = exif.NO_METADATA,
    reached: np.ndarray | None = None,
) -> None:
    """Writes an Ultra HDR JPEG; the file appears complete or not at all.

    Args:
        path: ends in .jpg or .jpeg.
        base: [H, W, 3] uint8, what screens without HDR show.
        gain: [H, W] float32 in 1..peak / `SDR_WHITE`, by which the linear light of a pixel is brighter.
        peak: cd/m², above `SDR_WHITE`.
        metadata, reached: see `image_files.write_image`.
    """
    path, stops = pathlib.Path(path), math.log2(peak / SDR_WHITE)
    if path.suffix.lower() not in image_files.JPEG_SUFFIXES:
        raise ValueError(f"{path}: Ultra HDR is a JPEG, expected a name ending in .jpg, found {path.suffix!r}")
    image = image_files.encode_image(path, base, metadata=metadata, reached=reached)
    _, encoded = cv2.imencode(".jpg", from_unit(np.log2(gain) / stops, np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 100])
    described = _segment(_APP1, _XMP + _xmp(_gain_map(stops))) + _segment(_APP2, _ISO + _iso(stops))
    gain_map = _with_segments(encoded.tobytes(), described)
    directory = _segment(_APP1, _XMP + _xmp(_directory(len(gain_map)))) + _segment(_APP2, _ISO + bytes(4))
    before = _after_exif(image) + len(directory)
    length = len(image) + len(directory) + len(_pictures(0, 0, 0))
    pictures = _pictures(length, len(gain_map), length - before - 8)
    with atomic(path) as temporary:
        temporary.write_bytes(_with_segments(image, directory + pictures) + gain_map)


def check_pq(path: pathlib.Path) -> None:
    """Raises ValueError if `write_pq` cannot write such a file."""
    if path.suffix.lower() not in PQ_SUFFIXES:
        raise ValueError(f"{path}: expected a name ending in {' or '.join(PQ_SUFFIXES)}, found {path.suffix!r}")
    if path.suffix.lower() == ".avif" and codecs.imagecodecs is None:
        raise codecs.missing(path, "AVIF of 10 bit")


def write_pq(
    path: str | os.PathLike,
    base: np.ndarray,
    gain: np.ndarray,
    metadata: exif.Metadata = exif.NO_METADATA,
    reached: np.ndarray | None = None,
) -> None:
    """Writes the HDR image as a PNG of 16 bit or an AVIF of 10 bit with the curve PQ and the primaries of BT.2020, which the
    file states (cICP, nclx). AVIF holds neither EXIF nor transparency here. Arguments are those of `write_ultrahdr`."""
    path = pathlib.Path(path)
    check_pq(path)
    light = _to_bt_2020((transfer.stated(metadata) or Response("srgb")).decode(base) * gain[..., None], metadata)
    levels = Response("pq").encode(light * np.float32(SDR_WHITE / PQ_PEAK))
    if path.suffix.lower() == ".png":
        marked = metadata._replace(icc=None, png=transfer.code_points(_BT_2020, _PQ))
        image_files.write_image(path, from_unit(levels, np.uint16), metadata=marked, reached=reached)
    else:
        for what, lost in (("EXIF", metadata.exif), ("transparency", reached is not None and not reached.all())):
            if lost:
                logging.warning("%s: is written without %s; .png keeps it", path, what)
        pixels = np.rint(1023 * levels).astype(np.uint16)
        data = codecs.imagecodecs.avif_encode(
            pixels,
            level=95,
            bitspersample=10,
            pixelformat="444",
            speed=6,
            primaries=_BT_2020,
            transfer=_PQ,
            matrix=_BT_2020_MATRIX,
        )
        with atomic(path) as temporary:
            temporary.write_bytes(data)


def _to_bt_2020(light, metadata):
    own, _ = profiles.to_xyz(transfer.primaries(metadata) or profiles.SRGB)
    wide, _ = profiles.to_xyz(profiles.BT_2020)
    return np.maximum(light @ np.float32(np.linalg.solve(wide, own)).T, 0)


def _segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _after_exif(jpeg):
    """Where the segments APP0 and APP1 at the begin of a JPEG end, which readers expect first."""
    at = 2
    while jpeg[at] == 0xFF and jpeg[at + 1] in (0xE0, _APP1):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at


def _with_segments(jpeg, segments):
    at = _after_exif(jpeg)
    return jpeg[:at] + segments + jpeg[at:]


def _pictures(first, second, offset):
    """The segment of CIPA DC-007 about two images of these lengths; the second begins at `offset` from the byte order mark."""
    entries = struct.pack(">III2H", _PRIMARY, first, 0, 0, 0) + struct.pack(">III2H", 0, second, offset, 0, 0)
    tags = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack(">I", 2)), (0xB002, 7, len(entries), struct.pack(">I", 50))]
    table = b"".join(struct.pack(">HHI", tag, kind, count) + value for tag, kind, count, value in tags)
    header = b"MM\0*" + struct.pack(">IH", 8, len(tags))
    return _segment(_APP2, b"MPF\0" + header + table + bytes(4) + entries)


def _iso(stops):
    """ISO 21496-1: one channel in the colour space of the base; headrooms of base and HDR, range, gamma and offsets of the map,
    as fractions."""
    top = round(stops * _DENOMINATOR), _DENOMINATOR
    fractions = [(0, 1), top, (0, 1), top, (1, 1), (0, 1), (0, 1)]
    return struct.pack(">HHB", 0, 0, 0x40) + b"".join(struct.pack(">II", *fraction) for fraction in fractions)


def _gain_map(stops):
    values = {"Version": "1.0", "GainMapMin": "0", "GainMapMax": f"{stops:.6f}", "Gamma": "1", "OffsetSDR": "0"}
    values |= {"OffsetHDR": "0", "HDRCapacityMin": "0", "HDRCapacityMax": f"{stops:.6f}", "BaseRenditionIsHDR": "False"}
    return " ".join(f'hdrgm:{name}="{value}"' for name, value in values.items()), ""


def _directory(length):
    items = ('Item:Semantic="Primary"', f'Item:Semantic="GainMap" Item:Length="{length}"')
    listed = (f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" {item}/></rdf:li>' for item in items)
    space = "http://ns.google.com/photos/1.0/container/"
    attributes = f'xmlns:Container="{space}" xmlns:Item="{space}item/" hdrgm:Version="1.0"'
    content = f"<Container:Directory><rdf:Seq>{''.join(listed)}</rdf:Seq></Container:Directory>"
    return attributes, content


def _xmp(description):
    attributes, content = description
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" {attributes}>{content}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
