"""What the evaluation of exposure fusion consists of: the models, how a bracket is read, the scores.

Every model gets the exposures in 8 bit (16-bit images are reduced first), dark to bright:

    the fusion systems of `hdr_tf.systems`     by `fusion.pipeline.fuse`, as users meet them
    mertens, mertens_111                       OpenCV's createMergeMertens with its defaults, and with all three weights 1
    enfuse                                     the program of that name with its defaults, where it is installed
    mean                                       mean of the exposures, rounded

Scores are those of the 8-bit results with three channels; a gray result counts as three equal ones.

Colours have a truth (see `hdr_tf.evaluation.color`) in two kinds of brackets: synthetic ones, whose folder holds the radiance
and the camera that `hdr-tf scenes` wrote, and others of three and more exposures. Of these the darkest and the brightest
alone are fused as well, and the middle one, which the model does not get, shows the colours.
"""

import functools
import math
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
from skimage.color import rgb2lab
from skimage.measure import shannon_entropy

from hdr_tf import losses, metrics, systems
from hdr_tf.evaluation import color
from hdr_tf.evaluation.report import Metric
from hdr_tf.fusion import pipeline
from hdr_tf.image import exposure_fusion, tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb, to_unit
from hdr_tf.io import brackets, image_files
from hdr_tf.synthesis.writer import read_simulated

MERTENS = {"mertens": (1.0, 1.0, 0.0), "mertens_111": (1.0, 1.0, 1.0)}  # contrast, saturation, well-exposedness
DARK = 25.0  # L*
_NEAR = 0.12  # largest difference of the lumas of a fused image and a held-out exposure whose colours are compared

_CHANNELS, _NOISE = "mean over the channels", "noise raises it too"
_LAB = "CIELAB of sRGB, D65, 2 degrees"
_MEF = "structure kept of all exposures, at most 1; gray, rounded to 8 bit, windows of 11 x 11 inside the image, three scales"
_Q_ABF = f"edges kept of all exposures, 0..1 (Xydeas, Petrovic), as the MEFB benchmark computes it, {_CHANNELS}"
_GRADIENT = f"sum of sqrt((dx^2 + dy^2) / 2) over (H - 1)(W - 1), levels of 255 per pixel, {_CHANNELS}; {_NOISE}"
_FREQUENCY = f"root of (sum of squared differences from the left and upper neighbour over H W), {_CHANNELS}; {_NOISE}"
_DARK = f"mean C* of the pixels where the result of Mertens (OpenCV, weights {{}}) has L* < {DARK:g}"
_RATIO = "dark C* divided by that of the result of Mertens itself, in the same pixels"
_PSNR = "dB, 10 log10(255^2 / mean squared error from the reference) over all pixels and channels"
_SSIM = "structural similarity to the reference; windows of 7 x 7 with equal weights, sample covariance, range 255"
_PSNR_MU = "dB, PSNR of log(1 + 5000 r) / log(5001), where r = (v / 255)^2.2, from that of the reference; peak 1"
_IDEAL = "one unclipped exposure of the same camera and luma"
_CLASS = {
    "shown": "some exposure shows the colour",
    "clipped": "all exposures are clipped",
    "dark": "all exposures are dark",
    "rest": "some exposures are clipped and the others dark",
}
_HELD_OUT = "the middle exposure, for a fusion of the darkest and the brightest, where it shows the colour and the luma is near"
_COMMON = "after both were brought to the luma of this project's pyramid"


def _color_metrics(prefix, heading, truth):
    """The three scores of colours compared with a truth, for pixels or a luma that the parts of the names say."""
    suffix = prefix and f"_{prefix}"
    return {
        f"color_error{suffix}": Metric(f"colour error{heading}", 2, "lower", f"mean CIEDE2000 from {truth}"),
        f"chroma_ratio{suffix}": Metric(f"chroma kept{heading}", 3, None, f"mean C* divided by that of {truth}"),
        f"hue_error{suffix}": Metric(
            f"hue error{heading}", 1, "lower", f"mean angle in degrees from {truth}; pixels weighted by its C*"
        ),
    }


