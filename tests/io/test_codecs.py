"""WebP, AVIF, HEIC and JPEG XL: values, depth, EXIF and orientation, and files that lie about their size."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from hdr_tf.image.response import Response
from hdr_tf.io import codecs, image_files, transfer
from tests import helpers

imagecodecs, pillow_heif = pytest.importorskip("imagecodecs"), pytest.importorskip("pillow_heif")

ROWS, COLUMNS = np.mgrid[:48, :64]
IMAGE = np.dstack([COLUMNS * 4, ROWS * 5, 255 - COLUMNS * 2]).astype(np.uint8)  # smooth: formats with losses are near it
DEEP = np.dstack([COLUMNS * 16 + 15, ROWS * 20, 1023 - COLUMNS * 8]).astype(np.uint16)  # 10 bit
DEEP_16 = np.rint(DEEP * (65535 / 1023)).astype(np.uint16)


def exif(orientation=1):
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags.get_ifd(0x8769).update({0x829A: 1 / 50, 0x829D: 2.0, 0x8827: 200})
    return tags.tobytes()


EXPOSURE = 2 ** (-17 / 3) * 2 / 4  # 1/50 s is 1/51 s


def pillow(kind, **options):
    return helpers.encoded(kind, IMAGE, exif=exif(), **options)


def heic(pixels, mode="RGB", orientation=1, **options):
    file = io.BytesIO()
    image = pillow_heif.from_bytes(mode, (64, 48), np.ascontiguousarray(pixels).tobytes())
    image.save(file, quality=-1, exif=exif(orientation), **options)
    return file.getvalue()


def jxl(pixels, tags=b""):
    data = imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=True)
    return data + (struct.pack(">I4sI", 12 + len(tags), b"Exif", 0) + tags if tags else b"")


@pytest.mark.parametrize(
    ("name", "data", "tolerance"),
    [
        ("a.webp", lambda: pillow("WEBP", lossless=True), 0),
        ("b.webp", lambda: pillow("WEBP", quality=95), 12),
        ("a.avif", lambda: pillow("AVIF", quality=100, subsampling="4:4:4"), 3),
        ("a.heic", lambda: heic(IMAGE, chroma=444), 3),
        ("a.jxl", lambda: jxl(IMAGE, exif().removeprefix(b"Exif\0\0")), 0),
    ],
)
def test_8_bit(tmp_path, name, data, tolerance):
    (tmp_path / name).write_bytes(data())
    image = image_files.read_image(tmp_path / name)
    assert image.pixels.dtype == np.uint8 and image.pixels.shape == IMAGE.shape
    assert np.abs(image.pixels.astype(int) - IMAGE).max() <= tolerance
    assert image.exposure == pytest.approx(EXPOSURE)
    assert image_files.read_capture(tmp_path / name).exposure is None or image.exposure
    assert image_files.list_images(tmp_path) == [tmp_path / name]
    with pytest.raises(ValueError, match=helpers.mentions(f"{name} 3,071 64 48")):
        image_files.read_image(tmp_path / name, max_pixels=64 * 48 - 1)


@pytest.mark.parametrize(
    ("name", "data", "tolerance"),
    [
        ("a.avif", lambda: imagecodecs.avif_encode(DEEP, bitspersample=10, level=100), 0),
        ("a.heic", lambda: heic(DEEP_16, "RGB;16", chroma=444), 3 * 65535 / 1023),
        ("a.jxl", lambda: jxl(DEEP_16), 0),
    ],
)
def test_10_bit_becomes_16(tmp_path, name, data, tolerance):
    (tmp_path / name).write_bytes(data())
    pixels = image_files.read_image(tmp_path / name).pixels
    assert pixels.dtype == np.uint16
    assert np.abs(pixels.astype(int) - DEEP_16).max() <= tolerance + 1


@pytest.mark.parametrize("bits", range(8, 17))
def test_white_is_white_and_black_is_black(bits):
    levels = np.array([0, 2 ** (bits - 1), 2**bits - 1], np.uint16)
    np.testing.assert_allclose(codecs.widened(levels, bits), levels * (65535 / levels[-1]), atol=1)
    assert codecs.widened(levels, bits)[[0, -1]].tolist() == [0, 65535]


def test_orientation_is_applied_once(tmp_path):
    for name, kind in (("a.webp", "WEBP"), ("a.avif", "AVIF")):
        (tmp_path / name).write_bytes(helpers.encoded(kind, IMAGE, exif=exif(6), quality=100))
        assert image_files.read_image(tmp_path / name).pixels.shape == (64, 48, 3)
    (tmp_path / "a.jxl").write_bytes(jxl(IMAGE, exif(6).removeprefix(b"Exif\0\0")))  # its pixels are upright
    assert image_files.read_image(tmp_path / "a.jxl").pixels.shape == (48, 64, 3)
    (tmp_path / "a.heic").write_bytes(heic(IMAGE, orientation=6))
    assert image_files.read_image(tmp_path / "a.heic").pixels.shape == (64, 48, 3)


def test_alpha_is_dropped_with_a_note(tmp_path):
    pixels = np.dstack([IMAGE, ROWS.astype(np.uint8)])
    for name, data in (
        ("a.webp", helpers.encoded("WEBP", pixels, lossless=True, exact=True)),
        ("a.jxl", imagecodecs.jpegxl_encode(pixels, lossless=True)),
    ):
        (tmp_path / name).write_bytes(data)
        image = image_files.read_image(tmp_path / name)
        assert any("alpha" in note for note in image.notes)
        np.testing.assert_array_equal(image.pixels, IMAGE)


def test_other_sizes_of_jpeg_xl(tmp_path):
    for height, width in ((8, 8), (8, 16), (9, 12), (256, 256), (300, 400), (3, 5000), (1080, 1920)):
        (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8)))
        with (tmp_path / "a.jxl").open("rb") as file:
            assert codecs.OPENERS["JPEG XL"](file).size == (width, height)


@pytest.mark.parametrize(("code", "name"), [(8, "linear"), (13, None), (16, "pq"), (17, "profile")])
def test_colours_of_jpeg_xl(tmp_path, code, name):
    """libjxl writes 16 bits as linear. The statement is what its decoder gives, also after it was changed."""
    linear = np.repeat(np.uint16([20_000, 40_000]), 96).reshape(1, 64, 3).repeat(48, 0)
    data = imagecodecs.jpegxl_encode(linear, level=95)
    bits = "".join(f"{byte:08b}"[::-1] for byte in data[2:])
    at = bits.index("101000" + "1" + "0110") + 7  # D65, sRGB, no power; then the code less 2, in four bits
    bits = bits[:at] + f"{code - 2:04b}"[::-1] + bits[at + 4 :]
    changed = bytes(int(bits[place : place + 8][::-1], 2) for place in range(0, len(bits), 8))
    (tmp_path / "a.jxl").write_bytes(data[:2] + changed)
    image = image_files.read_image(tmp_path / "a.jxl")
    assert image.metadata.png == image_files.read_metadata(tmp_path / "a.jxl").png
    if code == 17:  # of digital cinema: known to JPEG XL only
        assert [note for note in image.notes if "sRGB" in note] and image.metadata.png is None
        return
    assert not image.notes
    curve = transfer.stated(image.metadata)
    assert (curve.name if curve else None) == name
    light = (curve or Response("srgb")).decode(image.pixels[24, [10, 50]] / np.float32(65535))[:, 1]
    assert light[1] / light[0] == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("suffix", [".mpo", ".jpg"])
def test_of_two_views_the_first_is_used(tmp_path, suffix):
    data = helpers.encoded("MPO", IMAGE, save_all=True, append_images=[Image.fromarray(IMAGE[::-1])])
    at = data.rindex(struct.pack("<L", 0x030000), 0, 120)  # the kind of the first: a primary image
    views = data[:at] + struct.pack("<L", 0x020002) + data[at + 4 :]  # one of a stereo pair
    for content, said in ((data, suffix == ".mpo"), (views, True), (pillow("JPEG"), False)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        image = image_files.read_image(tmp_path / f"a{suffix}")
        assert np.abs(image.pixels.astype(int) - IMAGE).mean() < 5
        assert any("2" in note.split() for note in image.notes) == said


@pytest.mark.parametrize("name", ["a.heic", "a.jxl", "a.avif"])
def test_what_is_missing_is_said_with_the_command(tmp_path, monkeypatch, name):
    data = {
        "a.heic": heic(IMAGE),
        "a.jxl": jxl(IMAGE),
        "a.avif": imagecodecs.avif_encode(DEEP, bitspersample=10, level=100),
    }
    (tmp_path / name).write_bytes(data[name])
    monkeypatch.setattr(codecs, "imagecodecs", None)
    monkeypatch.setattr(codecs, "pillow_heif", None)
    with pytest.raises(ValueError, match=rf"{name}.* pip install 'hdr_tf\[formats\]'"):
        image_files.read_image(tmp_path / name)


def test_pq_is_refused(tmp_path):
    data = pillow("AVIF", quality=100)
    at = data.index(b"colrnclx") + 10
    (tmp_path / "a.avif").write_bytes(data[:at] + struct.pack(">H", 16) + data[at + 2 :])
    with pytest.raises(ValueError, match=helpers.mentions("a.avif PQ")):
        image_files.read_image(tmp_path / "a.avif")


def test_sizes_that_lie_and_files_cut_short(tmp_path):
    """One line that begins with the file; nothing is returned in silence."""
    webp = helpers.encoded("WEBP", np.dstack([IMAGE, IMAGE[..., 0]]), lossless=True, exif=exif())
    at = webp.index(b"VP8X") + 12
    avif, heif = pillow("AVIF"), heic(IMAGE)
    cases = [("a.webp", webp[:at] + (b"\xff\xff\xff\0\0\0", b"\xff\x3f\0\xff\x3f\0")[i] + webp[at + 6 :]) for i in range(2)]
    for name, data in (("a.avif", avif), ("a.heic", heif)):
        size = data.index(b"ispe") + 8
        for wrong in ((60_000, 60_000), (0, 48), (16, 16), (64, 47)):
            cases.append((name, data[:size] + struct.pack(">II", *wrong) + data[size + 8 :]))
    for name, data in (("a.webp", webp), ("a.avif", avif), ("a.heic", heif), ("a.jxl", jxl(IMAGE))):
        cases += [(name, data[: len(data) // 2]), (name, data[:20] + bytes(20))]
    for name, data in cases:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="^" + str(tmp_path / name)):
            image_files.read_image(tmp_path / name)


def test_avif_of_another_size_than_its_frames(tmp_path):
    """libavif scales such frames in silence; frames of 8192 x 8192 fit into 1,050 bytes."""
    transparent = np.dstack([IMAGE, IMAGE[..., 0]])
    animated = pillow("AVIF", save_all=True, append_images=[Image.fromarray(IMAGE[::-1])])
    for data in (pillow("AVIF"), helpers.encoded("AVIF", transparent), animated):
        (tmp_path / "a.avif").write_bytes(data)
        assert np.abs(image_files.read_image(tmp_path / "a.avif").pixels.astype(int) - IMAGE).mean() < 5
        at = data.index(b"ispe") + 8
        (tmp_path / "b.avif").write_bytes(data[:at] + struct.pack(">II", 16, 12) + data[at + 8 :])
        with pytest.raises(ValueError, match=helpers.mentions("b.avif 16 12 64 48")):
            image_files.read_image(tmp_path / "b.avif")


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".mpo", ".JPG"])
def test_other_endings_of_jpeg(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(helpers.encoded("JPEG", IMAGE))
    assert image_files.list_images(tmp_path) == [tmp_path / f"a{suffix}"]
    assert image_files.read_image(tmp_path / f"a{suffix}").pixels.shape == IMAGE.shape
