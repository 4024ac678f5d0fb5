"""Time and memory of fusion, measured beside OpenCV's Mertens fusion in the same run.

Machines differ and are noisy, so what counts is the ratio: a system and Mertens (createMergeMertens().process and
convertScaleAbs, default weights) fuse the same two pictures in turn, and the median of the ratios is reported. Each system
runs in a process of its own, whose peak memory above what it held before its first picture, libraries and weights loaded, is
reported too. A published network gets random weights, on which its time does not depend.
"""

import concurrent.futures
import multiprocessing
import pathlib
import resource
import tempfile
import time

import cv2
import numpy as np

from hdr_tf import fusing
from hdr_tf.image import synthesis

MERTENS = "mertens"
WARM_UP = 3


def measure(system: str, size: int, rounds: int) -> dict:
    """Times one system in a fresh process.

    Args:
        system: "mertens" or a name in `fusing.SYSTEMS`.
        size: height and width of the pictures in pixels.
        rounds: how often both fuse, after three rounds to warm up.

    Returns:
        system and size; medians in milliseconds: `network_ms` of the compiled network alone, float32 in and out (None for
        Mertens), `fuse_ms` of `hdr_tf.fuse` from uint8 arrays to the uint8 result, and `mertens_ms`; `ratio`, the median of
        fuse over Mertens; `peak_mb`, memory in 2**20 bytes.
    """
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, system, size, rounds).result()


def _measure(system, size, rounds):
    exposures = synthesis.sample_bracket()
    pictures = [cv2.resize(exposures[i], (size, size), interpolation=cv2.INTER_AREA) for i in (0, 2)]
    merger = cv2.createMergeMertens()

    def mertens():
        return cv2.convertScaleAbs(merger.process(pictures), alpha=255)

    with tempfile.TemporaryDirectory() as folder:
        fuse, network = (mertens, None) if system == MERTENS else _system(system, pictures, pathlib.Path(folder))
        before = _peak_mb()
        _times(WARM_UP, fuse)
        peak = _peak_mb() - before
        _times(WARM_UP, mertens)
        times = _times(rounds, fuse, mertens)
        network_ms = None if network is None else np.median(_times(WARM_UP + rounds, network)[WARM_UP:])
    return {
        "system": system,
        "size": size,
        "network_ms": network_ms,
        "fuse_ms": np.median(times[:, 0]),
        "mertens_ms": np.median(times[:, 1]),
        "ratio": np.median(times[:, 0] / times[:, 1]),
        "peak_mb": peak,
    }


def _system(name, pictures, folder):
    """Returns two functions without arguments: `hdr_tf.fuse` of the pictures, and the network alone."""
    import tensorflow as tf

    from hdr_tf import models, weights

    path = weights.pretrained(name)
    if path is None:
        path = folder / f"{name}.weights.h5"
        weights.save_weights(models.build(name), path)
    network = fusing.load_network(name, path, **fusing.SYSTEMS[name].arguments(2, *pictures[0].shape[:2]))
    inputs = {x.name: tf.random.uniform([1, *pictures[0].shape[:2], x.shape[-1]], 0, 255) for x in network.inputs}
    compiled = tf.function(lambda: network(inputs, training=False)["fused"])
    return lambda: fusing.fuse(pictures, name, path), lambda: compiled().numpy()


def _times(rounds, *functions):
    """Milliseconds that each function took in each round, [rounds, functions]."""
    times = np.empty((rounds, len(functions)))
    for row in times:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            row[i] = 1e3 * (time.perf_counter() - start)
    return times


def _peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
