"""Classical fusion of two exposures, and the six edits, against the original program; the pictures that it published."""

import cv2
import numpy as np
import pytest

from hdr_tf.image import brackets, editing, exposure_fusion, fusion, guided_filter, tiles


def _cases(*names):
    return pytest.mark.parametrize("golden_case", names, indirect=True, ids=str)


def bgr(picture):
    """Between our RGB and the original's BGR."""
    return np.ascontiguousarray(picture[..., ::-1])


def compare(found, expected, atol, what=""):
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=what)


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def fused_pair(under, over):
    return fusion.PairFusion(under, over)(fusion.virtual_exposure(under, over))


# Of fused pictures: float32 rounding decides weights where there is no contrast, and the guided filter amplifies it; OpenCV's
# versions differ by up to 5e-4 (manifests). The mean difference is a hundredth of that.
FUSED, FUSED_MEAN = 1e-3, 5e-5


@_cases("rl_fusion_virtual", "rl_fusion_virtual_b")
def test_fusion_virtual(golden, golden_case):
    expected = golden.outputs(golden_case)
    dark, bright = bgr(expected["top"]), bgr(expected["bottom"])
    for channel in range(3):
        there, back = fusion.intensity_table(dark[..., channel], bright[..., channel]), expected["IMF_F1"][..., 2 - channel]
        np.testing.assert_array_equal(there[dark[..., channel]], back)
        there, back = fusion.intensity_table(bright[..., channel], dark[..., channel]), expected["IMF_I1"][..., 2 - channel]
        np.testing.assert_array_equal(there[bright[..., channel]], back)
    np.testing.assert_array_equal(fusion.virtual_exposure(dark, bright), bgr(expected["final_virtual"]))
    fused = bgr(fused_pair(dark, bright))
    compare(fused, expected["final"], FUSED)
    assert np.abs(fused - expected["final"]).mean() < FUSED_MEAN


@_cases("rl_fusion_virtual")
def test_weights_of_the_levels(golden, golden_case):
    expected = golden.outputs(golden_case)
    compare(fusion.BRIGHT_WEIGHTS, expected["fusion11_table"], 2e-7)  # float32 there
    compare(fusion.DARK_WEIGHTS, expected["fusion21_table"], 2e-7)


@_cases("rl_three_fusion")
def test_three_fusion(golden, golden_case):
    pair, inputs, expected = golden.outputs("rl_fusion_virtual"), golden.inputs(golden_case), golden.outputs(golden_case)
    pictures = [bgr(pair["bottom"]), bgr(pair["top"]), bgr(inputs["virtual"])]
    fused = bgr(fusion.PairFusion(pictures[1], pictures[0])(pictures[2]))
    compare(fused, expected["final"], FUSED)
    assert np.abs(fused - expected["final"]).mean() < FUSED_MEAN
    pictures = [np.float32(picture / 255) for picture in pictures]
    for measure in (exposure_fusion.contrast, exposure_fusion.saturation, exposure_fusion.well_exposedness):
        found = np.stack([measure(picture) for picture in pictures], axis=-1)[::3, ::3]
        compare(found, expected[measure.__name__], 1e-6, measure.__name__)  # float32, contrast up to 4


@_cases("rl_three_fusion")
def test_filter_and_pyramids(golden, golden_case):
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    inputs = {name: np.float64(value) for name, value in inputs.items()}
    guide, source = inputs["guide"], inputs["source"]
    rounding = 5e-8  # of the stored float32
    compare(guided_filter.GuidedFilter(guide)(source), expected["gguided_r4_eps1_1024"], rounding)
    compare(guided_filter.GuidedFilter(guide, 2, 1 / 100)(source), expected["gguided_r2_eps1_100"], rounding)
    compare(guided_filter.GuidedFilter(guide[:6, :9])(source[:6, :9]), expected["gguided_small"], rounding)
    for name in ("colour", "mono"):
        for level, plane in enumerate(exposure_fusion.gaussian_pyramid(inputs[name], 4)[1:], start=1):
            compare(plane, expected[f"gaussian_{name}_{level}"], rounding)
    pyramid = exposure_fusion.gaussian_pyramid(inputs["colour"], 4)
    for level, coarse in enumerate(pyramid[1:]):  # what each level has more than the next one, enlarged
        pyramid[level] = pyramid[level] - exposure_fusion.enlarge(coarse, pyramid[level])
    for level, plane in enumerate(pyramid):
        compare(plane, expected[f"laplacian_colour_{level}"], 5e-7)  # of float32 colours enlarged
    compare(exposure_fusion.reconstruct(pyramid), inputs["colour"], 1e-12)


@_cases("rl_actions")
def test_edits(golden, golden_case):
    inputs, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    pair, virtual, picture = (bgr(inputs[name] + np.float32(0.5)) for name in ("image", "virtual", "rgb"))
    state = editing.Editing(fusion.PairFusion(pair[24:], pair[:24]), virtual)
    for action, edit in enumerate(editing.EDITS):
        compare(bgr(edit.function(picture, edit.strength)) - 0.5, expected[f"action_{action}"], 1e-6, edit.name)
        edited = state.edit(action)
        compare(bgr(edited.virtual) - 0.5, expected[f"virtual_{action}"], 1e-6, edit.name)
        compare(bgr(edited.fuse(edited.virtual)) - 0.5, expected[f"fused_{action}"], FUSED, edit.name)
        assert edited.actions == (action,) and state.actions == ()


