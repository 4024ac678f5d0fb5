"""The networks against what the original programs computed from the same parameters and pictures.

A case's parameters carry the original's names and layout, so the weight maps and `weights.assign` are tested with them.
"""

import keras
import numpy as np
import pytest

from hdr_tf import models, weights
from hdr_tf.models import densefuse

# Of the largest value of the output: float32 sums in another order cost the originals themselves 1e-6 to 5e-6 of it
# (largest_difference_to_float64 in the manifests).
TOLERANCE = 1e-5


def _cases(*names):
    return pytest.mark.parametrize("golden_case", names, indirect=True, ids=str)


def _load(golden, case):
    model = models.build(case)
    names, layout = models.original_names(case)
    weights.assign(model, golden.parameters(case), names, layout)
    pictures = golden.inputs(case)
    if layout != "keras":
        pictures = {name: _channels_last(picture) for name, picture in pictures.items()}
    return model, pictures, golden.outputs(case)


def _channels_last(array):
    return array.transpose(0, 2, 3, 1)


def _part(model, layer):
    """The model up to the output of one layer."""
    return keras.Model(model.input, model.get_layer(layer).output)


def _compare(found, expected, what):
    expected = _channels_last(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=what)


@_cases("densefuse_gray", "densefuse_rgb")
def test_densefuse(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    features = encoder(pictures["image1"])
    _compare(features, expected["encoder_features1"], "encoder")
    _compare(decoder(features), expected["reconstruction1"], "decoder")
    fused = model({"exposure_1": pictures["image1"], "exposure_2": pictures["image2"]})["fused"]
    _compare(fused, expected["fused"], "fused")


@_cases("densefuse_gray", "densefuse_rgb")
def test_densefuse_attention(golden, golden_case):
    _, pictures, expected = _load(golden, golden_case)
    found = densefuse.attention([pictures["features1"], pictures["features2"]])
    _compare(found, expected["attention"], "attention")


@_cases("hyperp_mb")
def test_hyperp_mb(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    _compare(_part(model, "fused_features")(pictures), expected["fused_features"], "mean of the encodings")
    _compare(model(pictures)["fused"], expected["fused"], "fused")


@_cases("deepfuse_official")
def test_deepfuse_official(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    pictures = {"under": pictures["y1"], "over": pictures["y2"]}
    _compare(_part(model, "conv6_activation")(pictures), expected["raw"], "before the stretch")
    normalised = np.asarray(model(pictures)["fused"])
    _compare(normalised, expected["normalised"], "stretched to 0..255")

    # imsave's second stretch, which the fused picture fills already, and its rounding; one level where a value lies on a half.
    picture = normalised[0, :, :, 0]
    low, high = picture.min(), picture.max()
    eight_bit = ((picture - low) * (255 / (high - low)) + 0.5).astype("uint8")
    difference = np.abs(eight_bit.astype(int) - expected["eight_bit"])
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


@_cases("deepfuse_sunnerli")
def test_deepfuse_sunnerli(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    _compare(model({"under": pictures["y1"], "over": pictures["y2"]})["fused"], expected["output"], "inference")


@_cases("deepfuse_sunnerli")
def test_deepfuse_sunnerli_training(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    batch = {"under": pictures["y1_batch"], "over": pictures["y2_batch"]}
    _compare(model(batch, training=True)["fused"], expected["train_output"], "batch statistics")
    names, _ = models.original_names(golden_case)
    for variable in model.non_trainable_variables:
        name = f"after_train.{names[variable.path]}"
        atol = TOLERANCE * np.abs(expected[name]).max()
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=0, atol=atol, err_msg=name)


def _esbn_inputs(model, pictures, prefix=""):
    return {name: pictures[f"{prefix}input_{name[:3].upper()}{name[3:]}"] for name in model.input}


# ESBN's outputs are a tanh's, so that TOLERANCE is of about 1; the original itself, under TensorFlow 1.14 and 2.21, differs by
# 8e-7 (alignment), 4e-6 (its training pass) and 1.3e-6 (merging).
ESBN_TOLERANCE = {"inference": 2e-6, "training": 1e-5, "fusion": 4e-6}


@_cases("esbn_align")
def test_esbn_align(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, pictures))["aligned"]
    np.testing.assert_allclose(found, expected["output_low"], rtol=0, atol=ESBN_TOLERANCE["inference"])


@_cases("esbn_align")
def test_esbn_align_training(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, pictures, "train_"), training=True)["aligned"]
    np.testing.assert_allclose(found, expected["train_output"], rtol=0, atol=ESBN_TOLERANCE["training"])
    names, _ = models.original_names(golden_case)
    stored = {f"after_{names[variable.path].replace('/', '_')}": variable for variable in model.non_trainable_variables}
    stored = {name: variable for name, variable in stored.items() if name in expected}
    assert len(stored) == 6  # means and variances of the three norms that the case holds
    for name, variable in stored.items():
        atol = TOLERANCE * np.abs(expected[name]).max()
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=0, atol=atol, err_msg=name)


@_cases("esbn_fusion")
def test_esbn_fusion(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, pictures))["hdr"]
    np.testing.assert_allclose(found, expected["output_hdr"], rtol=0, atol=ESBN_TOLERANCE["fusion"])


@_cases("ahdrnet", "fshdr", "hdr_transformer", "sctnet")
def test_networks_of_selfhdr(golden, golden_case):
    model, pictures, expected = _load(golden, golden_case)
    inputs = {}
    for picture, side in zip(pictures.values(), ("low", "mid", "high"), strict=True):
        inputs |= {f"hdr_{side}": picture[..., :3], f"ldr_{side}": picture[..., 3:]}
    # A sigmoid's 0..1; the originals are up to 6e-7 from float64.
    np.testing.assert_allclose(model(inputs)["hdr"], _channels_last(expected["output"]), rtol=0, atol=3e-6)
