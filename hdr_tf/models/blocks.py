"""What several published networks share: the smallest size, reflect-padded convolutions, DenseFuse's encoder and decoder.

Everything here works on [B, H, W, C] float tensors whose H and W are unknown when the graph is made. Convolutions are
made by `torch_convolution`, which starts from PyTorch's defaults, because every network that uses them was published in
PyTorch.
"""

import keras
from keras import ops

MINIMUM_SIZE = 8  # pixels, height and width: below it a picture is mostly padding for every network here


@keras.saving.register_keras_serializable(package="hdr_tf")
class MinimumSize(keras.layers.Layer):
    """Hands on pictures [B, H, W, C]; raises ValueError where H or W is known and below `MINIMUM_SIZE`."""

    def call(self, pictures):
        height, width = pictures.shape[1:3]
        if any(isinstance(size, int) and size < MINIMUM_SIZE for size in (height, width)):  # else not known yet
            expected = f"{MINIMUM_SIZE}x{MINIMUM_SIZE}"
            raise ValueError(f"expected pictures of at least {expected} pixels, found {height}x{width}")
        return pictures


def picture_inputs(names, channels: int) -> tuple[dict, list]:
    """Makes the inputs of a fusion network.

    Args:
        names: one name for each exposure.
        channels: of each picture.

    Returns:
        The dict of named `keras.Input`, [B, H, W, channels], and in the same order the pictures behind a check of their
        size.
    """
    inputs = {name: keras.Input((None, None, channels), name=name) for name in names}
    return inputs, [MinimumSize(name=f"{name}_size", dtype="float32")(picture) for name, picture in inputs.items()]


def torch_convolution(channels: int, filters: int, size: int, name: str, **arguments) -> keras.layers.Conv2D:
    """A convolution with bias that starts as torch.nn.Conv2d does: every value uniform within 1 / sqrt(fan in)."""
    bound = (channels * size * size) ** -0.5
    return keras.layers.Conv2D(
        filters,
        size,
        kernel_initializer=keras.initializers.RandomUniform(-bound, bound),
        bias_initializer=keras.initializers.RandomUniform(-bound, bound),
        name=name,
        **arguments,
    )


def reflect_pad(x):
    """Surrounds pictures by one mirrored pixel, the border itself not repeated: [B, H, W, C] -> [B, H + 2, W + 2, C].

    As `ops.pad` in its mode "reflect", but by concatenation, which TensorFlow does three times as fast on a CPU.
    """
    x = ops.concatenate([x[:, 1:2], x, x[:, -2:-1]], axis=1)
    return ops.concatenate([x[:, :, 1:2], x, x[:, :, -2:-1]], axis=2)


def dense_encoder(picture, names):
    """DenseFuse's encoder: a convolution, then three that see all channels before them, 16 each: [B, H, W, C] -> [B, H, W, 64].

    Args:
        picture: [B, H, W, C].
        names: of the four convolutions.
    """
    first, *dense = names
    parts = [_convolution(reflect_pad(picture), 16, first)]
    padded = []  # each part is padded once, not again in every concatenation
    for name in dense:
        padded.append(reflect_pad(parts[-1]))
        parts.append(_convolution(ops.concatenate(padded, axis=-1), 16, name))
    return ops.concatenate(parts, axis=-1)


def dense_decoder(features, channels: int, names):
    """DenseFuse's decoder: four convolutions, [B, H, W, 64] -> [B, H, W, channels]; the last has a ReLU as well.

    Args:
        features: [B, H, W, 64].
        channels: of the picture.
        names: of the four convolutions.
    """
    for filters, name in zip((64, 32, 16, channels), names, strict=True):
        features = _convolution(reflect_pad(features), filters, name)
    return features


def _convolution(padded, filters, name):
    return torch_convolution(padded.shape[-1], filters, 3, name, activation="relu")(padded)


def torch_names(convolutions: dict[str, str]) -> dict[str, str]:
    """The weight map {variable path: PyTorch name} of convolutions {layer name: name of the PyTorch module}."""
    kinds = (("kernel", "weight"), ("bias", "bias"))
    return {f"{layer}/{ours}": f"{module}.{theirs}" for layer, module in convolutions.items() for ours, theirs in kinds}
