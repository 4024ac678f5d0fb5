"""Metadata of photographs: EXIF and the colour profile (ICC), from the file that is read to the file that is written.

EXIF of JPEG and PNG is copied as a block, and only numbers in it are changed: the offsets in a camera's own notes (MakerNote)
mostly count from the head of EXIF, so notes that were moved could not be read. A TIFF has no such block: its tags are written
anew. Other metadata (XMP, IPTC) is dropped.
"""

import contextlib
import datetime
import io
import math
import os
import pathlib
import re
import struct
from typing import NamedTuple

import numpy as np
import tifffile
import tifftools
from PIL import ExifTags, Image, PngImagePlugin

from hdr_tf.io import profiles

_EXIF = ExifTags.IFD.Exif
# Of XYZ, by Bradford's cone responses.
_D65_TO_D50 = np.array([[1.0478, 0.0229, -0.0501], [0.0296, 0.9905, -0.0171], [-0.0092, 0.0150, 0.7521]])
_HEAD = b"Exif\0\0"
_ICC_PROFILE, _EXTRA_SAMPLES = 34675, 338
# The tags of a TIFF that describe the photograph, not how its pixels are stored.
_DESCRIBING = {
    ExifTags.Base[name].value
    for name in (
        *("ImageDescription", "Make", "Model", "Orientation", "XResolution", "YResolution", "ResolutionUnit", "Software"),
        *("DateTime", "Artist", "Copyright", "Rating", "RatingPercent", "XPTitle", "XPComment", "XPAuthor", "XPKeywords"),
        *("XPSubject", "ExifOffset", "GPSInfo"),
    )
}


class Metadata(NamedTuple):
    """EXIF and colour profile of an image."""

    exif: bytes | None = None  # a TIFF structure, beginning with its byte order
    icc: bytes | None = None  # a profile that Little CMS can read
    png: bytes | None = None  # the chunks of a PNG that are about colour, see `transfer.png_marks`


NO_METADATA = Metadata()


class PngImageFile(PngImagePlugin.PngImageFile):
    """A PNG whose EXIF is read without its pixels. Pillow decodes them, since EXIF may stand after them: all of a large image,
    and of a small file that lies about its size gigabytes."""

    def getexif(self) -> Image.Exif:
        if "exif" not in self.info and self.png is not None and self.fp is not None:  # not decoded yet
            place = self.fp.tell()
            self.fp.seek(8)
            while len(head := self.fp.read(8)) == 8:
                size, kind = struct.unpack(">I4s", head)
                if kind == b"eXIf":
                    self.info["exif"] = _HEAD + self.fp.read(size)
                    break
                self.fp.seek(size + 4, os.SEEK_CUR)
            self.fp.seek(place)
        return Image.Image.getexif(self)


def read(image: Image.Image) -> tuple[int, float | None, Metadata, list[str]]:
    """Reads the metadata of a JPEG, PNG or TIFF that Pillow has opened and decoded.

    Returns the `orientation`; the exposure (see `exposure`), None where EXIF lacks it; EXIF and colour profile; a note for each
    of the two that is damaged and therefore dropped. Adobe RGB of which only EXIF tells gets a profile.
    """
    turn, exposed, exif, space = orientation(image), None, None, None
    notes = []
    try:
        tags = image.getexif()
        exposed = exposure(tags.get_ifd(_EXIF))
        space = _colour_space(tags)
        exif = (image.info.get("exif") or _described(tags)).removeprefix(_HEAD) or None
        if exif:
            _fitted(exif, 1, 1)
    except Exception:  # damaged EXIF raises anything, and is no reason to refuse the image
        exif, notes = None, ["EXIF is damaged: dropped"]
    icc = image.info.get("icc_profile") or None
    if image.mode == "CMYK":
        icc = None  # of the inks; the pixels were converted
    elif icc and not _channels(icc):
        icc, notes = None, [*notes, "the colour profile is damaged: dropped"]
    if not icc and space == "Adobe RGB":
        gray = image.mode in ("1", "L", "LA", "I;16")
        icc = profiles.make("Compatible with Adobe RGB (1998)", None if gray else profiles.ADOBE_RGB, profiles.ADOBE_RGB_GAMMA)
        notes.append("Adobe RGB, as EXIF says: the result gets a profile of it")
    elif not icc and space:
        notes.append("EXIF says that the colours are not sRGB, but no profile says what they are: they are taken for sRGB")
    return turn, exposed, Metadata(exif, icc), notes


