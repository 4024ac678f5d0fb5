"""Synthetic brackets: from a picture of known radiance to the exposures that a camera would have taken of it.

    clean                                   radiance without negative, non-finite and lone dead or saturated pixels
    random_crop, vary, collage              pieces of the radiance, and scenes that might have been
    exposure_values, bracket, develop       exposure offsets in stops, the exposures, what a camera does to them afterwards
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

from hdr_tf.image import tone

MIDDLE_GRAY = 0.18
# Colour photographs and textures (gray) that lie in scikit-image's wheel, so that no download is needed.
PHOTOS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket", "brick", "camera", "grass", "gravel")

# A camera response is stored as its inverse: the linear value (0..1) of each of these evenly spaced encoded values. It is
# smooth at 0, where the response itself has no slope.
ENCODED_LEVELS = np.linspace(0, 1, 1024)
GAMMA_RESPONSE = ENCODED_LEVELS**tone.DISPLAY_GAMMA


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
    side = round(size * (short / size) ** rng.random()) if short > size else short
    top, left = (int(rng.integers(0, length - side + 1)) for length in radiance.shape[:2])
    square = radiance[top : top + side, left : left + side]
    # Averaged in linear light, as a lens and a coarser sensor would.
    return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if side >= size else cv2.INTER_LINEAR)


def vary(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the radiance with, each by chance, another range, another light, exchanged colours and a quarter turn.

    The range changes by a power of 0.7 to 1.5, the light by a smooth field of some stops. So few HDR pictures become many.

    Args:
        radiance: [H, W, 3] linear RGB >= 0, square.
        rng: draws what happens.
    """
    if rng.random() < 0.5:
        radiance = (radiance / typical_luminance(radiance)) ** np.float32(rng.uniform(0.7, 1.5))
    if rng.random() < 0.25:
        radiance = radiance * _light(radiance.shape[:2], int(rng.integers(2, 5)), rng.uniform(0.5, 2.5), rng)
    if rng.random() < 0.3:
        radiance = radiance[..., rng.permutation(3)]
    return np.rot90(radiance, rng.integers(4)) if rng.random() < 0.3 else radiance


