"""Losses: pure functions of tensors, written with keras.ops, and MEF-SSIM as a score.

Images are in 0..255 unless a function says otherwise. The statistics of windows, for MEF-SSIM, SSIM and MS-SSIM, have two
forms:

    float64   differences of large, nearly equal sums (255**2 against a variance that may be zero): on a CPU, of float64 images
              everywhere, and for scores (`mef_ssim_score`)
    float32   means of products of deviations, which never cancel: on an accelerator, where float64 takes 2 to 64 times as long,
              and with JAX unless `jax_enable_x64` is set

On patches of 64 x 64 pixels, synthetic brackets and flat, black, white and nearly saturated images with and without a changed
pixel, the second form differs from the first by at most 1e-6 (differences of sums in float32: 2e-3), and its gradient by 3e-6
of the gradient's norm on brackets and 3e-3 on nearly saturated images. Both forms give noise where the structures of all
exposures cancel exactly, as those of an image and its negative do, because MEF-SSIM is not defined there. A loss has the type
of its statistics.

K. Ma, K. Zeng, Z. Wang, "Perceptual quality assessment for multi-exposure image fusion", IEEE TIP 24(11), 2015; the details
follow the authors' MATLAB program in MEFB (xingchenzhang/MEFB 82014f4, metrics/mef_ssim.m and mef_ms_ssim.m). Other quantities
exist under the name MEF-SSIM (one scale, padded windows, other gray steps); their numbers are not comparable.
Z. Wang, E. Simoncelli, A. Bovik, "Multiscale structural similarity for image quality assessment", Asilomar 2003; the details
follow hli1221/densefuse-pytorch 4394b63, pytorch_msssim/__init__.py (HyperP_MB uses the same functions).
"""

import math
from collections.abc import Callable

import keras
from keras import ops

# Weights of the five scales of MS-SSIM, finest first (Wang 2003); MEF-SSIM uses the first three, divided by their sum.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
LUMA_WEIGHTS = (0.298936021293775, 0.587043074451121, 0.114020904255103)  # ITU-R BT.601 with all digits of MATLAB's rgb2gray
WINDOW = 11
EPS = 2.0**-52
MU = 5000.0


def mef_ssim(exposures, fused, scales: int = 3):
    """Returns the MEF-SSIM of each fused image, [B], at most 1. Gradients flow to `fused`; the exposures are constants.

    Args:
        exposures: [B, N, H, W], gray 0..255, N >= 2.
        fused: [B, H, W], gray, nominally 0..255.
        scales: number of scales, 1 to 5; H and W must be at least 11 * 2**(scales - 1).

    Example:
        >>> under, over = ops.zeros([1, 64, 64]), ops.full([1, 64, 64], 255.0)
        >>> round(float(mef_ssim(ops.stack([under, over], 1), ops.ones([1, 64, 64]))[0]), 6)
        1.0
    """
    return _weighted_product(mef_ssim_scales(exposures, fused, scales))


def mef_ssim_scales(exposures, fused, scales: int = 3):
    """Returns the mean quality at each scale, [B, scales], finest first. It may be below 0. See `mef_ssim`."""
    least, sides = WINDOW * 2 ** (scales - 1), zip(exposures.shape[2:], fused.shape[1:], strict=False)
    known = [pair for pair in sides if None not in pair]
    unfit = any(side != fused_side or side < least for side, fused_side in known)
    if unfit or len(exposures.shape) != 4 or len(fused.shape) != 3 or (exposures.shape[1] or 0) < 2:
        raise ValueError(
            f"expected exposures [B, N >= 2, H, W] and fused images [B, H, W] of one size, at least {least} pixels a side for "
            f"{scales} scales, found {exposures.shape} and {fused.shape}"
        )
    return _qualities(mef_reference(exposures, scales), fused)


