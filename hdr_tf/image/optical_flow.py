"""Alignment by dense optical flow, which follows every pixel and so also moving objects; it needs the exposures.

The method is OpenCV's dense inverse search (T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016).
`confident_flow` takes the place of FSHDR's MATLAB code (Susmit-A/FSHDR a2c9f69, matlab_liu_code/ComputeOpticalFlow.m,
dataset/FlowCorrectAndStoreBackFlows.m), to which SelfHDR (Zhang et al., ICLR 2024) points.

Kept: the darker image of a pair is brightened to the exposure of the other; short and long are sampled bicubically; where the
flow points outside the image, the reference at that exposure is used (clipped where that clips).

Changed: dense inverse search instead of C. Liu's coarse-to-fine flow, and the reference is also used where the images do not
agree, as in regions that one of them does not show. Both were chosen on eight synthetic scenes of 384 x 512 with known motion
and radiance (`hdr_tf.synthesis.scenes`), by the error of the flow in pixels where both images show the point, and by the PSNR
of short and long:

                            flow, median   mean         PSNR (dB)      CPU seconds, both
    ultrafast               0.57   0.45    1.63  1.67   32.8   26.1    0.004
    fast                    0.38   0.31    1.29  1.30   32.9   26.5    0.009
    medium (`flow`)         0.27   0.16    1.05  0.87   34.8   29.0    0.042
    without refinement      0.39   0.24    1.28  1.10   34.6   28.8    0.026
    medium, full size       0.27   0.13    1.01  0.76   35.9   30.1    0.162
    the same, tested                                    37.2   40.2

The last row is `confident_flow`. The colour label of its images (`hdr_merge.syn_hdr`) has a PSNR-mu of 43.3 dB; that of the
untested images has 38.5, that of the unaligned images 25.2, and the medium exposure alone 31.6. On twelve scenes of other
images they are 40.5, 34.5 (with `flow`), 23.1 and 27.6. An additional test of forward against backward flow costs 0.3 to 5 dB,
because in clipped and flat regions the two disagree where it does not matter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit, to_unit

OUTSIDE = 0  # the flow leaves the image by more than a pixel: nothing is shown there
MOVED = 1  # the image shows something, interpolated or perhaps elsewhere than in the reference
UNMOVED = 2  # the image stayed where it was, because nothing moved there

_FLOW_PIXELS = 12  # OpenCV's minimum
_STILL = 0.2  # pixels; mean flow between images that differ only by noise
_HALF_SIZE, _FULL_SIZE = 1, 0  # finest level of the flow; OpenCV's preset has the first
_LARGE = 2**23  # pixels; above, full size would take 0.25 GB a megapixel
_TRIPOD = 0.25  # pixels of typical motion: at most 0.18 in 56 images of still scenes, above 0.6 with a moving camera
_STILL_WINDOW = 7  # pixels
_STRUCTURE, _UNCLIPPED = 8, 245  # of 255: slope per pixel, and values, that show where something is
_LEAST_STRUCTURE = 0.001  # share of the pixels
_TRUSTED, _REFUSED = 0.05, 0.1  # mean difference over 3 x 3 encoded values in 0..1
_DARK_ERRORS = 2  # near black, two values may differ by so many errors and still agree


def flow(ldr: np.ndarray, exposures: Sequence[float], reference: int = 1) -> np.ndarray:
    """Aligns every exposure with the reference by dense optical flow; returns [N, H, W, 3] float32 in 0..1.

    Before the flow is computed, the darker image of a pair is brightened to the exposure of the other, so that both clip alike.
    Beyond a border the border is repeated. An image that cannot be aligned stays as it is, with a warning in the log.

    Args:
        ldr: [N, H, W, 3] RGB, float32 in 0..1, gamma 2.2.
        exposures: [N], 2**stops.
        reference: index of the image that stays as it is.
    """
    aligned = np.array(ldr, np.float32)
    for index, image in enumerate(aligned):
        if index != reference:
            motion, reason = _find_flow(image, exposures[index], aligned[reference], exposures[reference])
            if motion is None:
                logging.warning("image %d of %d is not aligned: %s", index + 1, len(aligned), reason)
            else:
                aligned[index] = np.clip(follow(image, motion), 0, 1)
    return aligned


class Registered(NamedTuple):
    """What `register` returns."""

    images: list[np.ndarray]  # N of [H, W, 3] uint16, gamma 2.2, moved onto the reference
    inside: list[np.ndarray]  # N of [H, W] uint8: `OUTSIDE`, `MOVED` or `UNMOVED`
    notes: dict[int, str]  # by index, why an image could not be aligned


def register(
    images: Sequence[np.ndarray], exposures: Sequence[float], reference: int, align: bool = True, dark_error: float = 0.0
) -> Registered:
    """Moves every exposure onto the reference by dense optical flow, for HDR merging; nothing is replaced by the reference.

    An image whose flow cannot be computed (flat, clipped, tiny) or does not help stays where it is. If the images have more
    than eight megapixels, the flow is found at half their size.

    Args:
        images: N of [H, W, 3] uint16 RGB, gamma 2.2. Each is released as soon as it is moved if the caller passes a list that
            it does not use again, which bounds the memory of large brackets.
        exposures: [N], 2**stops.
        reference: index of the image that stays as it is.
        align: whether to look for motion at all; False for a tripod.
        dark_error: see `image.response.Response.dark_error`. What is so dark in one of two images is not followed.
    """
    images = list(images)
    target, notes = images[reference], {}
    inside = [np.full(target.shape[:2], UNMOVED, np.uint8) for _ in images]
    for index, image in enumerate(images):
        if index == reference or not align:
            continue
        common = max(exposures[index], exposures[reference])
        pair = (target, exposures[reference]), (image, exposures[index])
        finest = _FULL_SIZE if target[..., 0].size <= _LARGE else _HALF_SIZE
        ratio = common / min(exposures[index], exposures[reference])
        darkest = from_unit(tone.to_exposure(_DARK_ERRORS * dark_error, ratio), np.uint8)
        pair = [np.maximum(brighten(values, common / shown, np.uint8), darkest) for values, shown in pair]
        motion, reason = find_flow(*pair, finest)
        if reason:
            notes[index] = reason
        if motion is not None and typical_motion(motion, *pair) < _TRIPOD:
            motion[_still(motion, *pair)] = 0
        if motion is None:
            inside[index][:] = MOVED
        elif motion.any():
            images[index] = follow(image, motion)
            inside[index] = np.where(motion.any(axis=2), np.uint8(within(motion, 1)), np.uint8(UNMOVED))
    return Registered(images, inside, notes)


def typical_motion(flow: np.ndarray, target: np.ndarray, source: np.ndarray) -> float:
    """Returns the median length of a flow, [H, W, 2], in pixels, where the target has structure and neither image, [H, W, 3]
    uint8, is clipped; 0 if there is hardly any."""
    gray = cv2.cvtColor(target, cv2.COLOR_RGB2GRAY)
    slopes = [np.abs(cv2.Sobel(gray, cv2.CV_16S, *way)) for way in ((1, 0), (0, 1))]
    brightest = cv2.dilate(cv2.max(gray, cv2.cvtColor(source, cv2.COLOR_RGB2GRAY)), np.ones((5, 5)))
    structure = (np.maximum(*slopes) > 8 * _STRUCTURE) & (brightest < _UNCLIPPED)
    if np.count_nonzero(structure) < _LEAST_STRUCTURE * gray.size:
        return 0
    return float(np.median(np.hypot(*flow[structure].T)))


def _still(flow, target, source):
    """Where the images agree without the flow as well as with it, [H, W] bool: interpolation would only blur there."""
    window = (_STILL_WINDOW, _STILL_WINDOW)
    before, after = (cv2.blur(cv2.absdiff(target, image), window).max(axis=2) for image in (source, follow(source, flow)))
    return before <= np.minimum(_TRUSTED * 255, 1.25 * after + 1)


def brighten(image: np.ndarray, ratio: float, dtype: type[np.unsignedinteger] = np.uint16) -> np.ndarray:
    """Returns an image of gamma 2.2, [..., 3] uint16, as it looks with `ratio` times the exposure, uint16 or uint8; values
    above white are clipped. In this encoding a longer exposure is a constant factor."""
    factor = ratio ** (1 / tone.DISPLAY_GAMMA)
    if dtype == np.uint8:
        return cv2.convertScaleAbs(image, alpha=factor / 257)
    return image if ratio == 1 else cv2.multiply(image, np.full(4, factor), dtype=cv2.CV_16U)


class Alignment(NamedTuple):
    """What `confident_flow` returns."""

    images: np.ndarray  # [N, H, W, 3] float32 in 0..1
    confidence: np.ndarray  # [N, H, W] float32, from 0 (the pixel shows the reference) to 1 (it shows the image itself)
    notes: tuple[str, ...]  # one line for each image that could not be aligned


def confident_flow(ldr: np.ndarray, exposures: Sequence[float], reference: int = 1) -> Alignment:
    """Aligns as `flow`, with the same arguments, and shows the reference where that failed.

    The confidence of a pixel depends on how well it agrees with the reference at the brighter exposure of the two, where both
    clip alike, so a short exposure keeps highlights that the reference has lost. It falls from 1 to 0 as the mean difference
    over 3 x 3 pixels, in the channel that differs most, rises from 0.05 to 0.1, and is 0 where the flow points outside the
    image. An image whose flow cannot be computed (flat, clipped, tiny) is tested without alignment.
    """
    images = np.array(ldr, np.float32)
    confidence, notes = np.ones(images.shape[:3], np.float32), []
    target = images[reference]
    for index, image in enumerate(images):
        if index == reference:
            continue
        pair = exposures[index], exposures[reference]
        motion, reason = _find_flow(image, pair[0], target, pair[1], _FULL_SIZE)
        if reason:
            notes.append(f"image {index + 1} of {len(images)} is not aligned: {reason}")
        if motion is None:
            motion = np.zeros((*image.shape[:2], 2), np.float32)
        moved = np.clip(follow(image, motion), 0, 1)
        trust = _agreement(moved, target, *pair) * within(motion)
        shown = tone.to_exposure(tone.to_radiance(target, pair[1]), pair[0])
        images[index] = trust[..., None] * moved + (1 - trust[..., None]) * shown
        confidence[index] = trust
    return Alignment(images, confidence, tuple(notes))


def _find_flow(source, exposure, target, target_exposure, finest=_HALF_SIZE):
    """Returns what `find_flow` does, of images [H, W, 3] in 0..1, gamma 2.2, with their exposures."""
    adjusted = _brightened(target, source, target_exposure, exposure)
    return find_flow(*(from_unit(image, np.uint8) for image in adjusted), finest)


def find_flow(target: np.ndarray, source: np.ndarray, finest: int = _HALF_SIZE) -> tuple[np.ndarray | None, str | None]:
    """Returns the flow from `target` to `source`, [H, W, 2] (x, y) in pixels, and None, or None and the reason.

    A flow is accepted if the images, where the target is not clipped, agree better with it than without. If they do not and the
    flow is nearly zero, nothing moved: the result is zero flow, with a reason if the target shows nothing to follow.

    Args:
        target: [H, W, 3] uint8.
        source: the same, equally bright.
        finest: finest level of the flow, 0 for the full size.
    """
    gray_target, gray_source = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, source))
    if min(gray_target.shape) < _FLOW_PIXELS:
        found = f"{gray_target.shape[1]} x {gray_target.shape[0]}"
        return None, f"expected at least {_FLOW_PIXELS} x {_FLOW_PIXELS} pixels for optical flow, found {found}"
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(finest)
    motion = search.calc(gray_target, gray_source, None)
    if not np.isfinite(motion).all():
        return None, "the flow is not finite"
    clear = cv2.inRange(gray_target, 0, 250)

    def disagreement(gray):
        return cv2.mean(cv2.absdiff(gray_target, gray), clear)[0]

    before, after = disagreement(gray_source), disagreement(follow(gray_source, motion))
    if after >= before and np.abs(motion).mean() < _STILL:
        flat = cv2.meanStdDev(gray_target, mask=clear)[1].item() < 1  # level
        return np.zeros_like(motion), "the reference is flat or clipped, there is nothing to follow" if flat else None
    if after >= before:
        return None, f"the flow changes the mean difference from {before:.3g} to {after:.3g} levels"
    return motion, None


def _brightened(image, other, exposure, other_exposure):
    """Both images at the brighter of their exposures."""
    common = max(exposure, other_exposure)
    pairs = (image, exposure), (other, other_exposure)
    return [tone.to_exposure(tone.to_radiance(values, shown), common) for values, shown in pairs]


def _agreement(moved, target, exposure, target_exposure):
    """How well two images agree at each pixel, [H, W] float32 in 0..1."""
    return agreement(cv2.absdiff(*_brightened(moved, target, exposure, target_exposure)))


def difference(image: np.ndarray, target: np.ndarray, exposure: float, dark_error: float = 0.0) -> np.ndarray:
    """Returns by how much two images differ, both as they look at the brighter exposure of the two, [H, W, 3] uint16.

    An encoded value v of a target darker than the image stands for all from sqrt(v**2 - e**2) to sqrt(v**2 + e**2), where e is
    twice the error near black, encoded: nearly the sum and difference of linear values, without their powers. A darker image
    gets no such credit: where it is black it shows less than the target, and could only add its noise.

    Args:
        image, target: [H, W, 3] uint16, gamma 2.2.
        exposure: of the image, relative to the target's.
        dark_error: of the target, see `image.response.Response.dark_error`.
    """
    dark, bright = (target, image) if exposure > 1 else (image, target)
    ratio = max(exposure, 1 / exposure)
    if not dark_error or exposure <= 1:
        return cv2.absdiff(brighten(dark, ratio), bright)
    values, error = to_unit(np.arange(65536, dtype=np.uint16)), tone.to_exposure(_DARK_ERRORS * dark_error, 1)
    factor = np.float32(ratio ** (1 / tone.DISPLAY_GAMMA))
    ends = np.sqrt(np.maximum(values**2 - error**2, 0)), np.sqrt(np.minimum(values**2 + error**2, 1))
    lowest, highest = (from_unit(end * factor, np.uint16)[dark] for end in ends)
    return cv2.max(cv2.subtract(bright, highest), cv2.subtract(lowest, bright))


def agreement(difference: np.ndarray, white: float = 1) -> np.ndarray:
    """Returns how well two images agree, [H, W]: from 1 to 0 as the mean difference over 3x3 pixels, in the channel that
    differs most, rises from 0.05 to 0.1 of the encoded range.

    Args:
        difference: of encoded values, [H, W, 3], not negative.
        white: the largest encoded value.
    """
    difference = cv2.blur(difference, (3, 3)).max(axis=2) / white
    return np.clip((_REFUSED - difference) / (_REFUSED - _TRUSTED), 0, 1)


def within(flow, margin=0):
    """Whether the flow stays within the image, or leaves it by at most `margin` pixels, [H, W] bool."""
    height, width = flow.shape[:2]
    columns, rows = _there(flow)
    return (np.abs(columns - (width - 1) / 2) <= (width - 1) / 2 + margin) & (
        np.abs(rows - (height - 1) / 2) <= (height - 1) / 2 + margin
    )


def follow(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Samples `image`, [H, W] or [H, W, 3], at the coordinates of each pixel plus `flow`, [H, W, 2] (x, y) in pixels.

    Sampling is bicubic; beyond the border of the image its border is repeated.
    """
    return cv2.remap(image, *_there(flow), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _there(flow):
    rows, columns = (np.arange(length, dtype=np.float32) for length in flow.shape[:2])
    return columns + flow[..., 0], rows[:, None] + flow[..., 1]
