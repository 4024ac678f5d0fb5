"""Views: images as a camera would frame them, from panoramas and from photographs."""

import math

import cv2
import numpy as np

from hdr_tf.synthesis import compose

ENLARGEMENT = 2  # at most, of a source's pixels; a larger view is tiled
FIELDS_OF_VIEW = 50, 105  # degrees, along the longer side
PITCH = 20  # degrees up or down


def view(image: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Returns a random view of an image as a camera would frame it, and how it came about.

    In a panorama (twice as wide as high: equirectangular) the view has a random direction and a field of view of 50 to 105
    degrees; of a photograph it is a random part, scaled. Half of the views are mirrored. Nothing is enlarged more than twice
    (in a panorama: in the middle of the view); where that is not enough, several views stand side by side.

    Args:
        image: [H, W, 3] linear RGB >= 0.
        size: height and width of the view.

    Returns [height, width, 3] float32 >= 0, and {"tiles": [rows, columns], "enlargement": the largest}.
    """
    panorama = image.shape[1] == 2 * image.shape[0]
    look = _into_panorama if panorama else _of_photograph
    largest = _widest(image) if panorama else np.multiply(image.shape[:2], ENLARGEMENT)
    rows, columns = (math.ceil(length / limit) for length, limit in zip(size, largest, strict=True))
    tile = math.ceil(size[0] / rows), math.ceil(size[1] / columns)
    looks = [[look(image, tile, rng) for _ in range(columns)] for _ in range(rows)]
    values = np.concatenate([np.concatenate([piece for piece, _ in row], axis=1) for row in looks])
    enlargement = max(enlargement for row in looks for _, enlargement in row)
    return values[: size[0], : size[1]], {"tiles": [rows, columns], "enlargement": round(enlargement, 3)}


def _widest(panorama):
    focal = ENLARGEMENT * panorama.shape[1] / (2 * math.pi)
    side = 2 * focal * math.tan(math.radians(FIELDS_OF_VIEW[1] / 2))
    return side, side


def _into_panorama(panorama, size, rng):
    pixels_a_radian = panorama.shape[1] / (2 * math.pi)
    half = max(size) / 2
    least = max(math.radians(FIELDS_OF_VIEW[0]), 2 * math.atan(half / (ENLARGEMENT * pixels_a_radian)))
    focal = half / math.tan(rng.uniform(least, max(least, math.radians(FIELDS_OF_VIEW[1]))) / 2)
    yaw, pitch = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(-PITCH, PITCH))
    mirrored = rng.choice([-1, 1])
    enlargement = focal / pixels_a_radian
    if enlargement < 1:  # averaged first, against aliasing
        width = 2 * round(panorama.shape[1] * enlargement / 2)
        panorama = cv2.resize(panorama, (width, width // 2), interpolation=cv2.INTER_AREA)
    height, width = panorama.shape[:2]
    centre = compose.centre(size)
    x = mirrored * (np.arange(size[1]) - centre[0]) / focal
    y = (np.arange(size[0]) - centre[1])[:, None] / focal
    up, forward = y * math.cos(pitch) + math.sin(pitch), math.cos(pitch) - y * math.sin(pitch)
    longitude, latitude = np.arctan2(x, forward) + yaw, np.arctan2(up, np.hypot(x, forward))
    columns = ((longitude / (2 * math.pi) + 0.5) * width - 0.5).astype(np.float32)
    rows = ((latitude / math.pi + 0.5) * height - 0.5).astype(np.float32)

    def sample(values, method, offset):
        return cv2.remap(values, columns - offset, rows - offset, method, borderMode=cv2.BORDER_WRAP)

    return compose.interpolated(panorama, sample), enlargement


def _of_photograph(photo, size, rng):
    least = max(length / available for length, available in zip(size, photo.shape[:2], strict=True))
    scale = compose.log_uniform(least, min(max(1.25 * least, 1), max(ENLARGEMENT, least)), rng)
    part = [min(math.ceil(length / scale), available) for length, available in zip(size, photo.shape[:2], strict=True)]
    top, left = (int(rng.integers(available - length + 1)) for length, available in zip(part, photo.shape[:2], strict=True))
    photo = photo[top : top + part[0], left : left + part[1]]
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    if scale < 1:  # averaged in linear light, as a lens and a coarser sensor would
        return cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), scale
    return compose.warped(photo, compose.turn(0, scale, (-0.5, -0.5), (-0.5, -0.5)), size), scale
