"""Learned Laplacian-pyramid fusion: the default system, of this project.

The multiresolution blend of Burt and Kolczynski (Enhanced image capture through fusion, ICCV 1993) that Mertens, Kautz and
Van Reeth (Exposure fusion, Pacific Graphics 2007) made popular, with the weights predicted by a small network that is
trained for MEF-SSIM (Ma, Zeng, Wang, Perceptual quality assessment for multi-exposure image fusion, IEEE TIP 24(11), 2015).

Inputs  {"exposure_1": [B, H, W, 3], ...} RGB in [0, 1], gamma-coded as a camera writes it; 2 to 9 of one size.
Output  {"fused": [B, H, W, 3]} RGB, about [0, 1]: a boosted detail can leave the range a little, so clip it.

1. Each exposure becomes a pyramid of 2x2 means, down to a short side of 12 to 23 pixels.
2. A stem of two strided convolutions looks at each exposure at full size and reports at a quarter of the size.
3. A dilated residual network takes the report at the level whose short side is 48 to 95 pixels, so that it sees about half the
   picture whatever the resolution; it sees each exposure against the mean of all.
4. Two convolutions at a quarter of the size turn 2 and 3 into weights, a softmax over the exposures for each of the four
   finest levels, and into a boost of detail for each of these but the finest, where noise lives; the coarser levels share
   one map, made by 3 alone.
5. Each level is blended with its weights, the three colours with the same ones, so that no hue is invented. Before the finest
   detail is added, what a boost brought beyond the range or to its ends is drawn back.

The convolutions follow Keras' precision policy; pyramids, weights and blend are float32 under any.

True for any values of the weights: the order of the exposures does not matter; a picture fused with itself comes back, since
weights sum to 1 and the boost vanishes where exposures agree; and no shape depends on the number of exposures or of levels,
so that one set of weights serves every `pyramid(exposures, levels)`.
"""

import itertools

import keras
import numpy as np
from keras import ops

from hdr_tf.models import blocks

MAX_EXPOSURES = 9
FINE_LEVELS = 4  # with weights and a boost of their own
QUARTER = 2  # level of the stem's report
BOOST_SPREAD = 0.1  # difference between the exposures at which half of the boost is granted, in units of the range
MARGIN = 0.1  # distance from the ends of the range where a doubled detail begins to be drawn back
LEAK = 0.1  # of what lies beyond the margin, how much remains


