"""Initial weights: He's kernels, and networks that are not dead from the start."""

from collections.abc import Callable

import keras
import numpy as np
from absl import logging


def he_normal(network: keras.Model, last: str) -> None:
    """Draws the kernels of all convolutions anew as He et al. do (ICCV 2015), and divides those of the layer `last` by 20, as
    at full size they saturate the tanh or sigmoid after it. A start of deviation 0.01 lets hardly anything through nine layers.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = keras.initializers.HeNormal()(layer.kernel.shape)
            layer.kernel.assign(kernel / 20 if layer.name == last else kernel)


def draw_alive(make: Callable[[], keras.Model], batch: dict, tries: int = 100) -> keras.Model:
    """Returns the first of up to `tries` networks from `make()` that is not dead: each output channel is above 0 somewhere in
    the batch, a dict of tensors with the network's inputs among them.

    A ReLU at the end passes no gradient where its input is below 0, so a channel that starts below 0 everywhere stays zero for
    ever. With PyTorch's default initialization 7 of 30 starts of DenseFuse were dead, and 17 of 30 of its RGB network.
    """
    for dead in range(tries):
        network = make()
        outputs = keras.tree.flatten(network({name: batch[name] for name in network.input}, training=False))
        if all(np.asarray(keras.ops.any(output != 0, axis=(0, 1, 2))).all() for output in outputs):
            if dead:
                logging.warning("the first %d initial networks were dead (zero everywhere); training starts from another", dead)
            return network
    raise ValueError(f"{tries} initial networks were all dead (zero everywhere); choose another --seed")
