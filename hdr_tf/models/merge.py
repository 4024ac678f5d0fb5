"""The merge network, this project's own: from exposures that lie on each other to radiance, whatever moved between them.

It weighs radiance and invents none. The weights of the exposures at a pixel are a softmax of

    log(weight of the classical merge + at most 0.001) + logit of the network,

so the untrained network, whose logits are 0, is that merge (`hdr_tf.image.trusted_merge`): the reference where it is well
exposed, shorter exposures where it is bright, longer ones where it is dark, each as far as it agrees with the reference; and
all of them by inverse variance where nothing moved. One
more candidate is the fill, a smooth continuation of the highlights, for places where the reference is clipped and no shorter
exposure can be trusted; the network may make it up to e**2 times as bright or as dark. The three colours of a pixel share the
logits.

The trunk sees each exposure by itself, at a half, a quarter and an eighth of the size; each of its blocks also sees the mean of
its features over the exposures, so their number and their order do not matter.

Inputs, for N >= 2 exposures in any order (N is unknown when the graph is built):

    images       [B, N, H, W, 3] RGB of gamma 2.2 in 0..1, 1 where the exposure clips; moved onto the reference
    inside       [B, N, H, W, 1] 0 where the image was moved from beyond its border, 1 where it shows something, 2 where in
                 addition it stayed unmoved, as on a tripod
    exposures    [B, N] relative to the reference, whose own is 1
    reference    [B, N] 1 for the reference, 0 for the others
    noise        [B, 4] the variance of a value s is noise[0] * s + noise[1]**2 + (slope * noise[2])**2 / 12 with the slope of
                 s = v**2.2; noise[3] is the error of values near black, which is no noise: see `hdr_tf.image.noise`

H and W are multiples of 8. There are three stages of tiled inference. "fill" takes the inputs at a quarter of their size and
returns {"fill": [B, H/4, W/4, 3] radiance}; it needs the whole image. "weigh" takes the inputs and the fill and returns

    radiance     [B, H, W, 3] in units of the reference's clip
    variance     [B, H, W, 3] of its noise
    weights      [B, N + 1, H, W, 3] of the exposures and of the fill

"denoise" takes radiance and variance and returns {"denoised": [B, H, W, 3]}: Wiener's filter of the finest detail
(`hdr_tf.image.noise`), corrected by a small network; nothing changes by more than three standard deviations. `merge` is all in
one.
"""

import functools

import keras
from keras import ops

