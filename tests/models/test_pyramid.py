"""The colour correction of the pyramid: what it gives, and what it leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

from hdr_tf.models import pyramid

LUMA = np.array([0.299, 0.587, 0.114])


def images(count=3, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 1, 16, 16, 3)).astype(np.float32)


def correction(exposures, fused):
    return np.asarray(pyramid._color_correction(list(np.float32(exposures)), np.float32(fused)))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_it_has_no_luma_and_stays_in_the_range(count):
    *exposures, fused = images(count + 1)
    change = correction(exposures, fused)
    assert np.abs(change).max() > 0.1
    np.testing.assert_allclose(change @ LUMA, 0, atol=1e-6)
    assert (fused + change).min() > -1e-6 and (fused + change).max() < 1 + 1e-6
    np.testing.assert_allclose(correction(exposures[::-1], fused), change, atol=1e-6)


def test_an_image_fused_with_itself_comes_back():
    image = images(1)[0]
    image[0, :4], image[0, 4:8], image[0, 8:10, :, 1:] = image[0, :4] > 0.5, image[0, 4:8] / 255, 0
    np.testing.assert_allclose(correction([image] * 3, image), 0, atol=1e-4)


def test_gray_stays_gray():
    gray = np.repeat(images(4)[..., :1], 3, axis=-1)
    np.testing.assert_array_equal(correction(gray[:3], gray[3]), 0)


def test_values_out_of_the_range_do_no_harm():
    *exposures, fused = images(3)
    change = correction(exposures, 3 * fused - 1)
    assert np.isfinite(change).all()
    np.testing.assert_allclose(change @ LUMA, 0, atol=1e-6)


def test_training_gets_finite_gradients_from_black_images():
    black, fused = tf.zeros((1, 4, 4, 3)), tf.Variable(tf.zeros((1, 4, 4, 3)))
    with tf.GradientTape() as tape:
        change = pyramid._color_correction([black, black], fused)
    assert np.isfinite(tape.gradient(change, fused)).all()


def test_the_dark_exposure_gives_its_colour_where_the_bright_one_is_white():
    dark, white, fused = (np.full((1, 4, 4, 3), color, np.float32) for color in ([0.4, 0.3, 0.2], [1, 1, 1], [0.7, 0.65, 0.6]))
    y, target = 0.3185, 0.65925
    weight = 1 + 0.003 * (1 - y) ** 4  # of the dark exposure; white has none
    wanted = (np.array([0.4, 0.3, 0.2]) - y) * (target / y) ** 0.7
    expected = weight / (weight + 0.3) * (wanted - (np.array([0.7, 0.65, 0.6]) - target))
    np.testing.assert_allclose(correction([dark, white], fused)[0, 1, 1], expected, atol=1e-6)
