"""Keeps the lines that decoders write about damaged files off the terminal, in the thread that decodes and in no other.

A thread that begins to decode switches nothing but a flag of its own. Three things consult it: a filter of tifffile's logger
and a filter of Python's warnings (Pillow warns about damaged EXIF), both added when this module is imported; and `Output`,
where a program puts it in the place of sys.stdout, as hdr_tf/cli.py does, because OpenEXR prints there.

OpenCV logs what it cannot decode. The whole process shares its log level, which therefore belongs to the program
(OPENCV_LOG_LEVEL).
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
    """Suppresses what decoders log, warn about and print in this thread."""
    before, _thread.decodes = _thread.decodes, True
    try:
        yield
    finally:
        _thread.decodes = before


class Output:
    """A text stream that drops what a thread writes while the thread decodes."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        return len(text) if _thread.decodes else self._stream.write(text)

    def __getattr__(self, name):
        return getattr(self._stream, name)


class _DecodesNow(type):
    def __subclasscheck__(cls, category):
        return _thread.decodes


class _WarningWhileDecoding(Warning, metaclass=_DecodesNow):
    """The category of every warning of a thread that decodes, so that one fixed filter serves all threads. Python's own
    `warnings.catch_warnings` would change the filters of the whole process, and a filter by module would silence Pillow for
    the program as well."""


logging.getLogger("tifffile").addFilter(lambda record: not _thread.decodes)
warnings.simplefilter("ignore", category=_WarningWhileDecoding)