@pytest.mark.parametrize("number", range(7))
def test_published_results(reference, number):
    """All at full size: twenty times brighter, of T0004 nineteen times and then less contrast (found by search, as the agent's
    weights were not published)."""
    path = reference / "rl_hdr" / f"T{number:04}.JPG"
    under, over = (picture.pixels for picture in brackets.read_bracket(brackets.Bracket(path.stem, (path,))))
    *_, last = editing.run(under, over, [5] * 19 + [0 if number == 4 else 5])
    published = bgr(cv2.imread(f"{path}_retouched.png"))
    difference = np.abs(np.uint8(last.fused * 255).astype(int) - published)
    assert difference.mean() < 0.05 and difference.max() <= 5


def test_edits_by_hand():
    picture = np.float32([[[0.2, 0.4, 0.8], [0, 0, 0]]])
    compare(editing.brightness(picture, 1.5), [[[0.3, 0.6, 1], [0, 0, 0]]], 1e-6)
    # V is 0.8 and 0, its mean 0.4: half as far from it 0.6 and 0.2, of the same hue and saturation.
    compare(editing.contrast(picture, 0.5), [[[0.15, 0.3, 0.6], [0.2, 0.2, 0.2]]], 1e-6)
    gray = np.full((2, 2, 3), 0.3, np.float32)
    compare(editing.saturation(gray, 1.05), gray, 1e-6)


def test_intensity_table_by_hand():
    # 10 looks at the count of 9, none; 20 and 30 at those of 19 and 29, one and two, and add one level to what they find.
    picture, reference = np.uint8([10, 20, 30]), np.uint8([100, 200, 250])
    np.testing.assert_array_equal(fusion.intensity_table(picture, reference)[[0, 10, 20, 30]], [0, 1, 101, 201])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(fusion.intensity_table(every, every), every)


FLAT = [np.full((33, 47, 3), level, np.uint8) for level in (0, 128, 255)]
EDGE = np.uint8(np.arange(48) > 20)[None, :, None].repeat(33, 0).repeat(3, 2) * 255
DOT = np.zeros((33, 47, 3), np.uint8)
DOT[16, 20] = 255


HARD = [(EDGE, EDGE), (EDGE, 255 - EDGE), (DOT, DOT), (noise(8, 9, 3), noise(8, 9, 3, seed=1))]


@pytest.mark.parametrize(("under", "over"), [(a, b) for a in FLAT for b in FLAT] + HARD)
def test_flat_and_hard_pictures_give_finite_ones_in_range(under, over):
    with np.errstate(all="raise", under="ignore"):  # not one division by zero
        for state in editing.run(under, over, range(6)):
            assert state.fused.shape == under.shape and state.fused.dtype == np.float32
            assert np.isfinite(state.fused).all() and state.fused.min() >= 0 and state.fused.max() <= 1


def test_flat_pictures_alike_stay_what_they_are():
    for level, picture in zip((0, 128, 255), FLAT, strict=True):
        compare(fused_pair(picture, picture) * 255, np.full_like(picture, level), 0.5)


def test_16_bit_is_8_bit_with_finer_levels():
    under, over = noise(32, 40, 3), noise(32, 40, 3, seed=1)
    expected = fused_pair(under, over)
    found = fused_pair(under.astype(np.uint16) * 257, over.astype(np.uint16) * 257)
    compare(found, expected, 1e-6)


def test_a_pair_is_fused_with_several_virtual_exposures_as_with_one():
    under, over, virtual = noise(3, 32, 40, 3)
    fuse = fusion.PairFusion(under, over)
    first = fuse(virtual)
    assert np.abs(fuse(255 - virtual) - first).max() > 0.1
    np.testing.assert_array_equal(fuse(virtual), first)
    np.testing.assert_array_equal(fusion.PairFusion(under, over)(virtual), first)


def test_bands_of_rows_give_what_the_whole_gives(monkeypatch):
    under, over = np.clip(noise(2, 75, 51, 3).astype(int) * [[[[1]]], [[[2]]]] // [[[[3]]], [[[1]]]], 0, 255).astype(np.uint8)
    expected = fused_pair(under, over)
    for rows in (1, 13):
        monkeypatch.setattr(tiles, "BAND", 51 * rows)
        compare(fused_pair(under, over), expected, 1e-6)


@pytest.mark.parametrize(("first", "second"), [((9, 9, 3), (9, 10, 3)), ((7, 9, 3), (7, 9, 3)), ((9, 9), (9, 9))])
def test_what_is_no_pair_is_refused(first, second):
    with pytest.raises(ValueError, match=r"expected two pictures \[H, W, 3\] of one size, at least 8 x 8, found"):
        fusion.PairFusion(noise(*first), noise(*second))


def test_unknown_edit():
    state = editing.start(noise(8, 8, 3), noise(8, 8, 3, seed=1))
    for action in (-1, 6):
        with pytest.raises(ValueError, match=f"expected an edit of 0 to 5, found {action}"):
            state.edit(action)
