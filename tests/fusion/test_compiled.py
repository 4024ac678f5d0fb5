"""The caches of compiled networks, as large as programs have them, where more is asked for than they hold; and what moves
between the memories of a machine and of its GPU."""

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


def test_a_tile_of_8_bit_goes_to_the_device_and_back_once_in_8_bit(monkeypatch):
    moved, compile_stage = [], compiled._compile_stage

    def recorded(*arguments):
        run = compile_stage(*arguments)

        def record(arrays):
            outputs = run(arrays)
            moved.append([array.dtype for array in (*arrays, *outputs)])
            return outputs

        return record

    for name, value in {"_compile_stage": recorded, "UNTILED_LIMIT": 0, "TILE": 16}.items():
        monkeypatch.setattr(compiled, name, value)
    compiled.NetworkRunner(SYSTEM, SYSTEM.weights_path(), {}).fuse(helpers.bracket(height=40, width=24))
    assert moved == [[np.uint8] * 3] * 6  # two exposures and the result, of 3 x 2 tiles


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
