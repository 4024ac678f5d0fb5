"""SCTNet: window attention within the three exposures together, and attention from the reference's channels to the others'.

Steven Tel, Zongwei Wu, Yulun Zhang, Barthélémy Heyrman, Cédric Demonceaux, Radu Timofte, Dominique Ginhac: "Alignment-free HDR
Deghosting with Semantics Consistent Transformer", ICCV 2023, https://arxiv.org/abs/2305.18135. Original code: SelfHDR
trains it, https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/sctnet.py.

Each exposure comes twice, [B, H, W, 3] float32: `ldr_*`, the picture, 0..1, and `hdr_*`, its radiance ldr**2.2 / exposure,
from 0, above 1 where the exposure is below 1. The result `hdr` is radiance in 0..1. H and W are at least 8, of any size.

    features  of each exposure, radiance before the picture: conv 3x3 6-20, one for each; low, mid, high: norm (the skips, 20
              each), perceptron
    groups    four times: six blocks of window attention (8x8, every other one's shifted) and perceptron, conv 3x3, plus the
              group's input; each third plus its skip, then the attention of mid's channels to those of low and to those of
              high; low, mid, high: perceptron
    output    norm, conv 3x3, plus conv 3x3 20-60 of mid's features, conv 3x3 60-3, sigmoid

The attention among channels is summed over the whole picture, so that a picture in tiles gives another result.

Kept: zeros around every convolution, no activation between them; 4 heads of 5 channels among channels, whose queries and keys
have length 1 and whose products are scaled by a learned temperature; PyTorch's start of convolutions, a deviation of 0.02
for dense layers and the attention's bias; in training a block's two parts are skipped with a probability that rises to 0.1.

Changed:
- The original mirrors pictures at the bottom and on the right up to multiples of 8, which is kept, and leaves its result so;
  here it is cropped. Its test script pads at all sides, and by 8 where nothing is missing: `test_padding`.
- `filters`, `heads` and `depths` scale the network; the defaults are the original's.

The original reads its pictures with OpenCV, so that its checkpoints expect channels blue, green, red, and give them;
tools/convert_checkpoint.py turns them round.
"""

from collections.abc import Sequence

import keras
from keras import ops

from hdr_tf.models import blocks

CHANNEL_HEADS = 4
DEPTHS = (6, 6, 6, 6)


