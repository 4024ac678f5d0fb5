"""The classical merge of moving exposures, of any number: weights what agrees with the reference, else takes the reference.

It generalises the colour label with which SelfHDR trains (`hdr_merge.syn_hdr`): the reference counts most where it is well
exposed, shorter exposures where it is bright, longer ones where it is dark. Within each of these groups exposures are weighted
by inverse variance of their noise, times trust. Where no exposure was moved and all agree, as on a tripod, all of them together
are weighted so. Where the reference is clipped and no shorter exposure is trusted, a fill takes
over: a smooth continuation of the highlights around, at least as bright as the clip.

Images are uint16 of gamma 2.2, on top of each other (`optical_flow.register`); exposures are relative to the reference, whose
own is 1, and so is radiance: 1 is where the reference clips.

docs/merge.md has the scores of each step.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import noise as noise_model
from hdr_tf.image import optical_flow, tone
from hdr_tf.image.tiling import bands

VALID, CLIPPED = 0.92, 0.98  # brightest encoded channel: above the first an exposure counts less, above the second not at all
DARK_BESIDE, BESIDE = 0.5, 0.7  # but a channel up to the first counts fully, and up to the second less, beside a clipped one
QUARTER = 4  # the fill is computed at a quarter of the size
LEVELS = 7  # halvings
SURROUNDINGS = 0.1  # weight for the fill of a pixel where the reference is not clipped, against 1 where it is
EQUAL = 1.1  # exposures that differ by a smaller factor are equal
LEAST_CREDIT = 1e-12  # of exposures of which none is valid and trusted
_WHITE = np.float32(65535)


def trust(image: np.ndarray, target: np.ndarray, inside: np.ndarray, exposure: float, dark_error: float) -> np.ndarray:
    """Returns how far an exposure agrees with the reference, [H, W] float32 in 0..1; see `optical_flow.difference`."""
    difference = optical_flow.difference(image, target, exposure, dark_error)
    return optical_flow.agreement(difference, _WHITE) * (inside > optical_flow.OUTSIDE)


def merge(
    registered: optical_flow.Registered,
    exposures: Sequence[float],
    reference: int,
    noise: noise_model.Noise,
    fill: bool = True,
    denoise: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Merges exposures.

    Args:
        registered: images and where they show something.
        exposures: [N] relative to the reference.
        reference: its index.
        noise: of the exposures.
        fill: whether to continue highlights where nothing is known; otherwise the reference's clip stands there.
        denoise: factor on the variance of the noise that `noise.wiener` removes; 0 for none.

    Returns radiance, [H, W, 3] float32, and the source of each pixel, [H, W] uint8: the exposure that counts most, N for the
    fill.
    """
    height, width = registered.images[reference].shape[:2]
    radiance = np.empty((height, width, 3), np.float32)
    variance = np.empty((height, width, 3), np.float32)
    need = np.zeros((height, width), np.float32)
    clipped = np.zeros((height, width), np.float32)
    source = np.empty((height, width), np.uint8)
    for rows, with_halo, inner in bands(radiance, 2):
        images = [image[with_halo] for image in registered.images]
        trusts = [
            np.ones(images[i].shape[:2], np.float32)
            if i == reference
            else trust(images[i], images[reference], registered.inside[i][with_halo], exposures[i], noise.dark_error)
            for i in range(len(images))
        ]
        still = np.min([inside[with_halo] for inside in registered.inside], axis=0) == optical_flow.UNMOVED
        still = still * np.min(trusts, axis=0)
        parts = _merge_band(images, trusts, still, exposures, reference, noise)
        for whole, part in zip((radiance, variance, need, clipped, source), parts, strict=True):
            whole[rows] = part[inner]
    if fill and need.any():
        continued = _fill(radiance, need, clipped)
        for rows, *_ in bands(radiance, 0):
            share = need[rows, :, None]
            radiance[rows] += share * np.maximum(continued[rows] - radiance[rows], 0)
        source[need > 0.5] = len(registered.images)
    if denoise:
        radiance = noise_model.wiener(radiance, variance, denoise)
    return radiance, source


