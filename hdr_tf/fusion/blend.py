"""The last stage of the network `pyramid` in OpenCV: it adds the details at half and at full size, without TensorFlow.

It computes what the stage `blend` of `hdr_tf.models.pyramid` computes. LiteRT needs several times as long for these steps,
which are few for each pixel: most of the time is saved by tiles that fit into the processor's cache.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image.exposure_fusion import block_means

MARGIN, LEAK = 0.1, 0.1  # as in hdr_tf.models.pyramid
TILE = 256  # pixels, a multiple of 4


def blend(
    exposures: Sequence[np.ndarray],
    full_weights: Sequence[np.ndarray],
    half_weights: Sequence[np.ndarray],
    quarter_blend: np.ndarray,
) -> np.ndarray:
    """Returns the fused image [H, W, 3], float32, about 0..1.

    Args:
        exposures: [H, W, 3] each, float32 in 0..1.
        full_weights, half_weights: for each exposure float32 [H / 4, W / 4, 1], sizes rounded up.
        quarter_blend: float32 [H / 4, W / 4, 3].
    """
    size = exposures[0].shape[1::-1]
    halves = [block_means(image) for image in exposures]
    half_size = halves[0].shape[1::-1]
    half_weights = [_doubled(weight, half_size) for weight in half_weights]
    fused = _doubled(quarter_blend, half_size)
    for half, weight in zip(halves, half_weights, strict=True):
        fused += cv2.multiply(half - _doubled(block_means(half), half_size), _repeated(weight))
    margin = _repeated(MARGIN * (sum(half_weights) - 1))
    inside = cv2.max(cv2.min(fused, 1 - margin), margin)
    fused = inside + LEAK * (fused - inside)

    # The weights sum to 1, so the last exposure needs none.
    *others, last = exposures
    result = last.copy()
    for image, weight in zip(others, full_weights, strict=False):
        result += cv2.multiply(image - last, _repeated(_doubled(_doubled(weight, half_size), size)))
    return result + _doubled(fused - block_means(result), size)


def _repeated(plane):
    return cv2.merge([plane] * 3)


def _doubled(image, size):
    """Bilinear enlargement by two, cut to (width, height)."""
    height, width = image.shape[:2]
    return cv2.resize(image, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)[: size[1], : size[0]]
