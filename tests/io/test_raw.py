"""RAW files as the sensor saw them: known levels, colours and noise of synthetic DNGs come back."""

import types

import cv2
import numpy as np
import pytest
import tifffile

from hdr_tf.io import image_files, raw
from tests import helpers

rawpy = pytest.importorskip("rawpy")

COLOURS = np.array([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7], [1, 1, 1], [0.3, 1.2, 0.05], [0.01, 0.002, 0.001], [-0.01, -0.01, 0]])
INSIDE = (slice(8, -8), slice(8, None, 16))  # of `fields`, far from their edges


def fields(colours=COLOURS, height=32):
    """Fields of 16 columns, [H, 16 N, 3]."""
    return np.repeat(colours, 16, axis=0)[None] * np.ones((height, 1, 1))


def mean_noise(**options):
    """(gain, read) measured in an image without profile, relative to what was put in."""
    sensor = {"gain": 1e-4, "read": 2e-3} | options
    path = options.pop("path")
    sensor.pop("path")
    noise = raw.read_sensor(helpers.write_dng(path, **sensor)).noise
    return noise.gain / sensor["gain"], noise.read / sensor["read"]


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize(
    ("black", "white"), [(512, 15_871), (0, 4095), (64, 1023), ((500, 510, 520, 530), 16_000), (2048, 65_535)]
)
def test_values_are_those_of_the_sensor(tmp_path, pattern, black, white):
    path = helpers.write_dng(tmp_path / "a.dng", fields(), black=black, white=white, pattern=pattern, profile=(1e-4, 1e-6))
    image = raw.read_sensor(path)
    assert image.linear.dtype == np.float32 and image.linear.shape == (32, 96, 3) and image.notes == ()
    expected = np.clip(COLOURS, -np.min(black) / (white - np.max(black)), 1)
    # Half a level of the sensor, and one of LibRaw's 16 bit that white balance stretches by up to 2.
    step = 0.51 / (white - np.max(black)) + 2 / 65_535
    # Where only green is clipped, unequal black levels cut the two greens unequally, which LibRaw carries into red and blue.
    steps = np.where((COLOURS > 1).any(axis=1, keepdims=True), step + 1.2 * np.ptp(black) / white, step)
    assert (abs(image.linear[INSIDE] - expected) <= steps).all()


def test_settings_and_colours(tmp_path):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields()))
    np.testing.assert_allclose(image.white_balance, [2, 1, 1.6], rtol=1e-5)
    scale = image.xyz_to_camera / helpers.CAMERA
    np.testing.assert_allclose(scale / scale[0, 0], 1, rtol=1e-4)
    assert (image.exposure_time, image.f_number, image.iso) == (1 / 64, 4, 200)
    assert image.exposure == pytest.approx(1 / 64 * 2 / 16)
    np.testing.assert_allclose(image.matrix.sum(axis=1), 1, rtol=1e-12)


def test_srgb_comes_back_through_the_camera(tmp_path):
    """Also colours that the camera sees and sRGB does not hold."""
    srgb = np.array([[0.5, 0.5, 0.5], [0.6, 0.1, 0.05], [0.02, 0.3, 0.1], [-0.05, 0.4, 0.3], [0.1, 0.05, 0.5], [0, 0.01, 0]])
    to_camera = helpers.CAMERA @ helpers.SRGB_TO_XYZ
    neutral = to_camera.sum(axis=1) / to_camera.sum(axis=1).max()  # of D65
    camera = srgb @ to_camera.T / to_camera.sum(axis=1).max()
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields(camera), neutral=neutral.tolist()))
    output = raw.to_output(image.linear, image.white_balance, image.matrix)
    assert output.dtype == np.float32
    gain = neutral[1]  # white balance keeps green as it is
    np.testing.assert_allclose(output[INSIDE] / gain, np.broadcast_to(srgb, output[INSIDE].shape), atol=5e-4)


def dng_tags(**values):
    """Extra tags of tifffile for a DNG of `helpers.CAMERA`, with further ones as (type, count, value)."""
    values = {
        "DNGVersion": ("B", 4, (1, 4, 0, 0)),
        "UniqueCameraModel": ("s", 0, "Maker Model"),
        "ColorMatrix1": ("2i", 9, helpers.rational(helpers.CAMERA.ravel())),
        "AsShotNeutral": ("2I", 3, helpers.rational([0.5, 1, 0.625])),
        "CalibrationIlluminant1": ("H", 1, 21),
    } | values
    return [(tifffile.TIFF.TAGS[name], *value, True) for name, value in values.items()]


