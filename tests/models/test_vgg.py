"""VGG16 up to fc6 against the original program, and VGG19 against that of Keras."""

import numpy as np
import pytest

from hdr_tf import weights
from hdr_tf.models import vgg
from tests import helpers


def test_vgg19_equals_that_of_keras(monkeypatch):
    theirs = vgg.keras.applications.VGG19(weights=None, include_top=False)
    monkeypatch.setattr(vgg.keras.applications, "VGG19", lambda weights, include_top: theirs)
    image = np.random.default_rng(0).random((1, 32, 48, 3), np.float32)
    features = vgg.vgg19_features("weights.h5")(image)
    part = vgg.keras.Model(theirs.input, [theirs.get_layer(f"block{block}_conv2").output for block in (3, 4, 5)])
    expected = part(255 * image - np.float32([103.939, 116.779, 123.68]))  # red where the weights expect blue
    assert [array.shape for array in features] == [(1, 8, 12, 256), (1, 4, 6, 512), (1, 2, 3, 512)]
    for ours, array in zip(features, expected, strict=True):
        np.testing.assert_allclose(ours, array / 57.63, rtol=0, atol=1e-5 * np.abs(array).max() / 57.63)  # order of sums


@pytest.mark.slow
@helpers.golden_cases("rl_vgg16")
def test_vgg16(golden, golden_case):
    model = vgg.vgg16_fc6()
    weights.assign(model, golden.parameters(golden_case), vgg.original_names(), "keras")
    outputs = {"bgr": ("means", 32), "conv1_1": ("block1_conv1", 32), "pool1": ("block1_pool", 16), "pool5": ("block5_pool", 1)}
    outputs["fc6"] = ("fc6", 1)
    part = vgg.keras.Model(model.input, [model.get_layer(layer).output for layer, _ in outputs.values()])
    # The program reverses what it takes for RGB; ours is RGB, so both networks get the same input.
    outputs_of_layers = part(golden.inputs(golden_case)["rgb"][..., ::-1])
    for (name, (_, stride)), values in zip(outputs.items(), outputs_of_layers, strict=True):
        values = np.asarray(values)
        values = values[:, ::stride, ::stride] if values.ndim == 4 else values
        expected = golden.outputs(golden_case)[name]
        # float32 sums of up to 25,088 products in another order; TensorFlow 1.14 and 2.21 differ by 3e-5 of 13 in fc6.
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)
