"""Folders of brackets: photographs grouped by EXIF, what is done is not done again, and an account of everything."""

import json
import pathlib
import re
import threading

import numpy as np
import PIL.Image
import pytest

from hdr_tf import batch
from hdr_tf.fusion import pipeline
from hdr_tf.io import brackets, image_files, outputs
from tests import helpers
from tools import fuse


def photograph(path, time, seconds, model="X100", size=(20, 16), fraction=None):
    """A JPEG captured at "HH:MM:SS" for so many seconds."""
    exif = PIL.Image.Exif()
    exif[0x0110] = model
    details = exif.get_ifd(0x8769)
    if time:
        details[0x9003] = f"2024:05:01 {time}"
    if fraction:
        details[0x9291] = fraction
    if seconds:
        details[0x829A] = seconds
    gain = 1 if seconds is None else min(4, 60 * seconds)
    pixels = np.random.default_rng(0).integers(0, 60, (size[1], size[0], 3)) * gain
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95, exif=exif)
    return path


def test_photographs_are_grouped_by_time_and_exposure(tmp_path):
    shots = {
        "1.jpg": ("10:00:00", 1 / 60),
        "2.jpg": ("10:00:01", 1 / 240),
        "3.jpg": ("10:00:01", 1 / 15),
        "4.jpg": ("10:00:02", 1 / 60),  # the exposure of 1.jpg again
        "5.jpg": ("10:00:03", 1 / 15),
        "6.jpg": ("10:00:20", 1 / 60),  # too late, and alone
        "7.jpg": ("12:00:00", 30.0),
        "8.jpg": ("12:01:02", 8.0),  # 62 s after the beginning of an exposure of 30 s and a dark frame of as much
        "9.jpg": (None, 1 / 60),
        "a.jpg": ("12:02:00", None),
    }
    paths = [photograph(tmp_path / name, *shot) for name, shot in shots.items()]
    (tmp_path / "b.jpg").write_bytes(b"no image")
    found, alone = brackets.group_photographs([*paths[::-1], tmp_path / "b.jpg"])
    assert {bracket.name: [path.name for path in bracket.paths] for bracket in found} == {
        "1": ["1.jpg", "2.jpg", "3.jpg"],
        "4": ["4.jpg", "5.jpg"],
        "7": ["7.jpg", "8.jpg"],
    }
    assert [path.name for path in alone] == ["6.jpg", "9.jpg", "a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("other", "together"),
    [
        ({}, True),
        ({"model": "X200"}, False),
        ({"size": (16, 20)}, False),
        ({"time": "10:00:05"}, False),
        ({"seconds": 1 / 65}, False),
    ],
)
def test_what_makes_a_bracket(tmp_path, other, together):
    first = photograph(tmp_path / "1.jpg", "10:00:00", 1 / 60)
    second = photograph(tmp_path / "2.jpg", **{"time": "10:00:03", "seconds": 1 / 15} | other)
    found, alone = brackets.group_photographs([first, second])
    assert (len(found), len(alone)) == ((1, 0) if together else (0, 2))


def test_fractions_of_a_second_and_names(tmp_path):
    second = photograph(tmp_path / "1.jpg", "10:00:00", 1 / 60, fraction="75")
    first = photograph(tmp_path / "2.jpg", "10:00:00", 1 / 15, fraction="5")
    (bracket,), _ = brackets.group_photographs([second, first])
    assert bracket == brackets.Bracket("2", (first, second))
    later = [photograph(tmp_path / f"{name}", f"10:01:0{i}", 4.0**-i) for i, name in enumerate(("2.jpeg", "3.jpg"))]
    found, _ = brackets.group_photographs([first, second, *later])
    jobs = batch.bracket_jobs([tmp_path / "b" / "1", *found], tmp_path / "b" / "c" / "out", ".png", 2)
    assert [job.output.name for job in jobs] == ["1.png", "2.png", "2.jpeg.png"]


