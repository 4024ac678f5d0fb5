"""The public road: differently exposed pictures in, one fused picture out.

>>> fused = fuse(["under.jpg", "over.jpg"])  # doctest: +SKIP
>>> fused = fuse([under, over], model="densefuse_gray", weights="densefuse_gray.weights.h5")  # doctest: +SKIP

`SYSTEMS` says how each network meets pictures. 8-bit pictures go through the arithmetic that the original publishes,
its rounding and truncation included; 16-bit ones through the same formulas in float32 on v/257, rounded once at the end.
Pictures are sorted from dark to bright, aligned if asked for, split into what the network takes and a remainder
(chroma), fused, and joined again. TensorFlow is imported when the first network is built: it takes seconds, and to be
told of a wrong file name should not.

"dqn_editor" is no network from pictures to a picture: it edits an exposure between two step by step (hdr_tf/editor.py).
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
from absl import logging

from hdr_tf import folders
from hdr_tf.image import brackets as bracket_files
from hdr_tf.image import color, files, metadata, synthesis, tiles
from hdr_tf.image.align import align as align_pictures
from hdr_tf.image.depth import is_gray, to_depth, to_rgb

MIN_SIDE = 8  # pixels, of every network here
WHOLE = 2**20  # pixels; a larger picture goes through its network in tiles
TILE = 512  # pixels, a multiple of 4
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

Align = Literal["none", "auto", "homography", "mtb"]


@dataclasses.dataclass(frozen=True)
class System:
    """How a network meets pictures; `color` describes the splits. Gray pictures are not split: their value is the luminance."""

    split: Callable | None = None
    """RGB to (luminance, chroma, chroma); None: the network takes all three channels"""
    join: Callable | None = None
    """fused luminance and a list of chroma pairs to RGB"""
    encode: Callable = lambda values: values
    """0..255, float32, to the network's range"""
    decode: Callable = lambda values: values
    """the network's range to 0..255"""
    to_8_bit: Literal["truncate", "round", "stretch"] = "truncate"
    """0..255 to uint8 as the original does: "stretch" is scipy.misc.bytescale, once more from minimum to maximum"""
    arguments: Callable[[int, int, int], dict] = lambda count, height, width: {"exposures": count}
    """arguments of the builder for a number of pictures and their size"""
    parts: Callable = lambda network, **arguments: (network,)
    """the network, with the arguments of its builder, to the networks that a large picture goes through: one in tiles; one that
    takes the result as a whole; one in tiles again, of the pictures and of that. The last two may be missing"""
    reach: tuple[int, ...] = ()
    """pixels that a pixel sees far, of the result of each part in tiles"""
    tiles: int = 1
    """side of a tile in units of `TILE`"""
    unit: bool = False
    """the network's range is 0..1, and 8-bit values are rounded: converted in one pass over the pixels instead of six"""
    keeps_colour: bool = True
    """one gray and one colour picture: fuse the luminances and keep the colour, rather than send both through as RGB"""

    def in_range(self, values, eight_bit: bool):
        """Returns a decoded tensor in 0..255, of 8-bit pictures such that the whole part is the level, as `to_8_bit` says."""
        import tensorflow as tf

        if eight_bit and self.to_8_bit == "stretch":
            lowest, highest = tf.reduce_min(values), tf.reduce_max(values)
            values = tf.math.divide_no_nan(255.0, highest - lowest) * (values - lowest)
        values = tf.clip_by_value(values, 0, 255)
        return values if not eight_bit or self.to_8_bit == "truncate" else values + 0.5


def _pyramid_arguments(count, height, width):
    from hdr_tf.models.pyramid import levels_for

    return {"exposures": count, "levels": levels_for(height, width)}


def _pyramid_parts(network, exposures, levels):
    from hdr_tf.models.pyramid import in_parts

    return in_parts(network, levels)


def _deepfuse_official_parts(network, exposures):
    from hdr_tf.models.deepfuse import in_parts

    return in_parts(network)


