"""Parts that several networks share: inputs, reflect-padded convolutions, DenseFuse's encoder and decoder, attention.

All functions take [B, H, W, C] float tensors, whose H and W are unknown when the graph is built.
"""

import keras
from keras import ops

MINIMUM_SIZE = 8  # pixels, height and width: below it an image is mostly padding for every network here
DISPLAY_GAMMA = 2.2  # of the exposures: a value v stands for the light v**2.2
EXPOSURE_NAMES = ("low", "mid", "high")  # three exposures; the middle one is the reference
RADIANCE_INPUTS = tuple(f"{kind}_{name}" for kind in ("ldr", "hdr") for name in EXPOSURE_NAMES)  # the images, their radiance
WINDOW = 8  # pixels, height and width of an attention window
GROUP = 2**27  # products of queries and keys that window attention holds at once on an accelerator, half a gigabyte
SHIFT = WINDOW // 2  # pixels, by which the windows of every other block are shifted
MASKED = -100.0  # added to the attention between pixels that share a window but are not neighbours in the image
CONVOLUTION = {"kernel": "weight", "bias": "bias"}  # variables of Keras' layers: their names in PyTorch
NORM = {"gamma": "weight", "beta": "bias"}


@keras.saving.register_keras_serializable(package="hdr_tf")
class MinimumSize(keras.layers.Layer):
    """Returns images [B, H, W, C] unchanged; raises ValueError if H or W is known and below `MINIMUM_SIZE`."""

    def call(self, images):
        height, width = images.shape[1:3]
        if any(isinstance(size, int) and size < MINIMUM_SIZE for size in (height, width)):  # a size may be unknown
            expected = f"{MINIMUM_SIZE}x{MINIMUM_SIZE}"
            raise ValueError(f"expected images of at least {expected} pixels, found {height}x{width}")
        return images


def exposure_names(exposures: int, pair: tuple | None = ("under", "over")) -> tuple[str, ...]:
    """Returns the names of a network's inputs, dark to bright: `exposure_1` and so on, but `pair` if there are just two."""
    if exposures < 2:
        raise ValueError(f"expected at least 2 exposures, found {exposures}")
    return pair if pair and exposures == 2 else tuple(f"exposure_{i}" for i in range(1, exposures + 1))


def image_inputs(names, channels: int) -> tuple[dict, list]:
    """Makes the dict of named `keras.Input`, [B, H, W, channels], and a list of these images after the check of their size."""
    inputs = {name: keras.Input((None, None, channels), name=name) for name in names}
    return inputs, [MinimumSize(name=f"{name}_size", dtype="float32")(image) for name, image in inputs.items()]


def inputs_like(tensors: dict) -> dict:
    """Makes a `keras.Input` for each named tensor [B, H, W, C] of another sub-model, with its name, channels and type."""
    return {name: keras.Input(x.shape[1:], dtype=x.dtype, name=name) for name, x in tensors.items()}


def radiance_inputs() -> tuple[dict, list]:
    """Makes the inputs of a network that SelfHDR trains: {"ldr_low", "ldr_mid", "ldr_high", "hdr_low", ...: [B, H, W, 3]}.

    `ldr_*` is the image in 0..1, `hdr_*` its radiance, see `with_radiance`; H and W are at least 8. All these networks return
    {"hdr": [B, H, W, 3], radiance in 0..1}, see `radiance_output`. Channels are red, green, blue. The originals read blue,
    green, red; `hdr-tf convert` reorders their weights.

    Returns:
        The dict of named `keras.Input`, and for each exposure its radiance followed by the image, [B, H, W, 6].
    """
    inputs, images = image_inputs(RADIANCE_INPUTS, channels=3)
    ldr, hdr = images[:3], images[3:]
    return inputs, [ops.concatenate(pair, axis=-1) for pair in zip(hdr, ldr, strict=True)]


def with_radiance(images: dict, exposures) -> dict:
    """Returns all six inputs of such a network: the images and their radiance ldr**2.2 / (exposure + 1e-8), which is at least 0
    and above 1 only if the exposure is below 1, as in cszhilu1998/SelfHDR 9e8af4a (data/sig17align_dataset.py, util/util.py).

    Args:
        images: {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] in 0..1}.
        exposures: [B, 3], 2**stops.
    """
    ldr = {f"ldr_{side}": ops.convert_to_tensor(images[f"ldr_{side}"]) for side in EXPOSURE_NAMES}
    divisors = ops.split(ops.reshape(exposures + 1e-8, (-1, 3, 1, 1, 1)), 3, axis=1)
    sides = zip(EXPOSURE_NAMES, divisors, strict=True)
    return ldr | {f"hdr_{side}": ldr[f"ldr_{side}"] ** DISPLAY_GAMMA / divisor[:, 0] for side, divisor in sides}


