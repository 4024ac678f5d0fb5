"""Trains ESBN's three networks together: three exposures of a moving scene to radiance.

    python tools/make_scenes.py --hdr_dir=hdr --count=100 --output=data/scenes
    python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
    python train/esbn_end_to_end.py --data=data/train --weights=weights --run=runs/esbn

The paper trains the joined system so; the released program (tkd1088/ESBN 3f873ab) has the three networks only. Loss: that of
the merging network (mean absolute difference after the mu-law) plus those of the two alignment networks (mean squared error
against the true low and high exposure), each with weight 1, as a line of training_fusion.py has it that is commented out.
The other defaults are those of train/esbn_fusion.py.

`--weights` is a folder with esbn_align_low.weights.h5, esbn_align_high.weights.h5 and esbn_fusion.weights.h5, as the scripts
for the single networks leave them; the run folder gets the same three, which tools/fuse.py and tools/evaluate.py read.
"""

import dataclasses
import pathlib

from hdr_tf import cli
from hdr_tf.training import PatchTrainingConfig


@dataclasses.dataclass(frozen=True)
class Config(PatchTrainingConfig):
    """Flags of the scripts that train on patches, and of this one."""

    data: str = ""  # folder of records of moving scenes, kind kalantari
    run: str = "runs/esbn"  # folder of the run; an existing one is continued
    weights: str = ""  # folder of the three networks' weights to go on from
    align_filters: int = 64  # width of the alignment networks
    filters: int = 64  # width of the merging network
    growth: int = 32  # channels that a layer of its dense block adds


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    from hdr_tf import losses, training, weights
    from hdr_tf.models import esbn
    from tfrecords import dataset

    if not config.data:
        raise ValueError("--data: expected a folder of records of moving scenes, as tools/make_tfrecord.py writes them")
    training.prepare(config)
    inputs = (*esbn.EXPOSURES, "exposures")
    truths = {"aligned_low": "gt_ldr_low", "aligned_high": "gt_ldr_high", "hdr": "gt_hdr"}

    def data(step):
        batches = dataset.patch_dataset(
            pathlib.Path(config.data),
            config.batch,
            [*inputs, *truths.values()],
            patch=config.patch,
            seed=config.seed,
            start=step,
            shuffle_scenes=config.shuffle_scenes,
            depth=config.depth,
            resize=config.resize,
        )
        return batches.map(
            lambda batch: ({name: batch[name] for name in inputs}, {name: batch[truth] for name, truth in truths.items()})
        )

    exposures, truth = next(iter(data(0)))
    with training.scope(config):
        model = esbn.esbn_end_to_end(config.align_filters, config.filters, config.growth)
        networks = [model.get_layer(name) for name in ("esbn_align_low", "esbn_align_high", "esbn_fusion")]
        for network in networks if config.weights else ():
            weights.load_weights(network, pathlib.Path(config.weights) / f"{network.name}.weights.h5")
        optimizer = training.adam(config.learning_rate, config.schedule, config.steps)
        terms = dict.fromkeys(("aligned_low", "aligned_high"), "mean_squared_error")
        terms["hdr"] = training.whole_batch(losses.mu_law_l1)
        model.compile(optimizer, loss=terms, jit_compile=config.jit)

    def sample():
        """Low, middle and high as taken; the same aligned; the truth; and below the radiance and the true one."""
        made = model(exposures, training=False)
        middle, result, true = exposures["ldr_mid"][0], *(losses.mu_law_signed(x["hdr"][0]) for x in (made, truth))
        return training.sheet(
            [
                (exposures["ldr_low"][0], made["aligned_low"][0], truth["aligned_low"][0], true),
                (middle, middle, middle, result),
                (exposures["ldr_high"][0], made["aligned_high"][0], truth["aligned_high"][0], true),
            ]
        )

    training.fit(model, data, config, sample)
    for network in networks:
        weights.save_weights(network, pathlib.Path(config.run) / f"{network.name}.weights.h5")
    print(f"{config.run}: {', '.join(network.name for network in networks)}: {config.steps} steps")


if __name__ == "__main__":
    cli.run(main, Config)
