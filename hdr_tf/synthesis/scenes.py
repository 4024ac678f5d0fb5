"""Synthetic moving scenes: two to nine exposures, as a hand-held camera captures them, of radiance that is known.

A scene is a canvas (a view somewhat larger than the frame) with pieces of other images in front of it. Between the exposures
the camera shifts and turns a little, and every piece moves on its own path. The middle exposure (the darker of the two middle
ones if their number is even) is the reference, in register with the true radiance.

The shortest exposure sets the scale: stops begin at 0 (three exposures have 0/2/4 or 0/3/6), and radiance 1 is where the
shortest exposure clips. The true radiance is clipped to 1, because no exposure has measured what is brighter. The reference is
metered as photographers do it, with the typical luminance around middle gray, but darker (by at most three stops) where the
shortest exposure would lose more than a few highlights, as long as the longest still loses a good part of the image.
"""

import dataclasses
import math
import pathlib
from typing import Literal

import numpy as np

from hdr_tf.synthesis import camera, compose, sources, views
from hdr_tf.synthesis.motion import Variation

STOPS = ((0, 2, 4), (0, 3, 6))  # of three exposures
PAIR_STOPS = 2, 3, 4  # between two exposures
STEPS = 2 / 3, 1, 1.5, 2  # in stops, between each two of four and more exposures
RANGE = 3, 8, 12  # stops from the first to the last of four and more: the least, the most, and the most that is seldom drawn

SHIFT = 1 / 75  # of the camera between exposures, as a part of the frame's width: 20 pixels of 1500
ROTATION = 1  # degree
PIECES = 3, 8  # least and largest number in a scene
PIECE_SHIFT = 0.05  # as a part of the frame's width
PIECE_ROTATION = 3  # degrees
PIECE_SCALE = 0.04
MOTIONS = "rigid", "varied"
LARGEST = {"shift": 0.25, "rotation": 20, "piece_shift": 1}  # what may be asked for


