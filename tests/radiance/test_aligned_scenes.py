"""Scenes aligned by optical flow, with their colour label: the library and tools/align_scenes.py."""

import json
import shutil

import numpy as np
import pytest

from hdr_tf.image import hdr_merge, optical_flow
from hdr_tf.io import image_files, scenes
from hdr_tf.radiance import aligned_scenes
from tests import helpers
from tools import align_scenes

STOPS = (0, 2, 4)
SIZE = (37, 50)


def photographs(dtype=np.uint16, moved=(0, 0)):
    """Three exposures of blocks over eight stops, the short one moved."""
    blocks = 0.9 * 2 ** np.random.default_rng(0).uniform(-8, 0, (7, 9, 3))
    radiance = np.kron(blocks, np.ones((6, 6, 1)))[: SIZE[0], : SIZE[1]]
    views = [np.roll(radiance, moved, (0, 1)), radiance, radiance]
    return helpers.expose(views, STOPS, dtype), np.float32(radiance)


@pytest.fixture
def source(tmp_path):
    """A still scene of 16 bit with a truth that is not the label, a moved one of 8 bit, a bracket of four, and two bad ones."""
    folder = tmp_path / "scenes"
    ldr, radiance = photographs()
    scenes.write_scene(folder / "001", ldr, STOPS, radiance / 2)
    scenes.write_scene(folder / "002", photographs(np.uint8, (2, -3))[0], STOPS)
    (folder / "bracket").mkdir()
    for number, pixels in enumerate([*ldr, ldr[2]]):
        image_files.write_image(folder / "bracket" / f"{number}.tif", pixels)
    (folder / "bracket" / "exposures.txt").write_text("-9\n-2\n0\n2\n")
    scenes.write_scene(folder / "003", ldr, STOPS)
    (folder / "003" / "exposure.txt").write_text("0\nx\n4\n")
    (folder / "004").mkdir()
    return folder


def run(source, output, num_processes=1, **flags):
    return align_scenes.main(align_scenes.Config(str(source), str(output), num_processes=num_processes, **flags))


def test_the_tool(source, tmp_path, capsys):
    output = tmp_path / "aligned"
    assert run(source, output) == 1
    message = capsys.readouterr()
    assert helpers.mentioned(f"3 5 {output}", message.out) and message.out.count("\n") == 1
    lines = message.err.splitlines()
    assert len(lines) == 2 and all(line.startswith("error: ") for line in lines)
    assert helpers.mentioned("004 exposure.txt", lines[0]) and helpers.mentioned("003 0 x 4", lines[1])
    assert helpers.names(output) == {"001", "002", "manifest.json", "bracket"}

    still, (ldr, radiance) = scenes.read_scene(output / "001"), photographs()
    np.testing.assert_array_equal(still.ldr, ldr)
    np.testing.assert_array_equal(still.stops, STOPS)
    # RGBE: eight bits with the exponent of the largest channel. Nothing is left of the scene's own, which is half of that.
    assert (abs(still.hdr - radiance) <= radiance.max(axis=2, keepdims=True) / 100).all()

    moved, before = scenes.read_scene(output / "002"), photographs(np.uint8, (2, -3))[0]
    assert moved.ldr.dtype == np.uint16
    np.testing.assert_array_equal(moved.ldr[1], before[1] * np.uint16(257))
    images, confidence, _ = optical_flow.confident_flow(before / np.float32(255), moved.exposures)
    np.testing.assert_array_equal(moved.ldr, np.rint(65535 * images))
    label = hdr_merge.syn_hdr(images, moved.exposures)
    assert (abs(moved.hdr - label) <= label.max(axis=2, keepdims=True) / 128).all()

    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["arguments"] == {"method": "flow", "scenes": str(source)} and "not the true radiance" in manifest["note"]
    assert list(manifest["scenes"]) == ["001", "002", "bracket"]
    assert manifest["scenes"]["001"] == {"stops": [0, 2, 4], "reference": [0, 0, 0], "notes": []}
    assert manifest["scenes"]["002"]["reference"][0] == round(float(1 - confidence[0].mean()), 4) > 0


def test_started_again_it_goes_on(source, tmp_path, caplog):
    """What is there stays; half a scene, a scene that the manifest does not list and a mended one are done. Processes."""
    output = tmp_path / "aligned"
    run(source, output)
    whole = helpers.contents(output)
    kept = (output / "001" / "1.tif").stat().st_mtime_ns
    for name in ("002", "bracket"):
        (output / name / "3.tif").unlink()
    shutil.rmtree(output / "002")
    manifest = json.loads((output / "manifest.json").read_text())
    del manifest["scenes"]["bracket"]
    (output / "manifest.json").write_text(json.dumps(manifest))
    (source / "003" / "exposure.txt").write_text("0\n2\n4\n")
    shutil.copy(source / "003" / "3.tif", source / "003" / "4.tif")
    assert dict(aligned_scenes.align_by_flow(scenes.list_scenes(source)[0], output, 2)) == {
        output / name: None for name in ("001", "002", "003", "bracket")
    }
    (message,) = caplog.messages
    assert helpers.mentioned(f"{source / '003'} 4 .tif", message)
    again = helpers.contents(output)
    assert again.keys() == whole.keys() | {path.relative_to(output) for path in (output / "003").iterdir()}
    assert all(again[path] == values for path, values in whole.items() if path.name != "manifest.json")
    assert (output / "001" / "1.tif").stat().st_mtime_ns == kept


def test_a_full_disk_leaves_nothing_half_written(source, tmp_path, monkeypatch, capsys):
    def full(path, values):
        raise OSError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(image_files, "write_radiance", full)
    assert run(source, tmp_path / "aligned") == 1
    assert capsys.readouterr().err.count("No space left on device") == 3
    assert helpers.names(tmp_path / "aligned") == {"manifest.json"}


def test_a_scene_that_cannot_be_followed_is_told(tmp_path, warnings):
    scenes.write_scene(tmp_path / "scenes" / "white", np.full((3, 20, 30, 3), 65535, np.uint16), STOPS)
    assert run(tmp_path / "scenes", tmp_path / "aligned") == 0
    assert len(warnings) == 2 and helpers.mentioned("white 1 3", warnings[0])
    np.testing.assert_array_equal(scenes.read_scene(tmp_path / "aligned" / "white").hdr, 1)


def test_what_does_not_go_together_is_refused(source, tmp_path):
    for flags, message in (
        ({"weights": "folder"}, "--weights --method=esbn"),
        ({"method": "esbn", "num_processes": 2}, "--num_processes --method=flow"),
    ):
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            run(source, tmp_path / "aligned", **flags)
    for output in (source, source / "aligned"):
        with pytest.raises(ValueError, match=helpers.mentions(f"{output} scenes")):
            run(source, output)
    scenes.write_scene(tmp_path / "others" / "001", photographs()[0], STOPS)
    with pytest.raises(ValueError, match=helpers.mentions("001 manifest.json")):
        run(source, tmp_path / "others")
    assert not (tmp_path / "aligned").exists() and len(helpers.contents(tmp_path / "others")) == 4
    other = tmp_path / "other_scenes"
    scenes.write_scene(other / "001", photographs()[0], STOPS)
    run(other, tmp_path / "aligned")
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json scenes")):
        run(source, tmp_path / "aligned")
