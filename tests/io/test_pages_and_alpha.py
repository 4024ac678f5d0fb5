"""Which page of a TIFF is the picture, and what alpha says: read, fused, merged and written."""

import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image

import hdr_tf
from hdr_tf.commands import merge
from hdr_tf.image import tone
from hdr_tf.io import exif, image_files, profiles
from tests import helpers

RGB16 = helpers.noise(24, 32, 3, dtype=np.uint16)
RGB8 = (RGB16 >> 8).astype(np.uint8)
PIXELS = {8: RGB8, 16: RGB16, 32: np.float32(RGB16 / 65535)}


class Middle:
    """A runner that returns the middle image."""

    def prepare(self, *_):
        pass

    def fuse(self, images, _):
        return images[len(images) // 2]


def write_pages(path, *pages, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for pixels, kind in pages:
            photometric = "rgb" if pixels.ndim == 3 else "mask"
            file.write(np.ascontiguousarray(pixels), photometric=photometric, subfiletype=kind, metadata=None)
    return path


def read_any(path):
    return image_files.read_radiance(path) if image_files.is_float_tiff(path) else image_files.read_image(path).pixels


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("depth", [8, 16, 32])
def test_the_picture_is_read_wherever_it_is(tmp_path, depth, options):
    picture = PIXELS[depth]
    thumbnail, mask = picture[::4, ::4], RGB8[..., 0] > 99
    for order in (
        [(thumbnail, 1), (picture, 0)],
        [(thumbnail, 0), (picture, 0)],
        [(picture, 0), (thumbnail, 1)],
        [(mask, 4), (picture, 0), (thumbnail, 1)],
        [(RGB8[::2, ::2], 1), (thumbnail, 1), (picture, 0)],
        [(picture.repeat(2, 0).repeat(2, 1), 1), (picture, 0)],  # said to be a copy, though larger
    ):
        path = write_pages(tmp_path / "a.tif", *order, **options)
        np.testing.assert_array_equal(read_any(path), picture)


def test_a_picture_below_the_thumbnail(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB8[::4, ::4].copy(), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(RGB16, photometric="rgb", subfiletype=0, metadata=None)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.tif").pixels, RGB16)


def test_what_the_first_page_says_counts_for_the_picture(tmp_path):
    tags = [(274, "H", 1, 6, True), (33434, "2I", 1, (1, 64), True)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB8[::4, ::4].copy(), photometric="rgb", subfiletype=1, metadata=None, extratags=tags)
        file.write(RGB16, photometric="rgb", subfiletype=0, metadata=None)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "a.tif").pixels, np.rot90(RGB16, -1))


def test_the_size_that_counts_is_that_of_the_picture(tmp_path):
    path = write_pages(tmp_path / "a.tif", (RGB16[::4, ::4], 1), (RGB16, 0))
    with pytest.raises(ValueError, match=helpers.mentions("a.tif 767 32 x 24")):
        image_files.read_image(path, max_pixels=767)


def test_pages_of_one_size_are_a_bracket_if_asked_for(tmp_path):
    radiance = np.random.default_rng(1).uniform(0.01, 0.2, (24, 32, 3))
    images = [np.rint(65535 * tone.to_exposure(radiance, 2.0**stop)).astype(np.uint16) for stop in (-2, 0, 2)]
    path = write_pages(tmp_path / "a.tif", (images[0][::4, ::4], 1), *((image, 0) for image in images))
    pages = image_files.read_pages(path)
    for page, image in zip(pages, images, strict=True):
        np.testing.assert_array_equal(page.pixels, image)
        assert page.notes == ()
    single = image_files.read_image(path)
    np.testing.assert_array_equal(single.pixels, images[0])
    assert any(helpers.mentioned("3 --pages", note) for note in single.notes)
    np.testing.assert_array_equal(hdr_tf.fuse(pages, runner=Middle()), images[1])
    flags = {"images": [str(path)], "pages": True, "output": str(tmp_path / "a.exr"), "exposures": "-2,0,2"}
    flags |= {"model": "merge_classical", "response": "gamma", "align": "none", "denoise": 0.0}
    assert merge.main(merge.Config(**flags)) == 0
    np.testing.assert_allclose(image_files.read_radiance(tmp_path / "a.exr"), radiance, rtol=0.02)
    write_pages(path, (images[0], 0))
    with pytest.raises(ValueError, match=helpers.mentions("--pages single")):
        merge.main(merge.Config(**flags))


# === Alpha ===


def write_alpha(path, pixels, alpha, kind="unassalpha", **options):
    top = np.iinfo(pixels.dtype).max
    data = np.dstack([pixels, alpha.astype(pixels.dtype)])
    if path.suffix == ".png" and pixels.dtype == np.uint8:
        Image.fromarray(data).save(path)
    elif path.suffix == ".png":
        colours = 6 if pixels.ndim == 3 else 4
        path.write_bytes(helpers.png(data.shape[1], data.shape[0], 16, colours, [row.astype(">u2").tobytes() for row in data]))
    else:
        if kind == "assocalpha":
            data[..., :-1] = np.rint(data[..., :-1] * (alpha[..., None] / top))
        tifffile.imwrite(path, data, photometric="rgb" if pixels.ndim == 3 else "minisblack", extrasamples=[kind], **options)
    return path


def alphas(dtype, hole):
    alpha = np.full((24, 32), np.iinfo(dtype).max)
    alpha[:, :hole] = 0
    return alpha


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("pixels", [RGB8, RGB16, RGB8[..., 0], RGB16[..., 0]], ids=["8", "16", "gray 8", "gray 16"])
def test_where_alpha_is_0_nothing_is_reached(tmp_path, pixels, name, kind):
    alpha = alphas(pixels.dtype, 5)
    alpha[3, 20] //= 2
    image = image_files.read_image(write_alpha(tmp_path / name, pixels, alpha, kind))
    if name == "a.tif" and kind == "unspecified":  # it may be anything
        assert image.reached is None
        return
    np.testing.assert_array_equal(image.reached, alpha > 0)
    tolerance = 3 if kind == "assocalpha" and name == "a.tif" else 0
    found = image.pixels if image.pixels.ndim == pixels.ndim else image.pixels[..., 1]  # OpenCV makes a gray PNG colour
    np.testing.assert_allclose(found[image.reached], pixels[image.reached], atol=tolerance)
    (note,) = image.notes
    assert helpers.mentioned("alpha 15.6%", note)


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}, {"rowsperstrip": 5}])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "packbits"])
def test_gray_of_16_bit_with_alpha(tmp_path, compression, options):
    pytest.importorskip("imagecodecs")
    gray, alpha = RGB16[..., 0], alphas(np.uint16, 5)
    image = image_files.read_image(write_alpha(tmp_path / "a.tif", gray, alpha, compression=compression, **options))
    np.testing.assert_array_equal(image.pixels, gray)
    np.testing.assert_array_equal(image.reached, alpha > 0)


