"""ESBN: two networks that align a dark and a bright exposure with the middle one, and one that merges the three to HDR.

Sang-hoon Lee, Haesoo Chung, Nam Ik Cho: "Exposure-Structure Blending Network for High Dynamic Range Imaging of Dynamic
Scenes", IEEE Access 8, 2020, https://doi.org/10.1109/ACCESS.2020.3005022. Original code:
https://github.com/tkd1088/ESBN (3f873ab), network_align2.py, network_fusion3.py and the training scripts; where the paper
says otherwise, the code is followed.

Each exposure comes twice, [B, H, W, 3] float32 RGB: `ldr_*`, the picture, scaled to -1..1, and `hdr_*`, its radiance
((ldr + 1) / 2)**2.2 / exposure, times 2 minus 1, which exceeds 1 where the exposure is below 1. H and W are at least 8.

`esbn_align`: `ldr_low`, `hdr_low`, `ldr_mid`, `hdr_mid` -> `aligned`, -1..1: the low exposure as it would have looked from
where the middle one was taken. The network for the high exposure is the same, trained on its own; the high picture
takes the inputs of the low one.

    encoders   low and mid:  conv 5x5 /2 6-64 (skip 1), conv 5x5 /2 64-128, norm (skip 2)
    bottom     both: conv 5x5 /2 256-256, norm; nine residual blocks of two 3x3 convolutions
    decoder    three times: skips appended, enlarged by two, conv 5x5, norm -> 128, 64, 64;  conv 5x5 64-3, tanh

`esbn_fusion`: `ldr_low`, `ldr_mid`, `ldr_high`, `hdr_low`, `hdr_mid`, `hdr_high`, low and high aligned -> `hdr`, -1..1; the
radiance is (hdr + 1) / 2.

    conv 3x3 6-64 for each exposure;  conv 3x3 192-64;  dense block: six 3x3 that add 32 channels each, then 1x1 256-64
    plus its input, plus the features of mid;  conv 3x3 64-3, tanh

`esbn_end_to_end`: the six pictures as taken and `exposures` -> `aligned_low`, `aligned_high`, `hdr`: both alignments, the
radiance of what they give, and the merging in one model. The published program has no such thing; the paper trains it.

Kept: TensorFlow's SAME padding (one pixel before and two after where the stride is 2); leaky ReLU 0.2 in encoders and the
merging network, ReLU in decoder and residual blocks, which end without one; the first skip is the bare convolution, the
second the bare norm; low before mid in every concatenation; batch norm with decay 0.9, epsilon 1.001e-5 (the fused
kernel's least value; the program says 1e-5), and the unbiased variance in its moving average; kernels start truncated
normal with deviation 0.01, biases at 0.

Changed:
- Pictures are mirrored at the bottom and on the right up to multiples of 8, and the result is cropped. At multiples of 8
  outputs do not change. At other sizes the original's alignment fails, and its merging network pads with zeros: within
  nine pixels of a mirrored border `hdr` differs from it.
- A convolution after the enlargement by two works on the small picture, see `blocks.EnlargingConvolution`; outputs equal
  within float32.
- `filters` and `growth` scale the widths; the defaults are the original's.
"""

import keras
from keras import ops

from hdr_tf.models import blocks

SLOPE = 0.2
BLOCKS = 9  # residual blocks of the alignment
DENSE = 6  # convolutions of the dense block that add channels
ENCODERS = {"low": "Align_Encoder_low", "mid": "Align_Encoder_midforlow"}  # scopes of the original
EXPOSURES = blocks.EXPOSURES  # the inputs of the merging network


