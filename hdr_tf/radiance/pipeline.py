"""HDR merging, from photographs to radiance, in an array or a file.

>>> radiance = merge(["a.jpg", "b.jpg", "c.jpg"])  # doctest: +SKIP
>>> radiance = fuse_radiance(["a.jpg", "b.jpg", "c.jpg"], "scene.exr", model="esbn")  # doctest: +SKIP

The registry (`hdr_tf.systems`) names a runner for each system. A runner of a system that merges 2 to 9 exposures has

    reconstruct(images, exposures, reference, ...)    aligns and merges, see `radiance.merge_classical`

and one of a published system, which merges three exposures,

    aligns                          whether `align_both` changes the images
    align_both(ldr, exposures)      aligns the low and the high exposure with the middle one, the reference
    merge(ldr, exposures)           merges the three to radiance
    reconstruct_batch(inputs)       both, on tensors, for export

and both have

    networks                        its networks

The published networks return no radiance above 1, and they are trained on scenes in which 1 is where the shortest exposure
clips. So photographs' exposures are counted from the shortest one and the radiance is scaled back; `reconstruct` takes
exposures as they are.
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
from absl import logging

from hdr_tf import systems
from hdr_tf.image import stated_exposures, trusted_merge
from hdr_tf.image.depth import from_unit, to_depth, to_unit
from hdr_tf.image.response import Response
from hdr_tf.io import hdr_files, image_files, outputs, raw, transfer
from hdr_tf.io import responses as response_files
from hdr_tf.io.image_files import RadianceHeader
from hdr_tf.progress import stage
from hdr_tf.radiance import display
from hdr_tf.radiance import light as lights

USUAL_STOPS = (2, 3)  # between two exposures of the scenes that the published networks were trained on
SUFFIXES = (*image_files.RADIANCE_SUFFIXES, *image_files.TIFF_SUFFIXES, ".dng")
HDR_SUFFIXES = {"ultrahdr": image_files.JPEG_SUFFIXES, "pq": hdr_files.PQ_SUFFIXES}

# Of `save_exposure_map`: an exposure, from the shortest to the longest of 2 to 9, dark blue to yellow; and what none shows.
_SHORT_TO_LONG = np.array(
    [
        *([38, 24, 94], [46, 72, 160], [30, 118, 186], [24, 150, 170], [40, 166, 120], [104, 182, 72], [166, 196, 52]),
        *([222, 204, 50], [255, 228, 80]),
    ],
    np.uint8,
)
FILLED, CLIPPED = (255, 0, 160), (255, 255, 255)

CLIPPED_LEVEL = round(trusted_merge.CLIPPED * 65535)

_SHOWN, _BRIGHT = 0.15, 0.92  # of the brightest channel: pixels in which two exposures can be compared
_COMPARED = 0.05  # share of such pixels without which nothing is said
_AGREES = 0.5  # mean trust below which an exposure is reported


def load(model: str, weights: str | os.PathLike | None = None, **options):
    """Loads a radiance system.

    Args:
        model: its name.
        weights: a weights file, or a folder that holds the files; None for the bundled weights.
        **options: mixed_precision (published systems), whether it computes in bfloat16, which has 8 bits of precision; weights
            and radiance stay float32.

    Returns:
        A runner, see above.
    """
    return systems.load_runner(model, weights, "radiance", **options)


def _kept(system, path, options):
    """The runner of a system, see `load`; the same one again as long as the files of its weights do not change."""
    files = [] if path is None else sorted(path.glob("*.weights.h5")) if path.is_dir() else [path]
    changed = tuple((file.resolve(), file.stat().st_mtime_ns) for file in files)
    return _load_kept(system.name, path, changed, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=4)
def _load_kept(model, path, changed, options):
    return load(model, path, **dict(options))


def reconstruct(runner, ldr: np.ndarray, exposures: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Aligns and merges three exposures at their full depth and size, by a published system.

    Args:
        runner: see `load`.
        ldr: [3, H, W, 3] uint8 or uint16 RGB, gamma-encoded, low to high, H and W at least 8.
        exposures: 2**stops of the three, increasing.

    Returns:
        The images, [3, H, W, 3] float32 in 0..1, aligned if the system aligns, the middle one unchanged; and the radiance,
        [H, W, 3] float32: v**2.2 / exposure for an encoded value v.
    """
    factors, side = np.asarray(exposures, np.float64), systems.MIN_SIDE
    if ldr.ndim != 4 or ldr.shape[::3] != (3, 3) or min(ldr.shape[1:3]) < side or ldr.dtype not in (np.uint8, np.uint16):
        expected = f"[3, H, W, 3] of uint8 or uint16, H and W at least {side}"
        raise ValueError(f"expected three images {expected}, found {list(ldr.shape)} of {ldr.dtype}")
    if factors.shape != (3,) or not (np.isfinite(factors).all() and 0 < factors[0] < factors[1] < factors[2]):
        raise ValueError(f"expected three increasing exposures above 0, found {factors.tolist()}")
    with stage("aligning"):
        aligned = runner.align_both(to_unit(ldr), factors)
    with stage("merging"):
        return aligned, runner.merge(aligned, factors)


