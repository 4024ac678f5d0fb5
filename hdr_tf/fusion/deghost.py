"""Deghosting: makes the exposures of a moving scene show one moment, so that they can be fused like those of a still one.

1. The exposures are given or estimated, and the response is measured where gamma 2.2 does not fit.
2. From the reference outwards, each image is moved by optical flow onto its mended neighbour, with which it shares most values,
   and trusted where the two agree as far as noise and rounding let them.
3. All moved images are merged to radiance. Where an image is not trusted, it shows the radiance rendered at its exposure.

Pixels of a still scene come through unchanged: without movement of the camera, an image is moved only where it is not trusted
as it is.
"""

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from hdr_tf import systems
from hdr_tf.image import optical_flow, tone
from hdr_tf.image import response as responses
from hdr_tf.image.depth import from_unit, to_rgb
from hdr_tf.image.tiling import bands
from hdr_tf.progress import track

_SQUARE = np.ones((3, 3))
_WHITER = 0.75  # share of the way to white that a channel may go where another one clips
_BINS = 64  # values of a light
_LEAST, _POINTS = 100, 300_000  # values in a bin; pixels that are measured
_MISFIT = 0.08  # of the response
_LEVELS, _LARGEST = 6, 0.04  # of 255, by which an 8-bit value may be wrong, and in 0..1, two lights of the same may differ
_DEVIATIONS = 2  # of the usual difference that do not count
_UNCLIPPED = 245  # of 255
_STILL = 0.75  # pixels; aligned exposures of a tripod differ by up to 0.65
_SEAM = 400  # the shorter side of an image is so many times as long as the radius of the seams
_lock = threading.Lock()


class Mended(NamedTuple):
    """What `deghost` returns."""

    images: list[np.ndarray]  # N, of the shape and type of the given ones
    replaced: list[float]  # N: share of the image that shows the merged radiance
    reference: int  # index of the image that is unchanged
    notes: tuple[str, ...]  # one line each


def deghost(images: Sequence[np.ndarray], exposures: Sequence[float] | None = None, merger: Any = None) -> Mended:
    """Moves every image onto the reference and mends it where it shows something else.

    The reference is the middle exposure, of two middle ones the darker, which clips less.

    Args:
        images: 2 to 9 of [H, W, 3] (RGB) or [H, W], uint8 or uint16, of one size and type, in any order and encoding.
        exposures: [N] factors, 2**stops; None: they are estimated, for which gamma 2.2 is assumed.
        merger: runner of a radiance system that takes any number of exposures; None: that of `merge`, or of `merge_classical`
            if `merge` has no bundled weights.

    Raises:
        ValueError: the number of images or the exposures do not fit, or the exposures cannot be estimated.
    """
    systems.find("merge", "radiance").check_exposures(len(images))
    exposures, response, notes = _calibrated(np.stack([to_rgb(image) for image in images]), exposures)
    order = np.argsort(exposures, kind="stable")
    middle = (len(order) - 1) // 2
    reference = int(order[middle])
    exposures = exposures / exposures[reference]

    camera = _Camera(response, images[0].dtype)
    moved, trusts = list(images), [np.ones(image.shape[:2], np.float32) for image in images]
    shorter, longer = order[middle::-1], order[middle:]
    steps = [pair for side in (shorter, longer) for pair in zip(side[:-1], side[1:], strict=True)]
    target = camera.light(images[reference])
    for nearer, index in track(steps, "registering", len(steps)):
        if nearer == reference:
            target = camera.light(images[reference])
        ratio = exposures[index] / exposures[nearer]
        moved[index], trusts[index], reason = _registered(images[index], target, ratio, camera)
        if reason:
            notes.append(f"image {index + 1} of {len(images)} is not aligned: {reason}")
        # The next image is compared with the mended one: where this is not trusted, with its neighbour at its exposure.
        target = _mixed(camera.light(moved[index]), optical_flow.brighten(target, ratio), _softened(trusts[index]))

    merger = merger or _merger()
    lights = [camera.light(image) for image in moved]
    radiance = merger.reconstruct(lights, exposures, reference, align=False).radiance
    masks = [_softened(trust) for trust in trusts]
    mended = []
    for image, exposure, mask in zip(moved, exposures, masks, strict=True):
        shown = _matched(camera.rendered(radiance, exposure, image.ndim == 2), image, mask) if mask.min() < 1 else image
        mended.append(_mixed(image, shown, mask))
    return Mended(mended, [1 - float(mask.mean()) for mask in masks], reference, tuple(notes))


