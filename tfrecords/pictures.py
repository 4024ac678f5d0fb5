"""Records of pictures as they were taken: single ones (kind "images"), stacks and trios of one scene (kind "bracket").

    write_images    a folder of photographs, for train/densefuse.py
    write_stacks    a folder of sub-folders with the exposures of a scene each, for train/deepfuse.py
    write_trios     folders input1/, input2/ and target/, for train/hyperp_mb.py

Pictures (JPEG, PNG, TIFF) become 8-bit RGB of one size, without regard to their proportions: what each original does when it
reads them, done once. Every picture is read before anything is written; what is damaged is left out, and told.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from hdr_tf.image import examples, files
from hdr_tf.image.depth import to_depth, to_rgb
from hdr_tf.image.processes import in_processes, track
from tfrecords import writer

STACK_SIZE = 1200, 800  # width and height to which lib/dataset.py of SunnerLi/DeepFuse.pytorch scales


def write_images(folder: pathlib.Path, pictures: pathlib.Path, size: int = 256, **options) -> tuple[dict, list[str]]:
    """Writes the pictures of a folder, and returns the manifest and a line for each picture that had to be left out.

    Scaled to a square by taking the nearest pixel, as hli1221/densefuse-pytorch (4394b63, utils.py) does by scipy's `imresize`.

    Args:
        folder: see `writer.write`.
        pictures: folder of pictures.
        size: side of the squares in pixels, at least 16.
        **options: `count`, how many, from the first on, 0 for all; `shards`, `workers`, `resume` as of `writer.write`.

    Raises:
        ValueError: no usable picture, numbers out of range, or see `writer.write`.
        OSError: see `writer.write`.
    """
    return _write(folder, "images", pictures, [[path] for path in _pictures(pictures)], _image, (size, size), **options)


def write_stacks(folder: pathlib.Path, stacks: pathlib.Path, **options) -> tuple[dict, list[str]]:
    """Writes a bracket for each sub-folder, darkest picture first, scaled to 1200 x 800 as SunnerLi/DeepFuse.pytorch (2986225,
    lib/dataset.py) does. A sub-folder with a damaged picture, with less than two, or of equal brightness is left out.

    `ev` is NaN where EXIF does not tell the exposure of all pictures. Arguments and errors as of `write_images`.
    """
    scenes = sorted(path for path in stacks.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not scenes:
        raise ValueError(f"{stacks}: expected a sub-folder for each scene, found none")
    return _write(folder, "bracket", stacks, [files.list_pictures(scene) for scene in scenes], _stack, STACK_SIZE, **options)


def write_trios(folder: pathlib.Path, trios: pathlib.Path, size: int = 256, **options) -> tuple[dict, list[str]]:
    """Writes a bracket of three, under, target and over, for each picture of input1/ (under), target/ and input2/ (over).

    The folders' n-th names belong together. Scaled to a square by linear interpolation, which Changi-Im/HyperP_MB (9f676f6,
    utils.py) does although it asks for the nearest pixel. `ev` is NaN. Arguments and errors as of `write_images`.

    Changed: the original makes a picture gray before it scales it, which rounds differently by a level at most; pictures that
    have the size already are the same.
    """
    columns = [_pictures(trios / name) for name in ("input1", "target", "input2")]
    if len({len(column) for column in columns}) > 1:
        found = ", ".join(str(len(column)) for column in columns)
        raise ValueError(f"{trios}: expected as many pictures in input1 as in target and in input2, found {found}")
    return _write(folder, "bracket", trios, list(zip(*columns, strict=True)), _trio, (size, size), **options)


def _pictures(folder):
    found = files.list_pictures(folder)
    if not found:
        raise ValueError(f"{folder}: expected JPEG, PNG or TIFF pictures, found none")
    return found


def _write(folder, kind, source, groups, read, size, count=0, shards=8, workers=None, resume=True):
    if min(size) < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {min(size)}")
    jobs = [(read, number, paths, size) for number, paths in enumerate(groups)]
    looks = dict(track(in_processes(_look, jobs, workers), f"{source}: reading", len(jobs)))
    left_out = [looks[number] for number in sorted(looks) if looks[number]]
    usable = [tuple(groups[number]) for number in sorted(looks) if not looks[number]]
    if not usable:
        raise ValueError(f"{source}: nothing can be used: {left_out[0]}")
    if not 0 <= count <= len(usable):
        raise ValueError(f"{source}: expected a count of 0 to {len(usable)}, found {count}")
    usable = usable[: count or len(usable)]
    arguments = {"size": size, "pictures": [[str(path.relative_to(source)) for path in paths] for paths in usable]}
    if kind == "bracket":
        arguments["exposures"] = [min(map(len, usable)), max(map(len, usable))]
    maker = PictureMaker(read, tuple(usable), size)
    return writer.write(folder, kind, maker, len(usable), min(shards, len(usable)), arguments, workers, resume), left_out


@dataclasses.dataclass(frozen=True)
class PictureMaker:
    """Makes record i out of the i-th group of files.

    Attributes:
        read: from files and size to the record.
        groups: files of a record.
        size: width and height.
    """

    read: Callable[[Sequence[pathlib.Path], tuple[int, int]], dict]
    groups: tuple[tuple[pathlib.Path, ...], ...]
    size: tuple[int, int]

    def __call__(self, index: int) -> dict:
        return self.read(self.groups[index], self.size)


def _look(read, number, paths, size):
    """The number, and a line that tells why the files cannot be used, or nothing."""
    try:
        read(paths, size)
    except (ValueError, OSError) as error:
        return number, str(error)
    return number, ""


def _image(paths, size):
    pixels, _ = _rgb(paths[0])
    return {"picture": examples.scale_nearest(pixels, size), "source": paths[0].name}


def _stack(paths, size):
    if len(paths) < 2:
        raise ValueError(f"expected two pictures of a scene or more, found {', '.join(map(str, paths)) or 'an empty folder'}")
    pictures, exposures = zip(*map(_rgb, paths), strict=True)
    pictures = np.stack([examples.scale_linear(picture, size) for picture in pictures])
    means = pictures.mean(axis=(1, 2, 3))
    if means.min() == means.max():
        raise ValueError(f"{paths[0].parent}: expected pictures of different brightness, found one of {means[0]:.1f}")
    order = np.argsort(means, kind="stable")
    return _bracket(pictures[order], [exposures[number] for number in order], paths[0].parent.name)


def _trio(paths, size):
    return _bracket(np.stack([examples.scale_linear(_rgb(path)[0], size) for path in paths]), [None] * 3, paths[1].name)


def _bracket(pictures, exposures, source):
    known = all(exposures)
    stops = np.log2(np.float32(exposures)) if known else np.full(len(pictures), np.nan, np.float32)
    return {"exposures": pictures, "ev": stops - stops.mean(), "source": source}


def _rgb(path):
    """8-bit RGB, and the exposure if EXIF tells it."""
    picture = files.read_picture(path)
    return to_rgb(to_depth(picture.pixels, 8)), picture.exposure
