"""Keeps the lines that decoders write about damaged files off the terminal, in the thread that decodes and in no other.

Nothing is switched when a thread begins to decode but a flag of its own, which three things consult:

    tifffile's logger       a filter, added when this module is imported
    Python's warnings       a filter, added when this module is imported; Pillow warns about damaged EXIF
    sys.stdout              only where a program puts `Output` in its place, as hdr_tf/cli.py does: OpenEXR prints there

OpenCV logs what it cannot decode. Its level is one for the whole process and belongs to the program (OPENCV_LOG_LEVEL).
"""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import TextIO


class _Thread(threading.local):
    decodes = False


_thread = _Thread()


@contextlib.contextmanager
def decoders() -> Iterator[None]:
    """Keeps what decoders log, warn and print in this thread off the terminal."""
    before, _thread.decodes = _thread.decodes, True
    try:
        yield
    finally:
        _thread.decodes = before


class Output:
    """A text stream that drops what a thread writes while it decodes."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if _thread.decodes else self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


class _EveryCategory(type):
    def __subclasscheck__(cls, category):
        return _thread.decodes


class _WarningWhileDecoding(Warning, metaclass=_EveryCategory):
    """The category that every warning has while its thread decodes: so one filter is right for all threads."""


logging.getLogger("tifffile").addFilter(lambda record: not _thread.decodes)
warnings.simplefilter("ignore", category=_WarningWhileDecoding)
