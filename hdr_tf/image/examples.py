"""Training examples of the published fusion networks, one from a stack of pictures of one scene.

`deepfuse`, `densefuse` and `hyperp_mb` take a stack, uint8 [N, H, W, 3] RGB, a generator that decides everything random, and
the side of the square to cut out, and return a dict of float32 arrays. Stacks come from records (tfrecords/dataset.py,
`example_dataset`), for which `scale_nearest` and `scale_linear` bring taken pictures to one size (tfrecords/pictures.py).

Kept: no flips and no other augmentation, since none of the originals has any; what each does to the pixels.
"""

from typing import Literal

import cv2
import numpy as np
from PIL import Image

from hdr_tf.image import color, exposure_fusion, tone


def deepfuse(stack: np.ndarray, rng: np.random.Generator, patch: int, form: Literal["official", "sunnerli"]) -> dict:
    """Returns "under" and "over", the luminances [patch, patch, 1] of two exposures: 0..255 (official) or -1..1 (sunnerli).

    The stack is split at the mean of its pictures' mean values, one is drawn of those above it and one of the others, and the
    same random square is cut from both (SunnerLi/DeepFuse.pytorch 2986225, lib/dataset.py). The official program
    (KRamPrabhakar/DeepFuse 31c226f, load_data.py) reads pairs of patches that were cut beforehand; its luminance is that of
    Gen_Input.m.
    """
    means = stack.mean(axis=(1, 2, 3))
    bright = means > means.mean()
    bright[-1] |= not bright.any()  # all alike
    chosen = [rng.choice(np.flatnonzero(side)) for side in (~bright, bright)]
    split = {"official": color.deepfuse_official_split, "sunnerli": color.deepfuse_sunnerli_split}[form]
    pictures = [split(picture)[0][..., None] for picture in random_crop(stack, patch, rng)[chosen]]
    if form == "sunnerli":
        pictures = [picture / np.float32(127.5) - 1 for picture in pictures]
    return dict(zip(("under", "over"), pictures, strict=True))


def densefuse(stack: np.ndarray, rng: np.random.Generator, patch: int, channels: Literal[1, 3]) -> dict:
    """Returns "picture", [patch, patch, channels] in 0..255: a square of one picture of the stack, gray as Pillow's L or RGB.

    Changed: the original (hli1221/densefuse-pytorch 4394b63, utils.py) reshapes an RGB array [H, W, 3] to [3, H, W] where it
    should be transposed, and so trains on scrambled pixels; here a channel is a channel. Gray is not affected.
    """
    picture = random_crop(stack[[rng.integers(len(stack))]], patch, rng)[0]
    return {"picture": np.float32(color.luminance(picture)[..., None] if channels == 1 else picture)}


def hyperp_mb(stack: np.ndarray, rng: np.random.Generator, patch: int, target: Literal["middle", "mertens"] = "middle") -> dict:
    """Returns what HyperP_MB trains with (Changi-Im/HyperP_MB 9f676f6, train.py, utils.py, AGC.py, blur.py).

    The middle picture of the stack is the target, the one before it the under-, the one behind it the over-exposed one; or the
    target is the Mertens fusion of all, and the other two are drawn from those before and those behind the middle. Of each the
    gray square as Pillow's L. (The original trains with L and fuses Lab's lightness.)

    Returns:
        "under", "target", "over": [patch, patch, 1], 0..255.
        "low_mask", "high_mask": [patch, patch, 1], 0..1, for the fused picture: `blur_mask` of the float32 pictures, sigma 50.
        "low", "high": `under` and `over` under masks of their own, [patch, patch, 1], 0..255: sigma 10 and the uint8 pictures.
        "low_lambda", "high_lambda": scalars, 0..2, see `lambdas`.
    """
    middle = len(stack) // 2
    if target == "middle":
        trio = stack[middle - 1 : middle + 2]
    else:
        before, behind = rng.integers(middle, size=2)
        trio = np.stack([stack[before], exposure_fusion.mertens_reference(stack), stack[-1 - behind]])
    under, wanted, over = (color.luminance(picture) for picture in random_crop(trio, patch, rng))
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
    """Returns the weights of HyperP_MB's low and high task: how far the gammas (`tone.gamma_statistics`) of the under- and the
    over-exposed picture are from the target's, scaled to add up to 2.

    Changed: where all three gammas agree both are 1; the original divides 0 by 0.

    Args:
        under: [H, W], 0..255; the original takes float32.
        over: likewise.
        target: likewise.
    """
    gamma = tone.gamma_statistics(target)
    low, high = (abs(tone.gamma_statistics(picture) - gamma) for picture in (under, over))
    return (2 * low / (low + high), 2 * high / (low + high)) if low + high else (1.0, 1.0)


def blur_mask(gray: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the blurred picture stretched to 0..1, [H, W] float32.

    OpenCV blurs 8-bit pictures in 8-bit steps and with a narrower window than float ones, which the original relies on.

    Changed: a picture that is flat, before or after the blur, gives 0; the original divides 0 by 0, or noise by noise.

    Args:
        gray: [H, W], 0..255, uint8 or float32.
        sigma: of the Gaussian in pixels.
    """
    blurred = cv2.GaussianBlur(gray, (0, 0), sigma).astype(np.float32)
    low, high = blurred.min(), blurred.max()
    if low == high or gray.min() == gray.max():  # the blur of a flat float picture is not quite flat
        return np.zeros_like(blurred)
    return (blurred - low) / (high - low)


def random_crop(stack: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the same random square of all pictures, [N, side, side, 3]; ValueError if they are smaller."""
    height, width = stack.shape[1:3]
    if min(height, width) < side:
        expected = f"expected pictures of at least {side} x {side} pixels"
        raise ValueError(f"{expected}, found {width} x {height}; choose a smaller patch")
    top, left = (int(rng.integers(0, length - side + 1)) for length in (height, width))
    return np.ascontiguousarray(stack[:, top : top + side, left : left + side])


def scale_nearest(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a uint8 picture in another size (width, height) by taking the nearest pixel, as Pillow does."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST))


def scale_linear(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture in another size (width, height) by linear interpolation between four pixels, as OpenCV does."""
    return cv2.resize(picture, size)
