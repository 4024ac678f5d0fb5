"""Tone curves and primaries that files state: light comes back with the slope 1, and no mark is lost on the way."""

import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import hdr_tf
from hdr_tf.image.depth import from_unit
from hdr_tf.image.response import Response
from hdr_tf.io import exif, image_files, profiles, transfer
from hdr_tf.radiance import batch, pipeline
from hdr_tf.radiance import light as lights
from tests import helpers

LIGHT = np.geomspace(2e-3, 2, 64)[None, :, None] * np.ones((48, 1, 3))
STOPS = (-2, 0, 2)
LSTAR = np.linspace(0, 1, 257)  # CIE L*, as some profiles have it
LSTAR = np.where(LSTAR < 0.08, LSTAR / 9.033, ((LSTAR + 0.16) / 1.16) ** 3)
WIDE = (0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329)


def gamma(value):
    return lambda light: light ** (1 / value)


def bt_709(light):
    return np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)


def lstar(light):
    return np.interp(light, LSTAR, np.linspace(0, 1, 257))


def linear_chunk(value):
    return helpers.png_chunk(b"gAMA", struct.pack(">I", round(1e5 * value)))


def cicp(code, primaries=1):
    return helpers.png_chunk(b"cICP", bytes((primaries, code, 0, 1)))


SRGB_CHUNK = helpers.png_chunk(b"sRGB", b"\0")
CASES = {  # what states the curve: a profile or chunks, how light is encoded, the curve's name
    "profile linear": (profiles.make("", profiles.SRGB, 1.0), gamma(1), "linear"),
    "profile sRGB": (profiles.make("", profiles.SRGB, None), Response("srgb").encode, "srgb"),
    "profile Adobe RGB": (profiles.make("", profiles.ADOBE_RGB, 563 / 256), gamma(563 / 256), "gamma"),
    "profile gamma 1.8": (profiles.make("", WIDE, 1.8), gamma(1.8), "profile"),
    "profile L*": (profiles.make("", WIDE, LSTAR), lstar, "profile"),
    "profile gray linear": (profiles.make("", None, 1.0), gamma(1), "linear"),
    "profile gray gamma 1.8": (profiles.make("", None, 1.8), gamma(1.8), "profile"),
    "profile PQ": (profiles.make("", WIDE, 2.2, (9, 16, 0, 1)), Response("pq").encode, "pq"),
    "gAMA 1": (linear_chunk(1), gamma(1), "linear"),
    "gAMA 1/1.8": (linear_chunk(1 / 1.8), gamma(1.8), "gamma 1.8"),
    "gAMA 1/2.2": (linear_chunk(0.45455), gamma(2.2), "gamma"),
    "sRGB": (linear_chunk(0.45455) + SRGB_CHUNK, Response("srgb").encode, "srgb"),
    "cICP 1": (cicp(1), bt_709, "BT.709"),
    "cICP 4": (cicp(4), gamma(2.2), "gamma"),
    "cICP 5": (cicp(5), gamma(2.8), "gamma 2.8"),
    "cICP 8": (cicp(8), gamma(1), "linear"),
    "cICP 13": (linear_chunk(1) + cicp(13), Response("srgb").encode, "srgb"),
    "cICP 16": (cicp(16, 9), Response("pq").encode, "pq"),
    "cICP 18": (cicp(18, 9), Response("hlg").encode, "hlg"),
}


def write_png(path, pixels, *chunks):
    """16 bit, gray or RGB, by OpenCV, with chunks after IHDR."""
    data = cv2.imencode(".png", pixels if pixels.ndim == 2 else pixels[..., ::-1])[1].tobytes()
    path.write_bytes(data[:33] + b"".join(chunks) + data[33:])
    return path


def write_stating(path, pixels, mark):
    """A PNG, or a TIFF if the mark is a profile."""
    if mark[4:8] in (b"gAMA", b"cICP", b"sRGB"):
        return write_png(path.with_suffix(".png"), pixels, mark)
    gray = exif._channels(mark) == 1
    pixels, photometric = (pixels[..., 0], "minisblack") if gray else (pixels, "rgb")
    tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric=photometric, iccprofile=mark)
    return path.with_suffix(".tif")


def stating(folder, case):
    mark, encode, name = CASES[case]
    levels = [from_unit(encode(np.clip(LIGHT * 2.0**stop, 0, 1)), np.uint16) for stop in STOPS]
    return [write_stating(folder / f"{i}.x", pixels, mark) for i, pixels in enumerate(levels)], name


