"""Former findings of tests/fuzz.py, and that it finds."""

import pathlib
import random

import pytest

from tests import fuzz

FOUND = sorted(path for path in fuzz.CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", sorted({path.parent.name for path in FOUND}))
def test_former_findings(name, tmp_path):
    (tmp_path / "seeds").mkdir()
    target = fuzz.TARGETS[name](tmp_path / "seeds")
    for path in FOUND:
        if path.parent.name == name:
            copy = tmp_path / path.name
            copy.write_bytes(path.read_bytes())
            assert fuzz.problem(target, copy) is None


@pytest.mark.parametrize("name", ["images", "codecs", "checkpoint", "weights", "manifest"])
def test_some_mutated_files(name, tmp_path):
    (tmp_path / "seeds").mkdir()
    target, rng = fuzz.TARGETS[name](tmp_path / "seeds"), random.Random(0)
    for seed_name, contents in target.seeds.items():
        for number in range(3):
            path = tmp_path / f"{name}_{number}{pathlib.Path(seed_name).suffix}"
            path.write_bytes(contents if number == 0 else fuzz.mutated(contents, list(target.seeds.values()), rng))
            assert fuzz.problem(target, path) is None, (seed_name, number)


def _raises(error):
    def read(path):
        raise error(f"{path}: no")

    return read


def _nameless(path):
    raise ValueError("no")


@pytest.mark.parametrize(
    ("read", "found"), [(_raises(ValueError), False), (_raises(OSError), False), (_raises(KeyError), True), (_nameless, True)]
)
def test_what_a_finding_is(read, found, tmp_path):
    (tmp_path / "a.bin").touch()
    assert (fuzz.problem(fuzz.Target({}, read), tmp_path / "a.bin") is not None) == found


def test_the_same_seed_gives_the_same_files():
    data = [bytes(range(256)), b"other" * 50]
    first, second = ([fuzz.mutated(data[0], data, random.Random(n)) for n in range(200)] for _ in range(2))
    assert first == second and len(set(first)) > 190
