"""Trains DeepFuse in either published form: a pair of exposures to one luminance.

    python tools/make_tfrecord.py --kind=bracket --hdr_dir=hdr --photos --count=3000 --output=data/brackets
    python train/deepfuse.py --form=official --data=data/brackets --run=runs/deepfuse_official

    python tools/make_tfrecord.py --kind=bracket --stacks=HDREye/Bracketed_images --output=data/stacks
    python train/deepfuse.py --form=sunnerli --data=data/stacks --run=runs/deepfuse_sunnerli

Records are of kind bracket, made or taken; each gives an under- and an over-exposed picture (hdr_tf/image/examples.py).
The run folder (hdr_tf/training.py) gets deepfuse_official.weights.h5 or deepfuse_sunnerli.weights.h5. A sample shows pairs,
what the network makes of them and, of sunnerli, the target. TensorBoard draws the curve of the loss.

`--form=official`: 100 times 1 - MEF-SSIM, at full size only, of the network's output stretched to 0..255; Adam at 1e-3, batches
of 50 patches of 77 pixels. So says the recipe that the authors left, commented out, in their release (KRamPrabhakar/DeepFuse
31c226f, main.py and load_data.py). Their loss itself is not in the release; here it is MEF-SSIM after its own authors
(hdr_tf/losses.py), at one scale as in the paper's equations. The number of steps is that of the paper, 100 times through 30,000
patches. Small records (make_tfrecord --size=96) are read faster.

`--form=sunnerli`: 1 - SSIM with SunnerLi's target, which is a fixed weighted mean of the pair (`losses.sunnerli`); Adam at
1e-4, batches of 8 patches of 256 pixels (SunnerLi/DeepFuse.pytorch 2986225, train.py, opts.py). 600 steps are 100 times through
the 46 stacks of HDREye, as there.
"""

import dataclasses
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import TrainingConfig

FORMS = {
    "official": {"steps": 60_000, "batch": 50, "patch": 77, "learning_rate": 1e-3},
    "sunnerli": {"steps": 600, "batch": 8, "patch": 256, "learning_rate": 1e-4},
}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one; 0 stands for the original's value."""

    form: Literal["official", "sunnerli"] = "official"  # which of the two networks
    data: str = ""  # folder of records of kind bracket
    run: str = "runs/deepfuse"  # folder of the run; an existing one is continued
    steps: int = 0  # at which the run ends: 60,000 or 600
    log_every: int = 100  # steps between log rows and samples
    batch: int = 0  # pairs in a step: 50 or 8
    patch: int = 0  # side of a patch in pixels: 77 or 256
    learning_rate: float = 0  # of the first step: 1e-3 or 1e-4
    schedule: Literal["constant", "cosine"] = "constant"  # or rising over a fiftieth of the run and falling to a hundredth
    weights: str = ""  # go on from the weights in this file


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    import functools

    from keras import ops

    from hdr_tf import losses, training, weights
    from hdr_tf.image import examples
    from hdr_tf.models import build
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records, as tools/make_tfrecord.py --kind=bracket writes them")
    originals = {name: value for name, value in FORMS[config.form].items() if not getattr(config, name)}
    config = dataclasses.replace(config, **originals)
    training.prepare(config)

    def data(step):
        example = functools.partial(examples.deepfuse, patch=config.patch, form=config.form)
        return dataset.example_dataset(pathlib.Path(config.data), example, config.batch, 2, config.seed, step)

    def official(batch, outputs):
        exposures = ops.stack([batch["under"][..., 0], batch["over"][..., 0]], axis=1)
        # Not `mef_ssim`: it is cut at 0, below which a start may lie.
        quality = losses.mef_ssim_scales(exposures, outputs["fused"][..., 0], scales=1)
        return {"loss": 100 * ops.mean(1 - quality)}

    def sunnerli(batch, outputs):
        return {"loss": losses.sunnerli(batch["under"], batch["over"], outputs["fused"])[0]}

    name = f"deepfuse_{config.form}"
    first = next(iter(data(0)))
    with training.scope(config):
        network = build(name)
        if config.weights:
            weights.load_weights(network, config.weights)
        model = training.trainer(network, {"official": official, "sunnerli": sunnerli}[config.form])
        optimizer = training.adam(config.learning_rate, config.schedule, config.steps)
        model.compile(optimizer, jit_compile=config.jit)
        model.build({key: batch.shape for key, batch in first.items()})

    def sample():
        """Under, over and fused, of sunnerli also the target; a row for each of up to four pairs."""
        columns = [first["under"], first["over"], ops.cast(model(first, training=False)["fused"], "float32")]
        if config.form == "sunnerli":
            columns.append(losses.sunnerli(*columns)[1])
        else:
            columns = [column / 127.5 - 1 for column in columns]
        return training.sheet([column[:4] for column in columns])

    training.fit(model, data, config, sample)
    training.save_weights(network, name, config)


if __name__ == "__main__":
    cli.run(main, Config)
