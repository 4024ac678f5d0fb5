"""Converts the authors' checkpoint of a published network into weights for this software.

    python tools/convert_checkpoint.py --model=densefuse_gray --checkpoint=gray.model --output=gray.weights.h5

Reads PyTorch state dicts (both file formats, without PyTorch), npz files of Lasagne and TensorFlow 1 checkpoints
(--checkpoint is the prefix of its files). A checkpoint that does not fit is refused with the list of missing,
unexpected and wrongly shaped arrays, and nothing is written.
"""

import dataclasses

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to convert."""

    model: str
    """deepfuse_official, deepfuse_sunnerli, densefuse_gray, densefuse_rgb or hyperp_mb"""
    checkpoint: str
    """the authors' file"""
    output: str
    """the file to write, FILE.weights.h5"""


def main(config: Config) -> None:
    from hdr_tf import models, weights  # here, as Keras takes seconds and --help should not

    model = models.build(config.model)
    names, layout = models.original_names(config.model)
    weights.assign(model, weights.read_checkpoint(config.checkpoint), names, layout, config.checkpoint)
    weights.save_weights(model, config.output)
    print(f"{config.output}: {len(names)} arrays, {model.count_params():,} numbers for {config.model}")


if __name__ == "__main__":
    cli.run(main, Config)
