"""Photographs become brackets by what EXIF says of the whole sequence, and no frame is lost in silence."""

import itertools
import json
import pathlib
import time

import numpy as np
import PIL.Image
import pytest
from PIL.TiffImagePlugin import IFDRational

from hdr_tf import batch
from hdr_tf.fusion import pipeline
from hdr_tf.io import brackets, grouping, image_files
from hdr_tf.radiance import light
from tests import helpers
from tools import fuse, merge


def cut(stops, frames=None, every=1.0, bracketing=(), biases=()):
    """How a sequence of exposures is cut: the brackets, the incomplete ones and the rest, in stops."""
    said = itertools.zip_longest(bracketing, biases, stops)
    captures = [
        image_files.Capture(pathlib.Path(f"{i:02}.jpg"), i * every, 0.01, 2.0**stop, (None,) * 3, None, mode, bias)
        for i, (mode, bias, stop) in enumerate(said)
    ]
    groups = grouping.group(captures, frames)
    named = [[[stops[int(c.path.stem)] for c in group] for group in part] for part in groups[:2]]
    return *named, [stops[int(capture.path.stem)] for capture in groups.alone]


THREE = [0, -2, 2]


@pytest.mark.parametrize(
    ("stops", "found", "alone"),
    [
        (THREE * 3, [THREE] * 3, []),
        ([-6, -6, -4, -2, 0, 2, 4], [[-6, -6, -4, -2, 0, 2, 4]], []),
        ([-3, -1.5, -1.5, 0, 1, 2, 3], [[-3, -1.5, -1.5, 0, 1, 2, 3]], []),
        ([0, -1, 1, -2, 2, -3, 3] * 2, [[0, -1, 1, -2, 2, -3, 3]] * 2, []),
        ([-5, -3, -1, 1, 3, 5], [[-5, -3, -1, 1, 3, 5]], []),
        ([0, -2, 0, -2], [[0, -2]] * 2, []),
        ([0, -2, 2, 0.3, -1.7, 2.3], [THREE, [0.3, -1.7, 2.3]], []),  # automatic exposure, another light
        ([*THREE, 0], [THREE], [0]),
        ([*THREE, 0, 0, 0, 0], [THREE], [0] * 4),
        ([0, 0, 0, 0, 0, 0, -2, 2], [THREE], [0] * 5),
        ([1.3, *THREE * 3, 0.7], [THREE] * 3, [1.3, 0.7]),
        ([*THREE * 2, 0, *THREE], [THREE] * 3, [0]),
        ([0] * 40, [], [0] * 40),
        ([0, 0.1, 0.2, 0.3, 0.4, 0.2], [], [0, 0.1, 0.2, 0.3, 0.4, 0.2]),  # a burst in changing light
    ],
)
def test_sequences(stops, found, alone):
    assert cut(stops) == (found, [], alone)


def test_a_long_sequence_without_a_pause():
    brackets = [[stop + shift for stop in THREE] for shift in np.linspace(0, 3, 100).tolist()]
    assert cut(sum(brackets, [])) == (brackets, [], [])


@pytest.mark.slow
def test_time_grows_with_the_number_of_photographs():
    stops = np.random.default_rng(0).uniform(-8, 8, 2400).tolist()
    times = []
    for count in (600, 2400):
        begin = time.process_time()
        assert cut(stops[:count])[0]
        times.append(time.process_time() - begin)
    assert times[1] < 8 * times[0]


def test_the_camera_knows_what_it_brackets():
    assert cut([*THREE, 0.7], bracketing=[True] * 3 + [False]) == ([THREE], [], [0.7])
    assert cut(THREE, bracketing=[False, True, True]) == ([THREE], [], [])


def test_the_camera_knows_how_far_it_is_off():
    light = np.random.default_rng(0).uniform(-3, 3, 20).tolist()
    brackets = [[stop + shift for stop in THREE] for shift in light]
    assert cut(sum(brackets, []), biases=THREE * 20) == (brackets, [], [])
    assert cut([-6, -6, -6, -4, -2], biases=[-10, -8, -6, -4, -2]) == ([[-6, -6, -6, -4, -2]], [], [])
    # Exposed by hand, where nothing is set off; and a single photograph whose bias was set.
    assert cut([*THREE * 2, 1], biases=[0] * 6 + [1]) == ([THREE] * 2, [], [1])


def test_the_number_of_frames_can_be_given():
    assert cut([0, -2, 2, 4] * 2, frames=4, every=15) == ([[0, -2, 2, 4]] * 2, [], [])
    assert cut([*THREE * 2, 0, 2], frames=3) == ([THREE] * 2, [[0, 2]], [])


