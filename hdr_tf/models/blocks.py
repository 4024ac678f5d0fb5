"""What several published networks share: the smallest size, reflect-padded convolutions, DenseFuse's encoder and decoder,
attention to a reference and within windows.

Everything here works on [B, H, W, C] float tensors whose H and W are unknown when the graph is made. Convolutions are
made by `torch_convolution`, which starts from PyTorch's defaults, because every network that uses them was published in
PyTorch.
"""

import keras
from keras import ops

MINIMUM_SIZE = 8  # pixels, height and width: below it a picture is mostly padding for every network here
DISPLAY_GAMMA = 2.2  # of the exposures: a value v shows v**2.2 of the light
EXPOSURE_NAMES = ("low", "mid", "high")  # three exposures; the middle one is the reference
EXPOSURES = tuple(f"{kind}_{name}" for kind in ("ldr", "hdr") for name in EXPOSURE_NAMES)  # inputs: images and their radiance
WINDOW = 8  # pixels, height and width of an attention window
SHIFT = WINDOW // 2  # of every other block's windows
MASKED = -100.0  # added to the attention between pixels that meet in a window but are no neighbours


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


def radiance_inputs() -> tuple[dict, list]:
    """Makes the inputs of a network that SelfHDR trains: of each exposure `ldr_*`, the image, and `hdr_*`, its radiance.

    Returns:
        The dict of named `keras.Input`, [B, H, W, 3], and for each exposure its radiance and the picture behind it,
        [B, H, W, 6].
    """
    inputs, pictures = picture_inputs(EXPOSURES, channels=3)
    ldr, hdr = pictures[:3], pictures[3:]
    return inputs, [ops.concatenate(pair, axis=-1) for pair in zip(hdr, ldr, strict=True)]


