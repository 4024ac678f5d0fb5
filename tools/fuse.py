"""Fuses differently exposed pictures of one scene.

    python tools/fuse.py --sample -o output/sample.png
    python tools/fuse.py dark.jpg middle.jpg bright.jpg -o fused.png
    python tools/fuse.py --brackets brackets --output fused

The last form takes a folder of folders, each a bracket, and writes one PNG for each:

    brackets/                     fused/
      church/  A.jpg  B.jpg         church.png
      night/   1.tif  2.tif  3.tif  night.png
"""

import dataclasses
import sys
from typing import Literal

import rich.console
import rich.progress
import simple_parsing

from hdr_tf import cli, fusing
from hdr_tf.image import files


@dataclasses.dataclass(frozen=True)
class Config:
    """What to fuse, and how."""

    pictures: list[str] = simple_parsing.field(positional=True, default_factory=list, metavar="PICTURE")
    """two or more JPEG, PNG or TIFF files of one size, 8 or 16 bit, in any order"""
    output: str | None = simple_parsing.field(default=None, alias="-o")
    """the fused picture (.png, .tif, .jpg); with --brackets the folder for them"""
    brackets: str | None = None
    """a folder of folders, each a bracket"""
    sample: bool = False
    """make a sample bracket beside the output and fuse it"""
    model: str = "pyramid"
    """pyramid, deepfuse_official, deepfuse_sunnerli, densefuse_gray, densefuse_rgb or hyperp_mb"""
    weights: str | None = None
    """a .weights.h5 file, as tools/convert_checkpoint.py writes it; default: those that come with the software"""
    align: Literal["none", "homography", "mtb"] = "none"
    """bring the pictures onto the middle one: by matched features, or by a shift found with threshold bitmaps"""
    save_aligned: str | None = None
    """a folder for the aligned pictures"""
    keep_order: bool = False
    """the pictures come dark to bright: do not sort them by EXIF or luminance"""
    depth: Literal[8, 16] | None = simple_parsing.field(default=None, metavar="8|16")
    """bits of the output; default: as the pictures"""
    quality: int = 95
    """of a JPEG, 1 to 100"""
    max_pixels: int = files.MAX_PIXELS
    """refuse a larger picture before it is decoded"""


def main(config: Config) -> int:
    if (bool(config.pictures), bool(config.brackets), config.sample).count(True) != 1:
        raise ValueError("expected pictures, --brackets=FOLDER or --sample, and only one of them")
    if not config.output:
        raise ValueError("expected --output (-o): the file to write, or with --brackets a folder")
    names = ("model", "weights", "align", "save_aligned", "keep_order", "depth", "quality", "max_pixels")
    arguments = {name: getattr(config, name) for name in names}
    if config.brackets:
        return _fuse_brackets(config.brackets, config.output, arguments)
    if config.sample:
        exposures, fused = fusing.fuse_sample(config.output, **arguments)
        print(f"exposures: {' '.join(map(str, exposures))}")
    else:
        fused = fusing.fuse_files(config.pictures, config.output, **arguments)
    print(_line(config.output, fused))
    return 0


def _fuse_brackets(folder, output, arguments):
    brackets = fusing.list_brackets(folder)
    console = rich.console.Console(stderr=True)
    results = fusing.fuse_brackets(brackets, output, **arguments)
    failed = 0
    for path, fused in rich.progress.track(results, "fusing", len(brackets), console=console, disable=not console.is_terminal):
        if isinstance(fused, Exception):
            failed += 1
            print(f"error: {path.stem}: {cli.one_line(fused)}", file=sys.stderr)
        else:
            print(_line(path, fused))
    print(f"{len(brackets) - failed} of {len(brackets)} brackets fused into {output}")
    return 1 if failed else 0


def _line(path, fused):
    return f"fused: {path} ({fused.shape[1]} x {fused.shape[0]}, {8 * fused.itemsize} bit)"


if __name__ == "__main__":
    cli.run(main, Config)
