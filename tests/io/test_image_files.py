"""Image files: exact values of every kind, exposure from EXIF, and files that lie, stop early or are something else."""

import dataclasses
import io
import math
import os
import resource
import struct
import time

import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

import hdr_tf
from hdr_tf.image.depth import is_gray, to_depth
from hdr_tf.io import image_files, outputs
from tests import helpers
from tests.helpers import RGB8, RGB16, SMOOTH

IFD = 0x8769


@pytest.fixture
def save(tmp_path):
    def write(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize(
    "pixels",
    [RGB8, RGB8[..., 0], RGB16, RGB16[..., 0]],
    ids=["rgb8", "gray8", "rgb16", "gray16"],
)
def test_write_then_read_is_exact(tmp_path, suffix, pixels):
    image_files.write_image(tmp_path / f"a{suffix}", pixels)
    image = image_files.read_image(str(tmp_path / f"a{suffix}"))
    assert image.pixels.dtype == pixels.dtype and image.notes == () and image.exposure is None
    np.testing.assert_array_equal(image.pixels, pixels)
    assert helpers.names(tmp_path) == {f"a{suffix}"}


def test_jpeg(tmp_path):
    image_files.write_image(tmp_path / "fine.jpg", SMOOTH, quality=100)
    image_files.write_image(tmp_path / "coarse.jpg", SMOOTH, quality=20)
    image = image_files.read_image(tmp_path / "fine.jpg")
    np.testing.assert_array_equal(image.pixels, np.asarray(Image.open(tmp_path / "fine.jpg")))
    assert np.abs(image.pixels.astype(int) - SMOOTH).mean() < 12  # noisy colours at half resolution
    assert (tmp_path / "coarse.jpg").stat().st_size < (tmp_path / "fine.jpg").stat().st_size / 4


@pytest.mark.parametrize(
    "extra", [(), (helpers.png_chunk(b"gAMA", struct.pack(">I", 100000)),), (helpers.png_chunk(b"sBIT", b"\x0c\x0c\x0c"),)]
)
def test_16_bit_png_is_not_touched_by_gamma(save, extra):
    path = save("a.png", helpers.png(30, 20, 16, 2, [row.astype(">u2").tobytes() for row in RGB16], *extra))
    np.testing.assert_array_equal(image_files.read_image(path).pixels, RGB16)


@pytest.mark.parametrize("pixels", [RGB8, RGB16], ids=["8", "16"])
@pytest.mark.parametrize("colour", [False, True])
def test_alpha_is_dropped_with_a_note(save, pixels, colour):
    kept = pixels if colour else pixels[..., :1]
    data = np.dstack([kept, pixels[..., 0]])
    rows = [row.astype(f">u{pixels.itemsize}").tobytes() for row in data]
    path = save("a.png", helpers.png(30, 20, pixels.itemsize * 8, 6 if colour else 4, rows))
    image = image_files.read_image(path)
    (note,) = image.notes
    assert "alpha" in note
    found = image.pixels if image.pixels.ndim == 3 else image.pixels[..., np.newaxis]
    np.testing.assert_array_equal(found, np.broadcast_to(kept, found.shape))


def test_palette_and_one_bit(save):
    palette = Image.fromarray(SMOOTH).quantize(64)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=3)
    image = image_files.read_image(save("palette.png", buffer.getvalue()))
    np.testing.assert_array_equal(image.pixels, np.asarray(palette.convert("RGB")))
    (note,) = image.notes
    assert "alpha" in note
    path = save("bits.png", helpers.png(16, 1, 1, 0, [b"\xf0\x01"]))
    np.testing.assert_array_equal(image_files.read_image(path).pixels, [[255] * 4 + [0] * 11 + [255]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
    ],
)
@pytest.mark.parametrize(
    "pixels",
    [RGB8, RGB16, RGB8[..., 0], RGB16[..., 0]],
    ids=["rgb8", "rgb16", "gray8", "gray16"],
)
def test_tiff_of_other_programs(tmp_path, pixels, options):
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, **options)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png8", "png16", "tiff8", "tiff16"])
def test_orientation(save, tmp_path, kind, orientation):
    # What EXIF calls 6, say, was turned counter-clockwise on storing.
    stored = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    stored |= {5: lambda a: np.swapaxes(a, 0, 1), 6: np.rot90, 7: lambda a: np.rot90(np.swapaxes(a, 0, 1), 2)}
    stored |= {8: lambda a: np.rot90(a, -1)}
    upright = RGB16 if kind.endswith("16") else RGB8
    pixels = np.ascontiguousarray(stored[orientation](upright))
    exif = Image.Exif()
    exif[274] = orientation
    if kind.startswith("tiff"):
        tifffile.imwrite(tmp_path / "a", pixels, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif kind == "png16":
        rows = [row.astype(">u2").tobytes() for row in pixels]
        exif_chunk = helpers.png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        save("a", helpers.png(pixels.shape[1], pixels.shape[0], 16, 2, rows, exif_chunk))
    else:
        save(
            "a",
            helpers.encoded(
                kind[:4].strip("8"), pixels, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "jpeg" else {})
            ),
        )
    image = image_files.read_image(tmp_path / "a")
    assert image.orientation == orientation
    found = image.pixels
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found.astype(int), upright, atol=6 if kind == "jpeg" else 0)  # JPEG rounds


