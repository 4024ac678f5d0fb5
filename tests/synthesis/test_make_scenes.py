"""Synthetic scenes: what the camera shows is what the truth says, and a set depends on its arguments alone."""

import json
import math
import zlib

import cv2
import numpy as np
import pytest

from hdr_tf.image import tone
from hdr_tf.io import brackets, image_files
from hdr_tf.io import scenes as io_scenes
from hdr_tf.synthesis import camera, compose, scenes, sources, views, writer
from hdr_tf.synthesis.brackets import BracketMaker
from tests import helpers
from tools import make_scenes

SIZE = (48, 72)


def image(height, width, seed=0):
    """Blocks of 4 x 4 pixels over ten stops."""
    blocks = np.exp2(np.random.default_rng(seed).uniform(-5, 5, (height // 4 + 1, width // 4 + 1, 3))).astype(np.float32)
    return np.kron(blocks, np.ones((4, 4, 1), np.float32))[:height, :width]


@pytest.fixture(scope="module")
def hdr_dir(tmp_path_factory):
    """Two photographs, a panorama and a file that is none."""
    folder = tmp_path_factory.mktemp("hdr")
    for seed, (name, size) in enumerate({"street.exr": (61, 67), "lamp.hdr": (40, 90), "room.exr": (64, 128)}.items()):
        image_files.write_radiance(folder / name, image(*size, seed))
    (folder / "broken.exr").write_bytes(b"v/1\x01 and no more")
    return folder


@pytest.fixture(scope="module")
def images(hdr_dir):
    return tuple(sources.radiance_files([hdr_dir])[0])


@pytest.mark.parametrize("source", [(61, 67), (64, 128), (400, 800), (31, 211)], ids=str)
@pytest.mark.parametrize("size", [(16, 16), (37, 53), (211, 97)], ids=str)
def test_a_view_has_the_size_and_the_range_of_its_source(source, size):
    values = image(*source)
    for seed in range(5):
        view, facts = views.view(values, size, np.random.default_rng(seed))
        assert view.shape == (*size, 3) and view.dtype == np.float32
        # Nothing rings; averages are rounded to float32.
        assert values.min() * (1 - 1e-6) <= view.min() and view.max() <= values.max() * (1 + 1e-6)
        assert facts["enlargement"] <= 2
        panorama = source[1] == 2 * source[0]
        # A field of view of 105 degrees, twice enlarged, is as wide as 0.83 of the panorama.
        largest = [source[1] * 4 / (2 * math.pi) * math.tan(math.radians(52.5))] * 2 if panorama else [2 * s for s in source]
        assert facts["tiles"] == [math.ceil(size[0] / largest[0]), math.ceil(size[1] / largest[1])]


def test_a_view_into_a_panorama_is_upright_and_in_perspective(monkeypatch):
    """The sky's brightness tells the latitude: level along the horizon, and that of the pixel's direction elsewhere."""
    monkeypatch.setattr(views, "PITCH", 0)
    latitude = (np.arange(512) + 0.5) / 512 * math.pi - math.pi / 2
    panorama = np.broadcast_to((latitude + 2)[:, None, None], (512, 1024, 3)).astype(np.float32)
    for seed in range(5):
        view = views.view(panorama, (41, 61), np.random.default_rng(seed))[0][..., 0] - 2
        np.testing.assert_allclose(view, view[:, ::-1], atol=1e-5)
        np.testing.assert_allclose(view[20], 0, atol=1e-5)
        focal = 20 / math.tan(view[-1, 30])
        x, y = np.meshgrid(np.arange(-30, 31), np.arange(-20, 21))
        # The panorama is averaged to less than its size first: less than a pixel of it, a hundredth of a radian.
        np.testing.assert_allclose(view, np.arctan2(y, np.hypot(x, focal)), atol=0.01)
        assert 50 <= math.degrees(2 * math.atan(30.5 / focal)) <= 106


def test_a_layer_moves_by_parts_of_a_pixel():
    x, y = np.meshgrid(np.arange(40.0), np.arange(30.0))
    canvas = np.dstack([3 * x + y, x * 0 + 1, y]).astype(np.float32) + 5
    place, pose = compose.turn(0, 1, (8, 6), (0, 0)), compose.turn(0, 1, (0, 0), (1.25, -0.5))
    frame = compose.render([(canvas, place)], [pose], (16, 24))
    # The kernel of eight values is not exact on a slope: a fiftieth of a pixel is allowed.
    expected = canvas[6:22, 8:32] + [3 * -1.25 + 0.5, 0, 0.5]
    np.testing.assert_allclose(frame, expected, atol=3 / 50)


def test_a_lone_lamp_does_not_ring():
    canvas = np.full((30, 30, 3), 0.01, np.float32)
    canvas[10:12, 10:12] = 1e5
    frame = compose.render([(canvas, np.eye(3))], [compose.turn(10, 1, (15, 15), (15.3, 14.6))], (20, 20))
    assert frame.min() >= 0 and frame.max() <= 1e5
    assert np.median(frame) == np.float32(0.01)


def test_a_piece_covers_what_lies_behind():
    canvas = np.ones((120, 90, 3), np.float32)
    alpha = compose.blob((81, 81), np.random.default_rng(0))[..., None]
    piece = np.dstack([7 * alpha] * 3 + [alpha])
    layers = [(canvas, np.eye(3)), (piece, np.eye(3))]
    frame = compose.render(layers, [np.eye(3), compose.turn(0, 1, (0, 0), (25, 9))], (120, 90))  # beyond the right border
    np.testing.assert_allclose(frame[49, 65], 7, rtol=1e-6)  # its middle
    assert (frame[:, :25] == 1).all() and (frame[:9] == 1).all() and (frame[90:] == 1).all()
    assert frame.min() >= 1 - 1e-5 and frame.max() <= 7 + 1e-5
    assert ((frame > 1.1) & (frame < 6.9)).any()  # a soft edge


@pytest.mark.parametrize("seed", range(20))
def test_no_border_comes_into_the_frame(seed):
    size = (200, 300)
    margin = scenes._margin(size, scenes.SHIFT, scenes.ROTATION)
    canvas = np.ones((size[0] + 2 * margin, size[1] + 2 * margin, 3), np.float32)
    layers = [(canvas, compose.turn(0, 1, (margin, margin), (0, 0)))]
    for pose in scenes.SceneMaker((), size)._poses(layers, 3, np.random.default_rng(seed)):
        assert compose.render(layers, pose, size).min() == 1


@pytest.mark.parametrize("static", [False, True])
def test_what_the_exposures_show_is_the_truth(static, images):
    for index in range(6):
        ldr, stops, hdr, facts = scenes.SceneMaker(images, SIZE, 3, static, math.inf, 0)(index)
        assert ldr.shape == (3, *SIZE, 3) and ldr.dtype == np.uint16
        assert hdr.shape == (*SIZE, 3) and hdr.dtype == np.float32 and hdr.min() >= 0 and hdr.max() <= 1
        assert tuple(stops) in scenes.STOPS and list(stops) == facts["stops"]
        shown = [np.rint(tone.to_exposure(hdr, 2**stop) * 65535) for stop in stops]
        differences = [abs(pixels - expected).max() for pixels, expected in zip(ldr, shown, strict=True)]
        assert differences[1] <= 1
        assert (max(differences) <= 1) == static
        # A piece of a night sky apart, the shortest keeps most, and the longest loses more than the others.
        assert facts["clipped"] == sorted(facts["clipped"])
        assert facts["clipped"][0] < 0.25


# Of the images and the radiance of scenes 0, 1 and 2, as they were when every scene had three exposures and rigid pieces, with
# OpenCV 5: OpenCV 4 warps otherwise.
CHECKSUMS = {
    False: [(3207240250, 130547759), (2792193956, 1860535464), (4004668757, 2159264457)],
    True: [(1195028092, 130547759), (3146921720, 1860535464), (3788476030, 2159264457)],
}
MEANS = {
    False: [[16110.57, 29108.04, 44269.64], [18016.3, 31797.0, 45980.92], [11864.87, 29508.04, 50489.24]],
    True: [[15931.77, 29108.04, 43837.95], [18019.27, 31797.0, 46101.74], [11806.38, 29508.04, 50319.03]],
}
ROUNDING = 239692505  # checksum of `rounding` on the processor that computed those


def rounding():
    """Values whose last bits depend on the processor's instructions, as those of the scenes do."""
    return np.exp(
        np.log(cv2.GaussianBlur(compose.warped(image(48, 72), compose.turn(7, 1.1, (20, 20), (22.3, 19.6)), SIZE), (0, 0), 1.5))
    )


def checksum(values):
    return zlib.crc32(np.ascontiguousarray(values))


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason=f"the numbers are of OpenCV 5, not {cv2.__version__}")
@pytest.mark.parametrize("static", [False, True])
def test_scenes_stay_as_they_were(static, images):
    made = [scenes.SceneMaker(images, SIZE, 7, static)(index) for index in range(3)]
    np.testing.assert_allclose([ldr.mean(axis=(1, 2, 3)) for ldr, *_ in made], MEANS[static], atol=0.1)
    if checksum(rounding()) != ROUNDING:
        pytest.skip("the means are the same, but this processor rounds otherwise than that of the checksums")
    assert [(checksum(ldr), checksum(hdr)) for ldr, _, hdr, _ in made] == CHECKSUMS[static]


@pytest.mark.parametrize("count", range(2, 10))
def test_a_scene_has_as_many_exposures_as_asked_for(count, images):
    for index in range(3):
        ldr, stops, hdr, facts = scenes.SceneMaker(images, SIZE, 3, False, math.inf, 0, (count, count))(index)
        assert ldr.shape == (count, *SIZE, 3) and stops.shape == (count,) and hdr.shape == (*SIZE, 3)
        np.testing.assert_allclose(np.diff(stops), stops[1])  # equal steps
        assert stops[0] == 0 and 2 <= stops[-1] <= 12
        assert facts["reference"] == (count - 1) // 2
        shown = [np.rint(tone.to_exposure(hdr, 2**stop) * 65535) for stop in stops]
        differences = [abs(pixels - expected).max() for pixels, expected in zip(ldr, shown, strict=True)]
        # Each has a pose of its own, or lost what moved: the reference alone shows the truth.
        assert np.argmin(differences) == facts["reference"] and sorted(differences)[:2][1] > 1 >= min(differences)


def test_the_number_of_exposures_is_drawn(images):
    maker = scenes.SceneMaker(images, (16, 16), exposures=(2, 5))
    made = [maker(index) for index in range(12)]
    assert {len(ldr) for ldr, *_ in made} == {2, 3, 4, 5}
    # Where three come out, the scene is the one that has three in any case.
    index = next(index for index, (ldr, *_) in enumerate(made) if len(ldr) == 3)
    np.testing.assert_array_equal(made[index][0], scenes.SceneMaker(images, (16, 16))(index)[0])


def test_larger_motion_moves_more_and_shows_no_border(images):
    size = (200, 300)
    margin = scenes._margin(size, 0.04, 3)
    canvas = np.ones((size[0] + 2 * margin, size[1] + 2 * margin, 3), np.float32)
    layers = [
        (canvas, compose.turn(0, 1, (margin, margin), (0, 0))),
        (np.ones((9, 9, 4)), compose.turn(0, 1, (4, 4), (150, 100))),
    ]
    distances = []
    for factor in (1, 3):
        maker = scenes.SceneMaker((), size, shift=factor / 75, rotation=factor, piece_shift=0.05 * factor)
        poses = [pose for seed in range(20) for pose in maker._poses(layers, 9, np.random.default_rng(seed))]
        assert all(compose.render(layers[:1], pose[:1], size).min() == 1 for pose in poses[:: 2 * factor])
        distances.append([math.dist((pose[layer] @ [150, 100, 1])[:2], (150, 100)) for pose in poses for layer in (0, 1)])
    np.testing.assert_allclose(np.mean(distances[1]) / np.mean(distances[0]), 3, rtol=0.15)


def test_motion_and_noise_change_nothing_else(images):
    moving_scene, static, noise_free, other = (
        scenes.SceneMaker(images, SIZE, seed, static, *noise)(4)
        for seed, static, noise in ((1, False, (1e4, 5e-4)), (1, True, (1e4, 5e-4)), (1, False, (math.inf, 0)), (2, False, ()))
    )
    for scene in (static, noise_free):
        np.testing.assert_array_equal(scene[2], moving_scene[2])
    np.testing.assert_array_equal(static[0][1], moving_scene[0][1])  # the reference, noise included
    assert (static[0][0] != moving_scene[0][0]).any() and (noise_free[0][1] != moving_scene[0][1]).any()
    assert (other[2] != moving_scene[2]).any()


def test_noise_has_the_variance_of_photons_and_sensor():
    gray = np.full((200, 200, 3), 0.1, np.float32)
    pixels = camera.photograph(gray, 2, np.random.default_rng(0), full_well=1000, read_noise=0.01)
    linear = tone.to_radiance(np.float32(pixels / 65535), 1)
    # 120,000 samples: the variance is known to 0.4 %, four times that is allowed.
    np.testing.assert_allclose(linear.mean(), 0.2, rtol=1e-3)
    np.testing.assert_allclose(linear.var(), 0.2 / 1000 + 0.01**2, rtol=0.016)
    exact = camera.photograph(gray, 2, np.random.default_rng(0), math.inf, 0)
    np.testing.assert_array_equal(exact, round(0.2 ** (1 / 2.2) * 65535))


def test_the_medium_exposure_is_metered(images):
    """Typical luminance about middle gray, or darker by three stops at the most for the highlights' sake."""
    for index in range(10):
        _, stops, hdr, _ = scenes.SceneMaker(images, SIZE)(index)
        # Clipping has darkened the truth a little; 0.5 stops of random spread, three of which are allowed for.
        gray = np.exp(np.log(np.maximum(hdr.mean(axis=2), 1e-4)).mean()) * 2 ** stops[1]
        assert 0.18 * 2**-5 < gray < 0.18 * 2**1.6


def test_a_set_depends_on_its_arguments_alone(hdr_dir, tmp_path):
    for name, num_processes in (("one", 1), ("two", 2)):
        manifest, unreadable = writer.write_scenes(tmp_path / name, [hdr_dir], 3, SIZE, seed=5, num_processes=num_processes)
        assert len(unreadable) == 1 and "broken.exr" in unreadable[0]
    assert helpers.contents(tmp_path / "one") == helpers.contents(tmp_path / "two")
    assert list(manifest["scenes"]) == ["001", "002", "003"]
    assert manifest["scenes"]["001"].keys() == {
        "source",
        "tiles",
        "enlargement",
        "pieces",
        "stops",
        "reference",
        "scale",
        "clipped",
    }
    assert manifest == json.loads((tmp_path / "one" / "manifest.json").read_text())
    paths, incomplete = io_scenes.list_scenes(tmp_path / "one")
    assert len(paths) == 3 and incomplete == []
    scene = io_scenes.read_scene(paths[0])
    expected = scenes.SceneMaker(tuple(sources.radiance_files([hdr_dir])[0]), SIZE, 5)(0)
    np.testing.assert_array_equal(scene.ldr, expected[0])
    np.testing.assert_array_equal(scene.stops, expected[1])
    assert abs(scene.hdr - expected[2]).max() <= 1 / 128


def test_an_interrupted_run_goes_on(hdr_dir, tmp_path, monkeypatch):
    arguments = {"hdr_dirs": [hdr_dir], "count": 4, "size": SIZE, "num_processes": 1}
    writer.write_scenes(tmp_path / "whole", **arguments)
    write_scene = io_scenes.write_scene

    def fails_at_three(folder, *scene):
        if folder.name == "003":
            raise OSError(f"{folder}: cannot be written: No space left on device")
        write_scene(folder, *scene)

    monkeypatch.setattr(io_scenes, "write_scene", fails_at_three)
    broken = tmp_path / "broken"
    with pytest.raises(OSError, match=helpers.mentions("003")):
        writer.write_scenes(broken, **arguments)
    assert helpers.names(broken) == {"001", "002", "manifest.json"}
    monkeypatch.undo()
    # As a killed process may leave it: a whole scene that the manifest does not list.
    manifest = json.loads((broken / "manifest.json").read_text())
    del manifest["scenes"]["002"]
    (broken / "manifest.json").write_text(json.dumps(manifest))
    kept = (broken / "001" / "1.tif").stat().st_mtime_ns
    writer.write_scenes(broken, **arguments)
    assert helpers.contents(broken) == helpers.contents(tmp_path / "whole")
    assert (broken / "001" / "1.tif").stat().st_mtime_ns == kept


def test_a_larger_count_adds_scenes(hdr_dir, tmp_path):
    for count in (1, 2):
        manifest, _ = writer.write_scenes(tmp_path, [hdr_dir], count, SIZE, num_processes=1)
    assert list(manifest["scenes"]) == ["001", "002"]


def test_a_manifest_lists_new_arguments_only_where_they_are_not_the_default(hdr_dir, tmp_path):
    settings = {"hdr_dirs": [hdr_dir], "count": 1, "size": SIZE, "num_processes": 1}
    defaults = {"exposures": (3, 3), "shift": scenes.SHIFT, "rotation": scenes.ROTATION, "piece_shift": scenes.PIECE_SHIFT}
    manifest, _ = writer.write_scenes(tmp_path / "old", **settings, **defaults)
    assert not defaults.keys() & manifest["arguments"].keys()
    writer.write_scenes(tmp_path / "old", **settings)  # continues
    changed = {"exposures": (2, 5), "shift": 0.04, "rotation": 3, "piece_shift": 0.15}
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json exposures piece_shift rotation shift")):
        writer.write_scenes(tmp_path / "old", **settings, **changed)
    manifest, _ = writer.write_scenes(tmp_path / "new", **settings, **changed)
    assert manifest["arguments"].items() >= {**changed, "exposures": [2, 5]}.items()
    facts = manifest["scenes"]["001"]
    scene = io_scenes.read_scene(tmp_path / "new" / "001", every=True)
    assert scene.stops.tolist() == facts["stops"] and scene.reference == facts["reference"]


def test_only_and_exclude(hdr_dir):
    names = [path.stem for path in sources.radiance_files([hdr_dir], only=["lamp", "room"], exclude=["room"])[0]]
    assert names == ["lamp"]
    with pytest.raises(ValueError, match=helpers.mentions("moon sun")):
        sources.radiance_files([hdr_dir], only=["sun"], exclude=["moon"])


def test_from_one_image_alone(hdr_dir, tmp_path):
    manifest, _ = writer.write_scenes(tmp_path, [hdr_dir], 1, SIZE, only=["lamp"], num_processes=1)
    assert {manifest["scenes"]["001"]["source"], *manifest["scenes"]["001"]["pieces"]} == {"lamp"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"count": 0}, "count 1 0"),
        ({"seed": -1}, "seed 0 -1"),
        ({"size": (15, 20)}, "16 20,000 15 20"),
        ({"size": (16, 20_001)}, "16 20,000 20001"),
        ({"full_well": 0}, "0 0.0005"),
        ({"full_well": math.nan}, "0 nan"),
        ({"read_noise": -1e-3}, "0 1 -0.001"),
        ({"hdr_dirs": ["missing"]}, "missing EXR"),
        ({"exposures": (1, 3)}, "2 9 1,3"),
        ({"exposures": (4, 3)}, "4,3"),
        ({"shift": 0.3}, "shift 0 0.25 0.3"),
        ({"rotation": -1}, "rotation 0 20 -1"),
        ({"piece_shift": math.nan}, "piece_shift 0 1 nan"),
    ],
)
def test_write_scenes_refuses_other_numbers(changed, message, hdr_dir, tmp_path):
    arguments = {"hdr_dirs": [hdr_dir], "count": 1, "size": SIZE, "num_processes": 1} | changed
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        writer.write_scenes(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_write_scenes_keeps_off_what_it_did_not_make(hdr_dir, tmp_path):
    (tmp_path / "001").mkdir()
    with pytest.raises(ValueError, match=helpers.mentions("001 manifest.json")):
        writer.write_scenes(tmp_path, [hdr_dir], 1, SIZE, num_processes=1)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json")):
        writer.write_scenes(tmp_path, [hdr_dir], 1, SIZE, num_processes=1)
    writer.write_scenes(tmp_path / "set", [hdr_dir], 1, SIZE, num_processes=1)
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json full_well seed static")):
        writer.write_scenes(tmp_path / "set", [hdr_dir], 1, SIZE, seed=1, static=True, full_well=math.inf, num_processes=1)


def test_sources_are_checked_one_by_one(tmp_path):
    image_files.write_radiance(tmp_path / "black.exr", np.zeros((8, 8, 3), np.float32))
    image_files.write_radiance(tmp_path / "nan.exr", np.full((8, 8, 3), np.nan, np.float32))
    (tmp_path / ".hidden.exr").touch()
    with pytest.raises(ValueError, match=helpers.mentions(str(tmp_path))):
        sources.radiance_files([tmp_path])
    image_files.write_radiance(tmp_path / "good.exr", image(8, 8))
    good, bad = sources.radiance_files([tmp_path])
    assert good == [tmp_path / "good.exr"]
    assert [line.split(": ")[0] for line in bad] == [str(tmp_path / name) for name in ("black.exr", "nan.exr")]


def test_the_tool(hdr_dir, tmp_path, capsys):
    output = tmp_path / "new" / "scenes"
    settings = {
        "height": 48,
        "width": 72,
        "count": 2,
        "num_processes": 1,
        "exclude": "room",
        "full_well": math.inf,
        "read_noise": 0,
    }
    make_scenes.main(make_scenes.Config(hdr_dir=str(hdr_dir), output=str(output), **settings))
    printed = capsys.readouterr()
    assert helpers.mentioned(f"{output} 2 72 x 48", printed.out.splitlines()[-1])
    assert printed.err.count("\n") == 1 and "broken.exr" in printed.err
    assert json.loads((output / "manifest.json").read_text())["arguments"]["full_well"] is None
    larger = {**settings, "count": 1, "exposures": "5", "shift": 0.04, "rotation": 3, "piece_shift": 0.15}
    make_scenes.main(make_scenes.Config(hdr_dir=str(hdr_dir), output=str(tmp_path / "five"), **larger))
    assert io_scenes.read_scene(tmp_path / "five" / "001", every=True).ldr.shape == (5, 48, 72, 3)
    with pytest.raises(ValueError, match=helpers.mentions("2 9 5,2")):
        make_scenes.main(make_scenes.Config(hdr_dir=str(hdr_dir), output=str(output), exposures="5,2"))
    for flags in ({"output": "x"}, {"hdr_dir": "x"}):
        with pytest.raises(ValueError, match="--(hdr_dir|output)"):
            make_scenes.main(make_scenes.Config(**flags))


def test_the_tool_makes_brackets_that_can_be_scored(hdr_dir, tmp_path, capsys):
    settings = {
        "kind": "bracket",
        "hdr_dir": str(hdr_dir),
        "size": 48,
        "exposures": "2,4",
        "num_processes": 1,
        "only": "street",
    }
    for count in (2, 3):  # the second time makes the third
        make_scenes.main(make_scenes.Config(output=str(tmp_path / "all"), count=count, **settings))
    assert helpers.mentioned(f"{tmp_path / 'all'} 3 48 x 48", capsys.readouterr().out.splitlines()[-1])
    facts = json.loads((tmp_path / "all" / "manifest.json").read_text())["scenes"]
    maker = BracketMaker((hdr_dir / "street.exr",), (), 48, (2, 4), 0)
    found, lines = brackets.find_brackets(tmp_path / "all")
    assert [bracket.name for bracket in found] == ["001", "002", "003"] and not lines
    for number, bracket in enumerate(found):
        expected = maker(number)
        assert facts[bracket.name] == {"source": expected["source"], "ev": expected["ev"].tolist()}
        images = np.stack([image.pixels for image in brackets.read_bracket(bracket)])
        np.testing.assert_array_equal(images, expected["exposures"])
        whole = maker.with_camera(number)
        radiance, response, saturation = writer.read_simulated(tmp_path / "all" / bracket.name)
        np.testing.assert_array_equal(radiance, whole["radiance"])
        np.testing.assert_array_equal(response, whole["response"])
        assert saturation == whole["saturation"]
        assert (np.diff(images.mean(axis=(1, 2, 3))) > 0).all()
    for wrong, message in (
        ({"exposures": "1"}, "2 9"),
        ({"exposures": "a"}, "--exposures"),
        ({"size": 8}, "16"),
        ({"count": 0}, "count"),
        ({"curves": "round"}, "symmetric skewed round"),
    ):
        with pytest.raises(ValueError, match=helpers.mentions(message)):
            make_scenes.main(make_scenes.Config(output=str(tmp_path / "other"), **{"count": 1} | settings | wrong))
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json size")):
        make_scenes.main(make_scenes.Config(output=str(tmp_path / "all"), **settings | {"size": 64}))


def test_skewed_curves_are_another_set(hdr_dir, tmp_path):
    options = {"count": 1, "size": 16, "num_processes": 1, "only": ["street"]}
    writer.write_brackets(tmp_path / "set", [hdr_dir], **options)
    assert "curves" not in json.loads((tmp_path / "set" / "manifest.json").read_text())["arguments"]
    with pytest.raises(ValueError, match=helpers.mentions("manifest.json curves")):
        writer.write_brackets(tmp_path / "set", [hdr_dir], curves="skewed", **options)
    manifest, _ = writer.write_brackets(tmp_path / "skewed", [hdr_dir], curves="skewed", **options)
    assert manifest["arguments"]["curves"] == "skewed"
    first, second = (image_files.read_image(tmp_path / name / "001" / "1.png").pixels for name in ("set", "skewed"))
    assert (first != second).any()


@pytest.mark.parametrize("text", ["[1]", "{}", '{"saturation": 1, "response": [0, 1]}', '{"saturation": [], "response": 2}'])
def test_a_camera_file_that_does_not_fit_is_named(text, tmp_path):
    (tmp_path / "camera.json").write_text(text)
    with pytest.raises(ValueError, match=helpers.mentions("camera.json")):
        writer.read_simulated(tmp_path)


def test_the_tool_tells_an_error_in_one_line(tmp_path):
    result = helpers.run_tool("make_scenes", "--hdr_dir=.", "--output=out", "--full_well=inf", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.startswith("error: .: ") and helpers.mentioned("EXR", result.stderr)
    assert list(tmp_path.iterdir()) == []