GAMMA = 2.2
TRUSTED, REFUSED = 0.05, 0.1  # difference of encoded values, mean of 3x3 pixels, as in `hdr_tf.image.optical_flow`
VALID, CLIPPED = 0.92, 0.98  # brightest encoded channel: above the first an exposure counts less, above the second not at all
DARK_BESIDE, BESIDE = 0.5, 0.7  # but a channel up to the first counts fully, and up to the second less, beside a clipped one
DARK_ERRORS = 2  # near black, two values may differ by so many errors and still agree, as there
EQUAL = 1.1  # exposures that differ by a smaller factor are equal
# Floors that only float32 tells from 0, see `Float32Layer`.
LEAST_CREDIT, LEAST_VARIANCE, LEAST_TOTAL = 1e-12, 1e-12, 1e-30
LEAST_RADIANCE, LEAST_SIGNAL, LEAST_KNOWN = 1e-6, 1e-8, 1e-6
LEAST_SCALE, LEAST_EXPECTED, LEAST_MEASURED, LEAST_DEVIATION = 1e-12, 1e-20, 1e-12, 1e-8
LEAST_VALID = 1e-3
LEAST_WEIGHT = 1e-3  # so that the network can raise what the classical merge refuses
SURROUNDINGS = 0.1  # weight for the fill of a pixel where the reference is not clipped, against 1 where it is
LEVELS = 7  # halvings for the fill
LARGEST_LOGIT = 12
LARGEST_CHANGE_OF_FILL = 2  # of its logarithm
FINEST, WINDOW, REMOVAL, LARGEST_CHANGE = 3, 5, 1.2, 3  # of the removal of noise, as in `hdr_tf.image.noise`
FEATURES = 27
DARK = 2.0**-12  # radiance that logarithms do not tell from black


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 whatever precision the network has: variances of noise vanish in float16."""

    def __init__(self, **arguments):
        super().__init__(**{"dtype": "float32"} | arguments)


@keras.saving.register_keras_serializable(package="hdr_tf")
class Evidence(Float32Layer):
    """From the inputs to what can be said without a network, a dict of [B, N, H, W, 1 or 3] or, per pixel, [B, 1, H, W, 1]."""

    def call(self, images, inside, exposures, reference, noise):
        ratio, chosen = (x[:, :, None, None, None] for x in (exposures, reference))
        gain, read, step, dark_error = (noise[:, None, None, None, i : i + 1] for i in range(4))
        doubt = ops.power(DARK_ERRORS * dark_error, 2 / GAMMA) * ops.cast(ratio > 1, noise.dtype)
        read, dark_error = ops.square(read), ops.square(dark_error)
        encoded = ops.maximum(images, 1e-4)
        linear = ops.power(encoded, GAMMA)
        shown = ops.sum(encoded * chosen, axis=1, keepdims=True)
        # Both of a pair at the brighter exposure of the two; a longer exposure multiplies an encoded value by a constant. A
        # value of a darker reference stands for an interval, see `hdr_tf.image.optical_flow.difference`.
        factor, brighter = ops.power(ratio, 1 / GAMMA), ratio > 1
        dark, bright = ops.where(brighter, shown, encoded), ops.where(brighter, encoded, shown)
        factor = ops.maximum(factor, 1 / factor)
        lowest, highest = (ops.minimum(ops.sqrt(ops.maximum(ops.square(dark) + x, 0)) * factor, 1) for x in (-doubt, doubt))
        signed = ops.maximum(bright - highest, 0) - ops.maximum(lowest - bright, 0)
        difference = ops.max(_blurred(ops.abs(signed)), axis=-1, keepdims=True)
        signed = ops.where(brighter, signed, -signed)
        trust = ops.clip((REFUSED - difference) / (REFUSED - TRUSTED), 0, 1) * ops.minimum(inside, 1)
        trust = ops.maximum(trust, chosen)
        still = ops.min(ops.clip(inside - 1, 0, 1), axis=1, keepdims=True) * ops.min(trust, axis=1, keepdims=True)
        brightest = ops.max(encoded, axis=-1, keepdims=True)
        all_valid = ops.clip((CLIPPED - brightest) / (CLIPPED - VALID), 0, 1)
        valid = ops.maximum(all_valid, ops.clip((BESIDE - encoded) / (BESIDE - DARK_BESIDE), 0, 1))
        light, level = (ops.mean(x, axis=-1, keepdims=True) for x in (linear, encoded))
        slope = GAMMA * light / level
        variance = (gain * light + read + dark_error + ops.square(slope * step) / 12 + LEAST_VARIANCE) / ops.square(ratio)
        # What the shortest exposure shows counts even where it is clipped: no exposure knows more.
        least = ops.min(ratio, axis=1, keepdims=True)
        credit = trust * ops.maximum(valid, LEAST_VALID * ops.cast(ratio < EQUAL * least, encoded.dtype))
        shorter, longer = (ops.cast(mask, encoded.dtype) for mask in (ratio < 1 / EQUAL, ratio > EQUAL))
        equal = 1 - shorter - longer
        known = ops.max(shorter * trust * ops.where(ratio < EQUAL * least, 1.0, all_valid), axis=1, keepdims=True)
        seen = ops.max(longer * credit, axis=1, keepdims=True)
        # Within the shorter, equal and longer exposures the best for noise; among these three groups by the reference's value.
        credit = ops.maximum(credit, LEAST_CREDIT)
        quality = _relative(credit / variance)
        totals = sum(group * ops.sum(group * quality, axis=1, keepdims=True) for group in (shorter, equal, longer))
        within = quality / ops.maximum(totals, LEAST_TOTAL)
        bright = 2 * shown - 1
        bright, dark = known * ops.maximum(bright, 0), seen * ops.maximum(-bright, 0)
        weights = within * (shorter * bright + longer * dark + equal * (1 - bright - dark))
        # Where nothing moved, each channel by itself is best for noise: that of the merged radiance, because noise makes a dark
        # value seem less noisy.
        signal = ops.clip(_blurred(ops.sum(weights * linear / ratio, axis=1, keepdims=True)) * ratio, LEAST_SIGNAL, 1)
        rounding = ops.square(GAMMA * step) / 12 * ops.power(signal, 2 - 2 / GAMMA)
        own = (gain * signal + read + dark_error + rounding + LEAST_VARIANCE) / ops.square(ratio)
        plain = _relative(credit / own)
        weights += still * (plain / ops.sum(plain, axis=1, keepdims=True) - weights)
        brightest_shown = ops.sum(brightest * chosen, axis=1, keepdims=True)
        clipped = ops.clip((brightest_shown - VALID) / (CLIPPED - VALID), 0, 1)
        need = clipped * (1 - known)
        logits = ops.log(weights + LEAST_WEIGHT * ops.maximum(valid, LEAST_VALID))
        fill_logit = ops.log((need + LEAST_WEIGHT * ops.maximum(clipped, LEAST_VALID)) / (1 - need + LEAST_WEIGHT))
        return {
            "radiance": linear / ratio,
            "shown": ops.sum(linear * chosen, axis=1),
            "variance": variance,
            "brightest": brightest,
            "signed": ops.mean(signed, axis=-1, keepdims=True),
            "difference": difference,
            "luminance": light / ratio,
            "shot": gain / ratio,
            "dark_error": dark_error / ops.square(ratio),
            "trust": trust,
            "clipped": clipped,
            "need": need,
            "still": still,
            "logits": logits,
            "fill_logit": fill_logit,
        }


@keras.saving.register_keras_serializable(package="hdr_tf")
class Fill(Float32Layer):
    """From the evidence to radiance that continues what is known into what is not, [B, H, W, 3]: pull-push of logarithms."""

    def call(self, evidence):
        weights = ops.softmax(evidence["logits"], axis=1)
        merged = ops.log(ops.sum(weights * evidence["radiance"], axis=1) + LEAST_RADIANCE)
        clipped, need = evidence["clipped"][:, 0], evidence["need"][:, 0]
        weight = ops.where(need < 0.01, SURROUNDINGS + (1 - SURROUNDINGS) * clipped, 0.0)
        levels = [ops.concatenate([merged * weight, weight], axis=-1)]
        for _ in range(LEVELS):
            levels.append(ops.average_pool(levels[-1], 2, padding="same"))
        filled = levels.pop()
        filled = filled[..., :3] / ops.maximum(filled[..., 3:], LEAST_KNOWN)
        for level in reversed(levels):
            size = ops.shape(level)
            above = ops.repeat(ops.repeat(filled, 2, axis=1), 2, axis=2)
            above = _smoothed(above)[:, : size[1], : size[2]]
            known = ops.minimum(level[..., 3:], 1)
            filled = known * level[..., :3] / ops.maximum(level[..., 3:], LEAST_KNOWN) + (1 - known) * above
        return ops.exp(filled)


@keras.saving.register_keras_serializable(package="hdr_tf")
class Features(Float32Layer):
    """From the evidence and the fill at full size, [B, H, W, 3], to [B N, H/2, W/2, FEATURES]."""

    def call(self, evidence, fill, inside, exposures, reference):
        size = ops.shape(evidence["luminance"])

        def folded(x):
            """[B, N, H, W, 1] to [B, N, H/2, W/2, 4]"""
            x = _folded(ops.reshape(x, (-1, size[2], size[3], 1)))
            return ops.reshape(x, (-1, size[1], size[2] // 2, size[3] // 2, 4))

        def halved(x):
            return ops.mean(folded(x), axis=-1, keepdims=True)

        def halved_shared(x):
            return ops.mean(ops.reshape(x, (-1, 1, size[2] // 2, 2, size[3] // 2, 2)), axis=(3, 5))[..., None]

        ratio, chosen = (x[:, :, None, None, None] for x in (exposures, reference))
        luminance = halved(evidence["luminance"]) + DARK
        deviation = ops.sqrt(halved(evidence["variance"]))
        brightest = folded(evidence["brightest"])
        shown = ops.sum(luminance * chosen, axis=1, keepdims=True)
        parts = [
            *(brightest, 4 * folded(evidence["difference"]), 4 * folded(evidence["signed"]), folded(evidence["trust"])),
            ops.log(luminance) / 4,
            ops.tanh((luminance - shown) / (8 * deviation)),
            ops.clip(ops.log(deviation / luminance) / 4 + 1, -1, 1),
            ops.log((halved_shared(ops.mean(fill, axis=-1)) + DARK) / luminance) / 4,
            halved(ops.minimum(inside, 1)),
            *(halved_shared(evidence[name]) for name in ("clipped", "need", "still")),
            ops.sum(ops.max(brightest, axis=-1, keepdims=True) * chosen, axis=1, keepdims=True),
            ops.log(ratio) / 2,
            chosen,
        ]
        features = ops.concatenate(
            [x if x.shape[-1] == 4 else ops.broadcast_to(x, ops.shape(luminance)) for x in parts], axis=-1
        )
        return ops.reshape(features, (-1, size[2] // 2, size[3] // 2, FEATURES))


@keras.saving.register_keras_serializable(package="hdr_tf")
class WithMean(keras.layers.Layer):
    """Appends to the features of each exposure, [B N, H, W, C], their mean over the exposures."""

    def call(self, features, exposures):
        size = ops.shape(features)
        groups = ops.reshape(features, (-1, ops.shape(exposures)[1], size[1], size[2], features.shape[-1]))
        mean = ops.broadcast_to(ops.mean(groups, axis=1, keepdims=True), ops.shape(groups))
        joined = ops.concatenate([groups, mean], axis=-1)
        return ops.reshape(joined, (-1, size[1], size[2], 2 * features.shape[-1]))


@keras.saving.register_keras_serializable(package="hdr_tf")
class Weigh(Float32Layer):
    """Merges with the logits of the evidence and corrections, [B N, H/2, W/2, 12]: of an exposure's logit, and, averaged over
    the exposures, of that of the fill and of the logarithm of the fill."""

    def call(self, evidence, fill, corrections):
        size = ops.shape(evidence["logits"])
        corrections = ops.reshape(_unfolded(corrections), (-1, size[1], size[2], size[3], 3))
        own, shared = corrections[..., :1], ops.mean(corrections[..., 1:], axis=1, keepdims=True)
        logits = evidence["logits"] + _bounded(own, LARGEST_LOGIT)
        fill_logit = evidence["fill_logit"] + _bounded(shared[..., :1], LARGEST_LOGIT)
        fill = fill * ops.exp(_bounded(shared[:, 0, ..., 1:], LARGEST_CHANGE_OF_FILL))
        fill = ops.maximum(fill, evidence["shown"])  # it continues highlights
        fill_logit = ops.broadcast_to(fill_logit, (*ops.shape(fill_logit)[:4], 3))
        weights = ops.softmax(ops.concatenate([logits, fill_logit], axis=1), axis=1)
        shares = weights[:, :-1]
        radiance = ops.sum(shares * evidence["radiance"], axis=1) + weights[:, -1] * fill
        # Shot noise goes with the radiance of each channel; the rest is the same for all. Errors are no noise.
        squares = ops.square(shares)
        shot = ops.sum(squares * evidence["shot"], axis=1)
        steady = evidence["variance"] - evidence["dark_error"] - evidence["shot"] * evidence["luminance"]
        steady = ops.sum(squares * ops.maximum(steady, 0), axis=1)
        return {"radiance": radiance, "variance": shot * ops.maximum(radiance, 0) + steady, "weights": weights}


def _relative(values):
    """Divides [B, N, ...] by the largest of N."""
    return values / ops.max(values, axis=1, keepdims=True)


def _bounded(values, largest):
    return largest * ops.tanh(values / largest)


@keras.saving.register_keras_serializable(package="hdr_tf")
class Wiener(Float32Layer):
    """Removes noise of known variance from the finest detail, [B, H, W, 3] both: `hdr_tf.image.noise.wiener` with its numbers,
    for training and for export."""

    def call(self, radiance, variance):
        # Only the detail itself carries a gradient: those of Wiener's factor overflow where there is hardly any noise.
        variance = ops.stop_gradient(variance)
        share = 1 / FINEST**2
        mean, near = _window_mean(radiance, FINEST), _window_mean(variance, FINEST)
        scale = ops.stop_gradient(1 / (ops.maximum(mean, 0) + ops.sqrt(near) + LEAST_SCALE))
        detail = (radiance - mean) * scale
        expected = ops.maximum(((1 - 2 * share) * variance + share * near) * ops.square(scale), LEAST_EXPECTED)
        expected_luma = 1 / ops.sum(1 / expected, axis=-1, keepdims=True)
        luma = ops.sum(detail / expected, axis=-1, keepdims=True) * expected_luma
        chroma = detail - luma

        def factor(part, wanted):
            measured = _window_mean(ops.square(part) / wanted, WINDOW)
            return ops.stop_gradient(ops.minimum(REMOVAL / ops.maximum(measured, LEAST_MEASURED), 1))

        expected_chroma = ops.maximum(expected - expected_luma, 1e-3 * expected)
        removed = luma * factor(luma, expected_luma) + chroma * factor(chroma, expected_chroma)
        return _limited(removed / scale, radiance, variance)


def _limited(removed, radiance, variance):
    """The radiance without what is removed, which is at most three standard deviations and never makes it negative."""
    largest = LARGEST_CHANGE * ops.sqrt(variance)
    return ops.maximum(radiance - ops.clip(removed, -largest, largest), ops.minimum(radiance, 0))


@keras.saving.register_keras_serializable(package="hdr_tf")
class NoiseFeatures(Float32Layer):
    """What the removal of noise looks at, [B, H/2, W/2, 4 * 8]: the radiance after Wiener's filter and what that removed, both
    relative to their scale; how much noise there is; and how dark it is."""

    def call(self, radiance, variance, filtered):
        deviation = ops.sqrt(variance) + LEAST_DEVIATION
        level = _window_mean(ops.mean(filtered, axis=-1, keepdims=True), WINDOW)
        scale = ops.maximum(level, 0) + ops.mean(deviation, axis=-1, keepdims=True)
        parts = [
            ops.minimum(filtered / scale, 4) - 1,
            ops.tanh((radiance - filtered) / (2 * deviation)),
            ops.maximum(ops.log(ops.mean(deviation, axis=-1, keepdims=True) / scale) / 4 + 1, -1),
            ops.log(scale + DARK) / 8 + 0.5,
        ]
        return ops.stop_gradient(_folded(ops.concatenate(parts, axis=-1)))


@keras.saving.register_keras_serializable(package="hdr_tf")
class RemoveNoise(Float32Layer):
    """Corrects Wiener's result by [B, H/2, W/2, 12], in bounded multiples of the standard deviation."""

    def call(self, radiance, variance, filtered, corrections):
        corrections = _bounded(_unfolded(corrections), LARGEST_CHANGE)
        deviation = ops.stop_gradient(ops.sqrt(variance))
        return _limited(radiance - filtered - corrections * deviation, radiance, ops.stop_gradient(variance))


