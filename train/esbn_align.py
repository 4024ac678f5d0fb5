"""Trains one of ESBN's two alignment networks: it shows the low or the high exposure as the middle exposure saw the scene.

    hdr-tf scenes --hdr_dir=hdr --count=100 --output=data/scenes
    hdr-tf records --scenes=data/scenes --output=data/train
    python train/esbn_align.py --side=low --data=data/train --run=runs/esbn_align_low

Records are moving scenes, kind "kalantari" or "esbn_align". Loss: mean squared error against the true exposure, in -1..1. The
defaults are those of the original programs (tkd1088/ESBN 3f873ab, training_align_low.py and training_align_high.py, which
differ only in names).

`--frozen_norm`, together with the `--weights` of a first run, keeps the averages of the batch norms: the network is then
trained as it will be used. It gains most after a short run, when the averages of the last ten batches are still rough.
"""

import dataclasses
from typing import Literal

from hdr_tf import cli
from hdr_tf.training.config import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    side: Literal["low", "high"] = "low"  # the exposure to align
    run: str = "runs/esbn_align"  # folder of the run; an existing run continues
    batch: int = 8  # patches in a step
    start: Literal["original", "he"] = "original"  # of the kernels: deviation 0.01, or He's with a small last layer
    weights: str = ""  # start from the weights in this file instead
    frozen_norm: bool = False  # keep the averages and scales of the batch norms
    filters: int = 64  # width of the first level; the deeper ones have two and four times as many


def main(config: Config) -> None:
    import keras

    from hdr_tf import weights
    from hdr_tf.models import esbn
    from hdr_tf.training import initialization, loop, run_folder
    from tfrecords import dataset

    loop.prepare(config, "kalantari")
    sides = {"low": config.side, "mid": "mid"}  # the network calls the exposure that it aligns low
    inputs = {f"{kind}_{name}": f"{kind}_{side}" for kind in ("ldr", "hdr") for name, side in sides.items()}
    data = loop.patches(dataset.patch_dataset, config, inputs, {"aligned": f"gt_ldr_{config.side}"})
    images, truth = next(iter(data(0)))
    with loop.scope(config):
        model = esbn.esbn_align(config.filters)
        if config.weights:
            weights.load_weights(model, config.weights)
        elif config.start == "he":
            initialization.he_normal(model, last="decoder_output")
        if config.frozen_norm:
            for layer in model.layers:
                layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        optimizer = loop.adam(config.learning_rate, config.schedule, config.steps)
        model.compile(optimizer, loss={"aligned": "mean_squared_error"}, jit_compile=config.jit)

    def sample():
        """Stacks the captured, the aligned and the true exposure, next to the middle exposure, as the original does."""
        aligned, middle = model(images, training=False)["aligned"][0], images["ldr_mid"][0]
        return loop.sheet([(images["ldr_low"][0], aligned, truth["aligned"][0]), (middle, middle, middle)])

    loop.fit(model, data, config, sample)
    run_folder.save_weights({f"esbn_align_{config.side}": model}, config)


if __name__ == "__main__":
    cli.run(main, Config)
