"""Scenes as records: the original's patches, whole scenes without loss, batches that mix scenes and continue anywhere."""

import collections
import functools
import itertools
import json
import resource
import shutil
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from hdr_tf.io.scenes import read_scene
from tests import helpers
from tfrecords import dataset, patches, scene_batches, scenes, schema
from tools import make_tfrecord

tf = pytest.importorskip("tensorflow")
SIDE = 32
# Height and width of the scenes, for patches of 32 pixels: 16, 16, 32, 16 and 32 patches.
SIZES = [(72, 136), (101, 47), (100, 100), (72, 136), (97, 103)]


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    """Five scenes, the fourth of 8 bit."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, size in enumerate(SIZES, 1):
        helpers.write_noise_scene(folder, number, size, depth=8 if number == 4 else 16)
    return folder


@pytest.fixture(scope="module")
def written(scene_dir, tmp_path_factory):
    """The five scenes in three shards."""
    folder = tmp_path_factory.mktemp("records")
    scenes.write_scenes(folder, "kalantari", scene_dir, shards=3, num_processes=1)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of them that a test may damage."""
    return shutil.copytree(written, tmp_path / "copy")


def numbers(batch):
    return {name: array.numpy() for name, array in batch.items()}


def of_scene(path, index, **options):
    """The scaled features of a patch, not by way of records."""
    out = {name: np.empty([SIDE, SIDE, 3], np.float32) for name in patches.FEATURES}
    scene_patches(path, **options).cut_scaled(index, out)
    return out


@functools.cache
def scene_patches(path, **options):
    scene = read_scene(path)
    return patches.Patches(scene.ldr, scene.exposures, scene.hdr, patch=SIDE, **options)


# ---- patches


def test_1000_x_1500_has_the_originals_patches(golden):
    assert patches.count_patches(1000, 1500) == 1920
    manifest, stored = golden.manifest("esbn_tfrecord"), golden.outputs("esbn_tfrecord")
    for (_, *place), flat in zip(manifest["config"]["indices"], stored["flat_index"], strict=True):
        assert list(patches.locate(int(flat), 1000, 1500)) == place


@pytest.fixture(scope="module")
def golden_scene(golden):
    return golden.FOLDER / "kalantari_scene" / "001"


