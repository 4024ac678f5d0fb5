"""What the evaluation of HDR merging consists of: the models, how a scene is read, the scores.

The models merge the exposures at the scene's full size and depth:

    the radiance systems of `hdr_tf.systems`    aligned as the system does it, or else as `align` asks
    esbn_fusion                                 ESBN's merging network alone
    medium, hat, snr, debevec, syn_hdr          the classical merges of `hdr_tf.image.hdr_merge`

All exposures of a scene go to the models that take any number, three of them to the others (`io.scenes.read_scene`). The result
and the true radiance of either are in the scale of all exposures, so that a scene has one scale.

The scores are those of ESBN's scripts and of SelfHDR's (cszhilu1998/SelfHDR 9e8af4a, test.py): their two PSNR are the same,
their SSIM differ.

The original protocol does what ESBN's published scripts do (tkd1088/ESBN 3f873ab, reconstruction_align2.py and
reconstruction_fusion.py), quirks included: images of 8 bit, resized to 896 x 1344 without antialiasing; LDR inputs of the
alignment networks and true exposures truncated to 8 bit; the high network gets the medium exposure of the ground truth
instead of the photograph (a leak); the merging network gets the aligned images rounded to 8 bit. *Changed*: the aligned images
are not written, read back and resized to the size that they have (the values are the same).
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Literal

import cv2
import numpy as np

from hdr_tf import metrics, systems
from hdr_tf.evaluation.report import Metric
from hdr_tf.image import hdr_merge, optical_flow, tone
from hdr_tf.image.depth import from_unit, to_unit
from hdr_tf.io import scenes
from hdr_tf.radiance import pipeline
from hdr_tf.radiance.esbn import load_merger

ORIGINAL_SIZE = (896, 1344)  # height and width
ALIGNMENTS = ("none", "flow", "confident_flow")
MERGER = "esbn_fusion"

_PSNR = "dB, 10 log10(1 / mean squared error) over all pixels and channels; the peak is 1, whatever the largest value is"
_SSIM = "structural similarity; windows of 7 x 7 with equal weights, sample covariance, range = largest - smallest true value"
_GAUSSIAN = "structural similarity; windows of 11 x 11 with Gaussian weights of sigma 1.5, range 1, values clipped to 0..1"
_TONE = "of log(1 + 5000 r) / log(5001), where r is the radiance in the scene's own scale"
_LINEAR = "of the radiance in the scene's own scale"
_TRUE = "dB, 10 log10(1 / mean squared error) from the exposure (gamma 2.2, 0..1) of the true radiance"
_UNALIGNED = "the medium image, brought to the {} exposure and clipped, for comparison"
_GAIN = "after one gain, the median of truth / result where the truth is above 1e-4 and below 0.9"
METRICS = {
    "psnr_t": Metric("PSNR-T", 2, "higher", f"{_PSNR}, {_TONE}; SelfHDR's PSNR-mu"),
    "psnr_l": Metric("PSNR-L", 2, "higher", f"{_PSNR}, {_LINEAR}"),
    "ssim_t": Metric("SSIM-T", 4, "higher", f"{_SSIM}, {_TONE}"),
    "ssim_l": Metric("SSIM-L", 4, "higher", f"{_SSIM}, {_LINEAR}"),
    "gaussian_ssim_t": Metric("Gaussian SSIM-T", 4, "higher", f"{_GAUSSIAN}, {_TONE}; SelfHDR's SSIM-mu"),
    "gaussian_ssim_l": Metric("Gaussian SSIM-L", 4, "higher", f"{_GAUSSIAN}, {_LINEAR}; SelfHDR's SSIM-L"),
    "psnr_low": Metric("low", 2, "higher", f"the aligned low image: {_TRUE}"),
    "psnr_low_medium": Metric("medium as low", 2, None, f"{_UNALIGNED.format('low')}: {_TRUE}"),
    "psnr_high": Metric("high", 2, "higher", f"the aligned high image: {_TRUE}"),
    "psnr_high_medium": Metric("medium as high", 2, None, f"{_UNALIGNED.format('high')}: {_TRUE}"),
}
GAIN_METRICS = {"psnr_t_gain": Metric("PSNR-T, gain", 2, "higher", f"PSNR-T {_GAIN}")}


class _Exposures:
    """A scene, read for models of one kind, and its images as `align` asks, [N, H, W, 3] float32 in 0..1."""

    def __init__(self, scene, align, warn):
        self.scene, self._align, self._warn = scene, align, warn

    @functools.cached_property
    def images(self):
        scene, images = self.scene, to_unit(self.scene.ldr)
        if self._align == "flow":
            return optical_flow.flow(images, scene.exposures, scene.reference)
        if self._align == "confident_flow":
            images, _, notes = optical_flow.confident_flow(images, scene.exposures, scene.reference)
            for note in notes:
                self._warn(f"{scene.name}: {note}")
        return images


class Radiance:
    """The task of HDR merging; see `hdr_tf.evaluation.evaluate` for the methods.

    A model is whether it takes every exposure, and a function from `_Exposures` to the radiance, the true radiance in the same
    size or None, further files, and the scores of the alignment."""

    OPTIONS = ("align", "original_protocol", "mixed_precision", "gain")
    BASELINES = (MERGER, *hdr_merge.MERGES)

    def __init__(
        self,
        models: Sequence[str],
        warn: Callable[[str], None],
        align: Literal["none", "flow", "confident_flow"] = "none",
        original_protocol: bool = False,
        mixed_precision: bool = False,
        gain: bool = False,
    ):
        if align not in ALIGNMENTS:
            raise ValueError(f"align: expected one of {', '.join(ALIGNMENTS)}, found {align!r}")
        if original_protocol and list(models) != ["esbn"]:
            raise ValueError(f"original_protocol: belongs to esbn alone, not to {', '.join(models)}")
        self._warn, self._align, self._original, self._mixed_precision = warn, align, original_protocol, mixed_precision
        self._kinds = {_takes_every(model) for model in models}
        self.METRICS = METRICS | (GAIN_METRICS if gain else {})

    def find(self, folder: pathlib.Path) -> tuple[dict, list[str]]:
        paths, incomplete = scenes.list_scenes(folder, every=True in self._kinds)
        return {path.name: path for path in paths}, incomplete

    def load(self, model: str, weights: pathlib.Path | None) -> tuple[bool, Callable]:
        return _takes_every(model), self._load(model, weights)

    def _load(self, model, weights):
        mixed = self._mixed_precision and "mixed_precision" in getattr(systems.SYSTEMS.get(model), "options", ())
        if self._mixed_precision and not mixed:
            self._warn(f"{model}: has no mixed precision")
        if model in hdr_merge.MERGES:
            return functools.partial(self._merge, hdr_merge.MERGES[model])
        if model == MERGER:
            return functools.partial(self._merge, load_merger(weights).merge)
        runner = systems.load_runner(model, weights, "radiance", mixed_precision=mixed)
        if self._original:
            return functools.partial(_original, runner)
        if not runner.aligns:
            return functools.partial(self._merge, runner.merge)
        if self._align != "none":
            self._warn(f"{model}: aligns by itself, align={self._align} does not apply to it")
        return functools.partial(_merge_every if _takes_every(model) else _reconstruct, runner)

    def read(self, source: pathlib.Path) -> tuple[dict, dict[str, np.ndarray], dict[bool, _Exposures | Exception]]:
        read = {}
        for every in sorted(self._kinds, reverse=True):
            try:
                read[every] = _Exposures(scenes.read_scene(source, every), self._align, self._warn)
            except (ValueError, OSError) as error:
                read[every] = error
                continue
            if every and len(read[every].scene.stops) == 3:
                read[False] = read[every]
                break
        readable = [each.scene for each in read.values() if isinstance(each, _Exposures)]
        if not readable:
            raise next(iter(read.values()))
        scene, hdr = readable[0], self._scaled(readable[0], readable[0].hdr)
        if scene.stops[0] != 0:
            self._warn(f"{scene.name}: the shortest exposure is at {scene.stops[0]:g} stops, the networks expect 0")
        images = {f"exposure {number}": image for number, image in enumerate(scene.at_8_bit(), start=1)}
        if hdr is not None:
            images["ground truth"] = _preview(hdr)
        count, height, width = scene.ldr.shape[:3]
        return {"exposures": count, "size": [width, height], "stops": scene.stops.tolist()}, images, read

    def run(self, model: tuple[bool, Callable], read: dict) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        every, reconstruct = model
        if not isinstance(read[every], _Exposures):
            raise read[every]
        radiance, truth, files, scores = reconstruct(read[every])
        radiance, truth = (self._scaled(read[every].scene, values) for values in (radiance, truth))
        files = {".exr": radiance, ".hdr": radiance, ".png": _preview(radiance)} | files
        if truth is not None:
            scores = _scores(radiance, truth) | scores
            if "psnr_t_gain" in self.METRICS:
                scores["psnr_t_gain"] = _psnr_after_gain(radiance, truth)
        return files, scores

    def _scaled(self, scene, radiance):
        """Radiance in the scale in which all models of the run are compared: of all exposures if one of them takes these."""
        if radiance is None or scene.shift == 0 or True not in self._kinds:
            return radiance
        return radiance * np.float32(2.0**-scene.shift)

    def _merge(self, merge, exposures):
        scene, ldr = exposures.scene, exposures.images
        files_and_scores = ({}, {}) if self._align == "none" else _aligned(scene, ldr)
        return merge(ldr, scene.exposures), scene.hdr, *files_and_scores


def _takes_every(model):
    """Whether a model takes any number of exposures, not just three."""
    if model in systems.SYSTEMS:
        return systems.SYSTEMS[model].exposures != (3, 3)
    return model != MERGER and model not in hdr_merge.THREE_EXPOSURES


def _merge_every(runner, exposures):
    scene = exposures.scene
    merged = runner.reconstruct(list(scene.ldr), scene.exposures, scene.reference)
    return merged.radiance, scene.hdr, *_aligned(scene, to_unit(np.stack(merged.registered.images)))


def _reconstruct(runner, exposures):
    scene = exposures.scene
    aligned, radiance = pipeline.reconstruct(runner, scene.ldr, scene.exposures)
    return radiance, scene.hdr, *_aligned(scene, aligned)


def _aligned(scene, aligned):
    """The files of aligned images, float32 in 0..1, and the scores of three."""
    files = _aligned_files(from_unit(aligned, scene.ldr.dtype))
    if scene.hdr is None or len(aligned) != 3:
        return files, {}
    truth = [tone.to_exposure(scene.hdr, exposure) for exposure in scene.exposures]
    return files, _alignment_scores(aligned, truth, to_unit(scene.ldr[1]), scene.exposures)


def _aligned_files(images):
    names = scenes.EXPOSURE_NAMES if len(images) == 3 else range(1, len(images) + 1)
    return {f"_aligned_{name}.png": image for name, image in zip(names, images, strict=True)}


def _alignment_scores(aligned, truth, medium, exposures):
    radiance, scores = tone.to_radiance(medium, exposures[1]), {}
    for index, name in ((0, "low"), (2, "high")):
        scores[f"psnr_{name}"] = metrics.psnr(aligned[index], truth[index])
        scores[f"psnr_{name}_medium"] = metrics.psnr(tone.to_exposure(radiance, exposures[index]), truth[index])
    return scores


def _original(esbn, read):
    """ESBN as the published scripts run it; see the module's docstring."""
    scene = read.scene
    if scene.hdr is None:
        raise ValueError("expected HDRImg.hdr, which the original protocol shows to the high network, found none")
    height, width = ORIGINAL_SIZE
    low, mid, high = ldr = [cv2.resize(to_unit(image), (width, height)) for image in scene.at_8_bit()]
    truth = cv2.resize(scene.hdr, (width, height))
    exposures = np.float32(scene.exposures)
    hdr = [tone.to_radiance(image, exposure) * 2 - 1 for image, exposure in zip(ldr, exposures, strict=True)]
    true = [_truncate(tone.to_exposure(truth, exposure)) for exposure in exposures]

    aligned = []
    for network, moving, still, index in ((esbn.low, low, _truncate(mid), 0), (esbn.high, high, true[1], 2)):
        inputs = {"ldr_low": _truncate(moving), "ldr_mid": still}
        inputs = {name: levels.astype(np.float32) / np.float32(127.5) - 1 for name, levels in inputs.items()}
        output = _run(network, inputs | {"hdr_low": hdr[index], "hdr_mid": hdr[1]})["aligned"]
        aligned.append((np.clip(output, -1, 1) + 1) * np.float32(127.5))
    levels = [np.rint(aligned[0]).astype(np.uint8), _truncate(mid), np.rint(aligned[1]).astype(np.uint8)]

    inputs = {}
    for name, image, exposure in zip(scenes.EXPOSURE_NAMES, map(to_unit, levels), exposures, strict=True):
        inputs[f"ldr_{name}"] = image * 2 - 1
        inputs[f"hdr_{name}"] = tone.to_radiance(image, exposure) * 2 - 1
    radiance = (_run(esbn.fusion, inputs)["hdr"] + 1) / 2
    files = _aligned_files(levels) | {"_truth.hdr": truth, "_truth.png": _preview(truth)}
    scores = _alignment_scores([aligned[0] / 255, None, aligned[1] / 255], [levels / 255 for levels in true], mid, exposures)
    return radiance, truth, files, scores


