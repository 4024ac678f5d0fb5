"""Camera responses: curves keep their promises, and estimates agree with the camera that made the images."""

import functools

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from hdr_tf.evaluation import curves
from hdr_tf.image import response, tone
from hdr_tf.image.response import Response
from hdr_tf.io import responses

FORMULAS = ("gamma", "srgb", "linear", "pq", "hlg")
LEVELS = np.arange(256, dtype=np.uint8)
VALUES = np.linspace(0, 1, 4001)


def s_curve(values):
    return np.clip(values - 0.05 * np.sin(2 * np.pi * values), 0, 1)


S_CURVE = np.interp(VALUES, s_curve(VALUES), VALUES) ** 2.2  # linear values of VALUES


def smooth_scene(seed=0, size=(160, 240)):
    """Linear radiance over about eight stops, with coloured structure of several scales."""
    rng = np.random.default_rng(seed)
    stops = sum(
        cv2.resize(rng.normal(0, 1.5, (side, side, 3)), size[::-1], interpolation=cv2.INTER_CUBIC) for side in (3, 6, 12)
    )
    return np.float32(2.0 ** (stops - np.quantile(stops, 0.98)))


def photographs(radiance, exposures, curve=s_curve, shift=0, noise=0.0, seed=1):
    """8-bit exposures through a curve on gamma-2.2 values; each is shifted by `shift` pixels to the one before."""
    rng = np.random.default_rng(seed)
    images = []
    for index, exposure in enumerate(exposures):
        moved = np.roll(radiance, index * shift, axis=1) * exposure
        moved = moved + noise * rng.standard_normal(moved.shape) * np.sqrt(np.clip(moved, 0, 1))
        images.append(np.rint(255 * curve(tone.to_exposure(moved, 1))).astype(np.uint8))
    return np.stack(images)


def log_error(estimated, linear):
    """The rms of the log ratio of decoded levels after one gain, from level 8 up."""
    ratio = np.log(estimated.decode(LEVELS)[8:] / np.interp(LEVELS[8:] / 255, VALUES, linear))
    return np.std(ratio)


@functools.cache
def estimated():
    return response.estimate([(photographs(smooth_scene(), (1, 4, 16), shift=2), (1, 4, 16))], Response.gamma())


# === Curves ===


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_are_monotone_and_invert_each_other(name):
    curve = Response(name)
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    linear = curve.decode(values)
    assert linear.dtype == np.float32 and (linear[0], linear[-1]) == pytest.approx((0, 1), abs=1e-6)
    assert (np.diff(linear) > 0).all()
    np.testing.assert_allclose(curve.encode(linear), values, atol=2e-4)


def test_formulas_have_known_values():
    assert Response("srgb").decode(np.float32(0.5)) == pytest.approx(0.21404, abs=1e-5)
    assert Response("pq").decode(np.float32(0.508078)) == pytest.approx(0.01, rel=1e-3)  # 100 cd/m2
    assert Response("hlg").decode(np.float32(0.5)) == pytest.approx(1 / 12, rel=1e-5)
    assert Response("linear").decode(np.float32(0.3)) == np.float32(0.3)
    np.testing.assert_array_equal(Response.gamma().decode(LEVELS), tone.to_radiance(LEVELS / np.float32(255), 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", [*FORMULAS, "estimated"])
def test_integers_and_floats_decode_alike(name, dtype):
    curve = estimated().response if name == "estimated" else Response(name)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, 3), dtype, endpoint=True)
    np.testing.assert_array_equal(curve.decode(pixels), curve.decode(pixels / np.float32(np.iinfo(dtype).max)))


@pytest.mark.parametrize(
    "values, linear, words",
    [
        ([0, 1], [0, np.nan], "finite"),
        ([0, 0.5, 0.4, 1], [0, 0.2, 0.3, 1], "increasing"),
        ([0, 0.5, 0.6, 1], [0, 0.3, 0.3, 1], "increasing"),
        ([0, 1], [0, 0.9], "0.9"),
        ([0.1, 1], [0, 1], "0.1"),
        ([0], [0], "two"),
    ],
)
def test_curves_are_checked(values, linear, words):
    with pytest.raises(ValueError, match=words):
        Response("own", np.array(values, float), np.array(linear, float))


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="'rec709'.*gamma, srgb"):
        Response("rec709")
    with pytest.raises(ValueError, match="srgb"):
        Response("srgb", np.array([0.0, 1]), np.array([0.0, 1]))


