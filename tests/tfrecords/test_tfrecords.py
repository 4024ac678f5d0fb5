"""Records: written, read back bit for bit, and never damaged in silence."""

import functools
import json
import subprocess
import sys
import time

import numpy as np
import pytest

from hdr_tf.io import image_files
from hdr_tf.synthesis import sources
from hdr_tf.synthesis.brackets import BracketMaker
from tests import helpers
from tfrecords import brackets, dataset, schema, writer

tf = pytest.importorskip("tensorflow")


def brackets_of_two_to_four(index):
    return helpers.bracket_record(index, 2 + index % 3)


def fails_at_five(index):
    if index == 5:
        raise OSError("no space left")
    return helpers.bracket_record(index)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A set of 24 records in 3 shards."""
    folder = tmp_path_factory.mktemp("set")
    writer.write(folder, "bracket", brackets_of_two_to_four, 24, shards=3, arguments={"seed": 1}, num_processes=1)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it that a test may damage."""
    for path in written.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def in_map(serialized):
    records = tf.data.Dataset.from_tensors(serialized).map(functools.partial(schema.parse, schema.BRACKET))
    return next(iter(records))


@pytest.mark.parametrize("parse", [functools.partial(schema.parse, schema.BRACKET), in_map], ids=["eager", "in map"])
def test_a_record_comes_back_bit_for_bit(parse):
    record = helpers.bracket_record()
    back = parse(schema.encode(schema.BRACKET, record))
    assert back.keys() == record.keys()
    for name in ("exposures", "ev"):
        assert back[name].dtype == record[name].dtype
        np.testing.assert_array_equal(back[name], record[name])
    assert back["source"].numpy().decode() == record["source"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ev": None}, "missing ev"),
        ({"weight": 1}, "ev exposures source weight"),
        ({"exposures": None, "exposure": 1}, "exposure exposures"),
        ({"ev": np.zeros(3)}, "ev float32 None float64 3"),
        ({"exposures": np.zeros((3, 8, 8, 1), np.uint8)}, "exposures uint8 3, 8, 8, 1"),
        ({"source": 7}, "source int"),
    ],
)
def test_encoding_names_the_field_that_does_not_fit(change, message):
    record = {name: value for name, value in (helpers.bracket_record() | change).items() if value is not None}
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        schema.encode(schema.BRACKET, record)


def features(**values):
    lists = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


@pytest.mark.parametrize("parse", [functools.partial(schema.parse, schema.BRACKET), in_map], ids=["eager", "in map"])
def test_parsing_refuses_missing_fields_and_wrong_types(parse):
    whole = {name: field.encode(helpers.bracket_record()[name]) for name, field in schema.BRACKET.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="exposures"):
        parse(features(ev=whole["ev"], source=whole["source"]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="float"):
        parse(features(**whole | {"ev": whole["exposures"]}))


def test_every_record_is_there_once(written):
    found = {record["source"].numpy().decode(): record for record in dataset.load(written)}
    assert found.keys() == {f"noise {index}" for index in range(24)}
    for index in range(24):
        np.testing.assert_array_equal(found[f"noise {index}"]["exposures"], brackets_of_two_to_four(index)["exposures"])


def test_the_manifest_tells_what_is_there(written):
    manifest = dataset.read_manifest(written)
    assert (manifest["kind"], manifest["count"], manifest["arguments"]) == ("bracket", 24, {"seed": 1})
    assert manifest["schema"]["exposures"] == "uint8 [None, None, None, 3]"
    assert [shard["count"] for shard in manifest["shards"].values()] == [8, 8, 8]
    assert sorted(path.name for path in written.iterdir()) == sorted([*manifest["shards"], "manifest.json"])


def order(folder, seed, times=1):
    return [record["source"].numpy().decode() for record in dataset.load(folder, seed).repeat(times)]


def test_shuffling_depends_on_the_seed_alone(written):
    assert order(written, 3, 2) == order(written, 3, 2)
    assert order(written, 3) != order(written, 4)
    twice = order(written, 3, 2)
    assert sorted(twice[:24]) == sorted(twice[24:]) and twice[:24] != twice[24:]


def test_several_threads_read_shards_in_the_order_of_one(written, monkeypatch):
    interleave, threads = tf.data.Dataset.interleave, []

    def by_one(shards, read, cycle_length, num_parallel_calls, deterministic):
        threads.append(num_parallel_calls)
        return interleave(shards, read, cycle_length)

    found = order(written, 3, 2)
    monkeypatch.setattr(tf.data.Dataset, "interleave", by_one)
    assert found == order(written, 3, 2) and threads == [4]


def test_batches_depend_on_the_seed_alone_and_go_on_anywhere(written):
    def batches(seed, start=0, count=15):
        return [batch.numpy() for batch in dataset.bracket_dataset(written, 4, 2, seed, start).take(count)]

    first = batches(0)
    assert {batch.shape for batch in first} == {(4, 2, 16, 24, 3)}
    assert all(batch.dtype == np.float32 for batch in first)
    assert min(batch.min() for batch in first) == 0 and max(batch.max() for batch in first) == 1
    np.testing.assert_array_equal(first, batches(0))
    np.testing.assert_array_equal(first[9:], batches(0, start=9, count=6))  # beyond the first time through the 24 records
    assert not np.array_equal(first, batches(1))


def test_chosen_exposures_keep_ends_and_order_and_are_flipped_together():
    bracket = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.uint8(50) + np.zeros((5, 4, 6, 3), np.uint8)
    bracket[:, 0, 0] += 1  # marks a corner
    corners, middles = set(), set()
    for seed in range(40):
        chosen = dataset.choose_exposures(tf.constant(bracket), 3, tf.constant([0, seed])).numpy() * 255
        levels = np.rint(chosen[:, 1, 1, 0]).astype(int)
        assert levels[0] == 0 and levels[2] == 200
        middles.add(levels[1])
        marked = np.argwhere(np.rint(chosen[..., 0]) % 50 == 1)
        assert len(marked) == 3 and len(np.unique(marked[:, 1:], axis=0)) == 1
        corners.add(tuple(marked[0, 1:]))
    assert middles == {50, 100, 150}
    assert corners == {(0, 0), (0, 5), (3, 0), (3, 5)}


def test_more_exposures_than_a_record_has_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match=helpers.mentions("exposures")):
        dataset.choose_exposures(tf.zeros([3, 8, 8, 3], tf.uint8), 4, tf.constant([0, 0]))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    elif how == "cut between records":  # a valid file, only shorter: reading it gives no error
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(path), "GZIP")]
        with tf.io.TFRecordWriter(str(path), "GZIP") as file:
            for record in records[:3]:
                file.write(record)
    elif how == "missing":
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "cut between records", "missing"])
def test_damage_is_named_and_counted(folder, how, caplog):
    path = folder / "bracket-00001-of-00003.tfrecord.gz"
    damage(path, how)
    with pytest.raises(ValueError, match=helpers.mentions(path.name)):
        dataset.load(folder)
    with pytest.raises(ValueError, match=helpers.mentions(path.name)):
        dataset.bracket_dataset(folder, 2, 2)
    with caplog.at_level("WARNING", logger="absl"):
        left = list(dataset.load(folder, skip_damaged=True))
    lost = 24 - len(left)
    assert 0 < lost <= 8
    assert lost == {"missing": 8, "cut between records": 5}.get(how, lost)
    assert helpers.mentioned(f"{path.name} {lost} 8", caplog.text)
    assert helpers.mentioned(f"{lost} {len(left)}", caplog.messages[-1])


