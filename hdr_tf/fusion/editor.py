"""Loads the runner of the two-exposure editor, which may also fuse its three images with another system."""

import functools
import pathlib
from typing import Literal

from hdr_tf import systems
from hdr_tf.editor.policy import EditorRunner, LookAhead, load_policy


def load(
    system: systems.FusionSystem,
    path: pathlib.Path,
    vgg_weights: str | None = None,
    policy: Literal["look_ahead"] | None = None,
    fuse_with: Literal["pyramid"] | None = None,
) -> EditorRunner:
    """Returns the runner of the editor; the same one again as long as the file does not change.

    Args:
        system, path: as of every runner; the path is that of the policy's weights.
        vgg_weights: see `hdr_tf.editor.policy.load_policy`.
        policy: None is the Q network in the file, "look_ahead" is `hdr_tf.editor.policy.LookAhead`.
        fuse_with: None is the published fusion of the three images; "pyramid" is the bundled system of this name.
    """
    if policy not in (None, "look_ahead"):
        raise ValueError(f"policy: expected look_ahead, found {policy!r}")
    if fuse_with not in (None, "pyramid"):
        raise ValueError(f"fuse_with: expected pyramid, found {fuse_with!r}")
    return _load(path.resolve(), path.stat().st_mtime_ns, vgg_weights, policy, fuse_with)


@functools.lru_cache(maxsize=4)
def _load(path, changed, vgg_weights, policy, fuse_with):
    chosen = LookAhead() if policy else load_policy(path, vgg_weights)
    return EditorRunner(chosen, systems.load_runner(fuse_with) if fuse_with else None)