@pytest.mark.parametrize("case", CASES)
def test_radiance_has_the_slope_1(case, tmp_path):
    paths, name = stating(tmp_path, case)
    assert transfer.stated(image_files.read_image(paths[0]).metadata).name == name
    frame = lights.read(paths)[0]
    assert (frame.curve, frame.start and frame.start.name) == ((name, None) if name in transfer.LIGHT else (None, name))
    options = {"align": "none", "denoise": 0, "save_aligned": tmp_path / "aligned"}
    radiance = pipeline.fuse_radiance(paths, tmp_path / "m.exr", STOPS, "merge_classical", **options)[24, :, 1]
    for written in (tmp_path / "m_preview.png", *(tmp_path / "aligned").iterdir()):
        stated = transfer.stated(image_files.read_image(written).metadata)
        assert stated is None or stated.name in ("srgb", "gamma")
    shown = slice(1, 61)
    slope = np.polyfit(np.log(LIGHT[24, shown, 1]), np.log(radiance[shown]), 1)[0]
    assert slope == pytest.approx(1, abs=0.01), f"{case}: {slope}"
    np.testing.assert_allclose(radiance[shown] / LIGHT[24, shown, 1], 1, rtol=0.03)


def test_precedence_in_png(tmp_path):
    """cICP, iCCP, sRGB, gAMA."""
    pixels = np.zeros((8, 8, 3), np.uint16)
    icc = profiles.make("", WIDE, 1.8)
    image_files.write_image(tmp_path / "icc.png", pixels, metadata=exif.Metadata(icc=icc))
    data = (tmp_path / "icc.png").read_bytes()
    for chunks, name in (
        (cicp(16) + SRGB_CHUNK, "pq"),
        (SRGB_CHUNK + linear_chunk(1), "profile"),
        (linear_chunk(1), "profile"),
    ):
        (tmp_path / "a.png").write_bytes(data[:33] + chunks + data[33:])
        assert transfer.stated(image_files.read_image(tmp_path / "a.png").metadata).name == name
    for chunks, name in ((SRGB_CHUNK + linear_chunk(1), "srgb"), (linear_chunk(1), "linear")):
        path = write_png(tmp_path / "a.png", pixels, chunks)
        assert transfer.stated(image_files.read_image(path).metadata).name == name


def test_damaged_marks_state_nothing(tmp_path):
    assert transfer.stated(exif.NO_METADATA) is None
    assert transfer.stated(exif.Metadata(icc=bytes(60))) is None
    falling = profiles.make("", profiles.SRGB, np.linspace(1, 0, 9))
    assert transfer.stated(exif.Metadata(icc=falling)) is None
    pixels = np.zeros((8, 8, 3), np.uint16)
    for chunk in (linear_chunk(0), linear_chunk(1e4), cicp(2), cicp(255)):
        path = write_png(tmp_path / "a.png", pixels, chunk)
        metadata = image_files.read_image(path).metadata
        assert transfer.stated(metadata) is None
        for name in ("b.jpg", "b.tif", "b.png"):
            image_files.write_image(tmp_path / name, np.zeros((8, 8, 3), np.uint8), metadata=metadata)
    chrm = helpers.png_chunk(b"cHRM", struct.pack(">8I", 31270, 32900, *[30000] * 6))
    metadata = image_files.read_image(write_png(tmp_path / "a.png", pixels, linear_chunk(1), chrm)).metadata
    assert transfer.primaries(metadata) is None


def test_exposures_of_different_curves_are_refused(tmp_path):
    paths = [stating(tmp_path, case)[0][i] for i, case in enumerate(("gAMA 1/2.2", "profile gamma 1.8"))]
    with pytest.raises(ValueError, match=helpers.mentions("1.tif profile gamma 0.png")):
        lights.read(paths)
    same = [stating(tmp_path, case)[0][i] for i, case in enumerate(("gAMA 1/2.2", "profile sRGB"))]
    assert len(lights.read(same)) == 2  # differ by less than any camera's picture style


# === Display ===


@pytest.mark.parametrize("output", ["a.png", "a.tif", "a.jpg"])
@pytest.mark.parametrize("case", ["profile linear", "profile gray linear", "gAMA 1", "cICP 8"])
def test_linear_light_is_encoded_for_display(case, output, tmp_path):
    """With a network that only passes its first exposure on."""

    class First:
        def prepare(self, *_):
            pass

        def fuse(self, images, _):
            return images[0]

    paths, _ = stating(tmp_path, case)
    hdr_tf.fuse_files(paths[1:], tmp_path / output, runner=First(), keep_order=True)
    image = image_files.read_image(tmp_path / output)
    assert transfer.stated(image.metadata).name == "srgb" and image.metadata.icc and not image.metadata.png
    tolerance = 3 / 255 if output == "a.jpg" else 2e-4
    expected = Response("srgb").encode(np.clip(LIGHT, 0, 1))
    found = image.pixels / np.iinfo(image.pixels.dtype).max
    np.testing.assert_allclose(found, expected[..., 0] if found.ndim == 2 else expected, atol=tolerance)


