"""What `hdr-tf fuse` and `hdr-tf merge` share: the flags about images and brackets, and what becomes of them."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Literal

import simple_parsing

from hdr_tf import cli, systems
from hdr_tf.io import brackets as bracket_files
from hdr_tf.io import image_files
from hdr_tf.progress import track


@dataclasses.dataclass(frozen=True)
class Config:
    """The flags. Those without a text have one in each command."""

    images: list[str] = simple_parsing.field(positional=True, default_factory=list, metavar="IMAGE")
    output: str | None = simple_parsing.field(default=None, alias="-o")
    pages: bool = False
    """takes every page of TIFF files as an exposure; pages of another size, such as thumbnails, are left out"""
    brackets: str | None = None
    frames: int | None = None
    """sets the number of images of each bracket (--brackets); default: whatever the sequence of photographs suggests"""
    prefer: Literal["jpeg", "raw"] = simple_parsing.field(default="jpeg", metavar="jpeg|raw")
    """chooses what is used where a RAW file and an image have the same name (--brackets)"""
    allow_missing: bool = False
    dry_run: bool = False
    """prints the images of each bracket and does nothing else (--brackets)"""


def remote_runner(config, system: systems.System, local: Sequence[str]):
    """Returns the runner that lets the server of a configuration run a system, None without a server; ValueError if one of the
    flags `local`, which a server cannot follow, is set."""
    if not config.server:
        return None
    for name in local:
        if getattr(config, name):
            raise ValueError(f"--{name} does not go with --server: a server has weights, options and machines of its own")
    from hdr_tf.serving.client import connect  # needs TensorFlow and the extra `serve`

    return connect(config.server, system)


def images(config) -> list:
    """Returns the images of a configuration: paths, or with `pages` the pages of the files, read."""
    if not config.pages:
        return config.images
    pages = [page for path in config.images for page in image_files.read_pages(path, config.max_pixels)]
    if len(pages) < 2:
        raise ValueError("--pages: expected TIFF files with several pages of one size, found a single image")
    return pages


def check_brackets(config) -> None:
    """Raises ValueError if a flag about brackets is set without --brackets."""
    for name in ("frames", "prefer", "allow_missing", "dry_run"):
        if not config.brackets and getattr(config, name) != getattr(Config, name):
            raise ValueError(f"--{name} goes with --brackets: it is about the brackets of a folder")


def list_brackets(config) -> list:
    """Returns the brackets of the folder of a configuration, see `io.brackets.list_brackets`."""
    return bracket_files.list_brackets(config.brackets, config.frames, config.allow_missing, config.prefer)


def print_brackets(config) -> int:
    """Prints a line for each bracket of a configuration, and what those that lack an image lack; returns the exit code."""
    brackets = list_brackets(config)
    lacking = 0
    for bracket in brackets:
        loose = isinstance(bracket, bracket_files.Bracket)
        paths = bracket.paths if loose else image_files.list_images(bracket)
        print(f"{bracket.name}: {len(paths)} images: {' '.join(path.name for path in paths)}")
        if loose and bracket.problem:
            lacking += 1
            print(f"error: {bracket.name}: {bracket.problem}", file=sys.stderr)
    print(f"{len(brackets)} brackets in {config.brackets}")
    return 1 if lacking else 0


def suffix(config, chosen: str | None, known: Sequence[str]) -> str:
    """Returns the suffix of the files of --brackets that --format chooses, by default the first of those that are known."""
    if chosen and not config.brackets:
        raise ValueError("--format goes with --brackets: a single output has the format of its name")
    if chosen and chosen not in known:
        raise ValueError(f"--format: expected {', '.join(known)} for --model={config.model}, found {chosen!r}")
    return f".{chosen or known[0]}"


def report(brackets: list, results, output: str, done: str = "fused") -> int:
    """Prints a line for each bracket and one in the end; returns the exit code.

    Args:
        brackets: all of them.
        results: yields the file of each bracket, and its image, None or its error.
        output: the folder.
        done: what happens to a bracket, in the lines.
    """
    finished = before = failed = 0
    interrupted = ""
    try:
        with contextlib.closing(results):
            for path, image in track(results, "fusing" if done == "fused" else "merging", len(brackets)):
                if isinstance(image, Exception):
                    failed += 1
                    print(f"error: {path.stem}: {cli.one_line(image)}", file=sys.stderr)
                    continue
                finished += 1
                before += image is None
                print(f"skipped: {path} is kept from an earlier run" if image is None else line(path, image, done))
    except KeyboardInterrupt:
        interrupted = "interrupted: "
    earlier = f", {before} of them by an earlier run" if before else ""
    print(f"{interrupted}{finished} of {len(brackets)} brackets {done} into {output}{earlier}")
    return 130 if interrupted else 1 if failed else 0


def line(path: str | pathlib.Path, image, done: str = "fused") -> str:
    """Returns the line for a result, an array [H, W, ...]; radiance in a file for HDR screens has the depth of that file."""
    screen = image.dtype.kind == "f" and pathlib.Path(path).suffix.lower() in (*image_files.JPEG_SUFFIXES, ".png", ".avif")
    return f"{done}: {path} ({image.shape[1]} x {image.shape[0]}, {'HDR' if screen else f'{8 * image.itemsize} bit'})"
