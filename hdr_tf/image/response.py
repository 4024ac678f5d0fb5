"""Camera responses: from the values in a file to linear light, where the response is known or can be measured.

`Response` is a curve that all three channels share, so gray stays gray. `estimate` measures it from brackets of known exposure
after P. Debevec, J. Malik, "Recovering high dynamic range radiance maps from photographs", SIGGRAPH 1997: a point of the scene
with the values a and b in two exposures demands g(b) - g(a) = log(exposure of b / exposure of a), where g is the logarithm of
the linear value. Changed, to be robust to what moves and to noise: pairs of neighbouring exposures are aligned by optical flow,
and what counts is the centre of all pairs of about the same value, not single pixels; g is 2.2 log(value) plus a smooth
deviation, and follows the curve of a typical camera where no pair shows it.

`refine_exposures` and `estimate_exposures` measure the opposite: exposures where the response is known. Both at once cannot be
measured: any power of the response fits other exposures equally well.

Encoded images are uint8, uint16 or float32 in 0..1; linear images are float32 in 0..1, where 1 is the exposure's clip.
Exposures are factors, 2**stops.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy

from hdr_tf.image import optical_flow, tone
from hdr_tf.image.depth import from_unit, to_unit

DISAGREEMENT = 0.15  # rms of the log ratio above which exposures do not fit a response

_DARKEST = 5 / 255  # encoded values up to which `dark_error` looks
_SIDE = 1000  # pixels of the longer side of the images that are measured
_POINTS = 100_000  # at most, of a pair
_FLAT = 0.04  # range of 3 x 3 encoded values; steeper pixels suffer from the smallest misalignment
_CLIPPED = 0.97  # of the encoded values; the largest sharpen and chroma subsampling can move away from clipping
_DARK = 3 / 255
_BINS = 64
_LEAST = 30  # values in a bin
_LEAST_BINS = 12  # in all pairs
_LEAST_RATIO = math.log(1.2)  # of exposures that count as different
_KNOTS = 41
_SMOOTHNESS, _FLATNESS = 0.3, 0.01  # of the deviation: penalties on its second and first differences
# Encoded values and the deviation there, as the JPEG files of a Canon EOS 5D Mark II show it (nine exposures of one bracket).
# Other cameras' contrast curves have the same shape; it decides only what the pairs leave open.
_TYPICAL = (
    (0, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
    (3.8, 3.1, 2.45, 1.9, 1.5, 1.1, 0.8, 0.3, 0.05, 0, -0.05, -0.1, -0.03, 0.23, 0.53),
)
_LARGEST_ERROR = math.log(1.5)  # of the ratio of two nominal exposures
_OUTLIER = 3  # standard deviations
_RATIO_ERROR = 0.01  # standard deviation of the log ratio of two exposures; weak, where the values show another ratio
_ROUNDS, _SETTLED = 3, 0.02  # alignments, at most; rms of the log ratio of the last two responses


@dataclasses.dataclass(frozen=True, eq=False)
class Response:
    """The curve between encoded values in 0..1 and linear values in 0..1; strictly increasing, 0 to 0 and 1 to 1.

    Attributes:
        name: "gamma" (2.2), "srgb", "linear", "pq" (SMPTE ST 2084, 1 is 10,000 cd/m2) or "hlg" (ARIB STD-B67, light of the
            scene), which are formulas and need no curve; any other name needs one.
        values: [K] encoded values from 0 to 1.
        linear: [K] their linear values; in between, the curve is interpolated.
    """

    name: str
    values: np.ndarray | None = None
    linear: np.ndarray | None = None

    def __post_init__(self):
        known = ", ".join(_FORMULAS)
        if self.name not in _FORMULAS:
            if self.values is None or self.linear is None:
                raise ValueError(f"unknown response {self.name!r}: expected one of {known}, or a curve")
            _check_curve(self.values, self.linear)
        elif self.values is not None or self.linear is not None:
            raise ValueError(f"a curve cannot be called {self.name!r}: {known} are formulas")

    @classmethod
    def gamma(cls) -> "Response":
        """value**2.2, as the project's radiance systems expect it."""
        return cls("gamma")

    @property
    def scale(self) -> float:
        """The factor after which the encoded value 0.5 is as bright as with gamma 2.2.

        Estimated curves of one camera agree well in the middle but less well at 1, which is extrapolated: with this factor,
        their radiances agree.
        """
        return float(0.5**tone.DISPLAY_GAMMA / self.decode(np.float32(0.5)))

    def decode(self, values: np.ndarray) -> np.ndarray:
        """Returns linear values, float32 in 0..1, of encoded ones: uint8 or uint16, or floats, which are clipped to 0..1."""
        values = np.asarray(values)
        if values.dtype in (np.uint8, np.uint16):
            levels = np.arange(np.iinfo(values.dtype).max + 1, dtype=values.dtype)
            return self._decode(to_unit(levels))[values]
        return self._decode(np.clip(np.float32(values), 0, 1))

    def encode(self, linear: np.ndarray) -> np.ndarray:
        """Returns encoded values, float32 in 0..1, of linear ones, which are clipped to 0..1."""
        linear = np.clip(np.float32(linear), 0, 1)
        if self.linear is None:
            return np.float32(_FORMULAS[self.name][1](linear))
        return np.float32(np.interp(linear, self.linear, self.values))

    def dark_error(self, dtype: type[np.unsignedinteger]) -> float:
        """Returns by how much linear values near black may be wrong: the largest distance of two levels of the type there.

        Cameras' contrast curves are so steep near black that levels lie far apart, what is darker than the first is cut, and no
        estimate of the response is exact there.
        """
        values = self.decode(np.arange(round(_DARKEST * np.iinfo(dtype).max) + 2, dtype=dtype))
        return float(np.max(values[2:] - values[:-2]))

    def _decode(self, values):
        if self.linear is None:
            return np.float32(_FORMULAS[self.name][0](values))
        return np.float32(np.interp(values, self.values, self.linear))


