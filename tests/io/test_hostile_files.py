"""Image files made to take memory or time: what is checked is what the decoder uses."""

import resource
import struct
import time
import zlib

import numpy as np
import OpenEXR
import pytest
import tifffile

from hdr_tf.io import image_files
from tests import helpers
from tests.helpers import RGB8, RGB16

PNG = b"\x89PNG\r\n\x1a\n"
RADIANCE = np.full((8, 9, 3), 0.5, np.float32)


def ihdr(width, height, depth=8):
    return struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)


def png(*chunks):
    return PNG + b"".join(helpers.png_chunk(kind, data) for kind, data in (*chunks, (b"IEND", b"")))


@pytest.fixture
def refused(tmp_path):
    """Returns the message of the one-line error that reading bytes as a file must end in, in 5 s of CPU time and in 100 MB."""

    def read(name, data, read=image_files.read_image):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(ValueError, match=helpers.mentions(name)) as raised:
            read(path)
        assert time.process_time() - start < 5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return read


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("large", [(8000, 8000), (100_000, 100_000)])
def test_png_has_one_header_and_it_comes_first(refused, depth, large):
    small, large = (b"IHDR", ihdr(16, 16, depth)), (b"IHDR", ihdr(*large, depth))
    pixels = (b"IDAT", zlib.compress(bytes(1000)))
    for chunks in (
        (small, large, pixels),
        (large, small, pixels),
        (small, pixels, large),
        ((b"prVt", small[1]), large, pixels),
        ((b"IHDR", small[1] + b"\0"), large, pixels),
        ((b"tEXt", b"Comment\0"), small, pixels),
    ):
        refused("a.png", png(*chunks))


def test_radiance_has_the_size_after_its_first_blank_line(refused):
    head, pixels = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", bytes(4 * 8 * 8)
    decoy, large = b"\n\n-Y 8 +X 8\n", b"-Y 30000 +X 30000\n"
    for data in (
        head + b"\n" + large + decoy + pixels,
        head + decoy[:1] + b"\n\n" + large + pixels,
        b"#?RADIANCE\n\n" + large + b"FORMAT=32-bit_rle_rgbe" + decoy + pixels,
        head + b"# " + b"x" * 70_000 + b"\n\n" + large + pixels,
        b"#?RADIANCE FORMAT=32-bit_rle_rgbe\n" + decoy[1:] + pixels,
    ):
        refused("a.hdr", data, image_files.read_radiance)


def test_radiance_of_other_programs(tmp_path):
    """Comments of any length, lines of other names, and bytes that look like another header among the pixels."""
    rows = bytes([128, 64, 32, 129]) * 8 + b"\n\n-Y 9 +X 9\n" + bytes(4) * 4
    head = b"#?RGBE\n# " + b"x" * 300 + b"\nEXPOSURE=2\nFORMAT=32-bit_rle_rgbe\nVIEW= 1\n\n-Y 2 +X 6\n"
    (tmp_path / "a.hdr").write_bytes(head + rows)
    found = image_files.read_radiance(tmp_path / "a.hdr")
    assert found.shape == (2, 6, 3)
    np.testing.assert_array_equal(found[0, 0], [1, 0.5, 0.25])


def test_tiff_has_one_size(refused, tmp_path):
    for name, pixels, read in (
        ("8.tif", RGB8, image_files.read_image),
        ("16.tif", RGB16, image_files.read_image),
        ("float.tif", RADIANCE, image_files.read_radiance),
    ):
        for value in (4, 40_000):
            for tag in (256, 257):
                tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", extratags=[(65000, "I", 1, value, True)])
                data = (tmp_path / name).read_bytes().replace(struct.pack("<HHI", 65000, 4, 1), struct.pack("<HHI", tag, 4, 1))
                refused(name, data, read)


def test_exr_of_deep_parts_and_large_tiles(refused, tmp_path):
    samples = np.empty((8, 9), dtype=object)
    for place in np.ndindex(samples.shape):
        samples[place] = np.zeros(2, np.float32)
    deep = {"name": "deep", "type": OpenEXR.deepscanline, "compression": OpenEXR.ZIPS_COMPRESSION}
    parts = [OpenEXR.Part({"name": "flat"}, {"RGB": RADIANCE}), OpenEXR.Part(deep, {"Z": samples})]
    OpenEXR.File(parts).write(str(tmp_path / "deep.exr"))
    assert "deep" in refused("deep.exr", None, image_files.read_radiance).partition(": ")[2]

    tiled = {"type": OpenEXR.tiledimage, "tiles": OpenEXR.TileDescription()}
    tiled["tiles"].xSize, tiled["tiles"].ySize = 16, 16
    OpenEXR.File(tiled, {"RGB": RADIANCE}).write(str(tmp_path / "tiled.exr"))
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "tiled.exr"), RADIANCE)
    data = (tmp_path / "tiled.exr").read_bytes()
    refused(
        "tiled.exr", data.replace(struct.pack("<II", 16, 16), struct.pack("<II", 50_000, 50_000)), image_files.read_radiance
    )


def test_jpeg_scans(refused, tmp_path):
    (tmp_path / "a.jpg").write_bytes(helpers.jpeg_of_scans(100) + helpers.jpeg_of_scans(20))  # another image follows
    image_files.read_image(tmp_path / "a.jpg")
    assert helpers.mentioned("100", refused("b.jpg", helpers.jpeg_of_scans(101)))
    assert helpers.mentioned("100", refused("b.jpg", helpers.jpeg_of_scans(20_000)))


def test_jpeg_has_one_frame(refused):
    data = helpers.jpeg_of_scans(10)
    frame = data[data.index(b"\xff\xc2") :][:19]
    large = frame[:5] + struct.pack(">HH", 60_000, 60_000) + frame[9:]
    for first, second in ((frame, large), (large, frame), (b"\xff\x01" + large, b"\0" + frame)):
        refused("a.jpg", data.replace(frame, first + second))
