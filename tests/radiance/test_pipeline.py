"""From photographs to radiance: light, response, exposures, RAW, outputs, brackets, and what is refused."""

import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

import hdr_tf
from hdr_tf import systems
from hdr_tf.commands import fuse as fuse_command
from hdr_tf.commands import merge as command
from hdr_tf.image import response as responses
from hdr_tf.image import tone
from hdr_tf.image.depth import from_unit
from hdr_tf.image.response import Response
from hdr_tf.io import exif, image_files, raw
from hdr_tf.io import responses as response_files
from hdr_tf.radiance import batch, display, pipeline
from hdr_tf.radiance import light as lights
from tests import helpers

CLASSICAL = {"model": "merge_classical", "denoise": 0}
# What a camera's contrast curve does to gamma 2.2.
VALUES = np.linspace(0, 1, 1025)
CAMERA = Response("camera", VALUES, VALUES**2.2 * np.exp(1.2 * (np.exp(-5 * VALUES) - np.exp(-5))))


@pytest.fixture(scope="module")
def scene():
    """Radiance with values around 1 and texture that flow can follow, [96, 128, 3]."""
    texture = np.kron(np.random.default_rng(0).random((12, 16, 1)), np.ones((8, 8, 1)))
    return np.float32((0.02 + 0.6 * helpers.smooth_scene(96, 128) ** 2) * (0.5 + texture))


def _camera_bracket(scene, stops, response=CAMERA, dtype=np.uint8):
    return [from_unit(response.encode(np.clip(scene * 2.0**stop, 0, 1)), dtype) for stop in stops]


def _median_error(found, expected):
    usable = expected > 0.02 * expected.max()
    return np.median(np.abs(found / expected - 1)[usable])


