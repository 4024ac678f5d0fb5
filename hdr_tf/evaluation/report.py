"""The report of an evaluation: one dictionary (see `hdr_tf.evaluation.evaluate`), written as JSON, CSV, text and a web page.

The page is a single file that requests nothing from elsewhere: images, styles and the few lines of script that compare two
images are inside. Links lead to the full results next to it.
"""

import base64
import csv
import json
import math
import pathlib
from typing import Literal, NamedTuple

import cv2
import jinja2
import numpy as np

from hdr_tf.io import outputs

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")
_QUALITY = 85
_SMALLEST, _LARGEST = 360, 720  # pixels, longer side of an image on the page
_FULL_SIZE = 600  # so many of the largest images make a page of about 60 MB


class Metric(NamedTuple):
    """A column of the report."""

    heading: str
    digits: int
    better: Literal["higher", "lower"] | None
    """None: the value describes the result and does not rank it"""
    definition: str


def write_scores(folder: pathlib.Path, report: dict) -> None:
    """Writes scores.json, scores.csv and scores.txt into a folder that exists."""
    write_json(folder / "scores.json", report)
    with outputs.atomic(folder / "scores.csv") as temporary:
        _write_csv(temporary, report)
    with outputs.atomic(folder / "scores.txt") as temporary:
        temporary.write_text(as_text(report), encoding="utf-8")


def write_page(folder: pathlib.Path, report: dict, images: dict[str, dict[str, str]]) -> None:
    """Writes report.html with images, {scene: {caption: `thumbnail`}}; the caption of a result is the name of its model."""
    metrics = _used_metrics(report)
    tables = {scene: _cells(metrics, row["scores"]) for scene, row in report["scenes"].items()}
    values = {"report": report, "metrics": metrics, "tables": tables, "images": images}
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    with outputs.atomic(folder / "report.html") as temporary:
        temporary.write_text(template.render(values, means=_cells(metrics, report["means"])), encoding="utf-8")


def write_json(path: pathlib.Path, report: dict) -> None:
    """Writes a dictionary; infinity, the PSNR of equal images, becomes the text "Infinity", because JSON has no such number."""
    with outputs.atomic(path) as temporary:
        plain = json.loads(json.dumps(report), parse_constant=str)
        temporary.write_text(json.dumps(plain, indent=2) + "\n")


def table(rows: list[list[str]]) -> list[str]:
    """Returns rows of cells as lines with columns, the first one flush left, the others flush right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return ["  ".join([name.ljust(first), *map(str.rjust, values, others)]) for name, *values in rows]


def as_text(report: dict) -> str:
    """Returns the means of all models as a table, warnings and errors, and the definitions, as lines to read."""
    metrics, means = _used_metrics(report), report["means"]
    rows = [["mean of", *means], ["scenes", *(str(mean["scenes"]) for mean in means.values())]]
    rows += [[metric["heading"], *(_figure(mean[key], metric) for mean in means.values())] for key, metric in metrics.items()]
    notes = [] if report["complete"] else [f"incomplete, missing scenes: {', '.join(report['missing'])}"]
    notes += [f"warning: {line}" for line in report["warnings"]] + [f"error: {line}" for line in report["errors"]]
    definitions = [f"{_title(metric)}: {metric['definition']}" for metric in metrics.values()]
    parts = [[report["command"]], table(rows), notes, definitions]
    return "\n\n".join("\n".join(part) for part in parts if any(part)) + "\n"


def thumbnail_side(count: int) -> int:
    """Returns the longer side in pixels of so many images on one page: smaller if there are many."""
    return int(np.clip(_LARGEST * math.sqrt(_FULL_SIZE / max(count, 1)), _SMALLEST, _LARGEST))


def thumbnail(pixels: np.ndarray, side: int) -> str:
    """Returns an image, [H, W, 3] or [H, W] uint8, with at most `side` pixels a side, as a data URI of a JPEG."""
    scale = min(1.0, side / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    small = small if small.ndim == 2 else np.ascontiguousarray(small[..., ::-1])
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def _write_csv(path, report):
    """Writes a row for each scene and model, then the means. The definitions come first, in lines that begin with #."""
    metrics = _used_metrics(report)
    with path.open("w", newline="", encoding="utf-8") as file:
        if report["command"]:
            file.write(f"# {report['command']}\n")
        file.writelines(f"# {key}: {_title(metric)}: {metric['definition']}\n" for key, metric in metrics.items())
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["scene", "model", *metrics])
        for scene, scores in [*((name, row["scores"]) for name, row in report["scenes"].items()), ("mean", report["means"])]:
            rows.writerows([scene, model, *(values[key] for key in metrics)] for model, values in scores.items())


def _cells(metrics, rows):
    """Returns for each model the cells of its row: text, whether it is the best of its column, and the bar's length, 0..100."""
    cells = {model: [] for model in rows}
    most = max((row.get("scenes", 0) for row in rows.values()), default=0)  # means over other scenes are not comparable
    for key, metric in metrics.items():
        values = {model: row[key] for model, row in rows.items() if row[key] is not None and not math.isnan(row[key])}
        ranked = [value for model, value in values.items() if rows[model].get("scenes", 0) == most]
        pick = {"higher": max, "lower": min}.get(metric["better"])
        best = _figure(pick(ranked), metric) if pick and len(ranked) > 1 else None
        longest = max(filter(math.isfinite, values.values()), default=0) or 1
        for model, row in rows.items():
            text = _figure(row[key], metric)
            length = 0 if row[key] is None else np.clip(np.nan_to_num(row[key] / longest), 0, 1)
            is_best = text == best and row.get("scenes", 0) == most
            cells[model].append({"text": text, "best": is_best, "bar": round(100 * length)})
    return cells


def _used_metrics(report):
    """The metrics that have a value in any scene."""
    means = report["means"].values()
    return {key: metric for key, metric in report["metrics"].items() if any(mean[key] is not None for mean in means)}


def _title(metric):
    return f"{metric['heading']} ({metric['better']} is better)" if metric["better"] else metric["heading"]


def _figure(value, metric):
    return "-" if value is None else f"{value:.{metric['digits']}f}"
