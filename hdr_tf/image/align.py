"""Alignment of a bracket: each picture is brought onto a reference by a homography, a shift or dense optical flow.

`homography` is HyperP_MB's (Changi-Im/HyperP_MB, homography_warp.py, commit 9f676f6): SIFT on adaptively gamma-corrected
gray pictures, FLANN, the ratio test, RANSAC; then the picture that is not the reference is warped, black outside.
"mtb" is Ward's median threshold bitmaps as OpenCV has them: whole pixels, no rotation, and much faster.
"auto" tries both and checks what came out.
`flow` follows every pixel, so what moves in the scene too; it has to know the exposures. Its method is OpenCV's dense inverse
search (T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016). `confident_flow` also tests what came out
and takes the reference's pixel where it does not agree.

Kept: SIFT's and FLANN's parameters, the direction of the matching, ratio, number of matches, RANSAC's threshold,
interpolation and border; with the random state set, the matrix of the original's own pair to the last bit.

Changed:
- the random numbers of FLANN and RANSAC start from a fixed state, so that a result can be repeated;
- a matrix on which fewer than 10 matches agree, or that no hand could have caused (see `_doubt`), falls back to no
  alignment, as too few matches do in the original;
- a shift that does not make the bitmaps agree better falls back likewise (see `_find_shift`);
- pictures above 4 megapixels are reduced to that for the matching: SIFT takes about 210 bytes a pixel.

`confident_flow` stands where SelfHDR (Zhang et al., ICLR 2024) points to FSHDR's MATLAB code (Susmit-A/FSHDR a2c9f69,
matlab_liu_code/ComputeOpticalFlow.m, dataset/FlowCorrectAndStoreBackFlows.m).

Kept: the darker one of a pair is brightened to the exposure of the other; short and long are sampled bicubically; where the
flow points beyond the picture the reference is taken, brought to the exposure (clipped where that clips).

Changed: dense inverse search instead of C. Liu's coarse-to-fine flow, and the reference is taken also where the pictures do not
agree, as at what is hidden in one of them. Both were chosen on eight made scenes of 384 x 512 whose motion and radiance are
known (`moving.SceneMaker`), by the error of the flow where it can be seen, in pixels, and by the PSNR of short and long:

                            flow, median   mean         PSNR (dB)      CPU seconds, both
    ultrafast               0.57   0.45    1.63  1.67   32.8   26.1    0.004
    fast                    0.38   0.31    1.29  1.30   32.9   26.5    0.009
    medium (`flow`)         0.27   0.16    1.05  0.87   34.8   29.0    0.042
    without refinement      0.39   0.24    1.28  1.10   34.6   28.8    0.026
    medium, full size       0.27   0.13    1.01  0.76   35.9   30.1    0.162
    the same, tested                                    37.2   40.2

The last is `confident_flow`. The colour label of its pictures (`merging.syn_hdr`) has 43.3 dB PSNR-mu, that of the pictures
without test 38.5, of those not aligned 25.2, the medium exposure alone 31.6; on twelve scenes of pictures that were not among
these 40.5, and with `flow` 34.5, 23.1 and 27.6. A test of forward against backward flow in addition costs 0.3 to 5 dB: in
clipped and flat regions the two disagree where it does not matter.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit, to_depth

_RATIO = 0.7
_MORE_MATCHES_THAN = 20
_RANSAC_PIXELS = 5.0
_MATCHING_PIXELS = 4_000_000
_KDTREE = 1  # FLANN_INDEX_KDTREE, which cv2 does not name
_METHODS = ("homography", "mtb")
_GAIN, _AGREEING = 0.05, 0.3  # what moving a picture has to bring, and how far its edges have to agree then
_MIN_INLIERS = 10  # four points always agree on a homography, and of 21 wrong matches a few more do by chance
_FLOW_PIXELS = 12  # what OpenCV asks for
_STILL = 0.2  # pixels of mean flow between pictures that differ by noise
_COARSE = 1  # the finest level of the flow that OpenCV's preset has: half the size
_FULL = 0
_TRUSTED, _REFUSED = 0.05, 0.1  # mean difference over 3 x 3 encoded values in 0..1


def align(
    pictures: Sequence[np.ndarray], method: Literal["auto", "homography", "mtb"], reference: int, crop: bool = False
) -> list[np.ndarray]:
    """Brings every picture onto the reference.

    Args:
        pictures: [H, W, 3] RGB or [H, W], uint8 or uint16, all of one height and width.
        method: "homography" for any movement of the camera, "mtb" for shifts by up to 64 pixels; "auto" tries both and takes
            that with which the edges agree better with the reference's (`_edge_agreement`), or leaves the picture as it came
            if they do not agree well, and clearly better than they did.
        reference: index of the picture that stays as it is.
        crop: cut all of them to the largest rectangle that every picture reaches.

    Returns:
        The pictures in the same order, size (but for `crop`) and depth; black where a picture does not reach. One that cannot
        be aligned is returned as it came, with a warning in the log. What "auto" took, and what is left of the size, the log
        says in a line.

    Raises:
        ValueError: an unknown method; `crop`, and no pixel that every picture reaches.
    """
    if method not in ("auto", *_METHODS):
        raise ValueError(f"expected the alignment auto, homography or mtb, found {method!r}")
    target = pictures[reference]
    aligned, common, taken = list(pictures), np.full(target.shape[:2], True), []
    for index, picture in enumerate(pictures):
        if index == reference:
            continue
        if method == "auto":
            moved, reached, told = _moved_best(picture, target)
            taken.append(f"picture {index + 1} {told}")
        else:
            moved, reached, reason = _moved(picture, target, method)
            if moved is None:
                logging.warning("picture %d of %d is not aligned: %s", index + 1, len(pictures), reason)
        if moved is not None:
            aligned[index] = moved
            common &= reached
    if taken:
        logging.info("aligned onto picture %d of %d: %s", reference + 1, len(pictures), "; ".join(taken))
    if crop:
        rows, columns = _largest_rectangle(common)
        aligned = [picture[rows, columns] for picture in aligned]
        sizes = *aligned[0].shape[1::-1], *target.shape[1::-1]
        logging.info("cropped to %d x %d of %d x %d, from column %d and row %d", *sizes, columns.start, rows.start)
    return aligned


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


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Returns the matrix, [3, 3] float64, from pixel coordinates (x, y, 1) of `target` to those of `source`, pictures as in
    `align`; None where none is found or it is not to be trusted."""
    return _find_homography(source, target)[0]


