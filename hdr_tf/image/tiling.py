"""Computes an image tile by tile, each with a margin that makes the result equal to that of the whole image, in less memory.

A pixel of the result must depend only on pixels nearby; `hdr_tf.systems` records for which stages, and how far (halo).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from hdr_tf.progress import track

BAND = 2**18  # pixels in a band of rows, which bounds the memory of float64


def in_tiles(
    run: Callable[[list[np.ndarray]], np.ndarray], images: Sequence[np.ndarray], tile: int, halo: int, mapped: Callable = map
) -> np.ndarray:
    """Returns the result of a function for the whole images, which it computes tile by tile, see `several_in_tiles`."""
    return several_in_tiles(lambda parts: [run(parts)], images, tile, halo, mapped)[0]


def several_in_tiles(
    run: Callable[[list[np.ndarray]], list[np.ndarray]],
    images: Sequence[np.ndarray],
    tile: int,
    halo: int,
    mapped: Callable = map,
) -> list[np.ndarray]:
    """Returns the results of a function for the whole images, which it computes tile by tile.

    Args:
        run: maps a list of images to results [H, W, ...].
        images: [H, W, ...] each. All others, and the results, may be smaller than the first by whole factors (rounded up).
        tile: side of a tile in pixels of the first image, a multiple of these factors.
        halo: receptive-field radius of `run` in the same pixels, also a multiple. Each tile is computed with this margin, as
            far as the image reaches.
        mapped: applies a function to all tiles; the `map` of an executor computes several at a time.
    """
    height, width = images[0].shape[:2]
    steps = [_step(image, images[0]) for image in images]
    results = []
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]

    def compute(corner):
        parts = [
            image[tuple(_scaled(slice(start - min(start, halo), start + tile + halo), at) for start in corner)]
            for image, at in zip(images, steps, strict=True)
        ]
        return run(parts), parts[0]

    for (top, left), (found, part) in zip(track(corners, "tiles"), mapped(compute, corners), strict=True):
        above, before = min(top, halo), min(left, halo)
        if not results:
            found_steps = [_step(result, part) for result in found]
            sizes = [(-(-height // step), -(-width // step)) for step in found_steps]
            results = [np.empty((*size, *part.shape[2:]), part.dtype) for size, part in zip(sizes, found, strict=True)]
        for result, part, step in zip(results, found, found_steps, strict=True):
            rows, columns = _scaled(slice(top, top + tile), step), _scaled(slice(left, left + tile), step)
            inside = part[above // step :, before // step :]
            result[rows, columns] = inside[: rows.stop - rows.start, : columns.stop - columns.start]
    return results


def bands(plane: np.ndarray, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yields for each band of rows of a plane its slice, the slice with `halo` more rows on both sides, and the first within
    the second."""
    height, width = plane.shape[:2]
    step = max(1, BAND // width)
    for top in range(0, height, step):
        first, bottom = max(0, top - halo), min(top + step, height)
        yield slice(top, bottom), slice(first, bottom + halo), slice(top - first, bottom - first)


def _step(small, large):
    """The factor between two sizes, which the longer side shows: 2 pixels may be a sixteenth of 17 rounded up, or a ninth."""
    return max(-(-big // little) for big, little in zip(large.shape[:2], small.shape[:2], strict=True))


def _scaled(pixels, step):
    return slice(pixels.start // step, pixels.stop // step)
