"""Decoders stay silent in the thread that decodes, and no thread changes what the others log, warn or print."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hdr_tf.io import image_files

PROGRAM = """
import concurrent.futures, dataclasses, logging, pathlib, sys, threading, warnings
import cv2
from hdr_tf import cli
from hdr_tf.io import image_files

@dataclasses.dataclass(frozen=True)
class Config:
    folder: str = ""

def state():
    logger = logging.getLogger("tifffile")
    return cv2.utils.logging.getLogLevel(), logger.disabled, logger.level, list(logger.filters), list(warnings.filters)

def work(path):
    try:
        if path.suffix in (".exr", ".hdr") or "float" in path.name:
            image_files.read_radiance(path)
        else:
            image = image_files.read_image(path)
            written = path.parent.with_name(f"{threading.get_ident()}.png")
            image_files.write_image(written, image.pixels, metadata=image.metadata)
        return path.name
    except ValueError as error:
        assert str(error).startswith(f"{path}: expected"), error
        return f"{path.name} damaged"

def main(config):
    before, paths = state(), sorted(pathlib.Path(config.folder).iterdir())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        names = set(pool.map(work, 25 * paths))
    assert state() == before
    warnings.warn("the program's own warnings are shown")
    logging.getLogger("tifffile").error("its own use of tifffile logs")
    print(*sorted(names), sep="\\n")

if __name__ == "__main__":
    cli.run(main, Config)
"""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 65536, (20, 30, 3), np.uint16), (150, 100))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[33434] = 0.01
    block = exif.tobytes()
    (tmp_path / "files").mkdir()
    data = {}
    for name, exif in (("sound", block), ("cut_exif", block[:-6]), ("bad_exif", block[:20] + b"\xff" * 8 + block[28:])):
        for suffix, kind in ((".jpg", "JPEG"), (".png", "PNG")):
            stream = io.BytesIO()
            Image.fromarray(np.uint8(pixels >> 8)).save(stream, kind, exif=exif)
            data[name + suffix] = stream.getvalue()
    for name, values in (("16.tif", pixels), ("float.tif", np.float32(pixels))):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
        data[name] = (tmp_path / "a.tif").read_bytes()
    data["lzw.tif"], data["16.png"] = (cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".tif", ".png"))
    for name in ("a.exr", "a.hdr"):
        image_files.write_radiance(tmp_path / name, np.float32(pixels))
        data[name] = (tmp_path / name).read_bytes()
    data |= {f"half_{name}": whole[: len(whole) // 2] for name, whole in data.items()}
    for name, content in data.items():
        (tmp_path / "files" / name).write_bytes(content)
    return tmp_path / "files"


def test_four_threads(folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program, f"--folder={folder}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    damaged = [name for name in sorted(path.name for path in folder.iterdir()) if name.startswith("half_")]
    assert [line.removesuffix(" damaged") for line in done.stdout.splitlines() if line.endswith("damaged")] == damaged
    shown = [line for line in done.stderr.splitlines() if "warnings.warn(" not in line]
    assert len(shown) == 2 and "own warnings are shown" in shown[0] and "its own use of tifffile logs" in shown[1]
