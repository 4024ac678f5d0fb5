"""What the evaluation of exposure fusion consists of: the models, how a bracket is read, the scores.

Every model gets the exposures in 8 bit (16-bit images are reduced first), dark to bright:

    the fusion systems of `hdr_tf.systems`     by `fusion.pipeline.fuse`, as users meet them
    mertens, mertens_111                       OpenCV's createMergeMertens with its defaults, and with all three weights 1
    enfuse                                     the program of that name with its defaults, where it is installed
    mean                                       mean of the exposures, rounded

Scores are those of the 8-bit results with three channels; a gray result counts as three equal ones.
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
from hdr_tf.evaluation.report import Metric
from hdr_tf.fusion import pipeline
from hdr_tf.image import exposure_fusion, tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb
from hdr_tf.io import brackets, image_files

MERTENS = {"mertens": (1.0, 1.0, 0.0), "mertens_111": (1.0, 1.0, 1.0)}  # contrast, saturation, well-exposedness
DARK = 25.0  # L*

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
}


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
        scene = _Scene(exposures, images.get("reference"))
        return {"exposures": len(exposures), "size": [width, height]}, images, scene

    def run(self, fuse: Callable, scene: "_Scene") -> tuple[dict[str, np.ndarray], dict[str, float]]:
        fused = fuse(scene.exposures)
        return {".png": fused}, scene.scores(to_rgb(fused))


class _Scene:
    """The exposures of a scene, and what results are compared with."""

    def __init__(self, exposures, reference):
        self.exposures, self._rgb, self._reference = exposures, [to_rgb(exposure) for exposure in exposures], reference
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
        # Q^AB/F does not apply to black exposures.
        return {key: value for key, value in scores.items() if value is not None and not math.isnan(value)}


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
