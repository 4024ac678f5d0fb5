"""Histograms of an image, which the editor's agent sees in addition to VGG16's features or instead of them.

    quality         well-exposedness, saturation and contrast, 20 x 20 x 20 bins, as a vector of length 1: the agent's default
    lab_8k, lab     CIELab, 20 x 20 x 20 bins as a vector of length 1, and 10 x 10 x 10 as counts / 1000
    rgbl            256 bins for each channel and for the luminance, counts / 1000
    tiny, tiny_28   no histograms, but CIELab / 100 of the image at 16 x 16 and 28 x 28

All take [H, W, 3] float32 RGB in 0..1 and return a float32 vector; `HISTOGRAMS` lists each with its length. From
bigmms/reinforcement_learning_hdr (375578f, utils_file/get_hist.py).

Kept: BGR is treated as RGB, except in the contrast of `quality`; pixels with a contrast above 1, or with |a| or |b| above 60,
are not counted; counts are divided by 1000 whatever the size of the image (always 224 x 224 there). Left out: the global
feature, which fails in the original.
"""

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

from hdr_tf.image.exposure_fusion import contrast, saturation, well_exposedness

LAB_RANGE = ((0, 100), (-60, 60), (-60, 60))


def quality(image: np.ndarray) -> np.ndarray:
    planes = well_exposedness(image), saturation(image), contrast(image)
    return _unit_length(_counts(planes, 20, ((0, 1),) * 3))


def lab_8k(image: np.ndarray) -> np.ndarray:
    return _unit_length(_counts(np.moveaxis(_lab(image), 2, 0), 20, LAB_RANGE))


def lab(image: np.ndarray) -> np.ndarray:
    return np.float32(_counts(np.moveaxis(_lab(image), 2, 0), 10, LAB_RANGE) / 1000)


def rgbl(image: np.ndarray) -> np.ndarray:
    planes = [*np.moveaxis(image[..., ::-1], 2, 0), image[..., ::-1] @ np.float32([0.2126, 0.7152, 0.0722])]
    return np.float32(np.concatenate([_counts([plane], 256, ((0, 1),)) for plane in planes]) / 1000)


def tiny(image: np.ndarray, side: int = 16) -> np.ndarray:
    small = Image.fromarray((image * 255).astype(np.uint8)).resize((side, side), Image.Resampling.LANCZOS)
    return np.float32(_lab(np.asarray(small) / 255).ravel() / 100)


def tiny_28(image: np.ndarray) -> np.ndarray:
    return tiny(image, 28)


HISTOGRAMS = {
    "quality": (quality, 8000),
    "lab_8k": (lab_8k, 8000),
    "lab": (lab, 1000),
    "rgbl": (rgbl, 1024),
    "tiny": (tiny, 768),
    "tiny_28": (tiny_28, 2352),
}


def _lab(image):
    return rgb2lab(image[..., ::-1])


def _counts(planes, bins, ranges):
    """Counts the combinations of the planes' bins, the last plane's fastest. The last bin includes its upper edge."""
    index, inside = 0, True
    for plane, (low, high) in zip(planes, ranges, strict=True):
        number = np.minimum((plane - low) * (bins / (high - low)), bins - 1).astype(np.int64)
        index, inside = index * bins + number, inside & (plane >= low) & (plane <= high)
    return np.bincount(index[inside], minlength=bins ** len(ranges))


def _unit_length(counts):
    length = np.linalg.norm(counts)
    return np.float32(counts / length if length else counts)
