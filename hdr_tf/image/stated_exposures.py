"""Exposures that contradict the images: times given as stops, signs reversed, brackets that a program exported.

Two exposures are compared twice, at equal ranks of their values, which motion hardly changes, and pixel by pixel, which it
changes in another way. Only what both show counts, of values that neither clips nor loses in the dark.

Where the response is known to be right (linear, PQ, HLG), steps are measured and corrected. Otherwise exposures and response
cannot both be measured: under gamma 2.2, the steps of 2 stops of real brackets look like 1.5 to 4.6. Then only what no response
explains is a contradiction.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from hdr_tf.image import response as responses
from hdr_tf.image.response import Response

RESIDUAL = 0.5 * math.log(2)  # rms of the log ratio above which no response explains the exposures: half a stop
MOST_STOPS = 30  # of a given exposure: float32 holds the squares of their ratios

_RANKS = np.linspace(0.005, 0.995, 199)
_LEAST_RANKS = 5
_LEAST_VALUES = 200
_DARK, _CLIPPED = 0.002, 0.9  # linear values between which a known response is measured
_DARK_VALUE, _CLIPPED_VALUE = 8 / 255, 0.95  # encoded values of another one
_SAME_STEP = 0.5  # stops, between the two measurements
_WRONG, _LOGGED = 1.0, 1 / 6  # stops
_REVERSED = 0.25  # stops that an unknown response shows the wrong way
_UNEQUAL = 1.5  # stops that an unknown response shows between equal exposures
_FLATTER, _STEEPER = 8, 4  # times that the steps of an unknown response look smaller or larger in all, at most
_PIXELS = 60_000  # that are looked at, about


class Contradiction(NamedTuple):
    """Two exposures and the stops between them."""

    short: int
    long: int
    stated: float
    shown: float


class Checked(NamedTuple):
    """What `check` returns."""

    contradiction: Contradiction | None
    exposures: np.ndarray  # [N], corrected if the response is right
    corrected: list[Contradiction]  # steps that were corrected by more than 1/6 stop


def from_stops(stops: Sequence[float], count: int) -> np.ndarray:
    """Returns the exposures of so many images, [N] float64: 2**stops. Raises ValueError for another number of stops, and for
    those that are not finite or beyond `MOST_STOPS`."""
    listed = ", ".join(map(str, stops))
    if len(stops) != count or not np.isfinite(np.float64(stops)).all():
        raise ValueError(f"expected {count} exposures (stops), one for each image, found {listed}")
    if np.abs(stops).max() > MOST_STOPS:
        raise ValueError(f"expected exposures of -{MOST_STOPS} to {MOST_STOPS} stops (log2), found {listed}")
    return 2 ** np.float64(stops)


def confirmed(
    images: np.ndarray, exposures: Sequence[float] | np.ndarray, response: Response, right: bool, names: Sequence[str]
) -> np.ndarray:
    """Returns exposures, [N], as `check` corrects them, which is logged; ValueError if the images contradict them.

    Args:
        images, exposures, response, right: see `check`.
        names: of the images, for messages.
    """
    checked = check(images, exposures, response, right)
    if checked.contradiction:
        short, long, stated, shown = checked.contradiction
        under = "" if right else f" (under {response.name})"
        raise ValueError(
            f"{names[long]}: EXIF or --exposures say {stated:+.2f} stops from {names[short]} to it, the images "
            f"show {shown:+.2f}{under}: give the right --exposures (stops, log2), or --trust_exposures"
        )
    for short, long, stated, shown in checked.corrected:
        logging.info("%s: stated as %+.2f stops from %s, shown as %+.2f: corrected", names[long], stated, names[short], shown)
    return checked.exposures


def check(images: np.ndarray, exposures: Sequence[float], response: Response, right: bool) -> Checked:
    """Compares exposures with images.

    Args:
        images: [N, H, W, 3] encoded, see `image.response.reduced`.
        exposures: [N], factors.
        response: how the images are encoded.
        right: whether that is known; otherwise it is assumed or only names the encoding for display.
    """
    exposures = np.float64(exposures)
    order = np.argsort(exposures, kind="stable")
    step = max(1, math.isqrt(images[0].size // 3 // _PIXELS))
    linear = [response.decode(image[::step, ::step]) for image in images]
    pairs = list(zip(order[:-1], order[1:], strict=True))
    stated = [math.log2(exposures[long] / exposures[short]) for short, long in pairs]
    limits = (_DARK, _CLIPPED) if right else response.decode(np.float32([_DARK_VALUE, _CLIPPED_VALUE]))
    shown = [_shown(linear[short], linear[long], *limits) for short, long in pairs]
    found = [Contradiction(int(a), int(b), s, m) for (a, b), s, m in zip(pairs, stated, shown, strict=True) if m is not None]
    if not right:
        return Checked(_unexplained(found), exposures, [])
    for step in found:
        reverse = step.stated > _LOGGED and step.shown < -_LOGGED
        if reverse or abs(step.shown - step.stated) > _WRONG:
            return Checked(step, exposures, [])
    corrected = [step for step in found if abs(step.shown - step.stated) > _LOGGED]
    if corrected:
        changes = {step.long: step.shown - step.stated for step in corrected}  # of the step up to an exposure
        moved, fixed = np.empty(len(exposures)), order[(len(order) - 1) // 2]
        moved[order] = np.cumsum([changes.get(int(i), 0.0) for i in order])
        exposures = responses.refine_exposures(response.decode(images), exposures * 2 ** (moved - moved[fixed]), int(fixed))
    return Checked(None, exposures, corrected)


def _unexplained(steps):
    """The step that is wrong whatever the response, None if there is none."""
    for step in steps:
        if step.stated > _LOGGED and step.shown < -_REVERSED or step.stated <= _LOGGED and abs(step.shown) > _UNEQUAL:
            return step
    stated, shown = (sum(values) for values in zip(*[step[2:] for step in steps], strict=True)) if steps else (0, 0)
    if max(stated, shown) > 1 and not stated / _FLATTER < shown < stated * _STEEPER:
        return max(steps, key=lambda step: abs(step.shown - step.stated))
    return None


def _shown(short, long, low, high):
    """Stops from one linear image to another, by values between two limits; None if the images share too few of them, or if the
    two measurements differ: something moved too much."""
    ranks = np.stack([np.quantile(image, _RANKS) for image in (short, long)])
    ranks = ranks[:, ((ranks > low) & (ranks < high)).all(axis=0)]
    both = (short > low) & (short < high) & (long > low) & (long < high)
    if ranks.shape[1] < _LEAST_RANKS or np.count_nonzero(both) < _LEAST_VALUES:
        return None
    by_rank = np.median(np.log2(ranks[1] / ranks[0])).item()
    by_pixel = np.median(np.log2(long[both] / short[both])).item()
    if abs(by_rank - by_pixel) > _SAME_STEP * max(1, abs(by_rank)):
        return None
    return by_rank
