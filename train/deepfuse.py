"""Trains DeepFuse in either published form: a pair of exposures to one luminance.

    hdr-tf records --kind=bracket --brackets=HDREye/Bracketed_images --output=data/hdreye
    python train/deepfuse.py --form=sunnerli --data=data/hdreye --run=runs/deepfuse_sunnerli

Records are of kind bracket, synthetic or captured; small ones (make_tfrecord --size=96) are read faster.

`--form=official`: 100 times 1 - MEF-SSIM, at full size only, of the network's output stretched to 0..255, as in the
commented-out code of the authors' release (KRamPrabhakar/DeepFuse 31c226f, main.py and load_data.py). The release lacks the
loss itself; here it is MEF-SSIM after the authors of that measure. The steps are the paper's, 100 times through 30,000 patches.

`--form=sunnerli`: 1 - SSIM with a fixed weighted mean of the pair (`losses.sunnerli`), 100 times through HDREye's 46 brackets
(SunnerLi/DeepFuse.pytorch 2986225, train.py, opts.py).
"""

import dataclasses
import functools
import pathlib
from typing import Literal

from hdr_tf import cli
from hdr_tf.training.config import TrainingConfig

FORMS = {
    "official": {"steps": 60_000, "batch": 50, "patch": 77, "learning_rate": 1e-3},
    "sunnerli": {"steps": 600, "batch": 8, "patch": 256, "learning_rate": 1e-4},
}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one; 0 stands for the original's value."""

    form: Literal["official", "sunnerli"] = "official"  # which of the two networks
    run: str = "runs/deepfuse"  # folder of the run; an existing run continues
    steps: int = 0  # number of steps after which the run ends: 60,000 or 600
    log_every: int = 100  # steps between log rows and samples
    batch: int = 0  # pairs in a step: 50 or 8
    patch: int = 0  # side of a patch in pixels: 77 or 256
    learning_rate: float = 0  # of the first step: 1e-3 or 1e-4
    schedule: Literal["constant", "cosine"] = "constant"  # or rising over a fiftieth of the run and falling to a hundredth
    weights: str = ""  # start from the weights in this file


def main(config: Config) -> None:
    from keras import ops

    from hdr_tf import losses, systems
    from hdr_tf.training import loop, run_folder
    from tfrecords import dataset, examples

    config = dataclasses.replace(config, **{k: getattr(config, k) or number for k, number in FORMS[config.form].items()})
    loop.prepare(config, "bracket")
    example = functools.partial(examples.deepfuse, patch=config.patch, form=config.form)
    data = functools.partial(dataset.example_dataset, pathlib.Path(config.data), example, config.batch, 2, config.seed)

    def official(batch, outputs):
        exposures = ops.stack([batch["under"][..., 0], batch["over"][..., 0]], axis=1)
        # Not `mef_ssim`: it is clipped at 0, and with initial weights the quality may lie below.
        quality = losses.mef_ssim_scales(exposures, outputs["fused"][..., 0], scales=1)
        return {"loss": 100 * ops.mean(1 - quality)}

    def sunnerli(batch, outputs):
        return {"loss": losses.sunnerli(batch["under"], batch["over"], outputs["fused"])[0]}

    first = next(iter(data(0)))
    with loop.scope(config):
        network = systems.build(f"deepfuse_{config.form}")
        optimizer = loop.adam(config.learning_rate, config.schedule, config.steps)
        model = loop.compiled(network, official if config.form == "official" else sunnerli, (), config, first, optimizer)

    def sample():
        """Shows under, over and fused, of sunnerli also the target; a row for each of up to four pairs."""
        columns = [first["under"], first["over"], ops.cast(model(first, training=False)["fused"], "float32")]
        if config.form == "sunnerli":
            columns.append(losses.sunnerli(*columns)[1])
        else:
            columns = [column / 127.5 - 1 for column in columns]
        return loop.sheet([column[:4] for column in columns])

    loop.fit(model, data, config, sample)
    run_folder.save_weights({network.name: network}, config)


if __name__ == "__main__":
    cli.run(main, Config)