class Work:
    """Jobs that copy a text file, and what was done of them."""

    def __init__(self, folder, names="abc"):
        self.folder, self.done = folder, []
        (folder / "out").mkdir()
        for name in names:
            (folder / name).write_text(name)
        paths = [folder / name for name in names]
        self.jobs = [batch.Job(path.name, lambda path=path: [path], folder / "out" / path.name) for path in paths]

    def read(self, job, paths):
        self.done.append(f"read {job.name}")
        return paths[0].read_text()

    def fuse(self, job, text):
        self.done.append(f"fuse {job.name}")
        return text

    def write(self, job, text):
        with outputs.atomic(job.output) as temporary:
            temporary.write_text(text)
        self.done.append(f"write {job.name}")
        return text

    def run(self, **settings):
        self.done = []
        return batch.run(self.jobs, self.read, self.fuse, self.write, self.folder / "out", settings)

    def summary(self):
        message = json.loads((self.folder / "out" / batch.SUMMARY).read_text())
        return {entry["name"]: (entry["status"], entry["error"]) for entry in message["brackets"]}


def test_what_is_done_is_not_done_again(tmp_path):
    work = Work(tmp_path)
    assert [(path.name, text) for path, text in work.run(depth=8)] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert set(work.summary().values()) == {("fused", None)}
    assert [text for _, text in work.run(depth=8)] == [None, None, None]
    assert work.done == []
    assert set(work.summary().values()) == {("skipped", None)}
    (tmp_path / "a").write_text("changed input")
    (tmp_path / "out" / "b").write_text("changed output")
    assert [text for _, text in work.run(depth=8)] == ["changed input", "b", None]
    assert [text for _, text in work.run(depth=16)] == ["changed input", "b", "c"]
    (tmp_path / "out" / "c").unlink()
    assert [text for _, text in work.run(depth=16)] == [None, None, "c"]
    (tmp_path / "out" / batch.SUMMARY).write_text("cut o")
    assert [text for _, text in work.run(depth=16)] == ["changed input", "b", "c"]


@pytest.mark.parametrize("stage", ["read", "fuse", "write"])
def test_what_fails_is_told_and_tried_again(tmp_path, stage, monkeypatch):
    work = Work(tmp_path)
    whole = getattr(work, stage)

    def fails(job, found):
        if job.name == "b":
            raise MemoryError("too\nlarge")
        return whole(job, found)

    with monkeypatch.context() as patch:
        patch.setattr(work, stage, fails)
        results = [result for _, result in work.run()]
    assert isinstance(results[1], MemoryError) and results[::2] == ["a", "c"]
    assert work.summary() == {"a": ("fused", None), "b": ("failed", "too large"), "c": ("fused", None)}
    assert [result for _, result in work.run()] == [None, "b", None]