METRICS = {
    "mef_ssim": Metric("MEF-SSIM", 4, "higher", _MEF),
    "mef_ssim_1": Metric("MEF-SSIM 1", 4, "higher", "MEF-SSIM at the finest scale alone"),
    "q_abf": Metric("Q^AB/F", 4, "higher", _Q_ABF),
    "average_gradient": Metric("avg. gradient", 3, "higher", _GRADIENT),
    "entropy": Metric("entropy", 3, "higher", f"bits per pixel of the histogram with 256 levels, {_CHANNELS}"),
    "spatial_frequency": Metric("spatial freq.", 2, "higher", _FREQUENCY),
    "lightness": Metric("mean L*", 2, None, f"0..100, {_LAB}"),
    "chroma": Metric("mean C*", 2, None, f"root of a*^2 + b*^2, {_LAB}"),
    "dark_chroma": Metric("dark C*", 2, None, _DARK.format("1, 1, 0, its defaults")),
    "dark_chroma_ratio": Metric("dark C* ratio", 3, None, _RATIO),
    "dark_chroma_111": Metric("dark C* 111", 2, None, _DARK.format("1, 1, 1")),
    "dark_chroma_ratio_111": Metric("dark C* 111 ratio", 3, None, "dark C* ratio with the weights 1, 1, 1"),
    "clipped": Metric("clipped", 4, "lower", "share of the pixels, 0..1, in which any channel is 0 or 255"),
    "psnr": Metric("PSNR", 2, "higher", _PSNR),
    "ssim": Metric("SSIM", 4, "higher", _SSIM),
    "psnr_mu": Metric("PSNR-mu", 2, "higher", _PSNR_MU),
    **_color_metrics("", "", _IDEAL),
    **_color_metrics("common", ", common luma", f"{_IDEAL} {_COMMON}"),
}
for _name in color.CLASSES:
    METRICS |= _color_metrics(_name, f", {_name}", f"{_IDEAL} where {_CLASS[_name]}")
METRICS |= _color_metrics("held_out", ", held out", _HELD_OUT)
METRICS |= _color_metrics("held_out_common", ", held out, common luma", f"{_HELD_OUT}, {_COMMON}")
METRICS["a_held_out"] = Metric("a*, held out", 2, None, f"mean a* minus that of {_HELD_OUT}")
METRICS["b_held_out"] = Metric("b*, held out", 2, None, f"mean b* minus that of {_HELD_OUT}")


class Fusion:
    """The task of exposure fusion; see `hdr_tf.evaluation.evaluate` for the methods."""

    METRICS, OPTIONS, BASELINES = METRICS, ("references",), (*MERTENS, "enfuse", "mean")

    def __init__(self, models: Sequence[str], warn: Callable[[str], None], references: str | os.PathLike | None = None):
        self._warn, self._references = warn, references and pathlib.Path(references)
        if references and not self._references.is_dir():
            raise ValueError(f"{references}: expected a folder of references, found none")

    def find(self, folder: pathlib.Path) -> tuple[dict, list[str]]:
        found, incomplete = brackets.find_brackets(folder)
        if not self._references:
            return {bracket.name: (bracket, None) for bracket in found}, incomplete
        found = [bracket for bracket in found if bracket.paths[0].parent.resolve() != self._references.resolve()]
        paths = {path.stem: path for path in image_files.list_images(self._references)}
        missing = [bracket.name for bracket in found if bracket.name not in paths]
        if len(missing) == len(found):
            raise ValueError(f"{self._references}: expected images named as the scenes, such as {missing[0]}.png, found none")
        for name in missing:
            self._warn(f"{name}: no reference")
        return {bracket.name: (bracket, paths.get(bracket.name)) for bracket in found}, incomplete

    def load(self, model: str, weights: pathlib.Path | None) -> Callable:
        if model in MERTENS:
            return functools.partial(_mertens, weights=MERTENS[model])
        if model == "enfuse":
            return functools.partial(_enfuse, enfuse_program())
        if model == "mean":
            return _mean
        runner = systems.load_runner(model, weights, "fusion")
        runner.prepare(systems.SYSTEMS[model].exposures[0], 256, 256, True)  # unfit weights fail once, not at every scene
        return functools.partial(pipeline.fuse, model=model, runner=runner, keep_order=True)

    def read(self, source: tuple[brackets.Bracket, pathlib.Path | None]) -> tuple[dict, dict[str, np.ndarray], "_Scene"]:
        loaded = brackets.read_bracket(source[0])
        loaded = brackets.dark_to_bright(loaded, [str(image.path) for image in loaded])
        exposures = [to_depth(image.pixels, 8) for image in loaded]
        height, width = exposures[0].shape[:2]
        images = {f"exposure {number}": exposure for number, exposure in enumerate(exposures, start=1)}
        if source[1]:
            images["reference"] = to_rgb(to_depth(image_files.read_image(source[1]).pixels, 8))
        scene = _Scene(exposures, images.get("reference"), read_simulated(source[0].paths[0].parent))
        return {"exposures": len(exposures), "size": [width, height]}, images, scene

    def run(self, fuse: Callable, scene: "_Scene") -> tuple[dict[str, np.ndarray], dict[str, float]]:
        fused = fuse(scene.exposures)
        scores = scene.scores(to_rgb(fused))
        if scene.held_out:
            scores |= scene.held_out.scores(to_rgb(fuse(scene.held_out.exposures)))
        return {".png": fused}, scores


