"""Reads the TFRecords that writer.py has made; what is missing or damaged is never passed over in silence.

Every shard is compared with the manifest's SHA-256 before the first record is read. tf.data's own `ignore_errors` would
lose the rest of a truncated file without a word, and a file cut between two records gives no error at all.
"""

import atexit
import collections
import contextlib
import functools
import itertools
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf.image import patches
from hdr_tf.image.depth import to_depth
from tfrecords import schema, writer

VISITS = 256  # patches of a scene that `crop_dataset` gives before it reads another one


def read_manifest(folder: pathlib.Path) -> dict:
    """Returns the manifest of a finished set.

    Raises:
        ValueError: no manifest, not a manifest, or the set is unfinished.
    """
    path = pathlib.Path(folder) / writer.MANIFEST
    try:
        manifest = json.loads(path.read_text())
        missing = manifest["number_of_shards"] - len(manifest["shards"])
        fields = schema.describe(schema.KINDS[manifest["kind"]])
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); tools/make_tfrecord.py writes such sets") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected a manifest of tools/make_tfrecord.py, found something else") from error
    if missing:
        raise ValueError(f"{path}: {missing} of {manifest['number_of_shards']} shards are unfinished; run make_tfrecord again")
    if fields != manifest["schema"]:
        raise ValueError(f"{path}: expected the fields {fields}, found {manifest['schema']}; write the set anew")
    return manifest


def check_shards(folder: pathlib.Path, skip_damaged: bool = False) -> dict[pathlib.Path, int]:
    """Compares every shard with the manifest and returns the number of readable records of each.

    Args:
        folder: of a finished set.
        skip_damaged: keep what can be read of damaged shards and report the number of lost records as a warning.

    Raises:
        ValueError: a shard is missing or differs from the manifest (named), unless `skip_damaged`; or nothing is left.
    """
    folder = pathlib.Path(folder)
    manifest = read_manifest(folder)
    counts, lost = {}, 0
    for name, entry in manifest["shards"].items():
        found = writer.fingerprint(folder / name)
        if found == (entry["bytes"], entry["sha256"]):
            counts[folder / name] = entry["count"]
            continue
        state = "missing" if found is None else f"damaged: expected {entry['bytes']} bytes, found {found[0]}, other SHA-256"
        if not skip_damaged:
            raise ValueError(f"{folder / name}: {state}; write the set anew, or read the rest with skip_damaged")
        readable = min(_readable(folder / name, manifest["kind"]), entry["count"]) if found else 0
        logging.warning("%s: %s; %d of %d records lost", folder / name, state, entry["count"] - readable, entry["count"])
        lost += entry["count"] - readable
        if readable:
            counts[folder / name] = readable
    if not counts:
        raise ValueError(f"{folder}: all {lost} records are lost")
    if lost:
        logging.warning("%s: %d records lost, %d read", folder, lost, sum(counts.values()))
    return counts


def _readable(path, kind):
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path), schema.COMPRESSION[kind]):
            count += 1
    except tf.errors.OpError:  # a record's checksum or the compressed stream is wrong: nothing behind it can be trusted
        pass
    return count


def load(folder: pathlib.Path, seed: int | None = None, skip_damaged: bool = False) -> tf.data.Dataset:
    """Returns the records of a set as dicts of tensors, as `schema.KINDS[kind]` declares them.

    Args:
        folder: of a finished set.
        seed: shuffles shards and records, otherwise every time through and by the seed alone; None keeps their order.
        skip_damaged: see `check_shards`.
    """
    return _parse(folder, _serialized(folder, seed, skip_damaged))


