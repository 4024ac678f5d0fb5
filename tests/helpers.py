"""What several test modules share: makers of images, scenes, files and records, processes, and the words of messages.

Fixtures are in conftest.py. Test modules say `from tests import helpers`, whichever folder they are in, and never import each
other. This module imports neither Keras nor TensorFlow, which only some tests need.
"""

import contextlib
import csv
import io
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import OpenEXR
import pytest
import skimage.data
import tifffile
from PIL import Image

from hdr_tf.image import tone
from hdr_tf.io import exif, image_files, scenes

ROOT = pathlib.Path(__file__).parent.parent


class Killed(BaseException):
    """What a kill is to the program: no handler of its own catches it."""


def golden_cases(*names: str):
    """Returns a mark that runs a test with each of the golden cases, as its argument `golden_case`."""
    return pytest.mark.parametrize("golden_case", names, indirect=True)


# === Messages ===


def mentions(words: str) -> str:
    """Returns a pattern for `pytest.raises(match=...)`: one line that has all of these words, in any order.

    Words, split at blanks, are what a message has to name however it is phrased: files, flags, models, metrics and numbers. A
    folder on the way to a file does not count.
    """
    return "".join(rf"(?=.*(?<!\w){re.escape(word)}(?!\w|/\w))" for word in words.split())


def mentioned(words: str, text: str) -> bool:
    """Tells whether a line of the text has all of these words; see `mentions`."""
    return re.search(mentions(words), text) is not None


# === Processes ===


def run_python(*arguments: str, env: dict[str, str] | None = None, **options) -> subprocess.CompletedProcess:
    """Runs Python in a process of its own, without the choice of Keras that tests of hdr_tf.rl have made in this one."""
    options = {"capture_output": True, "text": True, "timeout": 900, "env": _inherited() | (env or {})} | options
    return subprocess.run([sys.executable, *arguments], **options)


def _inherited():
    return {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}


