"""Losses: parity with the stored outputs of the originals, and properties."""

import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from hdr_tf import losses
from tests import helpers
from tfrecords import examples

SMALL = ["Balloons", "Chair", "House", "LivingRoom", "Night"]  # below half a megapixel
LARGE = ["ArchSequence", "ICCV_02", "ICCV_04", "ICCV_07", "ICCV_14", "Land", "flower"]


def drawn_bracket(golden, names):
    """The named images of golden case mef_ssim_drawn, generated as its notes say: each [96, 128] gray."""
    drawn = golden.inputs("mef_ssim_drawn")
    scene = np.repeat(np.repeat(drawn["coarse"], 16, axis=0), 16, axis=1) + drawn["texture"]
    images = {
        "under": np.clip(scene // 3 - 20, 0, 255),
        "third": np.clip(scene, 0, 255),
        "over": np.clip(scene * 2 - 60, 0, 255),
    }
    images["mean"] = (images["under"] + images["over"] + 1) // 2
    images["noise"] = np.clip(images["mean"] + drawn["noise"] - 20, 0, 255)
    return [images[name].astype("float32") for name in names]


@helpers.golden_cases("mef_ssim_drawn")
@pytest.mark.parametrize(
    ("exposures", "fused", "score", "scales"),
    [
        (["under", "over"], "mean", "score_mean", "mean_scales"),
        (["under", "over"], "noise", "score_noise", "noise_scales"),
        (["under", "third", "over"], "mean", "score_three", "three_scales"),
    ],
)
def test_mef_ssim_equals_the_benchmark(golden, golden_case, exposures, fused, score, scales):
    *exposures, fused = drawn_bracket(golden, [*exposures, fused])
    exposures, fused = np.stack(exposures)[None], fused[None]
    expected = golden.outputs(golden_case)
    # float64 on both sides, no step that magnifies rounding.
    np.testing.assert_allclose(losses.mef_ssim_scales(exposures, fused)[0], expected[scales], atol=1e-12)
    np.testing.assert_allclose(losses.mef_ssim(exposures, fused)[0], expected[score], atol=1e-12)


def test_mef_ssim_handles_each_image_of_a_batch_by_itself():
    rng = np.random.default_rng(0)
    exposures, fused = rng.uniform(0, 255, (2, 3, 50, 61)), rng.uniform(0, 255, (2, 50, 61))
    both = ops.convert_to_numpy(losses.mef_ssim(exposures, fused))
    alone = [losses.mef_ssim(exposures[i : i + 1], fused[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(both, alone, atol=1e-12)


def test_mef_ssim_does_not_depend_on_the_order_of_exposures():
    rng = np.random.default_rng(0)
    exposures, fused = rng.uniform(0, 255, (1, 4, 48, 48)), rng.uniform(0, 255, (1, 48, 48))
    np.testing.assert_allclose(losses.mef_ssim(exposures[:, ::-1], fused), losses.mef_ssim(exposures, fused), atol=1e-12)


def test_mef_ssim_of_equal_exposures_is_one_for_that_image():
    image = np.random.default_rng(0).uniform(0, 255, (1, 48, 48))
    # Not exactly 1: the strength is the norm + 0.001, so the reference is slightly stronger than the image.
    np.testing.assert_allclose(losses.mef_ssim(np.stack([image, image], 1), image), [1.0], atol=1e-6)


def gradient(function, value, reduced=True):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the gradient needs TensorFlow's tape")
    variable = tf.Variable(value)
    with tf.GradientTape() as tape:
        result = tf.reduce_sum(function(variable)) if reduced else function(variable)
    return result.numpy(), tape.gradient(result, variable).numpy()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 0), (0, 255), (255, 255), (0, "texture"), ("texture", 255), ("texture", "negative"), ("half", "texture")],
)
def test_mef_ssim_is_finite_on_flat_and_saturated_images(first, second, dtype):
    texture = np.random.default_rng(0).uniform(0, 255, (44, 44))
    images = {"texture": texture, "negative": 255 - texture, "half": np.where(np.arange(44) < 22, 255, texture)}
    exposures = np.stack([np.full((44, 44), 1.0) * images.get(name, name) for name in (first, second)])
    for fused in (exposures.mean(axis=0), np.full((44, 44), 255.0), texture):
        value, slope = gradient(lambda x: losses.mef_ssim(exposures[None].astype(dtype), x), fused[None].astype(dtype))
        assert np.isfinite(value) and value <= 1 + 1e-12
        assert np.isfinite(slope).all() and slope.dtype == dtype


def on_a_gpu(monkeypatch):
    """From here on, losses compute as on a GPU."""
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])


