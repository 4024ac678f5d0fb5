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


def exposure_names(exposures: int) -> tuple[str, ...]:
    """The inputs, dark to bright, of a network that was published for two; ValueError for fewer than two."""
    if exposures < 2:
        raise ValueError(f"expected at least 2 exposures, found {exposures}")
    return ("under", "over") if exposures == 2 else tuple(f"exposure_{i}" for i in range(1, exposures + 1))


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


def dense_encoder(pictures, names) -> list:
    """DenseFuse's encoder: a convolution, then three that see all channels before them, 16 each: [B, H, W, C] -> [B, H, W, 64].

    Args:
        pictures: list of [B, H, W, C]; the same weights for each.
        names: of the four convolutions.
    """
    channels = pictures[0].shape[-1]
    first, *dense = (torch_convolution(inputs, 16, 3, name) for inputs, name in zip((channels, 16, 32, 48), names, strict=True))

    def encode(picture):
        parts = [ops.relu(first(reflect_pad(picture)))]
        padded = []  # each part is padded once, not again in every concatenation
        for convolution in dense:
            padded.append(reflect_pad(parts[-1]))
            parts.append(ops.relu(convolution(ops.concatenate(padded, axis=-1))))
        return ops.concatenate(parts, axis=-1)

    return [encode(picture) for picture in pictures]


def dense_decoder(features, channels: int, names):
    """DenseFuse's decoder: four convolutions, [B, H, W, 64] -> [B, H, W, channels]; the last has a ReLU as well.

    Args:
        features: [B, H, W, 64].
        channels: of the picture.
        names: of the four convolutions.
    """
    for filters, name in zip((64, 32, 16, channels), names, strict=True):
        features = ops.relu(torch_convolution(features.shape[-1], filters, 3, name)(reflect_pad(features)))
    return features


@keras.saving.register_keras_serializable(package="hdr_tf")
class PadToMultiple(keras.layers.Layer):
    """Mirrors pictures [B, H, W, C] at the bottom and on the right, the border itself not repeated, so that H and W become
    multiples of `multiple`, which H and W may not be below."""

    def __init__(self, multiple: int, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x):
        return self._pad(self._pad(x, 1), 2)

    def _pad(self, x, axis):
        size = ops.shape(x)[axis]
        missing = -size % self.multiple
        if isinstance(missing, int) and missing == 0:
            return x
        end = (slice(None),) * axis + (slice(size - 1 - missing, size - 1),)
        return ops.concatenate([x, ops.flip(x[end], axis)], axis)

    def compute_output_shape(self, shape):
        sizes = [size and size + -size % self.multiple for size in shape[1:3]]
        return (shape[0], *sizes, shape[3])

    def get_config(self):
        return super().get_config() | {"multiple": self.multiple}


@keras.saving.register_keras_serializable(package="hdr_tf")
class CropLike(keras.layers.Layer):
    """Cuts pictures [B, H, W, C] at the bottom and on the right to the height and width of a second picture."""

    def call(self, pair):
        x, like = pair
        return x[:, : ops.shape(like)[1], : ops.shape(like)[2]]

    def compute_output_shape(self, shapes):
        x, like = shapes
        return (x[0], like[1], like[2], x[3])


@keras.saving.register_keras_serializable(package="hdr_tf")
class EnlargingConvolution(keras.layers.Conv2D):
    """A convolution, odd in size and padded with zeros, of a picture that is enlarged by two: each pixel becomes 2x2 equal
    ones, [B, H, W, C] -> [B, 2 H, 2 W, filters].

    The kernel is that of the plain convolution. Of its 5x5 taps those that meet the same pixel are added up beforehand,
    which makes four kernels of 3x3, one for each pixel of the 2x2, and the large picture is never made: 36 products
    instead of 100, of the same value within float32.
    """

    def __init__(self, filters: int, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **{"padding": "same"} | kwargs)

    def call(self, x):
        (rows, columns), filters = self.kernel_size, self.filters
        kernel = ops.einsum("pat,qbu,tuio->abipqo", self._taps(rows), self._taps(columns), self.kernel)
        kernel = ops.reshape(kernel, (*kernel.shape[:3], 4 * filters))
        x = ops.conv(x, kernel, padding="same")
        # As ops.depth_to_space, which Keras has from 3.15 on: rows of the 2x2 between the rows, columns lie there already.
        height, width = ops.shape(x)[1:3]
        x = ops.transpose(ops.reshape(x, (-1, height, width, 2, 2 * filters)), (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, 2 * height, 2 * width, filters)) + self.bias

    def _taps(self, size):
        """[2, taps on the small picture, taps]: 1 where the tap, from the first or second of two pixels, meets the pixel."""
        half = size // 2
        reach = (half + 1) // 2
        meets = [
            [[(pixel + tap) // 2 == at for tap in range(-half, half + 1)] for at in range(-reach, reach + 1)]
            for pixel in (0, 1)
        ]
        return ops.cast(ops.array(meets), self.compute_dtype)

    def compute_output_shape(self, shape):
        return (shape[0], *(size and 2 * size for size in shape[1:3]), self.filters)


@keras.saving.register_keras_serializable(package="hdr_tf")
class UnbiasedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation whose moving variance is the unbiased one, as PyTorch and TensorFlow's fused kernel keep it; Keras
    keeps the biased one."""

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        kept = self.moving_variance * self.momentum
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), kept.dtype)
            self.moving_variance.assign(kept + (self.moving_variance - kept) * count / (count - 1))
        return outputs


def torch_names(convolutions: dict[str, str]) -> dict[str, str]:
    """The weight map {variable path: PyTorch name} of convolutions {layer name: name of the PyTorch module}."""
    kinds = (("kernel", "weight"), ("bias", "bias"))
    return {f"{layer}/{ours}": f"{module}.{theirs}" for layer, module in convolutions.items() for ours, theirs in kinds}
