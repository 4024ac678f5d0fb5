"""Training of the merge network, from records to weights: run folder, a start from weights, resume."""

import dataclasses

import keras
import numpy as np
import pytest

from hdr_tf import weights
from hdr_tf.io import image_files
from hdr_tf.models.merge import merge
from tests import helpers
from tfrecords import dataset, writer
from train import merge as script

SIDE = 16
TINY = {"steps": 4, "log_every": 2, "batch": 2, "filters": 4}


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SIDE", SIDE)
        yield


def record(index):
    """Two or three exposures of noise, four patches."""
    rng, count = np.random.default_rng(index), 2 + index % 2
    hdr = rng.random((4, SIDE, SIDE, 3), np.float32)
    exposures = np.float32([0.5, 1, 4])[:count]
    images = np.clip(hdr[:, None] * exposures[:, None, None, None], 0, 1) ** (1 / 2.2)
    fields = {"images": np.uint16(65535 * images), "inside": np.ones(images.shape[:-1], np.uint8), "exposures": exposures}
    return fields | {"reference": np.int32(1), "noise": np.float32([1e-4, 1e-3, 1 / 255, 0]), "hdr": hdr}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """train(run, **flags) runs the script with tiny settings and returns the run folder."""
    folder = tmp_path_factory.mktemp("merge")
    writer.write(folder / "records", "merge", record, 4, shards=2, num_processes=1)

    def train(run, **flags):
        script.main(script.Config(data=str(folder / "records"), run=str(folder / run), **TINY | flags))
        return folder / run

    return train


@pytest.fixture(scope="module")
def unbroken(train):
    return train("unbroken")


@pytest.mark.slow
def test_a_run_leaves_its_folder(unbroken):
    assert [path.name for path in unbroken.glob("*.h5")] == ["merge.weights.h5"]
    network = merge(4)
    weights.load_weights(network, unbroken / "merge.weights.h5")
    assert any(np.any(variable) for variable in network.trainable_variables if "corrections" in variable.path)
    rows = helpers.log(unbroken)
    assert all(np.isfinite(float(row["loss"])) and 0 < float(row["rmse"]) < float(row["loss"]) for row in rows)
    sheet = image_files.read_image(unbroken / "samples" / "00000004.png").pixels
    assert sheet.shape == (2 * SIDE, 3 * SIDE, 3) or sheet.shape == (3 * SIDE, 2 * SIDE, 3)
    assert sorted(path.name for path in (unbroken / "checkpoints").iterdir()) == ["00000002.npz", "00000004.npz"]


@pytest.mark.slow
def test_a_run_stopped_early_continues_to_the_bit(train, unbroken):
    """Although the numbers of exposures vary, so that it meets another shape first."""
    expected, rows = helpers.checkpoint(unbroken, 4), helpers.log(unbroken)
    (unbroken / "checkpoints" / "00000004.npz").unlink()  # as if killed after the second step
    actual = helpers.checkpoint(train("unbroken"), 4)
    for row, before in zip(helpers.log(unbroken), rows, strict=True):
        assert float(row["loss"]) == pytest.approx(float(before["loss"]), rel=1e-6)
    assert actual.keys() == expected.keys()
    for path in expected:
        np.testing.assert_array_equal(actual[path], expected[path], err_msg=path)


@pytest.mark.slow
def test_a_run_starts_from_weights(train, unbroken):
    start = unbroken / "merge.weights.h5"
    run = train("begun", weights=str(start), learning_rate=1e-12, steps=2)
    networks = [merge(4), merge(4)]
    for network, path in zip(networks, (start, run / "merge.weights.h5"), strict=True):
        weights.load_weights(network, path)
    for one, other in zip(*(network.weights for network in networks), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other), atol=1e-9)


def test_records_are_needed():
    with pytest.raises(ValueError, match=helpers.mentions("--data --kind=merge")):
        script.main(dataclasses.replace(script.Config(), run="nowhere"))
