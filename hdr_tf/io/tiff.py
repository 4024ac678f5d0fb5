"""TIFF: which page is the picture, what decodes it, and its pixels; photographs and floating-point radiance.

tifffile reads the tags, once. Then Pillow decodes 8 bit. OpenCV decodes 16 bit and single precision exactly, but silently
garbles planes and gray with alpha, and does not invert white-is-zero images of 16 bit: tifffile decodes those, 9 to 15 bit,
half and double precision.
"""

import itertools
import math
import mmap
import pathlib
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from PIL import ExifTags, Image, TiffImagePlugin

from hdr_tf.io import codecs, exif
from hdr_tf.io.decoding import check_size, opencv, pixels_of_pillow, upright

# What tifffile decodes into memory of the size that the header says.
_TIFFFILE_CODECS = {tifffile.COMPRESSION[name] for name in ("NONE", "LZW", "ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "ZSTD")}
_PILLOW_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32946, 34925, 50000}  # as the wheels decode them
_OPENCV_COMPRESSIONS = {1, 5, 8, 32773, 32946}
_UNSIGNED, _FLOAT = tifffile.SAMPLEFORMAT.UINT, tifffile.SAMPLEFORMAT.IEEEFP
_BLACK_IS_0, _WHITE_IS_0, _RGB = (tifffile.PHOTOMETRIC[name] for name in ("MINISBLACK", "MINISWHITE", "RGB"))
_PAGES = 64  # of a file that are looked at, and of those below each
_OLD_SUBFILE_TYPE = 255
_ICC_PROFILE = 34675


class Photograph(NamedTuple):
    """A photograph, upright."""

    pixels: np.ndarray  # [H, W, 3] RGB or [H, W] gray, uint8 or uint16
    alpha: np.ndarray | None  # [H, W]
    exposure: float | None
    metadata: exif.Metadata
    orientation: int  # that was applied
    notes: list[str]  # about the picture, and about its metadata
    damage: list[str]


class TiffImageFile(TiffImagePlugin.TiffImageFile):
    """Pillow's reader without its size limit for uncompressed TIFF."""

    def load_prepare(self):
        if self._im is None:  # as in Pillow 12.3
            self.im = Image.core.new(self.mode, self._tile_size)
        super().load_prepare()


def read(path: pathlib.Path, max_pixels: int, number: int | None = None) -> Photograph:
    """Reads a photograph. `number`: which of the largest pages; None: the first, with a note if there are others."""
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        pictures = _pictures(tiff)
        page = pictures[number or 0]
        planar = _check_page(path, page, max_pixels)
        decoder = _decoder(path, page, planar)
        content = _starting_with(page, tiff, file)
        file.seek(0)
        alpha, notes = None, []
        if decoder == "tifffile":
            image = _tags_of(page, tiff, file)
        else:
            image = TiffImageFile(content or file)
            check_size(path, *image.size, max_pixels)  # what Pillow understood is what it allocates
        orientation = exif.orientation(image)  # which Pillow forgets on decoding
        if decoder == "tifffile":
            pixels, alpha = _parted(upright(_by_tifffile(path, page, planar), orientation), page)
            pixels = 65535 - pixels if page.photometric == _WHITE_IS_0 else pixels
        elif decoder == "OpenCV":
            values = opencv(_bytes(path, content), np.uint16)
            pixels, alpha = _parted(values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]], page)
        else:
            pixels, alpha, notes = pixels_of_pillow(path, image)
        _, exposure, metadata, damage = exif.read(image)
        if content and (first := _first_page(file)):  # what the first page says and the page of the picture does not
            turn, exposed, described, _ = exif.read(first)
            if ExifTags.Base.Orientation not in image.getexif():
                pixels, alpha = upright(pixels, turn), alpha if alpha is None else upright(alpha, turn)
            if exposure is None and exposed is not None:
                exposure, metadata = exposed, metadata._replace(exif=described.exif)
            metadata = metadata._replace(icc=metadata.icc or described.icc)
    if number is None and len(pictures) > 1:
        notes = [f"holds {len(pictures)} images of one size: the first is used, --pages takes all", *notes]
    return Photograph(pixels, alpha, exposure, metadata, orientation, notes, damage)


