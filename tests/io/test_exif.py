"""EXIF and colour profiles go from the image read to the image written; RAW files of a camera."""

import functools
import io
import logging
import struct

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from hdr_tf.fusion import pipeline
from hdr_tf.io import exif as exif_metadata
from hdr_tf.io import image_files
from tests import helpers
from tests.helpers import RGB8, RGB16

IFD, BASE = ExifTags.IFD, ExifTags.Base
KINDS = {"a.jpg": RGB8, "8.png": RGB8, "16.png": RGB16, "8.tif": RGB8, "16.tif": RGB16}


@functools.cache  # the time is in it
def profile(space="RGB "):
    """sRGB; of gray a minimal profile: header, white point, gamma."""
    if space == "RGB ":
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    white = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + white, b"kTRC": b"curv" + struct.pack(">III", 0, 1, 563)}
    size = 132 + 12 * len(tags) + sum(map(len, tags.values()))
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ").ljust(36, b"\0") + b"acsp"
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value
    return header.ljust(68, b"\0") + white.ljust(60, b"\0") + table + data


def exif(endian="<", orientation=6):
    """EXIF as a camera writes it: nested tables, notes, and a thumbnail after them."""
    tags = Image.Exif()
    tags.endian = endian
    tags[BASE.Make], tags[BASE.Orientation], tags[BASE.Artist] = "Maker", orientation, "Ann"
    tags.get_ifd(IFD.Exif).update(
        {
            BASE.ExposureTime: 0.01,
            BASE.ISOSpeedRatings: 200,
            BASE.ExifImageWidth: 4000,
            BASE.ExifImageHeight: 3000,
            BASE.ShutterSpeedValue: -2.5,
            BASE.MakerNote: b"notes of the maker",
            BASE.LensSpecification: (24.0, 70.0, 2.8, 2.8),
        }
    )
    tags.get_ifd(IFD.GPSInfo)[1] = "N"
    data = tags.tobytes().removeprefix(b"Exif\0\0")
    (first,) = struct.unpack_from(f"{endian}I", data, 4)
    at = first + 2 + 12 * struct.unpack_from(f"{endian}H", data, first)[0]
    thumbnail = struct.pack(f"{endian}H2H2I", 1, 0x0201, 4, 1, 0) + bytes(4)
    return data[:at] + struct.pack(f"{endian}I", len(data)) + data[at + 4 :] + thumbnail


def read(path):
    """The tags of the file, the nested ones too, and its profile, by Pillow alone."""
    with Image.open(path) as image:
        tags = image.getexif()
        nested = dict(tags.get_ifd(IFD.Exif)), dict(tags.get_ifd(IFD.GPSInfo)), dict(tags.get_ifd(IFD.IFD1))
        return dict(tags), *nested, image.info.get("icc_profile")


def test_what_the_camera_shows():
    tags = {BASE.ExposureTime: 1 / 60, BASE.FNumber: 22.0, BASE.ISOSpeedRatings: 200}
    assert exif_metadata.written_settings(tags) == (1 / 60, 22, 200)
    assert exif_metadata.settings(tags)[0] == pytest.approx(1 / 64)
    assert exif_metadata.written_settings({BASE.ShutterSpeedValue: 6.0}) == (1 / 64, None, None)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_goes_from_every_kind_of_file_to_every_other(tmp_path, source, target):
    endian = "<>"[len(source) % 2]
    image_files.write_image(
        tmp_path / f"from_{source}", KINDS[source], metadata=exif_metadata.Metadata(exif(endian), profile())
    )
    metadata = image_files.read_image(tmp_path / f"from_{source}").metadata
    image_files.write_image(tmp_path / target, KINDS[target], metadata=metadata)
    image = image_files.read_image(tmp_path / target)
    if not target.endswith("jpg"):
        np.testing.assert_array_equal(image.pixels, KINDS[target])
    assert image.exposure == pytest.approx(2 * 2 ** (-20 / 3)) and not image.notes
    tags, inner, gps, thumbnail, icc = read(tmp_path / target)
    assert icc == profile() and thumbnail == {}
    assert (tags[BASE.Make], tags[BASE.Artist], tags[BASE.Orientation]) == ("Maker", "Ann", 1)
    assert gps == {1: "N"} and inner[BASE.MakerNote] == b"notes of the maker" and inner[BASE.ShutterSpeedValue] == -2.5
    assert (inner[BASE.ExifImageWidth], inner[BASE.ExifImageHeight]) == (30, 20)
    assert inner[BASE.LensSpecification] == (24, 70, pytest.approx(2.8), pytest.approx(2.8))


