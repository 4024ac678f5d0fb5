"""Scores of fused pictures: brackets in, results of several models and what the figures of fusion say of them.

`evaluate` fuses every bracket of a folder (`hdr_tf.image.brackets`) with every model and scores the results by `METRICS`. The
models, in 8 bit, a 16-bit picture reduced first, exposures dark to bright:

    the networks of `hdr_tf.fusing.SYSTEMS`, and dqn_editor for scenes of two exposures, by `fusing.fuse`, as users meet them
    mertens, mertens_111                       OpenCV's createMergeMertens at its defaults, and with all three weights 1
    enfuse                                     the program of that name at its defaults, where it is installed
    mean                                       of the exposures, rounded

Scores are taken of the 8-bit results, three channels each, a gray one three times the same.
"""

import contextlib
import functools
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from absl import logging

from hdr_tf import fusing, metrics, report
from hdr_tf.image import brackets, exposure_fusion, files, tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb
from hdr_tf.report import Metric

MERTENS = {"mertens": (1.0, 1.0, 0.0), "mertens_111": (1.0, 1.0, 1.0)}  # contrast, saturation, well-exposedness
MODELS = (*fusing.MODELS, *MERTENS, "enfuse", "mean")
DARK = 25.0

_CHANNELS = "of each channel, their mean"
_LAB = "CIELAB of sRGB, D65, 2 degrees"
_DARK = f"mean C* of the pixels where the result of Mertens (OpenCV, weights {{}}) has L* < {DARK:g}"
METRICS = {
    "mef_ssim": Metric(
        "MEF-SSIM",
        4,
        "structure of all exposures kept, gray rounded to 8 bit, 11 x 11 windows inside, three scales, at most 1",
    ),
    "mef_ssim_1": Metric("MEF-SSIM 1", 4, "likewise, the finest scale alone"),
    "q_abf": Metric(
        "Q^AB/F",
        4,
        f"edges of all exposures kept (Xydeas, Petrovic) as the MEFB benchmark computes it, {_CHANNELS}, 0..1",
    ),
    "average_gradient": Metric(
        "avg. gradient", 3, f"sum of sqrt((dx^2 + dy^2) / 2) over (H - 1)(W - 1), levels of 255 a pixel, {_CHANNELS}"
    ),
    "entropy": Metric("entropy", 3, f"bits a pixel of the histogram of 256 levels, {_CHANNELS}"),
    "spatial_frequency": Metric(
        "spatial freq.", 2, f"root of the squared differences to the left and upper neighbours, summed over H W, {_CHANNELS}"
    ),
    "lightness": Metric("mean L*", 2, f"0..100, {_LAB}"),
    "chroma": Metric("mean C*", 2, f"root of a*^2 + b*^2, {_LAB}"),
    "dark_chroma": Metric("dark C*", 2, _DARK.format("1, 1, 0, its defaults")),
    "dark_chroma_ratio": Metric("dark C* ratio", 3, "dark C* over that of the result of Mertens itself, in the same pixels"),
    "dark_chroma_111": Metric("dark C* 111", 2, _DARK.format("1, 1, 1")),
    "dark_chroma_ratio_111": Metric("dark C* 111 ratio", 3, "likewise, weights 1, 1, 1"),
    "clipped": Metric("clipped", 4, "share of the pixels, 0..1, in which any channel is 0 or 255"),
    "psnr": Metric("PSNR", 2, "dB, 10 log10(255^2 / mean squared error from the reference), all pixels and channels"),
    "ssim": Metric(
        "SSIM", 4, "structural similarity to the reference, 7 x 7 windows of equal weights, sample covariance, range 255"
    ),
    "psnr_mu": Metric("PSNR-mu", 2, "dB, PSNR of log(1 + 5000 r) / log(5001), r = (v / 255)^2.2, from the reference's, peak 1"),
}


