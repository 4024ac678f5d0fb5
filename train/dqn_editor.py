"""Trains the two-exposure editor: a DQN that edits a virtual exposure step by step and is rewarded for the fused image.

    python train/dqn_editor.py --hdr_dir=DIR --run=runs/dqn_editor
    python train/dqn_editor.py --brackets=DIR --reward=mef_ssim --run=runs/dqn_editor
    python train/dqn_editor.py --hdr_dir=DIR --exclude=forest,hall --features=pair --history --hidden=128,64 --batch=128 \\
        --double --stops --discount=0.8 --n_step=5 --loss=squared --l2=2e-4 --learning_rate=2e-3 --learning_rate_decay=0.9 \\
        --learning_rate_steps=500 --target_steps=500 --replay=10000 --demonstrations=560,80 --pairs=4000 --steps=4000 \\
        --run=runs/small

The last command is for a CPU: it does without VGG16, which takes most of an edit's time, sees the pair and trains a network of
0.1 MB, first from demonstrations and then as a DQN. docs/dqn_editor.md gives the reasons for its flags. Training needs
`pip install 'hdr_tf[rl]'`.

The pairs are synthetic, from HDR images (validation uses those that --exclude names), or the darkest and the brightest exposure
of brackets (hdr_tf/rl/pairs.py). hdr_tf/rl/environment.py defines the reward and lists what the original does not say. The run
is a folder:

    config.json              the flags, compared when the run is continued
    demonstrations/          states with the rewards of all edits (hdr_tf/rl/demonstrations.py); those that are there are used
    stage_0.weights.h5       the policy after the first number of --demonstrations, stage_1 after the second
    checkpoints/             policy, target, optimizer, counters, replay buffer (160 MB with the quality histogram)
    logs/, log.csv           TensorBoard, and a row every `log_every` edits
    samples/00002000.png     an episode of the greedy policy: fused image and Q values of every step
    dqn_editor.weights.h5    the policy, for `hdr-tf fuse --model=dqn_editor`; written with every checkpoint
    policy/                  the same policy by TF-Agents' PolicySaver, written at the end of the run

log.csv has means over the edits since the row before, exploration included: return (sum of an episode's rewards), reward, loss,
q (the highest Q value), edit_0 .. edit_5 (share of each edit). valid_return is the return of the greedy policy, which stops
when no Q value is positive, on the validation pairs. steps_per_second counts edits, without validation and checkpoints.

The same command continues a killed run from its last checkpoint, with the same pairs and random numbers, so that it ends as an
unbroken run does, up to rounding.
"""

import dataclasses

from absl import logging

from hdr_tf import cli
from hdr_tf.editor.config import DqnConfig

VALIDATION_SEED = 1_000_000  # the same pairs for every --seed


@dataclasses.dataclass(frozen=True)
class Config(DqnConfig):
    """Flags of the agent, its environment and the data."""

    RENAMED = {"stacks": "brackets"}

    hdr_dir: str = ""  # comma-separated folders of .exr and .hdr files
    exclude: str = ""  # comma-separated names (without suffix) of images to leave out of training
    brackets: str = ""  # instead of --hdr_dir: folder of brackets (folders of exposures, pairs X_A, X_B, images of two halves)
    pairs: int = 1_000  # number of synthetic pairs
    valid_pairs: int = 8  # number of pairs for validation at every log row; with --brackets, the first ones


def main(config: Config) -> None:
    # TensorFlow is imported here so that --help does not wait for it.
    try:
        from hdr_tf.rl import loop
        from hdr_tf.rl.pairs import SyntheticPairs, read_pairs, split_files
    except ImportError as error:
        raise ValueError(str(error)) from error

    if bool(config.hdr_dir) == bool(config.brackets):
        raise ValueError("expected --hdr_dir, folders of .exr and .hdr files, or --brackets, a folder of brackets")
    if config.brackets:
        training, left_out = read_pairs(config.brackets, config.reward == "reference")
        validation = training[: config.valid_pairs]
    else:
        paths, held_out, left_out = split_files(cli.words(config.hdr_dir), cli.words(config.exclude))
        training = SyntheticPairs(paths, config.pairs, config.seed)
        validation = list(SyntheticPairs(held_out, config.valid_pairs, VALIDATION_SEED))
    for line in left_out:
        logging.warning("left out: %s", line)
    loop.train(config, training, validation)


if __name__ == "__main__":
    cli.run(main, Config)