def mef_reference(exposures, scales: int = 3):
    """Returns a tuple of tensors for each scale: what MEF-SSIM needs to know of the exposures.

    This is most of the work, so keep it to compare many fused images of one bracket, as hdr_tf/rl/environment.py does. The
    arguments are those of `mef_ssim`; their shapes are not checked.
    """
    # From here on, exposures come first, so that every map is one piece of memory.
    exposures = ops.stop_gradient(_centred_at_gray(ops.cast(ops.transpose(exposures, (1, 0, 2, 3)), _type(exposures))))
    reference = []
    for scale in range(scales):
        if scale:
            exposures = _halve(exposures)
        reference.append(_reference_structure(exposures))
    return reference


def mef_ssim_score(exposures, fused, scales: int = 3) -> float:
    """Returns the MEF-SSIM of one fused image in `rounded_gray`, at most 1: the score of the MEFB benchmark.

    Args:
        exposures: N >= 2 images of one size, each [H, W, 3] RGB or [H, W] gray, 0..255 (divide a 16-bit image by 257).
        fused: the result, [H, W, 3] or [H, W], 0..255.
        scales: as in `mef_ssim`; 3 in the benchmark.
    """
    images = [rounded_gray(image) for image in (*exposures, fused)]
    if any(image.shape != images[-1].shape for image in images):
        raise ValueError(f"expected exposures of one size and a result of the same, found {[image.shape for image in images]}")
    images = ops.stack(images)
    return float(mef_ssim(images[None, :-1], images[-1:], scales)[0])


def rounded_gray(image):
    """Returns the gray values that `mef_ssim_score` compares, whole numbers: [H, W, 3] or [H, W] -> [H, W] float64."""
    image = ops.cast(image, "float64")
    return ops.floor((luma(image) if len(image.shape) == 3 else image) + 0.5)


def luma(rgb):
    """Returns the BT.601 luma of RGB in any range: [..., 3] -> [...]."""
    return ops.sum(rgb * ops.convert_to_tensor(LUMA_WEIGHTS, rgb.dtype), axis=-1)


def _weighted_product(quality):
    """MEF-SSIM from the quality at each scale: [B, scales] -> [B]."""
    weights = SCALE_WEIGHTS[: quality.shape[-1]]
    weights = ops.convert_to_tensor([w / sum(weights) for w in weights], quality.dtype)
    # The mean of a scale can fall below zero (opposed structure); its root would be NaN.
    return ops.exp(ops.sum(weights * ops.log(ops.maximum(quality, 1e-6)), axis=-1))


def _qualities(reference, fused):
    fused = _centred_at_gray(ops.cast(fused, reference[0][0].dtype)[None])
    quality = []
    for scale, structure in enumerate(reference):
        if scale:
            fused = _halve(fused)
        quality.append(_mef_quality(structure, fused))
    return ops.stack(quality, axis=-1)


def _reference_structure(exposures):
    """What one scale of the exposures, [N, B, H, W] with any origin, contributes: the exposures, their means under the Gaussian
    window, the factor of each in the reference structure of a window, and the variance of that structure."""
    count, area = exposures.shape[0], WINDOW**2
    pairs = [(i, j) for i in range(count) for j in range(i, count)]  # in the order of _pairs
    twice = ops.reshape(ops.convert_to_tensor([1.0 if i == j else 2.0 for i, j in pairs], exposures.dtype), (-1, 1, 1, 1))

    # Scatter of the deviations from the mean of the window, for each pair of exposures.
    if _is_double(exposures):
        total, products = ops.split(_windows(ops.concatenate([exposures, _pairs(exposures)]), [1.0] * WINDOW), [count])
        scatter = twice * (products - _pairs(total) / area)
    else:
        scatter = twice * area * _covariances(exposures, _pairs, [1 / WINDOW] * WINDOW)[1]
    power = ops.stack([scatter[p] for p, (i, j) in enumerate(pairs) if i == j])
    norm = ops.sqrt(ops.where(power < 1e-6 / area, 0.0, power))
    strength = norm + 0.001

    # Consistency R of the structures: 1 where they are parallel (then the strongest wins), 0 where they cancel.
    joint = ops.sqrt(ops.maximum(ops.sum(scatter, axis=0), 0.0))
    consistency = (joint + EPS) / (ops.sum(norm, axis=0) + EPS)
    # The original limits tan to 10. Limiting its argument gives the same value and avoids pi/2.
    exponent = ops.tan(math.pi / 2 * ops.clip(consistency, EPS, 2 / math.pi * math.atan(10)))
    weight = ops.exp(exponent * ops.log(strength / WINDOW)) + EPS
    share = weight / (ops.sum(weight, axis=0) * strength)

    # The reference structure is the sum of factor * deviation, as strong as the strongest exposure.
    length = ops.sqrt(ops.maximum(ops.sum(_pairs(share) * scatter, axis=0), 0.0))
    factor = share * ops.where(length > 0, ops.max(strength, axis=0) / ops.maximum(length, EPS), 0.0)

    mean, covariances = _covariances(exposures, _pairs, _gaussian(WINDOW))
    return exposures, mean, factor, ops.sum(_pairs(factor) * twice * covariances, axis=0)


