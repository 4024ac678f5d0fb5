"""Writes sets of scenes, in parallel: made ones, brackets among them, and aligned ones.

    folder/
      manifest.json      arguments; of every made scene source, tiles, enlargement, pieces, stops, scale, clipped part, of every
                         aligned one the part that is the reference's
      001/ 002/ ...      scenes in Kalantari's layout, see scenes.py; of brackets 1.png, 2.png, ..., dark to bright

A scene depends on nothing but the arguments and its number or source, so neither the number of processes nor that of the
scenes changes it. A scene gets its name when it is complete, and the manifest lists it then: started again after an
interruption, or with more scenes, `write_scenes`, `write_brackets` and `write_aligned` make what is missing.
"""

import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from hdr_tf.image import files, merging, optical_flow, scenes
from hdr_tf.image.depth import from_unit, to_unit
from hdr_tf.image.made_brackets import BracketMaker, check_numbers
from hdr_tf.image.moving import SceneMaker
from hdr_tf.image.processes import in_processes, track
from hdr_tf.image.sources import radiance_files

MANIFEST = "manifest.json"
_NOTE = (
    "Exposures are relative to the shortest, radiance is 1 where that clips. HDRImg.hdr is the medium exposure's radiance, the "
    "source's times scale, clipped to 1. Sources are enlarged twice at most: with tiles [rows, columns] other than [1, 1], "
    "several views of the source stand side by side."
)
_BRACKET_NOTE = "Exposures of 8 bit from a simulated camera, dark to bright; ev is in stops above middle gray."
_ALIGNED_NOTE = (
    "1.tif and 3.tif are brought onto 2.tif by optical flow; reference is the part of each that is taken from 2.tif instead, "
    "where the flow went wrong. HDRImg.hdr is the merge of the three (syn_hdr), not the true radiance."
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
    return _make(folder, _NOTE, arguments, count, _write, maker, workers), unreadable


def write_brackets(
    folder: str | os.PathLike,
    hdr_dirs: Sequence[str | os.PathLike],
    count: int,
    size: int = 256,
    exposures: tuple[int, int] = (2, 2),
    seed: int = 0,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    workers: int | None = None,
) -> tuple[dict, list[str]]:
    """Writes brackets 001, 002, ... of nothing that moves, to fuse and to score; what is not told here is as of `write_scenes`.

    Args:
        size, exposures, seed: as of `made_brackets.BracketMaker`.
    """
    if count < 1:
        raise ValueError(f"expected a count of 1 or more, found {count}")
    check_numbers(size, exposures, seed)
    pictures, unreadable = radiance_files(hdr_dirs, only, exclude)
    maker = BracketMaker(tuple(pictures), (), size, tuple(exposures), seed)
    arguments = {
        "pictures": [path.name for path in pictures],
        "size": size,
        "exposures": list(exposures),
        "seed": seed,
    }
    return _make(pathlib.Path(folder), _BRACKET_NOTE, arguments, count, _write_bracket, maker, workers), unreadable


def _make(folder, note, arguments, count, write, maker, workers):
    """Writes what is missing of so many scenes, and returns the manifest."""
    names = [f"{number:03d}" for number in range(1, count + 1)]
    manifest = _begin(folder, note, arguments, names)
    jobs = [(folder / name, maker, index) for index, name in enumerate(names) if name not in manifest["scenes"]]
    results = in_processes(write, jobs, workers)
    for name, facts in track(results, str(folder), len(jobs)):
        manifest["scenes"][name] = facts
        _save(folder, manifest)
    return manifest


def _write(folder, maker, index):
    ldr, stops, hdr, facts = maker(index)
    if folder.exists():  # complete, but killed before the manifest said so
        shutil.rmtree(folder)
    scenes.write_scene(folder, ldr, stops, hdr)
    return folder.name, facts


def _write_bracket(folder, maker, index):
    made = maker(index)
    if folder.exists():  # likewise
        shutil.rmtree(folder)
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        for number, pixels in enumerate(made["exposures"], start=1):
            files.write_picture(temporary / f"{number}.png", pixels)
    return folder.name, {"source": made["source"], "ev": made["ev"].tolist()}


def write_aligned(
    folders: Sequence[pathlib.Path], output: str | os.PathLike, workers: int | None = None
) -> Iterator[tuple[pathlib.Path, ValueError | None]]:
    """Aligns scenes by `optical_flow.confident_flow` and writes them with their colour label (`merging.syn_hdr`).

    A scene in `output` is named as the one that it comes from and has its exposures, pictures of 16 bit, and the label as its
    radiance (a value v is written as 65535 v, where the original's MATLAB code writes 2**16 v). Scenes that are there already
    are kept. One that fails does not stop the others; one that cannot be followed is told in the log.

    Args:
        folders: of scenes, as from `scenes.list_scenes`.
        output: made if absent, not among the scenes; may hold scenes aligned before.
        workers: processes; None or 0 for one per CPU, 1 stays in this one.

    Yields:
        The folder of each aligned scene, and None or what went wrong, in any order.

    Raises:
        ValueError: the output is unfit or holds something else.
        OSError: the manifest cannot be written, or a process was killed.
    """
    output, source = pathlib.Path(output), folders[0].resolve().parent
    if source in (output.resolve(), output.resolve().parent):
        raise ValueError(f"{output}: lies among the scenes and would be taken for one; choose a folder elsewhere")
    names = [folder.name for folder in folders]
    manifest = _begin(output, _ALIGNED_NOTE, {"method": "flow", "scenes": str(source)}, names)
    yield from ((output / name, None) for name in names if name in manifest["scenes"])
    jobs = [(output / folder.name, folder) for folder in folders if folder.name not in manifest["scenes"]]
    for target, facts, error in in_processes(_align, jobs, workers):
        if error is None:
            manifest["scenes"][target.name] = facts
            _save(output, manifest)
            for note in facts["notes"]:
                logging.warning("%s: %s", target.name, note)
        yield target, error


def _align(target, folder):
    try:
        scene = scenes.read_scene(folder)
        found = optical_flow.confident_flow(to_unit(scene.ldr), scene.exposures)
        label = merging.syn_hdr(found.pictures, scene.exposures)
        if target.exists():  # complete, but killed before the manifest said so
            shutil.rmtree(target)
        scenes.write_scene(target, from_unit(found.pictures, np.uint16), scene.stops, label)
    except Exception as error:  # such as too little memory for one large scene
        return target, None, ValueError(" ".join(str(error).split()) or type(error).__name__)
    part = [round(float(1 - trust.mean()), 4) for trust in found.confidence]
    return target, {"stops": scene.stops.tolist(), "reference": part, "notes": list(found.notes)}, None


def _begin(folder, note, arguments, names):
    """The manifest of a folder that is made, or goes on."""
    manifest = {"note": note, "arguments": arguments, "scenes": _finished(folder, arguments, names)}
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder, manifest)
    return manifest


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
