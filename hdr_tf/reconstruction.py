"""Radiance from three exposures with a network: ESBN, or one of those that SelfHDR trains (`hdr_tf.selfhdr`).

>>> esbn = load("esbn", "weights")  # doctest: +SKIP
>>> aligned, radiance = reconstruct(esbn, pictures, exposures=(1, 4, 16))  # doctest: +SKIP

What `load` returns brings the low and the high exposure onto the middle one, if its `aligns` says so (`align_both`), and turns
the three into radiance (`merge`).

The networks give no radiance above 1, and they are trained on scenes where 1 is what the shortest exposure just shows. So
`fuse_radiance`, which takes anybody's photographs, counts exposures from the shortest and scales the radiance back;
everything else takes exposures as they stand.

ESBN merges pictures in tiles, with so much around each that the result is that of the whole picture, in a tenth of the memory.
It aligns large ones in tiles too, which makes twice the work, as its networks see far.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from absl import logging

from hdr_tf import folders, fusing, selfhdr
from hdr_tf.image import brackets as bracket_files
from hdr_tf.image import files, scenes, tiles, tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb, to_unit

MODELS = ("esbn", *selfhdr.NETWORKS)
FILES = {side: f"esbn_{side}.weights.h5" for side in ("align_low", "align_high", "fusion")}
MIN_SIDE = 8  # pixels
TILE = 384  # pixels, a multiple of 8
HALO = 16  # pixels around a tile, a multiple of 8: the nine 3x3 convolutions of the merging network see 9 pixels far
ALIGN_WHOLE = 2**21  # pixels; a larger picture is aligned in tiles
ALIGN_TILE = 768  # pixels, a multiple of 8
ALIGN_HALO = 184  # likewise: at most 14 in the encoder, 8 in each of 18 convolutions of the residual blocks, 23 in the decoder
USUAL_STOPS = (2, 3)  # between two exposures of the scenes that the networks were trained on


class Esbn:
    """The two alignment networks and the merging network, compiled for pictures of any size.

    Attributes:
        low, high, fusion: the networks, see `hdr_tf.models.esbn`; None where they are not needed.
    """

    aligns = True

    def __init__(self, low, high, fusion):
        import tensorflow as tf

        self.low, self.high, self.fusion = low, high, fusion
        picture, number = tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([1])

        def compiled(network):
            return tf.function(
                lambda *arguments: _align(network, *arguments), input_signature=[picture, picture, number, number]
            )

        self._align = {"low": compiled(low), "high": compiled(high)}
        self._merge = tf.function(
            lambda pictures, exposures: _merge(fusion, tf.unstack(pictures), exposures),
            input_signature=[tf.TensorSpec([3, 1, None, None, 3]), tf.TensorSpec([1, 3])],
        )

    @property
    def networks(self) -> tuple:
        """All networks of it."""
        return (self.low, self.high, self.fusion)

    def align(
        self, side: Literal["low", "high"], ldr: np.ndarray, mid: np.ndarray, exposure: float, exposure_mid: float
    ) -> np.ndarray:
        """Aligns the low or the high exposure with the middle one.

        Args:
            side: which one it is.
            ldr: the picture, [H, W, 3] float32 in 0..1, H and W at least 8.
            mid: the middle exposure, likewise.
            exposure: of `ldr`, 2**stops.
            exposure_mid: of `mid`.

        Returns:
            [H, W, 3] float32 in 0..1.
        """
        exposures = np.float32([exposure]), np.float32([exposure_mid])

        def run(seen):
            return self._align[side](*(np.float32(picture)[None] for picture in seen), *exposures).numpy()[0]

        small = ldr.shape[0] * ldr.shape[1] <= ALIGN_WHOLE
        return run([ldr, mid]) if small else tiles.in_tiles(run, [ldr, mid], ALIGN_TILE, ALIGN_HALO)

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Aligns low and high, [3, H, W, 3] float32 in 0..1, low to high; returns the same, its middle picture untouched."""
        low, mid, high = ldr
        aligned_low = self.align("low", low, mid, exposures[0], exposures[1])
        return np.stack([aligned_low, mid, self.align("high", high, mid, exposures[2], exposures[1])])

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Merges three aligned exposures.

        Args:
            ldr: [3, H, W, 3] float32 in 0..1, low to high, H and W at least 8.
            exposures: 2**stops of the three.

        Returns:
            The radiance, [H, W, 3] float32 in 0..1.
        """
        height, width = ldr.shape[1:3]
        ldr = np.pad(np.float32(ldr), ((0, 0), (0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")  # as the network
        exposures = np.float32([exposures])
        radiance = tiles.in_tiles(lambda seen: self._merge(np.stack(seen)[:, None], exposures)[0].numpy(), ldr, TILE, HALO)
        return radiance[:height, :width]

    def reconstruct_batch(self, inputs: dict) -> dict:
        """What `tools/export.py` exports, on tensors.

        Args:
            inputs: {"ldr_low", "ldr_mid", "ldr_high": [B, H, W, 3] float32 in 0..1, "exposures": [B, 3], low to high}.

        Returns:
            {"aligned_low", "aligned_high": [B, H, W, 3] in 0..1, "hdr": radiance, likewise}.
        """
        mid, exposures = inputs["ldr_mid"], inputs["exposures"]
        low = _align(self.low, inputs["ldr_low"], mid, exposures[:, 0], exposures[:, 1])
        high = _align(self.high, inputs["ldr_high"], mid, exposures[:, 2], exposures[:, 1])
        return {"aligned_low": low, "aligned_high": high, "hdr": _merge(self.fusion, [low, mid, high], exposures)}


def _align(network, moving, mid, exposure, exposure_mid):
    inputs = _inputs({"low": moving, "mid": mid}, {"low": exposure, "mid": exposure_mid})
    return (network(inputs, training=False)["aligned"] + 1) / 2


def _merge(network, pictures, exposures):
    names = scenes.EXPOSURE_NAMES
    inputs = _inputs(dict(zip(names, pictures, strict=True)), {name: exposures[:, i] for i, name in enumerate(names)})
    return (network(inputs, training=False)["hdr"] + 1) / 2


def _inputs(pictures, exposures):
    """The networks' inputs for pictures [B, H, W, 3] in 0..1 and exposures [B]."""
    from hdr_tf.models.esbn import radiance_input

    scaled = {side: picture * 2 - 1 for side, picture in pictures.items()}
    inputs = {f"ldr_{side}": picture for side, picture in scaled.items()}
    return inputs | {f"hdr_{side}": radiance_input(picture, exposures[side]) for side, picture in scaled.items()}


