"""Training of the two-exposure editor with TF-Agents, which runs on Keras 2.

TensorFlow decides which Keras it uses when `tf.keras` is first accessed, and never again: Keras 2 (tf-keras) only if
TF_USE_LEGACY_KERAS is 1 by then. With Keras 3 TF-Agents trains too, but its checkpoints hold no Q weights. This package sets
the variable, and nothing else does, because tf.keras needs tf-keras then. The project's own networks are Keras 3 (`import
keras`), which the variable does not affect. Edits, features and policies are in hdr_tf/editor: fusing needs no TF-Agents.
"""

import importlib.util
import os

for package in ("tf_keras", "tf_agents"):
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"hdr_tf.rl: expected the package {package}, found none; pip install 'hdr_tf[rl]'")

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf  # noqa: E402

if not tf.keras.Model.__module__.startswith("tf_keras."):
    raise ImportError(
        "hdr_tf.rl: expected tf.keras to be Keras 2, found Keras 3, because something used tf.keras before; import hdr_tf.rl "
        "before anything uses tf.keras or imports tf_agents, or set TF_USE_LEGACY_KERAS=1 before Python starts"
    )