# === Estimates ===


def test_the_response_of_moving_images_is_estimated():
    estimate = estimated()
    assert estimate.before > response.DISAGREEMENT > 0.05 > estimate.after
    assert log_error(Response.gamma(), S_CURVE) > 0.25
    assert log_error(estimate.response, S_CURVE) < 0.03


def test_estimates_are_monotone_and_invertible():
    curve = estimated().response
    assert (np.diff(curve.linear) > 0).all()
    np.testing.assert_allclose(curve.encode(curve.decode(VALUES)), VALUES, atol=1e-5)


def test_gray_stays_gray():
    """A gray ramp seen through the estimated response, shown with sRGB, differs from a gray of its lightness by at most 1."""
    curve = estimated().response
    ramp = np.tile(LEVELS[:, None, None], (1, 1, 3))
    shown = Response("srgb").encode(curve.decode(ramp))
    lab = rgb2lab(shown)
    gray = lab * [1, 0, 0]
    assert deltaE_ciede2000(lab, gray).max() <= 0.1
    # Through the camera's own curve, the ramp is what it was.
    truth = Response("own", VALUES, S_CURVE)
    back = curve.encode(truth.decode(ramp) * truth.scale / curve.scale)
    difference = deltaE_ciede2000(rgb2lab(back), rgb2lab(ramp / 255.0))
    assert difference.max() <= 1


def test_two_exposures_are_enough():
    exposures = (1, 4)
    estimate = response.estimate([(photographs(smooth_scene(), exposures), exposures)], Response.gamma())
    assert log_error(estimate.response, S_CURVE) < 0.05


def test_brackets_of_one_camera_share_one_response():
    brackets = [(photographs(smooth_scene(seed), (1, 4), shift=1), (1, 4)) for seed in (1, 2, 3)]
    alone = [log_error(response.estimate([bracket], Response.gamma()).response, S_CURVE) for bracket in brackets]
    assert log_error(response.estimate(brackets, Response.gamma()).response, S_CURVE) <= max(alone)


def test_pixels_that_are_black_in_the_longer_exposure_do_not_count():
    images = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (100, 180)])
    images[0, :24], images[1, :24] = 30, 0  # something moved, or colours of a palette
    assert response.disagreement(images, (1, (180 / 100) ** 2.2), Response.gamma()) < 0.01


def test_images_of_the_assumed_response_agree():
    exposures = (1, 4, 16)
    images = photographs(smooth_scene(), exposures, curve=lambda values: values, shift=2, noise=0.01)
    assert response.disagreement(images, exposures, Response.gamma()) < 0.05
    estimate = response.estimate([(images, exposures)], Response.gamma())
    assert log_error(estimate.response, VALUES**2.2) < 0.02


def test_rounded_exposure_times_do_not_bend_the_curve():
    images = photographs(smooth_scene(), (1, 4, 16))
    estimate = response.estimate([(images, (1, 4, 16 * 1.06))], Response.gamma())
    assert log_error(estimate.response, S_CURVE) < 0.04


def test_what_moves_does_not_count():
    exposures = (1, 4, 16)
    images = photographs(smooth_scene(), exposures)
    images[1, 20:80, 30:90] = images[1, 90:150, 120:180]
    images[2, 60:120, 130:190] = 200
    estimate = response.estimate([(images, exposures)], Response.gamma())
    assert log_error(estimate.response, S_CURVE) < 0.05


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_images_without_pairs_have_no_response(value):
    images = np.full((3, 40, 50, 3), value, np.uint8)
    estimate = response.estimate([(images, (1, 4, 16))], Response.gamma())
    assert estimate.response is None and "unclipped" in estimate.reason


def test_equal_exposures_have_no_response():
    images = photographs(smooth_scene(), (4, 4, 4), noise=0.01)
    assert response.estimate([(images, (4, 4, 4))], Response.gamma()).response is None


def test_tiny_and_16_bit_and_float_images():
    exposures = (1, 4)
    images = photographs(smooth_scene(), exposures)
    wide, floats = images.astype(np.uint16) * 257, images / np.float32(255)
    results = [response.estimate([(bracket, exposures)], Response.gamma()).response for bracket in (images, wide, floats)]
    for result in results[1:]:
        np.testing.assert_allclose(result.linear, results[0].linear, rtol=0.02, atol=1e-4)
    assert response.estimate([(images[:, :8, :8], exposures)], Response.gamma()).response is None


# === Exposures ===


