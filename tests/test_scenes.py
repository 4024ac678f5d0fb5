"""Scene folders: read as the original reads them, written completely or not at all, refused in one line."""

import errno
import zlib

import numpy as np
import pytest

from hdr_tf.image import files, scenes, tone


def pictures(count=3, height=10, width=14, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (count, height, width, 3), dtype, endpoint=True)


def radiance(height=10, width=14):
    return np.random.default_rng(1).random((height, width, 3), np.float32)


@pytest.fixture
def folder(tmp_path):
    """A good scene that a test may damage."""
    scenes.write_scene(tmp_path / "012", pictures(), [0, 2, 4], radiance())
    return tmp_path / "012"


@pytest.mark.parametrize("golden_case", ["esbn_tfrecord"], indirect=True)
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
    scenes.write_scene(tmp_path / "set" / "001", pictures(dtype=dtype), [-1.5, 0, 0.1], hdr)
    scene = scenes.read_scene(tmp_path / "set" / "001")
    np.testing.assert_array_equal(scene.ldr, pictures(dtype=dtype))
    np.testing.assert_array_equal(scene.stops, [-1.5, 0, 0.1])
    assert scene.ldr.dtype == dtype and scene.at_8_bit().dtype == np.uint8
    if hdr is None:
        assert scene.hdr is None
    else:
        # Eight bits with the exponent of the largest channel: half a step is 1/256 of it, a step where rounding doubles it.
        assert (abs(scene.hdr - hdr) <= hdr.max(axis=2, keepdims=True) / 128).all()
        assert abs(scene.hdr.mean() / hdr.mean() - 1) < 1e-3  # and not darker on average
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")] == []


def stack(folder, count, text, name="exposure.txt", suffix=".tif"):
    """A folder of `count` pictures; returns their pixels."""
    folder.mkdir(exist_ok=True)
    pixels = pictures(count)
    for number, picture in enumerate(pixels):
        files.write_picture(folder / f"{number:02d}{suffix}", picture)
    (folder / name).write_text("".join(f"{value}\n" for value in text))
    return pixels


@pytest.mark.parametrize(
    ("count", "first", "suffix"), [(3, 0, ".tif"), (4, 1, ".tif"), (5, 1, ".png"), (6, 2, ".tif"), (7, 2, ".tiff")]
)
def test_of_sens_layout_the_middle_three(count, first, suffix, tmp_path):
    """As the loader counts: the middle is picture count // 2, and exposures begin at the shortest of the three."""
    pixels = stack(tmp_path, count, 1.5 * np.arange(count) - 4, "exposures.txt", suffix)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[first : first + 3])
    np.testing.assert_array_equal(scene.stops, [0, 1.5, 3])


@pytest.mark.parametrize("count", [9, 11])
@pytest.mark.parametrize("suffix", [".tiff", ".tif"])
def test_of_tursuns_layout_the_fifth_seventh_and_ninth(count, suffix, tmp_path):
    pixels = stack(tmp_path, count, 2.0 ** np.arange(count) / 1000, suffix=suffix)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[[4, 6, 8]])
    np.testing.assert_allclose(scene.exposures, [1, 4, 16])


