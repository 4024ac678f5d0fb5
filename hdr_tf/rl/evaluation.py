"""What a policy of the editor is worth: returns and MEF-SSIM beside those of simple ways to choose edits.

    none           no edit
    random         20 edits at random
    brighter       edit 5 twenty times, which is what the published results are
    constant       the best of the six edits, twenty times; best on other pairs than those that are scored
    look_ahead     the edit of the highest reward, as long as it is positive: knows what the policy has to guess

All play the environment of the training (hdr_tf/rl/environment.py), at 224 x 224; a policy stops as it does when it fuses. The
return is the sum of the rewards, not discounted. Intervals are of the mean over the pairs, 95 %, by 10,000 bootstrap samples.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from hdr_tf import report
from hdr_tf.features import Features
from hdr_tf.image import editing
from hdr_tf.image.pairs import Pair
from hdr_tf.rl.environment import SCORES, EditorEnvironment

BRIGHTER = 5
SAMPLES = 10_000

Player = Callable[[EditorEnvironment], int | None]


def environment(pairs: Sequence[Pair], reward: str) -> EditorEnvironment:
    """An environment that takes the pairs in turn; what it shows is empty, as players look at its state themselves."""
    return EditorEnvironment(pairs, Features([], history=True), reward, shuffle=False)


def play(game: EditorEnvironment, player: Player) -> float:
    """Plays the next episode, which the player ends early by None; returns its sum of rewards."""
    step, total = game.reset(), 0.0
    while not step.is_last() and (action := player(game)) is not None:
        step = game.step(action)
        total += float(step.reward)
    return total


def constant(action: int) -> Player:
    return lambda game: action


def randomly(seed: int) -> Player:
    rng = np.random.default_rng(seed)
    return lambda game: int(rng.integers(len(editing.EDITS)))


def look_ahead(game: EditorEnvironment) -> int | None:
    rewards = game.look_ahead()
    return int(rewards.argmax()) if rewards.max() > 0 else None


def by_policy(policy) -> Player:
    """The player that does what an `editor.Policy` chooses."""
    return lambda game: policy.choose(game.state)


def best_constant(pairs: Sequence[Pair], reward: str) -> int:
    """Returns the edit that, twenty times, has the highest mean return on the pairs."""
    game = environment(pairs, reward)
    return int(np.argmax([np.mean([play(game, constant(action)) for _ in pairs]) for action in range(len(editing.EDITS))]))


def simple_players(best: int, seed: int = 0) -> dict[str, Player]:
    """The ways above by name; `best` is from `best_constant`."""
    return {
        "none": lambda game: None,
        "random": randomly(seed),
        "brighter": constant(BRIGHTER),
        f"constant ({editing.EDITS[best].name})": constant(best),
        "look_ahead": look_ahead,
    }


def compare(
    pairs: Sequence[Pair],
    players: dict[str, Player],
    reward: str = "reference",
    seed: int = 0,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Lets every player play every pair.

    Args:
        pairs: with references, if the reward needs them.
        players: by name; what the others gain is measured from the first.
        reward: a name in `environment.SCORES`.
        seed: of the bootstrap.
        track: wraps the names of the players, for a progress bar.

    Returns:
        {"reward", "pairs": [name], "players": {name: {"return", "mef_ssim" (of the final picture, 0..1), "edits": {"mean",
        "interval": [low, high], "values": one a pair}, "ahead": likewise, return of the first player less this one's}}}

    Raises:
        ValueError: a pair without a reference, an unknown reward or no pair.
    """
    rng, told = np.random.default_rng(seed), {}
    for name in track(list(players)):
        game, rows = environment(pairs, reward), []
        for pair in pairs:
            total = play(game, players[name])
            rows.append((total, SCORES["mef_ssim"](pair)(game.state.fused) / 100, len(game.state.actions)))
        told[name] = dict(zip(("return", "mef_ssim", "edits"), np.transpose(rows), strict=True))
    first = next(iter(told.values()))["return"]
    for row in told.values():
        row["ahead"] = first - row["return"]
    return {
        "reward": reward,
        "pairs": [pair.name for pair in pairs],
        "players": {name: {key: _summary(values, rng) for key, values in row.items()} for name, row in told.items()},
    }


def _summary(values, rng):
    means = rng.choice(values, (SAMPLES, len(values))).mean(axis=1)
    return {"mean": float(values.mean()), "interval": np.percentile(means, [2.5, 97.5]).tolist(), "values": values.tolist()}


def as_text(told: dict) -> str:
    """Returns the result of `compare` as a table, a line for each player."""

    def cell(row, digits):
        low, high = row["interval"]
        return f"{row['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    rows = [["player", f"return ({told['reward']})", "first ahead by", "MEF-SSIM", "edits"]]
    for name, row in told["players"].items():
        rows.append(
            [name, cell(row["return"], 3), cell(row["ahead"], 3), cell(row["mef_ssim"], 4), f"{row['edits']['mean']:.1f}"]
        )
    return "\n".join(report.table(rows)) + f"\n{len(told['pairs'])} pairs; in brackets 95 % intervals of the means\n"