@pytest.mark.parametrize("reference", [0, 1, 2])
def test_wrong_exposures_are_refined(reference):
    true = np.array([1.0, 4, 16])
    images = photographs(smooth_scene(), true, curve=lambda values: values, shift=2, noise=0.02)
    nominal = true * (1.12, 1, 0.88)
    refined = response.refine_exposures(Response.gamma().decode(images), nominal, reference)
    assert refined[reference] == pytest.approx(nominal[reference])
    np.testing.assert_allclose(refined / refined[1], true / true[1], rtol=0.01)


def test_exposures_without_common_values_stay():
    images = np.float32([np.zeros((40, 50, 3)), np.full((40, 50, 3), 0.2), np.ones((40, 50, 3))])
    np.testing.assert_allclose(response.refine_exposures(images, (1, 4, 16), 1), (1, 4, 16))


def test_incredible_exposures_stay():
    images = np.float32([np.full((40, 50, 3), 0.1), np.full((40, 50, 3), 0.4)])
    np.testing.assert_allclose(response.refine_exposures(images, (1, 4.4), 0), (1, 4), rtol=0.01)
    np.testing.assert_allclose(response.refine_exposures(images, (1, 16), 0), (1, 16))


def test_absent_exposures_are_estimated_in_any_order():
    true = np.array([8.0, 1, 2, 32])
    images = photographs(smooth_scene(), true, shift=1)
    camera = Response("own", VALUES, S_CURVE)
    np.testing.assert_allclose(response.estimate_exposures(images, camera), true, rtol=0.02)


def test_images_without_common_values_have_no_exposures():
    images = np.stack([np.full((40, 50, 3), value, np.uint8) for value in (255, 0, 100)])
    with pytest.raises(ValueError, match="images 2 and 3"):
        response.estimate_exposures(images, Response.gamma())


# === Files and figures ===


def test_curves_are_drawn():
    drawn = curves.response_curves({"camera": estimated().response, "sRGB": Response("srgb")})
    assert drawn.shape == (600, 900, 3) and drawn.dtype == np.uint8 and drawn.std() > 0
    assert not np.array_equal(drawn, curves.response_curves({"camera": Response.gamma(), "sRGB": Response("srgb")}))


@pytest.mark.parametrize("name", ["estimated", *FORMULAS])
def test_saved_responses_load(name, tmp_path):
    curve = estimated().response if name == "estimated" else Response(name)
    responses.write_response(tmp_path / "camera.txt", curve)
    loaded = responses.read_response(tmp_path / "camera.txt")
    assert "camera.txt" in loaded.name
    np.testing.assert_allclose(loaded.decode(LEVELS), curve.decode(LEVELS), rtol=1e-3, atol=1e-6)


def test_commas_and_comments_are_read(tmp_path):
    (tmp_path / "own.csv").write_text("\ufeff# own\n\n0, 0\n0.5, 0.2 # middle\n1,1\n", encoding="utf-8")
    assert responses.read_response(tmp_path / "own.csv").decode(np.float32(0.5)) == np.float32(0.2)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "two"),
        (b"0 0\n0.5\n1 1\n", "line 2"),
        (b"0 0\n0.5 half\n1 1\n", "line 2"),
        (b"0 0\n0.5 nan\n1 1\n", "finite"),
        (b"0 0\n0.5 0.4\n0.6 0.3\n1 1\n", "0.4 before 0.3"),
        (b"0 0\n255 1\n", "255"),
        (b"\x89PNG\r\n\xff\xfe", "not text"),
    ],
)
def test_damaged_files_are_one_clear_line(content, words, tmp_path):
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        responses.read_response(tmp_path / "own.txt")
    assert str(error.value).startswith(str(tmp_path / "own.txt")) and "\n" not in str(error.value)


def test_missing_files_are_one_clear_line(tmp_path):
    with pytest.raises(OSError, match="none.txt: cannot be read"):
        responses.read_response(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="folder"):
        responses.read_response(tmp_path)


def test_levels_near_black_lie_far_apart_under_the_curve_of_a_camera():
    plain, steep = Response.gamma(), response.typical(1)
    np.testing.assert_allclose(response.typical(0).decode(LEVELS), plain.decode(LEVELS), atol=1e-6)
    assert plain.dark_error(np.uint8) < 2e-4 < 1e-3 < steep.dark_error(np.uint8) < 3e-3
    assert steep.dark_error(np.uint16) < steep.dark_error(np.uint8) / 100