def test_an_interrupt_leaves_a_summary_and_no_partial_file(tmp_path, monkeypatch):
    work = Work(tmp_path, "abcde")

    def interrupted(job, text):
        if job.name == "c":
            raise KeyboardInterrupt
        return text

    with monkeypatch.context() as patch:
        patch.setattr(work, "fuse", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(work.run())
    assert work.summary() == {"a": ("fused", None), "b": ("fused", None)}
    assert helpers.names(tmp_path / "out") == {"a", "b", batch.SUMMARY}
    assert [result for _, result in work.run()] == [None, None, "c", "d", "e"]
    results = work.run()
    next(results)
    results.close()  # as an error of who uses them does it
    assert len(work.summary()) == 5


def test_a_bracket_is_read_and_one_written_while_one_is_fused(tmp_path, monkeypatch):
    """The second is fused only when the third is read and the first is being written: without overlap this would not end."""
    work, read, written = Work(tmp_path), threading.Event(), threading.Event()

    def fuse(job, text):
        if job.name == "b":
            assert read.wait(20) and written.wait(20)
        return text

    def reads(job, paths):
        if job.name == "c":
            read.set()
        return paths[0].read_text()

    def writes(job, text):
        if job.name == "a":
            written.set()
            assert not (tmp_path / "out" / "b").exists()
        return pathlib.Path(job.output).write_text(text)

    for name, function in {"fuse": fuse, "read": reads, "write": writes}.items():
        monkeypatch.setattr(work, name, function)
    assert [result for _, result in work.run()] == [1, 1, 1]


@pytest.fixture
def mixed(tmp_path):
    """A folder of two brackets of photographs, one image alone, and a sub-folder."""
    folder = tmp_path / "photographs"
    (folder / "church").mkdir(parents=True)
    shots = {
        "1.jpg": ("10:00:00", 1 / 60),
        "2.jpg": ("10:00:01", 1 / 15),
        "3.jpg": ("10:00:10", 1 / 15),
        "4.jpg": ("10:00:11", 1 / 60),
        "5.jpg": ("11:00:00", 1 / 60),
        "church/a.jpg": (None, 1 / 60),
        "church/b.jpg": (None, 1 / 15),
    }
    for name, shot in shots.items():
        photograph(folder / name, *shot)
    return folder


def test_photographs_and_folders_are_fused_and_not_twice(mixed, tmp_path, capsys, caplog):
    def run(**flags):
        assert fuse.main(fuse.Config(brackets=str(mixed), output=str(tmp_path / "out"), **flags)) == 0
        summary = json.loads((tmp_path / "out" / batch.SUMMARY).read_text())
        return capsys.readouterr().out.splitlines(), [entry["status"] for entry in summary["brackets"]], summary

    message, statuses, summary = run()
    assert helpers.mentioned(f"3 {tmp_path / 'out'}", message[-1]) and statuses == ["fused"] * 3
    names = ["1.png", "3.png", "church.png", batch.SUMMARY]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert helpers.mentioned("1 5.jpg", caplog.text)
    assert summary["fused"] == 3 and summary["failed"] == summary["skipped"] == 0
    entry = next(entry for entry in summary["brackets"] if entry["name"] == "3")
    assert [pathlib.Path(path).name for path in entry["inputs"]] == ["3.jpg", "4.jpg"]
    assert entry["output"] == str(tmp_path / "out" / "3.png") and entry["error"] is None and entry["seconds"] > 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}

    message, statuses, _ = run()
    counts = re.findall(r"\d+", message[-1].replace(str(tmp_path / "out"), ""))
    assert counts == ["3", "3", "3"] and statuses == ["skipped"] * 3
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")} == before
    (tmp_path / "out" / "1.png").write_bytes(b"cut o")
    assert run()[1] == ["skipped", "fused", "skipped"]  # church, 1, 3
    assert run(depth=16)[1] == ["fused"] * 3
    assert image_files.read_image(tmp_path / "out" / "1.png").pixels.dtype == np.uint16


def test_an_interrupt_of_the_tool(mixed, tmp_path, capsys, monkeypatch):
    def interrupted(*words, **flags):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_fuse", interrupted)
    assert fuse.main(fuse.Config(brackets=str(mixed), output=str(tmp_path / "out"))) == 130
    assert helpers.mentioned(f"0 3 {tmp_path / 'out'}", capsys.readouterr().out)
    assert helpers.names(tmp_path / "out") == {batch.SUMMARY}


@pytest.mark.parametrize("output", ["", "out"])
def test_results_do_not_go_among_the_photographs(mixed, output):
    with pytest.raises(ValueError, match=helpers.mentions(str(mixed / output))):
        fuse.main(fuse.Config(brackets=str(mixed), output=str(mixed / output)))


def test_results_do_not_go_among_the_brackets(tmp_path):
    (tmp_path / "church").mkdir()
    with pytest.raises(ValueError, match="holds the brackets"):
        batch.bracket_jobs([tmp_path / "church"], tmp_path, ".exr", 2)
