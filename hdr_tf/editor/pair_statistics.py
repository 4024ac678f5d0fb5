"""What the features "pair" tell the editor's agent: thirteen plain numbers of each of the three images that are fused.

In this order, for the under-exposed, the over-exposed and the virtual exposure: mean and deviation of the gray image; shares of
the pixels with max(R, G, B) >= 0.98, min(R, G, B) <= 0.02 and max(R, G, B) <= 0.05; mean saturation; means of red, green and
blue; mean of max(R, G, B); mean absolute Laplacian; mean deviation of the gray image in 9x9 pixels; mean well-exposedness.
Saturation, Laplacian and well-exposedness are those of hdr_tf/image/exposure_fusion.py.
"""

import functools

import cv2
import numpy as np

from hdr_tf.image.depth import to_unit
from hdr_tf.image.exposure_fusion import contrast, saturation, well_exposedness

# Of each number, over some 2,500 states of synthetic pairs of the radiance files that policies are trained with. Policies in
# files depend on them, so they never change.
MEANS = np.float32(
    [
        [0.266, 0.166, 0.039, 0.113, 0.138, 0.041, 0.278, 0.261, 0.259, 0.316, 0.041, 0.034, 0.150],
        [0.696, 0.228, 0.438, 0.011, 0.006, 0.057, 0.715, 0.692, 0.663, 0.755, 0.067, 0.050, 0.154],
        [0.479, 0.164, 0.033, 0.031, 0.022, 0.061, 0.499, 0.474, 0.453, 0.547, 0.067, 0.051, 0.412],
    ]
)
DEVIATIONS = np.float32(
    [
        [0.180, 0.073, 0.094, 0.199, 0.220, 0.043, 0.198, 0.179, 0.183, 0.213, 0.026, 0.020, 0.145],
        [0.188, 0.088, 0.267, 0.047, 0.035, 0.049, 0.191, 0.194, 0.213, 0.185, 0.042, 0.030, 0.126],
        [0.150, 0.057, 0.119, 0.071, 0.059, 0.046, 0.165, 0.154, 0.169, 0.169, 0.037, 0.025, 0.208],
    ]
)


def pair_statistics(fuse, virtual: np.ndarray) -> np.ndarray:
    """Returns the numbers of the pair of a `virtual_exposure.PairFusion` and of a virtual exposure, [H, W, 3] float32 RGB in
    0..1, with means of about 0 and deviations of about 1: float32 [39]."""
    return ((np.stack([*_of_pair(fuse), numbers(virtual)]) - MEANS) / DEVIATIONS).ravel()


@functools.lru_cache(maxsize=2)  # the pair stays the same for an episode; validation runs between two of training
def _of_pair(fuse):
    return [numbers(to_unit(image)) for image in fuse.pair]


def numbers(image: np.ndarray) -> np.ndarray:
    """Returns the thirteen numbers of an image, [H, W, 3] float32 RGB in 0..1, as float32 [13]."""
    planes = cv2.split(image)
    highest, lowest = (function(function(planes[0], planes[1]), planes[2]) for function in (cv2.max, cv2.min))
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, square = (cv2.boxFilter(plane, -1, (9, 9)) for plane in (gray, gray * gray))
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    shares = highest >= 0.98, lowest <= 0.02, highest <= 0.05
    rest = saturation(image), *planes, highest, contrast(image), deviation, well_exposedness(image)
    return np.float32([gray.mean(), gray.std(), *map(np.mean, (*shares, *rest))])
