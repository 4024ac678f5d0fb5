"""Fuses a bracket: differently exposed images of one scene to an image for display, or photographs to radiance.

    hdr-tf fuse --sample
    hdr-tf fuse dark.jpg middle.jpg bright.jpg -o fused.png
    hdr-tf fuse *.jpg --deghost -o fused.jpg
    hdr-tf fuse --brackets brackets --output fused
    hdr-tf fuse --model=dqn_editor under.jpg over.jpg -o fused.png --trace=steps.png
    hdr-tf fuse --model=esbn A.tif B.tif C.tif --exposures=-2,0,2 -o radiance.exr

A single image may hold two exposures as its halves, one above the other or side by side.

--brackets takes a folder of folders, each of them a bracket, and writes one PNG for each (radiance: .exr):

    brackets/                     fused/
      church/  A.jpg  B.jpg         church.png
      night/   1.tif  2.tif  3.tif  night.png
      IMG_1.jpg .. IMG_3.jpg        IMG_1.png
                                    summary.json

Photographs in the folder itself are grouped by the times and exposures that EXIF gives. summary.json reports the result
of each bracket; a later run skips those that were fused from the same files with the same flags.

A radiance model merges exposures to radiance (.exr, .hdr, .tif) and writes a tone-mapped preview next to it,
radiance_preview.png; `hdr-tf merge` does the same and has more flags for it. It needs the exposures, from --exposures or EXIF.

--server=host:port lets a TensorFlow Serving server run the model, over gRPC (`hdr-tf export` writes what it needs);
host:port/name if the server knows the model by another name. Images are read, sorted and aligned on this machine.
"""

import dataclasses
import pathlib
from typing import Literal

import simple_parsing

from hdr_tf import systems
from hdr_tf.commands import merge, shared
from hdr_tf.fusion import batch, pipeline
from hdr_tf.io import image_files


@dataclasses.dataclass(frozen=True)
class Config(shared.Config):
    """What to fuse, and how."""

    images: list[str] = simple_parsing.field(positional=True, default_factory=list, metavar="IMAGE")
    """two or more JPEG, PNG or TIFF files of one size, 8 or 16 bit, in any order, or RAW files of a camera (pip install
    'hdr_tf[raw]'); or one file that holds two exposures"""
    output: str | None = simple_parsing.field(default=None, alias="-o")
    """names the file to write (.png, .tif, .jpg; radiance .exr, .hdr), or with --brackets the folder"""
    brackets: str | None = None
    """fuses every bracket of a folder: its sub-folders, and its photographs, which EXIF groups into brackets"""
    allow_missing: bool = False
    """fuses brackets that lack an image without it, instead of failing (--brackets)"""
    format: str | None = simple_parsing.field(default=None, metavar="png|tif|jpg|exr|hdr")
    """chooses the files that --brackets writes: png (default), tif or jpg; radiance exr (default), hdr or tif"""
    sample: bool = False
    """writes a sample bracket next to the output, by default hdr_tf_sample.png, and fuses it"""
    model: str = simple_parsing.field(
        default=systems.names("fusion")[0],
        help=f"chooses the system; for fusion: {systems.help_text('fusion')}; for radiance: {systems.help_text('radiance')}",
    )
    exposures: str | None = None
    """sets log2 of the exposures (stops), one for each image in the order given, such as --exposures=-2,0,2 (radiance,
    --deghost); default: EXIF"""
    trust_exposures: bool = False
    """takes the exposures as they are stated, whatever the images show (radiance, --deghost)"""
    response: str = "auto"
    """says how the images are encoded (radiance), see hdr-tf merge --help"""
    weights: str | None = None
    """names a .weights.h5 file, or the folder of several (esbn); default: the bundled weights"""
    strategy: Literal["mean", "attention"] | None = simple_parsing.field(default=None, metavar="mean|attention")
    """chooses how features are fused: by their mean, as the original does by default, or by spatial attention (densefuse_gray,
    densefuse_rgb)"""
    mixed_precision: bool = False
    """computes in bfloat16, in about half the time where the processor has it, with an error of some thousandths (radiance)"""
    align: Literal["none", "auto", "homography", "mtb"] = "none"
    """aligns the images with the middle one (of two, the brighter one): by matched features, by a shift found with threshold
    bitmaps, or (auto) by whichever helps, if any"""
    deghost: bool = False
    """fuses images of a hand-held camera or a moving scene without ghosting: everything appears as in the middle image (of two
    middle ones, the darker one)"""
    crop: bool = False
    """cuts the borders that not every aligned image covers"""
    save_aligned: str | None = None
    """names a folder to write the aligned or deghosted images to"""
    keep_order: bool = False
    """keeps the images in the order given, from dark to bright, instead of sorting them by EXIF or luminance"""
    depth: Literal[8, 16] | None = simple_parsing.field(default=None, metavar="8|16")
    """sets the bits of the output; default: those of the images"""
    quality: int = 95
    """sets the quality of a JPEG, 1 to 100"""
    max_pixels: int = image_files.MAX_PIXELS
    """refuses a larger image before it is decoded"""
    vgg_weights: str | None = None
    """names a file of VGG16's weights, for a policy that uses VGG16's features (dqn_editor); default: download"""
    policy: Literal["look_ahead"] | None = simple_parsing.field(default=None, metavar="look_ahead")
    """tries all six edits at each step and makes the one that raises MEF-SSIM the most, instead of asking the network
    (dqn_editor)"""
    fuse_with: Literal["pyramid"] | None = simple_parsing.field(default=None, metavar="pyramid")
    """fuses the two exposures and the edited virtual one with pyramid instead of the published fusion, whose artefacts it
    avoids (dqn_editor)"""
    trace: str | None = None
    """writes an image of every step, with its Q values, to this file (dqn_editor)"""
    server: str | None = None
    """lets a server at host:port run the model with its own weights; needs tensorflow-serving-api"""
    beam: str | None = None
    """fuses --brackets on many machines, with these options of Apache Beam (hdr_tf/batch_beam.py)"""


