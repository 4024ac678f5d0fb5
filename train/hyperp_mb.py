"""Trains HyperP_MB: the gray of an under- and an over-exposed picture to that of a well exposed one.

    python tools/make_tfrecord.py --kind=bracket --trios=DB --output=data/trios
    python train/hyperp_mb.py --data=data/trios --run=runs/hyperp_mb

Records are of kind bracket with three exposures or more: those of DB/input1, DB/target and DB/input2, or made ones, of which
the middle exposure is the target of its two neighbours or, with --target=mertens, the fusion of all that of one before and one
behind the middle. The run folder (hdr_tf/training.py) gets hyperp_mb.weights.h5.

Loss: three tasks, each mean squared error + 1000 (1 - MS-SSIM): the fused picture against the target, and, weighted by how far
their gammas are from the target's, against the under- and the over-exposed picture under masks (`losses.multi_task`). Adam at
1e-4, one picture of 256 x 256 pixels in a step, 40 times through 460 (Changi-Im/HyperP_MB 9f676f6, train.py, args_fusion.py).
Larger pictures are cropped at random.

`--autoencoder` begins with the weights of a densefuse_gray (train/densefuse.py) in both encoders and the decoder, which is to
fuse by the plain mean, in place of drawn ones.

`--optimizer=kfac` follows the natural gradient (hdr_tf/kfac.py) from `--weights` on.

The network ends in a ReLU, and many starts are zero everywhere, which nothing can change: such a start is drawn again.

Changed: the original also keeps the weights of the step with the smallest loss, of one picture; here those of the last step are
written.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import PixelTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PixelTrainingConfig):
    """Flags of all training scripts and of this one."""

    data: str = ""  # folder of records of kind bracket
    run: str = "runs/hyperp_mb"  # folder of the run; an existing one is continued
    steps: int = 18_400  # at which the run ends
    log_every: int = 460  # steps between log rows and samples
    ssim_weight: float = 1_000  # of 1 - MS-SSIM
    mask_weight: float = 1  # of the two tasks under masks, beside their lambdas
    autoencoder: str = ""  # a file of weights of densefuse_gray to begin with
    target: Literal["middle", "mertens"] = "middle"  # the exposure between the other two, or the Mertens fusion of all


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import functools

    from keras import ops

    from hdr_tf import losses, training, weights
    from hdr_tf.image import examples
    from hdr_tf.models import build, hyperp_mb
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records, as tools/make_tfrecord.py --kind=bracket writes them")
    training.prepare(config)

    def data(step):
        example = functools.partial(examples.hyperp_mb, patch=config.patch, target=config.target)
        return dataset.example_dataset(pathlib.Path(config.data), example, 1, 3, config.seed, step)

    def loss(batch, outputs):
        low, high = (
            [batch[f"{side}_mask"], batch[side], config.mask_weight * batch[f"{side}_lambda"]] for side in ("low", "high")
        )
        values = losses.multi_task(outputs["fused"], batch["target"], low, high, config.ssim_weight)
        return dict(zip(("loss", "pixel", "ssim"), values, strict=True))

    first = next(iter(data(0)))
    network = training.living(lambda: build("hyperp_mb"), first)
    if config.autoencoder:
        autoencoder = build("densefuse_gray")
        weights.load_weights(autoencoder, config.autoencoder)
        hyperp_mb.begin_with(network, autoencoder)
    model = training.compiled(network, loss, ["pixel", "ssim"], config)
    model.build({name: batch.shape for name, batch in first.items()})

    def sample():
        """Under, over, fused and target."""
        fused = ops.cast(model(first, training=False)["fused"], "float32")
        return training.sheet([column / 127.5 - 1 for column in (first["under"], first["over"], fused, first["target"])])

    training.fit(model, data, config, sample)
    training.save_weights(network, "hyperp_mb", config)


if __name__ == "__main__":
    cli.run(main, Config)
