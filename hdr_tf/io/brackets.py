"""Brackets: the differently exposed images of a scene, in whatever way a folder holds them.

    folder/
      church/  1.jpg  2.jpg  3.jpg         every image of a sub-folder, two or more
      Night/   Night_A.jpg  Night_B.JPG    <folder>_A and <folder>_B; any other image next to them is skipped
      cave_A.png  cave_B.png               two loose images
      T0001.JPG                            a loose image whose halves are two exposures

_A and _B, either of which may be the darker, are the names of the MEFB benchmark (xingchenzhang/MEFB 82014f4), whose folders
hold the same photographs a second time under other names. Names are compared without regard to case. Halves stand above each
other in the test images of bigmms/reinforcement_learning_hdr (375578f); here they may also stand side by side. The shape does
not tell which, so the content decides (`_in_register`), in favour of exactly one of the two ways. Everything else is refused: a
single image, halves that moved, a side of an odd number of pixels to halve.
"""

import collections
import dataclasses
import filecmp
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import color
from hdr_tf.io import grouping, image_files

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
PREFERENCES = ("jpeg", "raw")  # of a RAW file and an image of the same name, which one is used

_SIDE, _SHIFT, _PEAK = 256, 2.0, 0.2  # of the phase correlation in `_in_register`


@dataclasses.dataclass(frozen=True)
class Bracket:
    """The files of a bracket: an image for each exposure, or a single image that holds two."""

    name: str
    paths: tuple[pathlib.Path, ...]
    source: pathlib.Path | None = None  # the sub-folder that holds it, None if it lies in the folder that was given
    problem: str = ""  # what it lacks, a line that begins with a path; such a bracket is not fused