def collage(radiance: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the radiance with pieces of another picture in it, up to six stops brighter or darker: windows, lamps, shade.

    Args:
        radiance: [H, W, 3] linear RGB >= 0.
        other: likewise, of the same size.
        rng: draws one to four polygons, the softness of their edges and the brightness.
    """
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
    mask = np.minimum(mask, 1)  # which the blur exceeds by a last bit: radiance would be negative
    gain = np.float32(2 ** rng.uniform(-6, 6) * typical_luminance(radiance) / typical_luminance(other))
    return radiance * (1 - mask) + other * mask * gain


def random_response(rng: np.random.Generator) -> np.ndarray:
    """Returns a random camera response: smooth and monotone around gamma 2.2, with the contrast curve that cameras add.

    The curve is steeper in the middle than at both ends, and below a black point, drawn for six in ten, all is black.
    """
    gamma = rng.uniform(1.8, 2.6)
    black = rng.uniform(0, 0.03) if rng.random() < 0.6 else 0
    # Encoded value -> gamma-encoded value: a positive slope everywhere, so the curve cannot fold.
    angle = np.pi * ENCODED_LEVELS
    slope = np.exp(rng.normal(0, 0.25) * np.cos(angle) + rng.uniform(-0.2, 1) * np.cos(2 * angle))
    curve = np.concatenate([[0], np.cumsum(slope[1:] + slope[:-1])])
    return (1 - (1 - black) * (1 - curve / curve[-1])) ** gamma


def encode(linear: np.ndarray, response: np.ndarray = GAMMA_RESPONSE) -> np.ndarray:
    """Camera response: linear values, clipped to 0..1, to encoded ones in 0..1."""
    return np.interp(linear, response, ENCODED_LEVELS).astype(np.float32)


def decode(encoded: np.ndarray, response: np.ndarray = GAMMA_RESPONSE) -> np.ndarray:
    """The inverse of `encode`: encoded values in 0..1 to linear ones in 0..1."""
    return np.interp(encoded, ENCODED_LEVELS, response).astype(np.float32)


def exposure_values(radiance: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns exposure offsets in stops (0 as of `bracket`) as photographers set them, increasing, float32 [count].

    The darkest exposure keeps the highlights (the value below which 30 to 99.5 % of the pixels lie comes out at 0.2 to 1 of
    the range), four times in ten with up to 2.5 stops in reserve. The brightest lifts the shadows (a value out of the lower
    half to 0.02 to 0.25), but does not overexpose half of the picture by more than 0.7 stops. Between 1.5 and 11 stops lie
    between them; the others are drawn in between.

    Args:
        radiance: [H, W, 3] linear RGB >= 0, not black everywhere.
        count: number of exposures, 2 or more.
        rng: draws all this.
    """
    luminance = radiance.mean(axis=2)
    # In stops above the value that ev 0 brings to 1. The thousandth keeps black pixels from asking for endless exposure.
    stops = np.log2(np.maximum(luminance, 1e-3 * luminance.mean()) * MIDDLE_GRAY / typical_luminance(radiance))
    shadows, highlights = np.percentile(stops, [1, 10, 30, 50]), np.percentile(stops, [70, 90, 97, 99.5])
    darkest = np.log2(rng.uniform(0.2, 1)) - rng.choice(highlights, p=[0.1, 0.2, 0.3, 0.4])
    if rng.random() < 0.4:
        darkest -= rng.uniform(0, 2.5)
    brightest = np.log2(rng.uniform(0.02, 0.25)) - rng.choice(shadows)
    brightest = min(brightest, rng.uniform(-1.5, 0.7) - shadows[-1])
    brightest = darkest + np.clip(brightest - darkest, rng.uniform(1.5, 4), 11)
    between = rng.uniform(darkest, brightest, count - 2)
    return np.sort([darkest, *between, brightest]).astype(np.float32)


def bracket(
    radiance: np.ndarray,
    ev: Sequence[float],
    rng: np.random.Generator,
    response: np.ndarray = GAMMA_RESPONSE,
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
    scale = MIDDLE_GRAY / typical_luminance(radiance)
    top = 2**depth - 1
    exposures = []
    for stops in ev:
        signal = radiance * np.float32(scale * 2.0**stops)
        variance = np.minimum(signal, 1) / full_well + (read_noise / full_well) ** 2
        signal = signal + np.sqrt(variance) * rng.standard_normal(signal.shape, dtype=np.float32)
        exposures.append((encode(signal, response) * top + 0.5).astype(np.uint8 if depth == 8 else np.uint16))
    return np.stack(exposures)


def develop(exposures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the exposures as a camera delivers them: more or less saturated, sharpened and, six in ten, through JPEG.

    Args:
        exposures: uint8 [N, H, W, 3], RGB.
        rng: draws the camera's settings, which are the same for all exposures.
    """
    saturation = rng.uniform(0.9, 1.5)
    sharpening = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0
    jpeg = int(rng.integers(80, 99)) if rng.random() < 0.6 else None
    developed = []
    for exposure in exposures.astype(np.float32):
        gray = exposure.mean(axis=2, keepdims=True)
        exposure = gray + saturation * (exposure - gray)
        exposure += sharpening * (exposure - cv2.GaussianBlur(exposure, (0, 0), 1))
        exposure = (np.clip(exposure, 0, 255) + 0.5).astype(np.uint8)
        if jpeg:
            _, data = cv2.imencode(".jpg", exposure[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, jpeg])
            exposure = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
        developed.append(exposure)
    return np.stack(developed)


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
    light = _light((height, width), 4, 1.2, rng)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height))
    edge = (x * np.cos(angle) + y * np.sin(angle) - offset) / rng.uniform(0.01, 0.2)
    return linear * light * np.exp2(rng.uniform(1, 5) * np.tanh(edge))[..., None].astype(np.float32)


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
    radiance = relight(sample_photo("motorcycle_left"), rng, GAMMA_RESPONSE)
    return list(bracket(radiance, (-4, -1, 2), rng))


def typical_luminance(radiance: np.ndarray) -> float:
    """The geometric mean of the luminance; a hundredth of the mean is added so that black pixels do not decide.

    Raises:
        ValueError: the radiance is zero everywhere.
    """
    luminance = radiance.mean(axis=2)
    if not luminance.any():
        raise ValueError("expected radiance with light in it, found zeros only")
    return np.exp(np.log(luminance + 0.01 * luminance.mean()).mean())


def _light(size, knots, strength, rng):
    """A smooth random field of factors, [H, W, 1]: powers of two with standard deviation `strength`."""
    height, width = size
    stops = cv2.resize(rng.normal(0, strength, (knots, knots)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.exp2(stops)[..., None].astype(np.float32)
