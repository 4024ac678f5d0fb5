"""Fuses differently exposed pictures of one scene.

    python tools/fuse.py --sample -o output/sample.png
    python tools/fuse.py dark.jpg middle.jpg bright.jpg -o fused.png
    python tools/fuse.py --brackets brackets --output fused
    python tools/fuse.py --model=dqn_editor under.jpg over.jpg -o fused.png --trace=steps.png
    python tools/fuse.py --model=esbn A.tif B.tif C.tif --exposures=-2,0,2 -o radiance.exr

A single picture may hold two exposures as its halves, above each other or side by side.

--brackets takes a folder of folders, each a bracket, and writes one PNG for each:

    brackets/                     fused/
      church/  A.jpg  B.jpg         church.png
      night/   1.tif  2.tif  3.tif  night.png
      IMG_1.jpg .. IMG_3.jpg        IMG_1.png
                                    summary.json

Photographs that lie in the folder itself are grouped by the time and the exposure that EXIF tells. summary.json tells what
became of each bracket; a later run passes over those that were made from the same files with the same flags.

--model=dqn_editor takes an under- and an over-exposed picture, edits an exposure between them step by step and fuses the three
(hdr_tf/editor.py); --trace writes what it did.

--model=esbn gives radiance instead (.exr or .hdr; with --brackets .exr), in which what moves stands as in the middle exposure,
and beside it a tone-mapped preview, radiance_preview.png; so do ahdrnet, fshdr, hdr_transformer and sctnet, with --weights. It
needs the exposures, from --exposures or EXIF. Of more than three pictures it takes the middle exposure (of an even number the
darker of the two), and of the darker and the brighter ones that whose distance to it is nearest to 2 to 3 stops.

--server=host:port lets a server of TensorFlow Serving run the model, over gRPC (docs/serving.md); host:port/name if it knows
the model by another name. Pictures are read, sorted and aligned here.
"""

import contextlib
import dataclasses
import pathlib
import sys
from typing import Literal

import simple_parsing

from hdr_tf import cli, client, fusing, reconstruction
from hdr_tf.image import files
from hdr_tf.image.processes import track


@dataclasses.dataclass(frozen=True)
class Config:
    """What to fuse, and how."""

    pictures: list[str] = simple_parsing.field(positional=True, default_factory=list, metavar="PICTURE")
    """two or more JPEG, PNG or TIFF files of one size, 8 or 16 bit, in any order, or RAW files of a camera (pip install
    'hdr_tf[raw]'); or one that holds two exposures"""
    output: str | None = simple_parsing.field(default=None, alias="-o")
    """the fused picture (.png, .tif, .jpg; radiance .exr, .hdr); with --brackets the folder for them"""
    brackets: str | None = None
    """a folder of folders, each a bracket, or of photographs whose EXIF tells the brackets"""
    sample: bool = False
    """make a sample bracket beside the output and fuse it"""
    model: str = "pyramid"
    """pyramid, deepfuse_official, deepfuse_sunnerli, densefuse_gray, densefuse_rgb, hyperp_mb or dqn_editor; for radiance esbn,
    ahdrnet, fshdr, hdr_transformer or sctnet"""
    exposures: str | None = None
    """of radiance: log2 of the exposures, one a picture in the order given, such as --exposures=-2,0,2; default: from EXIF"""
    weights: str | None = None
    """a .weights.h5 file, as tools/convert_checkpoint.py writes it, of esbn the folder of its three; default: those that come
    with the software"""
    mixed_precision: bool = False
    """of radiance: compute in bfloat16, in about half the time where the processor has it, with an error of some thousandths"""
    align: Literal["none", "auto", "homography", "mtb"] = "none"
    """bring the pictures onto the middle one: by matched features, by a shift found with threshold bitmaps, or (auto) by
    that of them which is seen to help, if any"""
    crop: bool = False
    """cut the borders that not every aligned picture reaches"""
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
    vgg_weights: str | None = None
    """of dqn_editor: VGG16's weights, if its policy sees VGG16's features; default: download"""
    trace: str | None = None
    """of dqn_editor: a file for a picture of every step, with its Q values"""
    server: str | None = None
    """host:port of a server that runs the model with weights of its own; needs tensorflow-serving-api"""
    beam: str | None = None
    """with --brackets: options of Apache Beam, to work on many machines (hdr_tf/beam.py)"""