SYSTEMS = {
    "pyramid": System(
        encode=lambda values: values / 255,
        decode=lambda values: values * 255,
        to_8_bit="round",
        arguments=_pyramid_arguments,
        parts=_pyramid_parts,
        reach=(0, 8),
        tiles=4,  # its many small operations cost more than the memory of a larger tile
        unit=True,
    ),
    "deepfuse_official": System(
        split=color.deepfuse_official_split,
        join=color.deepfuse_official_join,
        parts=_deepfuse_official_parts,
        reach=(13,),
        to_8_bit="stretch",
    ),
    "deepfuse_sunnerli": System(
        split=color.deepfuse_sunnerli_split,
        join=color.deepfuse_sunnerli_join,
        reach=(12,),
        encode=lambda values: (values - 127.5) / 127.5,
        decode=lambda values: (values + 1) * 127.5,
    ),
    "densefuse_gray": System(
        split=color.densefuse_gray_split,
        join=color.densefuse_gray_join,
        reach=(8,),
    ),
    "densefuse_rgb": System(
        encode=lambda values: values / 255 * 255,  # as ToTensor and test_image.py do: the last bit may change
        reach=(8,),
        keeps_colour=False,  # the published program sends the infrared picture through as RGB too
    ),
    "hyperp_mb": System(
        split=color.hyperp_mb_split,
        join=color.hyperp_mb_join,
        reach=(8,),
    ),
}

EDITOR = "dqn_editor"
MODELS = (*SYSTEMS, EDITOR)


def fuse(
    images: Sequence[str | os.PathLike | np.ndarray],
    model: str = "pyramid",
    weights: str | os.PathLike | None = None,
    align: Align = "none",
    keep_order: bool = False,
    max_pixels: int = files.MAX_PIXELS,
    vgg_weights: str | None = None,
    crop: bool = False,
) -> np.ndarray:
    """Fuses differently exposed pictures of one scene into one.

    The pictures are sorted from dark to bright: by the exposure that EXIF tells, or, where it does not tell a different
    one for every picture, by mean luminance, which the log says. One gray and one colour picture without EXIF (infrared
    and visible) are not sorted; their luminances are fused and the colour is kept.

    Args:
        images: two or more paths, or arrays [H, W, 3] (RGB) or [H, W], uint8 or uint16, of one size. 8 and 16 bit
            together give 16 bit. Pictures whose channels differ by at most 3 levels of 255 count as gray. A single path may
            be that of a picture that holds two exposures as its halves (hdr_tf/image/brackets.py).
        model: a name in `MODELS`; "dqn_editor" takes two pictures.
        weights: a .weights.h5 file; None takes those that come with the software.
        align: "homography" or "mtb" brings the pictures onto the middle one (of two: onto the brighter one); "auto" takes of
            each what helps, see `hdr_tf.image.align.align`.
        keep_order: the pictures come dark to bright already.
        max_pixels: a file with more is refused before it is decoded.
        vgg_weights: a file of VGG16's weights for a policy of "dqn_editor" that sees its features; None downloads them.
        crop: with `align`, cut the black borders: the result is the largest rectangle that every aligned picture reaches.

    Returns:
        The fused picture in the pictures' depth: [H, W, 3], or [H, W] if all pictures are gray.

    Raises:
        ValueError: pictures, model and weights do not go together; the message says what was expected and found.
        OSError: a file cannot be read.
    """
    pictures, network = _prepare(_listed(images), model, weights, align, keep_order, max_pixels, vgg_weights, crop)
    return _fuse(pictures, model, network)[0]


