"""hdr_tf: fuses differently exposed photographs into one.

>>> import hdr_tf
>>> fused = hdr_tf.fuse(["under.jpg", "over.jpg"])  # doctest: +SKIP
"""

__version__ = "0.1.0"
__all__ = ["fuse"]


def __getattr__(name: str):
    # TensorFlow takes seconds to import: only who asks for `fuse` pays for it.
    if name == "fuse":
        from hdr_tf.fusing import fuse

        return fuse
    raise AttributeError(f"module 'hdr_tf' has no attribute {name!r}")
