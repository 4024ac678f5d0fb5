"""Scenes whose exposures are aligned with the middle one, for networks to train on: by optical flow for SelfHDR, by alignment
networks for ESBN. An aligned scene has the name and the exposures of its source. A scene that fails does not stop the others.
"""

import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from hdr_tf.image import hdr_merge, optical_flow
from hdr_tf.image.depth import from_unit, to_unit
from hdr_tf.io import outputs, scenes
from hdr_tf.parallel import in_processes

_NOTE = (
    "1.tif and 3.tif are brought onto 2.tif by optical flow; reference is the part of each that is taken from 2.tif instead, "
    "where the flow went wrong. HDRImg.hdr is the merge of the three (syn_hdr), not the true radiance."
)


def align_by_flow(
    folders: Sequence[pathlib.Path], output: str | os.PathLike, num_processes: int | None = None
) -> Iterator[tuple[pathlib.Path, ValueError | None]]:
    """Aligns scenes by `optical_flow.confident_flow` and writes them with their colour label (`hdr_merge.syn_hdr`).

    The images have 16 bit, and the radiance of a scene is its label (a value v is written as 65535 v, where the original's
    MATLAB code writes 2**16 v). manifest.json lists the finished scenes, which a later run keeps. Where the flow cannot follow
    a scene, a warning is logged.

    Args:
        folders: scenes, as `io.scenes.list_scenes` returns them.
        output: folder of the aligned scenes, outside the others; created. It may hold scenes that were aligned before.
        num_processes: None or 0 for one process per CPU; with 1 everything runs in the caller's process.

    Yields the folder of each aligned scene, and None or its error, in any order.
    """
    output, source = pathlib.Path(output), folders[0].resolve().parent
    if source in (output.resolve(), output.resolve().parent):
        raise ValueError(f"{output}: lies among the scenes and would be mistaken for one; choose a folder elsewhere")
    names = [folder.name for folder in folders]
    manifest = scenes.begin_set(output, _NOTE, {"method": "flow", "scenes": str(source)}, names)
    yield from ((output / name, None) for name in names if name in manifest.entries)
    jobs = [(output / folder.name, folder) for folder in folders if folder.name not in manifest.entries]
    for target, facts, error in in_processes(_align, jobs, num_processes):
        if error is None:
            manifest.add(target.name, facts)
            for note in facts["notes"]:
                logging.warning("%s: %s", target.name, note)
        yield target, error


def align_by_network(
    folders: Sequence[pathlib.Path], output: str | os.PathLike, runner
) -> Iterator[tuple[pathlib.Path, Exception | None]]:
    """Aligns scenes by the networks of a runner (such as `radiance.esbn.load_aligner` returns) and writes 8-bit images with the
    radiance of their sources. Arguments and results are those of `align_by_flow`, but no earlier run is continued."""
    output = pathlib.Path(output)
    outputs.check_outside(output, folders, "scenes")
    for folder in folders:
        target = output / folder.name
        try:
            scene = scenes.read_scene(folder)
            aligned = runner.align_both(to_unit(scene.ldr), scene.exposures)
            scenes.write_scene(target, from_unit(aligned, np.uint8), scene.stops, scene.hdr)
            yield target, None
        except Exception as error:
            yield target, error


def _align(target, folder):
    try:
        scene = scenes.read_scene(folder)
        flow = optical_flow.confident_flow(to_unit(scene.ldr), scene.exposures)
        label = hdr_merge.syn_hdr(flow.images, scene.exposures)
        if target.exists():  # complete, but the run was killed before the manifest listed it
            shutil.rmtree(target)
        scenes.write_scene(target, from_unit(flow.images, np.uint16), scene.stops, label)
    except Exception as error:  # such as too little memory for one large scene
        return target, None, ValueError(" ".join(str(error).split()) or type(error).__name__)
    reference = [round(float(1 - trust.mean()), 4) for trust in flow.confidence]
    return target, {"stops": scene.stops.tolist(), "reference": reference, "notes": list(flow.notes)}, None
