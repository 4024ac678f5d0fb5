"""Bad input to tools/fuse.py, as a user gives it: one line on stderr, exit code 1, and nothing written."""

import importlib
import multiprocessing
import os
import pathlib
import sys
import types

import numpy as np
import pytest

from hdr_tf import cli
from hdr_tf.fusion import batch, pipeline
from hdr_tf.io import image_files
from tests import helpers
from tools import fuse, merge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files; every case runs in here."""
    folder = tmp_path_factory.mktemp("input")
    rng = np.random.default_rng(0)
    for name, shape in (
        ("a.png", (16, 20, 3)),
        ("b.png", (16, 20, 3)),
        ("small.png", (12, 20, 3)),
        ("tiny.png", (7, 20, 3)),
        ("tiny2.png", (7, 20, 3)),
    ):
        image_files.write_image(folder / name, rng.integers(0, 256, shape, np.uint8))
    image_files.write_image(folder / "whole.jpg", rng.integers(0, 256, (16, 20, 3), np.uint8))
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image")
    for name in ("b.png", "whole.jpg"):
        data = (folder / name).read_bytes()
        (folder / f"truncated{pathlib.Path(name).suffix}").write_bytes(data[: len(data) // 2])
    image_files.write_radiance(folder / "radiance.exr", rng.random((16, 20, 3), np.float32))
    (folder / "wrong.weights.h5").write_bytes(b"no HDF5")
    (folder / "file").touch()
    (folder / "no_brackets").mkdir()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(folder, line) does what `python tools/fuse.py` does in a folder, or another tool, in a copy of a process that has
    imported it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    streams = tmp_path_factory.mktemp("streams")
    out, err = streams / "out", streams / "err"

    def run(folder, line, tool=fuse):
        process = context.Process(target=_run, args=(tool.__name__, folder, line.split(), out, err))
        process.start()
        process.join()
        return types.SimpleNamespace(returncode=process.exitcode, stdout=out.read_text(), stderr=err.read_text())

    return run


def _run(tool, folder, words, *streams):
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    module = importlib.import_module(tool)
    sys.argv = [f"{tool.rpartition('.')[2]}.py", *words]
    cli.run(module.main, module.Config)


def test_the_copy_does_what_the_command_does(folder, run):
    expected = helpers.run_tool("fuse", "a.png", "text.png", "-o", "out.png", cwd=folder)
    found = run(folder, "a.png text.png -o out.png")
    assert (found.returncode, found.stdout, found.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png missing.png -o out.png", ["missing.png"]),
        ("a.png empty.png -o out.png", ["empty.png"]),
        ("a.png text.png -o out.png", ["text.png"]),
        ("a.png truncated.png -o out.png", ["truncated.png", "PNG"]),
        ("a.png truncated.jpg -o out.png", ["truncated.jpg", "JPEG"]),
        ("a.png radiance.exr -o out.png", ["radiance.exr", "OpenEXR"]),
        ("a.png small.png -o out.png", ["a.png", "20 x 16", "small.png", "20 x 12"]),
        ("tiny.png tiny2.png -o out.png", ["tiny.png", "8 x 8", "20 x 7"]),
        ("a.png -o out.png", ["2", "1"]),
        ("-o out.png", ["--brackets", "--sample"]),
        ("a.png b.png", ["--output"]),
        ("a.png b.png -o out.png --model=mertens", ["mertens", "pyramid", "hyperp_mb"]),
        ("a.png b.png -o out.png --model=deepfuse_sunnerli", ["hdr-tf convert", "--model=deepfuse_sunnerli"]),
        ("a.png b.png -o out.png --weights=wrong.weights.h5", ["wrong.weights.h5"]),
        ("a.png b.png -o out.png --weights=missing.weights.h5", ["missing.weights.h5"]),
        ("a.png b.png -o out.bmp", ["out.bmp", ".png", ".tif", ".jpg"]),
        ("a.png b.png -o out.jpg --depth=16", ["out.jpg", "8"]),
        ("a.png b.png -o a.png", ["a.png"]),
        ("a.png b.png -o file/out.png", ["file/out.png"]),
        ("a.png b.png -o no_brackets.png/../no_brackets", ["no_brackets.png/../no_brackets", ".png", ".tif"]),
        ("a.png b.png -o out.png --max_pixels=100", ["a.png", "100", "20 x 16"]),
        ("a.png -o out.png --max_pixels=100", ["a.png", "100", "20 x 16"]),  # two exposures as its halves
        ("a.png b.png -o out.png --save_aligned=aligned", ["save_aligned", "align"]),
        ("a.png b.png -o out.png --quality=best", ["--quality", "best"]),
        ("a.png b.png -o out.png --aling=mtb", ["aling", "--align"]),
        ("a.png b.png -o out.png --align=sift", ["--align", "sift", "homography"]),
        ("a.png b.png --sample -o out.png", ["--brackets", "--sample"]),
        ("--brackets=no_brackets --output=out", ["no_brackets"]),
        ("--brackets=missing --output=out", ["missing"]),
    ],
)
def test_one_line_and_nothing_written(folder, line, words, run):
    before = helpers.contents(folder)
    result = run(folder, line)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert helpers.mentioned(" ".join(words), result.stderr)
    assert helpers.contents(folder) == before


def test_a_stray_word_is_refused(tmp_path):
    result = helpers.run_tool("export", "pyramid", "--output=out", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: ") and helpers.mentioned("pyramid --help", result.stderr)


@pytest.fixture
def brackets(tmp_path):
    """Two brackets of files with the same names."""
    helpers.write_noise_brackets(tmp_path / "brackets", ("church", "night"))
    return tmp_path / "brackets"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--output=fused --model=mertens", "mertens pyramid"),
        ("--output=fused --weights=missing.weights.h5", "missing.weights.h5"),
        ("--output=brackets/fused", "brackets/fused"),
        ("--output=brackets/night", "brackets/night"),
    ],
)
def test_what_is_wrong_with_every_bracket_is_said_once(line, message, brackets, run):
    before = helpers.contents(brackets)
    result = run(brackets.parent, f"--brackets=brackets {line}")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("error: ") and helpers.mentioned(message, result.stderr)
    assert helpers.contents(brackets) == before


def test_each_bracket_has_its_folder_of_aligned_images(brackets):
    aligned = brackets.parent / "aligned"
    flags = {"align": "mtb", "save_aligned": str(aligned), "keep_order": True}
    assert fuse.main(fuse.Config(brackets=str(brackets), output=str(brackets.parent / "fused"), **flags)) == 0
    found = {path.relative_to(aligned).as_posix() for path in aligned.rglob("*.png")}
    assert found == {f"{bracket}/{name}" for bracket in ("church", "night") for name in ("1_a.png", "2_b.png")}


@pytest.mark.parametrize(
    ("module", "function", "error"),
    [
        (image_files, "list_images", PermissionError("a folder such as lost+found")),
        (pipeline, "fuse_to_outputs", MemoryError("too large")),
    ],
)
def test_no_failure_of_a_bracket_stops_the_others(module, function, error, brackets, monkeypatch):
    whole, calls = getattr(module, function), []

    def fails_once(*words, **flags):
        calls.append(words)
        if len(calls) == 1:
            raise error
        return whole(*words, **flags)

    monkeypatch.setattr(module, function, fails_once)
    results = batch.fuse_brackets(sorted(brackets.iterdir()), brackets.parent / "fused")
    (_, church), (_, night) = results
    assert church is error
    assert night.shape == (16, 20, 3)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png missing.png -o out.exr --exposures=0,2", "missing.png"),
        ("a.png b.png -o out.exr", "a.png EXIF --exposures=STOPS"),
        ("a.png b.png -o out.exr --exposures=estimate", "--exposures=estimate --response"),
        ("a.png b.png -o out.exr --exposures=0,2 --model=pyramid", "pyramid merge merge_classical"),
        ("-o out.exr", "--brackets"),
    ],
)
def test_merge_refuses_in_one_line(folder, line, words, run):
    before = helpers.contents(folder)
    result = run(folder, line, merge)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("error: ") and helpers.mentioned(words, result.stderr)
    assert helpers.contents(folder) == before