def warp(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Samples `picture` at `matrix` times each pixel's coordinates: Lanczos over 8 x 8 pixels, black outside."""
    height, width = picture.shape[:2]
    return cv2.warpPerspective(picture, matrix, (width, height), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)


def _moved(source, target, method):
    """Returns `source` brought onto `target`, the pixels that it reaches, [H, W] bool, and None; or None, None and why not."""
    find = _find_homography if method == "homography" else _find_shift
    apply = warp if method == "homography" else cv2.createAlignMTB().shiftMat
    found, reason = find(source, target)
    if found is None:
        return None, None, reason
    # What stays at half the range was interpolated from nothing beyond the border.
    return apply(source, found), apply(np.full(source.shape[:2], 128, np.uint8), found) == 128, None


def _moved_best(source, target):
    """As `_moved`, by the method that the edges speak for, if any; in place of the reason always some words about it."""
    before = _edge_agreement(source, target, np.full(source.shape[:2], True))
    best, told = (max(before + _GAIN, _AGREEING), None, None, "stays"), []
    for method in _METHODS:
        moved, reached, _ = _moved(source, target, method)
        after = None if moved is None else _edge_agreement(moved, target, reached)
        told.append(f"{method} {'finds nothing' if after is None else f'{after:.2f}'}")
        if after is not None and after > best[0]:
            best = after, moved, reached, f"by {method}"
    return *best[1:3], f"{best[3]} (agreement of edges {before:.2f} as it came, {', '.join(told)})"


def _edge_agreement(picture, target, within):
    """Correlation of the gradients of the logarithms, -1 to 1, over the pixels `within` that are clipped in neither picture.

    Exposures of a scene have the same gradients, whatever the exposure. Of 12 real pairs it was 0.6 to 0.95 as they stand (0.1
    of one that is noise), half a pixel beside about 0.1 lower, and six pixels beside mostly below 0.2. Threshold bitmaps
    would be no judge: in a pair that shares few tones they agree best where hardly any is left to compare.
    """
    pictures = [_gray(picture), _gray(target), np.where(within, np.uint8(255), np.uint8(0))]
    scale = (_MATCHING_PIXELS / within.size) ** 0.5
    if scale < 1:
        pictures = [cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for values in pictures]
    first, second, within = pictures
    within = cv2.erode(within, np.ones((3, 3))) == 255  # the border is an edge too
    seen = within & (np.minimum(first, second) > 8) & (np.maximum(first, second) < 247)
    logs = [np.log(4 + np.float32(values)) for values in (first, second)]
    one, other = (np.concatenate([cv2.Sobel(log, cv2.CV_32F, *way)[seen] for way in ((1, 0), (0, 1))]) for log in logs)
    scales = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / scales) if scales > 0 else 0.0


def _largest_rectangle(mask):
    """Returns the rows and columns (slices) of the largest rectangle in [H, W] bool, whose rows are whole: no gaps.

    Of all pairs of a first and a last row: between them the rectangle is as wide as the rows have in common.
    """
    height, width = mask.shape
    left, right = mask.argmax(axis=1), width - mask[:, ::-1].argmax(axis=1)
    right[~mask.any(axis=1)] = 0
    best = 0, 0, 0, 0, 0  # area, first and last row, first and last column
    for first in range(height):
        starts, ends = np.maximum.accumulate(left[first:]), np.minimum.accumulate(right[first:])
        areas = (ends - starts) * np.arange(1, height - first + 1)
        last = areas.argmax()
        best = max(best, (areas[last].item(), first, first + last + 1, starts[last].item(), ends[last].item()))
    if best[0] <= 0:
        raise ValueError("crop: there is no pixel that every aligned picture reaches")
    return slice(*best[1:3]), slice(*best[3:])


