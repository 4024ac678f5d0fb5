"""Trains ESBN's merging network: three aligned exposures to radiance.

    python tools/make_scenes.py --hdr_dir=hdr --static --count=100 --output=data/scenes
    python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
    python train/esbn_fusion.py --data=data/train --run=runs/esbn_fusion

The records are aligned scenes: static ones, or moving ones that tools/align_scenes.py has aligned with the two alignment
networks, as kind "kalantari" or "esbn_merge". The run folder (hdr_tf/training.py) gets esbn_fusion.weights.h5.

Loss: mean absolute difference of radiance after the mu-law. The defaults are those of the original program
(tkd1088/ESBN 3f873ab, training_fusion.py): batches of 4 patches of 256 pixels, Adam at 1e-4, a tenth of it from step
200,000, 300,000 steps, a sample every 1,000, a checkpoint every 10,000. It takes some hundred thousand steps to leave its
start (normal, deviation 0.01); `--start=he`, `--learning_rate=1e-3 --schedule=cosine` get as far in some thousand.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one."""

    data: str = ""  # folder of records of aligned scenes
    run: str = "runs/esbn_fusion"  # folder of the run; an existing one is continued
    steps: int = 300_000  # at which the run ends
    log_every: int = 1_000  # steps between log rows and samples
    checkpoint_every: int = 10_000  # steps between checkpoints
    batch: int = 4  # patches in a step
    patch: int = 256  # side of a patch in pixels
    learning_rate: float = 1e-4  # of the first step
    schedule: Literal["step", "cosine"] = "step"  # a tenth behind step 200,000, or a cosine that ends at a hundredth
    start: Literal["original", "he"] = "original"  # of the kernels: deviation 0.01, or He's with a small last layer
    weights: str = ""  # go on from the weights in this file instead
    filters: int = 64  # width of the network
    growth: int = 32  # channels that a layer of the dense block adds
    depth: Literal[8, 16] = 8  # bits of the pictures: the original reads 16-bit files as 8 bit
    resize: bool = True  # scale each patch down to 250 of 256 pixels and up again, as the original does
    shuffle_scenes: int = 8  # scenes in memory at a time


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    from hdr_tf import losses, training, weights
    from hdr_tf.models import esbn
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records of aligned scenes, as tools/make_tfrecord.py writes them")
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

    exposures, truth = next(iter(data(0)))
    with training.scope(config):
        model = esbn.esbn_fusion(config.filters, config.growth)
        if config.weights:
            weights.load_weights(model, config.weights)
        elif config.start == "he":
            training.he_start(model, last="output")
        optimizer = training.adam(config.learning_rate, config.schedule, config.steps)
        model.compile(optimizer, loss={"hdr": training.whole_batch(losses.mu_law_l1)}, jit_compile=config.jit)

    def sample():
        """Low, middle and high above the truth, the result and the truth again, as the original lays its sheet out."""
        truth_picture = losses.mu_law(truth["hdr"][0])
        result = losses.mu_law(model(exposures, training=False)["hdr"][0])
        columns = [(exposures["ldr_low"][0], truth_picture), (exposures["ldr_mid"][0], result)]
        return training.sheet([*columns, (exposures["ldr_high"][0], truth_picture)])

    training.fit(model, data, config, sample)
    path = pathlib.Path(config.run) / "esbn_fusion.weights.h5"
    weights.save_weights(model, path)
    print(f"{path}: {config.steps} steps")


if __name__ == "__main__":
    cli.run(main, Config)
