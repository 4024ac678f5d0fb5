"""hdr_tf: exposure fusion for display and HDR merging to radiance.

>>> import hdr_tf
>>> fused = hdr_tf.fuse(["under.jpg", "over.jpg"])  # doctest: +SKIP
"""

import importlib

__version__ = "0.1.0"
_PUBLIC = {
    "fuse": "hdr_tf.fusion.pipeline",
    "fuse_files": "hdr_tf.fusion.pipeline",
    "merge": "hdr_tf.radiance.pipeline",
    "load": "hdr_tf.radiance.pipeline",
    "evaluate": "hdr_tf.evaluation.evaluate",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str):
    # What they need takes time to import, so it is imported on use.
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'hdr_tf' has no attribute {name!r}")