def _folded(images):
    """[B, H, W, C] to [B, H/2, W/2, 4 C]: each block of 2x2 pixels becomes one."""
    size, channels = ops.shape(images), images.shape[-1]
    blocks = ops.reshape(images, (-1, size[1] // 2, 2, size[2] // 2, 2, channels))
    return ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4, 5)), (-1, size[1] // 2, size[2] // 2, 4 * channels))


def _unfolded(images):
    """The inverse of `_folded`."""
    size, channels = ops.shape(images), images.shape[-1] // 4
    blocks = ops.transpose(ops.reshape(images, (-1, size[1], size[2], 2, 2, channels)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(blocks, (-1, 2 * size[1], 2 * size[2], channels))


def _window_mean(images, side):
    """Means of side x side pixels of [B, H, W, C], with a mirrored border."""
    reach = side // 2
    padded = ops.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    rows = sum(padded[:, i : i - side + 1 or None] for i in range(side)) / side
    return sum(rows[:, :, i : i - side + 1 or None] for i in range(side)) / side


def merge(filters: int = 16, name: str = "merge") -> keras.Model:
    """Builds the network.

    Args:
        filters: width of its trunk.

    Example:
        >>> network = merge()
        >>> inputs = {"images": keras.random.uniform((1, 3, 16, 24, 3)), "inside": keras.ops.ones((1, 3, 16, 24, 1))}
        >>> inputs |= {"exposures": keras.ops.array([[0.25, 1, 4]]), "reference": keras.ops.array([[0.0, 1, 0]])}
        >>> tuple(network(inputs | {"noise": keras.ops.array([[1e-4, 5e-4, 0, 0]])})["radiance"].shape)
        (1, 16, 24, 3)
    """
    inputs = _inputs()
    filler, weigher, cleaner = _fill_stage(), _weigh_stage(filters), _denoise_stage(filters)
    small = {key: Reduced(name=f"reduced_{key}")(inputs[key]) if key in ("images", "inside") else inputs[key] for key in inputs}
    fill = filler(small)["fill"]
    merged = weigher({**inputs, "fill": fill})
    cleaned = cleaner({name: merged[name] for name in cleaner.input})
    return keras.Model(inputs, {**merged, **cleaned}, name=name)


@keras.saving.register_keras_serializable(package="hdr_tf")
class Reduced(Float32Layer):
    """Means of 4x4 pixels of [B, N, H, W, C]."""

    def call(self, images):
        size = ops.shape(images)
        blocks = ops.reshape(images, (-1, size[1], size[2] // 4, 4, size[3] // 4, 4, images.shape[-1]))
        return ops.mean(blocks, axis=(3, 5))


def _inputs():
    shapes = {
        "images": (None, None, None, 3),
        "inside": (None, None, None, 1),
        "exposures": (None,),
        "reference": (None,),
        "noise": (4,),
    }
    return {name: keras.Input(shape, name=name) for name, shape in shapes.items()}


def _fill_stage():
    inputs = _inputs()
    fill = Fill(name="pull_push")(Evidence(name="evidence")(**inputs))
    return keras.Model(inputs, {"fill": fill}, name="fill")


def _weigh_stage(filters):
    inputs = _inputs() | {"fill": keras.Input((None, None, 3), name="fill")}
    others = {key: value for key, value in inputs.items() if key != "fill"}
    exposures = inputs["exposures"]
    evidence = Evidence(name="evidence")(**others)
    fill = AtLeastReference(name="enlarged")(inputs["fill"], evidence["radiance"], inputs["reference"])
    x = Features(name="features")(evidence, fill, inputs["inside"], exposures, inputs["reference"])

    conv = functools.partial(_conv, filters)

    def block(x, name):
        return _block(x, WithMean(name=f"{name}_mean")(x, exposures), filters, name)

    half = block(conv(x, 3, "half_entry", activation="relu"), "half_1")
    quarter = block(conv(half, 2, "quarter_entry", 2), "quarter_1")
    eighth = conv(quarter, 2, "eighth_entry", 2)
    for number in (1, 2, 3):
        eighth = block(eighth, f"eighth_{number}")
    up = Doubled(name="quarter_up")(conv(eighth, 1, "quarter_exit"))
    quarter = block(keras.layers.Add(name="quarter_join")([quarter, up]), "quarter_2")
    up = Doubled(name="half_up")(conv(quarter, 1, "half_exit"))
    half = block(keras.layers.Add(name="half_join")([half, up]), "half_2")
    corrections = keras.layers.Conv2D(12, 3, padding="same", name="corrections", kernel_initializer="zeros")(half)
    return keras.Model(inputs, Weigh(name="merged")(evidence, fill, corrections), name="weigh")


def _denoise_stage(filters):
    inputs = {name: keras.Input((None, None, 3), name=name) for name in ("radiance", "variance")}
    filtered = Wiener(name="wiener")(*inputs.values())
    x = NoiseFeatures(name="noise_features")(*inputs.values(), filtered)
    wide, wider = 3 * filters // 2, 2 * filters
    half = _conv(wide, x, 3, "noise_half_entry", activation="relu")
    quarter = _conv(wider, half, 2, "noise_quarter_entry", 2, activation="relu")
    for number in (1, 2):
        quarter = _block(quarter, quarter, wider, f"noise_quarter_{number}")
    up = Doubled(name="noise_half_up")(_conv(wide, quarter, 1, "noise_half_exit"))
    half = _conv(wide, keras.layers.Add(name="noise_half_join")([half, up]), 3, "noise_half_last", activation="relu")
    corrections = keras.layers.Conv2D(12, 3, padding="same", name="noise_corrections", kernel_initializer="zeros")(half)
    return keras.Model(
        inputs, {"denoised": RemoveNoise(name="removed")(*inputs.values(), filtered, corrections)}, name="denoise"
    )


def _conv(filters, x, size, name, stride=1, **arguments):
    return keras.layers.Conv2D(filters, size, stride, "same", name=name, kernel_initializer="he_normal", **arguments)(x)


def _block(x, seen, filters, name):
    """Adds to x what two convolutions make of what they see."""
    y = _conv(filters, seen, 3, f"{name}_conv1", activation="relu")
    y = keras.layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2", kernel_initializer="zeros")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


@keras.saving.register_keras_serializable(package="hdr_tf")
class Doubled(keras.layers.Layer):
    """Repeats each pixel of [B, H, W, C] in both directions."""

    def call(self, images):
        return ops.repeat(ops.repeat(images, 2, axis=1), 2, axis=2)


@keras.saving.register_keras_serializable(package="hdr_tf")
class AtLeastReference(Float32Layer):
    """Brings the fill to full size, [B, H, W, 3]; it continues highlights, so nowhere is it below the reference."""

    def call(self, fill, radiance, reference):
        enlarged = ops.repeat(ops.repeat(fill, 4, axis=1), 4, axis=2)
        return ops.maximum(_smoothed(_smoothed(enlarged)), ops.sum(radiance * reference[:, :, None, None, None], axis=1))


def _blurred(images):
    """Means of 3x3 pixels of [B, N, H, W, C]."""
    size = ops.shape(images)
    flat = ops.reshape(images, (-1, size[2], size[3], images.shape[-1]))
    return ops.reshape(_smoothed(flat), size)


def _smoothed(images):
    """Means of 3x3 pixels of [B, H, W, C]; beyond the border the border is repeated."""
    rows = ops.concatenate([images[:, :1], images, images[:, -1:]], axis=1)
    rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    columns = ops.concatenate([rows[:, :, :1], rows, rows[:, :, -1:]], axis=2)
    return (columns[:, :, :-2] + columns[:, :, 1:-1] + columns[:, :, 2:]) / 9
