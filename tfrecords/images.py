"""Records of captured images: single ones (kind "images"), brackets and triplets of one scene (kind "bracket").

    write_images      a folder of photographs, for train/densefuse.py
    write_brackets    a folder with a sub-folder of exposures for each scene, for train/deepfuse.py
    write_triplets    folders input1/, input2/ and target/, for train/hyperp_mb.py

Images (JPEG, PNG, TIFF) become 8-bit RGB of one size, whatever their proportions: what each original does whenever it reads
them is done once here. Every image is read before anything is written; damaged ones are reported and left out.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from hdr_tf.image.depth import to_depth, to_rgb
from hdr_tf.io import image_files
from hdr_tf.parallel import in_processes
from hdr_tf.progress import track
from tfrecords import examples, writer

BRACKET_SIZE = 1200, 800  # width and height to which lib/dataset.py of SunnerLi/DeepFuse.pytorch scales


def write_images(folder: pathlib.Path, images: pathlib.Path, size: int = 256, **options) -> tuple[dict, list[str]]:
    """Writes the images of a folder; returns the manifest and a line for each image that was left out.

    An image is scaled to a square by nearest neighbour, as hli1221/densefuse-pytorch (4394b63, utils.py) does by scipy's
    `imresize`.

    Args:
        folder: see `writer.write`.
        images: folder of images.
        size: side of the squares in pixels, at least 16.
        **options: `count`, number of images, 0 for all; `shards`, `num_processes`, `resume`: see `writer.write`.
    """
    return _write(folder, "images", images, [[path] for path in _images(images)], _image, (size, size), **options)


def write_brackets(folder: pathlib.Path, brackets: pathlib.Path, **options) -> tuple[dict, list[str]]:
    """Writes a bracket for each sub-folder, darkest image first, scaled to 1200 x 800 as SunnerLi/DeepFuse.pytorch (2986225,
    lib/dataset.py) does. A sub-folder with a damaged image, fewer than two images, or images of equal brightness is left out.

    `ev` is NaN if EXIF does not give the exposure of every image. The other arguments are those of `write_images`.
    """
    scenes = sorted(path for path in brackets.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not scenes:
        raise ValueError(f"{brackets}: expected a sub-folder for each scene, found none")
    groups = [image_files.list_images(scene) for scene in scenes]
    return _write(folder, "bracket", brackets, groups, _bracket, BRACKET_SIZE, **options)


def write_triplets(folder: pathlib.Path, triplets: pathlib.Path, size: int = 256, **options) -> tuple[dict, list[str]]:
    """Writes a bracket of under-exposed, target and over-exposed image for each image of input1/, target/ and input2/.

    The n-th files of the three folders, sorted by name, belong together. They are scaled to a square by linear interpolation,
    which is what Changi-Im/HyperP_MB (9f676f6, utils.py) does, although it asks for the nearest pixel. `ev` is NaN. The other
    arguments are those of `write_images`.

    Changed: the original converts an image to gray before it scales it, which rounds differently by at most one level; images
    that already have the size are the same.
    """
    columns = [_images(triplets / name) for name in ("input1", "target", "input2")]
    counts = [str(len(column)) for column in columns]
    if len(set(counts)) > 1:
        raise ValueError(f"{triplets}: expected as many images in input1 as in target and in input2, found {', '.join(counts)}")
    return _write(folder, "bracket", triplets, list(zip(*columns, strict=True)), _triplet, (size, size), **options)


def _images(folder):
    paths = image_files.list_images(folder)
    if not paths:
        raise ValueError(f"{folder}: expected JPEG, PNG or TIFF images, found none")
    return paths


def _write(folder, kind, source, groups, read, size, count=0, shards=8, num_processes=None, resume=True):
    if min(size) < 16:
        raise ValueError(f"expected a size of at least 16 pixels, found {min(size)}")
    jobs = [(read, number, paths, size) for number, paths in enumerate(groups)]
    looks = dict(track(in_processes(_look, jobs, num_processes), f"{source}: reading", len(jobs)))
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
    maker = ImageMaker(read, tuple(usable), size)
    return writer.write(folder, kind, maker, len(usable), min(shards, len(usable)), arguments, num_processes, resume), left_out


@dataclasses.dataclass(frozen=True)
class ImageMaker:
    """Makes record i from the i-th group of files: `read` turns a group and a size (width, height) into a record."""

    read: Callable[[Sequence[pathlib.Path], tuple[int, int]], dict]
    groups: tuple[tuple[pathlib.Path, ...], ...]
    size: tuple[int, int]

    def __call__(self, index: int) -> dict:
        return self.read(self.groups[index], self.size)


def _look(read, number, paths, size):
    """The number, and a line that says why the files cannot be used, or an empty one."""
    try:
        read(paths, size)
    except (ValueError, OSError) as error:
        return number, str(error)
    return number, ""


def _image(paths, size):
    return {"picture": examples.scale_nearest(_rgb(paths[0])[0], size), "source": paths[0].name}


def _bracket(paths, size):
    if len(paths) < 2:
        raise ValueError(f"expected at least two images of a scene, found {', '.join(map(str, paths)) or 'an empty folder'}")
    images, exposures = zip(*map(_rgb, paths), strict=True)
    images = np.stack([examples.scale_linear(image, size) for image in images])
    means = images.mean(axis=(1, 2, 3))
    if means.min() == means.max():
        raise ValueError(f"{paths[0].parent}: expected images of different brightness, found one of {means[0]:.1f}")
    order = np.argsort(means, kind="stable")
    return _record(images[order], [exposures[number] for number in order], paths[0].parent.name)


def _triplet(paths, size):
    return _record(np.stack([examples.scale_linear(_rgb(path)[0], size) for path in paths]), [None] * 3, paths[1].name)


def _record(images, exposures, source):
    stops = np.log2(np.float32(exposures)) if all(exposures) else np.full(len(images), np.nan, np.float32)
    return {"exposures": images, "ev": stops - stops.mean(), "source": source}


def _rgb(path):
    """8-bit RGB, and the exposure or None, see `image_files.LoadedImage`."""
    image = image_files.read_image(path)
    return to_rgb(to_depth(image.pixels, 8)), image.exposure
