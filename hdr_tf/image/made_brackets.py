"""Made brackets: exposures of one scene, from pictures of known radiance and photographs under made-up light.

tfrecords/brackets.py writes them as records to train with, scene_sets.py as pictures to look at and to score.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from hdr_tf.image import sources, synthesis


def check_numbers(size: int, exposures: tuple[int, int], seed: int) -> None:
    """Raises ValueError if a `BracketMaker` cannot work with these numbers."""
    if not 2 <= exposures[0] <= exposures[1] <= 9:
        raise ValueError(f"expected 2 to 9 exposures, the smaller number first, found {exposures[0]},{exposures[1]}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, found {seed}")
    if size < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {size}")


@dataclasses.dataclass(frozen=True)
class BracketMaker:
    """Makes bracket i of a set: {"exposures": uint8 [N, size, size, 3], dark to bright, "ev": float32 [N], "source": str}.

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
