"""Records of made brackets: exposures of one scene, from pictures of known radiance and photographs under made-up light."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from hdr_tf.image import sources, synthesis
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
    if not 2 <= exposures[0] <= exposures[1] <= 9:
        raise ValueError(f"expected 2 to 9 exposures, the smaller number first, found {exposures[0]},{exposures[1]}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, found {seed}")
    if size < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {size}")
    if not hdr_dirs and not photos:
        raise ValueError("expected a folder of EXR or Radiance files (hdr_dir) or the photographs (photos), found neither")
    pictures, unreadable = sources.radiance_files(hdr_dirs, exclude=exclude) if hdr_dirs or exclude else ([], [])
    maker = BracketMaker(tuple(pictures), synthesis.PHOTOS if photos else (), size, tuple(exposures), seed)
    arguments = dataclasses.asdict(maker) | {"pictures": [path.name for path in pictures]}
    return writer.write(folder, "bracket", maker, count, shards, arguments, workers, resume), unreadable


@dataclasses.dataclass(frozen=True)
class BracketMaker:
    """Makes record i of a set of synthetic brackets (schema.BRACKET).

    Attributes:
        pictures: EXR or Radiance files.
        photos: names out of `synthesis.PHOTOS`, each relit anew for every record.
        size: side of the square pictures in pixels.
        exposures: least and largest number of exposures.
        seed: of the whole set.
    """

    pictures: tuple[pathlib.Path, ...]
    photos: tuple[str, ...]
    size: int
    exposures: tuple[int, int]
    seed: int

    def __call__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        scene, source = self._crop(rng)
        if rng.random() < 0.35:
            other, addition = self._crop(rng)
            scene, source = synthesis.collage(scene, other, rng), f"{source}+{addition}"
        scene = synthesis.vary(scene, rng)
        ev = synthesis.exposure_values(scene, int(rng.integers(self.exposures[0], self.exposures[1] + 1)), rng)
        exposures = synthesis.bracket(
            scene,
            ev,
            rng,
            synthesis.random_response(rng),
            full_well=10 ** rng.uniform(3.5, 4.7),
            read_noise=rng.uniform(2, 10),
        )
        return {"exposures": synthesis.develop(exposures, rng), "ev": ev, "source": source}

    def _crop(self, rng):
        """A random piece of a random picture, and the picture's name."""
        # A picture with a longer short side holds more different crops.
        sides = [min(sources.radiance(path).shape[:2]) for path in self.pictures]
        sides += [min(_photo(name).shape[:2]) for name in self.photos]
        while True:
            chosen = rng.choice(len(sides), p=np.array(sides) / sum(sides))
            if chosen < len(self.pictures):
                radiance, source = sources.radiance(self.pictures[chosen]), self.pictures[chosen].stem
            else:
                source = self.photos[chosen - len(self.pictures)]
                radiance = synthesis.relight(_photo(source), rng)
            crop = synthesis.random_crop(radiance, self.size, rng)
            if crop.any():  # a piece of a night sky may be black
                return crop, source


@functools.cache
def _photo(name):
    return synthesis.sample_photo(name)
