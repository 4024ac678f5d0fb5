"""Trains the default network, `pyramid`, on synthetic brackets.

    hdr-tf records --kind=bracket --hdr_dir=hdr --photos --exposures=4,5 --count=3000 --output=data/train
    python train/pyramid.py --data=data/train --run=runs/pyramid

Records are of kind bracket with four exposures or more. Loss: `losses.pyramid`, which is MEF-SSIM with penalties on values
outside [0, 1] and on a brightness far from that of the well exposed pixels. Adam, with a rate that falls along a cosine and a
gradient norm clipped at 1. Each step takes a batch for each of `PARTS`: pairs and brackets, with pyramids of several depths, so
that one set of weights serves any number of exposures and images of any size.
"""

import dataclasses
import pathlib

from hdr_tf import cli
from hdr_tf.training.config import TrainingConfig

# Name: number of exposures, levels of the pyramid, images in a batch. By `levels_for`, the 256 pixels of the records call for 4
# levels; with more the network sees them as it sees a larger image.
PARTS = {"pairs": (2, 4, 2), "deep_pairs": (2, 6, 1), "brackets": (4, 5, 1)}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one."""

    run: str = "runs/pyramid"  # folder of the run; an existing run continues
    learning_rate: float = 2e-3  # of the first step; the last one has a fiftieth of it
    filters: int = 16  # width of the network


def main(config: Config) -> None:
    import keras
    import numpy as np
    import tensorflow as tf

    from hdr_tf import losses
    from hdr_tf.models.pyramid import pyramid
    from hdr_tf.training import loop, run_folder
    from tfrecords import dataset

    class Trainer(keras.Model):
        """From a batch {part: [B, N, H, W, 3]} to {part: [B, H, W, 3]}; the networks of all parts share their weights."""

        def __init__(self):
            super().__init__()
            self.network = pyramid(filters=config.filters)
            self.parts = {name: pyramid(n, levels, share=self.network) for name, (n, levels, _) in PARTS.items()}
            self.terms = [keras.metrics.Mean(name) for name in ("loss", "mef_ssim", "out_of_range", "brightness")]

        def call(self, batch):
            return {
                name: network({key: batch[name][:, i] for i, key in enumerate(network.input)})["fused"]
                for name, network in self.parts.items()
            }

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            total = 0
            for name, (_, _, images) in PARTS.items():
                values = losses.pyramid(x[name], y_pred[name])
                for term, value in zip(self.terms, values, strict=True):
                    term.update_state(value, images)
                total += values[0] * images
            return total / sum(images for _, _, images in PARTS.values())

        @property
        def metrics(self):
            return self.terms

    loop.prepare(config, "bracket")

    def data(step):
        parts = {
            name: dataset.bracket_dataset(pathlib.Path(config.data), images, exposures, config.seed + number, step)
            for number, (name, (exposures, _, images)) in enumerate(PARTS.items())
        }
        return tf.data.Dataset.zip(parts)

    model = Trainer()
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1), jit_compile=config.jit)
    first = next(iter(data(0)))
    model.build({name: batch.shape for name, batch in first.items()})

    def sample():
        """Shows the exposures of a bracket and the fused image side by side."""
        row = np.concatenate([*first["brackets"][0], model(first, training=False)["brackets"][0]], axis=1)
        return (np.clip(row, 0, 1) * 255 + 0.5).astype(np.uint8)

    loop.fit(model, data, config, sample)
    run_folder.save_weights({"pyramid": model.network}, config)


if __name__ == "__main__":
    cli.run(main, Config)
