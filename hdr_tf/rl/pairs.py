"""Pairs of exposures at 224 x 224 for the editor, with the image that their fusion should resemble.

A synthetic pair is the first and the last of nine exposures, and its reference is the Mertens fusion of all nine. A pair from a
bracket is the darkest and the brightest image; its reference is the Mertens fusion of all images if there are three or more. A
single image that holds two exposures as its halves is also a bracket, without a reference. The editor's authors do not say
which pairs they trained with.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from hdr_tf.editor import edits
from hdr_tf.image import exposure_fusion
from hdr_tf.io import brackets
from hdr_tf.synthesis import camera, sources

EXPOSURES = 9


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Two exposures of a scene, each uint8 [224, 224, 3] RGB. `picture` names the file that synthetic pairs are made from."""

    name: str
    under: np.ndarray
    over: np.ndarray
    reference: np.ndarray | None = None
    picture: str | None = None


def synthetic_pair(name: str, radiance: np.ndarray, rng: np.random.Generator) -> Pair:
    """Makes a pair from a random square of an image.

    Args:
        name: of the pair.
        radiance: [H, W, 3] linear RGB >= 0, not black everywhere.
        rng: decides the square, its variation, the camera's response, the two exposures and the noise.
    """
    square = sources.random_crop(radiance, edits.SIDE, rng)
    while not square.any():
        square = sources.random_crop(radiance, edits.SIDE, rng)
    square = sources.vary(square, rng)
    ev = np.linspace(*camera.exposure_values(square, 2, rng), EXPOSURES)
    exposures = camera.bracket(square, ev, rng, camera.random_response(rng))
    return Pair(name, exposures[0], exposures[-1], exposure_fusion.mertens_reference(exposures))


class SyntheticPairs(Sequence):
    """Pairs that are made from radiance files on first access and then kept, 0.45 MB each. The seed and i alone decide pair i,
    except that its reference may differ by a level in places, because OpenCV's fusion does."""

    def __init__(self, paths: Sequence[pathlib.Path], count: int, seed: int = 0):
        """Args: files of `sources.radiance_files`, which the pairs use in turn; number of pairs; seed."""
        self._paths, self._count, self._seed, self._made = list(paths), count, seed, {}

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if not 0 <= index < self._count:
            raise IndexError(index)
        if index not in self._made:
            path, rng = self._paths[index % len(self._paths)], np.random.default_rng((self._seed, index))
            pair = synthetic_pair(f"{path.stem}_{index}", sources.load_radiance(path), rng)
            self._made[index] = dataclasses.replace(pair, picture=path.stem)
        return self._made[index]


def split_files(
    folders: Sequence[str | os.PathLike], exclude: Sequence[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path], list[str]]:
    """Returns the radiance files for training, the held-out files that `exclude` names without suffix (the same files if it
    names none), and a line for each unreadable file; see `sources.radiance_files`."""
    training, lines = sources.radiance_files(folders, exclude=exclude)
    held_out, more = sources.radiance_files(folders, only=exclude) if exclude else (training, [])
    return training, held_out, [*lines, *more]


def read_pairs(folder: str | os.PathLike, references: bool = True) -> tuple[list[Pair], list[str]]:
    """Reads the brackets of a folder; mean values decide which image is the darkest and which the brightest.

    Args:
        folder: see `brackets.find_brackets`.
        references: whether a bracket needs a reference, and so at least three exposures.

    Returns:
        The pairs, sorted by name, and a line for each bracket that gives no pair.
    """
    candidates, lines = brackets.find_brackets(folder)
    pairs = []
    for bracket in candidates:
        try:
            images = [edits.shrink(image.pixels) for image in brackets.read_bracket(bracket)]
        except (ValueError, OSError) as error:
            lines.append(str(error))
            continue
        if references and len(images) < 3:
            lines.append(
                f"{bracket.paths[0]}: expected at least three exposures of {bracket.name}, to make a reference, found "
                f"{len(images)}; --reward=mef_ssim needs none"
            )
            continue
        images.sort(key=np.mean)
        reference = exposure_fusion.mertens_reference(images) if len(images) > 2 else None
        pairs.append(Pair(bracket.name, images[0], images[-1], reference))
    if not pairs:
        raise ValueError(lines[0])
    return pairs, lines
