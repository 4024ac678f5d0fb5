"""HDR merging by a network, from photographs to a radiance file.

>>> esbn = load("esbn", "weights")  # doctest: +SKIP
>>> aligned, radiance = reconstruct(esbn, images, exposures=(1, 4, 16))  # doctest: +SKIP

The registry (`hdr_tf.systems`) names a runner for each system. A runner has

    aligns                          whether `align_both` changes the images
    align_both(ldr, exposures)      aligns the low and the high exposure with the middle one, the reference
    merge(ldr, exposures)           merges the three to radiance
    reconstruct_batch(inputs)       both, on tensors, for export
    networks                        its networks

The networks return no radiance above 1, and they are trained on scenes in which 1 is where the shortest exposure clips. So
`fuse_radiance`, which takes anybody's photographs, counts exposures from the shortest one and scales the radiance back;
everything else takes exposures as they are.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from hdr_tf import batch, systems
from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb, to_unit
from hdr_tf.io import brackets, image_files
from hdr_tf.io.outputs import check_target
from hdr_tf.progress import stage

USUAL_STOPS = (2, 3)  # between two exposures of the scenes that the networks were trained on


def load(model: str, weights: str | os.PathLike | None = None, **options):
    """Loads a radiance system.

    Args:
        model: its name.
        weights: a weights file, or a folder that holds the files; None for the bundled weights.
        **options: mixed_precision, whether it computes in bfloat16, which has 8 bits of precision; weights and radiance stay
            float32.

    Returns:
        A runner, see above.
    """
    return systems.load_runner(model, weights, "radiance", **options)


def reconstruct(runner, ldr: np.ndarray, exposures: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Aligns and merges three exposures at their full depth and size.

    Args:
        runner: see `load`.
        ldr: [3, H, W, 3] uint8 or uint16 RGB, gamma-encoded, low to high, H and W at least 8.
        exposures: 2**stops of the three, increasing.

    Returns:
        The images, [3, H, W, 3] float32 in 0..1, aligned if the system aligns, the middle one unchanged; and the radiance,
        [H, W, 3] float32: v**2.2 / exposure for an encoded value v.
    """
    exposures, side = np.asarray(exposures, np.float64), systems.MIN_SIDE
    if ldr.ndim != 4 or ldr.shape[::3] != (3, 3) or min(ldr.shape[1:3]) < side or ldr.dtype not in (np.uint8, np.uint16):
        expected = f"[3, H, W, 3] of uint8 or uint16, H and W at least {side}"
        raise ValueError(f"expected three images {expected}, found {list(ldr.shape)} of {ldr.dtype}")
    if exposures.shape != (3,) or not (np.isfinite(exposures).all() and 0 < exposures[0] < exposures[1] < exposures[2]):
        raise ValueError(f"expected three increasing exposures above 0, found {exposures.tolist()}")
    with stage("aligning"):
        aligned = runner.align_both(to_unit(ldr), exposures)
    with stage("merging"):
        return aligned, runner.merge(aligned, exposures)