def test_dng_with_a_thumbnail_first(tmp_path):
    """As cameras write it: the mosaic and its tags are in a table below the thumbnail's."""
    levels = {"BlackLevel": ("H", 1, 512), "WhiteLevel": ("H", 1, 15_871)}
    pattern = {"CFARepeatPatternDim": ("H", 2, (2, 2)), "CFAPattern": ("B", 4, (0, 1, 1, 2))}
    below = [(tifffile.TIFF.TAGS[name], *value, True) for name, value in (levels | pattern).items()]
    with tifffile.TiffWriter(tmp_path / "a.dng") as file:
        thumbnail = np.zeros((16, 24, 3), np.uint8)
        file.write(thumbnail, photometric="rgb", subfiletype=1, subifds=1, extratags=dng_tags(), metadata=None)
        below.append((51041, "d", 2, (1e-4, 1e-6), True))  # NoiseProfile
        file.write(helpers.mosaic(fields()), photometric="cfa", subfiletype=0, extratags=below, metadata=None)
    image = raw.read_sensor(tmp_path / "a.dng")
    assert (image.noise.gain, image.noise.read) == pytest.approx((1e-4, 1e-3))
    np.testing.assert_allclose(image.linear[16, 8], COLOURS[0], atol=1e-4)


def test_linear_dng_of_integers(tmp_path):
    """As telephones write it, without a mosaic."""
    tags = dng_tags(BlackLevel=("H", 3, (100, 100, 100)), WhiteLevel=("H", 3, (4095, 4095, 4095)))
    pixels = np.rint(100 + 3995 * np.clip(fields(), 0, 1)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.dng", pixels, photometric=34892, planarconfig="contig", extratags=tags, metadata=None)
    image = raw.read_sensor(tmp_path / "a.dng")
    np.testing.assert_allclose(image.linear, np.clip(fields(), 0, 1), atol=1.5 / 3995)
    assert image.noise is None and (image.linear[:, 32:48] == 1).all()


def test_missing_white_balance_and_settings_are_said(tmp_path):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields(), neutral=None, settings=()))
    assert image.exposure is image.exposure_time is image.f_number is image.iso is None
    assert "white balance" in image.notes[0] and image.white_balance.min() > 0


@pytest.mark.parametrize(
    ("camera", "daylight", "expected", "notes"),
    [
        ([4, 2, 3, 0], [1, 1, 1, 0], [2, 1, 1.5], 0),
        ([0, 0, 0, 0], [4, 2, 3, 0], [2, 1, 1.5], 1),
        ([np.nan, 1, 1, 0], [4, 2, 3, 0], [2, 1, 1.5], 1),
        ([1, -1, 1, 0], [0, 0, 0, 0], [1, 1, 1], 1),
    ],
)
def test_white_balance_is_the_camera_s_or_daylight_or_none(camera, daylight, expected, notes):
    found, said = raw._white_balance(types.SimpleNamespace(camera_whitebalance=camera, daylight_whitebalance=daylight))
    np.testing.assert_array_equal(found, expected)
    assert len(said) == notes


def test_colours_come_from_the_file_or_the_table_or_nowhere():
    daylight = np.array([2, 1, 1.5])
    of_file = np.zeros((3, 4))
    of_file[:, :3] = np.linalg.inv(daylight[:, None] * helpers.CAMERA @ helpers.SRGB_TO_XYZ)
    of_table = np.vstack([helpers.CAMERA[::-1], np.zeros((1, 3))])
    for matrix, table, balance, expected, notes in (
        (of_file, of_table, daylight, helpers.CAMERA, 0),
        (0 * of_file, of_table, daylight, helpers.CAMERA[::-1], 0),
        (of_file, of_table, 0 * daylight, helpers.CAMERA[::-1], 0),
        (0 * of_file, 0 * of_table, daylight, np.linalg.inv(helpers.SRGB_TO_XYZ), 1),
    ):
        sensor = types.SimpleNamespace(color_matrix=matrix, rgb_xyz_matrix=table, daylight_whitebalance=[*balance, 0])
        found, said = raw._xyz_to_camera(sensor)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert len(said) == notes


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_upright_and_clipped_at_the_right_place(tmp_path, orientation):
    camera = np.full((40, 60, 3), 0.2)
    camera[4:12, 6:20] = 1.5
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", camera, orientation=orientation))
    expected = image_files.upright(camera, orientation)
    assert image.linear.shape == expected.shape
    clipped = (image.linear >= 1).all(axis=2)
    inner, outer = expected[..., 0] > 1, image.linear.max(axis=2) >= 1
    assert clipped[inner].all() and outer.sum() <= 10 * 16


