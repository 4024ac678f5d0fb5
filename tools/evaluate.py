"""Scores what becomes of the exposures of scenes: fused pictures, or radiance; with networks and without.

    python tools/evaluate.py --model=pyramid,mertens,enfuse,mean --scenes=brackets --output=scores
    python tools/evaluate.py --model=esbn --scenes=scenes --output=scores
    python tools/evaluate.py --model=snr --align=flow --scenes=scenes --output=scores_snr
    python tools/evaluate.py --model=ahdrnet --weights=ahdrnet.weights.h5 --scenes=scenes --output=scores_ahdrnet
    python tools/evaluate.py --model=syn_hdr --align=confident_flow --scenes=scenes --output=scores_label

Fused pictures are those of one or more of the models pyramid, deepfuse_official, deepfuse_sunnerli, densefuse_gray,
densefuse_rgb, hyperp_mb, dqn_editor (of two exposures), mertens, mertens_111, enfuse and mean. A scene is a sub-folder of two
exposures or more, two loose pictures X_A and X_B, or one loose picture that holds two exposures as its halves
(hdr_tf/image/brackets.py):

    brackets/                             scores/
      church/  1.jpg  2.jpg  3.jpg          church/  pyramid.png  mertens.png  ...
      cave_A.png  cave_B.png                cave/    pyramid.png  mertens.png  ...
                                            report.html  scores.json  scores.csv  scores.txt

Radiance is that of one model, esbn, esbn_fusion, ahdrnet, fshdr, hdr_transformer, sctnet, medium, hat, snr, debevec or syn_hdr,
from three exposures. Each sub-folder of --scenes is a scene, as tools/make_scenes.py writes them and the data sets of
Kalantari, Sen and Tursun come (hdr_tf/image/scenes.py); without HDRImg.hdr it is reconstructed and not scored. syn_hdr behind
confident_flow is the colour label that SelfHDR trains with:

    scenes/                               scores/
      001/  1.tif  2.tif  3.tif             001/  radiance.exr  radiance.hdr  tone_mapped.png  aligned_low.png  ...
            exposure.txt  HDRImg.hdr        scores.json  scores.txt

Definitions stand beside the figures; HDR-VDP-2 is not among them, as it exists in MATLAB only. What fails leaves a line and
exit code 1; the rest is done.
"""

import dataclasses
import functools
import shlex
import sys
from typing import Literal

from hdr_tf import cli, evaluation, fusion_evaluation
from hdr_tf import report as reporting
from hdr_tf.image.processes import track


@dataclasses.dataclass(frozen=True)
class Config:
    """What to score."""

    scenes: str = ""
    """a folder of scenes"""
    output: str = ""
    """a folder for the results"""
    model: str = "esbn"
    """of radiance one: esbn, its merging network alone (esbn_fusion), ahdrnet, fshdr, hdr_transformer, sctnet, or a classical
    merge (medium, hat, snr, debevec or syn_hdr); of fused pictures one or more with commas between them, see above, or "all"
    for all that can run here"""
    weights: str | None = None
    """a folder with <model>.weights.h5 files, for esbn all three; for ahdrnet and the like the file will do; default: those
    that come with the software"""
    references: str | None = None
    """a folder of true pictures, each named as its scene is (fused pictures)"""
    align: Literal["none", "flow", "confident_flow"] = "none"
    """bring the exposures onto the medium one by optical flow first; confident_flow takes the medium one's pixels where that
    went wrong; not for esbn and fshdr, which have an alignment of their own"""
    original_protocol: bool = False
    """run ESBN as its published scripts do: 896 x 1344, 8 bit, the ground truth shown to the high network"""
    mixed_precision: bool = False
    """of radiance by a network: compute in bfloat16"""


def main(config: Config) -> int:
    if not config.scenes or not config.output:
        raise ValueError("expected --scenes, a folder of scenes, and --output, a folder for the results")
    models = fusion_evaluation.available(config.weights) if config.model == "all" else cli.words(config.model)
    fusing = [name in fusion_evaluation.MODELS for name in models]
    if any(fusing) and not all(fusing):
        strange = models[fusing.index(False)]
        raise ValueError(
            f"{strange} does not fuse pictures, {models[fusing.index(True)]} does: expected names of one sort, "
            f"fused pictures ({', '.join(fusion_evaluation.MODELS)}) or radiance ({', '.join(evaluation.MODELS)})"
        )
    shared = {
        "command": shlex.join(["python", *sys.argv]),
        "track": functools.partial(track, description="scenes"),
    }
    if any(fusing):
        _refuse(config, "fused pictures", "align", "original_protocol", "mixed_precision")
        report = fusion_evaluation.evaluate(config.scenes, config.output, models, config.weights, config.references, **shared)
        print(reporting.as_text(report), end="")
    else:
        _refuse(config, "radiance", "references")
        arguments = (config.weights, config.align, config.original_protocol, config.mixed_precision)
        report = evaluation.evaluate(config.scenes, config.output, config.model, *arguments, **shared)
        print(evaluation.as_text(report), end="")
    return 1 if report["errors"] else 0


def _refuse(config, what, *names):
    for name in names:
        if getattr(config, name) != getattr(Config, name):
            raise ValueError(f"--{name} does not go with scores of {what}")


if __name__ == "__main__":
    cli.run(main, Config)
