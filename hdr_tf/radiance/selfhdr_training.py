"""What only the training of SelfHDR's networks (train/selfhdr.py) needs: losses of its stages, structure labels, a score."""

import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np

from hdr_tf import cli, losses, metrics, systems
from hdr_tf.image import tone
from hdr_tf.image.depth import to_unit
from hdr_tf.io import image_files, scenes
from hdr_tf.models import vgg
from hdr_tf.progress import track
from hdr_tf.radiance import pipeline, selfhdr


def objective(stage: str, structure_loss: str, vgg_weights: str) -> tuple[Callable[[dict, dict], dict], tuple[str, ...]]:
    """Returns the loss of a stage, as `training.loop.Trainer` takes it, and the names of its terms.

    Args:
        stage: "pointwise", "1", "2" or "supervised".
        structure_loss, vgg_weights: of stage 2, "vgg" or "l1", and the weights for `vgg.vgg19_features`.
    """
    if stage == "1":
        return _structure_loss, ("expansion", "preservation")
    if stage != "2":
        return lambda batch, outputs: {"loss": _l1(outputs["hdr"], batch["hdr"])}, ()
    features = vgg.vgg19_features(vgg_weights) if structure_loss == "vgg" else None

    def loss(batch, outputs):
        color = losses.selfhdr_color(outputs["hdr"], batch["hdr"], batch["structure"])
        pair = outputs["hdr"], batch["structure"]
        structure = losses.perceptual(*pair, features) if features else _l1(*pair)
        return {"loss": color + structure, "color": color, "structure": structure}

    return loss, ("color", "structure")


def _structure_loss(batch, outputs):
    expansion, preservation = losses.selfhdr_structure(outputs["hdr"], batch["hdr"], batch["hdr_mid"], batch["ldr_mid"])
    return {"loss": expansion + preservation, "expansion": expansion, "preservation": preservation}


def _l1(output, truth):
    return losses.perceptual(output, truth, lambda images: [images], weights=(1.0,))


def write_structure_labels(network: str, run: str | os.PathLike, aligned: str | os.PathLike) -> int:
    """Writes RUN/structures/NAME.hdr of every scene in a folder of aligned ones, unless it is there and newer than the weights
    of stage 1 in RUN. Reports a scene that cannot be read, continues with the others, and then returns the exit code 1."""
    if not aligned:
        raise ValueError("--scenes: expected a folder of aligned scenes, as hdr-tf align writes them")
    trained = pathlib.Path(run) / f"{network}.weights.h5"
    if not trained.exists():
        raise ValueError(f"{trained}: expected the weights of stage 1, found none; finish stage 1 with the same --run")
    folders, problems = scenes.list_scenes(aligned)
    runner = pipeline.load(network, trained)
    structures = trained.parent / "structures"
    structures.mkdir(exist_ok=True)
    for folder in track(folders, "structure labels"):
        path = structures / f"{folder.name}.hdr"
        if path.exists() and path.stat().st_mtime_ns > trained.stat().st_mtime_ns:
            continue
        try:
            scene = scenes.read_scene(folder)
        except (ValueError, OSError) as error:
            problems.append(cli.one_line(error))
            continue
        image_files.write_radiance(path, runner.merge(to_unit(scene.ldr), scene.exposures))  # aligned already
    for line in problems:
        print(f"error: {line}", file=sys.stderr)
    print(f"{structures}: {len(list(structures.glob('*.hdr')))} structure labels")
    return 1 if problems else 0


def validation(name: str, network, folder: str | os.PathLike) -> Callable[[], dict[str, float]]:
    """Returns a function that measures the mean PSNR-mu of a keras.Model, in dB, on a folder of scenes, for `loop.fit`."""
    folders, problems = scenes.list_scenes(folder)
    known = [scenes.read_scene(path) for path in folders]
    problems += [f"{folder}/{scene.name}: expected true radiance, found none" for scene in known if scene.hdr is None]
    if problems:
        raise ValueError(problems[0])
    runner = selfhdr.SelfHdr(systems.find(name), network)

    def psnr(scene):
        _, radiance = pipeline.reconstruct(runner, scene.ldr, scene.exposures)
        return metrics.psnr(tone.mu_law(radiance), tone.mu_law(scene.hdr))

    return lambda: {"valid_psnr_mu": float(np.mean([psnr(scene) for scene in known]))}
