"""Scenes: three photographs of something that may move, their exposures and, for training and scores, the true radiance.

Kalantari's layout (Kalantari, Ramamoorthi, ACM TOG 36(4), 2017), one folder a scene:

    001/
      262A0001.tif 262A0002.tif 262A0003.tif    16 or 8 bit, short to long in the order of their names
      exposure.txt                              three lines, log2 of the exposures (stops)
      HDRImg.hdr                                radiance of the middle exposure's scene; may be absent

Stacks are read as well, of which three pictures are the scene. Which three is as in the loaders of SelfHDR (Zhang et al., ICLR
2024; cszhilu1998/SelfHDR 9e8af4a, data/):

    Kalantari   exposure.txt with stops     the first three of the .tif
    Sen         exposures.txt with stops    the middle three; of an even number the middle is the brighter one
    Tursun      exposure.txt with times     the 5th, 7th and 9th of nine .tif or more, a time for each

(P. Sen et al., ACM TOG 31(6), 2012; O. T. Tursun et al., Computer Graphics Forum 35(2), 2016.)

Radiance r and exposure e = 2**stops belong together as r * e = v**2.2 for an encoded value v in 0..1 that is not clipped.
Kalantari's numbers are taken as they stand: the exposures need not begin at 1, and radiance may exceed 1. Those of Sen and
Tursun are counted from the shortest of the three, as those loaders do, and radiance beside them is scaled to match.

Changed: in Sen's layout the pictures may be of any format; there the loader takes .tif alone. One folder holds one scene: where
the loaders look into Test, Scenes or dataset, these are what `list_scenes` is given.
"""

import dataclasses
import os
import pathlib

import numpy as np
from absl import logging

from hdr_tf.image import files
from hdr_tf.image.depth import to_depth

EXPOSURE_NAMES = ("low", "mid", "high")  # of the three exposures; `hdr_tf.models.blocks` has the same for networks
HDR_NAME = "HDRImg.hdr"
_KALANTARI, _SEN = "exposure.txt", "exposures.txt"
_SUFFIXES = (".tif", ".tiff")
_TURSUN = [4, 6, 8]  # of a stack in steps of one stop


@dataclasses.dataclass(frozen=True)
class Scene:
    """Three exposures of a scene, and its radiance if that is known."""

    name: str
    ldr: np.ndarray
    """[3, H, W, 3], uint8 or uint16 RGB, gamma-encoded, short to long"""
    stops: np.ndarray
    """[3] float64, log2 of the exposures, increasing"""
    hdr: np.ndarray | None = None
    """[H, W, 3] float32, linear RGB, finite and >= 0, in register with the middle exposure"""

    @property
    def exposures(self) -> np.ndarray:
        """[3] float64, 2**stops."""
        return 2.0**self.stops

    def at_8_bit(self) -> np.ndarray:
        """Returns the pictures as uint8 [3, H, W, 3], 16 bit reduced as OpenCV's `imread` does it: (v + 128) // 257."""
        return to_depth(self.ldr, 8)


def read_scene(folder: str | os.PathLike) -> Scene:
    """Reads a scene folder.

    Raises:
        ValueError: a picture too few, damaged, or of another size; stops that are missing, no numbers, or do not increase;
            radiance that is NaN, infinite or negative. One line that begins with the scene's folder.
        OSError: a file cannot be opened; one line likewise.
    """
    folder = pathlib.Path(folder)
    pictures, text = _parts(folder)
    indices, stops, counted = _choose(text, len(pictures))
    chosen = [pictures[index] for index in indices]
    ldr = [_read_rgb(path) for path in chosen]
    for path, pixels in zip(chosen, ldr, strict=True):
        if pixels.shape != ldr[0].shape or pixels.dtype != ldr[0].dtype:
            raise ValueError(
                f"{folder}: expected three pictures of one size and depth, found {chosen[0].name} of {_told(ldr[0])} "
                f"and {path.name} of {_told(pixels)}"
            )
    hdr = files.read_radiance(folder / HDR_NAME) if (folder / HDR_NAME).exists() else None
    scene = Scene(folder.name, np.stack(ldr), stops, hdr)
    _check(folder, scene)
    if counted:
        hdr = None if hdr is None else hdr * np.float32(2.0 ** stops[0])
        scene = dataclasses.replace(scene, stops=stops - stops[0], hdr=hdr)
    return scene


