"""Alignment of a bracket: moves each image onto a reference by a homography or a shift.

"homography" is HyperP_MB's method (Changi-Im/HyperP_MB, homography_warp.py, commit 9f676f6): SIFT on adaptively gamma-corrected
gray images, FLANN, the ratio test and RANSAC; then the image that is not the reference is warped, black outside. "mtb" is
Ward's median threshold bitmaps in OpenCV: whole pixels, no rotation, much faster. "auto" tries both and checks the results.

Kept: the parameters of SIFT and FLANN, the direction of the matching, the ratio, the number of matches, RANSAC's threshold,
interpolation and border; with the same random state, the matrix of the original's own pair is equal to the last bit.

Changed: the random numbers of FLANN and RANSAC start from a fixed state, so that results are repeatable. A matrix on which
fewer than 10 matches agree, or that a camera cannot have caused (`_doubt`), leaves the image unaligned, as too few matches do
in the original; so does a shift that does not make the bitmaps agree better. Images above 4 megapixels are reduced to that for
the matching, because SIFT needs about 210 bytes per pixel.
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
_MIN_GAIN, _MIN_AGREEMENT = 0.05, 0.3  # that "auto" requires of a movement, see `_edge_agreement`
_BLOCKS = 256  # each way, at most, of a mask with gaps
_MIDDLE, _LEAST_SHIFT = 1024, 2.0  # pixels, of `displacement`: a side of what it looks at, and what it reports
_MIN_INLIERS = 10  # four points always agree on a homography, and a few more of 21 wrong matches agree by chance


def align(
    images: Sequence[np.ndarray],
    method: Literal["auto", "homography", "mtb"],
    reference: int,
    crop: bool = False,
    masks: list[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Aligns every image with the reference; returns the images in the same order, depth and (without `crop`) size.

    Pixels that an image does not reach are black. An image that cannot be aligned stays as it is, with a warning in the log.

    Args:
        images: [H, W, 3] RGB or [H, W], uint8 or uint16, of one size.
        method: "homography" for any movement of the camera, "mtb" for shifts by up to 64 pixels. "auto" tries both and uses the
            one whose result agrees better with the edges of the reference (`_edge_agreement`); if neither agrees well, and
            clearly better than the image as it is, the image stays. The log says which.
        reference: index of the image that stays as it is.
        crop: crop all images to the largest rectangle that every image covers (ValueError if there is none).
        masks: where each image shows anything, [H, W] bool, if not everywhere. The list is changed: it then says where each
            image shows anything after it was moved, and cropped.
    """
    aligned = list(images)
    align_in_place(aligned, method, reference, crop, masks)
    return aligned


def align_in_place(
    images: list[np.ndarray],
    method: Literal["auto", "homography", "mtb"],
    reference: int,
    crop: bool = False,
    masks: list[np.ndarray] | None = None,
) -> None:
    """Does what `align` does, but puts each aligned image into the list in place of the image, to save memory."""
    if method not in ("auto", *_METHODS):
        raise ValueError(f"expected the alignment auto, homography or mtb, found {method!r}")
    target = images[reference]
    common, chosen = np.full(target.shape[:2], True), []
    if masks is not None:
        common &= masks[reference]
    for index, image in enumerate(images):
        if index == reference:
            continue
        if method == "auto":
            moved, reached, agreement, message = _moved_best(image, target, masks and masks[index])
            chosen.append(f"image {index + 1} {message}")
            reason = None
        else:
            moved, reached, reason = _moved(image, target, method, masks and masks[index])
            agreement = 0.0 if moved is None else _edge_agreement(moved, target, reached)
        if reason or agreement < _MIN_AGREEMENT:
            logging.warning(
                "image %d of %d is not aligned: it shows too little of what image %d shows; if the camera moved, edges are "
                "double in the result (%s)",
                *(index + 1, len(images), reference + 1),
                reason or f"agreement of edges {agreement:.2f}, expected at least {_MIN_AGREEMENT}",
            )
        if moved is not None:
            images[index] = moved
            common &= reached
        if masks is not None:
            masks[index] = masks[index] if moved is None else reached
            common &= masks[index]
    if chosen:
        logging.info("aligned with image %d of %d: %s", reference + 1, len(images), "; ".join(chosen))
    if crop:
        rows, columns = largest_rectangle(common)
        images[:] = [image[rows, columns] for image in images]
        if masks is not None:
            masks[:] = [mask[rows, columns] for mask in masks]
        sizes = *images[0].shape[1::-1], *target.shape[1::-1]
        logging.info("cropped to %d x %d of %d x %d, from column %d and row %d", *sizes, columns.start, rows.start)


