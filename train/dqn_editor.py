"""Trains the two-exposure editor: a DQN that edits a virtual exposure step by step and is rewarded by the fused picture.

    python train/dqn_editor.py --hdr_dir=DIR --run=runs/dqn_editor
    python train/dqn_editor.py --stacks=DIR --reward=mef_ssim --run=runs/dqn_editor
    python train/dqn_editor.py --hdr_dir=DIR --exclude=forest,hall --features=quality --history --hidden=32 --batch=32 \\
        --discount=0.8 --n_step=5 --persistence=10 --loss=squared --l2=5e-4 --learning_rate=1e-3 --learning_rate_steps=800 \\
        --target_steps=1000 --schedule_scale=0.5 --replay=40000 --pairs=4000 --steps=40000 --run=runs/small

The last one is for a CPU, where it takes half an hour: without VGG16, which takes most of an edit's time, and with a network of
1 MB; docs/dqn_editor.md has the reasons for its other flags. Needs `pip install 'hdr_tf[rl]'`.

Pairs are made of HDR pictures, of which --exclude leaves some out (validation then uses those), or are the darkest and the
brightest exposure of brackets (hdr_tf/image/pairs.py). hdr_tf/rl/environment.py has the reward and says what the original does
not tell; hdr_tf/training.py, DqnConfig, has the numbers of the agent. The run is a folder:

    config.json              the flags, written once and compared when the run goes on
    checkpoints/             policy, target, optimizer, counters, replay buffer (160 MB with the quality histogram)
    logs/                    TensorBoard
    log.csv                  a row every `log_every` edits, see below
    samples/00002000.png     an episode of the greedy policy: fused picture and Q values of every step
    dqn_editor.weights.h5    the policy, for tools/fuse.py --model=dqn_editor; written with every checkpoint
    policy/                  the same by TF-Agents' PolicySaver, when the last step is done

log.csv has means of the edits since the row before, exploration included: return (sum of an episode's rewards), reward, loss, q
(the highest Q value), edit_0 .. edit_5 (share of each edit); valid_return is that of the greedy policy, which stops when no Q
value is positive, on the validation pairs; steps_per_second are edits, without validation and checkpoints.

A run that was killed goes on from its last checkpoint when the same command is typed again: with the same pairs, random edits
and draws from the replay buffer, so that it ends as an unbroken run but for rounding.
"""

import csv
import dataclasses
import functools
import pathlib
import shutil
import time
import warnings

import numpy as np
from absl import logging

from hdr_tf import cli
from hdr_tf.training import DqnConfig

VALIDATION_SEED = 1_000_000  # the same pairs for every --seed


