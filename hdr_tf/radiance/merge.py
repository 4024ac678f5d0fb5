"""The runner of `merge`: alignment and noise as in `merge_classical`, then the network (`hdr_tf.models.merge`), in tiles."""

import pathlib

import cv2
import numpy as np
import tensorflow as tf

from hdr_tf import systems, weights
from hdr_tf.image import tiling
from hdr_tf.radiance.merge_classical import MergeClassical

TILE_VALUES = 2**22  # pixels of all exposures in a tile
QUARTER = 4
MULTIPLE = 8  # of height and width
BRACKET = "images", "inside", "exposures", "reference", "noise"
STAGES = {"fill": BRACKET, "weigh": (*BRACKET, "fill"), "denoise": ("radiance", "variance")}  # their inputs
HALO = sum(stage.halo or 0 for stage in systems.SYSTEMS["merge"].stages)


class Merge(MergeClassical):
    """The network, compiled for any number and size of exposures."""

    def __init__(self, network):
        self.network = network
        self._fill, self._weigh, self._denoise = (compiled(network.get_layer(name)) for name in STAGES)

    @property
    def networks(self) -> tuple:
        """The network."""
        return (self.network,)

    def reconstruct_batch(self, inputs: dict) -> dict:
        """Merges aligned exposures, as a whole, on tensors, for export.

        Args:
            inputs: {"images": [B, N, H, W, 3] float32 of gamma 2.2 in 0..1, H and W at least 8, "inside": [B, N, H, W, 1] or
                [B, N, 1, 1, 1], see `hdr_tf.models.merge`, "exposures": [B, N], 2**stops, "reference": [B] int32, an
                index, "noise": [B, 4], see `hdr_tf.models.merge`}.

        Returns:
            {"radiance", "denoised": [B, H, W, 3] linear value / exposure, "source": [B, H, W] uint8, as in `Merged`}.
        """
        images, exposures = inputs["images"], inputs["exposures"]
        size = tf.shape(images)
        inside = tf.broadcast_to(inputs["inside"], tf.concat([size[:4], [1]], axis=0))
        padding = [[0, 0], [0, 0], [0, -size[2] % MULTIPLE], [0, -size[3] % MULTIPLE], [0, 0]]
        images, inside = (tf.pad(layer, padding, "SYMMETRIC") for layer in (images, inside))
        chosen = tf.one_hot(inputs["reference"], size[1])
        own = tf.reduce_sum(exposures * chosen, axis=1, keepdims=True)
        values = images, inside, exposures / own, chosen, inputs["noise"]
        merged = self.network(dict(zip(BRACKET, values, strict=True)), training=False)
        radiance, denoised, weights = (
            merged[name][..., : size[2], : size[3], :] for name in ("radiance", "denoised", "weights")
        )
        own = own[:, None, None]
        return {"radiance": radiance / own, "denoised": denoised / own, "source": _source(weights)[..., 0]}

    def _merge(self, registered, exposures, reference, noise, fill, denoise):
        images, inside = registered.images, registered.inside
        height, width = images[0].shape[:2]
        facts = (
            np.float32([exposures]),
            np.float32([np.arange(len(images)) == reference]),
            np.float32([noise]),
        )
        layers, count = [*images, *inside], len(images)
        small = (-(-width // MULTIPLE) * MULTIPLE // QUARTER, -(-height // MULTIPLE) * MULTIPLE // QUARTER)
        layers_of_fill = [*images, *(np.float32(layer) for layer in inside)]
        small = [cv2.resize(_padded(layer), small, interpolation=cv2.INTER_AREA) for layer in layers_of_fill]
        continued = np.asarray(self._fill(*_stacked(small), *facts)["fill"])[0]
        if not fill:
            continued = np.zeros_like(continued)  # nowhere is it below the reference, whose clip stands there then

        def run(tiles):
            *tile, continuation = tiles
            result = self._weigh(*_stacked([_padded(layer) for layer in tile]), *facts, continuation[None])
            radiance = result["radiance"]
            if denoise:
                radiance = self._denoise(radiance, denoise * result["variance"])["denoised"]
            radiance, source = (np.asarray(x)[0, : tile[0].shape[0], : tile[0].shape[1]] for x in (radiance, result["source"]))
            return np.concatenate([radiance, source], axis=-1, dtype=np.float32)

        side = int((TILE_VALUES / count) ** 0.5) // MULTIPLE * MULTIPLE
        side = max(side - 2 * HALO, 2 * HALO) if max(height, width) > side else side
        merged = tiling.in_tiles(run, [*layers, continued], side, HALO)
        return np.ascontiguousarray(merged[..., :3]), np.uint8(merged[..., 3])


def load(system: systems.RadianceSystem, path: pathlib.Path, mixed_precision: bool = False) -> Merge:
    """Returns the runner, see `hdr_tf.systems`."""
    with weights.precision(mixed_precision):
        return Merge(systems.load_network("merge", path))


def compiled(stage) -> tf.types.experimental.PolymorphicFunction:
    """Compiles a stage of the network for a batch of one: a function of its inputs by position (`STAGES`), of which "images"
    are uint16 and "inside" uint8, or means of it, float32, for "fill". Instead of the weights it returns the "source",
    [1, H, W, 1] uint8."""
    types = {"images": tf.uint16, "inside": tf.float32 if stage.name == "fill" else tf.uint8}
    names = STAGES[stage.name]
    signature = [tf.TensorSpec([1, *stage.input[name].shape[1:]], types.get(name, tf.float32), name) for name in names]

    def run(*values):
        inputs = dict(zip(names, values, strict=True))
        if "images" in inputs:
            inputs["images"] = tf.cast(inputs["images"], tf.float32) / 65535
            inputs["inside"] = tf.cast(inputs["inside"], tf.float32)
        result = dict(stage(inputs, training=False))
        return result | {"source": _source(result.pop("weights"))} if "weights" in result else result

    return tf.function(run, signature, autograph=False)


def _source(weights):
    """The exposure that counts most, N for the fill, [B, H, W, 1] uint8."""
    return tf.cast(tf.argmax(tf.reduce_sum(weights, axis=-1, keepdims=True), axis=1), tf.uint8)


def _padded(layer):
    """The layer, whose last rows and columns are mirrored up to a multiple of 8."""
    rows, columns = (-length % MULTIPLE for length in layer.shape[:2])
    return (
        np.pad(layer, ((0, rows), (0, columns), *[(0, 0)] * (layer.ndim - 2)), mode="symmetric") if rows or columns else layer
    )


def _stacked(layers):
    """The first half of the layers as images [1, N, H, W, 3], the second as [1, N, H, W, 1]."""
    count = len(layers) // 2
    return np.stack(layers[:count])[None], np.stack(layers[count:])[None, ..., None]