def orientation(image: Image.Image) -> int:
    """Returns the orientation, 1 to 8, of an image that Pillow has opened but not decoded; 1 if EXIF does not say."""
    with contextlib.suppress(Exception):  # damaged EXIF raises anything
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        return found if found in range(1, 9) else 1
    return 1


def read_raw(path: str | os.PathLike) -> Metadata:
    """Reads the EXIF of a RAW file that is a TIFF (DNG, NEF, CR2, ARW and others; other formats give nothing). The camera's
    notes, which describe the sensor's data, are dropped; the colour space becomes sRGB."""
    tags = Image.Exif()
    with pathlib.Path(path).open("rb") as file, contextlib.suppress(Exception):
        tags.load_from_fp(file)
        inner = tags.get_ifd(_EXIF)
        inner.pop(ExifTags.Base.MakerNote, None)
        inner[ExifTags.Base.ColorSpace] = 1
        return Metadata(_described(tags) or None)
    return NO_METADATA


def exposure(exif: dict) -> float | None:
    """Returns time * ISO/100 / f-number**2 from the tags of an EXIF table, None without a time. Aperture and ISO may be missing
    (old lenses, some scanners): the images are assumed to share them. A value without a meaning (0, 0/0) is a missing one."""
    time, aperture, iso = settings(exif)
    if time is None:
        return None
    exposed = time * (iso or 100) / 100 / (aperture or 1) ** 2
    return exposed if math.isfinite(exposed) and exposed > 0 else None


def settings(exif: dict) -> tuple[float | None, float | None, float | None]:
    """Returns exposure time in seconds, f-number and ISO from the tags of an EXIF table, None for each that it lacks."""
    base = ExifTags.Base
    isos = [exif.get(tag) for tag in (base.ISOSpeedRatings, base.RecommendedExposureIndex, base.StandardOutputSensitivity)]
    isos = [iso for iso in map(_positive, [*isos, exif.get(base.ISOSpeed)]) if iso]
    iso = next((iso for iso in isos if iso != _ISO_TOO_LARGE), isos[0] if isos else None)
    # ApertureValue is 2 log2 of the f-number.
    aperture = _true(_positive(exif.get(base.FNumber)), _apex(exif, base.ApertureValue, 0.5), _F_NUMBERS)
    return exposure_time(exif), aperture, iso


def written_settings(exif: dict) -> tuple[float | None, float | None, float | None]:
    """Returns what `settings` returns, as a camera writes and shows it: 1/60 s where it exposed for 1/64 s."""
    time, aperture, iso = settings(exif)
    base = ExifTags.Base
    return _positive(exif.get(base.ExposureTime)) or time, _positive(exif.get(base.FNumber)) or aperture, iso


def exposure_time(exif: dict) -> float | None:
    """Returns the exposure time in seconds from the tags of an EXIF table, None if it gives none above 0.

    Cameras count in thirds or halves of a stop and write rounded values: "1/60" is 1/64. So a time of the usual series is what
    it stands for; ShutterSpeedValue, which is -log2 of the time, comes first where it is no copy of the rounded value.
    """
    return _true(_positive(exif.get(ExifTags.Base.ExposureTime)), _apex(exif, ExifTags.Base.ShutterSpeedValue, -1), _TIMES)


def exposure_bias(exif: dict) -> float | None:
    """Returns the stops by which the camera was set off its own exposure, in brackets those of each exposure; None if the EXIF
    table does not say."""
    return _apex(exif, ExifTags.Base.ExposureBiasValue, 1)


