"""Scores of radiance from three exposures: scenes in, reconstructions and their distance from the truth out.

`evaluate` runs ESBN, its merging network alone ("esbn_fusion"), a network that SelfHDR trains, or a classical merge of
`hdr_tf.image.merging` on every scene of a folder and writes what comes out beside a report of the figures that `METRICS`
defines. Every scene is met at its full size and depth.

The figures are those of ESBN's scripts and of SelfHDR's (cszhilu1998/SelfHDR 9e8af4a, test.py), whose two PSNR are the same and
whose SSIM is another. HDR-VDP-2, which papers report beside them, is not here: it exists in MATLAB only.

The original protocol is what ESBN's published scripts do instead (tkd1088/ESBN 3f873ab, reconstruction_align2.py and
reconstruction_fusion.py), quirks included: pictures of 8 bit, resized to 896 x 1344 without antialiasing; LDR inputs of the
alignment networks and true exposures truncated to 8 bit; the high network sees the medium exposure of the ground truth
instead of the photograph (a leak); the merging network gets the aligned pictures rounded to 8 bit.

Changed there: the aligned pictures are handed on, not written, read back and resized to the size that they have (the values
are the same).
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import cv2
import numpy as np
from absl import logging

from hdr_tf import metrics, reconstruction, selfhdr
from hdr_tf.image import files, merging, optical_flow, scenes, tone
from hdr_tf.image.depth import from_unit, to_unit
from hdr_tf.report import Metric, table, write_json

MODELS = ("esbn", "esbn_fusion", *selfhdr.NETWORKS, *merging.MERGES)
ALIGNING = {"esbn": "aligns with its own networks", "fshdr": "has its pictures aligned by confident_flow"}
ORIGINAL_SIZE = (896, 1344)


_PSNR = "dB, 10 log10(1 / mean squared error) over all pixels and channels, peak 1 whatever the largest value"
_SSIM = "structural similarity, 7 x 7 windows of equal weights, sample covariance, range = largest - smallest true value"
_GAUSSIAN = "structural similarity, 11 x 11 windows weighted by a Gaussian of sigma 1.5, range 1, values clipped to 0..1"
_TONE = "of log(1 + 5000 r) / log(5001), r the radiance in the scene's own scale"
_TRUE = "dB, 10 log10(1 / mean squared error), from the exposure (gamma 2.2, 0..1) of the true radiance"
METRICS = {
    "psnr_t": Metric("PSNR-T", 2, f"{_PSNR}, {_TONE}; SelfHDR's PSNR-mu"),
    "psnr_l": Metric("PSNR-L", 2, f"{_PSNR}, of the radiance in the scene's own scale"),
    "ssim_t": Metric("SSIM-T", 4, f"{_SSIM}, {_TONE}"),
    "ssim_l": Metric("SSIM-L", 4, f"{_SSIM}, of the radiance in the scene's own scale"),
    "gaussian_ssim_t": Metric("Gaussian SSIM-T", 4, f"{_GAUSSIAN}, {_TONE}; SelfHDR's SSIM-mu"),
    "gaussian_ssim_l": Metric("Gaussian SSIM-L", 4, f"{_GAUSSIAN}, of the radiance in the scene's own scale; SelfHDR's SSIM-L"),
    "psnr_low": Metric("low", 2, f"aligned low picture: {_TRUE}"),
    "psnr_low_medium": Metric("medium as low", 2, "medium picture brought to the low exposure, clipped: likewise"),
    "psnr_high": Metric("high", 2, f"aligned high picture: {_TRUE}"),
    "psnr_high_medium": Metric("medium as high", 2, "medium picture brought to the high exposure, clipped: likewise"),
}


@dataclasses.dataclass(frozen=True)
class _Result:
    """What becomes of a scene."""

    radiance: np.ndarray
    """[H, W, 3] float32"""
    truth: np.ndarray | None
    """likewise, in the radiance's size"""
    pictures: dict[str, np.ndarray]
    """file's name -> what else is written, uint8, uint16 or, as radiance, float32"""
    scores: dict[str, float]
    """of the alignment"""


