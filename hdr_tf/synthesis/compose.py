"""Layers: images with alpha that matrices move and that lie over each other, and the numbers that this needs.

Values are float32, linear RGB >= 0; those of a layer with alpha, [h, w, 4], are multiplied by it. Matrices are 3x3 and map
(x, y, 1).
Everything random comes from the np.random.Generator that is passed in.
"""

import math

import cv2
import numpy as np


def render(layers, poses, size):
    """The frame, [H, W, 3] float32 >= 0, in the scale of the sources.

    Args:
        layers: from back to front, values and the matrix from their pixels to those of the scene.
        poses: for each layer the matrix that moves it from the scene into the frame.
        size: height and width of the frame.
    """
    frame = np.zeros((*size, 3), np.float32)
    for (values, place), pose in zip(layers, poses, strict=True):
        matrix = pose @ place
        height, width = values.shape[:2]
        corners = matrix @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
        left, top = np.clip(np.floor(corners[:2].min(axis=1)).astype(int), 0, size[::-1])
        right, bottom = np.clip(np.ceil(corners[:2].max(axis=1)).astype(int), 0, size[::-1])
        if left == right or top == bottom:
            continue
        shown = warped(values, turn(0, 1, (left, top), (0, 0)) @ matrix, (bottom - top, right - left))
        part = frame[top:bottom, left:right]
        part[:] = shown if values.shape[2] == 3 else part * (1 - shown[..., 3:]) + shown[..., :3]
    return frame


def blob(size, rng):
    """A filled closed curve with a soft edge, [h, w] float32 in 0..1, 0 along the border."""
    height, width = size
    softness = rng.choice([0.5, 0.8, 1.5, 3])
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    curve = np.stack([np.cos(angle), np.sin(angle)], -1) * (np.maximum(radius, 0.2) / radius.max())[:, None]
    middle = centre(size)
    points = middle + curve * np.maximum(middle - 3 * softness - 1, 1)
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    return np.minimum(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), softness), 1)


def interpolated(values, sample):
    """Lanczos values, limited to the range of the four pixels around: at lamps and skylines the kernel rings by thousands.
    `sample(values, method, offset)` returns `values` at the positions minus `offset`."""
    values, square = np.ascontiguousarray(values), np.ones((2, 2))
    # The extremes of pixels i and i + 1 are stored at i, and the pixel nearest to a position minus 0.5 is the one below it.
    least, most = (
        sample(extreme(values, square, anchor=(0, 0)), cv2.INTER_NEAREST, 0.5) for extreme in (cv2.erode, cv2.dilate)
    )
    return np.clip(sample(values, cv2.INTER_LANCZOS4, 0), least, most)


def warped(values, matrix, size):
    """The image moved by a 3x3 matrix into a frame of (height, width); its last pixels continue beyond its border."""

    def sample(values, method, offset):
        moved = (matrix @ turn(0, 1, (0, 0), (offset, offset)))[:2]
        return cv2.warpAffine(values, moved, size[::-1], flags=method, borderMode=cv2.BORDER_REPLICATE)

    return interpolated(values, sample)


def turn(degrees, scale, pivot, target):
    """The 3x3 matrix that turns and scales about `pivot` and moves it to `target`."""
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.vstack([np.column_stack([linear, np.asarray(target) - linear @ np.asarray(pivot)]), [0, 0, 1]])


def centre(size):
    """x and y of the middle of an image of (height, width)."""
    return np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])


def direction(rng):
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def log_uniform(low, high, rng):
    return low * (high / low) ** rng.random()
