"""Images in, image out, with the authors' weights: equal to what the authors' programs write on real photographs.

The reference folder's own notes say what float32 costs: where the original truncates, a value close to an integer may fall
one level lower or higher.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

import hdr_tf
from hdr_tf.fusion import batch
from hdr_tf.image import align, color
from hdr_tf.io import image_files
from hdr_tf.io.brackets import list_brackets
from hdr_tf.serving import export
from tools import convert_checkpoint

CHECKPOINTS = {
    "deepfuse_official": "deepfuse_official/DF_model_Epoch99.npz",
    "densefuse_gray": "densefuse/densefuse_gray.model",
    "densefuse_rgb": "densefuse/densefuse_rgb.model",
    "hyperp_mb": "hyperp_mb/1e3_best.model",
}


@pytest.fixture(scope="session")
def authors_weights(reference, tmp_path_factory):
    """The authors' checkpoints, converted: {model: file}."""
    folder = tmp_path_factory.mktemp("authors")
    paths = {model: folder / f"{model}.weights.h5" for model in CHECKPOINTS}
    for model, path in paths.items():
        checkpoint = str(reference / CHECKPOINTS[model])
        convert_checkpoint.main(convert_checkpoint.Config(model=model, checkpoint=checkpoint, output=str(path)))
    return paths


def read(path):
    return image_files.read_image(path).pixels


def assert_close(found, expected, record_property, levels=1):
    """At most one level off, or `levels` in one of a hundred thousand values, and different in less than 0.1 %."""
    assert found.shape == expected.shape
    difference = np.abs(found.astype(int) - expected)
    record_property("largest", int(difference.max()))
    record_property("share", float((difference > 0).mean()))
    assert difference.max() <= levels
    assert (difference > 1).mean() <= 1e-5
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("name", ["forth4", *(pytest.param(name, marks=pytest.mark.slow) for name in ("montsaint", "stream1"))])
def test_deepfuse_official(name, reference, authors_weights, record_property):
    folder = reference / "deepfuse_official"
    stacked = read(folder / "input_test_pairs" / f"{name}.png")  # red: the bright luminance; green and blue: the dark one
    fused = hdr_tf.fuse([stacked[..., 2], stacked[..., 0]], "deepfuse_official", authors_weights["deepfuse_official"])
    assert_close(fused, read(folder / "testimgs" / f"{name}.png"), record_property)


def test_densefuse_gray(reference, authors_weights, record_property):
    folder = reference / "densefuse"
    expected = read(folder / "expected_gray_1.png")
    infrared, visible = read(folder / "IR1.png"), read(folder / "VIS1.png")
    luminances = [color.densefuse_gray_split(_rgb(image))[0].astype(np.uint8) for image in (infrared, visible)]
    fused = hdr_tf.fuse(luminances, "densefuse_gray", authors_weights["densefuse_gray"], keep_order=True)
    assert_close(fused, expected, record_property)
    # In colour, the luminance of the result is the same but for the rounding and clipping of the colour.
    coloured = hdr_tf.fuse([infrared, visible], "densefuse_gray", authors_weights["densefuse_gray"])
    difference = np.abs(color.densefuse_gray_split(_rgb(coloured))[0] - expected)
    assert np.quantile(difference, 0.99) <= 1


def test_densefuse_rgb(reference, authors_weights, record_property):
    folder = reference / "densefuse"
    fused = hdr_tf.fuse([folder / "IR1.png", folder / "VIS1.png"], "densefuse_rgb", authors_weights["densefuse_rgb"])
    assert_close(fused, read(folder / "expected_rgb_1.png"), record_property)


def test_hyperp_mb(reference, authors_weights, record_property):
    folder = reference / "hyperp_mb"
    images = [folder / "2_UN.jpg", folder / "2_OV.jpg"]
    fused = hdr_tf.fuse(images, "hyperp_mb", authors_weights["hyperp_mb"])
    # One level of the 8-bit L, which is truncated, may become two of red or blue: in 3 of 3,686,400 values, and in 2 when
    # the network is computed in float64. The luminance itself is one level off at most, see below.
    assert_close(fused, read(folder / "expected_noalign.png"), record_property, levels=2)


@pytest.mark.slow
def test_hyperp_mb_luminance(reference, authors_weights, record_property):
    folder = reference / "hyperp_mb"
    luminances = [color.hyperp_mb_split(read(folder / name))[0].astype(np.uint8) for name in ("2_UN.jpg", "2_OV.jpg")]
    fused = hdr_tf.fuse(luminances, "hyperp_mb", authors_weights["hyperp_mb"], keep_order=True)
    assert_close(fused, read(folder / "expected_noalign_l.png"), record_property)


def test_hyperp_mb_aligned(reference, authors_weights, record_property):
    folder = reference / "hyperp_mb"
    matrix = np.array(json.loads((folder / "homography.json").read_text())["homography"])
    over = read(folder / "2_OV.jpg")
    under = align.warp(read(folder / "2_UN.jpg"), matrix)
    fused = hdr_tf.fuse([under, over], "hyperp_mb", authors_weights["hyperp_mb"], keep_order=True)
    assert_close(fused, read(folder / "expected_align.png"), record_property, levels=2)
    luminances = [color.hyperp_mb_split(image)[0].astype(np.uint8) for image in (under, over)]
    fused = hdr_tf.fuse(luminances, "hyperp_mb", authors_weights["hyperp_mb"], keep_order=True)
    assert_close(fused, read(folder / "expected_align_l.png"), record_property)


def test_hyperp_mb_finds_its_alignment(reference, authors_weights):
    folder = reference / "hyperp_mb"
    images = [folder / "2_OV.jpg", folder / "2_UN.jpg"]  # sorted and then warped onto the brighter one
    fused = hdr_tf.fuse(images, "hyperp_mb", authors_weights["hyperp_mb"], align="homography")
    difference = np.abs(fused.astype(int) - read(folder / "expected_align.png"))
    # Another OpenCV's SIFT moves the homography's 7th digit, which costs up to 5 levels in 184 values (4.14 against 5.0).
    assert difference.max() <= 5
    assert (difference > 1).mean() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("model", ["pyramid", *CHECKPOINTS])
def test_encoded(model, reference, authors_weights, tmp_path, record_property):
    """What is exported makes of the files' bytes what the library makes of the files."""
    weights = authors_weights.get(model)
    version = export.export(model, tmp_path / model, weights, max_pixels=1_000_000)
    encoded = tf.saved_model.load(str(version)).signatures[export.ENCODED]
    for name in ("Chair", "House"):  # JPEG and PNG
        paths = image_files.list_images(reference / "mefb_dev" / name)
        fused = encoded(**{f"exposure_{i}": tf.constant([path.read_bytes()]) for i, path in enumerate(paths, start=1)})
        expected = hdr_tf.fuse(paths, model, weights, keep_order=True)
        # Its last step spreads the luminance: where float32 decides a level, two of a colour may be decided.
        levels = 2 if model == "deepfuse_official" else 1
        assert_close(tf.io.decode_png(fused["fused_bytes"][0]).numpy(), expected, record_property, levels)


def test_a_folder_of_brackets(reference, authors_weights, tmp_path):
    brackets = list_brackets(reference / "mefb_dev")[:2]
    arguments = {"model": "densefuse_gray", "weights": authors_weights["densefuse_gray"]}
    for path, fused in batch.fuse_brackets(brackets, tmp_path, **arguments):
        assert isinstance(fused, np.ndarray), fused
        np.testing.assert_array_equal(read(path), fused)


def _rgb(pixels):
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels
