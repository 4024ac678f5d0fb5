"""Scores of fused images: what each model gives, the figures, references, and models that cannot run."""

import json
import math
import shutil
import subprocess

import cv2
import keras
import numpy as np
import pytest

from hdr_tf import losses, metrics, systems, weights
from hdr_tf.evaluation import color, evaluate, fusion
from hdr_tf.fusion import pipeline
from hdr_tf.image.depth import to_depth
from hdr_tf.io import image_files
from hdr_tf.synthesis import writer
from tests import helpers

FUSION = ("dark_chroma", "dark_chroma_ratio", "dark_chroma_111", "dark_chroma_ratio_111")


@pytest.fixture
def two(tmp_path):
    return helpers.write_two_scenes(tmp_path / "scenes")


@pytest.fixture
def folder(tmp_path):
    """One scene in each of the shapes."""
    return helpers.write_scenes_of_all_shapes(tmp_path / "scenes")


def test_figures_are_those_of_the_written_images(two, tmp_path):
    output = tmp_path / "out"
    report = evaluate.evaluate(two, output, ["mertens", "mertens_111", "mean"])
    assert not report["errors"] and not report["warnings"]
    exposures = helpers.photographs((0.1, 0.6, 2.5))
    bgr = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in exposures]
    expected = {
        "mean": np.floor(np.mean(exposures, axis=0) + 0.5),
        "mertens": np.clip(np.rint(255 * cv2.createMergeMertens().process(bgr)[..., ::-1]), 0, 255),
        "mertens_111": np.clip(np.rint(255 * cv2.createMergeMertens(1, 1, 1).process(bgr)[..., ::-1]), 0, 255),
    }
    row = report["scenes"]["many"]
    assert (row["exposures"], row["size"]) == (3, [64, 56])
    lab = {}
    for model, pixels in expected.items():
        fused = image_files.read_image(output / "many" / f"{model}.png").pixels
        np.testing.assert_array_equal(fused, pixels)
        lab[model] = cv2.cvtColor(np.float32(fused) / 255, cv2.COLOR_RGB2Lab)
    for model, pixels in expected.items():
        scores = row["scores"][model]
        assert list(scores) == list(fusion.METRICS)
        assert scores["mef_ssim"] == losses.mef_ssim_score(exposures, pixels)
        assert scores["mef_ssim_1"] == losses.mef_ssim_score(exposures, pixels, scales=1)
        assert scores["q_abf"] == metrics.q_abf(exposures, pixels)
        assert scores["clipped"] == np.mean(((pixels == 0) | (pixels == 255)).any(axis=2))
        assert scores["psnr"] is scores["ssim"] is scores["psnr_mu"] is None
        # OpenCV's CIELAB is another implementation, by tables: up to 0.4 apart in a pixel.
        lightness, chroma = lab[model][..., 0], np.hypot(lab[model][..., 1], lab[model][..., 2])
        assert scores["lightness"] == pytest.approx(lightness.mean(), abs=0.2)
        assert scores["chroma"] == pytest.approx(chroma.mean(), abs=0.2)
        for judge, suffix in (("mertens", ""), ("mertens_111", "_111")):
            dark = lab[judge][..., 0] < 25
            assert dark.sum() > 30
            theirs = np.hypot(lab[judge][..., 1], lab[judge][..., 2])[dark].mean()
            assert scores[f"dark_chroma{suffix}"] == pytest.approx(chroma[dark].mean(), abs=0.2)
            assert scores[f"dark_chroma_ratio{suffix}"] == pytest.approx(chroma[dark].mean() / theirs, abs=0.02)
    assert row["scores"]["mertens"]["dark_chroma_ratio"] == row["scores"]["mertens_111"]["dark_chroma_ratio_111"] == 1
    for model, mean in report["means"].items():
        values = [row["scores"][model]["q_abf"] for row in report["scenes"].values()]
        assert mean["scenes"] == 2 and mean["q_abf"] == pytest.approx(np.mean(values), rel=1e-12)


