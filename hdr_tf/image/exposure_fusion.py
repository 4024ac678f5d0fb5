"""Classical exposure fusion and its parts (Mertens, Kautz, Van Reeth, "Exposure fusion", Pacific Graphics 2007).

`mertens` is OpenCV's. The parts follow bigmms/reinforcement_learning_hdr (375578f, utils_file/utils_fusion.py). Kept: for
well-exposedness exp(-0.4 ..), where Mertens has -0.5; zeros around the image for the contrast, so the frame has a high one.
"""

from collections.abc import Sequence

import cv2
import numpy as np


def mertens(
    exposures: Sequence[np.ndarray], contrast_weight: float = 1, saturation_weight: float = 1, exposedness_weight: float = 1
) -> np.ndarray:
    """Fuses images, uint8 [N, H, W, 3] RGB, with OpenCV's exposure fusion; returns float32 [H, W, 3], about 0..1, not clipped.

    Each argument is the exponent of its measure (contrast, saturation, well-exposedness) in the weight of a pixel.
    """
    merger = cv2.createMergeMertens(contrast_weight, saturation_weight, exposedness_weight)
    return merger.process([np.ascontiguousarray(exposure[..., ::-1]) for exposure in exposures])[..., ::-1]


def mertens_reference(exposures: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the result of `mertens` as a training target, uint8 [H, W, 3], rounded half up, unlike `depth.from_unit`, so that
    it equals the targets in older records."""
    return np.uint8(np.clip(mertens(exposures) * 255 + 0.5, 0, 255))


def contrast(image: np.ndarray) -> np.ndarray:
    """Returns the absolute Laplacian of the gray image, zeros around it: [H, W, 3] float32 -> [H, W] float64, 0..4."""
    gray = np.float64(cv2.cvtColor(image[..., ::-1], cv2.COLOR_BGR2GRAY))
    return np.abs(cv2.Laplacian(gray, -1, borderType=cv2.BORDER_CONSTANT))


def saturation(image: np.ndarray) -> np.ndarray:
    """Returns the standard deviation over the channels, exactly 0 for gray: [H, W, 3] float32 -> [H, W]."""
    red, green, blue = cv2.split(image)
    return np.sqrt((red - green) ** 2 + (green - blue) ** 2 + (blue - red) ** 2) / np.float32(3)


def well_exposedness(image: np.ndarray) -> np.ndarray:
    """Returns the product of exp(-0.4 (v - 0.5)**2 / 0.2**2) over the channels: [H, W, 3] float32 -> [H, W], 0..1."""
    return np.exp(np.float32(-10) * sum((channel - np.float32(0.5)) ** 2 for channel in cv2.split(image)))


def gaussian_pyramid(image: np.ndarray, levels: int) -> list[np.ndarray]:
    """Returns the image and levels - 1 smaller ones, each blurred with sigma 2/3 and scaled linearly to half (rounded up)."""
    pyramid = [image]
    for _ in range(levels - 1):
        pyramid.append(halved(pyramid[-1]))
    return pyramid


def halved(image: np.ndarray) -> np.ndarray:
    """Returns the next smaller image of `gaussian_pyramid`."""
    blurred = cv2.GaussianBlur(image, (7, 7), 2 / 3, borderType=cv2.BORDER_REFLECT)
    return cv2.resize(blurred, ((blurred.shape[1] + 1) // 2, (blurred.shape[0] + 1) // 2))


def block_means(image: np.ndarray) -> np.ndarray:
    """Returns the means of 2x2 pixels of an image [H, W] or [H, W, C]; an odd last row or column is its own mean."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)


def reconstruct(pyramid: list[np.ndarray]) -> np.ndarray:
    """Returns the image of a Laplacian pyramid."""
    image = pyramid[-1]
    for level in pyramid[-2::-1]:
        image = enlarge(image, level)
        image += level
    return image


def enlarge(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Enlarges an image linearly to the height and width of another."""
    return cv2.resize(image, like.shape[1::-1])
