"""Scores of fused pictures: brackets of all shapes, the models, figures and files, the report, and what goes wrong."""

import csv
import html.parser
import json
import math
import shutil
import subprocess

import cv2
import keras
import numpy as np
import pytest
from skimage import data

from hdr_tf import fusing, fusion_evaluation, losses, metrics, report, weights
from hdr_tf.image import brackets, files
from hdr_tf.image.depth import to_depth
from hdr_tf.models import build
from tools import evaluate

CLASSICAL = ["mertens", "mertens_111", "mean"]
REPORTS = {"report.html", "scores.csv", "scores.json", "scores.txt"}
FUSION = ("dark_chroma", "dark_chroma_ratio", "dark_chroma_111", "dark_chroma_ratio_111")


def photograph(seed=0, height=56, width=64):
    picture = data.chelsea()[40 + 8 * seed : 40 + 8 * seed + 2 * height : 2, 80 : 80 + 2 * width : 2]
    return picture.astype(np.float32)


def expose(gains, seed=0, **size):
    """Exposures of a scene with colours down to black."""
    return [np.uint8(np.clip(photograph(seed, **size) * gain, 0, 255)) for gain in gains]


def write_two(folder, name="many"):
    """A scene of three exposures and one of MEFB."""
    for scene in (name, "Mefb"):
        (folder / scene).mkdir(parents=True)
    for number, pixels in enumerate(expose((0.1, 0.6, 2.5))):
        files.write_picture(folder / name / f"{number}.png", pixels)
    bright, dark = expose((2.0, 0.2), seed=1)
    files.write_picture(folder / "Mefb" / "Mefb_A.png", bright)
    files.write_picture(folder / "Mefb" / "mefb_b.PNG", dark)
    files.write_picture(folder / "Mefb" / "IMG_2.png", dark)
    return folder


@pytest.fixture
def two(tmp_path):
    return write_two(tmp_path / "scenes")


@pytest.fixture
def folder(two):
    """One scene in each of the shapes."""
    for letter, pixels in zip("AB", expose((0.3, 1.8), seed=2), strict=True):
        files.write_picture(two / f"loose_1_{letter}.png", np.uint16(pixels) * 257)
    files.write_picture(two / "stacked.jpg", np.vstack(expose((0.3, 1.8), seed=3)), quality=100)
    return two


NAME, COMMAND = "<b0ld> & co", "python evaluate.py --x='<b0ld>'"


@pytest.fixture(scope="module")
def classical(tmp_path_factory):
    """The folder of results of the classical models, and the report."""
    folder = tmp_path_factory.mktemp("classical")
    output = folder / "made" / "out"
    return output, fusion_evaluation.evaluate(write_two(folder / "scenes", NAME), output, CLASSICAL, command=COMMAND)


def names(folder):
    return {path.name for path in folder.iterdir()}


# Brackets


def test_brackets_of_all_shapes(folder):
    found, lines = brackets.find_brackets(folder)
    assert not lines
    assert {bracket.name: [path.name for path in bracket.paths] for bracket in found} == {
        "Mefb": ["Mefb_A.png", "mefb_b.PNG"],
        "loose_1": ["loose_1_A.png", "loose_1_B.png"],
        "many": ["0.png", "1.png", "2.png"],
        "stacked": ["stacked.jpg"],
    }
    for bracket in found:
        pictures = brackets.read_bracket(bracket)
        assert [picture.pixels.shape for picture in pictures] == [(56, 64, 3)] * (3 if bracket.name == "many" else 2)


@pytest.mark.parametrize("stack", [np.vstack, np.hstack])
@pytest.mark.parametrize(("height", "width"), [(56, 64), (90, 48)])
@pytest.mark.parametrize("depth", [8, 16])
def test_halves_are_cut_where_they_meet(stack, height, width, depth, tmp_path):
    halves = [to_depth(pixels, depth) for pixels in expose((0.25, 2.0), height=height, width=width)]
    files.write_picture(tmp_path / "both.png", stack(halves))
    (bracket,), _ = brackets.find_brackets(tmp_path)
    for picture, half in zip(brackets.read_bracket(bracket), halves, strict=True):
        np.testing.assert_array_equal(picture.pixels, half)


