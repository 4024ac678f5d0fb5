"""Trains HyperP_MB: the gray of an under- and an over-exposed image to that of a well exposed one.

    hdr-tf records --kind=bracket --triplets=DB --output=data/triplets
    python train/hyperp_mb.py --data=data/triplets --run=runs/hyperp_mb

Records are of kind bracket with three exposures or more: those of DB/input1, DB/target and DB/input2, or synthetic ones. The
network gets one exposure from before the middle and one from after it. Its target is the middle exposure, whose two neighbours
it then gets, or with --target=mertens the Mertens fusion of all.

Loss: three tasks, each mean squared error + 1000 (1 - MS-SSIM), see `losses.multi_task`; 40 times through 460 images
(Changi-Im/HyperP_MB 9f676f6, train.py, args_fusion.py). With `--autoencoder` the network first fuses by the plain mean of the
features. `--optimizer=kfac` follows the natural gradient (hdr_tf/training/kfac.py) from `--weights` of an earlier run.

Changed: the original also keeps the weights of the step with the smallest loss, which is that of one image.
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

    run: str = "runs/hyperp_mb"  # folder of the run; an existing run continues
    steps: int = 18_400  # number of steps after which the run ends
    log_every: int = 460  # steps between log rows and samples
    ssim_weight: float = 1_000  # weight of 1 - MS-SSIM in the loss
    mask_weight: float = 1  # weight of the two tasks under masks, besides their lambdas
    autoencoder: str = ""  # file of weights of densefuse_gray to start from
    target: Literal["middle", "mertens"] = "middle"  # the exposure between the other two, or the Mertens fusion of all


def main(config: Config) -> None:
    from keras import ops

    from hdr_tf import losses, systems, weights
    from hdr_tf.models import hyperp_mb
    from hdr_tf.training import initialization, loop, run_folder
    from tfrecords import dataset, examples

    loop.prepare(config, "bracket")
    example = functools.partial(examples.hyperp_mb, patch=config.patch, target=config.target)
    data = functools.partial(dataset.example_dataset, pathlib.Path(config.data), example, 1, 3, config.seed)

    def loss(batch, outputs):
        low, high = (
            [batch[f"{side}_mask"], batch[side], config.mask_weight * batch[f"{side}_lambda"]] for side in ("low", "high")
        )
        values = losses.multi_task(outputs["fused"], batch["target"], low, high, config.ssim_weight)
        return dict(zip(("loss", "pixel", "ssim"), values, strict=True))

    first = next(iter(data(0)))
    network = initialization.draw_alive(lambda: systems.build("hyperp_mb"), first)
    if config.autoencoder:
        autoencoder = systems.build("densefuse_gray")
        weights.load_weights(autoencoder, config.autoencoder)
        hyperp_mb.begin_with(network, autoencoder)
    model = loop.compiled(network, loss, ["pixel", "ssim"], config, first)

    def sample():
        """Shows under, over, fused and target."""
        fused = ops.cast(model(first, training=False)["fused"], "float32")
        return loop.sheet([column / 127.5 - 1 for column in (first["under"], first["over"], fused, first["target"])])

    loop.fit(model, data, config, sample)
    run_folder.save_weights({"hyperp_mb": network}, config)


if __name__ == "__main__":
    cli.run(main, Config)
