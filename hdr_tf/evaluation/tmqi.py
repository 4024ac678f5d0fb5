"""TMQI, how good a tone-mapped image is: Yeganeh, Wang, "Objective Quality Assessment of Tone-Mapped Images", IEEE TIP 22(2),
2013.

Two numbers make one. Structural fidelity compares the local contrast of the image with that of the radiance at five scales:
contrast that is seen in one and not in the other counts against it. Naturalness says how usual the image's brightness and
contrast are among photographs.

Kept from the authors' MATLAB program (TMQI.m 1.0): all constants; the luminance is rescaled to 0..2**32 - 1 and the image's
luma stays in 0..255; border blocks of the naturalness are filled up with zeros. Scores are equal to six digits. Changed:
negative fidelity at a scale counts as 0, where the program's score is a complex number.
"""

from typing import NamedTuple

import numpy as np
import scipy

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_SHARE, _FIDELITY, _NATURALNESS = 0.8012, 0.3046, 0.7088  # of fidelity in the score, and the exponents
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_FINEST = 16.0  # cycles per degree, halved from scale to scale
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = 0.01, 10.0
_BRIGHTNESS = scipy.stats.norm(115.94, 27.99)
_CONTRAST = scipy.stats.beta(4.4, 10.1)
_LARGEST_CONTRAST = 64.29
MIN_SIDE = _WINDOW * 2 ** (len(_SCALES) - 1)  # pixels


class Score(NamedTuple):
    """All are 0..1, larger is better."""

    quality: float
    fidelity: float
    naturalness: float


def tmqi(radiance: np.ndarray, shown: np.ndarray) -> Score:
    """Scores a tone-mapped image, [H, W, 3] uint8, by its radiance, [H, W, 3] of any scale, at least 0 and not constant. H and
    W are at least `MIN_SIDE`."""
    if radiance.shape != shown.shape or min(shown.shape[:2]) < MIN_SIDE:
        expected = f"two images of one size, at least {MIN_SIDE} x {MIN_SIDE}"
        raise ValueError(f"expected {expected}, found {list(radiance.shape)} and {list(shown.shape)}")
    luma = shown @ _LUMINANCE
    luminance = radiance.astype(np.float64) @ _LUMINANCE
    luminance -= luminance.min()
    luminance *= np.round((2**32 - 1) / luminance.max())
    fidelity = _fidelity(luminance, luma)
    naturalness = _naturalness(luma)
    quality = _SHARE * fidelity**_FIDELITY + (1 - _SHARE) * naturalness**_NATURALNESS
    return Score(float(quality), float(fidelity), float(naturalness))


def _fidelity(luminance, luma):
    product = 1.0
    for i, exponent in enumerate(_SCALES):
        product *= max(0.0, _local_fidelity(luminance, luma, _FINEST / 2**i)) ** exponent
        luminance, luma = _halved(luminance), _halved(luma)
    return product


def _local_fidelity(luminance, luma, frequency):
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    inside = (slice(_WINDOW // 2, -(_WINDOW // 2)),) * 2

    def mean(image):
        return scipy.ndimage.correlate1d(scipy.ndimage.correlate1d(image, window, 0), window, 1)[inside]

    first, second = mean(luminance), mean(luma)
    deviations = [
        np.sqrt(np.maximum(mean(image * image) - local**2, 0)) for image, local in ((luminance, first), (luma, second))
    ]
    covariance = mean(luminance * luma) - first * second
    sensitivity = 100 * 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))  # Mannos and Sakrison
    threshold = 128 / (1.4 * sensitivity)
    visible, visible_luma = (scipy.stats.norm.cdf(deviation, threshold, threshold / 3) for deviation in deviations)
    contrast = (2 * visible * visible_luma + _C1) / (visible**2 + visible_luma**2 + _C1)
    return np.mean(contrast * (covariance + _C2) / (deviations[0] * deviations[1] + _C2))


def _halved(image):
    """Means of 2 x 2 pixels; at an odd border the last ones count twice."""
    image = np.pad(image, [(0, side % 2) for side in image.shape], "symmetric")
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def _naturalness(luma):
    height, width = luma.shape
    padded = np.pad(luma, [(0, -side % _WINDOW) for side in luma.shape])
    blocks = padded.reshape(padded.shape[0] // _WINDOW, _WINDOW, padded.shape[1] // _WINDOW, _WINDOW)
    deviations = blocks.std(axis=(1, 3), ddof=1).repeat(_WINDOW, 0).repeat(_WINDOW, 1)[:height, :width]
    mode = (4.4 - 1) / (4.4 + 10.1 - 2)
    contrast = _CONTRAST.pdf(deviations.mean() / _LARGEST_CONTRAST) / _CONTRAST.pdf(mode)
    return contrast * _BRIGHTNESS.pdf(luma.mean()) / _BRIGHTNESS.pdf(_BRIGHTNESS.mean())
