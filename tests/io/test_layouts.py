"""Layouts that single programs write: luminance-chroma OpenEXR, TIFF of 10 to 14 bit and of half and double precision, and the
colours of a JPEG that is written."""

import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hdr_tf.io import image_files
from tests import helpers

RGB = np.exp2(3 * helpers.smooth_scene(40, 60)).astype(np.float32)
REC_709 = np.float32([0.2126, 0.7152, 0.0722])


def luminance_chroma(planes, sampling=2, primaries=None):
    """An OpenEXR file without compression; planes are BY, RY and Y, float32."""

    def attribute(name, kind, data):
        return name + b"\0" + kind + b"\0" + struct.pack("<I", len(data)) + data

    height, width = planes[-1].shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    each = [(b"BY", sampling), (b"RY", sampling), (b"Y", 1)]
    channels = b"".join(name + b"\0" + struct.pack("<iB3xii", 2, 0, step, step) for name, step in each) + b"\0"
    header = b"v/1\x01\x02\0\0\0" + attribute(b"channels", b"chlist", channels)
    header += attribute(b"compression", b"compression", b"\0") + attribute(b"lineOrder", b"lineOrder", b"\0")
    header += attribute(b"dataWindow", b"box2i", window) + attribute(b"displayWindow", b"box2i", window)
    header += attribute(b"pixelAspectRatio", b"float", struct.pack("<f", 1))
    header += attribute(b"screenWindowCenter", b"v2f", bytes(8)) + attribute(b"screenWindowWidth", b"float", bytes(4))
    if primaries:
        header += attribute(b"chromaticities", b"chromaticities", struct.pack("<8f", *primaries))
    header += b"\0"
    lines = []
    for row in range(height):
        steps = zip(planes, (sampling, sampling, 1), strict=True)
        data = b"".join(plane[row // step].tobytes() for plane, step in steps if row % step == 0)
        lines.append(struct.pack("<ii", row, len(data)) + data)
    starts = np.cumsum([len(header) + 8 * height, *map(len, lines[:-1])])
    return header + starts.astype("<u8").tobytes() + b"".join(lines)


def chroma_of(rgb, weights=REC_709):
    luminance = rgb @ weights
    return [np.float32((rgb[..., channel] - luminance) / luminance) for channel in (2, 0)] + [np.float32(luminance)]


def test_luminance_chroma_exr(tmp_path):
    blue, red, luminance = chroma_of(RGB)
    (tmp_path / "a.exr").write_bytes(luminance_chroma([np.ascontiguousarray(x[::2, ::2]) for x in (blue, red)] + [luminance]))
    found = image_files.read_radiance(tmp_path / "a.exr")
    assert found.dtype == np.float32 and found.shape == RGB.shape
    np.testing.assert_allclose(found[::2, ::2], RGB[::2, ::2], rtol=1e-3)
    np.testing.assert_allclose(found[14:-14, 14:-14], RGB[14:-14, 14:-14], rtol=5e-3)
    np.testing.assert_allclose(found @ REC_709, luminance, rtol=1e-3)
    (tmp_path / "b.exr").write_bytes(luminance_chroma([blue, red, luminance], sampling=1))
    np.testing.assert_allclose(image_files.read_radiance(tmp_path / "b.exr"), RGB, rtol=1e-3)


def test_luminance_weights_follow_the_primaries(tmp_path):
    primaries = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)
    planes = chroma_of(RGB, np.float32([0.2627, 0.678, 0.0593]))  # ITU-R BT.2020
    (tmp_path / "a.exr").write_bytes(luminance_chroma(planes, sampling=1, primaries=primaries))
    np.testing.assert_allclose(image_files.read_radiance(tmp_path / "a.exr"), RGB, rtol=2e-3)


def test_gray_of_luminance_chroma_is_exact(tmp_path):
    zero = np.zeros((20, 30), np.float32)
    (tmp_path / "a.exr").write_bytes(luminance_chroma([zero, zero, RGB[..., 0].copy()]))
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "a.exr"), np.dstack([RGB[..., 0]] * 3))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", ["rgb", "minisblack", "miniswhite"])
def test_tiff_of_10_to_14_bit(tmp_path, bits, photometric):
    pytest.importorskip("imagecodecs")
    top = 2**bits - 1
    levels = np.rint(helpers.smooth_scene(16, 24) * top).astype(np.uint16)
    levels = levels if photometric == "rgb" else levels[..., 0]
    levels[0, 0], levels[0, 1] = 0, top
    helpers.write_packed_tiff(tmp_path / "a.tif", levels, bits, photometric=photometric)
    found = image_files.read_image(tmp_path / "a.tif").pixels
    expected = np.rint((top - levels if photometric == "miniswhite" else levels) * (65535 / top))
    assert found.dtype == np.uint16 and found.shape == levels.shape
    np.testing.assert_allclose(found, expected, atol=1)
    assert {int(found[0, 0].max()), int(found[0, 1].max())} == {0, 65535}