def bracket_dataset(
    folder: pathlib.Path, batch: int, exposures: int, seed: int = 0, start: int = 0, skip_damaged: bool = False
) -> tf.data.Dataset:
    """Returns endless training batches of brackets, float32 [batch, exposures, H, W, 3] RGB in 0..1, darkest first.

    Each record gives its darkest and its brightest exposure and a random choice of those between, flipped at random. What
    batch number b holds depends on the set, the seed and b alone.

    Args:
        folder: of a finished set of kind "bracket".
        batch: records in a batch.
        exposures: of each record, 2 or more.
        seed: of order, choice and flips.
        start: the first batch to return, for a run that goes on.
        skip_damaged: see `check_shards`.

    Raises:
        ValueError: damaged or unfinished set (see `check_shards`), or one of another kind.
    """
    kind = read_manifest(folder)["kind"]
    if kind != "bracket":
        raise ValueError(f"{folder}: expected a set of kind 'bracket', found {kind!r}")
    first = start * batch
    records = _parse(folder, _serialized(folder, seed, skip_damaged).repeat().skip(first)).enumerate(first)
    examples = records.map(
        lambda number, record: choose_exposures(record["exposures"], exposures, tf.stack([tf.cast(seed, tf.int64), number])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return examples.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def choose_exposures(stack, exposures: int, seed):
    """Returns the first, the last and a random choice of the other exposures of a stack, flipped at random.

    Args:
        stack: uint8 [M, H, W, 3], darkest first; the order is kept.
        exposures: how many, 2 to M.
        seed: int [2]; the choice depends on nothing else.

    Returns:
        float32 [exposures, H, W, 3] in 0..1.

    Raises:
        tf.errors.InvalidArgumentError: the stack has fewer exposures than asked for.
    """
    available = tf.shape(stack)[0]
    enough = tf.debugging.assert_less_equal(exposures, available, "the records hold fewer exposures than asked for")
    between, *keys = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    with tf.control_dependencies([enough] if enough is not None else []):
        inner = 1 + tf.argsort(tf.random.stateless_uniform([available - 2], between))[: exposures - 2]
    chosen = tf.gather(stack, tf.concat([[0], tf.sort(inner), [available - 1]], 0))
    for axis, key in zip((1, 2), keys, strict=True):
        chosen = tf.where(tf.random.stateless_uniform([], key) < 0.5, tf.reverse(chosen, [axis]), chosen)
    return tf.ensure_shape(tf.cast(chosen, tf.float32) / 255, [exposures, None, None, 3])


def example_dataset(
    folder: pathlib.Path,
    example: Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]],
    batch: int,
    exposures: int = 1,
    seed: int = 0,
    start: int = 0,
    skip_damaged: bool = False,
) -> tf.data.Dataset:
    """Returns endless training batches {name: float32 [batch, ...]} of what `example` makes of each record.

    What batch number b holds depends on the set, the seed and b alone.

    Args:
        folder: of a finished set of kind "bracket", or "images" if one picture will do.
        example: makes float32 arrays, always of the same names and shapes, of a stack, uint8 [N, H, W, 3], and a generator; see
            hdr_tf/image/examples.py. It runs in several threads.
        batch: records in a batch.
        exposures: the least N that `example` can use.
        seed: of order and examples.
        start: the first batch to return, for a run that goes on.
        skip_damaged: see `check_shards`.

    Raises:
        ValueError: damaged or unfinished set (see `check_shards`), one of another kind, of too few exposures, or whose first
            record `example` refuses.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of 1 or more, found {batch}")
    manifest = read_manifest(folder)
    kind = manifest["kind"]
    if kind != "bracket" and (kind != "images" or exposures > 1):
        expected = "'bracket'" if exposures > 1 else "'bracket' or 'images'"
        raise ValueError(f"{folder}: expected a set of kind {expected}, found {kind!r}")
    if kind == "bracket" and manifest["arguments"]["exposures"][0] < exposures:
        least, most = manifest["arguments"]["exposures"]
        raise ValueError(f"{folder}: expected {exposures} exposures or more in a record, found sets of {least} to {most}")

    def stack(record):
        return record["exposures"] if kind == "bracket" else record["picture"][None]

    def make(pixels, number):
        with _unless_ending():
            return list(example(pixels, np.random.default_rng([seed, int(number)])).values())

    first = start * batch
    serialized = _serialized(folder, seed, skip_damaged)
    try:
        record = next(iter(_parse(folder, _serialized(folder, None, skip_damaged))))
        shapes = {name: array.shape for name, array in example(stack(record).numpy(), np.random.default_rng(seed)).items()}
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error

    @tf.autograph.experimental.do_not_convert
    def call(number, pixels):
        arrays = tf.numpy_function(make, [pixels, number], [tf.float32] * len(shapes), stateful=False)
        return {name: tf.ensure_shape(array, shapes[name]) for name, array in zip(shapes, arrays, strict=True)}

    stacks = _parse(folder, serialized.repeat().skip(first)).map(stack).enumerate(first)
    examples = stacks.map(call, num_parallel_calls=min(4, os.cpu_count()))
    return examples.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def patch_dataset(
    folder: pathlib.Path,
    batch: int,
    features: Sequence[str],
    patch: int = 256,
    seed: int = 0,
    start: int = 0,
    shuffle_scenes: int = 8,
    depth: int = 8,
    resize: bool = True,
    skip_damaged: bool = False,
) -> tf.data.Dataset:
    """Returns endless training batches {feature: float32 [batch, patch, patch, 3]}; what batch number b holds depends on the
    set, the seed and b alone.

    Features are those of `patches.FEATURES`, scaled as ESBN's scripts feed its networks: pictures (ldr_..., gt_ldr_...) to
    -1..1, radiance (hdr_..., gt_hdr) times 2 less 1, which may exceed 1; of kind "kalantari" also "exposures", [batch, 3],
    2**stops. Only those asked for are computed.

    Of kind "kalantari" all patches of a scene (place, rotation, flip) come once before one comes again. Scenes take turns,
    `shuffle_scenes` at a time until all their patches have come: in proportion to their numbers of patches, so that of scenes
    of one size any four patches on end are of four scenes. The ESBN kinds hold patches, which are shuffled.

    Memory: 41 MB for each of `shuffle_scenes` scenes of 1000 x 1500 with all features (63 MB with `depth=16`; see
    `patches.Patches`), 45 MB while one is unpacked, and at patch 256 up to 7 MB for each patch of the few batches under way.

    Args:
        folder: of a finished set of kind "kalantari", "esbn_align" or "esbn_merge".
        batch: patches in a batch.
        features: see above.
        patch: side in pixels; the ESBN kinds have the one that they were written with.
        seed: of the order.
        start: the first batch to return, for a run that goes on; those before it cost no reading of pixels.
        shuffle_scenes: scenes open at a time, at least 4 if there are as many.
        depth: 16 keeps the bits that the original drops (another result than the original's), 8 is the original.
        resize: False leaves out the original's resize to 250/256 and back (likewise).
        skip_damaged: see `check_shards`.

    Raises:
        ValueError: damaged or unfinished set (see `check_shards`), one of another kind or without the features asked for, a
            scene smaller than a patch, or numbers out of range.
    """
    manifest, features = read_manifest(folder), tuple(dict.fromkeys(features))
    kind = manifest["kind"]
    if kind not in ("kalantari", "esbn_align", "esbn_merge"):
        raise ValueError(f"{folder}: expected a set of kind kalantari, esbn_align or esbn_merge, found {kind!r}")
    known = (*patches.FEATURES, "exposures") if kind == "kalantari" else tuple(schema.esbn_names(kind))
    unknown = [name for name in features if name not in known]
    if unknown or not features:
        raise ValueError(f"{folder}: a set of kind {kind!r} gives {', '.join(known)}, not {', '.join(unknown) or 'nothing'}")
    if min(batch, shuffle_scenes) < 1 or depth not in (8, 16):
        raise ValueError(
            f"expected batch and shuffle_scenes of 1 or more and a depth of 8 or 16, found {batch}, {shuffle_scenes}, {depth}"
        )
    if kind == "kalantari":
        cut = tuple(name for name in features if name != "exposures")

        def unpack(record):
            exposures = 2.0 ** record["stops"]
            scene = patches.Patches(_levels(record), exposures, record["hdr"], cut, patch, depth, resize)

            def write(index, out):
                scene.cut_scaled(index, out)
                if "exposures" in out:
                    out["exposures"][:] = exposures

            return write

        counts = check_shards(folder, skip_damaged)
        reader = _SceneReader(folder, manifest, counts, shuffle_scenes, patch, patches.count_patches, unpack)
        shapes = {name: (3,) if name == "exposures" else (patch, patch, 3) for name in features}
        order = functools.partial(patch_order, reader.sizes, shuffle_scenes, seed)
        batches = _cut_batches(reader, order, batch, start, shapes)
    else:
        found = manifest["arguments"]["patch"], 8, True
        if found != (patch, depth, resize):
            raise ValueError(
                f"{folder}: the patches are {found[0]} pixels wide, of 8 bit and resized: they cannot be had with "
                f"patch={patch}, depth={depth}, resize={resize}; records of kind kalantari can"
            )
        names = schema.esbn_names(kind)
        records = _parse(folder, _serialized(folder, seed, skip_damaged).repeat().skip(start * batch))
        shape = [patch, patch, 3]
        records = records.map(lambda record: {name: tf.ensure_shape(_scaled(record[names[name]]), shape) for name in features})
        batches = records.batch(batch, drop_remainder=True)
    return batches.prefetch(2)


def crop_dataset(
    folder: pathlib.Path,
    batch: int,
    kind: str = "selfhdr",
    structures: bool = False,
    patch: int = 128,
    seed: int = 0,
    start: int = 0,
    shuffle_scenes: int = 8,
    skip_damaged: bool = False,
) -> tf.data.Dataset:
    """Returns endless training batches as SelfHDR's program reads them (cszhilu1998/SelfHDR 9e8af4a,
    data/sig17align_dataset.py); what batch number b holds depends on the set, the seed and b alone.

    {"ldr_low", "ldr_mid", "ldr_high": float32 [batch, patch, patch, 3], levels of 16 bit over 2**16, "exposures": [batch, 3],
    2**stops, "hdr": radiance}; with `structures` also "structure", like "hdr".

    Every scene comes once before one comes again, each time with a patch at a random place, neither turned nor flipped. Where
    there are more than `shuffle_scenes` scenes, so many take turns for `VISITS` patches each, then the next ones; the original
    holds all in memory. It takes 30 bytes a pixel for each of them, with `structures` 42, and about as much while one is
    unpacked.

    Args:
        folder: of a finished set.
        batch: patches in a batch.
        kind: of the set: "selfhdr", of which "hdr" is the colour label, or "kalantari", where it is the truth.
        structures: whether the structure labels are wanted.
        patch: side in pixels.
        seed: of order and places.
        start: the first batch to return, for a run that goes on.
        shuffle_scenes: scenes open at a time.
        skip_damaged: see `check_shards`.

    Raises:
        ValueError: damaged or unfinished set (see `check_shards`), one of another kind or without structure labels, a scene
            smaller than a patch, or numbers out of range.
    """
    manifest = read_manifest(folder)
    if manifest["kind"] != kind:
        hint = "; tools/make_tfrecord.py writes it with --labels" if kind == "selfhdr" else ""
        raise ValueError(f"{folder}: expected a set of kind {kind!r}, found {manifest['kind']!r}{hint}")
    if structures and not manifest["arguments"].get("structures"):
        raise ValueError(f"{folder}: expected structure labels, found none; write the set anew with --structures")
    if min(batch, patch, shuffle_scenes) < 1:
        raise ValueError(f"expected batch, patch and shuffle_scenes of 1 or more, found {batch}, {patch}, {shuffle_scenes}")
    radiance = ("hdr", "structure") if structures else ("hdr",)

    def unpack(record):
        pictures = dict(zip(patches.FEATURES[:3], to_depth(_levels(record), 16), strict=True))
        pictures |= {name: record[name] for name in radiance}
        places = pictures["hdr"].shape[1] - patch + 1

        def write(index, out):
            row, column = divmod(index, places)
            for name, picture in pictures.items():
                scale = np.float32(2**16 if picture.dtype == np.uint16 else 1)
                np.divide(picture[row : row + patch, column : column + patch], scale, out=out[name])
            out["exposures"][:] = 2.0 ** record["stops"]

        return write

    def count(height, width, patch):
        return max(height - patch + 1, 0) * max(width - patch + 1, 0)

    reader = _SceneReader(folder, manifest, check_shards(folder, skip_damaged), shuffle_scenes, patch, count, unpack)
    shapes = dict.fromkeys(("ldr_low", "ldr_mid", "ldr_high", *radiance), (patch, patch, 3)) | {"exposures": (3,)}
    order = functools.partial(crop_order, reader.sizes, shuffle_scenes, seed)
    return _cut_batches(reader, order, batch, start, shapes).prefetch(2)


def _levels(record):
    """The pictures [3, H, W, 3] of a scene's record at the depth of their files."""
    return record["ldr"] if record["depth"] == 16 else record["ldr"].astype(np.uint8)


