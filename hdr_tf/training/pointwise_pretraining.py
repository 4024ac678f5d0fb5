"""Pointwise pretraining: a start for networks that merge three exposures, whose kernels' centres are fitted to random pixels.

Merging still images is above all a function of single pixels, which takes some hundred thousand steps from random weights. The
same network with 1x1 kernels learns it in minutes on a CPU; these then become the centres of full kernels of zeros.
"""

import keras
import numpy as np
import tensorflow as tf

from hdr_tf.models.blocks import DISPLAY_GAMMA, EXPOSURE_NAMES


def random_batches(seed: int, start: int = 0, moved: float = 0.0) -> tf.data.Dataset:
    """Returns endless batches of `random_batch`, beginning with the one of number `start`."""
    return tf.data.Dataset.counter(start).map(lambda number: random_batch(tf.stack([seed, number]), moved))


def random_batch(seed, moved: float = 0.0) -> dict[str, tf.Tensor]:
    """Draws 4096 pixels of three exposures, which lie 2 or 3 stops apart and have the noise of `hdr-tf scenes`.

    The logarithm of the luminance is uniform between 3e-5 and 2, colours are more or less saturated, and one value in thirty is
    darkened at random.

    Args:
        seed: [2] integers.
        moved: share of the pixels that show something else in the low exposure; the same share does in the high one.

    Returns:
        {"ldr_...": the exposures, clipped and gamma-encoded, in 0..1, "hdr_...": the radiance that they show, from 0, for low,
        mid and high; "hdr": radiance of the scene, 1 where the low exposure is white, in 0..1}, all [1, 64, 64, 3] float32.
    """

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
    stops_apart = 2 + tf.round(draw(uniform, 1))
    batch = {"hdr": radiance}
    for number, side in enumerate(EXPOSURE_NAMES):
        visible = radiance
        if moved and side != "mid":
            visible = tf.where(draw(uniform, 1) < moved, draw_radiance(), radiance)
        exposure = 2 ** (number * stops_apart)
        signal = visible * exposure
        noise = tf.sqrt(tf.minimum(signal, 1) / 10_000 + 5e-4**2) * draw(normal, 3)
        value = tf.clip_by_value(signal + noise, 0, 1)
        batch |= {f"ldr_{side}": value ** (1 / DISPLAY_GAMMA), f"hdr_{side}": value / exposure}
    return batch


def convolutions(network: keras.Model) -> dict[str, list[np.ndarray]]:
    """Returns kernel and bias of each convolution, by the layer's name."""
    return {layer.name: layer.get_weights() for layer in network.layers if isinstance(layer, keras.layers.Conv2D)}


def set_convolutions(network: keras.Model, values: dict[str, list[np.ndarray]]) -> None:
    """Sets kernels and biases. A smaller kernel is surrounded with zeros; of a larger one the centre is taken."""
    for name, (kernel, bias) in values.items():
        layer = network.get_layer(name)
        border = (layer.kernel.shape[0] - len(kernel)) // 2
        if border < 0:
            kernel = kernel[-border:border, -border:border]
        else:
            kernel = np.pad(kernel, ((border, border), (border, border), (0, 0), (0, 0)))
        layer.set_weights([kernel, bias])
