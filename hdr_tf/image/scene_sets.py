"""Writes sets of made scenes, in parallel.

    folder/
      manifest.json      arguments; of every scene source, tiles, enlargement, pieces, stops, scale, clipped part
      001/ 002/ ...      scenes in Kalantari's layout, see scenes.py

Scene i depends on nothing but the arguments and i, so neither the number of processes nor that of the scenes changes it. A
scene gets its name when it is complete, and the manifest lists it then: started again after an interruption, or with a
larger count, `write_scenes` makes what is missing.
"""

import json
import math
import os
import pathlib
import shutil
from collections.abc import Sequence

import rich.progress

from hdr_tf.image import files, scenes
from hdr_tf.image.moving import SceneMaker
from hdr_tf.image.processes import in_processes
from hdr_tf.image.sources import radiance_files

MANIFEST = "manifest.json"
_NOTE = (
    "Exposures are relative to the shortest, radiance is 1 where that clips. HDRImg.hdr is the medium exposure's radiance, the "
    "source's times scale, clipped to 1. Sources are enlarged twice at most: with tiles [rows, columns] other than [1, 1], "
    "several views of the source stand side by side."
)


def write_scenes(
    folder: str | os.PathLike,
    hdr_dirs: Sequence[str | os.PathLike],
    count: int,
    size: tuple[int, int] = (1000, 1500),
    seed: int = 0,
    static: bool = False,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    full_well: float = 10_000,
    read_noise: float = 5e-4,
    workers: int | None = None,
) -> tuple[dict, list[str]]:
    """Writes scenes 001, 002, ... and returns the manifest and a line for each picture that could not be read.

    Args:
        folder: made if absent; may hold scenes made with the same arguments, which are kept.
        hdr_dirs, only, exclude: as of `sources.radiance_files`.
        count: number of scenes.
        size, seed, static, full_well, read_noise: as of `moving.SceneMaker`.
        workers: processes; None or 0 for one per CPU, 1 stays in this one.

    Raises:
        ValueError: numbers out of range, nothing to make scenes from, or the folder holds something else.
        OSError: a scene cannot be written (full disk, no permission); finished scenes stay.
    """
    folder = pathlib.Path(folder)
    if count < 1 or seed < 0:
        raise ValueError(f"expected a count of 1 or more and a seed of 0 or more, found {count} and {seed}")
    if min(size) < 16 or max(size) > 20_000:
        raise ValueError(f"expected a height and width of 16 to 20,000 pixels, found {size[0]} and {size[1]}")
    if not full_well > 0 or not 0 <= read_noise < 1:
        raise ValueError(f"expected a full well above 0 and a read noise from 0 to 1, found {full_well} and {read_noise}")
    pictures, unreadable = radiance_files(hdr_dirs, only, exclude)
    maker = SceneMaker(tuple(pictures), tuple(size), seed, static, full_well, read_noise)
    arguments = {
        "pictures": [path.name for path in pictures],
        "height": size[0],
        "width": size[1],
        "seed": seed,
        "static": static,
        "full_well": full_well if math.isfinite(full_well) else None,
        "read_noise": read_noise,
    }
    names = [f"{number:03d}" for number in range(1, count + 1)]
    manifest = {"note": _NOTE, "arguments": arguments, "scenes": _finished(folder, arguments, names)}
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".????????.[0-9]*"):  # by a process that was killed
        shutil.rmtree(left)
    _save(folder, manifest)
    jobs = [(folder / name, maker, index) for index, name in enumerate(names) if name not in manifest["scenes"]]
    results = in_processes(_write, jobs, workers)
    for name, facts in rich.progress.track(results, str(folder), total=len(jobs), disable=not jobs):
        manifest["scenes"][name] = facts
        _save(folder, manifest)
    return manifest, unreadable


def _write(folder, maker, index):
    ldr, stops, hdr, facts = maker(index)
    if folder.exists():  # complete, but killed before the manifest said so
        shutil.rmtree(folder)
    scenes.write_scene(folder, ldr, stops, hdr)
    return folder.name, facts


def _finished(folder, arguments, names):
    """The scenes that earlier runs with the same arguments have completed."""
    path = folder / MANIFEST
    if not path.exists():
        taken = [name for name in names if (folder / name).exists()]
        if taken:
            raise ValueError(f"{folder / taken[0]}: expected no such scene, for no {MANIFEST} lists it; choose another folder")
        return {}
    try:
        found = json.loads(path.read_text())
        listed, before = dict(found["scenes"]), dict(found["arguments"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a manifest of scenes, found something else; choose another folder") from error
    different = sorted(key for key in {*arguments, *before} if arguments.get(key) != before.get(key))
    if different:
        raise ValueError(f"{path}: the folder holds scenes with other {', '.join(different)}; choose another folder")
    return {name: facts for name, facts in listed.items() if (folder / name).is_dir()}


def _save(folder, manifest):
    manifest["scenes"] = dict(sorted(manifest["scenes"].items()))
    with files.atomic(folder / MANIFEST) as path:
        path.write_text(json.dumps(manifest, indent=1) + "\n")
