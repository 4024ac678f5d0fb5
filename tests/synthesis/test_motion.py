"""Motion beyond rigid pieces: every kind shows, leaves the reference alone, and depends on the seed alone."""

import dataclasses

import numpy as np
import pytest

from hdr_tf.image import tone
from hdr_tf.io import image_files
from hdr_tf.synthesis import compose, motion, scenes, sources, writer
from tests import helpers
from tools import make_scenes

SIZE = (96, 128)


@pytest.fixture(scope="module")
def hdr_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hdr")
    for seed, (name, size) in enumerate({"street.exr": (150, 170), "room.exr": (128, 256)}.items()):
        values = np.exp2(np.random.default_rng(seed).uniform(-4, 4, (size[0] // 8 + 1, size[1] // 8 + 1, 3)))
        image_files.write_radiance(folder / name, np.kron(values, np.ones((8, 8, 1)))[: size[0], : size[1]].astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def maker(hdr_dir):
    images = tuple(sources.radiance_files([hdr_dir])[0])
    return scenes.SceneMaker(images, SIZE, 3, full_well=np.inf, read_noise=0, exposures=(4, 4), motion="varied")


def only(monkeypatch, *kinds):
    monkeypatch.setattr(motion, "CHANCES", {kind: float(kind in kinds) for kind in motion.CHANCES})


def test_without_a_kind_the_scene_is_the_rigid_one(maker, monkeypatch):
    only(monkeypatch)
    rigid, varied = dataclasses.replace(maker, motion="rigid")(0), maker(0)
    assert varied[3] == rigid[3] | {"motion": []}
    for expected, actual in zip(rigid[:3], varied[:3], strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("kind", motion.CHANCES)
def test_every_kind_changes_the_exposures_beside_the_reference(kind, maker, monkeypatch):
    only(monkeypatch, kind)
    still = dataclasses.replace(maker, static=True)
    for index in range(3):
        ldr, stops, hdr, facts = maker(index)
        assert facts["motion"] == [kind] and facts["reference"] == 1
        assert ldr.shape == (4, *SIZE, 3) and ldr.dtype == np.uint16
        assert np.isfinite(hdr).all() and hdr.min() >= 0 and hdr.max() <= 1
        shown = [np.rint(tone.to_exposure(hdr, 2**stop) * 65535) for stop in stops]
        assert abs(ldr[1] - shown[1]).max() <= 1
        rigid = dataclasses.replace(maker, motion="rigid")(index)[0]
        # Blur begins with the exposures after the reference.
        assert [(ldr[number] != rigid[number]).any() for number in (0, 2, 3)][kind == "blur" :].count(True) >= 2
        pixels, _, truth, _ = still(index)  # where nothing moves: the same truth, and every exposure shows it
        np.testing.assert_array_equal(truth, hdr)
        assert abs(pixels - np.array(shown)).max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (17, 90)])
def test_all_kinds_at_once_fit_into_small_scenes(size, maker, monkeypatch):
    only(monkeypatch, *motion.CHANCES)
    for index in range(5):
        ldr, _, hdr, facts = dataclasses.replace(maker, size=size, exposures=(2, 9), shift=0.04, rotation=3, piece_shift=0.15)(
            index
        )
        assert facts["motion"] == list(motion.CHANCES)
        assert ldr.shape[1:3] == size and np.isfinite(hdr).all() and hdr.any()


def test_the_same_arguments_give_the_same_scene(maker):
    first, again, other = maker(5), maker(5), dataclasses.replace(maker, seed=4)(5)
    for expected, actual in zip(first[:3], again[:3], strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert first[3] == again[3] and (other[0] != first[0]).any()


def test_every_kind_is_drawn_now_and_then():
    canvas, poses = (np.ones((9, 9, 3), np.float32), np.eye(3)), [[np.eye(3)]] * 2
    streams = map(np.random.default_rng, range(40))
    drawn = [motion.Variation([canvas], poses, (0, 2), (9, 9), (1, 1), white, stream) for stream in streams]
    for kind, chance in motion.CHANCES.items():
        # 40 draws: four standard deviations are 0.32.
        assert abs(np.mean([kind in variation.kinds for variation in drawn]) - chance) < 0.32


def white(size, rng):
    return np.ones((*size, 3), np.float32)


def variation(kind, monkeypatch, seed=0, count=3, size=(120, 160), layers=()):
    only(monkeypatch, kind)
    canvas = np.full((size[0] + 20, size[1] + 20, 3), 0.5, np.float32)
    layers = [(canvas, compose.turn(0, 1, (10, 10), (0, 0))), *layers]
    poses = [[compose.turn(0, 1, (0, 0), (4 * number - 4, 0))] * len(layers) for number in range(count)]
    return motion.Variation(layers, poses, (0, 2, 4)[:count], size, (6, 8), white, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["people", "thin", "parallax"])
def test_no_hole_opens(kind, monkeypatch):
    for seed in range(5):
        scene = variation(kind, monkeypatch, seed)
        for number in range(3):
            frame = scene.frame(number)
            assert frame.shape == (120, 160, 3) and frame.dtype == np.float32
            assert frame.min() > 0.005 and frame.max() < 5  # what is added is lit as the canvas is, within limits


def test_a_nearer_layer_shifts_more_than_the_canvas(monkeypatch):
    scene = variation("parallax", monkeypatch)
    shifts = scene._poses[2, :, 0, 2] - scene._poses[1, :, 0, 2]
    assert (np.diff(shifts) > 0).all() and shifts[0] == 4 and shifts[-1] <= 4 * (1 + motion.DEPTH)


def test_a_longer_exposure_is_blurred_along_its_way(monkeypatch):
    """An edge that moves by 4 pixels between exposures becomes a slope in the last."""
    piece = np.ones((60, 60, 4), np.float32)
    scene = variation("blur", monkeypatch, layers=[(piece, compose.turn(0, 1, (0, 0), (50, 30)))])
    rows = [scene.frame(number)[60, 40:120, 0] for number in range(3)]
    between = [np.count_nonzero((row > 0.51) & (row < 0.99)) for row in rows]
    assert between[0] == between[1] == 0 < between[2]


def test_flicker_is_small_and_leaves_the_reference(monkeypatch):
    changes = []
    for seed in range(20):
        scene = variation("flicker", monkeypatch, seed)
        frames = [scene.frame(number) for number in range(3)]
        assert (frames[1] == 0.5).all()
        changes.append([abs(np.median(frame) / 0.5 - 1) for frame in frames])
        assert max(abs(frame / 0.5 - 1).max() for frame in frames) < (1 + motion.LAMP_FLICKER) * (1 + motion.GLOBAL_FLICKER) - 1
    assert 0.01 < np.max(changes) < 0.1


def test_limbs_swing(monkeypatch):
    """The parts of a figure turn against each other, and joints hold: a lower leg begins where the upper one ends."""
    rng = np.random.default_rng(2)
    parts, walk = motion._figure(100.0, white((100, 100), rng), 3, rng)
    assert len(parts) == len(walk) == 11
    turns = np.degrees([[np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in matrices] for matrices in walk])
    assert np.ptp(turns, axis=1).max() > 5 and np.ptp(turns[4:7], axis=1).max() == 0  # trunk, neck and head do not
    upper, lower = walk[2], walk[3]
    for first, second in zip(upper, lower, strict=True):
        pivots = [np.array([(part.shape[1] - 1) / 2, 0, 1]) for part in (parts[2], parts[3])]
        knees = [(matrix @ (pivot + [0, down, 0]))[:2] for matrix, pivot, down in zip(
            (first, second), pivots, (24 + _reach(parts[2], 24), _reach(parts[3], 24)), strict=True)]  # fmt: skip
        np.testing.assert_allclose(*knees, atol=1)


def _reach(part, length):
    return (part.shape[0] - length) / 2


def test_processes_do_not_matter_and_the_tool_takes_the_flag(hdr_dir, tmp_path):
    settings = {"hdr_dirs": [hdr_dir], "count": 3, "size": (48, 64), "exposures": (2, 5), "motion": "varied"}
    for name, num_processes in (("one", 1), ("two", 2)):
        manifest, _ = writer.write_scenes(tmp_path / name, num_processes=num_processes, **settings)
    assert helpers.contents(tmp_path / "one") == helpers.contents(tmp_path / "two")
    assert manifest["arguments"]["motion"] == "varied"
    assert all(set(facts["motion"]) <= set(motion.CHANCES) for facts in manifest["scenes"].values())
    flags = {"hdr_dir": str(hdr_dir), "count": 3, "height": 48, "width": 64, "exposures": "2,5", "num_processes": 1}
    make_scenes.main(make_scenes.Config(output=str(tmp_path / "tool"), motion="varied", **flags))
    assert helpers.contents(tmp_path / "tool") == helpers.contents(tmp_path / "one")
    with pytest.raises(ValueError, match=helpers.mentions("rigid varied fast")):
        writer.write_scenes(tmp_path / "other", **settings | {"motion": "fast"})
