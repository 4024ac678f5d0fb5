"""Exposures that contradict the images are refused or, where light is known, corrected; sound ones pass."""

import math

import numpy as np
import pytest

import hdr_tf
from hdr_tf.image.depth import from_unit
from hdr_tf.io import image_files
from hdr_tf.radiance import light as lights
from tests import helpers

STOPS = (-2, 0, 2)
CLASSICAL = {"model": "merge_classical", "align": "none", "denoise": 0, "fill": "none"}


@pytest.fixture(scope="module")
def scene():
    """Radiance of 9 stops, [60, 80, 3]."""
    y, x = np.mgrid[:60, :80]
    return np.float32(np.stack([2 ** (9 * x / 79 - 8 + 0.3 * np.sin(y / 9 + i)) for i in range(3)], axis=-1))


def linear(scene, stops=STOPS):
    return [from_unit(np.clip(scene * np.float32(2.0**stop), 0, 1), np.uint16) for stop in stops]


def camera(scene, stops=STOPS):
    """A picture style with much contrast, in which 2 stops look like 3 to 4 under gamma 2.2."""
    values = [np.clip(scene * np.float32(2.0**stop), 0, 1) ** (1 / 2.2) for stop in stops]
    return [from_unit(value**2 * (3 - 2 * value), np.uint8) for value in values]


def refused(images, stops, response="auto"):
    frames = lights.read(images)
    exposures = 2.0 ** np.array(stops)
    try:
        exposures = lights.check_exposures(frames, exposures, response)
        lights.to_light(frames, exposures, response, trust=False)
    except ValueError as error:
        assert "--trust_exposures" in str(error)
        lights.to_light(frames, lights.check_exposures(frames, exposures, response, trust=True), response)
        return True
    return False


WRONG = {
    "reversed": (2, 0, -2),
    "in another order": (0, -2, 2),
    "times": (0.0025, 0.01, 0.04),
    "long times": (1, 4, 16),
    "equal": (0, 0, 0),
    "one": (-2, 0, 6),
}


@pytest.mark.parametrize("stops", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(("make", "response"), [(linear, "linear"), (helpers.expose, "auto"), (camera, "auto")])
def test_what_the_images_contradict_is_refused(scene, make, response, stops):
    if make is camera and stops == WRONG["one"]:
        pytest.skip("a response with even more contrast explains it within half a stop")
    assert refused(list(make(scene, STOPS)), stops, response)


@pytest.mark.parametrize("stops", [(-2, 0, 2), (2, -2, 0), (-1, 0, 1), (-3, 0), (-3, -1.5, 0, 0, 1.5, 3)])
@pytest.mark.parametrize(("make", "response"), [(linear, "linear"), (helpers.expose, "auto"), (camera, "auto")])
def test_sound_exposures_pass(scene, make, response, stops):
    assert not refused(list(make(scene, stops)), stops, response)


@pytest.mark.parametrize(("error", "logged"), [(0.1, False), (0.4, True), (-0.8, True)])
def test_known_light_corrects_exposures(scene, caplog, error, logged):
    frames = lights.read(linear(scene))
    with caplog.at_level("INFO", logger="absl"):
        checked = lights.check_exposures(frames, 2.0 ** np.array([-2 + error, 0, 2]), "linear")
        light = lights.to_light(frames, checked, "linear")
    np.testing.assert_allclose(light.exposures, [0.25, 1, 4], rtol=0.05)
    assert logged == helpers.mentioned("image 1 image 2", caplog.text)


def test_a_step_of_more_than_a_stop_has_both_numbers(scene):
    frames = lights.read(linear(scene))
    with pytest.raises(ValueError, match=helpers.mentions("image 1 image 2 +3.30 +2.00 --exposures --trust_exposures")):
        lights.check_exposures(frames, 2.0 ** np.array([-3.3, 0, 2]), "linear")


def test_unknown_response_leaves_exposures_alone(scene):
    frames = lights.read(camera(scene))
    stated = 2.0 ** np.array([-2.3, 0, 1.8])
    np.testing.assert_array_equal(lights.check_exposures(frames, stated, "auto"), stated)


@pytest.mark.parametrize("reverse", [False, True])
def test_files_with_exif(scene, tmp_path, reverse):
    times = [2.0**stop / 64 for stop in STOPS]
    paths = helpers.write_bracket(tmp_path / "in", camera(scene), times[::-1] if reverse else times)
    if reverse:
        with pytest.raises(ValueError, match=helpers.mentions("b.png --trust_exposures")):
            hdr_tf.merge(paths, **CLASSICAL)
    assert np.isfinite(hdr_tf.merge(paths, trust_exposures=reverse, **CLASSICAL)).all()


@pytest.mark.parametrize("stops", [(-149, 0, 127), (math.nan, 0, 1), (-math.inf, 0, 1)])
def test_exposures_beyond_floats_are_refused(scene, stops):
    with pytest.raises(ValueError, match=helpers.mentions("exposures stops")):
        hdr_tf.merge(linear(scene), stops, response="linear", trust_exposures=True, **CLASSICAL)


def test_exif_beyond_floats_is_refused(scene, tmp_path):
    paths = helpers.write_bracket(tmp_path / "in", camera(scene), [1e-9, 1, 4e9])
    frames = [image_files.read_image(path) for path in paths]
    if None not in [frame.exposure for frame in frames]:
        with pytest.raises(ValueError, match=helpers.mentions("60 stops")):
            hdr_tf.merge(paths, trust_exposures=True, **CLASSICAL)
