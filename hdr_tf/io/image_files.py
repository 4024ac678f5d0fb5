"""Image files: photographs of 8 or 16 bit, and radiance maps.

A file's first bytes decide its format, not its name. The header is checked before any decoder sees the pixels, so that a file
with a false size costs nothing; a file that a decoder cannot finish is an error, never a half gray image. Pixel values are
those of the file: no colour profile and no gamma is applied.

Trials decided which library decodes what. Pillow reads everything of 8 bit, but silently cuts 16-bit colour to 8 bit. OpenCV
reads 16-bit PNG exactly, but refuses OpenEXR's DWA compression. OpenEXR's `File` survives damaged files once the size is
checked (a false size made it allocate memory until it was killed); its older `InputFile` crashes on some. LibRaw develops a
camera's RAW files, which are known by their suffix, because most look like TIFF. TIFF has a module of its own, `io.tiff`.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import cv2
import numpy as np
import OpenEXR
import scipy
import tifffile
from absl import logging as absl_logging
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin

from hdr_tf import __version__, quiet
from hdr_tf.image.depth import to_rgb
from hdr_tf.io import codecs, exif, raw_check, tiff, transfer
from hdr_tf.io.decoding import MAX_PIXELS, check_size, damaged, decoding, opencv, pixels_of_pillow, upright
from hdr_tf.io.outputs import atomic

try:
    import rawpy
except ImportError:  # the extra `raw`
    rawpy = cast(Any, None)  # `open_raw` says so before it is used

JPEG_SUFFIXES = (".jpg", ".jpeg")
TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", *TIFF_SUFFIXES, *JPEG_SUFFIXES)  # that are written
READ_SUFFIXES = (*IMAGE_SUFFIXES, ".jpe", ".jfif", ".mpo", *codecs.SUFFIXES)
RADIANCE_SUFFIXES = (".exr", ".hdr")
RAW_SUFFIXES = (".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq")
RAW_ORIENTATION = {0: 1, 3: 3, 5: 8, 6: 6}  # EXIF's, by LibRaw's

SRGB_PRIMARIES = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
_EXR_NAMES = ("R", "G", "B", "Y", "RY", "BY")
_CHROMA_FILTER = (0.002128, -0.007540, 0.019597, -0.043159, 0.087929, -0.186077, 0.627123)  # and mirrored
_HALF_MAX = 65504.0  # the largest finite number of 16-bit floating point

_FULL_COLOUR = 90  # quality of a JPEG
_MAX_SCANS = 100  # of a JPEG; programs write at most a dozen, but each may cost as much as decoding the whole image

_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])", re.DOTALL)  # as libjpeg looks for the next segment
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # SOF; the others in this range are tables

_OTHER_JPEG = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical", 0xF7: "JPEG-LS"}
_MPF_ENTRIES = 0xB002  # of CIPA DC-007, several images in a JPEG
_PNG_HEADER = 33  # bytes of the signature and IHDR

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"v/1\x01": "OpenEXR",
    b"#?": "Radiance HDR",
}


# The classes and not Image.open, whose size limit is a global that belongs to the user.
_PILLOW: dict[str, Callable[[BinaryIO], Image.Image]] = {
    "PNG": exif.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "TIFF": tiff.TiffImageFile,
    **codecs.OPENERS,
}


@dataclasses.dataclass(frozen=True)
class LoadedImage:
    """The content of a photograph's file."""

    path: pathlib.Path | None
    pixels: np.ndarray  # [H, W, 3] RGB or [H, W] gray, uint8 or uint16, upright (EXIF orientation applied), without alpha
    exposure: float | None  # time * ISO/100 / f-number**2, in seconds at ISO 100 and f/1; None if EXIF does not give the time
    notes: tuple[str, ...] = ()  # what was dropped on reading, a line each
    metadata: exif.Metadata = exif.NO_METADATA
    reached: np.ndarray | None = None  # [H, W] bool, False where alpha is 0; None if it is 0 nowhere
    orientation: int = 1  # EXIF's, that was applied


@dataclasses.dataclass(frozen=True)
class Capture:
    """When and how a photograph was captured, from its header."""

    path: pathlib.Path
    time: float | None  # seconds since an arbitrary moment, by the camera's clock; None if EXIF does not give the time
    seconds: float  # exposure time; 0 if EXIF does not give it
    exposure: float | None  # see `LoadedImage`
    camera: tuple  # maker, model and serial number, None where EXIF lacks them
    size: tuple[int, int] | None  # width and height as stored; None of a RAW file
    bracketing: bool | None = None  # whether the camera was set to bracketing; None if EXIF does not say
    bias: float | None = None  # stops by which the camera was set off its own exposure


@dataclasses.dataclass(frozen=True)
class RadianceHeader:
    """What the values of a radiance map mean; it stands in the map's file. None and empty texts are left out."""

    exposure: float | None = None  # stops of the reference: radiance * 2**exposure is its linear image, in which 1 is clipped
    white_level: float | None = None  # the radiance at which the reference clips
    white_luminance: float | None = None  # cd/m² of a value of 1
    primaries: tuple[float, ...] = SRGB_PRIMARIES  # x and y in CIE 1931 of red, green, blue and white
    response: str = ""  # how the images were decoded, such as "gamma" or "estimated"
    software: str = f"hdr_tf {__version__}"
    notes: str = ""