def test_black_noise_keeps_its_mean(tmp_path):
    path = helpers.write_dng(tmp_path / "a.dng", np.full((256, 256, 3), 1e-4), read=2e-3)
    assert raw.read_sensor(path).linear.mean() == pytest.approx(1e-4, abs=3e-5)


def test_one_clipped_channel_is_clipped_wherever_it_is_interpolated(tmp_path):
    camera = np.full((64, 64, 3), [0.2, 0.5, 0.3])
    camera[:, 32:, 1] = 1.5
    linear = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", camera)).linear
    assert (linear[:, 32:, 1] == 1).all() and (linear[:, :30, 1] < 1).all() and (linear[..., ::2] < 1).all()


# === Noise ===


def test_noise_profile_is_taken_at_its_word(tmp_path):
    for profile in ((1e-4, 4e-6), (0.8e-4, 3e-6, 1e-4, 4e-6, 1.2e-4, 5e-6)):
        noise = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields(), profile=profile)).noise
        assert (noise.gain, noise.read) == pytest.approx((1e-4, 2e-3))


def test_photon_transfer_of_a_ramp(tmp_path):
    ramp = np.geomspace(1e-3, 0.95, 512)[None, :, None] * np.ones((384, 1, 3)) * [0.6, 1, 0.7]
    for gain, read in ((1e-4, 2e-3), (2e-5, 2e-4), (5e-4, 5e-4)):
        found = mean_noise(path=tmp_path / "a.dng", camera=ramp, gain=gain, read=read)
        assert found == pytest.approx((0.95, 0.97), rel=0.07)


def test_photon_transfer_of_a_photograph(tmp_path):
    (picture,) = helpers.photographs([1.0], height=120, width=180)
    picture = cv2.resize((picture / 255) ** 2.2, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    gain, read = mean_noise(path=tmp_path / "a.dng", camera=picture * [0.5, 1, 0.7])
    assert 0.8 < gain < 1.6 and 0.5 < read < 1.5


def test_noise_of_a_tiny_file_is_unknown(tmp_path):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields()[:32, :32]))
    assert image.noise is None and "noise" in image.notes[-1]


# === Highlights ===


def test_highlights_are_not_magenta(tmp_path):
    """A neutral light through a whole bracket's clip: after white balance it stays neutral, and never gets darker."""
    light = np.linspace(0.5, 4, 64)[:, None] * np.ones(3)
    camera = light * [0.5, 1.0, 0.625]
    balance = np.array([2, 1, 1.6])
    merged = np.minimum(camera, 1)
    (plain,) = raw.to_output(merged[None], balance, np.eye(3))
    assert (plain[-1] / plain[-1, 1]).max() > 1.9  # magenta, without help
    result = raw.neutral_highlights(merged[None], merged[None] >= 1, balance)[0] * balance
    np.testing.assert_allclose(result, result[:, 1:2] * np.ones(3), rtol=1e-6)
    assert (np.diff(result[:, 0]) >= 0).all() and result[-1, 0] == 2
    whole = raw.neutral_highlights(merged[None], (merged[None] >= 1).any(axis=2), balance)[0] * balance
    np.testing.assert_allclose(whole, result, rtol=1e-6)

    path = helpers.write_dng(tmp_path / "a.dng", np.full((32, 32, 3), [1.5, 3, 1.9]))
    image = raw.read_sensor(path)
    neutral = raw.neutral_highlights(image.linear, image.linear >= 1, image.white_balance)
    output = raw.to_output(neutral, image.white_balance, image.matrix)
    np.testing.assert_allclose(output, output[0, 0, 0], rtol=1e-4)


def test_coloured_lights_keep_their_colour():
    balance = np.array([2, 1, 1.6])
    red = np.array([[[1, 0.3, 0.1], [0.99, 0.3, 0.1]]], np.float32)
    result = raw.neutral_highlights(red, red >= 1, balance)
    np.testing.assert_array_equal(result, red)
    assert result is not red


# === Luminance and bad input ===


def test_absolute_scale():
    # 78 / 0.65 = 120; f/8, 1/125 s and ISO 100 are those of a sunny day, whose sunlit white has some 10,000 cd/m².
    assert raw.absolute_scale(8, 1 / 125, 100) == pytest.approx(120 * 64 * 125 / 100)
    with pytest.raises(ValueError, match=helpers.mentions("f-number 0")):
        raw.absolute_scale(0, 1, 100)


