"""The two-exposure editor's runner: a trained policy chooses edits on a small copy of a pair; they are repeated at full size.

The policy stops when no Q value is positive, or after 20 edits, as in the test loop of bigmms/reinforcement_learning_hdr
(375578f, agent_test.py). hdr_tf/editor/edits.py has the edits and lists the differences. train/dqn_editor.py trains policies.
"""

import collections
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import cv2
import keras
import numpy as np

from hdr_tf import weights
from hdr_tf.editor import edits, scores
from hdr_tf.editor.features import Features
from hdr_tf.image import color
from hdr_tf.image.depth import from_unit, is_gray, to_depth, to_rgb, to_unit
from hdr_tf.models.dqn_editor import dqn_editor

ORIGINAL_FEATURES = "vgg,quality"  # of a file that names none, such as `hdr-tf convert` writes

Step = tuple[edits.EditedPair, np.ndarray | None]


class Policy:
    """A Q network with the features that it takes."""

    def __init__(self, network: keras.Model, features: Features):
        """Args: a network of `models.dqn_editor`, and features of its length."""
        if (actual := network.input_shape[1]) != features.length:
            names = ",".join(features.names)
            raise ValueError(f"expected a policy for the {features.length} values of {names}, found one for {actual} values")
        self.network, self.features = network, features

    def q_values(self, state: edits.EditedPair) -> np.ndarray:
        """Returns the value of each edit of a pair of 224 x 224 pixels, float32 [6]."""
        return np.asarray(self.network(self.features(state)[None], training=False))[0]

    def choose(self, state: edits.EditedPair) -> int | None:
        """Returns the edit of the highest Q value; None if no value is positive."""
        return best(self.q_values(state))

    def run(self, state: edits.EditedPair) -> Iterator[Step]:
        """Yields a pair of 224 x 224 pixels and its Q values, before the first edit and after each; after the 20th edit, None
        stands for the Q values."""
        while len(state.actions) < edits.STEPS:
            q_values = self.q_values(state)
            yield state, q_values
            if (action := best(q_values)) is None:
                return
            state = state.edit(action)
        yield state, None


class LookAhead(Policy):
    """Tries all six edits and makes the one that raises MEF-SSIM the most; stops when none does. It has no network.

    Changed: the published agent tries no edit and reads no score.
    """

    def __init__(self):
        """It needs nothing."""

    def q_values(self, state: edits.EditedPair) -> np.ndarray:
        """Returns what each edit adds to 100 MEF-SSIM, float32 [6]."""
        rate = _mef_ssim(state.fuse)
        after = [rate(state.edit(action).fused) for action in range(len(edits.EDITS))]
        return np.float32(np.subtract(after, rate(state.fused)))


@functools.lru_cache(maxsize=2)  # the pair stays the same for up to 20 edits
def _mef_ssim(fuse):
    return scores.mef_ssim(*fuse.pair)


def best(q_values: np.ndarray) -> int | None:
    """Returns the number of the highest value; None if no value is positive."""
    return int(q_values.argmax()) if q_values.max() > 0 else None


def load_policy(path: str | os.PathLike, vgg_weights: str | None = None) -> Policy:
    """Reads a policy from a file that `save_policy` or `hdr-tf convert` wrote.

    Args:
        path: a .weights.h5 file.
        vgg_weights: a file for `models.vgg`, if the policy uses VGG16's features; None downloads it.
    """
    network = load_network(path)
    names = weights.read_notes(path).get("features", ORIGINAL_FEATURES).split(",")
    try:
        return Policy(network, Features([name for name in names if name != "history"], "history" in names, vgg_weights))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_network(path: str | os.PathLike) -> keras.Model:
    """Reads the Q network of a policy, whose widths follow from the arrays in the file."""
    shapes = weights.read_shapes(path)
    widths = [shapes[name][-1] for name in sorted(shapes) if name.startswith("fc") and name.endswith("/kernel")]
    if len(widths) < 2 or "fc1/kernel" not in shapes:
        actual = weights.read_notes(path).get("model", "another program")
        raise ValueError(f"{path}: expected weights of dqn_editor, found those of {actual}")
    build = functools.partial(dqn_editor, shapes["fc1/kernel"][0], widths[:-1], "v_fc1/kernel" in shapes)
    weights.check_size(build, path)
    network = build()
    weights.load_weights(network, path)
    return network