def capture_time(tags: dict, exif: dict) -> float | None:
    """Returns when a photograph was captured, in seconds since an arbitrary moment by the camera's clock, from its first table
    of tags and its EXIF table; None if they do not say. Dates may be written as EXIF does or as ISO 8601 does."""
    base = ExifTags.Base
    for date, fraction in (
        (exif.get(base.DateTimeOriginal), exif.get(base.SubsecTimeOriginal)),
        (exif.get(base.DateTimeDigitized), exif.get(base.SubsecTimeDigitized)),
        (tags.get(base.DateTime), exif.get(base.SubsecTime)),
    ):
        found = _DATE.fullmatch(_text(date).strip("\0 "))
        with contextlib.suppress(ValueError):  # such as the 0th day of a month, of a clock that was never set
            if found:
                *numbers, written = found.groups()
                # Read as UTC: only differences count, and the camera's clock has no daylight saving time.
                moment = datetime.datetime(*map(int, numbers), tzinfo=datetime.timezone.utc)
                digits = re.split(r"\D", written or _text(fraction).strip("\0 "), maxsplit=1)[0]
                return moment.timestamp() + float(f"0.{digits or 0}")
    return None


def words(value) -> str | None:
    """Returns a text of EXIF without what fills it up, None if it is absent or empty."""
    return " ".join(_text(value).replace("\0", " ").split()) or None


def _text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)


def _positive(value):
    """A number above 0, None for anything else."""
    try:
        number = float(value[0] if isinstance(value, (tuple, list)) else value)
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _apex(exif, tag, factor):
    """log2 of a quantity, from an APEX tag: a sixth of a stop if the value is near one, as some cameras write eighths."""
    try:
        value = float(exif[tag])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    if not abs(value) <= _MOST_STOPS:  # also nan
        return None
    sixths = round(6 * value) / 6
    return factor * (sixths if abs(sixths - value) < _ROUNDED_APEX else value)


def _true(nominal, apex, series):
    """The quantity that a nominal value stands for, by its APEX value (log2, None if absent) or a series."""
    if nominal is None and apex is None:
        return None
    stops = apex if nominal is None else math.log2(nominal)
    if apex is not None and _COPIED < abs(apex - stops) < _CREDIBLE:
        return 2.0**apex
    values, exact = series
    nearest = np.abs(values - stops).argmin()
    return float(2.0 ** (exact[nearest] if abs(values[nearest] - stops) < _SAME else stops))


def _series(*rows):
    """log2 of nominal values and of what they stand for, from rows (first value's stops, stops between two, values)."""
    nominal = [math.log2(value) for _, _, values in rows for value in values]
    return np.array(nominal), np.array([first + step * i for first, step, values in rows for i in range(len(values))])


# What cameras write: thirds of a stop, then halves where they are called otherwise.
_TIMES = _series(
    (-15, 1 / 3, [1 / n for n in (32000, 25600, 20000, 16000, 12800, 10000, 8000, 6400, 5000, 4000, 3200, 2500, 2000, 1600)]),
    (-31 / 3, 1 / 3, [1 / n for n in (1250, 1000, 800, 640, 500, 400, 320, 250, 200, 160, 125, 100, 80, 60, 50, 40, 30, 25)]),
    (-13 / 3, 1 / 3, [1 / n for n in (20, 15, 13, 10, 8, 6, 5, 4)]),
    (-5 / 3, 1 / 3, (0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.3, 1.6, 2, 2.5, 3.2, 4, 5, 6, 8, 10, 13, 15, 20, 25, 30)),
    (-12.5, 1, [1 / n for n in (6000, 3000, 1500, 750, 350, 180, 90, 45)]),
    *((-0.5, 1, (0.7, 1.5, 3)), (-5 / 3, 1, (1 / 3,))),
)
_F_NUMBERS = _series(
    (0, 1 / 6, (1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3.2, 3.5, 4, 4.5, 5, 5.6, 6.3, 7.1, 8, 9, 10, 11, 13, 14, 16)),
    (25 / 6, 1 / 6, (18, 20, 22, 25, 29, 32)),
    (0.75, 0.5, (1.7, 2.4, 3.3, 4.8, 6.7, 9.5)),
)
_SAME = 0.012  # stops within which a value is one of a series
_ROUNDED_APEX = 0.05
# Stops between an APEX value and the nominal one: below the first it is a copy, above the second one of the two is wrong.
_COPIED, _CREDIBLE = 0.02, 0.25
_MOST_STOPS = 30
_ISO_TOO_LARGE = 65535  # stands in the tag of 16 bit for whatever does not fit
_DATE = re.compile(
    r"(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?\s*(?:Z|[+-]\d\d:?\d\d)?", re.ASCII
)


