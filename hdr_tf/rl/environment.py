"""The environment in which the editor's agent learns: a pair, 20 edits, and a reward for each edit.

    state       features of the virtual exposure (hdr_tf/editor/features.py), float32
    action      0 to 5 (hdr_tf/editor/edits.py)
    reward      score of the fused image after the edit, minus the score before, clipped to -1..2
    episode     20 edits; only a policy stops earlier, when no Q value is positive
    score       "reference": - mean CIELab distance to the reference / 10, as in Park et al., "Distort-and-Recover: color
                enhancement using deep reinforcement learning", CVPR 2018, whose program the editor's descends from
                "mef_ssim": 100 MEF-SSIM of the fused image and its pair (hdr_tf/losses.py), which needs no reference; the
                factor is 100 because an edit changes MEF-SSIM by some thousandths

The training of the editor (Yin et al., IEEE TNNLS 33(12), 2022; bigmms/reinforcement_learning_hdr, 375578f) was not published.
Its program gives the state, the edits, the 20 steps and the clipping; the program and its predecessor give the reward as the
change of a score. Unknown are the score itself, the training images, whether the end after 20 edits counts as a terminal state
(here it does), and whether training episodes also ended when no Q value was positive.

Changed: each image is scaled to 224 x 224 by itself. The program scales both as one image, which blends two rows.
"""

import functools
import multiprocessing
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf
from tf_agents.environments import batched_py_environment, parallel_py_environment, py_environment
from tf_agents.specs import array_spec
from tf_agents.system import system_multiprocessing
from tf_agents.system.default import multiprocessing_core
from tf_agents.trajectories import time_step as ts

from hdr_tf import cli, device, losses
from hdr_tf.editor import edits, scores
from hdr_tf.editor.config import DqnConfig
from hdr_tf.editor.features import Features
from hdr_tf.rl.pairs import Pair

MIN_REWARD, MAX_REWARD = -1, 2

# Five times as fast as eager execution.
_mef_reference = tf.function(losses.mef_reference, reduce_retracing=True)


def score_by_reference(pair: Pair) -> scores.Score:
    """Returns the score "reference"; ValueError if the pair has no reference."""
    if pair.reference is None:
        raise ValueError(f"{pair.name}: expected a pair with a reference, found none; --reward=mef_ssim needs none")
    return scores.closeness(pair.reference)


def score_by_mef_ssim(pair: Pair) -> scores.Score:
    """Returns the score "mef_ssim"."""
    return scores.mef_ssim(pair.under, pair.over, _mef_reference)


def rewards(after: Sequence[float] | float, before: float) -> np.ndarray:
    """Returns the rewards, float32, of edits that lead from the score `before` to the scores `after`."""
    return np.float32(np.clip(np.subtract(after, before), MIN_REWARD, MAX_REWARD))


SCORES = {"reference": score_by_reference, "mef_ssim": score_by_mef_ssim}


class EditorEnvironment(py_environment.PyEnvironment):
    """See the module. `pair`, `state` and `score` are those of the current episode."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        features: Features,
        reward: str = "reference",
        seed: int = 0,
        episode: int = 0,
        shuffle: bool = True,
    ):
        """Args:
            pairs: at least one; a list or `pairs.SyntheticPairs`.
            features: what the agent sees.
            reward: a name in `SCORES`.
            seed: decides, with the number of an episode, its pair.
            episode: number of the first episode.
            shuffle: choose the pairs at random; False uses them in turn.

        Raises:
            ValueError: also from `reset`, if the reward needs a reference and the pair has none.
        """
        super().__init__(handle_auto_reset=True)
        if reward not in SCORES or not len(pairs):
            raise ValueError(
                f"expected at least 1 pair and a reward out of {', '.join(SCORES)}, found {len(pairs)} pairs and {reward!r}"
            )
        self._pairs, self._features, self._reward = pairs, features, reward
        self._seed, self._episode, self._shuffle = seed, episode, shuffle
        self.pair = self.state = self.score = self._rate = None

    def action_spec(self):
        return array_spec.BoundedArraySpec((), np.int64, 0, len(edits.EDITS) - 1, "edit")

    def observation_spec(self):
        return array_spec.ArraySpec((self._features.length,), np.float32, "features")

    def reward_spec(self):
        return array_spec.BoundedArraySpec((), np.float32, MIN_REWARD, MAX_REWARD, "reward")

    def _reset(self):
        index = self._episode
        if self._shuffle:
            index = np.random.default_rng((self._seed, self._episode)).integers(len(self._pairs))
        self.pair = self._pairs[index % len(self._pairs)]
        self._rate = SCORES[self._reward](self.pair)
        self.state = edits.start(self.pair.under, self.pair.over)
        self.score = self._rate(self.state.fused)
        self._episode += 1
        return ts.restart(self._features(self.state))

    def _step(self, action):
        self.state = self.state.edit(int(action))
        before, self.score = self.score, self._rate(self.state.fused)
        reward = rewards(self.score, before)
        end = len(self.state.actions) == edits.STEPS
        return (ts.termination if end else ts.transition)(self._features(self.state), reward)

    def look_ahead(self) -> np.ndarray:
        """Returns the reward that each edit would get now, float32 [6]; makes none of them."""
        after = [self._rate(self.state.edit(action).fused) for action in range(len(edits.EDITS))]
        return rewards(after, self.score)


def make_features(config: DqnConfig) -> Features:
    """Returns the features that the flags ask for."""
    return Features(cli.words(config.features), config.history, config.vgg_weights or None)


def make_batch(
    config: DqnConfig, pairs: Sequence[Pair], features: Features, episode: int = 0
) -> batched_py_environment.BatchedPyEnvironment | parallel_py_environment.ParallelPyEnvironment:
    """Returns `config.environments` environments as one batch. Several run in processes of their own, each with features of its
    own; cloudpickle must be able to pickle the pairs then. See `EditorEnvironment` for the arguments."""
    if config.environments == 1:
        only = EditorEnvironment(pairs, features, config.reward, 1000 * config.seed, episode)
        return batched_py_environment.BatchedPyEnvironment([only])
    # TF-Agents wants scripts to run through its system_multiprocessing.handle_main, which is absl's app.run and a mark that
    # this was done. Here hdr_tf/cli.py runs scripts with absl, so only the mark is set.
    if not multiprocessing_core.initialized():
        system_multiprocessing.enable_interactive_mode()
    # A forked process hangs as soon as it and its parent have both used TensorFlow.
    multiprocessing.set_start_method("spawn", force=True)
    seeds = [1000 * config.seed + number for number in range(config.environments)]
    constructors = [functools.partial(_make_on_one_core, config, pairs, seed, episode) for seed in seeds]
    return parallel_py_environment.ParallelPyEnvironment(constructors, start_serially=False)


def _make_on_one_core(config, pairs, seed, episode):
    device.hide_gpus()  # each process would take a part of its memory, and edits are made by OpenCV
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return EditorEnvironment(pairs, make_features(config), config.reward, seed, episode)
