"""A result computed in tiles equals that of the whole image. The tiles of the networks have tests with their runners."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdr_tf.image import color, tiling
from tests import helpers


def dilate(images):
    return cv2.max(*(cv2.dilate(image, np.ones((7, 7))) for image in images))  # radius 3


@given(st.integers(1, 70), st.integers(1, 70), st.integers(5, 40), st.integers(3, 20))
def test_a_function_of_pixels_nearby(height, width, tile, halo):
    images = helpers.noise(2, height, width, 3)
    found = tiling.in_tiles(dilate, images, tile, halo)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, dilate(images))


def test_a_halo_below_the_radius_is_not_enough():
    images = helpers.noise(2, 60, 70, 3)
    assert np.any(tiling.in_tiles(dilate, images, 20, 2) != dilate(images))


@given(st.integers(10, 70), st.integers(10, 70))
def test_results_and_images_of_a_quarter_of_the_size(height, width):
    image = helpers.noise(height, width)

    def shrink(images):
        (image,) = images
        height, width = image.shape
        padded = np.pad(image, ((0, -height % 4), (0, -width % 4)))
        return padded.reshape(padded.shape[0] // 4, 4, -1, 4).max(axis=(1, 3))

    small = shrink([image])
    np.testing.assert_array_equal(tiling.in_tiles(shrink, [image], 16, 0), small)

    def blend(images):  # a pixel depends on the small one that contains it and on the neighbours of that
        image, small = images
        largest = cv2.dilate(small, np.ones((3, 3)))
        return image ^ np.kron(largest, np.ones((4, 4), np.uint8))[: image.shape[0], : image.shape[1]]

    np.testing.assert_array_equal(tiling.in_tiles(blend, [image, small], 16, 4), blend([image, small]))


@given(st.integers(1, 70), st.integers(241, 300), st.booleans())
def test_several_results_of_other_sizes(height, width, upright):
    image = helpers.noise(height, width)
    image = image.T if upright else image

    def shrink(image, factor):
        padded = np.pad(image, [(0, -side % factor) for side in image.shape])
        return padded.reshape(padded.shape[0] // factor, factor, -1, factor).max(axis=(1, 3))

    def several(images):
        return [shrink(images[0], factor) for factor in (1, 8, 16)]

    for found, expected in zip(tiling.several_in_tiles(several, [image], 32, 16), several([image]), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("name", ["deepfuse_official", "deepfuse_sunnerli", "hyperp_mb", "densefuse_gray"])
def test_colours_in_strips_and_tiles(name, dtype, monkeypatch):
    split, join = getattr(color, name.upper())
    images = np.random.default_rng(0).integers(0, 256, (2, 45, 50, 3)).astype(dtype)

    def split_and_joined():
        (luminance, *first), (_, *second) = map(split, images)
        return luminance, join(luminance.astype(dtype), [first, second])

    whole = split_and_joined()
    monkeypatch.setattr(color, "_STRIP", 7)
    monkeypatch.setattr(color, "_TILE", 16)
    for found, expected in zip(split_and_joined(), whole, strict=True):
        # OpenCV may round float32 differently at the end of a row.
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if dtype == np.uint8 else 1e-4)