def _merge_band(images, trusts, still, exposures, reference, noise):
    encoded = [np.float32(image) / _WHITE for image in images]
    linear = [tone.to_radiance(image, 1) for image in encoded]
    valid = [_valid(image) for image in encoded]
    variances = [
        noise.variance(values) / np.float32(e**2) + np.float32(1e-12) for values, e in zip(linear, exposures, strict=True)
    ]
    shortest = min(exposures)
    # What the shortest exposure shows counts even where it is clipped: no exposure knows more.
    credit = [
        trusted[..., None] * (np.maximum(v, 1e-3) if e < EQUAL * shortest else v)
        for trusted, v, e in zip(trusts, valid, exposures, strict=True)
    ]
    groups = {
        "short": [i for i, e in enumerate(exposures) if e < 1 / EQUAL],
        "equal": [i for i, e in enumerate(exposures) if 1 / EQUAL <= e <= EQUAL],
        "long": [i for i, e in enumerate(exposures) if e > EQUAL],
    }
    overall = [variance.mean(axis=2, keepdims=True) for variance in variances]
    weights = _weights(credit, overall)
    center, center_variance = _mean(
        groups["equal"], _weights([x[..., None] for x in trusts], overall), linear, exposures, variances
    )
    bright = 2 * encoded[reference] - 1
    total, total_variance, rest = np.float32(0), np.float32(0), np.float32(1)
    shares, known = {}, np.zeros(trusts[0].shape, np.float32)
    for name, weight in (("short", np.maximum(bright, 0)), ("long", np.maximum(-bright, 0))):
        if not groups[name]:
            shares[name] = np.zeros_like(known)
            continue
        mean, mean_variance = _mean(groups[name], weights, linear, exposures, variances)
        if name == "long":
            most = np.max([credit[i] for i in groups[name]], axis=0)
        else:
            known = np.max(
                [trusts[i] * (1 if exposures[i] < EQUAL * shortest else valid[i].min(axis=2)) for i in groups[name]], axis=0
            )
            most = known[..., None]
        share = weight * most
        total = total + share * (mean - center)
        total_variance = total_variance + share**2 * mean_variance
        rest = rest - share
        shares[name] = share.mean(axis=2)
    radiance = center + total
    total_variance = total_variance + rest**2 * center_variance
    clipped = np.clip((encoded[reference].max(axis=2) - VALID) / (CLIPPED - VALID), 0, 1)
    need = clipped * (1 - known)
    ordered = np.stack([shares["short"], 1 - shares["short"] - shares["long"], shares["long"]])
    most = [_most(groups[name], weights) if groups[name] else np.full(known.shape, reference) for name in groups]
    source = np.take_along_axis(np.stack(most), ordered.argmax(axis=0)[None], 0)[0]
    if still.any():
        # Each channel by itself is best for noise: that of the merged radiance, because noise makes a dark value seem less
        # noisy.
        light = cv2.blur(radiance, (3, 3))
        variances = [noise.variance(light * np.float32(e)) / np.float32(e**2) + np.float32(1e-12) for e in exposures]
        weights = _weights(credit, variances)
        merged = _mean(range(len(exposures)), weights, linear, exposures, variances)
        radiance, total_variance = (
            moving + still[..., None] * (x - moving) for moving, x in zip((radiance, total_variance), merged, strict=True)
        )
        source = np.where(still > 0.5, _most(range(len(exposures)), weights), source)
    return radiance, total_variance, need, clipped, np.uint8(source)


def _valid(encoded):
    """How far each value counts, [H, W, 3]. A clipped channel spreads to others that are nearly as bright, by the interpolation
    of the sensor's mosaic and by the camera's matrix, and hardly to dark ones."""
    whole = np.clip((CLIPPED - encoded.max(axis=2, keepdims=True)) / (CLIPPED - VALID), 0, 1)
    return np.maximum(whole, np.clip((BESIDE - encoded) / (BESIDE - DARK_BESIDE), 0, 1))


def _weights(credit, variances):
    return [np.maximum(x, LEAST_CREDIT) / variance for x, variance in zip(credit, variances, strict=True)]


def _mean(group, weights, linear, exposures, variances):
    """Weighted mean of the radiance of some exposures, and its variance."""
    total = sum(weights[i] for i in group)
    shares = {i: weights[i] / total for i in group}
    mean = sum(share * (linear[i] / np.float32(exposures[i])) for i, share in shares.items())
    return mean, sum(share**2 * variances[i] for i, share in shares.items())


def _most(group, weights):
    return np.array(group)[np.argmax([weights[i].mean(axis=2) for i in group], axis=0)]


def _fill(radiance, need, clipped):
    """Returns the fill, [H, W, 3]."""
    height, width = need.shape
    size = (max(1, -(-width // QUARTER)), max(1, -(-height // QUARTER)))
    weight = np.where(need < 0.01, SURROUNDINGS + (1 - SURROUNDINGS) * clipped, 0).astype(np.float32)
    levels = [np.dstack([_reduced(np.log(radiance + np.float32(1e-6)) * weight[..., None], size), _reduced(weight, size)])]
    for _ in range(LEVELS):
        rows, columns = levels[-1].shape[:2]
        if max(rows, columns) == 1:
            break
        levels.append(_reduced(levels[-1], (-(-columns // 2), -(-rows // 2))))
    filled = levels.pop()
    filled = filled[..., :3] / np.maximum(filled[..., 3:], 1e-6)
    for level in reversed(levels):
        above = cv2.resize(filled, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        known = np.minimum(level[..., 3:], 1)
        filled = known * level[..., :3] / np.maximum(level[..., 3:], 1e-6) + (1 - known) * above
    return cv2.resize(np.exp(filled), (width, height), interpolation=cv2.INTER_LINEAR)


def _reduced(values, size):
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)
