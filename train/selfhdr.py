"""Trains the four networks of SelfHDR, from scenes in which things move and of which nobody knows the true radiance.

    python tools/align_scenes.py --method=flow --scenes=data/scenes --output=data/aligned
    python tools/make_tfrecord.py --kind=selfhdr --scenes=data/scenes --labels=data/aligned --output=data/stage1
    python train/selfhdr.py --stage=1 --network=ahdrnet --data=data/stage1 --run=runs/stage1
    python train/selfhdr.py --stage=labels --network=ahdrnet --scenes=data/aligned --run=runs/stage1
    python tools/make_tfrecord.py --kind=selfhdr --scenes=data/scenes --labels=data/aligned \\
        --structures=runs/stage1/structures --output=data/stage2
    python train/selfhdr.py --stage=2 --network=ahdrnet --data=data/stage2 --run=runs/stage2

Zhilu Zhang, Haoyu Wang, Shuai Liu, Xiaotao Wang, Lei Lei, Wangmeng Zuo: "Self-Supervised High Dynamic Range Imaging with
Multi-Exposure Images in Dynamic Scenes", ICLR 2024, https://arxiv.org/abs/2310.01840. Original code:
https://github.com/cszhilu1998/SelfHDR (9e8af4a), train.sh, train.py, models/selfhdr1_model.py, models/selfhdr2_model.py.

Stage 1: structure expansion and preservation (`losses.selfhdr_structure`), from pictures as they were taken and the colour
label, the merge of the aligned ones. Stage "labels": what that network makes of the aligned scenes becomes the structure
labels, RUN/structures/NAME.hdr; begun anew it goes on, and labels older than the weights are written again. Stage 2, from new
weights: the colour term (`losses.selfhdr_color`), and the difference from the structure label in what VGG19 sees
(`losses.perceptual`); the reference gets noise of deviation 0.5 / 255. `--stage=truth` trains with ground truth, to compare:
mean absolute difference behind the mu-law, of records of kind "kalantari". `--stage=pixels` makes a start for ahdrnet, from
which the other stages go on with `--weights`: it needs no records, see hdr_tf/pixels.py; one pixel in five shows something else
in the low exposure, one in five in the high one. `--validation` logs the PSNR of scenes whose true radiance is known.

Defaults: the original's, for transformers those in brackets: batches of 16 (8) patches of 128 pixels, 150 (200) epochs of 1,200
steps, Adam at 1e-4 (2e-4), halved every 50 (100) epochs.

Kept: patches at random places, neither turned nor flipped; unaligned pictures for all networks in training, FSHDR too, and
aligned ones for the structure labels; those of whole scenes, for transformers with the padding of the original's test.

Changed: of many scenes some take turns (`--shuffle_scenes`); VGG19 as hdr_tf/models/vgg.py tells. `--structure_loss=l1` needs
no weights: the mean absolute difference from the structure label behind the mu-law. `--filters` makes the networks narrower.
"""

import dataclasses
import pathlib
import sys
from typing import Literal

from hdr_tf import cli
from hdr_tf.training import TrainingConfig

NOISE = 0.5 / 255
MOVED = 0.2  # of drawn pixels
USUAL = {"batch": 16, "steps": 180_000, "learning_rate": 1e-4, "halve_every": 60_000}
USUAL_TRANSFORMER = {"batch": 8, "steps": 240_000, "learning_rate": 2e-4, "halve_every": 120_000}


@dataclasses.dataclass(frozen=True)
class Config(TrainingConfig):
    """Flags of all training scripts and of this one; 0 is the original's number."""

    stage: Literal["pixels", "1", "labels", "2", "truth"] = "1"  # see above
    network: Literal["ahdrnet", "fshdr", "hdr_transformer", "sctnet"] = "ahdrnet"
    data: str = ""  # folder of records of kind selfhdr, for stage 2 with structure labels; for truth of kind kalantari
    scenes: str = ""  # stage labels: folder of aligned scenes
    validation: str = ""  # folder of scenes with true radiance, whose mean PSNR-mu goes into the log: only looked at
    run: str = "runs/selfhdr"  # folder of the run; an existing one is continued; stage labels: that of stage 1
    steps: int = 0  # at which the run ends: 180,000, of a transformer 240,000
    log_every: int = 1_200  # steps between log rows, samples and checkpoints
    batch: int = 0  # patches in a step: 16, of a transformer 8
    patch: int = 128  # side of a patch in pixels, at least 8
    learning_rate: float = 0  # of the first step: 1e-4, of a transformer 2e-4
    halve_every: int = 0  # steps after which the rate is halved: 60,000, of a transformer 120,000
    weights: str = ""  # go on from the weights in this file
    filters: int = 0  # width of the network: 64, of a transformer 60 (multiples of 6, of sctnet 12)
    structure_loss: Literal["vgg", "l1"] = "vgg"  # of stage 2: by VGG19 as the original, or without any weights
    vgg_weights: str = ""  # file of VGG19's weights as keras.applications has them; it downloads them otherwise
    shuffle_scenes: int = 8  # scenes in memory at a time


