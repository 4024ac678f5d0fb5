"""Brackets by the thousand: read, fused and written at the same time, with an account of each, and not twice.

While a bracket is fused, the next one is read and the one before is written, each in a thread of its own: three brackets are in
memory, however many there are. `summary.json` in the folder of the results tells what became of each bracket. It is written
every few seconds, and at the end, also when the end is an interrupt or an error. A later run passes over what it finds there:
an output that was made from the same files with the same settings, and is there as it was written.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hdr_tf import cli
from hdr_tf.image import files

SUMMARY = "summary.json"
EVERY = 5.0  # seconds between two writings of the summary


@dataclasses.dataclass(frozen=True)
class Job:
    """A bracket and what it becomes."""

    name: str
    inputs: Callable[[], Sequence[pathlib.Path]]
    """lists its files; what it raises is the bracket's error"""
    output: pathlib.Path


class _Summary:
    """The account of a run, and of the one before it."""

    def __init__(self, path, settings):
        self._path, self._settings, self._entries, self._written = path, settings, {}, time.monotonic()
        try:
            self._before = {entry["name"]: entry for entry in json.loads(path.read_text())["brackets"]}
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another program: nothing to pass over
            self._before = {}

    def key(self, inputs):
        """Tells whether inputs or settings changed."""
        states = [(str(path.absolute()), state(path)) for path in inputs]
        return hashlib.sha256(json.dumps([states, self._settings], default=str).encode()).hexdigest()

    def is_done(self, job, key):
        before, found = self._before.get(job.name, {}), state(job.output)
        return found is not None and (before.get("key"), before.get("written")) == (key, found)

    def add(self, job, inputs, key, result, seconds):
        error = cli.one_line(result) if isinstance(result, Exception) else None
        self._entries[job.name] = {
            "name": job.name,
            "inputs": [str(path) for path in inputs],
            "output": str(job.output),
            "status": "failed" if error else "skipped" if result is None else "fused",
            "error": error,
            "seconds": round(seconds, 3),
            "key": key,
            "written": None if error else state(job.output),
        }
        if time.monotonic() - self._written > EVERY:
            self.write()

    def write(self):
        """Brackets that this run did not come to stay as the run before left them."""
        entries = list((self._before | self._entries).values())
        statuses = [entry["status"] for entry in self._entries.values()]
        counts = {status: statuses.count(status) for status in ("fused", "skipped", "failed")}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(self._path) as temporary:
            temporary.write_text(json.dumps(counts | {"brackets": entries}, indent=1) + "\n")
        self._written = time.monotonic()


def run(
    jobs: Sequence[Job],
    read: Callable[[Job, Sequence[pathlib.Path]], Any],
    fuse: Callable[[Job, Any], Any],
    write: Callable[[Job, Any], Any],
    output: pathlib.Path,
    settings: dict,
) -> Iterator[tuple[pathlib.Path, Any]]:
    """Does every job; one that fails does not stop the others. To be closed if it is not used up.

    Args:
        jobs: what to do.
        read: of a job and its files to what `fuse` takes, in a thread of its own.
        fuse: to what `write` takes, in the caller's thread.
        write: to the result, in a thread of its own; must write `job.output` as a whole or not at all.
        output: the folder of summary.json.
        settings: all that the outputs depend on but for the files; values that `str` tells apart.

    Yields:
        Of each job, in their order, its output and the result, the error that took its place, or None where the output is
        there already.
    """
    summary = _Summary(output / SUMMARY, settings)

    def begin(job):
        """Returns the job's files, their key, what was read (None: nothing to do) or an error, and the seconds that it took."""
        start, inputs, key = time.perf_counter(), (), None
        try:
            inputs = job.inputs()
            key = summary.key(inputs)
            found = None if summary.is_done(job, key) else read(job, inputs)
        except Exception as error:
            found = error
        return inputs, key, found, time.perf_counter() - start

    def account(job, inputs, key, seconds, writing):
        result, took = writing.result()
        summary.add(job, inputs, key, result, seconds + took)
        return job.output, result

    reader, writer = (concurrent.futures.ThreadPoolExecutor(1) for _ in range(2))
    pending = None  # the bracket that is being written
    try:
        reading = reader.submit(begin, jobs[0]) if jobs else None
        for number, job in enumerate(jobs, start=1):
            inputs, key, found, seconds = reading.result()
            reading = reader.submit(begin, jobs[number]) if number < len(jobs) else None
            found, took = _timed(fuse, job, found)
            last, pending = pending, (job, inputs, key, seconds + took, writer.submit(_timed, write, job, found))
            if last:
                yield account(*last)
        last, pending = pending, None
        if last:
            yield account(*last)
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
        if pending:
            account(*pending)
        summary.write()


def _timed(function, job, found):
    """Returns what the function makes of what was found, or its error, and the seconds of it; hands on errors and None."""
    start = time.perf_counter()
    if found is not None and not isinstance(found, Exception):
        try:
            found = function(job, found)
        except Exception as error:  # such as too little memory for one large bracket
            found = error
    return found, time.perf_counter() - start


def state(path: str | os.PathLike) -> list | None:
    """Size and time of a file, of a folder those of all that is in it, None where there is none."""
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            return [[file.name, state(file)] for file in sorted(path.iterdir())]
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