def list_scenes(folder: str | os.PathLike) -> tuple[list[pathlib.Path], list[str]]:
    """Returns the scene folders inside `folder` that look complete, sorted, and a line for each that does not.

    Looks at names only; hidden folders and files are passed over.

    Raises:
        ValueError: no such folder, or no complete scene in it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder of scenes, found none")
    scenes, incomplete = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            _parts(path)
        except ValueError as error:
            incomplete.append(str(error))
        else:
            scenes.append(path)
    if not scenes:
        found = f"{len(incomplete)} incomplete ({incomplete[0]})" if incomplete else "none"
        if (folder / _KALANTARI).is_file():
            found = "a scene itself: give the folder above it"
        raise ValueError(f"{folder}: expected folders with three .tif and exposure.txt each, found {found}")
    return scenes, incomplete


def write_scene(folder: str | os.PathLike, ldr: np.ndarray, stops: np.ndarray, hdr: np.ndarray | None = None) -> None:
    """Writes a scene in Kalantari's layout: 1.tif, 2.tif, 3.tif, exposure.txt, HDRImg.hdr. Appears complete or not at all.

    Args:
        folder: must not be there yet; the folder above is made if absent.
        ldr, stops, hdr: as in `Scene`.

    Raises:
        ValueError: arrays other than that, or the folder exists.
        OSError: it cannot be written; one line that begins with the scene's folder.
    """
    folder = pathlib.Path(folder)
    scene = Scene(folder.name, np.asarray(ldr), np.asarray(stops, np.float64), hdr)
    _check(folder, scene)
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder}: expected a folder that is not there yet, found one")
    with files.atomic(folder) as temporary:
        temporary.mkdir(parents=True)
        for number, pixels in enumerate(scene.ldr, 1):
            files.write_picture(temporary / f"{number}.tif", pixels)
        (temporary / _KALANTARI).write_text("".join(f"{float(stop)!r}\n" for stop in scene.stops))
        if hdr is not None:
            files.write_radiance(temporary / HDR_NAME, hdr)


def _parts(folder):
    """The pictures and the text file of a scene folder."""
    names = [name for name in (_KALANTARI, _SEN) if (folder / name).is_file()]
    if not names:
        raise ValueError(f"{folder}: expected {_KALANTARI} (one log2 stop a line), found none")
    pictures = files.list_pictures(folder)
    if names[0] == _KALANTARI:
        pictures = [path for path in pictures if path.suffix.lower() in _SUFFIXES]
    if len(pictures) < 3:
        expected = "three .tif pictures" if names[0] == _KALANTARI else "three pictures or more"
        raise ValueError(f"{folder}: expected {expected}, found {len(pictures)}")
    return pictures, folder / names[0]


def _choose(text, count):
    """The indices of the three pictures of `count`, their stops, and whether exposures are counted from the shortest."""
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
            logging.warning("%s: the first three of %d .tif pictures are taken", text.parent, count)
        return range(3), numbers[:3], False
    raise ValueError(f"{text}: expected {count} stops, one a picture, found {len(numbers)}")


def _read_numbers(path, count):
    try:
        lines = path.read_text().split()
        return np.array([float(line) for line in lines])
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected {count} lines with a number each, found no text") from error
    except ValueError as error:
        raise ValueError(f"{path}: expected {count} lines with a number each, found {' '.join(lines)[:40]!r}") from error


def _read_rgb(path):
    pixels = files.read_picture(path).pixels
    if pixels.ndim == 2:
        raise ValueError(f"{path}: expected a colour picture, found a gray one")
    return pixels


def _check(folder, scene):
    ldr, stops, hdr = scene.ldr, scene.stops, scene.hdr
    if ldr.ndim != 4 or ldr.shape[::3] != (3, 3) or ldr.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{folder}: expected pictures [3, H, W, 3] of uint8 or uint16, found {_told(ldr)}")
    # 2**100 is still a float32; no camera comes near it.
    if stops.shape != (3,) or not (np.abs(stops) <= 100).all() or not (np.diff(stops) > 0).all():
        raise ValueError(f"{folder}: expected three increasing stops within -100..100, found {stops.tolist()}")
    if hdr is None:
        return
    if hdr.shape != ldr.shape[1:]:
        raise ValueError(f"{folder}: expected radiance as large as the pictures, {_told(ldr[0])}, found {_told(hdr)}")
    wrong = {"NaN": np.isnan(hdr), "infinite": np.isinf(hdr), "negative": hdr < 0}
    found = ", ".join(f"{np.count_nonzero(where)} {what}" for what, where in wrong.items() if where.any())
    if found:
        raise ValueError(f"{folder}: expected finite radiance from 0 in {HDR_NAME}, found values that are not: {found}")


def _told(pixels):
    if pixels.ndim == 3:
        return f"{pixels.shape[1]} x {pixels.shape[0]} ({pixels.dtype})"
    return f"{list(pixels.shape)} ({pixels.dtype})"
