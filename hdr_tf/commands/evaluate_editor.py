"""Compares policies of the two-exposure editor with simple ways to choose edits (hdr_tf/rl/evaluation.py).

    hdr-tf evaluate_editor --weights=runs/a/dqn_editor.weights.h5 --hdr_dir=DIR --exclude=Tree,forest,hall,venice
    hdr-tf evaluate_editor --weights=a.weights.h5,b.weights.h5 --hdr_dir=DIR --brackets=FOLDER --reward=mef_ssim

The first command scores synthetic pairs of the images that were left out of training, also image by image, the second one the
brackets of a folder.
The best constant edit is determined on synthetic pairs of the other images in --hdr_dir. Needs `pip install 'hdr_tf[rl]'`.
"""

import dataclasses
import json
import pathlib
import sys

from hdr_tf import cli, systems
from hdr_tf.io import outputs

SCORING_SEED = 2_000_000  # other pairs than those of the training and of its validation


@dataclasses.dataclass(frozen=True)
class Config:
    """What to compare, and on which pairs."""

    RENAMED = {"stacks": "brackets"}

    weights: str = ""  # comma-separated .weights.h5 files of policies; default: the bundled policy
    hdr_dir: str = ""  # comma-separated folders of .exr and .hdr files
    exclude: str = ""  # comma-separated names (without suffix) of the images that were left out of training
    brackets: str = ""  # score the brackets of this folder instead of synthetic pairs
    reward: str = "reference"  # reference or mef_ssim, which needs no reference
    pairs: int = 24  # number of synthetic pairs to score
    training_pairs: int = 24  # number of synthetic pairs on which the best constant edit is determined
    seed: int = 0  # of the synthetic pairs, random edits and the bootstrap
    vgg_weights: str = ""  # VGG16's weights, for policies that use its features; default: download
    output: str = ""  # a .json file for all numbers


def main(config: Config) -> None:
    # TensorFlow is imported here so that --help does not wait for it; hdr_tf.rl comes before anything that uses tf.keras.
    try:
        from hdr_tf.rl import evaluation
    except ImportError as error:
        raise ValueError(str(error)) from error
    from hdr_tf.editor.policy import load_policy
    from hdr_tf.rl.pairs import SyntheticPairs, read_pairs, split_files

    if not config.hdr_dir:
        raise ValueError("--hdr_dir: expected folders of .exr and .hdr files, for the best constant edit and synthetic pairs")
    names = cli.words(config.weights) or [str(systems.SYSTEMS["dqn_editor"].weights_path())]
    policies = {name: evaluation.by_policy(load_policy(name, config.vgg_weights or None)) for name in names}
    training, held_out, left_out = split_files(cli.words(config.hdr_dir), cli.words(config.exclude))
    if config.brackets:
        scored, more = read_pairs(config.brackets, config.reward == "reference")
        left_out += more
    else:
        scored = list(SyntheticPairs(held_out, config.pairs, SCORING_SEED + config.seed))
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    best = evaluation.best_constant(list(SyntheticPairs(training, config.training_pairs, config.seed)), config.reward)
    scores = evaluation.compare(scored, policies | evaluation.simple_players(best, config.seed), config.reward, config.seed)
    if config.output:
        with outputs.atomic(pathlib.Path(config.output)) as temporary:
            temporary.write_text(json.dumps(scores, indent=2) + "\n")
    print(evaluation.as_text(scores), end="")
