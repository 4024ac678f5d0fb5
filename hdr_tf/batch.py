"""The batch runner: brackets by the thousand, read, fused and written at the same time, recorded, and never done twice.

While a bracket is fused, the next one is read and the one before is written, each in a thread of its own: three brackets are
in memory, however many there are. `summary.json` in the folder of the results records what became of each bracket, even if an
interrupt or an error ends the run. A later run skips a bracket if its output was made from the same files with the same
settings and has not changed since.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hdr_tf import cli
from hdr_tf.io import image_files, manifest, outputs
from hdr_tf.io.brackets import Bracket

SUMMARY = "summary.json"
SAVE_INTERVAL = 5.0  # seconds between two writings of the summary


@dataclasses.dataclass(frozen=True)
class Job:
    """A bracket and its output."""

    name: str
    inputs: Callable[[], Sequence[pathlib.Path]]
    """lists its files; an exception is the error of the bracket"""
    output: pathlib.Path


class _Summary:
    """The record of a run, and of the one before it."""

    def __init__(self, path, settings):
        self._path, self._settings, self._entries, self._written = path, settings, {}, time.monotonic()
        try:
            self._before = {entry["name"]: entry for entry in (manifest.read(path) or {})["brackets"]}
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another program: nothing to skip
            self._before = {}

    def key(self, inputs):
        """A checksum that changes with the inputs and the settings."""
        states = [(str(path.absolute()), state(path)) for path in inputs]
        return hashlib.sha256(json.dumps([states, self._settings], default=str).encode()).hexdigest()

    def is_done(self, job, key):
        before, now = self._before.get(job.name, {}), state(job.output)
        return now is not None and (before.get("key"), before.get("written")) == (key, now)

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
        if time.monotonic() - self._written > SAVE_INTERVAL:
            self.write()

    def write(self):
        """Writes the file. Brackets that this run has not reached keep their entry of the run before."""
        statuses = [entry["status"] for entry in self._entries.values()]
        counts = {status: statuses.count(status) for status in ("fused", "skipped", "failed")}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        manifest.save(self._path, counts | {"brackets": list((self._before | self._entries).values())})
        self._written = time.monotonic()


def bracket_jobs(brackets: Sequence[pathlib.Path | Bracket], output: pathlib.Path, suffix: str, least: int) -> list[Job]:
    """Makes a job of each bracket: from at least `least` images to `output`/<its name><suffix>, where `output` must not lie
    among the brackets. If two brackets have the same name, the second gets the name of its first file, suffix included."""

    def inputs(path, bracket):
        if bracket.problem:
            raise ValueError(f"{bracket.problem}; --allow_missing fuses the others without it")
        files = bracket.paths or image_files.list_images(path)
        if len(files) < least:
            raise ValueError(f"{path}: expected at least {least} images, found {len(files)}")
        return files

    jobs, paths = {}, []
    for bracket in brackets:
        if not isinstance(bracket, Bracket):
            bracket = Bracket(bracket.name, (), bracket)
        path = bracket.source or bracket.paths[0]
        if output.resolve() == path.parent.resolve():
            held = "brackets" if bracket.source else "photographs"  # a later run would take the results for photographs
            raise ValueError(f"{output}: holds the {held} and would also hold the results; choose a folder elsewhere")
        name = path.name if bracket.name in jobs and not bracket.source else bracket.name
        name = next(other for i in itertools.count(1) if (other := f"{name}_{i}" if i > 1 else name) not in jobs)
        jobs[name] = Job(name, functools.partial(inputs, path, bracket), output / f"{name}{suffix}")
        paths.append(path)
    outputs.check_outside(output, paths, "brackets")
    return list(jobs.values())


def run(
    jobs: Sequence[Job],
    read: Callable[[Job, Sequence[pathlib.Path]], Any],
    fuse: Callable[[Job, Any], Any],
    write: Callable[[Job, Any], Any],
    output: pathlib.Path,
    settings: dict,
) -> Iterator[tuple[pathlib.Path, Any]]:
    """Does every job; one that fails does not stop the others. Close the iterator if you do not exhaust it.

    Args:
        read: turns a job and its files into what `fuse` takes, in a thread of its own.
        fuse: turns a job and that into what `write` takes, in the caller's thread.
        write: turns a job and that into the result, in a thread of its own; writes `job.output` as a whole or not at all.
        output: the folder of summary.json.
        settings: everything else that the outputs depend on; values that differ have different strings.

    Yields:
        For each job, in order, its output, and the result, the error in its place, or None if an earlier run made the output.
    """
    summary = _Summary(output / SUMMARY, settings)

    def begin(job):
        """Returns the job's files, their key, what was read (None: nothing to do) or an error, and the seconds that it took."""
        start, inputs, key = time.perf_counter(), (), None
        try:
            inputs = job.inputs()
            key = summary.key(inputs)
            result = None if summary.is_done(job, key) else read(job, inputs)
        except Exception as error:
            result = error
        return inputs, key, result, time.perf_counter() - start

    def record(job, inputs, key, seconds, writing):
        result, took = writing.result()
        summary.add(job, inputs, key, result, seconds + took)
        return job.output, result

    reader, writer = (concurrent.futures.ThreadPoolExecutor(1) for _ in range(2))
    pending = None  # the bracket that is being written
    try:
        reading = reader.submit(begin, jobs[0]) if jobs else None
        for number, job in enumerate(jobs, start=1):
            inputs, key, result, seconds = reading.result()
            reading = reader.submit(begin, jobs[number]) if number < len(jobs) else None
            result, took = _timed(fuse, job, result)
            last, pending = pending, (job, inputs, key, seconds + took, writer.submit(_timed, write, job, result))
            if last:
                yield record(*last)
        if pending:
            last, pending = pending, None
            yield record(*last)
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown()
        if pending:
            record(*pending)
        summary.write()


def _timed(function, job, given):
    """What the function makes of what it is given, or its error, and the seconds that it took. Passes on errors and None."""
    start = time.perf_counter()
    if given is not None and not isinstance(given, Exception):
        try:
            given = function(job, given)
        except Exception as error:  # such as too little memory for one large bracket
            given = error
    return given, time.perf_counter() - start


def state(path: str | os.PathLike) -> list | None:
    """Returns the size and the time of a file, or those of everything in a folder; None if there is neither."""
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            return [[file.name, state(file)] for file in sorted(path.iterdir())]
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
