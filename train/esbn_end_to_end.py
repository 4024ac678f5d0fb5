"""Trains ESBN's three networks together: three exposures of a moving scene to radiance.

    python train/esbn_end_to_end.py --data=data/train --weights=weights --run=runs/esbn

Records are those of train/esbn_align.py, kind "kalantari". The paper trains the joined system this way; the released program
(tkd1088/ESBN 3f873ab) has only the three single networks. Loss: the sum of those of the merging network and the two
alignment networks, each with weight 1, as in a commented-out line of training_fusion.py.

`--weights` is a folder with esbn_align_low.weights.h5, esbn_align_high.weights.h5 and esbn_fusion.weights.h5, as the scripts
for the single networks leave them. The run folder gets the same three files, which `hdr-tf fuse` and `hdr-tf evaluate` read.
"""

import dataclasses
import pathlib

from hdr_tf import cli
from hdr_tf.training.config import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    run: str = "runs/esbn"  # folder of the run; an existing run continues
    weights: str = ""  # folder of the three networks' weights to start from
    align_filters: int = 64  # width of the alignment networks
    filters: int = 64  # width of the merging network
    growth: int = 32  # channels that a layer of its dense block adds


def main(config: Config) -> None:
    from hdr_tf import losses, weights
    from hdr_tf.models import esbn
    from hdr_tf.training import loop, run_folder
    from tfrecords import dataset

    loop.prepare(config, "kalantari")
    inputs = {name: name for name in (*esbn.EXPOSURES, "exposures")}
    targets = {"aligned_low": "gt_ldr_low", "aligned_high": "gt_ldr_high", "hdr": "gt_hdr"}
    data = loop.patches(dataset.patch_dataset, config, inputs, targets)
    exposures, truth = next(iter(data(0)))
    with loop.scope(config):
        model = esbn.esbn_end_to_end(config.align_filters, config.filters, config.growth)
        networks = {name: model.get_layer(name) for name in ("esbn_align_low", "esbn_align_high", "esbn_fusion")}
        for name, network in networks.items() if config.weights else ():
            weights.load_weights(network, pathlib.Path(config.weights) / f"{name}.weights.h5")
        optimizer = loop.adam(config.learning_rate, config.schedule, config.steps)
        mse = "mean_squared_error"
        terms = {"aligned_low": mse, "aligned_high": mse, "hdr": loop.whole_batch(losses.mu_law_l1)}
        model.compile(optimizer, loss=terms, jit_compile=config.jit)

    def sample():
        """Shows low, middle and high: captured, aligned, true; then the result between two copies of the true radiance."""
        outputs = model(exposures, training=False)
        middle, result, true = exposures["ldr_mid"][0], *(losses.mu_law_signed(x["hdr"][0]) for x in (outputs, truth))
        low, high = (
            (exposures[f"ldr_{side}"][0], outputs[f"aligned_{side}"][0], truth[f"aligned_{side}"][0], true)
            for side in ("low", "high")
        )
        return loop.sheet([low, (middle, middle, middle, result), high])

    loop.fit(model, data, config, sample)
    run_folder.save_weights(networks, config)


if __name__ == "__main__":
    cli.run(main, Config)