def test_all_lost_is_an_error(folder):
    for path in folder.glob("*.gz"):
        path.unlink()
    with pytest.raises(ValueError, match=helpers.mentions(f"{folder} 24")):
        dataset.load(folder, skip_damaged=True)


def test_an_unfinished_set_is_refused_and_completed(folder):
    name = "bracket-00002-of-00003.tfrecord.gz"
    manifest = json.loads((folder / "manifest.json").read_text())
    complete = dict(manifest["shards"])
    del manifest["shards"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / name).unlink()
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json 1 3")):
        dataset.load(folder)
    kept = folder / "bracket-00000-of-00003.tfrecord.gz"
    before = kept.stat().st_mtime_ns
    again = writer.write(folder, "bracket", brackets_of_two_to_four, 24, shards=3, arguments={"seed": 1}, num_processes=1)
    assert again["shards"] == complete  # the same bytes
    assert kept.stat().st_mtime_ns == before
    assert len(list(folder.iterdir())) == 4


def test_another_set_in_the_folder_is_not_overwritten(folder):
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json count seed")):
        writer.write(folder, "bracket", brackets_of_two_to_four, 12, shards=3, arguments={"seed": 2})
    assert len(order(folder, None)) == 24


@pytest.mark.parametrize("content", ["", "[]", '{"shards": []}', '{"shards": {"a": {}}}'])
def test_a_folder_with_another_manifest_is_not_touched(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json")):
        writer.write(tmp_path, "bracket", helpers.bracket_record, 2, shards=1, num_processes=1)
    assert (tmp_path / "manifest.json").read_text() == content


def test_a_failure_keeps_finished_shards_and_no_half_ones(tmp_path):
    with pytest.raises(OSError, match="no space left"):
        writer.write(tmp_path, "bracket", fails_at_five, 6, shards=2, num_processes=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == [*manifest["shards"], "manifest.json"]


def test_folders_without_a_set_are_named(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json hdr-tf records")):
        dataset.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json")):
        dataset.load(tmp_path)


@pytest.fixture(scope="module")
def hdr_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hdr")
    rng = np.random.default_rng(0)
    for name in ("one", "two", "kept"):
        image_files.write_radiance(folder / f"{name}.exr", np.exp(rng.normal(0, 1, (40, 60, 3))).astype(np.float32))
    (folder / "broken.exr").write_bytes((folder / "one.exr").read_bytes()[:200])
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_the_tool_writes_brackets(hdr_dir, tmp_path):
    output = tmp_path / "out"
    flags = f"--kind=bracket --hdr_dir={hdr_dir} --output={output} --count=6 --size=32 --shards=2 --num_processes=2"
    result = helpers.run_tool("make_tfrecord", *flags.split(), "--exposures=2,4", "--exclude=kept", "--seed=5")
    assert result.returncode == 0, result.stderr
    assert helpers.mentioned(f"{output} 6 2", result.stdout)
    assert result.stderr.count("\n") == 1 and "broken.exr" in result.stderr
    records = list(dataset.load(output))
    assert len(records) == 6
    for record in records:
        assert set(record["source"].numpy().decode().split("+")) <= {"one", "two"}
        assert 2 <= len(record["ev"]) <= 4 and record["exposures"].shape == (len(record["ev"]), 32, 32, 3)
    images = (hdr_dir / "one.exr", hdr_dir / "two.exr")
    again = BracketMaker(images, (), 32, (2, 4), 5)(0)
    np.testing.assert_array_equal(records[0]["exposures"], again["exposures"])


def test_processes_end_with_a_killed_tool(hdr_dir, tmp_path):
    command = [sys.executable, str(helpers.ROOT / "tools" / "make_tfrecord.py"), f"--hdr_dir={hdr_dir}", f"--output={tmp_path}"]
    options = ["--kind=bracket", "--count=9999", "--size=64", "--shards=2", "--num_processes=2"]
    tool = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 900  # for a tool that hangs, not for a busy machine
    while not (begun := list(tmp_path.glob(".*.gz"))) and tool.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    tool.kill()
    message, _ = tool.communicate(timeout=300)  # until the last process that holds the pipe has ended
    assert begun, f"no process has begun: {message.decode()}"


def test_photographs_need_no_folder(tmp_path):
    maker = BracketMaker((), sources.PHOTOS, 64, (3, 3), 0)
    records = [maker(index) for index in range(4)]
    assert len({record["source"] for record in records}) > 1
    for record in records:
        assert record["exposures"].shape == (3, 64, 64, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hdr_dirs": []}, "hdr_dir photos"),
        ({"hdr_dirs": ["absent"]}, "absent"),
        ({"exclude": ["nobody"]}, "nobody"),
        ({"exclude": ["one", "two", "kept"]}, "EXR"),
        ({"exposures": (4, 3)}, "4,3"),
        ({"exposures": (2, 10)}, "2 9 2,10"),
        ({"size": 8}, "16 8"),
        ({"seed": -1}, "seed 0 -1"),
        ({"shards": 9}, "1 4 9"),
    ],
)
def test_arguments_out_of_range_are_named(hdr_dir, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        brackets.write_brackets(**{"folder": tmp_path / "out", "hdr_dirs": [hdr_dir], "count": 4} | arguments)
    assert not (tmp_path / "out").exists()


MANIFEST_DAMAGE = {
    "count": lambda x: x.update(count=21),
    "shard": lambda x: x["shards"][next(iter(x["shards"]))].update(count=7),
    "both": lambda x: [x.update(count=21), *(entry.update(count=7) for entry in x["shards"].values())],
    "type": lambda x: x.update(count="24"),
    "negative": lambda x: x.update(count=-1),
    "shards": lambda x: x.update(number_of_shards=1e300),
    "fewer shards": lambda x: x.update(number_of_shards=2),
    "no shards": lambda x: x.update(shards=[1, 2, 3]),
    "other shards": lambda x: x["shards"].update({"../x": x["shards"].popitem()[1]}),
    "entry": lambda x: x["shards"].update({next(iter(x["shards"])): None}),
    "bytes": lambda x: x["shards"][next(iter(x["shards"]))].update(bytes=None),
    "sha256": lambda x: x["shards"][next(iter(x["shards"]))].update(sha256=1),
    "kind": lambda x: x.update(kind=["bracket"]),
    "arguments": lambda x: x.update(arguments=None),
}


@pytest.mark.parametrize("damage", MANIFEST_DAMAGE)
def test_a_manifest_that_contradicts_itself_or_the_shards(folder, damage):
    path = folder / writer.MANIFEST
    manifest = json.loads(path.read_text())
    MANIFEST_DAMAGE[damage](manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=helpers.mentions("manifest" if damage == "both" else str(path))):
        dataset.load(folder)


def test_a_deeply_nested_manifest_is_refused(folder):
    (folder / writer.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(ValueError, match=helpers.mentions(str(folder / writer.MANIFEST))):
        dataset.load(folder)


@pytest.mark.parametrize("exposures", [None, [], [4], "ab", [[4], 5]])
def test_damaged_arguments_of_a_manifest(folder, exposures):
    path = folder / writer.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"arguments": {"exposures": exposures}}))
    with pytest.raises(ValueError, match=helpers.mentions(str(path))):
        dataset.example_dataset(folder, lambda pixels, rng: {"x": np.zeros(1)}, 2, 3)
