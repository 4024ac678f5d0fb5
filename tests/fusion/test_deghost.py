"""Deghosting: what moved is fused as it is in the reference, and what stood still comes through unchanged."""

import functools
import json
import logging

import cv2
import numpy as np
import pytest

import hdr_tf
from hdr_tf import batch, cli, systems
from hdr_tf.commands import fuse
from hdr_tf.fusion import deghost
from hdr_tf.image.depth import from_unit
from hdr_tf.image.response import Response
from hdr_tf.io import image_files, profiles
from hdr_tf.io.exif import Metadata
from tests import helpers

STOPS = (-2, 0, 2)
MERGER = systems.load_runner("merge_classical")


@functools.cache
def radiance(at):
    """A textured scene, [160, 240, 3], 0..1.5, with a disk of radiance 0.01 whose centre is at (x, y)."""
    random = np.random.default_rng(1)
    texture = sum(cv2.resize(random.random((n, n, 3)), (240, 160), interpolation=cv2.INTER_CUBIC) for n in (4, 12, 40))
    scene = np.float32(0.02 + np.clip(texture / 3, 0, 1) ** 3 * np.linspace(0.2, 4, 240)[:, None])
    return scene if at is None else cv2.circle(scene.copy(), at, 18, (0.3, 0.02, 0.02), -1, cv2.LINE_AA)


def exposed(at, stop, response=None, dtype=np.uint8, shift=0):
    scene = radiance(at)
    scene = np.roll(scene, shift, axis=1)
    noise = np.random.default_rng(abs(stop) + 1).normal(0, 0.002, scene.shape)
    return from_unit((response or Response.gamma()).encode(scene * 2.0**stop + noise), dtype)


def moving(**arguments):
    places = (60, 80), (120, 80), (180, 80)
    return [exposed(at, stop, **arguments) for at, stop in zip(places, STOPS, strict=True)]


def still(**arguments):
    return [exposed((120, 80), stop, **arguments) for stop in STOPS]


def curve():
    values = np.linspace(0, 1, 257)
    return Response("s-curve", values, (values - 0.08 * np.sin(2 * np.pi * values)) ** 2.2)


def exposures(count=3):
    return 2.0 ** np.array(STOPS[:count])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("response", [None, curve()], ids=["gamma", "s-curve"])
def test_moving_things_appear_as_in_the_reference(response, dtype):
    images, truth = moving(response=response, dtype=dtype), still(response=response, dtype=dtype)
    mended = deghost.deghost(images, exposures(), MERGER)
    assert mended.reference == 1
    np.testing.assert_array_equal(mended.images[1], images[1])
    level = np.iinfo(dtype).max / 255
    for index in (0, 2):
        assert (mended.images[index].shape, mended.images[index].dtype) == (images[index].shape, dtype)
        before, after = (np.abs(image[index].astype(float) - truth[index]) / level for image in (images, mended.images))
        ghost = before.max(axis=2) > 30
        assert ghost.mean() > 0.02
        assert after[ghost].mean() < before[ghost].mean() / 5
        assert 0.02 < mended.replaced[index] < 0.3
    fused, plain, right = (
        hdr_tf.fuse(bracket, keep_order=True).astype(float) / level for bracket in (mended.images, images, truth)
    )
    errors = [np.abs(result - right).max(axis=2) for result in (plain, fused)]
    assert np.quantile(errors[0], 0.99) > 30
    assert np.quantile(errors[1], 0.99) < np.quantile(errors[0], 0.99) / 3


def test_a_camera_that_moved_is_followed():
    images = [exposed(None, stop, shift=shift) for stop, shift in zip(STOPS, (5, 0, -4), strict=True)]
    truth = [exposed(None, stop) for stop in STOPS]
    mended = deghost.deghost(images, exposures(), MERGER)
    for index in (0, 2):
        inner = np.s_[10:-10, 20:-20]
        before, after = (np.abs(image[index][inner].astype(float) - truth[index][inner]) for image in (images, mended.images))
        assert after.mean() < before.mean() / 4