def _calibrated(images, exposures):
    """Exposures, response and notes about them; `images` is [N, H, W, 3]."""
    gamma, notes = responses.Response.gamma(), []
    if exposures is None:
        try:
            exposures = responses.estimate_exposures(images, gamma)
        except ValueError as error:
            raise ValueError(f"deghosting needs the exposures, from EXIF or --exposures; {error}") from error
        stops = ", ".join(f"{stop:.1f}" for stop in np.log2(exposures))
        notes.append(f"the exposures are estimated under gamma 2.2: {stops} stops")
    exposures = np.asarray(exposures, np.float64)
    if exposures.shape != (len(images),) or not (np.isfinite(exposures).all() and (exposures > 0).all()):
        raise ValueError(f"expected {len(images)} exposures above 0, one for each image, found {exposures.tolist()}")
    estimate = responses.estimate([(images, exposures)], gamma)
    if estimate.response is None or not estimate.before > responses.DISAGREEMENT:
        return exposures, gamma, notes
    disagreement = f"from {estimate.before:.0%} under gamma 2.2 to {estimate.after:.0%}"
    notes.append(f"the response is estimated, which lowers the disagreement of the exposures {disagreement}")
    return exposures, estimate.response, notes


class _Camera:
    """What is known about the camera. A light is an image in gamma 2.2, [H, W, 3] uint16."""

    def __init__(self, response, dtype):
        self.response, self.dtype = response, dtype
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        self.curve = from_unit(tone.to_exposure(response.decode(levels), 1), np.uint16)
        # By how much the levels of a file may be wrong, in 0..1, at 256 values of a light.
        wrong = _LEVELS / 255 * np.gradient(np.float32(self.curve) / 65535, levels / levels[-1])
        self.wrong = np.float32(np.interp(np.linspace(0, 1, _BINS), self.curve / 65535, wrong))

    def light(self, image):
        return self.curve[to_rgb(image)]

    def rendered(self, radiance, exposure, gray):
        """The radiance, [H, W, 3] relative to the reference's clip, as an image of an exposure."""
        result = np.empty(radiance.shape[: 2 if gray else 3], self.dtype)
        for rows, _, _ in bands(radiance, 0):
            values = self.response.encode(radiance[rows] * np.float32(exposure))
            result[rows] = from_unit(values.mean(axis=2) if gray else values, self.dtype)
        return result


def _registered(image, target, ratio, camera):
    """Moves an image onto the light of its mended neighbour, whose exposure is 1 / `ratio` of its own.

    Returns the moved image, how far it is trusted, [H, W] float32 in 0..1, and the reason if it could not be aligned.
    """
    light = camera.light(image)
    pair = [optical_flow.brighten(target, max(ratio, 1), np.uint8), optical_flow.brighten(light, max(1 / ratio, 1), np.uint8)]
    flow, reason = optical_flow.find_flow(*pair, finest=0)
    if flow is None or not flow.any():
        return image, _trust(light, target, ratio, camera), reason
    moved = optical_flow.follow(image, flow)
    inside = optical_flow.within(flow, 1)
    if optical_flow.typical_motion(flow, *pair) <= _STILL:
        # What moved in the scene is followed. Everything else stays as it is, to the bit.
        still = _softened(_trust(light, target, ratio, camera))
        moved, inside = _mixed(image, moved, still), np.maximum(inside, still)
    return moved, _trust(camera.light(moved), target, ratio, camera) * inside, reason