def main(config: Config) -> int | None:
    config = settled(config)
    if config.stage == "labels":
        return write_labels(config)
    # Here, so that --help does not wait for TensorFlow.
    import keras
    import tensorflow as tf

    from hdr_tf import losses, pixels, training, weights
    from hdr_tf.models import blocks
    from tfrecords import dataset

    single = config.stage == "pixels"
    if single and config.network != "ahdrnet":
        raise ValueError(f"--stage=pixels: only ahdrnet can be built for single pixels, found --network={config.network}")
    kind = "kalantari" if config.stage == "truth" else "selfhdr"
    if not (single or config.data):
        raise ValueError(f"--data: expected a folder of records, as tools/make_tfrecord.py --kind={kind} writes them")
    training.prepare(config)

    def data(step):
        if single:
            return tf.data.Dataset.counter(step).map(lambda number: drawn_pixels(tf.stack([config.seed, number])))
        batches = dataset.crop_dataset(
            pathlib.Path(config.data),
            config.batch,
            kind,
            structures=config.stage == "2",
            patch=config.patch,
            seed=config.seed,
            start=step,
            shuffle_scenes=config.shuffle_scenes,
        )
        return batches.enumerate(step).map(inputs)

    def inputs(number, batch):
        if config.stage == "2":
            seed = tf.stack([tf.cast(config.seed, tf.int64), number])
            noise = tf.random.stateless_normal(tf.shape(batch["ldr_mid"]), seed, stddev=NOISE)
            batch["ldr_mid"] = tf.clip_by_value(batch["ldr_mid"] + noise, 0, 1)
        return batch | blocks.with_radiance(batch, batch["exposures"])

    first = next(iter(data(0)))
    loss, terms = objective(config)
    rate = keras.optimizers.schedules.ExponentialDecay(config.learning_rate, config.halve_every, 0.5, staircase=True)
    with training.scope(config):
        network = build(config, **({"kernel_size": 1} if single else {}))
        if single:
            training.he_start(network, last="output")
        if config.weights:
            weights.load_weights(network, config.weights)
        trainer = training.trainer(network, loss, terms)
        trainer.compile(keras.optimizers.Adam(rate, epsilon=1e-8), jit_compile=config.jit)
        trainer.build({name: array.shape for name, array in first.items()})

    def sample():
        """Low, middle and high above the label, the result and, if there is one, the structure label, else the label again."""
        result = trainer(first, training=False)["hdr"]
        below = (first["hdr"], result, first.get("structure", first["hdr"]))
        above = (first[f"ldr_{side}"] for side in blocks.EXPOSURE_NAMES)
        return training.sheet([(2 * x[0] - 1, 2 * losses.mu_law(y[0]) - 1) for x, y in zip(above, below, strict=True)])

    training.fit(trainer, data, config, sample, validation(config, network) if config.validation else None)
    if single:
        start, network = pixels.convolutions(network), build(config)
        pixels.set_convolutions(network, start)
    training.save_weights(network, config.network, config)


def settled(config: Config) -> Config:
    """The flags with the original's numbers for the network where they are 0."""
    usual = USUAL_TRANSFORMER if _is_transformer(config) else USUAL
    return dataclasses.replace(config, **{name: getattr(config, name) or number for name, number in usual.items()})


