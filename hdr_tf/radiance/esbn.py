"""The runner of ESBN: two alignment networks and a merging network, for images of any size.

Images are merged in tiles, each with so much around it that the result is that of the whole image, in a tenth of the memory.
Large ones are aligned in tiles too, which doubles the work, because the receptive fields of the alignment are large.
"""

import pathlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from hdr_tf import device, systems, weights
from hdr_tf.image import tiling
from hdr_tf.models.blocks import EXPOSURE_NAMES
from hdr_tf.models.esbn import radiance_input

TILE = 384  # pixels, a multiple of 8
ALIGN_UNTILED_LIMIT = 2**21  # pixels; a larger image is aligned in tiles
ALIGN_TILE = 768  # pixels, a multiple of 8
ALIGN_HALO, HALO = (stage.halo for stage in systems.SYSTEMS["esbn"].stages)


class Esbn:
    """The three networks (`hdr_tf.models.esbn`; None where one is not needed), compiled; see `hdr_tf.radiance.pipeline` for the
    methods of a runner."""

    aligns = True

    def __init__(self, low, high, fusion):
        self.low, self.high, self.fusion = low, high, fusion
        image, number = tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([1])

        def compiled(network):
            return tf.function(lambda *arguments: _align(network, *arguments), input_signature=[image, image, number, number])

        self._align = {"low": compiled(low), "high": compiled(high)}
        self._merge = tf.function(
            lambda images, exposures: _merge(fusion, tf.unstack(images), exposures),
            input_signature=[tf.TensorSpec([3, 1, None, None, 3]), tf.TensorSpec([1, 3])],
        )

    @property
    def networks(self) -> tuple:
        """All three networks."""
        return (self.low, self.high, self.fusion)

    def align(
        self, side: Literal["low", "high"], ldr: np.ndarray, mid: np.ndarray, exposure: float, exposure_mid: float
    ) -> np.ndarray:
        """Aligns the low or the high exposure with the middle one.

        Args:
            side: which one it is.
            ldr, mid: that image and the middle one, [H, W, 3] float32 in 0..1, H and W at least 8; so is the result.
            exposure, exposure_mid: of the two, 2**stops.
        """
        exposures = np.float32([exposure]), np.float32([exposure_mid])

        def run(images):
            return self._align[side](*(np.float32(image)[None] for image in images), *exposures).numpy()[0]

        small = ldr.shape[0] * ldr.shape[1] <= ALIGN_UNTILED_LIMIT
        return run([ldr, mid]) if small else tiling.in_tiles(run, [ldr, mid], ALIGN_TILE * device.tile_scale(), ALIGN_HALO)

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Aligns low and high of [3, H, W, 3] float32 in 0..1, low to high; the middle image is unchanged."""
        low, mid, high = ldr
        aligned_low = self.align("low", low, mid, exposures[0], exposures[1])
        return np.stack([aligned_low, mid, self.align("high", high, mid, exposures[2], exposures[1])])

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Merges three aligned exposures, [3, H, W, 3] float32 in 0..1, low to high, to radiance, [H, W, 3] float32 in 0..1;
        exposures are 2**stops."""
        height, width = ldr.shape[1:3]
        ldr = np.pad(np.float32(ldr), ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")  # as in the network
        exposures = np.float32([exposures])
        tile = TILE * device.tile_scale()
        radiance = tiling.in_tiles(lambda tiles: self._merge(np.stack(tiles)[:, None], exposures)[0].numpy(), ldr, tile, HALO)
        return radiance[:height, :width]

    def reconstruct_batch(self, inputs: dict) -> dict:
        """Aligns and merges tensors, for export.

        Args:
            inputs: {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] float32 in 0..1, "exposures": [B, 3], low to high}.

        Returns:
            {"aligned_low", "aligned_high": [B, H, W, 3] in 0..1, "hdr": radiance, [B, H, W, 3] in 0..1}.
        """
        mid, exposures = inputs["ldr_mid"], inputs["exposures"]
        low = _align(self.low, inputs["ldr_low"], mid, exposures[:, 0], exposures[:, 1])
        high = _align(self.high, inputs["ldr_high"], mid, exposures[:, 2], exposures[:, 1])
        return {"aligned_low": low, "aligned_high": high, "hdr": _merge(self.fusion, [low, mid, high], exposures)}


def load(system: systems.RadianceSystem, folder: pathlib.Path, mixed_precision: bool = False) -> Esbn:
    """Returns the runner, see `hdr_tf.systems`."""
    with weights.precision(mixed_precision):
        return Esbn(*(load_network(folder, name) for name in system.weight_files))


def load_aligner(folder: str | pathlib.Path | None = None) -> Esbn:
    """Loads the two alignment networks alone, esbn_align_low and esbn_align_high; see `load_network`."""
    return Esbn(load_network(folder, "esbn_align_low"), load_network(folder, "esbn_align_high"), None)


def load_merger(folder: str | pathlib.Path | None = None) -> Esbn:
    """Loads the merging network alone, esbn_fusion; see `load_network`."""
    return Esbn(None, None, load_network(folder, "esbn_fusion"))


def load_network(folder: str | pathlib.Path | None, name: str):
    """Loads one network, as wide as its weights are.

    Args:
        folder: holds <name>.weights.h5; None for the bundled weights.
        name: esbn_align_low, esbn_align_high or esbn_fusion.
    """
    path = (systems.PRETRAINED if folder is None else pathlib.Path(folder)) / f"{name}.weights.h5"
    if not path.is_file():
        raise ValueError(f"{path}: expected weights of {name}, found none: train it, or convert the authors' checkpoint")
    return systems.load_network("esbn_fusion" if name == "esbn_fusion" else "esbn_align", path, name=name)


def _align(network, moving, mid, exposure, exposure_mid):
    inputs = _inputs({"low": moving, "mid": mid}, {"low": exposure, "mid": exposure_mid})
    return (network(inputs, training=False)["aligned"] + 1) / 2


def _merge(network, images, exposures):
    by_name = dict(zip(EXPOSURE_NAMES, images, strict=True))
    inputs = _inputs(by_name, {name: exposures[:, i] for i, name in enumerate(EXPOSURE_NAMES)})
    return (network(inputs, training=False)["hdr"] + 1) / 2


def _inputs(images, exposures):
    """The networks' inputs for images [B, H, W, 3] in 0..1 and exposures [B]."""
    scaled = {name: image * 2 - 1 for name, image in images.items()}
    inputs = {f"ldr_{name}": image for name, image in scaled.items()}
    return inputs | {f"hdr_{name}": radiance_input(image, exposures[name]) for name, image in scaled.items()}
