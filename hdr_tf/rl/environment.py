"""The environment that the editor's agent learns in: a pair, 20 edits, and for each what it did to the score.

    state       features of the virtual exposure (hdr_tf/features.py), float32
    action      0 to 5 (hdr_tf/image/editing.py)
    reward      score of the fused picture after the edit, less the one before, clipped to -1 .. 2
    episode     20 edits. Earlier ends only a policy, when no Q value is positive: there is no edit for it, and the environment
                knows no Q values.

Scores:

    reference   - mean CIELab distance to the reference / 10, as of Park et al., "Distort-and-Recover: color enhancement using
                deep reinforcement learning", CVPR 2018, whose program the editor's descends from
    mef_ssim    100 MEF-SSIM of the fused picture and its pair (hdr_tf/losses.py), which needs no reference; times 100 because
                an edit changes it by some thousandths

The editor (Yin et al., IEEE TNNLS 33(12), 2022; bigmms/reinforcement_learning_hdr, 375578f) was published without training.
From its program are the state, the edits, the 20 steps and the clipping; from it and the paper's predecessor the reward as a
change of a score. Not known are the score itself, the pictures trained with, whether the end after 20 edits counts as a
terminal state (here it does) and whether training episodes, too, ended where no Q value was positive.

Changed: the two pictures are scaled to 224 x 224 each by itself, where the program scales them one above the other, which
blends two rows; the state does not depend on it.
"""

import functools
import multiprocessing
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import tensorflow as tf
from skimage.color import rgb2lab
from tf_agents.environments import batched_py_environment, parallel_py_environment, py_environment
from tf_agents.specs import array_spec
from tf_agents.system import system_multiprocessing
from tf_agents.system.default import multiprocessing_core
from tf_agents.trajectories import time_step as ts

from hdr_tf import losses
from hdr_tf.features import Features
from hdr_tf.image import editing
from hdr_tf.image.pairs import Pair

MIN_REWARD, MAX_REWARD = -1, 2

# Five times as fast as step by step.
_mef_reference = tf.function(losses.mef_reference, reduce_retracing=True)
_mef_ssim_against = tf.function(losses.mef_ssim_against, reduce_retracing=True)

Score = Callable[[np.ndarray], float]


def score_by_reference(pair: Pair) -> Score:
    """Returns the score "reference" of fused pictures [H, W, 3] in 0..1; ValueError if the pair has no reference."""
    if pair.reference is None:
        raise ValueError(f"{pair.name}: expected a pair with a reference, found none; --reward=mef_ssim needs none")
    reference = rgb2lab(pair.reference)
    return lambda fused: -float(np.linalg.norm(rgb2lab(fused) - reference, axis=2).mean()) / 10


def score_by_mef_ssim(pair: Pair) -> Score:
    """Returns the score "mef_ssim" of fused pictures [H, W, 3] in 0..1."""
    reference = _mef_reference(tf.stack([losses.rounded_gray(pair.under), losses.rounded_gray(pair.over)])[None])
    return lambda fused: 100 * float(_mef_ssim_against(reference, losses.rounded_gray(255 * fused)[None])[0])


SCORES = {"reference": score_by_reference, "mef_ssim": score_by_mef_ssim}