def fuse_files(
    images: Sequence[str | os.PathLike | np.ndarray],
    output: str | os.PathLike,
    depth: Literal[8, 16] | None = None,
    quality: int = 95,
    save_aligned: str | os.PathLike | None = None,
    model: str = "pyramid",
    weights: str | os.PathLike | None = None,
    align: Align = "none",
    keep_order: bool = False,
    max_pixels: int = files.MAX_PIXELS,
    vgg_weights: str | None = None,
    trace: str | os.PathLike | None = None,
    client=None,
    write: Callable = files.write_picture,
    crop: bool = False,
) -> np.ndarray:
    """`fuse`, with the result written to a file; returns what was written.

    Args:
        images: as of `fuse`, or pictures that are read already.
        output: .png, .tif or .jpg; its folder is made. None of the pictures may be written over. It carries the EXIF and the
            colour profile of the middle picture (of two: the brighter one), see `hdr_tf.image.metadata`.
        depth: bits of the output; None keeps the pictures' depth, but for JPEG, which has 8.
        quality: of a JPEG, 1 to 100.
        save_aligned: folder for the sorted and aligned pictures, as 1_<name>.png, 2_<name>.png, ...
        trace: of "dqn_editor" a file for a picture of every step, with its Q values.
        client: a `client.Client` of the model, whose server fuses with its own weights.
        write: is called for every picture, the output last, with path, pixels and quality.

    For the other arguments and what is raised see `fuse`.
    """
    output, images = pathlib.Path(output), _listed(images)
    if save_aligned is not None and align == "none":
        raise ValueError("save_aligned: there is nothing to save without align (auto, homography or mtb)")
    if not 1 <= quality <= 100:
        raise ValueError(f"{output}: expected a JPEG quality of 1 to 100, found {quality}")
    _check_output(output, depth, images)
    if trace is not None:
        if model != EDITOR:
            raise ValueError(f"trace: expected the model {EDITOR}, which works in steps, found {model}")
        _check_output(trace := pathlib.Path(trace), None, [*images, output])
    pictures, network = _prepare(images, model, weights, align, keep_order, max_pixels, vgg_weights, crop, client)
    aligned = {}
    for number, picture in enumerate(pictures if save_aligned is not None else (), start=1):
        stem = picture.path.stem if picture.path else "picture"
        target = pathlib.Path(save_aligned) / f"{number}_{stem}.png"
        _check_output(target, None, images)
        if target.resolve() == output.resolve():
            raise ValueError(f"{output}: would be the output and an aligned picture; choose another output")
        aligned[target] = picture.pixels, picture.carried
    fused, steps = (client.fuse([p.pixels for p in pictures]), ()) if client else _fuse(pictures, model, network)
    if trace is not None:
        from hdr_tf.editor import sheet

        aligned[trace] = sheet(steps), metadata.NOTHING
    fused = to_depth(fused, 8 if output.suffix.lower() in files.JPEG_SUFFIXES else depth or fused.itemsize * 8)
    for target, (pixels, carried) in {**aligned, output: (fused, carried_by(pictures))}.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, pixels, quality, carried)
    return fused


def list_brackets(folder: str | os.PathLike) -> list[pathlib.Path | bracket_files.Bracket]:
    """Lists the brackets of a folder: its sub-folders, sorted, each one, then those that its own photographs make by time and
    exposure (`brackets.group_photographs`). The log tells which photographs are in none.

    Raises:
        ValueError: there is no bracket.
    """
    found = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir() and path.name[0] != ".")
    groups, alone = bracket_files.group_photographs(files.list_pictures(folder))
    if not found and not groups:
        told = f", only {len(alone)} pictures that no time and exposure in EXIF join to others" if alone else ""
        raise ValueError(f"{folder}: expected a sub-folder or photographs with EXIF for each bracket, found none{told}")
    if alone:
        names = ", ".join(path.name for path in alone[:5]) + (", ..." if len(alone) > 5 else "")
        logging.warning("pictures left out, which no time and exposure in EXIF join to others: %d (%s)", len(alone), names)
    return found + groups


def bracket_jobs(
    brackets: Sequence[pathlib.Path | bracket_files.Bracket], output: pathlib.Path, suffix: str, least: int
) -> list[folders.Job]:
    """Makes a job of each bracket: `output`/<its name><suffix> from at least so many pictures. A second bracket of a name is
    named as its first file with its ending.

    Raises:
        ValueError: the output lies among the brackets.
    """

    def inputs(place, paths):
        paths = files.list_pictures(place) if paths is None else paths
        if len(paths) < least:
            raise ValueError(f"{place}: expected at least {least} pictures, found {len(paths)}")
        return paths

    jobs, places = {}, []
    for bracket in brackets:
        loose = isinstance(bracket, bracket_files.Bracket)
        place, paths = (bracket.paths[0], bracket.paths) if loose else (bracket, None)
        if loose and output.resolve() == place.parent.resolve():
            raise ValueError(f"{output}: holds the photographs and would hold the results; choose a folder elsewhere")
        name = place.name if bracket.name in jobs else bracket.name
        jobs[name] = folders.Job(name, functools.partial(inputs, place, paths), output / f"{name}{suffix}")
        places.append(place)
    check_outside(output, places, "brackets")
    return list(jobs.values())


