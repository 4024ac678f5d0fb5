"""Exports a network with its weights as a TensorFlow SavedModel, in the folders that TensorFlow Serving takes.

    python tools/export.py --output=exported/pyramid
    python tools/export.py --model=densefuse_gray --weights=densefuse_gray.weights.h5 --exposures=3 --output=exported/gray
    python tools/export.py --model=dqn_editor --output=exported/policy
    python tools/export.py --model=esbn --weights=FOLDER --output=exported/esbn
    python tools/export.py --model=ahdrnet --weights=ahdrnet.weights.h5 --output=exported/ahdrnet

    exported/
      models.config              the server's list of models; the exported one is added
      pyramid/
        1/                       a SavedModel; the next export becomes 2/

The signature `serving_default` takes the network's own float32 inputs by name, [B, H, W, C] of any size, and returns `fused`;
the module of the network says their ranges. That of esbn takes `ldr_low`, `ldr_mid`, `ldr_high`, [B, H, W, 3] float32 in
0..1, and `exposures`, [B, 3], of which the shortest should be 1; it returns `aligned_low` and `aligned_high`, 0..1, and the
radiance `hdr`. Those of ahdrnet, fshdr, hdr_transformer and sctnet take the same, fshdr pictures that are aligned already, and
return `hdr`, computed of the whole picture. That of dqn_editor is its policy: it takes `features`, [B, length]
(hdr_tf/features.py), and returns the Q values `q`, [B, 6], and the best `edit`, [B] int64, -1 where no value is positive.

The signature `encoded`, which dqn_editor lacks, takes the bytes of JPEG and PNG files and returns those of PNG files, equal to
what tools/fuse.py writes: docs/serving.md.
"""

import dataclasses

from absl import logging

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    output: str
    """the model's folder, named as the model is to be named on the server; the next version is made in it"""
    model: str = "pyramid"
    """pyramid, deepfuse_official, deepfuse_sunnerli, densefuse_gray, densefuse_rgb, hyperp_mb, dqn_editor, esbn, ahdrnet,
    fshdr, hdr_transformer or sctnet"""
    weights: str | None = None
    """a .weights.h5 file, of esbn the folder of its three; default: those that come with the software"""
    exposures: int | None = None
    """number of inputs, for the models that take any; default: 2"""
    max_pixels: int = 50_000_000
    """the signature encoded refuses a larger picture before it is decoded"""


def main(config: Config) -> None:
    from hdr_tf import serving  # here, as TensorFlow takes seconds and --help should not

    if logging.get_verbosity() == logging.INFO:
        logging.set_verbosity(logging.WARNING)  # TensorFlow has six lines to tell about every export
    version = serving.export(config.model, config.output, config.weights, config.exposures, config.max_pixels)
    print(f"exported: {version} ({config.model})")


if __name__ == "__main__":
    cli.run(main, Config)
