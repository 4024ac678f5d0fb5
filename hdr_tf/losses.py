"""Losses: pure functions of tensors, written with keras.ops.

    mef_ssim, mef_ssim_scales   how well a fused picture keeps the structure of its exposures
    ssim, msssim                structural similarity of two pictures
    pixel_and_ssim              the two terms that DenseFuse trains with
    multi_task                  the six weighted terms that HyperP_MB trains with
    sunnerli                    what SunnerLi's DeepFuse trains with, which is no MEF-SSIM
    mu_law_l1, mu_law_l2        mean absolute difference of tone-mapped radiance, as ESBN trains with it, and mean squared one
    selfhdr_structure, selfhdr_color, perceptual    what the two stages of SelfHDR train with, from radiance and not 2 r - 1

Pictures are in 0..255 unless a function says otherwise. All window statistics are differences of large, nearly equal
sums (255**2 against a variance that may be zero), so they are computed in float64 whatever the input's type. Measured on
60 synthetic brackets, float32 would halve the time and be off by up to 2e-3, 0.8 % in the gradient. jax computes in
float32 unless `jax_enable_x64` is set.

References
----------
K. Ma, K. Zeng, Z. Wang, "Perceptual quality assessment for multi-exposure image fusion", IEEE TIP 24(11), 2015; the
details follow the authors' MATLAB program as MEFB ships it (xingchenzhang/MEFB 82014f4, metrics/mef_ssim.m and
mef_ms_ssim.m).
Z. Wang, E. Simoncelli, A. Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003; the
details follow hli1221/densefuse-pytorch 4394b63, pytorch_msssim/__init__.py (HyperP_MB uses the same functions).
"""

import math

from keras import ops

# Weights of the five scales of MS-SSIM, finest first (Wang 2003); MEF-SSIM uses the first three, divided by their sum.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
EPS = 2.0**-52


def mef_ssim(exposures, fused, scales: int = 3):
    """Returns the MEF-SSIM of each fused picture, differentiable by `fused` (the exposures count as constants).

    The metric of the same name (hdr_tf/metrics.py) rounds the gray values first; nothing else differs.

    Args:
        exposures: [B, N, H, W], gray 0..255, N >= 2.
        fused: [B, H, W], gray, nominally 0..255.
        scales: how many scales, 1 to 5; H and W must be at least 11 * 2**(scales - 1).

    Returns:
        [B] float64, at most 1.

    Raises:
        ValueError: the pictures are too small or the shapes do not belong together.

    Example:
        >>> under, over = ops.zeros([1, 64, 64]), ops.full([1, 64, 64], 255.0)
        >>> round(float(mef_ssim(ops.stack([under, over], 1), ops.ones([1, 64, 64]))[0]), 6)
        1.0
    """
    return mef_ssim_against(_checked_reference(exposures, fused, scales), fused)


def mef_reference(exposures, scales: int = 3):
    """Returns what MEF-SSIM needs of a bracket, for `mef_ssim_against`: most of the work, to be done once where many fused
    pictures of one bracket are compared. Arguments as in `mef_ssim`; a tuple of tensors for each scale."""
    # Moving the origin to mid-gray changes no deviation and makes the sums four times smaller. Exposures come first from
    # here on, so that every map is one piece of memory.
    exposures = ops.stop_gradient(ops.cast(ops.transpose(exposures, (1, 0, 2, 3)), "float64")) - 127.5
    reference = []
    for scale in range(scales):
        if scale:
            exposures = _halve(exposures)
        reference.append(_reference_structure(exposures))
    return reference


def mef_ssim_against(reference, fused):
    """Returns the MEF-SSIM of fused pictures and the bracket of a `mef_reference`; otherwise as `mef_ssim`."""
    weights = SCALE_WEIGHTS[: len(reference)]
    weights = ops.convert_to_tensor([w / sum(weights) for w in weights], "float64")
    # A scale's mean can fall below zero (opposed structure); its root would be NaN.
    quality = ops.maximum(_scales(reference, fused), 1e-6)
    return ops.exp(ops.sum(weights * ops.log(quality), axis=-1))


def mef_ssim_scales(exposures, fused, scales: int = 3):
    """Returns the mean quality of each scale, [B, scales] float64, finest first. Arguments as in `mef_ssim`."""
    return _scales(_checked_reference(exposures, fused, scales), fused)


def _checked_reference(exposures, fused, scales):
    _check_mef(exposures.shape, fused.shape, scales)
    return mef_reference(exposures, scales)


