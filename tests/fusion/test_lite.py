"""The default system without TensorFlow: the same image as with it, by an engine that depends on the bracket alone."""

import os

import cv2
import numpy as np
import pytest

import hdr_tf
from hdr_tf import systems
from hdr_tf.fusion import batch, blend, compiled, lite
from hdr_tf.io import brackets, image_files
from hdr_tf.models import pyramid
from hdr_tf.serving import litert
from hdr_tf.synthesis.brackets import sample_bracket
from tests import helpers

SYSTEM = systems.find("pyramid")
PATH = SYSTEM.weights_path()
# What takes long to import. SciPy and scikit-image load their parts on use.
HEAVY = {"tensorflow", "keras", "h5py", "scipy.stats", "scipy.optimize", "scipy.ndimage", "skimage.color", "matplotlib"}


@pytest.fixture
def fresh():
    """Runners are made anew in this test."""
    lite._load.cache_clear()
    yield
    lite._load.cache_clear()


@pytest.fixture
def pair(tmp_path):
    paths = [tmp_path / name for name in ("dark.png", "bright.png")]
    for path, pixels in zip(paths, helpers.bracket(), strict=True):
        image_files.write_image(path, pixels)
    return paths


def exposures(count, height, width, dtype=np.uint8):
    """The sample's radiance, enlarged, at `count` exposures."""
    light = (cv2.resize(sample_bracket()[1], (width, height)) / 255) ** 2.2
    top = np.iinfo(dtype).max
    return [(np.clip(light * 2.0**stops, 0, 1) ** (1 / 2.2) * top).astype(dtype) for stops in np.linspace(-3, 2, count)]


def differences(images):
    """Levels by which the two engines differ."""
    light, heavy = (load(SYSTEM, PATH).fuse(images) for load in (lite.load, compiled.load))
    assert light.dtype == heavy.dtype and light.shape == heavy.shape
    return np.abs(light.astype(int) - heavy)


def is_light(path):
    return lite.load(SYSTEM, path)._model is not None


def test_the_bundled_model_is_of_the_bundled_weights():
    """hdr-tf export --format=litert --output=hdr_tf/pretrained/pyramid.tflite"""
    assert is_light(PATH)


@pytest.mark.parametrize(
    ("count", "height", "width"),
    [
        *((2, 37, 53), (2, 8, 8), (3, 61, 80)),
        *(pytest.param(*size, marks=pytest.mark.slow) for size in ((5, 61, 80), (9, 121, 103), (2, 383, 391), (2, 385, 399))),
    ],
)
def test_both_engines_give_the_same_image(count, height, width):
    found = differences(exposures(count, height, width))
    assert found.max() <= 1 and (found > 0).mean() <= 1e-4
    deep = differences(exposures(count, height, width, np.uint16))
    # A level of 16 bit is as large as the rounding of float32 near it: many values lie that near to the next one.
    assert deep.max() <= 1 and (deep > 0).mean() <= 0.02


@pytest.mark.parametrize("levels", [(0, 0), (255, 255, 255), (0, 255), (100, 100), (3, 128, 251)])
def test_both_engines_give_the_same_flat_image(levels):
    assert differences([np.full((40, 33, 3), level, np.uint8) for level in levels]).max() == 0


def test_gray_images_and_those_with_a_gray_one():
    gray = [image[..., 1] for image in exposures(2, 37, 53)]
    assert differences(gray).max() == 0
    colour = exposures(1, 37, 53)[0]
    light, heavy = (load(SYSTEM, PATH).fuse([colour, gray[1]], True) for load in (lite.load, compiled.load))
    assert (light != heavy).mean() <= 1e-4


