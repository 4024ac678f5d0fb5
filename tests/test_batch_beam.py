"""Brackets and records by Apache Beam's direct runner: what processes of one machine make of them."""

import pathlib

import pytest

from hdr_tf import parallel
from tools import fuse, make_tfrecord

pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'hdr_tf[beam]'")
from hdr_tf import batch_beam
from tests import helpers

OPTIONS = "--runner=DirectRunner"


@pytest.mark.slow
def test_errors_come_after_the_results(tmp_path):
    cluster, found = batch_beam.Cluster(OPTIONS, tmp_path / "out"), []
    with pytest.raises(ValueError, match="four is no number"):
        found.extend(parallel.in_processes(divmod, [(7, 2), (9, 4)], cluster))
        for result in parallel.in_processes(_number, [("3",), ("four",), ("5",)], cluster):
            found.append(result)
    assert sorted(found[:2]) == [(2, 1), (3, 1)] and sorted(found[2:]) == [3, 5]
    assert not list(tmp_path.iterdir())


def _number(text):
    if text == "four":
        raise ValueError("four is no number")
    return int(text)


@pytest.mark.slow
def test_brackets(tmp_path, capsys):
    helpers.write_noise_brackets(tmp_path / "in", ("bad", "church", "night"))
    (tmp_path / "in/bad/a.png").write_bytes(b"no image")
    runs = {}
    for name, options in (("beam", OPTIONS), ("here", None)):
        output = tmp_path / name
        assert fuse.main(fuse.Config(brackets=str(tmp_path / "in"), output=str(output), beam=options)) == 1
        message = capsys.readouterr()
        assert helpers.mentioned(f"2 3 {output}", message.out.splitlines()[-1])
        assert "error: bad: " in message.err and helpers.mentioned("bad a.png", message.err)
        runs[name] = helpers.contents(output)
    del runs["here"][pathlib.Path("summary.json")]
    assert runs["beam"] == runs["here"] and len(runs["here"]) == 2
    with pytest.raises(ValueError, match=helpers.mentions("--beam --brackets")):
        fuse.main(fuse.Config(["a.png", "b.png"], str(tmp_path / "fused.png"), beam=OPTIONS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kalantari", "esbn_merge"])
def test_records(kind, tmp_path):
    for number in range(3):
        helpers.write_noise_scene(tmp_path / "scenes", number, (40, 48))
    flags = {"kind": kind, "scenes": str(tmp_path / "scenes"), "patch": 32, "count": 3, "shards": 2, "num_processes": 1}
    for name, options in (("beam", OPTIONS), ("here", "")):
        make_tfrecord.main(make_tfrecord.Config(**flags, output=str(tmp_path / name), beam=options))
    assert helpers.contents(tmp_path / "beam") == helpers.contents(tmp_path / "here")
    assert helpers.names(tmp_path) == {"beam", "here", "scenes"}