def test_bad_raw_is_one_line(tmp_path, monkeypatch):
    path = helpers.write_dng(tmp_path / "a.dng", fields())
    data = path.read_bytes()
    with pytest.raises(ValueError, match=helpers.mentions("a.dng 1,000 96 x 32")):
        raw.read_sensor(path, max_pixels=1000)
    for content in (data[: len(data) // 2], data[:200], b"II*\0 no camera wrote this"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=helpers.mentions("a.dng RAW")) as caught:
            raw.read_sensor(path)
        assert "\n" not in str(caught.value)
    helpers.write_dng(path, fields(), black=600, white=500)
    with pytest.raises(ValueError, match=helpers.mentions("a.dng 600 500")):
        raw.read_sensor(path)
    image_files.write_image(tmp_path / "a.png", helpers.RGB8)
    with pytest.raises(ValueError, match=helpers.mentions("a.png RAW PNG")):
        raw.read_sensor(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "rawpy", None)
    with pytest.raises(ValueError, match=helpers.mentions("a.dng rawpy")):
        raw.read_sensor(path)


def test_floating_point_is_refused(tmp_path):
    tags = [(50706, "B", 4, (1, 4, 0, 0), True)]
    tifffile.imwrite(tmp_path / "a.dng", np.ones((16, 16, 3), np.float32), photometric=34892, extratags=tags, metadata=None)
    with pytest.raises(ValueError, match="a.dng"):
        raw.read_sensor(tmp_path / "a.dng")


# === Linear DNG ===


def write_merged(path, radiance, image, **options):
    raw.write_linear_dng(path, np.float32(radiance), image.white_balance, image.xyz_to_camera, **options)
    return path


@pytest.mark.parametrize("half", [False, True])
def test_linear_dng_by_two_readers(tmp_path, half):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields(), orientation=6))
    radiance = np.repeat(np.float32([[0.1, 0.2, 0.3], [0.002, 5.5, 0.004], [-0.01, 0, 1]]), 16, axis=0)[None].repeat(40, axis=0)
    path = write_merged(tmp_path / "merged.dng", radiance, image, metadata=image.metadata, half=half)

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert page.photometric == 34892 and page.dtype == (np.float16 if half else np.float32)
        tags = {name: page.tags.valueof(name) for name in ("BaselineExposure", "Orientation", "DNGVersion", "Make")}
        assert tags == {"BaselineExposure": (3, 1), "Orientation": 1, "DNGVersion": bytes((1, 4, 0, 0)), "Make": "Maker"}
        neutral = np.reshape(page.tags.valueof("AsShotNeutral"), (3, 2))
        np.testing.assert_allclose(neutral[:, 0] / neutral[:, 1], [0.5, 1, 0.625], rtol=1e-5)
        np.testing.assert_allclose(page.asarray() * 8.0, radiance, rtol=5e-4 if half else 0)
        assert 34665 in page.tags  # EXIF

    with rawpy.imread(str(path)) as developed:  # LibRaw makes 14 bit of floating point, and cuts below 0
        pixels = developed.postprocess(
            output_color=rawpy.ColorSpace.raw,
            output_bps=16,
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0,
            user_wb=[1, 1, 1, 1],
        )
        np.testing.assert_allclose(developed.camera_whitebalance[:3], [2, 1, 1.6], rtol=1e-5)
        np.testing.assert_allclose(developed.color_matrix[:3, :3], image.matrix, atol=1e-4)
        assert developed.other.shutter_speed == 1 / 64
    np.testing.assert_allclose(pixels / 65_535, np.maximum(radiance, 0) / 8, atol=2 / 16_383)


def test_linear_dng_refuses_what_it_cannot_say(tmp_path):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields()))
    for name, radiance, words in (
        ("a.tif", np.ones((8, 8, 3)), ".dng .tif"),
        ("b.dng", np.ones((8, 8)), "b.dng float32 [8"),
        ("b.dng", np.full((8, 8, 3), np.inf), "b.dng finite"),
    ):
        with pytest.raises(ValueError, match=helpers.mentions(words)):
            write_merged(tmp_path / name, radiance, image)
    with pytest.raises(ValueError, match=helpers.mentions("b.dng balance 0.0")):
        raw.write_linear_dng(tmp_path / "b.dng", np.ones((8, 8, 3), np.float32), [1, 0, 1], image.xyz_to_camera)
    assert helpers.names(tmp_path) == {"a.dng"}


def test_linear_dng_of_darkness(tmp_path):
    image = raw.read_sensor(helpers.write_dng(tmp_path / "a.dng", fields()))
    path = write_merged(tmp_path / "b.dng", np.zeros((32, 32, 3)), image)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.tags.valueof("BaselineExposure") == (0, 1) and not file.pages.first.asarray().any()