def torch_convolution(channels: int, filters: int, size: int, name: str, **arguments) -> keras.layers.Conv2D:
    """Makes a convolution with the initial values of torch.nn.Conv2d: kernel and bias uniform within 1 / sqrt(fan in)."""
    bound = (channels * size * size) ** -0.5
    kernel, bias = (keras.initializers.RandomUniform(-bound, bound) for _ in range(2))
    return keras.layers.Conv2D(filters, size, kernel_initializer=kernel, bias_initializer=bias, name=name, **arguments)


def convolve(x, filters: int, size: int, name: str, **arguments):
    """Applies a `torch_convolution` with zeros around x: [B, H, W, C] -> [B, H, W, filters]."""
    return torch_convolution(x.shape[-1], filters, size, name, padding="same", **arguments)(x)


def reflect_pad(x):
    """Surrounds images by one mirrored pixel, as `ops.pad` in mode "reflect" does: [B, H, W, C] -> [B, H + 2, W + 2, C]."""
    # Concatenation is three times as fast in TensorFlow on a CPU.
    x = ops.concatenate([x[:, 1:2], x, x[:, -2:-1]], axis=1)
    return ops.concatenate([x[:, :, 1:2], x, x[:, :, -2:-1]], axis=2)


def dense_encoder(images, names) -> list:
    """DenseFuse's encoder, with the same weights for a list of images, each [B, H, W, C] -> [B, H, W, 64]: four convolutions of
    these names and 16 filters, each applied to all channels so far."""
    channels = (images[0].shape[-1], 16, 32, 48)
    first, *dense = (torch_convolution(inputs, 16, 3, name) for inputs, name in zip(channels, names, strict=True))

    def encode(image):
        parts = [ops.relu(first(reflect_pad(image)))]
        padded = []  # pads each part once rather than once per concatenation
        for convolution in dense:
            padded.append(reflect_pad(parts[-1]))
            parts.append(ops.relu(convolution(ops.concatenate(padded, axis=-1))))
        return ops.concatenate(parts, axis=-1)

    return [encode(image) for image in images]


def dense_decoder(features, channels: int, names):
    """DenseFuse's decoder: four convolutions of these names, each with a ReLU: [B, H, W, 64] -> [B, H, W, channels]."""
    for filters, name in zip((64, 32, 16, channels), names, strict=True):
        features = ops.relu(torch_convolution(features.shape[-1], filters, 3, name)(reflect_pad(features)))
    return features


@keras.saving.register_keras_serializable(package="hdr_tf")
class PadToMultiple(keras.layers.Layer):
    """Mirrors images [B, H, W, C], the border itself not repeated, until H and W are multiples of `multiple` <= H, W pixels.

    It pads at the bottom and on the right, and leaves a multiple as it is. With `around`, half of the padding lies at the top
    and on the left, and a whole `multiple` is added to a multiple, as in SelfHDR's tests.
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
    """Crops images [B, H, W, C] to the height and width of a second image, to undo `PadToMultiple` with the same `around`."""

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
    """A convolution, odd in size and padded with zeros, of an image in which each pixel is first repeated 2x2 times:
    [B, H, W, C] -> [B, 2 H, 2 W, filters].

    The kernel is that of the plain convolution, but the large image is never computed. Taps of the 5x5 kernel that fall on the
    same small pixel are added first, which gives four 3x3 kernels, one for each pixel of the 2x2: 36 products instead of 100.
    """

    def __init__(self, filters: int, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **{"padding": "same"} | kwargs)

    def call(self, x):
        (rows, columns), filters = self.kernel_size, self.filters
        kernel = ops.einsum("pat,qbu,tuio->abipqo", self._taps(rows), self._taps(columns), self.kernel)
        kernel = ops.reshape(kernel, (*kernel.shape[:3], 4 * filters))
        x = ops.conv(x, kernel, padding="same")
        # The same as ops.depth_to_space, which Keras has only from 3.15 on. The columns of the 2x2 already lie in order.
        height, width = ops.shape(x)[1:3]
        x = ops.transpose(ops.reshape(x, (-1, height, width, 2, 2 * filters)), (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, 2 * height, 2 * width, filters)) + self.bias

    def _taps(self, size):
        """[2, taps on the small image, taps]: 1 where a tap of the first or second pixel of a pair falls there."""
        half = size // 2
        small = range(-((half + 1) // 2), (half + 1) // 2 + 1)
        falls = [[[(pixel + tap) // 2 == at for tap in range(-half, half + 1)] for at in small] for pixel in (0, 1)]
        return ops.cast(ops.array(falls), self.compute_dtype)

    def compute_output_shape(self, shape):
        return (shape[0], *(size and 2 * size for size in shape[1:3]), self.filters)


@keras.saving.register_keras_serializable(package="hdr_tf")
class UnbiasedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation with unbiased moving variance, as in PyTorch and TensorFlow's fused kernel; in Keras it is biased."""

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
    """Multiplies features [B, H, W, C] by weights in 0..1, which two convolutions compute from them and the reference's."""
    filters = features.shape[-1]
    x = ops.concatenate([features, reference], axis=-1)
    x = convolve(x, 2 * filters, kernel_size, f"{name}_conv1")
    x = convolve(ops.leaky_relu(x, 0.01), filters, kernel_size, f"{name}_conv2")
    return features * ops.sigmoid(x)


