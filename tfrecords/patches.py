"""Training patches of a scene, cut as in ESBN's make_tfrecord.py (tkd1088/ESBN, commit 3f873ab).

A scene has rows x columns places at a stride of 64 pixels, and each place has 4 rotations and 2 mirrorings: 1,920 patches of
256 pixels in 1000 x 1500. Patch (row, column, rotation, flip) has number ((row * columns + column) * 4 + rotation) * 2 + flip.

Kept: that arithmetic; 16 bit reduced to 8 as OpenCV reads it; true exposures truncated, not rounded, to integers; every patch
resized 256 -> 250 -> 256, in 8 bit where its values are 8 bit (a blur, even of patches that are not rotated); the rotation
about pixel (128, 128) and not the centre, which leaves a black row or column; the flip after it. 8-bit values are equal,
radiance is within 3e-5.

Changed: rows and columns follow from the size of the scene (the original's 12 and 20 are those of 1000 x 1500); a side other
than 256 scales the 250; patches of full depth and without the blur are possible. What depends on the scene alone is computed
once per scene and not once per patch.
"""

import threading
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from hdr_tf.image import tone
from hdr_tf.image.depth import to_depth
from hdr_tf.io.scenes import EXPOSURE_NAMES

STRIDE = 64
ROTATIONS, FLIPS = 4, 2

# The original's nine arrays in its order. Images are integers, radiance is float32; "gt" is the ground truth.
FEATURES = (
    *(f"{kind}_{name}" for kind in ("ldr", "hdr") for name in EXPOSURE_NAMES),
    *("gt_ldr_low", "gt_ldr_high", "gt_hdr"),
)
_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


def count_patches(height: int, width: int, patch: int = 256) -> int:
    """Returns the number of patches of a scene, 0 if the scene is smaller than a patch."""
    return int(np.prod(_grid(height, width, patch)))


def locate(index: int, height: int, width: int, patch: int = 256) -> tuple[int, int, int, int]:
    """Returns row, column, rotation (times 90 degrees) and flip of a patch."""
    grid = _grid(height, width, patch)
    if not 0 <= index < np.prod(grid):
        raise ValueError(f"expected a patch below {np.prod(grid)} of {width} x {height} pixels, found {index}")
    return tuple(int(number) for number in np.unravel_index(index, grid))


