"""Training examples of the published fusion networks, and records of captured images that they come from."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hdr_tf.image import color, exposure_fusion
from hdr_tf.io import image_files
from tests import helpers
from tfrecords import dataset, examples, images
from tools import make_tfrecord

SIZE = 40


def bracket_of(*levels, side=24):
    """Images of noise around these levels, the same noise in each."""
    noise = np.random.default_rng(0).integers(-10, 11, (side, side, 3))
    return np.stack([np.clip(level + noise, 0, 255) for level in levels]).astype(np.uint8)


def drawn(example, bracket, count=40, **arguments):
    return [example(bracket, np.random.default_rng(seed), **arguments) for seed in range(count)]


@pytest.mark.parametrize("form", ["official", "sunnerli"])
def test_deepfuse_draws_one_image_below_the_mean_brightness_and_one_above(form):
    bracket = bracket_of(120, 20, 200, 60)  # mean 100
    luminance = {"official": color.deepfuse_official_split, "sunnerli": color.deepfuse_sunnerli_split}[form]
    levels = [luminance(image)[0] / 127.5 - 1 if form == "sunnerli" else luminance(image)[0] for image in bracket]
    found = drawn(examples.deepfuse, bracket, patch=24, form=form)
    for side, expected in (("under", {1, 3}), ("over", {0, 2})):
        which = {next(i for i in range(4) if np.allclose(example[side][..., 0], levels[i], atol=1e-6)) for example in found}
        assert which == expected
        assert found[0][side].shape == (24, 24, 1) and found[0][side].dtype == np.float32


def test_deepfuse_takes_images_of_one_brightness():
    assert examples.deepfuse(np.zeros((3, 8, 8, 3), np.uint8), np.random.default_rng(0), 8, "sunnerli")["over"].min() == -1


def test_crops_are_the_same_square_of_all_images_and_lie_everywhere():
    row, column = np.mgrid[:6, :9]
    bracket = np.repeat(np.dstack([row, column, 0 * row])[None], 3, axis=0).astype(np.uint8)
    corners = set()
    for seed in range(200):
        crop = examples.random_crop(bracket, 4, np.random.default_rng(seed))
        assert crop.shape == (3, 4, 4, 3) and (crop == crop[:1]).all()
        corners.add(tuple(crop[0, 0, 0, :2].tolist()))
    assert corners == {(top, left) for top in range(3) for left in range(6)}
    with pytest.raises(ValueError, match=helpers.mentions("7 x 7 9 x 6")):
        examples.random_crop(bracket, 7, np.random.default_rng(0))


def test_densefuse_takes_any_image_of_a_stack():
    bracket = bracket_of(50, 100, 150)
    found = drawn(examples.densefuse, bracket, patch=24, channels=3)
    assert {int(np.flatnonzero((bracket == example["picture"]).all(axis=(1, 2, 3)))[0]) for example in found} == {0, 1, 2}
    gray = examples.densefuse(bracket[:1], np.random.default_rng(0), 24, 1)["picture"]
    np.testing.assert_array_equal(gray[..., 0], np.asarray(Image.fromarray(bracket[0]).convert("L"), np.float32))


@helpers.golden_cases("hyperp_mb_hyperparameters")
def test_masks_and_lambdas_equal_the_original(golden, golden_case):
    images_, expected = golden.inputs(golden_case), golden.outputs(golden_case)
    row, column = np.mgrid[:64, :64]
    scene = (images_["scene_noise"] // 4 + 96 * row // 64 + 96 * column // 64).astype(np.uint8)
    masks = {
        "mask_50_low": examples.blur_mask(np.float32(scene), 50),
        "mask_50_high": 1 - examples.blur_mask(np.float32(scene), 50),
        "mask_10_low_float": examples.blur_mask(np.float32(scene), 10),
        "mask_10_low": examples.blur_mask(scene, 10),
        "mask_10_high": 1 - examples.blur_mask(scene, 10),
        "mask_50_low_uint8": examples.blur_mask(scene, 50),
    }
    for name, mask in masks.items():
        assert mask.dtype == np.float32
        # The same OpenCV function; other builds of it may add up in another order. One of the 8-bit masks has 8 levels.
        np.testing.assert_allclose(mask, expected[name], rtol=0, atol=1e-6, err_msg=name)
    for name, (under, over, target) in {"high": ["high"] * 3, "low": ["low"] * 3, "mixed": ["low", "high", "high"]}.items():
        found = examples.lambdas(*(np.float32(images_[key]) for key in (f"under_{under}", f"over_{over}", f"target_{target}")))
        np.testing.assert_allclose(found, [expected[f"{name}.lambda1"], expected[f"{name}.lambda2"]], rtol=1e-6)


def test_hyperp_mb_takes_the_middle_image_and_its_neighbours():
    bracket = bracket_of(30, 80, 120, 160, 220)
    example = examples.hyperp_mb(bracket, np.random.default_rng(0), 24)
    for name, number in (("under", 1), ("target", 2), ("over", 3)):
        np.testing.assert_array_equal(example[name][..., 0], color.luminance(bracket[number]))
    for name in ("low_mask", "high_mask"):
        assert example[name].min() == 0 and example[name].max() == 1
    assert (example["low"] <= example["under"]).all() and (example["high"] <= example["over"]).all()
    assert example["low_lambda"] + example["high_lambda"] == pytest.approx(2)
    assert {array.dtype for array in example.values()} == {np.dtype(np.float32)}


def test_hyperp_mb_takes_the_mertens_fusion_of_all():
    bracket = bracket_of(30, 80, 120, 160, 220)
    fused, drawn = color.luminance(exposure_fusion.mertens_reference(bracket)).astype(int), []
    for seed in range(12):
        example = examples.hyperp_mb(bracket, np.random.default_rng(seed), 24, "mertens")
        drawn.append(
            [
                [np.array_equal(example[name][..., 0], color.luminance(x)) for x in bracket].index(True)
                for name in ("under", "over")
            ]
        )
        assert np.abs(example["target"][..., 0] - fused).max() <= 1  # OpenCV's fusion is not the same to the bit twice
    assert {tuple(pair) for pair in drawn} == {(0, 3), (0, 4), (1, 3), (1, 4)}


@pytest.mark.parametrize("levels", [(0, 0, 0), (255, 255, 255), (0, 128, 255)])
def test_flat_images_give_finite_numbers(levels):
    """Black and white patches are found in real brackets; the original divides 0 by 0."""
    bracket = np.stack([np.full((20, 20, 3), level, np.uint8) for level in levels])
    example = examples.hyperp_mb(bracket, np.random.default_rng(0), 20)
    assert all(np.isfinite(array).all() for array in example.values())
    assert (example["low_mask"] == 0).all() and (example["high_mask"] == 1).all()
    assert (example["low_lambda"], example["high_lambda"]) == (1, 1)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """brackets/ with two good scenes and three bad ones, triplets/ of two, and single/ of three files and a damaged one."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)

    def write(name, level, shape=(30, 50, 3), dtype=np.uint8):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.clip(level + rng.integers(-20, 21, shape), 0, 255).astype(dtype)
        image_files.write_image(folder / name, pixels * dtype(257 if dtype == np.uint16 else 1))

    for scene, levels in {"a": (200, 40, 120), "b": (50, 180), "lonely": (90,), "damaged": (50, 180)}.items():
        for number, level in enumerate(levels):
            write(f"brackets/{scene}/{number}.png", level)
    (folder / "brackets/damaged/2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("0.png", "1.png"):
        write(f"brackets/flat/{name}", 1000)
    for name, level in {"input1": 40, "target": 120, "input2": 210}.items():
        for number in range(2):
            write(f"triplets/{name}/{number}_{name}.png", level)
    write("single/a.jpg", 100)
    write("single/b.tif", 120, dtype=np.uint16)
    write("single/c.png", 140, shape=(33, 20))
    (folder / "single/d.png").write_bytes(b"")
    return folder


def records(folder):
    return {record["source"].numpy().decode(): record for record in dataset.load(folder)}


def test_sub_folders_become_brackets_darkest_first(photographs, tmp_path, capsys, monkeypatch):
    assert images.BRACKET_SIZE == (1200, 800)
    monkeypatch.setattr(images, "BRACKET_SIZE", (60, 40))  # a quarter of a second instead of ten
    make_tfrecord.main(
        make_tfrecord.Config(
            kind="bracket", brackets=str(photographs / "brackets"), output=str(tmp_path / "set"), num_processes=1
        )
    )
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 3
    for line, part in zip(message, ("damaged/2.png", "flat", "lonely/0.png"), strict=True):
        assert helpers.mentioned(part, line)
    found = records(tmp_path / "set")
    assert found.keys() == {"a", "b"}
    assert found["a"]["exposures"].shape == (3, 40, 60, 3) and np.isnan(found["a"]["ev"]).all()
    assert (np.diff(found["a"]["exposures"].numpy().mean(axis=(1, 2, 3))) > 0).all()
    expected = cv2.resize(image_files.read_image(photographs / "brackets/a/1.png").pixels, (60, 40))
    np.testing.assert_array_equal(found["a"]["exposures"][0], expected)
    assert dataset.read_manifest(tmp_path / "set")["arguments"]["exposures"] == [2, 3]


def test_triplets_become_brackets_of_three(photographs, tmp_path):
    make_tfrecord.main(
        make_tfrecord.Config(
            kind="bracket",
            triplets=str(photographs / "triplets"),
            output=str(tmp_path / "set"),
            size=SIZE,
            num_processes=1,
            count=1,
        )
    )
    (record,) = records(tmp_path / "set").values()
    for number, name in enumerate(("input1", "target", "input2")):
        expected = cv2.resize(image_files.read_image(photographs / "triplets" / name / f"0_{name}.png").pixels, (SIZE, SIZE))
        np.testing.assert_array_equal(record["exposures"][number], expected)


def test_photographs_become_images(photographs, tmp_path, capsys):
    make_tfrecord.main(
        make_tfrecord.Config(
            kind="images", images=str(photographs / "single"), output=str(tmp_path / "set"), size=SIZE, num_processes=1
        )
    )
    assert "d.png" in (message := capsys.readouterr().err) and message.count("\n") == 1
    found = records(tmp_path / "set")
    assert found.keys() == {"a.jpg", "b.tif", "c.png"}
    gray = image_files.read_image(photographs / "single/c.png").pixels
    expected = np.asarray(Image.fromarray(gray).resize((SIZE, SIZE), Image.Resampling.NEAREST))
    for channel in range(3):
        np.testing.assert_array_equal(found["c.png"]["picture"][..., channel], expected)
    sixteen = image_files.read_image(photographs / "single/b.tif").pixels
    assert set(np.unique(found["b.tif"]["picture"])) <= set(np.unique(sixteen // 257))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"kind": "images"}, "--images"),
        ({"kind": "images", "images": "triplets"}, "triplets JPEG PNG TIFF"),
        ({"kind": "images", "images": "single", "count": 4}, "single 0 3 4"),
        ({"kind": "images", "images": "single", "size": 8}, "16 8"),
        ({"brackets": "single"}, "single"),
        ({"brackets": "brackets", "triplets": "triplets"}, "--hdr_dir --photos --brackets --triplets"),
        ({"brackets": "brackets", "photos": True}, "--hdr_dir --photos --brackets --triplets"),
        ({"kind": "pictures"}, "images kalantari"),
    ],
)
def test_flags_that_cannot_be(photographs, tmp_path, flags, message):
    flags = {"kind": "bracket", "output": str(tmp_path / "set"), "num_processes": 1} | flags
    flags |= {name: str(photographs / flags[name]) for name in ("images", "brackets", "triplets") if name in flags}
    with pytest.raises(ValueError, match=helpers.mentions(message)) as error:
        make_tfrecord.main(make_tfrecord.Config(**flags))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists()


def test_triplets_belong_together(photographs, tmp_path):
    for name, count in {"input1": 2, "target": 1, "input2": 2}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            source = photographs / "triplets" / name / f"{number}_{name}.png"
            (tmp_path / name / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match=r"\b2\b.*\b1\b.*\b2\b"):
        images.write_triplets(tmp_path / "set", tmp_path)