def validation(config: Config, network):
    """A function that measures the network on the validation scenes, as `training.fit` takes it."""
    import numpy as np

    from hdr_tf import metrics, reconstruction, selfhdr
    from hdr_tf.image import scenes, tone

    folders, problems = scenes.list_scenes(config.validation)
    read = [scenes.read_scene(folder) for folder in folders]
    problems += [f"{config.validation}/{scene.name}: expected true radiance, found none" for scene in read if scene.hdr is None]
    if problems:
        raise ValueError(problems[0])
    system = selfhdr.SelfHdr(config.network, network)

    def measure():
        results = (reconstruction.reconstruct(system, scene.ldr, scene.exposures)[1] for scene in read)
        pairs = zip(results, read, strict=True)
        return {"valid_psnr_mu": float(np.mean([metrics.psnr(tone.mu_law(x), tone.mu_law(scene.hdr)) for x, scene in pairs]))}

    return measure


def drawn_pixels(seed):
    """A batch of drawn pixels, as those of `crop_dataset` with the radiance of the exposures."""
    from hdr_tf import pixels
    from hdr_tf.models.blocks import DISPLAY_GAMMA

    values, exposures, radiance = pixels.draw(seed, MOVED)
    ldr = {f"ldr_{side}": value ** (1 / DISPLAY_GAMMA) for side, value in values.items()}
    return ldr | {f"hdr_{side}": value / exposures[side] for side, value in values.items()} | {"hdr": radiance}


def build(config: Config, **arguments):
    """The network that the flags ask for, with further arguments of its builder."""
    from hdr_tf import models

    if config.filters:
        arguments["filters"] = config.filters
        if config.network == "ahdrnet":
            arguments["growth"] = (config.filters + 1) // 2  # of 64 the original's 32
    return models.build(config.network, **arguments)


def objective(config: Config):
    """The loss of a stage, as `training.trainer` takes it, and the names of its terms."""
    from hdr_tf import losses
    from hdr_tf.models import vgg

    def unmasked_l1(output, truth):
        return losses.perceptual(output, truth, lambda pictures: [pictures], weights=(1.0,))

    def of_stage_1(batch, outputs):
        expansion, preservation = losses.selfhdr_structure(outputs["hdr"], batch["hdr"], batch["hdr_mid"], batch["ldr_mid"])
        return {"loss": expansion + preservation, "expansion": expansion, "preservation": preservation}

    if config.stage == "1":
        return of_stage_1, ("expansion", "preservation")
    if config.stage in ("pixels", "truth"):
        return lambda batch, outputs: {"loss": unmasked_l1(outputs["hdr"], batch["hdr"])}, ()
    features = vgg.vgg19_features(config.vgg_weights or "imagenet") if config.structure_loss == "vgg" else None

    def of_stage_2(batch, outputs):
        color = losses.selfhdr_color(outputs["hdr"], batch["hdr"], batch["structure"])
        pair = outputs["hdr"], batch["structure"]
        structure = losses.perceptual(*pair, features) if features else unmasked_l1(*pair)
        return {"loss": color + structure, "color": color, "structure": structure}

    return of_stage_2, ("color", "structure")


def write_labels(config: Config) -> int:
    """Writes RUN/structures/NAME.hdr of every scene; one that cannot be read is reported, and the others are done."""
    from hdr_tf import selfhdr
    from hdr_tf.image import files, scenes
    from hdr_tf.image.depth import to_unit
    from hdr_tf.image.processes import track

    if not config.scenes:
        raise ValueError("--scenes: expected a folder of aligned scenes, as tools/align_scenes.py writes them")
    trained = pathlib.Path(config.run) / f"{config.network}.weights.h5"
    if not trained.exists():
        raise ValueError(f"{trained}: expected the weights of stage 1, found none; train it to its end, with the same --run")
    folders, problems = scenes.list_scenes(config.scenes)
    system = selfhdr.load_selfhdr(config.network, trained)
    structures = trained.parent / "structures"
    structures.mkdir(exist_ok=True)
    for folder in track(folders, "structure labels", len(folders)):
        path = structures / f"{folder.name}.hdr"
        if path.exists() and path.stat().st_mtime_ns > trained.stat().st_mtime_ns:
            continue
        try:
            scene = scenes.read_scene(folder)
        except (ValueError, OSError) as error:
            problems.append(cli.one_line(error))
            continue
        ldr = to_unit(scene.ldr)  # aligned already
        files.write_radiance(path, system.merge(ldr, scene.exposures))
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    print(f"{structures}: {len(list(structures.glob('*.hdr')))} structure labels")
    return 1 if problems else 0


def _is_transformer(config):
    return config.network in ("hdr_transformer", "sctnet")


if __name__ == "__main__":
    cli.run(main, Config)
