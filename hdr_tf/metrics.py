"""Metrics: numbers that judge a finished picture. Arrays in, floats out, computed in float64.

    psnr, ssim, gaussian_ssim   likeness of a result to the truth, in any range of values
    mef_ssim, mef_ssim_scales   structure of all exposures kept by a fused picture
    gray                        the luminance that it compares
    q_abf                       edges of all exposures kept by a fused picture
    average_gradient, spatial_frequency     how much detail a picture shows, whatever its source

SSIM is scikit-image's `structural_similarity` with its defaults, as ESBN (tkd1088/ESBN 3f873ab, reconstruction_fusion.py)
reports it. `gaussian_ssim` is the other usual one, as SelfHDR (cszhilu1998/SelfHDR 9e8af4a, util/util.py) reports it and as
networks train with (`hdr_tf.losses.ssim`).

MEF-SSIM is the score of the MEFB benchmark: pictures are turned to gray and rounded to 8 bit, then compared as in
`hdr_tf.losses.mef_ssim` (references there), at three scales. Another quantity exists under the same name: one scale,
padded windows or other gray steps; its numbers are not comparable.

The last three are the MEFB benchmark's too (xingchenzhang/MEFB 82014f4, metrics/metricsQabf.m, metricsAvg_gradient.m,
metricsSpatial_frequency.m), with what its code does and its papers do not say: each channel is scored by itself, red beside red
and so on, and the mean of the three counts; nothing is turned to gray or rounded.
"""

import math

from keras import ops

from hdr_tf import losses

# ITU-R BT.601 luma with all the digits of MATLAB's rgb2gray.
GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)
SSIM_WINDOW = 7


def psnr(first, second, peak: float = 1.0) -> float:
    """Returns 10 log10(peak**2 / mean squared error over all values) in dB; infinity for equal arrays.

    Args:
        first: any shape.
        second: likewise.
        peak: the largest value that the scale has room for, by convention; nothing is clipped or divided by it.

    Raises:
        ValueError: unequal shapes.

    Example:
        >>> psnr([0.0, 1.0], [0.1, 0.9])
        20.0
    """
    first, second = _pair(first, second)
    error = float(ops.mean(ops.square(first - second)))
    return 10 * math.log10(peak**2 / error) if error else math.inf


def ssim(first, second, data_range: float) -> float:
    """Returns the mean structural similarity over all windows of 7 x 7 pixels inside the picture and all channels.

    Every pixel of a window counts the same, and variances are those of a sample (divided by 48).

    Args:
        first: [H, W, C] or [H, W], H and W at least 7.
        second: likewise.
        data_range: the range of the values, L in the constants (0.01 L)**2 and (0.03 L)**2; above 0.

    Raises:
        ValueError: unequal shapes, pictures that are too small, or a range that is not positive.
    """
    first, second = _pair(first, second)
    if len(first.shape) not in (2, 3) or min(first.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"expected pictures [H, W, C] or [H, W] of at least 7 x 7 pixels, found {tuple(first.shape)}")
    if not data_range > 0:
        raise ValueError(f"expected a range above 0, found {data_range}: is the picture constant?")
    products = (first, second, first * first, second * second, first * second)
    mean1, mean2, square1, square2, product = (_window_means(x) for x in products)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    variances = sample * (square1 - mean1**2 + square2 - mean2**2)
    covariance = sample * (product - mean1 * mean2)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1**2 + mean2**2 + c1) * (variances + c2))
    return float(ops.mean(similarity))


def gaussian_ssim(first, second, data_range: float) -> float:
    """Returns the mean structural similarity over all windows of 11 x 11 pixels inside the picture and all channels.

    A window's pixels count by a Gaussian of sigma 1.5, and variances are those of the window, not of a sample. In a picture
    with a side below 11 the windows are as large as that.

    Args:
        first, second, data_range: as of `ssim`, [H, W, C].
    """
    first, second = _pair(first, second)
    return float(losses.ssim(first[None], second[None], data_range))


def _window_means(x):
    height, width = (side - SSIM_WINDOW + 1 for side in x.shape[:2])
    x = sum(x[row : row + height] for row in range(SSIM_WINDOW))
    return sum(x[:, column : column + width] for column in range(SSIM_WINDOW)) / SSIM_WINDOW**2


def _pair(first, second):
    first, second = (ops.cast(x, "float64") for x in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"expected two pictures of one shape, found {tuple(first.shape)} and {tuple(second.shape)}")
    return first, second


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