class Patches:
    """The patches of one scene, in memory.

    Each pixel takes 9 bytes for the images, 12 for the radiance if requested and 3 for each requested true exposure: 41 MB for
    1000 x 1500 with all features; at 16 bit images and true exposures take twice as much, 63 MB in all.

    Example:
        >>> ldr = np.zeros([3, 40, 50, 3], np.uint8)
        >>> patches = Patches(ldr, [1, 4, 16], None, ["ldr_low", "hdr_low"], patch=32)
        >>> len(patches), patches.cut(3)["hdr_low"].shape
        (8, (32, 32, 3))
    """

    def __init__(
        self,
        ldr: np.ndarray,
        exposures: Sequence[float],
        hdr: np.ndarray | None,
        features: Sequence[str] = FEATURES,
        patch: int = 256,
        depth: int = 8,
        resize: bool = True,
    ):
        """
        Args:
            ldr: [3, H, W, 3] uint8 or uint16, short to long.
            exposures: 2**stops of the three.
            hdr: radiance [H, W, 3] float32, for the features that begin with "gt".
            features: which arrays `cut` returns.
            patch: side in pixels.
            depth: of the images, 8 or 16 bit; `ldr` is converted.
            resize: whether to resize to 250 pixels and back, as the original does.
        """
        self.shape = ldr.shape[1:3]
        unknown = sorted(set(features) - set(FEATURES))
        if unknown:
            raise ValueError(f"expected features out of {', '.join(FEATURES)}, found {', '.join(unknown)}")
        true = [name for name in features if name.startswith("gt")]
        if true and hdr is None:
            raise ValueError(f"expected the true radiance, for {', '.join(true)}, found none")
        if not count_patches(*self.shape, patch):
            raise ValueError(f"expected at least {patch} x {patch} pixels, found {self.shape[1]} x {self.shape[0]}")
        self.patch, self.resize = patch, resize
        top = 2**depth - 1
        ldr = to_depth(ldr, depth)
        levels = np.arange(top + 1, dtype=np.float32) / np.float32(top)
        # For each name an image and, for radiance, the value of each of its levels.
        sources = {"gt_hdr": (hdr, None)}
        for name, image, exposure in zip(EXPOSURE_NAMES, ldr, exposures, strict=True):
            sources[f"ldr_{name}"] = image, None
            if f"hdr_{name}" in features:
                sources[f"hdr_{name}"] = image, tone.to_radiance(levels, exposure)
            if f"gt_ldr_{name}" in features:
                sources[f"gt_ldr_{name}"] = (top * tone.to_exposure(hdr, exposure)).astype(ldr.dtype), None
        self._sources = {name: sources[name] for name in features}

    def __len__(self) -> int:
        return count_patches(*self.shape, self.patch)

    def cut(self, index: int) -> dict[str, np.ndarray]:
        """Returns the features of a patch, [patch, patch, 3]: uint8 or uint16 for images, float32 for radiance."""
        return {name: pixels.copy() for name, pixels in self._prepared(index)}

    def cut_scaled(self, index: int, out: Mapping[str, np.ndarray]) -> None:
        """Scales the features of a patch by `scale`, into the arrays of `out` (float32 [patch, patch, 3])."""
        for name, pixels in self._prepared(index):
            scale(pixels, out[name])

    def _prepared(self, index):
        """Yields the name and the pixels of each feature; the pixels are valid until the next ones."""
        row, column, rotation, flip = locate(index, *self.shape, self.patch)
        window = np.s_[row * STRIDE : row * STRIDE + self.patch, column * STRIDE : column * STRIDE + self.patch]
        for name, (image, table) in self._sources.items():
            pixels = image[window]
            if table is not None:  # "clip" is faster than the default check; nothing is out of range
                pixels = np.take(table, pixels, out=_buffer("one", self.patch, table.dtype), mode="clip")
            if self.resize:
                pixels = _blur(pixels)
            yield name, _turn(pixels, rotation, flip)


def _blur(pixels):
    side, dtype = len(pixels), pixels.dtype
    length = round(side * 250 / 256)
    smaller = cv2.resize(pixels, (length, length), dst=_buffer("smaller", length, dtype))
    return cv2.resize(smaller, (side, side), dst=_buffer("one", side, dtype))


def _turn(pixels, rotation, flip):
    """What the original's warpAffine about (side // 2, side // 2) gives, in a third of its time. If the side is even, a quarter
    turn moves a row or a column out of the image and a black one in, a half turn both."""
    side, dtype = len(pixels), pixels.dtype
    if rotation:
        pixels = cv2.rotate(pixels, _TURNS[rotation], dst=_buffer("two", side, dtype))
        down, right = ((0, 0), (1, 0), (1, 1), (0, 1))[rotation] if side % 2 == 0 else (0, 0)
        if down or right:
            shifted = _buffer("one", side, dtype)
            shifted[:down], shifted[:, :right] = 0, 0
            shifted[down:, right:] = pixels[: side - down, : side - right]
            pixels = shifted
    return cv2.flip(pixels, 1, dst=_buffer("three", side, dtype)) if flip else pixels


_buffers = threading.local()


def _buffer(name, side, dtype):
    """A square image of this thread to write into: allocating one for each step would cost more than the steps."""
    key = f"{name} {side} {dtype}"
    if key not in vars(_buffers):
        setattr(_buffers, key, np.empty([side, side, 3], dtype))
    return getattr(_buffers, key)


def scale(pixels: np.ndarray, out: np.ndarray) -> None:
    """Writes float32 as ESBN's networks take it: uint8 / 127.5 - 1, uint16 / 32767.5 - 1, radiance (float32) * 2 - 1."""
    if pixels.dtype == np.float32:
        np.multiply(pixels, np.float32(2), out=out)
    else:
        np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max / 2), out=out)
    out -= 1


def _grid(height, width, patch):
    if patch < 8:
        raise ValueError(f"expected patches of at least 8 pixels, found {patch}")
    rows, columns = (max((length - patch) // STRIDE + 1, 0) for length in (height, width))
    return rows, columns, ROTATIONS, FLIPS
