"""The runner of the four networks that SelfHDR trains, which merge three exposures as its test script does.

    ahdrnet            takes the images as they are; in tiles
    fshdr              takes images aligned with the middle one by optical flow (`optical_flow.confident_flow`); in tiles
    hdr_transformer    takes the images as they are, with the padding of the test script; untiled
    sctnet             the same

Zhilu Zhang et al.: "Self-Supervised High Dynamic Range Imaging with Multi-Exposure Images in Dynamic Scenes", ICLR 2024
(cszhilu1998/SelfHDR 9e8af4a, test.py, models/selfhdr2_model.py, data/). The two transformers compute means and sums over the
whole image, so tiles would change their result.

Kept: 16-bit levels are divided by 2**16, so white is `WHITE`; the radiance that a network sees is that of the exposure,
ldr**2.2 / exposure; a network ends in a sigmoid, 0..1.

Changed: 8-bit images are accepted too; FSHDR's aligned images come from another flow (see `hdr_tf.image.optical_flow`) and are
not rounded to 16 bit.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf import device, systems, weights
from hdr_tf.image import optical_flow, tiling
from hdr_tf.models.blocks import EXPOSURE_NAMES, with_radiance

TILE = 512  # pixels, twice as many in 16 bits: the halo of a tile of AHDRNet adds a sixth to the work at 1000 x 1500
WHITE = np.float32(65535 / 65536)


class SelfHdr:
    """A network, compiled for images of any size; see `hdr_tf.radiance.pipeline` for the methods of a runner."""

    def __init__(self, system: systems.RadianceSystem, network):
        self.network, self.aligns = network, system.aligned
        self._halo = system.stages[0].halo if system.stages else None
        self._tile = TILE * device.tile_scale() * (1 + (getattr(network, "compute_dtype", None) in ("bfloat16", "float16")))
        self._run = tf.function(
            lambda images, exposures: _run(network, tf.unstack(images), exposures),
            input_signature=[tf.TensorSpec([3, 1, None, None, 3]), tf.TensorSpec([1, 3])],
        )

    @property
    def networks(self) -> tuple:
        """The network."""
        return (self.network,)

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Returns the images as the network takes them, [3, H, W, 3] float32 in 0..1, low to high: aligned or as they are."""
        if not self.aligns:
            return ldr
        aligned = optical_flow.confident_flow(ldr, exposures)
        for note in aligned.notes:
            logging.warning(note)
        return aligned.images

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Merges what `align_both` returns, H and W at least 8, to radiance, [H, W, 3] float32 in 0..1; exposures are
        2**stops."""
        exposures = np.float32([exposures])

        def run(images):
            return self._run(np.float32(images)[:, None], exposures)[0].numpy()

        return run(ldr) if self._halo is None else tiling.in_tiles(run, ldr, self._tile, self._halo)

    def reconstruct_batch(self, inputs: dict) -> dict:
        """Merges tensors, for export.

        Args:
            inputs: {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] float32 in 0..1, for fshdr aligned, "exposures": [B, 3], low
                to high}.

        Returns:
            {"hdr": radiance, [B, H, W, 3] in 0..1}.
        """
        return {"hdr": _run(self.network, [inputs[f"ldr_{name}"] for name in EXPOSURE_NAMES], inputs["exposures"])}


def load(system: systems.RadianceSystem, path: pathlib.Path, mixed_precision: bool = False) -> SelfHdr:
    """Returns the runner of a network, as wide and deep as its weights are, see `hdr_tf.systems`."""
    with weights.precision(mixed_precision):
        return SelfHdr(system, systems.load_network(system.name, path, **system.arguments))


def _run(network, images, exposures):
    ldr = {f"ldr_{name}": image * WHITE for name, image in zip(EXPOSURE_NAMES, images, strict=True)}
    return network(with_radiance(ldr, exposures), training=False)["hdr"]
