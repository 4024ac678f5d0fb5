"""The histograms and the vector that the editor's agent sees, against the original program and numpy."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from hdr_tf import features, weights
from hdr_tf.image import editing, exposure_fusion, histograms
from hdr_tf.models import vgg

NAMES = {
    "quality": "quality_hist_8k",
    "lab_8k": "lab_hist_8k",
    "lab": "lab_hist",
    "rgbl": "rgbl_hist",
    "tiny": "tiny_hist",
    "tiny_28": "tiny_hist_28",
}


def _case(name):
    return pytest.mark.parametrize("golden_case", [name], indirect=True, ids=str)


def rgb(bgr):
    """From the original's BGR around 0 to our RGB."""
    return np.ascontiguousarray(bgr[..., ::-1] + np.float32(0.5))


@_case("rl_features")
def test_histograms(golden, golden_case):
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    picture = inputs["coarse"].repeat(16, axis=0).repeat(16, axis=1) + inputs["fine"]
    picture = rgb(np.clip(picture, -0.5, 0.5).astype(np.float32))
    for name, (function, length) in histograms.HISTOGRAMS.items():
        found = function(picture)
        assert found.shape == (length,) and found.dtype == np.float32
        # Of rgbl one pixel, 1 / 1000, lies on the edge of a bin and falls to either side.
        np.testing.assert_allclose(found, expected[NAMES[name]], rtol=0, atol=1.001e-3 if name == "rgbl" else 1e-6)
        assert np.abs(found - expected[NAMES[name]]).sum() < 2.1e-3, name
    found = histograms.quality(rgb(inputs["noise"]))
    np.testing.assert_allclose(found, expected["quality_hist_8k_noise"], rtol=0, atol=1e-6)


def test_counts_are_those_of_numpy():
    picture = np.random.default_rng(0).random((40, 30, 3), np.float32)
    picture[0, 0] = 0.5  # well-exposedness 1, the upper edge
    planes = [
        np.ravel(f(picture)) for f in (exposure_fusion.well_exposedness, exposure_fusion.saturation, exposure_fusion.contrast)
    ]
    counts = np.histogramdd(planes, 20, [(0, 1)] * 3)[0].ravel()
    assert 0 < counts.sum() < picture[..., 0].size  # contrasts above 1 are left out
    np.testing.assert_allclose(histograms.quality(picture), counts / np.linalg.norm(counts), atol=1e-7)
    lab = rgb2lab(picture[..., ::-1]).reshape(-1, 3)
    counts = np.histogramdd(lab, 10, histograms.LAB_RANGE)[0].ravel()
    np.testing.assert_allclose(histograms.lab(picture), counts / 1000, atol=1e-7)


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_histograms_of_flat_pictures_are_finite(level):
    picture = np.full((224, 224, 3), level, np.float32)
    for name, (function, length) in histograms.HISTOGRAMS.items():
        vector = function(picture)
        assert vector.shape == (length,) and np.isfinite(vector).all(), name


def small_state():
    under, over = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    return editing.start(under, over)


def test_features_are_the_parts_in_order_and_the_history():
    extract = features.Features(["rgbl", "lab"], history=True)
    state = small_state().edit(2).edit(5)
    vector = extract(state)
    assert vector.shape == (extract.length,) == (1024 + 1000 + 120,) and vector.dtype == np.float32
    np.testing.assert_array_equal(vector[:1024], histograms.rgbl(state.virtual))
    np.testing.assert_array_equal(vector[1024:2024], histograms.lab(state.virtual))
    assert np.flatnonzero(vector[2024:]).tolist() == [2, 6 + 5]


@pytest.mark.parametrize(
    ("parts", "found"), [(["quality", "vgg19"], "quality, vgg19"), (["tiny", "tiny"], "tiny, tiny"), ([], "none")]
)
def test_features_that_do_not_exist_are_refused(parts, found):
    with pytest.raises(ValueError, match=f"features out of vgg, quality, .*, each once, found {found}"):
        features.Features(parts)


def test_missing_vgg_weights_name_both_ways_out(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="VGG16: expected weights, .*--vgg_weights.*--features=quality") as caught:
        features.Features(["vgg"], vgg_weights=str(tmp_path / "none.h5"))
    assert "\n" not in str(caught.value)

    def offline(weights, include_top=True):
        raise Exception(f"URL fetch failure of {weights}")  # as Keras raises it

    for network in ("VGG16", "VGG19"):
        monkeypatch.setattr(vgg.keras.applications, network, offline)
    with pytest.raises(ValueError, match="URL fetch failure of imagenet.*--features=quality"):
        features.Features()
    with pytest.raises(ValueError, match="VGG19: .*failure of imagenet.*_notop.h5 by --vgg_weights.*--structure_loss=l1"):
        vgg.vgg19_features("imagenet")


def test_vgg19_sees_what_that_of_keras_sees(monkeypatch):
    theirs = vgg.keras.applications.VGG19(weights=None, include_top=False)
    monkeypatch.setattr(vgg.keras.applications, "VGG19", lambda weights, include_top: theirs)
    picture = np.random.default_rng(0).random((1, 32, 48, 3), np.float32)
    found = vgg.vgg19_features("weights.h5")(picture)
    part = vgg.keras.Model(theirs.input, [theirs.get_layer(f"block{block}_conv2").output for block in (3, 4, 5)])
    expected = part(255 * picture - np.float32([103.939, 116.779, 123.68]))  # red where the weights were trained on blue
    assert [array.shape for array in found] == [(1, 8, 12, 256), (1, 4, 6, 512), (1, 2, 3, 512)]
    for ours, array in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, array / 57.63, rtol=0, atol=1e-5 * np.abs(array).max() / 57.63)  # order of sums


@pytest.mark.slow
@_case("rl_vgg16")
def test_vgg16(golden, golden_case):
    model = vgg.vgg16_fc6()
    weights.assign(model, golden.parameters(golden_case), vgg.original_names(), "keras")
    outputs = {"bgr": ("means", 32), "conv1_1": ("block1_conv1", 32), "pool1": ("block1_pool", 16), "pool5": ("block5_pool", 1)}
    outputs["fc6"] = ("fc6", 1)
    part = vgg.keras.Model(model.input, [model.get_layer(layer).output for layer, _ in outputs.values()])
    # The program reverses what it takes for RGB; ours is RGB, and sees what it sees.
    found = part(golden.inputs(golden_case)["rgb"][..., ::-1])
    for (name, (_, stride)), values in zip(outputs.items(), found, strict=True):
        values = np.asarray(values)
        values = values[:, ::stride, ::stride] if values.ndim == 4 else values
        expected = golden.outputs(golden_case)[name]
        # float32 sums of up to 25,088 products in another order; TensorFlow 1.14 and 2.21 differ by 3e-5 of 13 in fc6.
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * np.abs(expected).max(), err_msg=name)
