"""A picture in tiles, each computed with so much around it that the result is that of the whole picture, in less memory.

Whether a network may be run so is a matter of what a pixel of its result sees:

    deepfuse_sunnerli, densefuse_gray, densefuse_rgb, hyperp_mb    a few pixels around it (`fusing.SYSTEMS`): tiles
    deepfuse_official    likewise, then minimum and maximum of the whole: tiles before that, then the whole plane
    pyramid              what is coarser than a quarter of the size as a whole, the rest in tiles (`hdr_tf.models.pyramid`)
    esbn, ahdrnet, fshdr    some pixels around it: tiles (`hdr_tf.reconstruction`, `hdr_tf.selfhdr`)
    hdr_transformer      not in tiles: each block weighs its channels by their means over the picture
    sctnet               not in tiles: attention among channels is summed over the picture
    dqn_editor           not in tiles: its fusion (hdr_tf/image/fusion.py) takes means and minima of the picture at each level
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

BAND = 2**18  # pixels of a band of rows: float64 takes much memory


def in_tiles(run: Callable[[list[np.ndarray]], np.ndarray], pictures: Sequence[np.ndarray], tile: int, halo: int) -> np.ndarray:
    """Runs a function tile by tile.

    Args:
        run: from a list of pictures to one result [H, W, ...], of any size, or to one smaller by a whole number (rounded up).
        pictures: [H, W, ...] each, of one size; but for the first they may be smaller by a whole number (rounded up).
        tile: side of a tile in pixels, a multiple of those numbers.
        halo: how far `run` sees, in pixels, likewise: so much of the pictures around a tile, where there is as much, goes with
            it.

    Returns:
        What `run` gives of the whole pictures.
    """
    height, width = pictures[0].shape[:2]
    steps = [_step(picture, pictures[0]) for picture in pictures]
    result = None
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, halo), min(left, halo)
            rows, columns = slice(top - above, top + tile + halo), slice(left - before, left + tile + halo)
            seen = [picture[_scaled(rows, at), _scaled(columns, at)] for picture, at in zip(pictures, steps, strict=True)]
            part = run(seen)
            if result is None:
                step = _step(part, seen[0])
                result = np.empty((-(-height // step), -(-width // step), *part.shape[2:]), part.dtype)
            rows, columns = _scaled(slice(top, top + tile), step), _scaled(slice(left, left + tile), step)
            inside = part[above // step :, before // step :]
            result[rows, columns] = inside[: rows.stop - rows.start, : columns.stop - columns.start]
    return result


def bands(plane: np.ndarray, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yields the rows of a plane in bands: a slice of rows, one with `halo` more on both sides, and the first in the second."""
    height, width = plane.shape[:2]
    step = max(1, BAND // width)
    for top in range(0, height, step):
        first, bottom = max(0, top - halo), min(top + step, height)
        yield slice(top, bottom), slice(first, bottom + halo), slice(top - first, bottom - first)


def _step(small, large):
    return -(-large.shape[0] // small.shape[0])


def _scaled(pixels, step):
    return slice(pixels.start // step, pixels.stop // step)
