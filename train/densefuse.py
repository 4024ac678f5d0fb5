"""Trains DenseFuse's encoder and decoder to give a picture back; features are fused without training.

    python tools/make_tfrecord.py --kind=images --pictures=photographs --output=data/pictures
    python train/densefuse.py --data=data/pictures --run=runs/densefuse
    python train/densefuse.py --colour=rgb --data=data/pictures --run=runs/densefuse_rgb

Records are of kind images, or of kind bracket: then each step takes one exposure of a record. The run folder
(hdr_tf/training.py) gets densefuse_gray.weights.h5 or densefuse_rgb.weights.h5.

Loss: mean squared error + 100 (1 - MS-SSIM), of pictures in 0..255. Adam at 1e-4, batches of 4 pictures of 256 x 256 pixels,
4 times through 40,000 pictures, weights of the second term from 1 to 10,000 (hli1221/densefuse-pytorch 4394b63,
train_densefuse.py, args_fusion.py). Larger pictures are cropped at random.

`--optimizer=kfac` follows the natural gradient (hdr_tf/kfac.py): the last hundredth of a level takes Adam days.
`--weights` goes on from a run's weights.

The network ends in a ReLU, and many starts are zero everywhere, which nothing can change: such a start is drawn again.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import PixelTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PixelTrainingConfig):
    """Flags of all training scripts and of this one."""

    data: str = ""  # folder of records of kind images or bracket
    run: str = "runs/densefuse"  # folder of the run; an existing one is continued
    colour: Literal["gray", "rgb"] = "gray"  # which of the two networks
    steps: int = 40_000  # at which the run ends
    batch: int = 4  # pictures in a step


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import functools

    from keras import ops

    from hdr_tf import losses, training
    from hdr_tf.image import examples
    from hdr_tf.models.densefuse import autoencoder
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records, as tools/make_tfrecord.py --kind=images writes them")
    training.prepare(config)
    name, channels = f"densefuse_{config.colour}", {"gray": 1, "rgb": 3}[config.colour]

    def data(step):
        example = functools.partial(examples.densefuse, patch=config.patch, channels=channels)
        return dataset.example_dataset(pathlib.Path(config.data), example, config.batch, 1, config.seed, step)

    def loss(batch, outputs):
        pixel, ssim = losses.pixel_and_ssim(outputs["picture"], batch["picture"])
        return {"loss": pixel + config.ssim_weight * ssim, "pixel": pixel, "ssim": ssim}

    first = next(iter(data(0)))
    with training.scope(config):
        network = training.living(lambda: autoencoder(channels), first)
        model = training.compiled(network, loss, ["pixel", "ssim"], config)
        model.build({"picture": first["picture"].shape})

    def sample():
        """A picture and what comes back; a row for each of up to four."""
        columns = [first["picture"], ops.cast(model(first, training=False)["picture"], "float32")]
        return training.sheet([column[:4] / 127.5 - 1 for column in columns])

    training.fit(model, data, config, sample)
    training.save_weights(network, name, config)


if __name__ == "__main__":
    cli.run(main, Config)
