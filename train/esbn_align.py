"""Trains one of ESBN's two alignment networks: the low or the high exposure as seen from where the middle one was taken.

    python tools/make_scenes.py --hdr_dir=hdr --count=100 --output=data/scenes
    python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
    python train/esbn_align.py --side=low --data=data/train --run=runs/esbn_align_low

The records are moving scenes, kind "kalantari" or "esbn_align". The run folder (hdr_tf/training.py) gets
esbn_align_low.weights.h5, or esbn_align_high.weights.h5.

Loss: mean squared error against the true exposure, in -1..1. The defaults are those of the original programs
(tkd1088/ESBN 3f873ab, training_align_low.py and training_align_high.py, which differ in names): batches of 8 patches of 256
pixels, Adam at 1e-4, a tenth of it from step 200,000, 300,000 steps, a sample every 1,000, a checkpoint every 10,000.

With `--frozen_norm`, to be used on `--weights` of a first run, the batch norms keep their averages: the network is then
trained as it will be used. It gains most after a short run, when the averages of the last ten batches are still rough.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    side: Literal["low", "high"] = "low"  # the exposure to align
    data: str = ""  # folder of records of moving scenes
    run: str = "runs/esbn_align"  # folder of the run; an existing one is continued
    batch: int = 8  # patches in a step
    start: Literal["original", "he"] = "original"  # of the kernels: deviation 0.01, or He's with a small last layer
    weights: str = ""  # go on from the weights in this file instead
    frozen_norm: bool = False  # keep the averages and scales of the batch norms
    filters: int = 64  # width of the first level; the deeper ones have two and four times as many


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import keras

    from hdr_tf import training, weights
    from hdr_tf.models import esbn
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records of moving scenes, as tools/make_tfrecord.py writes them")
    training.prepare(config)
    inputs = {
        f"{kind}_{slot}": f"{kind}_{side}" for kind in ("ldr", "hdr") for slot, side in (("low", config.side), ("mid", "mid"))
    }
    truth = f"gt_ldr_{config.side}"

    def data(step):
        batches = dataset.patch_dataset(
            pathlib.Path(config.data),
            config.batch,
            [*inputs.values(), truth],
            patch=config.patch,
            seed=config.seed,
            start=step,
            shuffle_scenes=config.shuffle_scenes,
            depth=config.depth,
            resize=config.resize,
        )
        return batches.map(lambda batch: ({slot: batch[name] for slot, name in inputs.items()}, {"aligned": batch[truth]}))

    pictures, wanted = next(iter(data(0)))
    with training.scope(config):
        model = esbn.esbn_align(config.filters)
        if config.weights:
            weights.load_weights(model, config.weights)
        elif config.start == "he":
            training.he_start(model, last="decoder_output")
        if config.frozen_norm:
            for layer in model.layers:
                layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        optimizer = training.adam(config.learning_rate, config.schedule, config.steps)
        model.compile(optimizer, loss={"aligned": "mean_squared_error"}, jit_compile=config.jit)

    def sample():
        """The picture as taken, aligned and as it should be, above each other, beside the middle exposure, as the original."""
        aligned = model(pictures, training=False)["aligned"][0]
        middle = pictures["ldr_mid"][0]
        return training.sheet([(pictures["ldr_low"][0], aligned, wanted["aligned"][0]), (middle, middle, middle)])

    training.fit(model, data, config, sample)
    training.save_weights(model, f"esbn_align_{config.side}", config)


if __name__ == "__main__":
    cli.run(main, Config)