@pytest.mark.parametrize("place", ["before", "after", None])
def test_exif_of_a_png_is_read_without_its_pixels(place, tmp_path):
    exif = Image.Exif()
    exif[272] = "Camera"
    chunk = helpers.png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    data = helpers.png(16, 12, 8, 2, [bytes(48)] * 12, chunk if place == "before" else b"")
    pixels, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
    data = data[:pixels] + helpers.png_chunk(b"IDAT", b"not pixels") + (chunk if place == "after" else b"") + data[end:]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert image_files.read_capture(path).camera[1] == ("Camera" if place else None)
    assert bool(image_files.read_metadata(path).exif) == bool(place)
    with pytest.raises(ValueError, match=helpers.mentions("a.png")):
        image_files.read_image(path)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({33434: 1 / 1000, 33437: 4.0, 34855: 200}, 2 / 1024 / 16),
        ({33434: 2.0}, 2.0),
        ({33434: 0.5, 34855: 400}, 2.0),
        ({33434: 0.5, 33437: 2.0}, 0.125),
        # Nominal values are what they stand for.
        ({33434: 1 / 60}, 1 / 64),
        ({33434: 1 / 60, 37377: math.log2(60)}, 1 / 64),
        ({33434: 1 / 90}, 2**-6.5),
        ({33434: 0.3}, 2 ** (-5 / 3)),
        ({33434: 30.0, 33437: 22.0}, 32 / 512),
        ({33434: 1 / 1037}, 1 / 1037),  # a telephone's time is no nominal one
        # APEX values come first: a Canon writes eighths of a stop.
        ({33434: 0.05, 37377: 4.375, 33437: 5.6, 37378: 5.0}, 2 ** (-13 / 3) / 32),
        ({33434: 1.0, 37377: -2.5}, 1.0),  # one of the two is wrong
        ({37377: 6.0, 37378: 4.0}, 2.0**-6 / 16),
        # A value without a meaning is a missing one.
        ({33437: 4.0, 34855: 200}, None),
        ({33434: 0.0, 33437: 4.0, 34855: 200}, None),
        ({33434: IFDRational(0, 0), 37377: 6.0}, 1 / 64),
        ({33434: 2.0, 33437: 0.0, 34855: 200}, 4.0),
        ({33434: 2.0, 33437: IFDRational(0, 0), 34855: 200}, 4.0),
        ({33434: 2.0, 33437: 4.0, 34855: 0}, 2 / 16),
        ({33434: 2.0, 34855: 65535, 34866: 102400}, 2048.0),
        ({33434: 2.0, 34866: 400}, 8.0),
        ({}, None),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exposure_from_exif(save, kind, tags, expected):
    exif = Image.Exif()
    exif.get_ifd(IFD).update(tags)
    loaded = Image.Exif()  # Pillow writes the inner table into a TIFF only if it was loaded
    loaded.load(exif.tobytes())
    found = image_files.read_image(save("a", helpers.encoded(kind, exif=loaded if kind == "TIFF" else exif.tobytes()))).exposure
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-6))


def test_depth():
    levels = np.arange(256, dtype=np.uint8)
    assert to_depth(levels, 16).max() == 65535
    np.testing.assert_array_equal(to_depth(to_depth(levels, 16), 8), levels)
    every = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_depth(every, 8), np.round(every / 257))
    assert to_depth(levels, 8) is levels
    with pytest.raises(ValueError, match=helpers.mentions("8 16 12")):
        to_depth(levels, 12)


