"""The tutorials run from their first cell to the last."""

import os
import pathlib
import re
import sys

import numpy as np
import pytest

import hdr_tf
from hdr_tf.io import image_files
from tests import helpers

TUTORIALS = helpers.ROOT / "docs" / "tutorials"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which the commands and the training scripts are found and training is short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(helpers.ROOT))
    monkeypatch.setenv("STEPS", "2")
    (tmp_path / "train").symlink_to(helpers.ROOT / "train")
    return tmp_path


def cells(name):
    """The code of each cell."""
    parts = re.split(r"^# %%(.*)\n", (TUTORIALS / f"{name}.py").read_text(), flags=re.MULTILINE)
    return [code for kind, code in zip(parts[1::2], parts[2::2], strict=True) if "markdown" not in kind]


def run(codes, names=None):
    """Runs cells, with names of earlier ones; returns all names."""
    names = {} if names is None else names
    for code in codes:
        exec(compile(code, "tutorial", "exec"), names)
    return names


@pytest.mark.slow
def test_photographer(folder, capsys):
    run(cells("photographer"))
    assert {"garage.png", "garage.exr", "garage_preview.png", "garage.jpg"} <= helpers.names(folder)
    assert re.search(r"741 x 500 pixels, of which \d+%", capsys.readouterr().out)


@pytest.mark.slow
def test_researcher(folder):
    run(cells("researcher"))
    card = (folder / "runs" / "pyramid" / "pyramid.md").read_text()
    assert "--steps=2" in card and len(re.findall(r"\| 0\.\d{4} \|", card)) == 3


@pytest.mark.slow
def test_engineer(folder, capsys):
    stand_in_server = pytest.importorskip("tests.stand_in_server", reason="needs the extra `serve`")
    first, export, *rest = cells("engineer")  # the server starts in between
    names = run([first, export])
    with stand_in_server.serving(folder / "exported") as (address, _):
        run(rest, names | {"SERVER": address})
    served = image_files.read_image(folder / "served.png").pixels
    expected = hdr_tf.fuse([folder / f"garage_exposure_{number}.png" for number in (1, 3)])
    assert np.abs(served - expected.astype(int)).max() <= 1
    printed = capsys.readouterr().out
    assert helpers.mentioned("INVALID_ARGUMENT exposure_2", printed) and "requests/s" in printed
