"""Motion as real scenes have it, beyond rigid pieces: `Variation` adds to a scene what is drawn for it of

    nonrigid   pieces that bend, by a smooth field of displacements that differs between the exposures
    people     figures with head, trunk and limbs, which walk and swing arms and legs
    thin       poles, branches and birds, one to a few pixels wide
    parallax   one or two nearer layers with irregular borders, which shift more than the canvas behind them
    blur       exposures longer than the reference that average the way that everything moves meanwhile
    flicker    a lamp that is brighter or darker, and a light of up to 5 % more or less, from exposure to exposure

Poses are [N, L, 3, 3]: for each exposure and layer the matrix from the scene into the frame, see `compose.render`.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from hdr_tf.synthesis import camera, compose

CHANCES = {"nonrigid": 0.6, "people": 0.5, "thin": 0.5, "parallax": 0.5, "blur": 0.4, "flicker": 0.4}
DEPTH = 1.5  # a nearer layer shifts by at most this much of the camera's shift more than the canvas
SHUTTER = 0.1, 0.6  # of the way to the reference during the longest exposure
STEPS = 5  # averaged for motion blur
GLOBAL_FLICKER = 0.05
LAMP_FLICKER = 0.5


class Variation:
    """The frames of a scene with more motion.

    Attributes:
        kinds: keys of `CHANCES`, what was drawn.
    """

    def __init__(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        poses: Sequence[Sequence[np.ndarray]],
        stops: Sequence[float],
        size: tuple[int, int],
        reaches: tuple[float, float],
        texture: Callable[[tuple[int, int], np.random.Generator], np.ndarray],
        rng: np.random.Generator,
    ):
        """Draws everything.

        Args:
            layers: of the rigid scene, the canvas first, see `compose.render`.
            poses: for each exposure those of the layers.
            stops: of the exposures.
            size: height and width of the frame.
            reaches: pixels that the camera and that pieces shift by, at most.
            texture: returns radiance of a size that a random view of an image shows.
            rng: draws the kinds and their numbers.
        """
        self._layers, self._poses, self._stops, self._size = list(layers), np.array(poses), stops, size
        self._reference = (len(stops) - 1) // 2
        self._shift, self._piece_shift = reaches
        self._texture = texture
        self._luminance = camera.typical_luminance(layers[0][0])
        self._fields, self._lamp, self._light, self._shutter = {}, None, np.ones(len(stops)), 0
        # A stream each, so that the kinds do not depend on each other.
        streams = dict(zip(CHANCES, rng.spawn(len(CHANCES)), strict=True))
        self.kinds = [kind for kind, chance in CHANCES.items() if streams[kind].random() < chance]
        for kind in self.kinds:
            getattr(self, f"_add_{kind}")(streams[kind])

    def frame(self, number: int) -> np.ndarray:
        """Returns what exposure `number` shows, [H, W, 3] float32 >= 0."""
        way = self._shutter * 2.0 ** (self._stops[number] - self._stops[-1]) if number > self._reference else 0
        steps = np.linspace(0, way, STEPS) if way > 0.02 else [0]
        frame = sum(self._at(number, step) for step in steps)
        return frame * np.float32(self._light[number] / len(steps))

    def _at(self, number, step):
        """The frame of an exposure that has gone a part of its way to the reference."""

        def between(values):
            return values[number] + step * (values[self._reference] - values[number])

        layers = [
            (_bent(values, between(self._fields[index])) if index in self._fields else values, place)
            for index, (values, place) in enumerate(self._layers)
        ]
        if self._lamp is not None:
            glow, gains = self._lamp
            layers[0] = layers[0][0] * (1 + np.float32(gains[number]) * glow), layers[0][1]
        return compose.render(layers, between(self._poses), self._size)

    def _add_nonrigid(self, rng):
        """Bends the rigid pieces, the first of them certainly."""
        for index, (values, _) in enumerate(self._layers[1:], 1):
            knots, side = rng.integers(3, 6), math.sqrt(values.shape[0] * values.shape[1])
            # As much of its own size as the pieces move of the frame's width.
            reach = self._piece_shift / self._size[1] * side * compose.log_uniform(0.1, 0.8, rng)
            field = rng.normal(0, reach, (len(self._stops), knots, knots, 2)).astype(np.float32)
            if index == 1 or rng.random() < 0.6:
                self._fields[index] = field

    def _add_parallax(self, rng):
        """Puts one or two nearer layers, as large as the canvas, between it and the pieces."""
        canvas, place = self._layers[0]
        centre = compose.centre(self._size)
        factors = np.sort(rng.uniform(0.3, DEPTH, rng.integers(1, 3)))
        cameras = self._poses[:, 0] @ [*centre, 1]
        shifts = (cameras - cameras[self._reference])[:, :2]
        pad = math.ceil(DEPTH * self._shift) + 2
        for depth, factor in enumerate(factors, 1):
            if rng.random() < 0.4:
                values = cv2.copyMakeBorder(canvas, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
            else:
                values = self._lit((canvas.shape[0] + 2 * pad, canvas.shape[1] + 2 * pad), 2, rng)
            layer = _covered(values, _region(values.shape[:2], rng.uniform(0.15, 0.5), rng))
            self._layers.insert(depth, (layer, place @ compose.turn(0, 1, (pad, pad), (0, 0))))
            poses = [
                compose.turn(0, 1, (0, 0), shift) @ pose for shift, pose in zip(factor * shifts, self._poses[:, 0], strict=True)
            ]
            self._poses = np.insert(self._poses, depth, poses, axis=1)
        self._fields = {index + len(factors): field for index, field in self._fields.items()}

    def _add_people(self, rng):
        for _ in range(rng.integers(1, 4)):
            tall = max(24, self._size[0] * compose.log_uniform(0.15, 0.7, rng))
            texture = self._lit((math.ceil(tall * 0.7), math.ceil(tall * 0.7)), 4, rng)
            parts, walk = _figure(tall, texture, len(self._stops), rng)
            feet = rng.uniform((0, 0.5), (1, 1.1)) * self._size[::-1]
            bodies = self._paths(feet, 1.5, 4, 0.02, rng)
            origin = compose.turn(0, 1, (0, tall), feet)
            for part, joints in zip(parts, walk, strict=True):
                self._append(part, [body @ origin @ joint for body, joint in zip(bodies, joints, strict=True)])

    def _add_thin(self, rng):
        for kind in rng.choice([_pole, _branch, _birds], rng.integers(1, 4)):
            colour = self._luminance * np.float32(compose.log_uniform(0.03, 5, rng) * rng.uniform(0.6, 1.4, 3))
            alphas, reach, turn = kind(self._size[0], rng)
            for alpha in alphas:
                middle = rng.uniform((0, 0), self._size[::-1])
                origin = compose.turn(rng.normal(0, 8), 1, compose.centre(alpha.shape), middle)
                values = _covered(np.broadcast_to(colour, (*alpha.shape, 3)), alpha)
                self._append(values, [path @ origin for path in self._paths(middle, reach, turn, 0.02, rng)])
                if kind is _branch:
                    field = rng.normal(0, self._piece_shift * 0.15, (len(self._stops), 4, 4, 2))
                    self._fields[len(self._layers) - 1] = field.astype(np.float32)

    def _add_blur(self, rng):
        self._shutter = rng.uniform(*SHUTTER)

    def _add_flicker(self, rng):
        others = np.arange(len(self._stops)) != self._reference
        what = rng.integers(3)  # the lamp, the light or both
        if what != 1:
            canvas = self._layers[0][0]
            width = self._size[1] * compose.log_uniform(0.01, 0.08, rng)
            x, y = rng.uniform((0, 0), canvas.shape[1::-1])
            if rng.random() < 0.5:  # what is brightest may well be a lamp
                y, x = np.unravel_index(cv2.GaussianBlur(canvas.max(axis=2), (0, 0), 2).argmax(), canvas.shape[:2])
            columns, rows = (
                np.exp(-(((np.arange(length) - at) / width) ** 2) / 2)
                for length, at in zip(canvas.shape[1::-1], (x, y), strict=True)
            )
            glow = np.float32(rows[:, None] * columns)[..., None]
            self._lamp = glow, others * rng.uniform(-LAMP_FLICKER, LAMP_FLICKER, len(others))
        if what != 0:
            self._light = 1 + others * rng.uniform(-GLOBAL_FLICKER, GLOBAL_FLICKER, len(others))

    def _append(self, values, paths):
        """Adds a layer in front, with the matrix of each exposure into the scene."""
        self._layers.append((values, np.eye(3)))
        self._poses = np.concatenate([self._poses, (self._poses[:, 0] @ paths)[:, None]], axis=1)

    def _paths(self, middle, reach, turn, scale, rng):
        """For each exposure the matrix of something that moves about its middle by up to `reach` times as much as pieces do,
        turns by up to `turn` degrees and grows by up to `scale`; in the reference it is where it is."""
        paths = [np.eye(3)] * len(self._stops)
        for number in range(len(self._stops)):
            if number != self._reference:
                target = middle + compose.direction(rng) * rng.uniform(0, reach * self._piece_shift)
                paths[number] = compose.turn(rng.uniform(-turn, turn), 1 + rng.uniform(-scale, scale), middle, target)
        return np.array(paths)

    def _lit(self, size, range_of_light, rng):
        """Texture up to so many times brighter or darker than the canvas."""
        radiance = self._texture(size, rng)
        gain = self._luminance / camera.typical_luminance(radiance)
        return radiance * np.float32(gain * compose.log_uniform(1 / range_of_light, range_of_light, rng))


def _covered(values, alpha):
    """Values [h, w, 3] and alpha [h, w] as a layer."""
    return np.dstack([values * alpha[..., None], alpha]).astype(np.float32)


def _bent(values, knots):
    """The layer after a smooth displacement, given in pixels at a coarse grid."""
    height, width = values.shape[:2]
    field = cv2.resize(np.float32(knots), (width, height), interpolation=cv2.INTER_CUBIC)
    columns, rows = (
        field[..., 0] + np.arange(width, dtype=np.float32),
        field[..., 1] + np.arange(height, dtype=np.float32)[:, None],
    )

    def sample(layer, method, offset):
        return cv2.remap(
            layer, columns - np.float32(offset), rows - np.float32(offset), method, borderMode=cv2.BORDER_REPLICATE
        )

    return compose.interpolated(values, sample)


def _region(size, share, rng):
    """A share of the frame with an irregular, more or less soft border, [h, w] float32 in 0..1; often its lower part."""
    field = np.zeros(size, np.float32)
    for knots, strength in ((4, 1), (16, 0.2), (48, 0.06)):
        field += strength * cv2.resize(
            rng.normal(0, 1, (knots, knots)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
        )
    if rng.random() < 0.6:
        field += np.linspace(-3, 3, size[0], dtype=np.float32)[:, None]
    inside = np.float32(field > np.quantile(field[::4, ::4], 1 - share))
    return cv2.GaussianBlur(inside, (0, 0), rng.choice([0.6, 0.8, 1.5, 3])).clip(0, 1)


class _Limb(NamedTuple):
    """An arm or a leg, in parts of the figure's height (lengths and y) and of its breadth."""

    joint: tuple[float, float]  # x and y of the shoulder or hip
    lengths: tuple[float, float]  # of the upper and the lower part
    radii: tuple[float, float, float]  # at the shoulder, the elbow and the hand, or the hip, the knee and the foot


