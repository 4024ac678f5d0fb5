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


def learning_curves(runs: Sequence[str | os.PathLike], columns: Sequence[str]) -> np.ndarray:
    """Draws columns of the log.csv of training runs (hdr_tf/training.py, train/dqn_editor.py) over the steps.

    Args:
        runs: their folders.
        columns: names such as "loss"; one or more.

    Returns:
        uint8 [600, 900, 3] RGB; what is not finite is left out.

    Raises:
        ValueError: nothing to draw, or a log has no such column, or no row yet.
        OSError: a folder is no run.
    """
    # Here, as its import takes time that only this needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not (runs and columns):
        raise ValueError(f"expected a run and a column or more, found {len(runs)} and {len(columns)}")
    single = len(columns) == 1
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="steps", ylabel=columns[0] if single else "")
    for run in map(pathlib.Path, runs):
        with (run / "log.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        every = json.loads((run / "config.json").read_text())["log_every"]
        steps = np.float64([row["step"] if "step" in row else every * (int(row["epoch"]) + 1) for row in rows])
        for column in columns:
            if not rows or column not in rows[0]:
                found = ", ".join(rows[0]) if rows else "no row"
                raise ValueError(f"{run / 'log.csv'}: expected a column {column!r}, found {found}")
            values = np.float64([row[column] for row in rows])
            finite = np.isfinite(values)
            axes.plot(steps[finite], values[finite], marker=".", label=run.name if single else f"{run.name} {column}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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
