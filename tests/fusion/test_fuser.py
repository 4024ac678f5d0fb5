"""`hdr_tf.Fuser`: the bytes of `hdr_tf.fuse`, from several threads and from a copy in another process."""

import concurrent.futures
import multiprocessing
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

import hdr_tf
from hdr_tf import systems
from hdr_tf.io import image_files
from tests import helpers

SIZES = [(37, 53), (64, 48), (37, 53), (90, 31), (8, 8), (64, 48), (121, 103), (37, 53)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"align": "auto", "crop": True},
        {"keep_order": True},
        pytest.param({"deghost": True}, marks=pytest.mark.slow),
        {"model": "densefuse_gray", "strategy": "attention"},
    ],
)
def test_a_fuser_gives_what_fuse_gives(arguments, tmp_path):
    fuser = hdr_tf.Fuser(**arguments)
    for height, dtype in ((40, np.uint8), (37, np.uint16)):
        images = helpers.bracket(dtype, height=height)[::-1]
        known = {"exposures": (2, 0)} if "deghost" in arguments else {}
        np.testing.assert_array_equal(fuser(images, **known), hdr_tf.fuse(images, **known, **arguments))
    paths = [tmp_path / "bright.png", tmp_path / "dark.png"]
    for path, pixels in zip(paths, images, strict=True):
        image_files.write_image(path, pixels)
    np.testing.assert_array_equal(fuser(paths, **known), hdr_tf.fuse(paths, **known, **arguments))


@pytest.mark.parametrize("model", ["pyramid", "deepfuse_official"])
def test_several_threads_share_a_fuser(model):
    fuser = hdr_tf.Fuser(model, keep_order=True)
    brackets = [
        helpers.bracket(np.uint8, [0.3, 0.8, 1.9][: 2 + number % 2], height=height, width=width)
        for number, (height, width) in enumerate(SIZES)
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        results = list(threads.map(fuser, brackets * 3))
    for result, images in zip(results, brackets * 3, strict=True):
        np.testing.assert_array_equal(result, hdr_tf.fuse(images, model, keep_order=True))


def test_one_thread_makes_a_network_that_several_need(monkeypatch):
    made = []

    def load(*names, original=systems.load_network, **arguments):
        made.append(arguments)
        return original(*names, **arguments)

    fuser = hdr_tf.Fuser("deepfuse_official")
    fuser._fuse.keywords["runner"]._compiled.cache_clear()
    monkeypatch.setattr(systems, "load_network", load)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(fuser, [helpers.bracket()] * 4))
    assert made == [{"exposures": 2}]


def test_a_pickle_holds_the_arguments():
    fuser = hdr_tf.Fuser("pyramid", align="mtb", crop=True)
    data = pickle.dumps(fuser)
    assert len(data) < 1000
    images = helpers.bracket(height=64)
    expected = fuser(images)
    np.testing.assert_array_equal(pickle.loads(data)(images), expected)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        np.testing.assert_array_equal(processes.submit(fuser, images).result(), expected)


def test_the_default_needs_no_tensorflow():
    program = "import sys, numpy, hdr_tf; f = hdr_tf.Fuser(); f([numpy.full((9, 9), v, 'u1') for v in (9, 99)]);"
    program += "sys.exit(bool({'keras', 'tensorflow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=helpers.ROOT).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "merge"}, "'merge' pyramid"),
        ({"weights": "none.weights.h5"}, "none.weights.h5 pyramid"),
        ({"strategy": "l1"}, "strategy pyramid"),
        ({"align": "best"}, "'best' homography"),
        ({"align": "mtb", "deghost": True}, "deghost align=mtb"),
    ],
)
def test_what_no_bracket_can_be_fused_with_is_refused_at_once(arguments, message):
    for refuse in (lambda: hdr_tf.Fuser(**arguments), lambda: hdr_tf.fuse(helpers.bracket(), **arguments)):
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            refuse()


def test_damaged_weights_are_refused_at_once(tmp_path):
    path = tmp_path / "a.weights.h5"
    shutil.copy(systems.find("pyramid").weights_path(), path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises((ValueError, OSError), match=helpers.mentions("a.weights.h5")):
        hdr_tf.Fuser(weights=path)


@pytest.mark.parametrize("images", [["a.png"], "a.png", [np.zeros((9, 9), np.uint8)], [np.zeros((9, 9))] * 2])
def test_bad_images_give_the_errors_of_fuse_and_the_fuser_goes_on(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuser, errors = hdr_tf.Fuser(), []
    for function in (fuser, hdr_tf.fuse):
        with pytest.raises((ValueError, OSError)) as error:
            function(images)
        errors.append(str(error.value))
    assert errors[0] == errors[1] and "\n" not in errors[0]
    assert fuser(helpers.bracket()).shape == hdr_tf.fuse(helpers.bracket()).shape


def test_weights_that_change_under_a_fuser_are_refused(tmp_path):
    """Another number of exposures is another network, for which the file is read again."""
    path = tmp_path / "a.weights.h5"
    shutil.copy(systems.find("densefuse_gray").weights_path(), path)
    fuser = hdr_tf.Fuser("densefuse_gray", path)
    before = fuser(helpers.bracket())
    path.write_bytes(path.read_bytes())
    np.testing.assert_array_equal(fuser(helpers.bracket()), before)
    with pytest.raises(ValueError, match=helpers.mentions("a.weights.h5")):
        fuser(helpers.bracket(gains=(0.3, 0.8, 1.9)))