def esbn_align(filters: int = 64, name: str = "esbn_align") -> keras.Model:
    """Builds the network that aligns the low exposure, or the high one in its place, with the middle exposure.

    Args:
        filters: channels of the first level; the deeper ones have two and four times as many.
        name: name of the model.

    Returns:
        A model {"ldr_low", "ldr_mid", "hdr_low", "hdr_mid": [B, H, W, 3]} -> {"aligned": [B, H, W, 3] in -1..1}.

    Example:
        model = esbn_align(filters=8)
        pictures = {name: keras.random.uniform((1, 24, 32, 3), -1, 1) for name in model.input}
        model(pictures)["aligned"].shape  # (1, 24, 32, 3)
    """
    inputs, pictures = _picture_inputs([f"{kind}_{side}" for kind in ("ldr", "hdr") for side in ENCODERS])
    skips = [_encoder(pictures[f"ldr_{side}"], pictures[f"hdr_{side}"], filters, f"{side}_encoder") for side in ENCODERS]
    first, second = zip(*skips, strict=True)

    x = _leaky(_append(second))
    bottom = _norm(_conv(4 * filters, 5, "decoder_conv3", strides=2)(x), "decoder_norm3")
    x = bottom
    for i in range(BLOCKS):
        x = _residual_block(x, f"decoder_block{i}")
    x = _enlarge([x, bottom], 2 * filters, "decoder", 2)
    x = _enlarge([x, *second], filters, "decoder", 1)
    x = _enlarge([x, *first], filters, "decoder", 0)
    x = _conv(3, 5, "decoder_output")(ops.relu(x))
    return keras.Model(inputs, {"aligned": _picture(x, pictures["ldr_mid"], "aligned")}, name=name)


def esbn_fusion(
    filters: int = 64, growth: int = 32, kernel_size: int = 3, inner_kernel_size: int = 3, name: str = "esbn_fusion"
) -> keras.Model:
    """Builds the network that merges three aligned exposures.

    Args:
        filters: channels of the features.
        growth: channels that each convolution of the dense block adds.
        kernel_size: of the convolutions that see the exposures and of the one that gives the result.
        inner_kernel_size: of those between, but for the dense block's last; with both 1 the network sees single pixels.
        name: name of the model.

    Returns:
        A model {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", "hdr_mid", "hdr_high": [B, H, W, 3]} -> {"hdr": [B, H, W, 3] in
        -1..1}.

    Example:
        model = esbn_fusion(filters=8, growth=4)
        pictures = {name: keras.random.uniform((1, 24, 32, 3), -1, 1) for name in model.input}
        radiance = (model(pictures)["hdr"] + 1) / 2  # [1, 24, 32, 3]
    """
    inputs, pictures = _picture_inputs(EXPOSURES)
    features = {}
    for side in blocks.EXPOSURE_NAMES:
        both = blocks.PadToMultiple(8)(_append([pictures[f"ldr_{side}"], pictures[f"hdr_{side}"]]))
        features[side] = _leaky(_conv(filters, kernel_size, f"{side}_conv")(both))
    x = _leaky(_conv(filters, inner_kernel_size, "merge_conv")(_append(features.values())))
    x = x + _dense_block(x, filters, growth, inner_kernel_size, "dense") + features["mid"]
    x = _conv(3, kernel_size, "output")(x)
    return keras.Model(inputs, {"hdr": _picture(x, pictures["ldr_mid"], "hdr")}, name=name)


def esbn_end_to_end(align_filters: int = 64, filters: int = 64, growth: int = 32) -> keras.Model:
    """Builds the two alignment networks and the merging network in one model.

    The three are layers of the model, `model.get_layer("esbn_align_low")`, "esbn_align_high" and "esbn_fusion": models with
    weights of their own, as `esbn_align` and `esbn_fusion` build them.

    Args:
        align_filters: of both alignment networks.
        filters: of the merging network.
        growth: of the merging network.

    Returns:
        A model {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", "hdr_mid", "hdr_high": [B, H, W, 3], "exposures": [B, 3], low to
        high} -> {"aligned_low", "aligned_high", "hdr": [B, H, W, 3] in -1..1}.
    """
    inputs = {name: keras.Input((None, None, 3), name=name) for name in EXPOSURES}
    exposures = inputs["exposures"] = keras.Input((3,), name="exposures")
    pictures = {key: inputs[key] for key in EXPOSURES}
    outputs = {}
    for at, side in ((0, "low"), (2, "high")):
        with keras.name_scope(f"esbn_align_{side}"):  # into the variables' paths: those of the two would be equal otherwise
            align = esbn_align(align_filters, name=f"esbn_align_{side}")
        moving = {f"{kind}_low": inputs[f"{kind}_{side}"] for kind in ("ldr", "hdr")}
        still = {f"{kind}_mid": inputs[f"{kind}_mid"] for kind in ("ldr", "hdr")}
        aligned = align(moving | still)["aligned"]
        outputs[f"aligned_{side}"] = pictures[f"ldr_{side}"] = aligned
        pictures[f"hdr_{side}"] = RadianceInput(name=f"hdr_{side}_aligned", dtype="float32")([aligned, exposures[:, at]])
    with keras.name_scope("esbn_fusion"):
        merge = esbn_fusion(filters, growth)
    return keras.Model(inputs, outputs | merge(pictures), name="esbn_end_to_end")