def _find_homography(source, target):
    """Returns the matrix of `homography` and None, or None and the reason why there is none."""
    cv2.setRNGSeed(0)
    sift = cv2.SIFT_create()
    scale, gray = 1.0, [tone.adaptive_gamma(_gray(picture)) for picture in (target, source)]
    if gray[0].size > _MATCHING_PIXELS:
        scale = (_MATCHING_PIXELS / gray[0].size) ** 0.5
        gray = [cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for picture in gray]
    (points, features), (source_points, source_features) = (sift.detectAndCompute(picture, None) for picture in gray)
    good = []
    if min(len(points), len(source_points)) >= 2:  # the ratio test asks for two neighbours
        matcher = cv2.FlannBasedMatcher({"algorithm": _KDTREE, "trees": 5}, {"checks": 50})
        pairs = matcher.knnMatch(features, source_features, k=2)
        good = [best for best, second in pairs if best.distance < _RATIO * second.distance]
    if len(good) <= _MORE_MATCHES_THAN:
        found = f"{len(good)} matches of {len(points)} and {len(source_points)} features"
        return None, f"expected more than {_MORE_MATCHES_THAN} good matches, found {found}"

    here = np.float32([points[match.queryIdx].pt for match in good])
    there = np.float32([source_points[match.trainIdx].pt for match in good])
    matrix, inliers = cv2.findHomography(here, there, cv2.RANSAC, _RANSAC_PIXELS * scale)
    if matrix is None or inliers.sum() < _MIN_INLIERS:
        agree = 0 if matrix is None else inliers.sum()
        return None, f"expected at least {_MIN_INLIERS} matches that agree on a homography, found {agree} of {len(good)}"
    if scale != 1:  # a pixel's centre (x + 0.5) scales, not its index
        enlarge = np.array([[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]])
        matrix = enlarge @ matrix @ np.linalg.inv(enlarge)
        matrix /= matrix[2, 2]
    doubt = _doubt(matrix, *source.shape[:2])
    return (None, doubt) if doubt else (matrix, None)


def _doubt(matrix, height, width):
    """Tells why a matrix is no movement of a camera between two exposures, or returns None."""
    if not np.isfinite(matrix).all():
        return "the homography is not finite"
    determinant = np.linalg.det(matrix[:2, :2])
    if not 0.5 < determinant < 2:
        return f"the homography changes areas {determinant:.3g} times, expected 0.5 to 2"
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    x, y, depth = matrix @ corners.T
    if depth.min() <= 0.5:
        return f"the homography bends a corner to the horizon (depth {depth.min():.3g}, expected above 0.5)"
    moved = np.hypot(x / depth - corners[:, 0], y / depth - corners[:, 1]).max()
    limit = max(height, width) / 2
    if moved > limit:
        return f"the homography moves a corner by {moved:.0f} pixels, expected at most {limit:.0f}"
    return None


def _find_shift(source, target):
    """Returns AlignMTB's shift (x, y) that brings `source` onto `target` and None, or None and the reason why there is none.

    On pictures without a clear median (nearly black, white or flat) AlignMTB answers with its largest shift; so the shift has
    to make the bitmaps agree better than they do unshifted.
    """
    gray_target, gray_source = _gray(target), _gray(source)
    # Its pyramid is as deep as the longer side allows, and fails where the shorter one is used up.
    aligner = cv2.createAlignMTB(max_bits=max(1, min(6, int(np.log2(min(gray_target.shape))) - 1)))
    shift = aligner.calculateShift(gray_target, gray_source)
    if tuple(shift) == (0, 0):
        return shift, None
    bits_target, clear_target = aligner.computeBitmaps(gray_target)
    bits_source, clear_source = aligner.computeBitmaps(gray_source)

    def disagreement(shift):
        clear = cv2.bitwise_and(clear_target, aligner.shiftMat(clear_source, shift))
        differ = cv2.bitwise_xor(bits_target, aligner.shiftMat(bits_source, shift))
        return cv2.countNonZero(cv2.bitwise_and(differ, clear)) / max(cv2.countNonZero(clear), 1)

    before, after = disagreement((0, 0)), disagreement(shift)
    if after >= before:
        return None, f"a shift by {tuple(shift)} changes the disagreement of the bitmaps from {before:.2%} to {after:.2%}"
    return shift, None


def _find_flow(source, exposure, target, target_exposure, finest=_COARSE):
    """Returns the flow from `target` to `source`, [H, W, 2] (x, y) in pixels, and None, or None and the reason why not.

    A flow has to make the pictures agree better, where the target is not clipped, than they do without it. One that does
    not and is next to nothing means that nothing moved: no flow then, with a reason if there was nothing to see.
    """
    adjusted = _brightened(target, source, target_exposure, exposure)
    gray_target, gray_source = (_gray(from_unit(picture, np.uint8)) for picture in adjusted)
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
    return [tone.to_exposure(tone.to_radiance(values, taken), common) for values, taken in pairs]


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


def _gray(picture):
    picture = to_depth(picture, 8)
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
