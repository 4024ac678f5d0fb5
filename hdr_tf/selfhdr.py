"""Radiance from three exposures with one of the four networks that SelfHDR trains, as its test script runs them.

    ahdrnet            pictures as they are; in tiles
    fshdr              pictures aligned with the middle one by optical flow (`optical_flow.confident_flow`); in tiles
    hdr_transformer    pictures as they are, with the test script's padding; whole
    sctnet             likewise

Zhilu Zhang et al.: "Self-Supervised High Dynamic Range Imaging with Multi-Exposure Images in Dynamic Scenes", ICLR 2024
(cszhilu1998/SelfHDR 9e8af4a, test.py, models/selfhdr2_model.py, data/). The two transformers take means and sums over the whole
picture, so that tiles would change their result; the other two see no farther than `REACH`.

Kept: 16-bit levels are divided by 2**16, so that white is `WHITE`; the network's radiance is the exposure's,
ldr**2.2 / exposure; it ends in a sigmoid, 0..1.

Changed: images of 8 bit are accepted too; FSHDR's aligned images come from another flow (see `hdr_tf.image.optical_flow`) and
are not rounded to 16 bit.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from hdr_tf.image import optical_flow, tiles

NETWORKS = ("ahdrnet", "fshdr", "hdr_transformer", "sctnet")
REACH = {"ahdrnet": 37, "fshdr": 11}  # pixels that a pixel of the result sees far
TILE = 512  # pixels, twice as many in bfloat16: what goes with a tile of AHDRNet adds a sixth to the work at 1000 x 1500
WHITE = np.float32(65535 / 65536)


class SelfHdr:
    """A network, compiled for pictures of any size.

    Attributes:
        network: see `hdr_tf.models`.
        aligns: whether it takes aligned pictures, which `align_both` makes.
    """

    def __init__(self, name: str, network):
        import tensorflow as tf

        self.network, self.aligns, self._reach = network, name == "fshdr", REACH.get(name)
        self._half = getattr(network, "compute_dtype", None) == "bfloat16"
        self._run = tf.function(
            lambda pictures, exposures: _run(network, tf.unstack(pictures), exposures),
            input_signature=[tf.TensorSpec([3, 1, None, None, 3]), tf.TensorSpec([1, 3])],
        )

    @property
    def networks(self) -> tuple:
        """All networks of it."""
        return (self.network,)

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Returns the pictures as the network takes them, [3, H, W, 3] float32 in 0..1, low to high: aligned or as they are."""
        if not self.aligns:
            return ldr
        found = optical_flow.confident_flow(ldr, exposures)
        for note in found.notes:
            logging.warning(note)
        return found.pictures

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Runs the network.

        Args:
            ldr: what `align_both` returns, H and W at least 8.
            exposures: 2**stops of the three.

        Returns:
            The radiance, [H, W, 3] float32 in 0..1.
        """
        exposures = np.float32([exposures])

        def run(pictures):
            return self._run(np.float32(pictures)[:, None], exposures)[0].numpy()

        return run(ldr) if self._reach is None else tiles.in_tiles(run, ldr, TILE * (1 + self._half), self._reach)

    def reconstruct_batch(self, inputs: dict) -> dict:
        """What `tools/export.py` exports, on tensors.

        Args:
            inputs: {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] float32 in 0..1, of fshdr aligned, "exposures": [B, 3], low
                to high}.

        Returns:
            {"hdr": radiance, [B, H, W, 3] in 0..1}.
        """
        from hdr_tf.models.blocks import EXPOSURE_NAMES

        return {"hdr": _run(self.network, [inputs[f"ldr_{side}"] for side in EXPOSURE_NAMES], inputs["exposures"])}


def _run(network, pictures, exposures):
    from hdr_tf.models.blocks import EXPOSURE_NAMES, with_radiance

    ldr = {f"ldr_{side}": picture * WHITE for side, picture in zip(EXPOSURE_NAMES, pictures, strict=True)}
    return network(with_radiance(ldr, exposures), training=False)["hdr"]


def load_selfhdr(name: str, path: str | os.PathLike | None = None) -> SelfHdr:
    """Builds a network, as wide and deep as its weights are, and loads these.

    Args:
        name: one of `NETWORKS`.
        path: a .weights.h5 file, or a folder with <name>.weights.h5; None takes those that come with the software.

    Raises:
        ValueError: there are no weights, or they are damaged or of another network.
        OSError: the file cannot be read.
    """
    from hdr_tf import models, weights

    path = weights.pretrained(name) if path is None else pathlib.Path(path)
    if path is None:
        raise ValueError(
            f"{name} comes without weights: train it (train/selfhdr.py --network={name}) or convert the authors' "
            f"(tools/convert_checkpoint.py --model={name} --checkpoint=FILE --output={name}.weights.h5) and pass --weights=FILE"
        )
    if path.is_dir():
        path = path / f"{name}.weights.h5"
    if not path.is_file():
        raise ValueError(f"{path}: expected weights of {name} (.weights.h5), found none")
    network = models.build(name, **_sizes(name, weights.read_shapes(path)))
    weights.load_weights(network, path)
    return SelfHdr(name, network)


def _sizes(name, shapes):
    """The builder's arguments that the shapes of the weights tell; those of another network tell some or none."""

    def last(path):
        return shapes.get(path, (0,))[-1]

    if name == "ahdrnet":
        sizes = {"filters": last("features/kernel"), "growth": last("block1_conv1/kernel")}
    elif name == "fshdr":
        sizes = {"filters": last("low_conv1/kernel")}
    else:
        groups = [path.split("_")[0] for path in sorted(shapes) if path.endswith("/position_bias")]
        sizes = {"filters": last("groups_conv/kernel"), "heads": last("group1_block1_attention/position_bias")}
        sizes |= {"depths": [groups.count(group) for group in dict.fromkeys(groups)], "test_padding": True}
    return {size: number for size, number in sizes.items() if number}