_ARM = _Limb((0.11, 0.19), (0.17, 0.2), (0.035, 0.028, 0.02))
_LEG = _Limb((0.045, 0.52), (0.24, 0.24), (0.055, 0.042, 0.028))


def _figure(tall, texture, count, rng):
    """A person, upright, head at y = 0 and feet at y = tall: the layers of the parts from back to front, and for each part the
    matrices from its pixels to the figure's in the exposures, [parts][N]."""
    breadth = rng.uniform(0.85, 1.25) * tall
    view = rng.uniform(0.25, 1)  # from the side, the shoulders are narrow
    restless = compose.log_uniform(0.1, 1, rng)
    phase = rng.uniform(0, 2 * np.pi) + restless * rng.uniform(-np.pi, np.pi, count)
    stride, swing, elbows = rng.uniform(5, 35), rng.uniform(5, 40), rng.uniform(5, 70, 2)
    lifts = rng.normal(0, 12, 2) - np.array([-1, 1]) * (rng.random(2) < 0.15) * rng.uniform(60, 170, 2)  # a few wave
    skin, top, trousers = np.float32(np.exp(rng.normal(0, 0.5, (3, 1)) + rng.normal(0, 0.15, (3, 3))))
    parts, walk = [], []

    def add(length, radii, shade, joints):
        """A part that hangs from a joint, given as a matrix for each exposure."""
        part, pivot = _capsule(length * tall, *(breadth * radius for radius in radii), texture, shade, rng)
        parts.append(part)
        walk.append([joint @ compose.turn(0, 1, pivot, (0, 0)) for joint in joints])

    def add_limb(limb, side, angles, bends, shades):
        at = side * limb.joint[0] * breadth * view, limb.joint[1] * tall
        upper = [compose.turn(angle, 1, (0, 0), at) for angle in angles]
        bent = [compose.turn(bend, 1, (0, 0), (0, limb.lengths[0] * tall)) for bend in bends]
        add(limb.lengths[0], limb.radii[:2], shades[0], upper)
        add(limb.lengths[1], limb.radii[1:], shades[1], [above @ below for above, below in zip(upper, bent, strict=True)])

    def add_arm(side, lift, elbow):
        angles, bends = lift - side * swing * np.sin(phase), -side * elbow * (1 + 0.3 * np.cos(phase))
        add_limb(_ARM, side, angles, bends, (top, skin))

    def add_leg(side):
        bends = stride * (1 + np.sin(phase + side)) / 2
        add_limb(_LEG, side, side * stride * np.sin(phase), bends, (trousers, trousers))

    def add_still(y, length, radii, shade):
        add(length, radii, shade, [compose.turn(0, 1, (0, 0), (0, y * tall))] * count)

    add_arm(-1, lifts[0], elbows[0])
    add_leg(-1)
    add_still(0.22, 0.28, (0.075 + 0.05 * view, 0.06 + 0.03 * view), top)  # trunk
    add_still(0.14, 0.04, (0.03, 0.035), skin)  # neck
    add_still(0.065, 0.02, (0.055, 0.048), skin)  # head
    add_leg(1)
    add_arm(1, lifts[1], elbows[1])
    return parts, walk


