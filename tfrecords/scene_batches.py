"""Batches of patches that are cut from whole scenes: in which order they come, and how they are read and cut.

    patch_order, crop_order    endless orders of (scene, patch), which decide what a batch holds
    SceneReader                keeps the open scenes in memory
    cut_batches                batches, cut in several threads
    running                    context of Python code that tf.data calls

Records are read here by position and not by tf.data, so that a scene is read when its turn comes and a run continues anywhere.
"""

import atexit
import collections
import contextlib
import itertools
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfrecords import schema, writer

VISITS = 256  # patches of a scene that `crop_order` yields before another scene is opened


def patch_order(sizes: Sequence[int], open_scenes: int, seed: int) -> Iterator[np.ndarray]:
    """Yields, endlessly, the patches of one group of scenes after the other: int64 [N, 2] of scene and patch.

    A group holds `open_scenes` scenes, or all if there are fewer, and each of their patches (`sizes`: how many each scene has)
    once. Every scene comes once before any scene comes again. The order depends on nothing but the arguments.
    """
    for number, group in enumerate(_groups(len(sizes), open_scenes, seed)):
        rng = np.random.default_rng([seed, 1, number])
        pairs = [np.stack([np.full(sizes[scene], scene), rng.permutation(sizes[scene])], 1) for scene in group]
        # Sorted by the position within its scene, as a fraction, the patches of each scene spread evenly over the whole.
        turns = [(np.arange(len(part)) + place / len(group)) / len(part) for place, part in enumerate(pairs)]
        yield np.concatenate(pairs)[np.argsort(np.concatenate(turns), kind="stable")]


def crop_order(sizes: Sequence[int], open_scenes: int, seed: int) -> Iterator[np.ndarray]:
    """Yields as `patch_order` does, but of each scene of a group, in turns, `VISITS` patches that are drawn: one may come again
    before all have come."""
    sizes = np.array(sizes)
    for number, group in enumerate(_groups(len(sizes), open_scenes, seed)):
        rng = np.random.default_rng([seed, 1, number])
        scenes = np.concatenate([rng.permutation(group) for _ in range(VISITS)])
        yield np.stack([scenes, rng.integers(sizes[scenes])], 1)


def _groups(count, length, seed):
    if count <= length:  # in the same order each time, so that a batch across two rounds does not have a scene twice
        group = np.random.default_rng([seed, 0]).permutation(count).tolist()
        yield from itertools.repeat(group)
    waiting = []
    for epoch in itertools.count():
        scenes = np.random.default_rng([seed, 0, epoch]).permutation(count).tolist()
        waiting += sorted(scenes, key=waiting.__contains__)  # a scene that waits must not come twice in its group
        while len(waiting) >= length:
            yield waiting[:length]
            waiting = waiting[length:]


