"""AHDRNet, trained by SelfHDR: merges three exposures by attention to the reference, then dilated dense blocks.

Qingsen Yan, Dong Gong, Qinfeng Shi, Anton van den Hengel, Chunhua Shen, Ian Reid, Yanning Zhang: "Attention-guided Network
for Ghost-free High Dynamic Range Imaging", CVPR 2019, https://arxiv.org/abs/1904.10293. Original code:
https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/ahdrnet.py. Inputs and output: see `blocks.radiance_inputs`. An output
pixel depends on inputs at most 37 pixels away.

    features   radiance and image of each exposure: conv 3x3 6-64 with shared weights
    attention  low with mid, high with mid: conv 3x3 128-128, conv 3x3 128-64, sigmoid; multiplies the features
    merge      low, mid, high: conv 3x3 192-64
    blocks     three times: five 3x3 with dilation 2 that add 32 channels each, then 1x1 224-64, plus the block's input
    output     all three blocks: 1x1 192-64, 3x3, plus the features of mid, 3x3, 3x3 64-3, sigmoid

Kept: zero padding; leaky ReLU 0.01 after the features and within the attention, ReLU within the blocks, none elsewhere; in the
attention the other exposure comes before mid; PyTorch's initial values, uniform within 1 / sqrt(fan in).

Changed: RGB instead of BGR. `filters` and `growth` scale the widths, `kernel_size` the kernels; defaults are the original's.
"""

from functools import partial

import keras
from keras import ops

from hdr_tf.models import blocks

BLOCKS = 3
DENSE = 5  # convolutions of a block before its 1x1

sizes = partial(blocks.last_axes, filters="features/kernel", growth="block1_conv1/kernel")  # arguments, from shapes of weights


def ahdrnet(filters: int = 64, growth: int = 32, kernel_size: int = 3, name: str = "ahdrnet") -> keras.Model:
    """Builds the network.

    Args:
        filters: channels of the features.
        growth: channels that each convolution of a dense block adds.
        kernel_size: side of the 3x3 kernels; with 1 each pixel is processed on its own.

    Example:
        model = ahdrnet(filters=8, growth=4)
        images = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(images)["hdr"].shape  # (1, 24, 32, 3)
    """
    inputs, exposures = blocks.radiance_inputs()
    encode = blocks.torch_convolution(6, filters, kernel_size, "features", padding="same")
    low, mid, high = (ops.leaky_relu(encode(exposure), 0.01) for exposure in exposures)
    low = blocks.spatial_attention(low, mid, "low_attention", kernel_size)
    high = blocks.spatial_attention(high, mid, "high_attention", kernel_size)
    x = blocks.convolve(ops.concatenate([low, mid, high], axis=-1), filters, kernel_size, "merge")
    results = []
    for i in range(1, BLOCKS + 1):
        x = _dense_block(x, growth, kernel_size, f"block{i}")
        results.append(x)
    x = blocks.convolve(ops.concatenate(results, axis=-1), filters, 1, "blocks_merge")
    x = blocks.convolve(x, filters, kernel_size, "blocks_conv") + mid
    x = blocks.convolve(blocks.convolve(x, filters, kernel_size, "output_conv"), 3, kernel_size, "output")
    return keras.Model(inputs, {"hdr": blocks.radiance_output(x)}, name=name)


def _dense_block(x, growth, kernel_size, name):
    y, parts = x, [x]
    for i in range(1, DENSE + 1):
        parts.append(blocks.convolve(y, growth, kernel_size, f"{name}_conv{i}", dilation_rate=2, activation="relu"))
        y = ops.concatenate(parts, axis=-1)
    return x + blocks.convolve(y, x.shape[-1], 1, f"{name}_merge")


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"merge/kernel": "conv2.weight"}."""
    modules = {"features": "conv1", "merge": "conv2"}
    for side, number in (("low", 1), ("high", 3)):
        modules |= {f"{side}_attention_conv{i}": f"att{number}{i}" for i in (1, 2)}
    for block in range(1, BLOCKS + 1):
        modules |= {f"block{block}_conv{i + 1}": f"RDB{block}.dense_layers.{i}.conv" for i in range(DENSE)}
        modules[f"block{block}_merge"] = f"RDB{block}.conv_1x1"
    modules |= {"blocks_merge": "GFF_1x1", "blocks_conv": "GFF_3x3", "output_conv": "conv_up", "output": "conv3"}
    return blocks.torch_names(modules)
