"""Records of synthetic brackets: exposures of one scene, from images of known radiance and from relit photographs."""

import pathlib
from collections.abc import Sequence

from hdr_tf.synthesis import sources
from hdr_tf.synthesis.brackets import BracketMaker, check_numbers
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
    curves: str = "symmetric",
    **options,
) -> tuple[dict, list[str]]:
    """Writes synthetic brackets; returns the manifest and a line for each image that cannot be read.

    Args:
        folder, count: see `writer.write`.
        hdr_dirs: folders of EXR and Radiance files.
        size: side of the square images in pixels, at least 16.
        exposures: least and largest number of exposures of a record, 2 to 9.
        exclude: names (without suffix) of images to leave out.
        photos: also use the photographs that scikit-image installs, with a new light for every record.
        seed: the same seed gives the same records.
        curves: contrast curves of the simulated cameras, see `camera.random_response`.
        **options: `shards`, `num_processes`, `resume`: see `writer.write`.
    """
    check_numbers(size, exposures, seed, curves)
    if not hdr_dirs and not photos:
        raise ValueError("expected a folder of EXR or Radiance files (hdr_dir) or the photographs (photos), found neither")
    images, unreadable = sources.radiance_files(hdr_dirs, exclude=exclude) if hdr_dirs or exclude else ([], [])
    maker = BracketMaker(tuple(images), sources.PHOTOS if photos else (), size, tuple(exposures), seed, curves)
    names = [path.name for path in images]
    arguments = {"pictures": names, "photos": maker.photos, "size": size, "exposures": exposures, "seed": seed}
    arguments |= maker.curves_argument()
    return writer.write(folder, "bracket", maker, count, arguments=arguments, **options), unreadable