def _trust(light, target, ratio, camera):
    """How far a light agrees with its neighbour's, [H, W] float32 in 0..1, compared at the brighter exposure of the two.

    The measure is that of `trusted_merge.trust`, of differences beyond what is usual for their brightness in these two images.
    """
    trust = np.empty(light.shape[:2], np.float32)
    factors = max(1 / ratio, 1), max(ratio, 1)
    usual, tolerance = _usual(
        *(optical_flow.brighten(x, f) for x, f in zip(_sampled(light, target), factors, strict=True)), ratio, camera
    )
    values = np.linspace(0, 65535, _BINS)
    usual, tolerance = (np.float32(np.interp(np.arange(65536), values, row)) for row in (usual, tolerance))
    for rows, with_halo, inner in bands(trust, 2):
        near, far = (optical_flow.brighten(x[with_halo], f) for x, f in zip((light, target), factors, strict=True))
        extremes = cv2.dilate(far, _SQUARE), cv2.erode(far, _SQUARE)
        expected, allowed = _unit(far) + usual[far], tolerance[far]
        near, far = _unit(near), _unit(far)
        above, below = (_STILL * np.abs(_unit(extreme) - far) for extreme in extremes)
        # Where a channel clips, cameras make the others whiter.
        clipped = np.minimum(near.max(axis=2), far.max(axis=2)) > _UNCLIPPED / 255
        whiter = clipped[..., None] * _WHITER * (1 - np.minimum(near, far))
        above, below = (above + whiter, below) if ratio > 1 else (above, below + whiter)
        excess = np.maximum(near - expected - above, expected - near - below) - allowed
        trust[rows] = optical_flow.agreement(np.maximum(excess, 0))[inner]
    return trust


def _usual(near, far, ratio, camera):
    """The usual difference of two images of one light, and how far it scatters, in 0..1, at each of `_BINS` values of `far`.

    The first is the error of the response, the second that of noise and compression. Both are measured where most pixels
    agree, and limited to what the rounding of the darker image can explain.
    """
    factor = max(ratio, 1 / ratio) ** (1 / tone.DISPLAY_GAMMA)
    values = np.linspace(0, 1, _BINS)
    limit = _LARGEST + factor * np.interp(values / factor, values, camera.wrong)
    usual, scatter = _medians(_unit(far).ravel(), (_unit(near) - _unit(far)).ravel())
    return np.clip(usual, -_MISFIT - limit, _MISFIT + limit), np.minimum(_DEVIATIONS * 1.5 * scatter, limit)


def _medians(values, differences):
    """The median of the differences at each of `_BINS` values from 0 to 1, and that of their distance to it; 0 without any."""
    index = np.rint(values * (_BINS - 1)).astype(int)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(_BINS + 1))
    measured = []
    for i, (first, last) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        if last - first >= _LEAST:
            part = differences[order[first:last]]
            median = np.median(part)
            measured.append((i, median, np.median(np.abs(part - median))))
    if not measured:
        return np.zeros(_BINS), np.zeros(_BINS)
    at, medians, scatter = np.transpose(measured)
    return np.interp(np.arange(_BINS), at, medians), np.interp(np.arange(_BINS), at, scatter)


def _matched(rendered, image, mask):
    """A rendered image in the tones of the image where the mask is 1, which leaves no seams where the response is not exact."""
    top = np.iinfo(image.dtype).max
    here, there, known = _sampled(rendered, image, mask)
    here, there = here[known == 1].ravel() / top, there[known == 1].ravel() / top
    usual = np.clip(_medians(here, there - here)[0], -_MISFIT, _MISFIT)
    levels = np.arange(top + 1) / top
    return from_unit(levels + np.interp(levels, np.linspace(0, 1, _BINS), usual), image.dtype)[rendered]


def _unit(values):
    return np.float32(values) / np.float32(65535)


def _sampled(*images):
    step = max(1, round((images[0].shape[0] * images[0].shape[1] / _POINTS) ** 0.5))
    return [np.ascontiguousarray(image[::step, ::step]) for image in images]


def _mixed(first, second, share):
    """`first` where the share is 1, `second` where it is 0; of the type of `first`."""
    result = first.copy()
    for rows, _, _ in bands(share, 0):
        part = share[rows] if first.ndim == 2 else share[rows, :, None]
        if part.min() < 1:
            mixed = part * first[rows] + (1 - part) * second[rows]
            result[rows] = np.rint(mixed) if first.dtype.kind == "u" else mixed
    return result


def _softened(trust):
    """A mask that is nowhere above the trust and has no hard edges."""
    radius = max(2, round(min(trust.shape) / _SEAM))
    side = 2 * radius + 1
    return cv2.blur(cv2.erode(trust, np.ones((side, side))), (side, side))


def _merger():
    with _lock:  # one thread loads it, and others wait
        return _load_merger()


@functools.cache
def _load_merger():
    return systems.load_runner("merge" if systems.SYSTEMS["merge"].bundled else "merge_classical", task="radiance")
