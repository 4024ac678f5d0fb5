"""Pictures of known radiance that scenes and brackets are made from: which ones, and their cleaned values."""

import functools
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from hdr_tf.image import files, synthesis

SUFFIXES = (".exr", ".hdr")


@functools.cache
def radiance(path: pathlib.Path) -> np.ndarray:
    """Returns the file's radiance after `synthesis.clean`, and keeps it in memory. [H, W, 3] float32, not to be changed.

    Raises:
        ValueError: no such file, damaged, or black everywhere; one line that begins with the path.
        OSError: it cannot be opened.
    """
    try:
        values = synthesis.clean(files.read_radiance(path))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    if not values.any():
        raise ValueError(f"{path}: expected radiance with light in it, found zeros only")
    values.flags.writeable = False
    return values


def radiance_files(
    folders: Sequence[str | os.PathLike], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[pathlib.Path], list[str]]:
    """Returns the readable EXR and Radiance files of the folders, and one line for each that is not readable.

    Args:
        folders: searched without their sub-folders.
        only: names (without suffix) of the pictures to take; none for all.
        exclude: names of pictures to leave out, such as those kept for validation.

    Raises:
        ValueError: a folder is missing, a name is not there, or nothing readable is left.
    """
    folders = [pathlib.Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder of EXR or Radiance files, found none")
    inside = [path for folder in folders for path in sorted(folder.iterdir())]
    found = [path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    told = ", ".join(map(str, folders))
    unknown = sorted({*only, *exclude} - {path.stem for path in found})
    if unknown:
        raise ValueError(f"{told}: no picture named {', '.join(unknown)} to take or leave out")
    good, bad = [], []
    for path in found:
        if path.stem in exclude or (only and path.stem not in only):
            continue
        try:
            radiance(path)
        except (ValueError, OSError) as error:
            bad.append(str(error))
        else:
            good.append(path)
    if not good:
        raise ValueError(f"{told}: expected EXR or Radiance files, found none that can be read")
    return good, bad