def q_abf(exposures, fused) -> float:
    """Returns Q^AB/F, how well the edges of all exposures live on in a fused picture, each weighted by its strength; 0..1.

    Sobel's filter gives the strength g and the orientation a of every pixel's edge. Kept of an exposure's edge are the ratio of
    the weaker to the stronger g, and 1 - |difference of a| / (pi/2); a sigmoid of each, multiplied, is the pixel's quality, and
    the mean of all qualities, weighted by g of their exposures, the score (Xydeas, Petrovic, "Objective image fusion
    performance measure", Electronics Letters 36(4), 2000). For three exposures or more both sums run over all of them, which
    for two is the original; the paper and the benchmark know two.

    Kept of the benchmark's code: outside the picture is black, so its frame is an edge; orientations are those of arctan,
    pi/2 where the horizontal slope is 0, so that two nearly equal ones on either side of +-pi/2 count as opposed (-1 where the
    paper means 1); where both strengths are equal, not their ratio 1 but the strength itself (of 255 times the values) enters
    the sigmoid, which for an edge gives its limit 0.9994 instead of 0.9988; constants 0.9994, -15, 0.5 and 0.9879, -22, 0.8.

    Args:
        exposures: N >= 2 pictures of one size, each [H, W, 3] RGB or [H, W] gray, whole numbers in 0..255.
        fused: the result, likewise.

    Returns:
        The score, NaN if all exposures are black in a channel, as of the benchmark.

    Raises:
        ValueError: fewer than two exposures or unequal shapes.
    """
    exposures, fused = [_planes(exposure) for exposure in exposures], _planes(fused)
    if len(exposures) < 2:
        raise ValueError(f"expected at least 2 exposures, found {len(exposures)}")
    for number, exposure in enumerate(exposures, start=1):
        if (len(exposure), exposure[0].shape) != (len(fused), fused[0].shape):
            raise ValueError(
                f"expected exposure {number} of the result's size {fused[0].shape} and {len(fused)} channels, "
                f"found {exposure[0].shape} and {len(exposure)}"
            )
    scores = []
    for *sources, result in zip(*exposures, fused, strict=True):
        strength, angle = _edges(result)
        kept = total = 0.0
        for source in map(_edges, sources):
            kept += float(ops.sum(_edge_quality(*source, strength, angle) * source[0]))
            total += float(ops.sum(source[0]))
        scores.append(kept / total if total else math.nan)
    return math.fsum(scores) / len(scores)


def _edges(plane):
    """The strength, of 255 times the values as in the benchmark, and the orientation of a plane's edges."""
    plane = ops.pad(255 * plane, ((1, 1), (1, 1)))
    rows = plane[:-2] + 2 * plane[1:-1] + plane[2:]
    columns = plane[:, :-2] + 2 * plane[:, 1:-1] + plane[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[:-2] - columns[2:]
    level = across == 0
    angle = ops.where(level, math.pi / 2, ops.arctan(down / ops.where(level, 1.0, across)))
    return ops.sqrt(across**2 + down**2), angle


def _edge_quality(strength, angle, fused_strength, fused_angle):
    weaker, stronger = ops.minimum(strength, fused_strength), ops.maximum(strength, fused_strength)
    ratio = ops.where(weaker == stronger, weaker, weaker / ops.where(stronger == 0, 1.0, stronger))
    agreement = 1 - ops.abs(angle - fused_angle) / (math.pi / 2)
    return 0.9994 / (1 + ops.exp(-15 * (ratio - 0.5))) * (0.9879 / (1 + ops.exp(-22 * (agreement - 0.8))))


def average_gradient(picture) -> float:
    """Returns the sum of sqrt((dx**2 + dy**2) / 2) over all pixels, divided by (H - 1) (W - 1), in levels a pixel.

    dx and dy are half the difference of the two neighbours; at the border, the difference to the only one. The benchmark
    names G. Cui et al., Optics Communications 341, 2015.

    Args:
        picture: [H, W, 3] or [H, W], 0..255, H and W at least 2.
    """
    scores = []
    for plane in _planes(picture):
        height, width = plane.shape
        across, down = _slopes(plane), ops.transpose(_slopes(ops.transpose(plane)))
        scores.append(float(ops.sum(ops.sqrt((across**2 + down**2) / 2))) / ((height - 1) * (width - 1)))
    return math.fsum(scores) / len(scores)


def _slopes(plane):
    inner = (plane[:, 2:] - plane[:, :-2]) / 2
    return ops.concatenate([plane[:, 1:2] - plane[:, :1], inner, plane[:, -1:] - plane[:, -2:-1]], axis=1)


def spatial_frequency(picture) -> float:
    """Returns sqrt(R + C), R and C the sums of squared differences to the left and to the upper neighbour, divided by H W.

    There are H (W - 1) and (H - 1) W such differences; the benchmark divides by H W all the same.

    Args:
        picture: [H, W, 3] or [H, W], 0..255.
    """
    scores = []
    for plane in _planes(picture):
        across, down = plane[:, 1:] - plane[:, :-1], plane[1:] - plane[:-1]
        total = float(ops.sum(across**2)) + float(ops.sum(down**2))
        scores.append(math.sqrt(total / math.prod(plane.shape)))
    return math.fsum(scores) / len(scores)


def _planes(picture):
    """The channels of a picture, each [H, W] float64."""
    picture = ops.cast(picture, "float64")
    return [picture] if len(picture.shape) == 2 else [picture[..., channel] for channel in range(picture.shape[-1])]
