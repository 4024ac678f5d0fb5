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
    fields = schema.KINDS[read_manifest(folder)["kind"]]
    counts = check_shards(folder, skip_damaged)
    shards = tf.data.Dataset.from_tensor_slices(([str(path) for path in counts], list(counts.values())))

    def records(path, count):
        return tf.data.TFRecordDataset(path, "GZIP").take(tf.cast(count, tf.int64))

    if seed is None:
        serialized = shards.flat_map(records)
    else:
        shards = shards.shuffle(len(counts), seed=seed)
        serialized = shards.interleave(records, cycle_length=4).shuffle(64, seed=seed)
    return serialized.map(lambda record: schema.parse(fields, record), num_parallel_calls=tf.data.AUTOTUNE)


def bracket_dataset(
    folder: pathlib.Path,
    batch: int,
    exposures: tuple[int, int] = (2, 4),
    seed: int = 0,
    skip_damaged: bool = False,
) -> tf.data.Dataset:
    """Returns endless training batches of brackets, float32 [batch, N, H, W, 3] RGB in 0..1, darkest exposure first.

    Each record gives a random choice of N of its exposures, N between the two numbers in `exposures` (or as many as it
    has), flipped at random; records of equal N are gathered into a batch. The same seed gives the same batches.

    Raises:
        ValueError: damaged or unfinished set (see `check_shards`), or one of another kind.
    """
    kind = read_manifest(folder)["kind"]
    if kind != "bracket":
        raise ValueError(f"{folder}: expected a set of kind 'bracket', found {kind!r}")

    examples = load(folder, seed, skip_damaged).repeat().enumerate()
    examples = examples.map(
        lambda number, record: choose_exposures(record["exposures"], exposures, tf.stack([tf.cast(seed, tf.int64), number])),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batches = examples.group_by_window(
        lambda stack: tf.shape(stack, tf.int64)[0], lambda _, group: group.batch(batch, drop_remainder=True), batch
    )
    return batches.prefetch(tf.data.AUTOTUNE)


def choose_exposures(stack, exposures: tuple[int, int], seed):
    """Returns N exposures of a stack uint8 [M, H, W, 3], flipped at random, as float32 [N, H, W, 3] in 0..1.

    Args:
        stack: exposures in order; the order is kept.
        exposures: least and largest N; at most M are returned.
        seed: int [2]; the choice depends on nothing else.
    """
    seeds = tf.random.experimental.stateless_split(seed, 4)
    available = tf.shape(stack)[0]
    least, most = (tf.minimum(number, available) for number in exposures)
    count = tf.random.stateless_uniform([], seeds[0], least, most + 1, tf.int32)
    order = tf.argsort(tf.random.stateless_uniform([available], seeds[1]))
    chosen = tf.gather(stack, tf.sort(order[:count]))
    for axis, key in ((1, seeds[2]), (2, seeds[3])):
        chosen = tf.cond(
            tf.random.stateless_uniform([], key) < 0.5, lambda x=chosen, a=axis: tf.reverse(x, [a]), lambda x=chosen: x
        )
    return tf.cast(chosen, tf.float32) / 255