def saturated(side=44):
    """Images [side, side] of gray 0..255: flat ones, without texture but for a pixel, nearly saturated ones, and texture."""
    texture = np.random.default_rng(0).uniform(0, 255, (side, side))
    images = {str(level): np.full((side, side), float(level)) for level in (0, 100.3, 255)}
    # At different places: of a structure and its exact negative, MEF-SSIM is not defined.
    for place, (level, other) in enumerate(((0, 1), (128, 129), (255, 254)), start=side // 2):
        images[f"one pixel of {level}"] = np.full((side, side), float(level))
        images[f"one pixel of {level}"][place, place] = other
    images |= {"nearly white": 254.9 + 1e-4 * texture, "nearly black": 1e-4 * texture, "texture": texture}
    return images | {"half": np.where(np.arange(side) < side // 2, 255, texture)}


def close(first, second):
    """Whether values and gradients in float32 are those in float64."""
    np.testing.assert_allclose(second[0], first[0], atol=1e-6)
    # A gradient of 1e-9 is that of an image which is, but for rounding, as it should be.
    np.testing.assert_allclose(second[1], first[1], atol=1e-3 * np.abs(first[1]).max() + 2e-9)


def test_mef_ssim_in_float32_is_that_in_float64(monkeypatch):
    images = list(saturated().values())
    pairs = np.float32([pair for step in (1, 2) for pair in zip(images, images[step:] + images[:step], strict=True)])
    for fused in (pairs.mean(axis=1), pairs[:, 1]):
        with monkeypatch.context() as patch:
            expected = gradient(lambda x: losses.mef_ssim(pairs, x), fused, reduced=False)
            on_a_gpu(patch)
            found = gradient(lambda x: losses.mef_ssim(pairs, x), fused, reduced=False)
        assert (expected[0].dtype, found[0].dtype) == ("float64", "float32")
        for number in range(len(pairs)):
            close([x[number] for x in expected], [x[number] for x in found])


@pytest.mark.parametrize(("first", "val_range"), [*((name, 1.0) for name in saturated()), ("texture", 255.0)])
def test_ssim_in_float32_is_that_in_float64(first, val_range, monkeypatch):
    first = np.float32(saturated(24)[first])[None, ..., None]
    second = np.float32(list(saturated(24).values()))[..., None]

    def similarity(x):
        return losses.ssim_and_contrast(ops.broadcast_to(first, x.shape), x, val_range)[0]

    expected = gradient(similarity, second)
    on_a_gpu(monkeypatch)
    found = gradient(similarity, second)
    assert found[0].dtype == "float32"
    close(expected, found)


def test_losses_in_float32_are_those_in_float64(monkeypatch):
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.random((1, 4, 4, 1)), np.ones((1, 16, 16, 1))) * (0.7 + 0.3 * rng.random((1, 64, 64, 1)))
    under, over = (np.float32(255 * np.clip(coarse * factor, 0, 1)) for factor in (0.3, 3))
    exposures, mask = np.stack([under, over], axis=1).repeat(3, axis=-1) / 255, np.float32(under > 30)
    functions = {
        "hyperp_mb": lambda x: losses.multi_task(x, under, (mask, mask * under, 0.3), (1 - mask, (1 - mask) * over, 0))[0],
        "sunnerli": lambda x: losses.sunnerli(under / 127.5 - 1, over / 127.5 - 1, x / 127.5 - 1)[0],
        "pyramid": lambda x: losses.pyramid(exposures, ops.repeat(x, 3, axis=-1) / 255)[0],
    }
    expected = {name: gradient(function, (under + over) / 2) for name, function in functions.items()}
    on_a_gpu(monkeypatch)
    for name, function in functions.items():
        value, slope = gradient(function, (under + over) / 2)
        assert value.dtype == "float32"
        np.testing.assert_allclose(value, expected[name][0], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(slope, expected[name][1], atol=1e-5 * np.abs(expected[name][1]).max(), err_msg=name)


def test_scores_are_the_same_on_a_gpu(monkeypatch):
    rng = np.random.default_rng(0)
    exposures, fused = rng.integers(0, 256, (3, 48, 50, 3), np.uint8), rng.integers(0, 256, (48, 50, 3), np.uint8)
    expected = losses.mef_ssim_score(exposures, fused)
    on_a_gpu(monkeypatch)
    assert losses.mef_ssim_score(exposures, fused) == expected


def test_mef_ssim_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    exposures, fused = rng.uniform(0, 255, (1, 3, 44, 44)), rng.uniform(0, 255, (1, 44, 44))
    direction = rng.standard_normal(fused.shape)
    _, slope = gradient(lambda x: losses.mef_ssim(exposures, x), fused)
    step = 1e-3
    ahead, behind = (losses.mef_ssim(exposures, fused + sign * step * direction)[0] for sign in (1, -1))
    # Central difference: its own error is about step**2.
    np.testing.assert_allclose(np.sum(slope * direction), (ahead - behind) / (2 * step), rtol=1e-4)


def test_mef_ssim_is_the_same_inside_a_compiled_function():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    exposures, fused = rng.uniform(0, 255, (2, 2, 45, 47)), rng.uniform(0, 255, (2, 45, 47))
    compiled = tf.function(losses.mef_ssim)
    np.testing.assert_allclose(compiled(exposures, fused), losses.mef_ssim(exposures, fused), atol=1e-12)


@pytest.mark.parametrize(
    ("exposures", "fused", "message"),
    [
        ((1, 2, 43, 60), (1, 43, 60), "44 3 43, 60"),
        ((1, 2, 60, 60), (1, 60, 61), "60, 60 60, 61"),
        ((1, 1, 60, 60), (1, 60, 60), "2 1, 1, 60, 60"),
        ((2, 60, 60), (1, 60, 60), "2 2, 60, 60"),
    ],
)
def test_mef_ssim_refuses_what_does_not_fit(exposures, fused, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        losses.mef_ssim(np.zeros(exposures), np.zeros(fused))


@pytest.mark.parametrize("scene", [*SMALL, *(pytest.param(scene, marks=pytest.mark.slow) for scene in LARGE)])
def test_mef_ssim_score_equals_the_benchmark(golden, reference, scene):
    scores = json.loads((golden.FOLDER / "mef_ssim.json").read_text())["scenes"][scene]
    bgr = [cv2.imread(str(next((reference / "mefb_dev" / scene).glob(f"*_{letter}.*")))) for letter in "AB"]
    first, second = exposures = [image[..., ::-1] for image in bgr]
    # The stored scores come from BGR images; Mertens' contrast weight is not the same for RGB.
    mertens = cv2.createMergeMertens().process(bgr)[..., ::-1]
    results = {
        "mean": ((first.astype(int) + second + 1) // 2, 1e-5),
        "A": (first, 1e-5),
        "B": (second, 1e-5),
        # Other releases of OpenCV round some pixels differently.
        "mertens": (np.clip(np.rint(mertens * 255), 0, 255), 1e-3),
    }
    assert results.keys() == scores.keys()
    for name, (fused, tolerance) in results.items():
        score = losses.mef_ssim_score(exposures, fused)
        np.testing.assert_allclose(score, scores[name]["score"], atol=tolerance, err_msg=name)
    gray = np.stack([losses.rounded_gray(image) for image in (*exposures, results["mean"][0])])
    scales = losses.mef_ssim_scales(gray[None, :-1], gray[-1:])
    np.testing.assert_allclose(scales[0], scores["mean"]["scales"], atol=1e-5)


def test_gray_of_the_score_is_rounded_half_up():
    # 0.298936021293775 * 255 = 76.23, 0.114020904255103 * 255 = 29.08, luma of (1, 0, 2) = 0.527, (0, 0, 4) = 0.456
    image = np.array([[[255, 0, 0], [0, 0, 255], [1, 0, 2], [0, 0, 4], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(losses.rounded_gray(image), [[76, 29, 1, 0, 255]])
    np.testing.assert_array_equal(losses.rounded_gray(np.array([[0.5, 1.49, 254.5]])), [[1, 1, 255]])


def test_mef_ssim_score_depends_on_gray_alone():
    rng = np.random.default_rng(0)
    exposures, fused = rng.integers(0, 256, (3, 48, 50, 3)), rng.integers(0, 256, (48, 50, 3))
    grays = [np.asarray(losses.rounded_gray(image)) for image in (*exposures, fused)]
    assert losses.mef_ssim_score(exposures, fused) == losses.mef_ssim_score(grays[:3], grays[3])


@pytest.mark.parametrize(
    ("sizes", "fused", "message"),
    [
        ([(50, 50)], (50, 50), "2 1"),
        ([(50, 50), (50, 51)], (50, 50), "50, 50 50, 51"),
        ([(40, 50), (40, 50)], (40, 50), "44"),
    ],
)
def test_mef_ssim_score_refuses_what_does_not_fit(sizes, fused, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        losses.mef_ssim_score([np.zeros(size) for size in sizes], np.zeros(fused))


@helpers.golden_cases("msssim")
def test_ssim_and_msssim_equal_the_original(golden, golden_case):
    first, second = (x.transpose(0, 2, 3, 1) for x in golden.inputs(golden_case).values())
    mixed = np.float32(0.75) * first + np.float32(0.25) * second
    corner = (slice(None), slice(0, 96), slice(0, 120))
    results = {
        "ssim": losses.ssim_and_contrast(first, second)[0],
        "msssim": losses.msssim(first, second),
        "ssim_mixed": losses.ssim_and_contrast(mixed, first)[0],
        "msssim_mixed": losses.msssim(mixed, first),
        "ssim_dark": losses.ssim_and_contrast(np.float32(0.4) * mixed, first)[0],
        "msssim_dark": losses.msssim(np.float32(0.4) * mixed, first),
        "msssim_half": losses.msssim(np.float32(0.55) * mixed, first),
        "msssim_small": losses.msssim(mixed[corner], first[corner]),
    }
    expected = golden.outputs(golden_case)
    # Options of the original that no training program uses.
    assert results.keys() == expected.keys() - {"msssim_mixed_unnormalised", "msssim_fixed_range"}
    for name, value in results.items():
        # The original computes in float32 with float32 taps; the manifest puts that at up to 6e-6 from float64.
        np.testing.assert_allclose(value, expected[name], atol=1.2e-5, err_msg=name)


@pytest.mark.parametrize("similarity", [losses.ssim_and_contrast, losses.msssim])
def test_an_image_resembles_itself(similarity):
    image = np.random.default_rng(0).uniform(0, 255, (2, 64, 80, 3)).astype("float32")
    np.testing.assert_allclose(similarity(image, image), 1, atol=1e-12)


def test_a_negative_minimum_widens_the_guessed_range_by_one():
    rng = np.random.default_rng(0)
    first, second = rng.uniform(-1, 1, (1, 32, 32, 1)), rng.uniform(-1, 1, (1, 32, 32, 1))
    guessed, expected = losses.ssim_and_contrast(first, second), losses.ssim_and_contrast(first, second, val_range=2)
    np.testing.assert_allclose(guessed, expected, atol=1e-12)


@helpers.golden_cases("esbn_losses")
@pytest.mark.parametrize(
    ("loss", "name", "truth"),
    [(keras.losses.MeanSquaredError(), "low", "gt_LDR_low"), (lambda truth, x: losses.mu_law_l1(x, truth), "hdr", "gt_HDR")],
    ids=["low", "hdr"],
)
def test_esbn_losses_equal_the_original(golden, golden_case, loss, name, truth):
    drawn, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    output = tf.Variable(drawn[f"output_{name}"])
    with tf.GradientTape() as tape:
        found = loss(drawn[truth], output)
    gradient = tape.gradient(found, output)
    # The same float32 formula; sums in another order.
    np.testing.assert_allclose(found, expected[f"loss_{name}"], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[f"loss_{name}_gradient"], rtol=1e-5, atol=1e-9)


@helpers.golden_cases("esbn_losses")
def test_mu_law_signed_equals_the_original(golden, golden_case):
    drawn, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    for values, toned in (("output_hdr", "output_hdr_tm"), ("gt_HDR", "gt_hdr_tm")):
        # A few float32 ulps.
        np.testing.assert_allclose(losses.mu_law_signed(drawn[values]), expected[toned], rtol=0, atol=5e-7)


def test_mu_law_by_hand():
    # Radiance 0, 1 / 5000 and 1: log(1), log(2) and log(5001) over log(5001).
    found = losses.mu_law_signed(np.array([-1, 2 / 5000 - 1, 1]))
    np.testing.assert_allclose(found, [-1, 2 * np.log(2) / np.log(5001) - 1, 1], rtol=1e-5)
    assert float(losses.mu_law_l1(np.ones((1, 8, 8, 3)), -np.ones((1, 8, 8, 3)))) == pytest.approx(2)
    assert float(losses.mu_law_l2(np.ones((1, 8, 8, 3)), -np.ones((1, 8, 8, 3)))) == pytest.approx(4)


def test_merge_by_hand():
    rng = np.random.default_rng(0)
    truth, radiance, denoised = (rng.random((2, 6, 5, 3)) * 5 for _ in range(3))
    batch = {"hdr": truth, "exposures": np.array([[0.25, 1, 4], [1, 2, 4]])}

    def tone_mapped(values):  # 1 is where the shortest exposure clips
        return np.log1p(5000 * np.clip(values * np.array([0.25, 1])[:, None, None, None], 0, 1)) / np.log(5001)

    errors = [tone_mapped(values) - tone_mapped(truth) for values in (radiance, denoised)]
    rmse = [np.sqrt(np.mean(error**2, axis=(1, 2, 3))).mean() for error in errors]
    found = losses.merge(batch, {"radiance": radiance, "denoised": denoised})
    assert float(found["rmse"]) == pytest.approx(rmse[1], rel=1e-5)
    assert float(found["loss"]) == pytest.approx(sum(rmse) + sum(np.abs(error).mean() / 2 for error in errors), rel=1e-5)
    perfect = losses.merge(batch, {"radiance": truth, "denoised": truth})
    assert float(perfect["loss"]) == pytest.approx(2e-4)  # the root of what keeps its gradient finite


def nhwc(arrays):
    return {name: array.transpose(0, 2, 3, 1) for name, array in arrays.items()}


@helpers.golden_cases("deepfuse_sunnerli_loss")
def test_sunnerli_s_loss_equals_the_original(golden, golden_case):
    drawn, expected = nhwc(golden.inputs(golden_case)), golden.outputs(golden_case)
    value, slope = gradient(lambda fused: losses.sunnerli(drawn["y1"], drawn["y2"], fused)[0], drawn["yf"])
    _, target = losses.sunnerli(drawn["y1"], drawn["y2"], drawn["yf"])
    near, _ = losses.sunnerli(drawn["y1"], drawn["y2"], 0.9 * target + 0.1 * drawn["yf"])
    swapped, target_swapped = losses.sunnerli(drawn["y2"], drawn["y1"], drawn["yf"])
    # Float64 here; the manifest puts the original's float32 at up to 3.7e-8, 7.6e-7 and 1.5e-9 from it.
    for found, name in ((value, "loss"), (near, "loss_near"), (swapped, "loss_swapped")):
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-7, err_msg=name)
    for found, name in ((target, "y_hat"), (target_swapped, "y_hat_swapped")):
        np.testing.assert_allclose(found, expected[name].transpose(0, 2, 3, 1), rtol=0, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(slope, expected["loss_gradient_yf"].transpose(0, 2, 3, 1), rtol=0, atol=3e-9)


def test_sunnerli_s_target_is_a_fixed_mean():
    rng = np.random.default_rng(0)
    dark, bright = rng.uniform(-1, -0.5, (2, 16, 16, 1)), rng.uniform(-0.4, 0.4, (2, 16, 16, 1))  # dark: the larger squares
    np.testing.assert_allclose(losses.sunnerli(dark, bright, dark)[1], (3 * dark + bright) / 4, atol=1e-6)  # norms + 1e-8
    np.testing.assert_allclose(losses.sunnerli(bright, dark, dark)[1], (5 * dark - bright) / 4, atol=1e-6)
    loss, target = losses.sunnerli(dark, dark, dark)
    assert np.isfinite(float(loss)) and np.abs(target - dark).max() < 1e-6


@helpers.golden_cases("hyperp_mb_loss")
def test_hyperp_mb_s_loss_equals_the_original(golden, golden_case):
    drawn, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    row, column = np.mgrid[:256, :256]
    images = [
        drawn["noise1"] // 8 + 60 * row // 256 + 40 * column // 256,
        20 + drawn["noise_target"] // 4 + 80 * row // 256 + 80 * column // 256,
        110 + drawn["noise2"] // 6 + 40 * row // 256 + 60 * column // 256,
    ]
    bracket = np.stack([np.dstack([image] * 3) for image in images]).astype(np.uint8)
    example = examples.hyperp_mb(bracket, np.random.default_rng(0), 256)
    batch = {name: value[None] for name, value in example.items()}
    fused = np.float32(0.75) * batch["target"] + np.float32(0.25) * drawn["noise_fused"].transpose(0, 2, 3, 1)

    for side, number in (("low", 1), ("high", 2)):
        np.testing.assert_allclose(example[f"{side}_mask"][::32, :, 0], expected[f"mask_{side}_rows"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(example[side][::32, :, 0], expected[f"{side}_target_rows"], rtol=0, atol=1e-4)  # of 255
        np.testing.assert_allclose(example[f"{side}_mask"].mean(), expected[f"mask_{side}_mean"], rtol=1e-5)
        np.testing.assert_allclose(example[side].mean(), expected[f"{side}_target_mean"], rtol=1e-5)
        np.testing.assert_allclose(example[f"{side}_lambda"], expected[f"lambda{number}"], rtol=1e-6)
    low, high = ([batch[f"{side}_mask"], batch[side], batch[f"{side}_lambda"]] for side in ("low", "high"))
    tasks = {"med": (1, batch["target"]), "low": low[:2], "high": high[:2]}
    for name, (mask, target) in tasks.items():
        pixel, ssim = losses.pixel_and_ssim(fused * mask, target)
        np.testing.assert_allclose(pixel, expected[f"pixel_loss_value_{name}"], rtol=1e-5)
        # As in msssim above: the original's float32 is up to 6e-6 from float64.
        np.testing.assert_allclose(ssim, expected[f"ssim_loss_value_{name}"], rtol=0, atol=1.2e-5)
    value, slope = gradient(lambda x: losses.multi_task(x, batch["target"], low, high)[0], fused)
    # Six terms, of which three times 1e-5 of SSIM count a thousandfold, some of them times lambda.
    np.testing.assert_allclose(value, expected["total_loss"], rtol=0, atol=0.03)
    corner = expected["gradient_fused_corner"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(slope[:, :32, :40], corner, rtol=0, atol=2e-4 * np.abs(corner).max())
    _, pixels, ssims = losses.multi_task(fused, batch["target"], low, high)
    np.testing.assert_allclose(pixels, sum(expected[f"pixel_loss_value_{name}"] for name in tasks), rtol=1e-5)
    np.testing.assert_allclose(ssims, sum(expected[f"ssim_loss_value_{name}"] for name in tasks), rtol=1e-4)


@helpers.golden_cases("selfhdr_losses")
def test_selfhdr_s_losses_equal_the_original(golden, golden_case):
    drawn, expected = nhwc(golden.inputs(golden_case)), golden.outputs(golden_case)
    output, hdr, ldr = drawn["output"], drawn["linear1"], drawn["ldr1"]
    label = hdr * (np.float32(0.5) + drawn["label_noise"])
    structure = label * (np.float32(0.4) + np.float32(1.2) * drawn["structure_noise"])

    # Float32 on both sides; no pixel is near the threshold of a mask.
    terms = losses.selfhdr_structure(output, label, hdr, ldr)
    np.testing.assert_allclose(terms, [expected["stage1.StruExpan"], expected["stage1.StruPrese"]], rtol=1e-6)
    total, slope = gradient(lambda x: sum(losses.selfhdr_structure(x, label, hdr, ldr)), output)
    np.testing.assert_allclose(total, expected["stage1.Total"], rtol=1e-6)
    _same_slope(slope, expected["stage1.gradient_output"])
    color, slope = gradient(lambda x: losses.selfhdr_color(x, label, structure), output)
    np.testing.assert_allclose(color, expected["stage2.Color"], rtol=1e-6)
    _same_slope(slope, expected["stage2.gradient_output"])

    masks = {"stage1": losses.agrees_with_reference(label, hdr, ldr), "stage2": losses.agrees_with_structure(label, structure)}
    for stage, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[f"{stage}.label_mask"].transpose(0, 2, 3, 1), err_msg=stage)
    toned = expected["range_compressor"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(losses.mu_law(drawn["hdr0"]), toned, rtol=0, atol=2.5e-7)  # two float32 ulps


def _same_slope(found, expected):
    expected = expected.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_selfhdr_s_losses_by_hand():
    dark, bright = np.full((1, 8, 8, 3), 1 / 5000), np.ones((1, 8, 8, 3))  # log(2) / log(5001) and 1 after tone mapping
    apart = 1 - np.log(2) / np.log(5001)
    np.testing.assert_allclose(losses.well_exposed(np.array([0, 0.25, 0.5, 0.75, 1])), [0, 0.5, 1, 0.5, 0])
    # The label differs from a reference in the middle of its range; a reference at the end of its range is not compared.
    np.testing.assert_allclose(losses.selfhdr_structure(bright, bright, dark, bright / 2), [0, 4 * apart], rtol=1e-5)
    np.testing.assert_allclose(losses.selfhdr_structure(dark, bright, dark, bright), [apart, 0], rtol=1e-5)
    np.testing.assert_allclose(losses.selfhdr_color(dark, bright, bright), apart, rtol=1e-5)
    assert losses.selfhdr_color(dark, bright, dark) == 0


def test_perceptual_by_hand():
    dark, bright = np.full((1, 8, 8, 3), 1 / 5000), np.ones((1, 8, 8, 3))
    apart = 1 - np.log(2) / np.log(5001)
    features = lambda x: (x, 2 * x, x[:, ::2])  # noqa: E731
    np.testing.assert_allclose(losses.perceptual(dark, bright, features), (1 + 2 + 2) / 4 * apart, rtol=1e-5)
    assert losses.perceptual(dark, dark, features) == 0
    with pytest.raises(ValueError, match="zip"):
        losses.perceptual(dark, bright, lambda x: [x])
