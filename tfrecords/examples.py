"""Training examples of the published fusion networks, each from a bracket of one scene.

`deepfuse`, `densefuse` and `hyperp_mb` take a bracket, uint8 [N, H, W, 3] RGB, a generator that decides everything random, and
the side of the square to cut out. They return a dict of float32 arrays. `example_dataset` (tfrecords/dataset.py) passes them
the brackets of records, for which `scale_nearest` and `scale_linear` bring captured images to one size (tfrecords/images.py).

Kept: what each original does to the pixels. None of them augments its data, so there are no flips.
"""

from typing import Literal

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import color, exposure_fusion, tone


def deepfuse(bracket: np.ndarray, rng: np.random.Generator, patch: int, form: Literal["official", "sunnerli"]) -> dict:
    """Returns "under" and "over", the luminances [patch, patch, 1] of two exposures: 0..255 (official) or -1..1 (sunnerli).

    The mean of the images' means splits the bracket; one image is drawn from above it and one from the others, and the same
    random square is cut from both (SunnerLi/DeepFuse.pytorch 2986225, lib/dataset.py). The official program
    (KRamPrabhakar/DeepFuse 31c226f, load_data.py) reads pairs of patches that were cut beforehand; its luminance is that of
    Gen_Input.m.
    """
    means = bracket.mean(axis=(1, 2, 3))
    bright = means > means.mean()
    bright[-1] |= not bright.any()  # all means are equal
    chosen = [rng.choice(np.flatnonzero(side)) for side in (~bright, bright)]
    split = {"official": color.deepfuse_official_split, "sunnerli": color.deepfuse_sunnerli_split}[form]
    images = [split(image)[0][..., None] for image in random_crop(bracket, patch, rng)[chosen]]
    if form == "sunnerli":
        images = [image / np.float32(127.5) - 1 for image in images]
    return dict(zip(("under", "over"), images, strict=True))


def densefuse(bracket: np.ndarray, rng: np.random.Generator, patch: int, channels: Literal[1, 3]) -> dict:
    """Returns "picture", [patch, patch, channels] in 0..255: a square of one image of the bracket, RGB or gray like Pillow's L.

    Changed: the original (hli1221/densefuse-pytorch 4394b63, utils.py) reshapes an RGB array [H, W, 3] to [3, H, W] where it
    should be transposed, and so trains on scrambled pixels; here a channel is a channel. Gray is not affected.
    """
    image = random_crop(bracket[[rng.integers(len(bracket))]], patch, rng)[0]
    return {"picture": np.float32(color.luminance(image)[..., None] if channels == 1 else image)}


def hyperp_mb(
    bracket: np.ndarray, rng: np.random.Generator, patch: int, target: Literal["middle", "mertens"] = "middle"
) -> dict:
    """Returns what HyperP_MB trains with (Changi-Im/HyperP_MB 9f676f6, train.py, utils.py, AGC.py, blur.py).

    The target is the middle image of the bracket, with its neighbours as the under- and the over-exposed image; or it is the
    Mertens fusion of all, and the other two are drawn from the images before and after the middle. All are gray, like Pillow's
    L. (The original trains with L and fuses Lab's lightness.)

    Returns:
        "under", "target", "over": [patch, patch, 1], 0..255.
        "low_mask", "high_mask": [patch, patch, 1], 0..1, for the fused image: `blur_mask` of the float32 images, sigma 50.
        "low", "high": `under` and `over` under masks of their own, [patch, patch, 1], 0..255: sigma 10 and the uint8 images.
        "low_lambda", "high_lambda": scalars, 0..2, see `lambdas`.
    """
    middle = len(bracket) // 2
    if target == "middle":
        triplet = bracket[middle - 1 : middle + 2]
    else:
        darker, brighter = rng.integers(middle, size=2)  # counted from either end
        triplet = np.stack([bracket[darker], exposure_fusion.mertens_reference(bracket), bracket[-1 - brighter]])
    under, wanted, over = (color.luminance(image) for image in random_crop(triplet, patch, rng))
    low, high = lambdas(*np.float32([under, over, wanted]))
    planes = {
        "under": under,
        "target": wanted,
        "over": over,
        "low_mask": blur_mask(np.float32(under), 50),
        "high_mask": 1 - blur_mask(np.float32(over), 50),
        "low": under * blur_mask(under, 10),
        "high": over * (1 - blur_mask(over, 10)),
    }
    planes = {name: np.float32(plane[..., None]) for name, plane in planes.items()}
    return planes | {"low_lambda": np.float32(low), "high_lambda": np.float32(high)}


def lambdas(under: np.ndarray, over: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Returns the weights of HyperP_MB's low and high task, from images [H, W] of 0..255 (the original takes float32): the
    distances of the gammas (`tone.gamma_statistics`) of `under` and `over` from that of `target`, scaled to add up to 2.

    Changed: where all three gammas agree, both weights are 1; the original divides 0 by 0.
    """
    gamma = tone.gamma_statistics(target)
    low, high = (abs(tone.gamma_statistics(image) - gamma) for image in (under, over))
    return (2 * low / (low + high), 2 * high / (low + high)) if low + high else (1.0, 1.0)


def blur_mask(gray: np.ndarray, sigma: float) -> np.ndarray:
    """Returns an image [H, W] of 0..255, uint8 or float32, blurred (sigma in pixels) and stretched to 0..1, [H, W] float32.

    OpenCV blurs 8-bit images in 8-bit steps and with a narrower window than float images; the original relies on that.

    Changed: an image that is flat before or after the blur gives 0; the original divides 0 by 0, or noise by noise.
    """
    blurred = cv2.GaussianBlur(gray, (0, 0), sigma).astype(np.float32)
    low, high = blurred.min(), blurred.max()
    if low == high or gray.min() == gray.max():  # the blur of a flat float image is not quite flat
        return np.zeros_like(blurred)
    return (blurred - low) / (high - low)


def random_crop(bracket: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the same random square of all images, [N, side, side, 3]; ValueError if they are smaller."""
    height, width = bracket.shape[1:3]
    if min(height, width) < side:
        smallest = f"at least {side} x {side} pixels"
        raise ValueError(f"expected images of {smallest}, found {width} x {height}; choose a smaller patch")
    top, left = (int(rng.integers(0, length - side + 1)) for length in (height, width))
    return np.ascontiguousarray(bracket[:, top : top + side, left : left + side])


def scale_nearest(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a uint8 image in another size (width, height) by taking the nearest pixel, as Pillow does."""
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.NEAREST))


def scale_linear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns an image in another size (width, height) by linear interpolation between four pixels, as OpenCV does."""
    return cv2.resize(image, size)