def merge(
    images: Sequence[str | os.PathLike | np.ndarray],
    exposures: Sequence[float] | Literal["estimate"] | None = None,
    model: str = "merge",
    response: str | Response = "auto",
    **arguments,
) -> np.ndarray:
    """Merges exposures of one scene, still or moving, to linear radiance.

    Whatever moves appears as in the reference. The result has the primaries of the images (of RAW files those of linear sRGB,
    in which colours outside sRGB have negative values).

    Args:
        images: two to nine, in any order: paths (see `radiance.light.read`), or arrays [H, W, 3] (RGB) or [H, W], uint8 or
            uint16, of one size. With more than three, a published system uses three of them, see `choose_exposures`.
        exposures: stops, one for each image; None for those in EXIF; "estimate" measures them, which needs a known response.
        model: name of a radiance system, see `hdr_tf.systems`.
        response: how the images are encoded: "auto", "estimate", "gamma", "srgb", "linear", "pq", "hlg", a file that
            `io.responses` wrote, or a `Response`; see `radiance.light`. "auto" stays with gamma 2.2 for published systems
            unless the files state another curve.
        **arguments: the following.
        weights: see `load`.
        reference: the image that geometry follows: its index in `images`; None for the middle exposure, of two the darker one;
            "auto" for the one with the fewest clipped and dark pixels. Published systems take the middle one of their three.
        align: "flow", or "none" if nothing moved.
        fill: "smooth" continues highlights where the reference is clipped and no other exposure can be trusted, "none" leaves
            the reference's clip there.
        denoise: factor on the variance of the noise to remove; 0 for none.
        scale: what a value of 1 is: "reference" for the light at which the reference clips, "ev0" for the light at which an
            exposure of 0 stops clips (time * ISO/100 / f-number**2 = 1 where EXIF gives the exposures), so the same light has
            the same value in every bracket. None: "ev0" for published systems, as in earlier versions, otherwise "reference".
        absolute: RAW only: values are in cd/m², good to ± 1 stop.
        max_pixels: a larger file is refused before it is decoded.
        runner: a runner that takes the place of the system's own.
        trust_exposures: takes the exposures as they are stated, even if the images contradict them.
        allow_missing: images that cannot be read are left out, if two others are left.
        options of the system: mixed_precision.

    Returns:
        [H, W, 3] float32.

    Raises:
        ValueError: images, exposures, response and model do not go together.
        OSError: a file cannot be read.

    Examples:
        >>> radiance = merge([short, middle, long], exposures=(-2, 0, 2))  # doctest: +SKIP
    """
    if isinstance(images, (str, os.PathLike)):
        raise ValueError(f"expected a list of images, found the single path {os.fspath(images)!r}")
    return _merge(list(images), exposures, model, response, **arguments).output()