def save_policy(policy: Policy, path: str | os.PathLike) -> None:
    """Writes the network's weights and the names of the features to a .weights.h5 file."""
    weights.save_weights(policy.network, path, features=",".join(policy.features.names))


def fuse(
    policy: Policy, under: np.ndarray, over: np.ndarray, fuse_three: Callable | None = None
) -> tuple[np.ndarray, list[Step]]:
    """Fuses a pair at full size.

    Args:
        policy: chooses the edits.
        under, over: the two exposures, as in `edits.start`.
        fuse_three: None for the published method. Another fusion of under-exposed, virtual and over-exposed image, a list of
            three [H, W, 3] uint16, replaces its fusion, and the repaired virtual exposure its own (see `edits.start`).

    Returns:
        The fused image in the type of the pair (8 bit is truncated, as in the original; 16 bit is rounded), and the steps that
        `Policy.run` yields.
    """
    steps = list(policy.run(edits.start(edits.shrink(under), edits.shrink(over))))
    # Every state holds an image, so only the last one is kept.
    fuse_pair = functools.partial(_fuse_deep, fuse_three, under, over) if fuse_three else None
    (state,) = collections.deque(edits.run(under, over, steps[-1][0].actions, fuse_pair), maxlen=1)
    if fuse_three:
        return from_unit(state.fused, under.dtype), steps
    top = np.iinfo(under.dtype).max
    fused = state.fused * top
    if top > 255:
        fused += 0.5
    return fused.astype(under.dtype), steps


def _fuse_deep(fuse_three, under, over, virtual):
    """In 16 bit, so that edits of an 8-bit pair do not spread its levels to steps."""
    return to_unit(fuse_three([to_depth(under, 16), from_unit(virtual, np.uint16), to_depth(over, 16)]))


def contact_sheet(steps: Sequence[Step], columns: int = 7) -> np.ndarray:
    """Draws the fused image of each step above its Q values, as uint8 [H, W, 3] RGB; a star marks the edit that is chosen."""
    tiles = []
    for number, (state, q_values) in enumerate(steps):
        lines = [f"{number} edits" if number != 1 else "1 edit"]
        if q_values is not None:
            marks = ["*" if action == best(q_values) else " " for action in range(len(q_values))]
            lines += [f"{mark} {q:+.4f} {edit.name}" for mark, q, edit in zip(marks, q_values, edits.EDITS, strict=True)]
        text = np.full((110, edits.SIDE, 3), 255, np.uint8)
        for row, line in enumerate(lines, start=1):
            cv2.putText(text, line, (4, 14 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        tiles.append(np.concatenate([np.uint8(state.fused * 255), text]))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % min(columns, len(tiles)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


class EditorRunner:
    """Fuses pairs with a policy; see `hdr_tf.fusion.pipeline` for the methods of a runner."""

    def __init__(self, policy: Policy, other=None):
        """Args: the policy; the runner of another system, which then fuses the three images."""
        self._policy, self._other = policy, other

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Prepares the other system, if any: the policy is already loaded and takes any size."""
        if self._other:
            self._other.prepare(3, height, width, eight_bit=False)

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Returns the fused image; gray if both images are gray."""
        return self._fuse(images)[0]

    def fuse_in_steps(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the fused image and the `contact_sheet` of the steps."""
        fused, steps = self._fuse(images)
        return fused, contact_sheet(steps)

    def _fuse(self, images):
        gray = all(map(is_gray, images))
        pair = [to_rgb(_luminance(image) if gray else image) for image in images]
        fused, steps = fuse(self._policy, *pair, self._other and self._fuse_three)
        return _luminance(fused) if gray else fused, steps

    def _fuse_three(self, images):
        return to_rgb(self._other.fuse(images))


def _luminance(pixels):
    return pixels if pixels.ndim == 2 else np.rint(color.luminance(pixels)).astype(pixels.dtype)
