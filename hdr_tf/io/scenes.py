"""Scenes: three photographs of something that may move, their exposures and, for training and scores, the true radiance.

Kalantari's layout (Kalantari, Ramamoorthi, ACM TOG 36(4), 2017), one folder per scene:

    001/
      262A0001.tif 262A0002.tif 262A0003.tif    16 or 8 bit, short to long in the order of their names
      exposure.txt                              three lines, log2 of the exposures (stops)
      HDRImg.hdr                                radiance, in register with the middle exposure; may be absent

Of larger brackets three images are read, chosen as in the loaders of SelfHDR (Zhang et al., ICLR 2024; cszhilu1998/SelfHDR
9e8af4a, data/):

    Kalantari   exposure.txt with stops     the first three of the .tif
    Sen         exposures.txt with stops    the middle three; the brighter of two middle ones is in the middle
                                            (ACM TOG 31(6), 2012; changed: any image format, the loader reads .tif alone)
    Tursun      exposure.txt with times     the 5th, 7th and 9th of nine or more .tif, with a time for each
                                            (Computer Graphics Forum 35(2), 2016)

Radiance r and exposure e = 2**stops satisfy r * e = v**2.2 for an encoded value v in 0..1 that is not clipped. Kalantari's
numbers are used as they are: the exposures need not begin at 1, and radiance may exceed 1. Those of Sen and Tursun are counted
from the shortest of the three, as in those loaders, and their radiance is scaled to match.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from hdr_tf.image.depth import to_depth
from hdr_tf.io import image_files, outputs
from hdr_tf.io.manifest import Manifest

EXPOSURE_NAMES = ("low", "mid", "high")  # of the three exposures; the same as in `hdr_tf.models.blocks`, which needs Keras
HDR_NAME = "HDRImg.hdr"
_KALANTARI, _SEN = "exposure.txt", "exposures.txt"
_SUFFIXES = (".tif", ".tiff")
_TURSUN = [4, 6, 8]  # indices in a bracket with steps of one stop


@dataclasses.dataclass(frozen=True)
class Scene:
    """Three exposures of a scene, and its radiance if it is known."""

    name: str
    ldr: np.ndarray  # [3, H, W, 3], uint8 or uint16 RGB, gamma-encoded, short to long
    stops: np.ndarray  # [3] float64, log2 of the exposures, increasing
    hdr: np.ndarray | None = None  # [H, W, 3] float32, linear RGB, finite and >= 0, in register with the middle exposure

    @property
    def exposures(self) -> np.ndarray:
        """[3] float64, 2**stops."""
        return 2.0**self.stops

    def at_8_bit(self) -> np.ndarray:
        """Returns the images as uint8 [3, H, W, 3], 16 bit reduced as OpenCV's `imread` does it: (v + 128) // 257."""
        return to_depth(self.ldr, 8)


def read_scene(folder: str | os.PathLike) -> Scene:
    """Reads a scene folder. Whatever is wrong with it becomes a ValueError, or an OSError if a file cannot be opened, with a
    message of one line that begins with the folder."""
    folder = pathlib.Path(folder)
    images, text = _parts(folder)
    indices, stops, relative = _choose(text, len(images))
    chosen = [images[index] for index in indices]
    ldr = [_read_rgb(path) for path in chosen]
    for path, pixels in zip(chosen, ldr, strict=True):
        if pixels.shape != ldr[0].shape or pixels.dtype != ldr[0].dtype:
            raise ValueError(
                f"{folder}: expected three images of one size and depth, found {chosen[0].name} of {_describe(ldr[0])} "
                f"and {path.name} of {_describe(pixels)}"
            )
    hdr = image_files.read_radiance(folder / HDR_NAME) if (folder / HDR_NAME).exists() else None
    scene = Scene(folder.name, np.stack(ldr), stops, hdr)
    _check(folder, scene)
    if relative:
        hdr = None if hdr is None else hdr * np.float32(2.0 ** stops[0])
        scene = dataclasses.replace(scene, stops=stops - stops[0], hdr=hdr)
    return scene