@dataclasses.dataclass(frozen=True)
class SceneMaker:
    """Makes scene i of a set; the same arguments and i give the same scene.

    The static and the moving scene i have the same true radiance; the noise-free and the noisy one have the same content.

    Attributes:
        images: EXR or Radiance files.
        size: height and width in pixels, 16 or more.
        seed: seed of the whole set.
        static: whether nothing moves between the exposures.
        full_well: electrons of a saturated pixel, for the shot noise; `math.inf` for none.
        read_noise: standard deviation of the sensor's own noise, 1 for saturation.
        exposures: least and largest number of exposures, 2 to 9.
        shift: how far the camera shifts from the reference, at most, as a part of the frame's width.
        rotation: how far the camera turns from the reference, at most, in degrees.
        piece_shift: how far a piece moves by itself from the reference, at most, as a part of the frame's width.
        motion: "rigid" for pieces that move, or "varied" for other motion too, see `synthesis.motion`.
        darker: stops by which all exposures are shorter than metered.
    """

    images: tuple[pathlib.Path, ...]
    size: tuple[int, int] = (1000, 1500)
    seed: int = 0
    static: bool = False
    full_well: float = 10_000
    read_noise: float = 5e-4
    exposures: tuple[int, int] = (3, 3)
    shift: float = SHIFT
    rotation: float = ROTATION
    piece_shift: float = PIECE_SHIFT
    motion: Literal["rigid", "varied"] = "rigid"
    darker: float = 0

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """Returns images [N, H, W, 3], stops [N] and radiance as `io.scenes.Scene` holds them, and facts for the manifest."""
        # A stream of its own for each purpose, the newest last: what one draws changes nothing in the others.
        content, motion, noise, plan, more_motion = np.random.default_rng([self.seed, index]).spawn(5)
        layers, facts = self._layers(content)
        stops = _stops(int(plan.integers(*self.exposures, endpoint=True)), content, plan)
        middle = (len(stops) - 1) // 2
        poses = self._poses(layers, len(stops), motion)
        if self.motion == "varied":
            reaches = self.shift * self.size[1], self.piece_shift * self.size[1]
            variation = Variation(layers, poses, stops, self.size, reaches, self._texture, more_motion)
            facts["motion"], frame = variation.kinds, variation.frame
        else:

            def frame(number):
                return compose.render(layers, poses[number], self.size)

        reference = frame(middle)
        scale = _scale(reference, stops, content) / np.float32(2**self.darker)
        ldr = []
        for number, stop in enumerate(stops):
            radiance = reference if self.static or number == middle else frame(number)
            ldr.append(camera.photograph(radiance * scale, 2**stop, noise, self.full_well, self.read_noise))
        facts |= {"stops": list(stops), "reference": middle, "scale": float(scale)}
        facts["clipped"] = [round(float((pixels == 65535).any(axis=2).mean()), 4) for pixels in ldr]
        return np.stack(ldr), np.array(stops, np.float64), np.minimum(reference * scale, 1), facts

    def _layers(self, rng):
        """What the camera sees, from back to front: values and the 3x3 matrix from their pixels to those of the reference. The
        canvas comes first, [h, w, 3], with room for the camera's motion; the pieces are [h, w, 4], multiplied by alpha."""
        height, width = self.size
        # Views of an image with a longer short side differ more from each other.
        sides = np.array([min(sources.load_radiance(path).shape[:2]) for path in self.images], float)
        chosen = rng.choice(len(sides), p=sides / sides.sum())
        margin = _margin(self.size, self.shift, self.rotation)
        canvas, facts = self._view(chosen, (height + 2 * margin, width + 2 * margin), rng)
        layers, names = [(canvas, compose.turn(0, 1, (margin, margin), (0, 0)))], []
        luminance = camera.typical_luminance(canvas)
        if len(sides) > 1:
            sides[chosen] = 0
        for other in rng.choice(len(sides), rng.integers(*PIECES, endpoint=True), p=sides / sides.sum()):
            side, aspect = height * compose.log_uniform(0.12, 0.6, rng), compose.log_uniform(0.7, 1.4, rng)
            size = max(8, round(side * aspect)), max(8, round(side / aspect))
            radiance, _ = self._view(other, size, rng)
            gain = luminance / camera.typical_luminance(radiance) * compose.log_uniform(0.25, 4, rng)
            alpha = compose.blob(size, rng)[..., None]
            place = compose.turn(rng.uniform(-20, 20), 1, compose.centre(size), rng.uniform((0, 0), (width, height)))
            layers.append((np.dstack([radiance * np.float32(gain) * alpha, alpha]), place))
            names.append(self.images[other].stem)
        return layers, {"source": self.images[chosen].stem, **facts, "pieces": names}

    def _poses(self, layers, count, rng):
        """For each exposure the matrices that move the layers (the first is the canvas) within the frame. The reference moves
        too, by part of a pixel, so that it is resampled as the others are and not sharper."""
        width, centre = self.size[1], compose.centre(self.size)
        reference = compose.turn(0, 1, centre, centre + rng.uniform(-0.5, 0.5, 2))
        tripod = rng.random() < 0.15
        poses = []
        for _ in range(count - 1):
            turn = np.clip(rng.normal(0, self.rotation / 3), -self.rotation, self.rotation)
            moved = compose.turn(turn, 1, centre, centre + compose.direction(rng) * rng.uniform(0, self.shift * width))
            view_pose = reference if tripod else moved
            poses.append([view_pose])
            for piece, place in layers[1:]:
                middle = (place @ [*compose.centre(piece.shape[:2]), 1])[:2]
                target = middle + compose.direction(rng) * rng.uniform(0, self.piece_shift * width)
                turn = rng.uniform(-PIECE_ROTATION, PIECE_ROTATION)
                poses[-1].append(view_pose @ compose.turn(turn, 1 + rng.uniform(-PIECE_SCALE, PIECE_SCALE), middle, target))
        poses.insert((count - 1) // 2, [reference] * len(layers))
        return poses

    def _texture(self, size, rng):
        return self._view(rng.integers(len(self.images)), size, rng)[0]

    def _view(self, chosen, size, rng):
        while True:
            radiance, facts = views.view(sources.load_radiance(self.images[chosen]), size, rng)
            if radiance.any():  # a piece of a night sky may be black
                return radiance, facts


def _margin(size, shift, rotation):
    """How far the camera's movement reaches beyond the frame, with two pixels for the interpolation."""
    return math.ceil(shift * size[1] + math.radians(rotation) * math.hypot(*size) / 2) + 2


def _stops(count, content, plan):
    """The stops of `count` exposures, a tuple that begins at 0. The scenes of three draw them with their content."""
    if count == 3:
        return STOPS[content.integers(len(STOPS))]
    if count == 2:
        return 0, int(plan.choice(PAIR_STOPS))
    least, most, extreme = RANGE
    totals = np.array(STEPS) * (count - 1)
    chances = np.where(totals <= most, 1, 0.1) * ((totals >= least) & (totals <= extreme))
    step = plan.choice(STEPS, p=chances / chances.sum())
    return tuple(float(step * number) for number in range(count))


def _scale(reference, stops, rng):
    """The factor from the scale of the sources to the one in which the shortest exposure clips at 1."""
    metered = (
        camera.MIDDLE_GRAY * 2 ** rng.normal(0, 0.5) / 2 ** stops[(len(stops) - 1) // 2] / camera.typical_luminance(reference)
    )
    lost_by_the_shortest, lost_by_the_longest = compose.log_uniform(0.001, 0.03, rng), rng.uniform(0.1, 0.4)
    peak = np.maximum(reference[::4, ::4].max(axis=2), 1e-30)
    shortest, longest = np.quantile(peak, [1 - lost_by_the_shortest, 1 - lost_by_the_longest])
    # At most three stops darker: where the sun itself is in the image, no exposure keeps it.
    return np.float32(min(metered, max(1 / shortest, 1 / longest / 2 ** stops[-1], metered / 8)))