def _colour_space(tags):
    """What EXIF says that no profile does: "Adobe RGB", "uncalibrated", or None."""
    space = tags.get_ifd(_EXIF).get(ExifTags.Base.ColorSpace)
    index = ""
    with contextlib.suppress(KeyError):  # Pillow 12 raises it where there is no such table
        index = str(tags.get_ifd(ExifTags.IFD.Interop).get(1, "")).strip("\0 ")  # DCF 2.0: R03 goes with Adobe RGB
    if index == "R03" or space == 2:  # 2 is not in the standard, but some programs write it
        return "Adobe RGB"
    return "uncalibrated" if space == 0xFFFF else None


def fitted(metadata: Metadata, shape: tuple[int, ...]) -> Metadata:
    """Returns the metadata for an upright image of that shape, [H, W] or [H, W, 3]: EXIF with orientation 1, the size of the
    image, no thumbnail and all else as it was; and the profile if it is for as many channels."""
    exif = metadata.exif and _fitted(metadata.exif, *shape[:2])
    icc = metadata.icc and _channels(metadata.icc) == (*shape, 1)[2] and metadata.icc
    return metadata._replace(exif=exif, icc=icc or None)


def into_tiff(data: bytes, metadata: Metadata, alpha: bool = False) -> bytes:
    """Returns the bytes of a TIFF file, which have no metadata, with the metadata in them. `alpha`: the last channel is
    alpha, by which colours are not multiplied."""
    if not (metadata.exif or metadata.icc or alpha):
        return data
    file = tifftools.read_tiff(io.BytesIO(data))
    tags = file["ifds"][0]["tags"]
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        exif.get_ifd(_EXIF).pop(ExifTags.IFD.Interop, None)  # a table that tifftools mistakes for a number
        # Pillow writes the tags anew, because tifftools would follow damaged offsets in circles.
        described = _described(exif)
        tags.update(tifftools.read_tiff(io.BytesIO(described))["ifds"][0]["tags"] if described else {})
    if metadata.icc:
        tags[_ICC_PROFILE] = {"datatype": tifftools.Datatype.UNDEFINED, "data": metadata.icc}
    if alpha:
        tags[_EXTRA_SAMPLES] = {"datatype": tifftools.Datatype.SHORT, "data": [2]}
    stream = io.BytesIO()
    tifftools.write_tiff(file, stream)
    return stream.getvalue()


def _described(tags):
    """The bytes of a table of tags and the tables in it, without tags about the storage of pixels; none if no tag is left."""
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
        stream.write(bytes(4))  # the offset of the next table, which is the thumbnail's
    return stream.getvalue()


def primaries(icc: bytes) -> tuple[float, ...] | None:
    """Returns x and y in CIE 1931 of red, green, blue and white of a matrix profile; None if it is damaged or of another kind.

    A profile states its colours as they look under D50. Those of a profile that does not say how it adapted them are taken for
    adapted from D65, as sRGB's and Adobe RGB's are.
    """
    try:
        profile = profiles.opened(icc)
        columns = [profile.red_colorant, profile.green_colorant, profile.blue_colorant]
        colours = np.array([column[0] for column in columns if column]).T
        adaptation = np.array(profile.chromatic_adaptation[0]) if profile.chromatic_adaptation else _D65_TO_D50
        colours = np.linalg.solve(adaptation, np.column_stack([colours, colours.sum(axis=1)]))
        chromaticities = colours[:2] / colours.sum(axis=0)
        return tuple(chromaticities.T.round(4).ravel().tolist()) if np.isfinite(chromaticities).all() else None
    except Exception:
        return None


def _channels(icc):
    """The number of channels that a profile is for, 3 (RGB) or 1 (gray); None if it is damaged or for others."""
    try:
        return {"RGB ": 3, "GRAY": 1}.get(profiles.opened(icc).xcolor_space)
    except Exception:
        return None
