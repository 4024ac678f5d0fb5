"""Aligns the exposures of moving scenes with the middle one and writes them as scenes for networks to train on.

    hdr-tf align --scenes=scenes --output=aligned_scenes
    hdr-tf align --method=esbn --scenes=scenes --output=aligned_scenes --weights=FOLDER

    scenes/                                                aligned_scenes/
      001/  A.tif B.tif C.tif exposure.txt HDRImg.hdr        001/  1.tif 2.tif 3.tif exposure.txt HDRImg.hdr

Reads the layouts of Kalantari, Sen and Tursun (hdr_tf/io/scenes.py) and writes Kalantari's. Method flow is what SelfHDR needs:
optical flow, 16-bit images, and as HDRImg.hdr the colour label, a merge of the three images; the true radiance is not used.
manifest.json records which part of each image could not be aligned and shows the middle exposure instead. After an
interruption the same command continues where it stopped. Method esbn runs ESBN's two alignment networks and writes 8-bit
images with the scene's own HDRImg.hdr, for its merging network. A scene that cannot be read or written is reported; the others
are aligned.
"""

import dataclasses
import sys
from typing import Literal

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to align."""

    RENAMED = {"workers": "num_processes"}

    scenes: str  # folder of scenes
    output: str  # folder for the aligned scenes; created
    method: Literal["flow", "esbn"] = "flow"  # align by optical flow, which adds the colour label, or by ESBN's networks
    # esbn: folder of esbn_align_low.weights.h5 and esbn_align_high.weights.h5; default: the bundled weights
    weights: str | None = None
    num_processes: int = 0  # flow: number of processes; 0 for one per CPU


def main(config: Config) -> int:
    if config.method == "flow" and config.weights is not None:
        raise ValueError("--weights belongs to --method=esbn: optical flow has none")
    if config.method == "esbn" and config.num_processes:
        raise ValueError("--num_processes belongs to --method=flow: the networks use every CPU in one process")
    from hdr_tf.io.scenes import list_scenes
    from hdr_tf.progress import track
    from hdr_tf.radiance import aligned_scenes

    folders, incomplete = list_scenes(config.scenes)
    for line in incomplete:
        print(f"error: {line}", file=sys.stderr)
    failed = len(incomplete)
    if config.method == "flow":
        results = aligned_scenes.align_by_flow(folders, config.output, config.num_processes)
    else:
        from hdr_tf.radiance import esbn  # TensorFlow, which the flow does not need

        results = aligned_scenes.align_by_network(folders, config.output, esbn.load_aligner(config.weights))
    for path, error in track(results, "aligning", len(folders)):
        if error is not None:
            failed += 1
            print(f"error: {path.name}: {cli.one_line(error)}", file=sys.stderr)
    total = len(folders) + len(incomplete)
    print(f"{total - failed} of {total} scenes aligned into {config.output}")
    return 1 if failed else 0