def _scales(reference, fused):
    fused = ops.cast(fused, "float64")[None] - 127.5
    quality = []
    for scale, structure in enumerate(reference):
        if scale:
            fused = _halve(fused)
        quality.append(_mef_quality(structure, fused))
    return ops.stack(quality, axis=-1)


def _check_mef(exposures, fused, scales):
    least = WINDOW * 2 ** (scales - 1)
    if len(exposures) != 4 or len(fused) != 3 or exposures[1] is None or exposures[1] < 2:
        raise ValueError(f"expected exposures [B, N >= 2, H, W] and fused [B, H, W], got {exposures} and {fused}")
    for size, other in zip(exposures[2:], fused[1:], strict=True):
        if size is not None and other is not None and (size != other or size < least):
            raise ValueError(
                f"expected pictures of one size, at least {least} pixels a side for {scales} scales,"
                f" got exposures {exposures[2:]} and fused {fused[1:]}"
            )


def _reference_structure(exposures):
    """What one scale of the exposures, [N, B, H, W] of any origin, contributes: these, their means under the Gaussian window,
    the factor of each in the reference structure of a window, and the variance of that structure."""
    count, area = exposures.shape[0], WINDOW**2
    squares = [row * count - row * (row - 1) // 2 for row in range(count)]  # where _pairs holds the squares
    twice = [1.0 if p in squares else 2.0 for p in range(count * (count + 1) // 2)]
    twice = ops.reshape(ops.convert_to_tensor(twice, "float64"), (-1, 1, 1, 1))

    # Scatter of the deviations from the window's mean, per pair of exposures.
    total, products = _moments(exposures, [1.0] * WINDOW)
    scatter = twice * (products - _pairs(total) / area)
    power = ops.stack([scatter[p] for p in squares])
    norm = ops.sqrt(ops.where(power < 1e-6 / area, 0.0, power))
    strength = norm + 0.001

    # Consistency R of the structures: 1 where they are parallel (then the strongest wins), 0 where they cancel.
    joint = ops.sqrt(ops.maximum(ops.sum(scatter, axis=0), 0.0))
    consistency = (joint + EPS) / (ops.sum(norm, axis=0) + EPS)
    # tan is cut at 10; cutting its argument gives the same value and keeps pi/2 away.
    exponent = ops.tan(math.pi / 2 * ops.clip(consistency, EPS, 2 / math.pi * math.atan(10)))
    weight = ops.exp(exponent * ops.log(strength / WINDOW)) + EPS
    share = weight / (ops.sum(weight, axis=0) * strength)

    # The reference structure is the sum of factor * deviation, as strong as the strongest exposure.
    length = ops.sqrt(ops.maximum(ops.sum(_pairs(share) * scatter, axis=0), 0.0))
    factor = share * ops.where(length > 0, ops.max(strength, axis=0) / ops.maximum(length, EPS), 0.0)

    mean, products = _moments(exposures, _gaussian(WINDOW))
    return exposures, mean, factor, ops.sum(_pairs(factor) * twice * (products - _pairs(mean)), axis=0)


def _mef_quality(structure, fused):
    """Mean over the windows of one scale, compared under a Gaussian: fused [1, B, H, W] -> [B]."""
    exposures, mean, factor, variance_reference = structure
    local = _windows(ops.concatenate([fused, fused * fused, exposures * fused]), _gaussian(WINDOW))
    mean_fused, square_fused, cross = ops.split(local, [1, 2])
    variance_fused = ops.squeeze(square_fused - mean_fused * mean_fused, axis=0)
    covariance = ops.sum(factor * (cross - mean * mean_fused), axis=0)
    constant = (0.03 * 255) ** 2
    quality = (2 * covariance + constant) / (variance_reference + variance_fused + constant)
    return ops.mean(quality, axis=(1, 2))


def ssim(first, second, val_range: float | None = None):
    """Returns the mean structural similarity of two batches of pictures, a scalar.

    Args:
        first: [B, H, W, C].
        second: [B, H, W, C].
        val_range: dynamic range L. None guesses it from `first`, as the original does: 255 if its largest value is
            above 128, else 1; one more if its smallest is below -0.5.
    """
    return _ssim_terms(first, second, val_range)[0]


def msssim(first, second, val_range: float | None = None, normalize: bool = False):
    """Returns the mean multi-scale structural similarity (five scales) of two batches of pictures, a scalar.

    Kept from the original: the range is guessed anew at every scale, and the last line multiplies the coarsest SSIM
    into each factor of the product, so that it enters four times. A negative term gives NaN unless `normalize` is set.

    Args:
        first: [B, H, W, C], at least 16 pixels a side.
        second: [B, H, W, C].
        val_range: dynamic range at every scale; None guesses it from `first` (see `ssim`).
        normalize: maps both terms from -1..1 to 0..1 before the powers.
    """
    result = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            first = ops.average_pool(first, 2, 2, data_format="channels_last")
            second = ops.average_pool(second, 2, 2, data_format="channels_last")
        whole, contrast = _ssim_terms(first, second, val_range)
        last = scale == len(SCALE_WEIGHTS) - 1
        term = whole if last else contrast
        if normalize:
            term = (term + 1) / 2
        result = result * term ** (weight * (len(SCALE_WEIGHTS) - 1) if last else weight)
    return result


def pixel_and_ssim(output, target):
    """Returns the terms of DenseFuse's loss, two float64 scalars: mean squared error and 1 - MS-SSIM.

    From hli1221/densefuse-pytorch 4394b63, train_densefuse.py, which adds the first to 100 times the second. MS-SSIM is
    `msssim(output, target, normalize=True)`: it guesses the range from the output, 1 as long as that stays below 128.

    Args:
        output: [B, H, W, C], nominally 0..255, at least 16 pixels a side.
        target: the same.
    """
    output, target = ops.cast(output, "float64"), ops.cast(target, "float64")
    return ops.mean((output - target) ** 2), 1 - msssim(output, target, normalize=True)


def multi_task(fused, target, low, high, ssim_weight: float = 1000.0):
    """Returns HyperP_MB's loss and the sums of its terms without weights, float64 scalars: loss, pixel, ssim.

    Three tasks, each with the pixel and the SSIM term of `pixel_and_ssim`: the fused picture against the target, and under
    a mask against the masked under- and over-exposed picture.

        loss = (pixel + w ssim) + lambda_low (pixel_low + w ssim_low) + lambda_high (pixel_high + w ssim_high)

    From Changi-Im/HyperP_MB 9f676f6, train.py (batches of one picture). Masks, masked pictures and lambdas are constants;
    hdr_tf/image/examples.py makes them.

    Args:
        fused: [B, H, W, 1], nominally 0..255.
        target: the well exposed picture, the same shape, 0..255.
        low: mask [B, H, W, 1] in 0..1, masked under-exposed picture [B, H, W, 1] and lambda (a scalar, or of one element).
        high: likewise of the over-exposed picture.
        ssim_weight: w.
    """
    fused, total, pixels, ssims = ops.cast(fused, "float64"), 0.0, 0.0, 0.0
    for mask, reference, weight in ((1.0, target, 1.0), low, high):
        pixel, structure = pixel_and_ssim(fused * ops.cast(mask, "float64"), reference)
        total += ops.sum(ops.cast(weight, "float64")) * (pixel + ssim_weight * structure)
        pixels, ssims = pixels + pixel, ssims + structure
    return total, pixels, ssims


def sunnerli(under, over, fused):
    """Returns the loss of SunnerLi's DeepFuse, 1 - SSIM(target, fused), and the target.

    From SunnerLi/DeepFuse.pytorch 2986225, lib/loss.py. The program calls it MEF-SSIM; it is not: norms and weights are
    sums over the whole batch instead of windows, and with two pictures that are compared with their own mean the target
    collapses, up to 1e-8 in the norms, to

        (3 under + over) / 4    where the sum of squares of `under` is the larger one
        (5 over - under) / 4    otherwise

    for the batch as a whole, so near equality it jumps. A network trained with it learns a fixed weighted mean. Kept: SSIM
    with zeros around the picture and the constants of a range of 1, although values span -1..1. If both pictures are zero
    everywhere the target is 0 / 0.

    Args:
        under: [B, H, W, 1] in -1..1, the darker picture (the two cannot be exchanged).
        over: likewise the brighter one.
        fused: [B, H, W, 1] in -1..1.

    Returns:
        A scalar, and [B, H, W, 1] in -1.5..1.5; float64.
    """
    under, over, fused = (ops.cast(x, "float64") for x in (under, over, fused))

    def norm(x):
        return ops.sqrt(ops.sum((x + 1e-8) ** 2))

    mean = (under + over) / 2
    weights = [ops.sqrt(ops.sum(x**2)) for x in (under, over)]
    structures = [(x - mean) / norm(x - mean) for x in (under, over)]
    structure = (weights[0] * structures[0] + weights[1] * structures[1]) / (weights[0] + weights[1])
    contrast = ops.maximum(norm(under - mean), norm(over - mean))
    target = ops.stop_gradient(contrast * structure / norm(structure) + (over + mean) / 2)
    border = WINDOW // 2
    target_, fused_ = (ops.pad(x, ((0, 0), (border, border), (border, border), (0, 0))) for x in (target, fused))
    return 1 - ssim(target_, fused_, val_range=1.0), target


def _ssim_terms(first, second, val_range):
    """Mean SSIM and mean contrast-structure term of two batches [B, H, W, C]."""
    first, second = (ops.transpose(ops.cast(x, "float64"), (3, 0, 1, 2)) for x in (first, second))
    if val_range is None:
        high = ops.where(ops.max(first) > 128, 255.0, 1.0)
        val_range = ops.cast(high + ops.where(ops.min(first) < -0.5, 1.0, 0.0), "float64")
    c1, c2 = (0.01 * val_range) ** 2, (0.03 * val_range) ** 2
    taps = _gaussian(min(WINDOW, *first.shape[2:]))
    stacked = ops.concatenate([first, second, first * first, second * second, first * second])
    mean1, mean2, square1, square2, product = ops.split(_windows(stacked, taps), 5)
    contrast = (2 * (product - mean1 * mean2) + c2) / ((square1 - mean1**2) + (square2 - mean2**2) + c2)
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    return ops.mean(luminance * contrast), ops.mean(contrast)


def _gaussian(size: int) -> list[float]:
    """Taps of a Gaussian with sigma 1.5 and sum 1; an even size is off-centre, as in the original."""
    taps = [math.exp(-((x - size // 2) ** 2) / (2 * 1.5**2)) for x in range(size)]
    return [tap / sum(taps) for tap in taps]


def _windows(x, taps: list[float]):
    """Weighted sums over all windows inside the picture: x [C, B, H, W] -> [C, B, W - taps + 1, H - taps + 1]."""

    def columns(x):
        kernel = ops.reshape(ops.convert_to_tensor(taps, x.dtype), (-1, 1, 1, 1))
        kernel = ops.tile(kernel, (1, 1, ops.shape(x)[-1], 1))
        return ops.depthwise_conv(x, kernel, padding="valid", data_format="channels_last")

    return _both_ways(x, columns)


def _halve(x):
    """Means of 2x2 pixels: x [C, B, H, W] -> [C, B, W / 2, H / 2]; an odd last row or column counts for itself (the
    original's symmetric border)."""
    return _both_ways(x, lambda x: ops.average_pool(x, (2, 1), (2, 1), padding="same", data_format="channels_last"))


def _both_ways(x, columns):
    """Applies `columns` down and across x [C, B, H, W] and returns the result with height and width exchanged.

    `columns` works along axis 1 of [M, H, 1, W]: with the picture's width in the place of the channels the CPU kernels are
    several times faster. Turning the result back would cost as much as a pass and change no mean over the picture.
    """
    channels, batch, height, width = ops.shape(x)
    x = columns(ops.reshape(x, (channels * batch, height, 1, width)))
    x = columns(ops.transpose(x, (0, 3, 2, 1)))
    return ops.reshape(x, (channels, batch, ops.shape(x)[1], ops.shape(x)[3]))


def _moments(x, taps):
    """Windowed sums of x [N, B, H, W] and of `_pairs(x)`."""
    return ops.split(_windows(ops.concatenate([x, _pairs(x)]), taps), [x.shape[0]])


def _pairs(x):
    """Products of the maps i <= j, row by row: [N, ...] -> [N (N + 1) / 2, ...]."""
    return ops.concatenate([x[i:] * x[i : i + 1] for i in range(x.shape[0])])


def mu_law(values, mu: float = 5000.0):
    """Tone-maps radiance: log(1 + mu r) / log(1 + mu) with r = (values + 1) / 2, scaled to -1..1 again.

    Args:
        values: float, any shape, 2 * radiance - 1; radiance 0..1, and above 1 the curve goes on.
        mu: strength of the compression.

    Returns:
        The same shape and type; -1..1 for radiance 0..1.

    Example:
        >>> [round(float(mu_law(ops.array(value))), 3) for value in (-1.0, -0.998, 1.0)]
        [-1.0, -0.579, 1.0]
    """
    return tone_map((values + 1) / 2, mu) * 2 - 1


def mu_law_l1(output, truth):
    """Returns the mean absolute difference of two batches after `mu_law`, a scalar; both 2 * radiance - 1 of one shape.

    From tkd1088/ESBN 3f873ab, training_fusion.py.
    """
    return ops.mean(ops.abs(mu_law(output) - mu_law(truth)))


def mu_law_l2(output, truth):
    """Returns the mean squared difference of two batches after `mu_law`, a scalar: 4 / 10**(PSNR-T / 10). As `mu_law_l1`."""
    return ops.mean(ops.square(mu_law(output) - mu_law(truth)))


def tone_map(radiance, mu: float = 5000.0):
    """Returns log(1 + mu radiance) / log(1 + mu), the same shape and type: 0..1 for radiance 0..1, and above it goes on."""
    return ops.log(1 + mu * radiance) / math.log1p(mu)


def selfhdr_structure(output, label, hdr, ldr):
    """Returns the two terms of SelfHDR's first stage, scalars: structure expansion and structure preservation; it adds them.

    From cszhilu1998/SelfHDR 9e8af4a, models/selfhdr1_model.py (Zhang et al., ICLR 2024): where the label agrees with the
    reference the result should equal the label; the better the reference is exposed, the more the result should equal it,
    which counts fourfold. Both are mean absolute differences of tone-mapped radiance under a mask, over all pixels, masked ones
    too.

    Args:
        output: radiance [B, H, W, 3] from 0, nominally 0..1, as the network gives it.
        label: of the colour, the merge of the aligned exposures, likewise.
        hdr: radiance of the reference exposure, from 0.
        ldr: the reference exposure itself, 0..1.
    """
    expansion = _masked_l1(output, label, agrees_with_reference(label, hdr, ldr))
    return expansion, 4 * _masked_l1(output, hdr, well_exposed(ldr))


def selfhdr_color(output, label, structure):
    """Returns the colour term of SelfHDR's second stage, a scalar: as the first one of `selfhdr_structure`, where the label
    agrees with the structure label.

    From cszhilu1998/SelfHDR 9e8af4a, models/selfhdr2_model.py, which adds `perceptual` of output and structure label.

    Args:
        output: radiance [B, H, W, 3] from 0, nominally 0..1.
        label: of the colour, likewise.
        structure: of the structure, what the network of the first stage gave, likewise.
    """
    return _masked_l1(output, label, agrees_with_structure(label, structure))


def perceptual(output, truth, features, weights=(1.0, 1.0, 2.0)):
    """Returns the mean absolute difference of two batches in what a network sees in them after `tone_map`, a scalar.

    From cszhilu1998/SelfHDR 9e8af4a, models/networks.py, with VGG19 up to relu3_2, relu4_2 and relu5_2. What the network wants
    done to a picture (PyTorch's: the mean taken off, over the deviation) is part of it here. The original hands it pictures
    whose channels are blue, green, red as if they were red, green, blue.

    Args:
        output: radiance [B, H, W, 3] from 0, nominally 0..1.
        truth: likewise.
        features: function from pictures [B, H, W, 3] in 0..1 to a sequence of tensors, one for each weight.
        weights: of the tensors' mean absolute differences; their sum is divided by the sum of the weights.
    """
    seen = zip(weights, features(tone_map(output)), features(tone_map(truth)), strict=True)
    return sum(weight * ops.mean(ops.abs(first - second)) for weight, first, second in seen) / sum(weights)


def well_exposed(ldr):
    """Returns how well a picture in 0..1 is exposed: 1 in the middle, 0 at both ends, linearly, for each channel."""
    return 1 - ops.abs(2 * ldr - 1)


def agrees_with_reference(label, hdr, ldr):
    """Returns the mask [B, H, W, 1] of `selfhdr_structure`, 1 where the label differs by less than 5/255 on the average of the
    channels, weighed by `well_exposed`, after `tone_map`."""
    mask = well_exposed(ldr)
    return _near(tone_map(label) * mask, tone_map(hdr) * mask, 5 / 255)


def agrees_with_structure(label, structure):
    """Returns the mask [B, H, W, 1] of `selfhdr_color`, 1 where the labels differ by less than 10/255 on the average of the
    channels after `tone_map`."""
    return _near(tone_map(label), tone_map(structure), 10 / 255)


def _near(first, second, limit):
    difference = ops.mean(ops.abs(first - second), axis=-1, keepdims=True)
    return ops.stop_gradient(ops.cast(difference < limit, first.dtype))


def _masked_l1(output, truth, mask):
    return ops.mean(ops.abs(tone_map(output) * mask - tone_map(truth) * mask))