def sctnet(
    filters: int = 60,
    heads: int = 6,
    depths: Sequence[int] = DEPTHS,
    drop: float = 0.1,
    test_padding: bool = False,
    name: str = "sctnet",
) -> keras.Model:
    """Builds the network.

    Args:
        filters: channels of the three exposures together, a multiple of `heads` and of 12.
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
        ValueError: the filters are no multiple of the heads or of 12.

    Example:
        model = sctnet(depths=(2,))
        pictures = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(pictures)["hdr"].shape  # (1, 24, 32, 3)
    """
    if filters % heads or filters % (3 * CHANNEL_HEADS):
        raise ValueError(f"expected filters in multiples of the {heads} heads and of {3 * CHANNEL_HEADS}, found {filters}")
    inputs, exposures = blocks.radiance_inputs()
    padded = [blocks.PadToMultiple(blocks.WINDOW, around=test_padding)(exposure) for exposure in exposures]
    features = [_conv(x, filters // 3, f"{side}_conv") for side, x in zip(blocks.EXPOSURE_NAMES, padded, strict=True)]
    skips = blocks.layer_norm(ops.concatenate(features, axis=-1), "features_norm")

    x = blocks.perceptron(skips, filters, "features_mlp")
    for group, rates in enumerate(blocks.drop_rates(depths, drop), start=1):
        y = x
        for i, rate in enumerate(rates):
            y, _ = blocks.swin_block(y, heads, i % 2 == 1, rate, f"group{group}_block{i + 1}")
        x = x + _conv(y, filters, f"group{group}_conv")
        low, mid, high = ops.split(x + skips, 3, axis=-1)
        low, high = _cross(mid, low, f"group{group}_low"), _cross(mid, high, f"group{group}_high")
        x = blocks.perceptron(ops.concatenate([low, mid, high], axis=-1), filters, f"group{group}_mlp")

    x = _conv(blocks.layer_norm(x, "groups_norm"), filters, "groups_conv") + _conv(features[1], filters, "mid_skip")
    x = blocks.CropLike(around=test_padding)([_conv(x, 3, "output"), exposures[1]])
    return keras.Model(inputs, {"hdr": blocks.radiance(x)}, name=name)


@keras.saving.register_keras_serializable(package="hdr_tf")
class ChannelAttention(keras.layers.Layer):
    """Attention of the channels of one picture to those of another within each head, over all pixels.

    Queries, keys and values, each [B, H, W, C] -> [B, H, W, C]. The product of a query and a key channel, of length 1 each, is
    multiplied by the head's temperature.
    """

    def __init__(self, heads: int = CHANNEL_HEADS, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shapes):
        self.temperature = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="temperature")

    def call(self, parts):
        shape = ops.shape(parts[0])
        query, key, value = (ops.reshape(x, (-1, shape[1] * shape[2], self.heads, shape[3] // self.heads)) for x in parts)
        product = ops.einsum("bnhc,bnhd->bhcd", query, key)
        length = _length(query)[..., None] * _length(key)[..., None, :]
        weights = ops.softmax(product / length * self.temperature)
        return ops.reshape(ops.einsum("bhcd,bnhd->bnhc", weights, value), (-1, *shape[1:]))

    def compute_output_shape(self, shapes):
        return shapes[0]

    def get_config(self):
        return super().get_config() | {"heads": self.heads}


def _length(x):
    """[B, heads, channels]: root of the sum of squares over the pixels, at least 1e-12 as PyTorch's `normalize` has it."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=1), 1e-24))


def _cross(mid, other, name):
    """Mid plus its attention to another exposure, and a perceptron of four times the width: [B, H, W, C] -> [B, H, W, C]."""
    x, y = blocks.layer_norm(mid, f"{name}_norm_mid"), blocks.layer_norm(other, f"{name}_norm_other")
    parts = [_conv(z, z.shape[-1], f"{name}_{part}", size=1) for part, z in (("query", x), ("key", y), ("value", y))]
    x = ChannelAttention(name=f"{name}_attention")(parts)
    x = mid + _conv(x, x.shape[-1], f"{name}_projection", size=1)
    return x + blocks.perceptron(blocks.layer_norm(x, f"{name}_norm2"), 4 * x.shape[-1], f"{name}_mlp")


def _conv(x, filters, name, size=3):
    return blocks.torch_convolution(x.shape[-1], filters, size, name, padding="same", use_bias=size > 1)(x)


def original_names() -> dict[str, str]:
    """The original's parameter for each path of `sctnet`, such as "mid_skip/kernel": "conv_end.weight"."""
    modules = {f"{side}_conv": f"conv{i}" for i, side in enumerate(blocks.EXPOSURE_NAMES, start=1)}
    modules |= {"mid_skip": "conv_end", "groups_conv": "conv_after_body", "output": "upsample.0"}
    norms = {"features_norm": "patch_embed.norm", "groups_norm": "norm"}
    perceptrons, names = {"features_mlp": "conv_first"}, {}
    for group, depth in enumerate(DEPTHS):
        ours = f"group{group + 1}"
        modules[f"{ours}_conv"] = f"layers.{group}.conv"
        perceptrons[f"{ours}_mlp"] = f"mlps.{group}"
        for i in range(depth):
            names |= blocks.swin_names(f"{ours}_block{i + 1}", f"layers.{group}.residual_group.blocks.{i}")
        for side, letter in (("low", "l"), ("high", "r")):
            cross, theirs = f"{ours}_{side}", f"channel_layers_{letter}m.{group}"
            perceptrons[f"{cross}_mlp"] = f"{theirs}.ffn"
            norms |= {f"{cross}_norm_{which}": f"{theirs}.norm1_{axis}.body" for which, axis in (("mid", "x"), ("other", "y"))}
            norms[f"{cross}_norm2"] = f"{theirs}.norm2"
            kernels = {"query": "q", "key": "k", "value": "v", "projection": "project_out"}
            names |= {f"{cross}_{part}/kernel": f"{theirs}.attn.{letter}.weight" for part, letter in kernels.items()}
            names[f"{cross}_attention/temperature"] = f"{theirs}.attn.temperature"
    modules |= {f"{mlp}{i}": f"{theirs}.fc{i}" for mlp, theirs in perceptrons.items() for i in (1, 2)}
    return names | blocks.norm_names(norms) | blocks.torch_names(modules)
