"""`hdr_tf.fuse`: what holds for every network with any weights. Parity with the originals is in test_end_to_end.py."""

import inspect
import logging
import re
import weakref

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from PIL import ImageCms
from tensorflow.python.framework import kernels

import hdr_tf
from hdr_tf import device, systems
from hdr_tf.fusion import compiled, pipeline
from hdr_tf.image import tiling
from hdr_tf.io import image_files
from tests import helpers

MODELS = [name for name in systems.names("fusion") if name != "dqn_editor"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(37, 53), (8, 8), (40, 64)])
def test_shape_and_dtype_stay(model, dtype, size, weights):
    fused = hdr_tf.fuse(helpers.bracket(dtype, height=size[0], width=size[1]), model, weights[model])
    assert (fused.shape, fused.dtype) == ((*size, 3), dtype)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_in_gray_out(model, dtype, weights):
    gray = [image[..., 1] for image in helpers.bracket(dtype)]
    fused = hdr_tf.fuse(gray, model, weights[model])
    assert (fused.shape, fused.dtype) == ((37, 53), dtype)
    as_rgb = hdr_tf.fuse([np.dstack([image] * 3) for image in gray], model, weights[model])
    # Equal channels have the gray value as luminance: exactly in 8 bit, to the last bit of float32 in 16.
    assert np.abs(fused.astype(int) - as_rgb).max() <= (0 if dtype == np.uint8 else 1)


