"""Learned Laplacian-pyramid fusion, this project's own network and the default system.

A multiresolution blend (Burt and Kolczynski, Enhanced image capture through fusion, ICCV 1993; Mertens, Kautz and Van Reeth,
Exposure fusion, Pacific Graphics 2007) whose weights come from a small network, which is trained for MEF-SSIM (Ma, Zeng and
Wang, Perceptual quality assessment for multi-exposure image fusion, IEEE TIP 24(11), 2015).

Inputs  {"exposure_1": [B, H, W, 3], ...} RGB in [0, 1], gamma-coded as a camera writes it; 2 to 9 images of one size.
Output  {"fused": [B, H, W, 3]} RGB, about [0, 1]: a boosted detail can leave the range a little, so clip it.

The four sub-models are also the stages of tiled inference: only the second needs the whole image, at an eighth of its size.

encoder            {"exposure_i"} -> {"features_i", "quarter_i", "reduced_i", "sixteenth_i"}. Two strided convolutions turn each
                   image into features at a quarter of the size, of which "reduced_i" is the mean of 2x2. "quarter_i" and
                   "sixteenth_i" are the means of 4x4 and 16x16 pixels. An output pixel depends on at most 16x16 pixels.
context_predictor  {"reduced_i", "sixteenth_i"} -> {"context_i", "sixteenth_blend"}. A dilated residual network takes the
                   features at the level whose short side is 48 to 95 pixels, so its receptive field is about half the image;
                   "context_i" is as large as "reduced_i". (Where the context itself is at a quarter of the size, so are both.)
                   The levels from a sixteenth of the size on share one map of weights, a softmax over the exposures, which
                   comes from the context alone. They are blended here.
weight_predictor   {"features_i", "quarter_i", "context_i", "sixteenth_blend"} -> {"full_weight_i", "half_weight_i",
                   "quarter_blend"}. Two convolutions at a quarter of the size turn the context and the features into weights
                   for each of the four finest levels, and into a boost of detail for each of these except the finest, which
                   holds most of the noise. The levels at an eighth and at a quarter of the size are blended here, and the
                   colours of the result corrected by a fixed formula (`_color_correction`). An output pixel depends on
                   pixels at most 32 pixels away.
blend              {"exposure_i", "full_weight_i", "half_weight_i", "quarter_blend"} -> {"fused"}. It adds the details at half
                   and at full size. An output pixel depends on pixels at most 5 pixels away.

Level 0 of a pyramid is the full size; each further level is the mean of 2x2 pixels. The features of each exposure are compared
with the mean over all, so the order does not matter. The three colours of a pixel have the same weight; the correction moves
them towards those of the exposures that show them. Weights sum to 1, and the boost and the correction vanish where the
exposures agree, so fusing an image with itself returns the image. No shape of
a variable depends on the number of exposures or levels, so one set of weights serves every `pyramid(exposures, levels)`. The
convolutions follow Keras' precision policy; pyramids, weights and blend are always float32.
"""

import keras
import numpy as np
from keras import ops

from hdr_tf.models import blocks

MAX_EXPOSURES = 9
FINE_LEVELS = 4  # levels with weights and a boost of their own
QUARTER, EIGHTH = 2, 3  # levels of the features, and of what the context is handed on at, if it is not finer
DILATIONS = (1, 2, 4, 8, 1)  # of the residual blocks
BOOST_SPREAD = 0.1  # difference between the exposures at which half of the boost is granted, in units of the range
MARGIN = 0.1  # distance from the ends of the range where soft clipping of a doubled detail begins
LEAK = 0.1  # fraction of the excess that soft clipping keeps
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# An exposure shows a colour fully if its highest channel is at most UNCLIPPED, its lowest at least ABOVE_BLACK and its luma at
# least BRIGHT; not at all if a channel is 1 or 0 or it is black.
UNCLIPPED, ABOVE_BLACK, BRIGHT = 0.65, 0.06, 0.1
LEAST_TRUST = 0.003  # in any exposure, the more the darker it is: one that is not clipped decides where none shows the colour
COLOR_POWER = 0.7  # of the luma, in the chroma of one colour at several exposures; with 1 bright walls get too colourful
COLOR_REST = 0.3  # trust at which half of the correction is made
TINY = 1e-9  # keeps quotients and slopes finite
STAGES = ("encoder", "context_predictor", "weight_predictor", "blend")


