"""Every script runs once, with tiny settings."""

import concurrent.futures
import importlib.util
import json

import keras
import numpy as np
import pytest

from hdr_tf import benchmarks, device_check, systems
from hdr_tf.commands import benchmark
from hdr_tf.fusion import pipeline
from hdr_tf.io import image_files
from hdr_tf.weights import load_weights
from tests import helpers
from tools import convert_checkpoint, fuse, make_tfrecord
from train import pyramid as train_pyramid


@pytest.fixture
def bracket(tmp_path):
    """Three 16-bit files, dark to bright."""
    texture = np.kron(np.random.default_rng(0).integers(0, 21000, (12, 14, 3)), np.ones((8, 8, 1)))
    paths = [tmp_path / f"{name}.png" for name in ("dark", "middle", "bright")]
    for gain, path in zip((0.5, 1, 2), paths, strict=True):
        image_files.write_image(path, (texture * gain).astype(np.uint16))
    return [str(path) for path in paths]


def test_fuse(bracket, tmp_path, capsys):
    output = tmp_path / "made" / "fused.tif"
    aligned = tmp_path / "aligned"
    config = fuse.Config(images=bracket, output=str(output), align="mtb", save_aligned=str(aligned))
    assert fuse.main(config) == 0
    assert helpers.mentioned(f"{output} 112 x 96 16", capsys.readouterr().out)
    assert image_files.read_image(output).pixels.dtype == np.uint16
    assert helpers.names(aligned) == {"1_dark.png", "2_middle.png", "3_bright.png"}
    middle = image_files.read_image(aligned / "2_middle.png").pixels
    np.testing.assert_array_equal(middle, image_files.read_image(bracket[1]).pixels)  # the reference stays


@pytest.mark.parametrize(
    ("name", "depth", "bits"), [("a.png", 8, 8), ("a.tiff", None, 16), ("a.jpg", None, 8), ("a.JPEG", 8, 8)]
)
def test_fuse_depth(name, depth, bits, bracket, tmp_path):
    output = tmp_path / name
    fuse.main(fuse.Config(images=bracket, output=str(output), depth=depth))
    assert image_files.read_image(output).pixels.itemsize == bits // 8


def test_fuse_sample(tmp_path, capsys):
    output = tmp_path / "new" / "sample.png"
    assert fuse.main(fuse.Config(sample=True, output=str(output))) == 0
    exposures = [output.with_name(f"sample_exposure_{i}.png") for i in (1, 2, 3)]
    assert sorted(output.parent.iterdir()) == sorted([output, *exposures])
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in (output, *exposures))
    means = [image_files.read_image(path).pixels.mean() for path in exposures]
    assert means == sorted(means)
    again = pipeline.fuse(exposures)
    np.testing.assert_array_equal(image_files.read_image(output).pixels, again)


def test_fuse_brackets(bracket, tmp_path, capsys):
    for name in ("night", "church"):
        folder = tmp_path / "brackets" / name
        folder.mkdir(parents=True)
        for path in bracket:
            (folder / path.rsplit("/", 1)[1]).symlink_to(path)
    (tmp_path / "brackets" / ".hidden").mkdir()
    output = tmp_path / "fused"
    assert fuse.main(fuse.Config(brackets=str(tmp_path / "brackets"), output=str(output))) == 0
    assert helpers.names(output) == {"church.png", "night.png", "summary.json"}
    assert helpers.mentioned(f"2 {output}", capsys.readouterr().out.splitlines()[-1])

    for ending, start in (("tif", b"II*\0"), ("jpg", b"\xff\xd8\xff")):
        config = fuse.Config(brackets=str(tmp_path / "brackets"), output=str(output / ending), format=ending)
        assert fuse.main(config) == 0
        assert helpers.names(output / ending) == {f"church.{ending}", f"night.{ending}", "summary.json"}
        assert (output / ending / f"night.{ending}").read_bytes().startswith(start)
    radiance = {"model": "merge_classical", "exposures": "2,0,1"}  # bright, dark, middle
    config = fuse.Config(brackets=str(tmp_path / "brackets"), output=str(output / "hdr"), format="hdr", **radiance)
    assert fuse.main(config) == 0
    assert {"church.hdr", "night.hdr"} <= helpers.names(output / "hdr")
    for wrong, model in (("exr", "pyramid"), ("png", "merge_classical"), ("gif", "pyramid")):
        with pytest.raises(ValueError, match=helpers.mentions(f"--format {wrong} tif")):
            fuse.main(fuse.Config(brackets=str(tmp_path / "brackets"), output=str(output), format=wrong, model=model))
    with pytest.raises(ValueError, match=helpers.mentions("--format --brackets")):
        fuse.main(fuse.Config(images=bracket, output=str(tmp_path / "a.png"), format="png"))


