"""Exports a network with its weights as a TensorFlow SavedModel, in the folders that TensorFlow Serving takes, or for LiteRT.

    hdr-tf export --output=exported/pyramid
    hdr-tf export --model=densefuse_gray --weights=densefuse_gray.weights.h5 --exposures=3 --output=exported/gray
    hdr-tf export --model=esbn --weights=FOLDER --output=exported/esbn
    hdr-tf export --model=merge --output=exported/merge
    hdr-tf export --format=litert --output=exported/pyramid.tflite

    exported/
      models.config              the server's list of models; the exported one is added
      pyramid/
        1/                       a SavedModel; the next export becomes 2/

The signature `serving_default` takes and returns float32 tensors [B, H, W, C] of any size: for fusion in the network's own
range (its file in hdr_tf/models), for radiance in 0..1 (for fshdr and merge, already aligned; for merge, linear). The signature
`encoded`, which dqn_editor lacks, takes the bytes of JPEG and PNG files and returns those of PNG files, equal to what `hdr-tf
fuse` writes; of pyramid, which `hdr-tf fuse` runs in LiteRT, a few values differ by one level. `saved_model_cli show --all
--dir=exported/pyramid/1` lists the names of all inputs and outputs.

--format=litert writes a single file for LiteRT, which phones run: for `pyramid`, any number of exposures of any size. With
--output=hdr_tf/pretrained/pyramid.tflite it writes the bundled file anew, which has to follow every change of the network or
its bundled weights.
"""

import dataclasses
from typing import Literal

import simple_parsing
from absl import logging

from hdr_tf import systems


@dataclasses.dataclass(frozen=True)
class Config:
    """What to export, and where to."""

    output: str
    """the model's folder, which has the name that the model gets on the server; the next version is created in it; with
    --format=litert the file .tflite"""
    model: str = simple_parsing.field(default=systems.names("fusion")[0], help=systems.help_text())
    weights: str | None = None
    """a .weights.h5 file, or the folder of several (esbn); default: the bundled weights"""
    exposures: int | None = None
    """number of inputs, for models that take any number; default: 2. An exported merge takes every number from 2 to 9, and so
    does a file for LiteRT"""
    max_pixels: int = 50_000_000
    """the largest image that the signature `encoded` decodes"""
    format: Literal["savedmodel", "litert"] = simple_parsing.field(default="savedmodel", metavar="savedmodel|litert")
    """chooses what is written: a SavedModel for a server, or a file for LiteRT (pyramid)"""
    float16: bool = False
    """stores the weights in 16 bit, which makes the file smaller and moves the results a little (litert)"""


def main(config: Config) -> None:
    if config.format == "litert" and config.exposures:
        raise ValueError("--exposures does not go with --format=litert: the file takes any number")
    if config.float16 and config.format != "litert":
        raise ValueError("--float16 belongs to --format=litert")
    from hdr_tf.serving import export, litert  # here, as TensorFlow takes seconds and --help should not

    if logging.get_verbosity() == logging.INFO:
        logging.set_verbosity(logging.WARNING)  # TensorFlow logs six lines for every export
    if config.format == "litert":
        file = litert.export(config.model, config.output, config.weights, config.float16)
        print(f"exported: {file} ({config.model}, {file.stat().st_size:,} bytes)")
        return
    version = export.export(config.model, config.output, config.weights, config.exposures, config.max_pixels)
    print(f"exported: {version} ({config.model})")
