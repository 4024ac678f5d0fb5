"""Trains ESBN's merging network: three aligned exposures to radiance.

    python tools/make_scenes.py --hdr_dir=hdr --static --count=100 --output=data/scenes
    python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
    python train/esbn_fusion.py --data=data/train --run=runs/esbn_fusion

The records are aligned scenes: static ones, or moving ones that tools/align_scenes.py --method=esbn has aligned with the two
alignment networks, as kind "kalantari" or "esbn_merge". The run folder (hdr_tf/training.py) gets esbn_fusion.weights.h5.

Loss: mean absolute difference of radiance after the mu-law, or with `--loss=l2` the mean squared one, which PSNR-T measures and
which a few very dark pixels decide. The defaults are those of the original program
(tkd1088/ESBN 3f873ab, training_fusion.py): batches of 4 patches of 256 pixels, Adam at 1e-4, a tenth of it from step
200,000, 300,000 steps, a sample every 1,000, a checkpoint every 10,000.

`--pixel_steps=12000` does not begin with the original's start (normal, deviation 0.01), but with kernels whose middle is fitted
to as many batches of drawn pixels (hdr_tf/pixels.py). `--inner_kernel_size=1` goes on with kernels of one pixel inside, which
takes a third of the time; the zeros around them are stored, and `--weights` goes on either way.

`--optimizer=kfac` follows the natural gradient (hdr_tf/kfac.py), for the last decibels, from `--weights` or `--pixel_steps` on:
at the original's start, where hardly anything reaches the output, it goes astray.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    data: str = ""  # folder of records of aligned scenes
    run: str = "runs/esbn_fusion"  # folder of the run; an existing one is continued
    pixel_steps: int = 0  # first fit the middle of the kernels to so many batches of drawn pixels; 0 is the original's start
    weights: str = ""  # go on from the weights in this file instead
    inner_kernel_size: Literal[1, 3] = 3  # 1: train only the middle of the kernels between the first and the last layer
    loss: Literal["l1", "l2"] = "l1"  # mean absolute difference behind the mu-law, as the original, or mean squared one
    optimizer: Literal["adam", "kfac"] = "adam"  # as the original, or natural gradient, at rates about 5e-4
    filters: int = 64  # width of the network
    growth: int = 32  # channels that a layer of the dense block adds


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import keras

    from hdr_tf import kfac, losses, pixels, training, weights
    from hdr_tf.models import esbn
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records of aligned scenes, as tools/make_tfrecord.py writes them")
    if config.weights and config.pixel_steps:
        raise ValueError("--pixel_steps makes a new start: leave it out with --weights, or the other way round")
    if config.optimizer == "kfac" and not (config.loss == "l2" and (config.weights or config.pixel_steps)):
        raise ValueError("--optimizer=kfac: expected --loss=l2 and either --weights or --pixel_steps")
    training.prepare(config)

    def data(step):
        batches = dataset.patch_dataset(
            pathlib.Path(config.data),
            config.batch,
            [*esbn.EXPOSURES, "gt_hdr"],
            patch=config.patch,
            seed=config.seed,
            start=step,
            shuffle_scenes=config.shuffle_scenes,
            depth=config.depth,
            resize=config.resize,
        )
        return batches.map(lambda batch: ({name: batch[name] for name in esbn.EXPOSURES}, {"hdr": batch["gt_hdr"]}))

    loss = {"l1": losses.mu_law_l1, "l2": losses.mu_law_l2}[config.loss]
    exposures, truth = next(iter(data(0)))
    start = {}
    if config.weights:
        whole = esbn.esbn_fusion(config.filters, config.growth)
        weights.load_weights(whole, config.weights)
        start = pixels.convolutions(whole)
    elif config.pixel_steps and not training.checkpoints(config.run):
        start = fit_pixels(config)
    training.prepare(config)  # forgets that network: Keras would number the next optimizer, which a resumed run does not
    with training.scope(config):
        model = esbn.esbn_fusion(config.filters, config.growth, inner_kernel_size=config.inner_kernel_size)
        pixels.set_convolutions(model, start)
        if config.optimizer == "kfac":
            rate = training.rate(config.learning_rate, config.schedule, config.steps)
            trainer = kfac.Trainer(model, lambda output, truth: loss(output, truth["hdr"]), losses.mu_law_signed, config.seed)
            trainer.compile(keras.optimizers.SGD(rate, momentum=0.9), jit_compile=config.jit)
        else:
            trainer = model
            optimizer = training.adam(config.learning_rate, config.schedule, config.steps)
            trainer.compile(optimizer, loss={"hdr": training.whole_batch(loss)}, jit_compile=config.jit)

    def sample():
        """Low, middle and high above the truth, the result and the truth again, as the original lays its sheet out."""
        truth_picture = losses.mu_law_signed(truth["hdr"][0])
        result = losses.mu_law_signed(model(exposures, training=False)["hdr"][0])
        columns = [(exposures["ldr_low"][0], truth_picture), (exposures["ldr_mid"][0], result)]
        return training.sheet([*columns, (exposures["ldr_high"][0], truth_picture)])

    training.fit(trainer, data, config, sample)
    whole = esbn.esbn_fusion(config.filters, config.growth)
    pixels.set_convolutions(whole, pixels.convolutions(model))
    training.save_weights(whole, "esbn_fusion", config)


def fit_pixels(config: Config) -> dict[str, list]:
    """Fits the network with kernels of one pixel to drawn pixels; returns kernel and bias of each convolution."""
    import tensorflow as tf

    from hdr_tf import losses, pixels, training
    from hdr_tf.models import esbn

    single = esbn.esbn_fusion(config.filters, config.growth, 1, 1)
    training.he_start(single, last="output")
    single.compile(training.adam(2e-3, "cosine", config.pixel_steps), loss={"hdr": losses.mu_law_l1})
    drawn = tf.data.Dataset.counter().map(lambda number: draw_pixels(tf.stack([config.seed, number])))
    single.fit(drawn, steps_per_epoch=config.pixel_steps, shuffle=False, verbose=2)
    return pixels.convolutions(single)


def draw_pixels(seed):
    """Returns the inputs of the merging network and the radiance for 4096 drawn pixels, each [1, 64, 64, 3]."""
    from hdr_tf import pixels
    from hdr_tf.models.blocks import DISPLAY_GAMMA

    values, exposures, radiance = pixels.draw(seed)
    inputs = {f"ldr_{side}": 2 * value ** (1 / DISPLAY_GAMMA) - 1 for side, value in values.items()}
    inputs |= {f"hdr_{side}": 2 * value / exposures[side] - 1 for side, value in values.items()}
    return inputs, {"hdr": 2 * radiance - 1}


if __name__ == "__main__":
    cli.run(main, Config)
