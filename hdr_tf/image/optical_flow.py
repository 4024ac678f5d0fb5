"""Alignment by dense optical flow, which follows every pixel, so what moves in the scene too; it has to know the exposures.

    flow              brings every exposure onto the reference
    confident_flow    also tests the result, and takes the reference's pixel where the two do not agree

The method is OpenCV's dense inverse search (T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016).
`confident_flow` stands where SelfHDR (Zhang et al., ICLR 2024) points to FSHDR's MATLAB code (Susmit-A/FSHDR a2c9f69,
matlab_liu_code/ComputeOpticalFlow.m, dataset/FlowCorrectAndStoreBackFlows.m).

Kept: the darker one of a pair is brightened to the exposure of the other; short and long are sampled bicubically; where the
flow points beyond the image the reference is taken, brought to the exposure (clipped where that clips).

Changed: dense inverse search instead of C. Liu's coarse-to-fine flow, and the reference is taken also where the images do not
agree, as at what is hidden in one of them. Both were chosen on eight synthetic scenes of 384 x 512 whose motion and radiance
are known (`moving.SceneMaker`), by the error of the flow where it can be seen, in pixels, and by the PSNR of short and long:

                            flow, median   mean         PSNR (dB)      CPU seconds, both
    ultrafast               0.57   0.45    1.63  1.67   32.8   26.1    0.004
    fast                    0.38   0.31    1.29  1.30   32.9   26.5    0.009
    medium (`flow`)         0.27   0.16    1.05  0.87   34.8   29.0    0.042
    without refinement      0.39   0.24    1.28  1.10   34.6   28.8    0.026
    medium, full size       0.27   0.13    1.01  0.76   35.9   30.1    0.162
    the same, tested                                    37.2   40.2

The last is `confident_flow`. The colour label of its images (`merging.syn_hdr`) has 43.3 dB PSNR-mu, that of the images
without test 38.5, of those not aligned 25.2, the medium exposure alone 31.6; on twelve scenes of images that were not among
these 40.5, and with `flow` 34.5, 23.1 and 27.6. A test of forward against backward flow in addition costs 0.3 to 5 dB: in
clipped and flat regions the two disagree where it does not matter.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit

_FLOW_PIXELS = 12  # what OpenCV asks for
_STILL = 0.2  # pixels of mean flow between pictures that differ by noise
_COARSE = 1  # the finest level of the flow that OpenCV's preset has: half the size
_FULL = 0
_TRUSTED, _REFUSED = 0.05, 0.1  # mean difference over 3 x 3 encoded values in 0..1


def flow(ldr: np.ndarray, exposures: Sequence[float], reference: int = 1) -> np.ndarray:
    """Brings every exposure onto the reference by dense optical flow.

    The darker one of a pair is brightened to the exposure of the other, so that both clip alike, before the flow is sought.

    Args:
        ldr: [N, H, W, 3] RGB, float32 in 0..1, gamma 2.2.
        exposures: [N], what the radiance was multiplied by.
        reference: index of the picture that stays as it is.

    Returns:
        [N, H, W, 3] float32 in 0..1; what comes from beyond a border is the border's colour. A picture that cannot be
        aligned is returned as it came, with a warning in the log.
    """
    aligned = np.array(ldr, np.float32)
    for index, picture in enumerate(aligned):
        if index != reference:
            found, reason = _find_flow(picture, exposures[index], aligned[reference], exposures[reference])
            if found is None:
                logging.warning("picture %d of %d is not aligned: %s", index + 1, len(aligned), reason)
            else:
                aligned[index] = np.clip(_follow(picture, found), 0, 1)
    return aligned


class Alignment(NamedTuple):
    """What `confident_flow` returns."""

    pictures: np.ndarray
    """[N, H, W, 3] float32 in 0..1"""
    confidence: np.ndarray
    """[N, H, W] float32, from 0, the pixel is the reference's, to 1, it is the picture's own"""
    notes: tuple[str, ...]
    """one line for each picture that could not be followed"""


def confident_flow(ldr: np.ndarray, exposures: Sequence[float], reference: int = 1) -> Alignment:
    """Brings every exposure onto the reference by dense optical flow, and shows the reference where that went wrong.

    A pixel is trusted as far as it agrees with the reference at the brighter exposure of the two, where both clip alike: so a
    short exposure keeps the highlights that the reference has lost. Trust falls from 1 to 0 as the mean difference over
    3 x 3 pixels, of the channel that differs most, goes from 0.05 to 0.1, and is 0 where the flow points beyond the picture. Of
    a picture that cannot be followed (flat, clipped, tiny) the pixels are tested where they are.

    Args:
        ldr: [N, H, W, 3] RGB, float32 in 0..1, gamma 2.2.
        exposures: [N], what the radiance was multiplied by.
        reference: index of the picture that stays as it is.
    """
    pictures = np.array(ldr, np.float32)
    confidence, notes = np.ones(pictures.shape[:3], np.float32), []
    target = pictures[reference]
    for index, picture in enumerate(pictures):
        if index == reference:
            continue
        pair = exposures[index], exposures[reference]
        found, reason = _find_flow(picture, pair[0], target, pair[1], _FULL)
        if reason:
            notes.append(f"picture {index + 1} of {len(pictures)} is not aligned: {reason}")
        if found is None:
            found = np.zeros((*picture.shape[:2], 2), np.float32)
        moved = np.clip(_follow(picture, found), 0, 1)
        trust = _agreement(moved, target, *pair) * _within(found)
        shown = tone.to_exposure(tone.to_radiance(target, pair[1]), pair[0])
        pictures[index] = trust[..., None] * moved + (1 - trust[..., None]) * shown
        confidence[index] = trust
    return Alignment(pictures, confidence, tuple(notes))


def _find_flow(source, exposure, target, target_exposure, finest=_COARSE):
    """Returns the flow from `target` to `source`, [H, W, 2] (x, y) in pixels, and None, or None and the reason why not.

    A flow has to make the pictures agree better, where the target is not clipped, than they do without it. One that does
    not and is next to nothing means that nothing moved: no flow then, with a reason if there was nothing to see.
    """
    adjusted = _brightened(target, source, target_exposure, exposure)
    gray_target, gray_source = (cv2.cvtColor(from_unit(image, np.uint8), cv2.COLOR_RGB2GRAY) for image in adjusted)
    if min(gray_target.shape) < _FLOW_PIXELS:
        return None, f"expected at least {_FLOW_PIXELS} x {_FLOW_PIXELS} pixels for optical flow, found {gray_target.shape}"
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(finest)
    found = search.calc(gray_target, gray_source, None)
    if not np.isfinite(found).all():
        return None, "the flow is not finite"
    clear = cv2.inRange(gray_target, 0, 250)

    def disagreement(gray):
        return cv2.mean(cv2.absdiff(gray_target, gray), clear)[0]

    before, after = disagreement(gray_source), disagreement(_follow(gray_source, found))
    if after >= before and np.abs(found).mean() < _STILL:
        flat = cv2.meanStdDev(gray_target, mask=clear)[1].item() < 1  # level
        return np.zeros_like(found), "the reference is flat or clipped, there is nothing to follow" if flat else None
    if after >= before:
        return None, f"the flow changes the mean difference from {before:.3g} to {after:.3g} levels"
    return found, None


def _brightened(picture, other, exposure, other_exposure):
    """Both pictures at the brighter one of their exposures."""
    common = max(exposure, other_exposure)
    pairs = (picture, exposure), (other, other_exposure)
    return [tone.to_exposure(tone.to_radiance(values, shown), common) for values, shown in pairs]


def _agreement(moved, target, exposure, target_exposure):
    """The trust in each pixel, [H, W] float32 in 0..1."""
    difference = cv2.absdiff(*_brightened(moved, target, exposure, target_exposure))
    largest = cv2.blur(difference, (3, 3)).max(axis=2)
    return np.clip((_REFUSED - largest) / (_REFUSED - _TRUSTED), 0, 1)


def _within(flow):
    """Whether a flow stays within the picture, [H, W]."""
    height, width = flow.shape[:2]
    columns, rows = _there(flow)
    return (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)


def _follow(picture, flow):
    """Samples `picture` at each pixel's coordinates plus `flow`; bicubic, the border repeated."""
    return cv2.remap(picture, *_there(flow), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _there(flow):
    rows, columns = np.indices(flow.shape[:2], np.float32)
    return columns + flow[..., 0], rows + flow[..., 1]
