"""Classical merges of an aligned bracket to radiance, to which the networks are compared.

All take `ldr`, [N, H, W, 3] float32 in 0..1, RGB, gamma 2.2, short to long, and `exposures`, [N], the factors (2**stops) that
multiplied the radiance. N is 2 or more, for `syn_hdr` 3. They return radiance, [H, W, 3] float32 from 0, in the scale of the
exposures: they reproduce a still scene without noise. `MERGES` lists them. Where all weights of a value are 0, the merges use
the shortest exposure that is clipped (the true radiance is at least that), or the longest one if all are dark. The weights of
`syn_hdr` are never all 0.

P. Debevec, J. Malik, "Recovering high dynamic range radiance maps from photographs", SIGGRAPH 1997.
N. K. Kalantari, R. Ramamoorthi, "Deep high dynamic range imaging of dynamic scenes", ACM TOG 36(4), 2017: the triangles.
Z. Zhang et al., "Self-supervised high dynamic range imaging with multi-exposure images in dynamic scenes", ICLR 2024
(cszhilu1998/SelfHDR 9e8af4a, util/util.py, syn_hdr): the colour label with which SelfHDR trains.
M. Granados et al., "Optimal HDR reconstruction with linear digital cameras", CVPR 2010: inverse variance as the weight.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit


def medium(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the radiance of the medium exposure (of an even number the darker of the two); clipped values are lost."""
    reference = (len(ldr) - 1) // 2
    return tone.to_radiance(ldr[reference], exposures[reference])


def hat(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the mean of the exposures' radiance, each value v of each channel weighted by min(v, 1 - v).

    A value that rounds to 255 in 8 bit has weight 0: interpolation can leave clipped values slightly below 1, and where every
    exposure is clipped, such a difference would decide.
    """
    return _mean(ldr, exposures, [np.where(image > 254.5 / 255, 0, np.minimum(image, 1 - image)) for image in ldr])


def snr(ldr: np.ndarray, exposures: Sequence[float], full_well: float = 10_000, read_noise: float = 5e-4) -> np.ndarray:
    """Returns the mean of the exposures' radiance, each weighted by exposure**2 / variance of the noise.

    Shot and read noise of a signal s = v**2.2 have the variance s / full_well + read_noise**2; in radiance it is divided by
    exposure**2. Values above 0.98 count as clipped and have weight 0. `full_well` is in electrons per saturated pixel;
    `read_noise` is the standard deviation of the sensor's own noise, as a fraction of the full well.
    """
    weights = []
    for image, exposure in zip(ldr, exposures, strict=True):
        variance = tone.to_radiance(image, 1) / np.float32(full_well) + np.float32(read_noise**2)
        weight = np.float32(exposure**2) / np.maximum(variance, np.float32(1e-12))  # black without read noise has none
        weights.append(np.where(image > 0.98, np.float32(0), weight))
    return _mean(ldr, exposures, weights)


def debevec(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the result of cv2.createMergeDebevec, the weighted mean of logarithms, for images rounded to 8 bit.

    With the response (level / 255)**2.2 and the exposures as times, the result is radiance in the project's scale: the factor
    is 1 (measured with OpenCV 5.0). Level 0 counts as half a level, to keep its logarithm finite. OpenCV's weights are a
    triangle over the levels, averaged over the channels: a clipped channel has at least 1/128 of the maximum weight, and the
    full weight where the other channels are well exposed. Therefore highlights and saturated colours become too dark, which is
    a property of the method. The result is replaced only where every exposure is clipped.
    """
    levels = from_unit(ldr, np.uint8)
    response = np.maximum(np.arange(256), 0.5) / 255
    response = np.tile((response**tone.DISPLAY_GAMMA).astype(np.float32)[:, None, None], (1, 1, 3))
    merged = cv2.createMergeDebevec().process(list(levels), np.float32(exposures), response)
    return np.where(levels.min(axis=0) == 255, _last_resort(ldr, exposures), merged)


def syn_hdr(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the mean of the exposures' radiance with the weights of `triangles`.

    Where the medium exposure is clipped, only the short one counts; where it is black, only the long one. The long one counts
    even where it is clipped itself: with three stops more, it is clipped already below v = 0.5 of the medium one. Values there
    are too dark by at most 3 % (at v = 0.44), which is a property of the method.
    """
    return _weighted_sum(ldr, exposures, triangles(ldr[1]))


def triangles(medium: np.ndarray) -> np.ndarray:
    """Returns the weights of short, medium and long exposure, [3, ...], which add up to 1: max(2 v - 1, 0), 1 - |2 v - 1| and
    max(1 - 2 v, 0) for a value v in 0..1 of the medium exposure."""
    bright = 2 * np.asarray(medium) - 1
    return np.stack([np.maximum(bright, 0), 1 - np.abs(bright), np.maximum(-bright, 0)])


MERGES = {"medium": medium, "hat": hat, "snr": snr, "debevec": debevec, "syn_hdr": syn_hdr}
THREE_EXPOSURES = frozenset({"syn_hdr"})  # the names of those that take no other number


def _mean(ldr, exposures, weights):
    total, merged = sum(weights), _weighted_sum(ldr, exposures, weights)
    return np.where(total > 0, merged / np.where(total > 0, total, 1), _last_resort(ldr, exposures))


def _weighted_sum(ldr, exposures, weights):
    images = zip(weights, ldr, exposures, strict=True)
    return sum(weight * tone.to_radiance(image, exposure) for weight, image, exposure in images)


def _last_resort(ldr, exposures):
    """Radiance of the shortest exposure that is bright there, or of the longest if none is."""
    radiance = tone.to_radiance(ldr[-1], exposures[-1])
    for image, exposure in reversed(list(zip(ldr, exposures, strict=True))):
        radiance = np.where(image > 0.5, tone.to_radiance(image, exposure), radiance)
    return radiance
