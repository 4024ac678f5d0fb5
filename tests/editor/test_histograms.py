"""The editor's histograms against the original program and NumPy, and its feature vector."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from hdr_tf.editor import edits, features, histograms
from hdr_tf.image import exposure_fusion
from hdr_tf.models import vgg
from tests import helpers

NAMES = {
    "quality": "quality_hist_8k",
    "lab_8k": "lab_hist_8k",
    "lab": "lab_hist",
    "rgbl": "rgbl_hist",
    "tiny": "tiny_hist",
    "tiny_28": "tiny_hist_28",
}


def rgb(bgr):
    """From the original's BGR around 0 to our RGB."""
    return np.ascontiguousarray(bgr[..., ::-1] + np.float32(0.5))


@helpers.golden_cases("rl_features")
def test_histograms(golden, golden_case):
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    image = inputs["coarse"].repeat(16, axis=0).repeat(16, axis=1) + inputs["fine"]
    image = rgb(np.clip(image, -0.5, 0.5).astype(np.float32))
    for name, (function, length) in histograms.HISTOGRAMS.items():
        actual = function(image)
        assert actual.shape == (length,) and actual.dtype == np.float32
        # One pixel of rgbl, 1 / 1000, lies on the edge of a bin and may fall to either side.
        np.testing.assert_allclose(actual, expected[NAMES[name]], rtol=0, atol=1.001e-3 if name == "rgbl" else 1e-6)
        assert np.abs(actual - expected[NAMES[name]]).sum() < 2.1e-3, name
    actual = histograms.quality(rgb(inputs["noise"]))
    np.testing.assert_allclose(actual, expected["quality_hist_8k_noise"], rtol=0, atol=1e-6)


def test_counts_are_those_of_numpy():
    image = np.random.default_rng(0).random((40, 30, 3), np.float32)
    image[0, 0] = 0.5  # well-exposedness 1, the upper edge
    measures = exposure_fusion.well_exposedness, exposure_fusion.saturation, exposure_fusion.contrast
    planes = [np.ravel(measure(image)) for measure in measures]
    counts = np.histogramdd(planes, 20, [(0, 1)] * 3)[0].ravel()
    assert 0 < counts.sum() < image[..., 0].size  # contrasts above 1 are left out
    np.testing.assert_allclose(histograms.quality(image), counts / np.linalg.norm(counts), atol=1e-7)
    lab = rgb2lab(image[..., ::-1]).reshape(-1, 3)
    counts = np.histogramdd(lab, 10, histograms.LAB_RANGE)[0].ravel()
    np.testing.assert_allclose(histograms.lab(image), counts / 1000, atol=1e-7)


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_histograms_of_flat_images_are_finite(level):
    image = np.full((224, 224, 3), level, np.float32)
    for name, (function, length) in histograms.HISTOGRAMS.items():
        vector = function(image)
        assert vector.shape == (length,) and np.isfinite(vector).all(), name


def small_state():
    under, over = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    return edits.start(under, over)


def test_features_are_the_parts_in_order_and_the_history():
    extract = features.Features(["rgbl", "lab"], history=True)
    state = small_state().edit(2).edit(5)
    vector = extract(state)
    assert vector.shape == (extract.length,) == (1024 + 1000 + 120,) and vector.dtype == np.float32
    np.testing.assert_array_equal(vector[:1024], histograms.rgbl(state.virtual))
    np.testing.assert_array_equal(vector[1024:2024], histograms.lab(state.virtual))
    assert np.flatnonzero(vector[2024:]).tolist() == [2, 6 + 5]


@pytest.mark.parametrize(
    ("parts", "named"), [(["quality", "vgg19"], "quality, vgg19"), (["tiny", "tiny"], "tiny, tiny"), ([], "none")]
)
def test_features_that_do_not_exist_are_refused(parts, named):
    with pytest.raises(ValueError, match=helpers.mentions(f"vgg quality tiny {named}")):
        features.Features(parts)


def test_missing_vgg_weights_name_both_ways_out(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=helpers.mentions("VGG16 none.h5 --vgg_weights --features=quality")) as caught:
        features.Features(["vgg"], vgg_weights=str(tmp_path / "none.h5"))
    assert "\n" not in str(caught.value)

    def offline(weights, include_top=True):
        raise Exception(f"URL fetch failure of {weights}")  # as Keras raises it

    for network in ("VGG16", "VGG19"):
        monkeypatch.setattr(vgg.keras.applications, network, offline)
    with pytest.raises(ValueError, match=helpers.mentions("URL fetch failure of imagenet --features=quality")):
        features.Features()
    with pytest.raises(ValueError, match=helpers.mentions("VGG19 imagenet --vgg_weights --structure_loss=l1")):
        vgg.vgg19_features("imagenet")
