"""How true the colours of a fused image are, compared with those that one ideal exposure of the same brightness shows.

A fused image may be darker or brighter than any exposure, so its colours are compared at its own luma (ITU-R BT.601, of encoded
values): the truth has the luma of each of its pixels. Because a dark colour is a small error, all methods are also compared at
one common luma. Images are float [..., 3] RGB in 0..1, lumas [...] in 0..1.
"""

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from hdr_tf.io.brackets import LUMA
from hdr_tf.synthesis import camera

CLIPPED, DARK = 250 / 255, 0.1  # any channel from which on, luma below which an exposure does not show a colour
_GRAY = 1.0  # mean C* below which a truth has no hue
CLASSES = ("shown", "clipped", "dark", "rest")  # see `classes`
_STOPS, _STEPS = 40, 1024  # range of exposures, around one whose largest channel is 1; steps of each stop
_ITERATIONS = 18  # bisections of the range, to less than a step


def luma(pixels: np.ndarray) -> np.ndarray:
    """Returns the luma of pixels [..., 3]."""
    return pixels @ np.array(LUMA)


def at_luma(pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the image as another exposure would show it: times a factor, then pulled into gamut; gray where it is black."""
    before = luma(pixels)[..., None]
    factor = np.divide(target[..., None], before, out=np.zeros_like(before), where=before > 0)
    return _in_gamut(factor * pixels + np.where(before > 0, 0, target[..., None]), target)


def ideal(radiance: np.ndarray, response: np.ndarray, saturation: float, target: np.ndarray) -> np.ndarray:
    """Returns what one unclipped exposure of the radiance shows that is as long, for each pixel, as its luma demands.

    Above 1 the response continues as a power law. What is out of gamut loses chroma and no luma. Black radiance is gray.

    Args:
        radiance: [H, W, 3] linear RGB, >= 0, of any scale.
        response, saturation: of the camera, see `camera.random_response` and `camera.develop`.
        target: luma of the result, [H, W] in 0..1.
    """
    largest = radiance.max(axis=-1, keepdims=True)
    radiance = np.divide(radiance, largest, out=np.ones(radiance.shape), where=largest > 0)
    light = np.log2(np.maximum(radiance, 2.0**-_STOPS))
    # The response as a table of the logarithm, several times as fast as `camera.encode` at every step.
    linear = np.exp2(np.arange(-_STOPS * _STEPS, _STOPS * _STEPS) / _STEPS)
    power = np.log(camera.ENCODED_LEVELS[-2]) / np.log(response[-2])
    encoded = np.where(linear > 1, linear**power, np.interp(linear, response, camera.ENCODED_LEVELS))

    def exposed(stops):
        index = np.maximum((light + stops[..., None] + _STOPS) * _STEPS, 0).astype(np.int32)
        return camera.saturated(encoded[index], saturation)

    low, high = (np.full(target.shape, float(end)) for end in (-_STOPS, _STOPS - 1))
    for _ in range(_ITERATIONS):  # luma increases with the exposure, because saturation is at most 1.5
        middle = (low + high) / 2
        above = luma(exposed(middle)) > target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return _in_gamut(exposed((low + high) / 2), target)


def classes(exposures: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what the exposures [N, H, W, 3] show of each pixel, a bool mask [H, W] for each of `CLASSES`.

    shown: in some exposure the luma is at least `DARK` and no channel reaches `CLIPPED`. Elsewhere, clipped: a channel does in
    all; dark: the luma is lower in all; rest: some exposures are clipped and the others dark.
    """
    clipped, dark = exposures.max(axis=-1) >= CLIPPED, luma(exposures) < DARK
    shown = (~clipped & ~dark).any(axis=0)
    masks = shown, ~shown & clipped.all(axis=0), ~shown & dark.all(axis=0)
    return dict(zip(CLASSES, (*masks, ~np.any(masks, axis=0)), strict=True))


class Comparison:
    """The pixels of an image and of its truth in CIELAB of sRGB."""

    def __init__(self, image: np.ndarray, truth: np.ndarray):
        lab, true = rgb2lab(image), rgb2lab(truth)
        self._error = deltaE_ciede2000(true, lab)
        self._difference = (lab - true)[..., 1:]
        self._chroma, self._true = (np.hypot(x[..., 1], x[..., 2]) for x in (lab, true))
        angle = np.abs(np.arctan2(lab[..., 2], lab[..., 1]) - np.arctan2(true[..., 2], true[..., 1]))
        self._angle = np.degrees(np.minimum(angle, 2 * np.pi - angle))

    def error(self, where) -> float | None:
        """Mean CIEDE2000."""
        return _mean(self._error[where])

    def chroma_ratio(self, where) -> float | None:
        """Mean C* over the true one; None where the truth is nearly gray."""
        true = _mean(self._true[where])
        return None if true is None or true < _GRAY else _mean(self._chroma[where]) / true

    def hue_error(self, where) -> float | None:
        """Mean angle between the hues in degrees, weighted by the true C*; None where the truth is nearly gray."""
        weights = self._true[where]
        return None if not weights.size or weights.mean() < _GRAY else float(np.average(self._angle[where], weights=weights))

    def shift(self, where) -> tuple[float | None, float | None]:
        """Mean a* and b* minus the true ones."""
        return tuple(_mean(self._difference[where][..., i]) for i in (0, 1))


def _in_gamut(pixels, target):
    """Pulls colours of this luma towards gray until all channels are in 0..1."""
    gray = np.clip(target, 0, 1)[..., None]
    chroma = pixels - luma(pixels)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(chroma > 0, (1 - gray) / chroma, -gray / chroma)
    share = np.nanmin(np.where(chroma == 0, 1, room), axis=-1, keepdims=True)
    return np.clip(gray + np.minimum(share, 1) * chroma, 0, 1)


def _mean(values):
    return float(values.mean()) if values.size else None
