"""Evaluates several models of one task on the scenes of a folder. An interrupt keeps the scores of what is done.

`fusion.Fusion` and `radiance.Radiance` hold what differs between the tasks. Each has

    METRICS, OPTIONS        the scores, {key: Metric}, and the arguments of `evaluate` that belong to this task alone
    BASELINES               names of the models that are not in the registry
    find(folder)            lists the scenes, {name: argument of `read`}, and a line for each that is incomplete
    load(model, weights)    returns the model as an argument for `run`
    read(source)            reads a scene: facts for the report, {caption: uint8 pixels} for the page, an argument for `run`
    run(model, scene)       returns the files of a result, {ending: pixels}, of which .png goes onto the page, and the scores
"""

import contextlib
import functools
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from absl import logging

from hdr_tf import cli, systems
from hdr_tf.evaluation import report
from hdr_tf.evaluation.fusion import Fusion
from hdr_tf.evaluation.radiance import Radiance
from hdr_tf.io import image_files
from hdr_tf.progress import track

TASKS: dict[systems.Task, Any] = {"fusion": Fusion, "radiance": Radiance}


def names(task: systems.Task) -> tuple[str, ...]:
    """Returns the names of all models of a task."""
    return (*systems.names(task), *TASKS[task].BASELINES)


def available(task: systems.Task, weights: str | os.PathLike | None = None) -> list[str]:
    """Returns the models of a task that can run: systems with weights in `weights` or bundled ones, and installed baselines."""
    able = []
    for model in names(task):
        with contextlib.suppress(ValueError):
            if model in systems.SYSTEMS:
                systems.SYSTEMS[model].weights_path(_own_weights(model, weights))
            else:
                TASKS[task]([model], logging.warning).load(model, _own_weights(model, weights))
            able.append(model)
    return able


def evaluate(
    scenes: str | os.PathLike,
    output: str | os.PathLike,
    models: Sequence[str],
    weights: str | os.PathLike | None = None,
    references: str | os.PathLike | None = None,
    align: Literal["none", "flow", "confident_flow"] = "none",
    original_protocol: bool = False,
    mixed_precision: bool = False,
    gain: bool = False,
    command: str = "",
) -> dict:
    """Runs every model on every scene of a folder, scores the results and reports.

    Writes scores.json (what it returns), scores.csv and scores.txt into `output` after each scene, and report.html at the end
    or when it is interrupted. The results of a scene are in a folder of its name: <model>.png; for HDR merging also <model>.exr
    and <model>.hdr (the PNG is a tone-mapped preview), <model>_aligned_low.png, _mid.png and _high.png if it was aligned (or
    _aligned_1.png and so on, if it merged another number than three), and with the original protocol <model>_truth.hdr and
    _truth.png. What fails leaves a line in "errors"; the rest is done.

    Args:
        scenes: a folder; see `hdr_tf.io.brackets` for fusion and `hdr_tf.io.scenes` for HDR merging.
        output: a folder, created if needed; neither `scenes` nor inside it.
        models: names of one task, see `names`; they decide the task.
        weights: a folder of <model>.weights.h5 files, or the file of a single model; default: the bundled weights.
        references: fusion: a folder of true images of some scenes, <scene>.png, .jpg or .tif, in 8 or 16 bit.
        align: HDR merging: the function of `optical_flow` that aligns first, for models without an alignment of their own.
        original_protocol: HDR merging by esbn: see `hdr_tf.evaluation.radiance`.
        mixed_precision: HDR merging by systems: see `radiance.pipeline.load`.
        gain: HDR merging: whether to score the PSNR after one global gain too, for unknown responses.
        command: the command line, for the report.

    Returns:
        {"task", "command", "arguments", "metrics": {metric: {"heading", "digits", "better", "definition"}}, "scenes": {name:
        {"exposures": how many, "size": [W, H], "stops" (HDR merging), "scores": {model: {metric: value}}}}, "means": {model:
        {"scenes": how many, metric: mean}}, "missing": scenes that are not done, "complete": whether there are none,
        "warnings", "errors"}. A value is None where the metric does not apply; means leave those out.
    """
    scenes, output, models = pathlib.Path(scenes), pathlib.Path(output), list(dict.fromkeys(models))
    options = {"references": references, "align": align, "original_protocol": original_protocol}
    options |= {"mixed_precision": mixed_precision, "gain": gain}
    options = {name: value for name, value in options.items() if value not in (None, False, "none")}
    task_name = _find_task(models, weights, options)
    if scenes.resolve() in (output.resolve(), *output.resolve().parents):
        raise ValueError(f"{output}: lies among the scenes and would be mistaken for one; choose a folder elsewhere")

    warnings, errors = [], []
    warn, fail = functools.partial(_note, warnings, logging.warning), functools.partial(_note, errors, logging.error)
    task = TASKS[task_name](models, warn, **options)
    (sources, incomplete), functions = task.find(scenes), {}
    for line in incomplete:
        fail(line)
    for model in models:
        with _caught(fail, model):
            functions[model] = task.load(model, _own_weights(model, weights))
    if not functions:
        raise ValueError("; ".join(errors[-len(models) :]))
    output.mkdir(parents=True, exist_ok=True)

    arguments = {"models": models, "scenes": scenes, "output": output, "weights": weights} | options
    message = {
        "task": task_name,
        "command": command,
        "arguments": {key: str(value) if isinstance(value, os.PathLike) else value for key, value in arguments.items()},
        "metrics": {key: metric._asdict() for key, metric in task.METRICS.items()},
        "scenes": {},
        "missing": list(sources),
        "warnings": warnings,
        "errors": errors,
    }
    rows, images, side = message["scenes"], {}, report.thumbnail_side(len(sources) * (len(functions) + 4))

    def keep():
        message["complete"] = not message["missing"]
        message["means"] = {model: _means(task.METRICS, model, rows.values()) for model in functions}
        report.write_scores(output, message)

    try:
        for name, source in track(list(sources.items()), "scenes"):
            with _caught(fail, name):
                facts, shown, scene = task.read(source)
                rows[name] = facts | {"scores": {}}
                images[name] = {caption: report.thumbnail(image, side) for caption, image in shown.items()}
                for model, function in functions.items():
                    with _caught(fail, f"{name}: {model}"):
                        files, scores = task.run(function, scene)
                        _write(output / name, model, files)
                        rows[name]["scores"][model] = {key: scores.get(key) for key in task.METRICS}
                        images[name][model] = report.thumbnail(files[".png"], side)
            message["missing"].remove(name)
            keep()
    finally:
        keep()
        report.write_page(output, message, images)
    return message


