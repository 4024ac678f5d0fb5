"""FSHDR: three exposures and two pairs of them in parallel streams, then convolutions of several dilations side by side.

K. Ram Prabhakar, Gowtham Senthil, Susmit Agrawal, R. Venkatesh Babu, Rama Krishna Sai S Gorthi: "Labeled from Unlabeled:
Exploiting Unlabeled Data for Few-shot Deep HDR Deghosting", CVPR 2021. Original code: SelfHDR trains the network,
https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/fshdr.py.

Each exposure comes twice, [B, H, W, 3] float32: `ldr_*`, the picture, 0..1, and `hdr_*`, its radiance ldr**2.2 / exposure,
from 0, above 1 where the exposure is below 1. At test time the original takes low and high aligned with mid. The result
`hdr` is radiance in 0..1. H and W are at least 8, of any size. A pixel of the result sees 11 pixels far.

    streams   three levels, 64 channels each: a conv 3x3 of each exposure and one of each pair (low, mid) and (mid, high),
              which sees both exposures and, from the second level on, what the pair had before
    dilated   twice, on mid and both pairs (192), then on that and what the first gave (384): conv 3x3 with dilation 1, 2, 3
              side by side, 64 each
    output    192 and both results (576): conv 3x3 576-3, sigmoid

At the second level the pair sees the exposures of the second level and itself of the first, and so on: (low, mid, pair).

Kept: zeros around every convolution; leaky ReLU 0.2, after dilated convolutions 0.3; no weights are shared; PyTorch's start,
uniform within 1 / sqrt(fan in).

Changed:
- `filters` scales the width; the default is the original's.

The original reads its pictures with OpenCV, so that its checkpoints expect channels blue, green, red, and give them;
tools/convert_checkpoint.py turns them round.
"""

import keras
from keras import ops

from hdr_tf.models import blocks

LEVELS = 3
PAIRS = {"low_mid": ("low", "mid"), "mid_high": ("mid", "high")}


def fshdr(filters: int = 64, name: str = "fshdr") -> keras.Model:
    """Builds the network.

    Args:
        filters: channels of every convolution but the last.
        name: name of the model.

    Returns:
        A model {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", "hdr_mid", "hdr_high": [B, H, W, 3]}, in the ranges above, ->
        {"hdr": [B, H, W, 3] in 0..1}.

    Example:
        model = fshdr(filters=8)
        pictures = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(pictures)["hdr"].shape  # (1, 24, 32, 3)
    """
    inputs, exposures = blocks.radiance_inputs()
    streams = dict(zip(blocks.EXPOSURE_NAMES, exposures, strict=True))
    pairs = {pair: [] for pair in PAIRS}
    for level in range(1, LEVELS + 1):
        streams = {side: _conv(x, filters, f"{side}_conv{level}") for side, x in streams.items()}
        for pair, sides in PAIRS.items():
            seen = ops.concatenate([streams[side] for side in sides] + pairs[pair], axis=-1)
            pairs[pair] = [_conv(seen, filters, f"{pair}_conv{level}")]
    x = ops.concatenate([streams["mid"], *pairs["low_mid"], *pairs["mid_high"]], axis=-1)
    first = _dilated(x, filters, "dilated1")
    second = _dilated(ops.concatenate([x, first], axis=-1), filters, "dilated2")
    x = ops.concatenate([x, first, second], axis=-1)
    x = blocks.torch_convolution(x.shape[-1], 3, 3, "output", padding="same")(x)
    return keras.Model(inputs, {"hdr": blocks.radiance(x)}, name=name)


def _dilated(x, filters, name):
    return ops.concatenate([_conv(x, filters, f"{name}_conv{i}", dilation=i, slope=0.3) for i in (1, 2, 3)], axis=-1)


def _conv(x, filters, name, dilation=1, slope=0.2):
    convolution = blocks.torch_convolution(x.shape[-1], filters, 3, name, padding="same", dilation_rate=dilation)
    return ops.leaky_relu(convolution(x), slope)


def original_names() -> dict[str, str]:
    """The original's parameter for each path of `fshdr`, such as "low_mid_conv1/kernel": "conv4.weight"."""
    streams = (*blocks.EXPOSURE_NAMES, *PAIRS)
    modules = {
        f"{stream}_conv{level + 1}": f"conv{level * len(streams) + i}"
        for level in range(LEVELS)
        for i, stream in enumerate(streams, start=1)
    }
    modules |= {f"dilated{block}_conv{i}": f"sdc{block}.conv{i}" for block in (1, 2) for i in (1, 2, 3)}
    return blocks.torch_names(modules | {"output": "conv16"})
