"""Classical exposure fusion.

mertens, mertens_reference      OpenCV's exposure fusion of any number of images
"""

from collections.abc import Sequence

import cv2
import numpy as np


def mertens(
    exposures: Sequence[np.ndarray], contrast_weight: float = 1, saturation_weight: float = 1, exposedness_weight: float = 1
) -> np.ndarray:
    """Fuses exposures, uint8 [N, H, W, 3] RGB, with OpenCV's exposure fusion (Mertens et al. 2007).

    Args:
        exposures: the images.
        contrast_weight: exponent of the contrast in the weight of a pixel.
        saturation_weight: exponent of the saturation.
        exposedness_weight: exponent of the well-exposedness.

    Returns:
        float32 [H, W, 3] RGB, about 0..1; not clipped.
    """
    merger = cv2.createMergeMertens(contrast_weight, saturation_weight, exposedness_weight)
    return merger.process([np.ascontiguousarray(exposure[..., ::-1]) for exposure in exposures])[..., ::-1]


def mertens_reference(exposures: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the fusion by `mertens` that networks are trained towards, uint8 [H, W, 3].

    It rounds half up, where `depth.from_unit` rounds half to even: references written before stay what they were.
    """
    return np.uint8(np.clip(mertens(exposures) * 255 + 0.5, 0, 255))