def levels_for(height: int, width: int) -> int:
    """Returns the number of halvings that leaves a short side of 12 to 23 pixels; at least 4."""
    return max(FINE_LEVELS, (min(height, width) // 12).bit_length() - 1)


def size_arguments(exposures: int, height: int, width: int) -> dict[str, int]:
    """Returns the arguments of `pyramid` for so many images of a size in pixels."""
    return {"exposures": exposures, "levels": levels_for(height, width)}


def lite_arguments() -> dict[str | None, dict[int, dict[str, int | None]]]:
    """Returns the arguments of `pyramid` for any number of images: for each stage but the last, and None for the network as a
    whole, by the smallest short side in pixels that they are for. The last ones serve all larger images, those of the stages up
    to a short side of 12,287 exactly as `size_arguments` does."""
    sides = {
        None: (8, 384, 768, 1536),
        "encoder": (8, 384),
        "context_predictor": (8, 384, 768, 1536, 3072, 6144),
        "weight_predictor": (8, 384),
    }
    return {
        stage: {side: {"exposures": None, "levels": levels_for(side, side)} for side in least} for stage, least in sides.items()
    }


def pyramid(
    exposures: int | None = 2, levels: int = 6, filters: int = 16, share: keras.Model | None = None, name: str = "pyramid"
) -> keras.Model:
    """Builds the network for a number of exposures and an image size.

    Args:
        exposures: number of images to fuse, 2 to 9. None: the only input, "exposures", has the images of one bracket along its
            batch axis, any number of them, and so have the tensors of the stages. One exported graph then serves any number.
        levels: number of halvings; `levels_for(height, width)` gives the right one, but images of any size pass through.
        filters: width of the network.
        share: another pyramid, whose convolutions the new one uses instead of its own.

    Example:
        >>> model = pyramid(exposures=3, levels=levels_for(61, 80))
        >>> images = {f"exposure_{i}": keras.random.uniform((1, 61, 80, 3), seed=i) for i in (1, 2, 3)}
        >>> tuple(model(images)["fused"].shape)
        (1, 61, 80, 3)
    """
    if exposures is not None and not 2 <= exposures <= MAX_EXPOSURES:
        raise ValueError(f"pyramid: expected 2 to {MAX_EXPOSURES} exposures, found {exposures}")
    if levels < FINE_LEVELS:
        raise ValueError(f"pyramid: expected at least {FINE_LEVELS} levels, found {levels}")
    if share is None:
        convs = _convolutions(filters)
    else:
        convs = {layer.name: layer for stage in STAGES for layer in share.get_layer(stage).layers}
    level = max(QUARTER, levels - 2)  # of the context
    encoder = _encoder(convs, exposures, level)
    context_predictor = _context_predictor(convs, _inputs(encoder, "reduced", "sixteenth"), level, levels)
    inputs = _inputs(encoder, "features", "quarter") | _inputs(context_predictor, "context", "sixteenth_blend")
    weight_predictor = _weight_predictor(convs, inputs, level)
    blend = _blend(blocks.inputs_like(encoder.input), blocks.inputs_like(weight_predictor.output))
    tensors = inputs = blocks.inputs_like(encoder.input)
    for stage in (encoder, context_predictor, weight_predictor, blend):
        tensors = tensors | stage({key: tensors[key] for key in stage.input})
    return keras.Model(inputs, {"fused": tensors["fused"]}, name=name)


def _convolutions(filters):
    """Makes all convolutions, {name: layer}, in the order in which a seed draws their kernels."""

    def conv(name, filters, size=3, **arguments):
        return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="he_normal", name=name, **arguments)

    def against_mean(name, *arguments, **named):
        return [conv(name, *arguments, **named), conv(f"{name}_mean", *arguments, use_bias=False, **named)]

    half = filters // 2
    layers = [conv(f"stem_conv{i}", half, 2, strides=2, activation="relu") for i in (1, 2)]
    layers += against_mean("context_entry", filters)
    for i, dilation in enumerate(DILATIONS, start=1):
        layers += against_mean(f"context_block{i}", filters, dilation_rate=dilation)
    layers += against_mean("fine_context", half, 1) + against_mean("fine_report", half)
    # A bias that all exposures share does nothing to a softmax.
    layers += [conv("fine_head", 2 * FINE_LEVELS - 1), conv("coarse_logit", 1, use_bias=False)]
    return {layer.name: layer for layer in layers}


def _encoder(convs, exposures, level):
    names = ("exposures",) if exposures is None else blocks.exposure_names(exposures, pair=None)
    inputs, images = blocks.image_inputs(names, 3)
    features = [convs["stem_conv2"](convs["stem_conv1"](x)) for x in images]
    gaussians = [_gaussian(x, FINE_LEVELS) for x in images]
    outputs = _numbered("features", features) | _numbered("quarter", [g[QUARTER] for g in gaussians])
    outputs |= _numbered("reduced", _to_level(features, QUARTER, min(EIGHTH, level), None))
    outputs |= _numbered("sixteenth", [g[FINE_LEVELS] for g in gaussians])
    return keras.Model(inputs, outputs, name="encoder")


def _context_predictor(convs, inputs, level, levels):
    reduced, sixteenths = (_listed(name, inputs) for name in ("reduced", "sixteenth"))
    gaussians = [[None] * FINE_LEVELS + _gaussian(x, levels - FINE_LEVELS) for x in sixteenths]
    sizes = list(gaussians[0])  # the images that give each level's size
    sizes[min(EIGHTH, level)] = reduced[0]
    context = _context(convs, reduced, level)
    weights = _coarse_weights(convs, context, level, sizes)
    fused = _weighted_sum([g[levels] for g in gaussians], weights[levels])
    for at in reversed(range(FINE_LEVELS, levels)):
        fused = _weighted_sum(_details(gaussians, at), weights[at]) + _up(fused, sizes[at])
    context = _to_level(_against_mean(convs, context, "fine_context"), level, min(EIGHTH, level), sizes)
    return keras.Model(inputs, _numbered("context", context) | {"sixteenth_blend": fused}, name="context_predictor")


def _weight_predictor(convs, inputs, level):
    features, quarters, context = (_listed(name, inputs) for name in ("features", "quarter", "context"))
    gaussians = [[None] * QUARTER + _gaussian(x, FINE_LEVELS - QUARTER) for x in quarters]
    sizes = gaussians[0]
    context = _to_level(context, min(EIGHTH, level), QUARTER, sizes)
    full, half, *fine = _fine_maps(convs, features, context, quarters)
    fused = inputs["sixteenth_blend"]
    for at in reversed(range(QUARTER, FINE_LEVELS)):
        weights = _to_level(fine[at - QUARTER], QUARTER, at, sizes)
        fused = _weighted_sum(_details(gaussians, at), weights) + _up(fused, sizes[at])
    fused = fused + _color_correction(quarters, fused)
    outputs = _numbered("full_weight", full) | _numbered("half_weight", half) | {"quarter_blend": fused}
    return keras.Model(inputs, outputs, name="weight_predictor")


def _blend(images, predicted):
    gaussians = [_gaussian(x, QUARTER) for x in images.values()]
    sizes = gaussians[0]
    *maps, fused = predicted.values()
    full, half = maps[: -len(images)], maps[-len(images) :]
    half = _to_level(half, QUARTER, 1, sizes, repeat=3)
    fused = _weighted_sum(_details(gaussians, 1), half) + _up(fused, sizes[1])
    fused = _soft_clipped(fused, half)
    # The finest weights are smooth, since they are enlarged four times, so the detail of the blend is the blend of the details
    # except for second-order terms: one enlargement at full size serves all exposures. They sum to 1: the last needs no map.
    *others, last = images.values()
    full = _to_level(full, QUARTER, 0, sizes, repeat=3)
    if others:
        blend = _added([last, *((image - last) * weight for image, weight in zip(others, full, strict=True))])
    else:  # a single tensor has all exposures, and so have the maps
        blend = _weighted_sum([last], full)
    return keras.Model(images | predicted, {"fused": blend + _up(fused - _down(blend), blend)}, name="blend")


def _numbered(name, tensors):
    return {f"{name}_{i}": x for i, x in enumerate(tensors, start=1)}


def _over_exposures(kind, tensors, dtype="float32"):
    """The mean, maximum, minimum or sum over the exposures: a tensor each, or all in the batch axis of one."""
    layer, reduce = {
        "mean": (keras.layers.Average, ops.mean),
        "max": (keras.layers.Maximum, ops.max),
        "min": (keras.layers.Minimum, ops.min),
        "sum": (keras.layers.Add, ops.sum),
    }[kind]
    return layer(dtype=dtype)(tensors) if len(tensors) > 1 else reduce(tensors[0], axis=0, keepdims=True)


def _added(tensors):
    return _over_exposures("sum", tensors)


def _listed(name, tensors):
    return [x for key, x in tensors.items() if key.startswith(f"{name}_")]


def _inputs(stage, *names):
    """Inputs for outputs of another stage."""
    return blocks.inputs_like({key: x for key, x in stage.output.items() if key.startswith(names)})


def _details(gaussians, level):
    enlarged = _up_all([g[level + 1] for g in gaussians], gaussians[0][level])
    return [g[level] - x for g, x in zip(gaussians, enlarged, strict=True)]


def _context(convs, reduced, level):
    """Features of the exposures at a coarser level than `reduced`, each compared with the mean over all."""
    features = _to_level(reduced, min(EIGHTH, level), level, None)
    features = [ops.relu(x) for x in _against_mean(convs, features, "context_entry")]
    for i in range(1, len(DILATIONS) + 1):
        residual = _against_mean(convs, features, f"context_block{i}")
        features = [a + ops.relu(b) for a, b in zip(features, residual, strict=True)]
    return features


def _fine_maps(convs, features, context, quarters):
    """Weights of the levels below FINE_LEVELS, all at level QUARTER: for each level a map per exposure, which includes the
    boost; for the finest level no boost, and no map for the last exposure."""
    x = _against_mean(convs, features, "fine_report")
    x = [ops.relu(a + b) for a, b in zip(x, context, strict=True)]
    # Channels: a logit for each level, then a vote for the boost of each level except the finest.
    votes = [convs["fine_head"](features) for features in x]

    spread = _over_exposures("max", quarters) - _over_exposures("min", quarters)
    spread = ops.mean(spread, axis=-1, keepdims=True)
    boost = ops.sigmoid(_over_exposures("mean", [v[..., FINE_LEVELS:] for v in votes]) - 2)
    boost = 1 + spread / (spread + BOOST_SPREAD) * boost
    weights = _softmax([v[..., :FINE_LEVELS] for v in votes])
    maps = [[weight[..., :1] for weight in weights[:-1] or weights]]  # a single tensor has all exposures
    boosted = [weight[..., 1:] * boost for weight in weights]
    return maps + [[weight[..., at : at + 1] for weight in boosted] for at in range(FINE_LEVELS - 1)]


def _coarse_weights(convs, context, level, sizes):
    """Weights of the levels from FINE_LEVELS on, {level: a map per exposure}: one map, enlarged or averaged to each level."""
    weights = {level: _softmax([convs["coarse_logit"](x) for x in context])}
    for at in range(level + 1, len(sizes)):
        weights[at] = _to_level(weights[at - 1], at - 1, at, sizes)
    for at in reversed(range(FINE_LEVELS, level)):
        weights[at] = _to_level(weights[at + 1], at + 1, at, sizes)
    return weights


def _color_correction(images, fused):
    """Returns [B, H, W, 3] to add to the fused image: it gives it the colours of the exposures that show them, and no luma.

    The blend averages the colours of all exposures, so clipped and noisy ones make it pale. This formula is the project's own;
    its numbers were chosen on synthetic brackets (docs/pyramid.md). For an exposure e of luma y and the fused image f of luma
    Y, all at a quarter of the size, with sums over the exposures:

        w = trust in e                                          how far e shows the colour
        m = sum(w y^2) / sum(w y)                               typical luma of the exposures that do
        t = sum(w (e - y)) / sum(w y) * m (Y / m)^COLOR_POWER   their chroma at the luma of the fused image
        a = sum(w) / (sum(w) + COLOR_REST)
        correction = a (t - (f - Y)), less where a channel would leave the range
    """
    count = len(images)
    exposures = ops.concatenate(images, axis=0)  # one batch, because each operation costs more than its pixels
    luma = _luma(exposures)
    highest, lowest = (reduce(exposures, axis=-1, keepdims=True) for reduce in (ops.max, ops.min))
    trust = _smoothstep((1 - highest) / (1 - UNCLIPPED)) * _smoothstep(lowest / ABOVE_BLACK) * _smoothstep(luma / BRIGHT)
    trust = trust + LEAST_TRUST * ops.square(ops.square(1 - luma))
    light = trust * luma
    parts = [trust, light, light * luma, trust * (exposures - luma)]
    sums = _added(ops.split(ops.concatenate(parts, axis=-1), count, axis=0))
    weight, first, second, chroma = sums[..., :1], sums[..., 1:2] + TINY, sums[..., 2:3], sums[..., 3:]
    luma = _luma(fused)
    chroma = chroma / first * (second / first) ** (1 - COLOR_POWER) * ops.maximum(luma, TINY) ** COLOR_POWER
    correction = weight / (weight + COLOR_REST) * (chroma - (fused - luma))
    # All channels go as far as the first one that reaches the end of the range: clipping it would change the luma.
    room = ops.maximum(ops.where(correction > 0, 1 - fused, fused), 0)
    share = ops.min(room / (ops.abs(correction) + TINY), axis=-1, keepdims=True)
    return correction * ops.minimum(share, 1)


def _luma(image):
    """Luma [B, H, W, 1] of ITU-R BT.601, exactly the value of a gray pixel."""
    red, green, blue = ops.split(image, 3, axis=-1)
    return green + LUMA[0] * (red - green) + LUMA[2] * (blue - green)


def _smoothstep(x):
    """0 below 0, 1 above 1, and a smooth step in between."""
    x = ops.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _against_mean(convs, features, name):
    """Convolution of each exposure's features plus one of their mean, which compares each exposure with the others."""
    mean = convs[f"{name}_mean"](_over_exposures("mean", features, dtype=None))
    return [convs[name](x) + mean for x in features]


def _softmax(logits):
    """Softmax over a list of tensors: six times faster on a CPU than over a channel axis of two."""
    logits = [ops.cast(logit, "float32") for logit in logits]
    highest = _over_exposures("max", logits)
    powers = [ops.exp(logit - highest) for logit in logits]
    total = _added(powers)
    return [power / total for power in powers]


def _weighted_sum(images, weights):
    return _added([image * weight for image, weight in zip(images, weights, strict=True)])


def _soft_clipped(fused, weights):
    """Pulls values outside [0, 1], or those that a boost (the sum of the weights) moved close to its ends, back inside."""
    margin = MARGIN * (_added(weights) - 1)
    inside = ops.minimum(ops.maximum(fused, margin), 1 - margin)
    return inside + LEAK * (fused - inside)


def _gaussian(image, levels):
    images = [image]
    for _ in range(levels):
        images.append(_down(images[-1]))
    return images


def _to_level(maps, source, target, sizes, repeat=1):
    """Resizes maps from one level of the pyramid to another; an enlargement makes `repeat` copies of each channel."""
    for _ in range(source, target):
        maps = [_down(x) for x in maps]
    for level in reversed(range(target, source)):
        maps = _up_all(maps, sizes[level], repeat if level == target else 1)
    return maps


def _down(x):
    # An odd border pixel is averaged with itself: "same" leaves the padding out of the mean.
    return keras.layers.AveragePooling2D(2, padding="same", dtype="float32")(x)


def _up(x, like, repeat=1):
    return Upsample2x(repeat, dtype="float32")([x, like])


def _up_all(parts, like, repeat=1):
    """Enlarges tensors of one shape as one batch, because each enlargement adds many operations to an exported graph."""
    return ops.split(_up(ops.concatenate(parts, axis=0), like, repeat), len(parts), axis=0)


@keras.saving.register_keras_serializable("hdr_tf")
class Upsample2x(keras.layers.Layer):
    """Bilinear enlargement by two of [B, H, W, C], cropped to the height and width of a second tensor.

    Pixel centres are at halves and the border repeats, as in OpenCV and tf.image; Keras cannot export a resize to a size
    that is unknown at export. Rows are interleaved in memory. For columns, a convolution computes both pixels of a pair as
    channels, which needs half the time of interleaving single values. The result has `repeat` copies of each channel, because
    multiplying three channels by three costs a third of multiplying them by one.
    """

    def __init__(self, repeat: int = 1, **arguments):
        super().__init__(**arguments)
        self.repeat = repeat

    def call(self, pair):
        x, like = pair
        batch, height, width, channels = ops.shape(x)
        _, rows, columns, _ = ops.shape(like)
        near, far = 0.75 * x, 0.25 * ops.concatenate([x[:, :1], x, x[:, -1:]], axis=1)
        x = ops.stack([near + far[:, :-2], near + far[:, 2:]], axis=2)
        x = ops.reshape(x, (batch, 2 * height, width, channels))
        x = ops.concatenate([x[:, :, :1], x, x[:, :, -1:]], axis=2)
        x = ops.conv(x, self._kernel(channels), padding="valid", data_format="channels_last")
        x = ops.reshape(x, (batch, 2 * height, 2 * width, channels * self.repeat))
        return x[:, :rows, :columns]

    def _kernel(self, channels):
        """[1, 3, C, 2 * C * repeat]: the left and the right pixel of a pair from the three around it."""
        copies = np.repeat(np.eye(channels), self.repeat, axis=1)
        kernel = np.kron([[[0.25, 0]], [[0.75, 0.75]], [[0, 0.25]]], copies)
        return ops.convert_to_tensor(kernel[None], self.compute_dtype)  # one constant: a graph has many enlargements

    def compute_output_shape(self, shapes):
        x, like = shapes
        return (x[0], like[1], like[2], x[3] * self.repeat)

    def get_config(self):
        return super().get_config() | {"repeat": self.repeat}
