"""Time and memory of fusion, measured beside OpenCV's Mertens fusion in the same run.

Machines differ and are noisy, so what counts is the ratio: a system and Mertens fuse the same two pictures in turn, and the
median of the pairwise ratios is reported. Each system runs in a process of its own, whose peak memory above what it held
before its first picture (libraries and weights loaded) is reported too. A network is timed with random weights where none
come with the software; the time does not depend on them.
"""

import concurrent.futures
import multiprocessing
import resource
import statistics
import time

import cv2
import numpy as np

from hdr_tf import fusing
from hdr_tf.image import synthesis

MERTENS = "mertens"


def measure(system: str, size: int, rounds: int) -> dict:
    """Times one system in a fresh process.

    Args:
        system: "mertens" or a name in `fusing.SYSTEMS`.
        size: height and width of the pictures in pixels.
        rounds: how often both fuse, after three rounds that warm up.

    Returns:
        {"system", "size", "network_ms": median time of the compiled network alone (None for Mertens), "fuse_ms": of uint8
        pictures to the uint8 result, "mertens_ms", "ratio": median of fuse / Mertens, "peak_mb"}.
    """
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, system, size, rounds).result()


def _measure(system, size, rounds):
    under, _, over = (cv2.resize(x, (size, size), interpolation=cv2.INTER_AREA) for x in synthesis.sample_bracket())
    merger = cv2.createMergeMertens()

    def mertens():
        return cv2.convertScaleAbs(merger.process([under, over]), alpha=255)

    network = None
    if system == MERTENS:
        fuse = mertens
    else:
        network = None
        pictures = [fusing.Picture(None, pixels, None) for pixels in (under, over)]

        def fuse():
            return fusing.fuse_pictures(pictures, fusing.SYSTEMS[system], network)

    before = _peak_mb()
    for _ in range(3):
        fuse()
    peak = _peak_mb() - before
    for _ in range(3):
        mertens()
    times = np.array([(_ms(fuse), _ms(mertens)) for _ in range(rounds)])
    return {
        "system": system,
        "size": size,
        "network_ms": None if network is None else 0,
        "fuse_ms": statistics.median(times[:, 0]),
        "mertens_ms": statistics.median(times[:, 1]),
        "ratio": statistics.median(times[:, 0] / times[:, 1]),
        "peak_mb": peak,
    }


def _ms(function):
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
