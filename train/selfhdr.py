"""Trains the four networks of SelfHDR on scenes with motion, whose true radiance nobody knows.

    hdr-tf align --method=flow --scenes=data/scenes --output=data/aligned
    hdr-tf records --kind=selfhdr --scenes=data/scenes --labels=data/aligned --output=data/stage1
    python train/selfhdr.py --stage=1 --network=ahdrnet --data=data/stage1 --run=runs/stage1
    python train/selfhdr.py --stage=pseudo_labels --network=ahdrnet --scenes=data/aligned --run=runs/stage1
    hdr-tf records --kind=selfhdr --scenes=data/scenes --labels=data/aligned \\
        --structures=runs/stage1/structures --output=data/stage2
    python train/selfhdr.py --stage=2 --network=ahdrnet --data=data/stage2 --run=runs/stage2

Zhilu Zhang, Haoyu Wang, Shuai Liu, Xiaotao Wang, Lei Lei, Wangmeng Zuo: "Self-Supervised High Dynamic Range Imaging with
Multi-Exposure Images in Dynamic Scenes", ICLR 2024, https://arxiv.org/abs/2310.01840. Original code:
https://github.com/cszhilu1998/SelfHDR (9e8af4a), train.sh, train.py, models/selfhdr1_model.py, models/selfhdr2_model.py.

    pointwise       makes a start for ahdrnet without records (hdr_tf/training/pointwise_pretraining.py); the other stages take
                    it with `--weights`.
    1               structure expansion and preservation (`losses.selfhdr_structure`), from the captured images and the colour
                    label, which is the merge of the aligned images.
    pseudo_labels   merges the aligned scenes with the network of stage 1 and writes the structure labels,
                    RUN/structures/NAME.hdr. Started again it continues, and replaces labels older than the weights.
    2               starts from new weights: the colour term (`losses.selfhdr_color`), and the difference from the structure
                    label in the features of VGG19 (`losses.perceptual`). The reference gets noise of deviation 0.5 / 255.
    supervised      trains with ground truth, for comparison: mean absolute difference after the mu-law.

Kept: patches at random positions, neither rotated nor flipped; in training all networks, FSHDR too, get unaligned images; for
the structure labels they get aligned ones, whole scenes at once, for transformers with the padding of the original's test.
Changed: if there are many scenes, a few at a time take turns (`--shuffle_scenes`); for VGG19 see hdr_tf/models/vgg.py.
`--structure_loss=l1` needs no VGG19 weights: it is the mean absolute difference from the structure label after the mu-law.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli, systems
from hdr_tf.training.config import TrainingConfig

NOISE = 0.5 / 255
MOVED = 0.2  # share of the random pixels that show something else in the low exposure, and as many in the high one
DEFAULTS = {"batch": 16, "steps": 180_000, "learning_rate": 1e-4, "halve_every": 60_000}
TRANSFORMER_DEFAULTS = {"batch": 8, "steps": 240_000, "learning_rate": 2e-4, "halve_every": 120_000}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one; 0 stands for the original's number."""

    RENAMED_VALUES = {"stage": {"pixels": "pointwise", "labels": "pseudo_labels", "truth": "supervised"}}

    stage: Literal["pointwise", "1", "pseudo_labels", "2", "supervised"] = "1"  # see above
    network: Literal["ahdrnet", "fshdr", "hdr_transformer", "sctnet"] = "ahdrnet"
    data: str = ""  # folder of records of kind selfhdr, for stage 2 with structure labels; for supervised of kind kalantari
    scenes: str = ""  # stage pseudo_labels: folder of aligned scenes
    validation: str = ""  # folder of scenes with true radiance; their mean PSNR-mu is logged and has no effect on the training
    run: str = "runs/selfhdr"  # folder of the run; an existing run continues; stage pseudo_labels: the run of stage 1
    steps: int = 0  # number of steps after which the run ends: 180,000, of a transformer 240,000
    log_every: int = 1_200  # steps between log rows, samples and checkpoints
    batch: int = 0  # patches in a step: 16, of a transformer 8
    patch: int = 128  # side of a patch in pixels, at least 8
    learning_rate: float = 0  # of the first step: 1e-4, of a transformer 2e-4
    halve_every: int = 0  # steps after which the rate is halved: 60,000, of a transformer 120,000
    weights: str = ""  # start from the weights in this file
    filters: int = 0  # width of the network: 64, of a transformer 60 (multiples of 6, of sctnet 12)
    structure_loss: Literal["vgg", "l1"] = "vgg"  # of stage 2: by VGG19 as the original, or without any weights
    vgg_weights: str = ""  # file of VGG19's weights as keras.applications has them; by default it downloads them
    shuffle_scenes: int = 8  # scenes in memory at a time


