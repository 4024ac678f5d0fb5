"""Converts the authors' checkpoint of a published network into weights for this software.

    python tools/convert_checkpoint.py --model=densefuse_gray --checkpoint=gray.model --output=gray.weights.h5

    python tools/convert_checkpoint.py --model=esbn_align --checkpoint=ckpt_low/iter_300000 --output=esbn_align_low.weights.h5

    python tools/convert_checkpoint.py --model=ahdrnet --checkpoint=SelfHDR_model_150.pth --output=ahdrnet.weights.h5

Reads PyTorch state dicts (both file formats, without PyTorch), npz files of Lasagne and TensorFlow 1 checkpoints
(--checkpoint is the prefix of its files; what the optimizer kept is left out). A checkpoint that does not fit is refused
with the missing, unexpected and wrongly shaped arrays, and nothing is written. ESBN's two alignment networks have the same
names in their checkpoints: which is low and which is high only their folders tell. SelfHDR's networks are trained on pictures
whose channels are blue, green, red; converted, they take and give red, green, blue as all others.
"""

import dataclasses

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to convert."""

    model: str
    """deepfuse_official, deepfuse_sunnerli, densefuse_gray, densefuse_rgb, hyperp_mb, dqn_editor, esbn_align, esbn_fusion,
    ahdrnet, fshdr, hdr_transformer or sctnet"""
    checkpoint: str
    """the authors' file"""
    output: str
    """the file to write, FILE.weights.h5"""


def main(config: Config) -> None:
    from hdr_tf import models, selfhdr, weights  # here, as Keras takes seconds and --help should not

    model = models.build(config.model)
    names, layout = models.original_names(config.model)
    weights.assign(model, weights.read_checkpoint(config.checkpoint), names, layout, config.checkpoint)
    if config.model in selfhdr.NETWORKS:
        weights.swap_red_and_blue(model)
    weights.save_weights(model, config.output)
    print(f"{config.output}: {len(names)} arrays, {model.count_params():,} numbers for {config.model}")


if __name__ == "__main__":
    cli.run(main, Config)