def evaluate(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    models: Sequence[str],
    weights: str | os.PathLike | None = None,
    references: str | os.PathLike | None = None,
    command: str = "",
    track: Callable[[Sequence], Iterable] = iter,
) -> dict:
    """Fuses every bracket of a folder with every model, scores the results and reports.

    Written to `output` are <scene>/<model>.png, scores.json (what is returned), scores.csv, scores.txt and report.html. A scene
    or a model that fails leaves a line in the report's "errors" and does not stop the others.

    Args:
        folder: see `hdr_tf.image.brackets`.
        output: a folder, made if need be; neither `folder` nor inside it.
        models: names in `MODELS`.
        weights: a folder with <model>.weights.h5 for networks; one that is not in it, or None, takes the weights that come with
            the software.
        references: a folder with <scene>.png, .jpg or .tif for scenes that have a truth in 8 or 16 bit.
        command: what was typed, for the report.
        track: wraps the sequence of scenes, for a progress bar.

    Returns:
        {"command", "arguments", "metrics": {metric: {"heading", "digits", "definition"}}, "means": {model: {"scenes": how
        many, metric: mean}}, "scenes": {name: {"exposures": how many, "size": [W, H], "scores": {model: {metric: value}}}},
        "warnings", "errors"}. A value is None where the metric does not apply; means leave those out.

    Raises:
        ValueError: arguments that do not go together, no scenes, or no model that can run.
        OSError: the output cannot be used.
    """
    folder, output = pathlib.Path(folder), pathlib.Path(output)
    references = None if references is None else pathlib.Path(references)
    models = list(dict.fromkeys(models))
    _check(folder, output, models, weights, references)
    found, errors = brackets.find_brackets(folder)
    if references is not None:
        found = [bracket for bracket in found if bracket.paths[0].parent.resolve() != references.resolve()]
    truths = _truths(found, references)
    warnings = [f"{bracket.name}: no reference" for bracket in found if references and bracket.name not in truths]
    for line in errors:
        logging.error(line)

    def fail(where, error):
        errors.append(f"{where}: {' '.join(str(error).split()) or type(error).__name__}")
        logging.error(errors[-1])

    fusers = {}
    for model in models:
        try:
            fusers[model] = _fuser(model, weights)
        except Exception as error:  # of a file of weights h5py and keras raise anything
            fail(model, error)
    if not fusers:
        raise ValueError("; ".join(errors[-len(models) :]))
    output.mkdir(parents=True, exist_ok=True)

    rows, pictures = {}, {}
    for bracket in track(found):
        try:
            exposures = _exposures(bracket)
            truth = None if bracket.name not in truths else to_rgb(_eight_bit(files.read_picture(truths[bracket.name])))
            judge = _Judge(exposures, truth)
        except Exception as error:  # such as too little memory for one large scene
            fail(bracket.name, error)
            continue
        height, width = exposures[0].shape[:2]
        row = rows[bracket.name] = {"exposures": len(exposures), "size": [width, height], "scores": {}}
        shown = pictures[bracket.name] = {
            "exposures": [report.thumbnail(exposure) for exposure in exposures],
            "reference": None if truth is None else report.thumbnail(truth),
            "results": {},
        }
        (output / bracket.name).mkdir(exist_ok=True)
        for model, fuse in fusers.items():
            try:
                fused = fuse(exposures)
                files.write_picture(output / bracket.name / f"{model}.png", fused)
                row["scores"][model] = judge.scores(to_rgb(fused))
                shown["results"][model] = report.thumbnail(fused)
            except Exception as error:  # likewise
                fail(f"{bracket.name}: {model}", error)

    told = {
        "command": command,
        "arguments": {
            "models": models,
            "scenes": str(folder),
            "output": str(output),
            "weights": None if weights is None else str(weights),
            "references": None if references is None else str(references),
        },
        "metrics": {key: metric._asdict() for key, metric in METRICS.items()},
        "means": {model: _means([row["scores"][model] for row in rows.values() if model in row["scores"]]) for model in fusers},
        "scenes": rows,
        "warnings": warnings,
        "errors": errors,
    }
    report.write(output, told, pictures)
    return told


def available(weights: str | os.PathLike | None) -> list[str]:
    """Returns those of `MODELS` that can run: networks that have weights, in the folder `weights` or with the software, enfuse
    where it is installed, and the rest."""
    found = []
    for model in MODELS:
        with contextlib.suppress(ValueError):
            if model in fusing.MODELS:
                _weights(model, weights)
            if model == "enfuse":
                enfuse_program()
            found.append(model)
    return found


def _check(folder, output, models, weights, references):
    if not models:
        raise ValueError(f"expected one model or more: {', '.join(MODELS)}")
    for model in models:
        if model not in MODELS:
            raise ValueError(f"unknown model {model!r}: expected some of {', '.join(MODELS)}")
    for what, path in (("weights", weights), ("references", references)):
        if path is not None and not pathlib.Path(path).is_dir():
            raise ValueError(f"{path}: expected a folder of {what}, found none")
    if weights is not None and not set(models) & set(fusing.MODELS):
        raise ValueError(f"{', '.join(models)}: no weights belong to that")
    if folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise ValueError(f"{output}: lies among the scenes and would be taken for one; choose a folder elsewhere")


def _truths(found, references):
    if references is None:
        return {}
    pictures, names = files.list_pictures(references), {bracket.name for bracket in found}
    truths = {path.stem: path for path in pictures if path.stem in names}
    if not truths:
        raise ValueError(f"{references}: expected pictures named as the scenes are, such as {min(names)}.png, found none")
    return truths


def _exposures(bracket):
    """The exposures in 8 bit, dark to bright."""
    pictures = brackets.read_bracket(bracket)
    names = [str(picture.path) for picture in pictures]
    return [_eight_bit(picture) for picture in fusing.dark_to_bright(pictures, names)]


def _eight_bit(picture):
    return to_depth(picture.pixels, 8)