class SceneReader:
    """The scenes of a set, of which the `capacity` used last are unpacked in memory. Several threads may call it.

    `sizes` holds the number of patches of each readable scene.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        manifest: dict,
        readable: Mapping[pathlib.Path, int],
        capacity: int,
        patch: int,
        count: Callable[[int, int, int], int],
        unpack: Callable[[dict], Callable],
    ):
        """
        Args:
            folder, manifest: of a set of whole scenes.
            readable: number of readable records of each shard, see `dataset.check_shards`.
            capacity: scenes in memory.
            patch: side of a patch in pixels; a smaller scene raises ValueError.
            count: number of patches of a scene of (height, width, patch).
            unpack: turns a record into a function that writes patch i into {name: array}.
        """
        paths = [pathlib.Path(folder) / name for name in sorted(manifest["shards"])]
        self._places, self.sizes = [], []
        with writer.understood(pathlib.Path(folder) / writer.MANIFEST):
            described = [
                (scene["name"], int(scene["height"]), int(scene["width"])) for scene in manifest["arguments"]["scenes"]
            ]
        if len(described) != manifest["count"]:
            file = pathlib.Path(folder) / writer.MANIFEST
            raise ValueError(f"{file}: expected {manifest['count']} scenes among the arguments, found {len(described)}")
        for number, (name, height, width) in enumerate(described):
            path, position = paths[number % len(paths)], number // len(paths)
            if position >= readable.get(path, 0):
                continue  # lost; `check_shards` has reported it
            self._places.append((path, position, (height, width)))
            self.sizes.append(count(height, width, patch))
            if not self.sizes[-1]:
                raise ValueError(
                    f"{folder}: expected scenes of at least {patch} x {patch} pixels, "
                    f"found {name} of {width} x {height}; choose a smaller patch"
                )
        self._schema, self.capacity, self._unpack = schema.KINDS[manifest["kind"]], capacity, unpack
        self._scenes, self._lock = collections.OrderedDict(), threading.Lock()

    def __call__(self, scene: int) -> Callable:
        """Returns what `unpack` returned for the scene."""
        with self._lock:
            if scene not in self._scenes:
                while len(self._scenes) >= self.capacity:  # before reading, so that there are never more
                    self._scenes.popitem(last=False)
                path, position, size = self._places[scene]
                record = schema.unpack(self._schema, _record(path, position))
                if record["hdr"].shape[:2] != size:
                    raise ValueError(f"{path}: expected a scene of {size} as in the manifest, found {record['hdr'].shape[:2]}")
                self._scenes[scene] = self._unpack(record)
            self._scenes.move_to_end(scene)
            return self._scenes[scene]


def _record(path, position):
    """Record `position` of an uncompressed file, found without reading the records before it. Not by tf.data: this runs inside
    of tf.data, where a second pipeline would wait for the same threads."""
    with path.open("rb") as file:
        for left in range(position, -1, -1):
            length = int.from_bytes(file.read(8), "little")
            file.seek(4, 1)  # checksum of the length; the whole file has been compared with the manifest
            if left:
                file.seek(length + 4, 1)
        return file.read(length)


def cut_batches(
    reader: SceneReader, order: Callable[..., Iterator], seed: int, batch: int, start: int, shapes: Mapping[str, tuple]
) -> tf.data.Dataset:
    """Returns batches {name: float32 [batch, *shape]} from batch number `start` on, in `patch_order` or `crop_order`.

    NumPy and OpenCV cut them. OpenCV's resize gives ESBN's values, from which `tf.image.resize` differs by up to two levels in
    a quarter of the pixels.
    """

    def cut(pairs):
        with running():
            arrays = {name: np.empty([batch, *shape], np.float32) for name, shape in shapes.items()}
            for number, (scene, index) in enumerate(pairs.tolist()):
                reader(scene)(index, {name: array[number] for name, array in arrays.items()})
            return list(arrays.values())

    @tf.autograph.experimental.do_not_convert
    def call(pairs):
        arrays = tf.numpy_function(cut, [pairs], [tf.float32] * len(shapes), stateful=False)
        return {name: tf.ensure_shape(array, [batch, *shapes[name]]) for name, array in zip(shapes, arrays, strict=True)}

    def pairs():
        groups = order(reader.sizes, reader.capacity, seed)
        return itertools.takewhile(lambda _: not _ending.is_set(), _batches(groups, batch, start))

    batches = tf.data.Dataset.from_generator(pairs, output_signature=tf.TensorSpec([batch, 2], tf.int64))
    return batches.map(call, num_parallel_calls=min(4, os.cpu_count()))


def _batches(order, batch, start):
    """Cuts the arrays of `order`, whose rows are endless, into batches, from batch number `start` on."""
    skip, rest = start * batch, np.empty([0, 2], np.int64)
    for group in order:
        skipped = min(skip, len(group))
        skip -= skipped
        rest = np.concatenate([rest, group[skipped:]])
        whole = len(rest) // batch * batch
        yield from rest[:whole].reshape(-1, batch, 2)
        rest = rest[whole:]


# If a thread of tf.data waits for the interpreter while the interpreter ends, it is killed and the process aborts (code 134).
# So the calls of iterators that are still alive at the end, such as those of a program that fails, are waited for.
_ending, _calls = threading.Event(), []


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Makes the end of the program wait for what runs in this context; RuntimeError if the program already ends."""
    _calls.append(None)
    try:
        if _ending.is_set():
            raise RuntimeError("the program ends")
        yield
    finally:
        _calls.pop()


@atexit.register
def _wait_for_calls():
    _ending.set()
    time.sleep(0.05)  # for calls that begin at this moment
    while _calls:
        time.sleep(0.01)