def test_records_and_training(tmp_path, capsys, monkeypatch):
    # Shallow: tracing takes nearly all of the time. Two parts share the weights, as three do.
    monkeypatch.setattr(train_pyramid, "PARTS", {"pairs": (2, 4, 2), "brackets": (3, 5, 1)})
    records, run = tmp_path / "records", tmp_path / "run"
    settings = {"kind": "bracket", "photos": True, "count": 4, "size": 64, "exposures": "3", "shards": 1, "num_processes": 1}
    make_tfrecord.main(make_tfrecord.Config(output=str(records), **settings))
    train_pyramid.main(train_pyramid.Config(data=str(records), run=str(run), steps=2, log_every=1, filters=4))
    assert helpers.mentioned(f"{run / 'pyramid.weights.h5'} 2", capsys.readouterr().out.splitlines()[-1])
    load_weights(systems.build("pyramid", filters=4), run / "pyramid.weights.h5")
    sheet = image_files.read_image(run / "samples" / "00000002.png").pixels
    assert sheet.shape == (64, 4 * 64, 3)  # three exposures and the result


def test_training_without_records_says_what_makes_them():
    with pytest.raises(ValueError, match=helpers.mentions("--data hdr-tf records")):
        train_pyramid.main(train_pyramid.Config())


def test_convert_checkpoint(tmp_path, capsys):
    network, rng = systems.build("deepfuse_official"), np.random.default_rng(0)
    kernels = [rng.random(kernel.shape[::-1], np.float32).swapaxes(2, 3) for kernel in network.weights]
    np.savez(tmp_path / "authors.npz", *kernels)
    output = tmp_path / "converted.weights.h5"
    convert_checkpoint.main(
        convert_checkpoint.Config(model="deepfuse_official", checkpoint=str(tmp_path / "authors.npz"), output=str(output))
    )
    assert str(output) in capsys.readouterr().out
    load_weights(network, output)
    # A true convolution's kernel [out, in, height, width] comes out flipped, [height, width, in, out].
    np.testing.assert_array_equal(network.weights[0].numpy(), kernels[0][:, :, ::-1, ::-1].transpose(2, 3, 1, 0))


def test_convert_checkpoint_writes_nothing_that_does_not_fit(tmp_path):
    np.savez(tmp_path / "authors.npz", np.zeros((32, 1, 3, 3)), np.zeros((64, 32, 3, 3)))
    output = tmp_path / "converted.weights.h5"
    with pytest.raises(ValueError, match=r"\bl_conv40\.W\b.*\bl_conv11\.W\b.*\(\d"):
        convert_checkpoint.main(
            convert_checkpoint.Config(model="deepfuse_official", checkpoint=str(tmp_path / "authors.npz"), output=str(output))
        )
    assert not output.exists()


@pytest.fixture
def in_this_process(monkeypatch):
    """Measures in this process: only `test_benchmark_of_files` waits for fresh ones."""
    monkeypatch.setattr(benchmarks, "_process", lambda: concurrent.futures.ThreadPoolExecutor(1))


def test_benchmark(tmp_path, capsys, in_this_process):
    output = tmp_path / "new" / "benchmark.json"
    benchmark.main(benchmark.Config(model="mertens,densefuse_gray", size=64, rounds=1, output=str(output)))
    (table,) = json.loads(output.read_text())["tables"]
    rows = table["rows"]
    assert [row["model"] for row in rows] == ["mertens", "densefuse_gray"]
    for row in rows:
        # Both medians are of a single round here.
        assert row["fuse_ms"] > 0 and row["ratio"] == pytest.approx(row["fuse_ms"] / row["mertens_ms"])
        assert row["peak_mb"] >= 0 and (row["network_ms"] is None) == (row["model"] == "mertens")
    # Of a pixel the encoder takes, of each exposure, 9 * 16 * (1 + 16 + 32 + 48) products, the decoder 9 * 6672.
    products = 64 * 64 * 9 * (2 * 16 * 97 + 6672)
    assert rows[1]["gflop"] == pytest.approx(2 * products / 1e9, rel=0.05) and rows[1]["of_matmul"] > 0
    assert "| densefuse_gray | " in capsys.readouterr().out


def test_benchmark_refuses_an_unknown_model():
    with pytest.raises(ValueError, match=helpers.mentions("densefuse")):
        benchmark.main(benchmark.Config(model="mertens,densefuse"))


