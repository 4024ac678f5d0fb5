"""Metrics: scores of a finished image, by NumPy and scikit-image. They take arrays, compute in float64 and return a float.

MEF-SSIM, which is also a training loss, is in `hdr_tf.losses` (`mef_ssim_score`). `ssim` is scikit-image's
`structural_similarity` with its defaults, which ESBN reports (tkd1088/ESBN 3f873ab, reconstruction_fusion.py). `gaussian_ssim`
is the other usual form, which SelfHDR reports (cszhilu1998/SelfHDR 9e8af4a, util/util.py).

The other three follow the code of the MEFB benchmark (xingchenzhang/MEFB 82014f4, metrics/metricsQabf.m,
metricsAvg_gradient.m, metricsSpatial_frequency.m), also where its papers say nothing: each channel is scored by itself (red
against red, and so on), the result is the mean over the channels, and no value is rounded or turned to gray.
"""

import math

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def psnr(first, second, peak: float = 1.0) -> float:
    """Returns 10 log10(peak**2 / mean squared error) in dB of two arrays of one shape; infinity for equal arrays.

    `peak` is the nominal maximum of the scale; nothing is clipped to it or divided by it.

    Example:
        >>> psnr([0.0, 1.0], [0.1, 0.9])
        20.0
    """
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(*_pair(first, second), data_range=peak))


def ssim(first, second, data_range: float) -> float:
    """Returns the mean structural similarity over all channels and all windows of 7 x 7 pixels inside the image.

    All pixels of a window have the same weight, and variances are those of a sample (divided by 48).

    Args:
        first, second: [H, W, C] or [H, W] of one shape, H and W at least 7.
        data_range: the range of the values, above 0; L in the constants (0.01 L)**2 and (0.03 L)**2.
    """
    return _similarity(*_image_pair(first, second, data_range, least=7), data_range)


def gaussian_ssim(first, second, data_range: float) -> float:
    """Returns the mean structural similarity over all channels and all windows of 11 x 11 pixels inside the image.

    A Gaussian of sigma 1.5 weights the pixels of a window, and variances are those of the window (not of a sample). If a side
    of the image is below 11, the windows are squares of the shorter side. The arguments are those of `ssim`, without its
    minimum size.
    """
    first, second = _image_pair(first, second, data_range, least=1)
    if min(first.shape[:2]) < 11:
        return _small_gaussian_ssim(first, second, data_range)
    return _similarity(first, second, data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)


def _small_gaussian_ssim(first, second, data_range):
    """`gaussian_ssim` with windows that scikit-image does not offer; one of even size is off-centre, as in `hdr_tf.losses`."""
    side = min(first.shape[:2])
    taps = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2

    def means(x):
        return np.tensordot(np.lib.stride_tricks.sliding_window_view(x, window.shape, axis=(0, 1)), window)

    mean1, mean2 = means(first), means(second)
    variances = means(first**2) - mean1**2 + means(second**2) - mean2**2
    covariance = means(first * second) - mean1 * mean2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1**2 + mean2**2 + c1) * (variances + c2))
    return float(similarity.mean())


def _similarity(first, second, data_range, **window):
    channel_axis = None if first.ndim == 2 else -1
    return float(structural_similarity(first, second, data_range=data_range, channel_axis=channel_axis, **window))


def _image_pair(first, second, data_range, least):
    first, second = _pair(first, second)
    if first.ndim not in (2, 3) or min(first.shape) < 1 or min(first.shape[:2]) < least:
        raise ValueError(f"expected images [H, W, C] or [H, W] of at least {least} x {least} pixels, found {first.shape}")
    if not data_range > 0:
        raise ValueError(f"expected a range above 0, found {data_range}: is the image constant?")
    return first, second


def _pair(first, second):
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"expected two images of one shape, found {first.shape} and {second.shape}")
    return first, second


