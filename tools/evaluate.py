"""Scores radiance reconstructed from the three exposures of scenes, with and without networks.

    python tools/evaluate.py --model=esbn --scenes=scenes --output=scores
    python tools/evaluate.py --model=snr --align=flow --scenes=scenes --output=scores_snr

Each sub-folder of --scenes is one, as tools/make_scenes.py writes them and Kalantari's data set comes; without HDRImg.hdr
it is reconstructed and not scored. Written are a folder of pictures for each and the figures, with their definitions:

    scenes/                               scores/
      001/  1.tif  2.tif  3.tif             001/  radiance.exr  radiance.hdr  tone_mapped.png  aligned_low.png  ...
            exposure.txt  HDRImg.hdr        scores.json  scores.txt
"""

import dataclasses
import functools
import shlex
import sys
from typing import Literal

import rich.console
import rich.progress

from hdr_tf import cli, evaluation


@dataclasses.dataclass(frozen=True)
class Config:
    """What to score."""

    scenes: str = ""
    """a folder of scenes"""
    output: str = ""
    """a folder for the results"""
    model: str = "esbn"
    """esbn, its merging network alone (esbn_fusion), or a classical merge: medium, hat, snr or debevec"""
    weights: str | None = None
    """a folder with ESBN's three weight files; default: those that come with the software"""
    align: Literal["none", "flow"] = "none"
    """bring the exposures onto the medium one by optical flow first; not for esbn, which aligns itself"""
    original_protocol: bool = False
    """run ESBN as its published scripts do: 896 x 1344, 8 bit, the ground truth shown to the high network"""


def main(config: Config) -> int:
    if not config.scenes or not config.output:
        raise ValueError("expected --scenes, a folder of scenes, and --output, a folder for the results")
    console = rich.console.Console(stderr=True)
    report = evaluation.evaluate(
        config.scenes,
        config.output,
        config.model,
        config.weights,
        config.align,
        config.original_protocol,
        command=shlex.join(["python", *sys.argv]),
        track=functools.partial(rich.progress.track, description="scenes", console=console, disable=not console.is_terminal),
    )
    print(evaluation.as_text(report), end="")
    return 1 if report["errors"] else 0


if __name__ == "__main__":
    cli.run(main, Config)