@pytest.mark.parametrize("count", [2, 3])
def test_still_images_stay_as_they_are(count):
    images = still()[:count]
    mended = deghost.deghost(images, exposures(count), MERGER)
    for image, given in zip(mended.images, images, strict=True):
        assert (image != given).any(axis=2).mean() < 0.005
    fused, plain = (hdr_tf.fuse(bracket, keep_order=True).astype(int) for bracket in (mended.images, images))
    assert (np.abs(fused - plain).max(axis=2) <= 2).mean() > 0.99


def test_two_exposures_take_the_darker_one_as_reference():
    images = moving()[1:]
    mended = deghost.deghost(images, exposures()[1:], MERGER)
    assert mended.reference == 0
    np.testing.assert_array_equal(mended.images[0], images[0])
    there = mended.images[1][75:85, 175:185].astype(int)
    assert np.abs(there - exposed((120, 80), 2)[75:85, 175:185]).mean() < 8


def test_the_order_of_the_images_does_not_matter():
    images = moving()
    mended = deghost.deghost(images, exposures(), MERGER)
    other = deghost.deghost(images[::-1], exposures()[::-1], MERGER)
    for image, same in zip(mended.images, other.images[::-1], strict=True):
        np.testing.assert_array_equal(image, same)


def test_exposures_are_estimated_where_they_are_not_known():
    images, truth = moving(), still()
    mended = deghost.deghost(images, None, MERGER)
    assert any(helpers.mentioned("exposures estimated", note) for note in mended.notes)
    error = [np.abs(image[2].astype(float) - truth[2]).mean() for image in (images, mended.images)]
    assert error[1] < error[0] / 3


def test_gray_images_stay_gray():
    images = [image[..., 1] for image in moving()]
    mended = deghost.deghost(images, exposures(), MERGER)
    assert all(image.shape == images[0].shape for image in mended.images)
    assert mended.replaced[0] > 0.02


@pytest.mark.parametrize(
    ("images", "given", "words"),
    [
        (1, [1], "2 to 9 1"),
        (10, None, "2 to 9 10"),
        (2, [1], "2 exposures"),
        (2, [1, 0], "2 exposures"),
        (2, [1, np.nan], "2 exposures"),
    ],
)
def test_bad_input(images, given, words):
    with pytest.raises(ValueError, match=helpers.mentions(words)):
        deghost.deghost([np.zeros((16, 16, 3), np.uint8)] * images, given, MERGER)


def test_black_and_white_images_have_no_exposures():
    with pytest.raises(ValueError, match=helpers.mentions("EXIF exposures")):
        deghost.deghost([np.full((16, 16, 3), value, np.uint8) for value in (0, 255)], None, MERGER)


@pytest.mark.parametrize("size", [(8, 8), (9, 40)])
def test_small_images(size):
    images = [image[: size[0], : size[1]] for image in still()]
    mended = deghost.deghost(images, exposures(), MERGER)
    assert [image.shape for image in mended.images] == [(*size, 3)] * 3


# === `fuse` ===


def run(*words):
    """Runs `hdr-tf fuse`, here."""
    return fuse.main(cli.parse(fuse.Config, list(map(str, words))))


def photographs(folder, images=None):
    folder.mkdir(exist_ok=True)
    images = moving() if images is None else images
    names = ("c.jpg", "a.jpg", "b.jpg")
    return [
        helpers.write_photograph(folder / name, image, 0.01 * 2.0**stop)
        for name, image, stop in zip(names, images, STOPS, strict=True)
    ]


@pytest.mark.parametrize("model", ["pyramid", "densefuse_rgb"])
def test_fuse(model, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="absl")
    paths = photographs(tmp_path / "photographs")
    fused = hdr_tf.fuse(paths, model, deghost=True)
    plain, right = hdr_tf.fuse(paths, model), hdr_tf.fuse(photographs(tmp_path / "still", still()), model)
    errors = [np.abs(result.astype(float) - right).mean() for result in (plain, fused)]
    assert errors[1] < errors[0] / 2
    assert any(helpers.mentioned("deghosted 2 3", message) for message in caplog.messages)
    np.testing.assert_array_equal(fused, hdr_tf.fuse(paths[::-1], model, deghost=True))


