"""Compares policies of the two-exposure editor with simple ways to choose edits (hdr_tf/rl/evaluation.py).

    python tools/evaluate_editor.py --weights=runs/a/dqn_editor.weights.h5 --hdr_dir=DIR --exclude=Tree,forest,hall,venice
    python tools/evaluate_editor.py --weights=a.weights.h5,b.weights.h5 --hdr_dir=DIR --stacks=FOLDER --reward=mef_ssim

The first scores pairs made of the pictures that training left out, the second the brackets of a folder. The best constant edit
is found on pairs made of the other pictures in --hdr_dir. Needs `pip install 'hdr_tf[rl]'`.
"""

import dataclasses
import functools
import pathlib
import sys

from hdr_tf import cli
from hdr_tf.image.processes import track

SCORING_SEED = 2_000_000  # other pairs than those of the training and of its validation


@dataclasses.dataclass(frozen=True)
class Config:
    """What to compare, on what."""

    weights: str = ""
    """.weights.h5 files of policies, with commas between them; default: the one that comes with the software"""
    hdr_dir: str = ""
    """folder of .exr and .hdr files, or several with commas between them"""
    exclude: str = ""
    """names (without suffix) of the pictures that training left out, with commas between them"""
    stacks: str = ""
    """score the brackets of this folder, rather than made pairs"""
    reward: str = "reference"
    """reference or mef_ssim, which needs no reference"""
    pairs: int = 24
    """made pairs to score"""
    training_pairs: int = 24
    """made pairs on which the best constant edit is found"""
    seed: int = 0
    """of the made pairs, random edits and the bootstrap"""
    vgg_weights: str = ""
    """VGG16's weights, for policies that see its features; default: download"""
    output: str = ""
    """a .json file for all numbers"""


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow; hdr_tf.rl before anything uses tf.keras.
    try:
        from hdr_tf.rl import evaluation
    except ImportError as error:
        raise ValueError(str(error)) from error
    from hdr_tf import editor, fusing, report
    from hdr_tf.image import pairs

    if not config.hdr_dir:
        raise ValueError("--hdr_dir: expected folders of .exr and .hdr files, for the best constant edit and made pairs")
    names = cli.words(config.weights) or [str(fusing.weights_file(fusing.EDITOR, None))]
    policies = {name: evaluation.by_policy(editor.load_policy(name, config.vgg_weights or None)) for name in names}
    taken, held, left_out = pairs.split_files(cli.words(config.hdr_dir), cli.words(config.exclude))
    if config.stacks:
        scored, more = pairs.read_pairs(config.stacks, config.reward == "reference")
        left_out += more
    else:
        scored = list(pairs.MadePairs(held, config.pairs, SCORING_SEED + config.seed))
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    best = evaluation.best_constant(list(pairs.MadePairs(taken, config.training_pairs, config.seed)), config.reward)
    players = policies | evaluation.simple_players(best, config.seed)
    told = evaluation.compare(scored, players, config.reward, config.seed, functools.partial(track, description="players"))
    if config.output:
        report.write_json(pathlib.Path(config.output), told)
    print(evaluation.as_text(told), end="")


if __name__ == "__main__":
    cli.run(main, Config)
