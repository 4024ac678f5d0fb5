"""`hdr_tf.fuse`: what holds for every network with any weights. Parity with the originals is in test_end_to_end.py."""

import logging

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from PIL import ImageCms

import hdr_tf
from hdr_tf import fusing
from hdr_tf.image import files

MODELS = list(fusing.SYSTEMS)


def scene(height=37, width=53):
    """A colour picture of smooth shapes, [H, W, 3] in 0..1; sizes are prime."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([(1 + np.sin(7 * x + 3 * y + 2 * i) * np.cos(5 * y - i * x)) / 2 for i in range(3)], axis=-1)


def bracket(dtype=np.uint8, gains=(0.35, 1.6), **size):
    """Exposures of `scene`, dark to bright."""
    top = np.iinfo(dtype).max
    return [np.clip(scene(**size) * gain * top, 0, top).astype(dtype) for gain in gains]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(37, 53), (8, 8), (40, 64)])
def test_shape_and_dtype_stay(model, dtype, size, weights):
    fused = hdr_tf.fuse(bracket(dtype, height=size[0], width=size[1]), model, weights[model])
    assert (fused.shape, fused.dtype) == ((*size, 3), dtype)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_in_gray_out(model, dtype, weights):
    gray = [picture[..., 1] for picture in bracket(dtype)]
    fused = hdr_tf.fuse(gray, model, weights[model])
    assert (fused.shape, fused.dtype) == ((37, 53), dtype)
    as_rgb = hdr_tf.fuse([np.dstack([picture] * 3) for picture in gray], model, weights[model])
    # Equal channels have the gray value as luminance: exactly in 8 bit, to the last bit of float32 in 16.
    assert np.abs(fused.astype(int) - as_rgb).max() <= (0 if dtype == np.uint8 else 1)


@pytest.mark.parametrize(("difference", "shape"), [(3, (37, 53)), (4, (37, 53, 3))])
def test_channels_up_to_three_levels_apart_are_gray(difference, shape, weights):
    pictures = [np.dstack([picture[..., 1] // 2] * 3) for picture in bracket()]
    for picture in pictures:
        picture[5, 5, 2] += difference
    assert hdr_tf.fuse(pictures, "densefuse_gray", weights["densefuse_gray"]).shape == shape


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_pictures_does_not_matter(model, weights):
    dark, bright = bracket()
    np.testing.assert_array_equal(
        hdr_tf.fuse([dark, bright], model, weights[model]), hdr_tf.fuse([bright, dark], model, weights[model])
    )


def test_keep_order(weights):
    dark, bright = bracket()
    sorted_, kept = (hdr_tf.fuse([bright, dark], "hyperp_mb", weights["hyperp_mb"], keep_order=k) for k in (False, True))
    assert (sorted_ != kept).any()  # its encoders differ


@pytest.mark.parametrize("model", MODELS)
def test_more_than_two(model, weights):
    pictures = bracket(gains=(0.2, 0.5, 1.0, 2.5))
    fused = hdr_tf.fuse(pictures, model, weights[model])
    assert fused.shape == (37, 53, 3)
    np.testing.assert_array_equal(hdr_tf.fuse(pictures[::-1], model, weights[model]), fused)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pyramid_returns_a_picture_fused_with_itself(dtype, weights):
    picture = bracket(dtype)[1]
    fused = hdr_tf.fuse([picture] * 3, weights=weights["pyramid"])
    level = 1 if dtype == np.uint8 else 257
    assert np.abs(fused.astype(int) - picture).max() <= level


@pytest.mark.parametrize("model", MODELS)
def test_8_and_16_bit_agree(model, weights):
    pictures = bracket()
    deep = [picture.astype(np.uint16) * 257 for picture in pictures]
    shallow, deep = (hdr_tf.fuse(p, model, weights[model]) for p in (pictures, deep))
    # In 8 bit, originals round or truncate up to four times, which colour spaces and DeepFuse's stretch multiply at places.
    assert np.abs(shallow - deep / 257).mean() <= (0.51 if model == "pyramid" else 2)


def test_mixed_depths_give_16_bit(weights, caplog):
    dark, bright = bracket()
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse([dark, bright.astype(np.uint16) * 257], weights=weights["pyramid"])
    assert fused.dtype == np.uint16
    assert "some pictures have 8 bit and some 16: fused in 16 bit" in caplog.text


@pytest.mark.parametrize("model", ["pyramid", "densefuse_gray"])
@pytest.mark.parametrize("gray_first", [True, False])
def test_gray_and_colour_keeps_the_colour(model, gray_first, weights, caplog):
    colour = (bracket(gains=(0.5,))[0] // 2) + 60
    gray = colour[..., 0] // 2 + 90
    pair = [gray, colour] if gray_first else [colour, gray]
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse(pair, model, weights[model])
    assert "one gray and one colour picture" in caplog.text
    assert "sorted" not in caplog.text
    inside = (fused > 0).all(axis=-1) & (fused < 255).all(axis=-1)
    expected, found = (picture[..., 0].astype(int) - picture[..., 2] for picture in (colour, fused))
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found[inside], expected[inside], atol=2)  # R - B is free of luminance; rounded twice


def write_jpeg(path, pixels, seconds):
    exif = PIL.Image.Exif()
    if seconds:
        exif.get_ifd(0x8769)[0x829A] = seconds  # ExposureTime
    PIL.Image.fromarray(pixels).save(path, quality=100, exif=exif)
    return path


@pytest.mark.parametrize(
    ("seconds", "logged"),
    [
        ((0.5, 0.01), None),  # EXIF contradicts the luminance, and wins
        ((0.5, None), "dark.jpg, bright.jpg"),
        ((0.5, 0.5), "dark.jpg, bright.jpg"),
    ],
)
def test_order_by_exif_or_by_luminance(seconds, logged, weights, tmp_path, caplog):
    pixels = zip(("dark", "bright"), bracket(), seconds, strict=True)
    paths = [write_jpeg(tmp_path / f"{name}.jpg", picture, time) for name, picture, time in pixels]
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse(paths, "hyperp_mb", weights["hyperp_mb"])
    order = paths if logged else paths[::-1]
    np.testing.assert_array_equal(fused, hdr_tf.fuse(order, "hyperp_mb", weights["hyperp_mb"], keep_order=True))
    assert (f"sorted by mean luminance: {logged}" in caplog.text) == bool(logged)


def test_paths_and_arrays_give_the_same(weights, tmp_path):
    pictures = bracket(np.uint16)
    paths = [tmp_path / "dark.png", tmp_path / "bright.tif"]
    for path, picture in zip(paths, pictures, strict=True):
        files.write_picture(path, picture)
    np.testing.assert_array_equal(
        hdr_tf.fuse(paths, weights=weights["pyramid"]), hdr_tf.fuse(pictures, weights=weights["pyramid"])
    )


def test_alpha_is_dropped_with_a_note(weights, tmp_path, caplog):
    dark, bright = bracket()
    path = tmp_path / "alpha.png"
    PIL.Image.fromarray(np.dstack([dark, dark[..., 0]])).save(path)
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse([path, bright], weights=weights["pyramid"])
    np.testing.assert_array_equal(fused, hdr_tf.fuse([dark, bright], weights=weights["pyramid"]))
    assert f"{path}: alpha dropped" in caplog.text


def test_networks_are_compiled_once(weights):
    arguments = {"model": "densefuse_rgb", "weights": weights["densefuse_rgb"]}
    hdr_tf.fuse(bracket(), **arguments)
    before = fusing._compile.cache_info()
    hdr_tf.fuse(bracket(height=41), **arguments)
    after = fusing._compile.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)


@pytest.mark.parametrize("model", MODELS)
def test_tiles_equal_the_whole(model, weights, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 65536, (3, 75, 93, 3)).astype(np.uint16)
    whole = hdr_tf.fuse(pictures, model, weights[model], keep_order=True)
    monkeypatch.setattr(fusing, "WHOLE", 0)
    monkeypatch.setattr(fusing, "TILE", 32 // fusing.SYSTEMS[model].tiles)
    tiled = hdr_tf.fuse(pictures, model, weights[model], keep_order=True)
    # Sums in another order; 1e-5 of the range is 0.66 levels, before rounding.
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).mean() < 0.02


@pytest.mark.parametrize("model", MODELS[1:])
def test_reach_is_that_of_the_layers(model, weights):
    """Where kernels and pictures are positive, the gradient of one pixel of the result is not 0 on just what it sees."""
    network = fusing.load_network(model, weights[model])
    part, reach = fusing.SYSTEMS[model].parts(network, exposures=2)[0], fusing.SYSTEMS[model].reach[0]
    rng, side = np.random.default_rng(0), 2 * reach + 5
    channels = next(iter(part.input.values())).shape[-1]
    inputs = {name: tf.constant(rng.uniform(0.2, 0.8, (1, side, side, channels)), tf.float32) for name in part.input}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        (found,) = part(inputs).values()
        pixel = tf.reduce_sum(found[0, side // 2, side // 2])
    for gradient in tape.gradient(pixel, inputs).values():
        seen = np.argwhere(gradient[0].numpy().any(axis=-1))
        assert (seen.min(axis=0).tolist(), seen.max(axis=0).tolist()) == ([2, 2], [side - 3, side - 3])


@pytest.mark.parametrize("method", ["homography", "mtb"])
def test_aligned_onto_the_middle_one(method, weights):
    big = bracket(gains=(0.4, 1.0, 1.8), height=120, width=140)
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 60, (24, 28, 1)), np.ones((5, 5, 1))).astype(np.uint8)

    def pictures(shifts):
        return [np.roll(picture // 2 + texture, s, axis=1)[8:-8, 16:-16] for s, picture in zip(shifts, big, strict=True)]

    def fused(shifts, align):
        return hdr_tf.fuse(pictures(shifts), weights=weights["pyramid"], align=align)[8:-8, 8:-8].astype(int)

    still = fused((3, 3, 3), "none")
    aligned, unaligned = (np.abs(fused((3, 3, 6), align) - still).mean() for align in (method, "none"))
    assert aligned < unaligned / 3  # not 0: a homography resamples


def test_crop_cuts_what_not_all_pictures_reach(weights, tmp_path):
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 250, (6, 7, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    pictures = [np.roll(texture // 2, (0, 6), (0, 1)), texture]
    arguments = {"weights": weights["pyramid"], "align": "mtb", "crop": True}
    fused = fusing.fuse_files(pictures, tmp_path / "fused.png", save_aligned=tmp_path / "aligned", **arguments)
    assert fused.shape == (120, 134, 3)
    for path in (tmp_path / "fused.png", tmp_path / "aligned" / "1_picture.png", tmp_path / "aligned" / "2_picture.png"):
        assert files.read_picture(path).pixels.shape[:2] == (120, 134)
    np.testing.assert_array_equal(fused, hdr_tf.fuse([texture[:, :-6] // 2, texture[:, :-6]], weights=weights["pyramid"]))


@pytest.mark.parametrize("name", ["fused.jpg", "fused.png", "fused.tif"])
def test_exif_and_profile_of_the_middle_picture(name, weights, tmp_path, caplog):
    profiles = [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() for _ in range(2)]
    profiles[1] = profiles[1][:-1] + b"\1"  # padding
    paths = [tmp_path / f"{seconds}.jpg" for seconds in (0.5, 0.01, 0.1)]
    for path, picture in zip(paths, bracket(gains=(1.6, 0.3, 0.8)), strict=True):
        exif = PIL.Image.Exif()
        exif[274] = 6
        exif.get_ifd(0x8769)[0x829A] = float(path.stem)
        PIL.Image.fromarray(picture).save(path, exif=exif, icc_profile=profiles[path.stem == "0.1"])
    with caplog.at_level(logging.WARNING, "absl"):
        fused = fusing.fuse_files(paths, tmp_path / name, weights=weights["pyramid"])
    assert f"differ in their colour profiles; the result has that of {paths[2]}" in caplog.text
    assert fused.shape == (53, 37, 3)  # upright
    with PIL.Image.open(tmp_path / name) as image:
        tags, icc = image.getexif(), image.info["icc_profile"]
        assert image.size == (37, 53) and tags[274] == 1 and tags.get_ifd(0x8769)[0x829A] == 0.1
    assert icc == profiles[1]


def test_any_iterable_of_pictures(weights, tmp_path):
    dark, bright = bracket()
    fused = hdr_tf.fuse([dark, bright], weights=weights["pyramid"])
    written = fusing.fuse_files(iter([dark, bright]), tmp_path / "fused.png", weights=weights["pyramid"])
    np.testing.assert_array_equal(written, fused)


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        ("new/fused.jpg", {"quality": 0}, "fused.jpg: expected a JPEG quality of 1 to 100, found 0"),
        ("new/fused.exr", {}, "fused.exr: .exr holds radiance, and this model makes a picture for display"),
        ("new/fused.png", {"crop": True}, "crop: there is nothing to cut without align"),
        ("new/2_x.png", {"align": "mtb", "save_aligned": "new"}, "2_x.png: would be the output and an aligned picture"),
        ("new/fused.png", {"align": "mtb", "save_aligned": "."}, "2_x.png: is one of the pictures to fuse"),
    ],
)
def test_no_file_is_written_over_and_none_remains(output, arguments, message, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["2_x.png", "x.png"]  # aligned: 1_2_x.png and 2_x.png
    for name, picture in zip(names, bracket(), strict=True):
        files.write_picture(name, picture)
    with pytest.raises(ValueError, match=message):
        fusing.fuse_files(names, output, weights=weights["pyramid"], **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_ten_pictures_are_refused(weights):
    with pytest.raises(ValueError, match="2 to 9"):
        hdr_tf.fuse(bracket() * 5, weights=weights["pyramid"])


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ([], {}, "expected at least 2 pictures to fuse, found 0"),
        (bracket()[:1], {}, "expected at least 2 pictures to fuse, found 1"),
        (bracket(), {"model": "mertens"}, "unknown model 'mertens': expected one of pyramid, deepfuse_official"),
        (bracket(), {"model": "deepfuse_sunnerli"}, "convert_checkpoint.py --model=deepfuse_sunnerli --checkpoint=FILE"),
        (bracket(), {"weights": "missing.weights.h5"}, "missing.weights.h5: expected a .weights.h5 file, found none"),
        ("a.jpg", {}, "expected a list of pictures, found the one path 'a.jpg'"),
        ([scene(), scene()], {}, r"picture 1: expected .* found \[37, 53, 3\] of float64"),
        ([np.zeros((9, 9, 4), np.uint8)] * 2, {}, r"picture 1: expected .* found \[9, 9, 4\] of uint8"),
        ([*bracket(), bracket(width=41)[0]], {}, "picture 3 is 41 x 37 pixels and picture 1 53 x 37"),
        (bracket(height=7), {}, "picture 1: expected at least 8 x 8 pixels, found 53 x 7"),
    ],
)
def test_refused(images, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        hdr_tf.fuse(images, **arguments)
    assert "\n" not in str(caught.value)