def _note(lines, log, line):
    """Adds a line to those of the report and logs it."""
    lines.append(line)
    log("%s", line)


@contextlib.contextmanager
def _caught(fail, where):
    """Turns an exception, such as too little memory for one large scene, into a line of the report."""
    try:
        yield
    except Exception as error:
        fail(f"{where}: {cli.one_line(error)}")


def _find_task(models, weights, options) -> systems.Task:
    """Returns the task of the models, to which the options have to belong."""
    fitting: list[systems.Task] = [task for task in TASKS if set(models) <= set(names(task))]
    if not models or not fitting:
        choices = "; ".join(f"for {task} {', '.join(names(task))}" for task in TASKS)
        raise ValueError(f"expected models of one task ({choices}), found {', '.join(models) or 'none'}")
    for option in options:
        if option not in TASKS[fitting[0]].OPTIONS:
            raise ValueError(f"{option}: does not belong to {fitting[0]} ({', '.join(models)})")
    if weights is not None and not any(_own_weights(model, weights) for model in models):
        expected = f"expected a folder of <model>.weights.h5 files or one file for {', '.join(models)}"
        raise ValueError(f"{weights}: {expected}, found none")
    return fitting[0]


def _own_weights(model, weights):
    """The folder or file `weights` if it holds weights of the model, else None, which stands for the bundled ones."""
    files = systems.SYSTEMS[model].weight_files if model in systems.SYSTEMS else (model,)
    holds = weights and any((pathlib.Path(weights) / f"{file}.weights.h5").is_file() for file in files)
    return weights if holds or files and model in systems.SYSTEMS and weights and pathlib.Path(weights).is_file() else None


def _write(folder, model, files):
    folder.mkdir(exist_ok=True)
    for ending, pixels in files.items():
        write = image_files.write_radiance if pixels.dtype == np.float32 else image_files.write_image
        write(folder / f"{model}{ending}", pixels)


def _means(metrics, model, rows):
    scores = [row["scores"][model] for row in rows if model in row["scores"]]
    means: dict[str, float | None] = {"scenes": len(scores)}
    for key in metrics:
        values = [row[key] for row in scores if row[key] is not None]
        means[key] = math.fsum(values) / len(values) if values else None
    return means
