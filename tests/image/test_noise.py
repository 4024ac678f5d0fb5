"""Noise: the model, its estimation where the truth is known, images that hold nothing to estimate, and its removal."""

import cv2
import numpy as np
import pytest

from hdr_tf import metrics
from hdr_tf.image import noise, tiling, tone
from hdr_tf.synthesis import camera

SIGNALS = np.float32([0.01, 0.1, 0.5])


def smooth_radiance(height=240, width=320, seed=0):
    """Radiance over about eight stops with soft structure and some texture of one colour."""
    rng = np.random.default_rng(seed)
    waves = cv2.resize(rng.uniform(-4, 1, (6, 8, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    waves = 0.8 * waves.mean(axis=2, keepdims=True) + 0.2 * waves
    texture = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 1.5)[..., None]
    return np.float32(2 ** (1.5 * waves + 0.3 * texture))


def bracket(full_well, read_noise, depth, quality=None, stops=(-2, 0, 2)):
    """Linear images of a bracket, and the step of their encoded values."""
    rng, images = np.random.default_rng(1), []
    for stop in stops:
        image = camera.photograph(smooth_radiance(), 2.0**stop, rng, full_well, read_noise)
        if depth == 8:
            image = np.rint(image / 257).astype(np.uint8)
        if quality:
            _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        images.append(tone.to_radiance(image / np.float32(2**depth - 1), 1))
    return images, 1 / (2**depth - 1)


def test_variance_adds_shot_noise_read_noise_and_rounding():
    model = noise.Noise(gain=1e-4, read=1e-3, step=1 / 255)
    slope = (np.float32(0.5 + 1e-3) ** 2.2 - np.float32(0.5 - 1e-3) ** 2.2) / 2e-3
    signal = 0.5**2.2
    expected = 1e-4 * signal + 1e-6 + slope**2 / 255**2 / 12
    variance = model.variance(np.full((2, 3), signal))
    assert variance.shape == (2, 3) and variance.dtype == np.float32
    np.testing.assert_allclose(variance, expected, rtol=1e-3)
    np.testing.assert_array_equal(model.variance([-1, 2]), model.variance([0, 1]))
    assert not noise.Noise().variance(SIGNALS).any()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("full_well", "read_noise"), [(10_000, 5e-4), (2_000, 2e-3), (50_000, 5e-4)])
def test_estimate_is_near_the_truth(full_well, read_noise, depth):
    images, step = bracket(full_well, read_noise, depth)
    truth = noise.Noise(1 / full_well, read_noise, step).variance(SIGNALS)
    ratio = np.sqrt(noise.estimate(images, step).variance(SIGNALS) / truth)
    assert ((ratio > 0.8) & (ratio < 1.2)).all(), ratio


@pytest.mark.parametrize("quality", [80, 90, 97])
def test_jpeg_with_half_size_chroma_is_measured_roughly(quality):
    images, step = bracket(2_000, 2e-3, 8, quality)
    truth = noise.Noise(1 / 2_000, 2e-3, step).variance(SIGNALS)
    ratio = np.sqrt(noise.estimate(images, step).variance(SIGNALS) / truth)
    assert ((ratio > 0.5) & (ratio < 1.6)).all(), ratio


def test_gray_images_are_measured():
    images, step = bracket(2_000, 2e-3, 16)
    images = [np.repeat(image[..., :1], 3, axis=2) for image in images]
    truth = noise.Noise(1 / 2_000, 2e-3, step).variance(SIGNALS)
    ratio = np.sqrt(noise.estimate(images, step).variance(SIGNALS) / truth)
    assert ((ratio > 0.8) & (ratio < 1.3)).all(), ratio


@pytest.mark.parametrize("depth", [8, 16])
def test_without_noise_little_more_than_rounding_is_estimated(depth):
    images, step = bracket(np.inf, 0, depth)
    rounding = noise.Noise(step=step).variance(SIGNALS)
    variance = noise.estimate(images, step).variance(SIGNALS)
    assert (variance >= rounding).all()
    assert (variance < 1.1 * rounding + 1e-7 * SIGNALS).all()  # a full well of ten million


@pytest.mark.parametrize("value", [0, 0.3, 1, np.nan])
@pytest.mark.parametrize("size", [(8, 8), (18, 18), (200, 300)])
def test_images_that_hold_no_noise_leave_the_step(value, size):
    images = [np.full((*size, 3), value, np.float32)] * 2
    assert noise.estimate(images, 1 / 255) == noise.Noise(0, 0, 1 / 255)


def test_sizes_may_differ_and_a_small_image_does_no_harm():
    images, step = bracket(2_000, 2e-3, 16)
    alone = noise.estimate(images, step)
    assert noise.estimate([*images, images[0][:8, :8]], step) == pytest.approx(alone, rel=0.1)


def noisy_radiance(gain=1e-3, read=1e-3):
    """Radiance with noise, its variance, and the truth, [H, W, 3]."""
    truth = smooth_radiance()
    variance = np.float32(gain) * truth + np.float32(read**2)
    noisy = truth + np.sqrt(variance) * np.random.default_rng(2).standard_normal(truth.shape, np.float32)
    return noisy, variance, truth


def test_wiener_removes_noise():
    noisy, variance, truth = noisy_radiance()

    def score(radiance):
        return metrics.psnr(tone.mu_law(np.maximum(radiance, 0)), tone.mu_law(truth))

    cleaned = noise.wiener(noisy, variance)
    assert cleaned.dtype == np.float32 and cleaned.shape == noisy.shape
    assert noise.wiener(np.maximum(noisy, 0), variance).min() >= 0
    assert score(cleaned) > score(noisy) + 3
    assert score(noise.wiener(noisy, variance.mean(axis=2, keepdims=True))) > score(noisy) + 2
    assert score(noise.wiener(noisy, variance, strength=0.25)) < score(cleaned)


def test_wiener_changes_nothing_without_noise():
    noisy, variance, _ = noisy_radiance()
    np.testing.assert_array_equal(noise.wiener(noisy, np.zeros_like(variance)), noisy)
    np.testing.assert_array_equal(noise.wiener(noisy, variance, strength=0), noisy)
    half = variance.copy()
    half[:, :100] = 0  # such as where every exposure is clipped
    np.testing.assert_array_equal(noise.wiener(noisy, half)[:, :100], noisy[:, :100])
    black = np.zeros((8, 8, 3), np.float32)
    np.testing.assert_array_equal(noise.wiener(black, black), black)


def test_wiener_keeps_edges_and_texture():
    rng = np.random.default_rng(3)
    image = np.where(np.arange(64) < 32, np.float32(0.02), np.float32(0.5))[None, :, None]
    image = np.repeat(image * rng.uniform(0.7, 1.3, (48, 64, 1)), 3, axis=2).astype(np.float32)  # texture of 17 %
    variance = np.square(0.01 * image)  # noise of 1 %
    change = np.abs(noise.wiener(image, variance) - image) / image
    assert np.median(change) < 0.001 and change.max() <= 0.031


def test_wiener_is_bounded_by_the_noise_and_follows_the_scale():
    noisy, variance, _ = noisy_radiance()
    cleaned = noise.wiener(noisy, variance)
    assert (np.abs(cleaned - noisy) <= 3.001 * np.sqrt(variance) + 1e-6).all()
    np.testing.assert_allclose(noise.wiener(noisy * 64, variance * 64**2), cleaned * 64, rtol=1e-5, atol=1e-6)


def test_wiener_in_bands_equals_the_whole(monkeypatch):
    noisy, variance, _ = noisy_radiance()
    whole = noise.wiener(noisy, variance)
    monkeypatch.setattr(tiling, "BAND", 1000)
    np.testing.assert_array_equal(noise.wiener(noisy, variance), whole)


def test_wiener_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"found shapes \(8, 8, 3\) and \(8, 9, 3\)"):
        noise.wiener(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)))
    with pytest.raises(ValueError, match="expected radiance"):
        noise.wiener(np.zeros((8, 8)), np.zeros((8, 8)))
