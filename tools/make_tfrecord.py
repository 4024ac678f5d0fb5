"""Writes TFRecords for training.

    python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
    python tools/make_tfrecord.py --kind=esbn_align --scenes=data/scenes --output=data/align --count=5000 --shards=5
    python tools/make_tfrecord.py --kind=esbn_merge --scenes=data/aligned --output=data/merge --count=5000 --shards=5
    python tools/make_tfrecord.py --kind=selfhdr --scenes=data/scenes --labels=data/aligned --output=data/stage1
    python tools/make_tfrecord.py --kind=bracket --hdr_dir=DIR[,DIR] --output=data/brackets --count=1500
    python tools/make_tfrecord.py --kind=bracket --stacks=DIR --output=data/stacks
    python tools/make_tfrecord.py --kind=bracket --trios=DIR --output=data/trios
    python tools/make_tfrecord.py --kind=images --pictures=DIR --output=data/pictures

Kind "kalantari", the default: scenes of three exposures, whole and without loss, from which training cuts its patches.
Kind "selfhdr": the same with the colour label in the place of the radiance, from the aligned scenes in --labels, and for the
second stage the structure labels that train/selfhdr.py writes, in --structures; a scene without a colour label is left out, but
structure labels must be those of the scenes. Kinds "esbn_align" and "esbn_merge": the patches of ESBN's own scripts with their
names, 4.1 MB each; the second wants scenes whose short and long exposure have been aligned (tools/align_scenes.py
--method=esbn). Kind "bracket": exposures of one scene, made from pictures of known radiance (OpenEXR, Radiance) by a simulated
camera with random exposure times, response and noise; or taken ones, the exposures of each sub-folder of --stacks, or
under-exposed, target and over-exposed pictures from the folders input1, target and input2 in --trios. Kind "images": single
photographs. All photographs are JPEG, PNG or TIFF and become 8 bit and of one size. In and out, of scenes:

    data/scenes/                    data/train/
      001/                            manifest.json
        a.tif b.tif c.tif             kalantari-00000-of-00008.tfrecords
        exposure.txt                  ...
        HDRImg.hdr
      002/ ...

What is damaged or incomplete, and scenes without radiance, are named and left out. Interrupted, it goes on where it stopped
when started again. tfrecords/schema.py declares the fields, tfrecords/dataset.py reads them.
"""

import dataclasses
import pathlib
import sys

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to write, and from what."""

    # What a record is: kalantari, selfhdr, esbn_align, esbn_merge, bracket or images.
    kind: str = "kalantari"
    # Folder of scene folders (kalantari, selfhdr, esbn_align, esbn_merge).
    scenes: str = ""
    # Folder of the same scenes aligned, with the colour label as their HDRImg.hdr (selfhdr).
    labels: str = ""
    # Folder of structure labels, NAME.hdr for each scene (selfhdr, second stage).
    structures: str = ""
    # Folder of .exr and .hdr files, or several with commas between them (bracket).
    hdr_dir: str = ""
    # Folder of sub-folders, each with the exposures of one scene; scaled to 1200 x 800 (bracket).
    stacks: str = ""
    # Folder of the folders input1, target and input2 (bracket).
    trios: str = ""
    # Folder of photographs (images).
    pictures: str = ""
    # Folder for the records; made if absent.
    output: str = ""
    # Number of records; 0 for all scenes, patches or pictures, for made brackets 1000.
    count: int = 0
    # Side of the patches in pixels (esbn_align, esbn_merge).
    patch: int = 256
    # Side of the square pictures in pixels (bracket, images).
    size: int = 256
    # Number of exposures in a record: one number, or the least and the largest with a comma between them, 2 to 9 (as above).
    exposures: str = "3,5"
    # Names (without suffix) of pictures to leave out, with commas between them (made brackets).
    exclude: str = ""
    # Also use the photographs in scikit-image's wheel under made-up light (made brackets).
    photos: bool = False
    # The same seed gives the same records.
    seed: int = 0
    # Number of files; of scenes at most that many.
    shards: int = 8
    # Number of processes; 0 for one per CPU.
    workers: int = 0
    # Options of Apache Beam, to work on many machines (hdr_tf/beam.py).
    beam: str = ""
    # Complete the set that a killed run left; false refuses a folder with records.
    resume: bool = True


def main(config: Config) -> None:
    kinds = dict.fromkeys(("kalantari", "selfhdr", "esbn_align", "esbn_merge"), _scenes)
    kinds |= {"bracket": _brackets, "images": _images}
    if config.kind not in kinds:
        raise ValueError(f"unknown kind {config.kind!r}: known are {', '.join(kinds)}")
    if not config.output:
        raise ValueError("--output: expected a folder to write to, found nothing")
    if config.beam:
        from hdr_tf.beam import Cluster

        config = dataclasses.replace(config, workers=Cluster(config.beam, pathlib.Path(config.output)))
    manifest, left_out = kinds[config.kind](config)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    megabytes = sum(shard["bytes"] for shard in manifest["shards"].values()) / 1e6
    print(f"{config.output}: {manifest['count']} records in {len(manifest['shards'])} shards, {megabytes:.0f} MB")


def _scenes(config):
    # Here, so that --help does not wait for TensorFlow.
    from tfrecords import scenes

    if not config.scenes:
        hint = "; --hdr_dir belongs to --kind=bracket" if config.hdr_dir or config.photos else ""
        raise ValueError(f"--scenes: expected a folder of scenes, found nothing{hint}")
    return scenes.write_scenes(
        pathlib.Path(config.output),
        config.kind,
        pathlib.Path(config.scenes),
        config.count,
        config.patch,
        config.seed,
        config.shards,
        config.workers,
        config.resume,
        pathlib.Path(config.labels) if config.labels else None,
        pathlib.Path(config.structures) if config.structures else None,
    )


def _images(config):
    from tfrecords import pictures

    if not config.pictures:
        raise ValueError("--pictures: expected a folder of photographs, found nothing")
    return pictures.write_images(pathlib.Path(config.output), pathlib.Path(config.pictures), config.size, **_options(config))


def _brackets(config):
    from tfrecords import brackets, pictures

    if (config.hdr_dir != "" or config.photos) + (config.stacks != "") + (config.trios != "") > 1:
        raise ValueError("expected one of --hdr_dir (or --photos), --stacks and --trios, found several")
    if config.stacks:
        return pictures.write_stacks(pathlib.Path(config.output), pathlib.Path(config.stacks), **_options(config))
    if config.trios:
        return pictures.write_trios(pathlib.Path(config.output), pathlib.Path(config.trios), config.size, **_options(config))
    return brackets.write_brackets(
        pathlib.Path(config.output),
        [pathlib.Path(folder) for folder in cli.words(config.hdr_dir)],
        config.count or 1000,
        config.size,
        cli.span(config.exposures, "--exposures"),
        cli.words(config.exclude),
        config.photos,
        config.seed,
        config.shards,
        config.workers,
        config.resume,
    )


def _options(config):
    return {name: getattr(config, name) for name in ("count", "shards", "workers", "resume")}


if __name__ == "__main__":
    cli.run(main, Config)
