"""Tone curves: exposures and radiance, mu-law, OpenCV's tone mapping, and the adaptive gamma correction of HyperP_MB.

Exposures and radiance are those of Kalantari, Ramamoorthi, "Deep High Dynamic Range Imaging of Dynamic Scenes", ACM TOG 36(4),
2017, as computed by ESBN (Lee, Chung, Cho, IEEE Access 8, 2020; tkd1088/ESBN, make_tfrecord.py and reconstruction_fusion.py,
commit 3f873ab): gamma 2.2, in float32. The casts keep float32 where the exposure is a float64, which NumPy 2 would propagate.

Adaptive gamma is from Im et al., Mathematics 11(7):1620, 2023 (Changi-Im/HyperP_MB, AGC.py, commit 9f676f6). It depends on the
mean m and the population standard deviation s of a gray image, scaled to 0..1. Kept: the thresholds, the order of the
arithmetic in float64, the truncation to 8 bit (outputs are equal). Changed: a constant image has gamma 1 and stays as it is,
where the original fails on the logarithm of 0.
"""

import math

import cv2
import numpy as np

DISPLAY_GAMMA = 2.2
_OPENCV = {"reinhard": cv2.createTonemapReinhard, "drago": cv2.createTonemapDrago, "mantiuk": cv2.createTonemapMantiuk}
OPERATORS = ("mu_law", *_OPENCV)


def to_radiance(ldr: np.ndarray, exposure: float | np.ndarray) -> np.ndarray:
    """Returns the radiance of an exposure: ldr**2.2 / exposure, float32, 0 to 1 / exposure.

    `ldr` is in 0..1, gamma-encoded, of any shape; `exposure` is 2**stops, a number or an array that broadcasts against `ldr`.
    """
    return np.float32(ldr) ** np.float32(DISPLAY_GAMMA) / np.float32(exposure)


def to_exposure(radiance: np.ndarray, exposure: float | np.ndarray) -> np.ndarray:
    """Returns the image of the radiance at an exposure, clip(radiance * exposure, 0, 1)**(1 / 2.2), float32 in 0..1."""
    return np.clip(np.float32(radiance) * np.float32(exposure), 0, 1) ** np.float32(1 / DISPLAY_GAMMA)


def mu_law(radiance: np.ndarray, mu: float = 5000) -> np.ndarray:
    """Returns log(1 + mu * r) / log(1 + mu) of radiance r, above -1 / mu: 0..1 to 0..1, above 1 for radiance above 1."""
    return np.log(1 + mu * radiance) / math.log(1 + mu)


def tone_mapped(radiance: np.ndarray, operator: str) -> np.ndarray:
    """Returns radiance, [H, W, 3] float32 in 0..1, for a display, float32 in 0..1; `operator` is one of `OPERATORS`.

    Those of OpenCV (Reinhard and Devlin 2005; Drago et al. 2003; Mantiuk et al. 2006) have its defaults and gamma 2.2.
    """
    if operator == "mu_law":
        return np.float32(mu_law(radiance))
    if radiance.min() == radiance.max():  # which they divide by 0
        return to_exposure(radiance, 1)
    shown = _OPENCV[operator](DISPLAY_GAMMA).process(np.ascontiguousarray(radiance, np.float32))
    return np.clip(np.nan_to_num(shown), 0, 1)


def gamma_statistics(gray: np.ndarray) -> float:
    """Returns the gamma for an image [H, W] in 0..255: -log2(s) at low contrast (4 s <= 1/3), otherwise exp((1 - (m + s)) / 2).

    A gamma above 1 darkens; it is 1 for a constant image.
    """
    return 1.0 if gray.min() == gray.max() else _gamma_and_mean(gray)[0]


def adaptive_gamma(gray: np.ndarray) -> np.ndarray:
    """Corrects an image, [H, W] uint8, by its own gamma g: v**g, or if it is dark (m < 0.5) v**g / (v**g + (1 - v**g) m**g)."""
    if gray.min() == gray.max():
        return gray.copy()
    gamma, mean = _gamma_and_mean(gray)
    # The result depends only on the level, so 256 values are computed instead of one per pixel.
    level = (np.arange(256) / 255) ** gamma
    if mean < 0.5:
        level = 1 / (1 + (level + (1 - level) * mean**gamma - 1)) * level
    return cv2.LUT(gray, (level * 255).astype(np.uint8))


def _gamma_and_mean(gray):
    mean, deviation = (value.item() for value in cv2.meanStdDev(gray / 255))
    contrast = abs((mean + 2 * deviation) - (mean - 2 * deviation))
    gamma = -math.log2(deviation) if contrast <= 1 / 3 else math.exp((1 - (mean + deviation)) / 2)
    return gamma, mean
