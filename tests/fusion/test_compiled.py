"""The caches of compiled networks, as large as programs have them, where more is asked for than they hold."""

import functools
import gc
import itertools
import pathlib
import shutil

import numpy as np
import pytest

from hdr_tf import systems
from hdr_tf.fusion import compiled
from tests import helpers

SYSTEM = systems.find("densefuse_gray")


def memory():
    """What this process holds, in MB."""
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.slow
def test_networks_of_more_exposures_than_a_runner_keeps():
    runner, results, after = compiled.NetworkRunner(SYSTEM, SYSTEM.weights_path(), {}), {}, []
    for _ in range(2):
        for count, dtype in itertools.product(range(2, 3 + compiled.CACHED // 2), (np.uint8, np.uint16)):
            for width in (31, 53):
                images = helpers.bracket(dtype, np.geomspace(0.3, 2, count), height=24, width=width)
                fused = runner.fuse(images)
                np.testing.assert_array_equal(fused, results.setdefault((count, dtype, width), fused))
        after.append(memory())
    cache = runner._compiled.cache_info()
    # The network of the last count was compiled anew in each round, and served the other size.
    assert (cache.currsize, cache.misses, cache.hits) == (compiled.CACHED, 36, 36)
    assert after[1] - after[0] < 100  # a network that is kept takes some 15 MB, and 18 were compiled


@pytest.mark.slow
def test_more_weights_than_there_are_runners(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_load", functools.lru_cache(maxsize=compiled.CACHED)(compiled._load.__wrapped__))
    paths = [tmp_path / f"{number}.weights.h5" for number in range(compiled.CACHED + 2)]
    for path in paths:
        shutil.copy(SYSTEM.weights_path(), path)
    images, after = helpers.bracket(height=24, width=31), []
    expected = compiled.NetworkRunner(SYSTEM, SYSTEM.weights_path(), {}).fuse(images)
    for _ in range(2):
        for path in paths:
            np.testing.assert_array_equal(compiled.load(SYSTEM, path).fuse(images), expected)
        after.append(memory())
    assert (compiled._load.cache_info().currsize, compiled._load.cache_info().misses) == (compiled.CACHED, 2 * len(paths))
    assert compiled.load(SYSTEM, paths[-1]) is compiled.load(SYSTEM, paths[-1])
    assert after[1] - after[0] < 100
