"""Writes sharded TFRecords with a manifest, in parallel; scenes.py and brackets.py make the records.

    folder/
      manifest.json                          kind, schema, count, seed, arguments; count, size and SHA-256 of every shard
      bracket-00000-of-00008.tfrecord.gz     or kalantari-00000-of-00008.tfrecords, by schema.COMPRESSION
      ...

Record i of a set depends on nothing but the arguments and i, so the number of processes changes nothing. A shard gets its
name when it is complete, and the manifest lists it then: started again after an interruption, `write` makes what is missing.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable

import tensorflow as tf

from hdr_tf.image import files
from hdr_tf.image.processes import in_processes, track
from tfrecords import schema

MANIFEST = "manifest.json"

# ".tfrecords" because the original's training scripts look for that.
_SUFFIXES = {"GZIP": ".tfrecord.gz", "": ".tfrecords"}


def write(
    folder: pathlib.Path,
    kind: str,
    make: Callable[[int], dict],
    count: int,
    shards: int = 8,
    arguments: dict | None = None,
    workers: int | None = None,
    resume: bool = True,
) -> dict:
    """Writes `count` records `make(0)` ... `make(count - 1)` and returns the manifest.

    Args:
        folder: made if absent; may hold an unfinished set of the same arguments, which is completed.
        kind: a key of `schema.KINDS`.
        make: returns the example of an index; must be picklable, for it runs in other processes.
        count: number of records, at least `shards`.
        shards: number of files; shard s holds records s, s + shards, ...
        arguments: whatever else decides what `make` returns, in JSON's types; kept in the manifest.
        workers: processes; None or 0 for one per CPU, 1 stays in this one.
        resume: complete an unfinished set; otherwise a folder with a set is refused.

    Raises:
        ValueError: the folder holds a set made with other arguments (without `resume` any set), or fewer records than shards
            are asked for.
        OSError: a shard cannot be written (full disk, no permission); finished shards stay.
    """
    if not 1 <= shards <= count:
        raise ValueError(f"expected between 1 and count = {count} shards, found {shards}")
    folder = pathlib.Path(folder)
    if not resume and (folder / MANIFEST).exists():
        raise ValueError(f"{folder}: holds a set of records already, and resume is off; choose another folder")
    suffix = _SUFFIXES[schema.COMPRESSION[kind]]
    plan = {
        "kind": kind,
        "schema": schema.describe(schema.KINDS[kind]),
        "count": count,
        "number_of_shards": shards,
        "arguments": json.loads(json.dumps(arguments or {})),
    }
    manifest = {**plan, "shards": _finished(folder, plan)}
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder, manifest)
    names = [f"{kind}-{shard:05d}-of-{shards:05d}{suffix}" for shard in range(shards)]
    jobs = [
        (folder / name, kind, make, range(shard, count, shards))
        for shard, name in enumerate(names)
        if name not in manifest["shards"]
    ]
    results = in_processes(_write_shard, jobs, workers)
    for name, entry in track(results, str(folder), len(jobs)):
        manifest["shards"][name] = entry
        _save(folder, manifest)
    return manifest


def _finished(folder, plan):
    """The shards that an earlier run of the same plan has completed."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in found["shards"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected a manifest, found something else; choose another folder") from error
    different = sorted(key for key in plan if found.get(key) != plan[key])
    if different:
        raise ValueError(f"{path}: the folder holds a set with other {', '.join(different)}; choose another folder")
    return {name: found["shards"][name] for name, state in listed.items() if fingerprint(folder / name) == state}


def _save(folder, manifest):
    manifest["shards"] = dict(sorted(manifest["shards"].items()))
    with files.atomic(folder / MANIFEST) as path:
        path.write_text(json.dumps(manifest, indent=2) + "\n")


def fingerprint(path: pathlib.Path) -> tuple[int, str] | None:
    """Returns size in bytes and SHA-256 of a file, None if there is none."""
    if not path.exists():
        return None
    state = path.stat()
    return state.st_size, _sha256(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256(path, *state):
    # `state` only tells apart the versions of a file: a training script opens the same shards several times
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(2**20), b""):
            digest.update(piece)
    return digest.hexdigest()


def _write_shard(path, kind, make, indices):
    try:
        with files.atomic(path) as temporary:
            with tf.io.TFRecordWriter(str(temporary), schema.COMPRESSION[kind]) as file:
                for index in indices:
                    file.write(schema.encode(schema.KINDS[kind], make(index)))
            size, digest = fingerprint(temporary)
    except tf.errors.OpError as error:  # does not survive the way between processes
        raise OSError(f"{path}: cannot be written ({error.message})") from None
    return path.name, {"count": len(indices), "bytes": size, "sha256": digest}
