"""Reads the TFRecords that writer.py has made; what is missing or damaged is never passed over in silence.

Every shard is compared with the manifest's SHA-256 before the first record is read. tf.data's own `ignore_errors` would
lose the rest of a truncated file without a word, and a file cut between two records gives no error at all.
"""

import json
import pathlib

import tensorflow as tf
from absl import logging

from tfrecords import schema, writer


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
    counts, lost = {}, 0
    for name, entry in read_manifest(folder)["shards"].items():
        found = writer.fingerprint(folder / name)
        if found == (entry["bytes"], entry["sha256"]):
            counts[folder / name] = entry["count"]
            continue
        state = "missing" if found is None else f"damaged: expected {entry['bytes']} bytes, found {found[0]}, other SHA-256"
        if not skip_damaged:
            raise ValueError(f"{folder / name}: {state}; write the set anew, or read the rest with skip_damaged")
        readable = min(_readable(folder / name), entry["count"]) if found else 0
        logging.warning("%s: %s; %d of %d records lost", folder / name, state, entry["count"] - readable, entry["count"])
        lost += entry["count"] - readable
        if readable:
            counts[folder / name] = readable
    if not counts:
        raise ValueError(f"{folder}: all {lost} records are lost")
    if lost:
        logging.warning("%s: %d records lost, %d read", folder, lost, sum(counts.values()))
    return counts


def _readable(path):
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(str(path), "GZIP"):
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


def _serialized(folder, seed, skip_damaged):
    """The records as they lie in the files; arguments as of `load`."""
    counts = check_shards(folder, skip_damaged)
    shards = tf.data.Dataset.from_tensor_slices(([str(path) for path in counts], list(counts.values())))

    def records(path, count):
        return tf.data.TFRecordDataset(path, "GZIP").take(tf.cast(count, tf.int64))

    if seed is None:
        return shards.flat_map(records)
    shards = shards.shuffle(len(counts), seed=seed)
    return shards.interleave(records, cycle_length=4).shuffle(64, seed=seed)


def _parse(folder, serialized):
    fields = schema.KINDS[read_manifest(folder)["kind"]]
    return serialized.map(lambda record: schema.parse(fields, record), num_parallel_calls=tf.data.AUTOTUNE)