def main(config: Config) -> int:
    if (bool(config.pictures), bool(config.brackets), config.sample).count(True) != 1:
        raise ValueError("expected pictures, --brackets=FOLDER or --sample, and only one of them")
    if not config.output:
        raise ValueError("expected --output (-o): the file to write, or with --brackets a folder")
    if config.server and (config.weights or config.mixed_precision):
        flag = "weights" if config.weights else "mixed_precision"
        raise ValueError(f"--{flag} does not go with --server, which has its own")
    if config.model in reconstruction.MODELS:
        return _fuse_radiance(config)
    if config.exposures or config.mixed_precision:
        flag = "exposures" if config.exposures else "mixed_precision"
        raise ValueError(f"--{flag} belongs to radiance ({', '.join(reconstruction.MODELS)}), not to --model={config.model}")
    names = ("model", "weights", "align", "crop", "save_aligned", "keep_order", "depth", "quality", "max_pixels", "vgg_weights")
    arguments = {name: getattr(config, name) for name in names}
    if config.server:
        if config.beam:
            raise ValueError("--beam does not go with --server: each brings machines of its own")
        fusing.check_model(config.model, None, 2)
        arguments["client"] = client.Client(config.server, config.model)
    if config.brackets:
        if config.trace:
            raise ValueError("--trace does not go with --brackets: it is one file, for one pair")
        brackets = fusing.list_brackets(config.brackets)
        if config.beam:
            from hdr_tf import beam

            output = pathlib.Path(config.output)
            results = beam.fuse_brackets(brackets, output, beam.Cluster(config.beam, output), **arguments)
        else:
            results = fusing.fuse_brackets(brackets, config.output, **arguments)
        return _report(brackets, results, config.output)
    if config.beam:
        raise ValueError("--beam goes with --brackets: a single one is fused on this machine")
    if config.sample:
        exposures, fused = fusing.fuse_sample(config.output, **arguments)
        print(f"exposures: {' '.join(map(str, exposures))}")
    else:
        fused = fusing.fuse_files(config.pictures, config.output, trace=config.trace, **arguments)
    print(_line(config.output, fused))
    return 0


def _fuse_radiance(config):
    unused = ("sample", "align", "crop", "keep_order", "depth", "quality", "vgg_weights", "trace", "beam")
    found = [name for name in unused if getattr(config, name) != getattr(Config, name)]
    if found:
        raise ValueError(f"--{found[0]} does not go with --model={config.model}, which takes photographs of known exposure")
    try:
        stops = [float(word) for word in config.exposures.split(",")] if config.exposures else None
    except ValueError as error:
        raise ValueError(f"expected numbers (stops) such as --exposures=-2,0,2, found {config.exposures!r}") from error
    arguments = {
        name: getattr(config, name) for name in ("model", "weights", "mixed_precision", "save_aligned", "max_pixels")
    } | {"stops": stops}
    if config.server:
        arguments["model"] = client.Client(config.server, config.model)
    if config.brackets:
        brackets = fusing.list_brackets(config.brackets)
        return _report(brackets, reconstruction.fuse_radiance_brackets(brackets, config.output, **arguments), config.output)
    print(_line(config.output, reconstruction.fuse_radiance(config.pictures, config.output, **arguments)))
    return 0


def _report(brackets, results, output):
    done = before = failed = 0
    interrupted = ""
    try:
        with contextlib.closing(results):
            for path, fused in track(results, "fusing", len(brackets)):
                if isinstance(fused, Exception):
                    failed += 1
                    print(f"error: {path.stem}: {cli.one_line(fused)}", file=sys.stderr)
                    continue
                done += 1
                before += fused is None
                print(f"skipped: {path} is there already" if fused is None else _line(path, fused))
    except KeyboardInterrupt:
        interrupted = "interrupted: "
    told = f", {before} of them by a run before" if before else ""
    print(f"{interrupted}{done} of {len(brackets)} brackets fused into {output}{told}")
    return 130 if interrupted else 1 if failed else 0


def _line(path, fused):
    return f"fused: {path} ({fused.shape[1]} x {fused.shape[0]}, {8 * fused.itemsize} bit)"


if __name__ == "__main__":
    cli.run(main, Config)
