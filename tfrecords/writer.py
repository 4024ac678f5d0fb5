"""Writes sets of sharded TFRecords with a manifest, in parallel; scenes.py, brackets.py and images.py make the records.

    folder/
      manifest.json                          kind, schema, count, seed, arguments; count, size and SHA-256 of every shard
      bracket-00000-of-00008.tfrecord.gz     or kalantari-00000-of-00008.tfrecords, by schema.COMPRESSION
      ...

Record i of a set depends on nothing but the arguments and i, so the number of processes changes nothing. A shard gets its
name when it is complete, and then the manifest lists it: after an interruption `write` continues with the missing shards.
"""

import contextlib
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from hdr_tf.io import outputs
from hdr_tf.io.manifest import Manifest
from hdr_tf.parallel import in_processes
from hdr_tf.progress import track
from tfrecords import schema

MANIFEST = "manifest.json"
_SUFFIXES = {"GZIP": ".tfrecord.gz", "": ".tfrecords"}  # the original's training scripts look for the latter


def write(
    folder: pathlib.Path,
    kind: str,
    make: Callable[[int], dict],
    count: int,
    shards: int = 8,
    arguments: dict | None = None,
    num_processes: int | None = None,
    resume: bool = True,
) -> dict:
    """Writes `count` records `make(0)` ... `make(count - 1)` and returns the manifest.

    Args:
        folder: created; an unfinished set with the same arguments is completed.
        kind: a key of `schema.KINDS`.
        make: returns the example of an index; it must be picklable, because other processes call it.
        count: number of records, at least `shards`.
        shards: number of files; shard s holds the records s, s + shards, ...
        arguments: whatever else decides what `make` returns, in JSON's types; the manifest keeps them.
        num_processes: None or 0 for one process per CPU; with 1 everything runs in the caller's process.
        resume: whether to complete an unfinished set; otherwise a folder with a set is refused.

    Raises:
        ValueError: the folder holds a set with other arguments (without `resume` any set), or there are fewer records than
            shards.
        OSError: a shard cannot be written (full disk, no permission); finished shards stay.
    """
    if not 1 <= shards <= count:
        raise ValueError(f"expected between 1 and count = {count} shards, found {shards}")
    folder = pathlib.Path(folder)
    if not resume and (folder / MANIFEST).exists():
        raise ValueError(f"{folder}: already holds a set of records, and resume is off; choose another folder")
    plan = {"kind": kind, "schema": schema.describe(schema.KINDS[kind]), "count": count, "number_of_shards": shards}
    plan["arguments"] = arguments or {}

    counts = shard_counts(kind, count, shards)

    def is_finished(name, entry):
        return entry["count"] == counts.get(name) and fingerprint(folder / name) == (entry["bytes"], entry["sha256"])

    manifest = Manifest(folder / MANIFEST, "shards", plan, is_finished, indent=2)
    paths = [folder / name for name in counts]
    jobs = [(path, kind, make, range(shard, count, shards)) for shard, path in enumerate(paths)]
    jobs = [job for job in jobs if job[0].name not in manifest.entries]
    for name, entry in track(in_processes(_write_shard, jobs, num_processes), str(folder), len(jobs)):
        manifest.add(name, entry)
    return manifest.content


def shard_counts(kind: str, count: int, shards: int) -> dict[str, int]:
    """Returns {name of the file: number of records} of the shards of a set."""
    suffix = _SUFFIXES[schema.COMPRESSION[kind]]
    numbers = range(min(shards, count))  # a set has at least as many records as shards
    return {f"{kind}-{shard:05d}-of-{shards:05d}{suffix}": len(range(shard, count, shards)) for shard in numbers}


@contextlib.contextmanager
def understood(path: pathlib.Path) -> Iterator[None]:
    """Turns what a damaged manifest raises where its values are used into one ValueError that names it."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{path}: expected a manifest of hdr-tf records, found something else") from error


def fingerprint(path: pathlib.Path) -> tuple[int, str] | None:
    """Returns the size in bytes and the SHA-256 of a file, or None if there is no file."""
    if not path.exists():
        return None
    state = path.stat()
    return state.st_size, _sha256(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256(path, *state):
    # `state` only distinguishes versions of a file: a training script opens the same shards several times
    with path.open("rb") as file:
        digest = hashlib.sha256()
        for piece in iter(lambda: file.read(2**20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _write_shard(path, kind, make, indices):
    try:
        with outputs.atomic(path) as temporary:
            with tf.io.TFRecordWriter(str(temporary), schema.COMPRESSION[kind]) as file:
                for index in indices:
                    file.write(schema.encode(schema.KINDS[kind], make(index)))
            size, digest = fingerprint(temporary)
    except tf.errors.OpError as error:  # cannot be pickled, so it would not reach the parent process
        raise OSError(f"{path}: cannot be written ({error.message})") from None
    return path.name, {"count": len(indices), "bytes": size, "sha256": digest}
