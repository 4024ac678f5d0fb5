"""Pairs of exposures for the editor at 224 x 224, with the picture that their fusion should resemble.

    made_pair, MadePairs    from radiance: both ends of nine exposures, whose Mertens fusion is the reference
    split_files             radiance files for training, and those that training leaves out
    read_pairs              from a folder of brackets (hdr_tf/image/brackets.py): the darkest and the brightest picture of each;
                            the reference is the Mertens fusion of all, if they are three or more. Pictures that hold two
                            exposures as their halves are such brackets too, without a reference

What the editor's authors trained with, they do not say.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from hdr_tf.image import brackets, editing, exposure_fusion, sources, synthesis

EXPOSURES = 9


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two exposures of a scene, each uint8 [224, 224, 3] RGB."""

    name: str
    under: np.ndarray
    over: np.ndarray
    reference: np.ndarray | None = None


def made_pair(name: str, radiance: np.ndarray, rng: np.random.Generator) -> Pair:
    """Makes a pair from a random square of a picture.

    Args:
        name: of the pair.
        radiance: [H, W, 3] linear RGB >= 0, not black everywhere.
        rng: draws the square, its variation, the camera's response, the two exposures and the noise.
    """
    square = synthesis.random_crop(radiance, editing.SIDE, rng)
    while not square.any():
        square = synthesis.random_crop(radiance, editing.SIDE, rng)
    square = synthesis.vary(square, rng)
    ev = np.linspace(*synthesis.exposure_values(square, 2, rng), EXPOSURES)
    exposures = synthesis.bracket(square, ev, rng, synthesis.random_response(rng))
    return Pair(name, exposures[0], exposures[-1], exposure_fusion.mertens_reference(exposures))


class MadePairs(Sequence):
    """Pairs made from radiance files when they are asked for; pair i depends on the seed and i alone, its reference but for a
    level in places, as OpenCV's fusion does."""

    def __init__(self, paths: Sequence[pathlib.Path], count: int, seed: int = 0):
        """Args: files, as from `sources.radiance_files`, which the pairs take in turn; number of pairs; seed."""
        self._paths, self._count, self._seed = list(paths), count, seed

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if not 0 <= index < self._count:
            raise IndexError(index)
        path = self._paths[index % len(self._paths)]
        return made_pair(f"{path.stem}_{index}", sources.radiance(path), np.random.default_rng((self._seed, index)))


def split_files(
    folders: Sequence[str | os.PathLike], exclude: Sequence[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path], list[str]]:
    """Returns the radiance files of the folders but the excluded ones, the excluded ones (all files if there are none), and a
    line for each that cannot be read; raises as `sources.radiance_files`."""
    taken, lines = sources.radiance_files(folders, exclude=exclude)
    held, more = sources.radiance_files(folders, only=exclude) if exclude else (taken, [])
    return taken, held, [*lines, *more]


def read_pairs(folder: str | os.PathLike, references: bool = True) -> tuple[list[Pair], list[str]]:
    """Reads the brackets of a folder; which exposure is the darker one, their mean values tell.

    Args:
        folder: see `brackets.find_brackets`.
        references: whether a bracket needs three exposures and more, to have a reference.

    Returns:
        The pairs, sorted by name, and a line for each bracket that is none.

    Raises:
        ValueError: no such folder, or not a single pair in it.
    """
    found, lines = brackets.find_brackets(folder)
    pairs = []
    for bracket in found:
        try:
            pictures = [editing.shrink(picture.pixels) for picture in brackets.read_bracket(bracket)]
        except (ValueError, OSError) as error:
            lines.append(str(error))
            continue
        if references and len(pictures) < 3:
            lines.append(
                f"{bracket.paths[0]}: expected three or more exposures of {bracket.name}, to make a reference of, found "
                f"{len(pictures)}; --reward=mef_ssim needs none"
            )
            continue
        pictures.sort(key=np.mean)
        reference = exposure_fusion.mertens_reference(pictures) if len(pictures) > 2 else None
        pairs.append(Pair(bracket.name, pictures[0], pictures[-1], reference))
    if not pairs:
        raise ValueError(lines[0])
    return pairs, lines
