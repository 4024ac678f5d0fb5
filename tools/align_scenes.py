"""Aligns scenes with ESBN's two alignment networks and writes them as scenes, which the merging network trains on.

    python tools/align_scenes.py --scenes=scenes --output=aligned_scenes --weights=FOLDER

Reads and writes Kalantari's layout; exposure.txt and HDRImg.hdr are those of the scene:

    scenes/                                                aligned_scenes/
      001/  A.tif B.tif C.tif exposure.txt HDRImg.hdr        001/  1.tif 2.tif 3.tif exposure.txt HDRImg.hdr

A scene that cannot be read or written is reported, and the others are done.
"""

import dataclasses
import sys

import rich.console
import rich.progress

from hdr_tf import cli, reconstruction
from hdr_tf.image import scenes


@dataclasses.dataclass(frozen=True)
class Config:
    """What to align."""

    scenes: str
    """a folder of scenes"""
    output: str
    """the folder for the aligned ones"""
    weights: str | None = None
    """the folder of esbn_align_low.weights.h5 and esbn_align_high.weights.h5; default: those that come with the software"""


def main(config: Config) -> int:
    folders, incomplete = scenes.list_scenes(config.scenes)
    for line in incomplete:
        print(f"error: {line}", file=sys.stderr)
    failed = len(incomplete)
    console = rich.console.Console(stderr=True)
    results = reconstruction.align_scenes(folders, config.output, config.weights)
    for path, error in rich.progress.track(results, "aligning", len(folders), console=console, disable=not console.is_terminal):
        if error is not None:
            failed += 1
            print(f"error: {path.name}: {cli.one_line(error)}", file=sys.stderr)
    total = len(folders) + len(incomplete)
    print(f"{total - failed} of {total} scenes aligned into {config.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    cli.run(main, Config)
