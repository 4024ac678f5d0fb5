"""Histograms of a picture: what the editor's agent sees besides VGG16's features.

    quality         well-exposedness, saturation and contrast, 20 x 20 x 20 bins, as a vector of length 1: the agent's default
    lab_8k, lab     CIELab, 20 x 20 x 20 bins as a vector of length 1, and 10 x 10 x 10 as counts / 1000
    rgbl            256 bins of each channel and of the luminance, counts / 1000
    tiny, tiny_28   no histograms, but CIELab / 100 of the picture at 16 x 16 and 28 x 28

All take [H, W, 3] float32 RGB in 0..1 and return a float32 vector; `HISTOGRAMS` lists them with its length. From
bigmms/reinforcement_learning_hdr (375578f, utils_file/get_hist.py).

Kept: BGR is taken for RGB, but in the contrast of `quality`; pixels whose contrast is above 1 or whose a or b is beyond 60 do
not count; counts over 1000 whatever the picture's size (there it is always 224 x 224).

Left out: the global feature, which fails in the original.
"""

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

from hdr_tf.image.exposure_fusion import contrast, saturation, well_exposedness

LAB_RANGE = ((0, 100), (-60, 60), (-60, 60))


def quality(picture: np.ndarray) -> np.ndarray:
    planes = well_exposedness(picture), saturation(picture), contrast(picture)
    return _unit_length(_counts(planes, 20, ((0, 1),) * 3))


def lab_8k(picture: np.ndarray) -> np.ndarray:
    return _unit_length(_counts(np.moveaxis(_lab(picture), 2, 0), 20, LAB_RANGE))


def lab(picture: np.ndarray) -> np.ndarray:
    return np.float32(_counts(np.moveaxis(_lab(picture), 2, 0), 10, LAB_RANGE) / 1000)


def rgbl(picture: np.ndarray) -> np.ndarray:
    planes = [*np.moveaxis(picture[..., ::-1], 2, 0), picture[..., ::-1] @ np.float32([0.2126, 0.7152, 0.0722])]
    return np.float32(np.concatenate([_counts([plane], 256, ((0, 1),)) for plane in planes]) / 1000)


def tiny(picture: np.ndarray, side: int = 16) -> np.ndarray:
    small = Image.fromarray((picture * 255).astype(np.uint8)).resize((side, side), Image.Resampling.LANCZOS)
    return np.float32(_lab(np.asarray(small) / 255).ravel() / 100)


def tiny_28(picture: np.ndarray) -> np.ndarray:
    return tiny(picture, 28)


HISTOGRAMS = {
    "quality": (quality, 8000),
    "lab_8k": (lab_8k, 8000),
    "lab": (lab, 1000),
    "rgbl": (rgbl, 1024),
    "tiny": (tiny, 768),
    "tiny_28": (tiny_28, 2352),
}


def _lab(picture):
    return rgb2lab(picture[..., ::-1])


def _counts(planes, bins, ranges):
    """Counts of all combinations of the planes' bins, the last plane's fastest. The last bin holds its upper edge."""
    index, inside = 0, True
    for plane, (low, high) in zip(planes, ranges, strict=True):
        place = np.minimum((plane - low) * (bins / (high - low)), bins - 1).astype(np.int64)
        index, inside = index * bins + place, inside & (plane >= low) & (plane <= high)
    return np.bincount(index[inside], minlength=bins ** len(ranges))


def _unit_length(counts):
    length = np.linalg.norm(counts)
    return np.float32(counts / length if length else counts)
