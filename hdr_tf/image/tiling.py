"""Computes an image tile by tile, each with a margin that makes the result equal to that of the whole image, in less memory.

A pixel of the result must depend only on pixels nearby; `hdr_tf.systems` records for which stages, and how far (halo).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hdr_tf.progress import track

BAND = 2**18  # pixels in a band of rows, which bounds the memory of float64


def in_tiles(run: Callable[[list[np.ndarray]], np.ndarray], images: Sequence[np.ndarray], tile: int, halo: int) -> np.ndarray:
    """Returns the result of a function for the whole images, which it computes tile by tile.

    Args:
        run: maps a list of images to one result [H, W, ...].
        images: [H, W, ...] each. All others, and the result, may be smaller than the first by a whole factor (rounded up).
        tile: side of a tile in pixels of the first image, a multiple of these factors.
        halo: receptive-field radius of `run` in the same pixels, also a multiple. Each tile is computed with this margin, as
            far as the image reaches.
    """
    height, width = images[0].shape[:2]
    steps = [_step(image, images[0]) for image in images]
    result = None
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    for top, left in track(corners, "tiles"):
        above, before = min(top, halo), min(left, halo)
        rows, columns = slice(top - above, top + tile + halo), slice(left - before, left + tile + halo)
        parts = [image[_scaled(rows, at), _scaled(columns, at)] for image, at in zip(images, steps, strict=True)]
        part = run(parts)
        if result is None:
            step = _step(part, parts[0])
            result = np.empty((-(-height // step), -(-width // step), *part.shape[2:]), part.dtype)
        rows, columns = _scaled(slice(top, top + tile), step), _scaled(slice(left, left + tile), step)
        inside = part[above // step :, before // step :]
        result[rows, columns] = inside[: rows.stop - rows.start, : columns.stop - columns.start]
    return result


def bands(plane: np.ndarray, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yields for each band of rows of a plane its slice, the slice with `halo` more rows on both sides, and the first within
    the second."""
    height, width = plane.shape[:2]
    step = max(1, BAND // width)
    for top in range(0, height, step):
        first, bottom = max(0, top - halo), min(top + step, height)
        yield slice(top, bottom), slice(first, bottom + halo), slice(top - first, bottom - first)


def _step(small, large):
    return -(-large.shape[0] // small.shape[0])


def _scaled(pixels, step):
    return slice(pixels.start // step, pixels.stop // step)
