"""Many brackets merged into a folder: on this machine (`hdr_tf.batch`), or on a cluster (`hdr_tf.batch_beam`)."""

import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from hdr_tf import batch, systems
from hdr_tf.image import response as responses
from hdr_tf.image import stated_exposures
from hdr_tf.image.response import Response
from hdr_tf.io import brackets, image_files, transfer
from hdr_tf.radiance import light as lights
from hdr_tf.radiance import pipeline

_SHARED = 6  # brackets from which a camera's response is estimated, at most


def fuse_radiance_brackets(
    folders: Sequence[pathlib.Path | brackets.Bracket],
    output: str | os.PathLike,
    model: str = "merge",
    weights: str | os.PathLike | None = None,
    save_aligned: str | os.PathLike | None = None,
    save_exposure_map: str | os.PathLike | None = None,
    save_response: str | os.PathLike | None = None,
    response: str | Response = "auto",
    suffix: str = ".exr",
    runner: Any = None,
    mixed_precision: bool = False,
    allow_missing: bool = False,
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception | None]]:
    """Merges each bracket into `output`/<its name>.exr with `batch.run`: one that fails does not stop the others.

    Args:
        folders: of images, or brackets, as `io.brackets.list_brackets` returns them.
        output: folder of the results and of summary.json, outside the brackets.
        model, weights, runner, mixed_precision: see `pipeline.merge`.
        save_aligned, save_exposure_map, save_response: folders, in which each bracket gets a folder of aligned images,
            <its name>.png and <its name>.txt.
        response: see `pipeline.merge`. Where it has to be estimated, brackets of the same camera share one, from at most six of
            them; "per_bracket" is "auto" for each bracket by itself.
        suffix: of the results.
        allow_missing: files that cannot be read are left out of their brackets, if two others are left.
        **arguments: the others of `pipeline.fuse_radiance`; exposures are those of each bracket's images in the order of their
            names.

    Returns:
        For each bracket the file and the radiance, or the error in its place, or None if an earlier run made the file.
    """
    output, system = pathlib.Path(output), systems.find(model, "radiance")
    jobs = batch.bracket_jobs(folders, output, suffix, system.exposures[0])
    loaded = runner or pipeline.load(model, weights, mixed_precision=mixed_precision)
    response_of = _responses(jobs, system, response, arguments)
    folders_of = save_aligned, save_exposure_map, save_response

    def fuse(job, paths):
        places = _places(job, *folders_of)
        named = {"model": model, "runner": loaded, "response": response_of(paths), "allow_missing": allow_missing}
        return pipeline.fuse_radiance(paths, job.output, **named, **places, **arguments)

    weights = [weights, batch.state(systems.PRETRAINED if weights is None else weights)]
    named = {"model": runner or model, "weights": weights, "mixed_precision": mixed_precision, "save_aligned": save_aligned}
    named |= {"save_exposure_map": save_exposure_map, "save_response": save_response}
    named |= {"response": [str(response), batch.state(response) if isinstance(response, str) else None]}
    return batch.run(jobs, lambda job, paths: paths, fuse, lambda job, radiance: radiance, output, arguments | named)


def fuse_radiance_brackets_on(
    cluster,
    folders: Sequence[pathlib.Path | brackets.Bracket],
    output: str | os.PathLike,
    model: str = "merge",
    response: str | Response = "auto",
    save_aligned: str | os.PathLike | None = None,
    save_exposure_map: str | os.PathLike | None = None,
    save_response: str | os.PathLike | None = None,
    suffix: str = ".exr",
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception]]:
    """Does what `fuse_radiance_brackets` does on a `batch_beam.Cluster`, in any order and without summary.json. Responses that
    brackets share are estimated on this machine. Radiance stays in the files: zeros that take no memory stand for it."""
    jobs = batch.bracket_jobs(folders, pathlib.Path(output), suffix, systems.find(model, "radiance").exposures[0])
    response_of = _responses(jobs, systems.find(model), response, arguments)
    work = []
    for folder, job in zip(folders, jobs, strict=True):
        try:
            shared = response_of(job.inputs())
        except (ValueError, OSError):  # the bracket reports it when its turn comes
            shared = "auto"
        places = _places(job, save_aligned, save_exposure_map, save_response)
        work.append((folder, job.output, arguments | places | {"model": model, "response": shared}))
    for target, result in cluster(_fuse_one, work):
        yield target, result if isinstance(result, Exception) else np.broadcast_to(np.zeros((), np.float32), result)


