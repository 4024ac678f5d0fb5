"""Aligns the exposures of moving scenes with the medium one and writes them as scenes, which networks train on.

    python tools/align_scenes.py --scenes=scenes --output=aligned_scenes
    python tools/align_scenes.py --method=esbn --scenes=scenes --output=aligned_scenes --weights=FOLDER

    scenes/                                                aligned_scenes/
      001/  A.tif B.tif C.tif exposure.txt HDRImg.hdr        001/  1.tif 2.tif 3.tif exposure.txt HDRImg.hdr

Reads the layouts of Kalantari, Sen and Tursun (hdr_tf/image/scenes.py), writes Kalantari's. Method flow is what SelfHDR needs:
optical flow, 16-bit pictures, and as HDRImg.hdr the colour label, a merge of the three pictures; the truth is not looked at.
manifest.json tells how much of each picture could not be aligned and is the medium exposure's instead. Interrupted, it goes on
where it stopped when started again. Method esbn runs ESBN's two alignment networks and writes 8-bit pictures with the scene's
own HDRImg.hdr, for its merging network.

A scene that cannot be read or written is reported, and the others are done.
"""

import dataclasses
import sys
from typing import Literal

from hdr_tf import cli
from hdr_tf.image import scene_sets, scenes
from hdr_tf.image.processes import track


@dataclasses.dataclass(frozen=True)
class Config:
    """What to align."""

    scenes: str
    """a folder of scenes"""
    output: str
    """the folder for the aligned ones"""
    method: Literal["flow", "esbn"] = "flow"
    """optical flow, with the colour label; or ESBN's networks"""
    weights: str | None = None
    """of esbn: the folder of esbn_align_low.weights.h5 and esbn_align_high.weights.h5; default: those that come with the
    software"""
    workers: int = 0
    """of flow: number of processes; 0 for one per CPU"""


def main(config: Config) -> int:
    if config.method == "flow" and config.weights is not None:
        raise ValueError("--weights belongs to --method=esbn: optical flow has none")
    if config.method == "esbn" and config.workers:
        raise ValueError("--workers belongs to --method=flow: the networks use every CPU in one process")
    folders, incomplete = scenes.list_scenes(config.scenes)
    for line in incomplete:
        print(f"error: {line}", file=sys.stderr)
    failed = len(incomplete)
    if config.method == "flow":
        results = scene_sets.write_aligned(folders, config.output, config.workers)
    else:
        from hdr_tf import reconstruction

        results = reconstruction.align_scenes(folders, config.output, config.weights)
    for path, error in track(results, "aligning", len(folders)):
        if error is not None:
            failed += 1
            print(f"error: {path.name}: {cli.one_line(error)}", file=sys.stderr)
    total = len(folders) + len(incomplete)
    print(f"{total - failed} of {total} scenes aligned into {config.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main, Config)
