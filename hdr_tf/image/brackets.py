"""Brackets: the exposures of a scene, in whatever way a folder holds them.

    folder/
      church/  1.jpg  2.jpg  3.jpg         every picture of a sub-folder, two or more
      Night/   Night_A.jpg  Night_B.JPG    <folder>_A and <folder>_B; any other picture beside them is passed over
      cave_A.png  cave_B.png               two loose pictures
      T0001.JPG                            a loose picture that holds two exposures as its halves

Photographs as a camera leaves them, hundreds in one folder, are another matter (`group_photographs`): what was taken within a
few seconds, by one camera and with different exposures, is a bracket.

_A and _B, either of which may be the darker, are the names of the MEFB benchmark (xingchenzhang/MEFB 82014f4), whose folders
hold the same photographs a second time under other names. Capitals do not count in them.

Halves stand above each other in the test pictures of bigmms/reinforcement_learning_hdr (375578f), which cuts them at half the
height; here they may stand side by side too. Shape does not tell which (a 4 x 3 picture may be either), so content does: phase
correlation of the two halves (logarithms of their luminance, less what is coarse, at 256 x 256) must find them in register, its
peak within 2 pixels of 0 and at least 0.2 high, in one of the two ways and not in the other. Measured on the seven pictures of
that repository and on 12 pairs of the MEFB benchmark stacked both ways: at most 1.0 pixel and at least 0.31; cut the wrong way,
and on 39 photographs that hold no halves: at least 4.0 pixels.
What is not so is refused: a picture alone, halves that moved, a side of an odd number of pixels to halve.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import color, files

_SIDE, _SHIFT, _PEAK = 256, 2.0, 0.2

GAP = 4.0  # seconds from the end of one exposure to the beginning of the next of a bracket
STEP = 0.25  # stops between two exposures of a bracket: cameras have steps of a third and more


@dataclasses.dataclass(frozen=True)
class Bracket:
    """Where the exposures of a scene are."""

    name: str
    paths: tuple[pathlib.Path, ...]
    """a picture for each exposure, or a single one that holds two"""


def find_brackets(folder: str | os.PathLike) -> tuple[list[Bracket], list[str]]:
    """Returns the brackets of a folder, sorted by name, and a line for each thing in it that should be one and is not.

    Looks at names only; hidden folders and files are passed over.

    Raises:
        ValueError: no such folder, or no bracket in it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of scenes, found none")
    candidates, lines = [], []
    for path in (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        pictures = files.list_pictures(path)
        pair = [picture for picture in pictures if _pair_name(picture) == path.name.casefold()]
        if len(pictures) < 2:
            lines.append(f"{path}: expected at least 2 pictures, found {len(pictures)}")
        else:
            candidates.append(Bracket(path.name, tuple(pair if _are_a_and_b(pair) else pictures)))
    pairs = {}
    for path in files.list_pictures(folder):
        if name := _pair_name(path):
            pairs.setdefault(name, []).append(path)
        else:
            candidates.append(Bracket(path.stem, (path,)))
    for paths in pairs.values():
        if _are_a_and_b(paths):
            candidates.append(Bracket(paths[0].stem[:-2], tuple(paths)))
        else:
            lines.append(f"{paths[0]}: expected one picture with _A and one with _B, found {', '.join(p.name for p in paths)}")
    brackets = {}
    for bracket in sorted(candidates, key=lambda bracket: (bracket.name, -len(bracket.paths))):
        if brackets.setdefault(bracket.name, bracket) is not bracket:
            lines.append(f"{bracket.paths[0]}: the scene {bracket.name} is there already; give it another name")
    if not brackets:
        raise ValueError(
            lines[0] if lines else f"{folder}: expected scenes (folders of exposures, or pairs X_A, X_B), found none"
        )
    return list(brackets.values()), lines


def group_photographs(paths: Sequence[pathlib.Path]) -> tuple[list[Bracket], list[pathlib.Path]]:
    """Groups photographs into brackets by what EXIF tells of time and exposure; their pixels are not read.

    In the order in which they were taken, a photograph begins a new bracket if it was taken more than `GAP` seconds after the
    one before it ended (to which as much again is granted as that took, for the camera's dark frame), if an exposure less than
    `STEP` stops from its own is in the bracket already, or if camera, size or orientation differ.

    Args:
        paths: JPEG, PNG or TIFF files.

    Returns:
        The brackets in the order in which they were taken, each named as its first file without the ending; and the files that
        are in none: those alone, without EXIF, or unreadable.
    """
    captures, alone = [], []
    for path in paths:
        try:
            capture = files.read_capture(path)
        except (ValueError, OSError):
            capture = None
        if capture is None or capture.time is None or capture.exposure is None:
            alone.append(path)
        else:
            captures.append(capture)
    groups = []
    for capture in sorted(captures, key=lambda capture: (capture.time, capture.path.name)):
        if groups and _belongs(capture, groups[-1]):
            groups[-1].append(capture)
        else:
            groups.append([capture])
    alone += [group[0].path for group in groups if len(group) == 1]
    paths = [tuple(capture.path for capture in group) for group in groups if len(group) > 1]
    return [Bracket(bracket[0].stem, bracket) for bracket in paths], sorted(alone)


def _belongs(capture, group):
    last = group[-1]
    apart = min(abs(math.log2(capture.exposure / other.exposure)) for other in group)
    return capture.kind == last.kind and apart >= STEP and capture.time - last.time <= GAP + 2 * last.seconds


def read_bracket(bracket: Bracket, max_pixels: int = files.MAX_PIXELS) -> list[files.Picture]:
    """Reads the exposures of a bracket, in the order of their names; of halves the upper or left one first.

    A file with more than `max_pixels` is refused before it is decoded.

    Raises:
        ValueError: pictures of several sizes, a damaged one, or one whose halves are no two exposures. One line.
        OSError: a file cannot be opened; one line.
    """
    pictures = [files.read_picture(path, max_pixels) for path in bracket.paths]
    if len(pictures) == 1:
        return [dataclasses.replace(pictures[0], pixels=half, exposure=None) for half in _halves(pictures[0])]
    for picture in pictures:
        if picture.pixels.shape[:2] != pictures[0].pixels.shape[:2]:
            raise ValueError(
                f"{picture.path} is {_size(picture.pixels)} pixels and {pictures[0].path.name} {_size(pictures[0].pixels)}: "
                "expected pictures of one size (width x height)"
            )
    return pictures


def _pair_name(path):
    """The name without _A or _B, None if it ends in neither."""
    name, _, letter = path.stem.casefold().rpartition("_")
    return name if name and letter in ("a", "b") else None


def _are_a_and_b(paths):
    return [path.stem[-1].casefold() for path in paths] == ["a", "b"]


def _halves(picture):
    pixels, found = picture.pixels, []
    for axis in (0, 1):
        if pixels.shape[axis] % 2 == 0:
            halves = np.split(pixels, 2, axis)
            if _in_register(*halves):
                found.append(halves)
    if len(found) != 1:
        what = "neither those above each other nor those side by side are" if not found else "both ways of halving it are"
        raise ValueError(
            f"{picture.path}: expected a picture that holds two exposures as its halves, {what} in register; "
            "the exposures of a scene belong in a folder of their own, or are named X_A and X_B"
        )
    return found[0]


def _in_register(first, second):
    def detail(pixels):
        gray = np.float32(pixels if pixels.ndim == 2 else color.luminance(pixels)) * (255 / np.iinfo(pixels.dtype).max)
        gray = np.log(4 + cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
        return np.float32(gray - cv2.GaussianBlur(gray, (0, 0), 8))

    window = cv2.createHanningWindow((_SIDE, _SIDE), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(detail(first), detail(second), window)
    return max(map(abs, shift)) <= _SHIFT and peak >= _PEAK


def _size(pixels):
    return f"{pixels.shape[1]} x {pixels.shape[0]}"