def test_alpha_that_says_nothing_is_dropped(tmp_path):
    for alpha in (alphas(np.uint8, 0), alphas(np.uint8, 32)):
        image = image_files.read_image(write_alpha(tmp_path / "a.png", RGB8, alpha))
        assert image.reached is None and "alpha" in image.notes[0]


def moved_bracket(folder, dtype=np.uint16, name="a.tif"):
    """Two exposures as align_image_stack writes them; the result of Middle is the brighter one."""
    folder.mkdir(exist_ok=True)
    scene = np.random.default_rng(2).uniform(0.05, 0.7, (24, 32, 3))
    top, paths, whole = np.iinfo(dtype).max, [], []
    for number, (gain, hole) in enumerate(((0.3, 3), (1.2, 5))):
        pixels = np.rint(top * np.clip(scene * gain, 0, 1)).astype(dtype)
        whole.append(pixels)
        alpha = alphas(dtype, hole)
        paths.append(write_alpha(folder / f"{number}{name}", np.where(alpha[..., None] > 0, pixels, dtype(0)), alpha))
    return paths, whole


@pytest.mark.parametrize("output", ["f.png", "f.tif", "f.jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_moved_bracket_is_fused_without_its_black(tmp_path, dtype, output, caplog):
    paths, whole = moved_bracket(tmp_path / "in", dtype)
    with caplog.at_level("INFO", "absl"):
        fused = hdr_tf.fuse_files(paths, tmp_path / output, runner=Middle())
    top = np.iinfo(fused.dtype).max
    expected = whole[1] / np.iinfo(dtype).max
    np.testing.assert_allclose(fused[:, 3:] / top, expected[:, 3:], atol=0.02)  # also where only the darker one reaches
    written = image_files.read_image(tmp_path / output)
    if output == "f.jpg":
        assert written.reached is None and helpers.mentioned("f.jpg 9.4", caplog.text)
    else:
        assert not written.reached[:, :3].any() and written.reached[:, 3:].all()
        assert written.pixels.dtype == dtype and not written.pixels[:, :3].any()
        with Image.open(tmp_path / output) as image:
            assert dtype == np.uint16 or image.mode == "RGBA"
    if output == "f.tif":
        with tifffile.TiffFile(tmp_path / output) as file:
            assert file.pages.first.extrasamples == (2,)


@pytest.mark.parametrize("align", ["none", "mtb"])
def test_crop_cuts_what_alpha_leaves_open(tmp_path, align):
    paths, whole = moved_bracket(tmp_path / "in")
    fused = hdr_tf.fuse_files(paths, tmp_path / "f.png", runner=Middle(), crop=True, align=align)
    assert fused.shape == (24, 27, 3) and image_files.read_image(tmp_path / "f.png").reached is None
    np.testing.assert_array_equal(fused, whole[1][:, 5:])


def test_crop_of_images_without_alpha_is_refused(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path, image in zip(paths, (RGB8, RGB8[::-1]), strict=True):
        image_files.write_image(path, image)
    with pytest.raises(ValueError, match=helpers.mentions("crop align alpha")):
        hdr_tf.fuse(paths, runner=Middle(), crop=True)


@pytest.mark.parametrize("output", ["m.exr", "m.tif", "m.hdr"])
def test_radiance_of_a_moved_bracket(tmp_path, output, caplog):
    radiance = np.random.default_rng(3).uniform(0.02, 0.2, (24, 32, 3))
    paths = []
    for number, (stop, hole) in enumerate(((-2, 3), (0, 9), (2, 5))):
        pixels = np.rint(65535 * tone.to_exposure(radiance, 2.0**stop)).astype(np.uint16)
        alpha = alphas(np.uint16, hole)
        paths.append(write_alpha(tmp_path / f"{number}.tif", np.where(alpha[..., None] > 0, pixels, np.uint16(0)), alpha))
    options = {"model": "merge_classical", "align": "none", "denoise": 0, "response": "gamma"}
    with caplog.at_level("INFO", "absl"):
        merged = hdr_tf.radiance.pipeline.fuse_radiance(paths, tmp_path / output, (-2, 0, 2), **options)
    assert not merged[:, :3].any()
    np.testing.assert_allclose(merged[:, 3:], radiance[:, 3:], rtol=0.02)
    if output == "m.exr":
        alpha = OpenEXR.File(str(tmp_path / output), separate_channels=True).channels()["A"].pixels
        np.testing.assert_array_equal(alpha, np.float32(alphas(np.uint8, 3) > 0))
    elif output == "m.tif":
        with tifffile.TiffFile(tmp_path / output) as file:
            assert file.pages.first.shape == (24, 32, 4) and file.pages.first.extrasamples == (1,)
    else:
        assert helpers.mentioned("m.hdr 9.4", caplog.text)
    np.testing.assert_allclose(image_files.read_radiance(tmp_path / output), merged, atol=1e-3)
    preview = image_files.read_image(tmp_path / "m_preview.png")
    assert not preview.reached[:, :3].any() and preview.reached[:, 3:].all()


def test_alpha_of_floating_point(tmp_path):
    radiance = np.random.default_rng(3).uniform(0.02, 0.2, (24, 32, 3))
    paths = []
    for number, (stop, hole) in enumerate(((-1, 3), (1, 5))):
        alpha = alphas(np.uint8, hole) > 0
        data = np.float32(np.dstack([np.where(alpha[..., None], radiance * 2.0**stop, np.nan), alpha]))
        paths.append(tmp_path / f"{number}.tif")
        tifffile.imwrite(paths[-1], data, photometric="rgb", extrasamples=["unassalpha"])
    options = {"model": "merge_classical", "align": "none", "denoise": 0}
    merged = hdr_tf.radiance.pipeline.fuse_radiance(paths, tmp_path / "m.exr", (-1, 1), **options)
    assert not merged[:, :3].any()
    np.testing.assert_allclose(merged[:, 3:], radiance[:, 3:] / 2, rtol=0.02)  # the reference clips at 1


def test_alpha_goes_with_exif_and_profile(tmp_path):
    reached = alphas(np.uint8, 4) > 0
    described = Image.Exif()
    described[0x10F] = "Maker"
    icc = profiles.make("wide", profiles.ADOBE_RGB, 1.8)
    metadata = exif.Metadata(described.tobytes().removeprefix(b"Exif\0\0"), icc)
    for name in ("a.tif", "a.png"):
        image_files.write_image(tmp_path / name, RGB8[..., 0], metadata=metadata, reached=reached)
        image = image_files.read_image(tmp_path / name)
        np.testing.assert_array_equal(image.reached, reached)
        np.testing.assert_array_equal(image.pixels[reached][:, 1], RGB8[..., 0][reached])
        with Image.open(tmp_path / name) as file:
            assert file.getexif()[0x10F] == "Maker" and file.info["icc_profile"] == icc
