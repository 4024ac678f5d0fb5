"""Brackets and records by Apache Beam's direct runner: what processes of one machine make of them."""

import pathlib

import numpy as np
import pytest
import test_scene_records

from hdr_tf.image import files, processes
from tools import fuse, make_tfrecord

pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'hdr_tf[beam]'")
from hdr_tf import beam

OPTIONS = "--runner=DirectRunner"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_errors_come_after_the_results(tmp_path):
    cluster, found = beam.Cluster(OPTIONS, tmp_path / "out"), []
    with pytest.raises(ValueError, match="four is no number"):
        found.extend(processes.in_processes(divmod, [(7, 2), (9, 4)], cluster))
        for result in processes.in_processes(_number, [("3",), ("four",), ("5",)], cluster):
            found.append(result)
    assert sorted(found[:2]) == [(2, 1), (3, 1)] and sorted(found[2:]) == [3, 5]
    assert not list(tmp_path.iterdir())


def _number(text):
    if text == "four":
        raise ValueError("four is no number")
    return int(text)


@pytest.mark.slow
def test_brackets(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for bracket in ("bad", "church", "night"):
        (tmp_path / "in" / bracket).mkdir(parents=True)
        for name, level in (("a.png", 60), ("b.png", 250)):
            files.write_picture(tmp_path / "in" / bracket / name, rng.integers(0, level, (16, 20, 3), np.uint8))
    (tmp_path / "in/bad/a.png").write_bytes(b"no picture")
    runs = {}
    for name, options in (("beam", OPTIONS), ("here", None)):
        output = tmp_path / name
        assert fuse.main(fuse.Config(brackets=str(tmp_path / "in"), output=str(output), beam=options)) == 1
        told = capsys.readouterr()
        assert told.out.splitlines()[-1] == f"2 of 3 brackets fused into {output}"
        assert "error: bad: " in told.err and "a.png: expected" in told.err
        runs[name] = contents(output)
    del runs["here"][pathlib.Path("summary.json")]
    assert runs["beam"] == runs["here"] and len(runs["here"]) == 2
    with pytest.raises(ValueError, match="--beam goes with --brackets"):
        fuse.main(fuse.Config(["a.png", "b.png"], str(tmp_path / "fused.png"), beam=OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kalantari", "esbn_merge"])
def test_records(kind, tmp_path):
    for number in range(3):
        test_scene_records.made_scene(tmp_path / "scenes", number, (40, 48))
    flags = {"kind": kind, "scenes": str(tmp_path / "scenes"), "patch": 32, "count": 3, "shards": 2, "workers": 1}
    for name, options in (("beam", OPTIONS), ("here", "")):
        make_tfrecord.main(make_tfrecord.Config(**flags, output=str(tmp_path / name), beam=options))
    assert contents(tmp_path / "beam") == contents(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam", "here", "scenes"]
