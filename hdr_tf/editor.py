"""The two-exposure editor at work: a trained policy chooses edits on a small copy of a pair, which are done at full size.

    Policy         Q network and features: which edit comes next
    load_policy    from a .weights.h5 file, which says what features it was trained for; save_policy writes one
    fuse           a pair in, the fused picture and the policy's steps out
    sheet          the steps as one picture

It stops when no Q value is positive, after 20 edits at the latest, as the test loop of bigmms/reinforcement_learning_hdr
(375578f, agent_test.py) does; hdr_tf/image/editing.py has the edits and what differs. train/dqn_editor.py trains policies.
"""

import collections
import os
from collections.abc import Iterator, Sequence

import cv2
import keras
import numpy as np

from hdr_tf import weights
from hdr_tf.features import Features
from hdr_tf.image import editing
from hdr_tf.models.dqn_editor import dqn_editor

ORIGINAL_FEATURES = "vgg,quality"  # of a file that does not tell, as tools/convert_checkpoint.py writes it

Steps = Sequence[tuple[editing.Editing, np.ndarray | None]]


class Policy:
    """A Q network and the features that it takes."""

    def __init__(self, network: keras.Model, features: Features):
        """Args: a network of `models.dqn_editor`; features of its length, ValueError otherwise."""
        if network.input_shape[1] != features.length:
            told = ",".join((*features.parts, *["history"] * features.history))
            found = network.input_shape[1]
            raise ValueError(f"expected a policy for the {features.length} values of {told}, found one for {found} values")
        self.network, self.features = network, features

    def q_values(self, state: editing.Editing) -> np.ndarray:
        """Returns the value of each edit of a pair of 224 x 224 pixels, float32 [6]."""
        return np.asarray(self.network(self.features(state)[None], training=False))[0]

    def choose(self, state: editing.Editing) -> int | None:
        """Returns the edit of the highest Q value, None if none is positive."""
        return best(self.q_values(state))

    def run(self, state: editing.Editing) -> Iterator[tuple[editing.Editing, np.ndarray | None]]:
        """Yields a pair of 224 x 224 pixels with its Q values, and so after each edit; after the 20th they are None."""
        while len(state.actions) < editing.STEPS:
            q_values = self.q_values(state)
            yield state, q_values
            if (action := best(q_values)) is None:
                return
            state = state.edit(action)
        yield state, None


def best(q_values: np.ndarray) -> int | None:
    """The number of the highest value, None if none is positive."""
    return int(q_values.argmax()) if q_values.max() > 0 else None


def load_policy(path: str | os.PathLike, vgg_weights: str | None = None) -> Policy:
    """Reads a policy from a file of `save_policy` or tools/convert_checkpoint.py.

    Args:
        path: a .weights.h5 file.
        vgg_weights: a file for `models.vgg`, if the policy sees VGG16's features; None downloads it.

    Raises:
        ValueError: a file of another kind or network, or features that are not to be had.
        OSError: it cannot be read.
    """
    network = load_network(path)
    parts = weights.read_notes(path).get("features", ORIGINAL_FEATURES).split(",")
    try:
        return Policy(network, Features([part for part in parts if part != "history"], "history" in parts, vgg_weights))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_network(path: str | os.PathLike) -> keras.Model:
    """Reads the Q network of a policy, whose shape the arrays tell; raises as `load_policy`."""
    shapes = weights.read_shapes(path)
    widths = [shapes[name][-1] for name in sorted(shapes) if name.startswith("fc") and name.endswith("/kernel")]
    if len(widths) < 2 or "fc1/kernel" not in shapes:
        found = weights.read_notes(path).get("model", "another program")
        raise ValueError(f"{path}: expected weights of dqn_editor, found those of {found}")
    network = dqn_editor(shapes["fc1/kernel"][0], widths[:-1], "v_fc1/kernel" in shapes)
    weights.load_weights(network, path)
    return network


def save_policy(policy: Policy, path: str | os.PathLike) -> None:
    """Writes the network's weights and the names of the features to a .weights.h5 file."""
    features = policy.features
    weights.save_weights(policy.network, path, features=",".join((*features.parts, *["history"] * features.history)))


def fuse(policy: Policy, under: np.ndarray, over: np.ndarray) -> tuple[np.ndarray, Steps]:
    """Fuses a pair at its full size.

    Args:
        policy: chooses the edits.
        under: the darker picture, [H, W, 3] RGB, uint8 or uint16, 8 pixels a side and more.
        over: the brighter one, likewise.

    Returns:
        The fused picture, in 8 bit truncated as there, in 16 bit rounded; and the steps, as `Policy.run` yields them.
    """
    steps = list(policy.run(editing.start(editing.shrink(under), editing.shrink(over))))
    # Of the states, each of which holds a picture, one at a time is kept.
    (state,) = collections.deque(editing.run(under, over, steps[-1][0].actions), maxlen=1)
    top = np.iinfo(under.dtype).max
    fused = state.fused * top
    if top > 255:
        fused += 0.5
    return fused.astype(under.dtype), steps


def sheet(steps: Steps, columns: int = 7) -> np.ndarray:
    """Draws the fused picture of every step with its Q values below, the highest marked if it is positive.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    tiles = []
    for number, (state, q_values) in enumerate(steps):
        lines = [f"{number} edits" if number != 1 else "1 edit"]
        if q_values is not None:
            marks = ["*" if action == best(q_values) else " " for action in range(len(q_values))]
            lines += [f"{mark} {q:+.4f} {edit.name}" for mark, q, edit in zip(marks, q_values, editing.EDITS, strict=True)]
        text = np.full((110, editing.SIDE, 3), 255, np.uint8)
        for row, line in enumerate(lines, start=1):
            cv2.putText(text, line, (4, 14 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(np.concatenate([np.uint8(state.fused * 255), text]))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % min(columns, len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])
