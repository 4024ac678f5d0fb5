"""Synthetic brackets: from a picture of known radiance to the exposures that a camera would have taken of it.

    clean                                   radiance without negative, non-finite and lone dead or saturated pixels
    random_crop                             a square piece of the radiance at a random scale
    exposure_values, bracket                exposure offsets in stops, and the exposures
    random_response, encode, decode         camera response curves
    relight, sample_photo, sample_bracket   radiance and a bracket from the ordinary photographs in scikit-image's wheel

Radiance is float32 [H, W, 3], linear RGB, >= 0, of any scale. Exposures are integers [N, H, W, 3], RGB, darkest first.
Everything random comes from the np.random.Generator that is handed in: the same seed gives the same pixels.
"""

import pathlib
from collections.abc import Sequence

import cv2
import imageio.v3 as imageio
import numpy as np
import skimage
from scipy import ndimage

MIDDLE_GRAY = 0.18
# Colour photographs and textures (gray) that lie in scikit-image's wheel, so that no download is needed.
PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket", "brick", "camera", "grass", "gravel")

# A camera response is stored as its inverse: the linear value (0..1) of each of these evenly spaced encoded values. It is
# smooth at 0, where the response itself has no slope.
LEVELS = np.linspace(0, 1, 1024)
GAMMA = LEVELS**2.2


