"""A start for networks that merge three exposures: the middle of their kernels, fitted to drawn pixels.

Merging still pictures is above all a function of single pixels, which must be right to a fraction of a percent before the
denoising that neighbours allow can be seen. From a random start that takes some hundred thousand steps. The same network with
kernels of one pixel learns it in minutes on a CPU; then it becomes the middle of the real kernels, with zeros around it.
"""

import numpy as np

from hdr_tf.image.scenes import EXPOSURE_NAMES


def draw(seed, moved: float = 0.0) -> tuple[dict, dict, object]:
    """Draws 4096 pixels of three exposures.

    The logarithm of the luminance is uniform between 3e-5 and 2, colours are more or less saturated, one value in thirty is
    darkened at random; exposures lie 2 or 3 stops apart and have the noise of tools/make_scenes.py.

    Args:
        seed: [2] integers.
        moved: share of the pixels that show something else in the low exposure, and likewise in the high one.

    Returns:
        {"low", "mid", "high": what the exposure shows, clipped and not gamma-encoded, [1, 64, 64, 3] in 0..1}, their exposures,
        [1, 64, 64, 1], 1 for the low one, and the radiance that the middle one shows, [1, 64, 64, 3] in 0..1.
    """
    import tensorflow as tf

    def draw(kind, channels, *bounds):
        nonlocal seed
        seed, use = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        return kind([1, 64, 64, channels], use, *bounds)

    uniform, normal = tf.random.stateless_uniform, tf.random.stateless_normal

    def draw_radiance():
        luminance = draw(uniform, 1, np.log(3e-5), np.log(2.0))
        radiance = tf.minimum(tf.exp(luminance + draw(normal, 3) * draw(uniform, 1)), 1)
        return radiance * tf.where(draw(uniform, 3) < 1 / 30, 0.05 * draw(uniform, 3), 1)

    radiance = draw_radiance()
    apart = 2 + tf.round(draw(uniform, 1))
    values, exposures = {}, {}
    for number, side in enumerate(EXPOSURE_NAMES):
        shown = radiance
        if moved and side != "mid":
            shown = tf.where(draw(uniform, 1) < moved, draw_radiance(), radiance)
        exposures[side] = 2 ** (number * apart)
        signal = shown * exposures[side]
        noise = tf.sqrt(tf.minimum(signal, 1) / 10_000 + 5e-4**2) * draw(normal, 3)
        values[side] = tf.clip_by_value(signal + noise, 0, 1)
    return values, exposures, radiance


def convolutions(network) -> dict[str, list]:
    """Kernel and bias of each convolution."""
    import keras

    return {layer.name: layer.get_weights() for layer in network.layers if isinstance(layer, keras.layers.Conv2D)}


def set_convolutions(network, values: dict[str, list]) -> None:
    """Sets kernels and biases: a smaller kernel with zeros around it, of a larger one the middle."""
    for name, (kernel, bias) in values.items():
        layer = network.get_layer(name)
        border = (layer.kernel.shape[0] - len(kernel)) // 2
        if border < 0:
            kernel = kernel[-border:border, -border:border]
        else:
            kernel = np.pad(kernel, ((border, border), (border, border), (0, 0), (0, 0)))
        layer.set_weights([kernel, bias])