class _Scene:
    """The exposures of a scene, and what results are compared with."""

    def __init__(self, exposures, reference, simulated=None):
        self.exposures, self._rgb, self._reference = exposures, [to_rgb(exposure) for exposure in exposures], reference
        self._simulated = simulated and _Simulated(self._rgb, *simulated)
        self.held_out = _HeldOut(exposures) if len(exposures) > 2 and not simulated else None
        if reference is not None and reference.shape != self._rgb[0].shape:
            (height, width), (other_height, other_width) = exposures[0].shape[:2], reference.shape[:2]
            raise ValueError(f"expected a reference of {width} x {height} pixels, found {other_width} x {other_height}")
        self._dark = {}
        for model, weights in MERTENS.items():
            lightness, chroma = _lightness_and_chroma(_mertens(exposures, weights))
            dark = lightness < DARK
            self._dark[model.removeprefix("mertens")] = dark, _mean_where(chroma, dark)

    def scores(self, fused):
        lightness, chroma = _lightness_and_chroma(fused)
        scores = {
            "mef_ssim": losses.mef_ssim_score(self._rgb, fused),
            "mef_ssim_1": losses.mef_ssim_score(self._rgb, fused, scales=1),
            "q_abf": metrics.q_abf(self._rgb, fused),
            "average_gradient": metrics.average_gradient(fused),
            "entropy": float(np.mean([shannon_entropy(fused[..., channel], base=2) for channel in range(3)])),
            "spatial_frequency": metrics.spatial_frequency(fused),
            "lightness": float(lightness.mean()),
            "chroma": float(chroma.mean()),
            "clipped": float(((fused == 0) | (fused == 255)).any(axis=2).mean()),
        }
        for suffix, (dark, mertens) in self._dark.items():
            scores[f"dark_chroma{suffix}"] = dark_chroma = _mean_where(chroma, dark)
            scores[f"dark_chroma_ratio{suffix}"] = dark_chroma / mertens if mertens else None
        if self._reference is not None:
            tones = [tone.mu_law(tone.to_radiance(pixels / np.float32(255), 1)) for pixels in (fused, self._reference)]
            scores["psnr"] = metrics.psnr(fused, self._reference, peak=255)
            scores["ssim"] = metrics.ssim(fused, self._reference, data_range=255)
            scores["psnr_mu"] = metrics.psnr(*tones)
        if self._simulated:
            scores |= self._simulated.scores(fused)
        # Q^AB/F does not apply to black exposures.
        return {key: value for key, value in scores.items() if value is not None and not math.isnan(value)}


