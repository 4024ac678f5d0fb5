"""Tone: exposures and radiance, mu-law, and the adaptive gamma correction of HyperP_MB.

    to_radiance, to_exposure, mu_law      the camera of Kalantari's scenes, and the tone mapping that its scores are taken in
    gamma_statistics, adaptive_gamma      adaptive gamma

Exposures and radiance are Kalantari's (Kalantari, Ramamoorthi, "Deep High Dynamic Range Imaging of Dynamic Scenes", ACM TOG
36(4), 2017) as ESBN computes them (Lee, Chung, Cho, IEEE Access 8, 2020; tkd1088/ESBN, make_tfrecord.py and
reconstruction_fusion.py, commit 3f873ab): gamma 2.2, and in float32, which numpy 2 would leave where an exposure is a
float64.

Adaptive gamma is of Im et al., Mathematics 11(7):1620, 2023 (Changi-Im/HyperP_MB, AGC.py, commit 9f676f6). Both functions
look at a gray picture in 0..255 through its mean m and population standard deviation s on the scale 0..1.
In HyperP_MB `gamma_statistics` weighs the terms of the loss, and `adaptive_gamma` prepares pictures for feature matching.

Kept: of adaptive gamma the thresholds, the order of the arithmetic in float64, the truncation to 8 bit (outputs are equal).

Changed: a constant picture, where the original takes the logarithm of 0 and fails, has gamma 1 and stays as it is.
"""

import math

import cv2
import numpy as np

DISPLAY_GAMMA = 2.2


def to_radiance(ldr: np.ndarray, exposure: float | np.ndarray) -> np.ndarray:
    """Returns the radiance that an exposure shows: ldr**2.2 / exposure, float32, 0 to 1 / exposure.

    Args:
        ldr: gamma-encoded values in 0..1, float32 of any shape.
        exposure: 2**stops, above 0; a number, or an array that broadcasts against `ldr`.
    """
    return np.float32(ldr) ** np.float32(DISPLAY_GAMMA) / np.float32(exposure)


def to_exposure(radiance: np.ndarray, exposure: float | np.ndarray) -> np.ndarray:
    """Returns what an exposure shows of the radiance: clip(radiance * exposure, 0, 1)**(1 / 2.2), float32 in 0..1.

    Args:
        radiance: linear values of any shape.
        exposure: as of `to_radiance`.
    """
    return np.clip(np.float32(radiance) * np.float32(exposure), 0, 1) ** np.float32(1 / DISPLAY_GAMMA)


def mu_law(radiance: np.ndarray, mu: float = 5000) -> np.ndarray:
    """Returns log(1 + mu * radiance) / log(1 + mu): 0..1 to 0..1, and above 1 for radiance above 1.

    Args:
        radiance: linear values above -1 / mu, of any shape and float type, which is kept.
        mu: strength.
    """
    return np.log(1 + mu * radiance) / math.log(1 + mu)


def gamma_statistics(gray: np.ndarray) -> float:
    """Returns the gamma for a picture: -log2(s) at low contrast (4 s <= 1/3), otherwise exp((1 - (m + s)) / 2).

    Args:
        gray: [H, W], 0..255, uint8 or float32.

    Returns:
        A positive number; above 1 darkens. 1 for a constant picture.
    """
    return 1.0 if gray.min() == gray.max() else _gamma_and_mean(gray)[0]


def adaptive_gamma(gray: np.ndarray) -> np.ndarray:
    """Corrects a picture by its own gamma g: v**g, and, of a dark picture (m < 0.5), v**g / (v**g + (1 - v**g) m**g).

    Args:
        gray: [H, W] uint8.

    Returns:
        [H, W] uint8.
    """
    if gray.min() == gray.max():
        return gray.copy()
    gamma, mean = _gamma_and_mean(gray)
    # The result depends on the level alone, so 256 values are computed instead of one for each pixel.
    power = (np.arange(256) / 255) ** gamma
    level = power
    if mean < 0.5:
        level = 1 / (1 + (power + (1 - power) * mean**gamma - 1)) * power
    return cv2.LUT(gray, (level * 255).astype(np.uint8))


def _gamma_and_mean(gray):
    mean, deviation = (value.item() for value in cv2.meanStdDev(gray / 255))
    contrast = abs((mean + 2 * deviation) - (mean - 2 * deviation))
    gamma = -math.log2(deviation) if contrast <= 1 / 3 else math.exp((1 - (mean + deviation)) / 2)
    return gamma, mean
