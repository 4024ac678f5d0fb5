"""Training of the two-exposure editor with TF-Agents, which runs on Keras 2.

TensorFlow decides once, when `tf.keras` is first used, which Keras it is: Keras 2 (tf-keras) only if TF_USE_LEGACY_KERAS is 1
by then. Without it TF-Agents trains all the same, but its checkpoints hold no Q weights. This package sets the variable, here
and nowhere else: in every program it would break tf.keras for whoever has no tf-keras. The project's own networks are Keras 3
(`import keras`), which the variable does not concern.

Edits, histograms and data are in hdr_tf/image, the state's vector in hdr_tf/features.py: fusing needs nothing of this package.
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