def levels_for(height: int, width: int) -> int:
    """The number of halvings that leaves a short side of 12 to 23 pixels; at least 4."""
    return max(FINE_LEVELS, (min(height, width) // 12).bit_length() - 1)


def pyramid(
    exposures: int = 2, levels: int = 6, filters: int = 16, share: keras.Model | None = None, name: str = "pyramid"
) -> keras.Model:
    """Builds the network for a number of exposures and a size of picture.

    Args:
        exposures: how many pictures are fused, 2 to 9.
        levels: how often the size is halved; `levels_for(height, width)` tells what belongs to a size. Any size goes through
            any number of levels.
        filters: width of the network.
        share: another pyramid, whose convolutions the new one uses instead of making its own.
        name: name of the model.

    Returns:
        A functional model from {"exposure_1": [B, H, W, 3], ...} in [0, 1] to {"fused": [B, H, W, 3]}, not clipped.

    Raises:
        ValueError: if the number of exposures or of levels is out of range.

    Example:
        >>> model = pyramid(exposures=3, levels=levels_for(61, 80))
        >>> pictures = {f"exposure_{i}": keras.random.uniform((1, 61, 80, 3), seed=i) for i in (1, 2, 3)}
        >>> tuple(model(pictures)["fused"].shape)
        (1, 61, 80, 3)
    """
    if not 2 <= exposures <= MAX_EXPOSURES:
        raise ValueError(f"pyramid: expected 2 to {MAX_EXPOSURES} exposures, found {exposures}")
    if levels < FINE_LEVELS:
        raise ValueError(f"pyramid: expected at least {FINE_LEVELS} levels, found {levels}")

    def conv(filters, size, name, **arguments):
        if share:
            return share.get_layer(name)
        return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer="he_normal", name=name, **arguments)

    inputs, pictures = _inputs(exposures)
    gaussians = [_gaussian(x, QUARTER) for x in pictures]
    report = _stem(conv, pictures, filters, "stem")
    maps, fused = _at_quarter(conv, report, [g[QUARTER] for g in gaussians], levels, filters)
    return keras.Model(inputs, {"fused": _at_full_size(gaussians, maps, fused)}, name=name)


def in_parts(network: keras.Model, levels: int) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Cuts a pyramid into three networks, of which the second alone sees the picture as a whole, at a quarter of its size.

    Args:
        network: as of `pyramid`.
        levels: of it.

    Returns:
        Three models that together give what it gives, on sides rounded up and in float32:
            {"exposure_1": [B, H, W, 3], ...} -> {"seen": [B, H / 4, W / 4, C]}, each pixel from 4 x 4 pixels;
            {"seen"} -> {"decided": [B, H / 4, W / 4, D]};
            {"exposure_1", ..., "decided"} -> {"fused": [B, H, W, 3]}, each pixel from those up to 5 pixels away.
    """
    exposures, width = len(network.input), network.get_layer("stem_conv2").filters
    filters = 2 * width

    def conv(filters, size, name, **arguments):
        return network.get_layer(name)

    inputs, pictures = _inputs(exposures)
    quarters = [_gaussian(x, QUARTER)[QUARTER] for x in pictures]
    look = keras.Model(inputs, {"seen": _joined(_stem(conv, pictures, filters, "stem") + quarters)})

    seen = keras.Input((None, None, exposures * (width + 3)), name="seen")
    parts = _cut(seen, [width] * exposures + [3] * exposures)
    (finest, fine), fused = _at_quarter(conv, parts[:exposures], parts[exposures:], levels, filters)
    decided = _joined([*finest, *fine, fused])
    decide = keras.Model({"seen": seen}, {"decided": decided})

    inputs, pictures = _inputs(exposures)
    inputs["decided"] = keras.Input((None, None, decided.shape[-1]), name="decided")
    *maps, fused = _cut(inputs["decided"], [1] * (2 * exposures - 1) + [3])
    gaussians = [_gaussian(x, QUARTER) for x in pictures]
    fused = _at_full_size(gaussians, (maps[: exposures - 1], maps[exposures - 1 :]), fused)
    return look, decide, keras.Model(inputs, {"fused": fused})


def _joined(parts):
    return ops.concatenate(parts, axis=-1)


def _cut(x, widths):
    return ops.split(x, list(itertools.accumulate(widths))[:-1], axis=-1)


def _inputs(exposures):
    return blocks.picture_inputs([f"exposure_{i}" for i in range(1, exposures + 1)], 3)


def _at_quarter(conv, report, quarters, levels, filters):
    """What is done at a quarter of the size and below: the maps of levels 0 and 1, and the blend at level QUARTER."""
    gaussians = [[None] * QUARTER + _gaussian(x, levels - QUARTER) for x in quarters]
    sizes = gaussians[0]  # of which the sizes are taken, level by level
    context, context_level = _context(conv, report, levels, filters, "context")
    maps = _fine_maps(conv, report, context, context_level, quarters, sizes, filters // 2, "fine")
    weights = [_to_level(maps[at], QUARTER, at, sizes) for at in range(QUARTER, FINE_LEVELS)]
    weights += _coarse_weights(conv, context, context_level, sizes, "coarse")

    fused = _blend([g[levels] for g in gaussians], weights[levels - QUARTER])
    for level in reversed(range(QUARTER, levels)):
        fused = _blend(_details(gaussians, level), weights[level - QUARTER]) + _up(fused, sizes[level])
    return maps[:QUARTER], fused


def _at_full_size(gaussians, maps, fused):
    """Adds levels 1 and 0 to the blend at level QUARTER, with the maps of 0 and 1."""
    sizes = gaussians[0]
    weights = [_to_level(maps[at], QUARTER, at, sizes, repeat=3) for at in range(QUARTER)]
    fused = _blend(_details(gaussians, 1), weights[1]) + _up(fused, sizes[1])
    fused = _drawn_into_range(fused, weights[1])
    # The finest weights are smooth, being enlarged four times, so that the detail of the blend is the blend of the details
    # but for second-order terms: one enlargement at full size serves all exposures. They sum to 1: the last needs no map.
    *others, last = (g[0] for g in gaussians)
    differences = [(picture - last) * weight for picture, weight in zip(others, weights[0], strict=True)]
    blend = keras.layers.Add(dtype="float32")([last, *differences])
    return blend + _up(fused - _down(blend), blend)


def _details(gaussians, level):
    enlarged = _up_all([g[level + 1] for g in gaussians], gaussians[0][level])
    return [g[level] - x for g, x in zip(gaussians, enlarged, strict=True)]


def _stem(conv, exposures, filters, name):
    convs = [conv(filters // 2, 2, f"{name}_conv{i}", strides=2, activation="relu") for i in (1, 2)]
    return [convs[1](convs[0](x)) for x in exposures]


def _context(conv, report, levels, filters, name):
    """Features of the exposures, each seen against the mean of all, and the level that they belong to."""
    level = max(QUARTER, levels - 2)
    x = report
    for _ in range(QUARTER, level):
        x = [_down(features) for features in x]
    x = [ops.relu(features) for features in _against_mean(conv, x, filters, f"{name}_entry")]
    for i, dilation in enumerate((1, 2, 4, 8, 1), start=1):
        residual = _against_mean(conv, x, filters, f"{name}_block{i}", dilation=dilation)
        x = [a + ops.relu(b) for a, b in zip(x, residual, strict=True)]
    return x, level


def _fine_maps(conv, report, context, level, quarters, sizes, filters, name):
    """Weights of the levels below FINE_LEVELS, all at level QUARTER: for each a map for each exposure, boost included; of the
    finest one no boost, and no map for the last exposure."""
    context = _against_mean(conv, context, filters, f"{name}_context", size=1)
    x = _against_mean(conv, report, filters, f"{name}_report")
    x = [ops.relu(a + b) for a, b in zip(x, _to_level(context, level, QUARTER, sizes), strict=True)]
    head = conv(2 * FINE_LEVELS - 1, 3, f"{name}_head")
    votes = [head(features) for features in x]  # channels: a logit for each level, a vote for the boost of each but the finest

    spread = keras.layers.Maximum(dtype="float32")(quarters) - keras.layers.Minimum(dtype="float32")(quarters)
    spread = ops.mean(spread, axis=-1, keepdims=True)
    boost = ops.sigmoid(keras.layers.Average(dtype="float32")([v[..., FINE_LEVELS:] for v in votes]) - 2)
    boost = 1 + spread / (spread + BOOST_SPREAD) * boost
    weights = _softmax([v[..., :FINE_LEVELS] for v in votes])
    maps = [[weight[..., :1] for weight in weights[:-1]]]
    boosted = [weight[..., 1:] * boost for weight in weights]
    return maps + [[weight[..., at : at + 1] for weight in boosted] for at in range(FINE_LEVELS - 1)]


def _coarse_weights(conv, context, level, sizes, name):
    """Weights of the levels from FINE_LEVELS on: one map for each exposure, enlarged or averaged to each level."""
    logit = conv(1, 3, f"{name}_logit", use_bias=False)  # a bias that all exposures share does nothing to a softmax
    weights = {level: _softmax([logit(x) for x in context])}
    for at in range(level + 1, len(sizes)):
        weights[at] = _to_level(weights[at - 1], at - 1, at, sizes)
    for at in reversed(range(FINE_LEVELS, level)):
        weights[at] = _to_level(weights[at + 1], at + 1, at, sizes)
    return [weights[at] for at in range(FINE_LEVELS, len(sizes))]


def _against_mean(conv, exposures, filters, name, size=3, dilation=1):
    """Convolution of each exposure's features plus one of their mean, so that each is seen against the others."""
    own = conv(filters, size, name, dilation_rate=dilation)
    mean = conv(filters, size, f"{name}_mean", dilation_rate=dilation, use_bias=False)(keras.layers.Average()(exposures))
    return [own(x) + mean for x in exposures]


def _softmax(logits):
    """Softmax over a list of tensors: six times faster on a CPU than over a channel axis of two."""
    logits = [ops.cast(logit, "float32") for logit in logits]
    highest = keras.layers.Maximum(dtype="float32")(logits)
    powers = [ops.exp(logit - highest) for logit in logits]
    total = keras.layers.Add(dtype="float32")(powers)
    return [power / total for power in powers]


def _blend(pictures, weights):
    return keras.layers.Add(dtype="float32")([picture * weight for picture, weight in zip(pictures, weights, strict=True)])


def _drawn_into_range(fused, weights):
    """Draws what leaves [0, 1], or comes near its ends by a boost (the sum of the weights), back towards the inside."""
    margin = MARGIN * (keras.layers.Add(dtype="float32")(weights) - 1)
    inside = ops.minimum(ops.maximum(fused, margin), 1 - margin)
    return inside + LEAK * (fused - inside)


def _gaussian(picture, levels):
    pictures = [picture]
    for _ in range(levels):
        pictures.append(_down(pictures[-1]))
    return pictures


def _to_level(maps, source, target, sizes, repeat=1):
    """Brings maps from one level of the pyramid to another; if enlarged, each channel comes `repeat` times."""
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
    """Enlarges tensors of one shape as one batch: it takes many operations, and each is written into an exported graph."""
    return ops.split(_up(ops.concatenate(parts, axis=0), like, repeat), len(parts), axis=0)


@keras.saving.register_keras_serializable("hdr_tf")
class Upsample2x(keras.layers.Layer):
    """Bilinear enlargement by two of [B, H, W, C], cut to the height and width of a second picture.

    Pixel centres lie at halves and the border repeats, as in OpenCV and tf.image. A resize to a size unknown at export does not
    export. Rows are interleaved as they lie in memory; columns by a convolution that computes both pixels of a pair
    as channels, which takes half the time of interleaving single values.

    Args:
        repeat: how often each channel comes; a map of weights times three channels costs a third of what it costs to
            multiply three channels with one.
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
