"""Converts the authors' checkpoint of a published network into weights for this software.

    hdr-tf convert --model=densefuse_gray --checkpoint=gray.model --output=gray.weights.h5
    hdr-tf convert --model=esbn_align --checkpoint=ckpt_low/iter_300000 --output=esbn_align_low.weights.h5
    hdr-tf convert --model=ahdrnet --checkpoint=SelfHDR_model_150.pth --output=ahdrnet.weights.h5

Reads PyTorch state dicts (both file formats, without PyTorch), npz files of Lasagne and TensorFlow 1 checkpoints (--checkpoint
is the prefix of their files). If a checkpoint does not fit, its missing, unexpected and wrongly shaped arrays are listed and
nothing is written. The checkpoints of ESBN's two alignment networks use the same names: only their folders tell which is low
and which is high. SelfHDR's networks, trained on blue, green, red, take and return red, green, blue after the conversion.
"""

import dataclasses

import simple_parsing

from hdr_tf import systems

CONVERTED = tuple(name for name, network in systems.networks().items() if network.original_names)


@dataclasses.dataclass(frozen=True)
class Config:
    """What to convert."""

    checkpoint: str  # the authors' file
    output: str  # the file to write, FILE.weights.h5
    model: str = simple_parsing.field(default="", help=f"the network: {', '.join(CONVERTED)}")


def main(config: Config) -> None:
    from hdr_tf import checkpoints, weights  # here, as Keras takes seconds and --help should not

    if config.model not in CONVERTED:
        raise ValueError(f"--model: expected one of {', '.join(CONVERTED)}, found {config.model!r}")
    record, network = systems.networks()[config.model], systems.build(config.model)
    names = systems.resolve(record.original_names)()
    weights.assign(network, checkpoints.read_checkpoint(config.checkpoint), names, record.layout, config.checkpoint)
    if record.blue_first:
        weights.swap_red_and_blue(network)
    weights.save_weights(network, config.output)
    print(f"{config.output}: {len(names)} arrays, {network.count_params():,} numbers for {config.model}")
