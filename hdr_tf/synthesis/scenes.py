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

import cv2
import numpy as np

from hdr_tf.synthesis import camera, sources

STOPS = ((0, 2, 4), (0, 3, 6))  # of three exposures
PAIR_STOPS = 2, 3, 4  # between two exposures
STEPS = 2 / 3, 1, 1.5, 2  # in stops, between each two of four and more exposures
RANGE = 3, 8, 12  # stops from the first to the last of four and more: the least, the most, and the most that is seldom drawn
ENLARGEMENT = 2  # at most, of a source's pixels; a larger scene is tiled
FIELDS_OF_VIEW = 50, 105  # degrees, along the longer side
PITCH = 20  # degrees up or down

SHIFT = 1 / 75  # of the camera between exposures, as a part of the frame's width: 20 pixels of 1500
ROTATION = 1  # degree
PIECES = 3, 8  # least and largest number in a scene
PIECE_SHIFT = 0.05  # as a part of the frame's width
PIECE_ROTATION = 3  # degrees
PIECE_SCALE = 0.04
LARGEST = {"shift": 0.25, "rotation": 20, "piece_shift": 1}  # what may be asked for


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

    def __call__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
        """Returns images [N, H, W, 3], stops [N] and radiance as `io.scenes.Scene` holds them, and facts for the manifest."""
        # A stream of its own for each purpose, the newest last: what one draws changes nothing in the others.
        content, motion, noise, plan = np.random.default_rng([self.seed, index]).spawn(4)
        layers, facts = self._layers(content)
        stops = _stops(int(plan.integers(*self.exposures, endpoint=True)), content, plan)
        middle = (len(stops) - 1) // 2
        poses = self._poses(layers, len(stops), motion)
        reference = _render(layers, poses[middle], self.size)
        scale = _scale(reference, stops, content)
        ldr = []
        for number, (pose, stop) in enumerate(zip(poses, stops, strict=True)):
            radiance = reference if self.static or number == middle else _render(layers, pose, self.size)
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
        layers, names = [(canvas, _turn(0, 1, (margin, margin), (0, 0)))], []
        luminance = camera.typical_luminance(canvas)
        if len(sides) > 1:
            sides[chosen] = 0
        for other in rng.choice(len(sides), rng.integers(*PIECES, endpoint=True), p=sides / sides.sum()):
            side, aspect = height * _log_uniform(0.12, 0.6, rng), _log_uniform(0.7, 1.4, rng)
            size = max(8, round(side * aspect)), max(8, round(side / aspect))
            radiance, _ = self._view(other, size, rng)
            gain = luminance / camera.typical_luminance(radiance) * _log_uniform(0.25, 4, rng)
            alpha = _blob(size, rng)[..., None]
            place = _turn(rng.uniform(-20, 20), 1, _centre(size), rng.uniform((0, 0), (width, height)))
            layers.append((np.dstack([radiance * np.float32(gain) * alpha, alpha]), place))
            names.append(self.images[other].stem)
        return layers, {"source": self.images[chosen].stem, **facts, "pieces": names}

    def _poses(self, layers, count, rng):
        """For each exposure the matrices that move the layers (the first is the canvas) within the frame. The reference moves
        too, by part of a pixel, so that it is resampled as the others are and not sharper."""
        width, centre = self.size[1], _centre(self.size)
        reference = _turn(0, 1, centre, centre + rng.uniform(-0.5, 0.5, 2))
        tripod = rng.random() < 0.15
        poses = []
        for _ in range(count - 1):
            turn = np.clip(rng.normal(0, self.rotation / 3), -self.rotation, self.rotation)
            moved = _turn(turn, 1, centre, centre + _direction(rng) * rng.uniform(0, self.shift * width))
            view_pose = reference if tripod else moved
            poses.append([view_pose])
            for piece, place in layers[1:]:
                middle = (place @ [*_centre(piece.shape[:2]), 1])[:2]
                target = middle + _direction(rng) * rng.uniform(0, self.piece_shift * width)
                turn = rng.uniform(-PIECE_ROTATION, PIECE_ROTATION)
                poses[-1].append(view_pose @ _turn(turn, 1 + rng.uniform(-PIECE_SCALE, PIECE_SCALE), middle, target))
        poses.insert((count - 1) // 2, [reference] * len(layers))
        return poses

    def _view(self, chosen, size, rng):
        while True:
            radiance, facts = view(sources.load_radiance(self.images[chosen]), size, rng)
            if radiance.any():  # a piece of a night sky may be black
                return radiance, facts


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
    centre = _centre(size)
    x = mirrored * (np.arange(size[1]) - centre[0]) / focal
    y = (np.arange(size[0]) - centre[1])[:, None] / focal
    up, forward = y * math.cos(pitch) + math.sin(pitch), math.cos(pitch) - y * math.sin(pitch)
    longitude, latitude = np.arctan2(x, forward) + yaw, np.arctan2(up, np.hypot(x, forward))
    columns = ((longitude / (2 * math.pi) + 0.5) * width - 0.5).astype(np.float32)
    rows = ((latitude / math.pi + 0.5) * height - 0.5).astype(np.float32)

    def sample(values, method, offset):
        return cv2.remap(values, columns - offset, rows - offset, method, borderMode=cv2.BORDER_WRAP)

    return _interpolated(panorama, sample), enlargement


def _of_photograph(photo, size, rng):
    least = max(length / available for length, available in zip(size, photo.shape[:2], strict=True))
    scale = _log_uniform(least, min(max(1.25 * least, 1), max(ENLARGEMENT, least)), rng)
    part = [min(math.ceil(length / scale), available) for length, available in zip(size, photo.shape[:2], strict=True)]
    top, left = (int(rng.integers(available - length + 1)) for length, available in zip(part, photo.shape[:2], strict=True))
    photo = photo[top : top + part[0], left : left + part[1]]
    if rng.random() < 0.5:
        photo = photo[:, ::-1]
    if scale < 1:  # averaged in linear light, as a lens and a coarser sensor would
        return cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA), scale
    return _warped(photo, _turn(0, scale, (-0.5, -0.5), (-0.5, -0.5)), size), scale


