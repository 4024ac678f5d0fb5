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

import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from absl import logging

from hdr_tf.image import color
from hdr_tf.io import image_files

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GAP = 4.0  # seconds, at most, between two exposures of a bracket
STEP = 0.25  # stops, at least, between two exposures of a bracket: cameras have steps of a third and more

_SIDE, _SHIFT, _PEAK = 256, 2.0, 0.2  # of the phase correlation in `_in_register`


@dataclasses.dataclass(frozen=True)
class Bracket:
    """The files of a bracket: an image for each exposure, or a single image that holds two."""

    name: str
    paths: tuple[pathlib.Path, ...]


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


def group_photographs(paths: Sequence[pathlib.Path]) -> tuple[list[Bracket], list[pathlib.Path]]:
    """Groups photographs (JPEG, PNG or TIFF) into brackets by the time and the exposure in EXIF; their pixels are not read.

    In the order of capture, a photograph begins a new bracket if it was captured more than `GAP` seconds after the photograph
    before it ended (plus that one's exposure time, for the camera's dark frame), if the bracket already holds an exposure less
    than `STEP` stops away, or if camera, size or orientation differ.

    Returns the brackets in the order of capture, each with the name of its first file without the suffix, and the files that
    are in none: single ones, and those that are unreadable or lack EXIF.
    """
    captures = []
    for path in paths:
        with contextlib.suppress(ValueError, OSError):
            capture = image_files.read_capture(path)
            if None not in (capture.time, capture.exposure):
                captures.append(capture)
    groups = []
    for capture in sorted(captures, key=lambda capture: (capture.time, capture.path.name)):
        if groups and _belongs(capture, groups[-1]):
            groups[-1].append(capture)
        else:
            groups.append([capture])
    brackets = [Bracket(group[0].path.stem, tuple(capture.path for capture in group)) for group in groups if len(group) > 1]
    return brackets, sorted({*paths} - {path for bracket in brackets for path in bracket.paths})


def _belongs(capture, group):
    last = group[-1]
    step = min(abs(math.log2(capture.exposure / other.exposure)) for other in group)
    return capture.kind == last.kind and step >= STEP and capture.time - last.time <= GAP + 2 * last.seconds


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
        gray = np.float32(pixels if pixels.ndim == 2 else color.luminance(pixels)) * (255 / np.iinfo(pixels.dtype).max)
        gray = np.log(4 + cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        return np.float32(gray - cv2.GaussianBlur(gray, (0, 0), 8))

    window = cv2.createHanningWindow((_SIDE, _SIDE), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(detail(first), detail(second), window)
    return max(map(abs, shift)) <= _SHIFT and peak >= _PEAK


def list_brackets(folder: str | os.PathLike) -> list[pathlib.Path | Bracket]:
    """Lists the brackets of a folder: its sub-folders, sorted, then those that `group_photographs` finds among its photographs.
    Photographs that belong to no bracket are logged; a folder without any bracket raises ValueError."""
    folders = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir() and path.name[0] != ".")
    groups, alone = group_photographs(image_files.list_images(folder))
    if not folders and not groups:
        single = f", only {len(alone)} images whose EXIF times and exposures do not match any other" if alone else ""
        raise ValueError(f"{folder}: expected a sub-folder or photographs with EXIF for each bracket, found none{single}")
    if alone:
        names = ", ".join(path.name for path in alone[:5]) + (", ..." if len(alone) > 5 else "")
        logging.warning("left out %d images whose EXIF times and exposures do not match any other (%s)", len(alone), names)
    return folders + groups


def dark_to_bright(images: Sequence[image_files.LoadedImage], names: Sequence[str]) -> list[image_files.LoadedImage]:
    """Returns the images sorted by EXIF exposure. If EXIF does not give a different exposure for each, sorts by mean luminance
    and logs the order of the names."""
    exposures = [image.exposure for image in images]
    if None not in exposures and len(set(exposures)) == len(exposures):
        return sorted(images, key=lambda image: image.exposure)
    means = [cv2.mean(image.pixels)[:3] for image in images]
    means = [np.dot(mean, LUMA) if image.pixels.ndim == 3 else mean[0] for mean, image in zip(means, images, strict=True)]
    order = sorted(range(len(images)), key=means.__getitem__)
    listed = ", ".join(pathlib.Path(names[i]).name for i in order)
    logging.info("EXIF does not give different exposures; sorted by mean luminance: %s", listed)
    return [images[i] for i in order]


def check_sizes(images: Sequence[np.ndarray], names: Sequence, least: int = 1) -> None:
    """Raises ValueError, with the names, unless all images, [H, W, ...], have one size, of at least `least` pixels a side."""
    sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in images]
    for name, size in zip(names, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(f"{name} is {size} pixels and {names[0]} {sizes[0]}: expected images of one size (width x height)")
    if min(images[0].shape[:2]) < least:
        raise ValueError(f"{names[0]}: expected at least {least} x {least} pixels, found {sizes[0]}")
