"""Classical exposure fusion, and its parts.

    mertens, mertens_reference                 OpenCV's exposure fusion of any number of images
    contrast, saturation, well_exposedness     quality measures of Mertens et al., "Exposure fusion", Pacific Graphics 2007
    gaussian_pyramid, halved, enlarge          an image at smaller and smaller sizes
    reconstruct                                the image of a Laplacian pyramid

The parts are those of bigmms/reinforcement_learning_hdr (375578f, utils_file/utils_fusion.py). Kept: exp(-0.4 ..) for
well-exposedness where Mertens has -0.5; zeros around the image for the contrast, so that its frame has much of it.
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


def contrast(picture: np.ndarray) -> np.ndarray:
    """Returns the absolute Laplacian of the gray picture, zeros around it: [H, W, 3] float32 -> [H, W] float64, 0..4."""
    gray = np.float64(cv2.cvtColor(picture[..., ::-1], cv2.COLOR_BGR2GRAY))
    return np.abs(cv2.Laplacian(gray, -1, borderType=cv2.BORDER_CONSTANT))


def saturation(picture: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of the channels, exactly 0 for gray: [H, W, 3] float32 -> [H, W]."""
    red, green, blue = cv2.split(picture)
    return np.sqrt((red - green) ** 2 + (green - blue) ** 2 + (blue - red) ** 2) / np.float32(3)


def well_exposedness(picture: np.ndarray) -> np.ndarray:
    """Returns the product of exp(-0.4 (v - 0.5)**2 / 0.2**2) over the channels: [H, W, 3] float32 -> [H, W], 0..1."""
    return np.exp(np.float32(-10) * sum((channel - np.float32(0.5)) ** 2 for channel in cv2.split(picture)))


def gaussian_pyramid(picture: np.ndarray, levels: int) -> list[np.ndarray]:
    """Returns the picture and levels - 1 smaller ones, each blurred with sigma 2/3 and scaled linearly to half, rounded up.

    Args:
        picture: [H, W] or [H, W, C], float32 or float64, which is kept.
        levels: 1 and more.
    """
    pyramid = [picture]
    for _ in range(levels - 1):
        pyramid.append(halved(pyramid[-1]))
    return pyramid


def halved(picture: np.ndarray) -> np.ndarray:
    """Returns the next smaller image of `gaussian_pyramid`."""
    blurred = cv2.GaussianBlur(picture, (7, 7), 2 / 3, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(blurred, ((blurred.shape[1] + 1) // 2, (blurred.shape[0] + 1) // 2))


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Returns the picture of a Laplacian pyramid."""
    picture = pyramid[-1]
    for level in pyramid[-2::-1]:
        picture = enlarge(picture, level)
        picture += level
    return picture


def enlarge(picture: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Enlarges an image linearly to the height and width of another one."""
    return cv2.resize(picture, like.shape[1::-1])