def _interpolated(values, sample):
    """Lanczos values, limited to the range of the four pixels around: at lamps and skylines the kernel rings by thousands.
    `sample(values, method, offset)` returns `values` at the positions minus `offset`."""
    values, square = np.ascontiguousarray(values), np.ones((2, 2))
    # The extremes of pixels i and i + 1 are stored at i, and the pixel nearest to a position minus 0.5 is the one below it.
    least, most = (
        sample(extreme(values, square, anchor=(0, 0)), cv2.INTER_NEAREST, 0.5) for extreme in (cv2.erode, cv2.dilate)
    )
    return np.clip(sample(values, cv2.INTER_LANCZOS4, 0), least, most)


def _warped(values, matrix, size):
    """The image moved by a 3x3 matrix into a frame of (height, width); its last pixels continue beyond its border."""

    def sample(values, method, offset):
        moved = (matrix @ _turn(0, 1, (0, 0), (offset, offset)))[:2]
        return cv2.warpAffine(values, moved, size[::-1], flags=method, borderMode=cv2.BORDER_REPLICATE)

    return _interpolated(values, sample)


def _blob(size, rng):
    """A filled closed curve with a soft edge, [h, w] float32 in 0..1, 0 along the border."""
    height, width = size
    softness = rng.choice([0.5, 0.8, 1.5, 3])
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.25 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    curve = np.stack([np.cos(angle), np.sin(angle)], -1) * (np.maximum(radius, 0.2) / radius.max())[:, None]
    centre = _centre(size)
    points = centre + curve * np.maximum(centre - 3 * softness - 1, 1)
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    return np.minimum(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), softness), 1)


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


def _render(layers, poses, size):
    """The frame, [H, W, 3] float32 >= 0, in the scale of the sources."""
    frame = np.zeros((*size, 3), np.float32)
    for (values, place), pose in zip(layers, poses, strict=True):
        matrix = pose @ place
        height, width = values.shape[:2]
        corners = matrix @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
        left, top = np.clip(np.floor(corners[:2].min(axis=1)).astype(int), 0, size[::-1])
        right, bottom = np.clip(np.ceil(corners[:2].max(axis=1)).astype(int), 0, size[::-1])
        if left == right or top == bottom:
            continue
        shown = _warped(values, _turn(0, 1, (left, top), (0, 0)) @ matrix, (bottom - top, right - left))
        part = frame[top:bottom, left:right]
        part[:] = shown if values.shape[2] == 3 else part * (1 - shown[..., 3:]) + shown[..., :3]
    return frame


def _scale(reference, stops, rng):
    """The factor from the scale of the sources to the one in which the shortest exposure clips at 1."""
    metered = (
        camera.MIDDLE_GRAY * 2 ** rng.normal(0, 0.5) / 2 ** stops[(len(stops) - 1) // 2] / camera.typical_luminance(reference)
    )
    lost_by_the_shortest, lost_by_the_longest = _log_uniform(0.001, 0.03, rng), rng.uniform(0.1, 0.4)
    peak = np.maximum(reference[::4, ::4].max(axis=2), 1e-30)
    shortest, longest = np.quantile(peak, [1 - lost_by_the_shortest, 1 - lost_by_the_longest])
    # At most three stops darker: where the sun itself is in the image, no exposure keeps it.
    return np.float32(min(metered, max(1 / shortest, 1 / longest / 2 ** stops[-1], metered / 8)))


def _turn(degrees, scale, pivot, target):
    """The 3x3 matrix that turns and scales about `pivot` and moves it to `target`."""
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.vstack([np.column_stack([linear, np.asarray(target) - linear @ np.asarray(pivot)]), [0, 0, 1]])


def _centre(size):
    """x and y of the middle of an image of (height, width)."""
    return np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])


def _direction(rng):
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _log_uniform(low, high, rng):
    return low * (high / low) ** rng.random()
