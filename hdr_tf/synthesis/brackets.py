"""Synthetic brackets: exposures of one still scene, from images of known radiance and from relit photographs."""

import dataclasses
import pathlib

import numpy as np

from hdr_tf.synthesis import camera, sources


def check_numbers(size: int, exposures: tuple[int, int], seed: int, curves: str = "symmetric") -> None:
    """Raises ValueError if no `BracketMaker` can have these arguments."""
    check_exposures(exposures)
    if curves not in camera.CURVES:
        raise ValueError(f"expected curves {' or '.join(camera.CURVES)}, found {curves!r}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, found {seed}")
    if size < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {size}")


def check_exposures(exposures: tuple[int, int]) -> None:
    """Raises ValueError if these are not the least and the largest number of exposures."""
    if not 2 <= exposures[0] <= exposures[1] <= 9:
        raise ValueError(f"expected 2 to 9 exposures, the smaller number first, found {exposures[0]},{exposures[1]}")


@dataclasses.dataclass(frozen=True)
class BracketMaker:
    """Makes bracket i of a set: {"exposures": uint8 [N, size, size, 3], dark to bright, "ev": float32 [N], "source": str}.

    Attributes:
        images: EXR or Radiance files.
        photos: names from `sources.PHOTOS`; a photograph gets a new light for every bracket.
        size: side of the square images in pixels.
        exposures: least and largest number of exposures.
        seed: seed of the whole set.
        curves: contrast curves of the simulated cameras, see `camera.random_response`.
    """

    images: tuple[pathlib.Path, ...]
    photos: tuple[str, ...]
    size: int
    exposures: tuple[int, int]
    seed: int
    curves: str = "symmetric"

    def __call__(self, index: int) -> dict:
        bracket = self.with_camera(index)
        return {name: bracket[name] for name in ("exposures", "ev", "source")}

    def with_camera(self, index: int) -> dict:
        """Makes bracket i with what it was made from: "radiance", float32 [size, size, 3] of any scale, the camera's
        "response", see `camera.random_response`, and its "saturation", see `camera.develop`."""
        rng = np.random.default_rng([self.seed, index])
        scene, source = self._crop(rng)
        if rng.random() < 0.35:
            other, addition = self._crop(rng)
            scene, source = sources.collage(scene, other, rng), f"{source}+{addition}"
        scene = sources.vary(scene, rng)
        ev = camera.exposure_values(scene, int(rng.integers(self.exposures[0], self.exposures[1] + 1)), rng)
        response = camera.random_response(rng, self.curves)
        full_well, read_noise = 10 ** rng.uniform(3.5, 4.7), rng.uniform(2, 10)
        exposures = camera.bracket(scene, ev, rng, response, full_well, read_noise)
        settings = camera.random_settings(rng)
        bracket = {"exposures": camera.develop(exposures, **settings), "ev": ev, "source": source}
        return bracket | {"radiance": scene, "response": response, "saturation": settings["saturation"]}

    def curves_argument(self) -> dict:
        """Returns {"curves": their name} for a manifest, but nothing for the default: sets that were begun before there was a
        choice continue."""
        return {} if self.curves == "symmetric" else {"curves": self.curves}

    def _crop(self, rng):
        """A random piece of a random image, and the name of that image."""
        # An image with a longer short side holds more different crops.
        sides = [min(sources.load_radiance(path).shape[:2]) for path in self.images]
        sides += [min(sources.sample_photo(name).shape[:2]) for name in self.photos]
        while True:
            chosen = rng.choice(len(sides), p=np.array(sides) / sum(sides))
            if chosen < len(self.images):
                radiance, source = sources.load_radiance(self.images[chosen]), self.images[chosen].stem
            else:
                source = self.photos[chosen - len(self.images)]
                radiance = sources.relight(sources.sample_photo(source), rng, curves=self.curves)
            crop = sources.random_crop(radiance, self.size, rng)
            if crop.any():  # a piece of a night sky may be black
                return crop, source


def sample_bracket(seed: int = 1) -> list[np.ndarray]:
    """Returns three exposures to try fusion on, three stops apart, dark to bright, each uint8 [500, 741, 3] RGB: a photograph
    of a garage under a synthetic light, which depends on the seed."""
    rng = np.random.default_rng(seed)
    radiance = sources.relight(sources.sample_photo("motorcycle_left"), rng, camera.GAMMA_RESPONSE)
    return list(camera.bracket(radiance, (-4, -1, 2), rng))
