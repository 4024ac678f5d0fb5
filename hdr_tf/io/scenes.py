"""Scenes: photographs of something that may move, their exposures and, for training and scores, the true radiance.

Kalantari's layout (Kalantari, Ramamoorthi, ACM TOG 36(4), 2017), one folder per scene:

    001/
      262A0001.tif 262A0002.tif 262A0003.tif    16 or 8 bit, short to long in the order of their names
      exposure.txt                              three lines, log2 of the exposures (stops)
      HDRImg.hdr                                radiance, in register with the middle exposure; may be absent

A scene of two exposures or of more than three, as this software writes it, has one file more:

      reference.txt                             the name of the image that HDRImg.hdr is in register with, such as 2.tif

`read_scene(folder, every=True)` returns all images. For the systems that take three, three are read of larger brackets: with
reference.txt the reference and its two neighbours, else as in the loaders of SelfHDR (Zhang et al., ICLR 2024;
cszhilu1998/SelfHDR 9e8af4a, data/):

    Kalantari   exposure.txt with stops     the first three of the .tif
    Sen         exposures.txt with stops    the middle three; the brighter of two middle ones is in the middle
                                            (ACM TOG 31(6), 2012; changed: any image format, the loader reads .tif alone)
    Tursun      exposure.txt with times     the 5th, 7th and 9th of nine or more .tif, with a time for each
                                            (Computer Graphics Forum 35(2), 2016)

Radiance r and exposure e = 2**stops satisfy r * e = v**2.2 for an encoded value v in 0..1 that is not clipped. Kalantari's
numbers are used as they are: the exposures need not begin at 1, and radiance may exceed 1. Those of Sen and Tursun, and of
three images around the one in reference.txt, are counted from the shortest that is read, as in those loaders, and their
radiance is scaled to match. `Scene.shift` says by how much this differs from the scale of all images.
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
_REFERENCE = "reference.txt"
_SUFFIXES = (".tif", ".tiff")
_TURSUN = [4, 6, 8]  # indices in a bracket with steps of one stop


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two or more exposures of a scene (three unless it was read with `every`), and its radiance if it is known."""

    name: str
    ldr: np.ndarray  # [N, H, W, 3], uint8 or uint16 RGB, gamma-encoded, short to long
    stops: np.ndarray  # [N] float64, log2 of the exposures, increasing
    hdr: np.ndarray | None = None  # [H, W, 3] float32, linear RGB, finite and >= 0, in register with the reference
    shift: float = 0.0  # log2 of the factor on radiance, relative to a scene that was read with `every`

    @property
    def exposures(self) -> np.ndarray:
        """[N] float64, 2**stops."""
        return 2.0**self.stops

    @property
    def reference(self) -> int:
        """Index of the reference exposure: the middle one, of an even number the darker of the two."""
        return _middle(len(self.stops))

    def at_8_bit(self) -> np.ndarray:
        """Returns the images as uint8 [N, H, W, 3], 16 bit reduced as OpenCV's `imread` does it: (v + 128) // 257."""
        return to_depth(self.ldr, 8)


def read_scene(folder: str | os.PathLike, every: bool = False) -> Scene:
    """Reads a scene folder. Whatever is wrong with it becomes a ValueError, or an OSError if a file cannot be opened, with a
    message of one line that begins with the folder.

    Args:
        folder: in one of the layouts above.
        every: return all images, two or more, rather than three.
    """
    folder = pathlib.Path(folder)
    images, text = _parts(folder, every)
    reference = _read_reference(folder / _REFERENCE, images)
    indices, stops, first, register = _choose(text, len(images), reference, every)
    chosen = [images[index] for index in indices]
    ldr = [_read_rgb(path) for path in chosen]
    for path, pixels in zip(chosen, ldr, strict=True):
        if pixels.shape != ldr[0].shape or pixels.dtype != ldr[0].dtype:
            raise ValueError(
                f"{folder}: expected {_count(len(ldr))} images of one size and depth, found {chosen[0].name} of "
                f"{_describe(ldr[0])} and {path.name} of {_describe(pixels)}"
            )
    hdr = image_files.read_radiance(folder / HDR_NAME) if (folder / HDR_NAME).exists() else None
    scene = Scene(folder.name, np.stack(ldr), stops, hdr)
    _check(folder, scene)
    if hdr is not None and indices[scene.reference] != register:
        raise ValueError(
            f"{folder}: expected {HDR_NAME} in register with {chosen[scene.reference].name}, the middle one of {len(ldr)} "
            f"exposures, found it with {images[register].name}; name the right image in {_REFERENCE}"
        )
    if first is not None:
        hdr = None if hdr is None else hdr * np.float32(2.0 ** stops[0])
        scene = dataclasses.replace(scene, stops=stops - stops[0], hdr=hdr, shift=float(stops[0] - first))
    return scene