def _mef_quality(structure, fused):
    """Mean quality of the windows of one scale, weighted by a Gaussian: fused [1, B, H, W] -> [B]."""
    exposures, mean, factor, variance_reference = structure
    if _is_double(fused):  # the means of the exposures are known
        local = _windows(ops.concatenate([fused, fused * fused, exposures * fused]), _gaussian(WINDOW))
        mean_fused, square_fused, cross = ops.split(local, [1, 2])
        variance_fused, covariances = ops.squeeze(square_fused - mean_fused * mean_fused, axis=0), cross - mean * mean_fused
    else:
        _, both = _covariances(ops.concatenate([fused, exposures]), lambda maps: maps[:1] * maps, _gaussian(WINDOW))
        variance_fused, covariances = both[0], both[1:]
    covariance = ops.sum(factor * covariances, axis=0)
    constant = (0.03 * 255) ** 2
    quality = (2 * covariance + constant) / (variance_reference + variance_fused + constant)
    return ops.mean(quality, axis=(1, 2))


def ssim_and_contrast(first, second, val_range: float | None = None):
    """Returns the mean structural similarity of two batches of images and its contrast-structure part, two scalars.

    Args:
        first, second: [B, H, W, C]. The windows are as in `hdr_tf.metrics.gaussian_ssim`.
        val_range: dynamic range L. None guesses it from `first`, as the original does: 255 if its largest value is above 128,
            else 1; one more if its smallest value is below -0.5.
    """
    dtype = _type(first)
    first, second = (ops.transpose(ops.cast(x, dtype), (3, 0, 1, 2)) for x in (first, second))
    if val_range is None:
        high = ops.where(ops.max(first) > 128, 255.0, 1.0)
        val_range = ops.cast(high + ops.where(ops.min(first) < -0.5, 1.0, 0.0), first.dtype)
    c1, c2 = (0.01 * val_range) ** 2, (0.03 * val_range) ** 2
    taps = _gaussian(min(WINDOW, *first.shape[2:]))
    channels = first.shape[0]

    def products(maps):
        one, other = maps[:channels], maps[channels:]
        return ops.concatenate([one * one, other * other, one * other])

    means, covariances = _covariances(ops.concatenate([first, second]), products, taps)
    (mean1, mean2), (variance1, variance2, covariance) = ops.split(means, 2), ops.split(covariances, 3)
    contrast = (2 * covariance + c2) / (variance1 + variance2 + c2)
    luminance = (2 * mean1 * mean2 + c1) / (mean1**2 + mean2**2 + c1)
    return ops.mean(luminance * contrast), ops.mean(contrast)


def msssim(first, second):
    """Returns the mean multi-scale structural similarity (five scales) of two batches of images [B, H, W, C], a scalar.

    H and W are at least 16. As in the original's `normalize`, the terms are mapped from -1..1 to 0..1 before the powers, since
    a negative one would give NaN. Kept from the original: the range is guessed anew at every scale, and its last line
    multiplies the SSIM of the coarsest scale into each factor of the product, so that it enters four times.
    """
    result = 1.0
    *finer, coarsest = SCALE_WEIGHTS
    for weight in finer:
        result = result * ((ssim_and_contrast(first, second)[1] + 1) / 2) ** weight
        first, second = (ops.average_pool(x, 2, 2, data_format="channels_last") for x in (first, second))
    return result * ((ssim_and_contrast(first, second)[0] + 1) / 2) ** (coarsest * len(finer))


