"""Bad input to tools/fuse.py, as a user gives it: one line on stderr, exit code 1, and nothing written."""

import multiprocessing
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from hdr_tf import cli, fusing
from hdr_tf.image import files
from tools import fuse

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files; every case runs in here."""
    folder = tmp_path_factory.mktemp("input")
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (16, 20, 3)), ("b.png", (16, 20, 3)), ("small.png", (12, 20, 3)), ("tiny.png", (7, 20, 3))):
        files.write_picture(folder / name, rng.integers(0, 256, shape, np.uint8))
    files.write_picture(folder / "whole.jpg", rng.integers(0, 256, (16, 20, 3), np.uint8))
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture")
    for name in ("b.png", "whole.jpg"):
        data = (folder / name).read_bytes()
        (folder / f"truncated{pathlib.Path(name).suffix}").write_bytes(data[: len(data) // 2])
    files.write_radiance(folder / "radiance.exr", rng.random((16, 20, 3), np.float32))
    (folder / "wrong.weights.h5").write_bytes(b"no HDF5")
    (folder / "file").touch()
    (folder / "no_brackets").mkdir()
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """run(folder, line) does what `python tools/fuse.py` does in a folder, in a copy of a process that has imported it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    streams = tmp_path_factory.mktemp("streams")
    out, err = streams / "out", streams / "err"

    def run(folder, line):
        process = context.Process(target=_run, args=(folder, line.split(), out, err))
        process.start()
        process.join()
        return types.SimpleNamespace(returncode=process.exitcode, stdout=out.read_text(), stderr=err.read_text())

    return run


def _run(folder, words, *streams):
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(folder)
    sys.argv = ["fuse.py", *words]
    cli.run(fuse.main, fuse.Config)


def test_the_copy_does_what_the_command_does(folder, run):
    command = [sys.executable, str(REPOSITORY / "tools" / "fuse.py"), "a.png", "text.png", "-o", "out.png"]
    expected = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    found = run(folder, "a.png text.png -o out.png")
    assert (found.returncode, found.stdout, found.stderr) == (expected.returncode, expected.stdout, expected.stderr)
    assert found.returncode == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.png missing.png -o out.png", ["missing.png"]),
        ("a.png empty.png -o out.png", ["empty.png", "empty"]),
        ("a.png text.png -o out.png", ["text.png", "expected"]),
        ("a.png truncated.png -o out.png", ["truncated.png", "PNG"]),
        ("a.png truncated.jpg -o out.png", ["truncated.jpg", "JPEG"]),
        ("a.png radiance.exr -o out.png", ["radiance.exr", "read_radiance"]),
        ("a.png small.png -o out.png", ["a.png", "20 x 16", "small.png", "20 x 12"]),
        ("tiny.png tiny.png -o out.png", ["tiny.png", "at least 8 x 8", "20 x 7"]),
        ("a.png -o out.png", ["at least 2 pictures", "found 1"]),
        ("-o out.png", ["--brackets", "--sample"]),
        ("a.png b.png", ["--output"]),
        ("a.png b.png -o out.png --model=mertens", ["unknown model 'mertens'", "pyramid", "hyperp_mb"]),
        ("a.png b.png -o out.png --model=deepfuse_sunnerli", ["convert_checkpoint.py", "--model=deepfuse_sunnerli"]),
        ("a.png b.png -o out.png --weights=wrong.weights.h5", ["wrong.weights.h5"]),
        ("a.png b.png -o out.png --weights=missing.weights.h5", ["missing.weights.h5"]),
        ("a.png b.png -o out.bmp", ["out.bmp", ".png", ".tif", ".jpg"]),
        ("a.png b.png -o out.jpg --depth=16", ["out.jpg", "8 bit"]),
        ("a.png b.png -o a.png", ["a.png", "overwritten"]),
        ("a.png b.png -o file/out.png", ["file/out.png", "cannot be written"]),
        ("a.png b.png -o no_brackets.png/../no_brackets", ["expected an output ending in"]),
        ("a.png b.png -o out.png --max_pixels=100", ["a.png", "100", "20 x 16"]),
        ("a.png -o out.png --max_pixels=100", ["a.png", "100", "20 x 16"]),  # two exposures as its halves
        ("a.png b.png -o out.png --save_aligned=aligned", ["save_aligned", "align"]),
        ("a.png b.png -o out.png --quality=best", ["--quality", "'best'"]),
        ("a.png b.png -o out.png --aling=mtb", ["'aling'", "--align"]),
        ("a.png b.png -o out.png --align=sift", ["--align", "'sift'", "homography"]),
        ("a.png b.png --sample -o out.png", ["only one of them"]),
        ("--brackets=no_brackets --output=out", ["no_brackets", "sub-folder"]),
        ("--brackets=missing --output=out", ["missing"]),
    ],
)
def test_one_line_and_nothing_written(folder, line, words, run):
    before = contents(folder)
    result = run(folder, line)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr
    assert contents(folder) == before