def alone(pixels):
    return pixels


def shifted(pixels):
    return np.vstack([pixels, np.roll(pixels, 9, axis=1)])


def odd(pixels):
    return np.vstack([pixels, pixels[:-1]])


def four_times(pixels):
    return np.vstack([np.hstack([pixels] * 2)] * 2)


@pytest.mark.parametrize("make", [alone, shifted, odd, four_times, np.zeros_like])
def test_halves_that_are_none_are_refused(make, tmp_path):
    path = tmp_path / "one.png"
    files.write_picture(path, make(expose((1.0,))[0]))
    (bracket,), _ = brackets.find_brackets(tmp_path)
    with pytest.raises(ValueError, match=f"{path}: expected a picture that holds two exposures as its halves"):
        brackets.read_bracket(bracket)


def test_the_stacked_pictures_of_a_neighbour(reference):
    found, lines = brackets.find_brackets(reference / "rl_hdr")
    stacked = [bracket for bracket in found if bracket.name.startswith("T") and "retouched" not in bracket.name]
    assert len(stacked) == 7 and not lines
    for bracket in stacked:
        whole = files.read_picture(bracket.paths[0]).pixels
        upper, lower = brackets.read_bracket(bracket)
        np.testing.assert_array_equal(np.vstack([upper.pixels, lower.pixels]), whole)


def test_brackets_that_are_incomplete_have_a_line(folder):
    (folder / "loose_1_B.png").unlink()
    (folder / "Mefb" / "Mefb_A.png").unlink()
    (folder / "Mefb" / "IMG_2.png").unlink()
    files.write_picture(folder / "many.png", expose((1.0,))[0])
    (folder / ".hidden").mkdir()
    (folder / "notes.txt").write_text("")
    found, lines = brackets.find_brackets(folder)
    assert [bracket.name for bracket in found] == ["many", "stacked"] and len(found[0].paths) == 3
    assert sorted(lines) == [
        f"{folder / 'Mefb'}: expected at least 2 pictures, found 1",
        f"{folder / 'loose_1_A.png'}: expected one picture with _A and one with _B, found loose_1_A.png",
        f"{folder / 'many.png'}: the scene many is there already; give it another name",
    ]


def test_folders_without_brackets(tmp_path):
    with pytest.raises(ValueError, match="nowhere: expected a folder of scenes, found none"):
        brackets.find_brackets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected scenes .folders of exposures, or pairs X_A, X_B., found none"):
        brackets.find_brackets(tmp_path)


# Figures


def test_figures_are_those_of_the_written_pictures(classical):
    output, found = classical
    assert not found["errors"] and not found["warnings"]
    assert names(output) == REPORTS | {"Mefb", NAME}
    exposures = expose((0.1, 0.6, 2.5))
    bgr = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in exposures]
    expected = {
        "mean": np.floor(np.mean(exposures, axis=0) + 0.5),
        "mertens": np.clip(np.rint(255 * cv2.createMergeMertens().process(bgr)[..., ::-1]), 0, 255),
        "mertens_111": np.clip(np.rint(255 * cv2.createMergeMertens(1, 1, 1).process(bgr)[..., ::-1]), 0, 255),
    }
    row = found["scenes"][NAME]
    assert (row["exposures"], row["size"]) == (3, [64, 56])
    lab = {}
    for model, pixels in expected.items():
        fused = files.read_picture(output / NAME / f"{model}.png").pixels
        np.testing.assert_array_equal(fused, pixels)
        lab[model] = cv2.cvtColor(np.float32(fused) / 255, cv2.COLOR_RGB2Lab)
    for model, pixels in expected.items():
        scores = row["scores"][model]
        assert list(scores) == list(fusion_evaluation.METRICS)
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
    for model, mean in found["means"].items():
        values = [row["scores"][model]["q_abf"] for row in found["scenes"].values()]
        assert mean["scenes"] == 2 and mean["q_abf"] == pytest.approx(np.mean(values), rel=1e-12)