def pixel_and_ssim(output, target):
    """Returns the terms of DenseFuse's loss, two scalars: mean squared error and 1 - MS-SSIM.

    From hli1221/densefuse-pytorch 4394b63, train_densefuse.py, which adds the first to 100 times the second. `output` and
    `target` are [B, H, W, C], nominally 0..255, at least 16 pixels a side; MS-SSIM takes the range as 1 while the output stays
    below 128.
    """
    dtype = _type(output)
    output, target = ops.cast(output, dtype), ops.cast(target, dtype)
    return ops.mean((output - target) ** 2), 1 - msssim(output, target)


def multi_task(fused, target, low, high, ssim_weight: float = 1000.0):
    """Returns HyperP_MB's loss and the unweighted sums of its terms, scalars: loss, pixel, ssim.

    Three tasks each have the pixel and the SSIM term of `pixel_and_ssim`. The first compares the fused image with the target;
    the other two compare it, under a mask, with the masked under-exposed and the masked over-exposed image.

        loss = (pixel + w ssim) + lambda_low (pixel_low + w ssim_low) + lambda_high (pixel_high + w ssim_high)

    From Changi-Im/HyperP_MB 9f676f6, train.py (batches of one image). `tfrecords.examples.hyperp_mb` makes `low` and `high`;
    both are constants.

    Args:
        fused, target: [B, H, W, 1], nominally 0..255; the target is the well-exposed image.
        low, high: of the under- and of the over-exposed image: mask in 0..1 and masked image, [B, H, W, 1]; lambda, one number.
        ssim_weight: w.
    """
    fused, total, pixels, ssims = ops.cast(fused, _type(fused)), 0.0, 0.0, 0.0
    for mask, reference, weight in ((1.0, target, 1.0), low, high):
        pixel, structure = pixel_and_ssim(fused * ops.cast(mask, fused.dtype), reference)
        total += ops.sum(ops.cast(weight, fused.dtype)) * (pixel + ssim_weight * structure)
        pixels, ssims = pixels + pixel, ssims + structure
    return total, pixels, ssims


def sunnerli(under, over, fused):
    """Returns the loss of SunnerLi's DeepFuse, 1 - SSIM(target, fused), and the target, [B, H, W, 1] in -1.5..1.5, float64.

    From SunnerLi/DeepFuse.pytorch 2986225, lib/loss.py. The program calls it MEF-SSIM, but it is not: norms and weights are
    sums over the whole batch instead of windows. Since two images are compared with their own mean, the target collapses, up to
    1e-8 in the norms, for the batch as a whole to

        (3 under + over) / 4    where the sum of squares of `under` is the larger one
        (5 over - under) / 4    otherwise

    so it jumps where the sums are nearly equal, and a network trained with it learns a fixed weighted mean. Kept: SSIM with
    zeros around the image and the constants of a range of 1, although values span -1..1. If both images are zero everywhere,
    the target is 0 / 0. All arguments are [B, H, W, 1] in -1..1; the darker and the brighter image cannot be exchanged.
    """
    dtype = _type(fused)
    under, over = ops.cast(under, "float64"), ops.cast(over, "float64")

    def norm(x):
        return ops.sqrt(ops.sum((x + 1e-8) ** 2))

    mean = (under + over) / 2
    weights = [ops.sqrt(ops.sum(x**2)) for x in (under, over)]
    structures = [(x - mean) / norm(x - mean) for x in (under, over)]
    structure = (weights[0] * structures[0] + weights[1] * structures[1]) / (weights[0] + weights[1])
    contrast = ops.maximum(norm(under - mean), norm(over - mean))
    target = ops.stop_gradient(contrast * structure / norm(structure) + (over + mean) / 2)
    border = WINDOW // 2
    borders = ((0, 0), (border, border), (border, border), (0, 0))
    target_, fused_ = (ops.pad(ops.cast(x, dtype), borders) for x in (target, fused))
    return 1 - ssim_and_contrast(target_, fused_, val_range=1.0)[0], target