def fuse_brackets(
    brackets: Sequence[pathlib.Path | bracket_files.Bracket],
    output: str | os.PathLike,
    model: str = "pyramid",
    weights: str | os.PathLike | None = None,
    save_aligned: str | os.PathLike | None = None,
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception | None]]:
    """Fuses each bracket into `output`/<its name>.png, as `folders.run` does it: one that fails does not stop the others.

    Args:
        brackets: folders of pictures, or brackets, as from `list_brackets`.
        output: folder of the results and of summary.json, not among the brackets; a picture of any bracket is never written
            over.
        model: as of `fuse_files`.
        weights: as of `fuse_files`.
        save_aligned: folder for a folder of aligned pictures for each bracket.
        **arguments: as of `fuse_files`.

    Returns:
        For each bracket the file and the fused picture, or the error in its place, or None if a run before made the file.

    Raises:
        ValueError: what is wrong with every bracket: there is no such model or file of weights, or the output is unfit.
    """
    output = pathlib.Path(output)
    check_model(model, weights, 2)
    jobs = bracket_jobs(brackets, output, ".png", 2)
    everything = set()
    for bracket in brackets:
        paths = bracket.paths if isinstance(bracket, bracket_files.Bracket) else bracket.glob("*")  # none if forbidden
        everything.update(path.resolve() for path in paths)

    def read(job, paths):
        _check_output(job.output, arguments.get("depth"), everything & {job.output.resolve()})
        return [files.read_picture(path, arguments.get("max_pixels", files.MAX_PIXELS)) for path in paths]

    def fuse(job, pictures):
        written = []
        aligned = None if save_aligned is None else pathlib.Path(save_aligned) / job.name
        named = {"model": model, "weights": weights, "save_aligned": aligned}
        fuse_files(pictures, job.output, write=lambda *words: written.append(words), **named, **arguments)
        return written

    def write(job, written):
        for path, pixels, quality, carried in written:
            files.write_picture(path, pixels, quality, carried)
        return pixels

    file = weights_file(model, weights)
    settings = arguments | {"model": model, "weights": [file, folders.state(file)], "save_aligned": save_aligned}
    return folders.run(jobs, read, fuse, write, output, settings)


def fuse_sample(output: str | os.PathLike, **arguments) -> tuple[list[pathlib.Path], np.ndarray]:
    """Fuses a sample bracket of three into `output` and writes its exposures beside it as <stem>_exposure_1.png, ...

    Args:
        output: as of `fuse_files`.
        **arguments: as of `fuse_files`.

    Returns:
        The files of the exposures, dark to bright, and the fused picture.
    """
    pictures = synthesis.sample_bracket()
    fused = fuse_files(pictures, output, **arguments | {"keep_order": True})
    output = pathlib.Path(output)
    paths = [output.with_name(f"{output.stem}_exposure_{i}.png") for i in range(1, len(pictures) + 1)]
    for path, pixels in zip(paths, pictures, strict=True):
        files.write_picture(path, pixels)
    return paths, fused


def _check_output(output, depth, inputs):
    """Raises before the work begins what would otherwise be found out at its end."""
    suffix, known = output.suffix.lower(), files.PICTURE_SUFFIXES
    if suffix in files.RADIANCE_SUFFIXES:
        raise ValueError(
            f"{output}: {suffix} holds radiance, and this model makes a picture for display: write .png or .tif "
            "(--depth=16), or take a model of radiance, such as --model=esbn"
        )
    if suffix not in known:
        raise ValueError(f"{output}: expected an output ending in {', '.join(known)}, found {suffix!r}")
    if depth == 16 and suffix in files.JPEG_SUFFIXES:
        raise ValueError(f"{output}: JPEG holds 8 bit; write .png or .tif for a depth of 16")
    check_target(output, inputs)


def check_target(output: pathlib.Path, inputs: Sequence) -> None:
    """Raises ValueError if `output` cannot be written or is one of the input files (arrays are passed over)."""
    paths = [image.path if isinstance(image, files.Picture) else image for image in inputs if not isinstance(image, np.ndarray)]
    if output.resolve() in {pathlib.Path(path).resolve() for path in paths}:
        raise ValueError(f"{output}: is one of the pictures to fuse and would be overwritten; choose another output")
    if output.is_dir():
        raise ValueError(f"{output}: expected a file to write to, found a folder")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ValueError(f"{output}: cannot be written: {folder} is not a folder that may be written to")


def check_outside(output: pathlib.Path, folders: Sequence[pathlib.Path], what: str) -> None:
    """Raises ValueError if the folder `output` would stand beside the input folders, as one of them."""
    if output.resolve().parent in {folder.parent.resolve() for folder in folders}:
        raise ValueError(f"{output}: lies among the {what} and would be taken for one; choose a folder elsewhere")


