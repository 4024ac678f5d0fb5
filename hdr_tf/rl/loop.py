"""The training loop of the editor's agent; train/dqn_editor.py describes the folder of a run and the columns of its log."""

import csv
import pathlib
import shutil
import time
import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf import device
from hdr_tf.editor import edits as editor_edits
from hdr_tf.editor.config import DqnConfig
from hdr_tf.editor.policy import Policy, contact_sheet, save_policy
from hdr_tf.io import image_files
from hdr_tf.rl import agent, demonstrations, environment, evaluation
from hdr_tf.rl.pairs import Pair
from hdr_tf.training import run_folder
from hdr_tf.training.config import check_steps


def train(config: DqnConfig, pairs: Sequence[Pair], valid_pairs: Sequence[Pair]) -> None:
    """Trains an agent in the folder `config.run`, or continues the run that the folder holds. The first of `valid_pairs` is
    also the sample."""
    check_steps(config)
    stages = agent.demonstrations(config.demonstrations)
    if config.environments < 1 or config.log_every % (config.environments * editor_edits.STEPS):
        raise ValueError(
            f"expected --log_every to be a multiple of {editor_edits.STEPS} --environments, which is at least 1, found "
            f"{config.log_every} and {config.environments}"
        )
    warnings.filterwarnings("ignore")  # TF-Agents causes dozens of warnings in its own code
    tf.get_logger().setLevel("ERROR")
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    print(device.describe("float32", xla=False, deterministic=True), flush=True)
    features = environment.make_features(config)
    learner = agent.Learner(config, features.length)
    policy = Policy(learner.q_network, features)
    validation = evaluation.make_environment(valid_pairs, config.reward)
    run = pathlib.Path(config.run)
    run_folder.write_config(run, config)
    (run / "samples").mkdir(exist_ok=True)
    if (first := learner.restore()) >= config.steps:
        return
    if first:
        logging.info("%s continues from edit %d", run, first)
    _learn_from_demonstrations(config, learner, stages, pairs, policy)
    run_folder.cut_log(run / "log.csv", first + 1)
    board = tf.summary.create_file_writer(str(run / "logs"))
    environments = environment.make_batch(config, pairs, features, int(learner.episode))
    weights = run / "dqn_editor.weights.h5"
    learner.start()
    for step in range(first + config.log_every, config.steps + 1, config.log_every):
        started = time.perf_counter()
        episodes = config.log_every // (config.environments * editor_edits.STEPS)
        results = [result for _ in range(episodes) for result in _episode(learner, environments)]
        speed = config.log_every / (time.perf_counter() - started)
        valid_return = np.mean([evaluation.play(validation, evaluation.by_policy(policy)) for _ in valid_pairs])
        sheet = contact_sheet(list(policy.run(editor_edits.start(valid_pairs[0].under, valid_pairs[0].over))))
        image_files.write_image(run / "samples" / f"{step:08d}.png", sheet)
        epsilon = learner.epsilon(step - config.environments)
        _log(run / "log.csv", board, _row(step, epsilon, results, speed, valid_return), sheet)
        if step % (config.checkpoint_every or config.log_every) == 0 or step == config.steps:
            learner.save()
            save_policy(policy, weights)
            learner.start()
    environments.close()
    learner.export(run / "policy.part")
    shutil.rmtree(run / "policy", ignore_errors=True)
    (run / "policy.part").rename(run / "policy")
    print(f"{weights}: {step} edits, return {valid_return:.3f} in validation")


def _learn_from_demonstrations(config, learner, stages, pairs, policy):
    """Makes the demonstrations of each stage and learns from those of all stages so far; a run continues after the last stage
    of which it has a checkpoint."""
    if int(learner.stage) == len(stages):
        return
    known = []
    for stage, count in enumerate(stages):
        episodes = range(sum(stages[:stage]), sum(stages[:stage]) + count)
        where = pathlib.Path(config.run), stage, episodes
        known.append(demonstrations.read_stage(*where, pairs, config.reward, policy, config.seed))
        if stage == int(learner.stage):
            observations, rewards = map(np.concatenate, zip(*known, strict=True))
            loss = learner.learn(observations, rewards)
            learner.save()
            save_policy(policy, pathlib.Path(config.run) / f"stage_{stage}.weights.h5")
            print(f"{len(rewards)} states of {episodes.stop} episodes: loss {loss:.5f}", flush=True)


def _episode(learner, environments):
    """Runs an episode of every environment; yields edits, highest Q values, rewards and losses of each step, [N] each. There
    are no losses before training begins."""
    now = environments.reset()
    for _ in range(editor_edits.STEPS):
        edits, q_values = learner.act(now.observation)
        after = environments.step(edits)
        learner.observe(now, edits, after)
        losses = [float(learner.train()) for _ in edits] if learner.can_train() else []
        learner.step.assign_add(len(edits))
        yield edits, q_values.max(axis=1), after.reward, losses
        now = after
    learner.episode.assign_add(1)


def _row(step, epsilon, results, speed, valid_return):
    """Returns the row of the log for the results of `_episode` since the row before."""
    edits, q_values, rewards, losses = map(np.concatenate, zip(*results, strict=True))
    return {
        "step": step,
        "epsilon": epsilon,
        "return": editor_edits.STEPS * rewards.mean(),
        "reward": rewards.mean(),
        "loss": losses.mean() if losses.size else np.nan,
        "q": q_values.mean(),
        "steps_per_second": speed,
        "valid_return": valid_return,
        **{f"edit_{number}": (edits == number).mean() for number in range(len(editor_edits.EDITS))},
    }


def _log(path, board, row, sheet):
    """Adds a row to log.csv and TensorBoard, and prints the most important of it."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    with board.as_default(row["step"]):
        for name, value in row.items():
            tf.summary.scalar(name.replace("edit_", "edits/"), value)
        tf.summary.image("episode", sheet[None])
    board.flush()
    text = "edit {step}: return {return:.3f}, in validation {valid_return:.3f}, loss {loss:.4f}, {steps_per_second:.1f} edits/s"
    print(text.format(**row), flush=True)
