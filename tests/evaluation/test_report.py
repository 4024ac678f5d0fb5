"""The loop and the report that both tasks share: files, page, interrupts, scenes that fail, arguments, and the command."""

import csv
import html
import html.parser
import json
import os
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from hdr_tf.commands import evaluate as command
from hdr_tf.evaluation import evaluate, fusion, report
from hdr_tf.io import image_files
from tests import helpers

CLASSICAL = ["mertens", "mertens_111", "mean"]
REPORTS = {"report.html", "scores.csv", "scores.json", "scores.txt"}
NAME, COMMAND = "<b0ld> & co", "python evaluate.py --x='<b0ld>'"


@pytest.fixture
def two(tmp_path):
    return helpers.write_two_scenes(tmp_path / "scenes")


@pytest.fixture(scope="module")
def classical(tmp_path_factory):
    """The folder of results of the classical models, and the report."""
    folder = tmp_path_factory.mktemp("classical")
    output = folder / "new" / "out"
    return output, evaluate.evaluate(helpers.write_two_scenes(folder / "scenes", NAME), output, CLASSICAL, command=COMMAND)


# The page


class Page(html.parser.HTMLParser):
    """Collects text, bold cells, and what the page asks for."""

    def __init__(self, text):
        super().__init__()
        self.text, self.best, self.sources, self.links, self.open = "", [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("iframe", "object", "b0ld") and not (tag == "script" and attributes)
        self.sources += [value for name, value in attributes.items() if name in ("src", "srcset", "background")]
        self.links += [attributes["href"]] if "href" in attributes else []
        self.open += [(tag, attributes.get("class", ""))] if tag not in ("img", "meta", "link", "input") else []

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text += f" {data}"
        self.best += [data for _, classes in self.open[-1:] if "best" in classes.split()]


def test_reports_say_the_same(classical):
    output, scores = classical
    assert helpers.names(output) == REPORTS | {"Mefb", NAME}
    assert json.loads((output / "scores.json").read_text()) == scores
    assert scores["complete"] and not scores["missing"]

    lines = (output / "scores.csv").read_text().splitlines()
    assert lines[0] == f"# {COMMAND}"
    assert f"# q_abf: Q^AB/F (higher is better): {fusion.METRICS['q_abf'].definition}" in lines
    rows = list(csv.DictReader(line for line in lines if not line.startswith("# ")))
    assert len(rows) == 2 * 3 + 3 and "psnr" not in rows[0]
    assert float(rows[0]["q_abf"]) == scores["scenes"][NAME]["scores"]["mertens"]["q_abf"]
    assert [row["scene"] for row in rows[-3:]] == ["mean"] * 3
    assert float(rows[-1]["entropy"]) == scores["means"]["mean"]["entropy"]

    text = (output / "scores.txt").read_text()
    assert text == report.as_text(scores)
    assert any(line.split() == ["mean", "of", *CLASSICAL] for line in text.splitlines())
    values = [f"{scores['means'][model]['q_abf']:.4f}" for model in CLASSICAL]
    assert any(line.split() == ["Q^AB/F", *values] for line in text.splitlines())
    assert "clipped (lower is better): " in text and "mean L*: " in text

    page = Page((output / "report.html").read_text())
    assert not page.open and COMMAND in page.text and NAME in page.text
    assert len(page.sources) == (3 + 2) + 2 * 3
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in page.sources)
    assert len(page.links) == 2 * 3 and page.links[0] == "%3Cb0ld%3E%20%26%20co/mertens.png"
    for key in ("mef_ssim", "q_abf", "dark_chroma_ratio", "clipped"):
        assert fusion.METRICS[key].definition in page.text
    assert set(values) <= set(page.text.split())
    assert max(values) in page.best and min(values) not in page.best
    for words in ("MEF-SSIM ↑", "clipped ↓", "mean L*"):
        assert words in page.text and f"{words} ↑" not in page.text


