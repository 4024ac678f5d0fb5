"""HDR-Transformer, trained by SelfHDR: merges three exposures by attention to the reference, then windows and local context.

Zhen Liu, Yinglong Wang, Bing Zeng, Shuaicheng Liu: "Ghost-free High Dynamic Range Imaging with Context-aware Transformer",
ECCV 2022, https://arxiv.org/abs/2208.05114. Original code: https://github.com/cszhilu1998/SelfHDR (9e8af4a),
models/hdr_transformer.py. Inputs and output: see `blocks.radiance_inputs`.

    features   radiance and image of each exposure: conv 3x3 6-60, each with its own weights
    attention  low with mid, high with mid: conv 3x3 120-120, conv 3x3 120-60, sigmoid; multiplies the features
    merge      low, mid, high: conv 3x3 180-60, norm
    groups     three times: six blocks, conv 3x3 with dilation 2, plus the group's input
        block  norm, attention in 8x8 windows (shifted in every other block), norm, perceptron, each part plus its input; plus
               the local context of the first norm: 1x1 60-7, 3x3, 1x1 7-60, times weights that two dense layers compute from
               its mean over the whole image, so running the network in tiles would change the result
    output     norm, plus merge, conv 3x3, plus the features of mid, conv 3x3 60-3, sigmoid

Kept: zero padding; leaky ReLU 0.01 within the attention to mid, 0.2 after the local context's last convolution, none elsewhere;
in that attention the other exposure comes before mid; initial values and stochastic depth, see `blocks.swin_block`.

Changed: RGB instead of BGR. Images are mirrored at the bottom and on the right to multiples of 8, and the result is cropped;
the original network fails at other sizes. `filters`, `heads` and `depths` scale the network; the defaults are the original's.
"""

from collections.abc import Sequence

import keras
from keras import ops

from hdr_tf.models import blocks

REDUCTION = 8  # of the channels of the local context
DEPTHS = (6, 6, 6)

sizes = blocks.swin_sizes  # arguments, from shapes of weights


def hdr_transformer(
    filters: int = 60,
    heads: int = 6,
    depths: Sequence[int] = DEPTHS,
    drop: float = 0.1,
    test_padding: bool = False,
    name: str = "hdr_transformer",
) -> keras.Model:
    """Builds the network.

    Args:
        filters: channels of the features, a multiple of `heads` and at least 8.
        heads: heads of the window attention.
        depths: number of blocks in each group.
        drop: probability that training skips the two parts of the last block; it rises linearly from 0 at the first block.
        test_padding: whether to pad as the original's test script does, by 8 - size % 8 in all, half of it at the top and on
            the left; this changes the result at every size.

    Example:
        model = hdr_transformer(depths=(2,))
        images = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(images)["hdr"].shape  # (1, 24, 32, 3)
    """
    if filters % heads or filters < REDUCTION:
        raise ValueError(f"expected filters in multiples of the {heads} heads, at least {REDUCTION}, found {filters}")
    inputs, exposures = blocks.radiance_inputs()
    padded = [blocks.PadToMultiple(blocks.WINDOW, around=test_padding)(exposure) for exposure in exposures]
    sides = zip(blocks.EXPOSURE_NAMES, padded, strict=True)
    low, mid, high = (blocks.convolve(x, filters, 3, f"{side}_conv") for side, x in sides)
    low = blocks.spatial_attention(low, mid, "low_attention")
    high = blocks.spatial_attention(high, mid, "high_attention")
    merged = blocks.convolve(ops.concatenate([low, mid, high], axis=-1), filters, 3, "merge")

    x = blocks.layer_norm(merged, "merge_norm")
    for group, rates in enumerate(blocks.drop_rates(depths, drop), start=1):
        y = x
        for i, rate in enumerate(rates):
            block = f"group{group}_block{i + 1}"
            y, normed = blocks.swin_block(y, heads, i % 2 == 1, rate, block)
            y = y + _local_context(normed, f"{block}_context")
        x = x + blocks.convolve(y, filters, 3, f"group{group}_conv", dilation_rate=2)
    x = blocks.layer_norm(x, "groups_norm") + merged

    x = blocks.convolve(x, filters, 3, "groups_conv") + mid
    x = blocks.CropLike(around=test_padding)([blocks.convolve(x, 3, 3, "output"), exposures[1]])
    return keras.Model(inputs, {"hdr": blocks.radiance_output(x)}, name=name)


def _local_context(x, name):
    filters = x.shape[-1]
    reduced = filters // REDUCTION
    x = blocks.convolve(blocks.convolve(x, reduced, 1, f"{name}_conv1"), reduced, 3, f"{name}_conv2")
    x = ops.leaky_relu(blocks.convolve(x, filters, 1, f"{name}_conv3"), 0.2)
    weights = ops.relu(blocks.dense(ops.mean(x, axis=(1, 2), keepdims=True), reduced, f"{name}_dense1", use_bias=False))
    return x * ops.sigmoid(blocks.dense(weights, filters, f"{name}_dense2", use_bias=False))


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"output/kernel": "conv_last.weight"}."""
    modules = {f"{side}_conv": f"conv_f{i}" for i, side in enumerate(blocks.EXPOSURE_NAMES, start=1)}
    for side, theirs in (("low", "h"), ("high", "l")):  # the letters are the original's
        modules |= {f"{side}_attention_conv{i}": f"att_module_{theirs}.att{i}" for i in (1, 2)}
    modules |= {"merge": "conv_first", "groups_conv": "conv_after_body", "output": "conv_last"}
    names = blocks.torch_names({"merge_norm": "patch_embed.norm", "groups_norm": "norm"}, blocks.NORM)
    for group, depth in enumerate(DEPTHS):
        modules[f"group{group + 1}_conv"] = f"layers.{group}.dilated_conv"
        for i in range(depth):
            ours, theirs = f"group{group + 1}_block{i + 1}", f"layers.{group}.residual_group.blocks.{i}"
            modules |= {f"{ours}_context_conv{k + 1}": f"{theirs}.lce.conv.{k}" for k in range(3)}
            names |= {f"{ours}_context_dense{k + 1}/kernel": f"{theirs}.lce.fc.{2 * k}.weight" for k in range(2)}
            names |= blocks.swin_names(ours, theirs)
    return names | blocks.torch_names(modules)