@pytest.mark.parametrize(("dtype", "scale"), [(np.uint8, 1), (np.uint16, 257)])
def test_is_gray_within_3_levels(dtype, scale):
    image = np.full((5, 5, 3), 100 * scale, dtype)
    image[2, 2] = np.array([100, 103, 101]) * scale
    assert is_gray(image) and is_gray(image[..., 0])
    image[2, 2, 0] -= 1
    assert not is_gray(image)


def test_list_images(tmp_path):
    for name in ["b.JPG", "a.png", "c.tiff", ".hidden.png", "notes.txt", "d.exr"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in image_files.list_images(tmp_path)] == ["a.png", "b.JPG", "c.tiff"]


# === What is not such an image ===


def refused(path, read=image_files.read_image, **arguments):
    """Returns the message of the one-line error that reading must end in."""
    with pytest.raises((ValueError, OSError)) as raised:
        read(path, **arguments)
    message = str(raised.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def test_missing_empty_folder_and_text(tmp_path, save):
    assert "No such file" in refused(tmp_path / "missing.png")
    assert "directory" in refused(tmp_path)
    assert "empty" in refused(save("a.png", b""))
    assert "b'hello th'" in refused(save("text.jpg", b"hello there, this is text"))
    assert "b'GIF87a" in refused(save("a.png", helpers.encoded("GIF")))


def test_radiance_and_other_layouts_are_refused_by_name(tmp_path, save):
    image_files.write_radiance(tmp_path / "a.exr", SMOOTH.astype(np.float32))
    image_files.write_radiance(tmp_path / "a.hdr", SMOOTH.astype(np.float32))
    tifffile.imwrite(tmp_path / "float.tif", SMOOTH.astype(np.float32), photometric="rgb")
    for name in ("a.exr", "a.hdr", "float.tif"):
        assert "radiance" in refused(tmp_path / name)
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(RGB16, -1, 0), photometric="minisblack", planarconfig="separate")
    assert "planar" in refused(tmp_path / "planes.tif")
    tifffile.imwrite(tmp_path / "deep.tif", RGB16[..., 0].astype(np.uint32))
    assert helpers.mentioned("32", refused(tmp_path / "deep.tif"))
    Image.fromarray(np.dstack([SMOOTH, SMOOTH[..., 0]]), "CMYK").save(tmp_path / "cmyk.jpg")
    assert "CMYK" in refused(tmp_path / "cmyk.jpg")
    assert "display" in refused(save("a.png", helpers.encoded("PNG")), image_files.read_radiance)
    tifffile.imwrite(tmp_path / "16.tif", RGB16, photometric="rgb")
    assert "display" in refused(tmp_path / "16.tif", image_files.read_radiance)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_max_pixels(save, kind):
    path = save("a", helpers.encoded(kind))
    assert image_files.read_image(path, max_pixels=9600).pixels.shape == (80, 120, 3)
    assert helpers.mentioned("9,599 120 x 80 9,600", refused(path, max_pixels=9599))


@pytest.mark.parametrize("orientation", [1, 6])
def test_pillows_own_limit_does_not_count(tmp_path, monkeypatch, orientation):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    extra = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", RGB8, photometric="rgb", extratags=extra)
    upright = RGB8 if orientation == 1 else np.rot90(RGB8, -1)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.tif").pixels, upright)
    assert Image.MAX_IMAGE_PIXELS == 100


# === Radiance ===


RADIANCE = np.exp2(np.random.default_rng(3).uniform(-10, 10, (20, 30, 3))).astype(np.float32)


def test_exr_write_then_read_is_exact(tmp_path):
    values = RADIANCE.copy()
    values[0, 0] = [-1, np.inf, 0]
    image_files.write_radiance(tmp_path / "a.exr", values)
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "a.exr"), values)


def test_hdr_write_then_read(tmp_path):
    image_files.write_radiance(tmp_path / "a.hdr", RADIANCE)
    found = image_files.read_radiance(tmp_path / "a.hdr")
    # One exponent for three channels: 1/256 of the largest one.
    assert (np.abs(found - RADIANCE) / RADIANCE.max(-1, keepdims=True)).max() < 1 / 128