def _truncate(image):
    return (255 * image).astype(np.uint8)


def _run(network, inputs):
    """Runs a network on images [H, W, 3]."""
    outputs = network({name: image[None] for name, image in inputs.items()})
    return {name: np.asarray(output, np.float32)[0] for name, output in outputs.items()}


def _scores(radiance, truth):
    scores = {}
    for key, result, true in (("t", tone.mu_law(radiance), tone.mu_law(truth)), ("l", radiance, truth)):
        scores[f"psnr_{key}"] = metrics.psnr(result, true)
        scores[f"ssim_{key}"] = metrics.ssim(result, true, float(true.max() - true.min()))
        scores[f"gaussian_ssim_{key}"] = metrics.gaussian_ssim(np.clip(result, 0, 1), np.clip(true, 0, 1), 1)
    return scores


def _psnr_after_gain(radiance, truth):
    """PSNR-T after the gain that brings the result nearest to the truth; None if no truth is in the range."""
    usual = (truth > 1e-4) & (truth < 0.9)
    if not usual.any():
        return None
    gain = np.median(truth[usual] / np.maximum(radiance[usual], np.float32(1e-12)))
    return metrics.psnr(tone.mu_law(radiance * gain), tone.mu_law(truth))


def _preview(radiance):
    return np.rint(np.clip(255 * tone.mu_law(radiance), 0, 255)).astype(np.uint8)