def displacement(image: np.ndarray, target: np.ndarray) -> float:
    """Returns by how many pixels a shift would align the middle of an image with that of another one, as far as that makes
    their edges agree clearly better; 0 if it does not. Takes a fraction of the time of `align`; finds no rotation.

    The images are as in `align`; of an image larger than 1 megapixel, the middle is looked at.
    """
    height, width = target.shape[:2]
    rows, columns = (slice((side - min(side, _MIDDLE)) // 2, (side + min(side, _MIDDLE)) // 2) for side in (height, width))
    pair = [_gray(np.ascontiguousarray(values[rows, columns])) for values in (target, image)]
    scale = 2 if min(pair[0].shape) >= _MIDDLE // 2 else 1  # half the size is enough to see a shift of `_LEAST_SHIFT`
    pair = [cv2.resize(values, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA) for values in pair]
    logs = [np.log(4 + np.float32(values)) for values in pair]
    logs = [values - cv2.GaussianBlur(values, (0, 0), 8 / scale) for values in logs]
    window = cv2.createHanningWindow(pair[0].shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(*logs, window)
    distance = scale * float(np.hypot(x, y))
    if not _LEAST_SHIFT <= distance < scale * min(pair[0].shape) / 4:
        return 0.0
    before = _edge_agreement(pair[1], pair[0], np.full(pair[0].shape, True))
    matrix = np.float64([[1, 0, x], [0, 1, y], [0, 0, 1]])
    reached = warp(np.full(pair[0].shape, 128, np.uint8), matrix) == 128
    after = _edge_agreement(warp(pair[1], matrix), pair[0], reached)
    return distance if after > max(before + _MIN_GAIN, _MIN_AGREEMENT) else 0.0


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """Returns the matrix, [3, 3] float64, from pixel coordinates (x, y, 1) of `target` to those of `source`, or None if there
    is none that can be trusted. The images are as in `align`."""
    return _find_homography(source, target)[0]


def warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Samples `image` at `matrix` times the coordinates of each pixel: Lanczos over 8 x 8 pixels, black outside."""
    height, width = image.shape[:2]
    return cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP)


def _moved(source, target, method, mask=None):
    """Returns `source` aligned with `target`, the pixels it covers, [H, W] bool, and None; or None, None and the reason. The
    mask says which pixels of `source` show anything, None for all."""
    find = _find_homography if method == "homography" else _find_shift
    apply = warp if method == "homography" else cv2.createAlignMTB().shiftMat
    movement, reason = find(source, target)
    if movement is None:
        return None, None, reason
    # A pixel of an image of 128 keeps this value only if nothing beyond the border was interpolated into it.
    mask = np.full(source.shape[:2], 128, np.uint8) if mask is None else np.where(mask, np.uint8(128), np.uint8(0))
    return apply(source, movement), apply(mask, movement) == 128, None


def _moved_best(source, target, mask=None):
    """The first two of `_moved`, by the method with the best agreement of edges, if any; the agreement, and a message about the
    choice."""
    before = _edge_agreement(source, target, np.full(source.shape[:2], True))
    best, message = (max(before + _MIN_GAIN, _MIN_AGREEMENT), None, None, "stays"), []
    for method in _METHODS:
        moved, reached, _ = _moved(source, target, method, mask)
        after = None if moved is None else _edge_agreement(moved, target, reached)
        message.append(f"{method} {'failed' if after is None else f'{after:.2f}'}")
        if after is not None and after > best[0]:
            best = after, moved, reached, f"by {method}"
    return (
        *best[1:3],
        before if best[1] is None else best[0],
        f"{best[3]} (agreement of edges: unaligned {before:.2f}, {', '.join(message)})",
    )


def _edge_agreement(image, target, within):
    """Correlation of the gradients of the logarithms, -1 to 1, over the pixels `within` that are clipped in neither image.

    Exposures of a scene have the same gradients, whatever the exposure. On 12 real pairs it was 0.6 to 0.95 (0.1 for one that
    is mostly noise), about 0.1 lower after a shift by half a pixel, and mostly below 0.2 after a shift by six pixels. Threshold
    bitmaps cannot decide: in a pair that shares few tones they agree best where hardly any pixel is left to compare.
    """
    (first, second, within), _ = _reduced([_gray(image), _gray(target), np.where(within, np.uint8(255), np.uint8(0))])
    within = cv2.erode(within, np.ones((3, 3))) == 255  # the border is an edge too
    valid = within & (np.minimum(first, second) > 8) & (np.maximum(first, second) < 247)
    logs = [np.log(4 + np.float32(values)) for values in (first, second)]
    one, other = (np.concatenate([cv2.Sobel(log, cv2.CV_32F, *way)[valid] for way in ((1, 0), (0, 1))]) for log in logs)
    scales = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / scales) if scales > 0 else 0.0


def largest_rectangle(mask: np.ndarray) -> tuple[slice, slice]:
    """Returns the rows and columns of the largest rectangle in [H, W] bool; ValueError if there is none. In a mask larger than
    256 pixels whose rows have gaps it is one that cannot be extended, and about the largest."""
    height, width = mask.shape
    left, right = mask.argmax(axis=1), width - mask[:, ::-1].argmax(axis=1)
    right[~mask.any(axis=1)] = 0
    if (mask.sum(axis=1) < right - left).any():
        return _rectangle_between_gaps(mask)
    best = 0, 0, 0, 0, 0  # area, first and last row, first and last column
    for first in range(height):  # from this row to any other, it is as wide as the overlap of the runs
        starts, ends = np.maximum.accumulate(left[first:]), np.minimum.accumulate(right[first:])
        areas = (ends - starts) * np.arange(1, height - first + 1)
        last = areas.argmax()
        best = max(best, (areas[last].item(), first, first + last + 1, starts[last].item(), ends[last].item()))
    if best[0] <= 0:
        raise ValueError("crop: there is no pixel that every aligned image covers")
    return slice(*best[1:3]), slice(*best[3:])


def _rectangle_between_gaps(mask):
    """`largest_rectangle` of a mask whose rows may have gaps: found in blocks of pixels, then extended pixel by pixel."""
    block = -(-max(mask.shape) // _BLOCKS)
    height, width = (size // block for size in mask.shape)
    blocks = mask[: height * block, : width * block].reshape(height, block, width, block).all(axis=(1, 3))
    best, heights = (0, 0, 0, 0, 0), [0] * (width + 1)
    for row, line in enumerate(blocks):
        heights = [tall + 1 if covered else 0 for tall, covered in zip(heights, line, strict=False)] + [0]
        open_from = []  # (column, height) of rectangles that reach this column, of increasing height
        for column, tall in enumerate(heights):
            start = column
            while open_from and open_from[-1][1] >= tall:
                start, above = open_from.pop()
                best = max(best, ((column - start) * above, row + 1 - above, row + 1, start, column))
            open_from.append((start, tall))
    if best[0] <= 0:
        raise ValueError("crop: there is no pixel that every image covers, or only narrow stripes")
    top, bottom, left, right = (place * block for place in best[1:])
    while top > 0 and mask[top - 1, left:right].all():
        top -= 1
    while bottom < mask.shape[0] and mask[bottom, left:right].all():
        bottom += 1
    while left > 0 and mask[top:bottom, left - 1].all():
        left -= 1
    while right < mask.shape[1] and mask[top:bottom, right].all():
        right += 1
    return slice(top, bottom), slice(left, right)


def _find_homography(source, target):
    """Returns the matrix of `homography` and None, or None and the reason."""
    cv2.setRNGSeed(0)
    sift = cv2.SIFT_create()
    gray, scale = _reduced([tone.adaptive_gamma(_gray(image)) for image in (target, source)])
    (points, features), (source_points, source_features) = (sift.detectAndCompute(image, None) for image in gray)
    good = []
    if min(len(points), len(source_points)) >= 2:  # the ratio test needs two neighbours
        matcher = cv2.FlannBasedMatcher({"algorithm": _KDTREE, "trees": 5}, {"checks": 50})
        pairs = matcher.knnMatch(features, source_features, k=2)
        good = [best for best, second in pairs if best.distance < _RATIO * second.distance]
    if len(good) <= _MORE_MATCHES_THAN:
        features = f"{len(points)} and {len(source_points)} features"
        return None, f"expected more than {_MORE_MATCHES_THAN} good matches, found {len(good)} between {features}"

    here = np.float32([points[match.queryIdx].pt for match in good])
    there = np.float32([source_points[match.trainIdx].pt for match in good])
    matrix, inliers = cv2.findHomography(here, there, cv2.RANSAC, _RANSAC_PIXELS * scale)
    agree = 0 if matrix is None else inliers.sum()
    if agree < _MIN_INLIERS:
        return None, f"expected at least {_MIN_INLIERS} matches that agree on a homography, found {agree} of {len(good)}"
    if scale != 1:  # a pixel's centre (x + 0.5) scales, not its index
        enlarge = np.array([[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]])
        matrix = enlarge @ matrix @ np.linalg.inv(enlarge)
        matrix /= matrix[2, 2]
    doubt = _doubt(matrix, *source.shape[:2])
    return (None, doubt) if doubt else (matrix, None)


def _doubt(matrix, height, width):
    """Returns the reason why a matrix cannot be a movement of the camera between two exposures, or None."""
    if not np.isfinite(matrix).all():
        return "the homography is not finite"
    determinant = np.linalg.det(matrix[:2, :2])
    if not 0.5 < determinant < 2:
        return f"the homography changes areas {determinant:.3g} times, expected 0.5 to 2"
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    x, y, depth = matrix @ corners.T
    if depth.min() <= 0.5:
        return f"the homography moves a corner towards the horizon (depth {depth.min():.3g}, expected above 0.5)"
    moved = np.hypot(x / depth - corners[:, 0], y / depth - corners[:, 1]).max()
    limit = max(height, width) / 2
    if moved > limit:
        return f"the homography moves a corner by {moved:.0f} pixels, expected at most {limit:.0f}"
    return None


def _find_shift(source, target):
    """Returns AlignMTB's shift (x, y) that aligns `source` with `target` and None, or None and the reason.

    For images without a clear median (nearly black, white or flat) AlignMTB returns its largest shift, so a shift must make the
    bitmaps agree better.
    """
    gray_target, gray_source = _gray(target), _gray(source)
    # OpenCV's default depth suits the longer side and fails if the shorter side is too small for it.
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


def _reduced(images):
    """Returns gray images of one size, reduced to `_MATCHING_PIXELS` if they are larger, and the scale, at most 1."""
    scale = min(1.0, (_MATCHING_PIXELS / images[0].size) ** 0.5)
    if scale < 1:
        images = [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for image in images]
    return images, scale


def _gray(image):
    image = to_depth(image, 8)
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
