"""The simulated camera: from radiance to the exposures that a camera captures, with its response, noise and rounding.

Radiance is float32 [H, W, 3], linear RGB, >= 0, of any scale. Exposures are integers [N, H, W, 3], RGB, darkest first.
Everything random comes from the np.random.Generator that is passed in: the same seed gives the same pixels.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from hdr_tf.image import tone

MIDDLE_GRAY = 0.18

# A camera response is stored as its inverse: the linear value (0..1) of each of these evenly spaced encoded values. The
# inverse is smooth at 0, where the slope of the response is infinite.
ENCODED_LEVELS = np.linspace(0, 1, 1024)
GAMMA_RESPONSE = ENCODED_LEVELS**tone.DISPLAY_GAMMA
CURVES = ("symmetric", "skewed")  # contrast curves of `random_response`


def random_response(rng: np.random.Generator, curves: Literal["symmetric", "skewed"] = "symmetric") -> np.ndarray:
    """Returns a random camera response: smooth and monotone around gamma 2.2, with the contrast curve that cameras add.

    The curve is steeper in between than at both ends. Six in ten curves have a black point, below which all is black.

    Args:
        rng: draws the response.
        curves: "symmetric": the contrast is highest at the encoded value 0.5. "skewed": at 0.25 to 0.4, which fits the colours
            of photographs better, see docs/pyramid.md.
    """
    gamma = rng.uniform(1.8, 2.6)
    black = rng.uniform(0, 0.03) if rng.random() < 0.6 else 0
    tilt, strength = rng.normal(0, 0.25), rng.uniform(-0.2, 1)
    # Encoded value -> gamma-encoded value: a positive slope everywhere, so the curve cannot fold.
    angle = np.pi * ENCODED_LEVELS ** (rng.uniform(0.5, 0.75) if curves == "skewed" else 1)
    slope = np.exp(tilt * np.cos(angle) + strength * np.cos(2 * angle))
    curve = np.concatenate([[0], np.cumsum(slope[1:] + slope[:-1])])
    return (1 - (1 - black) * (1 - curve / curve[-1])) ** gamma


def encode(linear: np.ndarray, response: np.ndarray = GAMMA_RESPONSE) -> np.ndarray:
    """Applies a camera response: linear values, which are clipped to 0..1, become encoded values in 0..1."""
    return np.interp(linear, response, ENCODED_LEVELS).astype(np.float32)


def decode(encoded: np.ndarray, response: np.ndarray = GAMMA_RESPONSE) -> np.ndarray:
    """Inverts `encode`: encoded values in 0..1 become linear values in 0..1."""
    return np.interp(encoded, ENCODED_LEVELS, response).astype(np.float32)


def exposure_values(radiance: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns exposure offsets in stops (0 as in `bracket`) as photographers set them, increasing, float32 [count].

    The darkest exposure keeps the highlights (it maps the 70th to 99.5th percentile to 0.2 to 1 of the range), in four of
    ten cases with up to 2.5 stops in reserve. The brightest lifts the shadows (it maps the 1st to 50th percentile to 0.02 to
    0.25), but does not overexpose half of the image by more than 0.7 stops. The two are 1.5 to 11 stops apart; the others
    are drawn in between.

    Args:
        radiance: not black everywhere.
        count: number of exposures, 2 or more.
        rng: draws percentiles, targets and the exposures in between.
    """
    luminance = radiance.mean(axis=2)
    # In stops above the value that ev 0 brings to 1. The thousandth keeps black pixels from asking for endless exposure.
    stops = np.log2(np.maximum(luminance, 1e-3 * luminance.mean()) * MIDDLE_GRAY / typical_luminance(radiance))
    shadows, highlights = np.percentile(stops, [1, 10, 30, 50]), np.percentile(stops, [70, 90, 97, 99.5])
    darkest = np.log2(rng.uniform(0.2, 1)) - rng.choice(highlights, p=[0.1, 0.2, 0.3, 0.4])
    if rng.random() < 0.4:
        darkest -= rng.uniform(0, 2.5)
    brightest = np.log2(rng.uniform(0.02, 0.25)) - rng.choice(shadows)
    brightest = min(brightest, rng.uniform(-1.5, 0.7) - shadows[-1])
    brightest = darkest + np.clip(brightest - darkest, rng.uniform(1.5, 4), 11)
    between = rng.uniform(darkest, brightest, count - 2)
    return np.sort([darkest, *between, brightest]).astype(np.float32)