@pytest.mark.parametrize(("difference", "shape"), [(3, (37, 53)), (4, (37, 53, 3))])
def test_channels_up_to_three_levels_apart_are_gray(difference, shape, weights):
    images = [np.dstack([image[..., 1] // 2] * 3) for image in helpers.bracket()]
    for image in images:
        image[5, 5, 2] += difference
    assert hdr_tf.fuse(images, "densefuse_gray", weights["densefuse_gray"]).shape == shape


@pytest.mark.parametrize("model", MODELS)
def test_order_of_the_images_does_not_matter(model, weights):
    dark, bright = helpers.bracket()
    np.testing.assert_array_equal(
        hdr_tf.fuse([dark, bright], model, weights[model]), hdr_tf.fuse([bright, dark], model, weights[model])
    )


def test_keep_order(weights):
    dark, bright = helpers.bracket()
    sorted_, kept = (hdr_tf.fuse([bright, dark], "hyperp_mb", weights["hyperp_mb"], keep_order=k) for k in (False, True))
    assert (sorted_ != kept).any()  # its encoders differ


@pytest.mark.parametrize("model", MODELS)
def test_more_than_two(model, weights):
    images = helpers.bracket(gains=(0.2, 0.5, 1.0, 2.5))
    fused = hdr_tf.fuse(images, model, weights[model])
    assert fused.shape == (37, 53, 3)
    np.testing.assert_array_equal(hdr_tf.fuse(images[::-1], model, weights[model]), fused)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pyramid_returns_an_image_fused_with_itself(dtype, weights):
    image = helpers.bracket(dtype)[1]
    fused = hdr_tf.fuse([image] * 3, weights=weights["pyramid"])
    level = 1 if dtype == np.uint8 else 257
    assert np.abs(fused.astype(int) - image).max() <= level


@pytest.mark.parametrize("model", MODELS)
def test_8_and_16_bit_agree(model, weights):
    images = helpers.bracket()
    deep = [image.astype(np.uint16) * 257 for image in images]
    shallow, deep = (hdr_tf.fuse(p, model, weights[model]) for p in (images, deep))
    # In 8 bit, originals round or truncate up to four times, which colour spaces and DeepFuse's stretch multiply at places.
    assert np.abs(shallow - deep / 257).mean() <= (0.51 if model == "pyramid" else 2)


def test_mixed_depths_give_16_bit(weights, caplog):
    dark, bright = helpers.bracket()
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse([dark, bright.astype(np.uint16) * 257], weights=weights["pyramid"])
    assert fused.dtype == np.uint16
    assert helpers.mentioned("8 16", caplog.text)


@pytest.mark.parametrize("model", ["pyramid", "densefuse_gray"])
@pytest.mark.parametrize("gray_first", [True, False])
def test_gray_and_colour_keeps_the_colour(model, gray_first, weights, caplog):
    colour = (helpers.bracket(gains=(0.5,))[0] // 2) + 60
    gray = colour[..., 0] // 2 + 90
    pair = [gray, colour] if gray_first else [colour, gray]
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse(pair, model, weights[model])
    assert len(caplog.messages) == 1 and "gray" in caplog.text  # and none of their order
    inside = (fused > 0).all(axis=-1) & (fused < 255).all(axis=-1)
    expected, found = (image[..., 0].astype(int) - image[..., 2] for image in (colour, fused))
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found[inside], expected[inside], atol=2)  # R - B is free of luminance; rounded twice


@pytest.mark.parametrize(
    ("seconds", "logged"),
    [
        ((0.5, 0.01), None),  # EXIF contradicts the luminance, and wins
        ((0.5, None), "dark.jpg, bright.jpg"),
        ((0.5, 0.5), "dark.jpg, bright.jpg"),
    ],
)
def test_order_by_exif_or_by_luminance(seconds, logged, weights, tmp_path, caplog):
    pixels = zip(("dark", "bright"), helpers.bracket(), seconds, strict=True)
    paths = [helpers.write_photograph(tmp_path / f"{name}.jpg", image, time, quality=100) for name, image, time in pixels]
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse(paths, "hyperp_mb", weights["hyperp_mb"])
    order = paths if logged else paths[::-1]
    np.testing.assert_array_equal(fused, hdr_tf.fuse(order, "hyperp_mb", weights["hyperp_mb"], keep_order=True))
    assert (str(logged) in caplog.text) == bool(logged)


def test_paths_and_arrays_give_the_same(weights, tmp_path):
    images = helpers.bracket(np.uint16)
    paths = [tmp_path / "dark.png", tmp_path / "bright.tif"]
    for path, image in zip(paths, images, strict=True):
        image_files.write_image(path, image)
    np.testing.assert_array_equal(
        hdr_tf.fuse(paths, weights=weights["pyramid"]), hdr_tf.fuse(images, weights=weights["pyramid"])
    )


@pytest.mark.parametrize("suffix", ["webp", "avif"])
def test_phone_formats_without_exif_are_upright(suffix, weights, tmp_path):
    paths = [tmp_path / f"{name}.{suffix}" for name in ("dark", "bright")]
    for path, image in zip(paths, helpers.bracket(), strict=True):
        PIL.Image.fromarray(image).save(path)
    assert [image_files.read_image(path).orientation for path in paths] == [1, 1]
    fused = hdr_tf.fuse(paths, weights=weights["pyramid"])
    assert fused.shape == helpers.bracket()[0].shape


def test_alpha_is_dropped_with_a_note(weights, tmp_path, caplog):
    dark, bright = helpers.bracket()
    path = tmp_path / "alpha.png"
    PIL.Image.fromarray(np.dstack([dark, np.maximum(dark[..., 0], 1)])).save(path)
    with caplog.at_level(logging.INFO, "absl"):
        fused = hdr_tf.fuse([path, bright], weights=weights["pyramid"])
    np.testing.assert_array_equal(fused, hdr_tf.fuse([dark, bright], weights=weights["pyramid"]))
    assert helpers.mentioned(f"{path} alpha", caplog.text)


def test_networks_are_compiled_once(weights):
    arguments = {"model": "densefuse_rgb", "weights": weights["densefuse_rgb"]}
    hdr_tf.fuse(helpers.bracket(), **arguments)
    runner = systems.load_runner(**{"name" if key == "model" else key: value for key, value in arguments.items()})
    before = runner._compiled.cache_info()
    hdr_tf.fuse(helpers.bracket(height=41), **arguments)
    after = runner._compiled.cache_info()
    assert (after.hits, after.misses) == (before.hits + 2, before.misses)


@pytest.mark.parametrize("model", MODELS)
def test_tiles_equal_the_whole(model, weights, monkeypatch):
    images = np.random.default_rng(0).integers(0, 65536, (3, 75, 93, 3)).astype(np.uint16)
    whole = hdr_tf.fuse(images, model, weights[model], keep_order=True)
    monkeypatch.setattr(compiled, "UNTILED_LIMIT", 0)
    monkeypatch.setattr(compiled, "TILE", 32 // systems.SYSTEMS[model].tile_scale)
    tiled = hdr_tf.fuse(images, model, weights[model], keep_order=True)
    # Sums in another order; 1e-5 of the range is 0.66 levels, before rounding.
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).mean() < 0.02


@pytest.mark.parametrize(
    ("size", "tile"), [((75, 93), 32), ((17, 801), 64), ((400, 451), 128), ((770, 801), 256)], ids=lambda value: f"{value}"
)
def test_tiles_of_pyramid_give_the_same_levels(size, tile, monkeypatch):
    """Whether the context is at a quarter, an eighth or a sixteenth of the size."""
    images = helpers.noise(2, *size, 3)
    whole = hdr_tf.fuse(images, keep_order=True)
    monkeypatch.setattr(compiled, "UNTILED_LIMIT", 0)
    monkeypatch.setattr(compiled, "TILE", tile // systems.SYSTEMS["pyramid"].tile_scale)
    np.testing.assert_array_equal(hdr_tf.fuse(images, keep_order=True), whole)


def test_tiles_are_larger_on_a_gpu(monkeypatch):
    images, tiles, in_tiles = helpers.noise(2, 75, 93, 3), [], tiling.several_in_tiles
    monkeypatch.setattr(
        tiling, "several_in_tiles", lambda run, arrays, tile, halo: (tiles.append(tile), in_tiles(run, arrays, tile, halo))[1]
    )
    monkeypatch.setattr(compiled, "UNTILED_LIMIT", 0)
    on_cpu = hdr_tf.fuse(images, "densefuse_rgb")
    monkeypatch.setattr(device, "gpus", lambda: ["one"])
    np.testing.assert_array_equal(hdr_tf.fuse(images, "densefuse_rgb"), on_cpu)
    assert tiles == [512, 1024]


def test_every_operation_of_the_default_has_a_kernel_for_gpus():
    """Otherwise pixels would cross the bus as float32. TensorFlow registers its kernels for GPUs on every machine."""
    system = systems.find("pyramid")
    network = systems.load_network(system.name, system.weights_path(), **compiled.builder_arguments(system, 2, 64, 64))
    run = inspect.getclosurevars(compiled._compile_stage(system, network, network, eight_bit=True)).nonlocals["run"]
    graph = run.get_concrete_function().graph
    lacking = {operation.type for operation in graph.get_operations() if not _runs_on_gpus(operation)}
    assert lacking <= {"Const", "NoOp", "Placeholder", "ReadVariableOp"}  # nothing to compute


def _runs_on_gpus(operation):
    def takes(kernel):
        types = {constraint.name: constraint.allowed_values.list.type for constraint in kernel.constraint}
        asked = {name: keras.tree.flatten(operation.get_attr(name)) for name in types}
        return all(each.as_datatype_enum in types[name] for name, found in asked.items() for each in found)

    found = kernels.get_registered_kernels_for_op(operation.type).kernel
    return any(kernel.device_type == "GPU" and takes(kernel) for kernel in found)


@pytest.mark.slow
def test_memory_of_many_large_images():
    """Of each pixel more, in bytes: 21 are the images. Both sizes are fused by TensorFlow, in tiles."""
    program = """
import pathlib
import sys
import numpy as np
from tests import helpers
import hdr_tf
height, width = map(int, sys.argv[1:])
images = [np.full((height, width, 3), 30 * i, np.uint8) + helpers.noise(height, 1, 3) // 8 for i in range(7)]
hdr_tf.fuse(images, keep_order=True)
print(pathlib.Path("/proc/self/status").read_text())
"""
    peaks = []
    for height, width in ((1100, 1100), (3000, 4000)):
        result = helpers.run_python("-c", program, str(height), str(width), cwd=helpers.ROOT)
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", result.stdout)[1]) * 1024)
    assert (peaks[1] - peaks[0]) / (3000 * 4000 - 1100 * 1100) < 100


@pytest.mark.parametrize("model", MODELS[1:])
def test_the_halo_is_the_receptive_field_of_the_layers(model, weights):
    """Where kernels and images are positive, the gradient of one pixel of the result is not 0 on just what it sees."""
    network, (first, *_) = systems.load_network(model, weights[model]), systems.SYSTEMS[model].stages
    stage = network.get_layer(first.layer) if first.layer else network
    rng, side = np.random.default_rng(0), 2 * first.halo + 5
    channels = next(iter(stage.input.values())).shape[-1]
    inputs = {name: tf.constant(rng.uniform(0.2, 0.8, (1, side, side, channels)), tf.float32) for name in stage.input}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        (found,) = stage(inputs).values()
        pixel = tf.reduce_sum(found[0, side // 2, side // 2])
    for gradient in tape.gradient(pixel, inputs).values():
        seen = np.argwhere(gradient[0].numpy().any(axis=-1))
        assert (seen.min(axis=0).tolist(), seen.max(axis=0).tolist()) == ([2, 2], [side - 3, side - 3])


@pytest.mark.parametrize("method", ["homography", "mtb"])
def test_aligned_onto_the_middle_one(method, weights):
    big = helpers.bracket(gains=(0.4, 1.0, 1.8), height=120, width=140)
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 60, (24, 28, 1)), np.ones((5, 5, 1))).astype(np.uint8)

    def images(shifts):
        return [np.roll(image // 2 + texture, s, axis=1)[8:-8, 16:-16] for s, image in zip(shifts, big, strict=True)]

    def fused(shifts, align):
        return hdr_tf.fuse(images(shifts), weights=weights["pyramid"], align=align)[8:-8, 8:-8].astype(int)

    still = fused((3, 3, 3), "none")
    aligned, unaligned = (np.abs(fused((3, 3, 6), align) - still).mean() for align in (method, "none"))
    assert aligned < unaligned / 3  # not 0: a homography resamples


def test_nothing_else_holds_the_images_while_they_are_aligned(weights, tmp_path, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, image in zip(paths, helpers.bracket(gains=(0.4, 1.0, 1.8)), strict=True):
        image_files.write_image(path, image)
    alive = []

    def replace_images(images, *arguments):
        before = [weakref.ref(image) for image in images]
        images[:] = [image.copy() for image in images]
        alive.extend(image() for image in before)

    monkeypatch.setattr(pipeline, "align_in_place", replace_images)
    hdr_tf.fuse(paths, weights=weights["pyramid"], align="mtb")
    assert alive == [None] * 3


def test_crop_cuts_what_not_all_images_reach(weights, tmp_path):
    rng = np.random.default_rng(3)
    texture = np.kron(rng.integers(0, 250, (6, 7, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    images = [np.roll(texture // 2, (0, 6), (0, 1)), texture]
    arguments = {"weights": weights["pyramid"], "align": "mtb", "crop": True}
    fused = pipeline.fuse_files(images, tmp_path / "fused.png", save_aligned=tmp_path / "aligned", **arguments)
    assert fused.shape == (120, 134, 3)
    for path in (tmp_path / "fused.png", tmp_path / "aligned" / "1_image.png", tmp_path / "aligned" / "2_image.png"):
        assert image_files.read_image(path).pixels.shape[:2] == (120, 134)
    np.testing.assert_array_equal(fused, hdr_tf.fuse([texture[:, :-6] // 2, texture[:, :-6]], weights=weights["pyramid"]))


@pytest.mark.parametrize("name", ["fused.jpg", "fused.png", "fused.tif"])
def test_exif_and_profile_of_the_middle_image(name, weights, tmp_path, caplog):
    profiles = [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() for _ in range(2)]
    profiles[1] = profiles[1][:-1] + b"\1"  # padding
    paths = [tmp_path / f"{seconds}.jpg" for seconds in (0.5, 0.01, 0.1)]
    for path, image in zip(paths, helpers.bracket(gains=(1.6, 0.3, 0.8)), strict=True):
        helpers.write_photograph(path, image, float(path.stem), 6, icc_profile=profiles[path.stem == "0.1"])
    with caplog.at_level(logging.WARNING, "absl"):
        fused = pipeline.fuse_files(paths, tmp_path / name, weights=weights["pyramid"])
    assert helpers.mentioned(str(paths[2]), caplog.text)
    assert fused.shape == (53, 37, 3)  # upright
    with PIL.Image.open(tmp_path / name) as image:
        tags, icc = image.getexif(), image.info["icc_profile"]
        assert image.size == (37, 53) and tags[274] == 1 and tags.get_ifd(0x8769)[0x829A] == 0.1
    assert icc == profiles[1]


def test_any_iterable_of_images(weights, tmp_path):
    dark, bright = helpers.bracket()
    fused = hdr_tf.fuse([dark, bright], weights=weights["pyramid"])
    written = pipeline.fuse_files(iter([dark, bright]), tmp_path / "fused.png", weights=weights["pyramid"])
    np.testing.assert_array_equal(written, fused)


@pytest.mark.parametrize(
    ("output", "arguments", "message"),
    [
        ("new/fused.jpg", {"quality": 0}, "fused.jpg quality 1 100 0"),
        ("new/fused.exr", {}, "fused.exr .exr .png .tif"),
        ("new/fused.png", {"crop": True}, "crop align"),
        ("new/2_x.png", {"align": "mtb", "save_aligned": "new"}, "new/2_x.png"),
        ("new/fused.png", {"align": "mtb", "save_aligned": "."}, "2_x.png"),
    ],
)
def test_no_file_is_written_over_and_none_remains(output, arguments, message, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["2_x.png", "x.png"]  # aligned: 1_2_x.png and 2_x.png
    for name, image in zip(names, helpers.bracket(), strict=True):
        image_files.write_image(name, image)
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        pipeline.fuse_files(names, output, weights=weights["pyramid"], **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_ten_images_are_refused(weights):
    with pytest.raises(ValueError, match=helpers.mentions("2 9 10")):
        hdr_tf.fuse(helpers.bracket() * 5, weights=weights["pyramid"])


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        ([], {}, "2 0"),
        (helpers.bracket()[:1], {}, "2 1"),
        (helpers.bracket(), {"model": "mertens"}, "mertens pyramid deepfuse_official"),
        (
            helpers.bracket(),
            {"model": "deepfuse_sunnerli"},
            "--model=deepfuse_sunnerli --checkpoint=FILE",
        ),
        (helpers.bracket(), {"weights": "missing.weights.h5"}, "missing.weights.h5"),
        ("a.jpg", {}, "a.jpg"),
        ([helpers.smooth_scene(), helpers.smooth_scene()], {}, "1 37, 53, 3 float64"),
        ([np.zeros((9, 9, 4), np.uint8)] * 2, {}, "1 9, 9, 4 uint8"),
        ([*helpers.bracket(), helpers.bracket(width=41)[0]], {}, "3 41 x 37 1 53 x 37"),
        (helpers.bracket(height=7), {}, "1 8 x 8 53 x 7"),
    ],
)
def test_refused(images, arguments, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        hdr_tf.fuse(images, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("moved", [True, False])
def test_alignment_is_proposed_where_it_helps(moved, caplog):
    dark, bright = helpers.photographs((0.5, 1.0), height=112, width=128)
    pipeline.fuse([np.roll(dark, (6, 5), (0, 1)) if moved else dark, bright])
    assert helpers.mentioned("8 --align=auto --deghost", caplog.text) == moved
