"""A picture in tiles, each computed with so much around it that the result is that of the whole picture, in less memory."""

from collections.abc import Callable

import numpy as np


def in_tiles(run: Callable[[np.ndarray], np.ndarray], pictures: np.ndarray, tile: int, halo: int) -> np.ndarray:
    """Runs a function tile by tile.

    Args:
        run: from pictures [N, H, W, C] to one result [H, W, 3], of any size.
        pictures: [N, H, W, C].
        tile: side of a tile in pixels.
        halo: how far `run` sees, in pixels: so much of the pictures around a tile, where there is as much, goes with it.

    Returns:
        What `run` gives of the whole pictures, [H, W, 3] float32.
    """
    height, width = pictures.shape[1:3]
    result = np.empty((height, width, 3), np.float32)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, halo), min(left, halo)
            seen = pictures[:, top - above : top + tile + halo, left - before : left + tile + halo]
            result[top : top + tile, left : left + tile] = run(seen)[above : above + tile, before : before + tile]
    return result
