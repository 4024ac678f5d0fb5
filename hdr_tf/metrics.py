"""Metrics: numbers that judge a finished picture. Arrays in, floats out, computed in float64.

    mef_ssim, mef_ssim_scales   structure of all exposures kept by a fused picture
    gray                        the luminance that it compares

MEF-SSIM is the score of the MEFB benchmark: pictures are turned to gray and rounded to 8 bit, then compared as in
`hdr_tf.losses.mef_ssim` (references there), at three scales. Another quantity exists under the same name: one scale,
padded windows or other gray steps; its numbers are not comparable.
"""

from keras import ops

from hdr_tf import losses

# ITU-R BT.601 luma with all the digits of MATLAB's rgb2gray.
GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)


def mef_ssim(exposures, fused, scales: int = 3) -> float:
    """Returns the MEF-SSIM of a fused picture, at most 1.

    Args:
        exposures: N >= 2 pictures of one size, each [H, W, 3] RGB or [H, W] gray, 0..255 (a 16-bit picture over 257).
        fused: the result, [H, W, 3] or [H, W], 0..255.
        scales: 3 in the benchmark; the short side must have at least 11 * 2**(scales - 1) pixels.

    Raises:
        ValueError: fewer than two exposures, unequal sizes, or pictures that are too small.
    """
    return float(losses.mef_ssim(*_gray_batch(exposures, fused), scales)[0])


def mef_ssim_scales(exposures, fused, scales: int = 3) -> list[float]:
    """Returns the score of each scale, finest first; arguments as in `mef_ssim`."""
    return [float(score) for score in losses.mef_ssim_scales(*_gray_batch(exposures, fused), scales)[0]]


def _gray_batch(exposures, fused):
    exposures = [gray(exposure) for exposure in exposures]
    if len(exposures) < 2:
        raise ValueError(f"expected at least 2 exposures, found {len(exposures)}")
    fused = gray(fused)
    for number, exposure in enumerate(exposures, start=1):
        if exposure.shape != fused.shape:
            raise ValueError(f"expected exposure {number} of the result's size {fused.shape}, found {exposure.shape}")
    return ops.stack(exposures)[None], fused[None]


def gray(picture):
    """Returns luma rounded half up to whole numbers: [H, W, 3] or [H, W], 0..255 -> [H, W] float64."""
    picture = ops.cast(picture, "float64")
    if len(picture.shape) == 3:
        picture = ops.sum(picture * ops.convert_to_tensor(GRAY, "float64"), axis=-1)
    return ops.floor(picture + 0.5)
