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

from hdr_tf.image import brackets as bracket_files
from hdr_tf.image import color, files, synthesis
from hdr_tf.image.align import align as align_pictures

MIN_SIDE = 8  # pixels, of every network here
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

Align = Literal["none", "homography", "mtb"]


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
    keeps_colour: bool = True
    """one gray and one colour picture: fuse the luminances and keep the colour, rather than send both through as RGB"""


def _pyramid_arguments(count, height, width):
    from hdr_tf.models.pyramid import levels_for

    return {"exposures": count, "levels": levels_for(height, width)}


SYSTEMS = {
    "pyramid": System(
        encode=lambda values: values / 255,
        decode=lambda values: values * 255,
        to_8_bit="round",
        arguments=_pyramid_arguments,
    ),
    "deepfuse_official": System(
        split=color.deepfuse_official_split,
        join=color.deepfuse_official_join,
        to_8_bit="stretch",
    ),
    "deepfuse_sunnerli": System(
        split=color.deepfuse_sunnerli_split,
        join=color.deepfuse_sunnerli_join,
        encode=lambda values: (values - 127.5) / 127.5,
        decode=lambda values: (values + 1) * 127.5,
    ),
    "densefuse_gray": System(
        split=color.densefuse_gray_split,
        join=color.densefuse_gray_join,
    ),
    "densefuse_rgb": System(
        encode=lambda values: values / 255 * 255,  # as ToTensor and test_image.py do: the last bit may change
        keeps_colour=False,  # the published program sends the infrared picture through as RGB too
    ),
    "hyperp_mb": System(
        split=color.hyperp_mb_split,
        join=color.hyperp_mb_join,
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
        align: "homography" or "mtb" brings the pictures onto the middle one (of two: onto the brighter one).
        keep_order: the pictures come dark to bright already.
        max_pixels: a file with more is refused before it is decoded.
        vgg_weights: a file of VGG16's weights for a policy of "dqn_editor" that sees its features; None downloads them.

    Returns:
        The fused picture in the pictures' depth: [H, W, 3], or [H, W] if all pictures are gray.

    Raises:
        ValueError: pictures, model and weights do not go together; the message says what was expected and found.
        OSError: a file cannot be read.
    """
    pictures, network = _prepare(_listed(images), model, weights, align, keep_order, max_pixels, vgg_weights)
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
) -> np.ndarray:
    """`fuse`, with the result written to a file; returns what was written.

    Args:
        images: as of `fuse`.
        output: .png, .tif or .jpg; its folder is made. None of the pictures may be written over.
        depth: bits of the output; None keeps the pictures' depth, but for JPEG, which has 8.
        quality: of a JPEG, 1 to 100.
        save_aligned: folder for the sorted and aligned pictures, as 1_<name>.png, 2_<name>.png, ...
        trace: of "dqn_editor" a file for a picture of every step, with its Q values.

    For the other arguments and what is raised see `fuse`.
    """
    output, images = pathlib.Path(output), _listed(images)
    if save_aligned is not None and align == "none":
        raise ValueError("save_aligned: there is nothing to save without align (homography or mtb)")
    if not 1 <= quality <= 100:
        raise ValueError(f"{output}: expected a JPEG quality of 1 to 100, found {quality}")
    _check_output(output, depth, images)
    if trace is not None:
        if model != EDITOR:
            raise ValueError(f"trace: expected the model {EDITOR}, which works in steps, found {model}")
        _check_output(trace := pathlib.Path(trace), None, [*images, output])
    pictures, network = _prepare(images, model, weights, align, keep_order, max_pixels, vgg_weights)
    aligned = {}
    for number, picture in enumerate(pictures if save_aligned is not None else (), start=1):
        stem = picture.path.stem if picture.path else "picture"
        target = pathlib.Path(save_aligned) / f"{number}_{stem}.png"
        _check_output(target, None, images)
        if target.resolve() == output.resolve():
            raise ValueError(f"{output}: would be the output and an aligned picture; choose another output")
        aligned[target] = picture.pixels
    fused, steps = _fuse(pictures, model, network)
    if trace is not None:
        from hdr_tf.editor import sheet

        aligned[trace] = sheet(steps)
    fused = files.to_depth(fused, 8 if output.suffix.lower() in files.JPEG_SUFFIXES else depth or fused.itemsize * 8)
    for target, pixels in {**aligned, output: fused}.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_picture(target, pixels, quality)
    return fused


def list_brackets(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the sub-folders of a folder, sorted, each a bracket. Raises ValueError if there is none."""
    brackets = sorted(path for path in pathlib.Path(folder).iterdir() if path.is_dir() and path.name[0] != ".")
    if not brackets:
        raise ValueError(f"{folder}: expected one sub-folder for each bracket, found none")
    return brackets


def fuse_brackets(
    brackets: Sequence[pathlib.Path],
    output: str | os.PathLike,
    model: str = "pyramid",
    weights: str | os.PathLike | None = None,
    save_aligned: str | os.PathLike | None = None,
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception]]:
    """Fuses each folder of pictures into `output`/<folder's name>.png; a bracket that fails does not stop the others.

    Args:
        brackets: folders, as from `list_brackets`.
        output: folder of the results, not among the brackets; a picture of any bracket is never written over.
        model: as of `fuse_files`.
        weights: as of `fuse_files`.
        save_aligned: folder for a folder of aligned pictures for each bracket.
        **arguments: as of `fuse_files`.

    Yields:
        The file and the fused picture, or the error that took its place.

    Raises:
        ValueError: what is wrong with every bracket: there is no such model or file of weights, or the output is unfit.
    """
    output = pathlib.Path(output)
    check_model(model, weights, 2)
    check_outside(output, brackets, "brackets")
    everything = [path for bracket in brackets for path in bracket.glob("*")]  # skips a folder that may not be read
    for bracket in brackets:
        target = output / f"{bracket.name}.png"
        aligned = None if save_aligned is None else pathlib.Path(save_aligned) / bracket.name
        try:
            _check_output(target, None, everything)
            paths = files.list_pictures(bracket)
            if len(paths) < 2:
                raise ValueError(f"{bracket}: expected at least 2 pictures, found {len(paths)}")
            yield target, fuse_files(paths, target, model=model, weights=weights, save_aligned=aligned, **arguments)
        except Exception as error:  # such as too little memory for one large bracket
            yield target, error


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
    if suffix not in known:
        raise ValueError(f"{output}: expected an output ending in {', '.join(known)}, found {suffix!r}")
    if depth == 16 and suffix in files.JPEG_SUFFIXES:
        raise ValueError(f"{output}: JPEG holds 8 bit; write .png or .tif for a depth of 16")
    check_target(output, inputs)


def check_target(output: pathlib.Path, inputs: Sequence) -> None:
    """Raises ValueError if `output` cannot be written or is one of the input files (arrays are passed over)."""
    if output.resolve() in {pathlib.Path(image).resolve() for image in inputs if not isinstance(image, np.ndarray)}:
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


def _listed(images):
    if isinstance(images, (str, os.PathLike)):
        raise ValueError(f"expected a list of pictures, found the one path {os.fspath(images)!r}")
    return list(images)


def _prepare(images, model, weights, align, keep_order, max_pixels, vgg_weights):
    """Reads, sorts and aligns the pictures; returns them, of one depth, and the network. All that can be wrong raises
    before the first line is logged."""
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
    network = _compiled(model, weights, len(pictures), height, width, eight_bit, vgg_weights)

    for name, picture in zip(names, pictures, strict=True):
        for note in picture.notes:
            logging.info("%s: %s", name, note)
    if not eight_bit and any(picture.pixels.dtype == np.uint8 for picture in pictures):
        logging.info("some pictures have 8 bit and some 16: fused in 16 bit")
        pictures = [dataclasses.replace(picture, pixels=files.to_depth(picture.pixels, 16)) for picture in pictures]
    gray = [files.is_gray(picture.pixels) for picture in pictures]
    if not keep_order and (model == EDITOR or not _is_gray_and_colour(pictures, gray)):
        given, pictures = pictures, dark_to_bright(pictures, names)
        if model == EDITOR and pictures[0] is not given[0]:
            logging.info("swapped: %s is the under-exposed picture, %s the over-exposed one", *names[::-1])
    if align != "none":
        # The middle one; of two the brighter one, onto which HyperP_MB warps the darker one.
        aligned = align_pictures([picture.pixels for picture in pictures], align, reference=len(pictures) // 2)
        pictures = [dataclasses.replace(p, pixels=pixels) for p, pixels in zip(pictures, aligned, strict=True)]
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
    pixels = [picture.pixels if eight_bit else picture.pixels / np.float32(257) for picture in pictures]

    def fuse_planes(planes):
        shape = planes[0].shape
        return network([plane.reshape(1, *shape[:2], -1) for plane in planes]).numpy().reshape(shape)

    def fuse_luminance(planes):
        if system.split is not None:
            return fuse_planes(planes)
        return _gray(fuse_planes([_rgb(plane) for plane in planes]))

    gray = [files.is_gray(picture.pixels) for picture in pictures]
    gray_and_colour = _is_gray_and_colour(pictures, gray)
    if all(gray):
        fused = fuse_luminance([_gray(p) for p in pixels])
    elif system.split is None and not (system.keeps_colour and gray_and_colour):
        fused = fuse_planes([_rgb(p) for p in pixels])
    else:
        split, join = system.split or color.densefuse_gray_split, system.join or color.densefuse_gray_join
        luminances, *chroma = zip(*(split(_rgb(p)) for p in pixels), strict=True)
        luminances = [luminance.astype(pixels[0].dtype) for luminance in luminances]
        chroma = list(zip(*chroma, strict=True))
        if gray_and_colour:
            logging.info("one gray and one colour picture: luminances fused, colour kept")
            chroma = [chroma[gray.index(False)]]
        fused = join(fuse_luminance(luminances), chroma)
    return fused if eight_bit else np.round(np.clip(fused, 0, 255) * 257.0).astype(np.uint16), ()


def _edit(pictures, policy):
    from hdr_tf import editor

    def gray(pixels):
        return np.rint(_gray(pixels)).astype(pixels.dtype)

    pixels = [picture.pixels for picture in pictures]
    if all(files.is_gray(p) for p in pixels):
        fused, steps = editor.fuse(policy, *(_rgb(gray(p)) for p in pixels))
        return gray(fused), steps
    return editor.fuse(policy, *map(_rgb, pixels))


def _rgb(pixels):
    return np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels


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


def _compiled(model, weights, count, height, width, eight_bit, vgg_weights):
    """Returns a function from a list of pictures [1, H, W, C] in 0..255, dark to bright, to the fused tensor, likewise; uint8
    to uint8, or float32 to float32; of the editor its policy. Pictures of other sizes may share it."""
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
    dtype = tf.uint8 if eight_bit else tf.float32
    # `network.input` keeps the order, dark to bright; `network.inputs` is sorted by name.
    signature = [tf.TensorSpec([None, None, None, x.shape[-1]], dtype) for x in network.input.values()]

    @tf.function(input_signature=[signature])
    def fuse(pictures):
        pictures = [system.encode(tf.cast(values, tf.float32)) for values in pictures]
        inputs = dict(zip(network.input, pictures, strict=True))
        fused = system.decode(network(inputs, training=False)["fused"])
        if eight_bit and system.to_8_bit == "stretch":
            lowest, highest = tf.reduce_min(fused), tf.reduce_max(fused)
            fused = tf.math.divide_no_nan(255.0, highest - lowest) * (fused - lowest)
        fused = tf.clip_by_value(fused, 0, 255)
        if not eight_bit:
            return fused
        return tf.cast(fused if system.to_8_bit == "truncate" else fused + 0.5, tf.uint8)

    return fuse