def _cut_batches(reader, order, batch, start, shapes):
    """Batches {name: float32 [batch, *shape]}, from number `start` on, of the pairs of scene and patch in `order`.

    Cut by numpy and OpenCV, whose resize gives ESBN's values: `tf.image.resize` differs by up to two levels in a quarter of
    them.
    """

    def cut(pairs):
        with _unless_ending():
            arrays = {name: np.empty([batch, *shape], np.float32) for name, shape in shapes.items()}
            for number, (scene, index) in enumerate(pairs.tolist()):
                reader(scene)(index, {name: array[number] for name, array in arrays.items()})
            return list(arrays.values())

    @tf.autograph.experimental.do_not_convert
    def call(pairs):
        arrays = tf.numpy_function(cut, [pairs], [tf.float32] * len(shapes), stateful=False)
        return {name: tf.ensure_shape(array, [batch, *shapes[name]]) for name, array in zip(shapes, arrays, strict=True)}

    def pairs():
        return itertools.takewhile(lambda _: not _ending.is_set(), _batches(order(), batch, start))

    batches = tf.data.Dataset.from_generator(pairs, output_signature=tf.TensorSpec([batch, 2], tf.int64))
    return batches.map(call, num_parallel_calls=min(4, os.cpu_count()))


# A thread of tf.data that waits for the interpreter while it ends is killed, and the process aborts with it (code 134).
# Iterators that are still alive then, such as those of a program that fails, are therefore brought to rest before.
_ending, _calls = threading.Event(), []