def _fuse_one(bracket, target, arguments):
    """Returns the file with the shape of what is in it, or the error that took its place."""
    try:
        (job,) = batch.bracket_jobs([bracket], target.parent, target.suffix, 2)
        loading = {name: arguments.pop(name, None) for name in ("weights", "mixed_precision")}
        runner = _loaded(arguments["model"], **loading)
        return target, pipeline.fuse_radiance(job.inputs(), target, runner=runner, **arguments).shape
    except (ValueError, OSError) as error:  # some do not survive the way between processes
        return target, ValueError(" ".join(str(error).split()) or type(error).__name__)


@functools.cache
def _loaded(model, weights, mixed_precision):
    return pipeline.load(model, weights, mixed_precision=mixed_precision)


def _places(job, save_aligned, save_exposure_map, save_response):
    """Where the further outputs of a bracket go, in the folders of all."""
    return {
        "save_aligned": save_aligned and pathlib.Path(save_aligned) / job.name,
        "save_exposure_map": save_exposure_map and pathlib.Path(save_exposure_map) / f"{job.name}.png",
        "save_response": save_response and pathlib.Path(save_response) / f"{job.name}.txt",
    }


def _responses(jobs, system, response, arguments):
    """A function from the files of a bracket to its response, as `pipeline.merge` takes it."""
    setting = "auto" if response == "per_bracket" else lights.check_response(response)
    if setting == "estimate" or response == "auto" and pipeline.takes_any_number(system):
        return _Shared(jobs, setting, arguments).response
    return lambda paths: setting


class _Shared:
    """The response of each camera in a folder of brackets, estimated when it is first needed."""

    def __init__(self, jobs, setting, arguments):
        self._jobs, self._setting, self._found = jobs, setting, {}
        self._exposures, self._max_pixels = arguments.get("exposures"), arguments.get("max_pixels", image_files.MAX_PIXELS)
        self._trust = arguments.get("trust_exposures", False)

    def response(self, paths):
        """What `pipeline.merge` takes for the bracket of these files."""
        path = next(filter(_camera, paths), None)  # the first may be damaged
        if path is None or _states_light(path):
            return self._setting
        camera = _camera(path)
        if camera not in self._found:
            self._found[camera] = self._estimate(camera)
        return self._found[camera]

    def _estimate(self, camera):
        measured, assumed = [], None
        for job in self._jobs:
            try:
                paths = job.inputs()
                if _camera(paths[0]) != camera:
                    continue
                frames = lights.read(paths, self._max_pixels)
                if lights.known_response(frames, self._setting) is not None:
                    continue
                exposures = lights.find_exposures(frames, self._exposures, self._setting)
                lights.check_exposures(frames, exposures, self._setting, self._trust)
                images, start = responses.reduced([frame.pixels for frame in frames]), lights.start(frames)
                if not self._trust and responses.disagreement(images, exposures, start) > stated_exposures.RESIDUAL:
                    lights.find_response([(images, exposures)], "estimate", start, trust=False)
                lights.check_range(images[np.argsort(exposures)], np.sort(exposures), [frame.name for frame in frames])
                measured.append((images, exposures))
                assumed = assumed or start
            except (ValueError, OSError):  # the bracket reports it when its turn comes
                continue
            if len(measured) == _SHARED:
                break
        if not measured:
            return self._setting
        logging.info("%s: one response from %d brackets", camera, len(measured))
        return lights.find_response(measured, self._setting, assumed)


def _states_light(path):
    """Whether a file needs no response of its camera: it says what the light was."""
    try:
        if image_files.is_float_tiff(path):
            return True
        stated = transfer.stated(image_files.read_metadata(path))
        return stated is not None and stated.name in transfer.LIGHT
    except (ValueError, OSError):  # reported when its turn comes
        return False


def _camera(path):
    """The model in EXIF, None if there is none (RAW files need no response)."""
    try:
        return image_files.read_capture(path).camera[1]
    except (ValueError, OSError):
        return None