HEADER = image_files.RadianceHeader(
    exposure=-2.5, white_level=5.75, white_luminance=1234.5, response="estimated, é.csv", notes="two\nlines"
)


@pytest.mark.parametrize("name", ["a.exr", "a.hdr", "a.tif", "a.TIFF"])
def test_radiance_header_stands_in_the_file(tmp_path, name):
    plain, path = tmp_path / f"plain_{name}", tmp_path / name
    image_files.write_radiance(plain, RADIANCE)
    image_files.write_radiance(path, RADIANCE, HEADER)
    np.testing.assert_array_equal(image_files.read_radiance(path), image_files.read_radiance(plain))
    found = image_files.read_radiance_header(path)
    assert found.primaries == pytest.approx(image_files.SRGB_PRIMARIES)
    expected = dataclasses.replace(HEADER, notes="two lines", primaries=found.primaries)
    assert found == expected and found.software == f"hdr_tf {hdr_tf.__version__}"
    assert image_files.read_radiance_header(plain) == image_files.RadianceHeader(primaries=(), software="")


def test_standard_attributes_and_a_bad_header(tmp_path):
    image_files.write_radiance(tmp_path / "a.exr", RADIANCE, HEADER)
    header = OpenEXR.File(str(tmp_path / "a.exr"), header_only=True).header()
    assert header["chromaticities"] == pytest.approx(image_files.SRGB_PRIMARIES) and header["whiteLuminance"] == 1234.5
    image_files.write_radiance(tmp_path / "a.hdr", RADIANCE, HEADER)
    assert b"\nPRIMARIES=0.64 0.33 0.3 0.6 0.15 0.06 0.3127 0.329\n" in (tmp_path / "a.hdr").read_bytes()
    for wrong in ({"exposure": np.nan}, {"primaries": (0.3, 0.3)}):
        with pytest.raises(ValueError, match="b.exr.*finite"):
            image_files.write_radiance(tmp_path / "b.exr", RADIANCE, image_files.RadianceHeader(**wrong))
    assert helpers.names(tmp_path) == {"a.exr", "a.hdr"}


def test_half_precision(tmp_path, caplog):
    values = np.concatenate([RADIANCE, np.full_like(RADIANCE, np.inf)])
    image_files.write_radiance(tmp_path / "a.exr", values, half=True)
    np.testing.assert_allclose(image_files.read_radiance(tmp_path / "a.exr"), values, rtol=2**-11, atol=2**-25)
    assert OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True).channels()["R"].pixels.dtype == np.float16
    with pytest.raises(ValueError, match=helpers.mentions("b.exr 65504 600")):
        image_files.write_radiance(tmp_path / "b.exr", np.full((10, 20, 3), 7e4, np.float32), half=True)
    dark = np.full((10, 20, 3), 2.0**-24, np.float32)
    dark[0, 0, 1] = 2.0**-26
    for pixels, count in ((dark, 1), (dark + 1, 0)):
        caplog.clear()
        image_files.write_radiance(tmp_path / "c.exr", pixels, half=True)
        assert sum(helpers.mentioned("c.exr 0.5 %", message) for message in caplog.messages) == count
    with pytest.raises(ValueError, match=helpers.mentions("a.hdr half .exr")):
        image_files.write_radiance(tmp_path / "a.hdr", RADIANCE, half=True)


def test_float_tiff_write_then_read_is_exact(tmp_path):
    values = np.random.default_rng(1).normal(0, 1e6, (33, 21, 3)).astype(np.float32)
    values[:2] = [[[np.inf, -np.inf, np.nan]], [[0, 1e-40, -0.0]]]
    image_files.write_radiance(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "a.tif"), values)
    with pytest.raises(ValueError, match=helpers.mentions("a.tif radiance")):
        image_files.read_image(tmp_path / "a.tif")


def test_float_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RADIANCE, photometric="rgb")
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "a.tif"), RADIANCE)


@pytest.mark.parametrize("compression", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "DWAA", "DWAB"])
def test_exr_compressions_and_other_channels(tmp_path, compression):
    half = np.full((20, 30), 0.5, np.float16)
    channels = {"R": half, "G": half, "B": half * 2, "A": half, "Z": half, "diffuse.R": half}
    path = helpers.exr(tmp_path / "a.exr", channels, compression=getattr(OpenEXR, f"{compression}_COMPRESSION"))
    found = image_files.read_radiance(path)
    assert found.dtype == np.float32 and found.shape == (20, 30, 3)
    np.testing.assert_allclose(found, np.broadcast_to([0.5, 0.5, 1], (20, 30, 3)), rtol=0.01)  # DWA is lossy


