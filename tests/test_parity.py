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
    pictures = {name: _channels_last(picture) for name, picture in golden.inputs(case).items()}
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