def rows_of(tmp_path, **flags):
    output = tmp_path / "benchmark.json"
    benchmark.main(benchmark.Config(output=str(output), **flags))
    (table,) = json.loads(output.read_text())["tables"]
    return table["rows"]


def test_benchmark_of_records(tmp_path, capsys, in_this_process):
    flags = {"height": 128, "width": 160, "scenes": 2, "patches": 8, "patch": 64, "rounds": 2, "num_processes": 1}
    (row,) = rows_of(tmp_path, what="records", **flags)
    assert row["patches"] == 2 * 2 * 8 and row["patch_mb"] == pytest.approx(64 * 64 * 3 * (5 + 4 * 4) / 1e6, rel=0.05)
    assert 0 < row["scene_mb"] < 128 * 160 * 3 * (3 * 2 + 4) / 1e6  # compressed
    assert row["times_smaller"] == pytest.approx(32 * row["patch_mb"] / row["scene_mb"])
    assert row["times_faster"] == pytest.approx(32 * row["patch_s"] / row["scene_s"])
    assert row["scene_s"] > 0 and min(row["patches_per_s"], row["patches_per_s_2"]) > 0 and row["peak_mb"] >= 0
    assert "MB" in capsys.readouterr().out


def test_benchmark_of_training(tmp_path, capsys, in_this_process):
    (row,) = rows_of(tmp_path, what="training", model="esbn_fusion", filters=4, patch=32, batch=1, rounds=1)
    assert row["model"] == "esbn_fusion" and min(row["input_ms"], row["step_ms"], row["both_ms"]) > 0
    assert row["steps_per_s"] == pytest.approx(1e3 / row["both_ms"]) and row["peak_mb"] >= 0
    assert "esbn_fusion" in capsys.readouterr().out


def test_benchmark_of_reconstruction(tmp_path, capsys, in_this_process):
    rows = rows_of(tmp_path, what="reconstruction", height=24, width=32, align_filters=4, filters=4, rounds=1)
    assert [row["model"] for row in rows] == ["merge", "merge_classical", "esbn"]
    for row in rows:
        assert row["size"] == [24, 32] and row["seconds"] > 0 and row["peak_mb"] >= 0
    assert rows[2]["filters"] == 4 and rows[2]["first_s"] > 0 and "of_esbn" not in rows[2]
    for row in rows[:2]:
        assert row["of_esbn"] > 0 and row["flow_s"] + row["unaligned_s"] == pytest.approx(row["seconds"])
    printed = capsys.readouterr().out
    assert "32 x 24" in printed and printed.splitlines()[-1].count("|") == printed.splitlines()[-2].count("|")


def test_benchmark_of_reconstruction_with_a_network_of_selfhdr(tmp_path, in_this_process):
    (row,) = rows_of(tmp_path, what="reconstruction", model="hdr_transformer", height=16, width=24, rounds=1)
    assert row["model"] == "hdr_transformer" and min(row["seconds"], row["first_s"]) > 0


def test_benchmark_of_large_images(tmp_path, in_this_process):
    (row,) = rows_of(tmp_path, what="large", model="densefuse_gray", height=1032, width=1040)
    assert row["size"] == [1032, 1040] and row["seconds"] > 0 and row["peak_mb"] > 0


def test_benchmark_of_a_folder(tmp_path, in_this_process):
    (row,) = rows_of(tmp_path, what="folder", height=24, width=32, scenes=2)
    assert (row["model"], row["count"]) == ("pyramid", 2)
    assert row["gain"] == pytest.approx(row["single_s"] / row["folder_s"]) and row["peak_mb"] >= 0


@pytest.mark.slow
def test_benchmark_of_files(tmp_path):
    rows = rows_of(tmp_path, what="files", model="densefuse_gray", height=24, width=32, rounds=1)
    assert [row["way"] for row in rows] == ["hdr-tf fuse", "fuse_files", "encoded"]
    assert all(min(row["first_s"], row["seconds"], row["peak_mb"]) > 0 for row in rows)


def test_benchmark_of_a_device(tmp_path, capsys, monkeypatch):
    """One check of each kind; the golden case is absent."""
    scripts = {"esbn_fusion": device_check.SCRIPTS["esbn_fusion"]}
    few = {"GOLDEN": {"absent": ()}, "TILED": ("hyperp_mb", "pyramid"), "SIZES": {"tiny": (24, 32)}, "SCRIPTS": scripts}
    for name, value in few.items():
        monkeypatch.setattr(device_check, name, value)
    output = tmp_path / "benchmark.json"
    try:
        assert benchmark.main(benchmark.Config(what="device", rounds=5, output=str(output))) == 0
    finally:
        keras.config.set_dtype_policy("float32")
    (table,) = json.loads(output.read_text())["tables"]
    assert [(row["check"], row["what"], row["precision"], row["result"][:7]) for row in table["rows"]] == [
        ("golden parity", "absent", "float32", "skipped"),
        ("tiles against whole", "hyperp_mb", "float32", "pass"),
        ("tiles against whole", "pyramid", "float32", "pass"),
        ("fusing", "tiny", "float32", "pass"),
        ("training", "train/esbn_fusion.py", "float32", "pass"),
        ("training", "train/esbn_fusion.py", "mixed_bfloat16", "pass"),
    ]
    assert "| fusing | tiny | float32 | pass |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX, which `.ci/extra jax` installs")
