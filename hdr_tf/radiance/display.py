"""Radiance for displays: tone mapping, and how much brighter a screen of high dynamic range shows it.

`tone_map` by fusion makes exposures of the radiance and fuses them with the default fusion system, the same as it does with
photographs.
"""

import math

import numpy as np

from hdr_tf import systems
from hdr_tf.image import color, tone
from hdr_tf.image.depth import from_unit, to_rgb
from hdr_tf.io.hdr_files import PQ_PEAK, SDR_WHITE

TONEMAPS = ("fusion", *tone.OPERATORS)
PEAK = 1000.0  # cd/m², what screens of phones and laptops reach in highlights

_STEP = 2.0  # stops between virtual exposures
_MOST = 9
_WHITE = 99.9  # percentile of the brightest channels that the darkest of them shows as white
_DARK, _GRAY = 10, 0.18  # percentile of luminance that the brightest of them shows as middle gray


def check_tonemap(tonemap: str) -> None:
    """Raises ValueError if it is not one of `TONEMAPS`."""
    if tonemap not in TONEMAPS:
        raise ValueError(f"tonemap: expected {', '.join(TONEMAPS)}, found {tonemap!r}")


def check_peak(peak: float) -> None:
    """Raises ValueError if a screen cannot have this peak, in cd/m²."""
    if not SDR_WHITE < peak <= PQ_PEAK:
        raise ValueError(f"peak: expected above {SDR_WHITE:g} cd/m², the white of SDR, and up to {PQ_PEAK}, found {peak:g}")


def tone_map(radiance: np.ndarray, tonemap: str = "fusion", white: float | None = None) -> np.ndarray:
    """Returns an image for a display, [H, W, 3] uint8.

    Args:
        radiance: [H, W, 3] float32 of any scale; negative values count as 0.
        tonemap: one of `TONEMAPS`.
        white: radiance that is white, except by fusion, which takes the 99.9th percentile of the brightest channels; so does
            None.
    """
    check_tonemap(tonemap)
    radiance = np.maximum(radiance, 0)
    if tonemap == "fusion":
        images = [from_unit(tone.to_exposure(radiance, 2.0**stops), np.uint8) for stops in virtual_stops(radiance)]
        runner = systems.load_runner(systems.names("fusion")[0])
        runner.prepare(len(images), *radiance.shape[:2], True)
        return to_rgb(runner.fuse(images))
    white = white or _white(radiance)
    return from_unit(tone.tone_mapped(np.minimum(radiance / np.float32(white), 1), tonemap), np.uint8)


def virtual_stops(radiance: np.ndarray) -> np.ndarray:
    """Returns the exposures of radiance, [H, W, 3] at least 0, that show all of it, in stops and dark to bright: 2 to 9, about
    two stops apart."""
    luminance = color.luminance(radiance)
    luminance = luminance[luminance > 0]
    first = -math.log2(_white(radiance))
    last = math.log2(_GRAY / np.percentile(luminance, _DARK)) if luminance.size else first
    last = min(max(last, first + _STEP), first + _STEP * (_MOST - 1))
    return np.linspace(first, last, 1 + math.ceil((last - first) / _STEP))


def gain(radiance: np.ndarray, diffuse_white: float = 1.0, peak: float = PEAK) -> np.ndarray:
    """Returns by how much brighter a screen shows each pixel than an SDR image does, [H, W] float32 in 1..peak / `SDR_WHITE`.

    What is no brighter than diffuse white stays as it is; brighter light is brighter by as much, up to the peak. One factor for
    all channels keeps the colours.

    Args:
        radiance: [H, W, 3] float32.
        diffuse_white: the radiance of a white surface, up to which SDR's range is enough.
        peak: of the screen, in cd/m², above `SDR_WHITE`.
    """
    check_peak(peak)
    return np.clip(radiance.max(axis=2) / np.float32(diffuse_white), 1, np.float32(peak / SDR_WHITE))


def _white(radiance):
    return float(np.percentile(radiance.max(axis=2), _WHITE)) or 1.0