def carried_by(pictures: Sequence[files.Picture]) -> metadata.Metadata:
    """Returns EXIF and colour profile for the result: those of the middle one of sorted pictures, of two the brighter one. The
    log says so if other profiles are among them."""
    middle = pictures[len(pictures) // 2]
    if any(picture.carried.icc != middle.carried.icc for picture in pictures):
        logging.warning("the pictures differ in their colour profiles; the result has that of %s", middle.path)
    return middle.carried


def _listed(images):
    if isinstance(images, (str, os.PathLike)):
        raise ValueError(f"expected a list of pictures, found the one path {os.fspath(images)!r}")
    return list(images)


def _prepare(images, model, weights, align, keep_order, max_pixels, vgg_weights, crop, client=None):
    """Reads, sorts and aligns the pictures; returns them, of one depth, and the network, None if a client takes its place. All
    that can be wrong raises before the first line is logged."""
    if crop and align == "none":
        raise ValueError("crop: there is nothing to cut without align (auto, homography or mtb)")
    halves = len(images) == 1 and not isinstance(images[0], np.ndarray)
    check_model(model, weights, 2 if halves else len(images))
    if halves:
        pictures = _read_halves(images[0], max_pixels)
    else:
        pictures = [_read(image, number, max_pixels) for number, image in enumerate(images, start=1)]
    names = [str(picture.path or f"picture {number}") for number, picture in enumerate(pictures, start=1)]
    if halves:
        names = [f"{name}, half {number}" for number, name in enumerate(names, start=1)]
    height, width = pictures[0].pixels.shape[:2]
    for name, picture in zip(names, pictures, strict=True):
        other = picture.pixels.shape[:2]
        if other != (height, width):
            raise ValueError(
                f"{name} is {other[1]} x {other[0]} pixels and {names[0]} {width} x {height}: "
                "expected pictures of one size (width x height)"
            )
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"{names[0]}: expected at least {MIN_SIDE} x {MIN_SIDE} pixels, found {width} x {height}")
    eight_bit = all(picture.pixels.dtype == np.uint8 for picture in pictures)
    network = None if client else compiled(model, weights, len(pictures), height, width, eight_bit, vgg_weights)

    for name, picture in zip(names, pictures, strict=True):
        for note in picture.notes:
            logging.info("%s: %s", name, note)
    if not eight_bit and any(picture.pixels.dtype == np.uint8 for picture in pictures):
        logging.info("some pictures have 8 bit and some 16: fused in 16 bit")
        pictures = [dataclasses.replace(picture, pixels=to_depth(picture.pixels, 16)) for picture in pictures]
    gray = [is_gray(picture.pixels) for picture in pictures]
    if not keep_order and (model == EDITOR or not _is_gray_and_colour(pictures, gray)):
        given, pictures = pictures, dark_to_bright(pictures, names)
        if model == EDITOR and pictures[0] is not given[0]:
            logging.info("swapped: %s is the under-exposed picture, %s the over-exposed one", *names[::-1])
    if align != "none":
        # The middle one; of two the brighter one, onto which HyperP_MB warps the darker one.
        aligned = align_pictures([picture.pixels for picture in pictures], align, len(pictures) // 2, crop)
        pictures = [dataclasses.replace(p, pixels=pixels) for p, pixels in zip(pictures, aligned, strict=True)]
    if crop:
        height, width = aligned[0].shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(f"crop: expected to keep at least {MIN_SIDE} x {MIN_SIDE} pixels, kept {width} x {height}")
        if not client:
            network = compiled(model, weights, len(pictures), height, width, eight_bit, vgg_weights)
    return pictures, network


def check_model(model: str, weights: str | os.PathLike | None, count: int) -> None:
    """Raises ValueError if there is no such model or file of weights, or the model does not take `count` pictures."""
    if model not in MODELS:
        radiance = "or for radiance esbn, ahdrnet, fshdr, hdr_transformer, sctnet"
        raise ValueError(f"unknown model {model!r}: expected one of {', '.join(MODELS)}, {radiance}")
    if count < 2:
        raise ValueError(f"expected at least 2 pictures to fuse, found {count}")
    if model == EDITOR and count > 2:
        raise ValueError(f"{EDITOR}: expected 2 pictures to fuse, found {count}")
    if weights is not None and not pathlib.Path(weights).is_file():
        raise ValueError(f"{weights}: expected a .weights.h5 file, found none")


def _read_halves(path, max_pixels):
    try:
        return bracket_files.read_bracket(bracket_files.Bracket("", (pathlib.Path(path),)), max_pixels)
    except ValueError as error:
        raise ValueError(f"expected at least 2 pictures to fuse, found 1; {error}") from error


def _read(image, number, max_pixels):
    if isinstance(image, files.Picture):
        return image
    if isinstance(image, (str, os.PathLike)):
        return files.read_picture(image, max_pixels)
    image = np.asarray(image)
    if image.dtype not in (np.uint8, np.uint16) or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(
            f"picture {number}: expected a path or an array [H, W, 3] or [H, W] of uint8 or uint16, "
            f"found {list(image.shape)} of {image.dtype}"
        )
    return files.Picture(path=None, pixels=image, exposure=None, notes=())


def _is_gray_and_colour(pictures, gray):
    """Infrared and visible. In a bracket of two, a black or a white picture may look the same but for its EXIF."""
    return len(pictures) == 2 and gray[0] != gray[1] and None in {picture.exposure for picture in pictures}


def dark_to_bright(pictures: Sequence[files.Picture], names: Sequence[str]) -> list[files.Picture]:
    """Returns pictures by their exposures, or, where EXIF does not tell them all apart, by mean luminance; the log says so."""
    exposures = [picture.exposure for picture in pictures]
    if None not in exposures and len(set(exposures)) == len(exposures):
        return sorted(pictures, key=lambda picture: picture.exposure)
    means = [cv2.mean(picture.pixels)[:3] for picture in pictures]
    means = [np.dot(mean, LUMA) if picture.pixels.ndim == 3 else mean[0] for mean, picture in zip(means, pictures, strict=True)]
    order = sorted(range(len(pictures)), key=means.__getitem__)
    told = ", ".join(pathlib.Path(names[i]).name for i in order)
    logging.info("EXIF does not tell the exposures apart; sorted by mean luminance: %s", told)
    return [pictures[i] for i in order]


def _gray(pixels):
    """The luminance of a picture, [H, W] of its type: of a gray one its value, of a colour one Pillow's L."""
    return pixels if pixels.ndim == 2 else color.luminance(pixels)


def _fuse(pictures, model, network):
    """Fuses pictures of one depth and size; see `fuse`. Returns the result, and of the editor the steps."""
    if model == EDITOR:
        return _edit(pictures, network)
    system = SYSTEMS[model]
    eight_bit = pictures[0].pixels.dtype == np.uint8

    def pixels():
        return (picture.pixels if eight_bit else picture.pixels / np.float32(257) for picture in pictures)

    def fuse_planes(planes):
        shape = planes[0].shape
        return network([plane.reshape(*shape[:2], -1) for plane in planes]).reshape(shape)

    def fuse_luminance(planes):
        if system.split is not None:
            return fuse_planes(planes)
        return _gray(fuse_planes([to_rgb(plane) for plane in planes]))

    gray = [is_gray(picture.pixels) for picture in pictures]
    gray_and_colour = _is_gray_and_colour(pictures, gray)
    if all(gray):
        fused = fuse_luminance([_gray(p) for p in pixels()])
    elif system.split is None and not (system.keeps_colour and gray_and_colour):
        fused = fuse_planes([to_rgb(p) for p in pixels()])
    else:
        split, join = system.split or color.densefuse_gray_split, system.join or color.densefuse_gray_join
        luminances, *chroma = zip(*(split(to_rgb(p)) for p in pixels()), strict=True)
        luminances = [luminance.astype(np.uint8 if eight_bit else np.float32) for luminance in luminances]
        chroma = list(zip(*chroma, strict=True))
        if gray_and_colour:
            logging.info("one gray and one colour picture: luminances fused, colour kept")
            chroma = [chroma[gray.index(False)]]
        fused = join(fuse_luminance(luminances), chroma)
    if not eight_bit:
        fused = np.clip(fused, 0, 255)
        fused *= 257
        fused = np.round(fused, out=fused).astype(np.uint16)
    return fused, ()


def _edit(pictures, policy):
    from hdr_tf import editor

    def gray(pixels):
        return np.rint(_gray(pixels)).astype(pixels.dtype)

    pixels = [picture.pixels for picture in pictures]
    if all(is_gray(p) for p in pixels):
        fused, steps = editor.fuse(policy, *(to_rgb(gray(p)) for p in pixels))
        return gray(fused), steps
    return editor.fuse(policy, *map(to_rgb, pixels))


def load_network(model: str, weights: str | os.PathLike | None = None, **arguments):
    """Builds a network and loads its weights.

    Args:
        model: a name in `MODELS`.
        weights: a .weights.h5 file; None takes those that come with the software.
        **arguments: of the network's builder, of "dqn_editor" those of `editor.load_policy`.

    Returns:
        A keras.Model, see `hdr_tf.models`; of "dqn_editor" an `editor.Policy`.

    Raises:
        ValueError: unknown model or arguments, no weights or those of another network.
        OSError: the weights cannot be read.
    """
    from hdr_tf import editor
    from hdr_tf.models import build
    from hdr_tf.weights import load_weights

    path = weights_file(model, weights)
    if model == EDITOR:
        return editor.load_policy(path, **arguments)
    network = build(model, **arguments)
    load_weights(network, path)
    return network


def weights_file(model: str, weights: str | os.PathLike | None) -> str | os.PathLike:
    """Returns the file of a model's weights, of None the one that comes with the software; ValueError if there is none."""
    from hdr_tf.weights import pretrained

    path = pretrained(model) if weights is None else weights
    if path is None:
        raise ValueError(
            f"{model} comes without weights: convert its authors' with `python tools/convert_checkpoint.py "
            f"--model={model} --checkpoint=FILE --output={model}.weights.h5` and pass --weights={model}.weights.h5"
        )
    return path


def compiled(model, weights, count, height, width, eight_bit, vgg_weights=None) -> Callable:
    """Returns a function from a list of pictures [H, W, C] in 0..255, dark to bright, to the fused one, likewise; uint8 to
    uint8, or float32 to float32; of the editor its policy. Pictures of other sizes may share it."""
    arguments = SYSTEMS[model].arguments(count, height, width) if model != EDITOR else {"vgg_weights": vgg_weights}
    arguments = tuple(arguments.items())
    if weights is None:
        return _compile(model, None, None, arguments, eight_bit)
    path = pathlib.Path(weights)
    return _compile(model, path.resolve(), path.stat().st_mtime_ns, arguments, eight_bit)


@functools.lru_cache(maxsize=16)
def _compile(model, weights, changed, arguments, eight_bit):
    # `changed` only tells apart the versions of a file
    network = load_network(model, weights, **dict(arguments))
    if model == EDITOR:
        return network
    import tensorflow as tf

    system = SYSTEMS[model]

    def encoded(pixels):
        if eight_bit and system.unit:
            return tf.quantization.dequantize(tf.bitcast(pixels, tf.quint8), 0.0, 1.0, "MIN_FIRST")  # value / 255, exactly
        return system.encode(tf.cast(pixels, tf.float32))

    def decoded(fused):
        if eight_bit and system.unit:
            return tf.bitcast(tf.quantization.quantize(fused, 0.0, 1.0, tf.quint8, "MIN_FIRST").output, tf.uint8)
        fused = system.in_range(system.decode(fused), eight_bit)
        return tf.cast(fused, tf.uint8) if eight_bit else fused

    def compile_part(part, last=True):
        """Returns a function from a list of arrays [H, W, C] to one: pictures to values, the last to pixels."""
        # `input` keeps the order, dark to bright; `inputs` is sorted by name.
        signature = [
            tf.TensorSpec([None, None, None, x.shape[-1]], tf.uint8 if eight_bit and name in network.input else tf.float32)
            for name, x in part.input.items()
        ]

        @functools.partial(tf.function, input_signature=[signature])
        def run(arrays):
            values = dict(zip(part.input, arrays, strict=True))
            pictures = {name: encoded(values[name]) for name in values if name in network.input}
            (found,) = part(values | pictures, training=False).values()
            return decoded(found) if last else found

        return lambda arrays: run([array[None] for array in arrays]).numpy()[0]

    @functools.cache
    def parts():
        *others, last = system.parts(network, **dict(arguments))
        return [*(compile_part(part, last=False) for part in others), compile_part(last)]

    whole = compile_part(network)

    def fuse(pictures):
        height, width = pictures[0].shape[:2]
        if height * width <= WHOLE:
            return whole(pictures)
        first, *others = parts()
        side = TILE * system.tiles
        fused = tiles.in_tiles(first, pictures, side, system.reach[0])
        if others:
            fused = others[0]([fused])
        if len(others) > 1:
            fused = tiles.in_tiles(others[1], [*pictures, fused], side, system.reach[1])
        return fused

    return fuse