def evaluate(
    folder: str | os.PathLike,
    output: str | os.PathLike,
    model: str = "esbn",
    weights: str | os.PathLike | None = None,
    align: Literal["none", "flow", "confident_flow"] = "none",
    original_protocol: bool = False,
    mixed_precision: bool = False,
    size: tuple[int, int] = ORIGINAL_SIZE,
    system=None,
    command: str = "",
    track: Callable[[Sequence], Iterable] = iter,
) -> dict:
    """Reconstructs every scene of a folder and scores what has a ground truth.

    A folder for each scene appears in `output`: radiance.exr, radiance.hdr, tone_mapped.png and, where something was
    aligned, aligned_low.png, aligned_mid.png, aligned_high.png; with the original protocol also truth.hdr and
    truth_tone_mapped.png. scores.json holds what is returned, scores.txt the same to read. A scene that fails leaves a line
    in the report's "errors" and does not stop the others.

    Args:
        folder: of scenes, see `hdr_tf.image.scenes`.
        output: a folder, made if need be; neither `folder` nor inside it.
        model: a name in `MODELS`.
        weights: a folder of the networks' weight files, <model>.weights.h5 or ESBN's three, or the file; None takes those that
            come with the software.
        align: aligns the exposures first, for what has no alignment of its own: by `optical_flow.flow` or `confident_flow`.
        original_protocol: see above.
        mixed_precision: of a name in `reconstruction.MODELS`, as of `reconstruction.load`.
        size: height and width for the original protocol.
        system: what `reconstruction.load` returned, in place of what `weights` names.
        command: what was typed, for the report.
        track: wraps the sequence of scenes, for a progress bar.

    Returns:
        {"command", "arguments", "metrics": {metric: {"definition", "mean"}}, "scenes": {name: {"stops", "scores"}},
        "warnings", "errors"}; "scores" is None without ground truth, "mean" if no scene was scored.

    Raises:
        ValueError: arguments that do not go together, no scenes, or unfit weights.
        OSError: the output or the weights cannot be used.
    """
    folder, output = pathlib.Path(folder), pathlib.Path(output)
    _check(folder, output, model, weights, align, original_protocol, mixed_precision)
    paths, incomplete = scenes.list_scenes(folder)
    if system is None and model not in merging.MERGES:
        if model == "esbn_fusion":
            system = reconstruction.load_esbn(weights, ("fusion",))
        else:
            system = reconstruction.load(model, weights, mixed_precision)
    if original_protocol:
        reconstruct = functools.partial(_original, esbn=system, size=size)
    elif model in ALIGNING:
        reconstruct = functools.partial(_reconstruct, system=system)
    else:
        merge = merging.MERGES[model] if system is None else system.merge
        reconstruct = functools.partial(_merge, merge=merge, align=align)
    output.mkdir(parents=True, exist_ok=True)

    rows, warnings, errors = {}, [], []

    def fail(line):
        errors.append(line)
        logging.error(line)

    for line in incomplete:
        fail(line)
    for path in track(paths):
        try:
            scene = scenes.read_scene(path)
            if scene.stops[0] != 0:
                warnings.append(f"{scene.name}: the shortest exposure is at {scene.stops[0]:g} stops, the networks expect 0")
                logging.warning(warnings[-1])
            result = reconstruct(scene)
            scores = None if result.truth is None else _scores(result.radiance, result.truth) | result.scores
            _write(output / scene.name, result)
            rows[scene.name] = {"stops": scene.stops.tolist(), "scores": scores}
        except Exception as error:  # such as too little memory for one large scene
            told = " ".join(str(error).split()) or type(error).__name__
            fail(told if str(path) in told else f"{path}: {told}")
    arguments = {
        "model": model,
        "scenes": str(folder),
        "output": str(output),
        "weights": None if weights is None else str(weights),
        "align": align,
        "original_protocol": list(size) if original_protocol else False,
        "mixed_precision": mixed_precision,
    }
    report = {"command": command, "arguments": arguments, "metrics": _means(rows), "scenes": rows}
    report |= {"warnings": warnings, "errors": errors}
    write_json(output / "scores.json", report)
    with files.atomic(output / "scores.txt") as temporary:
        temporary.write_text(as_text(report))
    return report