def load(model: str, weights: str | os.PathLike | None = None, mixed_precision: bool = False) -> Esbn | selfhdr.SelfHdr:
    """Loads a model of radiance.

    Args:
        model: a name in `MODELS`.
        weights: of esbn a folder, as of `load_esbn`, of the others a file or a folder, as of `selfhdr.load_selfhdr`.
        mixed_precision: whether it computes in bfloat16, which has 8 bits of precision; weights and radiance are float32.

    Raises:
        ValueError: unknown model; what those functions raise.
        OSError: a file cannot be read.
    """
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}: expected one of {', '.join(MODELS)}")
    import keras

    before = keras.config.dtype_policy()
    if mixed_precision:
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return load_esbn(weights) if model == "esbn" else selfhdr.load_selfhdr(model, weights)
    finally:
        keras.config.set_dtype_policy(before)


def load_esbn(folder: str | os.PathLike | None = None, networks: Sequence[str] = tuple(FILES)) -> Esbn:
    """Builds the networks, as wide as their weights are, and loads these.

    Args:
        folder: of esbn_align_low.weights.h5, esbn_align_high.weights.h5 and esbn_fusion.weights.h5; None takes those that
            come with the software.
        networks: names in `FILES` of those to load; the others are None.

    Raises:
        ValueError: a file is missing, damaged or of another network.
        OSError: a file cannot be read.
    """
    from hdr_tf import weights
    from hdr_tf.models import esbn

    place = weights.PRETRAINED if folder is None else pathlib.Path(folder)
    paths = {name: place / FILES[name] for name in networks}
    missing = [path.name for path in paths.values() if not path.is_file()]
    if missing:
        where = "the software comes without" if folder is None else f"{folder}: found no"
        raise ValueError(
            f"{where} {', '.join(missing)}: train them (train/esbn_align.py --side=low, --side=high, train/esbn_fusion.py) or "
            "convert the authors' (tools/convert_checkpoint.py), and pass --weights=FOLDER with them"
        )
    loaded = dict.fromkeys(FILES)
    for name, path in paths.items():
        shapes = weights.read_shapes(path)
        if name == "fusion":
            filters, growth = (shapes.get(f"{layer}/kernel", (1,))[-1] for layer in ("mid_conv", "dense_conv1"))
            network = esbn.esbn_fusion(filters, growth)
        else:
            network = esbn.esbn_align(shapes.get("low_encoder_conv1/kernel", (1,))[-1], name=f"esbn_{name}")
        weights.load_weights(network, path)
        loaded[name] = network
    return Esbn(*loaded.values())