def _check_curve(values, linear):
    if np.ndim(values) != 1 or np.shape(values) != np.shape(linear) or len(values) < 2:
        raise ValueError(
            f"expected at least two encoded and as many linear values, found {np.shape(values)}, {np.shape(linear)}"
        )
    for name, column in (("encoded", values), ("linear", linear)):
        if not np.isfinite(column).all():
            raise ValueError(f"expected finite {name} values, found {column[~np.isfinite(column)][0]}")
        falls = np.flatnonzero(np.diff(column) <= 0)
        if len(falls):
            raise ValueError(
                f"expected strictly increasing {name} values, found {column[falls[0]]:g} before {column[falls[0] + 1]:g}"
            )
        if (column[0], column[-1]) != (0, 1):
            raise ValueError(f"expected {name} values from 0 to 1, found {column[0]:g} to {column[-1]:g}")


def _pq_decode(values):
    root = np.float64(values) ** (1 / 78.84375)
    return (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)


def _pq_encode(linear):
    power = np.float64(linear) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073


def _hlg_decode(values):
    values = np.float64(values)
    return np.where(values <= 0.5, values**2 / 3, (np.exp((values - _HLG_C) / _HLG_A) + _HLG_B) / 12)


def _hlg_encode(linear):
    linear = np.float64(linear)
    return np.where(linear <= 1 / 12, np.sqrt(3 * linear), _HLG_A * np.log(np.maximum(12 * linear, 1) - _HLG_B) + _HLG_C)


_FORMULAS = {  # decode, encode
    "gamma": (lambda values: tone.to_radiance(values, 1), lambda linear: tone.to_exposure(linear, 1)),
    "srgb": (
        lambda values: np.where(values <= 0.04045, values / 12.92, ((np.float64(values) + 0.055) / 1.055) ** 2.4),
        lambda linear: np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.float64(linear) ** (1 / 2.4) - 0.055),
    ),
    "linear": (lambda values: values, lambda linear: linear),
    "pq": (_pq_decode, lambda linear: np.where(linear > 0, _pq_encode(linear), 0)),
    "hlg": (lambda values: np.minimum(_hlg_decode(values), 1), lambda linear: np.minimum(_hlg_encode(linear), 1)),
}


