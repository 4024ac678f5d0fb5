"""Writes sets of synthetic scenes and brackets, in parallel.

    folder/
      manifest.json      arguments; for every scene its source, tiles, enlargement, pieces, stops, scale and clipped part, for
                         every bracket its source and exposure values
      001/ 002/ ...      scenes in Kalantari's layout, see io/scenes.py; of brackets 1.png, 2.png, ..., dark to bright

A scene depends on nothing but the arguments and its number, so neither the number of processes nor that of the scenes changes
it. Started again after an interruption, or with a larger count, both functions write what is missing.
"""

import dataclasses
import math
import os
import pathlib
import shutil
from collections.abc import Sequence

from hdr_tf.io import image_files, outputs, scenes
from hdr_tf.parallel import in_processes
from hdr_tf.progress import track
from hdr_tf.synthesis.brackets import BracketMaker, check_exposures, check_numbers
from hdr_tf.synthesis.scenes import LARGEST, MOTIONS, SceneMaker
from hdr_tf.synthesis.sources import radiance_files

_NOTE = (
    "Exposures are relative to the shortest, radiance is 1 where that clips. HDRImg.hdr is the reference's radiance, the "
    "source's times scale, clipped to 1. Sources are enlarged twice at most: with tiles [rows, columns] other than [1, 1], "
    "several views of the source stand side by side."
)
_BRACKET_NOTE = "Exposures of 8 bit from a simulated camera, dark to bright; ev is in stops above middle gray."


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
    num_processes: int | None = None,
    exposures: tuple[int, int] = (3, 3),
    **motion: float | str,
) -> tuple[dict, list[str]]:
    """Writes scenes 001, 002, ...; returns the manifest and a line for each image that cannot be read.

    Args:
        folder: created; scenes that were written with the same arguments are kept.
        hdr_dirs, only, exclude: see `sources.radiance_files`.
        count: number of scenes.
        size, seed, static, full_well, read_noise, exposures: see `SceneMaker`.
        num_processes: None or 0 for one process per CPU; with 1 everything runs in the caller's process.
        **motion: `shift`, `rotation`, `piece_shift` and `motion` of `SceneMaker`.
    """
    if count < 1 or seed < 0:
        raise ValueError(f"expected a count of 1 or more and a seed of 0 or more, found {count} and {seed}")
    if min(size) < 16 or max(size) > 20_000:
        raise ValueError(f"expected a height and width of 16 to 20,000 pixels, found {size[0]} and {size[1]}")
    if not full_well > 0 or not 0 <= read_noise < 1:
        raise ValueError(f"expected a full well above 0 and a read noise from 0 to 1, found {full_well} and {read_noise}")
    check_exposures(exposures)
    for name, value in motion.items():
        if name in LARGEST and not 0 <= value <= LARGEST[name]:
            raise ValueError(f"expected a {name} from 0 to {LARGEST[name]}, found {value}")
    if motion.get("motion", "rigid") not in MOTIONS:
        raise ValueError(f"expected a motion of {' or '.join(MOTIONS)}, found {motion['motion']!r}")
    images, unreadable = radiance_files(hdr_dirs, only, exclude)
    maker = SceneMaker(tuple(images), tuple(size), seed, static, full_well, read_noise, tuple(exposures), **motion)
    arguments = {"height": size[0], "width": size[1], "seed": seed, "static": static}
    arguments |= {"full_well": full_well if math.isfinite(full_well) else None, "read_noise": read_noise}
    # Sets that were begun before these arguments existed continue: a manifest lists them only where they are not the default.
    defaults = {field.name: field.default for field in dataclasses.fields(SceneMaker)}
    chosen = {"exposures": tuple(exposures), **motion}
    arguments |= {name: value for name, value in chosen.items() if value != defaults[name]}
    return _write_set(folder, _NOTE, arguments, count, _write_scene, maker, num_processes), unreadable


def write_brackets(
    folder: str | os.PathLike,
    hdr_dirs: Sequence[str | os.PathLike],
    count: int,
    size: int = 256,
    exposures: tuple[int, int] = (2, 2),
    seed: int = 0,
    only: Sequence[str] = (),
    exclude: Sequence[str] = (),
    num_processes: int | None = None,
) -> tuple[dict, list[str]]:
    """Writes still brackets 001, 002, ..., to fuse and to score. `size` and `exposures` are those of `BracketMaker`, everything
    else is as in `write_scenes`."""
    if count < 1:
        raise ValueError(f"expected a count of 1 or more, found {count}")
    check_numbers(size, exposures, seed)
    images, unreadable = radiance_files(hdr_dirs, only, exclude)
    maker = BracketMaker(tuple(images), (), size, tuple(exposures), seed)
    arguments = {"size": size, "exposures": list(exposures), "seed": seed}
    return _write_set(folder, _BRACKET_NOTE, arguments, count, _write_bracket, maker, num_processes), unreadable


def _write_set(folder, note, arguments, count, write, maker, num_processes):
    """Writes the scenes that are missing, and returns the manifest."""
    folder, names = pathlib.Path(folder), [f"{number:03d}" for number in range(1, count + 1)]
    manifest = scenes.begin_set(folder, note, {"pictures": [path.name for path in maker.images]} | arguments, names)
    jobs = [(folder / name, maker, index) for index, name in enumerate(names) if name not in manifest.entries]
    results = in_processes(write, jobs, num_processes)
    for name, facts in track(results, str(folder), len(jobs)):
        manifest.add(name, facts)
    return manifest.content


def _write_scene(folder, maker, index):
    ldr, stops, hdr, facts = maker(index)
    _remove_unlisted(folder)
    scenes.write_scene(folder, ldr, stops, hdr)
    return folder.name, facts


def _write_bracket(folder, maker, index):
    bracket = maker(index)
    _remove_unlisted(folder)
    with outputs.atomic(folder) as temporary:
        temporary.mkdir()
        for number, pixels in enumerate(bracket["exposures"], start=1):
            image_files.write_image(temporary / f"{number}.png", pixels)
    return folder.name, {"source": bracket["source"], "ev": bracket["ev"].tolist()}


def _remove_unlisted(folder):
    """Removes a scene that is complete, but whose run was killed before the manifest listed it."""
    if folder.exists():
        shutil.rmtree(folder)
