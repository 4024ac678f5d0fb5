"""Writes sets of synthetic scenes and brackets, in parallel.

    folder/
      manifest.json      arguments; for every scene its source, tiles, enlargement, pieces, stops, scale and clipped part, for
                         every bracket its source and exposure values
      001/ 002/ ...      scenes in Kalantari's layout, see io/scenes.py; of brackets 1.png, 2.png, ..., dark to bright, and what
                         they were made from: radiance.exr (of any scale), and in camera.json the response and the saturation
                         of the simulated camera (see synthesis/camera.py)

A scene depends on nothing but the arguments and its number, so neither the number of processes nor that of the scenes changes
it. Started again after an interruption, or with a larger count, both functions write what is missing.
"""

import dataclasses
import json
import math
import os
import pathlib
import shutil
from collections.abc import Sequence

import numpy as np

from hdr_tf.io import image_files, outputs, scenes
from hdr_tf.io.manifest import read as read_json
from hdr_tf.parallel import in_processes
from hdr_tf.progress import track
from hdr_tf.synthesis import camera
from hdr_tf.synthesis.brackets import BracketMaker, check_exposures, check_numbers
from hdr_tf.synthesis.scenes import LARGEST, MOTIONS, SceneMaker
from hdr_tf.synthesis.sources import radiance_files

RADIANCE, CAMERA = "radiance.exr", "camera.json"  # what a bracket was made from

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
    curves: str = "symmetric",
) -> tuple[dict, list[str]]:
    """Writes still brackets 001, 002, ..., to fuse and to score. `size`, `exposures` and `curves` are those of `BracketMaker`,
    everything else is as in `write_scenes`."""
    if count < 1:
        raise ValueError(f"expected a count of 1 or more, found {count}")
    check_numbers(size, exposures, seed, curves)
    images, unreadable = radiance_files(hdr_dirs, only, exclude)
    maker = BracketMaker(tuple(images), (), size, tuple(exposures), seed, curves)
    arguments = {"size": size, "exposures": list(exposures), "seed": seed} | maker.curves_argument()
    return _write_set(folder, _BRACKET_NOTE, arguments, count, _write_bracket, maker, num_processes), unreadable


def read_simulated(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Returns the radiance, the response and the saturation that a synthetic bracket was made from (see `camera.develop`), or
    None if the folder has no camera.json. Files that do not fit raise ValueError."""
    path = folder / CAMERA
    simulated = read_json(path)
    if simulated is None:
        return None
    try:
        response, saturation = np.array(simulated["response"], float), float(simulated["saturation"])
        fits = response.shape == camera.ENCODED_LEVELS.shape and (np.diff(response) > 0).all() and 0 < saturation <= 1.5
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits or not (response[0] >= 0 and response[-1] == 1):
        raise ValueError(f"{path}: expected a camera that hdr-tf scenes wrote, found something else; write the set anew")
    return image_files.read_radiance(folder / RADIANCE), response, saturation


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
    bracket = maker.with_camera(index)
    _remove_unlisted(folder)
    with outputs.atomic(folder) as temporary:
        temporary.mkdir()
        for number, pixels in enumerate(bracket["exposures"], start=1):
            image_files.write_image(temporary / f"{number}.png", pixels)
        image_files.write_radiance(temporary / RADIANCE, bracket["radiance"])
        simulated = {"saturation": bracket["saturation"], "response": bracket["response"].tolist()}
        (temporary / CAMERA).write_text(json.dumps(simulated) + "\n")
    return folder.name, {"source": bracket["source"], "ev": bracket["ev"].tolist()}


def _remove_unlisted(folder):
    """Removes a scene that is complete, but whose run was killed before the manifest listed it."""
    if folder.exists():
        shutil.rmtree(folder)