@pytest.mark.parametrize("endian", "<>")
def test_the_makers_notes_stay_where_they_were(tmp_path, endian):
    """Their offsets count from the head of EXIF. Only orientation, two sizes and the pointer to the thumbnail change."""
    given = exif(endian)
    image_files.write_image(tmp_path / "a.png", RGB8, metadata=exif_metadata.Metadata(given))
    found = image_files.read_image(tmp_path / "a.png").metadata.exif
    assert len(found) == len(given)
    changed = [i for i, (a, b) in enumerate(zip(found, given, strict=True)) if a != b]
    notes = given.index(b"notes of the maker")
    assert 0 < len(changed) <= 1 + 2 * (2 + 4) + 4 and found.index(b"notes of the maker") == notes


@pytest.mark.parametrize("pair", ["flower", "LivingRoom", "Land"])
@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_photographs(reference, tmp_path, pair, name):
    """All tags of three cameras, but for those that are about where something lies, the size and the thumbnail."""
    source = sorted((reference / "mefb_dev" / pair).iterdir())[0]
    image = image_files.read_image(source)
    assert not image.notes and image.metadata.exif
    image_files.write_image(tmp_path / name, image.pixels, metadata=image.metadata)
    (tags, inner, gps, _, icc), (found, found_inner, found_gps, thumbnail, found_icc) = read(source), read(tmp_path / name)
    offsets, size = {IFD.Exif, IFD.GPSInfo, IFD.Interop}, {BASE.ExifImageWidth, BASE.ExifImageHeight}
    dropped = offsets | ({BASE.YCbCrPositioning} if name == "a.tif" else set())  # of the storage of pixels
    assert {tag: found.get(tag) for tag in tags if tag not in dropped} == {t: v for t, v in tags.items() if t not in dropped}
    assert {t: found_inner.get(t) for t in inner if t not in offsets | size} == {
        t: v for t, v in inner.items() if t not in offsets | size
    }
    assert (found_gps, found_icc, thumbnail) == (gps, icc, {})
    assert [found_inner[tag] for tag in sorted(size)] == [*image.pixels.shape[1::-1]]


def test_no_metadata_none_carried(tmp_path):
    for name, pixels in KINDS.items():
        image_files.write_image(tmp_path / name, pixels)
        assert image_files.read_image(tmp_path / name).metadata == exif_metadata.NO_METADATA


def test_a_large_image_needs_longer_numbers(tmp_path):
    image_files.write_image(tmp_path / "a.png", np.zeros((1, 70_000), np.uint8), metadata=exif_metadata.Metadata(exif()))
    assert read(tmp_path / "a.png")[1][BASE.ExifImageWidth] == 70_000


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_profile_fits_the_channels(tmp_path, name, caplog):
    for pixels, space, fits in (
        (RGB8, "GRAY", False),
        (RGB8[..., 0], "RGB ", False),
        (RGB8[..., 0], "GRAY", True),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "absl"):
            image_files.write_image(tmp_path / name, pixels, metadata=exif_metadata.Metadata(None, profile(space)))
        assert (image_files.read_image(tmp_path / name).metadata.icc == profile(space)) == fits
        assert bool(caplog.messages) != fits and (fits or helpers.mentioned(name, caplog.text))


def test_what_does_not_fit_into_a_jpeg_is_told(tmp_path, caplog):
    large = profile() + bytes(70_000)  # LittleCMS does not mind
    for metadata, size, kept in (
        (exif_metadata.Metadata(exif(), large), len(large), (True, False)),
        (exif_metadata.Metadata(exif() + bytes(70_000), profile()), len(exif()) + 70_000, (False, True)),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "absl"):
            image_files.write_image(tmp_path / "a.jpg", RGB8, metadata=metadata)
        (message,) = caplog.messages
        assert helpers.mentioned(f"a.jpg {size}", message)
        found = image_files.read_image(tmp_path / "a.jpg").metadata
        assert (found.exif is not None, found.icc is not None) == kept


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_metadata_costs_no_image(tmp_path, kind):
    for seed in range(30):
        generator = np.random.default_rng(seed)
        damaged = bytearray(exif("<>"[seed % 2]))
        for _ in range(4):
            damaged[generator.integers(0, len(damaged))] = generator.integers(0, 256)
        buffer = io.BytesIO()
        Image.fromarray(RGB8).save(buffer, kind, exif=b"Exif\0\0" + bytes(damaged), icc_profile=bytes(generator.bytes(200)))
        (tmp_path / "a").write_bytes(buffer.getvalue())
        image = image_files.read_image(tmp_path / "a")
        assert any("profile" in note for note in image.notes) and image.metadata.icc is None
        for name in ("b.png", "b.tif"):
            image_files.write_image(tmp_path / name, RGB8, metadata=image.metadata)
            np.testing.assert_array_equal(image_files.read_image(tmp_path / name).pixels, RGB8)


