"""Trains the default network for HDR merging, `merge`, on synthetic moving scenes.

    hdr-tf records --kind=merge --hdr_dir=hdr --count=600 --output=data/registered
    python train/merge.py --data=data/registered --run=runs/merge

Records are of kind merge. Loss: the root mean squared error of a patch, averaged over the patches, plus half the mean absolute
error, both after the mu-law, with 1 where the shortest exposure clips. Adam, with a rate that falls along a cosine
and a gradient norm clipped at 1.
"""

import dataclasses
import pathlib

from hdr_tf import cli
from hdr_tf.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one."""

    run: str = "runs/merge"  # folder of the run; an existing run continues
    steps: int = 3000  # number of steps after which the run ends
    batch: int = 4  # patches in a batch
    learning_rate: float = 1e-3  # the largest: it rises over a fiftieth of the run, then falls to a hundredth
    filters: int = 16  # width of the network
    weights: str = ""  # start from the weights in this file


def main(config: Config) -> None:
    import keras
    import numpy as np

    from hdr_tf import losses
    from hdr_tf.models.merge import merge
    from hdr_tf.training import loop, run_folder
    from tfrecords import dataset

    loop.prepare(config, "merge")
    network = merge(config.filters)

    def data(step):
        return dataset.merge_dataset(pathlib.Path(config.data), config.batch, config.seed, step)

    first = next(iter(data(0)))
    # A higher rate, or one that does not rise slowly, drives the logits to where they have no gradient.
    optimizer = keras.optimizers.Adam(loop.rate(config.learning_rate, "cosine", config.steps), clipnorm=1)
    model = loop.compiled(network, losses.merge, ("rmse",), config, first, optimizer)

    def sample():
        """Shows the reference, the merged radiance and the true one, tone-mapped, of each patch of a batch."""
        outputs = model(first, training=False)
        shown = np.asarray(first["images"])[np.arange(config.batch), np.argmax(first["reference"], axis=1)]
        white = 1 / np.min(first["exposures"], axis=1)[:, None, None, None]
        rows = [losses.mu_law(np.clip(x / white, 0, 1)) * 2 - 1 for x in (shown, outputs["denoised"], first["hdr"])]
        return loop.sheet(np.asarray(rows).swapaxes(0, 1))

    loop.fit(model, data, config, sample)
    run_folder.save_weights({"merge": network}, config)


if __name__ == "__main__":
    cli.run(main, Config)
