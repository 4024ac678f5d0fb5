"""Writes sharded, GZIP-compressed TFRecords with a manifest, in parallel.

    folder/
      manifest.json                          kind, schema, count, seed, arguments; count, size and SHA-256 of every shard
      bracket-00000-of-00008.tfrecord.gz
      ...

Record i of a set depends on nothing but the arguments and i, so the number of processes changes nothing. A shard gets its
name when it is complete, and the manifest lists it then: started again after an interruption, `write` makes what is missing.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import rich.progress
import tensorflow as tf

from hdr_tf.image import files, synthesis
from tfrecords import schema

MANIFEST = "manifest.json"


def write(
    folder: pathlib.Path,
    kind: str,
    make: Callable[[int], dict],
    count: int,
    shards: int = 8,
    arguments: dict | None = None,
    workers: int | None = None,
) -> dict:
    """Writes `count` records `make(0)` ... `make(count - 1)` and returns the manifest.

    Args:
        folder: made if absent; may hold an unfinished set of the same arguments, which is completed.
        kind: a key of `schema.KINDS`.
        make: returns the example of an index; must be picklable, for it runs in other processes.
        count: number of records, at least `shards`.
        shards: number of files; shard s holds records s, s + shards, ...
        arguments: whatever else decides what `make` returns, in JSON's types; kept in the manifest.
        workers: processes; None for one per CPU, 1 stays in this one.

    Raises:
        ValueError: the folder holds a set made with other arguments, or fewer records than shards are asked for.
        OSError: a shard cannot be written (full disk, no permission); finished shards stay.
    """
    if not 1 <= shards <= count:
        raise ValueError(f"expected between 1 and count = {count} shards, found {shards}")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tfrecord.gz"):  # by a process that was killed
        left.unlink()
    plan = {
        "kind": kind,
        "schema": schema.describe(schema.KINDS[kind]),
        "count": count,
        "number_of_shards": shards,
        "arguments": json.loads(json.dumps(arguments or {})),
    }
    manifest = {**plan, "shards": _finished(folder, plan)}
    _save(folder, manifest)
    names = [f"{kind}-{shard:05d}-of-{shards:05d}.tfrecord.gz" for shard in range(shards)]
    jobs = [
        (folder / name, kind, make, range(shard, count, shards))
        for shard, name in enumerate(names)
        if name not in manifest["shards"]
    ]
    results = _in_processes(jobs, workers or os.cpu_count())
    for name, entry in rich.progress.track(results, str(folder), total=len(jobs), disable=not jobs):
        manifest["shards"][name] = entry
        _save(folder, manifest)
    return manifest


def _in_processes(jobs, workers):
    """Yields the results of _write_shard in the order in which they come."""
    if workers == 1:
        yield from (_write_shard(*job) for job in jobs)
        return
    # Not fork: a process with TensorFlow's threads in it must not be copied.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        for job in concurrent.futures.as_completed([pool.submit(_write_shard, *job) for job in jobs]):
            yield job.result()
    except concurrent.futures.process.BrokenProcessPool as error:
        raise OSError("a process was killed (out of memory?): start again with fewer workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent():
    """Lets a worker end when the process that started it is killed; it would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


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
            with tf.io.TFRecordWriter(str(temporary), "GZIP") as file:
                for index in indices:
                    file.write(schema.encode(schema.KINDS[kind], make(index)))
            size, digest = fingerprint(temporary)
    except tf.errors.OpError as error:  # does not survive the way between processes
        raise OSError(f"{path}: cannot be written ({error.message})") from None
    return path.name, {"count": len(indices), "bytes": size, "sha256": digest}


