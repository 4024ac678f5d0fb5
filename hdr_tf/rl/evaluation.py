"""Scores of the editor's policies: returns and MEF-SSIM, compared with those of simple players.

    none           makes no edit
    random         makes 20 edits at random
    brighter       makes edit 5 twenty times, which gives the published results
    constant       makes the best of the six edits twenty times; other pairs than the scored ones decide which edit is best
    look_ahead     tries all edits and makes the one with the highest reward, as long as that is positive; no upper limit, since
                   some edits gain only after a loss

All play in the environment of the training (hdr_tf/rl/environment.py), at 224 x 224; a policy stops as it does when it fuses.
The return is the sum of the rewards, not discounted. Intervals are 95 % intervals of the mean over the pairs, from 10,000
bootstrap samples of the pictures that the pairs were made from: pairs of one picture are alike, so samples of pairs would give
intervals that are too narrow. Each pair of a bracket is a picture of its own.
"""

from collections.abc import Callable, Sequence

import numpy as np

from hdr_tf.editor import edits, policy
from hdr_tf.editor.features import Features
from hdr_tf.progress import track
from hdr_tf.rl.environment import SCORES, EditorEnvironment
from hdr_tf.rl.pairs import Pair

BRIGHTER = 5
SAMPLES = 10_000

Player = Callable[[EditorEnvironment], int | None]


def make_environment(pairs: Sequence[Pair], reward: str) -> EditorEnvironment:
    """Returns an environment that uses the pairs in turn. Players look at its state, so its observations do not matter."""
    return EditorEnvironment(pairs, Features([], history=True), reward, shuffle=False)


def play(environment: EditorEnvironment, player: Player) -> float:
    """Plays the next episode and returns the sum of its rewards. The player ends the episode early by returning None."""
    step, total = environment.reset(), 0.0
    while not step.is_last() and (action := player(environment)) is not None:
        step = environment.step(action)
        total += float(step.reward)
    return total


def constant(action: int) -> Player:
    """Returns the player that always makes the same edit."""
    return lambda environment: action


def by_policy(editor: policy.Policy) -> Player:
    """Returns the player that makes the edits that a policy chooses."""
    return lambda environment: editor.choose(environment.state)


def best_constant(pairs: Sequence[Pair], reward: str) -> int:
    """Returns the edit that has the highest mean return on the pairs when it is made twenty times."""
    environment = make_environment(pairs, reward)
    means = [np.mean([play(environment, constant(action)) for _ in pairs]) for action in range(len(edits.EDITS))]
    return int(np.argmax(means))


def simple_players(best: int, seed: int = 0) -> dict[str, Player]:
    """Returns the simple players by name; `best` comes from `best_constant`."""
    rng = np.random.default_rng(seed)
    return {
        "none": lambda environment: None,
        "random": lambda environment: int(rng.integers(len(edits.EDITS))),
        "brighter": constant(BRIGHTER),
        f"constant ({edits.EDITS[best].name})": constant(best),
        "look_ahead": lambda environment: policy.best(environment.look_ahead()),
    }


def compare(pairs: Sequence[Pair], players: dict[str, Player], reward: str = "reference", seed: int = 0) -> dict:
    """Lets every player play every pair.

    Args:
        pairs: with references if the reward needs them.
        players: by name; the first one is compared with each of the others.
        reward: a name in `environment.SCORES`.
        seed: of the bootstrap.

    Returns:
        {"reward": its name, "pairs": [name], "pictures": [name for each pair], "players": {name: {figure: {"mean", "interval":
        [low, high], "values": [one for each pair], "by_picture": {name: mean}}}}}. The figures are "return", "mef_ssim" (of the
        final image, 0..1), "edits" (their number) and "ahead" (the first player's return minus this player's).
    """
    rng, figures = np.random.default_rng(seed), {}
    for name, player in track(players.items(), "players", len(players)):
        environment, rows = make_environment(pairs, reward), []
        for pair in pairs:
            total, state = play(environment, player), environment.state
            rows.append((total, SCORES["mef_ssim"](pair)(state.fused) / 100, len(state.actions)))
        figures[name] = dict(zip(("return", "mef_ssim", "edits"), np.transpose(rows), strict=True))
    first = next(iter(figures.values()))["return"]
    for row in figures.values():
        row["ahead"] = first - row["return"]
    pictures = [pair.picture or pair.name for pair in pairs]
    return {
        "reward": reward,
        "pairs": [pair.name for pair in pairs],
        "pictures": pictures,
        "players": {
            name: {key: _summary(values, pictures, rng) for key, values in row.items()} for name, row in figures.items()
        },
    }


def _summary(values, pictures, rng):
    names, numbers, counts = np.unique(pictures, return_inverse=True, return_counts=True)
    sums = np.bincount(numbers, values)
    drawn = rng.integers(len(names), size=(SAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return {
        "mean": float(values.mean()),
        "interval": np.percentile(means, [2.5, 97.5]).tolist(),
        "values": values.tolist(),
        "by_picture": dict(zip(names.tolist(), (sums / counts).tolist(), strict=True)),
    }


def as_text(scores: dict) -> str:
    """Returns the result of `compare` as a table with a line for each player, and if there are several pairs of a picture, the
    returns of each picture as another one, with the players in the same order."""

    def cell(figure, digits):
        low, high = figure["interval"]
        return f"{figure['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    rows = [["player", f"return ({scores['reward']})", "first ahead by", "MEF-SSIM", "edits"]]
    for name, row in scores["players"].items():
        cells = cell(row["return"], 3), cell(row["ahead"], 3), cell(row["mef_ssim"], 4)
        rows.append([name, *cells, f"{row['edits']['mean']:.1f}"])
    pictures = sorted(set(scores["pictures"]))
    counted = f"{len(scores['pairs'])} pairs of {len(pictures)} pictures"
    lines = [*_aligned(rows), f"{counted}; in brackets 95 % intervals of the means"]
    if len(pictures) < len(scores["pairs"]):
        returns = [row["return"]["by_picture"] for row in scores["players"].values()]
        numbered = ["picture", *map(str, range(1, len(returns) + 1))]
        lines += ["", *_aligned([numbered, *([name, *(f"{row[name]:.3f}" for row in returns)] for name in pictures)])]
    return "\n".join([*lines, ""])


def _aligned(rows):
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return ["  ".join([name.ljust(first), *map(str.rjust, cells, others)]) for name, *cells in rows]