def start_two_workers(*arguments: str) -> list[subprocess.Popen]:
    """Starts Python in two processes that are workers of each other, see `hdr_tf.training.multi_worker`."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        cluster = {"worker": [f"127.0.0.1:{listener.getsockname()[1]}" for listener in sockets]}
    workers = []
    for index in range(2):
        role = {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        options = {"cwd": ROOT, "env": _inherited() | role, "stderr": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen([sys.executable, *arguments], **options))
    return workers


def run_two_workers(*arguments: str) -> None:
    """Runs Python in two processes that are workers of each other; both have to end well."""
    workers = start_two_workers(*arguments)
    errors = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors


def run_tool(name: str, *words: str, **options) -> subprocess.CompletedProcess:
    """Runs tools/`name`.py as a user does."""
    return run_python(str(ROOT / "tools" / f"{name}.py"), *words, **options)


# === Folders ===


def names(folder: pathlib.Path) -> set[str]:
    """Returns the names of what lies in a folder."""
    return {path.name for path in folder.iterdir()}


def contents(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    """Returns the bytes of all files in a folder and its sub-folders, by their paths in it."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def log(run: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of the log of a training run."""
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def checkpoint(run: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint of a training run."""
    with np.load(run / "checkpoints" / f"{step:08d}.npz") as stored:
        return dict(stored)


# === Images ===


def noise(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    """Returns an array of random levels of the whole range of a type."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def smooth_scene(height: int = 37, width: int = 53) -> np.ndarray:
    """Returns a colour image of smooth shapes, [H, W, 3] in 0..1; sizes are prime."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([(1 + np.sin(7 * x + 3 * y + 2 * i) * np.cos(5 * y - i * x)) / 2 for i in range(3)], axis=-1)


def bracket(dtype=np.uint8, gains=(0.35, 1.6), **size: int) -> list[np.ndarray]:
    """Returns exposures of `smooth_scene`, [H, W, 3] each, dark to bright."""
    top = np.iinfo(dtype).max
    return [np.clip(smooth_scene(**size) * gain * top, 0, top).astype(dtype) for gain in gains]


def expose(radiance: np.ndarray, stops, dtype=np.uint16) -> np.ndarray:
    """Returns exposures, [N, H, W, 3], without noise; radiance is [H, W, 3], or [N, H, W, 3] of what moves between them."""
    views = np.broadcast_to(radiance, (len(stops), *np.shape(radiance)[-3:]))
    shown = [tone.to_exposure(view, 2.0**stop) for view, stop in zip(views, stops, strict=True)]
    return np.rint(np.iinfo(dtype).max * np.stack(shown)).astype(dtype)


def photographs(gains, seed: int = 0, height: int = 56, width: int = 64) -> list[np.ndarray]:
    """Returns exposures of a photograph with colours down to black, uint8 [H, W, 3] each."""
    image = skimage.data.chelsea()[40 + 8 * seed : 40 + 8 * seed + 2 * height : 2, 80 : 80 + 2 * width : 2].astype(np.float32)
    return [np.uint8(np.clip(image * gain, 0, 255)) for gain in gains]


# === RAW files ===

SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# XYZ to a camera whose colours are neither sRGB's nor balanced.
CAMERA = np.array([[0.7, -0.2, -0.06], [-0.45, 1.25, 0.22], [-0.1, 0.2, 0.6]])


def rational(values) -> list[int]:
    """Returns the values as a TIFF holds them, numerators and denominators."""
    return [part for value in values for part in (round(value * 1_000_000), 1_000_000)]


def mosaic(camera, black=512, white=15_871, pattern="RGGB", gain=0.0, read=0.0, seed=0) -> np.ndarray:
    """Returns what a sensor stores of camera RGB, [H, W] uint16.

    Args:
        camera: [H, W, 3], linear, 1 is where the sensor clips (the channel with the highest black level).
        black: level, or four for the places of the pattern, row by row.
        pattern: colours of 2x2 samples, row by row.
        gain, read: of the noise; a signal s has the variance gain * s + read**2.
    """
    height, width = np.shape(camera)[:2]
    places = np.arange(height)[:, None] % 2 * 2 + np.arange(width) % 2
    colours = np.array(["RGB".index(colour) for colour in pattern])[places]
    signal = np.take_along_axis(camera, colours[..., None], axis=2)[..., 0]
    deviation = np.sqrt(gain * np.maximum(signal, 0) + read**2)
    signal = signal + deviation * np.random.default_rng(seed).standard_normal(signal.shape)
    black = np.broadcast_to(black, 4)[places]
    return np.clip(np.rint(black + signal * (white - np.max(black))), 0, white).astype(np.uint16)


def write_packed_tiff(path, levels, bits, **options) -> None:
    """Writes whole numbers, uint16, of so many bits each, without space between them. `options` are those of tifffile, whose
    own packing needs a newer imagecodecs than reading does."""
    planes = levels if options.get("planarconfig") == "separate" else levels[None]
    rows = [np.uint8(plane.reshape(len(plane), -1, 1) >> np.arange(bits)[::-1] & 1).reshape(len(plane), -1) for plane in planes]
    strips = iter([np.packbits(digits, axis=1).tobytes() for digits in rows])
    options |= {"bitspersample": bits, "rowsperstrip": planes.shape[1]}
    tifffile.imwrite(path, strips, shape=levels.shape, dtype=levels.dtype, **options)


def write_dng(
    path,
    camera,
    neutral=(0.5, 1.0, 0.625),
    matrix=CAMERA,
    orientation=1,
    settings=(1 / 64, 4.0, 200),
    profile=None,
    date=None,
    **sensor,
) -> pathlib.Path:
    """Writes a DNG, a Bayer mosaic without compression, of known content; returns its path.

    Args:
        camera: see `mosaic`.
        neutral: what the camera sees of white; None leaves it out.
        matrix: XYZ to camera RGB (D65).
        settings: exposure time, f-number and ISO, or () for none.
        date: of the capture, in EXIF's form.
        profile: the tag NoiseProfile, two numbers or two for each colour.
        **sensor: see `mosaic`.
    """
    black, white = np.atleast_1d(sensor.get("black", 512)).tolist(), sensor.get("white", 15_871)
    tags = [
        ("Make", "s", 0, "Maker"),
        ("Orientation", "H", 1, orientation),
        ("CFARepeatPatternDim", "H", 2, (2, 2)),
        ("CFAPattern", "B", 4, tuple("RGB".index(colour) for colour in sensor.get("pattern", "RGGB"))),
        ("DNGVersion", "B", 4, (1, 4, 0, 0)),
        ("UniqueCameraModel", "s", 0, "Maker Model"),
        *([("BlackLevelRepeatDim", "H", 2, (2, 2))] if len(black) == 4 else []),
        ("BlackLevel", "H", len(black), black),
        ("WhiteLevel", "H", 1, white),
        ("ColorMatrix1", "2i", 9, rational(np.ravel(matrix))),
        *([("AsShotNeutral", "2I", 3, rational(neutral))] if neutral else []),
        ("CalibrationIlluminant1", "H", 1, 21),  # D65
        *([("NoiseProfile", "d", len(profile), profile)] if profile else []),
    ]
    extra = [(51041 if name == "NoiseProfile" else tifffile.TIFF.TAGS[name], *rest, True) for name, *rest in tags]
    tifffile.imwrite(path, mosaic(np.asarray(camera), **sensor), photometric="cfa", extratags=extra, metadata=None)
    if settings:
        tables = Image.Exif()
        tables.get_ifd(0x8769).update(zip((0x829A, 0x829D, 0x8827), settings, strict=True))  # ExposureTime, FNumber, ISO
        if date:
            tables.get_ifd(0x8769)[0x9003] = date
        metadata = exif.Metadata(tables.tobytes().removeprefix(b"Exif\0\0"))
        path.write_bytes(exif.into_tiff(path.read_bytes(), metadata))
    return path


# === Image files ===

RGB16 = noise(20, 30, 3, dtype=np.uint16)
RGB8 = (RGB16 >> 8).astype(np.uint8)
SMOOTH = cv2.resize(RGB8, (120, 80), interpolation=cv2.INTER_CUBIC)


def write_photograph(path, pixels, seconds=None, orientation=None, **options) -> pathlib.Path:
    """Writes a JPEG or PNG with an exposure time and an orientation in EXIF; returns its path."""
    exif = Image.Exif()
    if seconds:
        exif.get_ifd(0x8769)[0x829A] = seconds  # ExposureTime
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif.tobytes(), **options)
    return path


def write_bracket(folder: pathlib.Path, images, times=None, names="abc") -> list[str]:
    """Writes TIFF files, or where there are exposure times PNG files with EXIF; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{'png' if times else 'tif'}" for name in names]
    for path, pixels, time in zip(paths, images, times or [None] * len(paths), strict=True):
        if times:
            write_photograph(path, pixels, time)
        else:
            image_files.write_image(path, pixels)
    return [str(path) for path in paths]


def write_two_scenes(folder: pathlib.Path, name: str = "many") -> pathlib.Path:
    """Writes a scene of three exposures and one of MEFB; returns the folder."""
    for scene in (name, "Mefb"):
        (folder / scene).mkdir(parents=True)
    for number, pixels in enumerate(photographs((0.1, 0.6, 2.5))):
        image_files.write_image(folder / name / f"{number}.png", pixels)
    bright, dark = photographs((2.0, 0.2), seed=1)
    image_files.write_image(folder / "Mefb" / "Mefb_A.png", bright)
    image_files.write_image(folder / "Mefb" / "mefb_b.PNG", dark)
    image_files.write_image(folder / "Mefb" / "IMG_2.png", dark)
    return folder


def write_scenes_of_all_shapes(folder: pathlib.Path) -> pathlib.Path:
    """Writes `write_two_scenes`, a loose pair and an image that holds two exposures; returns the folder."""
    write_two_scenes(folder)
    for letter, pixels in zip("AB", photographs((0.3, 1.8), seed=2), strict=True):
        image_files.write_image(folder / f"loose_1_{letter}.png", np.uint16(pixels) * 257)
    image_files.write_image(folder / "stacked.jpg", np.vstack(photographs((0.3, 1.8), seed=3)), quality=100)
    return folder


def write_noise_brackets(folder: pathlib.Path, names) -> None:
    """Writes sub-folders of a dark and a bright image, a.png and b.png, of 20 x 16 pixels."""
    rng = np.random.default_rng(0)
    for bracket in names:
        (folder / bracket).mkdir(parents=True)
        for name, level in (("a.png", 60), ("b.png", 250)):
            image_files.write_image(folder / bracket / name, rng.integers(0, level, (16, 20, 3), np.uint8))


def encoded(kind: str, pixels: np.ndarray = SMOOTH, **options) -> bytes:
    """Returns a file that Pillow writes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg_of_scans(count: int) -> bytes:
    """Returns a progressive JPEG of 32 x 24 pixels with so many scans, at least 10; the last one is repeated."""
    data = encoded("JPEG", SMOOTH[:24, :32], progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows, *extra: bytes) -> bytes:
    """Returns a PNG file; rows are the unfiltered scan lines."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, data, png_chunk(b"IEND", b"")])


def exr(path: pathlib.Path, channels, window=None, **options) -> pathlib.Path:
    """Writes an EXR file, whose header then says another data window; returns its path."""
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **options}
    OpenEXR.File(header, channels).write(str(path))
    if window is not None:
        data = path.read_bytes()
        at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
        path.write_bytes(data[:at] + struct.pack("<4i", *window) + data[at + 16 :])
    return path


