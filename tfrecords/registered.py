"""Records for the merge network (`hdr_tf.models.merge`): patches of synthetic scenes whose exposures flow has moved onto the
reference, with the true radiance and everything that goes wrong in photographs.

A record is a scene: 2 to 9 exposures, `motion="varied"` or rigid, three in ten with more motion than usual. Then, each for some
of the scenes: exposures are left out, so that the reference may be the shortest or the longest; those that are left are up to
10 % wrong; all of them are too dark, as at night; the images have 8 bit, or have been JPEG files, most of them of a camera with
a contrast curve of its own, which is known up to a few percent, near black less well, and most of which have gone through the
camera's removal of noise, which leaves blotches. In three of four scenes their noise is what `hdr_tf.image.noise` estimates
from them, as it is where the network is used.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image import noise as noise_model
from hdr_tf.image import optical_flow, tone
from hdr_tf.image.depth import from_unit, to_unit
from hdr_tf.image.response import Response, typical
from hdr_tf.synthesis import scenes, sources
from tfrecords import writer

SIZE = 384, 512  # pixels of a scene
SIDE = 128  # pixels of a patch
PATCHES = 8  # of a scene, half of them where exposures misfit most
KINDS = 0.45, 0.2, 0.35  # shares of scenes of 16 bit, of 8 bit and of JPEG files


@dataclasses.dataclass(frozen=True)
class RegisteredMaker:
    """Makes record i, see `schema.MERGE`. `images` are EXR or Radiance files, `seed` is that of the whole set."""

    images: tuple[pathlib.Path, ...]
    seed: int

    def __call__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        motion = {"motion": rng.choice(["rigid", "varied"]), "static": bool(rng.random() < 0.2)}
        if rng.random() < 0.3:
            motion |= {"shift": 0.04, "rotation": 3, "piece_shift": 0.15}
        # Images that were scaled down have as little noise as in the second case.
        well, read = [(np.inf, 0), (10 ** rng.uniform(5, 6.5), 10 ** rng.uniform(-5, -4))][int(rng.random() < 0.7)]
        if rng.random() < 0.8:
            well, read = 10 ** rng.uniform(3.3, 5), 10 ** rng.uniform(-4, -2.7)
        darker = rng.uniform(0, 4) if rng.random() < 0.25 else 0.0
        count = 3 if rng.random() < 0.4 else int(rng.integers(2, 9, endpoint=True))
        seed = int(rng.integers(2**31))
        options = {"full_well": well, "read_noise": read, "exposures": (count, count), "darker": darker, **motion}
        maker = scenes.SceneMaker(self.images, SIZE, seed, **options)
        ldr, stops, hdr, facts = maker(0)
        reference = facts["reference"]
        if count > 2 and rng.random() < 0.3:
            others = [number for number in range(count) if number != reference]
            left = sorted([reference, *rng.choice(others, rng.integers(1, count - 1), replace=False)])
            ldr, stops, reference = ldr[left], stops[left], left.index(reference)
        exposures = 2 ** (stops - stops[reference])
        hdr = np.minimum(hdr * np.float32(2 ** stops[reference]), np.float32(1 / exposures[0]))
        images, step, dark_error = _developed(list(ldr), rng)
        if rng.random() < 0.1:
            wrong = np.exp(rng.normal(0, 0.05, len(exposures)))
            exposures = exposures * wrong / wrong[reference]
        if rng.random() < 0.75:
            noise = noise_model.estimate([tone.to_radiance(to_unit(image), 1) for image in images], step)
        else:
            noise = noise_model.Noise(rng.uniform(0.7, 1.3) / well, rng.uniform(0.8, 1.2) * read, step)
        noise = noise._replace(dark_error=dark_error)
        registered = optical_flow.register(images, exposures, reference, dark_error=dark_error)
        places = _places(registered, exposures, reference, rng)
        windows = [np.s_[top : top + SIDE, left : left + SIDE] for top, left in places]
        return {
            "images": np.stack([np.stack([image[window] for image in registered.images]) for window in windows]),
            "inside": np.stack([np.stack([inside[window] for inside in registered.inside]) for window in windows]),
            "exposures": np.float32(exposures),
            "reference": np.int32(reference),
            "noise": np.float32(noise),
            "hdr": np.stack([hdr[window] for window in windows]),
        }


def write_registered(
    folder: pathlib.Path,
    hdr_dirs: Sequence[pathlib.Path],
    count: int,
    exclude: Sequence[str] = (),
    seed: int = 0,
    **options,
) -> tuple[dict, list[str]]:
    """Writes records of kind "merge"; arguments and results are those of `brackets.write_brackets`."""
    images, unreadable = sources.radiance_files(hdr_dirs, exclude=exclude)
    arguments = {"pictures": [path.name for path in images], "seed": seed}
    return writer.write(
        folder, "merge", RegisteredMaker(tuple(images), seed), count, arguments=arguments, **options
    ), unreadable


def _developed(images, rng):
    """The images as a camera writes them, of 16 or 8 bit or as JPEG files, decoded as well as its response is known, uint16
    again; the size of the steps and the error near black (`Noise`)."""
    kind = rng.choice(["16 bit", "8 bit", "JPEG"], p=KINDS)
    depth = np.uint16 if kind == "16 bit" else np.uint8
    written = known = Response.gamma()
    if rng.random() < (0.1 if kind == "16 bit" else 0.6):
        strength = rng.uniform(0.2, 1.1)
        written, known = typical(strength), typical(strength * rng.normal(1, 0.05))
    every = np.arange(65536, dtype=np.uint16)
    table = from_unit(written.encode(tone.to_radiance(to_unit(every), 1)), depth)
    images = [table[image] for image in images]
    if kind == "JPEG":
        if rng.random() < 0.6:
            images = _smeared(images, rng)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 99))]
        images = [cv2.imencode(".jpg", image[..., ::-1], quality)[1] for image in images]
        images = [cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1] for data in images]
    most = np.iinfo(depth).max
    values = np.arange(most + 1) / most
    bend = rng.normal(0, 0.005) * np.sin(2 * np.pi * values) + rng.normal(0, 0.005) * np.sin(np.pi * values)
    black = rng.normal(0, 0.003) * np.exp(-values / rng.uniform(0.02, 0.08))
    decoded = known.decode(values if written is known else values + bend + black)
    table = from_unit(tone.to_exposure(decoded, 1), np.uint16)
    return [table[image] for image in images], 1 / most, known.dark_error(depth)


def _smeared(images, rng):
    """The images, uint8 RGB, after a camera's removal of noise: flat surfaces are smooth, and colours more so."""
    reach, tolerance, spread = rng.uniform(0.7, 2.5), rng.uniform(5, 25), rng.uniform(1, 4)
    smeared = []
    for image in images:
        luma, *chroma = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
        luma = cv2.bilateralFilter(luma, -1, tolerance, reach)
        chroma = [cv2.bilateralFilter(plane, -1, tolerance, spread) for plane in chroma]
        smeared.append(cv2.cvtColor(cv2.merge([luma, *chroma]), cv2.COLOR_YCrCb2RGB))
    return smeared


def _places(registered, exposures, reference, rng):
    """Corners of the patches: half of them at random, half of them the worst of eight by the misfit of all exposures."""
    misfit = np.zeros(SIZE, np.float32)
    target = registered.images[reference]
    for image, exposure in zip(registered.images, exposures, strict=True):
        common = max(exposure, 1)
        pair = optical_flow.brighten(image, common / exposure), optical_flow.brighten(target, common)
        misfit += cv2.blur(cv2.absdiff(*pair), (3, 3)).max(axis=2) > 0.075 * 65535
    places = []
    for number in range(PATCHES):
        tries = [[int(rng.integers(length - SIDE + 1)) for length in SIZE] for _ in range(1 + 7 * (number % 2))]
        places.append(max(tries, key=lambda at: misfit[at[0] : at[0] + SIDE, at[1] : at[1] + SIDE].sum()))
    return places
