"""Scene folders: read as the original reads them, written completely or not at all, refused in one line."""

import errno
import zlib

import numpy as np
import pytest

from hdr_tf.image import tone
from hdr_tf.io import image_files, scenes
from tests import helpers


def images(count=3, height=10, width=14, dtype=np.uint16):
    return helpers.noise(count, height, width, 3, dtype=dtype)


def radiance(height=10, width=14):
    return np.random.default_rng(1).random((height, width, 3), np.float32)


@pytest.fixture
def folder(tmp_path):
    """A good scene that a test may damage."""
    scenes.write_scene(tmp_path / "012", images(), [0, 2, 4], radiance())
    return tmp_path / "012"


@helpers.golden_cases("esbn_tfrecord")
def test_the_golden_scene_is_read_as_opencv_reads_it(golden, golden_case):
    scene = scenes.read_scene(golden.FOLDER / "kalantari_scene" / "001")
    expected = golden.outputs(golden_case)
    assert scene.name == "001" and scene.ldr.dtype == np.uint16 and scene.ldr.shape == (3, 384, 448, 3)
    np.testing.assert_array_equal(scene.stops, [-2, 0, 2])
    np.testing.assert_array_equal(scene.exposures, [0.25, 1, 4])
    for number, pixels in enumerate(scene.at_8_bit(), 1):
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        np.testing.assert_array_equal(bgr[:8, :8], expected[f"imread_tif{number}_corner"])
        assert zlib.crc32(bgr) == expected[f"imread_tif{number}_crc32"]
    bgr = np.ascontiguousarray(scene.hdr[..., ::-1])
    np.testing.assert_array_equal(bgr[:8, :8], expected["imread_hdr_corner"])
    assert zlib.crc32(bgr) == expected["imread_hdr_crc32"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("hdr", [None, radiance()], ids=["without truth", "with truth"])
def test_a_scene_comes_back(dtype, hdr, tmp_path):
    scenes.write_scene(tmp_path / "set" / "001", images(dtype=dtype), [-1.5, 0, 0.1], hdr)
    scene = scenes.read_scene(tmp_path / "set" / "001")
    np.testing.assert_array_equal(scene.ldr, images(dtype=dtype))
    np.testing.assert_array_equal(scene.stops, [-1.5, 0, 0.1])
    assert scene.ldr.dtype == dtype and scene.at_8_bit().dtype == np.uint8
    if hdr is None:
        assert scene.hdr is None
    else:
        # Eight bits with the exponent of the largest channel: half a step is 1/256 of it, a step where rounding doubles it.
        assert (abs(scene.hdr - hdr) <= hdr.max(axis=2, keepdims=True) / 128).all()
        assert abs(scene.hdr.mean() / hdr.mean() - 1) < 1e-3  # and not darker on average
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")] == []


def write_bracket(folder, count, text, name="exposure.txt", suffix=".tif"):
    """A folder of `count` images; returns their pixels."""
    folder.mkdir(exist_ok=True)
    pixels = images(count)
    for number, image in enumerate(pixels):
        image_files.write_image(folder / f"{number:02d}{suffix}", image)
    (folder / name).write_text("".join(f"{value}\n" for value in text))
    return pixels


@pytest.mark.parametrize(
    ("count", "first", "suffix"), [(3, 0, ".tif"), (4, 1, ".tif"), (5, 1, ".png"), (6, 2, ".tif"), (7, 2, ".tiff")]
)
def test_of_sens_layout_the_middle_three(count, first, suffix, tmp_path):
    """As the loader counts: the middle is image count // 2, and exposures begin at the shortest of the three."""
    pixels = write_bracket(tmp_path, count, 1.5 * np.arange(count) - 4, "exposures.txt", suffix)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[first : first + 3])
    np.testing.assert_array_equal(scene.stops, [0, 1.5, 3])


@pytest.mark.parametrize("count", [9, 11])
@pytest.mark.parametrize("suffix", [".tiff", ".tif"])
def test_of_tursuns_layout_the_fifth_seventh_and_ninth(count, suffix, tmp_path):
    pixels = write_bracket(tmp_path, count, 2.0 ** np.arange(count) / 1000, suffix=suffix)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[[4, 6, 8]])
    np.testing.assert_allclose(scene.exposures, [1, 4, 16])