def shot(path, stop, moment, camera="A", size=(16, 12), orientation=1, **tags):
    """Writes a JPEG of some exposure, `moment` minutes and seconds after noon."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PIL.Image.Exif()
    exif[272], exif[274] = camera, orientation
    details = exif.get_ifd(0x8769)
    details[33437], details[34855], details[36867] = 8, 100, f"2026:11:01 12:{moment}"
    if stop is not None:
        details[33434] = 2.0 ** (stop - 6)
    details.update({int(tag[1:]): value for tag, value in tags.items()})
    pixels = np.random.default_rng(1).integers(8, 60, (size[1], size[0], 3)) * 2.0 ** ((stop or 0) / 2.2)
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95, exif=exif)
    return path


def bracket(folder, name="P", minute=0, **options):
    return [shot(folder / f"{name}{i}.jpg", stop, f"{minute:02}:{i:02}", **options) for i, stop in enumerate(THREE)]


def listed(folder, **options):
    """{name: files} of the brackets in a folder."""
    found = brackets.list_brackets(folder, **options)
    return {
        bracket.name: [path.name for path in getattr(bracket, "paths", None) or image_files.list_images(bracket)]
        for bracket in found
    }


def test_a_folder_of_day_folders(tmp_path, caplog):
    for day in ("day0", "day1"):
        for minute in range(3):
            bracket(tmp_path / day, f"P{minute}", minute)
    with caplog.at_level("INFO", logger="absl"):
        found = listed(tmp_path)
    names = ["P0", "P1", "P2"]
    assert found == {f"{day}_{name}0": [f"{name}{i}.jpg" for i in range(3)] for day in ("day0", "day1") for name in names}
    assert helpers.mentioned("day1 3", caplog.text)
    # Nothing collides, not even with a folder that has the name of such a bracket.
    bracket(tmp_path / "day0_P00")
    (tmp_path / "day0_P00" / "P2.jpg").unlink()
    jobs = batch.bracket_jobs(brackets.list_brackets(tmp_path), tmp_path.parent / "out", ".png", 2)
    assert len({job.output for job in jobs}) == 7
    assert sorted(len(job.inputs()) for job in jobs) == [2, *[3] * 6]
    with pytest.raises(ValueError, match=helpers.mentions(str(tmp_path))):
        batch.bracket_jobs(brackets.list_brackets(tmp_path), tmp_path, ".png", 2)


def test_one_bracket_in_a_folder_stays_one(tmp_path):
    for i, stop in enumerate((4, 2, 0, -2, -4)):  # exposed by hand, with long pauses
        shot(tmp_path / "slow" / f"{i}.jpg", stop, f"{i:02}:00")
    for i in range(3):  # equal exposures have less noise together
        shot(tmp_path / "equal" / f"{i}.jpg", i // 2, f"00:0{i}")
    assert {name: len(files) for name, files in listed(tmp_path).items()} == {"slow": 5, "equal": 3}


@pytest.mark.parametrize("folder", ["", "both"])
def test_two_cameras_in_turn(tmp_path, folder):
    for camera in "AB":
        bracket(tmp_path / folder, camera, camera=camera)
    prefix = folder and f"{folder}_"
    assert listed(tmp_path) == {f"{prefix}{name}0": [f"{name}{i}.jpg" for i in range(3)] for name in "AB"}


def test_two_cameras_of_one_model_differ_by_their_numbers(tmp_path):
    for serial in ("1", "2"):
        bracket(tmp_path, serial, t42033=serial)
    assert list(listed(tmp_path)) == ["10", "20"]


def test_the_exposure_bias_of_exif_counts(tmp_path):
    for i, (stop, bias) in enumerate([(0.0, 0), (-2, -2), (2, 2), (2.6, 0), (0.6, -2), (4.6, 2), (1, 0), (-1, -2), (3, 2)]):
        shot(tmp_path / f"{i}.jpg", stop, f"00:0{i}", t37380=IFDRational(bias, 1))
    assert listed(tmp_path) == {f"{i}": [f"{i + k}.jpg" for k in range(3)] for i in (0, 3, 6)}


@pytest.mark.parametrize("value", [0, IFDRational(0, 1), IFDRational(0, 0)])
def test_a_lens_without_contacts(tmp_path, value):
    bracket(tmp_path, t33437=value, t34855=0)
    assert listed(tmp_path) == {"P0": ["P0.jpg", "P1.jpg", "P2.jpg"]}


@pytest.mark.parametrize("date", ["2026-11-01T12:00:0{}", "2026-11-01 12:00:0{}.5+01:00", "2026:11:01 12:00:0{}"])
def test_dates_stand_elsewhere_or_in_iso_form(tmp_path, date):
    for i, stop in enumerate(THREE):
        path = shot(tmp_path / f"{i}.jpg", stop, "00:00", t36867="0000:00:00 00:00:00")
        with PIL.Image.open(path) as image:
            exif = image.getexif()
            exif[306] = date.format(i)
            image.save(path, exif=exif, quality=95)
    assert len(listed(tmp_path)["0"]) == 3


def run(folder, output, **flags):
    """Fuses the brackets of a folder; returns the exit code and {name: status} in the summary."""
    code = fuse.main(fuse.Config(brackets=str(folder), output=str(output), **flags))
    return code, {entry["name"]: entry["status"] for entry in json.loads((output / batch.SUMMARY).read_text())["brackets"]}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("fault", ["no exposure", "empty", "cut", "garbage", "link"])
@pytest.mark.parametrize("folder", ["", "scene"])
def test_a_bracket_that_lost_a_frame_fails(tmp_path, capsys, fault, number, folder):
    if fault == "no exposure" and folder:
        pytest.skip("the frames of a folder belong together without EXIF, too")
    path = bracket(tmp_path / "in" / folder)[number]
    bracket(tmp_path / "in" / (folder and "other"), "Q", minute=5)
    if fault == "no exposure":
        shot(path, None, f"00:0{number}")
    elif fault == "link":
        path.unlink()
        path.symlink_to(path.name)  # leads in a circle
    else:
        data = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": data[: len(data) * 2 // 3], "garbage": b"\1" * 500}[fault])
    code, statuses = run(tmp_path / "in", tmp_path / "out")
    assert code == 1 and sorted(statuses.values()) == ["failed", "fused"]
    assert helpers.mentioned(path.name, capsys.readouterr().err)
    code, statuses = run(tmp_path / "in", tmp_path / "out", allow_missing=True)
    assert code == 0 and sorted(statuses.values()) == ["fused", "skipped"]


def test_a_photograph_without_an_exposure_belongs_to_a_single_one(tmp_path):
    shot(tmp_path / "A.jpg", 0, "00:00")
    shot(tmp_path / "B.jpg", None, "00:01")
    shot(tmp_path / "late.jpg", None, "30:00")
    (found,), others = grouping.group_files(sorted(tmp_path.iterdir()))
    assert [capture.path.name for capture in found.captures] == ["A.jpg"]
    assert [path.name for path in found.lost] == ["B.jpg"] and helpers.mentioned("B.jpg A.jpg", found.problem)
    assert [path.name for path in others] == ["late.jpg"]


def test_a_photograph_of_another_size_is_lost(tmp_path):
    paths = bracket(tmp_path)
    shot(tmp_path / "P3.jpg", 4, "00:03")
    shot(paths[1], -2, "00:01", size=(32, 24))
    (found,), others = grouping.group_files(sorted(tmp_path.iterdir()))
    assert [capture.path.name for capture in found.captures] == ["P0.jpg", "P2.jpg", "P3.jpg"]
    assert found.lost == [paths[1]] and helpers.mentioned("P1.jpg P0.jpg", found.problem) and not others


@pytest.mark.parametrize("tool", [fuse, merge])
@pytest.mark.parametrize("damaged", [0, 2])
def test_without_a_frame_the_others_are_read_once(tmp_path, monkeypatch, caplog, tool, damaged):
    paths = bracket(tmp_path / "in" / "scene")
    paths[damaged].write_bytes(b"\1" * 500)
    read, tries = image_files.read_image, []
    monkeypatch.setattr(
        image_files, "read_image", lambda path, *rest, **named: tries.append(path) or read(path, *rest, **named)
    )
    named = {"model": "merge_classical", "align": "none", "response": "gamma"} if tool is merge else {}
    config = tool.Config(brackets=str(tmp_path / "in"), output=str(tmp_path / "out"), allow_missing=True, **named)
    assert tool.main(config) == 0
    assert helpers.mentioned(paths[damaged].name, caplog.text)
    assert tries.count(paths[1]) == 1
    (result,) = [
        path for path in (tmp_path / "out").iterdir() if path.suffix in (".png", ".exr") and "preview" not in path.name
    ]
    frames = [path for path in paths if path != paths[damaged]]
    if tool is fuse:
        np.testing.assert_array_equal(read(result).pixels, pipeline.fuse(frames))


def test_the_majority_knows_how_the_camera_was_held(tmp_path, caplog):
    upright = bracket(tmp_path / "a")
    turned = [
        shot(tmp_path / "b" / f"P{i}.jpg", stop, f"00:0{i}", orientation=6 * (i == 2) or 1) for i, stop in enumerate(THREE)
    ]
    expected = pipeline.fuse(upright)
    np.testing.assert_array_equal(pipeline.fuse(turned), expected)
    assert helpers.mentioned("P2.jpg 6 1", caplog.text)
    assert [frame.pixels.shape for frame in light.read(turned)] == [(12, 16, 3)] * 3
    assert listed(tmp_path / "b") == {"P0": ["P0.jpg", "P1.jpg", "P2.jpg"]}
    # Turned by a program, with the pixels: it is right as it is.
    tall = shot(tmp_path / "c.jpg", 1, "00:00", size=(12, 16))
    wide = shot(tmp_path / "d.jpg", -1, "00:00", orientation=6)
    assert pipeline.fuse([tall, wide]).shape == (16, 12, 3)


@pytest.mark.parametrize("copy", [True, False])
def test_the_same_file_twice_is_refused(tmp_path, copy):
    paths = bracket(tmp_path)
    again = tmp_path / "again.jpg"
    if copy:
        again.write_bytes(paths[1].read_bytes())
    else:
        again.symlink_to(paths[1])
    for twice in ([*paths, again], [*paths, paths[1]]):
        for function in (pipeline.fuse, light.read):
            with pytest.raises(ValueError, match=helpers.mentions("P1.jpg")):
                function(twice)


def write_pairs(folder, raws="012", images="012"):
    bracket(folder)
    for i, stop in enumerate(THREE):
        exposed = np.full((16, 24, 3), 0.1 * 2.0 ** (stop - 1))
        path = helpers.write_dng(folder / f"P{i}.dng", exposed, settings=(2.0 ** (stop - 6), 8.0, 100))
        if str(i) not in raws:
            path.unlink()
        if str(i) not in images:
            (folder / f"P{i}.jpg").unlink()


@pytest.mark.parametrize(
    ("raws", "images", "prefer", "found"),
    [
        ("012", "012", "jpeg", "jpg"),
        ("012", "012", "raw", "dng"),
        ("012", "01", "jpeg", "dng"),  # the kind that is complete
        ("02", "012", "raw", "jpg"),
    ],
)
def test_pairs_of_raw_files_and_images(tmp_path, caplog, raws, images, prefer, found):
    write_pairs(tmp_path / "scene", raws, images)
    with caplog.at_level("INFO", logger="absl"):
        assert listed(tmp_path, prefer=prefer) == {"scene": [f"P{i}.{found}" for i in range(3)]}
    assert helpers.mentioned("scene RAW", caplog.text)


def test_a_bracket_of_both_kinds_lacks_some(tmp_path):
    write_pairs(tmp_path / "scene", "12", "01")
    (found,) = brackets.list_brackets(tmp_path)
    assert found.problem.startswith(str(tmp_path / "scene"))
    (found,) = brackets.list_brackets(tmp_path, allow_missing=True)
    assert [path.suffix for path in found.paths] == [".jpg", ".jpg"]


def test_loose_raw_files_are_grouped(tmp_path):
    pytest.importorskip("rawpy")
    for minute in (0, 1):
        for i, stop in enumerate(THREE):
            exposed = np.full((16, 24, 3), 0.1 * 2.0 ** (stop - 1))
            date = f"2026:11:01 12:{minute:02}:0{i}"
            helpers.write_dng(tmp_path / f"R{minute}{i}.dng", exposed, settings=(2.0 ** (stop - 6), 0.0, 100), date=date)
    assert listed(tmp_path) == {f"R{m}0": [f"R{m}{i}.dng" for i in range(3)] for m in (0, 1)}


@pytest.mark.parametrize("tool", [fuse, merge])
def test_a_dry_run_prints_the_brackets(tmp_path, capsys, tool):
    for minute in (0, 1):
        bracket(tmp_path / "day", f"P{minute}", minute)
    bracket(tmp_path, "L")
    assert tool.main(tool.Config(brackets=str(tmp_path), dry_run=True)) == 0
    text = capsys.readouterr().out
    for words in ("day_P00 3 P00.jpg P01.jpg P02.jpg", "day_P10 3 P12.jpg", "L0 L0.jpg L1.jpg L2.jpg"):
        assert helpers.mentioned(words, text)
    (tmp_path / "L1.jpg").write_bytes(b"")
    assert tool.main(tool.Config(brackets=str(tmp_path), dry_run=True)) == 1
    with pytest.raises(ValueError, match=helpers.mentions("--frames --brackets")):
        tool.main(tool.Config(images=["a.jpg", "b.jpg"], output="c.png", frames=3))
    with pytest.raises(ValueError, match=helpers.mentions("frames 1")):
        tool.main(tool.Config(brackets=str(tmp_path), dry_run=True, frames=1))