@contextlib.contextmanager
def _unless_ending():
    _calls.append(None)
    try:
        if _ending.is_set():
            raise RuntimeError("the program ends")
        yield
    finally:
        _calls.pop()


@atexit.register
def _rest():
    _ending.set()
    time.sleep(0.05)  # calls that are just being made
    while _calls:
        time.sleep(0.01)


def _scaled(array):
    """As `patches.scale`, of a tensor."""
    return array * 2 - 1 if array.dtype == tf.float32 else tf.cast(array, tf.float32) / 127.5 - 1


def patch_order(sizes: Sequence[int], open_scenes: int, seed: int) -> Iterator[np.ndarray]:
    """Yields, for ever, the patches of one group of scenes after the other: int64 [N, 2] of scene and patch.

    A group holds `open_scenes` scenes, or all if there are fewer, and each of their patches once; every scene comes once
    before one comes again.

    Args:
        sizes: number of patches of each scene.
        open_scenes: scenes in a group.
        seed: the order depends on nothing else.
    """
    for number, group in enumerate(_groups(len(sizes), open_scenes, seed)):
        rng = np.random.default_rng([seed, 1, number])
        pairs = [np.stack([np.full(sizes[scene], scene), rng.permutation(sizes[scene])], 1) for scene in group]
        # Position within a scene, as a fraction: sorted by it, each scene's patches are spread evenly over the whole.
        turns = [(np.arange(len(part)) + place / len(group)) / len(part) for place, part in enumerate(pairs)]
        yield np.concatenate(pairs)[np.argsort(np.concatenate(turns), kind="stable")]


