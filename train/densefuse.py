"""Trains DenseFuse's encoder and decoder to reproduce an image; the fusion of the features needs no training.

    hdr-tf records --kind=images --images=photographs --output=data/images
    python train/densefuse.py --colour=rgb --data=data/images --run=runs/densefuse_rgb

Records are of kind images, or of kind bracket, of which each step takes one exposure per record. Loss: mean squared error + 100
(1 - MS-SSIM), of images in 0..255 (hli1221/densefuse-pytorch 4394b63, train_densefuse.py, args_fusion.py). The original passes
4 times through 40,000 images and offers weights of the second term from 1 to 10,000.

`--optimizer=kfac` follows the natural gradient (hdr_tf/training/kfac.py) from `--weights` of an earlier run: with Adam the last
hundredth of a level takes days.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training.config import SsimTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(SsimTrainingConfig):
    """Flags of all training scripts and of this one."""

    run: str = "runs/densefuse"  # folder of the run; an existing run continues
    colour: Literal["gray", "rgb"] = "gray"  # which of the two networks
    steps: int = 40_000  # number of steps after which the run ends
    batch: int = 4  # images in a step


def main(config: Config) -> None:
    from keras import ops

    from hdr_tf import losses
    from hdr_tf.models.densefuse import autoencoder
    from hdr_tf.training import initialization, loop, run_folder
    from tfrecords import dataset, examples

    loop.prepare(config, "images")
    channels = {"gray": 1, "rgb": 3}[config.colour]
    example = functools.partial(examples.densefuse, patch=config.patch, channels=channels)
    data = functools.partial(dataset.example_dataset, pathlib.Path(config.data), example, config.batch, 1, config.seed)

    def loss(batch, outputs):
        pixel, ssim = losses.pixel_and_ssim(outputs["picture"], batch["picture"])
        return {"loss": pixel + config.ssim_weight * ssim, "pixel": pixel, "ssim": ssim}

    first = next(iter(data(0)))
    with loop.scope(config):
        network = initialization.draw_alive(lambda: autoencoder(channels), first)
        model = loop.compiled(network, loss, ["pixel", "ssim"], config, first)

    def sample():
        """Shows an image and its reproduction; a row for each of up to four."""
        columns = [first["picture"], ops.cast(model(first, training=False)["picture"], "float32")]
        return loop.sheet([column[:4] / 127.5 - 1 for column in columns])

    loop.fit(model, data, config, sample)
    run_folder.save_weights({f"densefuse_{config.colour}": network}, config)


if __name__ == "__main__":
    cli.run(main, Config)
