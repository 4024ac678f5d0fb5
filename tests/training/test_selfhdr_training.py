"""SelfHDR from scenes to weights: records with labels, both stages, structure labels, exact resume, bad input."""

import itertools
import json
import os
import shutil

import keras
import numpy as np
import pytest

from hdr_tf import losses, metrics, systems
from hdr_tf import weights as weight_files
from hdr_tf.image import tone
from hdr_tf.io import image_files, scenes
from hdr_tf.models import ahdrnet, blocks, vgg
from hdr_tf.radiance import pipeline, selfhdr_training
from hdr_tf.radiance.selfhdr import SelfHdr
from hdr_tf.training import loop, pointwise_pretraining, run_folder
from tests import helpers
from tfrecords import dataset, scene_batches
from tools import make_tfrecord, plot_runs
from train import selfhdr

PATCH = 16
SIZES = {"a": (20, 22), "b": (20, 22), "c": (22, 18)}  # height, width
TINY = {"steps": 2, "log_every": 1, "batch": 2, "patch": PATCH, "filters": 2, "learning_rate": 1e-2}


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One dense block of one convolution: tracing them is most of a short run. Tests of the models check the whole depth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahdrnet, "BLOCKS", 1)
        patch.setattr(ahdrnet, "DENSE", 1)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes whose images encode row and column of each pixel, without radiance, and the same with a colour label."""
    folder = tmp_path_factory.mktemp("selfhdr")
    for number, (name, (height, width)) in enumerate(SIZES.items()):
        row, column = np.indices((height, width))
        image = np.stack([2000 * row, 2000 * column, np.full_like(row, 1000 * number)], -1)
        ldr = np.stack([image, image + 100, image + 200]).astype(np.uint16)
        scenes.write_scene(folder / "scenes" / name, ldr, [0.0, 2, 4])
        label = tone.to_radiance(ldr[1] / np.float32(65535), 4)
        scenes.write_scene(folder / "aligned" / name, ldr, [0.0, 2, 4], label)
    return folder


@pytest.fixture(scope="module")
def write(folder):
    """write(output, **flags) writes records of the scenes."""

    def write(output, **flags):
        usual = {
            "kind": "selfhdr",
            "scenes": str(folder / "scenes"),
            "labels": str(folder / "aligned"),
            "shards": 2,
            "num_processes": 1,
        }
        make_tfrecord.main(make_tfrecord.Config(output=str(output), **usual | flags))
        return str(output)

    return write


def train(stage, run, **flags):
    assert selfhdr.main(selfhdr.Config(stage=stage, run=str(run), **TINY | flags)) in (None, 0)
    return run


@pytest.fixture(scope="module")
def stage1(folder, write):
    """The run of the first stage and its structure labels."""
    run = train("1", folder / "stage1", data=write(folder / "records1"))
    return train("pseudo_labels", run, scenes=str(folder / "aligned"))


@pytest.fixture(scope="module")
def records2(folder, write, stage1):
    return write(folder / "records2", structures=str(stage1 / "structures"))


def test_records_without_structure_labels_hold_the_colour_label(stage1, folder):
    (record, *_) = dataset.load(folder / "records1")
    scene = scenes.read_scene(folder / "aligned" / record["name"].numpy().decode())
    np.testing.assert_array_equal(record["ldr"], scene.ldr)
    np.testing.assert_array_equal(record["hdr"], scene.hdr)
    assert record["structure"].shape == (0, 0, 3)


def test_crops_are_those_of_the_scenes_and_come_in_turns(folder, records2, stage1):
    batches = [  # of three scenes
        {name: array.numpy() for name, array in batch.items()}
        for batch in dataset.crop_dataset(records2, 3, structures=True, patch=PATCH, seed=1).take(40)
    ]
    names, places = list(SIZES), set()
    for batch in batches:
        assert set(batch["ldr_low"][:, 0, 0, 2] * 65536 // 1000) == {0, 1, 2}  # each scene once
        np.testing.assert_array_equal(batch["exposures"], [[1, 4, 16]] * 3)
        for number, corner in enumerate(np.rint(batch["ldr_low"][:, 0, 0] * 65536).astype(int)):
            row, column, name = corner[0] // 2000, corner[1] // 2000, names[corner[2] // 1000]
            window = np.s_[row : row + PATCH, column : column + PATCH]
            places.add((name, row, column))
            scene = scenes.read_scene(folder / "aligned" / name)
            for image, side in zip(scene.ldr, blocks.EXPOSURE_NAMES, strict=True):
                np.testing.assert_array_equal(batch[f"ldr_{side}"][number], image[window] / np.float32(65536))
            structure = image_files.read_radiance(stage1 / "structures" / f"{name}.hdr")
            for array, radiance in ((batch["hdr"], scene.hdr), (batch["structure"], structure)):
                np.testing.assert_array_equal(array[number], radiance[window])
    for name, (height, width) in SIZES.items():
        _, tops, lefts = zip(*(place for place in places if place[0] == name), strict=True)
        assert {0, height - PATCH} <= set(tops) and {0, width - PATCH} <= set(lefts)  # up to the borders
    again = dataset.crop_dataset(records2, 3, structures=True, patch=PATCH, seed=1, start=37).take(3)
    for actual, expected in zip(again, batches[37:], strict=True):
        for name, array in actual.items():
            np.testing.assert_array_equal(array, expected[name])


def test_more_scenes_than_are_open_come_in_groups():
    groups = list(itertools.islice(scene_batches.crop_order([5, 7, 9, 11], 2, seed=0), 2))
    for group in groups:
        assert group.shape == (2 * scene_batches.VISITS, 2) and len(set(group[:, 0])) == 2
        assert all(len(set(pair)) == 2 for pair in group[:, 0].reshape(-1, 2))
        assert (group[:, 1] < np.array([5, 7, 9, 11])[group[:, 0]]).all()
    assert set(groups[0][:, 0]) | set(groups[1][:, 0]) == {0, 1, 2, 3}


def test_8_bit_becomes_16(tmp_path, folder, write):
    scene = scenes.read_scene(folder / "aligned" / "a")
    for place, hdr in (("scenes", None), ("aligned", scene.hdr)):
        scenes.write_scene(tmp_path / place / "a", scene.at_8_bit(), scene.stops, hdr)
    write(tmp_path / "records", scenes=str(tmp_path / "scenes"), labels=str(tmp_path / "aligned"), shards=1)
    (batch,) = dataset.crop_dataset(tmp_path / "records", 1, patch=20).take(1)
    levels = batch["ldr_mid"].numpy() * 65536 / 257
    np.testing.assert_array_equal(levels, np.rint(levels))


def test_first_stage_and_labels(stage1, folder):
    config = json.loads((stage1 / "config.json").read_text())
    assert (config["batch"], config["halve_every"], config["stage"]) == (2, 60_000, "1")
    for row in helpers.log(stage1):
        assert float(row["loss"]) == pytest.approx(float(row["expansion"]) + float(row["preservation"]), rel=1e-5)
    network = selfhdr.build(selfhdr.Config(filters=2))
    weight_files.load_weights(network, stage1 / "ahdrnet.weights.h5")
    for name in SIZES:
        scene = scenes.read_scene(folder / "aligned" / name)
        names = [f"ldr_{name}" for name in blocks.EXPOSURE_NAMES]
        images = {name: x[None] / np.float32(65536) for name, x in zip(names, scene.ldr, strict=True)}
        expected = np.asarray(network(blocks.with_radiance(images, scene.exposures[None].astype("float32")))["hdr"][0])
        label = image_files.read_radiance(stage1 / "structures" / f"{name}.hdr")
        error = np.abs(label - expected) / expected.max(axis=-1, keepdims=True)
        assert error.max() < 2**-8 and np.ptp(expected) > 0  # eight bits, rounded, of 128 to 255


def test_labels_continue_where_they_stopped(stage1, folder, tmp_path, capsys):
    run = shutil.copytree(stage1, tmp_path / "run")
    aligned = shutil.copytree(folder / "aligned", tmp_path / "aligned")
    kept, stale = run / "structures" / "a.hdr", run / "structures" / "b.hdr"
    for path, time in ((run / "ahdrnet.weights.h5", 1000), (kept, 2000), (stale, 500)):
        os.utime(path, (time, time))
    (run / "structures" / "c.hdr").unlink()
    (aligned / "c" / "2.tif").write_bytes(b"II*\0damaged")
    code = selfhdr.main(selfhdr.Config(stage="pseudo_labels", run=str(run), scenes=str(aligned), filters=2))
    captured = capsys.readouterr()
    assert code == 1 and "2.tif" in captured.err and helpers.mentioned("2", captured.out)
    assert kept.stat().st_mtime == 2000 and stale.stat().st_mtime > 2000
    assert helpers.names(run / "structures") == {"a.hdr", "b.hdr"}


def test_second_stage_continues_as_if_it_had_never_stopped(records2, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(vgg, "vgg19_features", lambda weights: asked.append(weights) or (lambda images: [images] * 3))
    run, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "00000002.npz"
    states = []
    for _ in range(2):
        train("2", run, data=records2, halve_every=1)
        states.append((dict(np.load(last)), [row["loss"] for row in helpers.log(run)]))
        last.unlink()  # as if killed after the first step
    assert asked == ["imagenet"] * 2 and states[0][1] == states[1][1]
    assert states[0][0].keys() == states[1][0].keys()
    for path, array in states[0][0].items():
        np.testing.assert_array_equal(array, states[1][0][path], err_msg=path)
    for row in helpers.log(run):
        assert float(row["loss"]) == pytest.approx(float(row["color"]) + float(row["structure"]), rel=1e-5)
    batch = {name: np.random.default_rng(0).random((1, 8, 8, 3), np.float32) for name in ("hdr", "structure")}
    vgg_loss, l1_loss = (
        selfhdr_training.objective("2", kind, "imagenet")[0](batch, {"hdr": batch["hdr"] ** 2})["structure"]
        for kind in ("vgg", "l1")
    )
    assert float(vgg_loss) == pytest.approx(float(l1_loss)) and vgg_loss > 0  # the features are three copies of the images


@pytest.mark.slow
def test_two_workers_train_as_one(folder, write, tmp_path):
    """AHDRNet has no batch norm: shares of a batch add up to the whole."""
    data, runs = write(tmp_path / "records"), [tmp_path / run for run in ("one", "two")]
    flags = [f"--{name}={value}" for name, value in (TINY | {"data": data}).items()]
    commands = [(str(helpers.ROOT / "train" / "selfhdr.py"), "--stage=1", *flags, f"--run={run}") for run in runs]
    helpers.run_python(*commands[0], check=True)
    helpers.run_two_workers(*commands[1], "--strategy=multi_worker")
    logs = [helpers.log(run) for run in runs]
    assert len(logs[0]) == TINY["steps"]
    for expected, actual in zip(*logs, strict=True):
        assert float(actual["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-4)  # float32 sums
    expected, actual = (helpers.checkpoint(run, TINY["steps"]) for run in runs)
    assert actual.keys() == expected.keys() and (runs[1] / "ahdrnet.weights.h5").exists()


def test_noise_on_the_reference_alone(records2, tmp_path, monkeypatch):
    datasets = []

    def fit(model, data, config, sample, validate):
        datasets.extend(data(step) for step in (0, 1))

    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(run_folder, "save_weights", lambda *_: None)
    train("2", tmp_path / "run", data=records2, structure_loss="l1")
    plain = dataset.crop_dataset(records2, 2, structures=True, patch=PATCH).take(100)
    differences = []
    for batch, expected in zip(datasets[0].take(100), plain, strict=True):
        for name in ("ldr_low", "ldr_high", "hdr", "structure"):
            np.testing.assert_array_equal(batch[name], expected[name])
        mid = batch["ldr_mid"].numpy()
        np.testing.assert_allclose(batch["hdr_mid"], mid**2.2 / 4, rtol=1e-5)  # float32 powers
        differences.append((mid - expected["ldr_mid"])[..., :2][expected["ldr_mid"][..., :2] > 0.05])
    spread = np.concatenate(differences) * 510  # some 90,000 values: a hundredth is three to four deviations
    assert spread.std() == pytest.approx(1, rel=0.01) and abs(spread.mean()) < 0.01
    first, second = (next(iter(batches)) for batches in datasets)
    assert not np.array_equal(first["ldr_mid"], second["ldr_mid"])


def test_supervised_training(folder, write, tmp_path):
    data = write(tmp_path / "records", kind="kalantari", scenes=str(folder / "aligned"), labels="")
    run = train("supervised", tmp_path / "run", data=data, steps=1, learning_rate=1e-9)
    network = selfhdr.build(selfhdr.Config(filters=2))
    weight_files.load_weights(network, run / "ahdrnet.weights.h5")
    (batch,) = dataset.crop_dataset(data, 2, "kalantari", patch=PATCH).take(1)
    output = network(blocks.with_radiance(batch, batch["exposures"]))["hdr"]
    expected = np.abs(losses.mu_law(output) - losses.mu_law(batch["hdr"])).mean()
    assert float(helpers.log(run)[0]["loss"]) == pytest.approx(expected, rel=1e-5)


def test_pointwise_pretraining_makes_a_start(folder, write, tmp_path):
    start = train("pointwise", tmp_path / "pointwise") / "ahdrnet.weights.h5"
    network = selfhdr.build(selfhdr.Config(filters=2))
    weight_files.load_weights(network, start)
    kernel = np.reshape(network.get_layer("block1_conv1").kernel, (9, -1))
    assert kernel[4].any() and not np.delete(kernel, 4, 0).any()

    data = write(tmp_path / "records", kind="kalantari", scenes=str(folder / "aligned"), labels="")
    flags = {"data": data, "weights": str(start), "validation": str(folder / "aligned"), "learning_rate": 1e-9}
    run = train("supervised", tmp_path / "run", **flags)
    system = SelfHdr(systems.find("ahdrnet"), network)
    scores = []
    for scene in map(scenes.read_scene, scenes.list_scenes(folder / "aligned")[0]):
        radiance = pipeline.reconstruct(system, scene.ldr, scene.exposures)[1]
        scores.append(metrics.psnr(tone.mu_law(radiance), tone.mu_law(scene.hdr)))
    assert [float(row["valid_psnr_mu"]) for row in helpers.log(run)] == pytest.approx([np.mean(scores)] * 2, rel=1e-4)

    plot_runs.main(plot_runs.Config(runs=str(run), output=str(tmp_path / "curves.png"), column="valid_psnr_mu"))
    assert image_files.read_image(tmp_path / "curves.png").pixels.shape == (600, 900, 3)
    with pytest.raises(ValueError, match=helpers.mentions("log.csv valid epoch valid_psnr_mu")):
        plot_runs.main(plot_runs.Config(runs=str(run), output=str(tmp_path / "none.png"), column="valid"))
    with pytest.raises(ValueError, match=helpers.mentions("0 1")):
        plot_runs.main(plot_runs.Config(runs="", output=str(tmp_path / "none.png")))
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("shares", [0.0, 0.25])
def test_random_pixels_that_moved(shares):
    batch = keras.tree.map_structure(np.asarray, pointwise_pretraining.random_batch([0, 1], shares))
    brightest = batch["ldr_high"].max(axis=-1, keepdims=True) ** 2.2
    known = brightest > 0.001  # a black pixel does not show its exposure
    ratio = np.where(known, brightest, 16) / np.where(known, batch["hdr_high"].max(axis=-1, keepdims=True), 1)
    stops = np.rint(np.log2(ratio)) / 2
    np.testing.assert_array_equal(np.unique(stops), [2, 3])
    for number, (side, expected) in enumerate((("low", shares), ("mid", 0), ("high", shares))):
        visible = np.clip(batch["hdr"] * 2 ** (number * stops), 0, 1)
        noise = np.sqrt(visible / 10_000 + 5e-4**2)
        other = (abs(batch[f"ldr_{side}"] ** 2.2 - visible) > 6 * noise).any(axis=-1)
        exposed = (known & (visible > 0.02) & (visible < 0.9)).all(axis=-1)
        assert other[exposed].mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("ahdrnet", (16, 180_000, 1e-4, 60_000)),
        ("fshdr", (16, 180_000, 1e-4, 60_000)),
        ("hdr_transformer", (8, 240_000, 2e-4, 120_000)),
        ("sctnet", (8, 240_000, 2e-4, 120_000)),
    ],
)
def test_defaults_are_the_original_s(network, expected):
    config = selfhdr.with_defaults(selfhdr.Config(network=network))
    assert (config.batch, config.steps, config.learning_rate, config.halve_every) == expected
    assert config.patch == 128 and config.steps % config.log_every == 0
    assert selfhdr.with_defaults(selfhdr.Config(network=network, batch=3, steps=7)).batch == 3


def test_width_of_the_networks():
    assert selfhdr.build(selfhdr.Config(filters=8)).get_layer("block1_conv1").filters == 4
    assert selfhdr.build(selfhdr.Config()).get_layer("block1_conv1").filters == 32
    assert selfhdr.build(selfhdr.Config(network="fshdr", filters=8)).get_layer("low_conv1").filters == 8


@pytest.mark.parametrize(
    ("stage", "flags", "message"),
    [
        ("pointwise", {"network": "fshdr"}, "--stage=pointwise ahdrnet"),
        ("supervised", {"data": "kalantari", "validation": "scenes"}, "scenes/a"),
        ("1", {}, "--data hdr-tf records --kind=selfhdr"),
        ("pseudo_labels", {}, "--scenes"),
        ("pseudo_labels", {"scenes": "aligned"}, "ahdrnet.weights.h5 1"),
        ("1", {"data": "kalantari"}, "selfhdr kalantari --labels"),
        ("supervised", {"data": "records1"}, "kalantari selfhdr"),
        ("2", {"data": "records1"}, "records1 --structures"),
        ("1", {"data": "records1", "patch": 19}, "19 x 19 c 18 x 22"),
        ("1", {"data": "records1", "shuffle_scenes": 0}, "batch patch shuffle_scenes 1 2, 16, 0"),
        ("2", {"data": "records2", "vgg_weights": "none.h5"}, "VGG19 none.h5 --structure_loss=l1"),
    ],
)
def test_flags_that_cannot_be(stage, flags, message, folder, write, records2, tmp_path):
    flags = {name: str(folder / value) if name in ("data", "scenes", "validation") else value for name, value in flags.items()}
    if "kalantari" in flags.get("data", ""):
        write(flags["data"], kind="kalantari", scenes=str(folder / "aligned"), labels="")
    with pytest.raises(ValueError, match=helpers.mentions(message)) as error:
        selfhdr.main(selfhdr.Config(stage=stage, run=str(tmp_path / "run"), **TINY | flags))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_scenes_without_a_fitting_label_are_left_out(folder, write, tmp_path, capsys):
    aligned = shutil.copytree(folder / "aligned", tmp_path / "aligned")
    (aligned / "a" / scenes.HDR_NAME).unlink()
    shutil.rmtree(aligned / "c")
    write(tmp_path / "records", labels=str(aligned))
    message = capsys.readouterr()
    assert helpers.mentioned("a HDRImg.hdr 22 x 20", message.err)
    assert helpers.mentioned(f"{aligned / 'c'} exposure.txt", message.err) and helpers.mentioned("1", message.out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"labels": ""}, "--labels --kind=selfhdr"),
        ({"kind": "kalantari"}, "--labels --kind=selfhdr"),
        ({"kind": "kalantari", "labels": "", "structures": "x"}, "--labels --kind=selfhdr"),
    ],
)
def test_labels_belong_to_selfhdr(flags, message, write, tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        write(tmp_path / "records", **flags)


def test_structure_labels_of_other_scenes_are_refused(stage1, write, tmp_path):
    structures = shutil.copytree(stage1 / "structures", tmp_path / "structures")
    (structures / "b.hdr").rename(structures / "d.hdr")
    with pytest.raises(ValueError, match=r"\b3\b.*\b1\b.*\bb\b.*\b1\b.*\bd\b"):
        write(tmp_path / "records", structures=str(structures))
    (structures / "d.hdr").unlink()
    shutil.copy(structures / "c.hdr", structures / "b.hdr")
    with pytest.raises(ValueError, match=helpers.mentions("b.hdr 22 x 20 18 x 22")):
        write(tmp_path / "records", structures=str(structures))
    assert not (tmp_path / "records").exists()


def test_other_labels_are_another_set(write, stage1, tmp_path):
    write(tmp_path / "records")
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json structures")):
        write(tmp_path / "records", structures=str(stage1 / "structures"))
