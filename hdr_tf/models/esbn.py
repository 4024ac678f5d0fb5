"""ESBN: two networks align the low and the high exposure with the middle one, and a third merges the three into radiance.

Sang-hoon Lee, Haesoo Chung, Nam Ik Cho: "Exposure-Structure Blending Network for High Dynamic Range Imaging of Dynamic Scenes",
IEEE Access 8, 2020, https://doi.org/10.1109/ACCESS.2020.3005022. Original code: https://github.com/tkd1088/ESBN (3f873ab),
network_align2.py, network_fusion3.py and the training scripts; where the paper differs, this file follows the code.

Inputs for each exposure, [B, H, W, 3] float32 RGB, H and W at least 8: `ldr_*`, the image scaled to -1..1, and `hdr_*`, its
radiance ((ldr + 1) / 2)**2.2 / exposure, times 2 minus 1, which is above 1 only if the exposure is below 1.

`esbn_align`: `ldr_low`, `hdr_low`, `ldr_mid`, `hdr_mid` -> `aligned` in -1..1: the low exposure as it would look if it had been
captured together with the middle one. A second network of this form aligns the high exposure, given as `ldr_low` and `hdr_low`.

    encoders   low and mid:  conv 5x5 /2 6-64 (skip 1), conv 5x5 /2 64-128, norm (skip 2)
    bottom     both: conv 5x5 /2 256-256, norm; nine residual blocks of two 3x3 convolutions
    decoder    three times: skips appended, enlarged by two, conv 5x5, norm -> 128, 64, 64;  conv 5x5 64-3, tanh

`esbn_fusion`: the six inputs, low and high aligned -> `hdr` in -1..1; the radiance is (hdr + 1) / 2.

    conv 3x3 6-64 for each exposure;  conv 3x3 192-64;  dense block: six 3x3 that add 32 channels each, then 1x1 256-64
    plus its input, plus the features of mid;  conv 3x3 64-3, tanh

`esbn_end_to_end`: the six inputs, not aligned, and `exposures` [B, 3] from low to high -> `aligned_low`, `aligned_high`, `hdr`.
The paper trains it; the published program lacks it.

Kept: TensorFlow's SAME padding (one pixel before and two after where the stride is 2); leaky ReLU 0.2 in the encoders and the
merging network, ReLU in the decoder and the residual blocks, which end without one; the first skip is the convolution before
its activation, the second the norm before its activation; low before mid in every concatenation; batch norm with momentum 0.9,
epsilon 1.001e-5 (the fused kernel's minimum, where the program says 1e-5), and the unbiased variance in its moving average;
initial kernels are truncated normal with deviation 0.01, initial biases 0.

Changed: images are mirrored at the bottom and on the right to multiples of 8, and the result is cropped. At other sizes the
original's alignment fails, and its merging network pads with zeros: within nine pixels of a mirrored border `hdr` differs.
A convolution after an enlargement by two works on the small image (`blocks.EnlargingConvolution`); outputs are equal within
float32. `filters` and `growth` scale the widths; the defaults are the original's.
"""

from functools import partial

import keras
from keras import ops

from hdr_tf.models import blocks

SLOPE = 0.2
BLOCKS = 9  # residual blocks of the alignment
DENSE = 6  # convolutions of the dense block before its 1x1
ENCODERS = {"low": "Align_Encoder_low", "mid": "Align_Encoder_midforlow"}  # their scopes in the original
EXPOSURES = blocks.RADIANCE_INPUTS  # the inputs of the merging network

# Arguments of the builders, from shapes of weights.
align_sizes = partial(blocks.last_axes, filters="low_encoder_conv1/kernel")
fusion_sizes = partial(blocks.last_axes, filters="mid_conv/kernel", growth="dense_conv1/kernel")