# === RAW ===

NEUTRAL = np.array([0.5, 1.0, 0.625])  # what the camera sees of white


def write_dng(path, linear, orientation=1):
    """A DNG of a camera with sRGB's primaries, with EXIF: linear sRGB, [H, W, 3] in 0..1, under `NEUTRAL`."""
    matrix = np.linalg.inv(helpers.SRGB_TO_XYZ)
    helpers.write_dng(path, linear * NEUTRAL, NEUTRAL.tolist(), matrix, orientation, settings=())
    path.write_bytes(exif_metadata.into_tiff(path.read_bytes(), exif_metadata.Metadata(exif(orientation=orientation))))
    return path


def patches(gain=1.0):
    """Four fields of a colour at several brightnesses, [64, 96, 3] linear."""
    return np.repeat(np.array([0.02, 0.1, 0.3, 0.55]) * gain, 24)[None, :, None] * np.ones((64, 1, 1)) * [1, 0.8, 0.6]


def srgb(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_raw_has_the_brightness_of_the_scene(tmp_path):
    pytest.importorskip("rawpy")
    for gain in (1, 0.25, 1.6):  # the darkest fills a seventh of the range, nothing lifts it
        image = image_files.read_image(write_dng(tmp_path / "a.dng", patches(gain)))
        assert image.pixels.dtype == np.uint16 and image.pixels.shape == (64, 96, 3)
        found = image.pixels[20:44, 12::24] / 65535
        # The sensor's steps, 1/15359 of white, at sRGB's slope of up to 12.9; LibRaw's curve differs from sRGB's by 2e-4.
        np.testing.assert_allclose(found, np.broadcast_to(srgb(patches(gain))[20:44, 12::24], found.shape), atol=1.5e-3)


def test_raw_carries_exif_and_stands_upright(tmp_path):
    pytest.importorskip("rawpy")
    image = image_files.read_image(write_dng(tmp_path / "a.DNG", patches(), orientation=6))
    assert image.pixels.shape == (96, 64, 3) and image.pixels[12, 32].mean() < image.pixels[-12, 32].mean()
    assert image.exposure == pytest.approx(2 * 2 ** (-20 / 3)) and not image.notes
    image_files.write_image(tmp_path / "a.tif", image.pixels, metadata=image.metadata)
    tags, inner, gps, *_ = read(tmp_path / "a.tif")
    assert (tags[BASE.Make], tags[BASE.Orientation], tags[BASE.Artist], gps) == ("Maker", 1, "Ann", {1: "N"})
    assert (inner[BASE.ExifImageWidth], inner[BASE.ExifImageHeight], inner[BASE.ColorSpace]) == (64, 96, 1)
    assert BASE.MakerNote not in inner and not set(tags) & {33422, 50706, 50721}  # of the sensor, of DNG
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.tif").pixels, image.pixels)


def test_raw_is_fused_in_16_bit(tmp_path):
    pytest.importorskip("rawpy")
    paths = [write_dng(tmp_path / f"{gain}.dng", patches(gain)) for gain in (1.6, 0.25)]
    fused = pipeline.fuse_files(paths, tmp_path / "fused.tif")
    assert fused.dtype == np.uint16 and fused.shape == (64, 96, 3)
    assert read(tmp_path / "fused.tif")[0][BASE.Artist] == "Ann"


def test_raw_counts_in_a_folder_without_other_images(tmp_path):
    for name in ("1.NEF", "2.nef"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files.list_images(tmp_path)] == ["1.NEF", "2.nef"]
    (tmp_path / "1.jpg").touch()
    assert [path.name for path in image_files.list_images(tmp_path)] == ["1.jpg"]


def test_bad_raw_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("rawpy")
    path = write_dng(tmp_path / "a.dng", patches())
    data = path.read_bytes()
    with pytest.raises(ValueError, match=helpers.mentions("a.dng 6,000 96 x 64")):
        image_files.read_image(path, max_pixels=6000)
    for content in (
        data[: len(data) // 2],
        data[:200],
        b"II*\0 no camera wrote this",
        cv2.imencode(".png", RGB8)[1].tobytes(),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=helpers.mentions("a.dng RAW")) as caught:
            image_files.read_image(path)
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(image_files, "rawpy", None)
    with pytest.raises(ValueError, match=helpers.mentions("a.dng rawpy hdr_tf[raw]")):
        image_files.read_image(path)