class EditorEnvironment(py_environment.PyEnvironment):
    """See the module; `state`, `pair` and `score` may be looked at.

    Episode n takes the pair that the seed and n decide, so a run that goes on sets `episode` to what it was.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        features: Features,
        reward: str = "reference",
        steps: int = editing.STEPS,
        seed: int = 0,
        shuffle: bool = True,
    ):
        """Args:
            pairs: at least one; a list or `pairs.MadePairs`.
            features: what the agent sees.
            reward: a name in `SCORES`.
            steps: edits of an episode, at most 20.
            seed: of the order of the pairs.
            shuffle: draw the pairs at random; False takes them in turn.

        Raises:
            ValueError: no pair, an unknown reward, or more than 20 steps. A pair without a reference raises when it is taken.
        """
        super().__init__(handle_auto_reset=True)
        if reward not in SCORES or not len(pairs) or not 1 <= steps <= editing.STEPS:
            raise ValueError(
                f"expected a pair or more, 1 to {editing.STEPS} steps and a reward out of {', '.join(SCORES)}, "
                f"found {len(pairs)} pairs, {steps} steps and {reward!r}"
            )
        self._pairs, self._features, self._reward, self._steps = pairs, features, reward, steps
        self._seed, self._shuffle = seed, shuffle
        self.episode = 0
        self.pair = self.state = self.score = self._rate = None

    def action_spec(self):
        return array_spec.BoundedArraySpec((), np.int64, 0, len(editing.EDITS) - 1, "edit")

    def observation_spec(self):
        return array_spec.ArraySpec((self._features.length,), np.float32, "features")

    def reward_spec(self):
        return array_spec.BoundedArraySpec((), np.float32, MIN_REWARD, MAX_REWARD, "reward")

    def _reset(self):
        index = self.episode
        if self._shuffle:
            index = np.random.default_rng((self._seed, self.episode)).integers(len(self._pairs))
        self.pair = self._pairs[index % len(self._pairs)]
        self._rate = SCORES[self._reward](self.pair)
        self.state = editing.start(self.pair.under, self.pair.over)
        self.score = self._rate(self.state.fused)
        self.episode += 1
        return ts.restart(self._features(self.state))

    def _step(self, action):
        self.state = self.state.edit(int(action))
        before, self.score = self.score, self._rate(self.state.fused)
        reward = np.float32(np.clip(self.score - before, MIN_REWARD, MAX_REWARD))
        end = len(self.state.actions) == self._steps
        return (ts.termination if end else ts.transition)(self._features(self.state), reward)

    def look_ahead(self) -> np.ndarray:
        """Returns the reward of each edit from here, float32 [6], without taking any."""
        scores = [self._rate(self.state.edit(action).fused) for action in range(len(editing.EDITS))]
        return np.float32(np.clip(np.subtract(scores, self.score), MIN_REWARD, MAX_REWARD))

    def get_state(self):
        """A copy of where the episode is, for `set_state` of this environment."""
        return self._current_time_step, self.pair, self._rate, self.state, self.score, self.episode

    def set_state(self, state):
        self._current_time_step, self.pair, self._rate, self.state, self.score, self.episode = state

    def render(self, mode: str = "rgb_array") -> np.ndarray:
        """Returns the fused picture, uint8 [224, 224, 3] RGB."""
        return np.uint8(self.state.fused * 255)


def together(constructors: Sequence[Callable[[], EditorEnvironment]]) -> py_environment.PyEnvironment:
    """Returns environments as one batch: a single one in this process, several by `in_processes`."""
    if len(constructors) > 1:
        return in_processes(constructors)
    return batched_py_environment.BatchedPyEnvironment([constructors[0]()])


def in_processes(constructors: Sequence[Callable[[], EditorEnvironment]]) -> parallel_py_environment.ParallelPyEnvironment:
    """Returns environments in a process each, as one batch.

    Processes are spawned: a forked one hangs as soon as it and its parent have both used TensorFlow. TF-Agents wants scripts to
    run through its system_multiprocessing.handle_main, which is absl's app.run and a mark that this was done; here they run
    through absl by hdr_tf/cli.py, and the mark is set below.

    Args:
        constructors: make an environment each; picklable by cloudpickle.
    """
    if not multiprocessing_core.initialized():
        system_multiprocessing.enable_interactive_mode()
    multiprocessing.set_start_method("spawn", force=True)
    constructors = [functools.partial(_on_one_core, constructor) for constructor in constructors]
    return parallel_py_environment.ParallelPyEnvironment(constructors, start_serially=False)


def _on_one_core(constructor):
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return constructor()
