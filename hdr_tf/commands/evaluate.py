"""Scores models of one task on the scenes of a folder and writes a report that compares them.

    hdr-tf evaluate --model=pyramid,mertens,enfuse,mean --scenes=brackets --output=scores
    hdr-tf evaluate --model=merge,merge_classical,snr --scenes=scenes --output=scores
    hdr-tf evaluate --model=esbn,ahdrnet,debevec --align=flow --scenes=scenes --output=scores
    hdr-tf evaluate --model=ahdrnet --weights=ahdrnet.weights.h5 --scenes=scenes --output=scores_ahdrnet
    hdr-tf evaluate --model=syn_hdr --align=confident_flow --scenes=scenes --output=scores_label

Exposure fusion: a scene is a sub-folder of two or more exposures, two loose images X_A and X_B, or one loose image that holds
two exposures as its halves (hdr_tf/io/brackets.py):

    brackets/                             scores/
      church/  1.jpg  2.jpg  3.jpg          church/  pyramid.png  mertens.png  ...
      cave_A.png  cave_B.png                cave/    pyramid.png  mertens.png  ...
                                            report.html  scores.json  scores.csv  scores.txt

HDR merging: each sub-folder is a scene of known exposures, in the layout that `hdr-tf scenes` writes or that the data sets
of Kalantari, Sen and Tursun have (hdr_tf/io/scenes.py). merge, merge_classical, medium, hat, snr and debevec take all exposures
of a scene, the other models three of them. A scene without HDRImg.hdr is merged and not scored. syn_hdr after confident_flow is
the colour label that SelfHDR trains with:

    scenes/                               scores/
      001/  1.tif  2.tif  3.tif             001/  esbn.exr  esbn.hdr  esbn.png  esbn_aligned_low.png  ...
            exposure.txt  HDRImg.hdr        report.html  scores.json  scores.csv  scores.txt

Colours are scored against the radiance of brackets that `hdr-tf scenes` wrote, and those of other brackets of three and
more exposures against the middle one: the model then fuses only the darkest and the brightest.

The report defines every score and compares two images of a scene. HDR-VDP-2 is missing because it exists in MATLAB only.
An interrupted run keeps the scores so far. A model or scene that fails is reported, and the exit code is then 1; the others are
scored.
"""

import dataclasses
import shlex
import sys
from typing import Literal

import simple_parsing

from hdr_tf import cli, systems


@dataclasses.dataclass(frozen=True)
class Config:
    """What to score."""

    scenes: str = ""
    """names the folder of scenes"""
    output: str = ""
    """names the folder for results and scores"""
    model: str = simple_parsing.field(
        default=systems.names("radiance")[0],
        help=f"names models of one task, separated by commas. For fusion: {systems.help_text('fusion')}; mertens and "
        "mertens_111 (OpenCV's exposure fusion with default weights and with 1, 1, 1), enfuse (if installed), mean; or all, "
        f"for those that can run here. For radiance: {systems.help_text('radiance')}; esbn_fusion (ESBN's merging network "
        "alone); medium, hat, snr, debevec and syn_hdr (classical merges); or all_radiance",
    )
    weights: str | None = None
    """names the folder of <model>.weights.h5 files (three for esbn), or the file of a single model; default: bundled weights"""
    references: str | None = None
    """names a folder of true images, each with the name of its scene (fusion)"""
    align: Literal["none", "flow", "confident_flow"] = "none"
    """aligns the exposures with the middle one by optical flow first; confident_flow takes its pixels where the
    flow is wrong; does not apply to models that align by themselves, such as esbn and fshdr (radiance)"""
    original_protocol: bool = False
    """runs esbn as its published scripts do: 896 x 1344, 8 bit, the ground truth shown to the high network"""
    mixed_precision: bool = False
    """computes radiance in bfloat16 where a network does it"""
    gain: bool = False
    """scores PSNR-T after one global gain too, for images of unknown response or exposure (radiance)"""


def main(config: Config) -> int:
    if not config.scenes or not config.output:
        raise ValueError("expected --scenes, a folder of scenes, and --output, a folder for the results")
    from hdr_tf.evaluation import evaluate, report

    arguments = dataclasses.asdict(config)
    model = arguments.pop("model")
    task = {"all": "fusion", "all_radiance": "radiance"}.get(model)
    models = evaluate.available(task, config.weights) if task else cli.words(model)
    installed = sys.argv[0].startswith("hdr-tf ")  # see `hdr_tf.commands.run`
    command = shlex.join([*(sys.argv[0].split() if installed else ["python", sys.argv[0]]), *sys.argv[1:]])
    try:
        scores = evaluate.evaluate(models=models, command=command, **arguments)
    except KeyboardInterrupt:
        print(f"interrupted: {config.output} holds the scores so far")
        return 130
    print(report.as_text(scores), end="")
    return 1 if scores["errors"] else 0