def fuse_radiance(
    images: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    exposures: Sequence[float] | Literal["estimate"] | None = None,
    model: str = "merge",
    response: str | Response = "auto",
    save_aligned: str | os.PathLike | None = None,
    save_exposure_map: str | os.PathLike | None = None,
    save_response: str | os.PathLike | None = None,
    half: bool = False,
    tonemap: str = "fusion",
    hdr: Literal["ultrahdr", "pq"] | None = None,
    peak: float = display.PEAK,
    diffuse_white: float = 0.0,
    **arguments,
) -> np.ndarray:
    """Merges photographs as `merge` does and writes the radiance, with a preview next to it, or an image for HDR screens.

    Args:
        images: files of one size, in any order; also images that are read already, `io.image_files.LoadedImage`.
        output: .exr, .hdr, .tif (float32), or of RAW files .dng, which keeps the camera's primaries; its folder is created.
            <stem>_preview.png next to it is the radiance, tone-mapped. With `hdr` .jpg (ultrahdr), .png or .avif (pq), and
            no preview.
        exposures, model, response: see `merge`.
        save_aligned: folder for the aligned images, if the system aligns, named 1_<name>.png, 2_<name>.png, ...
        save_exposure_map: .png that shows which exposure each pixel comes from (`exposure_map`).
        save_response: text file of the response, see `io.responses`.
        half: writes 16-bit floating point (.exr and .dng).
        tonemap: how the radiance becomes an image for a display, see `display.tone_map`.
        hdr: writes that image and what is brighter on HDR screens: "ultrahdr" or "pq", see `io.hdr_files`.
        peak: with `hdr`, cd/m² of the brightest highlights, see `display.gain`.
        diffuse_white: with `hdr`, the light above which pixels are brighter on HDR screens, in stops from that at which the
            reference clips.
        **arguments: the others of `merge`.

    Returns:
        The radiance, [H, W, 3] float32.

    Raises:
        ValueError: images, exposures, output and weights do not go together. OSError: a file cannot be read or written.
    """
    images, output = list(images), pathlib.Path(output)
    paths = [image.path if isinstance(image, image_files.LoadedImage) else pathlib.Path(image) for image in images]
    preview = output.with_name(outputs.named(output.stem, "_preview.png"))
    extras = [pathlib.Path(path) for path in (save_exposure_map, save_response) if path is not None]
    system = systems.find(model, "radiance")
    _check_output(output, paths, half, hdr)
    display.check_tonemap(tonemap)
    display.check_peak(peak)
    if not abs(diffuse_white) <= stated_exposures.MOST_STOPS:  # also nan
        raise ValueError(f"diffuse_white: expected stops within ±{stated_exposures.MOST_STOPS}, found {diffuse_white}")
    if save_exposure_map is not None:
        if extras[0].suffix.lower() != ".png":
            raise ValueError(f"save_exposure_map: expected a name ending in .png, found {save_exposure_map}")
        if not takes_any_number(system):
            raise ValueError(f"save_exposure_map: {model} does not say which exposure a pixel comes from")
    targets = [output, *([] if hdr else [preview]), *extras]
    for target in targets:
        outputs.check_target(target, [path for path in paths if path is not None])
    if len({target.resolve() for target in targets}) < len(targets):
        raise ValueError(f"{output}: expected a name of its own for each output, found one twice")
    folder = None if save_aligned is None else pathlib.Path(save_aligned)
    check = functools.partial(_aligned_targets, folder, [*paths, *targets])
    merged = _merge(images, exposures, model, response, check=check, **arguments)
    if folder is not None and merged.aligned is None:
        raise ValueError(f"save_aligned: {model} returns no aligned images here")
    frames, shown = merged.light.frames, merged.output()
    metadata = image_files.middle_metadata(frames, merged.reference)
    if output.suffix.lower() == ".hdr" and shown.min() < 0:
        logging.info("%s: negative values, colours outside sRGB, are cut at 0; .exr keeps them", output)
        shown = np.maximum(shown, 0)
    with stage("tone mapping"):
        base = merged.preview(tonemap)
    with stage("writing"):
        output.parent.mkdir(parents=True, exist_ok=True)
        reached, shown_metadata = merged.light.reached, transfer.displayed(metadata)
        if hdr:
            gain = display.gain(merged.relative(), 2.0**diffuse_white, peak)
            if hdr == "ultrahdr":
                hdr_files.write_ultrahdr(output, base, gain, peak, shown_metadata, reached)
            else:
                hdr_files.write_pq(output, base, gain, shown_metadata, reached)
        elif output.suffix.lower() == ".dng":
            sensor = cast(raw.RawImage, merged.sensor)  # of other files `_check_output` refuses .dng
            raw.write_linear_dng(output, merged.camera(), sensor.white_balance, sensor.xyz_to_camera, metadata, half)
        else:
            image_files.write_radiance(output, shown, merged.header(), half, reached)
        if not hdr:
            image_files.write_image(preview, base, metadata=shown_metadata, reached=reached)
        if folder is not None and merged.aligned is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for target, pixels, frame in zip(_aligned_targets(folder, (), frames), merged.aligned, frames, strict=True):
                image_files.write_image(target, pixels, metadata=transfer.displayed(frame.metadata))
        for target in extras:
            target.parent.mkdir(parents=True, exist_ok=True)
        if save_exposure_map is not None:
            source, clipped = cast(Any, (merged.source, merged.clipped))  # both are there if it `takes_any_number`
            image_files.write_image(save_exposure_map, exposure_map(source, clipped.any(axis=2), len(frames)))
        if save_response is not None:
            response_files.write_response(save_response, merged.light.response)
    return shown