def esbn_align(filters: int = 64, name: str = "esbn_align") -> keras.Model:
    """Builds the network that aligns the low exposure (or the high one, given as the low one) with the middle exposure.

    `filters` is the number of channels of the first level; the deeper levels have two and four times as many.

    Example:
        model = esbn_align(filters=8)
        images = {name: keras.random.uniform((1, 24, 32, 3), -1, 1) for name in model.input}
        model(images)["aligned"].shape  # (1, 24, 32, 3)
    """
    inputs, images = _image_inputs([f"{kind}_{side}" for kind in ("ldr", "hdr") for side in ENCODERS])
    skips = [_encoder(images[f"ldr_{side}"], images[f"hdr_{side}"], filters, f"{side}_encoder") for side in ENCODERS]
    first, second = zip(*skips, strict=True)

    x = _leaky(_append(second))
    x = bottom = _norm(_conv(4 * filters, 5, "decoder_conv3", strides=2)(x), "decoder_norm3")
    for i in range(BLOCKS):
        x = _residual_block(x, f"decoder_block{i}")
    x = _enlarge([x, bottom], 2 * filters, "decoder", 2)
    x = _enlarge([x, *second], filters, "decoder", 1)
    x = _enlarge([x, *first], filters, "decoder", 0)
    x = _conv(3, 5, "decoder_output")(ops.relu(x))
    return keras.Model(inputs, {"aligned": _image(x, images["ldr_mid"], "aligned")}, name=name)


def esbn_fusion(
    filters: int = 64, growth: int = 32, kernel_size: int = 3, inner_kernel_size: int = 3, name: str = "esbn_fusion"
) -> keras.Model:
    """Builds the network that merges three aligned exposures.

    Args:
        filters: channels of the features.
        growth: channels that each 3x3 convolution of the dense block adds.
        kernel_size: side of the kernels of the first convolutions and of the last one.
        inner_kernel_size: side of the 3x3 kernels between them; with both sizes 1 each pixel is processed on its own.

    Example:
        model = esbn_fusion(filters=8, growth=4)
        images = {name: keras.random.uniform((1, 24, 32, 3), -1, 1) for name in model.input}
        radiance = (model(images)["hdr"] + 1) / 2  # [1, 24, 32, 3]
    """
    inputs, images = _image_inputs(EXPOSURES)
    features = {}
    for side in blocks.EXPOSURE_NAMES:
        both = blocks.PadToMultiple(8)(_append([images[f"ldr_{side}"], images[f"hdr_{side}"]]))
        features[side] = _leaky(_conv(filters, kernel_size, f"{side}_conv")(both))
    x = _leaky(_conv(filters, inner_kernel_size, "merge_conv")(_append(features.values())))
    x = x + _dense_block(x, filters, growth, inner_kernel_size, "dense") + features["mid"]
    x = _conv(3, kernel_size, "output")(x)
    return keras.Model(inputs, {"hdr": _image(x, images["ldr_mid"], "hdr")}, name=name)


def esbn_end_to_end(align_filters: int = 64, filters: int = 64, growth: int = 32) -> keras.Model:
    """Builds the model whose layers are two networks of `esbn_align`, "esbn_align_low" and "esbn_align_high", both with
    `align_filters`, and `esbn_fusion`, with the other arguments."""
    images = {name: keras.Input((None, None, 3), name=name) for name in EXPOSURES}
    exposures = keras.Input((3,), name="exposures")
    inputs, outputs = images | {"exposures": exposures}, {}
    for at, side in ((0, "low"), (2, "high")):
        with keras.name_scope(f"esbn_align_{side}"):  # else both networks would have the same variable paths
            align = esbn_align(align_filters, name=f"esbn_align_{side}")
        moving = {f"{kind}_low": inputs[f"{kind}_{side}"] for kind in ("ldr", "hdr")}
        still = {f"{kind}_mid": inputs[f"{kind}_mid"] for kind in ("ldr", "hdr")}
        aligned = align(moving | still)["aligned"]
        outputs[f"aligned_{side}"] = images[f"ldr_{side}"] = aligned
        images[f"hdr_{side}"] = RadianceInput(name=f"hdr_{side}_aligned", dtype="float32")([aligned, exposures[:, at]])
    with keras.name_scope("esbn_fusion"):
        merge = esbn_fusion(filters, growth)
    return keras.Model(inputs, outputs | merge(images), name="esbn_end_to_end")


def radiance_input(image, exposure):
    """Returns the input `hdr_*` of an image [B, H, W, 3] in -1..1 with an exposure [B], 2**stops; it is at least -1."""
    value = ops.relu((image + 1) / 2)  # a compiled tanh may be slightly below -1
    return value**blocks.DISPLAY_GAMMA / ops.reshape(exposure, (-1, 1, 1, 1)) * 2 - 1