def test_a_stray_word_is_refused(tmp_path):
    command = [sys.executable, str(REPOSITORY / "tools" / "export.py"), "pyramid", "--output=out"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr == "error: unexpected word 'pyramid': values belong to flags, as in --flag=value; --help lists them\n"


@pytest.fixture
def brackets(folder, tmp_path):
    """Two brackets of files with the same names."""
    for bracket in ("church", "night"):
        (tmp_path / "brackets" / bracket).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (tmp_path / "brackets" / bracket / name).write_bytes((folder / name).read_bytes())
    return tmp_path / "brackets"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--output=fused --model=mertens", "unknown model 'mertens'"),
        ("--output=fused --weights=missing.weights.h5", "missing.weights.h5: expected a .weights.h5 file, found none"),
        ("--output=brackets/fused", "brackets/fused: lies among the brackets"),
        ("--output=brackets/night", "brackets/night: lies among the brackets"),
    ],
)
def test_what_is_wrong_with_every_bracket_is_said_once(line, message, brackets, run):
    before = contents(brackets)
    result = run(brackets.parent, f"--brackets=brackets {line}")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(f"error: {message}")
    assert contents(brackets) == before


def test_each_bracket_has_its_folder_of_aligned_pictures(brackets, pyramid_weights):
    aligned = brackets.parent / "aligned"
    flags = {"align": "mtb", "save_aligned": str(aligned), "keep_order": True, "weights": str(pyramid_weights)}
    assert fuse.main(fuse.Config(brackets=str(brackets), output=str(brackets.parent / "fused"), **flags)) == 0
    found = {path.relative_to(aligned).as_posix() for path in aligned.rglob("*.png")}
    assert found == {f"{bracket}/{name}" for bracket in ("church", "night") for name in ("1_a.png", "2_b.png")}


@pytest.mark.parametrize(
    ("module", "function", "error"),
    [
        (files, "list_pictures", PermissionError("a folder such as lost+found")),
        (fusing, "fuse_files", MemoryError("too large")),
    ],
)
def test_no_failure_of_a_bracket_stops_the_others(module, function, error, brackets, pyramid_weights, monkeypatch):
    whole, calls = getattr(module, function), []

    def fails_once(*words, **flags):
        calls.append(words)
        if len(calls) == 1:
            raise error
        return whole(*words, **flags)

    monkeypatch.setattr(module, function, fails_once)
    results = fusing.fuse_brackets(sorted(brackets.iterdir()), brackets.parent / "fused", weights=pyramid_weights)
    (_, church), (_, night) = results
    assert church is error
    assert night.shape == (16, 20, 3)


@pytest.fixture(scope="module")
def pyramid_weights(tmp_path_factory):
    from hdr_tf.models import build
    from hdr_tf.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "pyramid.weights.h5"
    save_weights(build("pyramid"), path)
    return path
