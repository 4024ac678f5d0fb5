"""Scores of fused images, whose changes are the rewards of the editor's agent, see hdr_tf/rl/environment.py."""

from collections.abc import Callable

import cv2
import numpy as np

from hdr_tf import losses
from hdr_tf.image.depth import to_unit
from hdr_tf.image.exposure_fusion import block_means

WINDOW_TAPS = cv2.getGaussianKernel(losses.WINDOW, 1.5)

Score = Callable[[np.ndarray], float]


def closeness(reference: np.ndarray) -> Score:
    """Returns the score of fused images [H, W, 3] in 0..1: minus their mean CIELab distance to the reference, uint8 [H, W, 3],
    divided by 10."""
    target = _lab(to_unit(reference))
    return lambda fused: -float(_lengths(_lab(fused) - target).mean()) / 10


def _lab(image):
    """CIELab (D65) of float32 RGB in 0..1 by OpenCV's tables, in a tenth of the time of skimage's formula."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2LAB)


def _lengths(vectors):
    """[H, W, 3] float32 -> [H, W]."""
    return np.sqrt(cv2.transform(vectors * vectors, np.ones((1, 3), np.float32)))


def mef_ssim(under: np.ndarray, over: np.ndarray, reference: Callable = losses.mef_reference) -> Score:
    """Returns the score of fused images [H, W, 3] in 0..1: 100 times their MEF-SSIM with the pair, uint8 [H, W, 3].

    It equals `losses.mef_ssim_score` up to the last digits; OpenCV's separable filter takes less than half the time of
    TensorFlow's convolutions. `reference` is `losses.mef_reference`, also compiled.
    """
    pair = np.stack([np.asarray(losses.rounded_gray(image)) for image in (under, over)])[None]
    # Each pass of `losses` exchanges height and width, so what belongs to windows lies across the exposures of its scale.
    scales = [[np.asarray(x).squeeze(axis=-3) for x in scale] for scale in reference(pair)]
    scales = [(exposures, _across(mean), _across(factor), variance.T) for exposures, mean, factor, variance in scales]
    weights = np.float64(losses.SCALE_WEIGHTS[: len(scales)])

    def rate(fused):
        plane = np.floor(cv2.transform(np.float64(255 * fused), np.float64([losses.LUMA_WEIGHTS])) + 0.5) - 127.5
        qualities = []
        for number, scale in enumerate(scales):
            if number:
                plane = block_means(plane).T
            qualities.append(max(_mef_quality(scale, plane), 1e-6))
        return 100 * float(np.prod(np.power(qualities, weights / weights.sum())))

    return rate


def _across(planes):
    return np.ascontiguousarray(planes.transpose(0, 2, 1))


def _mef_quality(structure, fused):
    """`losses._mef_quality` for one image [H, W]."""
    exposures, means, factors, variance_reference = structure
    mean = _windows(fused)
    covariance = sum(
        factor * (_windows(exposure * fused) - exposure_mean * mean)
        for exposure, exposure_mean, factor in zip(exposures, means, factors, strict=True)
    )
    variance = variance_reference + _windows(fused * fused) - mean * mean
    constant = (0.03 * 255) ** 2
    return ((2 * covariance + constant) / (variance + constant)).mean()


def _windows(plane):
    """Sums of a plane [H, W] under the Gaussian window, wherever it lies inside."""
    border = losses.WINDOW // 2
    return cv2.sepFilter2D(plane, -1, WINDOW_TAPS, WINDOW_TAPS)[border:-border, border:-border]
