"""Reads the sets of TFRecords that writer.py has written, as records or as endless training batches.

    read_manifest, check_shards, load    a set, its shards, its records
    bracket_dataset, example_dataset     batches of brackets, or of what a network's example function makes of each record
    patch_dataset, crop_dataset          batches of patches of scenes, for ESBN and for SelfHDR

Missing or damaged data is never skipped silently: every shard is compared with the manifest's SHA-256 before the first record
is read. tf.data's own `ignore_errors` would lose the rest of a truncated file without a word, and a file that ends between two
records gives no error at all. What batch number b holds depends on the set, the seed and b alone.

The functions share these arguments: `folder` holds a finished set; `batch` is the number of records or patches in a batch;
`seed` decides everything random; `start` is the first batch to return, for a run that continues; for `skip_damaged` see
`check_shards`. They raise ValueError if the set is damaged, unfinished or of another kind, or if an argument does not fit it.
"""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf.image.depth import to_depth
from tfrecords import patches, schema, writer
from tfrecords.registered import SIDE
from tfrecords.scene_batches import SceneReader, crop_order, cut_batches, patch_order, running


def read_manifest(folder: pathlib.Path) -> dict:
    """Returns the manifest of a finished set; ValueError if it contradicts itself."""
    path = pathlib.Path(folder) / writer.MANIFEST
    try:
        with writer.understood(path):
            manifest = json.loads(path.read_text())
            missing = manifest["number_of_shards"] - len(manifest["shards"])
            fields, stored = schema.describe(schema.KINDS[manifest["kind"]]), manifest["schema"]
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); hdr-tf records writes such sets") from error
    if missing > 0:
        raise ValueError(f"{path}: {missing} of {manifest['number_of_shards']} shards are unfinished; run make_tfrecord again")
    if fields != stored:
        raise ValueError(f"{path}: expected the fields {fields}, found {str(stored):.500}; write the set anew")
    with writer.understood(path):
        expected = writer.shard_counts(manifest["kind"], manifest["count"], manifest["number_of_shards"])
        actual = {name: entry["count"] for name, entry in manifest["shards"].items()}
        if any(type(entry["bytes"]) is not int or len(entry["sha256"]) != 64 for entry in manifest["shards"].values()):
            raise TypeError("a shard without size or SHA-256")
        manifest["arguments"].keys()
    if different := sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name)):
        name = different[0]
        found = f"{actual.get(name, 'none')} in {name}" if name in expected else f"a shard {name!r:.200}"
        message = f"{path}: its {manifest['count']} records make {expected.get(name, 'none')} in this shard, found {found}"
        raise ValueError(f"{message}; the manifest is damaged: write the set anew")
    return manifest


def check_shards(folder: pathlib.Path, skip_damaged: bool = False) -> dict[pathlib.Path, int]:
    """Compares every shard with the manifest and returns the number of readable records of each.

    A shard that is missing or differs raises ValueError. With `skip_damaged` what can be read of it is kept, and the number of
    lost records is logged as a warning; only if no record at all can be read, that is a ValueError.
    """
    folder = pathlib.Path(folder)
    manifest = read_manifest(folder)
    counts, lost = {}, 0
    for name, entry in manifest["shards"].items():
        path, count = folder / name, entry["count"]
        actual = writer.fingerprint(path)
        if actual == (entry["bytes"], entry["sha256"]):
            if (found := _count(path, manifest["kind"], actual)) != count:
                raise ValueError(f"{path}: expected {count} records as in the manifest, found {found}; write the set anew")
            counts[path] = count
            continue
        state = f"damaged: expected {entry['bytes']} bytes, found {actual[0]}, other SHA-256" if actual else "missing"
        if not skip_damaged:
            raise ValueError(f"{path}: {state}; write the set anew, or read the rest with skip_damaged")
        readable = min(_readable(path, manifest["kind"]), count) if actual else 0
        logging.warning("%s: %s; %d of %d records lost", path, state, count - readable, count)
        lost += count - readable
        if readable:
            counts[path] = readable
    if not counts:
        raise ValueError(f"{folder}: all {lost} records are lost")
    if lost:
        logging.warning("%s: %d records lost, %d read", folder, lost, sum(counts.values()))
    return counts


@functools.lru_cache(maxsize=4096)
def _count(path, kind, state):  # `state` only distinguishes versions of a file
    return _readable(path, kind)