def crop_order(sizes: Sequence[int], open_scenes: int, seed: int) -> Iterator[np.ndarray]:
    """Yields, for ever, `VISITS` patches of each scene of one group after the other, in turns: int64 [N, 2] of scene and patch.

    Args:
        sizes, open_scenes, seed: as of `patch_order`; patches are drawn, so that one may come again before all have come.
    """
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
        waiting += sorted(scenes, key=waiting.__contains__)  # what waits is not to come twice in its group
        while len(waiting) >= length:
            yield waiting[:length]
            waiting = waiting[length:]


def _batches(order, batch, start):
    """Cuts the arrays of `order` (whose rows are endless) into batches, from batch number `start` on."""
    skip, rest = start * batch, np.empty([0, 2], np.int64)
    for group in order:
        taken = min(skip, len(group))
        skip -= taken
        rest = np.concatenate([rest, group[taken:]])
        whole = len(rest) // batch * batch
        yield from rest[:whole].reshape(-1, batch, 2)
        rest = rest[whole:]


class _SceneReader:
    """The scenes of a set of whole ones, those used last unpacked in memory; for several threads.

    `count(height, width, patch)` tells how many patches a scene has, `unpack(record)` gives what writes one: a function of its
    number and {name: array}.
    """

    def __init__(self, folder, manifest, counts, capacity, patch, count, unpack):
        paths = [pathlib.Path(folder) / name for name in sorted(manifest["shards"])]
        self.places, self.sizes = [], []
        for number, scene in enumerate(manifest["arguments"]["scenes"]):
            path, position = paths[number % len(paths)], number // len(paths)
            if position >= counts.get(path, 0):
                continue  # lost, and reported as such
            self.places.append((path, position))
            self.sizes.append(count(scene["height"], scene["width"], patch))
            if not self.sizes[-1]:
                raise ValueError(
                    f"{folder}: expected scenes of at least {patch} x {patch} pixels, "
                    f"found {scene['name']} of {scene['width']} x {scene['height']}; choose a smaller patch"
                )
        self.schema, self.capacity, self.unpack = schema.KINDS[manifest["kind"]], capacity, unpack
        self.scenes, self.lock = collections.OrderedDict(), threading.Lock()

    def __call__(self, scene):
        """What `unpack` gave for the scene."""
        with self.lock:
            if scene not in self.scenes:
                while len(self.scenes) >= self.capacity:  # before reading, so that there are never more
                    self.scenes.popitem(last=False)
                self.scenes[scene] = self.unpack(schema.unpack(self.schema, _record(*self.places[scene])))
            self.scenes.move_to_end(scene)
            return self.scenes[scene]