def read_float(path: pathlib.Path, max_pixels: int) -> np.ndarray:
    """Reads floating point as it is, [H, W] or [H, W, 3 or 4] float32."""
    with path.open("rb") as file, tifffile.TiffFile(file) as tiff:
        page = _pictures(tiff)[0]
        planar = _check_page(path, page, max_pixels)
        if page.sampleformat != _FLOAT:
            raise ValueError(f"{path}: expected a floating-point TIFF, found one of {page.bitspersample} bit for display")
        if page.samplesperpixel > 4 or page.imagedepth > 1:
            raise ValueError(f"{path}: expected at most 4 channels, found {page.samplesperpixel}; write it as OpenEXR")
        if page.bitspersample != 32 or planar:  # OpenCV reads no half and double precision, and garbles planes
            values = _by_tifffile(path, page, planar)
            return values if values.ndim == 2 or values.shape[2] > 2 else values[..., 0]
        _check_compression(path, page, _OPENCV_COMPRESSIONS)
        values = opencv(_bytes(path, _starting_with(page, tiff, file)), np.float32)
    return values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]


def is_float(path: pathlib.Path) -> bool:
    """Returns whether the picture is of floating point."""
    with tifffile.TiffFile(path) as tiff:
        return _pictures(tiff)[0].sampleformat == _FLOAT


def count_pictures(path: pathlib.Path) -> int:
    """Returns how many pages could be the picture: the largest ones of one size."""
    with tifffile.TiffFile(path) as tiff:
        return len(_pictures(tiff))


def open_picture(file: BinaryIO) -> Image.Image:
    """Returns the page of the picture, opened by Pillow, not decoded."""
    with tifffile.TiffFile(file) as tiff:
        content = _starting_with(_pictures(tiff)[0], tiff, file)
    file.seek(0)
    return TiffImageFile(content or file)


def description(path: pathlib.Path) -> str:
    """Returns the text of the first page."""
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages.first.description


def _pictures(tiff):
    """The largest pages that are no reduced copies and no masks, in the order of the file."""
    pages = []
    for page in itertools.islice(tiff.pages, _PAGES):
        pages += [page, *itertools.islice(page.pages or (), _PAGES)]  # a camera's picture may lie below its thumbnail
    whole = [page for page in pages if not (page.is_reduced or page.is_mask or page.tags.valueof(_OLD_SUBFILE_TYPE) == 2)]
    pages = whole or pages
    largest = max(pages, key=lambda page: page.imagewidth * page.imagelength)
    size = largest.imagewidth, largest.imagelength
    return [page for page in pages if (page.imagewidth, page.imagelength) == size]


def _check_page(path, page, max_pixels):
    """Checks the size; returns whether each channel is stored by itself (planar)."""
    for tag in ("ImageWidth", "ImageLength", "BitsPerSample", "SamplesPerPixel", "RowsPerStrip", "TileWidth", "TileLength"):
        if len(page.tags.getall(tag) or ()) > 1:  # decoders differ in which one they use
            raise ValueError(f"expected one tag {tag}, found several")
    check_size(path, page.imagewidth, page.imagelength, max_pixels)
    if page.is_tiled:  # a decoder allocates a whole tile, however small the image
        check_size(path, page.tilewidth, page.tilelength, max_pixels)
    return page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and page.samplesperpixel > 1


def _decoder(path, page, planar):
    """The name of the library that decodes a photograph; whatever none of them reads right is refused."""
    bits, photometric, samples = page.bitspersample, page.photometric, page.samplesperpixel
    plain = samples in {_BLACK_IS_0: (1, 2), _WHITE_IS_0: (1, 2), _RGB: (3, 4)}.get(photometric, ())
    garbled = bits < 16 or planar or photometric == _WHITE_IS_0 or samples == 2  # by OpenCV
    if page.sampleformat == _UNSIGNED and 8 < bits <= 16 and plain and garbled:
        return "tifffile"
    _check_compression(path, page, _OPENCV_COMPRESSIONS if bits > 8 else _PILLOW_COMPRESSIONS)
    if page.sampleformat != _UNSIGNED or bits > 16:
        actual = f"radiance (floating point of {bits} bit)" if page.sampleformat == _FLOAT else f"{bits} bit, or signed"
        raise ValueError(f"{path}: expected a TIFF of 8 or 16 bit, found {actual}")
    if samples > 4:
        raise ValueError(f"{path}: expected at most 4 channels, found {samples}")
    if bits <= 8:
        return "Pillow"
    if garbled or photometric not in (_BLACK_IS_0, _RGB):
        actual = f"{bits} bit, {photometric.name}, {samples} channels{', planar' if planar else ''}"
        raise ValueError(f"{path}: expected a TIFF of 8 bit, or of 16 bit gray or RGB, found {actual}")
    return "OpenCV"