@pytest.mark.parametrize(("count", "lines"), [(4, 3), (5, 5), (9, 3)])
def test_of_kalantaris_layout_the_first_three(count, lines, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(scenes.logging, "warning", lambda message, *values: told.append(message % values))
    pixels = stack(tmp_path, count, 2 * np.arange(lines) - 2)
    scene = scenes.read_scene(tmp_path)
    np.testing.assert_array_equal(scene.ldr, pixels[:3])
    np.testing.assert_array_equal(scene.stops, [-2, 0, 2])
    assert told == [f"{tmp_path}: the first three of {count} .tif pictures are taken"]


def test_radiance_beside_a_stack_goes_with_its_exposures(tmp_path):
    stack(tmp_path, 5, [-4, -2, 0, 2, 4], "exposures.txt")
    files.write_radiance(tmp_path / "HDRImg.hdr", radiance())
    as_it_stands = files.read_radiance(tmp_path / "HDRImg.hdr")
    np.testing.assert_array_equal(scenes.read_scene(tmp_path).hdr, as_it_stands / 4)


@pytest.mark.parametrize(
    ("count", "text", "name", "message"),
    [
        (2, [0, 2], "exposures.txt", "expected three pictures or more, found 2"),
        (5, [0, 2, 4], "exposures.txt", "expected 5 stops, one a picture, found 3"),
        (5, [0, 2, 4, 6], "exposure.txt", "expected 5 stops, one a picture, found 4"),
        (5, [4, 3, 2, 1, 0], "exposures.txt", "expected three increasing stops"),
        (9, np.arange(9), "exposure.txt", r"exposure.txt: expected 9 exposure times above 0, found \[0.0, 1.0"),
        (9, [*range(1, 9), "nan"], "exposure.txt", "expected 9 exposure times above 0"),
        (9, 2.0 ** -np.arange(9), "exposure.txt", "expected three increasing stops"),
    ],
)
def test_a_bad_stack_is_refused_in_one_line(count, text, name, message, tmp_path):
    stack(tmp_path, count, text, name)
    with pytest.raises(ValueError, match=message) as caught:
        scenes.read_scene(tmp_path)
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_endings_in_capitals_blank_lines_and_other_files(folder):
    for path in folder.glob("*.tif"):
        path.rename(path.with_suffix(".TIF"))
    (folder / "exposure.txt").write_text("\r\n-2.00\r\n0.00\r\n2.00\r\n\r\n")
    files.write_picture(folder / "preview.png", pictures()[0])
    files.write_picture(folder / ".4.tif", pictures()[0])
    scene = scenes.read_scene(folder)
    np.testing.assert_array_equal(scene.ldr, pictures())
    np.testing.assert_array_equal(scene.stops, [-2, 0, 2])


def with_hdr(value):
    def damage(folder):
        values = radiance()
        values[0, 0, 0], values[3, 3, 1] = value, value
        files.write_radiance(folder / "wrong.exr", values)
        (folder / "wrong.exr").replace(folder / "HDRImg.hdr")  # a file is known by its first bytes

    return damage


def with_text(text):
    return lambda folder: (folder / "exposure.txt").write_bytes(text)


def with_picture(pixels):
    return lambda folder: files.write_picture(folder / "2.tif", pixels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "3.tif").unlink(), "012: expected three .tif pictures, found 2"),
        (with_picture(pictures(height=11)[0]), r"012: expected three pictures of one size.*14 x 10.*2.tif of 14 x 11"),
        (with_picture(pictures(dtype=np.uint8)[0]), r"012: expected three pictures of one.*uint16.*2.tif.*uint8"),
        (with_picture(pictures()[0][..., 0]), "012/2.tif: expected a colour picture"),
        (lambda folder: (folder / "2.tif").write_bytes(b"II*\0"), "012/2.tif: expected a complete TIFF"),
        (lambda folder: (folder / "exposure.txt").unlink(), "012: expected exposure.txt"),
        (with_text(b""), "012/exposure.txt: expected 3 stops, one a picture, found 0"),
        (with_text(b"0\n2\n"), "012/exposure.txt: expected 3 stops, one a picture, found 2"),
        (with_text(b"0\n2\n4\n6\n"), "012/exposure.txt: expected 3 stops, one a picture, found 4"),
        (with_text(b"0\ntwo\n4\n"), "012/exposure.txt: expected 3 lines with a number each, found '0 two 4'"),
        (with_text(b"\xff\xfe0"), "012/exposure.txt: expected 3 lines with a number each, found no text"),
        (with_text(b"0\n4\n2\n"), r"012: expected three increasing stops .*\[0.0, 4.0, 2.0\]"),
        (with_text(b"0\n0\n2\n"), "012: expected three increasing stops"),
        (with_text(b"0\nnan\n2\n"), "012: expected three increasing stops"),
        (with_text(b"0\n2\n2000\n"), "012: expected three increasing stops within -100..100"),
        (with_hdr(np.nan), "012: expected finite radiance from 0 in HDRImg.hdr, found values that are not: 2 NaN$"),
        (with_hdr(-0.1), "012: .* 2 negative$"),
        (with_hdr(np.inf), "012: .* 2 infinite$"),
        (lambda folder: (folder / "HDRImg.hdr").write_bytes(b"#?RADIANCE\n"), "012/HDRImg.hdr: expected FORMAT"),
        (
            lambda folder: files.write_radiance(folder / "HDRImg.hdr", radiance(10, 13)),
            r"012: expected radiance as large as the pictures, 14 x 10 .*, found 13 x 10",
        ),
    ],
)
def test_a_bad_scene_is_refused_in_one_line(damage, message, folder):
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        scenes.read_scene(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_list_scenes(folder):
    above = folder.parent
    (above / ".hidden").mkdir()
    (above / "notes.txt").touch()
    scenes.write_scene(above / "002", pictures(), [0, 2, 4])
    for name, kept in (("100", "*.tif"), ("101", "exposure.txt")):
        scenes.write_scene(above / name, pictures(), [0, 2, 4])
        for path in set((above / name).iterdir()) - set((above / name).glob(kept)):
            path.unlink()
    complete, incomplete = scenes.list_scenes(above)
    assert complete == [above / "002", folder]
    assert [line.split(": expected ")[0] for line in incomplete] == [str(above / "100"), str(above / "101")]


def test_list_scenes_refuses_what_holds_none(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "all" / "001").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty: expected folders with three .tif and exposure.txt each, found none"):
        scenes.list_scenes(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"all: expected .* found 1 incomplete \(.*001: expected exposure.txt"):
        scenes.list_scenes(tmp_path / "all")
    with pytest.raises(ValueError, match="missing: expected a folder of scenes"):
        scenes.list_scenes(tmp_path / "missing")
    with pytest.raises(ValueError, match="012: .* found a scene itself: give the folder above it"):
        scenes.list_scenes(folder)


def test_an_empty_folder_is_no_scene(tmp_path):
    with pytest.raises(ValueError, match="expected exposure.txt"):
        scenes.read_scene(tmp_path)


@pytest.mark.parametrize(
    ("ldr", "stops", "hdr", "message"),
    [
        (pictures(2), [0, 2, 4], None, r"expected pictures \[3, H, W, 3\]"),
        (pictures() / 65535, [0, 2, 4], None, "of uint8 or uint16, found .*float64"),
        (pictures(), [0, 2], None, "expected three increasing stops"),
        (pictures(), [4, 2, 0], None, "expected three increasing stops"),
        (pictures(), [0, 2, 4], -radiance(), "420 negative"),
        (pictures(), [0, 2, 4], radiance(8), "as large as the pictures"),
    ],
)
def test_write_scene_refuses_what_is_none(ldr, stops, hdr, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        scenes.write_scene(tmp_path / "001", ldr, stops, hdr)
    assert list(tmp_path.iterdir()) == []


def test_write_scene_overwrites_nothing(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="012: expected a folder that is not there yet"):
        scenes.write_scene(folder, pictures(), [0, 3, 6])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    write_picture = files.write_picture

    def full(path, pixels):
        if path.name == "3.tif":
            raise OSError(f"{path}: cannot be written: No space left on device")
        write_picture(path, pixels)

    monkeypatch.setattr(files, "write_picture", full)
    with pytest.raises(OSError, match="001: cannot be written: No space left on device$"):
        scenes.write_scene(tmp_path / "001", pictures(), [0, 2, 4])
    monkeypatch.undo()
    monkeypatch.setattr(files, "write_radiance", lambda path, values: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="001: cannot be written: full$"):
        scenes.write_scene(tmp_path / "001", pictures(), [0, 2, 4], radiance())
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
