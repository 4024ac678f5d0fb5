"""The runner of `merge`: alignment and noise as in `merge_classical`, then the network (`hdr_tf.models.merge`), in tiles."""

import pathlib

import cv2
import numpy as np
import tensorflow as tf

from hdr_tf import systems, weights
from hdr_tf.image import noise as noise_model
from hdr_tf.image import tiling
from hdr_tf.radiance.merge_classical import MergeClassical

TILE_VALUES = 2**22  # pixels of all exposures in a tile
QUARTER = 4
MULTIPLE = 8  # of height and width
INPUTS = "images", "inside", "exposures", "reference", "noise", "fill"
HALO = systems.SYSTEMS["merge"].stages[1].halo


class Merge(MergeClassical):
    """The network, compiled for any number and size of exposures."""

    def __init__(self, network):
        self.network = network
        self._fill, self._weigh = (_compiled(network.get_layer(name)) for name in ("fill", "weigh"))

    @property
    def networks(self) -> tuple:
        """The network."""
        return (self.network,)

    def _merge(self, registered, exposures, reference, noise, fill, denoise):
        images, inside = registered.images, registered.inside
        height, width = images[0].shape[:2]
        facts = (
            np.float32([exposures]),
            np.float32([np.arange(len(images)) == reference]),
            np.float32([[noise.gain, noise.read, noise.step]]),
        )
        padding = ((0, -height % MULTIPLE), (0, -width % MULTIPLE))
        layers = [_padded(layer, padding) for layer in (*images, *inside)]
        small = (layers[0].shape[1] // QUARTER, layers[0].shape[0] // QUARTER)
        small = [cv2.resize(layer, small, interpolation=cv2.INTER_AREA) for layer in layers]
        count = len(images)
        continued = self._fill(*_stacked(small), *facts)["fill"][0].numpy()
        if not fill:
            continued = np.zeros_like(continued)  # nowhere is it below the reference, whose clip stands there then

        def run(tiles):
            *tile, continuation = tiles
            result = self._weigh(*_stacked(tile), *facts, continuation[None])
            source = tf.cast(tf.argmax(result["weights"], axis=1), tf.float32)  # integers would make float64 of the rest
            return np.concatenate([part.numpy()[0] for part in (result["radiance"], result["variance"], source)], axis=-1)

        side = int((TILE_VALUES / count) ** 0.5) // MULTIPLE * MULTIPLE
        side = max(side - 2 * HALO, 2 * HALO) if max(layers[0].shape[:2]) > side else side
        merged = tiling.in_tiles(run, [*layers, continued], side, HALO)[:height, :width]
        source = np.uint8(merged[..., 6])
        radiance, variance = np.ascontiguousarray(merged[..., :3]), merged[..., 3:6]
        return noise_model.wiener(radiance, variance, denoise) if denoise else radiance, source


def load(system: systems.RadianceSystem, path: pathlib.Path, mixed_precision: bool = False) -> Merge:
    """Returns the runner, see `hdr_tf.systems`."""
    with weights.precision(mixed_precision):
        return Merge(systems.load_network("merge", path))


def _padded(layer, padding):
    if not np.any(padding):
        return layer
    return np.pad(layer, (*padding, *[(0, 0)] * (layer.ndim - 2)), mode="symmetric")


def _stacked(layers):
    """The first half of the layers as images [1, N, H, W, 3], the second as [1, N, H, W, 1]."""
    count = len(layers) // 2
    return np.stack(layers[:count])[None], np.stack(layers[count:])[None, ..., None]


def _compiled(stage):
    """A stage of the network as a function of uint16 images and its other inputs."""
    image, numbers = tf.TensorSpec([1, None, None, None, 3], tf.uint16), tf.TensorSpec([1, None])
    signature = [image, tf.TensorSpec([1, None, None, None, 1], tf.uint8), numbers, numbers, tf.TensorSpec([1, 3])]
    if "fill" in stage.input:
        signature.append(tf.TensorSpec([1, None, None, 3]))

    def run(images, inside, *others):
        inputs = (tf.cast(images, tf.float32) / 65535, tf.cast(inside, tf.float32), *others)
        return stage(dict(zip(INPUTS, inputs, strict=False)), training=False)

    return tf.function(run, input_signature=signature)
