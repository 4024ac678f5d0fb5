"""Exposure fusion from files or arrays to one image: read, sort, align, fuse, write.

>>> fused = fuse(["under.jpg", "over.jpg"])  # doctest: +SKIP
>>> fused = fuse([under, over], model="densefuse_gray", weights="densefuse_gray.weights.h5")  # doctest: +SKIP

The registry (`hdr_tf.systems`) names a runner for each system. A runner has

    prepare(exposures, height, width, eight_bit)    loads and builds what `fuse` needs; raises for unfit weights
    fuse(images, gray_and_color)                    fuses [H, W, 3] or [H, W] images of one size and type, dark to bright; the
                                                    flag says that they are one gray and one colour image of the same exposure
    fuse_in_steps(images)                           if the system works in steps: also returns an image that shows them

TensorFlow is imported when a runner is loaded, or prepared for images that need it (`hdr_tf.fusion.lite`). That takes seconds,
so everything that can be checked without it is checked before.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
from absl import logging

from hdr_tf import systems
from hdr_tf.fusion.deghost import deghost as deghost_images
from hdr_tf.image import reach, stated_exposures
from hdr_tf.image import response as responses
from hdr_tf.image.align import align_in_place, displacement, largest_rectangle
from hdr_tf.image.depth import from_unit, is_gray, to_depth, to_rgb
from hdr_tf.image.response import Response
from hdr_tf.io import brackets, image_files, transfer
from hdr_tf.io.exif import NO_METADATA, Metadata
from hdr_tf.io.outputs import check_target, named
from hdr_tf.progress import stage
from hdr_tf.synthesis.brackets import sample_bracket

Align = Literal["none", "auto", "homography", "mtb"]


class Output(NamedTuple):
    """A file to write."""

    path: pathlib.Path
    pixels: np.ndarray
    quality: int
    metadata: Metadata
    reached: np.ndarray | None = None  # [H, W] bool, False where no image shows anything


def fuse(
    images: Sequence[str | os.PathLike | np.ndarray],
    model: str = "pyramid",
    weights: str | os.PathLike | None = None,
    align: Align = "none",
    crop: bool = False,
    keep_order: bool = False,
    max_pixels: int = image_files.MAX_PIXELS,
    runner: Any = None,
    deghost: bool = False,
    exposures: Sequence[float] | Literal["estimate"] | None = None,
    trust_exposures: bool = False,
    **options,
) -> np.ndarray:
    """Fuses differently exposed images of a scene into one for display. The scene is still, unless `deghost` is set.

    The images are sorted from dark to bright: by EXIF exposure, or by mean luminance if EXIF does not give a different exposure
    for each image, which is logged. One gray and one colour image without EXIF (infrared and visible) are not sorted; their
    luminances are fused and the colour is kept.

    Args:
        images: two or more paths, or arrays [H, W, 3] (RGB) or [H, W], uint8 or uint16, of one size. 8-bit and 16-bit images
            together give 16 bit. Images whose channels differ by at most 3 levels of 255 count as gray. A single path may name
            an image that holds two exposures as its halves (see `hdr_tf.io.brackets`).
        model: name of a fusion system, see `hdr_tf.systems`.
        weights: a .weights.h5 file; None uses the bundled weights.
        align: "homography" or "mtb" aligns every image with the middle one (of two, with the brighter one); "auto" picks for
            each image whichever helps, see `hdr_tf.image.align.align`.
        crop: with `align`, or if images are transparent somewhere, cut the borders: the result is the largest rectangle that
            every image covers.
        keep_order: the images are already sorted from dark to bright.
        max_pixels: a larger file is refused before it is decoded.
        runner: a runner that replaces the one of the system, with its weights and options, such as a `serving.client.Client`.
        deghost: whether the camera or things in the scene moved: everything then appears as in the middle image (of two middle
            ones, the darker one), see `hdr_tf.fusion.deghost`. For 2 to 9 images, without `align`.
        exposures: with `deghost`, log2 of the exposures (stops), one for each image; None for those in EXIF. "estimate", or no
            exposures in EXIF: they are estimated under gamma 2.2.
        trust_exposures: with `deghost`, takes the exposures as they are stated, whatever the images show.
        **options: options of the system: strategy, vgg_weights.

    What is transparent in a file (alpha 0) has no weight there: it shows what the other images show. Where no image shows
    anything, the result continues its surroundings, and a file of it is transparent.

    Returns:
        The fused image in the depth of the images: [H, W, 3], or [H, W] if all images are gray.

    Raises:
        ValueError: images, model and weights do not go together.
        OSError: a file cannot be read.
    """
    known = {"exposures": exposures, "trust_exposures": trust_exposures}
    arguments = (model, weights, align, crop, keep_order, max_pixels, runner, deghost)
    loaded, runner = _prepare(_as_list(images), *arguments, **known, **options)
    return _fuse(loaded, runner)


class Fuser:
    """Fuses many brackets with one set of arguments, for programs that run long: what `fuse` does, from the same weights in
    every call.

    The weights are read when the object is made. Networks for TensorFlow are compiled in the first call that needs them, one
    for each number of exposures and depth; if the weights file has changed by then, that call is refused. `pyramid` loads
    TensorFlow in the first call with a bracket of over 8 megapixels in all.

    Several threads may call one object at the same time, with brackets of any size. Reading, sorting, aligning and colour run
    in each thread by itself and share nothing. TensorFlow's networks serve several threads at a time; LiteRT's model and the
    making of a network are behind a lock, for which the other threads wait.

    A pickle holds the arguments. The copy is made from them anew: it reads the weights that it finds under their path.

    Examples:
        >>> fuser = Fuser(align="auto")  # doctest: +SKIP
        >>> images = [fuser(paths) for paths in brackets]  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = "pyramid",
        weights: str | os.PathLike | None = None,
        align: Align = "none",
        crop: bool = False,
        keep_order: bool = False,
        max_pixels: int = image_files.MAX_PIXELS,
        deghost: bool = False,
        **options,
    ):
        """Args: see `fuse`. Raises: what `fuse` raises for a model, weights or arguments that no bracket can be fused with."""
        shared = {"align": align, "crop": crop, "keep_order": keep_order, "max_pixels": max_pixels, "deghost": deghost}
        _check_arguments(align, deghost)
        runner = systems.load_runner(model, weights, "fusion", **options)
        # Damaged weights are refused here and not in the first call.
        runner.prepare(systems.find(model).exposures[0], systems.MIN_SIDE, systems.MIN_SIDE, True)
        self._fuse = functools.partial(fuse, model=model, runner=runner, **shared)
        self._made_by = functools.partial(Fuser, model, weights, **shared, **options)

    def __call__(
        self,
        images: Sequence[str | os.PathLike | np.ndarray],
        exposures: Sequence[float] | Literal["estimate"] | None = None,
        trust_exposures: bool = False,
    ) -> np.ndarray:
        """Fuses the images of a scene, see `fuse`."""
        return self._fuse(images, exposures=exposures, trust_exposures=trust_exposures)

    def __reduce__(self):
        return self._made_by, ()


