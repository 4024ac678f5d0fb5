"""Trains the default network, `pyramid`, on made brackets.

    python tools/make_tfrecord.py --kind=bracket --hdr_dir=hdr --photos --exposures=4,5 --count=3000 --output=data/train
    python train/pyramid.py --data=data/train --run=runs/pyramid

Loss: 1 - MEF-SSIM of the gray pictures, three scales; plus 0.8 times the share of values outside [0, 1], as the mean of
d / (d + 0.02), d their distance from it (the squared distance lets many leave it a little); plus 0.3 times the mean squared
distance, between means over 64x64 pixels, from the average of the exposures weighted by how well exposed they are (Mertens,
Kautz, Van Reeth, 2007), since MEF-SSIM does not see brightness. Adam, its rate falling along a cosine, gradient norm clipped
at 1.

A step takes a batch for each of `PARTS`: pairs and brackets, in pyramids of several depths, so that one set of weights serves
any number of exposures and any size of picture.
"""

import dataclasses
import pathlib

from hdr_tf import cli
from hdr_tf.training import TrainingConfig

# Name: number of exposures, levels of the pyramid, pictures in a batch. The records' 256 pixels have 4 levels by rights; with
# more the network sees them as it sees a larger picture.
PARTS = {"pairs": (2, 4, 2), "deep_pairs": (2, 6, 1), "brackets": (4, 5, 1)}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one."""

    data: str = ""  # folder of records of kind bracket, with four exposures or more
    run: str = "runs/pyramid"  # folder of the run; an existing one is continued
    learning_rate: float = 2e-3  # of the first step; the last has a fiftieth of it
    filters: int = 16  # width of the network


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import keras
    import numpy as np
    import tensorflow as tf

    from hdr_tf import training
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records, as tools/make_tfrecord.py --kind=bracket writes them")
    training.prepare(config)

    def data(step):
        parts = {
            name: dataset.bracket_dataset(pathlib.Path(config.data), pictures, exposures, config.seed + number, step)
            for number, (name, (exposures, _, pictures)) in enumerate(PARTS.items())
        }
        return tf.data.Dataset.zip(parts)

    model = trainer(config.filters)
    rate = keras.optimizers.schedules.CosineDecay(config.learning_rate, config.steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1), jit_compile=config.jit)
    first = next(iter(data(0)))
    model.build({name: batch.shape for name, batch in first.items()})

    def sample():
        """The exposures of a bracket and what becomes of them, side by side."""
        row = np.concatenate([*first["brackets"][0], model(first, training=False)["brackets"][0]], axis=1)
        return (np.clip(row, 0, 1) * 255 + 0.5).astype(np.uint8)

    training.fit(model, data, config, sample)
    training.save_weights(model.network, "pyramid", config)


def trainer(filters: int):
    """Returns a keras.Model from a batch {part: [B, N, H, W, 3]} to {part: [B, H, W, 3]} that computes the loss itself.

    Its `network` holds the weights, which the networks of all `PARTS` share.
    """
    import keras
    from keras import ops

    from hdr_tf import losses
    from hdr_tf.models.pyramid import pyramid

    def well_exposed_mean(brackets):
        closeness = ops.exp(-0.5 * ((losses.luma(brackets) - 0.5) / 0.2) ** 2)[..., None] + 1e-3
        return ops.sum(closeness * brackets, axis=1) / ops.sum(closeness, axis=1)

    class Trainer(keras.Model):
        def __init__(self):
            super().__init__()
            self.network = pyramid(filters=filters)
            self.parts = {name: pyramid(n, levels, share=self.network) for name, (n, levels, _) in PARTS.items()}
            self.terms = [keras.metrics.Mean(name) for name in ("loss", "mef_ssim", "out_of_range", "brightness")]

        def call(self, batch):
            fused = {}
            for name, network in self.parts.items():
                pictures = {key: batch[name][:, i] for i, key in enumerate(network.input)}
                fused[name] = network(pictures)["fused"]
            return fused

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            total = 0
            for name, (_, _, pictures) in PARTS.items():
                brackets, fused = x[name], y_pred[name]
                quality = ops.cast(ops.mean(losses.mef_ssim(255 * losses.luma(brackets), 255 * losses.luma(fused))), "float32")
                distance = ops.abs(fused - ops.clip(fused, 0, 1))
                outside = ops.mean(distance / (distance + 0.02))
                brightness = ops.mean(ops.average_pool(fused - well_exposed_mean(brackets), 64, 64) ** 2)
                loss = 1 - quality + 0.8 * outside + 0.3 * brightness
                for term, value in zip(self.terms, (loss, quality, outside, brightness), strict=True):
                    term.update_state(value, pictures)
                total += loss * pictures
            return total / sum(pictures for _, _, pictures in PARTS.values())

        @property
        def metrics(self):
            return self.terms

    return Trainer()


if __name__ == "__main__":
    cli.run(main, Config)