def _readable(path, kind):
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path), schema.COMPRESSION[kind]):
            count += 1
    except tf.errors.OpError:  # a record's checksum or the compressed stream is wrong: nothing after it can be trusted
        pass
    return count


def load(
    folder: pathlib.Path, seed: int | None = None, skip_damaged: bool = False, first: int | None = None
) -> tf.data.Dataset:
    """Returns the records of a set as dicts of tensors, as `schema.KINDS[kind]` declares them.

    A seed shuffles shards and records, anew in every repetition; None keeps their order. Given `first`, the records repeat
    endlessly, without those before that number.
    """
    kind = read_manifest(folder)["kind"]
    counts = check_shards(folder, skip_damaged)
    records = tf.data.Dataset.from_tensor_slices(([str(path) for path in counts], list(counts.values())))

    def read(path, count):
        return tf.data.TFRecordDataset(path, schema.COMPRESSION[kind]).take(tf.cast(count, tf.int64))

    if seed is None:
        records = records.flat_map(read)
    else:
        shards = records.shuffle(len(counts), seed=seed)
        # Several threads inflate as many shards, in the order in which one thread would.
        records = shards.interleave(read, cycle_length=4, num_parallel_calls=4, deterministic=True).shuffle(64, seed=seed)
    if first is not None:
        records = records.repeat().skip(first)
    return records.map(lambda record: schema.parse(schema.KINDS[kind], record), num_parallel_calls=tf.data.AUTOTUNE)