class _Simulated:
    """The radiance and the camera of a synthetic bracket, with which the colours of results are compared."""

    def __init__(self, exposures, radiance, response, saturation):
        (height, width), (other_height, other_width) = exposures[0].shape[:2], radiance.shape[:2]
        if (height, width) != (other_height, other_width):
            raise ValueError(f"expected radiance of {width} x {height} pixels, found {other_width} x {other_height}")
        self._exposures, self._camera = exposures, (radiance, response, saturation)
        self._classes = color.classes(to_unit(np.stack(exposures)))

    def _truth(self, luma):
        return color.ideal(*self._camera, luma)

    @functools.cached_property
    def _common(self):
        luma = _common_luma(self._exposures)
        return luma, self._truth(luma)

    def scores(self, fused):
        fused = to_unit(fused)
        own = color.Comparison(fused, self._truth(color.luma(fused)))
        luma, truth = self._common
        scores = _color_scores("", own, ...)
        scores |= _color_scores("_common", color.Comparison(color.at_luma(fused, luma), truth), ...)
        for name, where in self._classes.items():
            scores |= _color_scores(f"_{name}", own, where)
        return scores


class _HeldOut:
    """The darkest and the brightest of three or more exposures, and the middle one, of two the darker, as the truth."""

    def __init__(self, exposures):
        self.exposures = [exposures[0], exposures[-1]]
        self._middle = to_unit(to_rgb(exposures[(len(exposures) - 1) // 2]))
        self._shown = color.classes(self._middle[None])["shown"]

    @functools.cached_property
    def _common(self):
        return _common_luma(self.exposures)

    def scores(self, fused):
        fused, middle = to_unit(fused), color.luma(self._middle)
        where = self._shown & (np.abs(color.luma(fused) - middle) < _NEAR)
        fused, truth, common = fused[where], self._middle[where], self._common[where]
        own = color.Comparison(fused, color.at_luma(truth, color.luma(fused)))
        scores = _color_scores("_held_out", own, ...)
        images = color.at_luma(fused, common), color.at_luma(truth, common)
        scores |= _color_scores("_held_out_common", color.Comparison(*images), ...)
        return scores | dict(zip(("a_held_out", "b_held_out"), own.shift(...), strict=True))


def _color_scores(suffix, comparison, where):
    scores = {"color_error": comparison.error, "chroma_ratio": comparison.chroma_ratio, "hue_error": comparison.hue_error}
    return {f"{name}{suffix}": score(where) for name, score in scores.items()}


def _common_luma(exposures):
    return color.luma(to_unit(to_rgb(pipeline.fuse(exposures, keep_order=True))))


def enfuse_program() -> str:
    """Returns the path of the program enfuse; raises ValueError if it is not installed."""
    program = shutil.which("enfuse")
    if program is None:
        raise ValueError("expected the program enfuse, found none; on Debian and Ubuntu: apt install enfuse")
    return program


def _lightness_and_chroma(rgb):
    lab = rgb2lab(rgb)
    return lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])


def _mean_where(values, where):
    return float(values[where].mean()) if where.any() else None


def _mertens(exposures: Sequence[np.ndarray], weights):
    return from_unit(exposure_fusion.mertens([to_rgb(pixels) for pixels in exposures], *weights), np.uint8)


def _mean(exposures):
    total = sum(to_rgb(pixels).astype(np.uint32) for pixels in exposures)
    return ((2 * total + len(exposures)) // (2 * len(exposures))).astype(np.uint8)


def _enfuse(program, exposures):
    with tempfile.TemporaryDirectory() as name:
        paths = [pathlib.Path(name) / f"{number}.png" for number in range(len(exposures) + 1)]
        for path, pixels in zip(paths[1:], exposures, strict=True):
            image_files.write_image(path, to_rgb(pixels))
        command = [program, f"--output={paths[0]}", *map(str, paths[1:])]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise ValueError(f"the program failed: {(done.stderr.strip().splitlines() or ['it does not say why'])[-1]}")
        return image_files.read_image(paths[0]).pixels