def test_a_bright_and_gray_scene_has_no_dark_chroma(tmp_path):
    (tmp_path / "scenes").mkdir()
    for letter, pixels in zip("AB", helpers.photographs((1.0, 1.2)), strict=True):
        image_files.write_image(tmp_path / "scenes" / f"x_{letter}.png", 128 + pixels[..., 1] // 2)
    report = evaluate.evaluate(tmp_path / "scenes", tmp_path / "out", ["mean"])
    scores = report["scenes"]["x"]["scores"]["mean"]
    assert [scores[key] for key in FUSION] == [None] * 4
    assert scores["chroma"] == pytest.approx(0, abs=0.05) and report["means"]["mean"]["dark_chroma_ratio"] is None
    assert "dark" not in (tmp_path / "out" / "scores.txt").read_text()


def test_references(folder, tmp_path):
    truths = folder / "truth"
    truths.mkdir()
    (tmp_path / "plain").mkdir()
    fused = fusion._mean(helpers.photographs((0.1, 0.6, 2.5)))
    image_files.write_image(truths / "many.tif", to_depth(fused, 16))
    darker = fusion._mean(helpers.photographs((0.3, 1.8), seed=2)) // 2
    image_files.write_image(truths / "loose_1.png", darker)
    image_files.write_image(truths / "Mefb.png", fused[:40])
    report = evaluate.evaluate(folder, tmp_path / "out", ["mean"], references=truths)
    (warning,), (error,) = report["warnings"], report["errors"]
    assert helpers.mentioned("stacked", warning) and helpers.mentioned("Mefb 64 x 56 64 x 40", error)
    same, other = (report["scenes"][name]["scores"]["mean"] for name in ("many", "loose_1"))
    assert same["psnr"] == same["psnr_mu"] == math.inf and same["ssim"] == pytest.approx(1, abs=1e-12)
    result = image_files.read_image(tmp_path / "out" / "loose_1" / "mean.png").pixels
    assert other["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((np.float64(result) - darker) ** 2)))
    tones = [np.log(1 + 5000 * (pixels / 255) ** 2.2) / np.log(5001) for pixels in (result, darker)]
    assert other["psnr_mu"] == pytest.approx(-10 * np.log10(np.mean((tones[0] - tones[1]) ** 2)), abs=1e-3)  # float32
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["scenes"]["many"]["scores"]["mean"]["psnr"] == "Infinity"
    with pytest.raises(ValueError, match=helpers.mentions("plain Mefb.png")):
        evaluate.evaluate(folder, tmp_path / "other", ["mean"], references=tmp_path / "plain")


def test_colours_of_a_synthetic_bracket(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "hdr").mkdir()
    image_files.write_radiance(tmp_path / "hdr" / "one.exr", np.exp(rng.normal(0, 1, (40, 60, 3))).astype(np.float32))
    writer.write_brackets(tmp_path / "scenes", [tmp_path / "hdr"], 1, 48, (3, 3), num_processes=1)
    report = evaluate.evaluate(tmp_path / "scenes", tmp_path / "out", ["mean"])
    assert not report["errors"]
    scores = report["scenes"]["001"]["scores"]["mean"]
    fused = image_files.read_image(tmp_path / "out" / "001" / "mean.png").pixels / 255
    camera = writer.read_simulated(tmp_path / "scenes" / "001")
    own = color.Comparison(fused, color.ideal(*camera, color.luma(fused)))
    assert scores["color_error"] == pytest.approx(own.error(...), abs=1e-3) and scores["color_error"] > 1
    assert scores["chroma_ratio"] == pytest.approx(own.chroma_ratio(...), abs=1e-3)
    exposures = np.stack([image_files.read_image(path).pixels for path in sorted((tmp_path / "scenes" / "001").glob("*.png"))])
    luma = color.luma(pipeline.fuse(list(exposures), keep_order=True) / 255)
    common = color.Comparison(color.at_luma(fused, luma), color.ideal(*camera, luma))
    assert scores["color_error_common"] == pytest.approx(common.error(...), abs=1e-3)
    shown = color.classes(exposures / 255)["shown"]
    assert 0 < shown.mean() < 1 and scores["hue_error_shown"] == pytest.approx(own.hue_error(shown), abs=1e-2)
    assert scores["color_error_held_out"] is None
    (tmp_path / "scenes" / "001" / "camera.json").write_text("{}")
    report = evaluate.evaluate(tmp_path / "scenes", tmp_path / "other", ["mean"])
    assert len(report["errors"]) == 1 and helpers.mentioned("001 camera.json", report["errors"][0])


def test_colours_of_a_held_out_exposure(tmp_path):
    """The bracket's darkest and brightest are fused, and the middle one shows the colours: those of the mean, made paler."""
    dark, bright = (pixels // 2 + 60 for pixels in helpers.photographs((0.3, 0.8)))
    middle = fusion._mean([dark, bright])
    gray = color.luma(middle)[..., None]
    paler = np.uint8(np.rint(gray + 0.5 * (middle - gray)))
    (tmp_path / "scenes" / "x").mkdir(parents=True)
    for number, pixels in enumerate((dark, paler, bright)):
        image_files.write_image(tmp_path / "scenes" / "x" / f"{number}.png", pixels)
    report = evaluate.evaluate(tmp_path / "scenes", tmp_path / "out", ["mean"])
    scores = report["scenes"]["x"]["scores"]["mean"]
    assert not report["errors"] and scores["color_error"] is None
    assert scores["chroma_ratio_held_out"] == pytest.approx(2, rel=0.1)
    assert scores["chroma_ratio_held_out_common"] == pytest.approx(2, rel=0.15)
    own = color.Comparison(middle / 255, color.at_luma(paler / 255, color.luma(middle / 255)))
    assert scores["color_error_held_out"] == pytest.approx(own.error(...), rel=1e-3)
    assert (scores["a_held_out"], scores["b_held_out"]) == pytest.approx(own.shift(...), abs=1e-3)


def test_networks_run_as_for_users_and_weights_may_be_replaced(two, tmp_path):
    keras.utils.set_random_seed(0)
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "deepfuse_official.weights.h5"
    weights.save_weights(systems.build("deepfuse_official"), path)
    models = ["pyramid", "deepfuse_official"]
    shutil.rmtree(two / "many")
    report = evaluate.evaluate(two, tmp_path / "out", models, weights=tmp_path / "weights")
    assert not report["errors"]
    pair = [two / "Mefb" / "Mefb_A.png", two / "Mefb" / "mefb_b.PNG"]
    for model, file in (("pyramid", None), ("deepfuse_official", path)):
        written = image_files.read_image(tmp_path / "out" / "Mefb" / f"{model}.png").pixels
        np.testing.assert_array_equal(written, pipeline.fuse(pair, model, file))
    (path.parent / "pyramid.weights.h5").write_bytes(path.read_bytes())
    report = evaluate.evaluate(two, tmp_path / "other", ["pyramid", "mean"], weights=tmp_path / "weights")
    assert list(report["means"]) == ["mean"] and len(report["errors"]) == 1
    assert report["errors"][0].startswith(f"pyramid: {path.parent / 'pyramid.weights.h5'}")


def test_models_that_cannot_run_have_a_line(two, tmp_path, monkeypatch):
    monkeypatch.setattr(fusion.shutil, "which", lambda name: None)
    models = ["enfuse", "deepfuse_sunnerli", "mean"]
    report = evaluate.evaluate(two, tmp_path / "out", models)
    assert list(report["means"]) == ["mean"]
    needed = ("apt install enfuse", "--weights deepfuse_sunnerli.weights.h5 hdr-tf convert")
    for line, model, words in zip(report["errors"], models[:2], needed, strict=True):
        assert line.startswith(f"{model}: ") and helpers.mentioned(words, line)
    assert set(evaluate.names("fusion")) - set(evaluate.available("fusion")) == {"enfuse", "deepfuse_sunnerli"}
    with pytest.raises(ValueError, match=helpers.mentions("enfuse")):
        evaluate.evaluate(two, tmp_path / "none", ["enfuse"])
    assert not (tmp_path / "none").exists()


def test_enfuse_is_called_with_the_exposures(two, tmp_path, monkeypatch):
    def run(words, **arguments):
        program, output, *inputs = words
        assert program == "/bin/enfuse" and output.startswith("--output=")
        images = [image_files.read_image(path).pixels for path in inputs]
        assert all(a.mean() < b.mean() for a, b in zip(images, images[1:], strict=False))
        if len(images) == 3:
            return subprocess.CompletedProcess(words, 1, "", "enfuse: loading\nenfuse: out of memory\n")
        image_files.write_image(output.removeprefix("--output="), images[1])
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(fusion.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(fusion.subprocess, "run", run)
    report = evaluate.evaluate(two, tmp_path / "out", ["enfuse"])
    (error,) = report["errors"]
    assert error.startswith("many: ") and error.endswith("enfuse: out of memory")
    bright = image_files.read_image(two / "Mefb" / "Mefb_A.png").pixels
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "out" / "Mefb" / "enfuse.png").pixels, bright)
