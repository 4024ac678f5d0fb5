"""Tiles give what the whole gives; those of the networks are in test_fusing.py, test_reconstruction.py and test_selfhdr.py."""

import cv2
import numpy as np
import pytest

from hdr_tf.image import color, tiles


@pytest.mark.parametrize("size", [(33, 70), (64, 32), (20, 20)])
def test_a_function_that_sees_a_few_pixels(size):
    pictures = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)

    def run(pictures):
        return cv2.max(*(cv2.dilate(picture, np.ones((7, 7))) for picture in pictures))  # 3 pixels far

    whole = run(pictures)
    found = tiles.in_tiles(run, pictures, 16, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, whole)
    assert max(size) < 32 or (tiles.in_tiles(run, pictures, 16, 2) != whole).any()


@pytest.mark.parametrize("size", [(64, 32), (37, 49), (20, 18)])
def test_results_and_pictures_of_a_quarter_of_the_size(size):
    picture = np.random.default_rng(0).integers(0, 256, size, np.uint8)

    def shrink(pictures):
        (picture,) = pictures
        height, width = picture.shape
        padded = np.pad(picture, ((0, -height % 4), (0, -width % 4)))
        return padded.reshape(padded.shape[0] // 4, 4, -1, 4).max(axis=(1, 3))

    small = shrink([picture])
    np.testing.assert_array_equal(tiles.in_tiles(shrink, [picture], 16, 0), small)

    def blend(pictures):  # each pixel sees the small one that it belongs to and the next ones
        picture, small = pictures
        seen = cv2.dilate(small, np.ones((3, 3)))
        return picture ^ np.kron(seen, np.ones((4, 4), np.uint8))[: picture.shape[0], : picture.shape[1]]

    np.testing.assert_array_equal(tiles.in_tiles(blend, [picture, small], 16, 4), blend([picture, small]))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["deepfuse_official", "deepfuse_sunnerli", "hyperp_mb", "densefuse_gray"])
def test_colours_in_strips_and_tiles(name, dtype, monkeypatch):
    split, join = getattr(color, f"{name}_split"), getattr(color, f"{name}_join")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 45, 50, 3)).astype(dtype)

    def split_and_joined():
        (luminance, *first), (_, *second) = map(split, pictures)
        return luminance, join(luminance.astype(dtype), [first, second])

    whole = split_and_joined()
    monkeypatch.setattr(color, "_STRIP", 7)
    monkeypatch.setattr(color, "_TILE", 16)
    for found, expected in zip(split_and_joined(), whole, strict=True):
        # OpenCV may round float32 otherwise at the end of a row than within.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if dtype == np.uint8 else 1e-4)