def fuse_files(images: Sequence, output: str | os.PathLike, **arguments) -> np.ndarray:
    """Fuses images as `fuse` does and writes the result, see `fuse_to_outputs`; returns the pixels that were written."""
    return write_outputs(fuse_to_outputs(images, output, **arguments))


def write_outputs(outputs: Sequence[Output]) -> np.ndarray:
    """Writes the files; returns the pixels of the last one."""
    with stage("writing"):
        for output in outputs:
            output.path.parent.mkdir(parents=True, exist_ok=True)
            image_files.write_image(*output)
    return outputs[-1].pixels


def fuse_to_outputs(
    images: Sequence,
    output: str | os.PathLike,
    depth: Literal[8, 16] | None = None,
    quality: int = 95,
    save_aligned: str | os.PathLike | None = None,
    trace: str | os.PathLike | None = None,
    model: str = "pyramid",
    **arguments,
) -> list[Output]:
    """Fuses images and returns the files that are to be written, the fused image last.

    Args:
        images: see `fuse`; also images that are read already, `io.image_files.LoadedImage`.
        output: .png, .tif or .jpg; its folder is created. None of the images is overwritten. It gets the EXIF and the colour
            profile of the middle image (of two, the brighter one), see `hdr_tf.io.exif`.
        depth: bits of the output; None keeps the depth of the images, except for JPEG, which has 8.
        quality: of a JPEG, 1 to 100.
        save_aligned: folder for the sorted and aligned (or deghosted) images, named 1_<name>.png, 2_<name>.png, ...
        trace: for a system that works in steps, a file for an image of every step.
        model: see `fuse`.
        **arguments: the others of `fuse`.
    """
    output, images = pathlib.Path(output), _as_list(images)
    if save_aligned is not None and arguments.get("align", "none") == "none" and not arguments.get("deghost"):
        raise ValueError("save_aligned: there is nothing to save without align (auto, homography or mtb) or deghost")
    if not 1 <= quality <= 100:
        raise ValueError(f"{output}: expected a JPEG quality of 1 to 100, found {quality}")
    check_output(output, depth, images)
    if trace is not None:
        trace = pathlib.Path(trace)
        if not systems.find(model, "fusion").steps:
            in_steps = ", ".join(name for name in systems.names("fusion") if systems.find(name, "fusion").steps)
            raise ValueError(f"trace: expected a model that works in steps ({in_steps}), found {model}")
        check_output(trace, None, [*images, output])
    loaded, runner = _prepare(images, model, **arguments)
    outputs = []
    if save_aligned is not None:
        for number, image in enumerate(loaded, start=1):
            target = pathlib.Path(save_aligned) / named(f"{number}_{image.path.stem if image.path else 'image'}", ".png")
            check_output(target, None, images)
            if target.resolve() == output.resolve():
                raise ValueError(f"{output}: would be both the output and an aligned image; choose another output")
            outputs.append(Output(target, image.pixels, quality, image.metadata, image.reached))
    if trace is None:
        fused = _fuse(loaded, runner)
    else:
        with stage("fusing"):
            fused, steps = runner.fuse_in_steps([image.pixels for image in loaded])
        outputs.append(Output(trace, steps, quality, NO_METADATA))
    fused = to_depth(fused, 8 if output.suffix.lower() in image_files.JPEG_SUFFIXES else depth or fused.itemsize * 8)
    metadata = image_files.middle_metadata(loaded)
    if fused.ndim == 2 and loaded[len(loaded) // 2].pixels.ndim == 3:
        metadata = transfer.gray(metadata)
    return [*outputs, Output(output, fused, quality, metadata, reach.union([image.reached for image in loaded]))]


def fuse_sample(output: str | os.PathLike, **arguments) -> tuple[list[pathlib.Path], np.ndarray]:
    """Fuses a sample bracket of three as `fuse_files` does and writes its exposures next to it as <stem>_exposure_1.png, ...;
    returns their files, dark to bright, and the fused image."""
    images = sample_bracket()
    fused = fuse_files(images, output, **arguments | {"keep_order": True})
    output = pathlib.Path(output)
    paths = [output.with_name(named(output.stem, f"_exposure_{i}.png")) for i in range(1, len(images) + 1)]
    for path, pixels in zip(paths, images, strict=True):
        image_files.write_image(path, pixels)
    return paths, fused


def check_output(output: pathlib.Path, depth: int | None, images: Sequence) -> None:
    """Raises ValueError, before any work is done, if a fused image of so many bits cannot be written to `output` or would
    overwrite one of the images."""
    suffix, known = output.suffix.lower(), image_files.IMAGE_SUFFIXES
    if suffix in image_files.RADIANCE_SUFFIXES:
        raise ValueError(
            f"{output}: {suffix} holds radiance, but this model makes an image for display: write .png or .tif "
            f"(--depth=16), or choose a radiance model ({', '.join(systems.names('radiance'))})"
        )
    if suffix not in known:
        raise ValueError(f"{output}: expected an output ending in {', '.join(known)}, found {suffix!r}")
    if depth == 16 and suffix in image_files.JPEG_SUFFIXES:
        raise ValueError(f"{output}: JPEG holds 8 bit; write .png or .tif for a depth of 16")
    paths = [image.path if isinstance(image, image_files.LoadedImage) else image for image in images]
    check_target(output, [path for path in paths if isinstance(path, (str, os.PathLike))])


def _fuse(loaded, runner):
    with stage("fusing"):
        return runner.fuse([image.pixels for image in loaded], _is_gray_and_color(loaded))


def _as_list(images):
    if isinstance(images, (str, os.PathLike)):
        raise ValueError(f"expected a list of images, found the single path {os.fspath(images)!r}")
    return list(images)


def _check_arguments(align, deghost):
    if align not in get_args(Align):
        raise ValueError(f"expected the alignment {', '.join(get_args(Align))}, found {align!r}")
    if deghost and align != "none":
        raise ValueError(f"deghost does not go with align={align}: it aligns the images itself")


def _prepare(
    images,
    model="pyramid",
    weights=None,
    align: Align = "none",
    crop=False,
    keep_order=False,
    max_pixels=image_files.MAX_PIXELS,
    runner=None,
    deghost=False,
    exposures=None,
    trust_exposures=False,
    **options,
):
    """Reads, sorts and aligns or deghosts the images; returns them, of one depth, and the runner. Whatever can be wrong raises
    before the first line is logged."""
    _check_arguments(align, deghost)
    if not deghost and (exposures is not None or trust_exposures):
        raise ValueError("exposures and trust_exposures belong to deghost, which needs exposures, and to radiance")
    system = systems.find(model, "fusion")
    two_halves = len(images) == 1 and not isinstance(images[0], np.ndarray)
    system.check_exposures(2 if two_halves else len(images))
    if deghost:
        systems.find("merge").check_exposures(2 if two_halves else len(images))
    if runner is None:
        system.weights_path(weights)
    with stage("reading"):
        loaded, names = _read(images, two_halves, max_pixels)
        brackets.check_sizes([image.pixels for image in loaded], names, systems.MIN_SIDE)
        if deghost:
            loaded = _exposed(loaded, names, exposures, trust_exposures)
        loaded = [_for_display(image) for image in loaded]
    if crop and align == "none" and all(image.reached is None for image in loaded):
        raise ValueError("crop: there is nothing to cut without align (auto, homography or mtb), or images with alpha")
    height, width = loaded[0].pixels.shape[:2]
    if deghost and _is_gray_and_color(loaded):
        raise ValueError("deghost: expected exposures of one scene, found a gray and a colour image without EXIF exposures")
    eight_bit = all(image.pixels.dtype == np.uint8 for image in loaded)
    with stage(f"loading {model}"):
        runner = runner or systems.load_runner(model, weights, **options)
        runner.prepare(len(loaded), height, width, eight_bit)

    for name, notes in zip(names, [image.notes for image in loaded], strict=True):
        for note in notes:
            logging.info("%s: %s", name, note)
    if not eight_bit and any(image.pixels.dtype == np.uint8 for image in loaded):
        logging.info("some images have 8 bit and some 16: fused in 16 bit")
        loaded = [dataclasses.replace(image, pixels=to_depth(image.pixels, 16)) for image in loaded]
    if crop and align == "none":
        loaded = _cropped(loaded)
    loaded = _filled(loaded)
    if not keep_order and (system.exposures == (2, 2) or not _is_gray_and_color(loaded)):
        loaded = _sorted(loaded, names, system)
    if align != "none":
        # The middle one; of two the brighter one, with which HyperP_MB aligns the darker one.
        with stage("aligning"):
            whole = np.ones(loaded[0].pixels.shape[:2], bool)
            some = any(image.reached is not None for image in loaded)
            masks = [whole if image.reached is None else image.reached for image in loaded] if some else None
            pixels = [image.pixels for image in loaded]
            # Nothing else may hold the images, so that each makes room for the aligned one.
            loaded = [dataclasses.replace(image, pixels=None) for image in loaded]
            align_in_place(pixels, align, len(loaded) // 2, crop, masks)
        _check_kept(*pixels[0].shape[:2])
        masks = masks or [None] * len(loaded)
        loaded = [
            dataclasses.replace(image, pixels=aligned, reached=None if mask is None or mask.all() else mask)
            for image, aligned, mask in zip(loaded, pixels, masks, strict=True)
        ]
        loaded = _filled(loaded)
    elif not deghost and not _is_gray_and_color(loaded):
        _propose_to_align(loaded)
    if deghost:
        loaded = _deghosted(loaded)
    return loaded, runner


def _sorted(loaded, names, system):
    images = brackets.dark_to_bright(loaded, names)
    if system.exposures == (2, 2) and images[0] is not loaded[0]:
        logging.info("swapped: %s is the under-exposed image, %s the over-exposed one", *names[::-1])
    return images


def _cropped(loaded):
    covered = cast(np.ndarray, reach.common([image.reached for image in loaded]))  # `_prepare` has refused other images
    rows, columns = largest_rectangle(covered)
    sizes = *(part.stop - part.start for part in (columns, rows)), *loaded[0].pixels.shape[1::-1]
    _check_kept(sizes[1], sizes[0])
    logging.info("cropped to %d x %d of %d x %d, from column %d and row %d", *sizes, columns.start, rows.start)
    return [
        dataclasses.replace(image, pixels=np.ascontiguousarray(image.pixels[rows, columns]), reached=None) for image in loaded
    ]


def _check_kept(height, width):
    if min(height, width) < systems.MIN_SIDE:
        least = f"{systems.MIN_SIDE} x {systems.MIN_SIDE}"
        raise ValueError(f"crop: expected to keep at least {least} pixels, kept {width} x {height}")


def _filled(loaded):
    """The images, whose transparent parts show what the others show there."""
    filled = reach.fill([image.pixels for image in loaded], [image.reached for image in loaded])
    return [dataclasses.replace(image, pixels=pixels) for image, pixels in zip(loaded, filled, strict=True)]


def _propose_to_align(loaded):
    """Says so if neighbours in brightness would lie better on each other after a shift."""
    pairs = zip(loaded[:-1], loaded[1:], strict=True)
    moved = max(displacement(short.pixels, long.pixels) for short, long in pairs)
    if moved:
        logging.warning(
            "the camera moved between the images, by about %.0f pixels: edges will be double; --align=auto aligns the images, "
            "--deghost also follows what moved in the scene",
            moved,
        )


def _exposed(loaded, names, stops: Sequence[float] | Literal["estimate"] | None, trust):
    """The images with the exposures by which they are deghosted, stops or those of EXIF, if their pixels do not contradict."""
    if isinstance(stops, str) and stops == "estimate":
        return [dataclasses.replace(image, exposure=None) for image in loaded]
    if stops is not None:
        exposures = stated_exposures.from_stops(stops, len(loaded))
    elif (exposures := _known_exposures(loaded)) is None:
        return loaded
    if not trust:
        depth = 8 * max(image.pixels.itemsize for image in loaded)
        small = responses.reduced([to_rgb(to_depth(image.pixels, depth)) for image in loaded])
        curve = transfer.stated(loaded[0].metadata) or Response.gamma()
        exposures = stated_exposures.confirmed(small, exposures, curve, curve.name in transfer.LIGHT, names)
    return [dataclasses.replace(image, exposure=float(found)) for image, found in zip(loaded, exposures, strict=True)]


def _known_exposures(loaded):
    exposures = [image.exposure for image in loaded]
    return exposures if None not in exposures and len(set(exposures)) > 1 else None


def _deghosted(loaded):
    with stage("deghosting"):
        mended = deghost_images([image.pixels for image in loaded], _known_exposures(loaded))
    for note in mended.notes:
        logging.info("%s", note)
    shares = ", ".join(f"{share:.1%}" for share in mended.replaced)
    logging.info("deghosted with image %d of %d; mended share of each: %s", mended.reference + 1, len(loaded), shares)
    return [dataclasses.replace(image, pixels=pixels) for image, pixels in zip(loaded, mended.images, strict=True)]


def _read(images, two_halves, max_pixels):
    """The images and names for messages."""
    if two_halves:
        try:
            loaded = brackets.read_bracket(brackets.Bracket("", (pathlib.Path(images[0]),)), max_pixels)
        except ValueError as error:
            raise ValueError(f"expected at least 2 images to fuse, found 1; {error}") from error
        loaded = [dataclasses.replace(image, reached=None) for image in loaded]
        return loaded, [f"{images[0]}, half {number}" for number in (1, 2)]
    given = [image for image in images if isinstance(image, (str, os.PathLike))]
    pages = {image.path for image in images if isinstance(image, image_files.LoadedImage) and image.path}
    brackets.check_different([*given, *pages])
    loaded = [_read_image(image, number, max_pixels) for number, image in enumerate(images, start=1)]
    names = [str(image.path or f"image {number}") for number, image in enumerate(loaded, start=1)]
    alike = brackets.turned_alike([image.pixels for image in loaded], [image.orientation for image in loaded], names)
    return [dataclasses.replace(image, pixels=pixels) for image, pixels in zip(loaded, alike, strict=True)], names


def _read_image(image, number, max_pixels):
    if isinstance(image, image_files.LoadedImage):
        return image
    if isinstance(image, (str, os.PathLike)):
        return image_files.read_image(image, max_pixels)
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(
            f"image {number}: expected a path or an array [H, W, 3] or [H, W] of uint8 or uint16, "
            f"found {list(image.shape)} of {image.dtype}"
        )
    return image_files.LoadedImage(path=None, pixels=image, exposure=None, notes=())


def _for_display(image):
    """Encodes linear light, because the networks know photographs; its primaries are kept."""
    stated = transfer.stated(image.metadata)
    if stated is None or stated.name != "linear":
        return image
    levels = np.arange(np.iinfo(image.pixels.dtype).max + 1, dtype=image.pixels.dtype)
    pixels = from_unit(Response("srgb").encode(stated.decode(levels)), image.pixels.dtype)[image.pixels]
    notes = (*image.notes, "linear light, as the file states: encoded with the curve of sRGB for display")
    metadata = transfer.encoded(image.metadata, pixels.ndim == 2)
    return dataclasses.replace(image, pixels=pixels, metadata=metadata, notes=notes)


def _is_gray_and_color(loaded):
    """Infrared and visible. In a bracket of two, a black or a white image may look the same, but has EXIF."""
    if len(loaded) != 2 or None not in {image.exposure for image in loaded}:
        return False
    return is_gray(loaded[0].pixels) != is_gray(loaded[1].pixels)