def _capsule(length, start, end, texture, shade, rng):
    """A layer that tapers from one round end to another, downwards, and x and y of the upper end's centre in it."""
    reach = max(start, end, 0.7) + 2
    height, width = math.ceil(length + 2 * reach), math.ceil(2 * reach)
    pivot = np.array([(width - 1) / 2, reach])
    mask = np.zeros((height, width), np.uint8)
    for at, radius in ((pivot, start), (pivot + (0, length), end)):
        cv2.circle(mask, np.rint(at * 16).astype(int).tolist(), round(max(radius, 0.7) * 16), 255, -1, cv2.LINE_AA, shift=4)
    corners = pivot + [(-start, 0), (start, 0), (end, length), (-end, length)]
    cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    alpha = np.minimum(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.6), 1)
    alpha[[0, -1]], alpha[:, [0, -1]] = 0, 0
    top, left = (int(rng.integers(max(1, have - need))) for have, need in zip(texture.shape[:2], alpha.shape, strict=True))
    piece = texture[top : top + height, left : left + width]
    piece = cv2.copyMakeBorder(piece, 0, height - piece.shape[0], 0, width - piece.shape[1], cv2.BORDER_REFLECT)
    return _covered(piece * shade, alpha), pivot


# Each returns the alphas of what it draws, and how far and by how many degrees that moves, see `Variation._paths`.