def q_abf(exposures, fused) -> float:
    """Returns Q^AB/F in 0..1: how well a fused image keeps the edges of its exposures, weighted by the strength of each edge.

    Sobel's filter gives the strength g and the orientation a of the edge at every pixel. Two ratios compare the edge of an
    exposure with that of the fused image: the weaker g over the stronger one, and 1 - |difference of a| / (pi/2). The product
    of a sigmoid of each is the quality of the pixel, and the score is the mean of all qualities, weighted by the exposures' g
    (Xydeas, Petrovic, "Objective image fusion performance measure", Electronics Letters 36(4), 2000). The paper and the
    benchmark define it for two exposures; here both sums run over all exposures, which for two is the same.

    Kept from the benchmark's code: the outside of the image is black, so that its frame is an edge. Orientations are those of
    arctan, and pi/2 where the horizontal slope is 0, so that two nearly equal ones on either side of +-pi/2 count as opposed
    (-1 where the paper means 1). Where both strengths are equal, the sigmoid gets the strength itself (of 255 times the values)
    instead of the ratio 1; an edge then has the limit 0.9994 instead of 0.9988. The score is NaN if all exposures are black in
    a channel.

    Args:
        exposures: N >= 2 images of one shape, each [H, W, 3] RGB or [H, W] gray, whole numbers in 0..255.
        fused: the result, the same shape and range.
    """
    images = [_planes(image) for image in (*exposures, fused)]
    shapes = [planes.shape for planes in images]
    if len(images) < 3 or len(set(shapes)) > 1:
        raise ValueError(
            f"expected at least 2 exposures with the channels, height and width of the result, {shapes[-1]}, "
            f"found {len(images) - 1}: {shapes[:-1]}"
        )
    scores = []
    for *sources, result in zip(*images, strict=True):
        strength, angle = _edges(result)
        kept = total = 0.0
        for source_strength, source_angle in map(_edges, sources):
            kept += np.sum(_edge_quality(source_strength, source_angle, strength, angle) * source_strength)
            total += np.sum(source_strength)
        scores.append(kept / total if total else math.nan)
    return float(np.mean(scores))


def _edges(plane):
    """Strength (of 255 times the values, as in the benchmark) and orientation of the edges of an array [H, W]."""
    plane = np.pad(255 * plane, 1)
    rows = plane[:-2] + 2 * plane[1:-1] + plane[2:]
    columns = plane[:, :-2] + 2 * plane[:, 1:-1] + plane[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[:-2] - columns[2:]
    level = across == 0
    angle = np.where(level, math.pi / 2, np.arctan(down / np.where(level, 1, across)))
    return np.sqrt(across**2 + down**2), angle


def _edge_quality(strength, angle, fused_strength, fused_angle):
    weaker, stronger = np.minimum(strength, fused_strength), np.maximum(strength, fused_strength)
    ratio = np.where(weaker == stronger, weaker, weaker / np.where(stronger == 0, 1, stronger))
    agreement = 1 - np.abs(angle - fused_angle) / (math.pi / 2)
    return 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * (0.9879 / (1 + np.exp(-22 * (agreement - 0.8))))


def average_gradient(image) -> float:
    """Returns the sum of sqrt((dx**2 + dy**2) / 2) over all pixels, divided by (H - 1) (W - 1), in levels per pixel.

    dx and dy are half the difference of the two neighbours; at the border, the difference from the only neighbour. The image is
    [H, W, 3] or [H, W], 0..255, H and W at least 2. The benchmark names G. Cui et al., Optics Communications 341, 2015.
    """
    planes = _planes(image)
    sums = [np.sum(np.sqrt((across**2 + down**2) / 2)) for down, across in map(np.gradient, planes)]
    return float(np.mean(np.array(sums) / ((planes.shape[1] - 1) * (planes.shape[2] - 1))))


def spatial_frequency(image) -> float:
    """Returns sqrt(R + C), where R and C are the sums of the squared differences from the left and from the upper neighbour,
    over H W.

    The image is [H, W, 3] or [H, W], 0..255. There are only H (W - 1) and (H - 1) W differences; the benchmark divides by H W
    all the same.
    """
    squares = [sum(np.sum(np.diff(plane, axis=axis) ** 2) for axis in (0, 1)) / plane.size for plane in _planes(image)]
    return float(np.mean(np.sqrt(squares)))


def _planes(image):
    """[H, W, C] or [H, W] -> [C, H, W] float64; a gray image has one channel."""
    image = np.asarray(image, np.float64)
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
