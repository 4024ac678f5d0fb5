"""Writes TFRecords for training.

    hdr-tf records --scenes=data/scenes --output=data/train
    hdr-tf records --kind=esbn_align --scenes=data/scenes --output=data/align --count=5000 --shards=5
    hdr-tf records --kind=esbn_merge --scenes=data/aligned --output=data/merge --count=5000 --shards=5
    hdr-tf records --kind=selfhdr --scenes=data/scenes --labels=data/aligned --output=data/stage1
    hdr-tf records --kind=bracket --hdr_dir=DIR[,DIR] --output=data/brackets --count=1500
    hdr-tf records --kind=bracket --brackets=DIR --output=data/captured
    hdr-tf records --kind=bracket --triplets=DIR --output=data/triplets
    hdr-tf records --kind=merge --hdr_dir=DIR[,DIR] --output=data/registered --count=600
    hdr-tf records --kind=images --images=DIR --output=data/images

Kinds of records:

    kalantari      (default) scenes of three exposures, whole and without loss, from which training cuts its patches
    selfhdr        the same with SelfHDR's labels; scenes without a colour label (--labels) are left out, but with --structures
                   all others need a structure label
    esbn_align     the patches of ESBN's own scripts, under their names, 4.1 MB each
    esbn_merge     the same for its merging network, from aligned scenes (hdr-tf align --method=esbn)
    bracket        exposures of one scene: synthetic ones, from radiance by a simulated camera, or captured ones
    merge          patches of synthetic moving scenes of 2 to 9 exposures, moved onto the reference by optical flow
    images         single photographs

Photographs are JPEG, PNG or TIFF; they become 8 bit and of one size. Damaged and incomplete files, and scenes without radiance,
are reported and left out. After an interruption the same command continues where it stopped.
"""

import dataclasses
import pathlib
import sys
from typing import Literal

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to write, and from what."""

    RENAMED = {"pictures": "images", "stacks": "brackets", "trios": "triplets", "workers": "num_processes"}

    # Kind of records: kalantari, selfhdr, esbn_align, esbn_merge, bracket, merge or images.
    kind: str = "kalantari"
    # Folder of scene folders (kalantari, selfhdr, esbn_align, esbn_merge).
    scenes: str = ""
    # Folder of the same scenes aligned, with the colour label as their HDRImg.hdr (selfhdr).
    labels: str = ""
    # Folder of structure labels, NAME.hdr for each scene (selfhdr, second stage).
    structures: str = ""
    # Folder of .exr and .hdr files, or several separated by commas (bracket, merge).
    hdr_dir: str = ""
    # Folder of sub-folders, each with the exposures of one scene, which are scaled to 1200 x 800 (bracket).
    brackets: str = ""
    # Folder of the folders input1, target and input2 (bracket).
    triplets: str = ""
    # Folder of photographs (images).
    images: str = ""
    # Folder for the records; created.
    output: str = ""
    # Number of records; 0 for all scenes, patches or images, and for 1000 synthetic brackets.
    count: int = 0
    # Side of the patches in pixels (esbn_align, esbn_merge).
    patch: int = 256
    # Side of the square images in pixels (bracket, images).
    size: int = 256
    # Number of exposures of a synthetic bracket, 2 to 9: one number, or the least and the largest separated by a comma.
    exposures: str = "3,5"
    # Names (without suffix) of images to leave out, separated by commas (synthetic brackets).
    exclude: str = ""
    # Also use the photographs that scikit-image installs, under a synthetic light (synthetic brackets).
    photos: bool = False
    # Contrast curves of the simulated cameras; skewed ones are closer to photographs (synthetic brackets).
    curves: Literal["symmetric", "skewed"] = "symmetric"
    # The same seed gives the same records.
    seed: int = 0
    # Number of files; there are never more files than scenes.
    shards: int = 8
    # Number of processes; 0 for one per CPU.
    num_processes: int = 0
    # Options of Apache Beam, to work on many machines (hdr_tf/batch_beam.py).
    beam: str = ""
    # Complete the set that an interrupted run left; false refuses a folder with records.
    resume: bool = True


def main(config: Config) -> None:
    kinds = dict.fromkeys(("kalantari", "selfhdr", "esbn_align", "esbn_merge"), _scenes)
    kinds |= {"bracket": _brackets, "merge": _registered, "images": _images}
    if config.kind not in kinds:
        raise ValueError(f"unknown kind {config.kind!r}: known are {', '.join(kinds)}")
    if not config.output:
        raise ValueError("--output: expected a folder to write to, found nothing")
    if config.beam:
        from hdr_tf.batch_beam import Cluster

        config = dataclasses.replace(config, num_processes=Cluster(config.beam, pathlib.Path(config.output)))
    manifest, left_out = kinds[config.kind](config)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    megabytes = sum(shard["bytes"] for shard in manifest["shards"].values()) / 1e6
    print(f"{config.output}: {manifest['count']} records in {len(manifest['shards'])} shards, {megabytes:.0f} MB")


def _scenes(config):
    # Not at the top, so that --help does not wait for TensorFlow.
    from tfrecords import scenes

    if not config.scenes:
        hint = "; --hdr_dir belongs to --kind=bracket" if config.hdr_dir or config.photos else ""
        raise ValueError(f"--scenes: expected a folder of scenes, found nothing{hint}")
    labels, structures = (pathlib.Path(name) if name else None for name in (config.labels, config.structures))
    options = _options(config, "patch", "seed") | {"labels": labels, "structures": structures}
    return scenes.write_scenes(kind=config.kind, scenes=pathlib.Path(config.scenes), **options)


def _images(config):
    from tfrecords import images

    if not config.images:
        raise ValueError("--images: expected a folder of photographs, found nothing")
    return images.write_images(images=pathlib.Path(config.images), **_options(config, "size"))


def _brackets(config):
    from tfrecords import brackets, images

    if (config.hdr_dir != "" or config.photos) + (config.brackets != "") + (config.triplets != "") > 1:
        raise ValueError("expected one of --hdr_dir (or --photos), --brackets and --triplets, found several")
    if config.brackets:
        return images.write_brackets(brackets=pathlib.Path(config.brackets), **_options(config))
    if config.triplets:
        return images.write_triplets(triplets=pathlib.Path(config.triplets), **_options(config, "size"))
    options = _options(config, "size", "photos", "seed", "curves") | {"count": config.count or 1000}
    exposures, exclude = cli.span(config.exposures, "--exposures"), cli.words(config.exclude)
    folders = [pathlib.Path(folder) for folder in cli.words(config.hdr_dir)]
    return brackets.write_brackets(hdr_dirs=folders, exposures=exposures, exclude=exclude, **options)


def _registered(config):
    from tfrecords import registered

    if not config.hdr_dir:
        raise ValueError("--hdr_dir: expected a folder of .exr and .hdr files, found nothing")
    folders = [pathlib.Path(folder) for folder in cli.words(config.hdr_dir)]
    options = _options(config, "seed") | {"count": config.count or 1000}
    return registered.write_registered(hdr_dirs=folders, exclude=cli.words(config.exclude), **options)


def _options(config, *names):
    names = ("count", "shards", "num_processes", "resume", *names)
    return {"folder": pathlib.Path(config.output)} | {name: getattr(config, name) for name in names}