class _Judge:
    """What the results of a scene are measured by."""

    def __init__(self, exposures, truth):
        self.exposures, self.truth = [to_rgb(exposure) for exposure in exposures], truth
        if truth is not None and truth.shape != self.exposures[0].shape:
            (height, width), (other_height, other_width) = self.exposures[0].shape[:2], truth.shape[:2]
            raise ValueError(f"expected a reference of {width} x {height} pixels, found {other_width} x {other_height}")
        self.dark = {}
        for model, weights in MERTENS.items():
            lightness, chroma = _lightness_and_chroma(_mertens(exposures, weights))
            dark = lightness < DARK
            self.dark[model.removeprefix("mertens")] = dark, _mean_where(chroma, dark)

    def scores(self, fused):
        from skimage.measure import shannon_entropy

        from hdr_tf import losses

        lightness, chroma = _lightness_and_chroma(fused)
        scores = {
            "mef_ssim": losses.mef_ssim_score(self.exposures, fused),
            "mef_ssim_1": losses.mef_ssim_score(self.exposures, fused, scales=1),
            "q_abf": metrics.q_abf(self.exposures, fused),
            "average_gradient": metrics.average_gradient(fused),
            "entropy": float(np.mean([shannon_entropy(fused[..., channel], base=2) for channel in range(3)])),
            "spatial_frequency": metrics.spatial_frequency(fused),
            "lightness": float(lightness.mean()),
            "chroma": float(chroma.mean()),
        }
        for suffix, (dark, mertens) in self.dark.items():
            scores[f"dark_chroma{suffix}"] = found = _mean_where(chroma, dark)
            scores[f"dark_chroma_ratio{suffix}"] = found / mertens if mertens else None
        scores["clipped"] = float(((fused == 0) | (fused == 255)).any(axis=2).mean())
        if self.truth is not None:
            tones = [tone.mu_law(tone.to_radiance(pixels / np.float32(255), 1)) for pixels in (fused, self.truth)]
            scores["psnr"] = metrics.psnr(fused, self.truth, peak=255)
            scores["ssim"] = metrics.ssim(fused, self.truth, data_range=255)
            scores["psnr_mu"] = metrics.psnr(*tones)
        known = {key: value for key, value in scores.items() if value is not None and not math.isnan(value)}
        return {key: known.get(key) for key in METRICS}


def _lightness_and_chroma(rgb):
    from skimage.color import rgb2lab

    lab = rgb2lab(rgb)
    return lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])


def _mean_where(values, where):
    return float(values[where].mean()) if where.any() else None


def _means(scores):
    means = {"scenes": len(scores)}
    for key in METRICS:
        values = [row[key] for row in scores if row[key] is not None]
        means[key] = math.fsum(values) / len(values) if values else None
    return means


def _fuser(model, weights):
    """Returns what makes of exposures, uint8, dark to bright, the model's result; raises ValueError if it cannot run."""
    if model in MERTENS:
        return functools.partial(_mertens, weights=MERTENS[model])
    if model == "mean":
        return _mean
    if model == "enfuse":
        return functools.partial(_enfuse, enfuse_program())
    path = _weights(model, weights)
    fusing.load_network(model, path)  # to fail once, not at every scene
    return functools.partial(fusing.fuse, model=model, weights=path, keep_order=True)


def enfuse_program() -> str:
    """Returns the path of the program enfuse; ValueError if it is not installed."""
    program = shutil.which("enfuse")
    if program is None:
        raise ValueError("expected the program enfuse, found none; on Debian and Ubuntu: apt install enfuse")
    return program


def _weights(model, folder):
    """The file of a network's weights, None for those that come with the software."""
    from hdr_tf.weights import pretrained

    file = f"{model}.weights.h5"
    if folder is not None and (pathlib.Path(folder) / file).exists():
        return pathlib.Path(folder) / file
    if pretrained(model) is None:
        raise ValueError(
            f"expected --weights, a folder with {file}, which does not come with the software: "
            "train/ has scripts that train networks, tools/convert_checkpoint.py converts their authors' weights"
        )
    return None


def _mertens(exposures, weights):
    return from_unit(exposure_fusion.mertens([to_rgb(pixels) for pixels in exposures], *weights), np.uint8)


def _mean(exposures):
    total = sum(to_rgb(pixels).astype(np.uint32) for pixels in exposures)
    return ((2 * total + len(exposures)) // (2 * len(exposures))).astype(np.uint8)


def _enfuse(program, exposures):
    with tempfile.TemporaryDirectory() as name:
        paths = [pathlib.Path(name) / f"{number}.png" for number in range(len(exposures) + 1)]
        for path, pixels in zip(paths[1:], exposures, strict=True):
            files.write_picture(path, to_rgb(pixels))
        done = subprocess.run(
            [program, f"--output={paths[0]}", *map(str, paths[1:])], capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            raise ValueError(f"the program failed: {(done.stderr.strip().splitlines() or ['it does not say why'])[-1]}")
        return files.read_picture(paths[0]).pixels