def exposure_map(source: np.ndarray, clipped: np.ndarray, count: int) -> np.ndarray:
    """Returns an image, [H, W, 3] uint8, of which exposure each pixel comes from.

    Exposures are dark blue (the shortest) to yellow (the longest), filled pixels magenta, pixels that are clipped in every
    exposure white.

    Args:
        source: [H, W] uint8, the index of the exposure that counts most, `count` where the fill does.
        clipped: [H, W] bool, whether a channel is clipped in all exposures.
        count: number of exposures.
    """
    steps = np.rint(np.linspace(0, len(_SHORT_TO_LONG) - 1, count)).astype(int)
    colours = np.vstack([_SHORT_TO_LONG[steps], np.array([FILLED], np.uint8)])[source]
    colours[clipped & (source < count)] = CLIPPED
    return colours


def choose_exposures(stops: np.ndarray) -> tuple[int, int, int]:
    """Returns the indices of the three exposures that a published system uses, low to high; ValueError if there are not three.

    The middle exposure is the reference (the darker of the two middle ones if the count is even). Its partners are the darker
    and the brighter image whose distance to it is closest to 2 to 3 stops, which the networks know; of several within that
    range, the farthest.
    """
    order = np.argsort(stops, kind="stable")
    reference = order[(len(stops) - 1) // 2]

    def nearest(candidates):
        distances = np.abs(stops[candidates] - stops[reference])
        low, high = USUAL_STOPS
        return candidates[np.lexsort([-distances, np.maximum(low - distances, distances - high).clip(0)])[0]]

    darker, brighter = (order[at] for at in (stops[order] < stops[reference], stops[order] > stops[reference]))
    if not (len(darker) and len(brighter)):
        listed = ", ".join(f"{stop:g}" for stop in stops[order])
        raise ValueError(f"expected three different exposures, the middle one between the others, found the stops {listed}")
    return int(nearest(darker)), int(reference), int(nearest(brighter))


@dataclasses.dataclass(frozen=True)
class _Merged:
    """A merged bracket; radiance is relative to the reference, which clips at 1."""

    light: lights.Light
    reference: int  # index in `light`
    factor: float  # to the scale that was asked for
    luminance: float | None  # cd/m² of a value of 1 in that scale, where it is known
    radiance: np.ndarray  # [H, W, 3]
    aligned: Sequence[np.ndarray] | None  # uint8 or uint16, gamma 2.2, short to long
    source: np.ndarray | None = None  # [H, W], see `merge_classical.Merged`
    clipped: np.ndarray | None = None  # [H, W, 3] bool: in every exposure

    @property
    def sensor(self):
        return self.light.frames[self.reference].sensor

    def camera(self) -> np.ndarray:
        """Radiance in the primaries of the images, float32."""
        radiance = self.radiance
        if self.sensor:
            clipped = cast(np.ndarray, self.clipped)  # published systems, which lack it, have no sensor either
            radiance = raw.neutral_highlights(radiance, clipped, self.sensor.white_balance)
        return radiance * np.float32(self.factor)

    def output(self) -> np.ndarray:
        """Radiance in the primaries of the result."""
        radiance, sensor = self.camera(), self.sensor
        if self.light.reached is not None:
            radiance = radiance * self.light.reached[..., None]
        return raw.to_output(radiance, sensor.white_balance, sensor.matrix) if sensor else radiance

    def relative(self) -> np.ndarray:
        """Radiance in the primaries of the result; the reference clips at 1."""
        return self.output() / np.float32(self.factor)

    def preview(self, tonemap) -> np.ndarray:
        """The radiance, tone-mapped, by curves so that the shortest exposure's clip is white, uint8."""
        white = self.light.exposures[self.reference] / self.light.exposures[0]
        return display.tone_map(self.relative(), tonemap, white)

    def header(self) -> RadianceHeader:
        frame = self.light.frames[self.reference]
        primaries = None if self.sensor else transfer.primaries(frame.metadata)
        return RadianceHeader(
            exposure=-math.log2(self.factor),
            white_level=self.factor,
            white_luminance=self.luminance,
            primaries=primaries or image_files.SRGB_PRIMARIES,
            response=self.light.response_name,
            notes=f"reference {frame.path.name if frame.path else frame.name} of {len(self.light.frames)} exposures",
        )


def _merge(
    images,
    exposures=None,
    model="merge",
    response: str | Response = "auto",
    weights=None,
    reference=None,
    align="flow",
    fill="smooth",
    denoise=1.0,
    scale=None,
    absolute=False,
    max_pixels=image_files.MAX_PIXELS,
    runner=None,
    trust_exposures=False,
    allow_missing=False,
    check=lambda frames: None,
    **options,
):
    """Returns the `_Merged` of images; arguments are those of `merge`. `check` gets the frames before the work begins."""
    system = systems.find(model, "radiance")
    own = takes_any_number(system)
    changed = {"reference": reference is not None, "align": align != "flow", "fill": fill != "smooth", "denoise": denoise != 1}
    if not own and any(changed.values()):
        names = ", ".join(name for name, value in changed.items() if value)
        having = ", ".join(name for name in systems.names("radiance") if takes_any_number(systems.SYSTEMS[name]))
        raise ValueError(f"{names}: belongs to {having}, not to {model}")
    for name, value, known in (("align", align, ("flow", "none")), ("fill", fill, ("smooth", "none"))):
        if value not in known:
            raise ValueError(f"{name}: expected {' or '.join(known)}, found {value!r}")
    if scale not in (None, "reference", "ev0"):
        raise ValueError(f"scale: expected reference or ev0, found {scale!r}")
    if not (math.isfinite(denoise) and denoise >= 0):
        raise ValueError(f"denoise: expected a factor of at least 0, found {denoise}")

    def check_count(count):
        if isinstance(reference, int) and not 0 <= reference < count:
            raise ValueError(f"reference: expected one of {count} images, found number {reference + 1}")
        if own:
            system.check_exposures(count)
        elif count < 3:
            raise ValueError(f"{model}: expected at least 3 exposures to merge, found {count}")
        if exposures is not None and not isinstance(exposures, str) and len(exposures) != count:
            listed = ", ".join(map(str, exposures))
            raise ValueError(f"expected {count} exposures (stops), one for each image, found {listed}")

    check_count(len(images))
    response = lights.check_response(response)
    if runner is None:
        system.weights_path(weights)

    with stage("reading"):
        frames = lights.read(images, max_pixels, develop=not own, allow_missing=allow_missing)
    check_count(len(frames))
    if absolute and (scale or not frames[0].sensor):
        found = f"scale {scale}" if scale else frames[0].name
        raise ValueError(f"absolute: expected RAW files, a model that merges them and no other scale, found {found}")
    measured = isinstance(exposures, str)
    exposures = lights.find_exposures(frames, exposures, response)
    exposures = lights.check_exposures(frames, exposures, response, trust_exposures or measured)
    if not own:
        frames, exposures = _chosen(frames, exposures)
    with stage("decoding"):
        light = lights.to_light(frames, exposures, response, assume_gamma=not own, trust=trust_exposures)
    del frames
    check(light.frames)
    if not own:
        reference = 1
    elif reference == "auto":
        reference = lights.best_reference(light.images)
    else:
        reference = light.middle if reference is None else light.order.index(reference)
    factor = _factor(light, reference, scale or ("reference" if own else "ev0"), absolute)
    with stage(f"loading {model}"):
        runner = runner or _kept(system, system.weights_path(weights), options)
    result = functools.partial(_Merged, light, reference, factor, 1.0 if absolute else None)
    relative = light.exposures / light.exposures[reference]
    if not own:
        aligned, radiance = reconstruct(runner, np.stack(light.images), light.exposures / light.exposures[0])
        aligned = from_unit(aligned, light.images[0].dtype) if runner.aligns else None
        return result(radiance * np.float32(1 / relative[0]), aligned)
    arguments = {"align": align == "flow", "fill": fill == "smooth", "denoise": denoise, "noise": light.noise}
    arguments |= {"step": light.step, "dark_error": light.dark_error}
    with stage("merging"):
        merged = runner.reconstruct(light.images, relative, reference, **arguments)
    clipped = functools.reduce(np.logical_and, (image >= CLIPPED_LEVEL for image in merged.registered.images))
    _report(light, reference, merged, clipped)
    aligned = [to_depth(image, 8 * light.images[0].itemsize) for image in merged.registered.images]
    return result(merged.radiance, aligned, merged.source, clipped)


def takes_any_number(system: systems.System) -> bool:
    """Returns whether a system merges exposures of any number, with all that goes with it; the published ones merge three."""
    return system.exposures != (3, 3)


def _chosen(frames, exposures):
    """The three frames that a published system uses, and their exposures."""
    stops = np.log2(exposures)
    chosen = list(choose_exposures(stops))
    if len(frames) > 3:
        names = (f"{pathlib.Path(frames[i].name).name} ({stops[i] - stops[chosen[1]]:+.1f})" for i in chosen)
        logging.info("three of %d exposures: %s", len(frames), ", ".join(names))
    return [frames[i] for i in chosen], exposures[chosen]


def _factor(light, reference, scale, absolute):
    """From radiance in which the reference clips at 1 to the scale that was asked for."""
    if not absolute:
        return 1.0 if scale == "reference" else light.scale / light.exposures[reference]
    sensor = light.frames[reference].sensor
    settings = [value or math.nan for value in (sensor.f_number, sensor.exposure_time, sensor.iso)]
    try:
        return raw.absolute_scale(*settings)
    except ValueError as error:
        raise ValueError(f"{light.frames[reference].name}: {error}") from None


def _report(light, reference, merged, clipped):
    """Logs what was not aligned, what does not agree, and what no exposure shows."""
    for i, reason in merged.registered.notes.items():
        logging.info("%s is not aligned: %s", light.frames[i].name, reason)
    images = merged.registered.images
    step = max(1, math.isqrt(images[0].size // 3_000_000))  # a million pixels are enough
    images, inside = ([plane[::step, ::step] for plane in planes] for planes in merged.registered[:2])
    relative = light.exposures / light.exposures[reference]
    peaks = [to_unit(image.max(axis=2)) for image in images]
    for i, frame in enumerate(light.frames):
        if i == reference:
            continue
        dark, bright = (peaks[j] for j in ((i, reference) if relative[i] < 1 else (reference, i)))
        shown = (dark > _SHOWN) & (bright < _BRIGHT)
        if shown.mean() > _COMPARED:
            pair = images[i], images[reference]
            agrees = trusted_merge.trust(*pair, inside[i], relative[i], light.dark_error)[shown].mean()
            if agrees < _AGREES:
                logging.warning(
                    "%s agrees with the reference in %.0f %% of the pixels that both show: its motion cannot be followed, or "
                    "its exposure is not %.3g times the reference's; elsewhere the reference stands alone",
                    *(frame.name, 100 * agrees, relative[i]),
                )
    shares = 100 * np.mean(merged.source == len(light.frames)), 100 * np.mean(clipped.any(axis=2))
    logging.info("%.1f %% of the pixels are filled, %.1f %% are clipped in every exposure", *shares)


def _check_output(output, paths, half, hdr):
    suffix = output.suffix.lower()
    if hdr and hdr not in HDR_SUFFIXES:
        raise ValueError(f"hdr: expected {' or '.join(HDR_SUFFIXES)}, found {hdr!r}")
    if hdr and suffix not in HDR_SUFFIXES[hdr]:
        known = " or ".join(HDR_SUFFIXES[hdr])
        raise ValueError(f"{output}: expected an output ending in {known} with hdr={hdr}, found {output.suffix!r}")
    if hdr == "pq":
        hdr_files.check_pq(output)
    if not hdr and suffix not in SUFFIXES:
        for_screens = ", ".join(f"{' and '.join(known)} with hdr={name}" for name, known in HDR_SUFFIXES.items())
        raise ValueError(
            f"{output}: expected an output ending in .exr, .hdr or .tif, which hold radiance, or .dng, or for HDR screens "
            f"{for_screens}, found {output.suffix!r}"
        )
    if suffix == ".dng" and not all(path.suffix.lower() in image_files.RAW_SUFFIXES for path in paths):
        raise ValueError(f"{output}: .dng holds the radiance of RAW files, found other images; write .exr")
    if half and suffix not in (".exr", ".dng"):
        raise ValueError(f"{output}: half precision is for .exr and .dng")


def _aligned_targets(folder, others, frames):
    """The files of the aligned images, none without a folder; ValueError if one cannot be written."""
    numbered = enumerate(frames, 1)
    targets = [folder / outputs.named(f"{number}_{frame.path.stem}", ".png") for number, frame in numbered] if folder else []
    for target in targets:
        outputs.check_target(target, others)
    return targets