# Of `RadianceHeader`, in the order of its fields: the attributes of OpenEXR, which are also the names in the texts of TIFF and
# Radiance. chromaticities and whiteLuminance are standard attributes.
_HEADER_NAMES = ("exposure", "whiteLevel", "whiteLuminance", "chromaticities", "response", "software", "comments")
_RADIANCE_NAMES = {"chromaticities": "PRIMARIES", "software": "SOFTWARE"}  # the others are comments: "# name"


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS, page: int | None = None) -> LoadedImage:
    """Reads a JPEG, PNG or TIFF file of 8 or 16 bit, gray or colour, a file of `io.codecs` (WebP, AVIF, HEIC, JPEG XL), or a
    camera's RAW file.

    Of a TIFF it reads the largest page that is not a reduced copy or a mask. Several such pages may have one size: `page` tells
    which of them to read, from 0; None for the first, with a note about the others.

    An image with more than `max_pixels` is refused before it is decoded. Whatever is wrong with the file becomes a ValueError,
    or an OSError if it cannot be opened, with a message of one line that begins with the path.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind == "RAW":
        return _read_raw(path, max_pixels)
    if kind not in _PILLOW:
        raise ValueError(f"{path}: expected a JPEG, PNG or TIFF photograph, found radiance ({kind})")
    if kind in codecs.OPENERS:
        return _read_codec(path, kind, max_pixels)
    if kind == "TIFF":
        with decoding(path, kind):
            found = tiff.read(path, max_pixels, page)
        reached, dropped = _reached(found.alpha)
        notes = (*found.notes, *dropped, *found.damage)
        pixels = np.ascontiguousarray(found.pixels)
        return LoadedImage(path, pixels, found.exposure, notes, found.metadata, reached, found.orientation)
    with path.open("rb") as file, decoding(path, kind):
        sixteen_bit = {"PNG": _check_png, "JPEG": _check_jpeg}[kind](path, file, max_pixels)
        file.seek(0)
        image = _PILLOW[kind](file)
        check_size(path, *image.size, max_pixels)  # what Pillow understood is what it allocates
        stored = exif.orientation(image)
        pixels, alpha, notes = _png_of_16_bit(path) if sixteen_bit else pixels_of_pillow(path, image)
        if kind == "JPEG" and (views := _views(path, image)) > 1:
            notes = [f"holds {views} views of the scene: the first is used", *notes]
        orientation, exposure, metadata, damage = exif.read(image)
        if kind == "PNG":
            metadata = metadata._replace(png=transfer.png_marks(path))
    pixels, alpha = upright(pixels, orientation), alpha if alpha is None else upright(alpha, orientation)
    reached, dropped = _reached(alpha)
    return LoadedImage(path, np.ascontiguousarray(pixels), exposure, (*notes, *dropped, *damage), metadata, reached, stored)


def read_pages(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> list[LoadedImage]:
    """Reads all pages of one size of a TIFF file, the exposures of a bracket; of another file its single image.

    Thumbnails and masks are left out. Errors are those of `read_image`.
    """
    path, count = pathlib.Path(path), 1
    if _kind(path) == "TIFF":
        with decoding(path, "TIFF"):
            count = tiff.count_pictures(path)
    return [read_image(path, max_pixels, number) for number in range(count)]


def read_capture(path: str | os.PathLike) -> Capture:
    """Reads the header of a JPEG, PNG, TIFF or RAW file, but no pixels. Raises the errors of `read_image`."""
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind == "RAW":
        return _raw_capture(path)
    if kind not in _PILLOW:
        raise ValueError(f"{path}: expected a JPEG, PNG or TIFF photograph or a RAW file, found radiance ({kind})")
    with path.open("rb") as file, decoding(path, kind):
        image = _PILLOW[kind](file)
        return _capture(path, image.getexif, image.size)


def _capture(path, read_tags, size):
    time, seconds, exposure, camera, bracketing, bias = None, 0.0, None, (None, None, None), None, None
    with contextlib.suppress(Exception):  # damaged EXIF raises anything; what was read before stays
        tags = read_tags()
        camera = tuple(exif.words(tags.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        details = tags.get_ifd(ExifTags.IFD.Exif)
        camera = (*camera, exif.words(details.get(ExifTags.Base.BodySerialNumber)))
        time, exposure = exif.capture_time(tags, details), exif.exposure(details)
        seconds = exif.exposure_time(details) or 0.0
        bracketing = {0: False, 1: False, 2: True}.get(details.get(ExifTags.Base.ExposureMode))
        bias = exif.exposure_bias(details)
    return Capture(path, time, seconds, exposure, (*camera, None)[:3], size, bracketing, bias)


def _raw_capture(path):
    """By the tags where the file is a TIFF inside, otherwise by LibRaw, which does not tell the camera."""

    def read_tags():
        tags = Image.Exif()
        with path.open("rb") as file:
            tags.load_from_fp(file)
            tags.get_ifd(ExifTags.IFD.Exif)  # while the file is open
        return tags

    capture = _capture(path, read_tags, None)
    if None not in (capture.time, capture.exposure) or rawpy is None:
        return capture
    with open_raw(path) as (raw, _):
        settings = raw.other
        time = capture.time or (settings.timestamp if settings.timestamp > 0 else None)
        seconds = capture.seconds or max(settings.shutter_speed, 0.0)
        return dataclasses.replace(capture, time=time, seconds=seconds, exposure=capture.exposure or raw_exposure(settings))


def write_image(
    path: str | os.PathLike,
    pixels: np.ndarray,
    quality: int = 95,
    metadata: exif.Metadata = exif.NO_METADATA,
    reached: np.ndarray | None = None,
) -> None:
    """Writes an image as PNG, TIFF (LZW) or JPEG, depending on the suffix. The file appears complete or not at all.

    Args:
        path: ends in one of `IMAGE_SUFFIXES`.
        pixels: [H, W, 3] RGB or [H, W], uint8 or uint16 (JPEG: uint8).
        quality: of a JPEG, 1 to 100; from 90 on, colours have full resolution (4:4:4).
        metadata: EXIF, which is fitted to the image, and a colour profile. What the file cannot hold (a profile of three
            channels in a gray image, more than 64 KB in a JPEG) is dropped, with a warning in the log.
        reached: [H, W] bool; where it is False the image is transparent, or in a JPEG black, with a warning.
    """
    data = encode_image(path, pixels, quality, metadata, reached)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def encode_image(
    path: str | os.PathLike,
    pixels: np.ndarray,
    quality: int = 95,
    metadata: exif.Metadata = exif.NO_METADATA,
    reached: np.ndarray | None = None,
) -> bytes:
    """Returns the content of the file that `write_image` writes."""
    path, pixels = pathlib.Path(path), np.asarray(pixels)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ValueError(f"{path}: expected a name ending in {', '.join(IMAGE_SUFFIXES)}, found {path.suffix!r}")
    if pixels.dtype not in (np.uint8, np.uint16) or not _is_image(pixels):
        raise ValueError(f"{path}: expected [H, W, 3] or [H, W] of uint8 or uint16, found {_describe(pixels)}")
    if suffix in JPEG_SUFFIXES and pixels.dtype != np.uint8:
        raise ValueError(f"{path}: JPEG holds 8 bit, found 16; write .png or .tif, or convert the image to 8 bit")
    if not 1 <= quality <= 100:
        raise ValueError(f"{path}: expected a JPEG quality of 1 to 100, found {quality}")
    if reached is not None and not reached.all():
        pixels = np.where(reached if pixels.ndim == 2 else reached[..., None], pixels, pixels.dtype.type(0))
        if suffix in JPEG_SUFFIXES:
            share = 1 - reached.mean()
            absl_logging.warning("%s: JPEG knows no transparency: %.1f %% that no image reaches are black", path, 100 * share)
        else:
            alpha = np.where(reached, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
            pixels = np.dstack([to_rgb(pixels), alpha])
    parameters = []
    if suffix in JPEG_SUFFIXES:
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if quality >= _FULL_COLOUR else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        parameters = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return _encode(path, pixels, parameters, metadata)


def read_radiance(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an OpenEXR, Radiance (.hdr) or floating-point TIFF file. Limit and errors are those of `read_image`.

    Of an OpenEXR file the first part with channels R, G and B, or Y alone, or Y, RY and BY (luminance and chroma), is read,
    within its data window; other channels (alpha, depth, layers) are dropped. The EXPOSURE of a Radiance file is not applied.

    Returns linear RGB, [H, W, 3] float32, in the file's scale; it may hold negative, infinite or NaN values if the file does.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    readers = {"OpenEXR": _read_exr, "Radiance HDR": _read_hdr, "TIFF": lambda *file: _rgb_of(tiff.read_float(*file))}
    if kind not in readers:
        raise ValueError(f"{path}: expected radiance (OpenEXR, Radiance HDR or float TIFF), found {kind}, an image for display")
    with decoding(path, kind):
        return readers[kind](path, max_pixels)


def read_float_tiff(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a floating-point TIFF as `read_radiance` does. Returns also where it reaches, see `LoadedImage.reached`; elsewhere
    its values are 0."""
    path = pathlib.Path(path)
    with decoding(path, "TIFF"):
        values = tiff.read_float(path, max_pixels)
        linear = _rgb_of(values)
    reached = _reached(values[..., 3] if values.ndim == 3 and values.shape[2] == 4 else None)[0]
    return linear if reached is None else np.where(reached[..., None], linear, np.float32(0)), reached