def test_jax_checks_a_device_without_tensorflow():
    script = """
import sys
from hdr_tf import device_check
print(device_check._compare_tiles("hyperp_mb"), device_check._compare_with_original("hyperp_mb"))
print(device_check._train_network("hyperp_mb", "float32", 1), device_check._train_network("hyperp_mb", "mixed_bfloat16", 1))
print("tensorflow" in sys.modules)
"""
    done = helpers.run_python("-c", script, env={"KERAS_BACKEND": "jax"}, cwd=helpers.ROOT, check=True)
    assert done.stdout.count("tolerance") == done.stdout.count("loss") == 2 and done.stdout.splitlines()[-1] == "False"


def test_a_device_that_computes_something_else_fails(monkeypatch, capsys):
    monkeypatch.setattr(
        device_check, "_checks", lambda *_: [("golden parity", "x", "float32", lambda: device_check._within(2, 1))]
    )
    assert benchmark.main(benchmark.Config(what="device")) == 1
    assert helpers.mentioned("x FAIL 1.0e+00 2.0e+00", capsys.readouterr().out)
    monkeypatch.setattr(device_check, "LIMIT_S", -1)
    assert benchmark.main(benchmark.Config(what="device")) == 0
    assert "not reached" in capsys.readouterr().out


def test_16_bits_without_effect_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(device_check, "_records", lambda folder, kind: folder)
    monkeypatch.setattr("train.merge.main", lambda config: None)
    for precision in ("float32", "mixed_bfloat16"):
        log = tmp_path / precision / "merge" / "log.csv"
        log.parent.mkdir(parents=True)
        log.write_text("loss,steps_per_second\n2,1\n1,1\n")
    assert helpers.mentioned("0.50", device_check._run_script(tmp_path, "merge", "float32", 50))
    with pytest.raises(ValueError, match="float32"):
        device_check._run_script(tmp_path, "merge", "mixed_bfloat16", 50)


@pytest.mark.parametrize("means", [(1.0, 1.0), (1.0, 0.5, 1.5), (1.0, float("nan"))])
def test_a_loss_that_does_not_fall_fails(means):
    with pytest.raises(ValueError, match=str(means[-1]).rstrip("0").rstrip(".")):
        device_check._falling(means, 50, 1.0)


def test_benchmark_of_everything(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "ALL", ({"what": "large", "model": "pyramid"}, {"what": "folder", "scenes": 2}))
    monkeypatch.setattr(benchmarks, "measure_large", lambda *_: {"model": "pyramid", "seconds": 2.25, "peak_mb": None})
    row = {"model": "pyramid", "single_s": 1, "folder_s": 0.5, "gain": 2, "peak_mb": 7}
    monkeypatch.setattr(benchmarks, "measure_folder", lambda *_: row)
    output = tmp_path / "benchmark.json"
    benchmark.main(benchmark.Config(all=True, output=str(output)))
    assert [table["what"] for table in json.loads(output.read_text())["tables"]] == ["large", "folder"]
    _, large, folder = capsys.readouterr().out.split("## ")
    assert large.splitlines()[3:5] == ["| --- | ---: | ---: |", "| pyramid | 2.25 |  |"]
    assert helpers.mentioned("2 3000 x 2000 8", folder.splitlines()[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"all": True, "model": "pyramid"}, "--all"),
        ({"what": "training", "model": "pyramid"}, "pyramid esbn_align esbn_fusion"),
        ({"what": "reconstruction", "model": "pyramid"}, "pyramid esbn ahdrnet"),
        ({"what": "records", "model": "pyramid"}, "--model --what=records"),
        ({"what": "records", "patches": 0}, "--patches 1 0"),
        ({"what": "training", "filters": 0}, "--filters 1 0"),
        ({"what": "reconstruction", "height": 8}, "16"),
    ],
)
def test_benchmark_refuses_what_cannot_be_measured(flags, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        benchmark.main(benchmark.Config(**flags))
