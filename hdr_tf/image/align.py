"""Alignment of a bracket: each image is brought onto a reference by a homography or a shift.

`homography` is HyperP_MB's (Changi-Im/HyperP_MB, homography_warp.py, commit 9f676f6): SIFT on adaptively gamma-corrected
gray images, FLANN, the ratio test, RANSAC; then the image that is not the reference is warped, black outside.
"mtb" is Ward's median threshold bitmaps as OpenCV has them: whole pixels, no rotation, and much faster.
"auto" tries both and checks the results. `hdr_tf.image.optical_flow` also follows what moves in the scene.

Kept: SIFT's and FLANN's parameters, the direction of the matching, ratio, number of matches, RANSAC's threshold,
interpolation and border; with the random state set, the matrix of the original's own pair to the last bit.

Changed:
- the random numbers of FLANN and RANSAC start from a fixed state, so that a result can be repeated;
- a matrix on which fewer than 10 matches agree, or that no hand could have caused (see `_doubt`), falls back to no
  alignment, as too few matches do in the original;
- a shift that does not make the bitmaps agree better also falls back (see `_find_shift`);
- images above 4 megapixels are reduced to that for the matching: SIFT takes about 210 bytes a pixel.
"""

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import tone
from hdr_tf.image.depth import to_depth

_RATIO = 0.7
_MORE_MATCHES_THAN = 20
_RANSAC_PIXELS = 5.0
_MATCHING_PIXELS = 4_000_000
_KDTREE = 1  # FLANN_INDEX_KDTREE, which cv2 does not name
_METHODS = ("homography", "mtb")
_GAIN, _AGREEING = 0.05, 0.3  # what moving a picture has to bring, and how far its edges have to agree then
_MIN_INLIERS = 10  # four points always agree on a homography, and of 21 wrong matches a few more do by chance


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


def _gray(picture):
    picture = to_depth(picture, 8)
    return picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
