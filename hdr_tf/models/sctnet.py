"""SCTNet, trained by SelfHDR: merges three exposures by window attention and attention among channels.

Steven Tel, Zongwei Wu, Yulun Zhang, Barthélémy Heyrman, Cédric Demonceaux, Radu Timofte, Dominique Ginhac: "Alignment-free HDR
Deghosting with Semantics Consistent Transformer", ICCV 2023, https://arxiv.org/abs/2305.18135. Original code:
https://github.com/cszhilu1998/SelfHDR (9e8af4a), models/sctnet.py. Inputs and output: see `blocks.radiance_inputs`.

    features  radiance and image of each exposure: conv 3x3 6-20, each with its own weights; low, mid, high: norm (these are the
              skips, 20 channels each), perceptron
    groups    four times: six blocks of window attention (8x8, shifted in every other block) and perceptron, conv 3x3, plus the
              group's input; each third plus its skip; attention of mid's channels to those of low, and to those of high; low,
              mid, high: perceptron
    output    norm, conv 3x3, plus conv 3x3 20-60 of mid's features, conv 3x3 60-3, sigmoid

Attention among channels sums over the whole image, so running the network in tiles would change the result.

Kept: zero padding, no activation between convolutions; among channels 4 heads of 5 channels, whose queries and keys have length
1 and whose products are scaled by a learned temperature; initial values and stochastic depth, see `blocks.swin_block`.

Changed: RGB instead of BGR. Images are mirrored at the bottom and on the right to multiples of 8, as in the original, but the
result is then cropped. `filters`, `heads` and `depths` scale the network; the defaults are the original's.
"""

from collections.abc import Sequence

import keras
from keras import ops

from hdr_tf.models import blocks

CHANNEL_HEADS = 4
LEAST_LENGTH = 1e-12  # as in PyTorch's `normalize`; its square needs float32
DEPTHS = (6, 6, 6, 6)

sizes = blocks.swin_sizes  # arguments, from shapes of weights


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
        heads: heads of the window attention.
        depths: number of blocks in each group.
        drop: probability that training skips the two parts of the last block; it rises linearly from 0 at the first block.
        test_padding: whether to pad as the original's test script does, by 8 - size % 8 in all, half of it at the top and on
            the left; this changes the result at every size.

    Example:
        model = sctnet(depths=(2,))
        images = {name: keras.random.uniform((1, 24, 32, 3)) for name in model.input}
        model(images)["hdr"].shape  # (1, 24, 32, 3)
    """
    if filters % heads or filters % (3 * CHANNEL_HEADS):
        raise ValueError(f"expected filters in multiples of the {heads} heads and of {3 * CHANNEL_HEADS}, found {filters}")
    inputs, exposures = blocks.radiance_inputs()
    padded = [blocks.PadToMultiple(blocks.WINDOW, around=test_padding)(exposure) for exposure in exposures]
    sides = zip(blocks.EXPOSURE_NAMES, padded, strict=True)
    features = [blocks.convolve(x, filters // 3, 3, f"{side}_conv") for side, x in sides]
    skips = blocks.layer_norm(ops.concatenate(features, axis=-1), "features_norm")

    x = blocks.perceptron(skips, filters, "features_mlp")
    for group, rates in enumerate(blocks.drop_rates(depths, drop), start=1):
        y = x
        for i, rate in enumerate(rates):
            y, _ = blocks.swin_block(y, heads, i % 2 == 1, rate, f"group{group}_block{i + 1}")
        x = x + blocks.convolve(y, filters, 3, f"group{group}_conv")
        low, mid, high = ops.split(x + skips, 3, axis=-1)
        low, high = _cross(mid, low, f"group{group}_low"), _cross(mid, high, f"group{group}_high")
        x = blocks.perceptron(ops.concatenate([low, mid, high], axis=-1), filters, f"group{group}_mlp")

    x = blocks.convolve(blocks.layer_norm(x, "groups_norm"), filters, 3, "groups_conv")
    x = x + blocks.convolve(features[1], filters, 3, "mid_skip")
    x = blocks.CropLike(around=test_padding)([blocks.convolve(x, 3, 3, "output"), exposures[1]])
    return keras.Model(inputs, {"hdr": blocks.radiance_output(x)}, name=name)


@keras.saving.register_keras_serializable(package="hdr_tf")
class ChannelAttention(keras.layers.Layer):
    """Attention from the channels of one image to those of another, within each head: queries, keys and values, each
    [B, H, W, C] -> [B, H, W, C]. A query or key is a channel over all pixels, normalised to length 1; their product is
    multiplied by the head's temperature."""

    def __init__(self, heads: int = CHANNEL_HEADS, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, shapes):
        self.temperature = self.add_weight(shape=(self.heads, 1, 1), initializer="ones", name="temperature")

    def call(self, parts):
        shape = ops.shape(parts[0])
        query, key, value = (ops.reshape(x, (-1, shape[1] * shape[2], self.heads, shape[3] // self.heads)) for x in parts)
        query, key = (ops.cast(x, "float32") for x in (query, key))  # 16 bits cannot add up all pixels
        product = ops.einsum("bnhc,bnhd->bhcd", query, key)
        length = _length(query)[..., None] * _length(key)[..., None, :]
        weights = ops.cast(ops.softmax(product / length * ops.cast(self.temperature, "float32")), value.dtype)
        return ops.reshape(ops.einsum("bhcd,bnhd->bnhc", weights, value), (-1, *shape[1:]))

    def compute_output_shape(self, shapes):
        return shapes[0]

    def get_config(self):
        return super().get_config() | {"heads": self.heads}


def _length(x):
    """[B, heads, channels], float32: the root of the sum of squares over the pixels, at least `LEAST_LENGTH`."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=1), LEAST_LENGTH**2))


def _cross(mid, other, name):
    """Mid plus its attention to another exposure, then a perceptron of four times the width: [B, H, W, C] -> [B, H, W, C]."""
    x, y = blocks.layer_norm(mid, f"{name}_norm_mid"), blocks.layer_norm(other, f"{name}_norm_other")
    parts = [_mix(z, f"{name}_{part}") for part, z in (("query", x), ("key", y), ("value", y))]
    x = mid + _mix(ChannelAttention(name=f"{name}_attention")(parts), f"{name}_projection")
    return x + blocks.perceptron(blocks.layer_norm(x, f"{name}_norm2"), 4 * x.shape[-1], f"{name}_mlp")


def _mix(x, name):
    return blocks.convolve(x, x.shape[-1], 1, name, use_bias=False)


def original_names() -> dict[str, str]:
    """Returns the original's name for each variable path, such as {"mid_skip/kernel": "conv_end.weight"}."""
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
    return names | blocks.torch_names(norms, blocks.NORM) | blocks.torch_names(modules)