def test_exr_luminance_window_and_parts(tmp_path):
    gray = RADIANCE[..., 0].copy()
    for others in ({}, {"A": gray + 1}, {"A": gray + 1, "R": gray + 1, "Z": gray + 1}):
        path = helpers.exr(tmp_path / "y.exr", {"Y": gray, **others})
        np.testing.assert_array_equal(image_files.read_radiance(path), np.dstack([gray] * 3))
    path = helpers.exr(tmp_path / "window.exr", {"Y": gray}, (100, -50, 129, -31))
    refused(path, image_files.read_radiance)  # its lines are numbered otherwise
    window = (np.int32([100, -50]), np.int32([129, -31]))
    path = helpers.exr(tmp_path / "moved.exr", {"Y": gray}, dataWindow=window)
    assert image_files.read_radiance(path).shape == (20, 30, 3)
    parts = [OpenEXR.Part({"name": "depth"}, {"Z": gray}), OpenEXR.Part({"name": "colour"}, {"RGB": RADIANCE})]
    OpenEXR.File(parts).write(str(tmp_path / "parts.exr"))
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "parts.exr"), RADIANCE)


def test_exr_without_colour_names_what_it_holds(tmp_path):
    plane = RADIANCE[..., 0].copy()
    for channels in ({"Z": plane}, {"Y": plane, "RY": plane}, {"left.R": plane, "left.G": plane}):
        message = refused(helpers.exr(tmp_path / "a.exr", channels), image_files.read_radiance)
        assert helpers.mentioned(f"R G B Y {max(channels)}", message)


@pytest.mark.parametrize("number", range(1, 17))
def test_damaged_exr_of_the_openexr_project(reference, number):
    path = reference / "damaged_exr" / f"{number:02d}.exr"
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused(path, image_files.read_radiance)
    refused(path, image_files.read_image)
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KB


# === Writing ===


def test_write_refuses_what_it_cannot_hold(tmp_path):
    cases = [
        ("a.gif", RGB8, {}, "a.gif .png"),
        ("a.jpg", RGB16, {}, "JPEG 8"),
        ("a.png", RGB8.astype(np.float32), {}, "float32"),
        ("a.png", np.dstack([RGB8, RGB8]), {}, "20, 30, 6"),
        ("a.jpg", RGB8, {"quality": 0}, "quality 1 100 0"),
        ("a.png", RGB8[:0], {}, "0, 30, 3"),
        ("a.jpg", np.zeros((1, 70_000), np.uint8), {}, "70000"),
    ]
    for name, pixels, options, message in cases:
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            image_files.write_image(tmp_path / name, pixels, **options)
    with pytest.raises(ValueError, match=helpers.mentions("a.hdr 0")):
        image_files.write_radiance(tmp_path / "a.hdr", -RADIANCE)
    with pytest.raises(ValueError, match=helpers.mentions(".exr .hdr .png")):
        image_files.write_radiance(tmp_path / "a.png", RADIANCE)
    with pytest.raises(ValueError, match=helpers.mentions("float64")):
        image_files.write_radiance(tmp_path / "a.exr", RADIANCE.astype(np.float64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.exr", "a.hdr"])
def test_unwritable_output_is_one_line_and_leaves_nothing(tmp_path, name):
    write, pixels = (image_files.write_image, RGB8) if name == "a.png" else (image_files.write_radiance, RADIANCE)
    with pytest.raises(OSError) as raised:
        write(tmp_path / "missing" / name, pixels)
    assert str(raised.value).startswith(f"{tmp_path / 'missing' / name}: ")
    assert "\n" not in str(raised.value)
    (tmp_path / name).mkdir()
    with pytest.raises(OSError, match=helpers.mentions(name)):
        write(tmp_path / name, pixels)
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_atomic_keeps_the_old_file_on_an_error(tmp_path):
    path = tmp_path / "model.weights.h5"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), outputs.atomic(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.endswith(".weights.h5")
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with outputs.atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=helpers.mentions("pipe.png")):
        image_files.read_image(tmp_path / "pipe.png")
