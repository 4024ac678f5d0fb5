"""Renders a room with a window, simulates a bracket of it and fuses the bracket: docs/example.jpg, the image of the README.

python docs/example.py
"""

import pathlib

import numpy as np

import hdr_tf
from hdr_tf.io import image_files
from hdr_tf.synthesis import camera

HEIGHT, WIDTH = 270, 360
WINDOW = np.array([0.4, 1.7, 0.9, 2.3])  # left, right, bottom, top on the back wall, metres
LIGHT = np.array([1.05, 1.6, 4.0])  # the middle of the window
SPHERES = [  # centre, radius, colour
    ((-0.9, 0.45, 3.0), 0.45, (0.75, 0.2, 0.12)),
    ((0.15, 0.3, 2.5), 0.3, (0.15, 0.35, 0.7)),
    ((0.95, 0.35, 3.1), 0.35, (0.8, 0.7, 0.25)),
]


def ripple(x, y, seed, octaves=5):
    """Smooth noise in 0..1 from sums of sines."""
    rng = np.random.default_rng(seed)
    total = sum(np.sin(2**i * (x * a + y * b) + c) / 1.6**i for i, (a, b, c) in enumerate(rng.uniform(1, 6, (octaves, 3))))
    return 0.5 + total / 5


def outside(x, y):
    """Radiance of the view through the window: sky, clouds and hills, some hundred times brighter than the room."""
    clouds = np.clip(3 * ripple(2 * x, 5 * y, 1) - 1.2, 0, 1)[..., None]
    sky = np.array([0.35, 0.6, 1.0]) * (1 - clouds) + 1.4 * clouds
    trees = ripple(9 * x, 9 * y, 2)[..., None]
    hills = np.array([0.25, 0.32, 0.1]) * (0.4 + trees) * 0.8
    ridge = 1.45 + 0.15 * np.sin(3 * x) + 0.05 * np.sin(11 * x)
    return 60 * np.where((y > ridge)[..., None], sky, hills)


def render():
    """Linear RGB radiance [H, W, 3] of the room from 1.2 m above the floor; each pixel is the mean of 3x3 rays."""
    h, w = 3 * HEIGHT, 3 * WIDTH
    y, x = np.mgrid[0.52 : -0.6 : h * 1j, -0.76 : 0.76 : w * 1j]
    ray = np.dstack([x, y, np.ones_like(x)])
    eye = np.array([0, 1.2, 0])

    # Room: back wall z = 4, side walls x = -2 and 2, floor y = 0, ceiling y = 2.6. The nearest plane is visible.
    planes = [(2, 4.0), (0, -2.0), (0, 2.0), (1, 0.0), (1, 2.6)]
    with np.errstate(divide="ignore"):
        distances = np.stack([(at - eye[axis]) / ray[..., axis] for axis, at in planes])
    distances[distances <= 0] = np.inf
    nearest, distance = distances.argmin(0), distances.min(0)
    point = eye + distance[..., None] * ray
    px, py, pz = np.moveaxis(point, -1, 0)
    normals = np.array([(0, 0, -1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)], float)
    brick = 0.75 + 0.25 * ((np.floor(py * 9) % 2 * 0.5 + (px + pz) * 4) % 1 > 0.06) * ((py * 9) % 1 > 0.1)
    wall = np.array([0.55, 0.42, 0.34]) * (brick * (0.8 + 0.4 * ripple(px + pz, py, 3)))[..., None]
    boards = np.array([0.4, 0.24, 0.12]) * (0.7 + 0.5 * ripple(9 * px, pz, 4) * ((px * 5) % 1 > 0.04))[..., None]
    colour = np.where((nearest == 3)[..., None], boards, np.where((nearest == 4)[..., None], 0.7, wall))
    normal = normals[nearest]

    for centre, radius, paint in SPHERES:
        toward = np.array(centre) - eye
        along = ray @ toward
        length = (ray**2).sum(-1)
        root = along**2 - length * (toward @ toward - radius**2)
        hit = (along - np.sqrt(np.maximum(root, 0))) / length
        visible = (root > 0) & (hit < distance)
        distance = np.where(visible, hit, distance)
        point = np.where(visible[..., None], eye + hit[..., None] * ray, point)
        normal = np.where(visible[..., None], (point - centre) / radius, normal)
        colour = np.where(visible[..., None], paint, colour)

    # The window is a lamp; spheres cast soft shadows, and a little light is everywhere.
    to_light = LIGHT - point
    far = np.linalg.norm(to_light, axis=-1)
    to_light /= far[..., None]
    facing = np.maximum((normal * to_light).sum(-1), 0) * np.maximum(to_light[..., 2], 0.05)
    for centre, radius, _ in SPHERES:
        offset = np.array(centre) - point
        along = (offset * to_light).sum(-1)
        miss = np.linalg.norm(offset - along[..., None] * to_light, axis=-1)
        facing *= np.where(
            (along > 0.05) & (np.linalg.norm(offset, axis=-1) > 1.02 * radius), np.clip(miss / radius - 0.3, 0, 1), 1
        )
    radiance = colour * (0.05 + 2.5 * facing / far**2)[..., None]

    px, py = point[..., 0], point[..., 1]
    left, right, bottom, top = WINDOW
    pane = (distance == distances[0]) & (px > left) & (px < right) & (py > bottom) & (py < top)
    bars = (abs(px - (left + right) / 2) < 0.03) | (abs(py - (bottom + top) / 2) < 0.03)
    radiance = np.where((pane & ~bars)[..., None], outside(px, py), radiance)
    return radiance.reshape(HEIGHT, 3, WIDTH, 3, 3).mean((1, 3)).astype(np.float32)


if __name__ == "__main__":
    exposures = list(camera.bracket(render(), (-6.5, -3, 0.5), np.random.default_rng(0)))
    row = np.hstack([*exposures, hdr_tf.fuse(exposures)])
    image_files.write_image(pathlib.Path(__file__).with_name("example.jpg"), row, quality=92)