def reconstruct(model: Esbn | selfhdr.SelfHdr, ldr: np.ndarray, exposures: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Aligns and merges three exposures at their full depth and size.

    Args:
        model: as from `load`.
        ldr: [3, H, W, 3] uint8 or uint16 RGB, gamma-encoded, low to high, H and W at least 8.
        exposures: 2**stops of the three, increasing.

    Returns:
        The pictures, [3, H, W, 3] float32 in 0..1, aligned if the model does that, the middle one as it was, and the radiance,
        [H, W, 3] float32: v**2.2 / exposure of an encoded value v.

    Raises:
        ValueError: other arrays or exposures.
    """
    exposures = np.asarray(exposures, np.float64)
    if ldr.ndim != 4 or ldr.shape[::3] != (3, 3) or min(ldr.shape[1:3]) < MIN_SIDE or ldr.dtype not in (np.uint8, np.uint16):
        expected = f"[3, H, W, 3] of uint8 or uint16, H and W at least {MIN_SIDE}"
        raise ValueError(f"expected three pictures {expected}, found {list(ldr.shape)} of {ldr.dtype}")
    if exposures.shape != (3,) or not (np.isfinite(exposures).all() and 0 < exposures[0] < exposures[1] < exposures[2]):
        raise ValueError(f"expected three increasing exposures above 0, found {exposures.tolist()}")
    aligned = model.align_both(to_unit(ldr), exposures)
    return aligned, model.merge(aligned, exposures)


def fuse_radiance(
    images: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    stops: Sequence[float] | None = None,
    model: Esbn | selfhdr.SelfHdr | str = "esbn",
    weights: str | os.PathLike | None = None,
    mixed_precision: bool = False,
    save_aligned: str | os.PathLike | None = None,
    max_pixels: int = files.MAX_PIXELS,
) -> np.ndarray:
    """Reconstructs the radiance of a scene from photographs, and writes it with a preview beside it.

    Of more than three photographs, sorted by exposure, the middle one (of an even number the darker of the two) is the
    reference, and of the darker and of the brighter ones that whose distance to it is nearest to 2 to 3 stops, which the
    networks know; of several within, the farthest. Whatever moves appears as in the reference.

    Args:
        images: three files or more, of one size, 8 or 16 bit, gamma-encoded, in any order.
        output: .exr or .hdr; its folder is made. <stem>_preview.png beside it is the radiance tone-mapped by the mu-law.
        stops: log2 of the exposures, in the order of `images`; None takes the exposures from EXIF.
        model: a name in `MODELS`, or what `load` returned.
        weights: of a model by name, as of `load`.
        mixed_precision: likewise.
        save_aligned: folder for the aligned pictures, of a model that aligns, as 1_<name>.png, 2_<name>.png, 3_<name>.png.
        max_pixels: a file with more is refused before it is decoded.

    Returns:
        The radiance, [H, W, 3] float32: v**2.2 / 2**stops for an encoded value v in 0..1.

    Raises:
        ValueError: pictures, exposures, output and weights do not go together; one line.
        OSError: a file cannot be read or written.
    """
    images, output = [pathlib.Path(image) for image in images], pathlib.Path(output)
    preview = output.with_name(f"{output.stem}_preview.png")
    if output.suffix.lower() not in files.RADIANCE_SUFFIXES:
        raise ValueError(f"{output}: expected an output ending in .exr or .hdr, which hold radiance, found {output.suffix!r}")
    if len(images) < 3:
        raise ValueError(f"radiance takes at least 3 exposures, found {len(images)}")
    if stops is not None and (len(stops) != len(images) or not np.isfinite(stops).all()):
        raise ValueError(f"expected {len(images)} exposures (stops), one for each picture, found {', '.join(map(str, stops))}")
    for target in (output, preview):
        fusing.check_target(target, images)
    pictures = [files.read_picture(image, max_pixels) for image in images]
    stops = _stops(pictures) if stops is None else np.asarray(stops, np.float64)
    chosen = choose_exposures(stops)
    pictures, stops = [pictures[i] for i in chosen], stops[list(chosen)]
    ldr = _stack(pictures)
    if len(images) > 3:
        told = ", ".join(f"{picture.path.name} ({stop:+.1f})" for picture, stop in zip(pictures, stops - stops[1], strict=True))
        logging.info("three of %d exposures: %s", len(images), told)
    targets = [] if save_aligned is None else _aligned_targets(save_aligned, pictures)
    for target in targets:
        fusing.check_target(target, [*images, preview])

    system = load(model, weights, mixed_precision) if isinstance(model, str) else model
    if targets and not system.aligns:
        raise ValueError("save_aligned: there is nothing to save, the network takes the pictures as they are")
    aligned, radiance = reconstruct(system, ldr, 2 ** (stops - stops[0]))
    for target, picture, taken in zip(targets, aligned, pictures, strict=False):
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_picture(target, from_unit(picture, ldr.dtype), carried=taken.carried)
    output.parent.mkdir(parents=True, exist_ok=True)
    scaled = radiance * np.float32(2 ** -stops[0])
    files.write_radiance(output, scaled)
    files.write_picture(preview, np.rint(255 * tone.mu_law(radiance)).astype(np.uint8), carried=fusing.carried_by(pictures))
    return scaled


def choose_exposures(stops: np.ndarray) -> tuple[int, int, int]:
    """The indices of the three exposures that `fuse_radiance` takes, low to high; ValueError if they are not three."""
    order = np.argsort(stops, kind="stable")
    reference = order[(len(stops) - 1) // 2]

    def nearest(candidates):
        distances = np.abs(stops[candidates] - stops[reference])
        low, high = USUAL_STOPS
        return candidates[np.lexsort([-distances, np.maximum(low - distances, distances - high).clip(0)])[0]]

    darker, brighter = (order[at] for at in (stops[order] < stops[reference], stops[order] > stops[reference]))
    if not (len(darker) and len(brighter)):
        told = ", ".join(f"{stop:g}" for stop in stops[order])
        raise ValueError(f"expected three different exposures, the middle one between the others, found the stops {told}")
    return int(nearest(darker)), int(reference), int(nearest(brighter))


def fuse_radiance_brackets(
    brackets: Sequence[pathlib.Path | bracket_files.Bracket],
    output: str | os.PathLike,
    model: Esbn | selfhdr.SelfHdr | str = "esbn",
    weights: str | os.PathLike | None = None,
    mixed_precision: bool = False,
    save_aligned: str | os.PathLike | None = None,
    **arguments,
) -> Iterator[tuple[pathlib.Path, np.ndarray | Exception | None]]:
    """`fuse_radiance` of each bracket into `output`/<its name>.exr, as `folders.run` does it: one that fails does not stop the
    others.

    Args:
        brackets: folders of pictures, or brackets, as from `fusing.list_brackets`.
        output: folder of the results and of summary.json, not among the brackets.
        model: as of `fuse_radiance`.
        weights: likewise.
        mixed_precision: likewise.
        save_aligned: folder for a folder of aligned pictures for each bracket.
        **arguments: as of `fuse_radiance`; stops are those of each bracket's pictures in the order of their names.

    Returns:
        For each bracket the file and the radiance, or the error that took its place, or None if a run before made the file.

    Raises:
        ValueError: the weights or the output are unfit for all.
    """
    output = pathlib.Path(output)
    jobs = fusing.bracket_jobs(brackets, output, ".exr", 3)
    system = load(model, weights, mixed_precision) if isinstance(model, str) else model

    def fuse(job, paths):
        aligned = None if save_aligned is None else pathlib.Path(save_aligned) / job.name
        return fuse_radiance(paths, job.output, model=system, save_aligned=aligned, **arguments)

    from hdr_tf.weights import PRETRAINED

    state = folders.state(PRETRAINED if weights is None else weights)
    named = {"model": model, "weights": [weights, state], "mixed_precision": mixed_precision, "save_aligned": save_aligned}
    settings = arguments | named
    return folders.run(jobs, lambda job, paths: paths, fuse, lambda job, radiance: radiance, output, settings)


def align_scenes(
    folders: Sequence[pathlib.Path], output: str | os.PathLike, esbn: Esbn | str | os.PathLike | None = None
) -> Iterator[tuple[pathlib.Path, Exception | None]]:
    """Aligns scenes and writes them as scenes again, which the merging network trains on.

    A scene in `output` is named as the one that it comes from, has its exposures and its radiance, and three pictures of
    8 bit. A scene that fails does not stop the others.

    Args:
        folders: of scenes, as from `scenes.list_scenes`.
        output: folder for the aligned scenes, not among the others.
        esbn: the networks, or the folder of their weights, as of `load_esbn`; the merging network need not be there.

    Yields:
        The folder of each aligned scene, and None or what went wrong.

    Raises:
        ValueError: the weights or the output are unfit for all.
    """
    output = pathlib.Path(output)
    fusing.check_outside(output, folders, "scenes")
    esbn = esbn if isinstance(esbn, Esbn) else load_esbn(esbn, ("align_low", "align_high"))
    for folder in folders:
        target = output / folder.name
        try:
            scene = scenes.read_scene(folder)
            aligned = esbn.align_both(to_unit(scene.ldr), scene.exposures)
            scenes.write_scene(target, np.rint(255 * aligned).astype(np.uint8), scene.stops, scene.hdr)
            yield target, None
        except Exception as error:
            yield target, error


def _stops(pictures):
    for picture in pictures:
        if picture.exposure is None:
            raise ValueError(
                f"{picture.path}: radiance needs the exposures, and EXIF tells none: pass --exposures=STOPS, log2, one for "
                "each picture, such as --exposures=-2,0,2"
            )
    return np.log2([picture.exposure for picture in pictures])


def _stack(pictures):
    """The pictures as one array, [3, H, W, 3] of the deepest type."""
    first = pictures[0]
    for picture in pictures:
        sizes = [f"{size[1]} x {size[0]}" for size in (picture.pixels.shape, first.pixels.shape)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{picture.path} is {sizes[0]} pixels and {first.path} {sizes[1]}: "
                "expected pictures of one size (width x height)"
            )
    if min(first.pixels.shape[:2]) < MIN_SIDE:
        raise ValueError(f"{first.path}: expected at least {MIN_SIDE} x {MIN_SIDE} pixels, found {sizes[0]}")
    depth = 8 * max(picture.pixels.itemsize for picture in pictures)
    return np.stack([to_rgb(to_depth(picture.pixels, depth)) for picture in pictures])


def _aligned_targets(folder, pictures):
    return [pathlib.Path(folder) / f"{number}_{picture.path.stem}.png" for number, picture in enumerate(pictures, start=1)]
