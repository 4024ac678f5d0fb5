"""Classical merges: an aligned bracket of three exposures to radiance. What ESBN's merging network is measured against.

    medium    the medium exposure alone
    hat       mean weighted by min(v, 1 - v): trust in the middle of the range
    snr       mean weighted by the inverse variance of a sensor's noise: the best there is where nothing is clipped
    debevec   OpenCV's createMergeDebevec with the true response and the true times
    syn_hdr   mean weighted by triangles over the medium exposure: the colour label that SelfHDR trains with

All take `ldr`, [3, H, W, 3] float32 in 0..1, RGB, gamma 2.2, short to long, and `exposures`, [3], the factors (2**stops) that
the radiance was multiplied by; they return radiance, [H, W, 3] float32 from 0 in the scale that the exposures belong to, so
that a still scene without noise comes back as it was. `MERGES` lists them.

Where no exposure of a value counts, the shortest one that is clipped is taken (the truth is at least that), or, if all are
dark, the longest; by the weights of `syn_hdr` one always counts.

References
----------
P. Debevec, J. Malik, "Recovering high dynamic range radiance maps from photographs", SIGGRAPH 1997.
N. K. Kalantari, R. Ramamoorthi, "Deep high dynamic range imaging of dynamic scenes", ACM TOG 36(4), 2017: the triangles.
Z. Zhang et al., "Self-supervised high dynamic range imaging with multi-exposure images in dynamic scenes", ICLR 2024
(cszhilu1998/SelfHDR 9e8af4a, util/util.py, syn_hdr).
M. Granados et al., "Optimal HDR reconstruction with linear digital cameras", CVPR 2010: inverse variance as the weight.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit

CLIPPED = 0.98


def medium(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the radiance of the medium exposure; what it clips is lost."""
    return tone.to_radiance(ldr[1], exposures[1])


def hat(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the mean of the exposures' radiance, each value v of each channel weighted by min(v, 1 - v).

    A value that 8 bit round to 255 has no weight: interpolation leaves clipped ones a last bit below 1, and where every
    exposure is clipped that bit would decide.
    """
    return _mean(ldr, exposures, [np.where(picture > 254.5 / 255, 0, np.minimum(picture, 1 - picture)) for picture in ldr])


def snr(ldr: np.ndarray, exposures: Sequence[float], full_well: float = 10_000, read_noise: float = 5e-4) -> np.ndarray:
    """Returns the mean of the exposures' radiance, each weighted by exposure**2 over the noise's variance.

    Shot and read noise of a signal s = v**2.2 have the variance s / full_well + read_noise**2, the exposure**2 less in
    radiance. Values above 0.98 count as clipped and have no weight.

    Args:
        ldr: see above.
        exposures: see above.
        full_well: electrons of a saturated pixel.
        read_noise: standard deviation of the sensor's own noise, as a part of the full well.
    """
    weights = []
    for picture, exposure in zip(ldr, exposures, strict=True):
        variance = tone.to_radiance(picture, 1) / np.float32(full_well) + np.float32(read_noise**2)
        weight = np.float32(exposure**2) / np.maximum(variance, np.float32(1e-12))  # of black without read noise
        weights.append(np.where(picture > CLIPPED, np.float32(0), weight))
    return _mean(ldr, exposures, weights)


def debevec(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the merge of cv2.createMergeDebevec: the logarithms' mean, of pictures rounded to 8 bit.

    With a response of (level / 255)**2.2 and the exposures as times its result is radiance in the project's scale: the
    factor is 1 (measured with OpenCV 5.0). Level 0 stands for half a level, as a logarithm has to be finite.

    OpenCV's weights are a triangle over the levels, averaged over the channels, and never 0: a clipped channel counts at
    least 1/128 of the best one, and all of it where its neighbours are well exposed. So highlights and saturated colours
    come out too dark, which belongs to the method. Only where every exposure is clipped is its result replaced.
    """
    levels = from_unit(ldr, np.uint8)
    response = np.maximum(np.arange(256), 0.5) / 255
    response = np.tile((response**tone.DISPLAY_GAMMA).astype(np.float32)[:, None, None], (1, 1, 3))
    merged = cv2.createMergeDebevec().process(list(levels), np.float32(exposures), response)
    return np.where(levels.min(axis=0) == 255, _last_resort(ldr, exposures), merged)


def syn_hdr(ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
    """Returns the mean of the exposures' radiance by the weights of `triangles`.

    Where the medium exposure is clipped the short one alone counts, where it is black the long one. The long one counts
    also where it is clipped itself, as it is below v = 0.5 of the medium one at three stops more: values there come out
    too dark by 3 % at the most (v = 0.44), which belongs to the method.
    """
    return sum(
        weight * tone.to_radiance(picture, exposure)
        for weight, picture, exposure in zip(triangles(ldr[1]), ldr, exposures, strict=True)
    )


def triangles(medium: np.ndarray) -> np.ndarray:
    """Returns the weights of short, medium and long exposure, [3, ...], for values v of the medium one: max(2 v - 1, 0),
    1 - |2 v - 1| and max(1 - 2 v, 0), which add up to 1.

    Args:
        medium: float32 in 0..1 of any shape.
    """
    bright = 2 * np.asarray(medium) - 1
    return np.stack([np.maximum(bright, 0), 1 - np.abs(bright), np.maximum(-bright, 0)])


MERGES = {"medium": medium, "hat": hat, "snr": snr, "debevec": debevec, "syn_hdr": syn_hdr}


def _mean(ldr, exposures, weights):
    total = sum(weights)
    merged = sum(
        weight * tone.to_radiance(picture, exposure) for weight, picture, exposure in zip(weights, ldr, exposures, strict=True)
    )
    return np.where(total > 0, merged / np.where(total > 0, total, 1), _last_resort(ldr, exposures))


def _last_resort(ldr, exposures):
    """Radiance of the shortest exposure that is bright, or of the longest if none is."""
    radiance = tone.to_radiance(ldr[-1], exposures[-1])
    for picture, exposure in reversed(list(zip(ldr, exposures, strict=True))):
        radiance = np.where(picture > 0.5, tone.to_radiance(picture, exposure), radiance)
    return radiance