def main(config: Config) -> int:
    if (bool(config.images), bool(config.brackets), config.sample).count(True) != 1:
        raise ValueError("expected images, --brackets=FOLDER or --sample, and only one of them")
    if config.pages and not config.images:
        raise ValueError("--pages goes with images, not with --brackets or --sample")
    shared.check_brackets(config)
    if config.dry_run:
        return shared.print_brackets(config)
    if config.sample and not config.output:
        config = dataclasses.replace(config, output="hdr_tf_sample.png")
    if not config.output:
        raise ValueError("expected --output (-o): the file to write, or with --brackets a folder")
    system = systems.find(config.model)
    options = system.set_options({name: getattr(config, name) for name in systems.options()})
    runner = shared.remote_runner(config, system, ("weights", "beam", *options))
    task = {"fusion": _fuse, "radiance": _merge}[system.task]
    names = ("model", "weights", "save_aligned", "format")
    return task(config, options | {name: getattr(config, name) for name in names} | {"runner": runner})


def _fuse(config, arguments):
    radiance, known = ", ".join(systems.names("radiance")), {}
    if config.response != "auto":
        raise ValueError(f"--response belongs to radiance ({radiance}), not to --model={config.model}")
    for name, value in (("exposures", merge.exposures(config.exposures)), ("trust_exposures", config.trust_exposures)):
        if value and not config.deghost:
            raise ValueError(f"--{name} goes with --deghost or a radiance model ({radiance}): fusion needs no exposures")
        if value:
            known[name] = value
    names = ("align", "crop", "keep_order", "depth", "quality", "max_pixels")
    arguments = {name: getattr(config, name) for name in names} | arguments
    if config.deghost:  # otherwise left out, so that results of earlier versions are kept
        arguments |= known | {"deghost": True}
    suffix = shared.suffix(config, arguments.pop("format"), ("png", "tif", "jpg"))
    if config.brackets:
        if config.trace:
            raise ValueError("--trace does not go with --brackets: it is one file, for one pair")
        brackets = shared.list_brackets(config)
        if config.allow_missing:
            arguments["allow_missing"] = True
        if config.beam:
            from hdr_tf.batch_beam import Cluster  # needs the extra `beam`

            output = pathlib.Path(config.output)
            results = batch.fuse_brackets_on(Cluster(config.beam, output), brackets, output, suffix=suffix, **arguments)
        else:
            results = batch.fuse_brackets(brackets, config.output, suffix=suffix, **arguments)
        return shared.report(brackets, results, config.output)
    if config.beam:
        raise ValueError("--beam goes with --brackets: a single bracket is fused on this machine")
    if config.sample:
        exposures, fused = pipeline.fuse_sample(config.output, **arguments)
        print(f"exposures: {' '.join(map(str, exposures))}")
    else:
        fused = pipeline.fuse_files(shared.images(config), config.output, trace=config.trace, **arguments)
    print(shared.line(config.output, fused))
    return 0


def _merge(config, arguments):
    for name in ("sample", "align", "deghost", "crop", "keep_order", "depth", "quality", "trace"):
        if getattr(config, name) != getattr(Config, name):
            raise ValueError(f"--{name} does not go with --model={config.model}, which takes photographs of known exposure")
    return merge.run(config, arguments | {"max_pixels": config.max_pixels, "response": config.response})
