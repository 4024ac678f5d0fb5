"""Demonstrations: states with the rewards of all six edits, from which the editor's Q network learns before the DQN begins.

Every edit of a state becomes an episode of one edit in a replay buffer, so the agent's own training step learns from them what
each edit is worth by itself (`agent.Learner.learn`). The DQN then continues from these weights.

The first stage visits the states of episodes that mix three kinds of edits: the best one, found by looking one step ahead; one
at random after looking ahead; and one at random without it, whose state is not kept. The shares of the three differ between
episodes, so states from the beginning, from good episodes and from random walks occur. The policy itself visits the states of
later stages, from the beginning to where it stops: it learns what it would have gained there (Ross, Gordon, Bagnell, "A
reduction of imitation learning and structured prediction to no-regret online learning", AISTATS 2011).
"""

import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from hdr_tf.editor import edits
from hdr_tf.editor.policy import Policy, best
from hdr_tf.io import outputs
from hdr_tf.rl import environment
from hdr_tf.rl.pairs import Pair

EPISODES = 20  # in a file

Demonstration = tuple[np.ndarray, np.ndarray]


def read_stage(
    run: pathlib.Path, stage: int, episodes: range, pairs: Sequence[Pair], reward: str, policy: Policy, seed: int
) -> Demonstration:
    """Returns the demonstrations of a stage. Those that the run has no file of are made first, so a killed run continues.

    Args:
        run: folder of the run.
        stage: number of the stage.
        episodes: numbers of its episodes; each uses the pair of its number.
        pairs: of the training; they are used in turn.
        reward: a name in `environment.SCORES`.
        policy: chooses the edits from stage 1 on. Its features are the observations.
        seed: decides, with the number of an episode, the edits of stage 0.

    Returns:
        Observations [N, features] and the rewards of the edits [N, 6], both float32.
    """
    folder, parts = run / "demonstrations", []
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(episodes.start, episodes.stop, EPISODES):
        path = folder / f"{stage}_{first:06d}.npz"
        if not path.exists():
            made = []
            for number in range(first, min(first + EPISODES, episodes.stop)):
                pair = pairs[number % len(pairs)]
                rate = environment.SCORES[reward](pair)
                start = edits.start(pair.under, pair.over)
                if stage:
                    made += _own(start, rate, policy)
                else:
                    made += _mixed(start, rate, policy.features, np.random.default_rng((seed, number, 99)))
            observations, rewards = map(np.stack, zip(*made, strict=True))
            with outputs.atomic(path) as temporary:
                np.savez(temporary, observations=observations, rewards=rewards)
        with np.load(path) as file:
            parts.append((file["observations"], file["rewards"]))
    observations, rewards = map(np.concatenate, zip(*parts, strict=True))
    return observations, rewards


def _mixed(state, rate, features, rng) -> Iterator[Demonstration]:
    share = rng.uniform(0.1, 0.6)
    for step in range(edits.STEPS):
        if step and rng.random() >= share:
            state = state.edit(int(rng.integers(len(edits.EDITS))))
            continue
        after, rewards = _outcomes(state, rate)
        yield features(state), rewards
        action = best(rewards)
        state = after[int(rng.integers(len(after))) if action is None or rng.random() >= 0.8 else action]


def _own(state, rate, policy) -> Iterator[Demonstration]:
    for visited, q_values in policy.run(state):
        if q_values is not None:
            yield policy.features(visited), _outcomes(visited, rate)[1]


def _outcomes(state, rate):
    """The state after each edit, and the rewards of the edits."""
    after = [state.edit(action) for action in range(len(edits.EDITS))]
    scores = [rate(other.fused) for other in after]
    return after, environment.rewards(scores, rate(state.fused))