def clean(radiance: np.ndarray) -> np.ndarray:
    """Returns the radiance with everything a camera could not have seen replaced.

    Pixels that are not finite, and those within two pixels of a strongly negative value (ten times the median and more),
    take the values of the nearest sound pixel: OpenEXR's lossy codecs overshoot around the sun and leave a block of wrong
    colours there. Other negative values become 0. Lone values far from all eight neighbours (dead or saturated sensor
    pixels) take the median of their 3x3 surroundings.

    Args:
        radiance: [H, W, 3] linear RGB, any float type.

    Raises:
        ValueError: not an RGB picture, or no sound pixel in it.
    """
    if radiance.ndim != 3 or radiance.shape[2] != 3:
        raise ValueError(f"expected radiance of shape [H, W, 3], found {list(radiance.shape)}")
    finite = np.isfinite(radiance).all(axis=2)
    radiance = np.where(finite[..., None], radiance, 0).astype(np.float32)
    overshoot = (radiance < -10 * np.median(radiance)).any(axis=2)
    broken = ~finite | cv2.dilate(overshoot.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    if broken.all():
        raise ValueError("expected radiance, found no pixel that is finite and not negative")
    nearest = ndimage.distance_transform_edt(broken, return_distances=False, return_indices=True)
    radiance = np.maximum(radiance[tuple(nearest)], 0)
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    lone = (radiance > 8 * cv2.dilate(radiance, ring)) | (8 * radiance < cv2.erode(radiance, ring))
    return np.where(lone, cv2.medianBlur(radiance, 3), radiance)


def random_crop(radiance: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a random square of the picture, averaged down to [size, size, 3].

    The square's side is drawn log-uniformly between `size` and the picture's short side, so that a large photograph gives
    details as well as whole scenes. A picture smaller than `size` is enlarged first.
    """
    short = min(radiance.shape[:2])
    side = round(size * max(short / size, 1) ** rng.random()) if short > size else short
    top, left = (int(rng.integers(0, length - side + 1)) for length in radiance.shape[:2])
    square = radiance[top : top + side, left : left + side]
    # Averaged in linear light, as a lens and a coarser sensor would.
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR)


def random_response(rng: np.random.Generator) -> np.ndarray:
    """Returns a random camera response: smooth, monotone, from 0 to 1, around gamma 2.2 with a varied contrast curve."""
    gamma = rng.uniform(1.8, 2.6)
    # Encoded value -> gamma-encoded value: a positive slope everywhere, so the curve cannot fold.
    slope = np.exp(rng.normal(0, 0.25) * np.cos(np.pi * LEVELS) + rng.normal(0, 0.25) * np.cos(2 * np.pi * LEVELS))
    curve = np.concatenate([[0], np.cumsum(slope[1:] + slope[:-1])])
    return (curve / curve[-1]) ** gamma


def encode(linear: np.ndarray, response: np.ndarray = GAMMA) -> np.ndarray:
    """Camera response: linear values, clipped to 0..1, to encoded ones in 0..1."""
    return np.interp(linear, response, LEVELS).astype(np.float32)


def decode(encoded: np.ndarray, response: np.ndarray = GAMMA) -> np.ndarray:
    """The inverse of `encode`: encoded values in 0..1 to linear ones in 0..1."""
    return np.interp(encoded, LEVELS, response).astype(np.float32)


def exposure_values(count: int, rng: np.random.Generator, widest: float = 6.0) -> np.ndarray:
    """Returns `count` increasing exposure offsets in stops within -widest..widest, unevenly spaced, float32 [count]."""
    half = rng.uniform(0.25, 1) * widest
    jitter = rng.uniform(-0.3, 0.3, count) * 2 * half / (count - 1)
    middle = rng.normal(0, 0.15) * widest
    return np.clip(np.linspace(-half, half, count) + jitter + middle, -widest, widest).astype(np.float32)


def bracket(
    radiance: np.ndarray,
    ev: Sequence[float],
    rng: np.random.Generator,
    response: np.ndarray = GAMMA,
    full_well: float = 20_000,
    read_noise: float = 5,
    depth: int = 8,
) -> np.ndarray:
    """Returns the exposures that a camera takes of the radiance.

    Args:
        radiance: [H, W, 3] linear RGB >= 0.
        ev: exposure offsets in stops; at 0 the picture's geometric mean luminance falls on middle gray (18 %).
        rng: draws the noise.
        response: camera response, see `random_response`.
        full_well: electrons of a saturated pixel; photons arrive with Poisson noise, so the noise's variance is
            signal / full_well. `math.inf` for none.
        read_noise: standard deviation of the sensor's own noise, in electrons.
        depth: 8 or 16 bits.

    Returns:
        uint8 or uint16 [N, H, W, 3] in the order of `ev`.

    Raises:
        ValueError: the radiance is zero everywhere, or another depth.
    """
    if depth not in (8, 16):
        raise ValueError(f"expected a depth of 8 or 16 bits, found {depth}")
    luminance = radiance.mean(axis=2)
    if not luminance.any():
        raise ValueError("expected radiance with light in it, found zeros only")
    # A hundredth of the mean is added so that black pixels do not decide.
    scale = MIDDLE_GRAY / np.exp(np.log(luminance + 0.01 * luminance.mean()).mean())
    top = 2**depth - 1
    exposures = []
    for stops in ev:
        signal = radiance * np.float32(scale * 2.0**stops)
        variance = np.minimum(signal, 1) / full_well + (read_noise / full_well) ** 2
        signal = signal + np.sqrt(variance) * rng.standard_normal(signal.shape, dtype=np.float32)
        exposures.append((encode(signal, response) * top + 0.5).astype(np.uint8 if depth == 8 else np.uint16))
    return np.stack(exposures)


def relight(photo: np.ndarray, rng: np.random.Generator, response: np.ndarray | None = None) -> np.ndarray:
    """Returns radiance that an ordinary photograph could come from, under a new, uneven light.

    The photograph is turned to linear light by the inverse of a random response and multiplied by a smooth field of some
    stops and by a bright side with a soft edge, like daylight from a window. Not a measurement of anything: it gives
    real textures a range that one exposure cannot hold.

    Args:
        photo: uint8 [H, W, 3] RGB.
        rng: draws the response, the rounding that 8 bits have hidden and the light.
        response: the photograph's camera response, None for a random one.
    """
    height, width = photo.shape[:2]
    hidden = photo + rng.uniform(-0.5, 0.5, photo.shape)
    linear = decode(hidden / 255, random_response(rng) if response is None else response)
    field = cv2.resize(rng.normal(0, 1.2, (4, 4)), (width, height), interpolation=cv2.INTER_CUBIC)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    edge = (x * np.cos(angle) + y * np.sin(angle) - offset) / rng.uniform(0.01, 0.2)
    stops = field + rng.uniform(1, 5) * np.tanh(edge)
    return linear * np.exp2(stops)[..., None].astype(np.float32)


def sample_photo(name: str) -> np.ndarray:
    """Returns one of `PHOTOS` from scikit-image's wheel, uint8 [H, W, 3]; gray pictures have three equal channels.

    Raises:
        ValueError: another name.
        OSError: this installation of scikit-image lacks the file.
    """
    if name not in PHOTOS:
        raise ValueError(f"unknown sample photograph {name!r}; known: {', '.join(PHOTOS)}")
    folder = pathlib.Path(skimage.__file__).parent / "data"
    for path in folder.glob(f"{name}.*"):
        pixels = imageio.imread(path)
        return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    raise OSError(f"{folder / name}: scikit-image is installed without this photograph; reinstall scikit-image")


def sample_bracket(seed: int = 1) -> list[np.ndarray]:
    """Returns three exposures, three stops apart, of one real photograph under a made-up light: something to try fusion on.

    Returns:
        [under, middle, over], each uint8 [500, 741, 3] RGB. Another seed gives another light in the same garage.
    """
    rng = np.random.default_rng(seed)
    radiance = relight(sample_photo("motorcycle_left"), rng, GAMMA)
    return list(bracket(radiance, (-4, -1, 2), rng))