def list_scenes(folder: str | os.PathLike, every: bool = False) -> tuple[list[pathlib.Path], list[str]]:
    """Returns the scene folders inside `folder` that look complete, sorted, and a line for each that does not.

    Scenes of two exposures are complete for `every` alone, see `read_scene`. Only names are checked; hidden folders and files
    are skipped. A folder without a complete scene raises ValueError.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of scenes, found none")
    scenes, incomplete = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            _parts(path, every)
            scenes.append(path)
        except ValueError as error:
            incomplete.append(str(error))
    if not scenes:
        actual = f"{len(incomplete)} incomplete ({incomplete[0]})" if incomplete else "none"
        if (folder / _KALANTARI).is_file():
            actual = "a scene itself: pass the folder above it"
        raise ValueError(
            f"{folder}: expected folders with {'two' if every else 'three'} .tif and exposure.txt each, found {actual}"
        )
    return scenes, incomplete


def write_scene(folder: str | os.PathLike, ldr: np.ndarray, stops: np.ndarray, hdr: np.ndarray | None = None) -> None:
    """Writes a scene (arrays as in `Scene`) in Kalantari's layout: 1.tif, 2.tif, 3.tif, exposure.txt, HDRImg.hdr. Two
    exposures, or more than three, have a reference.txt too.

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
        if len(scene.ldr) != 3:
            (temporary / _REFERENCE).write_text(f"{scene.reference + 1}.tif\n")
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


def _parts(folder, every):
    """The images and the text file of a scene folder."""
    names = [name for name in (_KALANTARI, _SEN) if (folder / name).is_file()]
    if not names:
        raise ValueError(f"{folder}: expected {_KALANTARI} (log2 of an exposure per line), found none")
    images = image_files.list_images(folder)
    if names[0] == _KALANTARI:
        images = [path for path in images if path.suffix.lower() in _SUFFIXES]
    least = 2 if every else 3
    if len(images) < least:
        expected = f"{_count(least)} .tif images" if names[0] == _KALANTARI else f"at least {_count(least)} images"
        hint = "; this needs a system that takes any number of exposures" if (folder / _REFERENCE).is_file() else ""
        raise ValueError(f"{folder}: expected {expected}, found {len(images)}{hint}")
    return images, folder / names[0]


def _choose(text, count, reference, every):
    """Indices of the images to read among `count`; their stops; None, or if these are to be counted from the shortest, the
    stops that a reading of all images counts from; and the index of the image that the radiance is in register with."""
    numbers = _read_numbers(text, count)
    whole = list(range(count))
    if text.name == _SEN and len(numbers) == count:
        register = count // 2 if reference is None else reference
        indices = whole if every else _around(register, count, text)
        return indices, numbers[indices], numbers[0], register
    if text.name == _KALANTARI and reference is not None and len(numbers) == count:
        indices = whole if every or count == 3 else _around(reference, count, text)
        if indices != whole:
            logging.warning("%s: using the reference and its neighbours of %d .tif images", text.parent, count)
        return indices, numbers[indices], None if indices == whole else 0.0, reference
    if text.name == _KALANTARI and reference is None and len(numbers) == count > max(_TURSUN):
        if not (numbers > 0).all():
            raise ValueError(f"{text}: expected {count} exposure times above 0, found {numbers.tolist()}")
        indices = whole if every else _TURSUN
        return indices, np.log2(numbers[indices]), np.log2(numbers[0]), _TURSUN[1]
    if text.name == _KALANTARI and every and reference is None and len(numbers) == count:
        return whole, numbers, None, _middle(min(count, 3))
    if text.name == _KALANTARI and not every and reference is None and len(numbers) in (3, count):
        if count > 3:
            logging.warning("%s: using the first three of %d .tif images", text.parent, count)
        return whole[:3], numbers[:3], None, 1
    raise ValueError(f"{text}: expected {count} stops, one for each image, found {len(numbers)}")


def _around(reference, count, text):
    """Indices of the reference and its neighbours."""
    if not 0 < reference < count - 1:
        raise ValueError(f"{text.parent / _REFERENCE}: expected an image between two others, found number {reference + 1}")
    return [reference - 1, reference, reference + 1]


def _middle(count):
    return (count - 1) // 2


def _read_reference(path, images):
    """Index of the image that reference.txt names, None without that file."""
    if not path.is_file():
        return None
    names, actual = [image.name for image in images], path.read_text(errors="replace").strip()
    if actual not in names:
        raise ValueError(f"{path}: expected the name of an image beside it ({', '.join(names)}), found {actual[:40]!r}")
    return names.index(actual)


def _read_numbers(path, count):
    lines = []
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
    if ldr.ndim != 4 or len(ldr) < 2 or ldr.shape[3] != 3 or ldr.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{folder}: expected two or more images [N, H, W, 3] of uint8 or uint16, found {_describe(ldr)}")
    # 2**100 still is a float32, and no camera comes near it.
    if stops.shape != ldr.shape[:1] or not (np.abs(stops) <= 100).all() or not (np.diff(stops) > 0).all():
        raise ValueError(f"{folder}: expected {_count(len(ldr))} increasing stops within -100..100, found {stops.tolist()}")
    if hdr is None:
        return
    if hdr.shape != ldr.shape[1:]:
        raise ValueError(f"{folder}: expected radiance of the size of the images, {_describe(ldr[0])}, found {_describe(hdr)}")
    wrong = {"NaN": np.isnan(hdr), "infinite": np.isinf(hdr), "negative": hdr < 0}
    counts = ", ".join(f"{np.count_nonzero(where)} {what}" for what, where in wrong.items() if where.any())
    if counts:
        raise ValueError(f"{folder}: expected finite radiance of at least 0 in {HDR_NAME}, found other values: {counts}")


def _count(number):
    return {2: "two", 3: "three"}.get(number, str(number))


def _describe(pixels):
    if pixels.ndim == 3:
        return f"{pixels.shape[1]} x {pixels.shape[0]} ({pixels.dtype})"
    return f"{list(pixels.shape)} ({pixels.dtype})"