def read_metadata(path: str | os.PathLike) -> exif.Metadata:
    """Reads the metadata of a JPEG, PNG or TIFF file, but no pixels; of other files there are none. Raises the errors of
    `read_image`."""
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind not in _PILLOW:
        return exif.NO_METADATA
    with path.open("rb") as file, decoding(path, kind):
        image = tiff.open_picture(file) if kind == "TIFF" else _PILLOW[kind](file)
        metadata = exif.read(image)[2]
        return metadata._replace(png=transfer.png_marks(path) if kind == "PNG" else image.info.get("png"))


def is_float_tiff(path: str | os.PathLike) -> bool:
    """Returns whether a file is a floating-point TIFF, which `read_radiance` reads. Raises the errors of `read_image`."""
    path = pathlib.Path(path)
    if _kind(path) != "TIFF":
        return False
    with decoding(path, "TIFF"):
        return tiff.is_float(path)


def write_radiance(
    path: str | os.PathLike,
    radiance: np.ndarray,
    header: RadianceHeader | None = None,
    half: bool = False,
    reached: np.ndarray | None = None,
) -> None:
    """Writes linear RGB; the file appears complete or not at all.

    Args:
        path: ends in .exr (OpenEXR, ZIP: exact), .tif or .tiff (float32, deflate: exact) or .hdr (Radiance HDR: 8 bit, one
            exponent for three channels, 0.4 %).
        radiance: [H, W, 3], float32; for .hdr finite and not negative.
        header: what is written about the values: as attributes of OpenEXR, in the ImageDescription of TIFF, in the header of
            Radiance HDR. None: nothing.
        half: of .exr, writes 16-bit floating point (0.05 %). A finite value beyond 65504, which that cannot hold, raises
            ValueError.
        reached: [H, W] bool; where it is False the map is 0 and transparent, which .hdr cannot say.
    """
    path, radiance = pathlib.Path(path), np.asarray(radiance)
    if radiance.ndim != 3 or not _is_image(radiance) or radiance.dtype != np.float32:
        raise ValueError(f"{path}: expected [H, W, 3] of float32, found {_describe(radiance)}")
    suffix = path.suffix.lower()
    attributes = {} if header is None else _attributes(path, header)
    if half and suffix != ".exr":
        raise ValueError(f"{path}: half precision is for .exr, found {path.suffix!r}")
    alpha = None
    if reached is not None and not reached.all():
        alpha = reached.astype(np.float32)
        radiance = np.where(reached[..., None], radiance, np.float32(0))
    if suffix == ".exr":
        _write_exr(path, radiance, attributes, half, alpha)
    elif suffix in TIFF_SUFFIXES:
        text = "\n".join(f"{name}={_text(value)}" for name, value in attributes.items()).encode()
        with atomic(path) as temporary:
            tifffile.imwrite(
                temporary,
                radiance if alpha is None else np.dstack([radiance, alpha]),
                photometric="rgb",
                extrasamples=() if alpha is None else ("assocalpha",),
                compression="zlib",
                description=text or None,
                software=False,
                metadata=None,
            )
    elif suffix == ".hdr":
        if not (np.isfinite(radiance).all() and radiance.min(initial=0) >= 0):
            raise ValueError(f"{path}: Radiance HDR holds finite values of at least 0, found others; write .exr or clean them")
        if alpha is not None:
            share = 1 - alpha.mean()
            absl_logging.warning("%s: knows no transparency: %.1f %% that no image reaches are 0", path, 100 * share)
        # OpenCV truncates to eight bits, which is half a step too dark on average. Half a step more makes it round.
        peak = radiance.max(axis=2, keepdims=True)
        half_step = np.ldexp(np.float32(0.5), np.frexp(peak)[1] - 8)
        lines = [f"{_RADIANCE_NAMES.get(name, f'# {name}')}={_text(value)}\n" for name, value in attributes.items()]
        data = _encode(path, np.where(peak > 0, radiance + half_step, 0), [], head="".join(lines).encode())
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    else:
        raise ValueError(f"{path}: expected a name ending in .exr, .hdr, .tif or .tiff, found {path.suffix!r}")


