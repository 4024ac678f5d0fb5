"""Many brackets fused into a folder: on this machine (`hdr_tf.batch`), or on a cluster (`hdr_tf.batch_beam`)."""

import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hdr_tf import batch, systems
from hdr_tf.fusion import pipeline
from hdr_tf.io import brackets as bracket_files
from hdr_tf.io import image_files
from hdr_tf.io.brackets import Bracket


def fuse_brackets(
    brackets: Sequence[pathlib.Path | Bracket],
    output: str | pathlib.Path,
    model: str = "pyramid",
    weights: str | pathlib.Path | None = None,
    save_aligned: str | pathlib.Path | None = None,
    runner: Any = None,
    allow_missing: bool = False,
    suffix: str = ".png",
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception | None]]:
    """Fuses each bracket into `output`/<its name><suffix> with `batch.run`: one that fails does not stop the others.

    Args:
        brackets: folders of images, or brackets, as `io.brackets.list_brackets` returns them.
        output: folder of the results and of summary.json, outside the brackets; an image of a bracket is never overwritten.
        model, weights, runner: see `pipeline.fuse`.
        suffix: .png, .tif or .jpg.
        save_aligned: folder in which each bracket gets a folder of aligned images.
        allow_missing: files that cannot be read are left out of their brackets, if two others are left.
        **arguments: those of `pipeline.fuse_to_outputs`.

    Returns:
        For each bracket the file and the fused image, or the error in its place, or None if an earlier run made the file.

    Raises:
        ValueError: what is wrong with every bracket: there is no such model or weights file, or the output is unfit.
    """
    output, system = pathlib.Path(output), systems.find(model, "fusion")
    path = None if runner else system.weights_path(weights)
    jobs = batch.bracket_jobs(brackets, output, suffix, 2)
    everything = set()
    for bracket in brackets:
        paths = bracket.paths if isinstance(bracket, Bracket) else bracket.glob("*")  # none if forbidden
        everything.update(pathlib.Path(os.path.realpath(image)) for image in paths)  # resolve() raises for links in a circle

    def read(job, paths):
        pipeline.check_output(job.output, arguments.get("depth"), list(everything & {job.output.resolve()}))
        return _read(paths, allow_missing, arguments)

    def fuse(job, images):
        aligned = None if save_aligned is None else pathlib.Path(save_aligned) / job.name
        named = {"model": model, "weights": weights, "save_aligned": aligned, "runner": runner}
        return pipeline.fuse_to_outputs(images, job.output, **arguments | named)

    # All flags as earlier versions listed them, whose results are kept.
    settings = arguments | {"vgg_weights": arguments.get("vgg_weights")} | ({"runner": runner} if runner else {})
    settings |= {"model": model, "weights": [path, path and batch.state(path)], "save_aligned": save_aligned}
    return batch.run(jobs, read, fuse, lambda job, outputs: pipeline.write_outputs(outputs), output, settings)


def fuse_brackets_on(
    cluster, brackets: Sequence[pathlib.Path | Bracket], output: pathlib.Path, suffix: str = ".png", **arguments
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception]]:
    """Does what `fuse_brackets` does on a `batch_beam.Cluster`, in any order and without summary.json. The pixels stay in the
    files: zeros that take no memory stand for them."""
    jobs = batch.bracket_jobs(brackets, output, suffix, 2)
    work = [(bracket, job.output, arguments) for bracket, job in zip(brackets, jobs, strict=True)]
    for target, result in cluster(_fuse, work):
        yield target, result if isinstance(result, Exception) else np.broadcast_to(np.zeros((), result[1]), result[0])


def _fuse(bracket, target, arguments):
    """Returns the file with the shape and the type of what is in it, or the error that took its place."""
    aligned = arguments.get("save_aligned") and pathlib.Path(arguments["save_aligned"]) / target.stem
    arguments = dict(arguments)
    try:
        (job,) = batch.bracket_jobs([bracket], target.parent, target.suffix, 2)
        images = _read(job.inputs(), True, arguments) if arguments.pop("allow_missing", False) else job.inputs()
        fused = pipeline.fuse_files(images, target, **arguments | {"save_aligned": aligned})
    except (ValueError, OSError) as error:  # some do not survive the way between processes
        return target, ValueError(" ".join(str(error).split()) or type(error).__name__)
    return target, (fused.shape, fused.dtype)


def _read(paths, allow_missing, arguments):
    read = functools.partial(image_files.read_image, max_pixels=arguments.get("max_pixels", image_files.MAX_PIXELS))
    return bracket_files.readable(paths, read) if allow_missing else [read(path) for path in paths]
