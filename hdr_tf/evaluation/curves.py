"""Learning curves of training runs, and curves of camera responses."""

import csv
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from hdr_tf.image.response import Response

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise ValueError("curves need the package matplotlib, found none: pip install 'hdr_tf[train]'") from error


def learning_curves(runs: Sequence[str | os.PathLike], columns: Sequence[str]) -> np.ndarray:
    """Draws columns of the log.csv, such as "loss", over the steps; `runs` are the folders of training runs
    (hdr_tf/training/loop.py, train/dqn_editor.py). Returns uint8 [600, 900, 3] RGB. Values that are not finite are left out."""
    if not (runs and columns):
        raise ValueError(f"expected at least one run and one column, found {len(runs)} and {len(columns)}")
    single = len(columns) == 1
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="steps", ylabel=columns[0] if single else "")
    for run in map(pathlib.Path, runs):
        try:
            with (run / "log.csv").open(newline="") as file:
                rows = list(csv.DictReader(file))
            every = json.loads((run / "config.json").read_text())["log_every"]
            steps = np.float64([row["step"] if "step" in row else every * (int(row["epoch"]) + 1) for row in rows])
        except (ValueError, LookupError, TypeError, RecursionError, csv.Error) as error:
            raise ValueError(f"{run}: expected the log.csv and config.json of a run, found something else") from error
        for column in columns:
            if not rows or column not in rows[0]:
                existing = ", ".join(rows[0]) if rows else "no row"
                raise ValueError(f"{run / 'log.csv'}: expected a column {column!r}, found {existing}")
            try:
                values = np.float64([row[column] for row in rows])
            except (ValueError, TypeError) as error:
                raise ValueError(f"{run / 'log.csv'}: expected numbers in the column {column!r}") from error
            finite = np.isfinite(values)
            axes.plot(steps[finite], values[finite], marker=".", label=run.name if single else f"{run.name} {column}")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    return _drawn(figure)


def response_curves(responses: Mapping[str, Response]) -> np.ndarray:
    """Draws camera responses by their labels: stops below clipping over the encoded value, next to gamma 2.2 (dashed).

    Returns uint8 [600, 900, 3] RGB.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot(xlabel="encoded value", ylabel="stops below clipping", ylim=(-12, 0))
    values = np.linspace(0, 1, 513)[1:]
    for label, response in responses.items():
        axes.plot(values, np.log2(np.maximum(response.decode(values), 1e-9)), label=label)
    axes.plot(values, np.log2(Response.gamma().decode(values)), "k--", linewidth=1, label="gamma 2.2")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return _drawn(figure)


def _drawn(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
