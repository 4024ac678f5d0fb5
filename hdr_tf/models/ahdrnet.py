"""AHDRNet: attention to what the reference shares with the other two exposures, then dilated dense blocks.

Qingsen Yan, Dong Gong, Qinfeng Shi, Anton van den Hengel, Chunhua Shen, Ian Reid, Yanning Zhang: "Attention-guided Network
for Ghost-free High Dynamic Range Imaging", CVPR 2019, https://arxiv.org/abs/1904.10293. Original code: SelfHDR trains it,
https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/ahdrnet.py.

Each exposure comes twice, [B, H, W, 3] float32: `ldr_*`, the picture, 0..1, and `hdr_*`, its radiance ldr**2.2 / exposure,
from 0, above 1 where the exposure is below 1. The result `hdr` is radiance in 0..1. H and W are at least 8, of any size. A
pixel of the result sees 37 pixels far.

    features   of each exposure, radiance before the picture: conv 3x3 6-64, the same one for all three
    attention  of low and of high, each beside mid: conv 3x3 128-128, conv 3x3 128-64, sigmoid; times the features
    merge      low, mid, high: conv 3x3 192-64
    blocks     three times: five 3x3 with dilation 2 that add 32 channels each, then 1x1 224-64 plus the block's input
    output     all three blocks: 1x1 192-64, 3x3, plus the features of mid, 3x3, 3x3 64-3, sigmoid

Kept: zeros around every convolution; leaky ReLU 0.01 on the features and within the attention, ReLU within the blocks,
none elsewhere; the other exposure before mid in the attention; PyTorch's start, uniform within 1 / sqrt(fan in).

Changed:
- `filters` and `growth` scale the widths, `kernel_size` the kernels; the defaults are the original's.

The original reads its pictures with OpenCV, so that its checkpoints expect channels blue, green, red, and give them;
tools/convert_checkpoint.py turns them round.
"""

import keras
from keras import ops

from hdr_tf.models import blocks

BLOCKS = 3
DENSE = 5  # convolutions of a block that add channels


def ahdrnet(filters: int = 64, growth: int = 32, kernel_size: int = 3, name: str = "ahdrnet") -> keras.Model:
    """Builds the network.

    Args:
        filters: channels of the features.
        growth: channels that each convolution of a dense block adds.
        kernel_size: of the convolutions of 3x3; with 1 the network sees single pixels.
        name: name of the model.

    Returns:
        A model {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", "hdr_mid", "hdr_high": [B, H, W, 3]}, in the ranges above, ->
        {"hdr": [B, H, W, 3] in 0..1}.

    Example:
        model = ahdrnet(filters=8, growth=4)
        pictures = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(pictures)["hdr"].shape  # (1, 24, 32, 3)
    """
    inputs, exposures = blocks.radiance_inputs()
    encode = blocks.torch_convolution(6, filters, kernel_size, "features", padding="same")
    low, mid, high = (ops.leaky_relu(encode(exposure), 0.01) for exposure in exposures)
    low = blocks.spatial_attention(low, mid, "low_attention", kernel_size)
    high = blocks.spatial_attention(high, mid, "high_attention", kernel_size)
    x = _conv(ops.concatenate([low, mid, high], axis=-1), filters, kernel_size, "merge")
    found = []
    for i in range(1, BLOCKS + 1):
        x = _dense_block(x, growth, kernel_size, f"block{i}")
        found.append(x)
    x = _conv(ops.concatenate(found, axis=-1), filters, 1, "blocks_merge")
    x = _conv(x, filters, kernel_size, "blocks_conv") + mid
    x = _conv(_conv(x, filters, kernel_size, "output_conv"), 3, kernel_size, "output")
    return keras.Model(inputs, {"hdr": blocks.radiance(x)}, name=name)


def _dense_block(x, growth, kernel_size, name):
    parts = [x]
    for i in range(1, DENSE + 1):
        y = _conv(_append(parts), growth, kernel_size, f"{name}_conv{i}", dilation_rate=2, activation="relu")
        parts.append(y)
    return x + _conv(_append(parts), x.shape[-1], 1, f"{name}_merge")


def _append(parts):
    return ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def _conv(x, filters, size, name, **arguments):
    return blocks.torch_convolution(x.shape[-1], filters, size, name, padding="same", **arguments)(x)


def original_names() -> dict[str, str]:
    """The original's parameter for each path of `ahdrnet`, such as "merge/kernel": "conv2.weight"."""
    modules = {"features": "conv1", "merge": "conv2"}
    for side, number in (("low", 1), ("high", 3)):
        modules |= {f"{side}_attention_conv{i}": f"att{number}{i}" for i in (1, 2)}
    for block in range(1, BLOCKS + 1):
        modules |= {f"block{block}_conv{i + 1}": f"RDB{block}.dense_layers.{i}.conv" for i in range(DENSE)}
        modules[f"block{block}_merge"] = f"RDB{block}.conv_1x1"
    modules |= {"blocks_merge": "GFF_1x1", "blocks_conv": "GFF_3x3", "output_conv": "conv_up", "output": "conv3"}
    return blocks.torch_names(modules)
