"""HDR-Transformer: attention to what the reference shares with the others, then blocks of window attention and local context.

Zhen Liu, Yinglong Wang, Bing Zeng, Shuaicheng Liu: "Ghost-free High Dynamic Range Imaging with Context-aware Transformer",
ECCV 2022, https://arxiv.org/abs/2208.05114. Original code: SelfHDR trains it, https://github.com/cszhilu1998/SelfHDR
(9e8af4a), models/hdr_transformer.py.

Each exposure comes twice, [B, H, W, 3] float32: `ldr_*`, the picture, 0..1, and `hdr_*`, its radiance ldr**2.2 / exposure,
from 0, above 1 where the exposure is below 1. The result `hdr` is radiance in 0..1. H and W are at least 8, of any size.

    features   of each exposure, radiance before the picture: conv 3x3 6-60, one for each
    attention  of low and of high, each beside mid: conv 3x3 120-120, conv 3x3 120-60, sigmoid; times the features
    merge      low, mid, high: conv 3x3 180-60, norm
    groups     three times: six blocks, conv 3x3 with dilation 2, plus the group's input
        block  norm, attention in windows of 8x8 (every other block's are shifted), norm, perceptron, both added; plus the local
               context of the first norm: 1x1 60-7, 3x3, 1x1 7-60, weighed by what two dense layers make of its mean
    output     norm, plus merge, conv 3x3, plus the features of mid, conv 3x3 60-3, sigmoid

The mean is taken over the whole picture, so that a picture in tiles gives another result.

Kept: zeros around every convolution; leaky ReLU 0.01 within the attention to mid, 0.2 after the local context's last
convolution, none elsewhere; the other exposure before mid in that attention; PyTorch's start of convolutions, a deviation of
0.02 for dense layers and the attention's bias; in training a block's two parts are skipped with a probability that rises to
0.1.

Changed:
- Pictures are mirrored at the bottom and on the right up to multiples of 8, and the result is cropped; the original network
  fails at other sizes. Its test script pads at all sides, and by 8 where nothing is missing: `test_padding`.
- `filters`, `heads` and `depths` scale the network; the defaults are the original's.

The original reads its pictures with OpenCV, so that its checkpoints expect channels blue, green, red, and give them;
tools/convert_checkpoint.py turns them round.
"""

from collections.abc import Sequence

import keras
from keras import ops

from hdr_tf.models import blocks

REDUCTION = 8  # of the channels of the local context
DEPTHS = (6, 6, 6)


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
        heads: of the window attention.
        depths: number of blocks of each group.
        drop: probability of skipping the parts of the last block in training.
        test_padding: pads as the original's test script, by 8 - size % 8 in all, half of it before; otherwise as little as the
            windows need. It changes the result at every size.
        name: name of the model.

    Returns:
        A model {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", "hdr_mid", "hdr_high": [B, H, W, 3]}, in the ranges above, ->
        {"hdr": [B, H, W, 3] in 0..1}.

    Raises:
        ValueError: the filters are too few or no multiple of the heads.

    Example:
        model = hdr_transformer(depths=(2,))
        pictures = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(pictures)["hdr"].shape  # (1, 24, 32, 3)
    """
    if filters % heads or filters < REDUCTION:
        raise ValueError(f"expected filters in multiples of the {heads} heads, at least {REDUCTION}, found {filters}")
    inputs, exposures = blocks.radiance_inputs()
    padded = [blocks.PadToMultiple(blocks.WINDOW, around=test_padding)(exposure) for exposure in exposures]
    low, mid, high = (_conv(x, filters, f"{side}_conv") for side, x in zip(blocks.EXPOSURE_NAMES, padded, strict=True))
    low = blocks.spatial_attention(low, mid, "low_attention")
    high = blocks.spatial_attention(high, mid, "high_attention")
    merged = _conv(ops.concatenate([low, mid, high], axis=-1), filters, "merge")

    x = blocks.layer_norm(merged, "merge_norm")
    for group, rates in enumerate(blocks.drop_rates(depths, drop), start=1):
        y = x
        for i, rate in enumerate(rates):
            block = f"group{group}_block{i + 1}"
            y, normed = blocks.swin_block(y, heads, i % 2 == 1, rate, block)
            y = y + _local_context(normed, f"{block}_context")
        x = x + _conv(y, filters, f"group{group}_conv", dilation_rate=2)
    x = blocks.layer_norm(x, "groups_norm") + merged

    x = _conv(x, filters, "groups_conv") + mid
    x = blocks.CropLike(around=test_padding)([_conv(x, 3, "output"), exposures[1]])
    return keras.Model(inputs, {"hdr": blocks.radiance(x)}, name=name)


def _local_context(x, name):
    filters = x.shape[-1]
    reduced = filters // REDUCTION
    x = _conv(_conv(x, reduced, f"{name}_conv1", size=1), reduced, f"{name}_conv2")
    x = ops.leaky_relu(_conv(x, filters, f"{name}_conv3", size=1), 0.2)
    weights = ops.relu(blocks.dense(ops.mean(x, axis=(1, 2), keepdims=True), reduced, f"{name}_dense1", use_bias=False))
    return x * ops.sigmoid(blocks.dense(weights, filters, f"{name}_dense2", use_bias=False))


def _conv(x, filters, name, size=3, **arguments):
    return blocks.torch_convolution(x.shape[-1], filters, size, name, padding="same", **arguments)(x)


def original_names() -> dict[str, str]:
    """The original's parameter for each path of `hdr_transformer`, such as "output/kernel": "conv_last.weight"."""
    modules = {f"{side}_conv": f"conv_f{i}" for i, side in enumerate(blocks.EXPOSURE_NAMES, start=1)}
    for side, theirs in (("low", "h"), ("high", "l")):  # the letters are the original's
        modules |= {f"{side}_attention_conv{i}": f"att_module_{theirs}.att{i}" for i in (1, 2)}
    modules |= {"merge": "conv_first", "groups_conv": "conv_after_body", "output": "conv_last"}
    names = blocks.norm_names({"merge_norm": "patch_embed.norm", "groups_norm": "norm"})
    for group, depth in enumerate(DEPTHS):
        modules[f"group{group + 1}_conv"] = f"layers.{group}.dilated_conv"
        for i in range(depth):
            ours, theirs = f"group{group + 1}_block{i + 1}", f"layers.{group}.residual_group.blocks.{i}"
            modules |= {f"{ours}_context_conv{k + 1}": f"{theirs}.lce.conv.{k}" for k in range(3)}
            names |= {f"{ours}_context_dense{k + 1}/kernel": f"{theirs}.lce.fc.{2 * k}.weight" for k in range(2)}
            names |= blocks.swin_names(ours, theirs)
    return names | blocks.torch_names(modules)