def tiff_header(width: int, height: int, tile=()) -> bytes:
    """Returns the header of a gray TIFF file, in strips or in tiles."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1)]
    entries += [(278, 4, 1, height), (279, 4, 1, min(width * height, 2**32 - 1))]
    if tile:
        tiles = [(322, 4, 1, tile[0]), (323, 4, 1, tile[1]), (324, 4, 1, 8), (325, 4, 1, 9)]
        entries = [entry for entry in entries if entry[0] not in (273, 278, 279)] + tiles
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


# === Scenes and records ===


def write_noise_scene(folder: pathlib.Path, number: int, size, depth: int = 16, hdr: bool = True) -> None:
    """Writes a scene of noise, three digits its name, with radiance or without."""
    rng = np.random.default_rng(number)
    ldr = rng.integers(0, 2**depth, (3, *size, 3)).astype(np.uint16 if depth == 16 else np.uint8)
    radiance = rng.random((*size, 3), np.float32) if hdr else None
    scenes.write_scene(folder / f"{number:03d}", ldr, [-1.5, 0, 2.25], radiance)


def bracket_record(index: int = 0, count: int = 3) -> dict:
    """Returns a record of kind bracket, of noise."""
    exposures = np.random.default_rng(index).integers(0, 256, (count, 16, 24, 3), dtype=np.uint8)
    return {"exposures": exposures, "ev": np.arange(count, dtype=np.float32), "source": f"noise {index}"}


# === Networks ===

SMALL = {  # arguments of SelfHDR's networks
    "ahdrnet": {"filters": 8, "growth": 4},
    "fshdr": {"filters": 4},
    "hdr_transformer": {"filters": 8, "heads": 2, "depths": (1,), "test_padding": True},
    "sctnet": {"filters": 24, "heads": 3, "depths": (2,), "test_padding": True},
}


def draw_kernels(model, generator: np.random.Generator) -> None:
    """Draws kernels that keep the size of the features: some published starts are so small that float32 hides what they do."""
    for variable in model.weights:
        if variable.name == "kernel":
            variable.assign(generator.normal(0, np.prod(variable.shape[:-1]) ** -0.5, variable.shape))
