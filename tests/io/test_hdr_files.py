"""Files that HDR screens show as such, read back by other decoders."""

import io
import re
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from hdr_tf.image.response import Response
from hdr_tf.io import exif, hdr_files, image_files, profiles, transfer
from tests import helpers

PEAK = 1000
STOPS = np.log2(PEAK / 203)

imagecodecs = pytest.importorskip("imagecodecs")  # of the extra `formats`


@pytest.fixture
def picture():
    """An image and its gain, which is 1 at the left, rises, and has noise and an edge."""
    base = np.uint8(40 + 200 * helpers.smooth_scene(96, 128))
    gain = np.clip(np.linspace(-1, 3, 128) + np.random.default_rng(0).normal(0, 0.05, (96, 128)), 0, STOPS)
    gain[60:, 64:] = 0
    return base, np.float32(2**gain)


def _light(path):
    """What libultrahdr makes of a file: its light, where SDR's white is 1; and what plain decoders see of it."""
    hdr = imagecodecs.ultrahdr_decode(path.read_bytes(), dtype=np.float16)[..., :3].astype(np.float64)
    return hdr, Response("srgb").decode(np.asarray(Image.open(path)))


def test_gain_of_ultra_hdr(picture, tmp_path):
    base, gain = picture
    hdr_files.write_ultrahdr(tmp_path / "x.jpg", base, gain, PEAK)
    hdr, sdr = _light(tmp_path / "x.jpg")
    stops = np.log2(hdr.sum(axis=2) / sdr.sum(axis=2))
    assert np.abs(stops - np.log2(gain)).max() < 1 / 20
    levels = [255 * Response("srgb").encode(light[:, :24]) for light in (hdr, sdr)]  # no pixel is brighter here or nearby
    assert np.abs(levels[0] - levels[1]).max() < 1.5  # decoders of JPEG differ by a level
    plain = cv2.imread(str(tmp_path / "x.jpg"))[..., ::-1].astype(int)
    assert np.abs(plain - base).max() <= 8 and np.abs(image_files.read_image(tmp_path / "x.jpg").pixels - plain).max() <= 1


def _images(path):
    """Both images of a file, and where the second one begins, as the multi-picture format says."""
    image, data = Image.open(path), path.read_bytes()
    first, second = image._getmp()[0xB002]
    at = image.info["mpoffset"] + second["DataOffset"]
    assert first["Size"] == at and at + second["Size"] == len(data)
    return image, Image.open(io.BytesIO(data[at:])), at


def test_what_ultra_hdr_states(picture, tmp_path):
    base, gain = picture
    path = tmp_path / "x.jpg"
    hdr_files.write_ultrahdr(path, base, gain, PEAK)
    image, second, at = _images(path)
    assert b'Item:Semantic="GainMap" Item:Length="%d"' % (path.stat().st_size - at) in image.info["xmp"]
    stated = dict(re.findall(r'hdrgm:(\w+)="(.*?)"', second.info["xmp"].decode()))
    assert float(stated["GainMapMax"]) == float(stated["HDRCapacityMax"]) == pytest.approx(STOPS, abs=1e-5)
    assert stated["Version"] == "1.0" and stated["BaseRenditionIsHDR"] == "False"
    for xmp in (image.info["xmp"], second.info["xmp"]):
        ElementTree.fromstring(xmp)
    iso = [content for name, content in second.applist if content.startswith(b"urn:iso:std:iso:ts:21496:-1\0")]
    numbers = np.frombuffer(iso[0][28 + 5 :], ">i4")
    fractions = numbers[::2] / numbers[1::2]
    np.testing.assert_allclose(fractions, [0, STOPS, 0, STOPS, 1, 0, 0], atol=1e-6)
    assert second.mode == "L" and second.size == image.size


def test_readers_of_xmp_alone(picture, tmp_path):
    """Those of Android 14 know no ISO 21496-1."""
    base, gain = picture
    hdr_files.write_ultrahdr(tmp_path / "x.jpg", base, gain, PEAK)
    data = (tmp_path / "x.jpg").read_bytes().replace(b"urn:iso:std", b"urn:xxx:std")
    (tmp_path / "y.jpg").write_bytes(data)
    np.testing.assert_allclose(_light(tmp_path / "y.jpg")[0], _light(tmp_path / "x.jpg")[0], rtol=1e-3)


def test_metadata_stay(picture, tmp_path):
    base, gain = picture
    tags = Image.Exif()
    tags[0x010F] = "maker"
    metadata = exif.Metadata(tags.tobytes().removeprefix(b"Exif\0\0"), profiles.make("sRGB", profiles.SRGB, None))
    hdr_files.write_ultrahdr(tmp_path / "x.jpg", base, gain, PEAK, metadata)
    image = Image.open(tmp_path / "x.jpg")
    assert image.getexif()[0x010F] == "maker" and image.info["icc_profile"] == metadata.icc
    assert imagecodecs.ultrahdr_decode((tmp_path / "x.jpg").read_bytes()).shape == (96, 128, 4)


@pytest.mark.parametrize("suffix", hdr_files.PQ_SUFFIXES)
def test_pq(picture, tmp_path, suffix):
    base, gain = picture
    path = tmp_path / f"x{suffix}"
    hdr_files.write_pq(path, base, gain)
    if suffix == ".png":
        metadata = image_files.read_metadata(path)
        assert transfer.stated(metadata).name == "pq"
        assert transfer.primaries(metadata)[:6] == (0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
        levels = image_files.read_image(path).pixels / 65535
    else:
        data = path.read_bytes()
        assert data[data.index(b"colrnclx") + 8 :][:6] == bytes((0, 9, 0, 16, 0, 9))
        levels = imagecodecs.avif_decode(data) / 1023
    light = Response("pq").decode(levels) * 10_000 / 203
    # The luminance of BT.2020 is that of sRGB's primaries, as both have the same white.
    found, expected = light @ [0.2627, 0.678, 0.0593], (Response("srgb").decode(base) @ [0.2126, 0.7152, 0.0722]) * gain
    stops = np.abs(np.log2(found / expected))
    assert stops.max() < (0.003 if suffix == ".png" else 1 / 8) and stops.mean() < 0.02  # AVIF keeps no noise


def test_other_suffixes(picture, tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("x.png .jpg")):
        hdr_files.write_ultrahdr(tmp_path / "x.png", *picture, PEAK)
    with pytest.raises(ValueError, match=helpers.mentions("x.jpg .avif")):
        hdr_files.write_pq(tmp_path / "x.jpg", *picture)
    assert not list(tmp_path.iterdir())
