"""hdr_tf: exposure fusion for display and HDR merging to radiance.

>>> import hdr_tf
>>> fused = hdr_tf.fuse(["under.jpg", "over.jpg"])  # doctest: +SKIP

The names in `__all__` are the public interface. Every other module is private: its names may change in any version.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hdr_tf.evaluation.evaluate import evaluate
    from hdr_tf.fusion.pipeline import Fuser, fuse, fuse_files
    from hdr_tf.radiance.pipeline import load, merge

__version__ = "0.1.0"
__all__ = ["Fuser", "evaluate", "fuse", "fuse_files", "load", "merge"]
_MODULES = {
    "Fuser": "hdr_tf.fusion.pipeline",
    "fuse": "hdr_tf.fusion.pipeline",
    "fuse_files": "hdr_tf.fusion.pipeline",
    "merge": "hdr_tf.radiance.pipeline",
    "load": "hdr_tf.radiance.pipeline",
    "evaluate": "hdr_tf.evaluation.evaluate",
}


def __getattr__(name: str):
    # What they need takes time to import, so it is imported on use.
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'hdr_tf' has no attribute {name!r}")