def test_the_best_of_a_column_is_marked_ties_included():
    metrics = {key: {"heading": key, "digits": 2, "better": key, "definition": ""} for key in ("higher", "lower")}
    metrics["neither"] = metrics["higher"] | {"better": None}
    rows = {name: dict.fromkeys(metrics, value) for name, value in zip("abcd", (1, 2.001, 1.999, None), strict=True)}
    best = {name: [cell["best"] for cell in cells] for name, cells in report._cells(metrics, rows).items()}
    assert best == {"a": [False, True, False], "b": [True, False, False], "c": [True, False, False], "d": [False] * 3}
    assert not any(cell["best"] for cell in report._cells(metrics, {"a": rows["a"]})["a"])  # nothing to compare with
    means = {name: row | {"scenes": 2 if name == "b" else 3} for name, row in rows.items()}
    assert not any(cell["best"] for cell in report._cells(metrics, means)["b"])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MEASURED = """<script>addEventListener("load", () => {
  const [select] = document.querySelectorAll("select"), view = document.querySelector(".view");
  select.value = 0;
  select.onchange();
  document.title = JSON.stringify({
    images: [...document.querySelectorAll("figure img")].map(image => [image.naturalWidth, image.width]),
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tables: [...document.querySelectorAll("table")].map(table => table.offsetHeight),
    choices: select.length,
    chosen: view.children[1].src == document.querySelector("figure img").src,
    other: view.children[0].src == view.children[1].src,
    view: [view.offsetWidth, view.offsetHeight],
  });
})</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1500, 600])
def test_report_in_a_browser(classical, tmp_path, width):
    """Every image is decoded and shown, nothing but tables is wider than the window, two images of a scene are compared."""
    if CHROMIUM is None:
        outcome = pytest.fail if os.environ.get("HDR_TF_BROWSER") == "required" else pytest.skip
        outcome("there is no Chromium; .ci/extra browser installs it")
    output, _ = classical
    (tmp_path / "report.html").write_text((output / "report.html").read_text() + MEASURED)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000", f"--user-data-dir={tmp_path}/user"]
    browser = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "report.html").as_uri()]
    page = subprocess.run(browser, capture_output=True, text=True, timeout=120, check=True).stdout
    measured = json.loads(html.unescape(page.split("<title>")[1].split("</title>")[0]))
    assert len(measured["images"]) == (3 + 2) + 2 * 3
    assert all(natural > 0 and shown > 0 for natural, shown in measured["images"])
    assert measured["wide"] == 0 and min(measured["tables"]) > 50
    assert measured["choices"] in (2 + 3, 3 + 3) and measured["chosen"] and not measured["other"]
    assert min(measured["view"]) > 300


def test_thumbnails_are_small_and_of_the_right_colours():
    red = np.zeros((300, 900, 3), np.uint8)
    red[..., 0] = 200
    for pixels, size in ((red, (120, 360, 3)), (red[:4, :5, 0], (4, 5))):
        source = report.thumbnail(pixels, 360)
        encoded = np.frombuffer(report.base64.b64decode(source.split(",")[1]), np.uint8)
        shown = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        assert shown.shape == size
        assert abs(int(shown.reshape(shown.shape[0], shown.shape[1], -1)[0, 0, -1]) - 200) <= 2
    assert [report.thumbnail_side(count) for count in (0, 600, 10**6)] == [720, 720, 360]


# What goes wrong


def test_an_interrupt_keeps_the_scores(two, tmp_path, monkeypatch, capsys):
    def interrupted(exposures):
        if len(exposures) == 3:
            raise KeyboardInterrupt
        return exposures[0]

    monkeypatch.setattr(fusion, "_mean", interrupted)
    output = tmp_path / "out"
    config = command.Config(scenes=str(two), output=str(output), model="mertens,mean")
    assert command.main(config) == 130
    assert str(output) in capsys.readouterr().out
    stored = json.loads((output / "scores.json").read_text())
    assert stored["missing"] == ["many"] and not stored["complete"] and not stored["errors"]
    assert {name: list(row["scores"]) for name, row in stored["scenes"].items()} == {
        "Mefb": ["mertens", "mean"],
        "many": ["mertens"],
    }
    assert stored["means"]["mean"]["scenes"] == 1 and stored["means"]["mertens"]["scenes"] == 2
    for name in ("scores.txt", "report.html"):
        assert helpers.mentioned("incomplete missing many", (output / name).read_text())


def test_a_kill_keeps_the_scores_of_the_scenes_before(two, tmp_path, monkeypatch):
    def killed(metrics, model, rows):
        if len(rows) == 2:
            raise helpers.Killed
        return means(metrics, model, rows)

    means = evaluate._means
    monkeypatch.setattr(evaluate, "_means", killed)
    with pytest.raises(helpers.Killed):
        evaluate.evaluate(two, tmp_path / "out", ["mean"])
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert list(stored["scenes"]) == ["Mefb"] and stored["missing"] == ["many"] and stored["means"]["mean"]["scenes"] == 1


def test_a_broken_scene_is_named_and_the_others_are_done(tmp_path, capsys):
    folder = helpers.write_scenes_of_all_shapes(tmp_path / "scenes")
    path = folder / "many" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    image_files.write_image(folder / "Mefb" / "Mefb_A.png", helpers.photographs((1.0,))[0][:50])
    config = command.Config(scenes=str(folder), output=str(tmp_path / "out"), model="mean")
    assert command.main(config) == 1
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2 and helpers.mentioned("Mefb 64 x 50 64 x 56", lines[0]) and str(path) in lines[1]
    assert helpers.names(tmp_path / "out") == REPORTS | {"loose_1", "stacked"}
    assert printed == (tmp_path / "out" / "scores.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, "pyramid esbn"),
        ({"models": ["mean", "hat"]}, "hat pyramid enfuse mean esbn"),
        ({"models": ["mean", "nonsense"]}, "nonsense"),
        ({"models": ["mean"], "weights": "."}, "mean weights.h5"),
        ({"models": ["pyramid"], "weights": "nowhere"}, "nowhere pyramid"),
        ({"models": ["snr"], "weights": "."}, "snr weights.h5"),
        ({"models": ["mean"], "references": "nowhere"}, "nowhere references"),
        ({"models": ["mean"], "align": "flow"}, "align mean"),
        ({"models": ["mean"], "original_protocol": True}, "original_protocol mean"),
        ({"models": ["pyramid"], "mixed_precision": True}, "mixed_precision pyramid"),
        ({"models": ["snr"], "references": "."}, "references snr"),
        ({"models": ["esbn", "snr"], "original_protocol": True}, "original_protocol esbn snr"),
        ({"models": ["hat"], "align": "mtb"}, "none flow confident_flow mtb"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message, two, tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        evaluate.evaluate(two, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("model", ["mean", "hat"])
def test_folders_that_do_not_fit(model, two, tmp_path):
    for output in (two, two / "out"):
        with pytest.raises(ValueError, match=helpers.mentions(f"{output} scenes")):
            evaluate.evaluate(two, output, [model])
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(ValueError, match=helpers.mentions(name)):
            evaluate.evaluate(tmp_path / name, tmp_path / "out", [model])


def test_an_output_that_cannot_be_written(two, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        evaluate.evaluate(two, tmp_path / "file" / "out", ["mean"])


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["hdr-tf evaluate", "--model=mean", "a b"], "hdr-tf evaluate --model=mean 'a b'"),
        (["tools/evaluate.py", "--model=mean"], "python tools/evaluate.py --model=mean"),
    ],
)
def test_the_report_names_the_command_as_it_was_typed(two, tmp_path, monkeypatch, argv, expected):
    monkeypatch.setattr("sys.argv", argv)
    assert command.main(command.Config(scenes=str(two), output=str(tmp_path / "out"), model="mean")) == 0
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["command"] == expected


@pytest.mark.parametrize("missing", ["scenes", "output"])
def test_the_command_needs_both_folders(missing):
    with pytest.raises(ValueError, match=helpers.mentions("--scenes --output")):
        command.main(command.Config(**{"scenes": "in", "output": "out"} | {missing: ""}))