def read_radiance_header(path: str | os.PathLike) -> RadianceHeader:
    """Reads what `write_radiance` wrote about the values. What a file does not state, or not as the field needs it, is None or
    empty, and primaries are (). Raises the errors of `read_radiance`, but reads no pixels."""
    path = pathlib.Path(path)
    kind = _kind(path)
    with decoding(path, kind):
        if kind == "OpenEXR":
            found = OpenEXR.File(str(path), header_only=True).header()
        elif kind == "TIFF":
            found = dict(re.findall(r"(?m)^(\w+)=(.*)$", tiff.description(path)))
        elif kind == "Radiance HDR":
            with path.open("rb") as file:
                text = file.read(65536).partition(b"\n\n")[0].decode(errors="replace")
            found = dict(re.findall(r"(?m)^#? ?(\w+)=(.*)$", text))
            found |= {name: found[ours] for name, ours in _RADIANCE_NAMES.items() if ours in found}
        else:
            raise ValueError(f"{path}: expected radiance (OpenEXR, Radiance HDR or float TIFF), found {kind}")
    values = {}
    for field, name in zip(dataclasses.fields(RadianceHeader), _HEADER_NAMES, strict=True):
        values[field.name] = _header_value(found.get(name), field.name)
    return RadianceHeader(**values)


