"""Images that do not reach everywhere: another program moved them and left the rest of their frame transparent.

What an image does not show has no weight in a fusion or a merge. It shows there what the exposure next to it shows, as bright
as if it had been exposed like the image itself. So every system takes such a bracket, and no seam appears where an image ends.
Where no image reaches, they continue to the nearest pixel, so that nothing rings, and the result is transparent.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import tone

_LEVELS = 256  # of the curve between two exposures
_POINTS = 1_000_000  # from which it is measured
_CLIPPED = 0.98  # of the brightest channel


def fill(
    images: Sequence[np.ndarray], reached: Sequence[np.ndarray | None], exposures: Sequence[float] | None = None
) -> list[np.ndarray]:
    """Returns the images with what others show in place of what they do not reach; images that reach everywhere stay.

    Args:
        images: N of [H, W, 3] or [H, W], uint8 or uint16, of one size and type.
        reached: N of [H, W] bool, None for everywhere.
        exposures: [N], of images of gamma 2.2; None if the brightness has to be measured where two images overlap.
    """
    if all(mask is None for mask in reached):
        return list(images)
    everywhere = np.ones(images[0].shape[:2], bool)
    masks = [everywhere if mask is None else mask for mask in reached]
    covered = union(reached)
    covered = everywhere if covered is None else covered
    filled = []
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if mask.all():
            filled.append(image)
            continue
        image, mask = image.copy(), mask.copy()
        others = sorted((j for j in range(len(images)) if j != i), key=lambda j: _distance(images, masks, exposures, i, j))
        for also_clipped in (False, True):
            for j in others:
                where = ~mask & masks[j]
                if not also_clipped:
                    peak = images[j] if images[j].ndim == 2 else images[j].max(axis=2)
                    where &= peak < _CLIPPED * np.iinfo(image.dtype).max
                if where.any():
                    image[where] = _shown(images, masks, exposures, i, j, where)
                    mask |= where
        if covered.any() and not covered.all():
            image[~covered] = image.reshape(covered.size, -1)[_nearest(covered)].reshape(-1, *image.shape[2:])
        filled.append(image)
    return filled


def union(reached: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Returns where at least one image reaches, [H, W] bool, or None for everywhere."""
    if any(mask is None for mask in reached):
        return None
    result = np.logical_or.reduce(reached)
    return None if result.all() else result


def common(reached: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Returns where every image reaches, [H, W] bool, or None for everywhere."""
    masks = [mask for mask in reached if mask is not None]
    return np.logical_and.reduce(masks) if masks else None


def _distance(images, masks, exposures, i, j):
    if exposures is not None:
        return abs(math.log(exposures[j] / exposures[i]))
    both = masks[i] & masks[j]
    if not both.any():
        return math.inf
    one, other = (float(images[k][both].mean()) + 1 for k in (i, j))
    return abs(math.log(one / other))


def _shown(images, masks, exposures, i, j, where):
    """What image j shows at the places, in the brightness of image i; in the type of both."""
    values, top = images[j][where], np.iinfo(images[j].dtype).max
    if exposures is not None:
        gain = (exposures[i] / exposures[j]) ** (1 / tone.DISPLAY_GAMMA)
        return np.rint(np.clip(values * gain, 0, top)).astype(values.dtype)
    both = np.flatnonzero(masks[i] & masks[j])
    both = both[:: max(1, both.size // _POINTS)]
    if not both.size:
        return values
    if values.ndim == 1 or images[i].ndim != images[j].ndim:
        return _curve(_gray(images[i]).ravel()[both], _gray(images[j]).ravel()[both], top)(_gray(values))
    channels = range(values.shape[1])
    pairs = [[images[k][..., c].ravel()[both] for k in (i, j)] for c in channels]
    return np.stack([_curve(*pair, top)(values[:, c]) for c, pair in zip(channels, pairs, strict=True)], axis=1)


def _curve(target, source, top):
    """A function from values of the source to those of the target, which rises; measured by means."""
    bins = source.astype(np.int64) * (_LEVELS - 1) // top
    counts = np.bincount(bins, minlength=_LEVELS)
    known = np.flatnonzero(counts)
    x, y = (np.bincount(bins, v.astype(np.float64), _LEVELS)[known] / counts[known] for v in (source, target))
    y = np.maximum.accumulate(y)
    # Beyond what both show, the last ratio goes on.
    end = min(top, top * y[-1] / x[-1]) if x[-1] > 0 else top
    x, y = np.r_[-1e-6, x, top + 1e-6], np.r_[0, y, max(end, y[-1])]
    return lambda values: np.rint(np.interp(values, x, y)).astype(source.dtype)


def _gray(values):
    return values if values.shape[-1:] != (3,) else values.mean(axis=-1).astype(values.dtype)


def _nearest(covered):
    """The flat index of the nearest covered pixel, for every pixel that is not."""
    kinds = {"labelType": cv2.DIST_LABEL_PIXEL}
    _, labels = cv2.distanceTransformWithLabels(np.uint8(~covered), cv2.DIST_L2, 5, **kinds)
    places = np.zeros(labels.max() + 1, np.int64)
    places[labels[covered]] = np.flatnonzero(covered)
    return places[labels[~covered]]