def bracket_dataset(
    folder: pathlib.Path, batch: int, exposures: int, seed: int = 0, start: int = 0, skip_damaged: bool = False
) -> tf.data.Dataset:
    """Returns endless training batches of brackets, float32 [batch, exposures, H, W, 3] RGB in 0..1, darkest first.

    Each record of kind "bracket" gives its darkest and its brightest exposure and a random choice of those between, `exposures`
    (2 or more) in all, flipped at random.
    """
    kind = read_manifest(folder)["kind"]
    if kind != "bracket":
        raise ValueError(f"{folder}: expected a set of kind 'bracket', found {kind!r}")
    first = start * batch
    records = load(folder, seed, skip_damaged, first).enumerate(first)
    examples = records.map(
        lambda number, record: choose_exposures(record["exposures"], exposures, tf.stack([tf.cast(seed, tf.int64), number])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return examples.batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def choose_exposures(bracket, exposures: int, seed):
    """Returns the first, the last and a random choice of the other exposures, flipped at random, float32 [exposures, H, W, 3]
    in 0..1; tf.errors.InvalidArgumentError if there are fewer than asked for.

    Args:
        bracket: uint8 [M, H, W, 3], darkest first; the order is kept.
        exposures: how many, 2 to M.
        seed: int [2]; the choice depends on nothing else.
    """
    available = tf.shape(bracket)[0]
    enough = tf.debugging.assert_less_equal(exposures, available, "the records hold fewer exposures than asked for")
    between, *keys = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    with tf.control_dependencies([enough] if enough is not None else []):
        inner = 1 + tf.argsort(tf.random.stateless_uniform([available - 2], between))[: exposures - 2]
    chosen = tf.gather(bracket, tf.concat([[0], tf.sort(inner), [available - 1]], 0))
    for axis, key in zip((1, 2), keys, strict=True):
        chosen = tf.where(tf.random.stateless_uniform([], key) < 0.5, tf.reverse(chosen, [axis]), chosen)
    return tf.ensure_shape(tf.cast(chosen, tf.float32) / 255, [exposures, None, None, 3])


def merge_dataset(folder: pathlib.Path, batch: int, seed: int = 0, start: int = 0) -> tf.data.Dataset:
    """Returns endless training batches for the merge network: its inputs (`hdr_tf.models.merge`) and "hdr", the true radiance.

    Patches are shuffled, flipped and turned at random; those of a batch have the same number of exposures.
    """
    kind = read_manifest(folder)["kind"]
    if kind != "merge":
        raise ValueError(f"{folder}: expected a set of kind 'merge', found {kind!r}")

    def patches(number, record):
        count, exposures = tf.shape(record["hdr"])[0], tf.shape(record["exposures"])[0]
        images = tf.cast(record["images"], tf.float32) / 65535
        layers = tf.concat([images, tf.cast(record["inside"], tf.float32)[..., None]], -1)
        layers = tf.concat(
            [tf.reshape(tf.transpose(layers, (0, 2, 3, 1, 4)), (count, SIDE, SIDE, 4 * exposures)), record["hdr"]], -1
        )
        flipped = tf.unstack(tf.random.stateless_uniform([3], tf.stack([tf.cast(seed, tf.int64), number])) < 0.5)
        layers = tf.where(flipped[0], layers[:, ::-1], layers)
        layers = tf.where(flipped[1], layers[:, :, ::-1], layers)
        layers = tf.where(flipped[2], tf.transpose(layers, (0, 2, 1, 3)), layers)
        shared = {
            "exposures": record["exposures"],
            "reference": tf.one_hot(record["reference"], exposures),
            "noise": record["noise"],
        }
        shared = {name: tf.repeat(value[None], count, 0) for name, value in shared.items()}
        return tf.data.Dataset.from_tensor_slices({"layers": layers, **shared})

    def split(example):
        layers, exposures = example.pop("layers"), tf.shape(example["exposures"])[1]
        stacked = tf.reshape(layers[..., :-3], (batch, SIDE, SIDE, exposures, 4))
        stacked = tf.transpose(stacked, (0, 3, 1, 2, 4))
        return example | {"images": stacked[..., :3], "inside": stacked[..., 3:], "hdr": layers[..., -3:]}

    records = load(folder, seed, first=0).enumerate()
    examples = records.flat_map(patches).shuffle(512, seed=seed)
    batches = examples.group_by_window(
        lambda example: tf.shape(example["exposures"], tf.int64)[0],
        lambda _, window: window.batch(batch, drop_remainder=True),
        batch,
    )
    return batches.skip(start).map(split, num_parallel_calls=2).prefetch(4)


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

    Args:
        folder: of kind "bracket", or "images" if one image is enough.
        example: turns a bracket, uint8 [N, H, W, 3], and a random generator into float32 arrays that always have the same names
            and shapes; see tfrecords/examples.py. It runs in several threads. What it refuses of the first record is an error.
        exposures: the least N that `example` can use.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of 1 or more, found {batch}")
    manifest = read_manifest(folder)
    kind = manifest["kind"]
    if kind != "bracket" and (kind != "images" or exposures > 1):
        expected = "'bracket'" if exposures > 1 else "'bracket' or 'images'"
        raise ValueError(f"{folder}: expected a set of kind {expected}, found {kind!r}")
    with writer.understood(folder / writer.MANIFEST):
        least, most = manifest["arguments"]["exposures"] if kind == "bracket" else (1, 1)
        too_few = least < exposures
    if too_few:
        raise ValueError(f"{folder}: expected {exposures} exposures or more in a record, found sets of {least} to {most}")

    def exposed(record):
        return record["exposures"] if kind == "bracket" else record["picture"][None]

    def make(pixels, number):
        with running():
            return list(example(pixels, np.random.default_rng([seed, int(number)])).values())

    first = start * batch
    brackets = load(folder, seed, skip_damaged, first).map(exposed).enumerate(first)
    try:
        bracket = exposed(next(iter(load(folder, None, skip_damaged)))).numpy()
        shapes = {name: array.shape for name, array in example(bracket, np.random.default_rng(seed)).items()}
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error

    @tf.autograph.experimental.do_not_convert
    def call(number, pixels):
        arrays = tf.numpy_function(make, [pixels, number], [tf.float32] * len(shapes), stateful=False)
        return {name: tf.ensure_shape(array, shapes[name]) for name, array in zip(shapes, arrays, strict=True)}

    examples = brackets.map(call, num_parallel_calls=min(4, os.cpu_count()))
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
    """Returns endless training batches {feature: float32 [batch, patch, patch, 3]}.

    Features are those of `patches.FEATURES`, scaled as ESBN's scripts feed its networks: images (ldr_..., gt_ldr_...) to
    -1..1, radiance (hdr_..., gt_hdr) times 2 minus 1, which may exceed 1. Kind "kalantari" also has "exposures", [batch, 3],
    2**stops. Only the requested features are computed, and no pixels of the batches before `start` are read.

    Of kind "kalantari" all patches of a scene (place, rotation, flip) come once before one comes again. Scenes take turns,
    `shuffle_scenes` at a time until all their patches have come. Scenes with more patches come more often; of scenes of one
    size any four consecutive patches are of four scenes. The ESBN kinds hold patches, which are shuffled.

    Memory: 41 MB for each of `shuffle_scenes` scenes of 1000 x 1500 with all features (63 MB with `depth=16`; see
    `patches.Patches`), 45 MB while one is unpacked, and at patch 256 up to 7 MB for each patch of the few batches in progress.

    Args:
        folder: of kind "kalantari", "esbn_align" or "esbn_merge".
        patch: side in pixels; the ESBN kinds have the side that they were written with.
        shuffle_scenes: scenes open at a time, at least 4 if there are as many.
        depth: 8 as in the original, or 16, which keeps the bits that the original drops.
        resize: False leaves out the original's resize to 250/256 and back.
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

        readable = check_shards(folder, skip_damaged)
        reader = SceneReader(folder, manifest, readable, shuffle_scenes, patch, patches.count_patches, unpack)
        shapes = {name: (3,) if name == "exposures" else (patch, patch, 3) for name in features}
        batches = cut_batches(reader, patch_order, seed, batch, start, shapes)
    else:
        with writer.understood(folder / writer.MANIFEST):
            stored = manifest["arguments"]["patch"], 8, True
        if stored != (patch, depth, resize):
            raise ValueError(
                f"{folder}: the patches are {stored[0]} pixels wide, of 8 bit and resized: they cannot be had with "
                f"patch={patch}, depth={depth}, resize={resize}; records of kind kalantari can"
            )
        names, shape = schema.esbn_names(kind), [patch, patch, 3]
        records = load(folder, seed, skip_damaged, start * batch)
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
    """Returns endless training batches as SelfHDR reads them (cszhilu1998/SelfHDR 9e8af4a, data/sig17align_dataset.py).

    {"ldr_low", "ldr_mid", "ldr_high": float32 [batch, patch, patch, 3], 16-bit values divided by 2**16,
    "exposures": [batch, 3], 2**stops, "hdr": radiance}; with `structures` also "structure", like "hdr".

    Every scene comes once before one comes again, each time with a patch at a random place, neither turned nor flipped. With
    more than `shuffle_scenes` scenes, that many take turns for `scene_batches.VISITS` patches each, then the next ones; the
    original holds all scenes in memory. Memory: 30 bytes per pixel of each open scene, with `structures` 42, and about as much
    while a scene is unpacked.

    Args:
        kind: kind of the set: "selfhdr", whose "hdr" is the colour label, or "kalantari", whose "hdr" is the true radiance.
        structures: whether to return the structure labels.
        patch: side in pixels.
        shuffle_scenes: scenes open at a time.
    """
    manifest = read_manifest(folder)
    if manifest["kind"] != kind:
        hint = "; hdr-tf records writes it with --labels" if kind == "selfhdr" else ""
        raise ValueError(f"{folder}: expected a set of kind {kind!r}, found {manifest['kind']!r}{hint}")
    if structures and not manifest["arguments"].get("structures"):
        raise ValueError(f"{folder}: expected structure labels, found none; write the set anew with --structures")
    if min(batch, patch, shuffle_scenes) < 1:
        raise ValueError(f"expected batch, patch and shuffle_scenes of 1 or more, found {batch}, {patch}, {shuffle_scenes}")
    radiance = ("hdr", "structure") if structures else ("hdr",)

    def unpack(record):
        images = dict(zip(patches.FEATURES[:3], to_depth(_levels(record), 16), strict=True))
        images |= {name: record[name] for name in radiance}
        places = images["hdr"].shape[1] - patch + 1

        def write(index, out):
            row, column = divmod(index, places)
            for name, image in images.items():
                scale = np.float32(2**16 if image.dtype == np.uint16 else 1)
                np.divide(image[row : row + patch, column : column + patch], scale, out=out[name])
            out["exposures"][:] = 2.0 ** record["stops"]

        return write

    def count(height, width, patch):
        return max(height - patch + 1, 0) * max(width - patch + 1, 0)

    reader = SceneReader(folder, manifest, check_shards(folder, skip_damaged), shuffle_scenes, patch, count, unpack)
    shapes = dict.fromkeys((*patches.FEATURES[:3], *radiance), (patch, patch, 3)) | {"exposures": (3,)}
    return cut_batches(reader, crop_order, seed, batch, start, shapes).prefetch(2)


def _levels(record):
    """The images [3, H, W, 3] of a scene record at the depth of their files."""
    return record["ldr"] if record["depth"] == 16 else record["ldr"].astype(np.uint8)


def _scaled(array):
    """Scales a tensor as `patches.scale` does."""
    return array * 2 - 1 if array.dtype == tf.float32 else tf.cast(array, tf.float32) / 127.5 - 1