def bracket(
    radiance: np.ndarray,
    ev: Sequence[float],
    rng: np.random.Generator,
    response: np.ndarray = GAMMA_RESPONSE,
    full_well: float = 20_000,
    read_noise: float = 5,
    depth: int = 8,
) -> np.ndarray:
    """Returns the exposures that a camera captures of the radiance, in the order of `ev`.

    Args:
        radiance: not black everywhere.
        ev: exposure offsets in stops; at 0 the image's geometric mean luminance falls on middle gray (18 %).
        rng: draws the noise.
        response: camera response, see `random_response`.
        full_well: electrons of a saturated pixel. Photons arrive with Poisson noise, so the variance of the noise is
            signal / full_well; `math.inf` for none.
        read_noise: standard deviation of the sensor's own noise, in electrons.
        depth: 8 (uint8) or 16 (uint16) bits.
    """
    if depth not in (8, 16):
        raise ValueError(f"expected a depth of 8 or 16 bits, found {depth}")
    scale = MIDDLE_GRAY / typical_luminance(radiance)
    exposures = []
    for stops in ev:
        signal = radiance * np.float32(scale * 2.0**stops)
        variance = np.minimum(signal, 1) / full_well + (read_noise / full_well) ** 2
        signal = signal + np.sqrt(variance) * rng.standard_normal(signal.shape, dtype=np.float32)
        exposures.append(_to_integers(encode(signal, response), np.uint8 if depth == 8 else np.uint16))
    return np.stack(exposures)


def photograph(
    radiance: np.ndarray, exposure: float, rng: np.random.Generator, full_well: float = 10_000, read_noise: float = 5e-4
) -> np.ndarray:
    """Returns the image, uint16 [H, W, 3], of a camera of gamma 2.2: clip(radiance * exposure + noise, 0, 1)**(1 / 2.2).

    Args:
        radiance: of any scale.
        exposure: a pixel saturates where radiance * exposure is 1.
        rng: draws the noise, normal with variance signal / full_well + read_noise**2.
        full_well: electrons of a saturated pixel; `math.inf` for no shot noise.
        read_noise: standard deviation of the sensor's own noise, 1 for saturation.
    """
    signal = radiance * np.float32(exposure)
    deviation = np.sqrt(np.minimum(signal, 1) / np.float32(full_well) + np.float32(read_noise**2))
    signal += deviation * rng.standard_normal(signal.shape, dtype=np.float32)
    return _to_integers(tone.to_exposure(signal, 1), np.uint16)


def random_settings(rng: np.random.Generator) -> dict:
    """Returns random arguments of `develop`, which a camera keeps for all exposures; JPEG six times in ten."""
    saturation = rng.uniform(0.9, 1.5)
    sharpening = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0
    jpeg = int(rng.integers(80, 99)) if rng.random() < 0.6 else None
    return {"saturation": saturation, "sharpening": sharpening, "jpeg": jpeg}


def develop(exposures: np.ndarray, saturation: float, sharpening: float, jpeg: int | None) -> np.ndarray:
    """Returns the exposures (uint8) as a camera delivers them: more or less saturated, sharpened and, with a quality of `jpeg`,
    through JPEG."""
    developed = []
    for exposure in exposures.astype(np.float32):
        exposure = saturated(exposure, saturation)
        exposure += sharpening * (exposure - cv2.GaussianBlur(exposure, (0, 0), 1))
        exposure = (np.clip(exposure, 0, 255) + 0.5).astype(np.uint8)
        if jpeg:
            _, data = cv2.imencode(".jpg", exposure[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg])
            exposure = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        developed.append(exposure)
    return np.stack(developed)


def saturated(pixels: np.ndarray, saturation: float) -> np.ndarray:
    """Returns float pixels [..., 3] whose distances from the mean of their channels are multiplied; they are not clipped."""
    gray = pixels.mean(axis=-1, keepdims=True)
    return gray + saturation * (pixels - gray)


def typical_luminance(radiance: np.ndarray) -> float:
    """Returns the geometric mean of luminance + a hundredth of its mean, which keeps black pixels from deciding."""
    luminance = radiance.mean(axis=2)
    if not luminance.any():
        raise ValueError("expected radiance with light in it, found zeros only")
    return np.exp(np.log(luminance + 0.01 * luminance.mean()).mean())


def _to_integers(encoded, dtype):
    """Rounds values in 0..1 to integers, halves up: the one place where a synthetic exposure loses precision."""
    return (encoded * np.iinfo(dtype).max + 0.5).astype(dtype)
