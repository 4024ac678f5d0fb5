"""A run that is killed and continued, of the real default network on a busy machine, where operations end in any order."""

import contextlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests import helpers
from tfrecords import writer

SIDE = 64
BUSY = "while True: sum(range(10_000))"


def record(index):
    """Five exposures of a smooth scene with noise."""
    rng = np.random.default_rng(index)
    scene = cv2.resize(rng.random((8, 8, 3)), (SIDE, SIDE)) + 0.05 * rng.random((SIDE, SIDE, 3))
    exposures = [np.clip(255 * scene * 2.0**stop, 0, 255).astype(np.uint8) for stop in range(-3, 2)]
    return {"exposures": np.array(exposures), "ev": np.arange(-3, 2, dtype=np.float32), "source": str(index)}


@contextlib.contextmanager
def load(processes=2):
    """Keeps the processors busier than the training needs them; more would make the test take many minutes."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_killed_run_of_the_default_network_ends_with_the_same_bits(tmp_path):
    writer.write(tmp_path / "data", "bracket", record, 4, shards=2, arguments={"exposures": [5, 5]}, num_processes=1)

    def train(steps):
        words = [f"--data={tmp_path / 'data'}", f"--run={tmp_path / 'run'}", f"--steps={steps}", "--log_every=2"]
        helpers.run_python("train/pyramid.py", *words, cwd=helpers.ROOT, env={"TF_NUM_INTEROP_THREADS": "8"}, check=True)
        return helpers.checkpoint(tmp_path / "run", 4)

    with load():
        unbroken = train(4)
        (tmp_path / "run" / "checkpoints" / "00000004.npz").unlink()  # as if killed after the second step
        continued = train(4)
    assert continued.keys() == unbroken.keys() and len(unbroken) > 90
    for name, array in unbroken.items():
        np.testing.assert_array_equal(continued[name], array, err_msg=name)