def _check_compression(path, page, ours):
    if page.compression in ours:
        return
    known = page.compression in {kind.value for kind in tifffile.COMPRESSION}
    name = tifffile.COMPRESSION(page.compression).name if known else f"method {page.compression}"
    raise ValueError(
        f"{path}: is a TIFF of {page.bitspersample} bit compressed by {name}, which is not supported; "
        "save it with LZW, Deflate or no compression"
    )


def _starting_with(page, tiff, file) -> Any:
    """The content of a TIFF, mapped to memory and changed so that decoders find a page first; None if they do anyway."""
    if page.offset == tiff.pages.first.offset:
        return None
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    place, kind = (8, "Q") if tiff.is_bigtiff else (4, "I")
    struct.pack_into(f"{tiff.byteorder}{kind}", content, place, page.offset)
    return content


def _first_page(file):
    """The first page, opened by Pillow; None for a mask, or another kind that Pillow does not open."""
    file.seek(0)
    try:
        return TiffImageFile(file)
    except Exception:
        return None


def _tags_of(page, tiff, file):
    """An image without pixels that has the tags of a page."""
    image, tags = Image.Image(), Image.Exif()
    tags.endian, tags.bigtiff = tiff.byteorder, tiff.is_bigtiff
    tags.load_from_fp(file, page.offset)
    image._exif, image.info = tags, {"icc_profile": tags.get(_ICC_PROFILE)}
    return image


def _parted(values, page):
    """Colour or gray, and alpha or None, of all channels."""
    channels = values.shape[2] if values.ndim == 3 else 1
    pixels = values if channels in (1, 3) else values[..., :-1]
    pixels = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    kind = page.extrasamples[0] if page.extrasamples else None
    if channels in (1, 3) or kind == tifffile.EXTRASAMPLE.UNSPECIFIED:
        return pixels, None
    alpha = values[..., -1]
    if kind == tifffile.EXTRASAMPLE.ASSOCALPHA:  # Pillow divides 8 bit itself
        share = np.maximum(alpha, 1) / np.float32(65535)
        pixels = np.rint(np.minimum(pixels / (share if pixels.ndim == 2 else share[..., None]), 65535)).astype(np.uint16)
    return pixels, alpha


def _bytes(path, content):
    """What a file holds, or the changed content of one, [n] uint8."""
    return np.frombuffer(content, np.uint8) if content else np.memmap(path, np.uint8, mode="r")


def _by_tifffile(path, page, planar):
    """The pixels of a page, [H, W] or [H, W, C]: float32, or uint16 in the full range of 16 bit."""
    if page.compression not in _TIFFFILE_CODECS:
        raise ValueError(
            f"{path}: expected a TIFF of {page.bitspersample} bit without compression, or LZW, Deflate or Zstandard, found "
            f"{page.compression.name}"
        )
    places = len(page.dataoffsets), len(page.databytecounts)
    if places != (math.prod(page.chunked),) * 2 or not (all(page.dataoffsets) and all(page.databytecounts)):
        raise ValueError("strips or tiles are missing")  # tifffile would fill them with 0
    try:
        values = page.asarray()
    except Exception as error:
        if codecs.imagecodecs is None:
            raise codecs.missing(path, f"a TIFF of {page.bitspersample} bit ({page.compression.name})") from error
        raise
    values = np.moveaxis(values, 0, -1) if planar else values
    if values.shape[:2] != (page.imagelength, page.imagewidth):
        raise ValueError(f"expected {page.imagewidth} x {page.imagelength} pixels, found {values.shape}")
    return codecs.widened(values, page.bitspersample) if values.dtype == np.uint16 else np.asarray(values, np.float32)