def radiance_input(picture, exposure):
    """The input `hdr_*` of a picture: ((picture + 1) / 2)**2.2 / exposure * 2 - 1.

    Args:
        picture: [B, H, W, 3] in -1..1.
        exposure: [B], 2**stops.

    Returns:
        [B, H, W, 3], from -1; above 1 where the exposure is below 1.
    """
    value = ops.relu((picture + 1) / 2)  # a compiled tanh may end a trace below -1
    return value**blocks.DISPLAY_GAMMA / ops.reshape(exposure, (-1, 1, 1, 1)) * 2 - 1


@keras.saving.register_keras_serializable(package="hdr_tf")
class RadianceInput(keras.layers.Layer):
    """`radiance_input` of a picture [B, H, W, 3] and its exposure [B]."""

    def call(self, pair):
        return radiance_input(*pair)

    def compute_output_shape(self, shapes):
        return shapes[0]


def _picture_inputs(names):
    inputs, pictures = blocks.picture_inputs(names, channels=3)
    return inputs, dict(zip(names, pictures, strict=True))


def _encoder(ldr, hdr, filters, name):
    """Features at a half and at a quarter of the size."""
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
    parts = [x]
    for i in range(1, DENSE + 1):
        parts.append(_leaky(_conv(growth, kernel_size, f"{name}_conv{i}")(_append(parts))))
    return _leaky(_conv(filters, 1, f"{name}_conv{DENSE + 1}")(_append(parts)))


def _picture(x, like, name):
    """The picture in -1..1 in float32, whatever precision the network computes in, cropped to the size of `like`."""
    x = keras.layers.Activation("tanh", dtype="float32", name=f"{name}_tanh")(x)
    return blocks.CropLike(name=name, dtype="float32")([x, like])


def _append(parts):
    parts = list(parts)
    return keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]


def _leaky(x):
    return keras.layers.LeakyReLU(SLOPE)(x)


def _conv(filters, size, name, **arguments):
    return keras.layers.Conv2D(filters, size, padding="same", kernel_initializer=_start(), name=name, **arguments)


def _norm(x, name):
    return blocks.UnbiasedBatchNormalization(epsilon=1.001e-5, name=name)(x)


def _start():
    return keras.initializers.TruncatedNormal(stddev=0.01)


def align_names() -> dict[str, str]:
    """The original's variable for each path of `esbn_align`, such as "decoder_norm3/beta": "Align_Decoder_low_batn3/beta"."""
    names = {}
    for side, scope in ENCODERS.items():
        names |= _names(f"{side}_encoder", scope, {"conv1": "conv1", "conv2": "conv2", "norm2": "batn2"})
    layers = {
        f"{ours}{level}": f"{theirs}{level}" for level in range(4) for ours, theirs in (("conv", "conv"), ("norm", "batn"))
    }
    for i in range(BLOCKS):
        layers |= {
            f"block{i}_{ours}{at}": f"resb{i}_{theirs}{at}"
            for at in (1, 2)
            for ours, theirs in (("conv", "conv"), ("norm", "batn"))
        }
    return names | _names("decoder", "Align_Decoder_low", layers | {"output": "conv8"})


def fusion_names() -> dict[str, str]:
    """The original's variable for each path of `esbn_fusion`, such as "output/bias": "fusion_conv4/fusion_conv4_biases"."""
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