def test_outputs_are_those_of_fuse(tmp_path):
    paths = photographs(tmp_path / "photographs")
    folder = tmp_path / "aligned"
    assert run(*paths, "--deghost", "-o", tmp_path / "fused.jpg", "--save_aligned", folder) == 0
    written = image_files.read_image(tmp_path / "fused.jpg")
    assert written.pixels.shape == (160, 240, 3) and written.metadata.exif
    assert sorted(path.name for path in folder.iterdir()) == ["1_c.png", "2_a.png", "3_b.png"]
    np.testing.assert_array_equal(image_files.read_image(folder / "2_a.png").pixels, image_files.read_image(paths[1]).pixels)


def test_folders_are_resumed_and_a_changed_flag_counts(tmp_path, capsys):
    photographs(tmp_path / "brackets")
    (tmp_path / "brackets").rename(tmp_path / "scene")
    (tmp_path / "brackets").mkdir()
    (tmp_path / "scene").rename(tmp_path / "brackets" / "scene")
    outputs = []
    for flags in ((), ["--deghost"], ["--deghost"]):
        assert run("--brackets", tmp_path / "brackets", "--output", tmp_path / "fused", *flags) == 0
        outputs.append(capsys.readouterr().out)
    assert ["skipped" in output for output in outputs] == [False, False, True]
    assert json.loads((tmp_path / "fused" / batch.SUMMARY).read_text())


def test_exposures_that_contradict_the_images_are_refused(tmp_path):
    paths = photographs(tmp_path / "reversed", still()[::-1])
    with pytest.raises(ValueError, match=helpers.mentions("a.jpg --exposures --trust_exposures")):
        hdr_tf.fuse(paths, deghost=True)
    assert hdr_tf.fuse(paths, deghost=True, trust_exposures=True).shape == (160, 240, 3)
    hdr_tf.fuse(paths)  # needs no exposures
    right = hdr_tf.fuse(photographs(tmp_path / "right", still()), deghost=True)
    np.testing.assert_array_equal(hdr_tf.fuse(paths, deghost=True, exposures=STOPS[::-1]), right)
    assert np.abs(hdr_tf.fuse(paths, deghost=True, exposures="estimate").astype(int) - right).mean() < 1


def test_linear_light_corrects_the_exposures(caplog):
    caplog.set_level(logging.INFO, logger="absl")
    profile = profiles.make("linear", profiles.SRGB, 1.0)
    pixels = still(response=Response("linear"), dtype=np.uint16)
    images = [
        image_files.LoadedImage(None, image, 2.0**stop, metadata=Metadata(None, profile))
        for image, stop in zip(pixels, (-2, 0, 1.6), strict=True)
    ]
    hdr_tf.fuse(images, deghost=True)
    assert any(helpers.mentioned("image 3 +1.60 +2.00 image 2", message) for message in caplog.messages)


@pytest.mark.parametrize("known", [{"exposures": STOPS}, {"trust_exposures": True}])
def test_fusion_without_deghosting_needs_no_exposures(known):
    with pytest.raises(ValueError, match=helpers.mentions("exposures deghost")):
        hdr_tf.fuse(still(), **known)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"align": "auto"}, "deghost align"), ({"crop": True}, "crop align"), ({"align": "auto", "crop": True}, "deghost align")],
)
def test_what_does_not_go_together(arguments, words):
    with pytest.raises(ValueError, match=helpers.mentions(words)):
        hdr_tf.fuse(still(), deghost=True, **arguments)


def test_infrared_and_visible_are_refused():
    dark, bright = helpers.bracket()
    with pytest.raises(ValueError, match=helpers.mentions("deghost gray")):
        hdr_tf.fuse([dark[..., 0], bright], deghost=True)


def test_a_radiance_model_does_not_deghost_for_display():
    with pytest.raises(ValueError, match=helpers.mentions("--deghost --model=esbn")):
        run("--model=esbn", "--deghost", "-o", "r.exr", "a.jpg", "b.jpg", "c.jpg")