def as_text(report: dict) -> str:
    """Returns the report of `evaluate` as lines to read: a table, warnings and errors, and the definitions."""
    keys = [key for key, metric in report["metrics"].items() if metric["mean"] is not None]

    def cells(name, stops, scores):
        return [name, stops, *("-" if scores is None else f"{scores[key]:.{METRICS[key].digits}f}" for key in keys)]

    rows = [["scene", "stops", *(METRICS[key].heading for key in keys)]]
    for name, row in report["scenes"].items():
        rows.append(cells(name, " ".join(f"{stop:g}" for stop in row["stops"]), row["scores"]))
    if keys:
        rows.append(cells("mean", "", {key: report["metrics"][key]["mean"] for key in keys}))
    lines = [f"{key}: {value}" for key, value in report["arguments"].items()]
    lines = [report["command"], *lines, ""] if report["command"] else [*lines, ""]
    lines += table(rows)
    lines += ["", *(f"warning: {warning}" for warning in report["warnings"])]
    lines += [*(f"error: {error}" for error in report["errors"]), ""]
    lines += [f"{METRICS[key].heading}: {report['metrics'][key]['definition']}" for key in keys]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip() + "\n"


def _check(folder, output, model, weights, align, original_protocol, mixed_precision):
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}: expected one of {', '.join(MODELS)}")
    if align not in ("none", "flow", "confident_flow"):
        raise ValueError(f"expected the alignment none, flow or confident_flow, found {align!r}")
    if model in ALIGNING and align != "none":
        raise ValueError(f"align: {model} {ALIGNING[model]}; every other model of radiance takes flow and confident_flow")
    if model != "esbn" and original_protocol:
        raise ValueError(f"{model} has no original protocol: that belongs to esbn")
    if model in merging.MERGES and weights is not None:
        raise ValueError(f"{model} has no weights: those belong to networks")
    if mixed_precision and model not in reconstruction.MODELS:
        raise ValueError(f"{model} has no mixed precision: that belongs to {', '.join(reconstruction.MODELS)}")
    if folder.resolve() in (output.resolve(), *output.resolve().parents):
        raise ValueError(f"{output}: lies among the scenes and would be taken for one; choose a folder elsewhere")


def _merge(scene, merge, align):
    """A merge, behind the alignment that is asked for."""
    ldr = to_unit(scene.ldr)
    pictures, scores = {}, {}
    if align == "flow":
        ldr = optical_flow.flow(ldr, scene.exposures)
    if align == "confident_flow":
        ldr, _, notes = optical_flow.confident_flow(ldr, scene.exposures)
        for note in notes:
            logging.warning("%s: %s", scene.name, note)
    if align != "none":
        pictures, scores = _aligned(scene, ldr)
    return _Result(merge(ldr, scene.exposures), scene.hdr, pictures, scores)


def _reconstruct(scene, system):
    """A network with its alignment, at the scene's size and depth."""
    aligned, radiance = reconstruction.reconstruct(system, scene.ldr, scene.exposures)
    return _Result(radiance, scene.hdr, *_aligned(scene, aligned))


def _aligned(scene, aligned):
    """The files of aligned pictures, float32 in 0..1, and their scores."""
    pictures, scores = from_unit(aligned, scene.ldr.dtype), {}
    if scene.hdr is not None:
        truth = [tone.to_exposure(scene.hdr, exposure) for exposure in scene.exposures]
        scores = _alignment_scores(aligned, truth, to_unit(scene.ldr[1]), scene.exposures)
    return _picture_files(pictures), scores


def _picture_files(pictures):
    return {f"aligned_{side}.png": picture for side, picture in zip(scenes.EXPOSURE_NAMES, pictures, strict=True)}


def _alignment_scores(aligned, truth, medium, exposures):
    radiance, scores = tone.to_radiance(medium, exposures[1]), {}
    for index, side in ((0, "low"), (2, "high")):
        scores[f"psnr_{side}"] = metrics.psnr(aligned[index], truth[index])
        scores[f"psnr_{side}_medium"] = metrics.psnr(tone.to_exposure(radiance, exposures[index]), truth[index])
    return scores


