"""Output files under names that are links, pipes, devices or very long."""

import os

import numpy as np
import pytest

from hdr_tf.io import image_files, outputs
from tests import helpers
from tests.helpers import RGB8


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for name, before in (("old.png", b"old"), ("new.png", None)):  # the second link leads to no file yet
        file, link = tmp_path / "elsewhere" / name, tmp_path / name
        if before:
            file.write_bytes(before)
        link.symlink_to(file)
        outputs.check_target(link, [])
        image_files.write_image(link, RGB8)
        assert link.is_symlink() and link.readlink() == file
        np.testing.assert_array_equal(image_files.read_image(file).pixels, RGB8)
    assert helpers.names(tmp_path / "elsewhere") == {"old.png", "new.png"}


def test_a_link_to_an_input_is_refused(tmp_path):
    image_files.write_image(tmp_path / "a.png", RGB8)
    (tmp_path / "out.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(ValueError, match=helpers.mentions("out.png")):
        outputs.check_target(tmp_path / "out.png", [tmp_path / "a.png"])


def test_pipes_devices_and_loops_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to(os.devnull)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "to_pipe.exr").symlink_to(tmp_path / "pipe.png")
    kept = {path: path.lstat() for path in tmp_path.iterdir()}
    for path in kept:
        with pytest.raises(ValueError, match=helpers.mentions(path.name)):
            outputs.check_target(path, [])
        with pytest.raises(ValueError, match=helpers.mentions(path.name)):
            if path.suffix == ".exr":
                image_files.write_radiance(path, np.float32(RGB8))
            else:
                image_files.write_image(path, RGB8)
    assert {path: path.lstat() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("letter", ["a", "é"])
def test_long_names(tmp_path, letter):
    for length in (*range(224, 232), 255):
        stem = letter * ((length - 4) // len(letter.encode()))
        name = stem + "x" * (length - 4 - len(stem.encode())) + ".png"
        outputs.check_target(tmp_path / name, [])
        image_files.write_image(tmp_path / name, RGB8)
        np.testing.assert_array_equal(image_files.read_image(tmp_path / name).pixels, RGB8)
        image_files.write_image(tmp_path / outputs.named(f"1_{stem}", "_preview.png"), RGB8)
    assert all(name.endswith(".png") for name in helpers.names(tmp_path))
    with pytest.raises(ValueError, match=helpers.mentions("255 256")):
        outputs.check_target(tmp_path / ("x" * 252 + ".png"), [])


def test_names_that_fit_stay(tmp_path):
    assert outputs.named("IMG_1", "_preview.png") == "IMG_1_preview.png"
    assert outputs.named("é" * 200, ".png") == "é" * 125 + ".png"
