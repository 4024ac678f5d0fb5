"""Every script runs once, with tiny settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import fusing
from hdr_tf.image import files
from hdr_tf.models import build
from hdr_tf.weights import save_weights
from tools import export, fuse


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the pyramid, which has some of its own only when it is trained."""
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("weights") / "pyramid.weights.h5"
    save_weights(build("pyramid"), path)
    return str(path)


@pytest.fixture
def bracket(tmp_path):
    """Three 16-bit files, dark to bright."""
    texture = np.kron(np.random.default_rng(0).integers(0, 21000, (12, 14, 3)), np.ones((8, 8, 1)))
    paths = [tmp_path / f"{name}.png" for name in ("dark", "middle", "bright")]
    for gain, path in zip((0.5, 1, 2), paths, strict=True):
        files.write_picture(path, (texture * gain).astype(np.uint16))
    return [str(path) for path in paths]


def test_fuse(bracket, weights, tmp_path, capsys):
    output = tmp_path / "made" / "fused.tif"
    aligned = tmp_path / "aligned"
    config = fuse.Config(pictures=bracket, output=str(output), weights=weights, align="mtb", save_aligned=str(aligned))
    assert fuse.main(config) == 0
    assert capsys.readouterr().out == f"fused: {output} (112 x 96, 16 bit)\n"
    assert files.read_picture(output).pixels.dtype == np.uint16
    assert sorted(path.name for path in aligned.iterdir()) == ["1_dark.png", "2_middle.png", "3_bright.png"]
    middle = files.read_picture(aligned / "2_middle.png").pixels
    np.testing.assert_array_equal(middle, files.read_picture(bracket[1]).pixels)  # the reference stays


@pytest.mark.parametrize(
    ("name", "depth", "bits"), [("a.png", 8, 8), ("a.tiff", None, 16), ("a.jpg", None, 8), ("a.JPEG", 8, 8)]
)
def test_fuse_depth(name, depth, bits, bracket, weights, tmp_path):
    output = tmp_path / name
    fuse.main(fuse.Config(pictures=bracket, output=str(output), weights=weights, depth=depth))
    assert files.read_picture(output).pixels.itemsize == bits // 8


def test_fuse_sample(weights, tmp_path, capsys):
    output = tmp_path / "new" / "sample.png"
    assert fuse.main(fuse.Config(sample=True, output=str(output), weights=weights)) == 0
    exposures = [output.with_name(f"sample_exposure_{i}.png") for i in (1, 2, 3)]
    assert sorted(output.parent.iterdir()) == sorted([output, *exposures])
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in (output, *exposures))
    means = [files.read_picture(path).pixels.mean() for path in exposures]
    assert means == sorted(means)
    again = fusing.fuse(exposures, weights=weights)
    np.testing.assert_array_equal(files.read_picture(output).pixels, again)


def test_fuse_brackets(bracket, weights, tmp_path, capsys):
    for name in ("night", "church"):
        folder = tmp_path / "brackets" / name
        folder.mkdir(parents=True)
        for path in bracket:
            (folder / path.rsplit("/", 1)[1]).symlink_to(path)
    (tmp_path / "brackets" / ".hidden").mkdir()
    output = tmp_path / "fused"
    assert fuse.main(fuse.Config(brackets=str(tmp_path / "brackets"), output=str(output), weights=weights)) == 0
    assert sorted(path.name for path in output.iterdir()) == ["church.png", "night.png"]
    assert capsys.readouterr().out.splitlines()[-1] == f"2 of 2 brackets fused into {output}"


@pytest.mark.parametrize("model", list(fusing.SYSTEMS))
def test_export(model, tmp_path, capsys):
    keras.utils.set_random_seed(1)
    exposures = 2 if fusing.SYSTEMS[model].inputs else 3
    weights = tmp_path / "random.weights.h5"
    save_weights(build(model), weights)
    output = tmp_path / "made" / "exported"
    export.main(export.Config(model=model, weights=str(weights), exposures=exposures, output=str(output)))
    assert str(output) in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ["exported"]

    served = tf.saved_model.load(output).signatures["serving_default"]
    network = fusing.load_network(model, weights, **fusing.SYSTEMS[model].arguments(exposures, 1024, 1024))
    rng = np.random.default_rng(0)
    for height, width in ((24, 32), (37, 53)):  # neither is the size that the export was traced with: it has none
        pictures = {x.name: rng.random((2, height, width, x.shape[-1]), np.float32) for x in network.inputs}
        expected = keras.ops.convert_to_numpy(network(pictures)["fused"])
        found = served(**{name: tf.constant(picture) for name, picture in pictures.items()})["fused"].numpy()
        # The same operations, but float32 sums of a compiled graph may be taken in another order.
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_export_refuses_what_exists(tmp_path):
    with pytest.raises(ValueError, match="expected a folder that is not there yet"):
        export.main(export.Config(output=str(tmp_path)))


def test_export_refuses_a_third_exposure(tmp_path):
    with pytest.raises(ValueError, match="hyperp_mb fuses exactly 2 pictures, found 3"):
        export.main(export.Config(model="hyperp_mb", exposures=3, output=str(tmp_path / "exported")))