def fuse_radiance(
    images: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    stops: Sequence[float] | None = None,
    model: str = "esbn",
    weights: str | os.PathLike | None = None,
    save_aligned: str | os.PathLike | None = None,
    max_pixels: int = image_files.MAX_PIXELS,
    runner: Any = None,
    **options,
) -> np.ndarray:
    """Reconstructs the radiance of a scene from photographs and writes it, with a preview next to it.

    With more than three photographs, the middle exposure is the reference (the darker of the two middle ones if the count is
    even). Its partners are the darker and the brighter photograph whose distance to it is closest to 2 to 3 stops, which the
    networks know; of several within that range, the farthest. Whatever moves appears as in the reference.

    Args:
        images: three files or more, of one size, 8 or 16 bit, gamma-encoded, in any order.
        output: .exr or .hdr; its folder is created. <stem>_preview.png next to it is the radiance, tone-mapped by the mu-law.
        stops: log2 of the exposures, in the order of `images`; None takes the exposures from EXIF.
        model: name of a radiance system.
        weights: see `load`.
        save_aligned: folder for the aligned images, if the system aligns, named 1_<name>.png, 2_<name>.png, 3_<name>.png.
        max_pixels: a larger file is refused before it is decoded.
        runner: a runner that takes the place of the system's own, such as a `serving.client.Client`, or what `load` returned.
        **options: see `load`.

    Returns:
        The radiance, [H, W, 3] float32: v**2.2 / 2**stops for an encoded value v in 0..1.

    Raises:
        ValueError: images, exposures, output and weights do not go together. OSError: a file cannot be read or written.
    """
    paths, output = [pathlib.Path(image) for image in images], pathlib.Path(output)
    preview = output.with_name(f"{output.stem}_preview.png")
    if output.suffix.lower() not in image_files.RADIANCE_SUFFIXES:
        raise ValueError(f"{output}: expected an output ending in .exr or .hdr, which hold radiance, found {output.suffix!r}")
    if len(paths) < 3:
        raise ValueError(f"{model}: expected at least 3 exposures to merge, found {len(paths)}")
    if stops is not None and (len(stops) != len(paths) or not np.isfinite(stops).all()):
        raise ValueError(f"expected {len(paths)} exposures (stops), one for each image, found {', '.join(map(str, stops))}")
    for target in (output, preview):
        check_target(target, paths)
    with stage("reading"):
        loaded = [image_files.read_image(path, max_pixels) for path in paths]
    stops = _exif_stops(loaded) if stops is None else np.asarray(stops, np.float64)
    chosen = choose_exposures(stops)
    loaded, stops = [loaded[i] for i in chosen], stops[list(chosen)]
    ldr = _stack(loaded)
    if len(paths) > 3:
        listed = ", ".join(f"{image.path.name} ({stop:+.1f})" for image, stop in zip(loaded, stops - stops[1], strict=True))
        logging.info("three of %d exposures: %s", len(paths), listed)
    targets = []
    if save_aligned is not None:
        targets = [pathlib.Path(save_aligned) / f"{number}_{image.path.stem}.png" for number, image in enumerate(loaded, 1)]
    for target in targets:
        check_target(target, [*paths, preview])

    with stage(f"loading {model}"):
        runner = runner or load(model, weights, **options)
    if targets and not runner.aligns:
        raise ValueError(f"save_aligned: {model} returns no aligned images here")
    aligned, radiance = reconstruct(runner, ldr, 2 ** (stops - stops[0]))
    for target, pixels, image in zip(targets, aligned, loaded, strict=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        image_files.write_image(target, from_unit(pixels, ldr.dtype), metadata=image.metadata)
    output.parent.mkdir(parents=True, exist_ok=True)
    scaled = radiance * np.float32(2 ** -stops[0])
    image_files.write_radiance(output, scaled)
    tone_mapped = np.rint(255 * tone.mu_law(radiance)).astype(np.uint8)
    image_files.write_image(preview, tone_mapped, metadata=image_files.middle_metadata(loaded))
    return scaled


def choose_exposures(stops: np.ndarray) -> tuple[int, int, int]:
    """Returns the indices of the three exposures that `fuse_radiance` uses, low to high; ValueError if there are not three."""
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


def fuse_radiance_brackets(
    folders: Sequence[pathlib.Path | brackets.Bracket],
    output: str | os.PathLike,
    model: str = "esbn",
    weights: str | os.PathLike | None = None,
    save_aligned: str | os.PathLike | None = None,
    mixed_precision: bool = False,
    runner: Any = None,
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception | None]]:
    """Merges each bracket into `output`/<its name>.exr with `batch.run`: one that fails does not stop the others.

    Args:
        folders: of images, or brackets, as `io.brackets.list_brackets` returns them.
        output: folder of the results and of summary.json, outside the brackets.
        model, weights, mixed_precision, runner: see `fuse_radiance`.
        save_aligned: folder in which each bracket gets a folder of aligned images.
        **arguments: the others of `fuse_radiance`; stops are those of each bracket's images in the order of their names.

    Returns:
        For each bracket the file and the radiance, or the error in its place, or None if an earlier run made the file.
    """
    output = pathlib.Path(output)
    jobs = batch.bracket_jobs(folders, output, ".exr", 3)
    loaded = runner or load(model, weights, mixed_precision=mixed_precision)

    def fuse(job, paths):
        aligned = None if save_aligned is None else pathlib.Path(save_aligned) / job.name
        return fuse_radiance(paths, job.output, model=model, runner=loaded, save_aligned=aligned, **arguments)

    weights = [weights, batch.state(systems.PRETRAINED if weights is None else weights)]
    named = {"model": runner or model, "weights": weights, "mixed_precision": mixed_precision, "save_aligned": save_aligned}
    return batch.run(jobs, lambda job, paths: paths, fuse, lambda job, radiance: radiance, output, arguments | named)


def _exif_stops(loaded):
    for image in loaded:
        if image.exposure is None:
            raise ValueError(
                f"{image.path}: radiance needs the exposures, and EXIF gives none: pass --exposures=STOPS, log2, one for each "
                "image, such as --exposures=-2,0,2"
            )
    return np.log2([image.exposure for image in loaded])


def _stack(loaded):
    """The images as one array, [3, H, W, 3] of the deepest type."""
    brackets.check_sizes([image.pixels for image in loaded], [image.path for image in loaded], systems.MIN_SIDE)
    depth = 8 * max(image.pixels.itemsize for image in loaded)
    return np.stack([to_rgb(to_depth(image.pixels, depth)) for image in loaded])