@pytest.mark.parametrize(("count", "lines"), [(4, 3), (5, 5), (9, 3)])
def test_of_kalantaris_layout_the_first_three(count, lines, tmp_path, warnings):
    pixels = write_bracket(tmp_path, count, 2 * np.arange(lines) - 2)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[:3])
    np.testing.assert_array_equal(scene.stops, [-2, 0, 2])
    assert len(warnings) == 1 and helpers.mentioned(f"{tmp_path} {count} .tif", warnings[0])


def test_radiance_of_a_bracket_is_scaled_with_its_exposures(tmp_path):
    write_bracket(tmp_path, 5, [-4, -2, 0, 2, 4], "exposures.txt")
    image_files.write_radiance(tmp_path / "HDRImg.hdr", radiance())
    as_it_stands = image_files.read_radiance(tmp_path / "HDRImg.hdr")
    np.testing.assert_array_equal(scenes.read_scene(tmp_path).hdr, as_it_stands / 4)


@pytest.mark.parametrize(
    ("count", "text", "name", "message"),
    [
        (2, [0, 2], "exposures.txt", "2"),
        (5, [0, 2, 4], "exposures.txt", "exposures.txt 5 3"),
        (5, [0, 2, 4, 6], "exposure.txt", "exposure.txt 5 4"),
        (5, [4, 3, 2, 1, 0], "exposures.txt", "2.0, 1.0"),
        (9, np.arange(9), "exposure.txt", "exposure.txt 9 0.0, 1.0"),
        (9, [*range(1, 9), "nan"], "exposure.txt", "exposure.txt 9 nan"),
        (9, 2.0 ** -np.arange(9), "exposure.txt", "-4.0, -6.0"),
    ],
)
def test_a_bad_stack_is_refused_in_one_line(count, text, name, message, tmp_path):
    write_bracket(tmp_path, count, text, name)
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        scenes.read_scene(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_endings_in_capitals_blank_lines_and_other_files(folder):
    for path in folder.glob("*.tif"):
        path.rename(path.with_suffix(".TIF"))
    (folder / "exposure.txt").write_text("\r\n-2.00\r\n0.00\r\n2.00\r\n\r\n")
    image_files.write_image(folder / "preview.png", images()[0])
    image_files.write_image(folder / ".4.tif", images()[0])
    scene = scenes.read_scene(folder)
    np.testing.assert_array_equal(scene.ldr, images())
    np.testing.assert_array_equal(scene.stops, [-2, 0, 2])


def with_hdr(value):
    def damage(folder):
        values = radiance()
        values[0, 0, 0], values[3, 3, 1] = value, value
        image_files.write_radiance(folder / "wrong.exr", values)
        (folder / "wrong.exr").replace(folder / "HDRImg.hdr")  # a file is known by its first bytes

    return damage


def with_text(text):
    return lambda folder: (folder / "exposure.txt").write_bytes(text)


def with_image(pixels):
    return lambda folder: image_files.write_image(folder / "2.tif", pixels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "3.tif").unlink(), "012 .tif 2"),
        (with_image(images(height=11)[0]), "012 14 x 10 2.tif 14 x 11"),
        (with_image(images(dtype=np.uint8)[0]), "012 uint16 2.tif uint8"),
        (with_image(images()[0][..., 0]), "012/2.tif"),
        (lambda folder: (folder / "2.tif").write_bytes(b"II*\0"), "012/2.tif TIFF"),
        (lambda folder: (folder / "exposure.txt").unlink(), "012 exposure.txt"),
        (with_text(b""), "012/exposure.txt 3 0"),
        (with_text(b"0\n2\n"), "012/exposure.txt 3 2"),
        (with_text(b"0\n2\n4\n6\n"), "012/exposure.txt 3 4"),
        (with_text(b"0\ntwo\n4\n"), "012/exposure.txt 3 0 two 4"),
        (with_text(b"\xff\xfe0"), "012/exposure.txt 3"),
        (with_text(b"0\n4\n2\n"), "012 0.0, 4.0, 2.0"),
        (with_text(b"0\n0\n2\n"), "012 0.0, 0.0, 2.0"),
        (with_text(b"0\nnan\n2\n"), "012 0.0, nan, 2.0"),
        (with_text(b"0\n2\n2000\n"), "012 -100..100 2000.0"),
        (with_hdr(np.nan), "012 HDRImg.hdr 2 NaN"),
        (with_hdr(-0.1), "012 HDRImg.hdr 2 negative"),
        (with_hdr(np.inf), "012 HDRImg.hdr 2 infinite"),
        (lambda folder: (folder / "HDRImg.hdr").write_bytes(b"#?RADIANCE\n"), "012/HDRImg.hdr"),
        (
            lambda folder: image_files.write_radiance(folder / "HDRImg.hdr", radiance(10, 13)),
            "012 14 x 10 13 x 10",
        ),
    ],
)
def test_a_bad_scene_is_refused_in_one_line(damage, message, folder):
    damage(folder)
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        scenes.read_scene(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_list_scenes(folder):
    above = folder.parent
    (above / ".hidden").mkdir()
    (above / "notes.txt").touch()
    scenes.write_scene(above / "002", images(), [0, 2, 4])
    for name, kept in (("100", "*.tif"), ("101", "exposure.txt")):
        scenes.write_scene(above / name, images(), [0, 2, 4])
        for path in set((above / name).iterdir()) - set((above / name).glob(kept)):
            path.unlink()
    complete, incomplete = scenes.list_scenes(above)
    assert complete == [above / "002", folder]
    assert [line.split(": ")[0] for line in incomplete] == [str(above / "100"), str(above / "101")]


def test_list_scenes_refuses_what_holds_none(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "all" / "001").mkdir(parents=True)
    with pytest.raises(ValueError, match=helpers.mentions("empty .tif exposure.txt")):
        scenes.list_scenes(tmp_path / "empty")
    with pytest.raises(ValueError, match=helpers.mentions("all 1 001 exposure.txt")):
        scenes.list_scenes(tmp_path / "all")
    with pytest.raises(ValueError, match=helpers.mentions("missing")):
        scenes.list_scenes(tmp_path / "missing")
    with pytest.raises(ValueError, match=helpers.mentions("012")):
        scenes.list_scenes(folder)


def test_an_empty_folder_is_no_scene(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("exposure.txt")):
        scenes.read_scene(tmp_path)


@pytest.mark.parametrize(
    ("ldr", "stops", "hdr", "message"),
    [
        (images(1), [0], None, "1, 10, 14, 3"),
        (images(2), [0, 2, 4], None, "two 0.0, 2.0, 4.0"),
        (images() / 65535, [0, 2, 4], None, "uint8 uint16 float64"),
        (images(), [0, 2], None, "0.0, 2.0"),
        (images(), [4, 2, 0], None, "4.0, 2.0, 0.0"),
        (images(), [0, 2, 4], -radiance(), "420"),
        (images(), [0, 2, 4], radiance(8), "14 x 10 14 x 8"),
    ],
)
def test_write_scene_refuses_what_is_none(ldr, stops, hdr, message, tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        scenes.write_scene(tmp_path / "001", ldr, stops, hdr)
    assert list(tmp_path.iterdir()) == []


def test_write_scene_overwrites_nothing(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=helpers.mentions("012")):
        scenes.write_scene(folder, images(), [0, 3, 6])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    write_image = image_files.write_image

    def full(path, pixels):
        if path.name == "3.tif":
            raise OSError(f"{path}: cannot be written: No space left on device")
        write_image(path, pixels)

    monkeypatch.setattr(image_files, "write_image", full)
    with pytest.raises(OSError, match=helpers.mentions("001 No space left on device")):
        scenes.write_scene(tmp_path / "001", images(), [0, 2, 4])
    monkeypatch.undo()
    monkeypatch.setattr(
        image_files, "write_radiance", lambda path, values: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(OSError, match=helpers.mentions("001 full")):
        scenes.write_scene(tmp_path / "001", images(), [0, 2, 4], radiance())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exposure", [0.25, np.float64(4), np.array([0.5, 1, 2])[:, None]])
def test_exposure_and_radiance_are_inverse(exposure):
    ldr = np.linspace(0, 1, 256, dtype=np.float32) * np.ones((3, 1), np.float32)
    radiance = tone.to_radiance(ldr, exposure)
    assert radiance.dtype == np.float32 and tone.to_exposure(radiance, exposure).dtype == np.float32
    np.testing.assert_allclose(radiance, ldr.astype(np.float64) ** 2.2 / exposure, rtol=2e-6)  # float32
    np.testing.assert_allclose(tone.to_exposure(radiance, exposure), ldr, atol=1e-6)


def test_to_exposure_clips():
    np.testing.assert_array_equal(tone.to_exposure(np.array([-1, 0, 0.25, 1]), 4), [0, 0, 1, 1])


def test_mu_law():
    np.testing.assert_allclose(tone.mu_law(np.array([0, 1, 4])), [0, 1, np.log(20001) / np.log(5001)])
    np.testing.assert_allclose(tone.mu_law(np.array(0.5), mu=1), np.log2(1.5))
    assert tone.mu_law(np.float32([0.5])).dtype == np.float32


@pytest.mark.parametrize("count", range(2, 10))
def test_a_scene_of_any_number_comes_back(count, tmp_path):
    stops, hdr = 1.5 * np.arange(count), radiance()
    scenes.write_scene(tmp_path / "001", images(count), stops, hdr)
    scene = scenes.read_scene(tmp_path / "001", every=True)
    np.testing.assert_array_equal(scene.ldr, images(count))
    np.testing.assert_array_equal(scene.stops, stops)
    assert scene.reference == (count - 1) // 2
    assert (tmp_path / "001" / "reference.txt").exists() == (count != 3)
    np.testing.assert_array_equal(scene.hdr, image_files.read_radiance(tmp_path / "001" / "HDRImg.hdr"))


@pytest.mark.parametrize("count", range(3, 10))
def test_three_of_a_larger_scene_surround_its_reference(count, tmp_path, warnings):
    scenes.write_scene(tmp_path / "001", images(count), 2 * np.arange(count), radiance())
    whole, scene = scenes.read_scene(tmp_path / "001", every=True), scenes.read_scene(tmp_path / "001")
    first = whole.reference - 1
    np.testing.assert_array_equal(scene.ldr, images(count)[first : first + 3])
    np.testing.assert_array_equal(scene.stops, [0, 2, 4])
    # The same light: radiance times exposure is the value of the same image.
    np.testing.assert_array_equal(scene.hdr * scene.exposures[1], whole.hdr * whole.exposures[whole.reference])
    assert scene.reference == 1
    assert [helpers.mentioned(f"001 {count} .tif", line) for line in warnings] == [True] * (count > 3)


def test_two_exposures_are_a_scene_where_every_number_is(tmp_path):
    scenes.write_scene(tmp_path / "001", images(2), [0, 2])
    assert scenes.list_scenes(tmp_path, every=True) == ([tmp_path / "001"], [])
    for read in (lambda: scenes.read_scene(tmp_path / "001"), lambda: scenes.list_scenes(tmp_path)):
        with pytest.raises(ValueError, match=helpers.mentions("001 three .tif 2 any number")):
            read()


def test_every_image_of_the_other_layouts(tmp_path):
    pixels = write_bracket(tmp_path / "sen", 5, 1.5 * np.arange(5) - 4, "exposures.txt")
    image_files.write_radiance(tmp_path / "sen" / "HDRImg.hdr", radiance())
    sen = scenes.read_scene(tmp_path / "sen", every=True)
    np.testing.assert_array_equal(sen.ldr, pixels)
    np.testing.assert_array_equal(sen.stops, 1.5 * np.arange(5))
    assert abs(sen.hdr * 16 - radiance()).max() <= 1 / 128
    write_bracket(tmp_path / "tursun", 9, 2.0 ** np.arange(9) / 1000)
    np.testing.assert_allclose(scenes.read_scene(tmp_path / "tursun", every=True).stops, np.arange(9))
    write_bracket(tmp_path / "kalantari", 5, 2 * np.arange(5) - 2)
    np.testing.assert_array_equal(scenes.read_scene(tmp_path / "kalantari", every=True).stops, [-2, 0, 2, 4, 6])


@pytest.mark.parametrize(
    ("name", "every", "message"),
    [
        ("exposure.txt", True, "HDRImg.hdr 02.tif 5 01.tif reference.txt"),  # in register with the second of the first three
        ("6.tif", True, "reference.txt 00.tif 6.tif"),
        ("03.tif", True, "HDRImg.hdr 02.tif 03.tif"),
        ("00.tif", False, "reference.txt 1"),
    ],
)
def test_radiance_in_register_with_another_image_is_refused(name, every, message, tmp_path):
    write_bracket(tmp_path, 5, 2 * np.arange(5))
    image_files.write_radiance(tmp_path / "HDRImg.hdr", radiance())
    if name.endswith(".tif"):
        (tmp_path / "reference.txt").write_text(name)
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        scenes.read_scene(tmp_path, every)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)
