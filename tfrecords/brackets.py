"""Records of made brackets: exposures of one scene, from pictures of known radiance and photographs under made-up light."""

import dataclasses
import pathlib
from collections.abc import Sequence

from hdr_tf.image import sources, synthesis
from hdr_tf.image.made_brackets import BracketMaker, check_numbers
from tfrecords import writer


def write_brackets(
    folder: pathlib.Path,
    hdr_dirs: Sequence[pathlib.Path],
    count: int,
    size: int = 256,
    exposures: tuple[int, int] = (3, 5),
    exclude: Sequence[str] = (),
    photos: bool = False,
    seed: int = 0,
    shards: int = 8,
    workers: int | None = None,
    resume: bool = True,
) -> tuple[dict, list[str]]:
    """Writes synthetic brackets, and returns the manifest and a line for each picture that could not be read.

    Args:
        folder: see `writer.write`, as are count, shards, workers and resume.
        hdr_dirs: folders of EXR and Radiance files.
        size: side of the square pictures in pixels, at least 16.
        exposures: least and largest number of exposures of a record, 2 to 9.
        exclude: names (without suffix) of pictures to leave out.
        photos: also use the photographs in scikit-image's wheel, relit anew for every record.
        seed: the same seed gives the same records.

    Raises:
        ValueError: nothing to make records from, numbers out of range, or see `writer.write`.
        OSError: see `writer.write`.
    """
    check_numbers(size, exposures, seed)
    if not hdr_dirs and not photos:
        raise ValueError("expected a folder of EXR or Radiance files (hdr_dir) or the photographs (photos), found neither")
    pictures, unreadable = sources.radiance_files(hdr_dirs, exclude=exclude) if hdr_dirs or exclude else ([], [])
    maker = BracketMaker(tuple(pictures), synthesis.PHOTOS if photos else (), size, tuple(exposures), seed)
    arguments = dataclasses.asdict(maker) | {"pictures": [path.name for path in pictures]}
    return writer.write(folder, "bracket", maker, count, shards, arguments, workers, resume), unreadable