def golden_patches(golden, height=384, width=448):
    """Our number and the stored arrays, by the original's names, of each patch of the golden case."""
    stored = golden.outputs("esbn_tfrecord")
    for number, (_, row, column, rotation, flip) in enumerate(golden.manifest("esbn_tfrecord")["config"]["indices"]):
        index = np.ravel_multi_index((row, column, rotation, flip), ((height - 192) // 64, (width - 192) // 64, 4, 2))
        start = f"patch{number}_"
        yield int(index), {name.removeprefix(start): value for name, value in stored.items() if name.startswith(start)}


def assert_is_golden(array, name, stored):
    np.testing.assert_allclose(array.mean((0, 1)), stored[f"{name}_mean"], rtol=1e-5, atol=1e-5)
    if "LDR" in name:
        assert array.dtype == np.uint8 and zlib.crc32(array.tobytes()) == stored[f"{name}_crc32"], name
    else:  # OpenCV 5 resizes float32 a few last bits differently from the original's 4.1
        np.testing.assert_allclose(array[::15, ::15], stored[name], rtol=0, atol=3e-5)


def test_patches_are_the_originals(golden, golden_scene):
    scene = read_scene(golden_scene)
    cut = patches.Patches(scene.ldr, scene.exposures, scene.hdr)
    assert len(cut) == 96
    for index, stored in golden_patches(golden):
        for name, array in cut.cut(index).items():
            assert_is_golden(array, schema.ESBN_NAMES[name], stored)


def test_records_hold_what_the_originals_scripts_read(golden, golden_scene):
    indices, stored = zip(*golden_patches(golden), strict=True)
    maker = scenes.PatchMaker("esbn_align", (golden_scene,), (96,), np.array(indices), 256)
    for number, arrays in enumerate(stored):
        spec = {name: tf.io.FixedLenFeature([], tf.string) for name in schema.ESBN_ALIGN}
        record = tf.io.parse_single_example(schema.encode(schema.ESBN_ALIGN, maker(number)), spec)
        assert len(record) == 9
        for name, value in record.items():
            values = tf.io.decode_raw(value, tf.uint8 if "LDR" in name else tf.float32)
            assert_is_golden(tf.reshape(values, [256, 256, 3]).numpy(), name.removeprefix("train/"), arrays)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("side", [8, 9, 31, 64, 97])
def test_turning_is_the_originals_warp(side, dtype):
    ldr = np.random.default_rng(side).integers(0, 200, (3, side, side, 3)).astype(np.uint16 if dtype == np.uint16 else np.uint8)
    depth = 16 if dtype == np.uint16 else 8
    name = "gt_hdr" if dtype == np.float32 else "ldr_low"
    cut = patches.Patches(ldr, [1, 2, 4], np.float32(ldr[0]), [name], side, depth, resize=False)
    for index in range(8):
        rotation, flip = divmod(index, 2)
        matrix = cv2.getRotationMatrix2D((side // 2, side // 2), 90 * rotation, 1.0)
        expected = cv2.warpAffine(ldr[0].astype(dtype), matrix, (side, side))
        # Rounding in the original's matrix adds up to 1e-12 of a neighbour to float32; whole levels are equal.
        tolerance = 1e-9 if dtype == np.float32 else 0
        np.testing.assert_allclose(cut.cut(index)[name], expected[:, ::-1] if flip else expected, rtol=0, atol=tolerance)


def test_full_depth_without_resize_is_the_crop_itself():
    rng = np.random.default_rng(3)
    ldr, hdr = rng.integers(0, 65536, (3, 97, 103, 3)).astype(np.uint16), rng.random((97, 103, 3), np.float32)
    cut = patches.Patches(ldr, [1, 4, 16], hdr, patch=SIDE, depth=16, resize=False).cut(24)  # row 1, column 1
    window = np.s_[64:96, 64:96]
    np.testing.assert_array_equal(cut["ldr_mid"], ldr[1][window])
    np.testing.assert_array_equal(cut["gt_hdr"], hdr[window])
    np.testing.assert_allclose(cut["hdr_high"], (ldr[2][window] / 65535) ** 2.2 / 16, rtol=0, atol=1e-6)
    assert cut["gt_ldr_high"].dtype == np.uint16
    np.testing.assert_allclose(cut["gt_ldr_high"], 65535 * np.minimum(hdr[window] * 16.0, 1) ** (1 / 2.2), rtol=0, atol=1.1)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.uint8([0, 51, 255]), [-1, -0.6, 1]),
        (np.uint16([0, 13107, 65535]), [-1, -0.6, 1]),
        (np.float32([0, 0.5, 3]), [-1, 0, 5]),
    ],
)
def test_values_are_scaled_for_the_networks(levels, expected):
    out = np.empty(3, np.float32)
    patches.scale(levels, out)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": ["ldr_middle"]}, "ldr_middle"),
        ({"hdr": None}, "gt_ldr_low gt_ldr_high gt_hdr"),
        ({"patch": 41}, "41 x 41 50 x 40"),
        ({"patch": 7}, "8 7"),
        ({"ldr": np.zeros([3, 1, 1, 3], np.uint8)}, "1 x 1"),
    ],
)
def test_what_cannot_be_cut_is_told(change, message):
    arguments = {"ldr": np.zeros([3, 40, 50, 3], np.uint8), "exposures": [1, 2, 4], "hdr": np.zeros([40, 50, 3], np.float32)}
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        patches.Patches(**{"patch": SIDE} | arguments | change)


def test_a_patch_that_is_not_there_is_told():
    with pytest.raises(ValueError, match=helpers.mentions("8 50 x 40")):
        patches.locate(8, 40, 50, SIDE)


# ---- records