def pyramid(exposures, fused):
    """Returns the loss of the network `pyramid` and its three terms: loss = 1 - quality + 0.8 outside + 0.3 brightness.

    quality is the mean MEF-SSIM of the gray images, at three scales. outside is the mean of d / (d + 0.02), where d is the
    distance of a value from [0, 1]; the squared distance would let many values leave the range a little. brightness is the mean
    squared distance, between means over 64x64 pixels, from the average of the exposures weighted by how well exposed they are
    (Mertens, Kautz, Van Reeth, "Exposure fusion", Pacific Graphics 2007), since MEF-SSIM ignores brightness.

    Args:
        exposures: [B, N, H, W, 3] RGB in 0..1, H and W at least 64.
        fused: [B, H, W, 3] RGB, about 0..1.
    """
    quality = ops.cast(ops.mean(mef_ssim(255 * luma(exposures), 255 * luma(fused))), "float32")
    distance = ops.abs(fused - ops.clip(fused, 0, 1))
    outside = ops.mean(distance / (distance + 0.02))
    closeness = ops.exp(-0.5 * ((luma(exposures) - 0.5) / 0.2) ** 2)[..., None] + 1e-3
    average = ops.sum(closeness * exposures, axis=1) / ops.sum(closeness, axis=1)
    brightness = ops.mean(ops.average_pool(fused - average, 64, 64) ** 2)
    return 1 - quality + 0.8 * outside + 0.3 * brightness, quality, outside, brightness