@contextlib.contextmanager
def open_raw(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Iterator[tuple]:
    """Opens a camera's RAW file. Yields rawpy's object and the module rawpy.

    A larger file is refused before it is decoded. What goes wrong while it is open raises the errors of `read_image`.
    """
    path = pathlib.Path(path)
    kind = _kind(path)
    if kind != "RAW":
        raise ValueError(f"{path}: expected a RAW file ({', '.join(RAW_SUFFIXES)}), found {kind}")
    with decoding(path, kind):
        if rawpy is None:
            raise ValueError(f"{path}: RAW files need the package rawpy, found none: pip install 'hdr_tf[raw]'")
        raw_check.check_stored(path)
        try:
            with rawpy.imread(str(path)) as raw:
                check_size(path, raw.sizes.raw_width, raw.sizes.raw_height, max_pixels)
                raw_check.check_samples(path, raw)
                yield raw, rawpy
        except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
            raise _refused_by_libraw(path, error) from error


def _refused_by_libraw(path, error):
    reason = error.args[0] if error.args else ""
    reason = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    reason = " ".join(reason.split())[:200] or type(error).__name__.removeprefix("LibRaw")
    if isinstance(error, (rawpy.NotSupportedError, rawpy.LibRawFileUnsupportedError, rawpy.LibRawNotImplementedError)):
        version = ".".join(map(str, rawpy.libraw_version))
        return ValueError(f"{path}: expected a RAW file of a kind that LibRaw {version} supports, found another: {reason}")
    if isinstance(error, (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError, rawpy.LibRawMemPoolOverflowError)):
        return ValueError(f"{path}: expected a RAW file that LibRaw can hold in memory, found a larger one: {reason}")
    return damaged(path, "RAW", reason)


def raw_exposure(settings) -> float | None:
    """Returns the exposure, see `LoadedImage`, of the settings that rawpy reports (`RawPy.other`)."""
    tags = {"ExposureTime": settings.shutter_speed, "FNumber": settings.aperture, "ISOSpeedRatings": settings.iso_speed}
    return exif.exposure({ExifTags.Base[name]: value for name, value in tags.items() if value})


def turned(pixels: np.ndarray, orientation: int, other: int) -> np.ndarray:
    """Returns pixels to which an orientation was applied as if it had been another one."""
    return upright(upright(pixels, {6: 8, 8: 6}.get(orientation, orientation)), other)


def middle_metadata(images: Sequence[Any], reference: int | None = None) -> exif.Metadata:
    """Returns the metadata for the result: that of the reference, by default the middle of the sorted images (of two, the
    brighter one). They are `LoadedImage` or have its path and metadata. Logs a warning if their colour profiles differ."""
    middle = images[len(images) // 2 if reference is None else reference]
    if any(image.metadata[1:] != middle.metadata[1:] for image in images):
        absl_logging.warning("the images have different colour profiles; the result gets the one of %s", middle.path)
    return middle.metadata


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the folder's files with one of `READ_SUFFIXES`, sorted by name, without hidden files. RAW files count
    only if there are no others, because cameras write JPEG files next to them."""
    return photographs(pathlib.Path(folder).iterdir())


def list_photographs(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the folder's images and RAW files, as `list_images` does; also links that lead nowhere, which reading reports."""
    return _readable(pathlib.Path(folder).iterdir())


def photographs(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Returns those of a folder's files that `list_images` returns."""
    paths = _readable(paths)
    return [path for path in paths if path.suffix.lower() in READ_SUFFIXES] or paths


def _readable(paths):
    paths = sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: path.name)
    paths = [path for path in paths if path.suffix.lower() in (*READ_SUFFIXES, *RAW_SUFFIXES)]
    return [path for path in paths if path.is_file() or path.is_symlink() and not path.exists()]


def _kind(path):
    """The format, by the first bytes of the file."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: expected a file, found a pipe or device")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise type(error)(f"{path}: expected an image, cannot open it: {error.strerror}") from error
    if not head:
        raise ValueError(f"{path}: expected an image, found an empty file")
    if path.suffix.lower() in RAW_SUFFIXES:
        return "RAW"
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if kind := codecs.kind(head):
        return kind
    raise ValueError(f"{path}: expected JPEG, PNG, TIFF, OpenEXR or Radiance HDR, found a file that begins with {head[:8]!r}")


def _check_png(path, file, max_pixels):
    """Checks the size and all checksums, some of which the decoders ignore; returns whether the file has 16 bit."""
    kinds, end = [], os.fstat(file.fileno()).st_size
    file.seek(8)
    while file.tell() < end and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if not kinds and (length, kind) != (13, b"IHDR") or kinds and kind == b"IHDR":  # decoders differ in which one they use
            raise ValueError(f"expected one chunk IHDR of 13 bytes, before all others, found {kind!r} of {length}")
        kinds.append(kind)
        file.seek(length + 4, os.SEEK_CUR)
    file.seek(16)
    width, height, depth = struct.unpack(">IIB", file.read(9))
    check_size(path, width, height, max_pixels)
    file.seek(0)
    PngImagePlugin.PngImageFile(file).verify()
    return depth == 16


def _check_jpeg(path, file, max_pixels):
    file.seek(0)
    frames, scans = [], 0
    for marker, segment in _jpeg_segments(file.read()):
        if marker in _JPEG_FRAMES or marker in _OTHER_JPEG:
            if marker in _OTHER_JPEG or segment[0] != 8:
                found = f"one of {segment[0]} bit" if segment[0] != 8 else f"a {_OTHER_JPEG[marker]} one"
                raise ValueError(f"{path}: expected a JPEG of 8 bit, found {found}, which is not supported; convert it to TIFF")
            frames.append(struct.unpack_from(">HH", segment, 1)[::-1])
        scans += marker == 0xDA
        if scans > _MAX_SCANS:
            raise ValueError(
                f"{path}: expected at most {_MAX_SCANS} scans, which take long to decode, found more; save it anew"
            )
    file.seek(0)
    size = JpegImagePlugin.JpegImageFile(file).size
    check_size(path, *size, max_pixels)
    if frames != [size]:
        raise ValueError(f"expected one frame of {size[0]} x {size[1]}, found {frames[:3]}")
    return False


def _jpeg_segments(data):
    """Yields the marker and the content of each segment of the first image in a JPEG file, found as libjpeg finds them."""
    at = 2
    while found := _JPEG_MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == 0xD9:  # the end of the image; in some files other images follow
            return
        if marker != 0x01:  # which has no content
            length = int.from_bytes(data[at : at + 2], "big")
            yield marker, data[at + 2 : at + length]
            at += max(length, 2)


def _views(path, image):
    """The number of images in a JPEG of a stereo camera or the like; previews and gain maps do not count."""
    with contextlib.suppress(Exception):  # damaged; the first image is readable all the same
        kinds = [entry["Attribute"]["MPType"] for entry in image._getmp()[_MPF_ENTRIES]]
        several = path.suffix.lower() == ".mpo" or any(kind.startswith("Multi-Frame") for kind in kinds)
        return sum(not kind.startswith("Large Thumbnail") for kind in kinds) if several else 1
    return 1


def _reached(alpha):
    """Where alpha is not 0, None for everywhere; and notes."""
    if alpha is None:
        return None, []
    reached = alpha > 0
    if reached.all():
        return None, ["alpha dropped"]
    if not reached.any():
        return None, ["alpha is 0 everywhere: dropped"]
    return reached, [f"alpha is 0 in {1 - reached.mean():.1%} of the pixels, which count as not reached"]


def _png_of_16_bit(path):
    values = opencv(np.memmap(path, np.uint8, mode="r"), np.uint16)
    if values.ndim == 2:
        return values, None, []
    return values[..., 2::-1], values[..., 3] if values.shape[2] == 4 else None, []


def _read_codec(path, kind, max_pixels):
    with path.open("rb") as file, decoding(path, kind):
        image = _PILLOW[kind](file)
        check_size(path, *image.size, max_pixels)
        pixels = codecs.decode(kind, file)
        if sorted(pixels.shape[:2]) != sorted(image.size):
            raise ValueError(f"its header says {image.size}, its pixels {pixels.shape[:2]}")
        orientation, exposure, metadata, damage = exif.read(image)
        metadata = metadata._replace(png=image.info.get("png"))
    orientation = 1 if kind in codecs.TURNED else orientation
    pixels = upright(pixels, orientation)
    alpha = pixels[..., -1] if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None
    pixels = pixels if alpha is None else pixels[..., :-1]
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    reached, dropped = _reached(alpha)
    notes = (*dropped, *image.info.get("notes", ()), *damage)
    return LoadedImage(path, np.ascontiguousarray(pixels), exposure, notes, metadata, reached, orientation)


def _read_raw(path, max_pixels):
    """The camera's black level and white balance, interpolation (AHD), sRGB of 16 bit. The gain that brings 1 % of the pixels
    to white and the white level from the brightest pixel are switched off: a bracket has to keep its brightness."""
    with open_raw(path, max_pixels) as (raw, _):
        orientation = RAW_ORIENTATION.get(raw.sizes.flip, 1)  # which LibRaw forgets on developing
        pixels = raw.postprocess(
            use_camera_wb=True, output_bps=16, gamma=(2.4, 12.92), no_auto_bright=True, adjust_maximum_thr=0
        )
        exposure = raw_exposure(raw.other)
    metadata = exif.read_raw(path)
    notes = () if metadata.exif else ("EXIF cannot be read: dropped",)
    return LoadedImage(path, np.ascontiguousarray(pixels), exposure, notes, metadata, orientation=orientation)


def _read_exr(path, max_pixels):
    index, count = _check_exr(path, max_pixels)
    parts = OpenEXR.File(str(path), separate_channels=True).parts
    if len(parts) < count:  # OpenEXR omits a part whose pixels it cannot decode, and prints the reason
        raise ValueError(f"the pixels of {count - len(parts)} of {count} parts cannot be decoded")
    channels = {name: np.float32(channel.pixels) for name, channel in parts[index].channels.items() if name in _EXR_NAMES}
    if {"R", "G", "B"} <= channels.keys():
        return np.dstack([channels[name] for name in "RGB"])
    luminance = channels["Y"]
    if not {"RY", "BY"} <= channels.keys():
        return np.dstack([luminance] * 3)
    primaries = _header_value(parts[index].header.get("chromaticities"), "primaries") or SRGB_PRIMARIES
    return _from_chroma(luminance, channels["RY"], channels["BY"], primaries)


def _from_chroma(luminance, red_chroma, blue_chroma, primaries):
    """RGB of luminance Y, [H, W], and of RY = (R - Y) / Y and BY, every second pixel both ways, as OpenEXR reconstructs it (its
    ImfRgbaYca.cpp, but without the saturation that it removes afterwards)."""
    (height, width), chroma = luminance.shape, (red_chroma, blue_chroma)
    if chroma[0].shape != (height, width):
        chroma = [_doubled(_doubled(plane, 0)[:height], 1)[:, :width] for plane in chroma]
    red, blue = ((plane + 1) * luminance for plane in chroma)
    colours = np.reshape(primaries, (4, 2))
    xyz = np.column_stack([colours, 1 - colours.sum(axis=1)]).T / colours[:, 1]
    weights = np.linalg.solve(xyz[:, :3], xyz[:, 3]).astype(np.float32)  # of red, green and blue in the luminance
    green = (luminance - red * weights[0] - blue * weights[2]) / weights[1]
    return np.dstack([red, np.where((chroma[0] == 0) & (chroma[1] == 0), luminance, green), blue])


def _doubled(plane, axis):
    doubled = np.repeat(plane, 2, axis)
    between = scipy.ndimage.correlate1d(plane, [0, *_CHROMA_FILTER, *_CHROMA_FILTER[::-1]], axis, mode="nearest")
    doubled[(slice(None),) * axis + (slice(1, None, 2),)] = between
    return doubled


def _check_exr(path, max_pixels):
    """Checks every part, because all are decoded; returns the index of the first with RGB or Y, and the number of parts."""
    index, values = None, 0
    parts = OpenEXR.File(str(path), header_only=True).parts
    for number, part in enumerate(parts):
        (left, top), (right, bottom) = (corner.astype(np.int64).tolist() for corner in part.header["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        check_size(path, width, height, max_pixels)
        values += width * height * len(part.header["channels"])
        if part.header["type"] not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):  # its size is unknown before it is decoded
            raise ValueError(
                f"{path}: expected flat images, found deep data in part {number + 1} of {len(parts)}; "
                "write the flat part to a file of its own"
            )
        if tiles := part.header.get("tiles"):  # a decoder allocates a whole tile, however small the image
            check_size(path, tiles.xSize, tiles.ySize, max_pixels)
        whole = {c.name for c in part.header["channels"] if (c.xSampling, c.ySampling) == (1, 1)}
        sampling = {c.name: (c.xSampling, c.ySampling) for c in part.header["channels"]}
        chroma = {sampling.get("RY"), sampling.get("BY")}  # both or none, of full size or of half
        luminance = "Y" in whole and chroma in ({None}, {(1, 1)}, {(2, 2)})
        if index is None and (luminance or {"R", "G", "B"} <= whole):
            index = number
    if values > 4 * max_pixels:
        raise ValueError(f"{path}: expected at most {4 * max_pixels:,} values in all parts, its header says {values:,}")
    if index is None:
        found = "; ".join(", ".join(c.name for c in part.header["channels"]) for part in parts)
        raise ValueError(f"{path}: expected channels R, G, B or Y of full size, or Y, RY, BY, found {found}")
    return index, len(parts)


def to_half(path: str | os.PathLike, radiance: np.ndarray) -> np.ndarray:
    """Returns radiance, [H, W, 3], in the half precision in which it is written to a file. Logs in how many pixels it makes 0
    of a value, one below 2**-25; ValueError for finite values beyond 65504, which it cannot hold."""
    beyond = np.count_nonzero(np.isfinite(radiance) & (np.abs(radiance) > _HALF_MAX))
    if beyond:
        raise ValueError(
            f"{path}: expected values of at most 65504, which half precision holds, found {beyond:,} beyond; "
            "write float32, or scale the radiance"
        )
    half = radiance.astype(np.float16)
    lost = ((radiance != 0) & (half == 0)).any(axis=2).mean()
    if lost:
        absl_logging.warning("%s: %.3g %% of the pixels are too dark for half precision and become 0", path, 100 * lost)
    return half


def _write_exr(path, radiance, attributes, half, alpha=None):
    radiance = to_half(path, radiance) if half else radiance
    if alpha is not None:
        radiance = np.dstack([radiance, alpha.astype(radiance.dtype)])
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **attributes}
    with atomic(path) as temporary:
        try:
            OpenEXR.File(header, {"RGB" if alpha is None else "RGBA": np.ascontiguousarray(radiance)}).write(str(temporary))
        except RuntimeError as error:
            raise OSError(error) from error


def _attributes(path, header):
    """What a header states, by the names of OpenEXR: numbers, a tuple of eight, and texts of one line."""
    values = dict(zip(_HEADER_NAMES, (getattr(header, field.name) for field in dataclasses.fields(header)), strict=True))
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = " ".join(value.split())
        elif value is not None:
            numbers = np.array(value, np.float64)
            if numbers.shape != ((8,) if name == "chromaticities" else ()) or not np.isfinite(numbers).all():
                expected = "8 finite numbers" if name == "chromaticities" else "a finite number"
                raise ValueError(f"{path}: {name} in the header: expected {expected}, found {value}")
            values[name] = tuple(numbers.tolist()) if numbers.ndim else numbers.item()
    return {name: value for name, value in values.items() if value not in (None, "")}


def _text(value):
    return " ".join(map(repr, value)) if isinstance(value, tuple) else str(value)


def _header_value(found, field):
    """The value of a field of `RadianceHeader`, from a text or an attribute of OpenEXR."""
    if field in ("response", "software", "notes"):
        return found if isinstance(found, str) else ""
    try:
        numbers = tuple(map(float, found.split() if isinstance(found, str) else np.ravel(found)))
    except (TypeError, ValueError):
        numbers = ()
    if field == "primaries":
        return numbers if len(numbers) == 8 else ()
    return numbers[0] if len(numbers) == 1 else None


def _read_hdr(path, max_pixels):
    with path.open("rb") as file:
        data = file.read()
    head, _, rest = data.partition(b"\n\n")
    size = re.match(rb"-Y (\d{1,9}) \+X (\d{1,9})\n", rest)
    if not size or b"FORMAT=32-bit_rle_rgbe" not in head.splitlines()[1:]:
        raise ValueError(f"{path}: expected FORMAT=32-bit_rle_rgbe and -Y height +X width in the header, found neither or one")
    height, width = int(size[1]), int(size[2])
    check_size(path, width, height, max_pixels)
    # Under a header that cannot be understood in two ways.
    plain = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (height, width) + rest[size.end() :]
    return np.ascontiguousarray(opencv(np.frombuffer(plain, np.uint8), np.float32)[..., ::-1])


def _rgb_of(values):
    return to_rgb(values) if values.ndim == 2 else np.ascontiguousarray(values[..., :3])


def _encode(path, pixels, parameters, metadata=exif.NO_METADATA, head=b""):
    """The file that OpenCV encodes, with metadata, or with lines after the first one of a Radiance file."""
    suffix, bgr = path.suffix.lower(), pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    with quiet.decoders():
        if suffix != ".png" and metadata.png:
            metadata = metadata._replace(icc=transfer.profile(metadata, pixels.ndim == 2), png=None)
        fitted = exif.fitted(metadata, (*pixels.shape[:2], 3)[: pixels.ndim])  # alpha is no colour
        if suffix.startswith(".tif"):
            done, encoded = cv2.imencode(suffix, bgr, parameters)
            written, data = fitted, exif.into_tiff(encoded.tobytes(), fitted, alpha=pixels.shape[2:] == (4,)) if done else b""
        else:
            for dropped in ((), ("icc",), ("exif",), ("exif", "icc")):
                written = fitted._replace(**dict.fromkeys(dropped))
                chunks = {cv2.IMAGE_METADATA_EXIF: written.exif, cv2.IMAGE_METADATA_ICCP: written.icc}
                chunks = {kind: np.frombuffer(chunk, np.uint8) for kind, chunk in chunks.items() if chunk}
                done, encoded = cv2.imencodeWithMetadata(suffix, bgr, [*chunks], [*chunks.values()], parameters)
                if done:  # OpenCV writes all metadata or refuses the image
                    break
            data = encoded.data if done else b""
    if not done:
        raise ValueError(f"{path}: {path.suffix} does not hold images as large as {_describe(pixels)}")
    if written.png:  # right after IHDR
        data = bytes(data)
        data = data[:_PNG_HEADER] + written.png + data[_PNG_HEADER:]
    for what, before, after in zip(("EXIF", "colour profile"), metadata[:2], written[:2], strict=True):
        if before and not after:
            absl_logging.warning("%s: cannot hold the %s of %d bytes: dropped", path, what, len(before))
    if head:
        first, _, rest = bytes(data).partition(b"\n")
        data = b"\n".join((first, head + rest))
    return bytes(data)


def _is_image(array):
    return array.size > 0 and (array.ndim == 2 or array.ndim == 3 and array.shape[2] == 3)


def _describe(array):
    return f"{list(array.shape)} of {array.dtype}"