@pytest.mark.parametrize("how", ["eager", "in map", "numpy"])
def test_scenes_come_back_bit_for_bit(written, scene_dir, how):
    serialized = [
        record
        for path in sorted(written.glob("*.tfrecords"))
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    if how == "in map":
        found = [numbers(record) for record in dataset.load(written)]
    elif how == "eager":
        found = [numbers(schema.parse(schema.KALANTARI, record)) for record in serialized]
    else:
        found = [schema.unpack(schema.KALANTARI, record) for record in serialized]
    names = [record["name"] if how == "numpy" else record["name"].decode() for record in found]
    assert sorted(names) == ["001", "002", "003", "004", "005"]
    for name, record in zip(names, found, strict=True):
        scene = read_scene(scene_dir / name)
        assert record["depth"] == 8 * scene.ldr.itemsize
        np.testing.assert_array_equal(record["ldr"], scene.ldr)
        np.testing.assert_array_equal(record["stops"], scene.stops)
        np.testing.assert_array_equal(record["hdr"], scene.hdr)


@given(hypothesis_numpy.arrays(np.uint16, st.tuples(st.integers(0, 13), st.integers(0, 13), st.just(3))))
def test_packed_arrays_come_back(array):
    field = schema.Packed("uint16", (None, None, 3))
    np.testing.assert_array_equal(field.unpack(field.encode(array)), array)


def test_packed_arrays_that_end_in_zeros_come_back_in_a_map():
    """NumPy's arrays of bytes drop zeros at the end; one array in 256 is packed into bytes that have some."""
    field = schema.Packed("uint16", (None, None, 3))
    arrays = (helpers.noise(2, 3, 3, dtype=np.uint16, seed=seed) for seed in itertools.count())
    array = next(array for array in arrays if field.encode(array)[-1:] == b"\0")
    packed = tf.data.Dataset.from_tensors(field.encode(array))
    (found,) = packed.map(field.decode)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(field.decode(tf.constant(field.encode(array))), array)


def test_packed_arrays_that_are_damaged():
    field = schema.Packed("uint16", (None, None, 3))
    with pytest.raises(ValueError, match=helpers.mentions("uint16 None, 3 20")):
        field.unpack(b"no packed array here")
    with pytest.raises(ValueError, match=helpers.mentions("ldr")):
        schema.unpack(schema.KALANTARI, tf.train.Example().SerializeToString())


def test_the_manifest_tells_scenes_sizes_and_seed(written):
    manifest = dataset.read_manifest(written)
    assert (manifest["kind"], manifest["count"], manifest["arguments"]["seed"]) == ("kalantari", 5, 0)
    assert manifest["schema"]["ldr"] == "packed uint16 [3, None, None, 3]"
    assert [(scene["height"], scene["width"]) for scene in manifest["arguments"]["scenes"]] == SIZES
    assert all(len(shard["sha256"]) == 64 for shard in manifest["shards"].values())


@pytest.mark.parametrize("kind", ["esbn_align", "esbn_merge"])
def test_the_esbn_kinds_hold_each_patch_once(kind, scene_dir, tmp_path):
    manifest, _ = scenes.write_scenes(tmp_path, kind, scene_dir, patch=SIDE, shards=4, num_processes=1)
    names = schema.esbn_names(kind)
    assert manifest["count"] == 112 and len(names) == (9 if kind == "esbn_align" else 7)
    found = collections.Counter(record[names["gt_hdr"]].numpy().tobytes() for record in dataset.load(tmp_path))
    expected = collections.Counter()
    for path in sorted(scene_dir.iterdir()):
        scene = read_scene(path)
        cut = patches.Patches(scene.ldr, scene.exposures, scene.hdr, ["gt_hdr"], SIDE)
        expected.update(cut.cut(index)["gt_hdr"].tobytes() for index in range(len(cut)))
    assert found == expected


def test_count_draws_patches_by_the_seed(scene_dir, tmp_path):
    def drawn(folder, seed, shards):
        scenes.write_scenes(tmp_path / folder, "esbn_merge", scene_dir, 9, SIDE, seed, shards, num_processes=1)
        return sorted(record["merge/input_LDR_low"].numpy().tobytes() for record in dataset.load(tmp_path / folder))

    first = drawn("a", 1, 2)
    assert len(set(first)) == 9
    assert first == drawn("b", 1, 3) and first != drawn("c", 2, 2)


def test_batches_of_the_esbn_kinds_are_scaled_patches(scene_dir, tmp_path):
    scenes.write_scenes(tmp_path, "esbn_align", scene_dir, 40, SIDE, shards=2, num_processes=1)
    batches = [numbers(batch) for batch in dataset.patch_dataset(tmp_path, 4, ["ldr_low", "gt_hdr"], SIDE).take(12)]
    again = [numbers(batch) for batch in dataset.patch_dataset(tmp_path, 4, ["ldr_low", "gt_hdr"], SIDE, start=9).take(3)]
    for one, other in zip(batches[9:], again, strict=True):
        np.testing.assert_array_equal(one["ldr_low"], other["ldr_low"])
    expected = {of_scene(path, i)["ldr_low"].tobytes() for path in scene_dir.iterdir() for i in range(16)}
    expected |= {of_scene(scene_dir / name, i)["ldr_low"].tobytes() for name in ("003", "005") for i in range(16, 32)}
    assert {patch.tobytes() for batch in batches for patch in batch["ldr_low"]} <= expected
    for arguments, message in (
        ({"features": ["exposures"]}, "esbn_align ldr_low exposures"),
        ({"patch": 16}, "32 patch=16"),
        ({"depth": 16}, "8 depth=16"),
        ({"resize": False}, "8 resize=False"),
    ):
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            dataset.patch_dataset(tmp_path, **{"batch": 4, "features": ["ldr_low"], "patch": SIDE} | arguments)


# ---- order


@pytest.mark.parametrize(("sizes", "open_scenes"), [([16, 16, 32, 8, 24], 8), ([5, 7, 3], 3), ([8] * 6, 3), ([9], 8)])
def test_an_epoch_has_every_patch_once(sizes, open_scenes):
    order = scene_batches.patch_order(sizes, open_scenes, seed=1)
    every = sorted((scene, index) for scene, size in enumerate(sizes) for index in range(size))
    previous = None
    for _ in range(3):
        epoch = np.concatenate([next(order) for _ in range(-(-len(sizes) // open_scenes))])
        assert sorted(map(tuple, epoch.tolist())) == every
        assert not np.array_equal(epoch, previous)
        previous = epoch


def test_groups_that_do_not_divide_the_scenes_have_each_as_often():
    groups = list(itertools.islice(scene_batches.patch_order([6] * 7, 4, seed=2), 7))
    assert all(len(np.unique(group[:, 0])) == 4 for group in groups)
    counts = collections.Counter(map(tuple, np.concatenate(groups).tolist()))
    assert len(counts) == 42 and set(counts.values()) == {4}


@pytest.mark.parametrize(("count", "open_scenes"), [(4, 8), (5, 8), (9, 8), (12, 5)])
def test_four_patches_are_of_four_scenes(count, open_scenes):
    for group in itertools.islice(scene_batches.patch_order([16] * count, open_scenes, seed=3), 5):
        windows = np.lib.stride_tricks.sliding_window_view(group[:, 0], 4)
        assert {len(set(window)) for window in windows.tolist()} == {4}


# ---- batches


def expected_batches(scene_dir, batch, count, **options):
    """The first batches by the order and the scenes themselves; the records of three shards hold the scenes in order."""
    paths = sorted(scene_dir.iterdir())
    sizes = [patches.count_patches(*size, SIDE) for size in SIZES]
    pairs = np.concatenate(list(itertools.islice(scene_batches.patch_order(sizes, 8, 0), 2)))[: batch * count]
    examples = [of_scene(paths[scene], index, **options) for scene, index in pairs.tolist()]
    for number in range(count):
        part = examples[number * batch : (number + 1) * batch]
        yield {name: np.stack([example[name] for example in part]) for name in patches.FEATURES}


@pytest.mark.parametrize("options", [{}, {"depth": 16, "resize": False}])
def test_batches_are_the_patches_of_the_scenes(written, scene_dir, options):
    batches = dataset.patch_dataset(written, 6, (*patches.FEATURES, "exposures"), SIDE, **options).take(20)  # 120 of 112
    expected = expected_batches(scene_dir, 6, 20, **options)
    for found, truth in zip(map(numbers, batches), expected, strict=True):
        np.testing.assert_array_equal(found.pop("exposures"), np.float32([[2**-1.5, 1, 2**2.25]] * 6))
        assert found.keys() == truth.keys()
        for name, array in found.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, truth[name], err_msg=name)


def test_batches_depend_on_the_seed_alone_and_go_on_anywhere(written):
    def batches(seed=0, start=0, count=20, shuffle_scenes=2):
        options = {"patch": SIDE, "seed": seed, "start": start, "shuffle_scenes": shuffle_scenes}
        return [batch["ldr_low"].numpy() for batch in dataset.patch_dataset(written, 7, ["ldr_low"], **options).take(count)]

    first = batches()
    np.testing.assert_array_equal(first, batches())
    for start in (1, 7, 17):  # within the first scenes, in another group, beyond the first time through the 112 patches
        np.testing.assert_array_equal(first[start:], batches(start=start, count=20 - start))
    assert not np.array_equal(first, batches(seed=1))


def test_only_so_many_scenes_are_in_memory(written):
    counts = dataset.check_shards(written)
    manifest = dataset.read_manifest(written)
    reader = scene_batches.SceneReader(written, manifest, counts, 2, SIDE, patches.count_patches, lambda record: record["name"])
    for scene in (0, 1, 2, 1, 4, 0):
        reader(scene)
        assert len(reader._scenes) <= 2
    assert list(reader._scenes) == [4, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": ["ldr_low", "hdr"]}, "ldr_low exposures hdr"),
        ({"features": []}, "ldr_low exposures"),
        ({"patch": 64}, "64 x 64 002 47 x 101"),
        ({"batch": 0}, "1 8 16 0, 8, 8"),
        ({"shuffle_scenes": 0}, "4, 0, 8"),
        ({"depth": 10}, "4, 8, 10"),
    ],
)
def test_batches_that_cannot_be_had_are_told(written, arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        dataset.patch_dataset(written, **{"batch": 4, "features": ["ldr_low"], "patch": SIDE} | arguments)


# ---- damage, interruption, bad input


def test_lost_scenes_are_counted_and_left_out(folder, caplog):
    path = folder / "kalantari-00001-of-00003.tfrecords"  # scenes 002 and 005
    content = bytearray(path.read_bytes())
    content[-20] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=helpers.mentions("kalantari-00001-of-00003.tfrecords")):
        dataset.patch_dataset(folder, 4, ["exposures"], SIDE)
    with caplog.at_level("WARNING", logger="absl"):
        batches = dataset.patch_dataset(folder, 4, ["gt_hdr"], SIDE, skip_damaged=True).take(20)
        found = {patch.tobytes() for batch in batches for patch in batch["gt_hdr"].numpy()}
    assert helpers.mentioned(f"{path.name} 1 2", caplog.text) and helpers.mentioned("1 4", caplog.messages[-1])
    assert len(found) == 80  # 16 + 16 + 32 + 16


def test_an_interrupted_set_is_completed_or_refused(folder, scene_dir):
    name = "kalantari-00002-of-00003.tfrecords"
    complete = json.loads((folder / "manifest.json").read_text())
    partial = complete | {"shards": {key: entry for key, entry in complete["shards"].items() if key != name}}
    (folder / "manifest.json").write_text(json.dumps(partial))
    (folder / name).unlink()
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json 1 3")):
        dataset.patch_dataset(folder, 4, ["ldr_low"], SIDE)
    with pytest.raises(ValueError, match=helpers.mentions(f"{folder} resume")):
        scenes.write_scenes(folder, "kalantari", scene_dir, shards=3, num_processes=1, resume=False)
    kept = (folder / "kalantari-00000-of-00003.tfrecords").stat().st_mtime_ns
    again, _ = scenes.write_scenes(folder, "kalantari", scene_dir, shards=3, num_processes=1)
    assert again == complete  # the same bytes: no scene twice, none lost
    assert (folder / "kalantari-00000-of-00003.tfrecords").stat().st_mtime_ns == kept
    assert len(list(folder.iterdir())) == 4


def test_a_set_of_other_scenes_is_not_overwritten(folder, scene_dir, tmp_path):
    more = shutil.copytree(scene_dir, tmp_path / "more")
    helpers.write_noise_scene(more, 9, (40, 40))
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json count scenes")):
        scenes.write_scenes(folder, "kalantari", more, shards=3, num_processes=1)


def test_a_full_disk_leaves_nothing_half_written(scene_dir, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes in a file; a scene takes about 300,000
    try:
        with pytest.raises(OSError, match=helpers.mentions("kalantari-00000-of-00001.tfrecords")) as caught:
            scenes.write_scenes(tmp_path, "kalantari", scene_dir, shards=1, num_processes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert helpers.names(tmp_path) == {"manifest.json"}
    assert json.loads((tmp_path / "manifest.json").read_text())["shards"] == {}


def test_scenes_that_cannot_be_used_are_named_and_the_others_written(tmp_path, capsys):
    scene_dir = tmp_path / "scenes"
    for number, hdr in ((1, True), (2, False), (3, True), (4, True), (5, True)):
        helpers.write_noise_scene(scene_dir, number, (40, 40), hdr=hdr)
    (scene_dir / "003" / "exposure.txt").write_text("0\ntwo\n4\n")
    image = scene_dir / "004" / "2.tif"
    image.write_bytes(image.read_bytes()[:1000])
    helpers.write_noise_scene(scene_dir, 6, (20, 40))
    (scene_dir / "007").mkdir()
    (scene_dir / ".hidden").mkdir()
    (scene_dir / ".DS_Store").write_bytes(b"")
    output = tmp_path / "out"
    config = make_tfrecord.Config(
        kind="esbn_align", scenes=str(scene_dir), output=str(output), patch=SIDE, count=5, num_processes=1
    )
    make_tfrecord.main(config)
    message = capsys.readouterr()
    assert helpers.mentioned(f"{output} 5", message.out.splitlines()[-1])
    lines = [line for line in message.err.splitlines() if str(scene_dir) in line]
    assert len(lines) == 5
    for line, name in zip(sorted(lines), ("002", "003", "004", "006", "007"), strict=True):
        assert f"/{name}" in line
    assert [scene["name"] for scene in dataset.read_manifest(output)["arguments"]["scenes"]] == ["001", "005"]


def test_the_tool_writes_scenes_by_default(scene_dir, tmp_path):
    make_tfrecord.main(make_tfrecord.Config(scenes=str(scene_dir), output=str(tmp_path), count=4, num_processes=1))
    manifest = dataset.read_manifest(tmp_path)
    assert (manifest["kind"], manifest["count"], len(manifest["shards"])) == ("kalantari", 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "scenes"}, "kalantari selfhdr esbn_align esbn_merge scenes"),
        ({"count": 6}, "5 6"),
        ({"seed": -1}, "0 -1"),
        ({"scenes": "absent"}, "absent"),
        ({"kind": "esbn_align", "patch": 120}, "5 001 120 x 120"),
        ({"shards": 0}, "shards 0"),
    ],
)
def test_arguments_out_of_range_are_named(scene_dir, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        scenes.write_scenes(
            **{"folder": tmp_path / "out", "kind": "kalantari", "scenes": scene_dir, "num_processes": 1} | arguments
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--scenes"),
        ({"hdr_dir": "hdr"}, "--scenes --hdr_dir --kind=bracket"),
        ({"kind": "kalantary"}, "kalantary kalantari"),
        ({"output": ""}, "--output"),
    ],
)
def test_flags_of_the_tool_are_named(arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        make_tfrecord.main(make_tfrecord.Config(**{"output": "out"} | arguments))
