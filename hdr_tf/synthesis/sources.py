"""Radiance that synthetic brackets and scenes show: where it comes from, and how few sources become many.

Radiance is float32 [H, W, 3], linear RGB, >= 0, of any scale. Everything random comes from the np.random.Generator that is
passed in: the same seed gives the same pixels.
"""

import functools
import os
import pathlib
from collections.abc import Sequence

import cv2
import imageio.v3 as imageio
import numpy as np
import scipy
import skimage

from hdr_tf.image.depth import to_rgb
from hdr_tf.io import image_files
from hdr_tf.synthesis import camera

# Colour photographs and textures (gray) that scikit-image installs, so that nothing has to be downloaded.
PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket", "brick", "camera", "grass", "gravel")


def radiance_files(
    folders: Sequence[str | os.PathLike], only: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[list[pathlib.Path], list[str]]:
    """Returns the readable EXR and Radiance files of the folders, and a line for each file that cannot be read.

    Args:
        folders: searched without their sub-folders.
        only: names (without suffix) of the images to use; none for all.
        exclude: names of images to leave out, such as those kept for validation. An unknown name raises ValueError.
    """
    folders = [pathlib.Path(folder) for folder in folders]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder of EXR or Radiance files, found none")
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    paths = [path for path in paths if path.suffix.lower() in image_files.RADIANCE_SUFFIXES and not path.name.startswith(".")]
    listed = ", ".join(map(str, folders))
    unknown = sorted({*only, *exclude} - {path.stem for path in paths})
    if unknown:
        raise ValueError(f"{listed}: no image named {', '.join(unknown)} to use or leave out")
    readable, unreadable = [], []
    for path in (path for path in paths if path.stem not in exclude and (not only or path.stem in only)):
        try:
            load_radiance(path)
            readable.append(path)
        except (ValueError, OSError) as error:
            unreadable.append(str(error))
    if not readable:
        raise ValueError(f"{listed}: expected EXR or Radiance files, found none that can be read")
    return readable, unreadable


@functools.cache
def load_radiance(path: pathlib.Path) -> np.ndarray:
    """Returns the radiance of a file after `clean`, read-only; it is kept in memory. The errors are those of `read_radiance`; a
    black image raises ValueError too."""
    try:
        values = clean(image_files.read_radiance(path))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    if not values.any():
        raise ValueError(f"{path}: expected radiance with light in it, found zeros only")
    values.flags.writeable = False
    return values


def clean(radiance: np.ndarray) -> np.ndarray:
    """Returns the radiance without what no camera could have measured.

    Pixels that are not finite, and those within two pixels of a strongly negative value (ten times the median and more),
    get the values of the nearest sound pixel: OpenEXR's lossy codecs overshoot around the sun and leave a block of wrong
    colours there. Other negative values become 0. Single values far from all eight neighbours (dead or saturated sensor
    pixels) become the median of their 3x3 surroundings. An image without a sound pixel raises ValueError.
    """
    if radiance.ndim != 3 or radiance.shape[2] != 3:
        raise ValueError(f"expected radiance of shape [H, W, 3], found {list(radiance.shape)}")
    finite = np.isfinite(radiance).all(axis=2)
    radiance = np.where(finite[..., None], radiance, 0).astype(np.float32)
    overshoot = (radiance < -10 * np.median(radiance)).any(axis=2)
    broken = ~finite | cv2.dilate(overshoot.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    if broken.all():
        raise ValueError("expected radiance, found no pixel that is finite and not negative")
    nearest = scipy.ndimage.distance_transform_edt(broken, return_distances=False, return_indices=True)
    radiance = np.maximum(radiance[tuple(nearest)], 0)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    lone = (radiance > 8 * cv2.dilate(radiance, ring)) | (8 * radiance < cv2.erode(radiance, ring))
    return np.where(lone, cv2.medianBlur(radiance, 3), radiance)


@functools.cache
def sample_photo(name: str) -> np.ndarray:
    """Returns one of `PHOTOS`, uint8 [H, W, 3], read-only; gray images have three equal channels."""
    if name not in PHOTOS:
        raise ValueError(f"unknown sample photograph {name!r}; known: {', '.join(PHOTOS)}")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    for path in folder.glob(f"{name}.*"):
        pixels = to_rgb(imageio.imread(path))[..., :3]
        pixels.flags.writeable = False
        return pixels
    raise OSError(f"{folder / name}: scikit-image is installed without this photograph; reinstall scikit-image")


def relight(
    photo: np.ndarray, rng: np.random.Generator, response: np.ndarray | None = None, curves: str = "symmetric"
) -> np.ndarray:
    """Returns radiance that an ordinary photograph, uint8 [H, W, 3] RGB, could show under a new, uneven light.

    The inverse of the response (None: a random one with these `curves`, see `camera.random_response`) converts the photograph
    to linear light, which is multiplied by a smooth field of some stops and by a bright side with a soft edge, like daylight
    from a window. Random values replace what 8 bits have rounded away. The result measures nothing: it gives real textures a
    range that one exposure cannot hold.
    """
    height, width = photo.shape[:2]
    hidden = photo + rng.uniform(-0.5, 0.5, photo.shape)
    linear = camera.decode(hidden / 255, camera.random_response(rng, curves) if response is None else response)
    light = _light((height, width), 4, 1.2, rng)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    edge = (x * np.cos(angle) + y * np.sin(angle) - offset) / rng.uniform(0.01, 0.2)
    return linear * light * np.exp2(rng.uniform(1, 5) * np.tanh(edge))[..., None].astype(np.float32)


def random_crop(radiance: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random square of the image, averaged down to [size, size, 3].

    The side of the square is drawn log-uniformly between `size` and the image's short side, so that a large photograph
    gives details as well as whole scenes. An image smaller than `size` is enlarged first.
    """
    short = min(radiance.shape[:2])
    side = round(size * (short / size) ** rng.random()) if short > size else short
    top, left = (int(rng.integers(0, length - side + 1)) for length in radiance.shape[:2])
    square = radiance[top : top + side, left : left + side]
    # Averaged in linear light, as a lens and a coarser sensor would.
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR)


def vary(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the square image with another range (by a power of 0.7 to 1.5), another light (by a smooth field of some stops),
    exchanged colours and a quarter turn, each by chance. Thus few HDR images become many."""
    if rng.random() < 0.5:
        radiance = (radiance / camera.typical_luminance(radiance)) ** np.float32(rng.uniform(0.7, 1.5))
    if rng.random() < 0.25:
        radiance = radiance * _light(radiance.shape[:2], int(rng.integers(2, 5)), rng.uniform(0.5, 2.5), rng)
    if rng.random() < 0.3:
        radiance = radiance[..., rng.permutation(3)]
    return np.rot90(radiance, rng.integers(4)) if rng.random() < 0.3 else radiance


def collage(radiance: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the radiance with one to four polygons of another image of the same size in it, up to six stops brighter or
    darker and with more or less soft edges: windows, lamps, shade."""
    height, width = radiance.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(1, 5)):
        if rng.random() < 0.7:  # a rectangle, upright as most windows are or at any angle
            angle = rng.normal(0, 8) if rng.random() < 0.7 else rng.uniform(0, 180)
            centre, sides = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.1, 0.6, 2) * (width, height)
            corners = cv2.boxPoints((tuple(centre), tuple(sides), angle))
        else:
            corners = rng.uniform(-0.1, 1.1, (int(rng.integers(3, 7)), 2)) * (width, height)
        cv2.fillPoly(mask, [np.rint(corners).astype(int)], 1.0)
    mask = cv2.GaussianBlur(mask, (0, 0), rng.choice([0.4, 0.6, 1, 2, 6, 20]))[..., None]
    mask = np.minimum(mask, 1)  # the blur exceeds 1 by a last bit, which would make radiance negative
    gain = np.float32(2 ** rng.uniform(-6, 6) * camera.typical_luminance(radiance) / camera.typical_luminance(other))
    return radiance * (1 - mask) + other * mask * gain


def _light(size, knots, strength, rng):
    """A smooth random field of factors, [H, W, 1]: powers of two, of a standard deviation of `strength` stops."""
    stops = cv2.resize(rng.normal(0, strength, (knots, knots)), size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.exp2(stops)[..., None].astype(np.float32)