def test_tiff_of_12_bit_keeps_exif(tmp_path):
    pytest.importorskip("imagecodecs")
    levels = np.full((16, 24, 3), 4095, np.uint16)
    helpers.write_packed_tiff(tmp_path / "a.tif", levels, 12, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    image = image_files.read_image(tmp_path / "a.tif")
    assert image.pixels.shape == (24, 16, 3) and (image.pixels == 65535).all()
    assert image.metadata.exif
    with pytest.raises(ValueError, match=helpers.mentions("a.tif 24 16 383")):
        image_files.read_image(tmp_path / "a.tif", max_pixels=383)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize(
    ("photometric", "channels"), [("minisblack", 2), ("miniswhite", 1), ("miniswhite", 2), ("rgb", 3), ("rgb", 4)]
)
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiff_that_opencv_garbles(tmp_path, bits, photometric, channels, planes):
    """Planes, white-is-zero, and gray with alpha, which is not inverted."""
    pytest.importorskip("imagecodecs")
    levels = helpers.noise(20, 24, channels, dtype=np.uint16) >> (16 - bits)
    colours = levels[..., :-1] if channels in (2, 4) else levels
    stored = np.squeeze(np.moveaxis(levels, -1, 0) if planes == "separate" else levels)
    tags = {"photometric": photometric, "extratags": [(274, "H", 1, 6, True)], "metadata": None}
    tags |= {"planarconfig": planes} if channels > 1 else {}
    tags |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    if bits == 16:
        tifffile.imwrite(tmp_path / "a.tif", stored, **tags)
    else:
        helpers.write_packed_tiff(tmp_path / "a.tif", stored, bits, **tags)
    image = image_files.read_image(tmp_path / "a.tif")
    colours = np.squeeze(2**bits - 1 - colours if photometric == "miniswhite" else colours)
    expected = np.rot90(np.rint(colours * (65535 / (2**bits - 1))), -1)
    np.testing.assert_allclose(image.pixels, expected, atol=0 if bits == 16 else 1)
    assert channels in (1, 3) or image.reached is None or (image.reached == np.rot90(levels[..., -1] > 0, -1)).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float16])
@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 8}])
@pytest.mark.parametrize("what", ["Offsets", "ByteCounts"])
def test_missing_strips_are_no_black(tmp_path, dtype, options, what):
    """tifffile takes a place or length of 0 for zeros that were not stored."""
    values = np.full((32, 32, 2), 9, dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="minisblack", extrasamples=["unassalpha"], metadata=None, **options
    )
    read = image_files.read_radiance if dtype == np.float16 else image_files.read_image
    assert (read(tmp_path / "a.tif") if dtype == np.float16 else read(tmp_path / "a.tif").pixels).min() == 9
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        tag = file.pages.first.tags[("Tile" if "tile" in options else "Strip") + what]
        tag.overwrite((tag.value[0], 0, *tag.value[2:]))
    with pytest.raises(ValueError, match="a.tif"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("planar", [False, True])
def test_float_tiff_of_other_precision(tmp_path, dtype, planar):
    values = RGB.astype(dtype)
    stored = np.moveaxis(values, -1, 0) if planar else values
    config = "separate" if planar else "contig"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=config, compression="zlib")
    assert image_files.is_float_tiff(tmp_path / "a.tif")
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "a.tif"), values.astype(np.float32))
    tifffile.imwrite(tmp_path / "gray.tif", values[..., 0], photometric="minisblack")
    found = image_files.read_radiance(tmp_path / "gray.tif")
    np.testing.assert_array_equal(found, np.dstack([values[..., 0]] * 3).astype(np.float32))


@pytest.mark.parametrize(("quality", "sampling"), [(89, (2, 2)), (90, (1, 1)), (95, (1, 1)), (100, (1, 1))])
def test_colours_of_a_jpeg_have_full_resolution_from_quality_90_on(tmp_path, quality, sampling):
    image_files.write_image(tmp_path / "a.jpg", helpers.SMOOTH, quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.layer[0][1:3] == sampling
    if quality == 100:
        assert np.abs(cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1].astype(int) - helpers.SMOOTH).max() <= 4
