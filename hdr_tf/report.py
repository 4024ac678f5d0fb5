"""Reports of scores: one dictionary, written as JSON, CSV, text and a web page.

Of fused pictures the dictionary is described at `hdr_tf.fusion_evaluation.evaluate`; `hdr_tf.evaluation` has one of its own and
shares `Metric`, `table` and `write_json`. The page is a single file: pictures and styles are inside,
it asks for nothing from elsewhere and has no scripts; links lead to the full results beside it.
"""

import base64
import csv
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import jinja2
import numpy as np

from hdr_tf.image import files

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")
_SIDE, _QUALITY = 360, 85  # of a thumbnail
_COLORS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))  # of curves


class Metric(NamedTuple):
    """A figure of the report."""

    heading: str
    digits: int
    definition: str


def write(folder: pathlib.Path, report: dict, pictures: dict) -> None:
    """Writes scores.json, scores.csv, scores.txt and report.html.

    Args:
        folder: is there already.
        report: of all figures.
        pictures: {scene: {"exposures": [thumbnail], "reference": thumbnail or None, "results": {model: thumbnail}}}.

    Raises:
        OSError: a file cannot be written.
    """
    write_json(folder / "scores.json", report)
    with files.atomic(folder / "scores.csv") as temporary:
        _write_csv(temporary, report)
    with files.atomic(folder / "scores.txt") as temporary:
        temporary.write_text(as_text(report))
    with files.atomic(folder / "report.html") as temporary:
        temporary.write_text(_as_html(report, pictures), encoding="utf-8")


def write_json(path: pathlib.Path, report: dict) -> None:
    """Writes a dictionary; infinity, the PSNR of equal pictures, becomes text, since JSON knows none."""
    with files.atomic(path) as temporary:
        plain = json.loads(json.dumps(report), parse_constant=str)
        temporary.write_text(json.dumps(plain, indent=2) + "\n")


def table(rows: list[list[str]]) -> list[str]:
    """Returns rows of cells as lines in columns, the first flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *values in rows:
        values = (value.rjust(width) for value, width in zip(values, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *values]))
    return lines


def chart(lines: dict[str, tuple[np.ndarray, np.ndarray]], x_name: str, y_name: str) -> np.ndarray:
    """Draws curves with axes and a legend.

    Args:
        lines: by name the x and the y of each point; what is not finite is left out.
        x_name: what the x axis has.
        y_name: what the y axis has.

    Returns:
        uint8 [480, 720, 3] RGB.
    """
    picture, left, top, right, bottom = np.full((480, 720, 3), 255, np.uint8), 70, 40, 700, 430
    lines = {name: np.float64([x, y])[:, np.isfinite(y)] for name, (x, y) in lines.items()}
    points = np.concatenate(list(lines.values()), axis=1)
    low, high = points.min(axis=1), points.max(axis=1)
    high = np.where(high > low, high, low + 1)

    def place(x, y):
        return np.int32(
            np.rint(
                [
                    left + (x - low[0]) / (high[0] - low[0]) * (right - left),
                    bottom - (y - low[1]) / (high[1] - low[1]) * (bottom - top),
                ]
            )
        )

    def write(text, x, y, color=(0, 0, 0)):
        cv2.putText(picture, text, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)

    cv2.rectangle(picture, (left, top), (right, bottom), (128, 128, 128))
    for share in np.linspace(0, 1, 5):
        x, y = low + share * (high - low)
        write(f"{x:g}", place(x, low[1])[0] - 20, bottom + 20)
        write(f"{y:.3g}", 8, place(low[0], y)[1] + 5)
    write(x_name, (left + right) / 2 - 20, bottom + 42)
    write(y_name, 8, 20)
    for number, (name, (x, y)) in enumerate(lines.items()):
        color = _COLORS[number % len(_COLORS)]
        cv2.polylines(picture, [place(x, y).T.reshape(-1, 1, 2)], False, color, 2, cv2.LINE_AA)
        write(name, left + 10, top + 18 * (number + 1), color)
    return picture


def learning_curves(runs: Sequence[str | os.PathLike], column: str) -> np.ndarray:
    """Draws a column of the log.csv of training runs (hdr_tf/training.py) over the steps.

    Args:
        runs: their folders.
        column: its name, such as "loss".

    Returns:
        As `chart`.

    Raises:
        ValueError: a log has no such column, or no row yet.
        OSError: a folder is no run.
    """
    lines = {}
    for run in map(pathlib.Path, runs):
        with (run / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or column not in rows[0]:
            found = ", ".join(rows[0]) if rows else "no row"
            raise ValueError(f"{run / 'log.csv'}: expected a column {column!r}, found {found}")
        every = json.loads((run / "config.json").read_text())["log_every"]
        lines[run.name] = np.float64([[every * (int(row["epoch"]) + 1), row[column]] for row in rows]).T
    return chart(lines, "steps", column)


def as_text(report: dict) -> str:
    """Returns the means of all models as a table, warnings and errors, and the definitions, as lines to read."""
    metrics, means = _shown(report), report["means"]
    rows = [["mean of", *means], ["scenes", *(str(mean["scenes"]) for mean in means.values())]]
    for key, metric in metrics.items():
        rows.append([metric["heading"], *(_figure(mean[key], metric) for mean in means.values())])
    lines = [report["command"], ""] if report["command"] else []
    lines += table(rows)
    told = [*(f"warning: {line}" for line in report["warnings"]), *(f"error: {line}" for line in report["errors"])]
    lines += ["", *told, ""] if told else [""]
    lines += [f"{metric['heading']}: {metric['definition']}" for metric in metrics.values()]
    return "\n".join(lines) + "\n"


def thumbnail(pixels: np.ndarray) -> str:
    """Returns a picture, [H, W, 3] or [H, W] uint8, at most 360 pixels a side, as a data URI of a JPEG."""
    scale = min(1.0, _SIDE / max(pixels.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    small = small if small.ndim == 2 else np.ascontiguousarray(small[..., ::-1])
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _write_csv(path, report):
    """A row for each scene and model, then the means; the definitions lead as lines that begin with #."""
    metrics = _shown(report)
    with path.open("w", newline="", encoding="utf-8") as file:
        if report["command"]:
            file.write(f"# {report['command']}\n")
        file.writelines(f"# {key}: {metric['definition']}\n" for key, metric in metrics.items())
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scene", "model", *metrics])
        for scene, row in report["scenes"].items():
            for model, scores in row["scores"].items():
                rows.writerow([scene, model, *(scores[key] for key in metrics)])
        for model, mean in report["means"].items():
            rows.writerow(["mean", model, *(mean[key] for key in metrics)])


def _as_html(report, pictures):
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["figure"] = _figure
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report, metrics=_shown(report), pictures=pictures, bars=_bars(report))


def _bars(report):
    """Of each metric the length of each model's bar, 0..1 of the longest."""
    bars = {}
    for key in _shown(report):
        values = {model: mean[key] for model, mean in report["means"].items()}
        finite = [value for value in values.values() if value is not None and np.isfinite(value)]
        longest = max(finite, default=0) or 1
        bars[key] = {model: 0 if value is None else max(0.0, min(1.0, value / longest)) for model, value in values.items()}
    return bars


def _shown(report):
    """The metrics that say something of any scene."""
    means = report["means"].values()
    return {key: metric for key, metric in report["metrics"].items() if any(mean[key] is not None for mean in means)}


def _figure(value, metric):
    return "-" if value is None else f"{value:.{metric['digits']}f}"