def typical(strength: float) -> Response:
    """Returns the response of a typical camera, with `strength` times its deviation from gamma 2.2, 0 to 1.2."""
    values = np.linspace(0, 1, 1025)
    deviation = scipy.interpolate.pchip_interpolate(*_TYPICAL, values)
    return Response("typical", values, values**tone.DISPLAY_GAMMA * np.exp(strength * (deviation - deviation[-1])))


# === Measuring ===


class Estimate(NamedTuple):
    """What `estimate` returns."""

    response: Response | None  # None where it cannot be estimated
    reason: str | None  # why it cannot
    before: float  # disagreement under the first response; nan without pairs
    after: float  # disagreement under the estimated response; nan without one


def disagreement(images: np.ndarray, exposures: Sequence[float], response: Response) -> float:
    """Returns by how much the exposures of a bracket disagree under a response: the rms of the log ratio of their radiances.

    Neighbouring exposures are compared at well exposed pixels that lie on each other; of all pixels of about the same value the
    centre counts, so neither noise nor what moves adds to it. 0.15 is 15 % of the radiance. It is nan where the exposures share
    no well exposed pixels.

    Args:
        images: [N, H, W, 3] encoded.
        exposures: [N].
        response: how `images` are encoded.
    """
    return _disagreement(_binned(reduced(images), exposures, response), response)


def estimate(brackets: Sequence[tuple[np.ndarray, Sequence[float]]], start: Response) -> Estimate:
    """Estimates the response that all brackets share.

    Args:
        brackets: of one camera, each ([N, H, W, 3] encoded, exposures [N]).
        start: the response under which the images are aligned at first.
    """
    brackets = [(reduced(images), exposures) for images, exposures in brackets]
    response, before = start, math.nan
    for step in range(_ROUNDS):
        pairs = [rows for images, exposures in brackets for rows in _binned(images, exposures, response)]
        if step == 0:
            before = _disagreement(pairs, start)
        values = sum(len(rows) for rows in pairs if (rows[:, 2] > _LEAST_RATIO).any())
        if values < _LEAST_BINS:
            reason = f"expected at least {_LEAST_BINS} values that different exposures show unclipped, found {values}"
            return Estimate(None, reason, before, math.nan)
        previous, response = response, _fit(pairs)
        if _distance(previous, response) < _SETTLED:
            break
    return Estimate(response, None, before, _disagreement(pairs, response))


def _distance(first, second):
    """By how much two responses differ: rms of the log ratio of their linear values."""
    values = np.linspace(0.1, 1, 91, dtype=np.float32)
    return math.sqrt(np.mean(np.log(first.decode(values) / second.decode(values)) ** 2))


def refine_exposures(linear: np.ndarray, exposures: Sequence[float], reference: int) -> np.ndarray:
    """Returns the exposures that the images themselves show, [N] float64; that of the reference stays.

    Neighbouring exposures are compared as in `disagreement`. The ratio of two of them stays where they share no well exposed
    pixels, or where these show one that is off by more than a factor of 1.5: then something else is wrong, such as the light.

    Args:
        linear: [N, H, W, 3], float32 in 0..1, 1 where the exposure clips.
        exposures: [N], nominal.
        reference: index.
    """
    images, response = [tone.to_exposure(image, 1) for image in reduced(linear)], Response.gamma()
    stops = np.log(np.float64(exposures))
    for _ in range(2):  # the second time with better aligned images
        order = np.argsort(stops, kind="stable")
        measured = np.array([_log_ratio(pair, response) for pair in _binned(images, np.exp(stops), response)])
        steps = np.diff(stops[order])
        credible = np.abs(measured - steps) < _LARGEST_ERROR  # False where nan
        stops[order] = np.cumsum([0, *np.where(credible, measured, steps)])
    return np.exp(stops - stops[reference]) * exposures[reference]