def _pole(height, rng):
    length, half = height * rng.uniform(0.25, 1), compose.log_uniform(0.5, 3, rng)
    mask = np.zeros((math.ceil(length) + 8, math.ceil(2 * half) + 8), np.float32)
    columns = np.arange(mask.shape[1]) - (mask.shape[1] - 1) / 2
    mask[4:-4] = np.clip(half + 0.5 - abs(columns), 0, 1)
    return [mask], rng.uniform(0, 0.8), 1.5


def _branch(height, rng):
    side = max(24, round(height * rng.uniform(0.2, 0.6)))
    mask = np.zeros((side, side), np.uint8)

    def grow(start, angle, length, thickness):
        end = start + length * np.array([math.sin(angle), -math.cos(angle)])
        cv2.line(
            mask,
            *(np.rint(point * 16).astype(int).tolist() for point in (start, end)),
            255,
            max(1, round(thickness)),
            cv2.LINE_AA,
            4,
        )
        if length < side / 16:
            if rng.random() < 0.7:  # a leaf
                axes = rng.uniform(0.01, 0.03, 2) * side
                cv2.ellipse(
                    mask,
                    np.rint(end).astype(int).tolist(),
                    np.rint(axes + 1).astype(int).tolist(),
                    rng.uniform(0, 180),
                    0,
                    360,
                    255,
                    -1,
                    cv2.LINE_AA,
                )
            return
        for turn in rng.normal(0, 0.5, rng.integers(2, 4)):
            grow(end, angle + turn, length * rng.uniform(0.5, 0.85), thickness * 0.7)

    grow(np.array([side / 2, side - 3.0]), rng.normal(0, 0.3), side * 0.3, side / 60 + 1)
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    return [np.minimum(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.5), 1)], rng.uniform(0, 0.4), 4


def _birds(height, rng):
    """Each with its wings in another position."""
    birds, largest = [], max(3, height * compose.log_uniform(0.008, 0.04, rng))
    for _ in range(rng.integers(3, 12)):
        wing = max(2.5, largest * rng.uniform(0.6, 1))
        side = math.ceil(2 * wing) + 8
        mask = np.zeros((side, side), np.uint8)
        up = rng.uniform(-0.7, 0.9)
        points = side / 2 + wing * np.array([(-1, -up), (-0.45, -up / 1.4 - 0.1), (0, 0), (0.45, -up / 1.4 - 0.1), (1, -up)])
        points = np.rint(points * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, 255, max(1, round(wing / 5)), cv2.LINE_AA, 4)
        mask[[0, -1]], mask[:, [0, -1]] = 0, 0
        birds.append(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.5))
    return birds, 3, 15