@pytest.mark.parametrize(("count", "height", "width"), [(2, 8, 8), (2, 37, 50), (3, 64, 61), (5, 90, 33)])
def test_the_blend_of_opencv_is_that_of_the_network(count, height, width):
    stage = pyramid.pyramid(count, 4).get_layer("blend")
    rng, quarter = np.random.default_rng(0), (-(-height // 4), -(-width // 4))
    images = list(rng.random((count, height, width, 3), np.float32))
    weights = rng.random((count, *quarter, 1), np.float32)
    full, half, fused = weights / weights.sum(0), 1.4 * weights / weights.sum(0), rng.random((*quarter, 3), np.float32)
    inputs = [*images, *full[:-1], *half, fused]
    expected = stage(dict(zip(stage.input, [array[None] for array in inputs], strict=True)))["fused"][0]
    np.testing.assert_allclose(blend.blend(images, full, half, fused), expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(130, 201), (387, 203)])
def test_tiles_change_at_most_the_last_bits(height, width, monkeypatch):
    images = exposures(3, height, width)
    whole = lite.load(SYSTEM, PATH).fuse(images).astype(int)
    monkeypatch.setattr(lite, "TILE", 64)
    monkeypatch.setattr(blend, "TILE", 32)
    found = np.abs(lite.load(SYSTEM, PATH).fuse(images) - whole)
    assert found.max() <= 1 and (found > 0).mean() <= 1e-4


def test_threads_change_nothing(monkeypatch):
    images, results = exposures(3, 200, 301, np.uint16), []
    monkeypatch.setattr(lite, "TILE", 64)
    for threads in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        results.append(lite.LiteRunner(SYSTEM, PATH, {}).fuse(images))
    assert (results[0] == results[1]).all() and (results[0] == results[2]).all()


def test_the_engine_depends_on_the_bracket_alone(tmp_path, pair, weights):
    """Command, call and batch give the same pixels, and other weights take TensorFlow."""
    runner = lite.load(SYSTEM, PATH)
    before = runner.fuse(helpers.bracket())
    runner.fuse(helpers.bracket(height=30))
    np.testing.assert_array_equal(runner.fuse(helpers.bracket()), before)  # whatever was fused in between
    np.testing.assert_array_equal(hdr_tf.fuse(pair), before)
    folder = tmp_path / "brackets"
    helpers.write_bracket(folder / "scene", helpers.bracket(), names="ab")
    ((_, fused),) = batch.fuse_brackets(brackets.list_brackets(folder), tmp_path / "out")
    np.testing.assert_array_equal(fused, before)
    assert not is_light(weights["pyramid"])
    heavy = (load(SYSTEM, weights["pyramid"]).fuse(helpers.bracket()) for load in (lite.load, compiled.load))
    np.testing.assert_array_equal(*heavy)


def test_without_litert_tensorflow_fuses(fresh, monkeypatch):
    monkeypatch.setattr(lite, "Interpreter", None)
    images = helpers.bracket()
    np.testing.assert_array_equal(hdr_tf.fuse(images), compiled.load(SYSTEM, PATH).fuse(images))


@pytest.mark.parametrize(
    "program",
    [
        ["-c", "import hdr_tf, sys; hdr_tf.fuse_files(sys.argv[1:3], sys.argv[4])"],
        ["tools/fuse.py", "--verbosity=1"],
        ["-m", "hdr_tf.commands", "fuse", "--verbosity=1", "--align=auto", "--crop"],
    ],
)
def test_a_fusion_loads_no_tensorflow(program, pair, tmp_path):
    words = [*program, *map(str, pair), "-o", str(tmp_path / "fused.png")]
    done = helpers.run_python("-X", "importtime", *words, check=True, cwd=helpers.ROOT)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert (tmp_path / "fused.png").exists()
    assert "ai_edge_litert.interpreter" in loaded and not loaded & HEAVY


def test_short_sides_have_the_levels_that_the_network_asks_for():
    arguments = pyramid.lite_arguments()["context_predictor"]
    for side in [*range(8, 2000, 7), *(n + d for n in arguments for d in (-1, 0)), 12287]:
        if side >= 8:
            chosen = arguments[max(least for least in arguments if least <= side)]
            assert chosen["levels"] == pyramid.levels_for(side, side + 100)


@pytest.mark.slow
def test_the_bundled_model_is_what_the_export_writes(tmp_path):
    output = tmp_path / "pyramid.tflite"
    helpers.run_tool("export", "--format=litert", f"--output={output}", check=True)
    assert output.read_bytes() == (systems.PRETRAINED / "pyramid.tflite").read_bytes()


@pytest.mark.slow
def test_float16_moves_few_values(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "PRETRAINED", tmp_path)
    helpers.run_tool("export", "--format=litert", "--float16", f"--output={tmp_path / 'pyramid.tflite'}", check=True)
    found = differences(exposures(3, 200, 301))
    assert found.max() <= 2 and found.any()


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_both_engines_give_the_same_large_image(count):
    found = differences(exposures(count, 769, 801))
    assert found.max() <= 1 and (found > 0).mean() <= 1e-4


@pytest.mark.slow
def test_both_engines_agree_on_real_pairs(reference):
    folders = sorted(path for path in (reference / "mefb_dev").iterdir() if path.is_dir())
    assert len(folders) == 12
    for folder in folders:
        found = differences([image_files.read_image(path).pixels for path in image_files.list_images(folder)])
        assert found.max() <= 1 and (found > 0).mean() <= 1e-4, folder.name


@pytest.mark.parametrize(
    ("model", "output", "expected"),
    [
        ("merge", "a.tflite", "merge pyramid"),
        ("densefuse_rgb", "a.tflite", "densefuse_rgb pyramid"),
        ("pyramid", "folder", "folder .tflite"),
    ],
)
def test_what_cannot_be_exported(model, output, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=helpers.mentions(expected)):
        litert.export(model, output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flag", "format"), [("--exposures=3", "litert"), ("--float16", "savedmodel")])
def test_flags_of_the_other_format(flag, format, tmp_path):
    result = helpers.run_tool("export", f"--format={format}", flag, "--output=a.tflite", cwd=tmp_path)
    assert result.returncode == 1 and helpers.mentioned(flag.partition("=")[0], result.stderr)
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