def write_brackets(
    folder: pathlib.Path,
    hdr_dirs: Sequence[pathlib.Path],
    count: int,
    size: int = 256,
    exposures: tuple[int, int] = (3, 5),
    exclude: Sequence[str] = (),
    photos: bool = False,
    seed: int = 0,
    shards: int = 8,
    workers: int | None = None,
) -> tuple[dict, list[str]]:
    """Writes synthetic brackets, and returns the manifest and a line for each picture that could not be read.

    Args:
        folder: see `write`, as are count, shards and workers.
        hdr_dirs: folders of EXR and Radiance files.
        size: side of the square pictures in pixels, at least 16.
        exposures: least and largest number of exposures of a record, 2 to 9.
        exclude: names (without suffix) of pictures to leave out.
        photos: also use the photographs in scikit-image's wheel, relit anew for every record.
        seed: the same seed gives the same records.

    Raises:
        ValueError: nothing to make records from, numbers out of range, or see `write`.
        OSError: see `write`.
    """
    if not 2 <= exposures[0] <= exposures[1] <= 9:
        raise ValueError(f"expected 2 to 9 exposures, the smaller number first, found {exposures[0]},{exposures[1]}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, found {seed}")
    if size < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {size}")
    if not hdr_dirs and not photos:
        raise ValueError("expected a folder of EXR or Radiance files (hdr_dir) or the photographs (photos), found neither")
    pictures, unreadable = radiance_files(hdr_dirs, exclude)
    maker = BracketMaker(tuple(pictures), synthesis.PHOTOS if photos else (), size, tuple(exposures), seed)
    arguments = dataclasses.asdict(maker) | {"pictures": [path.name for path in pictures]}
    return write(folder, "bracket", maker, count, shards, arguments, workers), unreadable


@dataclasses.dataclass(frozen=True)
class BracketMaker:
    """Makes record i of a set of synthetic brackets (schema.BRACKET).

    Attributes:
        pictures: EXR or Radiance files.
        photos: names out of `synthesis.PHOTOS`, each relit anew for every record.
        size: side of the square pictures in pixels.
        exposures: least and largest number of exposures.
        seed: of the whole set.
    """

    pictures: tuple[pathlib.Path, ...]
    photos: tuple[str, ...]
    size: int
    exposures: tuple[int, int]
    seed: int

    def __call__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        scene, source = self._crop(rng)
        if rng.random() < 0.35:
            other, addition = self._crop(rng)
            scene, source = synthesis.collage(scene, other, rng), f"{source}+{addition}"
        scene = synthesis.vary(scene, rng)
        ev = synthesis.exposure_values(scene, int(rng.integers(self.exposures[0], self.exposures[1] + 1)), rng)
        exposures = synthesis.bracket(
            scene,
            ev,
            rng,
            synthesis.random_response(rng),
            full_well=10 ** rng.uniform(3.5, 4.7),
            read_noise=rng.uniform(2, 10),
        )
        return {"exposures": synthesis.develop(exposures, rng), "ev": ev, "source": source}

    def _crop(self, rng):
        """A random piece of a random picture, and the picture's name."""
        # A picture with a longer short side holds more different crops.
        sides = [min(_radiance(path).shape[:2]) for path in self.pictures]
        sides += [min(_photo(name).shape[:2]) for name in self.photos]
        while True:
            chosen = rng.choice(len(sides), p=np.array(sides) / sum(sides))
            if chosen < len(self.pictures):
                radiance, source = _radiance(self.pictures[chosen]), self.pictures[chosen].stem
            else:
                source = self.photos[chosen - len(self.pictures)]
                radiance = synthesis.relight(_photo(source), rng)
            crop = synthesis.random_crop(radiance, self.size, rng)
            if crop.any():  # a piece of a night sky may be black
                return crop, source


@functools.cache
def _radiance(path):
    return synthesis.clean(files.read_radiance(path))


@functools.cache
def _photo(name):
    return synthesis.sample_photo(name)


def radiance_files(folders: Sequence[pathlib.Path], exclude: Sequence[str] = ()) -> tuple[list, list[str]]:
    """Returns the readable EXR and Radiance files of the folders, and one line for each that is not readable.

    Args:
        folders: searched without their sub-folders.
        exclude: stems to leave out, such as the pictures kept for validation.

    Raises:
        ValueError: a folder is missing, `exclude` names no file, or nothing readable is left.
    """
    for folder in folders:
        if not pathlib.Path(folder).is_dir():
            raise ValueError(f"{folder}: expected a folder of EXR or Radiance files, found none")
    inside = [path for folder in folders for path in sorted(pathlib.Path(folder).iterdir())]
    found = [path for path in inside if path.suffix.lower() in (".exr", ".hdr") and not path.name.startswith(".")]
    unknown = sorted(set(exclude) - {path.stem for path in found})
    if unknown:
        raise ValueError(f"{', '.join(map(str, folders))}: no picture named {', '.join(unknown)} to leave out")
    good, bad = [], []
    for path in found:
        if path.stem in exclude:
            continue
        try:
            _radiance(path)
        except (ValueError, OSError) as error:
            bad.append(str(error))
        else:
            good.append(path)
    if folders and not good:
        raise ValueError(f"{', '.join(map(str, folders))}: expected EXR or Radiance files, found none that can be read")
    return good, bad