def estimate_exposures(images: np.ndarray, response: Response) -> np.ndarray:
    """Returns the exposures of images whose response is known, [N] float64; that of the darkest image is 1.

    Args:
        images: [N, H, W, 3] encoded; of different brightness, in any order.
        response: how they are encoded.

    Raises:
        ValueError: two neighbours in brightness share no well exposed values.
    """
    linear = np.stack([response.decode(image) for image in reduced(images)])
    order = np.argsort([image.mean() for image in linear], kind="stable")
    stops = np.zeros(len(linear))
    for short, long in zip(order[:-1], order[1:], strict=True):
        # Equal ranks show about the same light, wherever it is in the images.
        values = np.quantile(linear[[short, long]].reshape(2, -1), np.linspace(0.02, 0.98, 97), axis=1)
        dark, bright = values[(values[:, 0] > 1e-3) & (values[:, 1] < 0.9)].T
        if not len(dark):
            raise ValueError(
                f"images {short + 1} and {long + 1}, neighbours in brightness, share no well exposed values: "
                "their exposures cannot be estimated; give the exposures"
            )
        stops[long] = stops[short] + np.median(np.log(bright / dark))
    return refine_exposures(linear, np.exp(stops), order[0])


def _log_ratio(pair, response):
    """The logarithm of the ratio of two exposures that their values show, nan if there are none."""
    short, long, _, count = pair[(pair[:, 0] > 4 * _DARK) & (pair[:, 1] > 0)].T
    if not len(short):
        return math.nan
    measured = np.log(response.decode(long) / response.decode(short))
    order = np.argsort(measured)
    share = np.cumsum((count * short**2)[order])
    return measured[order][np.searchsorted(share, share[-1] / 2)]


def _disagreement(pairs, response):
    """See `disagreement`; `pairs` as `_binned` returns them."""
    short, long, log_ratio, count = np.vstack([np.empty((0, 4)), *pairs]).T
    shown = (short > 4 * _DARK) & (long > 0)  # 0 has no logarithm
    short, long, log_ratio, count = (values[shown] for values in (short, long, log_ratio, count))
    if not count.any():
        return math.nan
    difference = np.log(response.decode(long)) - np.log(response.decode(short)) - log_ratio
    return math.sqrt(np.average(difference**2, weights=count))


def reduced(images: Sequence[np.ndarray]) -> np.ndarray:
    """Returns images, N of [H, W, 3], at the size at which they are measured here: one array, at most 1000 pixels a side."""
    height, width = images[0].shape[:2]
    scale = _SIDE / max(height, width)
    if scale >= 1:
        return np.asarray(images)
    size = [max(1, round(side * scale)) for side in (width, height)]
    return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])


def _binned(images, exposures, response):
    """Values that show the same light in two exposures. For each pair of neighbours [n, 4] float64: the value in the shorter
    exposure, that in the longer one, the logarithm of the ratio of the exposures, and the number of values."""
    order = np.argsort(exposures, kind="stable")
    pairs = []
    for short, long in zip(order[:-1], order[1:], strict=True):
        ratio = exposures[long] / exposures[short]
        centres = _centres(*_points(images[short], images[long], ratio, response))
        pairs.append(np.insert(centres, 2, math.log(ratio), axis=1))
    return pairs


def _points(short, long, ratio, response):
    """Values in 0..1 of pixels of `long` that are flat and unclipped, and of those of `short` that lie on them: twice [n]."""
    # Brightened to the longer exposure, where both clip alike, and shown with gamma 2.2. Eight bits are enough for the flow.
    levels = response.decode(np.arange(256, dtype=np.uint8))
    curves = [from_unit(tone.to_exposure(levels, gain), np.uint8) for gain in (1, ratio)]
    bytes_ = [from_unit(to_unit(image), np.uint8) if image.dtype != np.uint8 else image for image in (long, short)]
    motion, _ = optical_flow.find_flow(*(cv2.LUT(image, curve) for image, curve in zip(bytes_, curves, strict=True)))
    usable = _usable(bytes_[0])
    usable[usable] = np.arange(np.count_nonzero(usable)) % math.ceil(np.count_nonzero(usable) / _POINTS or 1) == 0
    short = short if motion is None else optical_flow.follow(short, motion)
    return to_unit(short[usable]).ravel(), to_unit(long[usable]).ravel()


def _usable(image):
    """Pixels, [H, W] bool, that are not clipped and flat, which the smallest misalignment does not change."""
    square = np.ones((3, 3))
    largest = cv2.dilate(image, square)
    extent = functools.reduce(cv2.max, cv2.split(cv2.subtract(largest, cv2.erode(image, square))))
    usable = functools.reduce(cv2.max, cv2.split(largest)) < _CLIPPED * 255
    return usable & (extent <= max(_FLAT * 255, np.median(extent[usable]))) if usable.any() else usable