def _original(scene, esbn, size):
    """ESBN as the published scripts run it; see the module's docstring."""
    if scene.hdr is None:
        raise ValueError("expected HDRImg.hdr, which the original protocol shows to the high network, found none")
    height, width = size

    def resize(picture):
        return cv2.resize(picture, (width, height))

    exposures = np.float32(scene.exposures)
    low, mid, high = ldr = [resize(to_unit(picture)) for picture in scene.at_8_bit()]
    truth = resize(scene.hdr)
    hdr = [tone.to_radiance(picture, exposure) * 2 - 1 for picture, exposure in zip(ldr, exposures, strict=True)]
    true = [_truncate(tone.to_exposure(truth, exposure)) for exposure in exposures]

    aligned = []
    for network, moving, still, index in ((esbn.low, low, _truncate(mid), 0), (esbn.high, high, true[1], 2)):
        inputs = {"ldr_low": _truncate(moving), "ldr_mid": still}
        inputs = {name: levels.astype(np.float32) / np.float32(127.5) - 1 for name, levels in inputs.items()}
        output = _run(network, inputs | {"hdr_low": hdr[index], "hdr_mid": hdr[1]})["aligned"]
        aligned.append((np.clip(output, -1, 1) + 1) * np.float32(127.5))
    levels = [np.rint(aligned[0]).astype(np.uint8), _truncate(mid), np.rint(aligned[1]).astype(np.uint8)]
    pictures = _picture_files(levels) | {"truth.hdr": truth, "truth_tone_mapped.png": _preview(truth)}

    inputs = {}
    for side, picture, exposure in zip(scenes.EXPOSURE_NAMES, levels, exposures, strict=True):
        picture = to_unit(picture)
        inputs[f"ldr_{side}"] = picture * 2 - 1
        inputs[f"hdr_{side}"] = tone.to_radiance(picture, exposure) * 2 - 1
    radiance = (_run(esbn.fusion, inputs)["hdr"] + 1) / 2
    scores = _alignment_scores([aligned[0] / 255, None, aligned[1] / 255], [levels / 255 for levels in true], mid, exposures)
    return _Result(radiance, truth, pictures, scores)


def _truncate(picture):
    return (255 * picture).astype(np.uint8)


def _run(network, inputs):
    """Runs a network on pictures [H, W, 3]."""
    outputs = network({name: picture[None] for name, picture in inputs.items()})
    return {name: np.asarray(output, np.float32)[0] for name, output in outputs.items()}


def _scores(radiance, truth):
    scores = {}
    for key, result, true in (("t", tone.mu_law(radiance), tone.mu_law(truth)), ("l", radiance, truth)):
        scores[f"psnr_{key}"] = metrics.psnr(result, true)
        scores[f"ssim_{key}"] = metrics.ssim(result, true, float(true.max() - true.min()))
        scores[f"gaussian_ssim_{key}"] = metrics.gaussian_ssim(np.clip(result, 0, 1), np.clip(true, 0, 1), 1)
    return {key: scores[key] for key in METRICS if key in scores}


def _means(rows):
    scored = [row["scores"] for row in rows.values() if row["scores"] is not None]
    means = {}
    for key, metric in METRICS.items():
        values = [scores[key] for scores in scored if key in scores]
        means[key] = {"definition": metric.definition, "mean": math.fsum(values) / len(values) if values else None}
    return means


def _write(folder, result):
    """Writes a scene's files."""
    folder.mkdir(exist_ok=True)
    pictures = {"radiance.exr": result.radiance, "radiance.hdr": result.radiance, "tone_mapped.png": _preview(result.radiance)}
    for name, pixels in (result.pictures | pictures).items():
        write = files.write_radiance if pixels.dtype == np.float32 else files.write_picture
        write(folder / name, pixels)


def _preview(radiance):
    return np.rint(np.clip(255 * tone.mu_law(radiance), 0, 255)).astype(np.uint8)