def _gaussian(size: int) -> list[float]:
    """Taps of a Gaussian with sigma 1.5 and sum 1; an even size is off-centre, as in the original."""
    taps = [math.exp(-((x - size // 2) ** 2) / (2 * 1.5**2)) for x in range(size)]
    return [tap / sum(taps) for tap in taps]


def _windows(x, taps: list[float]):
    """Weighted sums over all windows inside the image: x [C, B, H, W] -> [C, B, W - taps + 1, H - taps + 1]."""

    def columns(x):
        kernel = ops.reshape(ops.convert_to_tensor(taps, x.dtype), (-1, 1, 1, 1))
        kernel = ops.tile(kernel, (1, 1, ops.shape(x)[-1], 1))
        return ops.depthwise_conv(x, kernel, padding="valid", data_format="channels_last")

    return _both_ways(x, columns)


def _halve(x):
    """Means of 2x2 pixels, [C, B, H, W] -> [C, B, W / 2, H / 2]; an odd last row or column is its own mean."""
    return _both_ways(x, lambda x: ops.average_pool(x, (2, 1), (2, 1), padding="same", data_format="channels_last"))


def _both_ways(x, columns):
    """Applies `columns` down and across x [C, B, H, W] and returns the result with height and width exchanged.

    `columns` works along axis 1 of [M, H, 1, W]: with the width of the image in the place of the channels, CPU kernels are
    several times faster. Turning the result back would cost as much as a pass and change no mean over the image.
    """
    channels, batch, height, width = ops.shape(x)
    x = columns(ops.reshape(x, (channels * batch, height, 1, width)))
    x = columns(ops.transpose(x, (0, 3, 2, 1)))
    return ops.reshape(x, (channels, batch, ops.shape(x)[1], ops.shape(x)[3]))


def _type(x) -> str:
    """What the statistics of an image are computed in: float64, but float32 on an accelerator unless x is float64."""
    on_cpu = all(device.startswith("cpu") for device in keras.distribution.list_devices())
    return "float64" if on_cpu or _is_double(x) else "float32"


def _is_double(x) -> bool:
    return keras.backend.standardize_dtype(x.dtype) == "float64"


def _centred_at_gray(x):
    """x in 0..255 from mid-gray on, which changes no deviation and makes the sums of float64 four times smaller. In float32,
    which takes no such sums, it would round what is nearly black."""
    return x - 127.5 if _is_double(x) else x


def _covariances(x, products: Callable, taps: list[float]):
    """Means of x [N, B, H, W] over all windows inside the image, and covariances of its maps, both with height and width
    exchanged. `products` multiplies the pairs of maps that are asked for: [N, ...] -> [P, ...]; `taps` have the sum 1.

    The form for float32 subtracts no sums. The windows of a column have means and, from the deviations from these, covariances.
    By the law of total covariance, those of a whole window are the mean of its columns' covariances and the covariance of its
    columns' means.
    """
    if _is_double(x):
        means, moments = ops.split(_windows(ops.concatenate([x, products(x)]), taps), [x.shape[0]])
        return means, moments - products(means)
    weights, middle = ops.reshape(ops.convert_to_tensor(taps, x.dtype), (-1, 1, 1, 1)), len(taps) // 2

    def rows(maps):  # [N, taps, B, H, W]
        count = ops.shape(maps)[2] - len(taps) + 1
        return ops.stack([maps[:, :, k : k + count] for k in range(len(taps))], axis=1)

    means, covariances = x, None
    for _ in range(2):
        window = rows(means)
        # Differences from the pixel in the middle are exactly 0 where an image is flat, as where it is saturated.
        centre = window[:, middle]
        differences = window - centre[:, None]
        shift = ops.sum(weights * differences, axis=1)
        total = ops.sum(weights * products(differences - shift[:, None]), axis=1)
        if covariances is not None:
            total += ops.sum(weights * rows(covariances), axis=1)
        means, covariances = (ops.transpose(y, (0, 1, 3, 2)) for y in (centre + shift, total))
    return means, covariances


def _pairs(x):
    """Products of the maps i <= j, row by row: [N, ...] -> [N (N + 1) / 2, ...]."""
    return ops.concatenate([x[i:] * x[i : i + 1] for i in range(x.shape[0])])


def mu_law(radiance):
    """Returns the mu-law tone mapping log(1 + 5000 r) / log(5001) of radiance r in 0..1; above 1 the curve continues."""
    return ops.log(1 + MU * radiance) / math.log1p(MU)


def mu_law_signed(values):
    """Returns `mu_law` of radiance that is scaled to -1..1 (2 r - 1), scaled to -1..1 again: ESBN's tone mapping.

    Example:
        >>> [round(float(mu_law_signed(ops.array(value))), 3) for value in (-1.0, -0.998, 1.0)]
        [-1.0, -0.579, 1.0]
    """
    return mu_law((values + 1) / 2) * 2 - 1


def mu_law_l1(output, truth):
    """Returns the mean absolute difference of two batches of 2 * radiance - 1 after `mu_law_signed`, a scalar: ESBN's loss
    (tkd1088/ESBN 3f873ab, training_fusion.py)."""
    return ops.mean(ops.abs(mu_law_signed(output) - mu_law_signed(truth)))


def mu_law_l2(output, truth):
    """Returns the mean squared difference instead, which is 4 / 10**(PSNR-T / 10); see `mu_law_l1`."""
    return ops.mean(ops.square(mu_law_signed(output) - mu_law_signed(truth)))


def merge(batch, outputs):
    """Returns the loss of the merge network, {"loss", "rmse"}, scalars after the mu-law; 1 is the shortest exposure's clip.

    Args:
        batch: {"hdr": [B, H, W, 3] true radiance, "exposures": [B, N], in the same units, and others}.
        outputs: {"radiance", "denoised": [B, H, W, 3], and others}.

    The loss is the sum of both outputs' root mean squared errors, averaged over the images, and half their mean absolute
    errors; "rmse" is that of the denoised radiance.
    """
    shortest = ops.min(batch["exposures"], axis=1)[:, None, None, None]

    def curve(radiance):
        return mu_law(ops.clip(radiance * shortest, 0, 1))

    truth, total = curve(batch["hdr"]), 0
    for name in ("radiance", "denoised"):
        error = curve(outputs[name]) - truth
        rmse = ops.mean(ops.sqrt(ops.mean(ops.square(error), axis=(1, 2, 3)) + 1e-8))
        total += rmse + ops.mean(ops.abs(error)) / 2
    return {"loss": total, "rmse": rmse}


def selfhdr_structure(output, label, hdr, ldr):
    """Returns the two terms of SelfHDR's first stage, scalars to be added: structure expansion and structure preservation.

    From cszhilu1998/SelfHDR 9e8af4a, models/selfhdr1_model.py (Zhang et al., ICLR 2024). Where the colour label agrees with the
    reference exposure, the result should equal the label. The better the reference is exposed, the more the result should equal
    it; this term has weight 4. Both are mean absolute differences after `mu_law` and under a mask, over all pixels, masked ones
    included.

    Args:
        output, label: radiance [B, H, W, 3], nominally 0..1; the label is the colour label, a merge of the aligned exposures.
        hdr, ldr: the reference exposure, as radiance from 0 and as an image in 0..1.
    """
    expansion = _masked_l1(output, label, agrees_with_reference(label, hdr, ldr))
    return expansion, 4 * _masked_l1(output, hdr, well_exposed(ldr))


def selfhdr_color(output, label, structure):
    """Returns the colour term of SelfHDR's second stage, a scalar: the first term of `selfhdr_structure`, but where the colour
    label agrees with the structure label, which is the result of the first stage's network.

    From cszhilu1998/SelfHDR 9e8af4a, models/selfhdr2_model.py, which adds `perceptual` of the output and the structure label.
    All arguments are radiance [B, H, W, 3], nominally 0..1.
    """
    return _masked_l1(output, label, agrees_with_structure(label, structure))


def perceptual(output, truth, features, weights=(1.0, 1.0, 2.0)):
    """Returns the mean absolute difference between the features of two batches after `mu_law`, a scalar.

    From cszhilu1998/SelfHDR 9e8af4a, models/networks.py, with VGG19 up to relu3_2, relu4_2 and relu5_2. The original passes BGR
    images to the network as if they were RGB.

    Args:
        output, truth: radiance [B, H, W, 3], nominally 0..1.
        features: function from images [B, H, W, 3] in 0..1 to a sequence of tensors, one for each weight; it includes the
            normalisation of the images (PyTorch's mean and deviation).
        weights: of the tensors' mean absolute differences, whose weighted sum is divided by the sum of the weights.
    """
    layers = zip(weights, features(mu_law(output)), features(mu_law(truth)), strict=True)
    return sum(weight * ops.mean(ops.abs(first - second)) for weight, first, second in layers) / sum(weights)


def well_exposed(ldr):
    """Returns how well an image in 0..1 is exposed: 1 in the middle of the range, falling linearly to 0 at both ends."""
    return 1 - ops.abs(2 * ldr - 1)


def agrees_with_reference(label, hdr, ldr):
    """Returns the mask [B, H, W, 1] of `selfhdr_structure`: 1 where label and reference, after `mu_law` and weighted by
    `well_exposed`, differ by less than 5/255 in the mean of the channels."""
    mask = well_exposed(ldr)
    return _near(mu_law(label) * mask, mu_law(hdr) * mask, 5 / 255)


def agrees_with_structure(label, structure):
    """Returns the mask [B, H, W, 1] of `selfhdr_color`: 1 where the labels, after `mu_law`, differ by less than 10/255 in the
    mean of the channels."""
    return _near(mu_law(label), mu_law(structure), 10 / 255)


def _near(first, second, limit):
    difference = ops.mean(ops.abs(first - second), axis=-1, keepdims=True)
    return ops.stop_gradient(ops.cast(difference < limit, first.dtype))


def _masked_l1(output, truth, mask):
    return ops.mean(ops.abs(mu_law(output) * mask - mu_law(truth) * mask))
