"""What a photograph carries beside its pixels: EXIF and the colour profile (ICC), from the file read to the file written.

EXIF of JPEG and PNG goes from file to file as it stands, and only numbers in it are changed: the offsets in a camera's own
notes (MakerNote) mostly count from the head of EXIF, so notes that were moved could not be read. A TIFF has no such block:
there the tags are written anew.

Changed for the picture that is written (`fitted`): the orientation is 1, for pixels are upright here; the size is its own; the
thumbnail, which shows something else, is cut off. Everything else, the exposure time included, stays. Other metadata (XMP,
IPTC) is not carried.
"""

import contextlib
import io
import math
import os
import pathlib
import struct
from typing import NamedTuple

import tifffile
import tifftools
from PIL import ExifTags, Image, ImageCms

_EXIF, _GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
_HEAD = b"Exif\0\0"
_ICC_PROFILE = 34675
# The tags of a TIFF that describe the photograph, not how its pixels are stored.
_DESCRIBING = {
    getattr(ExifTags.Base, name).value
    for name in (
        *("ImageDescription", "Make", "Model", "Orientation", "XResolution", "YResolution", "ResolutionUnit", "Software"),
        *("DateTime", "Artist", "Copyright", "Rating", "RatingPercent", "XPTitle", "XPComment", "XPAuthor", "XPKeywords"),
        *("XPSubject", "ExifOffset", "GPSInfo"),
    )
}


class Metadata(NamedTuple):
    """EXIF and colour profile of a picture."""

    exif: bytes | None = None
    """a TIFF structure, from its byte order on"""
    icc: bytes | None = None
    """a profile that Little CMS reads"""


NOTHING = Metadata()


def read(image: Image.Image) -> tuple[int | None, float | None, Metadata, list[str]]:
    """Reads what a JPEG, PNG or TIFF carries.

    Args:
        image: as Pillow opened it, decoded.

    Returns:
        The orientation, 1 to 8, and the exposure (see `exposure`), None where EXIF does not tell; EXIF and colour profile; a
        note for each of them that is damaged, and so is left out.
    """
    orientation = exposed = exif = None
    notes = []
    try:
        tags = image.getexif()
        orientation, exposed = tags.get(ExifTags.Base.Orientation), exposure(tags.get_ifd(_EXIF))
        exif = (image.info.get("exif") or _described(tags)).removeprefix(_HEAD) or None
        if exif:
            _fitted(exif, 1, 1)
    except Exception:  # damaged EXIF raises anything, and is no reason to lose the picture
        exif, notes = None, ["EXIF is damaged: not carried"]
    icc = image.info.get("icc_profile") or None
    if icc and not _channels(icc):
        icc, notes = None, [*notes, "the colour profile is damaged: not carried"]
    return orientation, exposed, Metadata(exif, icc), notes


def read_raw(path: str | os.PathLike) -> Metadata:
    """Reads the EXIF of a camera's RAW file that is TIFF inside (DNG, NEF, CR2, ARW and others; of the rest nothing).

    The camera's notes are about the sensor's data, and left out; the colour space becomes sRGB.
    """
    tags = Image.Exif()
    with pathlib.Path(path).open("rb") as file, contextlib.suppress(Exception):
        tags.load_from_fp(file)
        inner = tags.get_ifd(_EXIF)
        inner.pop(ExifTags.Base.MakerNote, None)
        inner[ExifTags.Base.ColorSpace] = 1
        return Metadata(_described(tags) or None)
    return NOTHING


def exposure(exif: dict) -> float | None:
    """Returns time * ISO/100 / f-number**2 of the tags of an EXIF table. Without aperture or ISO (old lenses, some scanners)
    all pictures are taken to share them; zero or nonsense gives None."""
    time = exif.get(ExifTags.Base.ExposureTime)
    aperture = exif.get(ExifTags.Base.FNumber, 1)
    iso = exif.get(ExifTags.Base.ISOSpeedRatings, 100)
    try:
        iso = iso[0] if isinstance(iso, tuple) else iso
        exposed = float(time) * float(iso) / 100 / float(aperture) ** 2
        sensible = min(float(time), float(iso), float(aperture)) > 0 and math.isfinite(exposed) and exposed > 0
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return exposed if sensible else None


def fitted(carried: Metadata, shape: tuple[int, ...]) -> Metadata:
    """Returns what an upright picture of that shape, [H, W] or [H, W, 3], carries: EXIF with orientation 1, its size and no
    thumbnail, and the profile, if it is for as many channels."""
    exif = carried.exif and _fitted(carried.exif, *shape[:2])
    icc = carried.icc and _channels(carried.icc) == (*shape, 1)[2] and carried.icc
    return Metadata(exif, icc or None)


def into_tiff(data: bytes, carried: Metadata) -> bytes:
    """Returns a TIFF file, given as bytes without metadata, with `carried` in it."""
    if carried == NOTHING:
        return data
    file = tifftools.read_tiff(io.BytesIO(data))
    tags = file["ifds"][0]["tags"]
    if carried.exif:
        exif = Image.Exif()
        exif.load(carried.exif)
        exif.get_ifd(_EXIF).pop(ExifTags.IFD.Interop, None)  # a table that tifftools takes for a number
        # Written anew by Pillow, for tifftools would follow damaged offsets in circles.
        described = _described(exif)
        tags.update(tifftools.read_tiff(io.BytesIO(described))["ifds"][0]["tags"] if described else {})
    if carried.icc:
        tags[_ICC_PROFILE] = {"datatype": tifftools.Datatype.UNDEFINED, "data": carried.icc}
    stream = io.BytesIO()
    tifftools.write_tiff(file, stream)
    return stream.getvalue()


def _described(tags):
    """Writes a table of tags, less those about the storage of pixels, and the tables in it; nothing if it is empty then."""
    for tag in set(tags) - _DESCRIBING:
        del tags[tag]
    tags.bigtiff = False
    return tags.tobytes().removeprefix(_HEAD) if tags else b""


def _fitted(exif, height, width):
    stream = io.BytesIO(exif)
    with tifffile.TiffFile(stream) as file:
        first = file.pages.first
        tables = [first.tags]
        if _EXIF in first.tags:
            file.filehandle.seek(first.tags[_EXIF].valueoffset)
            tables.append(tifffile.TiffPage(file, 0).tags)
        base = ExifTags.Base
        values = {base.Orientation: (1, "H")}
        values |= dict.fromkeys((base.ImageWidth, base.ExifImageWidth), (width, "I"))
        values |= dict.fromkeys((base.ImageLength, base.ExifImageHeight), (height, "I"))
        for tags in tables:
            for code in values.keys() & {tag.code for tag in tags}:
                value, dtype = values[code]
                tags[code].overwrite(value, dtype=dtype)
        (count,) = struct.unpack_from(f"{file.byteorder}H", exif, first.offset)
        stream.seek(first.offset + 2 + 12 * count)
        stream.write(bytes(4))  # where the next table begins, which is the thumbnail's
    return stream.getvalue()


def _channels(icc):
    """For how many channels a profile is, 3 (RGB) or 1 (gray); None if it is for others, or damaged."""
    try:
        return {"RGB ": 3, "GRAY": 1}.get(ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space)
    except Exception:
        return None