def _record(path, position):
    """Record `position` of an uncompressed file, of which the records before it are not read.

    Not by tf.data: this runs inside one, where another would wait for the same threads.
    """
    with path.open("rb") as file:
        for left in range(position, -1, -1):
            length = int.from_bytes(file.read(8), "little")
            file.seek(4, 1)  # checksum of the length; the whole file has been compared with the manifest
            if left:
                file.seek(length + 4, 1)
        return file.read(length)


def _serialized(folder, seed, skip_damaged):
    """The records as they lie in the files; arguments as of `load`."""
    compression = schema.COMPRESSION[read_manifest(folder)["kind"]]
    counts = check_shards(folder, skip_damaged)
    shards = tf.data.Dataset.from_tensor_slices(([str(path) for path in counts], list(counts.values())))

    def records(path, count):
        return tf.data.TFRecordDataset(path, compression).take(tf.cast(count, tf.int64))

    if seed is None:
        return shards.flat_map(records)
    shards = shards.shuffle(len(counts), seed=seed)
    return shards.interleave(records, cycle_length=4).shuffle(64, seed=seed)


def _parse(folder, serialized):
    fields = schema.KINDS[read_manifest(folder)["kind"]]
    return serialized.map(lambda record: schema.parse(fields, record), num_parallel_calls=tf.data.AUTOTUNE)
