"""Manifests: what is finished is kept, what another run or program wrote is refused, and a failure leaves a whole file."""

import json

import pytest

from hdr_tf.io import manifest
from tests import helpers

PLAN = {"note": "a", "count": 2, "size": (3, 4), "arguments": {"seed": 1, "static": False}}


def begin(path, plan=PLAN, finished=lambda name, facts: facts["size"] > 0):
    return manifest.Manifest(path, "scenes", plan, finished, ignored={"note"})


def test_finished_entries_are_kept_and_sorted(tmp_path):
    path = tmp_path / "new" / "manifest.json"
    begun = begin(path)
    for name, size in (("b", 2), ("a", 1), ("c", 0)):
        begun.add(name, {"size": size})
    assert list(json.loads(path.read_text())) == [*PLAN, "scenes"]
    assert list(json.loads(path.read_text())["scenes"]) == ["a", "b", "c"]
    again = begin(path, PLAN | {"note": "b"})
    assert again.entries == {"a": {"size": 1}, "b": {"size": 2}}
    assert json.loads(path.read_text()) == again.content == PLAN | {"note": "b", "size": [3, 4], "scenes": again.entries}


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"count": 3}, "count"), ({"arguments": {"seed": 2, "full_well": 1}}, "full_well seed static"), ({"more": 1}, "more")],
)
def test_another_plan_is_refused_by_what_differs(tmp_path, changed, named):
    path = tmp_path / "manifest.json"
    begin(path).add("a", {"size": 1})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=helpers.mentions(f"{path} {named}")):
        begin(path, PLAN | changed)
    assert path.read_bytes() == before


@pytest.mark.parametrize("scenes", ["1", "[]", '{"a": {}}', '{"a": 1}', "null"])
def test_other_entries_are_refused(tmp_path, scenes):
    path = tmp_path / "manifest.json"
    path.write_text(f'{json.dumps(PLAN)[:-1]}, "scenes": {scenes}}}')
    with pytest.raises(ValueError, match=helpers.mentions(str(path))):
        begin(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"a": '])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=helpers.mentions(str(tmp_path / "a.json"))):
        manifest.read(tmp_path / "a.json")
    assert manifest.read(tmp_path / "b.json") is None


def test_a_failure_leaves_the_file_as_it_was(tmp_path):
    begun = begin(tmp_path / "manifest.json")
    begun.add("a", {"size": 1})
    with pytest.raises(TypeError):
        begun.add("b", {"size": object()})
    assert begin(tmp_path / "manifest.json").entries == {"a": {"size": 1}}
    assert helpers.names(tmp_path) == {"manifest.json"}
