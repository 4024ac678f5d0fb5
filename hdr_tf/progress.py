"""Progress on stderr while a script runs, if stderr is a terminal. As a library, this software shows nothing.

display    context in which progress is shown; `cli.run` enters it
listen     context in which a function hears of the progress of this thread
track      yields items and shows how many are done
stage      context of a piece of work whose length is unknown
"""

import contextlib
import contextvars
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

import rich.console
import rich.progress

_lock = threading.Lock()
_progress: rich.progress.Progress | None = None
_listener = contextvars.ContextVar("listener", default=None)


@contextlib.contextmanager
def display() -> Iterator[None]:
    """Shows the progress of what runs in this context, on stderr if that is a terminal."""
    global _progress
    console = rich.console.Console(stderr=True)
    if not console.is_interactive:
        yield
        return
    # Rich would send what is printed to stderr too, which is right only if both are the terminal.
    _progress = rich.progress.Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
    try:
        yield
    finally:
        _progress.stop()
        _progress = None


@contextlib.contextmanager
def listen(listener: Callable[[str], None]) -> Iterator[None]:
    """Calls a function with the description of each piece of work that begins in this context and this thread, and again after
    each item of `track`. An exception that it raises ends the work."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def track(items: Iterable, description: str, total: int | None = None) -> Iterator:
    """Yields items and shows how many of `total`, or of their length if they have one, are done."""
    with _task(description, len(items) if total is None and hasattr(items, "__len__") else total) as advance:
        for item in items:
            yield item
            advance()


@contextlib.contextmanager
def stage(description: str) -> Iterator[None]:
    """Shows a description while this context lasts."""
    with _task(description, None):
        yield


@contextlib.contextmanager
def _task(description, total):
    listener, progress = _listener.get(), _progress
    if listener is not None:
        listener(description)
        yield lambda: listener(description)
        return
    if progress is None:
        yield lambda: None
        return
    with _lock:
        progress.start()  # does nothing if it is shown already
        task = progress.add_task(description, total=total)
    try:
        yield lambda: progress.advance(task)
    finally:
        with _lock:
            progress.remove_task(task)
            if not progress.tasks:
                progress.stop()