@dataclasses.dataclass(frozen=True)
class Config(DqnConfig):
    """Flags of the agent and of its environment."""

    hdr_dir: str = ""  # folder of .exr and .hdr files, or several with commas between them
    exclude: str = ""  # names (without suffix) of pictures to leave out of training, with commas between them
    stacks: str = ""  # folder of brackets instead: a sub-folder of exposures each, pairs X_A, X_B, or stacked pictures
    pairs: int = 1_000  # made pairs
    valid_pairs: int = 8  # for validation at every log row; of --stacks the first ones
    features: str = "vgg,quality"  # what the agent sees: vgg, quality, lab_8k, lab, rgbl, tiny, tiny_28
    history: bool = False  # and the edits so far
    vgg_weights: str = ""  # file of VGG16's weights; default: download
    reward: str = "reference"  # change of the distance to a reference, or mef_ssim, which needs none
    environments: int = 1  # episodes at a time, each in a process of its own if there are several


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow; hdr_tf.rl before anything uses tf.keras.
    try:
        from hdr_tf.rl import agent, environment, evaluation
    except ImportError as error:
        raise ValueError(str(error)) from error
    import keras
    import tensorflow as tf

    from hdr_tf import editor, training
    from hdr_tf.image import editing, files

    warnings.filterwarnings("ignore")  # dozens, of TF-Agents about its own code
    tf.get_logger().setLevel("ERROR")
    training.check_steps(config)
    count, run = config.environments, pathlib.Path(config.run)
    if count < 1 or config.log_every % (count * editing.STEPS):
        found = f"{config.log_every} and {count}"
        raise ValueError(f"expected --log_every to be a multiple of {editing.STEPS} --environments, 1 or more, found {found}")
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    pairs, valid_pairs = _pairs(config)
    see = functools.partial(_features, config)
    features = see()
    learner = agent.Learner(config, features.length, count)
    policy = editor.Policy(learner.q_network, features)
    valid_game = evaluation.environment(valid_pairs, config.reward)
    training.write_config(run, config)
    (run / "samples").mkdir(exist_ok=True)
    if (step := learner.restore()) >= config.steps:
        return
    if step:
        logging.info("%s goes on from edit %d", run, step)
    training.cut_log(run / "log.csv", step + 1)
    board = tf.summary.create_file_writer(str(run / "logs"))
    make = functools.partial(_environment, pairs, see, config.reward, int(learner.episode))
    games = environment.together([functools.partial(make, 1000 * config.seed + number) for number in range(count)])
    learner.start()
    seen, losses, start = [], [], time.perf_counter()

    while step < config.steps:
        now = games.reset()
        for _ in range(editing.STEPS):
            edits, q_values = learner.act(now.observation)
            after = games.step(edits)
            learner.observe(now, edits, after)
            if learner.can_train():
                losses += [float(learner.train()) for _ in range(count)]
            seen += zip(edits, q_values.max(axis=1), after.reward, strict=True)
            now, step = after, int(learner.step.assign_add(count))
        learner.episode.assign_add(1)
        if step % config.log_every:
            continue

        edits, q_values, rewards = map(np.array, zip(*seen, strict=True))
        row = {
            "step": step,
            "epsilon": agent.epsilon(step - count, config.schedule_scale),
            "return": editing.STEPS * rewards.mean(),
            "reward": rewards.mean(),
            "loss": np.mean(losses) if losses else np.nan,
            "q": q_values.mean(),
            "steps_per_second": len(seen) / (time.perf_counter() - start),
            "valid_return": np.mean([evaluation.play(valid_game, evaluation.by_policy(policy)) for _ in valid_pairs]),
            **{f"edit_{number}": (edits == number).mean() for number in range(len(editing.EDITS))},
        }
        sheet = editor.sheet(list(policy.run(editing.start(valid_pairs[0].under, valid_pairs[0].over))))
        files.write_picture(run / "samples" / f"{step:08d}.png", sheet)
        _log(run / "log.csv", row, board, sheet)
        if step % (config.checkpoint_every or config.log_every) == 0 or step == config.steps:
            learner.save()
            editor.save_policy(policy, run / "dqn_editor.weights.h5")
            learner.start()
        seen, losses, start = [], [], time.perf_counter()

    games.close()
    learner.export(run / "policy.part")
    shutil.rmtree(run / "policy", ignore_errors=True)
    (run / "policy.part").rename(run / "policy")
    print(f"{run / 'dqn_editor.weights.h5'}: {step} edits, return {row['valid_return']:.3f} in validation")


def _log(path, row, board, sheet):
    """Adds a row to log.csv and TensorBoard, and tells the most important of it."""
    import tensorflow as tf

    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
    with board.as_default(row["step"]):
        for name, value in row.items():
            tf.summary.scalar(name.replace("edit_", "edits/"), value)
        tf.summary.image("episode", sheet[None])
    board.flush()
    told = "edit {step}: return {return:.3f}, in validation {valid_return:.3f}, loss {loss:.4f}, {steps_per_second:.1f} edits/s"
    print(told.format(**row), flush=True)


def _pairs(config):
    """Pairs for training and validation."""
    from hdr_tf.image import pairs

    if bool(config.hdr_dir) == bool(config.stacks):
        raise ValueError("expected --hdr_dir, folders of .exr and .hdr files, or --stacks, a folder of brackets")
    if config.stacks:
        found, left_out = pairs.read_pairs(config.stacks, config.reward == "reference")
        training, validation = found, found[: config.valid_pairs]
    else:
        paths, held, left_out = pairs.split_files(cli.words(config.hdr_dir), cli.words(config.exclude))
        training = pairs.MadePairs(paths, config.pairs, config.seed)
        validation = list(pairs.MadePairs(held, config.valid_pairs, VALIDATION_SEED))
    for line in left_out:
        logging.warning("left out: %s", line)
    return training, validation


def _features(config):
    from hdr_tf.features import Features

    return Features(cli.words(config.features), config.history, config.vgg_weights or None)


def _environment(pairs, see, reward, episode, seed):
    """One environment, perhaps in a process of its own; it begins with the episode that a killed run would have had next."""
    from hdr_tf.rl.environment import EditorEnvironment

    environment = EditorEnvironment(pairs, see(), reward, seed=seed)
    environment.episode = episode
    return environment


if __name__ == "__main__":
    cli.run(main, Config)