def _centres(short, long):
    """Bins over the longer exposure, which has less noise; the centre of the shorter one's values in a bin is the mean of those
    near their median: robust, and finer than a level. Returns [n, 3]: short, long, count."""
    index = np.minimum((long * _BINS).astype(int), _BINS - 1)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(_BINS + 1))
    rows = []
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        if last - first < _LEAST:
            continue
        a, b = short[order[first:last]], long[order[first:last]]
        distance = np.abs(a - np.median(a))
        near = distance <= 2 * np.median(distance) + 1 / 255
        centre = a[near].mean(), b[near].mean()
        if centre[0] > _DARK:
            rows.append((*centre, np.count_nonzero(near)))
    return np.array(rows, float).reshape(-1, 3)


def _fit(pairs):
    """The response on which the pairs agree best.

    The unknowns are the differences of the deviation between neighbouring knots: their sum between two values is all that a
    pair shows, and a lower bound on each keeps the curve monotone. Each pair of images also has an unknown error of its
    exposures' ratio, because cameras round the times that they write ("1/6" is 1/6.35). What the pairs leave open follows
    gamma 2.2 or the typical camera, whichever explains the pairs with the smaller change.
    """
    short, long, log_ratio, count = np.vstack(pairs).T
    image = np.repeat(np.arange(len(pairs)), [len(rows) for rows in pairs])
    knots = np.linspace(0, 1, _KNOTS)
    step = knots[1]
    # Part of each interval that lies between the two values.
    design = np.clip((long[:, None] - knots[:-1]) / step, 0, 1) - np.clip((short[:, None] - knots[:-1]) / step, 0, 1)
    design = np.hstack([design, image[:, None] == np.arange(len(pairs))])
    target = log_ratio - tone.DISPLAY_GAMMA * np.log(long / short)
    # A level's rounding, and 3 % of whatever else makes values differ, which no number of pixels averages away.
    weight = 1 / np.hypot(0.03, tone.DISPLAY_GAMMA * 0.5 / 255 / short) * np.minimum(count / 1000, 1) ** 0.5
    design, target = weight[:, None] * design, weight * target
    prior = np.vstack([_SMOOTHNESS / step * np.diff(np.eye(_KNOTS - 1), axis=0), _FLATNESS / step * np.eye(_KNOTS - 1)])
    prior = scipy.linalg.block_diag(prior, np.eye(len(pairs)) / _RATIO_ERROR)
    least = np.append(-0.9 * tone.DISPLAY_GAMMA * step / knots[1:], np.full(len(pairs), -_LARGEST_ERROR))
    typical = np.append(np.diff(scipy.interpolate.pchip_interpolate(*_TYPICAL, knots)), np.zeros(len(pairs)))
    solutions = [_solve(design, target, prior, expected, least) for expected in (np.zeros_like(typical), typical)]
    _, solution = min(solutions, key=lambda pair: pair[0])
    deviation = np.append(0, np.cumsum(solution[: _KNOTS - 1]))
    values = np.linspace(0, 1, 1025)
    linear = values**tone.DISPLAY_GAMMA * np.exp(np.interp(values, knots, deviation - deviation[-1]))
    return Response("estimated", values, linear)


def _solve(design, target, prior, expected, least):
    """Robust least squares of `design` x = `target` and `prior` x = `prior` `expected`, x >= `least`; returns cost and x."""
    robust = np.ones_like(target)
    for _ in range(4):
        matrix = np.concatenate([robust[:, None] * design, prior])
        right = np.append(robust * target, prior @ expected)
        # The normal equations keep the many rows out of the solver. What it finds is not negative.
        root = scipy.linalg.cholesky(matrix.T @ matrix)
        above = scipy.linalg.solve_triangular(root.T, matrix.T @ (right - matrix @ least), lower=True)
        solution = least + scipy.optimize.nnls(root, above)[0]
        residual = np.abs(design @ solution - target)
        robust = 1 / np.sqrt(np.maximum(residual / max(1.5 * np.median(residual), 1e-6), 1))
    cost = np.sum(np.minimum(residual, _OUTLIER) ** 2) + np.sum((prior @ (solution - expected)) ** 2)
    return cost, solution