def with_radiance(pictures: dict, exposures) -> dict:
    """The inputs of such a network: pictures {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] in 0..1} and of exposures [B, 3]
    their radiance `hdr_*`, ldr**2.2 / (exposure + 1e-8), as cszhilu1998/SelfHDR 9e8af4a has it (data/sig17align_dataset.py,
    util/util.py)."""
    ldr = {side: ops.convert_to_tensor(pictures[f"ldr_{side}"]) for side in EXPOSURE_NAMES}
    divisors = ops.split(ops.reshape(exposures + 1e-8, (-1, 3, 1, 1, 1)), 3, axis=1)
    radiance = {f"hdr_{side}": ldr[side] ** DISPLAY_GAMMA / divisor[:, 0] for side, divisor in zip(ldr, divisors, strict=True)}
    return {f"ldr_{side}": picture for side, picture in ldr.items()} | radiance


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
    """Mirrors pictures [B, H, W, C], the border itself not repeated, so that H and W become multiples of `multiple`, which they
    may not be below.

    Args:
        multiple: in pixels.
        around: False pads at the bottom and on the right, and nothing where nothing is missing. True pads half before and the
            rest after, and where nothing is missing a whole `multiple` more, as SelfHDR does at test time.
    """

    def __init__(self, multiple: int, around: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.multiple, self.around = multiple, around

    def call(self, x):
        return self._pad(self._pad(x, 1), 2)

    def _pad(self, x, axis):
        size = ops.shape(x)[axis]
        missing = self._missing(size)
        if isinstance(missing, int) and missing == 0:
            return x
        before = missing // 2 if self.around else 0
        after = missing - before
        start = ops.flip(x[(slice(None),) * axis + (slice(1, before + 1),)], axis)
        end = ops.flip(x[(slice(None),) * axis + (slice(size - 1 - after, size - 1),)], axis)
        return ops.concatenate([start, x, end] if self.around else [x, end], axis)

    def _missing(self, size):
        return self.multiple - size % self.multiple if self.around else -size % self.multiple

    def compute_output_shape(self, shape):
        return (shape[0], *(size and size + self._missing(size) for size in shape[1:3]), shape[3])

    def get_config(self):
        return super().get_config() | {"multiple": self.multiple, "around": self.around}


@keras.saving.register_keras_serializable(package="hdr_tf")
class CropLike(keras.layers.Layer):
    """Cuts pictures [B, H, W, C] to the height and width of a second picture.

    Args:
        around: False cuts at the bottom and on the right; True undoes `PadToMultiple` of the same argument.
    """

    def __init__(self, around: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.around = around

    def call(self, pair):
        x, like = pair
        height, width = ops.shape(like)[1:3]
        if self.around:
            x = x[:, (ops.shape(x)[1] - height) // 2 :, (ops.shape(x)[2] - width) // 2 :]
        return x[:, :height, :width]

    def compute_output_shape(self, shapes):
        x, like = shapes
        return (x[0], like[1], like[2], x[3])

    def get_config(self):
        return super().get_config() | {"around": self.around}


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


def spatial_attention(features, reference, name: str, kernel_size: int = 3):
    """Weighs features [B, H, W, C] by 0..1, which two convolutions find in them and in those of the reference exposure."""
    filters = features.shape[-1]
    x = ops.concatenate([features, reference], axis=-1)
    x = torch_convolution(2 * filters, 2 * filters, kernel_size, f"{name}_conv1", padding="same")(x)
    x = torch_convolution(2 * filters, filters, kernel_size, f"{name}_conv2", padding="same")(ops.leaky_relu(x, 0.01))
    return features * ops.sigmoid(x)


def radiance(x):
    """The radiance 0..1, in float32 whatever precision the network computes in."""
    return keras.layers.Activation("sigmoid", dtype="float32", name="hdr")(x)


@keras.saving.register_keras_serializable(package="hdr_tf")
class WindowAttention(keras.layers.Layer):
    """Attention among the pixels of a window of 8x8, from queries, keys and values of several heads: [B, H, W, 3 C] ->
    [B, H, W, C], H and W multiples of 8.

    Liu et al., "Swin Transformer", ICCV 2021, as SwinIR and its successors have it: to each product of query and key, over the
    root of the channels of a head, a learned bias is added, which depends on how far apart the two pixels are. Where the
    windows are shifted, by 4 pixels down and to the right, those at the bottom and on the right go on at the top and on the
    left; pixels that are no neighbours in the picture do not see each other there.

    Args:
        heads: number of heads, which divides C.
        shifted: whether the windows are shifted.
    """

    def __init__(self, heads: int, shifted: bool, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.shifted = heads, shifted

    def build(self, shape):
        # Row (dy + 7) * 15 + dx + 7: the bias of a pixel dy below and dx to the right of the one it looks at.
        self.position_bias = self.add_weight(
            shape=((2 * WINDOW - 1) ** 2, self.heads), initializer=_small(), name="position_bias"
        )

    def call(self, x, training=False):
        height, width, channels = (*ops.shape(x)[1:3], x.shape[-1])
        rows, shift = height // WINDOW, SHIFT * self.shifted
        row = ops.arange(ops.shape(x)[0] * rows)  # of windows, in all pictures
        if training:
            x = ops.roll(x, -shift, axis=1) if shift else x
            x = self._attend(ops.reshape(x, (-1, WINDOW, width, channels)), row % rows == rows - 1)
        else:  # a row at a time: the products of all windows would be the largest tensors of the network, by far
            lines = ops.reshape(x, (-1, width, channels))

            def attend(row):
                seen = row // rows * height + (row % rows * WINDOW + shift + ops.arange(WINDOW)) % height
                return self._attend(ops.take(lines, seen, axis=0)[None], (row % rows == rows - 1)[None])[0]

            x = ops.map(attend, row)
        x = ops.reshape(x, (-1, height, width, channels // 3))
        return ops.roll(x, shift, axis=1) if shift else x

    def _attend(self, x, last):
        """Rows of windows [R, 8, W, 3 C], and which of them are the last of a picture, [R] -> [R, 8, W, C]."""
        width, of_head = ops.shape(x)[2], x.shape[-1] // (3 * self.heads)
        columns = width // WINDOW
        if self.shifted:
            x = ops.roll(x, -SHIFT, axis=2)
        # [R, 8, columns, 8, 3 * heads, of head] -> [R, columns, 3 * heads, 64, of head]
        x = ops.reshape(x, (-1, WINDOW, columns, WINDOW, 3 * self.heads, of_head))
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))
        x = ops.reshape(x, (-1, columns, 3 * self.heads, WINDOW**2, of_head))
        query, key, value = ops.split(x, 3, axis=2)
        products = ops.matmul(query * of_head**-0.5, ops.swapaxes(key, -1, -2))
        bias = self._bias()
        if self.shifted:  # where both masks meet they count twice, which softmax does not show
            end = ops.arange(WINDOW) >= WINDOW - SHIFT
            products = products + self._mask(ops.arange(columns) == columns - 1, ops.tile(end, (WINDOW,)))
            bias = bias + self._mask(last, ops.repeat(end, WINDOW))[:, None]
        x = ops.matmul(ops.softmax(products + bias), value)
        x = ops.reshape(x, (-1, columns, self.heads, WINDOW, WINDOW, of_head))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (-1, WINDOW, width, self.heads * of_head))
        return ops.roll(x, SHIFT, axis=2) if self.shifted else x

    def _bias(self):
        """[heads, 64, 64]."""
        at = ops.arange(WINDOW)
        far = at[:, None] - at + WINDOW - 1
        index = far[:, None, :, None] * (2 * WINDOW - 1) + far[None, :, None, :]
        bias = ops.take(ops.transpose(self.position_bias), ops.reshape(index, (-1,)), axis=1)
        return ops.reshape(bias, (self.heads, WINDOW**2, WINDOW**2))

    def _mask(self, last, end):
        """[windows, 1, 64, 64]: `MASKED` in the last window between the pixels before and behind the end of the picture.

        One is for rows and one for columns of windows: one for all windows would hold a sixth of the products, and TensorFlow
        makes those of all blocks ahead.
        """
        apart = ops.logical_and(last[:, None, None], ops.not_equal(end[:, None], end))
        return MASKED * ops.cast(apart, self.compute_dtype)[:, None]

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] // 3)

    def get_config(self):
        return super().get_config() | {"heads": self.heads, "shifted": self.shifted}


def swin_block(x, heads: int, shifted: bool, drop: float, name: str):
    """A block of window attention and a perceptron of twice the width, each behind a norm and added to what it saw.

    Args:
        x: [B, H, W, C], H and W multiples of 8.
        heads: of the attention.
        shifted: whether its windows are.
        drop: probability, in training, with which an example skips each of the two (stochastic depth).
        name: begins the layers' names.

    Returns:
        [B, H, W, C], and what the first norm gave.
    """
    filters = x.shape[-1]
    normed = layer_norm(x, f"{name}_norm1")
    y = dense(normed, 3 * filters, f"{name}_qkv")
    y = WindowAttention(heads, shifted, name=f"{name}_attention")(y)
    x = x + _skipped(dense(y, filters, f"{name}_projection"), drop)
    y = perceptron(layer_norm(x, f"{name}_norm2"), 2 * filters, f"{name}_mlp")
    return x + _skipped(y, drop), normed


def perceptron(x, hidden: int, name: str):
    """Two dense layers, of `hidden` and again as many channels as x [..., C] has, and the exact GELU between them."""
    y = ops.gelu(dense(x, hidden, f"{name}1"), approximate=False)
    return dense(y, x.shape[-1], f"{name}2")


def dense(x, filters: int, name: str, **arguments):
    """A dense layer on the channels, kernel from a normal distribution of deviation 0.02: [..., C] -> [..., filters]."""
    return keras.layers.Dense(filters, kernel_initializer=_small(), name=name, **arguments)(x)


def layer_norm(x, name: str):
    """Layer normalisation of the channels with PyTorch's epsilon."""
    return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)


def drop_rates(depths, last: float) -> list[list[float]]:
    """The probabilities of stochastic depth for groups of blocks, evenly from 0 for the first block to `last`."""
    count = sum(depths)
    rates = iter([last * i / max(count - 1, 1) for i in range(count)])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _skipped(x, drop):
    return keras.layers.Dropout(drop, noise_shape=(None, 1, 1, 1))(x) if drop else x


def _small():
    # The originals draw from a truncated normal, but truncate it at 100 deviations.
    return keras.initializers.RandomNormal(stddev=0.02)


def torch_names(convolutions: dict[str, str]) -> dict[str, str]:
    """The weight map {variable path: PyTorch name} of convolutions {layer name: name of the PyTorch module}."""
    kinds = (("kernel", "weight"), ("bias", "bias"))
    return {f"{layer}/{ours}": f"{module}.{theirs}" for layer, module in convolutions.items() for ours, theirs in kinds}


def norm_names(norms: dict[str, str]) -> dict[str, str]:
    """The weight map of normalisation layers {layer name: name of the PyTorch module}."""
    kinds = (("gamma", "weight"), ("beta", "bias"))
    return {f"{layer}/{ours}": f"{module}.{theirs}" for layer, module in norms.items() for ours, theirs in kinds}


def swin_names(layer: str, module: str) -> dict[str, str]:
    """The weight map of `swin_block`: the beginning of its layers' names and the name of the PyTorch module."""
    dense = {"qkv": "attn.qkv", "projection": "attn.proj", "mlp1": "mlp.fc1", "mlp2": "mlp.fc2"}
    return (
        norm_names({f"{layer}_norm{i}": f"{module}.norm{i}" for i in (1, 2)})
        | torch_names({f"{layer}_{ours}": f"{module}.{theirs}" for ours, theirs in dense.items()})
        | {f"{layer}_attention/position_bias": f"{module}.attn.relative_position_bias_table"}
    )
