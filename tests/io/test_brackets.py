"""Brackets: every shape in which a folder holds them, and what is refused."""

import numpy as np
import pytest

from hdr_tf.image.depth import to_depth
from hdr_tf.io import brackets, image_files
from tests import helpers


@pytest.fixture
def folder(tmp_path):
    """One scene in each of the shapes."""
    return helpers.write_scenes_of_all_shapes(tmp_path / "scenes")


def test_brackets_of_all_shapes(folder):
    found, lines = brackets.find_brackets(folder)
    assert not lines
    assert {bracket.name: [path.name for path in bracket.paths] for bracket in found} == {
        "Mefb": ["Mefb_A.png", "mefb_b.PNG"],
        "loose_1": ["loose_1_A.png", "loose_1_B.png"],
        "many": ["0.png", "1.png", "2.png"],
        "stacked": ["stacked.jpg"],
    }
    for bracket in found:
        images = brackets.read_bracket(bracket)
        assert [image.pixels.shape for image in images] == [(56, 64, 3)] * (3 if bracket.name == "many" else 2)


@pytest.mark.parametrize("stack", [np.vstack, np.hstack])
@pytest.mark.parametrize(("height", "width"), [(56, 64), (90, 48)])
@pytest.mark.parametrize("depth", [8, 16])
def test_halves_are_cut_where_they_meet(stack, height, width, depth, tmp_path):
    halves = [to_depth(pixels, depth) for pixels in helpers.photographs((0.25, 2.0), height=height, width=width)]
    image_files.write_image(tmp_path / "both.png", stack(halves))
    (bracket,), _ = brackets.find_brackets(tmp_path)
    for image, half in zip(brackets.read_bracket(bracket), halves, strict=True):
        np.testing.assert_array_equal(image.pixels, half)


def alone(pixels):
    return pixels


def shifted(pixels):
    return np.vstack([pixels, np.roll(pixels, 9, axis=1)])


def odd(pixels):
    return np.vstack([pixels, pixels[:-1]])


def four_times(pixels):
    return np.vstack([np.hstack([pixels] * 2)] * 2)


@pytest.mark.parametrize("make", [alone, shifted, odd, four_times, np.zeros_like])
def test_halves_that_are_none_are_refused(make, tmp_path):
    path = tmp_path / "one.png"
    image_files.write_image(path, make(helpers.photographs((1.0,))[0]))
    (bracket,), _ = brackets.find_brackets(tmp_path)
    with pytest.raises(ValueError, match=helpers.mentions(str(path))):
        brackets.read_bracket(bracket)


def test_the_stacked_images_of_the_reference_folder(reference):
    found, lines = brackets.find_brackets(reference / "rl_hdr")
    stacked = [bracket for bracket in found if bracket.name.startswith("T") and "retouched" not in bracket.name]
    assert len(stacked) == 7 and not lines
    for bracket in stacked:
        whole = image_files.read_image(bracket.paths[0]).pixels
        upper, lower = brackets.read_bracket(bracket)
        np.testing.assert_array_equal(np.vstack([upper.pixels, lower.pixels]), whole)


def test_brackets_that_are_incomplete_have_a_line(folder):
    (folder / "loose_1_B.png").unlink()
    (folder / "Mefb" / "Mefb_A.png").unlink()
    (folder / "Mefb" / "IMG_2.png").unlink()
    image_files.write_image(folder / "many.png", helpers.photographs((1.0,))[0])
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("")
    found, lines = brackets.find_brackets(folder)
    assert [bracket.name for bracket in found] == ["many", "stacked"] and len(found[0].paths) == 3
    for line, words in zip(sorted(lines), ("Mefb 2 1", "loose_1_A.png _A _B", "many.png many"), strict=True):
        assert line.startswith(f"{folder / words.split()[0]}: ") and helpers.mentioned(words, line)


def test_folders_without_brackets(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("nowhere")):
        brackets.find_brackets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=helpers.mentions(f"{tmp_path} X_A X_B")):
        brackets.find_brackets(tmp_path)
