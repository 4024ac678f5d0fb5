"""The networks against what the original programs computed from the same parameters and images.

A case's parameters carry the original's names and layout, so the weight maps and `weights.assign` are tested with them.
"""

import keras
import numpy as np

from hdr_tf import systems, weights
from hdr_tf.models import densefuse
from tests import helpers

# Of the largest value of the output: float32 sums in another order cost the originals themselves 1e-6 to 5e-6 of it
# (largest_difference_to_float64 in the manifests).
TOLERANCE = 1e-5


def _load(golden, case):
    model, network = systems.build(case), systems.networks()[case]
    weights.assign(model, golden.parameters(case), _names(case), network.layout)
    images = golden.inputs(case)
    if network.layout != "keras":
        images = {name: _channels_last(image) for name, image in images.items()}
    return model, images, golden.outputs(case)


def _names(case):
    return systems.resolve(systems.networks()[case].original_names)()


def _channels_last(array):
    return array.transpose(0, 2, 3, 1)


def _compare(found, expected, what):
    expected = _channels_last(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max(), err_msg=what)


@helpers.golden_cases("densefuse_gray", "densefuse_rgb")
def test_densefuse(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    features = encoder(images["image1"])
    _compare(features, expected["encoder_features1"], "encoder")
    _compare(decoder(features), expected["reconstruction1"], "decoder")
    fused = model({"exposure_1": images["image1"], "exposure_2": images["image2"]})["fused"]
    _compare(fused, expected["fused"], "fused")


@helpers.golden_cases("densefuse_gray", "densefuse_rgb")
def test_densefuse_attention(golden, golden_case):
    _, images, expected = _load(golden, golden_case)
    found = densefuse.attention([images["features1"], images["features2"]])
    _compare(found, expected["attention"], "attention")


@helpers.golden_cases("hyperp_mb")
def test_hyperp_mb(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    features = keras.Model(model.input, model.get_layer("fused_features").output)
    _compare(features(images), expected["fused_features"], "mean of the encodings")
    _compare(model(images)["fused"], expected["fused"], "fused")


@helpers.golden_cases("deepfuse_official")
def test_deepfuse_official(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    images = {"under": images["y1"], "over": images["y2"]}
    _compare(model.get_layer("convolutions")(images)["raw"], expected["raw"], "before the stretch")
    normalised = np.asarray(model(images)["fused"])
    _compare(normalised, expected["normalised"], "stretched to 0..255")

    # imsave's second stretch, which the fused image fills already, and its rounding; one level where a value lies on a half.
    image = normalised[0, :, :, 0]
    low, high = image.min(), image.max()
    eight_bit = ((image - low) * (255 / (high - low)) + 0.5).astype("uint8")
    difference = np.abs(eight_bit.astype(int) - expected["eight_bit"])
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


@helpers.golden_cases("deepfuse_sunnerli")
def test_deepfuse_sunnerli(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    _compare(model({"under": images["y1"], "over": images["y2"]})["fused"], expected["output"], "inference")


@helpers.golden_cases("deepfuse_sunnerli")
def test_deepfuse_sunnerli_training(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    batch = {"under": images["y1_batch"], "over": images["y2_batch"]}
    _compare(model(batch, training=True)["fused"], expected["train_output"], "batch statistics")
    names = _names(golden_case)
    for variable in model.non_trainable_variables:
        name = f"after_train.{names[variable.path]}"
        atol = TOLERANCE * np.abs(expected[name]).max()
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=0, atol=atol, err_msg=name)


def _esbn_inputs(model, images, prefix=""):
    return {name: images[f"{prefix}input_{name[:3].upper()}{name[3:]}"] for name in model.input}


# ESBN's outputs are a tanh's, so that TOLERANCE is of about 1; the original itself, under TensorFlow 1.14 and 2.21, differs by
# 8e-7 (alignment), 4e-6 (its training pass) and 1.3e-6 (merging).
ESBN_TOLERANCE = {"inference": 2e-6, "training": 1e-5, "fusion": 4e-6}


@helpers.golden_cases("esbn_align")
def test_esbn_align(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, images))["aligned"]
    np.testing.assert_allclose(found, expected["output_low"], rtol=0, atol=ESBN_TOLERANCE["inference"])


@helpers.golden_cases("esbn_align")
def test_esbn_align_training(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, images, "train_"), training=True)["aligned"]
    np.testing.assert_allclose(found, expected["train_output"], rtol=0, atol=ESBN_TOLERANCE["training"])
    names = _names(golden_case)
    stored = {f"after_{names[variable.path].replace('/', '_')}": variable for variable in model.non_trainable_variables}
    stored = {name: variable for name, variable in stored.items() if name in expected}
    assert len(stored) == 6  # means and variances of the three norms that the case holds
    for name, variable in stored.items():
        atol = TOLERANCE * np.abs(expected[name]).max()
        np.testing.assert_allclose(variable.numpy(), expected[name], rtol=0, atol=atol, err_msg=name)


@helpers.golden_cases("esbn_fusion")
def test_esbn_fusion(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    found = model(_esbn_inputs(model, images))["hdr"]
    np.testing.assert_allclose(found, expected["output_hdr"], rtol=0, atol=ESBN_TOLERANCE["fusion"])


@helpers.golden_cases("ahdrnet", "fshdr", "hdr_transformer", "sctnet")
def test_networks_of_selfhdr(golden, golden_case):
    model, images, expected = _load(golden, golden_case)
    inputs = {}
    for image, side in zip(images.values(), ("low", "mid", "high"), strict=True):
        inputs |= {f"hdr_{side}": image[..., :3], f"ldr_{side}": image[..., 3:]}
    # A sigmoid's 0..1; the originals are up to 6e-7 from float64.
    np.testing.assert_allclose(model(inputs)["hdr"], _channels_last(expected["output"]), rtol=0, atol=3e-6)