def find_brackets(folder: str | os.PathLike) -> tuple[list[Bracket], list[str]]:
    """Returns the brackets of a folder, sorted by name, and a line for each sub-folder or file that is an incomplete one.

    Only names are checked; hidden folders and files are skipped. A folder without any bracket raises ValueError.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of scenes, found none")
    candidates, lines = [], []
    for path in (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = image_files.list_images(path)
        pair = [image for image in images if _pair_name(image) == path.name.casefold()]
        if len(images) < 2:
            lines.append(f"{path}: expected at least 2 images, found {len(images)}")
        else:
            candidates.append(Bracket(path.name, tuple(pair if _are_a_and_b(pair) else images)))
    pairs = {}
    for path in image_files.list_images(folder):
        if name := _pair_name(path):
            pairs.setdefault(name, []).append(path)
        else:
            candidates.append(Bracket(path.stem, (path,)))
    for paths in pairs.values():
        if _are_a_and_b(paths):
            candidates.append(Bracket(paths[0].stem[:-2], tuple(paths)))
        else:
            lines.append(f"{paths[0]}: expected one image with _A and one with _B, found {', '.join(p.name for p in paths)}")
    brackets = {}
    for bracket in sorted(candidates, key=lambda bracket: (bracket.name, -len(bracket.paths))):
        if brackets.setdefault(bracket.name, bracket) is not bracket:
            lines.append(f"{bracket.paths[0]}: there is another scene {bracket.name}; rename one of them")
    if not brackets:
        raise ValueError(
            lines[0] if lines else f"{folder}: expected scenes (folders of exposures, or pairs X_A, X_B), found none"
        )
    return list(brackets.values()), lines


def group_photographs(paths: Sequence[pathlib.Path], frames: int | None = None) -> tuple[list[Bracket], list[pathlib.Path]]:
    """Groups photographs (JPEG, PNG, TIFF or RAW) into brackets by what EXIF says; their pixels are not read.

    Each camera (maker, model, serial number) and size has a sequence of its own, see `io.grouping`. An orientation that differs
    parts no bracket: a camera that looks straight down does not know how it is turned.

    A photograph that lies among those of a bracket by its time (no exposure) or its number (not readable, no EXIF) is not left
    out in silence: the bracket gets a `problem`.

    Args:
        frames: of each bracket; None: as many as the sequence suggests.

    Returns:
        The brackets in the order of capture, each with the name of its first file without the suffix, and the files that are in
        none, sorted.
    """
    groups, alone = grouping.group_files(paths, frames)
    return [_bracket(group, group.captures[0].path.stem) for group in groups], alone


def _bracket(group, name, source=None):
    return Bracket(name, tuple(capture.path for capture in group.captures), source, group.problem)


def read_bracket(bracket: Bracket, max_pixels: int = image_files.MAX_PIXELS) -> list[image_files.LoadedImage]:
    """Reads the exposures of a bracket in the order of their names; of halves the upper or left one comes first.

    A file with more than `max_pixels` is refused before it is decoded.
    """
    images = [image_files.read_image(path, max_pixels) for path in bracket.paths]
    if len(images) == 1:
        return [dataclasses.replace(images[0], pixels=half, exposure=None) for half in _halves(images[0])]
    check_sizes([image.pixels for image in images], bracket.paths)
    return images


def _pair_name(path):
    """The name without _A or _B, None if it ends in neither."""
    name, _, letter = path.stem.casefold().rpartition("_")
    return name if name and letter in ("a", "b") else None


def _are_a_and_b(paths):
    return [path.stem[-1].casefold() for path in paths] == ["a", "b"]


def _halves(image):
    pairs = [np.split(image.pixels, 2, axis) for axis in (0, 1) if image.pixels.shape[axis] % 2 == 0]
    candidates = [pair for pair in pairs if _in_register(*pair)]
    if len(candidates) != 1:
        which = "both" if candidates else "neither the upper and lower nor the left and right"
        raise ValueError(
            f"{image.path}: expected an image whose halves are two exposures, found {which} halves in register; "
            "put the exposures of a scene into a folder of their own, or name them X_A and X_B"
        )
    return candidates[0]


def _in_register(first, second):
    """Phase correlation of the logarithms of luminance, without the coarse structure: its peak is at 0, and high enough.

    Measured on the seven images of reinforcement_learning_hdr and 12 pairs of the MEFB benchmark stacked both ways: at most 1.0
    pixel from 0, at least 0.31 high. Cut the wrong way, and on 39 photographs without halves: at least 4.0 pixels.
    """

    def detail(pixels):
        gray = np.asarray(pixels if pixels.ndim == 2 else color.luminance(pixels), np.float32)
        gray = gray * (255 / np.iinfo(pixels.dtype).max)
        gray = np.log(4 + cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        return np.asarray(gray - cv2.GaussianBlur(gray, (0, 0), 8), np.float32)

    window = cv2.createHanningWindow((_SIDE, _SIDE), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(detail(first), detail(second), window)
    return max(map(abs, shift)) <= _SHIFT and peak >= _PEAK


def list_brackets(
    folder: str | os.PathLike, frames: int | None = None, allow_missing: bool = False, prefer: str = "jpeg"
) -> list[pathlib.Path | Bracket]:
    """Lists the brackets of a folder: those of its sub-folders, sorted, then those among its photographs.

    A sub-folder is one bracket, whatever it holds, unless EXIF says that there are several (see `io.grouping`); these are
    called <sub-folder>_<first file>. What was decided, and photographs that belong to no bracket, are logged.

    Args:
        frames: of each bracket; None: as many as the sequence suggests.
        allow_missing: brackets that lack a frame are fused from the others; otherwise they have a `problem`.
        prefer: what is used where a RAW file and an image have the same name, "jpeg" (whatever image it is) or "raw".

    Raises:
        ValueError: there is no bracket, or an argument is unfit.
    """
    if prefer not in PREFERENCES:
        raise ValueError(f"prefer: expected {' or '.join(PREFERENCES)}, found {prefer!r}")
    if frames is not None and frames < 2:
        raise ValueError(f"frames: expected at least 2 of a bracket, found {frames}")
    folder = pathlib.Path(folder)
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    found = [bracket for path in folders for bracket in _of_folder(path, frames, prefer)]
    groups, alone = group_photographs(_chosen(folder, prefer), frames)
    if not found and not groups:
        single = f", only {len(alone)} images whose EXIF times and exposures do not match any other" if alone else ""
        raise ValueError(f"{folder}: expected a sub-folder or photographs with EXIF for each bracket, found none{single}")
    _tell_alone(alone)
    return [_allowed(bracket) if allow_missing else bracket for bracket in [*found, *groups]]


def _of_folder(path, frames, prefer):
    """The brackets of a sub-folder: itself, or those that EXIF tells apart."""
    try:
        files, everything = _chosen(path, prefer, loose=False), image_files.list_images(path)
        groups = grouping.group_files(files, frames, folder=True)
    except OSError:  # the bracket reports it when its turn comes
        return [path]
    if groups:
        groups, alone = groups
        brackets = [_bracket(group, f"{path.name}_{group.captures[0].path.stem}", path) for group in groups]
        logging.info("%s: holds %d brackets, by the cameras, times and exposures in EXIF", path, len(brackets))
        _tell_alone(alone)
        return brackets
    if len({_is_raw(file) for file in files}) > 1:
        problem = f"{path}: expected RAW files or images for all exposures, found some of each"
        return [Bracket(path.name, tuple(files), path, problem)]
    return [path] if files == everything else [Bracket(path.name, tuple(files), path)]


def _tell_alone(alone):
    if alone:
        names = ", ".join(path.name for path in alone[:5]) + (", ..." if len(alone) > 5 else "")
        logging.warning("left out %d images whose EXIF times and exposures do not match any other (%s)", len(alone), names)


def _allowed(bracket):
    if not isinstance(bracket, Bracket) or not bracket.problem or len(bracket.paths) < 2:
        return bracket
    logging.warning("%s; fused from %d frames without it", bracket.problem, len(bracket.paths))
    paths = bracket.paths
    if len({_is_raw(path) for path in paths}) > 1:
        kind = sum(map(_is_raw, paths)) * 2 > len(paths)
        paths = tuple(path for path in paths if _is_raw(path) == kind)
    return dataclasses.replace(bracket, paths=paths, problem="")


def _is_raw(path):
    return path.suffix.lower() in image_files.RAW_SUFFIXES


def _chosen(folder, prefer, loose=True):
    """The photographs of a folder, one of each pair of a RAW file and an image of the same name; says which. Without such
    pairs, RAW files and images are different brackets if they are `loose`; otherwise one kind is left out."""
    names, preferred = {}, int(prefer == "raw")
    for path in image_files.list_photographs(folder):
        names.setdefault(path.stem.casefold(), ([], []))[_is_raw(path)].append(path)
    kinds = [sorted(path for files in names.values() for path in files[kind]) for kind in (0, 1)]
    called = "images", "RAW files"
    if not any(images and raws for images, raws in names.values()):
        if loose or not all(kinds):
            return sorted(sum(kinds, []))
        left = len(kinds[1 - preferred])
        logging.warning("%s: %d %s are left out, as there are %s", folder, left, called[1 - preferred], called[preferred])
        return kinds[preferred]
    # The other kind, if only that is complete.
    complete = [all(files[kind] for files in names.values()) for kind in (0, 1)]
    kind = 1 - preferred if complete[1 - preferred] and not complete[preferred] else preferred
    choice = "" if kind else "; --prefer=raw takes the RAW files"
    logging.info("%s: RAW files and images have the same names: the %s are used%s", folder, called[kind], choice)
    return sorted(path for files in names.values() for path in files[kind] or files[1 - kind])


def dark_to_bright(images: Sequence[image_files.LoadedImage], names: Sequence[str]) -> list[image_files.LoadedImage]:
    """Returns the images sorted by EXIF exposure. If EXIF does not give a different exposure for each, sorts by mean luminance
    and logs the order of the names."""
    exposures = [image.exposure for image in images if image.exposure is not None]
    if len(set(exposures)) == len(images):
        return [image for _, image in sorted(zip(exposures, images, strict=True), key=lambda pair: pair[0])]
    means = [cv2.mean(image.pixels)[:3] for image in images]
    means = [np.dot(mean, LUMA) if image.pixels.ndim == 3 else mean[0] for mean, image in zip(means, images, strict=True)]
    order = sorted(range(len(images)), key=means.__getitem__)
    listed = ", ".join(pathlib.Path(names[i]).name for i in order)
    logging.info("EXIF does not give different exposures; sorted by mean luminance: %s", listed)
    return [images[i] for i in order]


def turned_alike(images: Sequence[np.ndarray], orientations: Sequence[int], names: Sequence) -> list[np.ndarray]:
    """Returns the images of a bracket, [H, W, ...], turned as most of them are; says which EXIF had turned otherwise.

    A camera that looks straight down does not know how it is turned. Images whose pixels are stored in different shapes were
    turned by somebody: they stay as they are.

    Args:
        orientations: of EXIF, that were applied to the images; the first of those that are as frequent counts.
    """
    stored = {image.shape[1::-1] if turn >= 5 else image.shape[:2] for image, turn in zip(images, orientations, strict=True)}
    ((most, count),) = collections.Counter(orientations).most_common(1)
    if count == len(images) or len(stored) > 1:
        return list(images)
    alike = []
    for image, turn, name in zip(images, orientations, names, strict=True):
        if turn != most:
            logging.warning("%s: EXIF turns it otherwise than the others (%d, not %d): turned like them", name, turn, most)
            image = np.ascontiguousarray(image_files.turned(image, turn, most))
        alike.append(image)
    return alike


def check_different(paths: Sequence[str | os.PathLike]) -> None:
    """Raises ValueError if a file, or a copy of it, is there twice: what it shows would count twice. Different photographs of
    one exposure are welcome, as they have less noise together."""
    sizes = {}
    for path in map(pathlib.Path, paths):
        try:
            status = path.stat()
        except OSError:  # reading reports it
            continue
        for other in sizes.setdefault(status.st_size, []):
            if path.samefile(other) or filecmp.cmp(path, other, shallow=False):
                raise ValueError(f"{path}: is the same image as {other}; leave one of them out")
        sizes[status.st_size].append(path)


def readable(paths: Sequence[pathlib.Path], read: Callable[[pathlib.Path], Any]) -> list:
    """Returns what `read` makes of the files that can be read; says which cannot. If fewer than two can, raises the first one's
    error."""
    found, errors = [], []
    for path in paths:
        try:
            found.append(read(path))
        except (ValueError, OSError) as error:
            errors.append(error)
    if errors and len(found) < 2:
        raise errors[0]
    for error in errors:
        logging.warning("%s; fused without it", error)
    return found


def check_sizes(images: Sequence[np.ndarray], names: Sequence, least: int = 1) -> None:
    """Raises ValueError, with the names, unless all images, [H, W, ...], have one size, of at least `least` pixels a side."""
    sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in images]
    for name, size in zip(names, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(f"{name} is {size} pixels and {names[0]} {sizes[0]}: expected images of one size (width x height)")
    if min(images[0].shape[:2]) < least:
        raise ValueError(f"{names[0]}: expected at least {least} x {least} pixels, found {sizes[0]}")
