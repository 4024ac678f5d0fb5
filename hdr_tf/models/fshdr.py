"""FSHDR, trained by SelfHDR: merges three aligned exposures by parallel streams, then convolutions of several dilations.

K. Ram Prabhakar, Gowtham Senthil, Susmit Agrawal, R. Venkatesh Babu, Rama Krishna Sai S Gorthi: "Labeled from Unlabeled:
Exploiting Unlabeled Data for Few-shot Deep HDR Deghosting", CVPR 2021. Original code:
https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/fshdr.py. Inputs and output: see `blocks.radiance_inputs`; at test time
the original aligns low and high with mid. An output pixel depends on inputs at most 11 pixels away.

    streams   three levels of conv 3x3, 64 channels each: one for each exposure and one for each pair (low, mid), (mid, high);
              that of a pair takes both exposures of the same level and, from the second level on, its own previous level
    dilated   conv 3x3 with dilation 1, 2, 3 in parallel, 64 each, twice: on mid and both pairs (192), then on that and the
              first result (384)
    output    the 192 and both results (576): conv 3x3 576-3, sigmoid

Kept: zero padding; leaky ReLU 0.2, but 0.3 after dilated convolutions; no weights are shared; concatenation in the order first
exposure, second exposure, pair; PyTorch's initial values, uniform within 1 / sqrt(fan in).

Changed: RGB instead of BGR. `filters` scales the width; the default is the original's.
"""

from functools import partial

import keras
from keras import ops

from hdr_tf.models import blocks

LEVELS = 3
PAIRS = {"low_mid": ("low", "mid"), "mid_high": ("mid", "high")}

sizes = partial(blocks.last_axes, filters="low_conv1/kernel")  # arguments, from shapes of weights


def fshdr(filters: int = 64, name: str = "fshdr") -> keras.Model:
    """Builds the network; `filters` is the number of channels of every convolution except the last.

    Example:
        model = fshdr(filters=8)
        images = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(images)["hdr"].shape  # (1, 24, 32, 3)
    """
    inputs, exposures = blocks.radiance_inputs()
    streams = dict(zip(blocks.EXPOSURE_NAMES, exposures, strict=True))
    pairs = {pair: [] for pair in PAIRS}
    for level in range(1, LEVELS + 1):
        streams = {side: _conv(x, filters, f"{side}_conv{level}") for side, x in streams.items()}
        for pair, sides in PAIRS.items():
            x = ops.concatenate([streams[side] for side in sides] + pairs[pair], axis=-1)
            pairs[pair] = [_conv(x, filters, f"{pair}_conv{level}")]
    x = ops.concatenate([streams["mid"], *pairs["low_mid"], *pairs["mid_high"]], axis=-1)
    first = _dilated(x, filters, "dilated1")
    second = _dilated(ops.concatenate([x, first], axis=-1), filters, "dilated2")
    x = ops.concatenate([x, first, second], axis=-1)
    return keras.Model(inputs, {"hdr": blocks.radiance_output(blocks.convolve(x, 3, 3, "output"))}, name=name)


def _dilated(x, filters, name):
    return ops.concatenate([_conv(x, filters, f"{name}_conv{i}", dilation=i, slope=0.3) for i in (1, 2, 3)], axis=-1)


def _conv(x, filters, name, dilation=1, slope=0.2):
    return ops.leaky_relu(blocks.convolve(x, filters, 3, name, dilation_rate=dilation), slope)


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"low_mid_conv1/kernel": "conv4.weight"}."""
    streams = (*blocks.EXPOSURE_NAMES, *PAIRS)
    modules = {
        f"{stream}_conv{level + 1}": f"conv{level * len(streams) + i}"
        for level in range(LEVELS)
        for i, stream in enumerate(streams, start=1)
    }
    modules |= {f"dilated{block}_conv{i}": f"sdc{block}.conv{i}" for block in (1, 2) for i in (1, 2, 3)}
    return blocks.torch_names(modules | {"output": "conv16"})