def test_primaries_stay_when_linear_light_is_encoded():
    encoded = transfer.encoded(exif.Metadata(icc=profiles.make("", WIDE, 1.0)), False)
    assert exif.primaries(encoded.icc) == pytest.approx(WIDE, abs=2e-4)
    assert transfer.stated(encoded).name == "srgb"


@pytest.mark.parametrize("case", [case for case in CASES if "profile" not in case])
def test_marks_of_png_are_kept(case, tmp_path):
    """As they were in PNG, as a profile of the same meaning elsewhere."""
    mark, _, name = CASES[case]
    metadata = image_files.read_image(write_png(tmp_path / "a.png", np.zeros((8, 9, 3), np.uint16), mark)).metadata
    for output in ("b.png", "b.jpg", "b.tif"):
        for pixels in (np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)):
            image_files.write_image(tmp_path / output, pixels, metadata=metadata)
            found = image_files.read_image(tmp_path / output)
            assert found.pixels.shape == pixels.shape
            if output == "b.png":
                assert found.metadata.png == mark
                with Image.open(tmp_path / output) as image:
                    image.load()
            elif mark[4:8] == b"cICP":
                assert transfer.stated(found.metadata).name == name
            else:
                np.testing.assert_allclose(
                    transfer.stated(found.metadata).decode(np.float32([0.2, 0.5])),
                    transfer.stated(metadata).decode(np.float32([0.2, 0.5])),
                    rtol=2e-3,
                )


def test_primaries_of_png(tmp_path):
    chrm = helpers.png_chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * value) for value in (*WIDE[6:], *WIDE[:6]))))
    pixels = np.zeros((8, 9, 3), np.uint16)
    metadata = image_files.read_image(write_png(tmp_path / "a.png", pixels, linear_chunk(1), chrm)).metadata
    assert transfer.primaries(metadata) == pytest.approx(WIDE)
    image_files.write_image(tmp_path / "a.tif", pixels, metadata=metadata)
    assert exif.primaries(image_files.read_image(tmp_path / "a.tif").metadata.icc) == pytest.approx(WIDE, abs=2e-4)
    metadata = image_files.read_image(write_png(tmp_path / "a.png", pixels, cicp(16, 9))).metadata
    assert transfer.primaries(metadata) == WIDE


def test_a_gray_result_keeps_the_curve():
    for curve, name in ((1.8, "profile"), (None, "srgb"), (1.0, "linear"), (LSTAR, "profile")):
        gray = transfer.gray(exif.Metadata(icc=profiles.make("", WIDE, curve)))
        assert exif._channels(gray.icc) == 1 and transfer.stated(gray).name == name


# === Adobe RGB ===


def exif_of(space, index=None):
    tags = Image.Exif()
    tags.get_ifd(0x8769)[0xA001] = space
    if index:
        tags.get_ifd(0x8769)[0xA005] = {1: index}
    return tags


@pytest.mark.parametrize("output", ["b.jpg", "b.png", "b.tif"])
@pytest.mark.parametrize(("space", "index"), [(65535, "R03"), (2, None)])
def test_adobe_rgb_of_exif_gets_a_profile(space, index, output, tmp_path):
    pixels = helpers.noise(16, 16, 3)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif_of(space, index))
    image = image_files.read_image(tmp_path / "a.jpg")
    assert any("Adobe" in note for note in image.notes)
    image_files.write_image(tmp_path / output, image.pixels, metadata=image.metadata)
    icc = image_files.read_image(tmp_path / output).metadata.icc
    assert exif.primaries(icc) == pytest.approx(profiles.ADOBE_RGB, abs=2e-4)
    values, roots = profiles.curve(icc)
    np.testing.assert_allclose(roots, np.cbrt(values ** (563 / 256)), atol=1e-4)


def test_unknown_colours_are_said_and_srgb_is_not(tmp_path):
    pixels = helpers.noise(16, 16, 3)
    for space, notes in ((65535, 1), (1, 0)):
        Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif_of(space))
        image = image_files.read_image(tmp_path / "a.jpg")
        assert len(image.notes) == notes and image.metadata.icc is None
    srgb = profiles.make("sRGB", profiles.SRGB, None)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif_of(65535, "R03"), icc_profile=srgb)
    assert image_files.read_image(tmp_path / "a.jpg").metadata.icc == srgb  # a profile knows better


def test_a_file_that_states_its_light_needs_no_response_of_its_camera(tmp_path):
    for case, states in (("profile linear", True), ("gAMA 1", True), ("cICP 16", True), ("sRGB", False)):
        assert batch._states_light(stating(tmp_path, case)[0][0]) == states
    tifffile.imwrite(tmp_path / "float.tif", np.float32(LIGHT), photometric="rgb")
    assert batch._states_light(tmp_path / "float.tif") and not batch._states_light(tmp_path / "missing.png")