def radiance_output(x):
    """Returns the sigmoid of x: radiance in 0..1, in float32 whatever precision the network computes in."""
    return keras.layers.Activation("sigmoid", dtype="float32", name="hdr")(x)


@keras.saving.register_keras_serializable(package="hdr_tf")
class WindowAttention(keras.layers.Layer):
    """Attention among the pixels of 8x8 windows, from queries, keys and values of several heads: [B, H, W, 3 C] ->
    [B, H, W, C], H and W multiples of 8 and C a multiple of `heads`.

    Liu et al., "Swin Transformer", ICCV 2021, in the form of SwinIR and its successors: the product of query and key is divided
    by the root of the number of channels of a head, and a learned bias is added, which depends on the offset between the two
    pixels. Shifted windows lie 4 pixels lower and further right; at the bottom and on the right they continue at the top and on
    the left of the image, and a mask keeps apart pixels that are not neighbours in the image.
    """

    def __init__(self, heads: int, shifted: bool, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.shifted = heads, shifted

    def build(self, shape):
        # Row (dy + 7) * 15 + dx + 7: the bias for a query dy below and dx to the right of the key.
        self.position_bias = self.add_weight(((2 * WINDOW - 1) ** 2, self.heads), _small(), name="position_bias")

    def call(self, x, training=False):
        height, width, channels = (*ops.shape(x)[1:3], x.shape[-1])
        rows, shift = height // WINDOW, SHIFT * self.shifted
        count = ops.shape(x)[0] * rows  # rows of windows, in all images
        if training:
            x = ops.roll(x, -shift, axis=1) if shift else x
            x = self._attend(ops.reshape(x, (-1, WINDOW, width, channels)), ops.arange(count) % rows == rows - 1)
        else:  # in groups of rows, since the products of all windows would be by far the largest tensors of the network
            lines = ops.reshape(x, (-1, width, channels))

            def attend(group):
                row = group[:, None]
                of_row = row // rows * height + (row % rows * WINDOW + shift + ops.arange(WINDOW)) % height
                return self._attend(ops.take(lines, of_row, axis=0), group % rows == rows - 1)

            x = ops.map(attend, self._groups(count, width))
            x = ops.reshape(x, (-1, WINDOW, width, channels // 3))[:count]
        x = ops.reshape(x, (-1, height, width, channels // 3))
        return ops.roll(x, shift, axis=1) if shift else x

    def _groups(self, count, width):
        """The numbers of the rows of windows that are computed at once, [groups, rows]: one on a CPU, to which more would only
        cost memory, and as many as `GROUP` allows on an accelerator. The last one repeats to fill its group."""
        if all(device.startswith("cpu") for device in keras.distribution.list_devices()):
            return ops.arange(count)[:, None]
        size = GROUP // (width // WINDOW * self.heads * WINDOW**4)
        known = isinstance(count, int) and isinstance(width, int)
        least, most = (max, min) if known else (ops.maximum, ops.minimum)
        size = most(least(size, 1), count)
        groups = -(-count // size)
        return ops.reshape(ops.minimum(ops.arange(groups * size), count - 1), (groups, size))

    def _attend(self, x, last):
        """Attention in rows of windows [R, 8, W, 3 C] -> [R, 8, W, C]; `last` [R] marks the last row of each image."""
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
        if self.shifted:  # where both masks apply they add up, which makes no difference to softmax
            end = ops.arange(WINDOW) >= WINDOW - SHIFT
            products = products + self._mask(ops.arange(columns) == columns - 1, ops.tile(end, (WINDOW,)))
            bias = bias + self._mask(last, ops.repeat(end, WINDOW))[:, None]
        x = ops.matmul(ops.softmax(products + bias), value)
        x = ops.reshape(x, (-1, columns, self.heads, WINDOW, WINDOW, of_head))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2, 5)), (-1, WINDOW, width, self.heads * of_head))
        return ops.roll(x, SHIFT, axis=2) if self.shifted else x

    def _bias(self):
        """The position bias for each pair of pixels, [heads, 64, 64]."""
        at = ops.arange(WINDOW)
        offset = at[:, None] - at + WINDOW - 1
        index = offset[:, None, :, None] * (2 * WINDOW - 1) + offset[None, :, None, :]
        bias = ops.take(ops.transpose(self.position_bias), ops.reshape(index, (-1,)), axis=1)
        return ops.reshape(bias, (self.heads, WINDOW**2, WINDOW**2))

    def _mask(self, last, end):
        """[windows, 1, 64, 64]: `MASKED` in the last window, between the pixels before and after the end of the image.

        Rows and columns of windows have separate masks: one mask for all windows would hold a sixth as many values as the
        products, and TensorFlow computes the masks of all blocks in advance.
        """
        apart = ops.logical_and(last[:, None, None], ops.not_equal(end[:, None], end))
        return MASKED * ops.cast(apart, self.compute_dtype)[:, None]

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] // 3)

    def get_config(self):
        return super().get_config() | {"heads": self.heads, "shifted": self.shifted}


def swin_block(x, heads: int, shifted: bool, drop: float, name: str):
    """Window attention, then a perceptron of twice the width; a norm precedes each, and each is added to its input.

    `drop` is the probability that an example skips each of the two in training (stochastic depth). The initial kernels and the
    attention's bias have deviation 0.02. x and the result are [B, H, W, C]; also returns the output of the first norm.
    """
    filters = x.shape[-1]
    normed = layer_norm(x, f"{name}_norm1")
    y = dense(normed, 3 * filters, f"{name}_qkv")
    y = WindowAttention(heads, shifted, name=f"{name}_attention")(y)
    x = x + _skipped(dense(y, filters, f"{name}_projection"), drop)
    y = perceptron(layer_norm(x, f"{name}_norm2"), 2 * filters, f"{name}_mlp")
    return x + _skipped(y, drop), normed


def perceptron(x, hidden: int, name: str):
    """Two dense layers with the exact GELU between them: [..., C] -> [..., hidden] -> [..., C]."""
    y = ops.gelu(dense(x, hidden, f"{name}1"), approximate=False)
    return dense(y, x.shape[-1], f"{name}2")


def dense(x, filters: int, name: str, **arguments):
    """A dense layer on the channels, whose initial kernel is normal with deviation 0.02: [..., C] -> [..., filters]."""
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


def last_axes(shapes: dict[str, tuple[int, ...]], **paths: str) -> dict[str, int]:
    """Returns {argument: length of the last axis} for those of the named variables that `shapes` has."""
    return {argument: shapes[path][-1] for argument, path in paths.items() if shapes.get(path)}


def swin_sizes(shapes: dict[str, tuple[int, ...]]) -> dict:
    """Returns filters, heads and depths of a network of groups of `swin_block`, read from the shapes of its weights."""
    groups = [path.split("_")[0] for path in sorted(shapes) if path.endswith("/position_bias")]
    widths = last_axes(shapes, filters="groups_conv/kernel", heads="group1_block1_attention/position_bias")
    return widths | ({"depths": tuple(groups.count(group) for group in dict.fromkeys(groups))} if groups else {})


def torch_names(layers: dict[str, str], variables: dict[str, str] = CONVOLUTION) -> dict[str, str]:
    """Returns the weight map {variable path: PyTorch name} of {layer name: PyTorch module}; `variables` as in `NORM`."""
    names = variables.items()
    return {f"{layer}/{ours}": f"{module}.{theirs}" for layer, module in layers.items() for ours, theirs in names}


def swin_names(layer: str, module: str) -> dict[str, str]:
    """Returns the weight map of a `swin_block`, from the prefix of its layers' names and the PyTorch module."""
    dense = {"qkv": "attn.qkv", "projection": "attn.proj", "mlp1": "mlp.fc1", "mlp2": "mlp.fc2"}
    names = torch_names({f"{layer}_norm{i}": f"{module}.norm{i}" for i in (1, 2)}, NORM)
    names |= torch_names({f"{layer}_{ours}": f"{module}.{theirs}" for ours, theirs in dense.items()})
    return names | {f"{layer}_attention/position_bias": f"{module}.attn.relative_position_bias_table"}
