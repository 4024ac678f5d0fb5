"""Records of kind merge: what a record holds, that it depends on its seed alone, and batches that continue anywhere."""

import itertools

import numpy as np
import pytest

from hdr_tf.image import optical_flow, tone
from hdr_tf.io import image_files
from tests import helpers
from tfrecords import dataset, registered, schema, writer
from tools import make_tfrecord

SIZE, SIDE, COUNT = (48, 64), 16, 6


@pytest.fixture(scope="module", autouse=True)
def small():
    """Scenes and patches of few pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registered, "SIZE", SIZE)
        for module in (registered, dataset):
            patch.setattr(module, "SIDE", SIDE)
        yield


@pytest.fixture(scope="module")
def hdr_dir(tmp_path_factory):
    """Three images of blocks of 8 x 8 pixels over eight stops."""
    folder = tmp_path_factory.mktemp("hdr")
    for seed in range(3):
        blocks = np.exp2(np.random.default_rng(seed).uniform(-4, 4, (11, 14, 3))).astype(np.float32)
        image_files.write_radiance(folder / f"{seed}.exr", np.kron(blocks, np.ones((8, 8, 1), np.float32)))
    return folder


@pytest.fixture(scope="module")
def written(hdr_dir, tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("registered")
    registered.write_registered(folder, [hdr_dir], COUNT, seed=3, shards=2, num_processes=1)
    return folder


def shown(images, inside, exposures, hdr):
    """Radiance of exposures [N, ..., 3] divided by the true one, where these are neither clipped nor dark."""
    linear = tone.to_radiance(images, 1)
    usable = (images > 0.1) & (images < 0.9) & (inside > 0)
    return (linear / exposures[:, None, None, None] / hdr)[usable]


def test_a_record_is_a_scene_of_its_own(hdr_dir):
    maker = registered.RegisteredMaker(tuple(sorted(hdr_dir.iterdir())), 3)
    records, counts = [maker(index) for index in range(COUNT)], set()
    for index, record in enumerate(records):
        images, exposures, reference = record["images"], record["exposures"], record["reference"]
        patches, count = images.shape[:2]
        counts.add(count)
        assert patches == registered.PATCHES and 2 <= count <= 9
        assert images.shape == (patches, count, SIDE, SIDE, 3) and images.dtype == np.uint16
        assert record["inside"].shape == images.shape[:-1] and record["inside"].max() <= optical_flow.UNMOVED
        assert record["hdr"].shape == (patches, SIDE, SIDE, 3) and record["hdr"].dtype == np.float32
        assert exposures.shape == (count,) and exposures[reference] == 1 and (exposures > 0).all()
        assert record["hdr"].min() >= 0 and (record["inside"][:, reference] == optical_flow.UNMOVED).all()
        gain, read, step, dark_error = record["noise"]
        assert dark_error > 0 and gain >= 0 and read >= 0 and step in np.float32([1 / 255, 1 / 65535])
        for patch in range(patches):  # the reference shows the truth
            alone = [x[patch, reference][None] for x in (images / np.float32(65535), record["inside"][..., None])]
            ratio = shown(*alone, np.ones(1), record["hdr"][patch])
            assert not len(ratio) or abs(np.log(np.median(ratio))) < 0.15
        again = maker(index)
        assert again.keys() == record.keys() == schema.MERGE.keys()
        assert all(np.array_equal(again[name], record[name]) for name in record)
    assert len(counts) > 1
    other = registered.RegisteredMaker(maker.images, 4)(0)
    assert other["images"].shape != records[0]["images"].shape or not np.array_equal(other["images"], records[0]["images"])


def test_a_set_depends_on_its_arguments_alone(written, hdr_dir, tmp_path):
    make_tfrecord.main(
        make_tfrecord.Config(
            kind="merge", hdr_dir=str(hdr_dir), output=str(tmp_path), count=COUNT, seed=3, shards=2, num_processes=1
        )
    )
    assert helpers.contents(tmp_path) == helpers.contents(written)
    manifest = dataset.read_manifest(written)
    assert (manifest["kind"], manifest["count"], manifest["arguments"]["seed"]) == ("merge", COUNT, 3)


def test_records_come_back(written, hdr_dir):
    maker = registered.RegisteredMaker(tuple(sorted(hdr_dir.iterdir())), 3)
    found = list(dataset.load(written))
    assert len(found) == COUNT
    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)]  # shard by shard
    for record, index in zip(found, order, strict=True):
        for name, expected in maker(index).items():
            np.testing.assert_array_equal(record[name].numpy(), expected, err_msg=name)


def test_batches_have_one_number_of_exposures(written):
    counts = set()
    for batch in dataset.merge_dataset(written, 3).take(12):
        batch = {name: values.numpy() for name, values in batch.items()}
        count = batch["images"].shape[1]
        counts.add(count)
        assert batch["images"].shape == (3, count, SIDE, SIDE, 3) and batch["inside"].shape == (3, count, SIDE, SIDE, 1)
        assert batch["hdr"].shape == (3, SIDE, SIDE, 3) and batch["noise"].shape == (3, 4)
        assert batch["exposures"].shape == batch["reference"].shape == (3, count)
        assert all(values.dtype == np.float32 for values in batch.values())
        assert (batch["reference"].sum(axis=1) == 1).all() and batch["images"].max() <= 1
        assert ((batch["exposures"] * batch["reference"]).sum(axis=1) == 1).all()
        for images, inside, chosen, hdr in zip(*(batch[n] for n in ("images", "inside", "reference", "hdr")), strict=True):
            reference = chosen.argmax()
            # Turned and flipped together: the reference lies on the truth.
            ratio = shown(images[[reference]], inside[[reference]], np.ones(1), hdr)
            assert not len(ratio) or np.median(np.abs(np.log(ratio))) < 0.3
    assert len(counts) > 1


def test_batches_depend_on_the_seed_and_go_on_anywhere(written):
    def batches(start, count, seed=1):
        return [
            {k: v.numpy() for k, v in batch.items()} for batch in dataset.merge_dataset(written, 2, seed, start).take(count)
        ]

    def same(one, other):
        return all(one[name].shape == other[name].shape and np.array_equal(one[name], other[name]) for name in one)

    whole = batches(0, 12)
    for start in (1, 4, 9):
        rest = batches(start, 12 - start)
        assert all(same(one, other) for one, other in zip(rest, whole[start:], strict=True))
    assert not any(same(one, other) for one, other in itertools.combinations(whole, 2))
    assert not same(batches(0, 1, seed=2)[0], whole[0])


def test_a_set_of_another_kind_is_refused(tmp_path):
    writer.write(tmp_path, "bracket", helpers.bracket_record, 2, shards=1, num_processes=1, arguments={"exposures": [3, 3]})
    with pytest.raises(ValueError, match=helpers.mentions(f"{tmp_path} 'merge' 'bracket'")):
        dataset.merge_dataset(tmp_path, 2)


def test_images_are_named_where_they_are_missing(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("--hdr_dir")):
        make_tfrecord.main(make_tfrecord.Config(kind="merge", output=str(tmp_path)))