@pytest.mark.parametrize("stops", [(-2, 0), (-2, 0, 2), (1, -1, 0, -2, 2), (-6, -5, -4, -3, -2, -1, 0, 1, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_number_of_exposures_gives_the_radiance(scene, stops, dtype):
    images = list(helpers.expose(scene, stops, dtype))
    reference = sorted(stops)[(len(stops) - 1) // 2]
    found = hdr_tf.merge(images, stops, response="gamma", **CLASSICAL)
    assert found.dtype == np.float32 and found.shape == scene.shape
    assert _median_error(found, scene * 2.0**reference) < 0.02  # 1 is where the reference clips
    absolute = hdr_tf.merge(images, stops, response="gamma", scale="ev0", **CLASSICAL)
    assert _median_error(absolute, scene) < 0.02


def test_the_network_is_the_default(scene):
    images = list(helpers.expose(scene, (-2, 0, 2)))
    assert _median_error(hdr_tf.merge(images, (-2, 0, 2)), scene) < 0.05


def test_the_network_is_loaded_once(scene, tmp_path, monkeypatch):
    loaded, runner = [], pipeline.load("merge_classical")  # which takes no time
    monkeypatch.setattr(pipeline, "load", lambda *arguments, **options: loaded.append(arguments) or runner)
    pipeline._load_kept.cache_clear()
    copy = shutil.copy(systems.find("merge").weights_path(), tmp_path / "a.weights.h5")
    for weights, stops in ((None, (-2, 0, 2)), (None, (0, 2)), (copy, (0, 2)), (copy, (-2, 0, 2))):
        hdr_tf.merge(list(helpers.expose(scene, stops)), stops, weights=weights)
    assert len(loaded) == 2
    os.utime(copy, ns=(0, 0))  # it might be another file
    hdr_tf.merge(list(helpers.expose(scene, (0, 2))), (0, 2), weights=copy)
    assert len(loaded) == 3
    pipeline._load_kept.cache_clear()


def test_equal_exposures_are_averaged(scene):
    images = list(helpers.expose(scene, (0, 0, 0)))
    assert _median_error(hdr_tf.merge(images, (0, 0, 0), **CLASSICAL), scene) < 0.01


def test_the_reference_is_chosen_in_the_given_order(scene):
    stops = (2, -2, 0)
    images = list(helpers.expose(scene, stops))
    for index, stop in enumerate(stops):
        found = hdr_tf.merge(images, stops, reference=index, **CLASSICAL)
        assert _median_error(found, scene * 2.0**stop) < 0.02
    # -6 is dark, 5 is clipped
    images, stops = list(helpers.expose(scene, (-6, 0, 5))), (-6, 0, 5)
    assert _median_error(hdr_tf.merge(images, stops, reference="auto", **CLASSICAL), scene) < 0.02


# === Response ===


def test_the_response_is_estimated_where_exposures_disagree(scene, caplog):
    stops = (-3, -1.5, 0, 1.5, 3)
    images = _camera_bracket(scene, stops)
    assert _median_error(hdr_tf.merge(images, stops, response="gamma", scale="ev0", **CLASSICAL), scene) > 0.1
    found = hdr_tf.merge(images, stops, scale="ev0", **CLASSICAL)
    truth = scene * CAMERA.scale  # as bright as other brackets of the camera, by the middle of the curve
    assert _median_error(found, truth) < 0.04
    known = hdr_tf.merge(images, stops, response=CAMERA, scale="ev0", **CLASSICAL)
    assert _median_error(known, truth) < 0.02


def test_images_of_gamma_stay_as_they_are(scene):
    images, stops = list(helpers.expose(scene, (-2, 0, 2), np.uint8)), (-2, 0, 2)
    np.testing.assert_array_equal(
        hdr_tf.merge(images, stops, **CLASSICAL), hdr_tf.merge(images, stops, response="gamma", **CLASSICAL)
    )


def test_published_systems_keep_gamma(scene):
    stops = (-2, 0, 2)
    frames = lights.read(_camera_bracket(scene, stops))
    exposures = lights.find_exposures(frames, stops, "auto")
    assert lights.to_light(frames, exposures, "auto", assume_gamma=True).response.name == "gamma"
    assert lights.to_light(frames, exposures, "auto").response.name == "estimated"
    assert lights.to_light(frames, exposures, "estimate", assume_gamma=True).response.name == "estimated"


def test_a_response_that_cannot_be_estimated_is_gamma_with_a_line(caplog):
    flat = [np.full((16, 16, 3), level, np.uint8) for level in (40, 120)]
    with caplog.at_level("INFO", logger="absl"):
        hdr_tf.merge(flat, (0, 3), **CLASSICAL)
    assert any(helpers.mentioned("response estimated 2.2", record.getMessage()) for record in caplog.records)


def test_a_linear_png_is_taken_at_its_word(scene, tmp_path):
    stops, paths = (-2, 0, 2), []
    for stop in stops:
        levels = from_unit(np.clip(scene * 2.0**stop, 0, 1), np.uint16)
        rows = [row.astype(">u2").tobytes() for row in levels]
        paths.append(tmp_path / f"{stop}.png")
        gamma = helpers.png_chunk(b"gAMA", struct.pack(">I", 100_000))
        paths[-1].write_bytes(helpers.png(128, 96, 16, 2, rows, gamma))
    assert _median_error(hdr_tf.merge(paths, stops, **CLASSICAL), scene) < 0.02
    # The exposures are estimated where the response is known.
    assert _median_error(hdr_tf.merge(paths, "estimate", **CLASSICAL), scene) < 0.03
    plain = tmp_path / "plain.png"
    image_files.write_image(plain, helpers.expose(scene, [2])[0])
    with pytest.raises(ValueError, match=helpers.mentions("plain.png -2.png linear")):
        hdr_tf.merge([*paths[:2], plain], stops, **CLASSICAL)


def test_wrong_exposures_of_linear_images_are_refined(scene):
    images = [from_unit(np.clip(scene * 2.0**stop, 0, 1), np.uint16) for stop in (-2, 0, 2)]
    stated = np.array([-2, 0, 2]) + np.log2([1.1, 1, 0.92])
    frames = lights.read(images)
    light = lights.to_light(frames, 2**stated, "linear")
    np.testing.assert_allclose(light.exposures, [0.25, 1, 4], rtol=0.02)
    # A ratio that is off by more than cameras round stays: something else is wrong.
    light = lights.to_light(frames, [0.25 * 1.3, 1, 4], "linear")
    np.testing.assert_allclose(light.exposures, [0.25 * 1.3, 1, 4], rtol=0.02)


@pytest.mark.parametrize(("arguments", "words"), [({"response": ""}, "response auto"), ({"weights": "a.h5"}, "a.h5 weights")])
def test_what_merge_classical_does_not_take_is_refused(arguments, words):
    images = [np.full((16, 16, 3), value, np.uint8) for value in (60, 120)]
    with pytest.raises(ValueError, match=helpers.mentions(words)):
        pipeline.merge(images, (0, 2), model="merge_classical", **arguments)


def test_exposures_are_not_estimated_with_the_response(scene):
    images = list(helpers.expose(scene, (-2, 0, 2)))
    for setting in ("auto", "estimate"):
        with pytest.raises(ValueError, match=helpers.mentions("--exposures=estimate --response")):
            hdr_tf.merge(images, "estimate", response=setting, **CLASSICAL)
    found = hdr_tf.merge(images, "estimate", response="gamma", **CLASSICAL)
    assert _median_error(found, scene) < 0.03


def test_float_tiff_is_linear(scene, tmp_path):
    paths, stops = [], (-2, 0, 2)
    for stop in stops:
        paths.append(tmp_path / f"{stop}.tif")
        image_files.write_radiance(paths[-1], np.clip(scene * 2.0**stop, 0, 1))
    assert _median_error(hdr_tf.merge(paths, stops, **CLASSICAL), scene) < 0.02
    with pytest.raises(ValueError, match=helpers.mentions("srgb linear")):
        hdr_tf.merge(paths, stops, response="srgb", **CLASSICAL)


# === RAW ===

WHITE_BALANCE = (2, 1, 1.6)


@pytest.fixture(scope="module")
def raw_bracket(scene, tmp_path_factory):
    """Three DNG files of a camera, and what they show: linear sRGB, 1 is the middle exposure's clip of green."""
    pytest.importorskip("rawpy")
    folder = tmp_path_factory.mktemp("raw")
    smooth = np.float32(0.05 + 2 * helpers.smooth_scene(96, 128)[..., :1] ** 2) * np.ones(3, np.float32)
    camera = smooth / WHITE_BALANCE  # gray
    paths = []
    for name, stop in (("a", -2), ("b", 0), ("c", 2)):
        settings = (2.0**stop / 64, 4.0, 200)
        paths.append(helpers.write_dng(folder / f"{name}.dng", np.clip(camera * 2.0**stop, 0, 1), settings=settings))
    return paths, smooth


def test_raw_files_are_merged_before_white_balance(raw_bracket, tmp_path):
    paths, truth = raw_bracket
    found = pipeline.fuse_radiance(paths, tmp_path / "out.exr", absolute=True, **CLASSICAL)
    luminance = raw.absolute_scale(4.0, 1 / 64, 200)
    inside = (slice(8, -8), slice(8, -8))
    ratio = (found / luminance / truth)[inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)
    spread = found.max(axis=2) / found.min(axis=2)
    assert np.quantile(spread[inside], 0.99) < 1.05  # gray stays gray, also where channels clip one after the other
    header = image_files.read_radiance_header(tmp_path / "out.exr")
    assert header.response == "linear (RAW)" and header.white_luminance == 1
    assert header.white_level == pytest.approx(luminance)


def test_highlights_clipped_in_every_exposure_are_not_magenta(scene, tmp_path):
    pytest.importorskip("rawpy")
    camera = np.float32(0.1 + 8 * helpers.smooth_scene(64, 64)[..., :1]) / WHITE_BALANCE
    paths = [
        helpers.write_dng(tmp_path / f"{i}.dng", np.clip(camera * 2.0**stop, 0, 1), settings=(2.0**stop / 64, 4.0, 200))
        for i, stop in enumerate((-1, 1))
    ]
    found = hdr_tf.merge(paths, **CLASSICAL)[8:-8, 8:-8]
    assert np.quantile(found.max(axis=2) / found.min(axis=2), 0.98) < 1.2  # the rest is the mosaic next to clipped samples
    assert found.max() >= 2


def test_a_result_of_raw_files_can_be_dng(raw_bracket, tmp_path):
    rawpy = pytest.importorskip("rawpy")
    paths, _ = raw_bracket
    expected = pipeline.fuse_radiance(paths, tmp_path / "out.dng", half=True, **CLASSICAL)
    assert expected.shape == (96, 128, 3)
    with rawpy.imread(str(tmp_path / "out.dng")) as opened:
        assert (opened.sizes.raw_width, opened.sizes.raw_height) == (128, 96)
    assert pipeline.fuse_radiance(paths, tmp_path / "out.hdr", **CLASSICAL).min() >= 0
    with pytest.raises(ValueError, match=helpers.mentions("x.dng RAW .exr")):
        pipeline.fuse_radiance([tmp_path / "a.jpg", tmp_path / "b.jpg"], tmp_path / "x.dng", (0, 2), **CLASSICAL)


# === Outputs ===


def test_the_map_has_a_colour_for_each_exposure():
    source = np.array([[0, 1, 2, 3]], np.uint8)
    found = pipeline.exposure_map(source, np.array([[False, True, False, True]]), 3)
    assert found.shape == (1, 4, 3) and len(np.unique(found[0], axis=0)) == 4
    assert tuple(found[0, 1]) == pipeline.CLIPPED and tuple(found[0, 3]) == pipeline.FILLED


@pytest.mark.parametrize("suffix", [".exr", ".hdr", ".tif"])
def test_everything_that_can_be_written(scene, tmp_path, capsys, suffix):
    stops = (-2, 0, 2)
    paths = helpers.write_bracket(tmp_path / "in", helpers.expose(scene, stops))
    output = tmp_path / "out" / f"scene{suffix}"
    extras = {
        name: str(tmp_path / "out" / file) for name, file in (("save_aligned", "aligned"), ("save_exposure_map", "map.png"))
    }
    config = command.Config(
        paths, str(output), exposures="-2,0,2", save_response=str(tmp_path / "out" / "r.txt"), **CLASSICAL, **extras
    )
    assert command.main(config) == 0
    assert helpers.mentioned(f"merged: {output} 128 x 96 32", capsys.readouterr().out)
    expected = hdr_tf.merge(paths, stops, **CLASSICAL)
    found = image_files.read_radiance(output)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.01 * expected.max() if suffix == ".hdr" else 0)
    header = image_files.read_radiance_header(output)
    assert (header.exposure, header.white_level, header.response) == (0, 1, "gamma")
    np.testing.assert_allclose(header.primaries, image_files.SRGB_PRIMARIES, atol=1e-6)
    assert "b.tif" in header.notes
    assert helpers.names(tmp_path / "out") == {output.name, "scene_preview.png", "aligned", "map.png", "r.txt"}
    assert helpers.names(tmp_path / "out" / "aligned") == {"1_a.png", "2_b.png", "3_c.png"}
    aligned = image_files.read_image(tmp_path / "out" / "aligned" / "2_b.png").pixels
    np.testing.assert_array_equal(aligned, image_files.read_image(paths[1]).pixels)
    assert image_files.read_image(tmp_path / "out" / "map.png").pixels.shape == (96, 128, 3)
    response_files.read_response(tmp_path / "out" / "r.txt")


def test_fuse_takes_the_same_road(scene, tmp_path):
    paths = helpers.write_bracket(tmp_path / "in", helpers.expose(scene, (-2, 0)), names="ab")
    config = fuse_command.Config(paths, str(tmp_path / "out.exr"), model="merge_classical", exposures="-2,0")
    assert fuse_command.main(config) == 0
    expected = hdr_tf.merge(paths, (-2, 0), model="merge_classical")
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "out.exr"), expected)


def test_primaries_come_from_the_profile(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_allclose(exif.primaries(profile), image_files.SRGB_PRIMARIES, atol=2e-3)
    assert exif.primaries(b"damaged") is None


# === Brackets ===


def _write_photographs(folder, images, times, model="Camera"):
    folder.mkdir(parents=True)
    for number, (pixels, time) in enumerate(zip(images, times, strict=True)):
        tags = Image.Exif()
        tags[0x0110] = model
        tags.get_ifd(0x8769)[0x829A] = time
        Image.fromarray(pixels).save(folder / f"{number}.png", exif=tags.tobytes())


def test_brackets_of_a_camera_share_a_response(scene, tmp_path, capsys, monkeypatch):
    stops = (-3, -1.5, 0, 1.5, 3)
    times = [2.0**stop for stop in stops]
    for name, gain, model in (("a", 1, "Camera"), ("b", 0.7, "Camera"), ("c", 1, "Other")):
        _write_photographs(tmp_path / "in" / name, _camera_bracket(scene * gain, stops), times, model)
    calls = []
    estimate = responses.estimate
    monkeypatch.setattr(responses, "estimate", lambda *words: calls.append(len(words[0])) or estimate(*words))
    flags = {"brackets": str(tmp_path / "in"), "output": str(tmp_path / "out"), "save_response": str(tmp_path / "curves")}
    config = command.Config(scale="ev0", **flags, **CLASSICAL)
    assert command.main(config) == 0
    assert calls == [2, 1]
    curves = {name: (tmp_path / "curves" / f"{name}.txt").read_text() for name in "abc"}
    assert curves["a"] == curves["b"] != curves["c"]
    a, b = (image_files.read_radiance(tmp_path / "out" / f"{name}.exr") for name in "ab")
    assert _median_error(b / 0.7, a) < 0.03  # the same light has the same value in every bracket
    assert helpers.mentioned(f"3 {tmp_path / 'out'}", capsys.readouterr().out.splitlines()[-1])
    assert command.main(config) == 0
    assert capsys.readouterr().out.count("skipped: ") == 3 and calls == [2, 1]
    calls.clear()
    other = command.Config(response="per_bracket", brackets=flags["brackets"], output=str(tmp_path / "each"), **CLASSICAL)
    assert command.main(other) == 0
    assert calls == [1, 1, 1]


def test_a_cluster_does_the_same(scene, tmp_path):
    stops = (-2, 0, 2)
    for name, gain in (("a", 1), ("b", 0.7)):
        _write_photographs(tmp_path / "in" / name, _camera_bracket(scene * gain, stops), [2.0**stop for stop in stops])
    folders = sorted((tmp_path / "in").iterdir())

    def cluster(function, jobs):
        return [function(*job) for job in jobs]

    found = dict(batch.fuse_radiance_brackets_on(cluster, folders, tmp_path / "there", model="merge_classical"))
    assert {path.name: array.shape for path, array in found.items()} == {"a.exr": (96, 128, 3), "b.exr": (96, 128, 3)}
    list(batch.fuse_radiance_brackets(folders, tmp_path / "here", model="merge_classical"))
    for path in found:
        np.testing.assert_array_equal(image_files.read_radiance(path), image_files.read_radiance(tmp_path / "here" / path.name))


# === What is refused ===


@pytest.fixture(scope="module")
def folder(scene, tmp_path_factory):
    """Good and bad files."""
    folder = tmp_path_factory.mktemp("refused")
    helpers.write_bracket(folder, helpers.expose(scene, (-2, 0, 2)))
    for name, level in (("white1", 255), ("white2", 254), ("black1", 0), ("black2", 1)):
        image_files.write_image(folder / f"{name}.png", np.full((96, 128, 3), level, np.uint8))
    gap = np.zeros((96, 128, 3), np.uint8)
    gap[:48] = 200
    image_files.write_image(folder / "lamp.png", gap)
    image_files.write_image(folder / "room.png", np.where(gap > 0, 255, 120).astype(np.uint8))
    radiance = np.clip(scene, 0, 1)
    image_files.write_radiance(folder / "float.tif", radiance)
    radiance[3, 4, 1] = np.nan
    image_files.write_radiance(folder / "nan.tif", radiance)
    for number in range(10):
        image_files.write_image(folder / f"n{number}.png", helpers.noise(16, 16, 3))
    return folder


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ("white1.png white2.png", {}, "white1.png clipped"),
        ("black1.png white1.png", {}, "black1.png white1.png range"),
        ("black1.png black2.png", {}, "black2.png black"),
        ("lamp.png room.png", {"exposures": "-6,0"}, "lamp.png room.png range"),
        ("float.tif nan.tif", {}, "nan.tif 1"),
        ("a.tif", {"exposures": "0"}, "merge_classical 2 9 1"),
        (" ".join(f"n{i}.png" for i in range(10)), {"exposures": "0,1,2,3,4,5,6,7,8,9"}, "merge_classical 2 9 10"),
        ("a.tif b.tif", {"exposures": None}, "a.tif EXIF --exposures=STOPS"),
        ("a.tif b.tif", {"exposures": "0,x"}, "0,x"),
        ("a.tif b.tif", {"exposures": "0,1,2"}, "2 0.0, 1.0, 2.0"),
        ("a.tif b.tif", {"exposures": "0,2000"}, "-30 30 2000.0"),
        ("a.tif b.tif", {"exposures": "estimate"}, "--exposures=estimate --response"),
        ("a.tif b.tif", {"response": "nonsense"}, "nonsense gamma srgb linear"),
        ("a.tif b.tif", {"reference": "0"}, "--reference 0"),
        ("a.tif b.tif", {"reference": "3"}, "2 3"),
        ("a.tif b.tif", {"denoise": -1.0}, "denoise -1.0"),
        ("a.tif b.tif", {"absolute": True}, "RAW a.tif"),
        ("a.tif b.tif", {"output": "out.png"}, "out.png .exr .hdr .tif .dng"),
        ("a.tif b.tif", {"output": "out.hdr", "half": True}, "out.hdr .exr"),
        ("a.tif b.tif", {"save_exposure_map": "map.jpg"}, "save_exposure_map .png map.jpg"),
        ("a.tif b.tif", {"save_exposure_map": "out_preview.png"}, "out.exr"),
        ("a.tif b.tif", {"hdr": "ultrahdr"}, "out.exr .jpg"),
        ("a.tif b.tif", {"output": "out.jpg"}, "out.jpg .exr ultrahdr"),
        ("a.tif b.tif", {"output": "out.jpg", "hdr": "pq"}, "out.jpg .png .avif"),
        ("a.tif b.tif", {"output": "out.jpg", "hdr": "ultrahdr", "peak": 203}, "peak 203"),
        ("a.tif b.tif", {"output": "out.jpg", "hdr": "ultrahdr", "diffuse_white": float("nan")}, "diffuse_white nan"),
        ("a.tif b.tif", {"peak": 600}, "--peak --hdr"),
        ("a.tif b.tif", {"save_exposure_map": "a.tif.png", "output": "a.tif"}, "a.tif"),
        ("a.tif b.tif", {"save_aligned": "al", "save_exposure_map": "al/1_a.png"}, "1_a.png"),
        ("a.tif b.tif c.tif", {"model": "esbn", "exposures": "-2,0,2", "reference": "1"}, "reference merge_classical esbn"),
        ("a.tif b.tif c.tif", {"model": "esbn", "exposures": "-2,0,2", "save_exposure_map": "m.png"}, "save_exposure_map esbn"),
        ("a.tif b.tif", {"model": "pyramid"}, "pyramid"),
    ],
)
def test_refused_in_one_line(folder, files, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    before = helpers.contents(folder)
    config = {"output": "out.exr", "model": "merge_classical", "exposures": "-2,0"} | arguments
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        command.main(command.Config(files.split(), **config))
    assert "\n" not in str(caught.value)
    assert helpers.contents(folder) == before


def test_what_does_not_lie_on_the_reference_is_reported(scene, caplog):
    other = np.ascontiguousarray(np.roll(scene[::-1], 40, axis=1))
    images = [helpers.expose(scene, [0])[0], helpers.expose(other, [1])[0]]
    with caplog.at_level("WARNING", logger="absl"):
        found = hdr_tf.merge(images, (0, 1), response="gamma", **CLASSICAL)
    assert any(helpers.mentioned("reference image 2", record.getMessage()) for record in caplog.records)
    assert _median_error(found, scene) < 0.1  # the reference stands alone


def test_an_exposure_that_shows_nothing_is_reported_and_not_the_reference(scene, caplog):
    images = [*helpers.expose(scene, (-2, 0)), *[np.full((96, 128, 3), 65535, np.uint16)] * 3]
    with caplog.at_level("WARNING", logger="absl"):
        found = hdr_tf.merge(images, (-2, 0, 3, 5, 7), response="gamma", **CLASSICAL)
    assert sum("adds nothing" in record.getMessage() for record in caplog.records) == 3
    assert _median_error(found, scene / 4) < 0.02  # the darker one of the two that are left


def test_exposures_that_fit_under_no_response_stay_under_gamma(scene, caplog):
    frames = lights.read([helpers.noise(96, 128, 3, seed=seed) for seed in (0, 1, 2)])
    assert lights.to_light(frames, [1, 4, 16], "auto").response.name == "gamma"


def test_radiance_of_the_preview_is_tone_mapped(scene, tmp_path):
    paths = helpers.write_bracket(tmp_path / "in", helpers.expose(scene, (-2, 0)), names="ab")
    found = pipeline.fuse_radiance(paths, tmp_path / "out.exr", (-2, 0), **CLASSICAL)
    preview = image_files.read_image(tmp_path / "out_preview.png").pixels
    np.testing.assert_array_equal(preview, display.tone_map(found))
    arguments = {"model": "merge_classical", "denoise": 0, "exposures": "-2,0", "tonemap": "mu_law"}
    assert command.main(command.Config([*map(str, paths)], str(tmp_path / "out.exr"), **arguments)) == 0
    preview = image_files.read_image(tmp_path / "out_preview.png").pixels
    np.testing.assert_allclose(preview, 255 * tone.mu_law(np.clip(found, 0, 1)), atol=0.51)


def test_brackets_for_hdr_screens(scene, tmp_path):
    helpers.write_bracket(tmp_path / "in" / "room", helpers.expose(scene, (-4, -2)), names="ab")
    arguments = {"brackets": str(tmp_path / "in"), "model": "merge_classical", "exposures": "-4,-2", "hdr": "ultrahdr"}
    assert command.main(command.Config(output=str(tmp_path / "out"), **arguments)) == 0
    assert helpers.names(tmp_path / "out") == {"room.jpg", "summary.json"}
    assert b"hdrgm:GainMapMax" in (tmp_path / "out" / "room.jpg").read_bytes()


@pytest.mark.parametrize("name, hdr", [("out.jpg", "ultrahdr"), ("out.png", "pq"), ("out.avif", "pq")])
def test_images_for_hdr_screens(scene, tmp_path, capsys, name, hdr):
    imagecodecs = pytest.importorskip("imagecodecs")  # of the extra `formats`
    paths = helpers.write_bracket(tmp_path / "in", helpers.expose(scene, (-4, -2)), names="ab")
    output, arguments = tmp_path / "out" / name, {"model": "merge_classical", "denoise": 0, "exposures": "-4,-2"}
    arguments |= {"hdr": hdr, "peak": 600, "diffuse_white": -6}
    assert command.main(command.Config([*map(str, paths)], str(output), **arguments)) == 0
    assert helpers.names(output.parent) == {name} and "HDR" in capsys.readouterr().out
    radiance = hdr_tf.merge(paths, (-4, -2), **CLASSICAL)
    base, gain = display.tone_map(radiance), np.clip(radiance.max(axis=2) / 2.0**-6, 1, 600 / 203)
    assert 0.1 < (gain > 1).mean() < 0.9
    if hdr == "ultrahdr":
        light = imagecodecs.ultrahdr_decode(output.read_bytes())[..., :3].astype(np.float64)
        shown = Response("srgb").decode(image_files.read_image(output).pixels)
        assert np.abs(np.log2(light.sum(axis=2) / shown.sum(axis=2) / gain)).max() < 1 / 20
        assert np.abs(image_files.read_image(output).pixels - base.astype(int)).mean() < 2
    else:
        png = output.suffix == ".png"
        levels = image_files.read_image(output).pixels / 65535 if png else imagecodecs.avif_decode(output.read_bytes()) / 1023
        light = Response("pq").decode(levels) @ [0.2627, 0.678, 0.0593] * 10_000 / 203
        shown = Response("srgb").decode(base) @ [0.2126, 0.7152, 0.0722]
        assert np.abs(np.log2(light / shown / gain)).mean() < 0.02