def list_scenes(folder: str | os.PathLike) -> tuple[list[pathlib.Path], list[str]]:
    """Returns the scene folders inside `folder` that look complete, sorted, and a line for each that does not.

    Only names are checked; hidden folders and files are skipped. A folder without a complete scene raises ValueError.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of scenes, found none")
    scenes, incomplete = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            _parts(path)
            scenes.append(path)
        except ValueError as error:
            incomplete.append(str(error))
    if not scenes:
        actual = f"{len(incomplete)} incomplete ({incomplete[0]})" if incomplete else "none"
        if (folder / _KALANTARI).is_file():
            actual = "a scene itself: pass the folder above it"
        raise ValueError(f"{folder}: expected folders with three .tif and exposure.txt each, found {actual}")
    return scenes, incomplete


def write_scene(folder: str | os.PathLike, ldr: np.ndarray, stops: np.ndarray, hdr: np.ndarray | None = None) -> None:
    """Writes a scene (arrays as in `Scene`) in Kalantari's layout: 1.tif, 2.tif, 3.tif, exposure.txt, HDRImg.hdr.

    It appears complete or not at all. The folder must not exist; folders above it are created.
    """
    folder = pathlib.Path(folder)
    scene = Scene(folder.name, np.asarray(ldr), np.asarray(stops, np.float64), hdr)
    _check(folder, scene)
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder}: expected a folder that does not exist yet, found one")
    with outputs.atomic(folder) as temporary:
        temporary.mkdir(parents=True)
        for number, pixels in enumerate(scene.ldr, 1):
            image_files.write_image(temporary / f"{number}.tif", pixels)
        (temporary / _KALANTARI).write_text("".join(f"{float(stop)!r}\n" for stop in scene.stops))
        if hdr is not None:
            image_files.write_radiance(temporary / HDR_NAME, hdr)


def begin_set(folder: pathlib.Path, note: str, arguments: dict, names: Sequence[str]) -> Manifest:
    """Begins or continues a folder of scenes, whose manifest.json lists the finished ones. A folder that holds scenes without a
    manifest, or a set with other arguments, raises ValueError.

    Args:
        folder: of the set; created.
        note: what a reader of the file should know.
        arguments: everything that decides what the scenes hold, in JSON's types.
        names: of the scenes that are to be written.
    """
    path = folder / "manifest.json"
    existing = [name for name in names if (folder / name).exists()]
    if existing and not path.exists():
        raise ValueError(f"{folder / existing[0]}: expected no such scene, for no {path.name} lists it; choose another folder")
    plan = {"note": note, "arguments": arguments}
    return Manifest(path, "scenes", plan, lambda name, facts: (folder / name).is_dir(), ignored={"note"})


def _parts(folder):
    """The images and the text file of a scene folder."""
    names = [name for name in (_KALANTARI, _SEN) if (folder / name).is_file()]
    if not names:
        raise ValueError(f"{folder}: expected {_KALANTARI} (log2 of an exposure per line), found none")
    images = image_files.list_images(folder)
    if names[0] == _KALANTARI:
        images = [path for path in images if path.suffix.lower() in _SUFFIXES]
    if len(images) < 3:
        expected = "three .tif images" if names[0] == _KALANTARI else "at least three images"
        raise ValueError(f"{folder}: expected {expected}, found {len(images)}")
    return images, folder / names[0]


def _choose(text, count):
    """Indices of the three images among `count`, their stops, and whether the stops are to be counted from the shortest."""
    numbers = _read_numbers(text, count)
    if text.name == _SEN and len(numbers) == count:
        indices = [count // 2 - 1, count // 2, count // 2 + 1]
        return indices, numbers[indices], True
    if text.name == _KALANTARI and len(numbers) == count > max(_TURSUN):
        if not (numbers > 0).all():
            raise ValueError(f"{text}: expected {count} exposure times above 0, found {numbers.tolist()}")
        return _TURSUN, np.log2(numbers[_TURSUN]), True
    if text.name == _KALANTARI and len(numbers) in (3, count):
        if count > 3:
            logging.warning("%s: using the first three of %d .tif images", text.parent, count)
        return range(3), numbers[:3], False
    raise ValueError(f"{text}: expected {count} stops, one for each image, found {len(numbers)}")


def _read_numbers(path, count):
    try:
        lines = path.read_text().split()
        return np.array([float(line) for line in lines])
    except ValueError as error:
        actual = "no text" if isinstance(error, UnicodeDecodeError) else repr(" ".join(lines)[:40])
        raise ValueError(f"{path}: expected {count} lines with a number each, found {actual}") from error


def _read_rgb(path):
    pixels = image_files.read_image(path).pixels
    if pixels.ndim == 2:
        raise ValueError(f"{path}: expected a colour image, found a gray one")
    return pixels


def _check(folder, scene):
    ldr, stops, hdr = scene.ldr, scene.stops, scene.hdr
    if ldr.ndim != 4 or ldr.shape[::3] != (3, 3) or ldr.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{folder}: expected images [3, H, W, 3] of uint8 or uint16, found {_describe(ldr)}")
    # 2**100 still is a float32, and no camera comes near it.
    if stops.shape != (3,) or not (np.abs(stops) <= 100).all() or not (np.diff(stops) > 0).all():
        raise ValueError(f"{folder}: expected three increasing stops within -100..100, found {stops.tolist()}")
    if hdr is None:
        return
    if hdr.shape != ldr.shape[1:]:
        raise ValueError(f"{folder}: expected radiance of the size of the images, {_describe(ldr[0])}, found {_describe(hdr)}")
    wrong = {"NaN": np.isnan(hdr), "infinite": np.isinf(hdr), "negative": hdr < 0}
    counts = ", ".join(f"{np.count_nonzero(where)} {what}" for what, where in wrong.items() if where.any())
    if counts:
        raise ValueError(f"{folder}: expected finite radiance of at least 0 in {HDR_NAME}, found other values: {counts}")


def _describe(pixels):
    if pixels.ndim == 3:
        return f"{pixels.shape[1]} x {pixels.shape[0]} ({pixels.dtype})"
    return f"{list(pixels.shape)} ({pixels.dtype})"