@keras.saving.register_keras_serializable(package="hdr_tf")
class RadianceInput(keras.layers.Layer):
    """`radiance_input` of an image [B, H, W, 3] and its exposure [B]."""

    def call(self, pair):
        return radiance_input(*pair)

    def compute_output_shape(self, shapes):
        return shapes[0]


def _image_inputs(names):
    inputs, images = blocks.image_inputs(names, channels=3)
    return inputs, dict(zip(names, images, strict=True))


def _encoder(ldr, hdr, filters, name):
    """Features at half and at a quarter of the size."""
    x = blocks.PadToMultiple(8)(_append([ldr, hdr]))
    first = _conv(filters, 5, f"{name}_conv1", strides=2)(x)
    second = _conv(2 * filters, 5, f"{name}_conv2", strides=2)(_leaky(first))
    return first, _norm(second, f"{name}_norm2")


def _residual_block(x, name):
    y = ops.relu(_norm(_conv(x.shape[-1], 3, f"{name}_conv1")(x), f"{name}_norm1"))
    return x + _norm(_conv(x.shape[-1], 3, f"{name}_conv2")(y), f"{name}_norm2")


def _enlarge(parts, filters, name, level):
    convolution = blocks.EnlargingConvolution(filters, 5, kernel_initializer=_start(), name=f"{name}_conv{level}")
    return _norm(convolution(ops.relu(_append(parts))), f"{name}_norm{level}")


def _dense_block(x, filters, growth, kernel_size, name):
    y, parts = x, [x]
    for i in range(1, DENSE + 1):
        parts.append(_leaky(_conv(growth, kernel_size, f"{name}_conv{i}")(y)))
        y = _append(parts)
    return _leaky(_conv(filters, 1, f"{name}_conv{DENSE + 1}")(y))


def _image(x, like, name):
    """The output in -1..1, in float32 whatever precision the network computes in, cropped to the size of `like`."""
    x = keras.layers.Activation("tanh", dtype="float32", name=f"{name}_tanh")(x)
    return blocks.CropLike(name=name, dtype="float32")([x, like])


def _append(parts):
    return keras.layers.Concatenate()(list(parts))


def _leaky(x):
    return keras.layers.LeakyReLU(SLOPE)(x)


def _conv(filters, size, name, **arguments):
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer=_start(), name=name, **arguments)


def _norm(x, name):
    return blocks.UnbiasedBatchNormalization(epsilon=1.001e-5, name=name)(x)


def _start():
    return keras.initializers.TruncatedNormal(stddev=0.01)


def align_names() -> dict[str, str]:
    """Returns the original's variable for each path, such as {"decoder_norm3/beta": "Align_Decoder_low_batn3/beta"}."""
    names = {}
    for side, scope in ENCODERS.items():
        names |= _names(f"{side}_encoder", scope, {"conv1": "conv1", "conv2": "conv2", "norm2": "batn2"})
    kinds = (("conv", "conv"), ("norm", "batn"))
    layers = {f"{ours}{level}": f"{theirs}{level}" for level in range(4) for ours, theirs in kinds}
    for i in range(BLOCKS):
        layers |= {f"block{i}_{ours}{at}": f"resb{i}_{theirs}{at}" for at in (1, 2) for ours, theirs in kinds}
    return names | _names("decoder", "Align_Decoder_low", layers | {"output": "conv8"})


def fusion_names() -> dict[str, str]:
    """Returns the original's variable for each path, such as {"output/bias": "fusion_conv4/fusion_conv4_biases"}."""
    layers = {f"{side}_conv": f"conv1_{side}" for side in blocks.EXPOSURE_NAMES} | {"merge_conv": "conv2", "output": "conv4"}
    layers |= {f"dense_conv{i}": f"resden1_conv{i}" for i in range(1, DENSE + 2)}
    return _names("", "fusion", layers)


def _names(prefix, scope, layers):
    names = {}
    for ours, theirs in layers.items():
        layer, theirs = f"{prefix}_{ours}".lstrip("_"), f"{scope}_{theirs}"
        if "_batn" in theirs:
            names |= {f"{layer}/{kind}": f"{theirs}/{kind}" for kind in ("gamma", "beta", "moving_mean", "moving_variance")}
        else:
            names |= {f"{layer}/kernel": f"{theirs}/{theirs}_weights", f"{layer}/bias": f"{theirs}/{theirs}_biases"}
    return names
