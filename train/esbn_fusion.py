"""Trains ESBN's merging network: three aligned exposures to radiance.

    hdr-tf scenes --hdr_dir=hdr --static --count=100 --output=data/scenes
    hdr-tf records --scenes=data/scenes --output=data/train
    python train/esbn_fusion.py --data=data/train --run=runs/esbn_fusion

Records are aligned scenes, kind "kalantari" or "esbn_merge": static ones, or moving ones after `hdr-tf align
--method=esbn`. The defaults are those of the original program (tkd1088/ESBN 3f873ab, training_fusion.py). `--loss=l2` is what
PSNR-T measures and what a few very dark pixels decide.

`--pretraining_steps=12000` replaces the original's start (normal, deviation 0.01) by kernels whose centres are fitted to that
many batches of random pixels (hdr_tf/training/pointwise_pretraining.py). `--inner_kernel_size=1` trains 1x1 kernels between the
first and the last layer, which takes a third of the time; the file has zeros around them, and a run with either size can start
from it. `--optimizer=kfac` (hdr_tf/training/kfac.py) gains the last decibels, after `--weights` or `--pretraining_steps`: from
the original's start, where hardly anything reaches the output, it goes astray.
"""

import dataclasses
from typing import Literal

from hdr_tf import cli
from hdr_tf.training.config import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    RENAMED = {"pixel_steps": "pretraining_steps"}

    run: str = "runs/esbn_fusion"  # folder of the run; an existing run continues
    pretraining_steps: int = 0  # batches of random pixels to which the kernels' centres are fitted first; 0: as the original
    weights: str = ""  # start from the weights in this file instead
    inner_kernel_size: Literal[1, 3] = 3  # 1: train only the centres of the kernels between the first and the last layer
    loss: Literal["l1", "l2"] = "l1"  # mean absolute difference after the mu-law, as the original, or mean squared one
    optimizer: Literal["adam", "kfac"] = "adam"  # as the original, or natural gradient, at rates about 5e-4
    filters: int = 64  # width of the network
    growth: int = 32  # channels that a layer of the dense block adds


def main(config: Config) -> None:
    import keras

    from hdr_tf import losses, weights
    from hdr_tf.models import esbn
    from hdr_tf.training import initialization, kfac, loop, pointwise_pretraining, run_folder
    from tfrecords import dataset

    if config.weights and config.pretraining_steps:
        raise ValueError("--weights and --pretraining_steps are two different starts: leave one of them out")
    if config.optimizer == "kfac" and not (config.loss == "l2" and (config.weights or config.pretraining_steps)):
        raise ValueError("--optimizer=kfac: expected --loss=l2 and either --weights or --pretraining_steps")
    loop.prepare(config, "kalantari")
    data = loop.patches(dataset.patch_dataset, config, {name: name for name in esbn.EXPOSURES}, {"hdr": "gt_hdr"})
    exposures, truth = next(iter(data(0)))
    start = {}
    if config.weights:
        whole = esbn.esbn_fusion(config.filters, config.growth)
        weights.load_weights(whole, config.weights)
        start = pointwise_pretraining.convolutions(whole)
    elif config.pretraining_steps and not run_folder.checkpoints(config.run):
        pointwise = esbn.esbn_fusion(config.filters, config.growth, kernel_size=1, inner_kernel_size=1)
        batches = pointwise_pretraining.random_batches(config.seed).map(
            lambda batch: ({name: 2 * batch[name] - 1 for name in esbn.EXPOSURES}, {"hdr": 2 * batch["hdr"] - 1})
        )
        initialization.he_normal(pointwise, last="output")
        pointwise.compile(loop.adam(2e-3, "cosine", config.pretraining_steps), loss={"hdr": losses.mu_law_l1})
        pointwise.fit(batches, steps_per_epoch=config.pretraining_steps, shuffle=False, verbose=2)
        start = pointwise_pretraining.convolutions(pointwise)
    loop.prepare(config)  # forgets that network: Keras would number the next optimizer, which a continued run does not
    loss = {"l1": losses.mu_law_l1, "l2": losses.mu_law_l2}[config.loss]
    with loop.scope(config):
        model = esbn.esbn_fusion(config.filters, config.growth, inner_kernel_size=config.inner_kernel_size)
        pointwise_pretraining.set_convolutions(model, start)
        schedule = config.learning_rate, config.schedule, config.steps
        if config.optimizer == "kfac":
            trainer = kfac.Trainer(model, lambda output, truth: loss(output, truth["hdr"]), losses.mu_law_signed, config.seed)
            trainer.compile(keras.optimizers.SGD(loop.rate(*schedule), momentum=0.9), jit_compile=config.jit)
        else:
            trainer = model
            trainer.compile(loop.adam(*schedule), loss={"hdr": loop.whole_batch(loss)}, jit_compile=config.jit)

    def sample():
        """Shows low, middle and high above the truth, the result and the truth again, as the original does."""
        result, true = (losses.mu_law_signed(x["hdr"][0]) for x in (model(exposures, training=False), truth))
        above = (exposures[f"ldr_{side}"][0] for side in ("low", "mid", "high"))
        return loop.sheet(zip(above, (true, result, true), strict=True))

    loop.fit(trainer, data, config, sample)
    whole = esbn.esbn_fusion(config.filters, config.growth)
    pointwise_pretraining.set_convolutions(whole, pointwise_pretraining.convolutions(model))
    run_folder.save_weights({"esbn_fusion": whole}, config)


if __name__ == "__main__":
    cli.run(main, Config)