def main(config: Config) -> int | None:
    import keras
    import tensorflow as tf

    from hdr_tf import losses
    from hdr_tf.models import blocks
    from hdr_tf.radiance import selfhdr_training
    from hdr_tf.training import initialization, loop, pointwise_pretraining, run_folder
    from tfrecords import dataset

    config = with_defaults(config)
    if config.stage == "pseudo_labels":
        return selfhdr_training.write_structure_labels(config.network, config.run, config.scenes)
    pointwise = config.stage == "pointwise"
    if pointwise and config.network != "ahdrnet":
        raise ValueError(f"--stage=pointwise: only ahdrnet can have 1x1 kernels, found --network={config.network}")
    kind = "kalantari" if config.stage == "supervised" else "selfhdr"
    loop.prepare(config, None if pointwise else kind)

    def data(step):
        if pointwise:
            return pointwise_pretraining.random_batches(config.seed, step, MOVED)
        flags = {name: getattr(config, name) for name in ("patch", "seed", "shuffle_scenes")}
        folder, structures = pathlib.Path(config.data), config.stage == "2"
        batches = dataset.crop_dataset(folder, config.batch, kind, structures, start=step, **flags)
        return batches.enumerate(step).map(inputs)

    def inputs(number, batch):
        if config.stage == "2":
            seed = tf.stack([tf.cast(config.seed, tf.int64), number])
            noise = tf.random.stateless_normal(tf.shape(batch["ldr_mid"]), seed, stddev=NOISE)
            batch["ldr_mid"] = tf.clip_by_value(batch["ldr_mid"] + noise, 0, 1)
        return batch | blocks.with_radiance(batch, batch["exposures"])

    first = next(iter(data(0)))
    loss, terms = selfhdr_training.objective(config.stage, config.structure_loss, config.vgg_weights or "imagenet")
    rate = keras.optimizers.schedules.ExponentialDecay(config.learning_rate, config.halve_every, 0.5, staircase=True)
    with loop.scope(config):
        network = build(config, **({"kernel_size": 1} if pointwise else {}))
        if pointwise:
            initialization.he_normal(network, last="output")
        trainer = loop.compiled(network, loss, terms, config, first, keras.optimizers.Adam(rate, epsilon=1e-8))

    def sample():
        """Shows low, middle and high above the label, the result and the structure label, or without one the label again."""
        result = trainer(first, training=False)["hdr"]
        below = (first["hdr"], result, first.get("structure", first["hdr"]))
        above = (first[f"ldr_{side}"] for side in blocks.EXPOSURE_NAMES)
        return loop.sheet([(2 * x[0] - 1, 2 * losses.mu_law(y[0]) - 1) for x, y in zip(above, below, strict=True)])

    validate = selfhdr_training.validation(config.network, network, config.validation) if config.validation else None
    loop.fit(trainer, data, config, sample, validate)
    if pointwise:
        centres, network = pointwise_pretraining.convolutions(network), build(config)
        pointwise_pretraining.set_convolutions(network, centres)
    run_folder.save_weights({config.network: network}, config)


def with_defaults(config: Config) -> Config:
    """Returns the flags with the original's numbers for the network where they are 0."""
    numbers = TRANSFORMER_DEFAULTS if config.network in ("hdr_transformer", "sctnet") else DEFAULTS
    return dataclasses.replace(config, **{name: getattr(config, name) or number for name, number in numbers.items()})


def build(config: Config, **arguments):
    """Returns the network that the flags ask for, a keras.Model, built with further arguments of its builder."""
    if config.filters:
        arguments["filters"] = config.filters
        if config.network == "ahdrnet":
            arguments["growth"] = (config.filters + 1) // 2  # the original has 64 filters and a growth of 32
    return systems.build(config.network, **arguments)


if __name__ == "__main__":
    cli.run(main, Config)