def test_a_bright_and_gray_scene_has_no_dark_chroma(tmp_path):
    (tmp_path / "scenes").mkdir()
    for letter, pixels in zip("AB", expose((1.0, 1.2)), strict=True):
        files.write_picture(tmp_path / "scenes" / f"x_{letter}.png", 128 + pixels[..., 1] // 2)
    found = fusion_evaluation.evaluate(tmp_path / "scenes", tmp_path / "out", ["mean"])
    scores = found["scenes"]["x"]["scores"]["mean"]
    assert [scores[key] for key in FUSION] == [None] * 4
    assert scores["chroma"] == pytest.approx(0, abs=0.05) and found["means"]["mean"]["dark_chroma_ratio"] is None
    assert "dark" not in (tmp_path / "out" / "scores.txt").read_text()


def test_references(folder, tmp_path):
    truths = folder / "truth"
    truths.mkdir()
    (tmp_path / "plain").mkdir()
    fused = fusion_evaluation._mean(expose((0.1, 0.6, 2.5)))
    files.write_picture(truths / "many.tif", to_depth(fused, 16))
    darker = fusion_evaluation._mean(expose((0.3, 1.8), seed=2)) // 2
    files.write_picture(truths / "loose_1.png", darker)
    files.write_picture(truths / "Mefb.png", fused[:40])
    found = fusion_evaluation.evaluate(folder, tmp_path / "out", ["mean"], references=truths)
    assert found["warnings"] == ["stacked: no reference"]
    assert found["errors"] == ["Mefb: expected a reference of 64 x 56 pixels, found 64 x 40"]
    same, other = (found["scenes"][name]["scores"]["mean"] for name in ("many", "loose_1"))
    assert same["psnr"] == same["psnr_mu"] == math.inf and same["ssim"] == pytest.approx(1, abs=1e-12)
    result = files.read_picture(tmp_path / "out" / "loose_1" / "mean.png").pixels
    assert other["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((np.float64(result) - darker) ** 2)))
    tones = [np.log(1 + 5000 * (pixels / 255) ** 2.2) / np.log(5001) for pixels in (result, darker)]
    assert other["psnr_mu"] == pytest.approx(-10 * np.log10(np.mean((tones[0] - tones[1]) ** 2)), abs=1e-3)  # float32
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["scenes"]["many"]["scores"]["mean"]["psnr"] == "Infinity"
    with pytest.raises(ValueError, match="plain: expected pictures named as the scenes are, such as Mefb.png, found none"):
        fusion_evaluation.evaluate(folder, tmp_path / "other", ["mean"], references=tmp_path / "plain")


# Models


def test_networks_run_as_for_users_and_weights_may_be_replaced(two, tmp_path):
    keras.utils.set_random_seed(0)
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / "deepfuse_official.weights.h5"
    weights.save_weights(build("deepfuse_official"), path)
    models = ["pyramid", "deepfuse_official"]
    shutil.rmtree(two / "many")
    found = fusion_evaluation.evaluate(two, tmp_path / "out", models, weights=tmp_path / "weights")
    assert not found["errors"]
    pair = [two / "Mefb" / "Mefb_A.png", two / "Mefb" / "mefb_b.PNG"]
    for model, file in (("pyramid", None), ("deepfuse_official", path)):
        written = files.read_picture(tmp_path / "out" / "Mefb" / f"{model}.png").pixels
        np.testing.assert_array_equal(written, fusing.fuse(pair, model, file))
    (path.parent / "pyramid.weights.h5").write_bytes(path.read_bytes())
    found = fusion_evaluation.evaluate(two, tmp_path / "other", ["pyramid", "mean"], weights=tmp_path / "weights")
    assert list(found["means"]) == ["mean"] and len(found["errors"]) == 1
    assert found["errors"][0].startswith(f"pyramid: {path.parent / 'pyramid.weights.h5'}")


def test_models_that_cannot_run_have_a_line(two, tmp_path, monkeypatch):
    monkeypatch.setattr(fusion_evaluation.shutil, "which", lambda name: None)
    models = ["enfuse", "deepfuse_sunnerli", "mean"]
    found = fusion_evaluation.evaluate(two, tmp_path / "out", models)
    assert list(found["means"]) == ["mean"] and found["errors"] == [
        "enfuse: expected the program enfuse, found none; on Debian and Ubuntu: apt install enfuse",
        "deepfuse_sunnerli: expected --weights, a folder with deepfuse_sunnerli.weights.h5, which does not come with the "
        "software: train/ has scripts that train networks, tools/convert_checkpoint.py converts their authors' weights",
    ]
    assert set(fusion_evaluation.MODELS) - set(fusion_evaluation.available(None)) == {"enfuse", "deepfuse_sunnerli"}
    with pytest.raises(ValueError, match="enfuse: expected the program"):
        fusion_evaluation.evaluate(two, tmp_path / "none", ["enfuse"])
    assert not (tmp_path / "none").exists()


def test_enfuse_is_called_with_the_exposures(two, tmp_path, monkeypatch):
    def run(words, **arguments):
        program, output, *inputs = words
        assert program == "/bin/enfuse" and output.startswith("--output=")
        pictures = [files.read_picture(path).pixels for path in inputs]
        assert all(a.mean() < b.mean() for a, b in zip(pictures, pictures[1:], strict=False))
        if len(pictures) == 3:
            return subprocess.CompletedProcess(words, 1, "", "enfuse: loading\nenfuse: out of memory\n")
        files.write_picture(output.removeprefix("--output="), pictures[1])
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(fusion_evaluation.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(fusion_evaluation.subprocess, "run", run)
    found = fusion_evaluation.evaluate(two, tmp_path / "out", ["enfuse"])
    assert found["errors"] == ["many: enfuse: the program failed: enfuse: out of memory"]
    bright = files.read_picture(two / "Mefb" / "Mefb_A.png").pixels
    np.testing.assert_array_equal(files.read_picture(tmp_path / "out" / "Mefb" / "enfuse.png").pixels, bright)


def test_a_broken_scene_is_named_and_the_others_are_done(folder, tmp_path, capsys):
    path = folder / "many" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    files.write_picture(folder / "Mefb" / "Mefb_A.png", expose((1.0,))[0][:50])
    config = evaluate.Config(scenes=str(folder), output=str(tmp_path / "out"), model="mean")
    assert evaluate.main(config) == 1
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert len(printed) == 2 and "expected pictures of one size" in printed[0] and str(path) in printed[1]
    assert names(tmp_path / "out") == REPORTS | {"loose_1", "stacked"}


# Reports


class Page(html.parser.HTMLParser):
    """Collects text and what the page asks for."""

    def __init__(self, text):
        super().__init__()
        self.text, self.sources, self.links, self.open = "", [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "iframe", "object", "b0ld")
        self.sources += [value for name, value in attributes.items() if name in ("src", "srcset", "background")]
        self.links += [attributes["href"]] if "href" in attributes else []
        self.open += [tag] if tag not in ("img", "meta", "link") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f" {data}"


def test_reports_tell_the_same(classical):
    output, found = classical
    assert json.loads((output / "scores.json").read_text()) == found

    lines = (output / "scores.csv").read_text().splitlines()
    assert lines[0] == f"# {COMMAND}"
    assert f"# q_abf: {fusion_evaluation.METRICS['q_abf'].definition}" in lines
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    assert len(rows) == 2 * 3 + 3 and "psnr" not in rows[0]
    assert float(rows[0]["q_abf"]) == found["scenes"][NAME]["scores"]["mertens"]["q_abf"]
    assert [row["scene"] for row in rows[-3:]] == ["mean"] * 3
    assert float(rows[-1]["entropy"]) == found["means"]["mean"]["entropy"]

    text = (output / "scores.txt").read_text()
    assert text == report.as_text(found)
    assert any(line.split() == ["mean", "of", *CLASSICAL] for line in text.splitlines())
    values = [f"{found['means'][model]['q_abf']:.4f}" for model in CLASSICAL]
    assert any(line.split() == ["Q^AB/F", *values] for line in text.splitlines())

    page = Page((output / "report.html").read_text())
    assert not page.open and COMMAND in page.text and NAME in page.text
    assert len(page.sources) == (3 + 2) + 2 * 3
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in page.sources)
    assert len(page.links) == 2 * 3 and page.links[0] == "%3Cb0ld%3E%20%26%20co/mertens.png"
    for key in ("mef_ssim", "q_abf", "dark_chroma_ratio", "clipped"):
        assert fusion_evaluation.METRICS[key].definition in page.text
    assert set(values) <= set(page.text.split())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SEEN = """<script>addEventListener("load", () => { document.title = JSON.stringify({
  pictures: [...document.images].map(image => [image.naturalWidth, image.width]),
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  bars: [...document.querySelectorAll(".fill")].map(bar => bar.offsetWidth),
  tables: [...document.querySelectorAll("table")].map(table => table.offsetHeight),
}) })</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", [1500, 600])
def test_report_in_a_browser(classical, tmp_path, width):
    """Every picture is decoded and shown, nothing but tables is wider than the window, bars and tables have a size."""
    output, found = classical
    (tmp_path / "report.html").write_text((output / "report.html").read_text() + SEEN)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000", f"--user-data-dir={tmp_path}/user"]
    command = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "report.html").as_uri()]
    page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    seen = json.loads(html.unescape(page.split("<title>")[1].split("</title>")[0]))
    assert len(seen["pictures"]) == (3 + 2) + 2 * 3
    assert all(natural > 0 and 0 < shown <= natural for natural, shown in seen["pictures"])
    assert seen["wide"] == 0
    assert max(seen["bars"]) > 50 and min(seen["tables"]) > 50


def test_thumbnails_are_small_and_of_the_right_colours():
    red = np.zeros((300, 900, 3), np.uint8)
    red[..., 0] = 200
    for pixels, size in ((red, (120, 360, 3)), (red[:4, :5, 0], (4, 5))):
        source = report.thumbnail(pixels)
        encoded = np.frombuffer(report.base64.b64decode(source.split(",")[1]), np.uint8)
        shown = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        assert shown.shape == size
        assert abs(int(shown.reshape(shown.shape[0], shown.shape[1], -1)[0, 0, -1]) - 200) <= 2


# Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, "expected one model or more: pyramid"),
        ({"models": ["mean", "hat"]}, "unknown model 'hat': expected some of pyramid, .*enfuse, mean"),
        ({"models": ["mean"], "weights": "."}, "mean: no weights belong to that"),
        ({"models": ["pyramid"], "weights": "nowhere"}, "nowhere: expected a folder of weights"),
        ({"models": ["mean"], "references": "nowhere"}, "nowhere: expected a folder of references"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message):
        fusion_evaluation.evaluate(folder, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_output_is_not_a_scene(folder):
    for output in (folder, folder / "out"):
        with pytest.raises(ValueError, match="lies among the scenes"):
            fusion_evaluation.evaluate(folder, output, ["mean"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "mean,snr"}, "snr does not fuse pictures, mean does: expected names of one sort"),
        ({"model": "mean,nonsense"}, "nonsense does not fuse pictures"),
        ({"model": "mean", "align": "flow"}, "--align does not go with scores of fused pictures"),
        ({"model": "mean", "original_protocol": True}, "--original_protocol does not go with scores of fused pictures"),
        ({"model": "snr", "references": "truth"}, "--references does not go with scores of radiance"),
    ],
)
def test_script_keeps_the_two_sorts_apart(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate.main(evaluate.Config(scenes="in", output="out", **arguments))


def test_script(two, tmp_path, capsys):
    config = evaluate.Config(scenes=str(two), output=str(tmp_path / "out"), model="mean")
    assert evaluate.main(config) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "scores.txt").read_text()
