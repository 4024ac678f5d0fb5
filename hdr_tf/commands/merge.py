"""Merges a bracket: exposures of one scene, still or moving, to linear radiance.

    hdr-tf merge short.jpg middle.jpg long.jpg -o scene.exr
    hdr-tf merge *.CR3 -o scene.exr --absolute
    hdr-tf merge 1.tif 2.tif 3.tif 4.tif 5.tif -o scene.exr --exposures=-4,-2,0,2,4 --reference=auto
    hdr-tf merge a.jpg b.jpg -o scene.exr --response=srgb --exposures=estimate
    hdr-tf merge *.jpg -o scene.jpg --hdr=ultrahdr
    hdr-tf merge --brackets brackets --output merged

A tone-mapped preview is written next to the result, scene_preview.png. Moving things appear as in the reference, by default the
middle exposure (of two, the darker one).

--brackets takes a folder of folders, each of them a bracket, or of photographs, which the times and exposures in EXIF group
into brackets. It writes one .exr for each. Brackets of the same camera share one response where that has to be estimated.
summary.json reports the result of each bracket; a later run skips those that were merged from the same files with the same
flags.

--server=host:port lets a TensorFlow Serving server run the network, over gRPC (`hdr-tf export` writes what it needs).
Images are read and aligned on this machine.
"""

import dataclasses
import pathlib
from typing import Literal

import simple_parsing

from hdr_tf import systems
from hdr_tf.commands import shared
from hdr_tf.io import image_files


@dataclasses.dataclass(frozen=True)
class Config(shared.Config):
    """What to merge, and how."""

    images: list[str] = simple_parsing.field(positional=True, default_factory=list, metavar="IMAGE")
    """two to nine files of one size, in any order: JPEG, PNG or TIFF of 8 or 16 bit, floating-point TIFF, or RAW files of a
    camera (pip install 'hdr_tf[raw]')"""
    output: str | None = simple_parsing.field(default=None, alias="-o")
    """names the file to write (.exr, .hdr, .tif, of RAW files also .dng; .jpg, .png or .avif with --hdr), or the folder with
    --brackets"""
    brackets: str | None = None
    """merges every bracket of a folder: its sub-folders, and its photographs, which EXIF groups into brackets"""
    allow_missing: bool = False
    """merges brackets that lack an image without it, instead of failing (--brackets)"""
    format: str | None = simple_parsing.field(default=None, metavar="exr|hdr|tif|dng")
    """chooses the files that --brackets writes: exr (default), hdr, tif or, of RAW files, dng; with --hdr=pq png or avif"""
    model: str = simple_parsing.field(
        default=systems.names("radiance")[0], help=f"chooses the system: {systems.help_text('radiance')}"
    )
    exposures: str | None = None
    """sets log2 of the exposures (stops), one for each image in the order given, such as --exposures=-2,0,2; estimate: measures
    them, which needs a known response; default: EXIF"""
    trust_exposures: bool = False
    """takes the exposures as they are stated, whatever the images show"""
    response: str = "auto"
    """says how the images are encoded: gamma, srgb, linear, pq, hlg, a file that --save_response wrote, or estimate, which
    measures it; auto: what RAW files and profiles state as linear, PQ or HLG, otherwise gamma (2.2), unless the exposures
    disagree under it, then estimate; per_bracket: auto, without sharing it among --brackets"""
    reference: str | None = None
    """chooses the image that geometry follows: its number, from 1, in the order given, or auto, which takes the one with the
    fewest clipped and dark pixels; default: the middle exposure"""
    align: Literal["flow", "none"] = "flow"
    """follows motion by optical flow; none: nothing moved"""
    denoise: float = 1.0
    """sets the factor on the variance of the noise to remove; 0 removes nothing"""
    fill: Literal["smooth", "none"] = "smooth"
    """continues highlights where the reference is clipped and no other exposure can be trusted"""
    scale: Literal["reference", "ev0"] | None = simple_parsing.field(default=None, metavar="reference|ev0")
    """sets what 1.0 is: the light at which the reference clips, or that at which an exposure of 0 stops clips, so that the same
    light has the same value in every bracket; default: reference (published systems: ev0)"""
    absolute: bool = False
    """writes cd/m², good to ± 1 stop (RAW files)"""
    half: bool = False
    """writes 16-bit floating point (.exr, .dng)"""
    tonemap: Literal["fusion", "mu_law", "reinhard", "drago", "mantiuk"] = simple_parsing.field(
        default="fusion", metavar="fusion|mu_law|reinhard|drago|mantiuk"
    )
    """chooses how radiance becomes the preview: by fusing exposures that are made of it, by the mu-law, or by OpenCV's
    Reinhard, Drago or Mantiuk"""
    hdr: Literal["ultrahdr", "pq"] | None = simple_parsing.field(default=None, metavar="ultrahdr|pq")
    """writes the preview with what HDR screens show brighter, instead of radiance: an Ultra HDR JPEG (.jpg), or PQ in BT.2020
    (.png of 16 bit, .avif of 10 bit)"""
    peak: float = 1000.0
    """sets cd/m² of the brightest highlights (--hdr), where SDR's white is 203; the default is what screens of phones and
    laptops reach"""
    diffuse_white: float = 0.0
    """sets the light up to which HDR screens show what others show (--hdr), in stops from that at which the reference clips;
    the default takes what the reference shows as white for the white of surfaces"""
    weights: str | None = None
    """names a .weights.h5 file, or the folder of several (esbn); default: the bundled weights"""
    mixed_precision: bool = False
    """computes in bfloat16 (published systems)"""
    save_response: str | None = None
    """names a text file to write the response to; with --brackets a folder"""
    save_aligned: str | None = None
    """names a folder to write the aligned images to"""
    save_exposure_map: str | None = None
    """names a .png to write, in which the colour of each pixel says which exposure it comes from: dark blue for the shortest to
    yellow for the longest, magenta where none shows it, white where all are clipped; with --brackets a folder"""
    max_pixels: int = image_files.MAX_PIXELS
    """refuses a larger image before it is decoded"""
    beam: str | None = None
    """merges --brackets on many machines, with these options of Apache Beam (hdr_tf/batch_beam.py)"""
    server: str | None = None
    """lets a server at host:port run the model with its own weights; needs tensorflow-serving-api"""


def main(config: Config) -> int:
    if bool(config.images) == bool(config.brackets):
        raise ValueError("expected images or --brackets=FOLDER, and only one of them")
    if config.pages and config.brackets:
        raise ValueError("--pages goes with images, not with --brackets")
    shared.check_brackets(config)
    if config.dry_run:
        return shared.print_brackets(config)
    if not config.output:
        raise ValueError("expected --output (-o): the file to write, or with --brackets a folder")
    system = systems.find(config.model, "radiance")
    options = system.set_options({name: getattr(config, name) for name in systems.options("radiance")})
    names = ("model", "weights", "response", "align", "denoise", "fill", "scale", "absolute", "half", "max_pixels", "format")
    names = (*names, "save_response", "save_aligned", "save_exposure_map")
    for name in ("peak", "diffuse_white"):
        if not config.hdr and getattr(config, name) != getattr(Config, name):
            raise ValueError(f"--{name} goes with --hdr: it is about what HDR screens show brighter")
    # Left out where they change nothing, so that results of earlier versions are kept.
    shown = ("tonemap", "hdr", "peak", "diffuse_white")
    names = (*names, *(name for name in shown if getattr(config, name) != getattr(Config, name)))
    arguments = {name: getattr(config, name) for name in names} | {"reference": _reference(config.reference)}
    return run(config, options | arguments | {"runner": shared.remote_runner(config, system, ("weights", "beam", *options))})


def run(config, arguments: dict) -> int:
    """Merges the images or the brackets of a configuration and prints a line for each result; returns the exit code.

    Args:
        config: has images, pages, output, brackets, exposures, max_pixels and beam, see `Config`.
        arguments: of `pipeline.fuse_radiance`.
    """
    from hdr_tf.radiance import batch, pipeline  # here, as `hdr-tf fuse` uses a part of this module and should start quickly

    arguments |= {"exposures": exposures(config.exposures)}
    if config.trust_exposures:  # otherwise left out, so that results of earlier versions are kept
        arguments["trust_exposures"] = True
    endings = {None: ("exr", "hdr", "tif", "dng"), "ultrahdr": ("jpg",), "pq": ("png", "avif")}[arguments.get("hdr")]
    ending = shared.suffix(config, arguments.pop("format", None), endings)
    if config.brackets:
        brackets = shared.list_brackets(config)
        if config.allow_missing:
            arguments["allow_missing"] = True
        if config.beam:
            from hdr_tf.batch_beam import Cluster  # needs the extra `beam`

            cluster = Cluster(config.beam, pathlib.Path(config.output))
            results = batch.fuse_radiance_brackets_on(cluster, brackets, config.output, suffix=ending, **arguments)
        else:
            results = batch.fuse_radiance_brackets(brackets, config.output, suffix=ending, **arguments)
        return shared.report(brackets, results, config.output, "merged")
    if config.beam:
        raise ValueError("--beam goes with --brackets: a single bracket is merged on this machine")
    if arguments["response"] == "per_bracket":
        arguments["response"] = "auto"
    print(shared.line(config.output, pipeline.fuse_radiance(shared.images(config), config.output, **arguments), "merged"))
    return 0


def exposures(text: str | None) -> list[float] | str | None:
    """Returns the stops in --exposures, "estimate", or None if there are none; ValueError for another text."""
    if not text or text == "estimate":
        return text or None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise ValueError(f"expected numbers (stops) such as --exposures=-2,0,2, or estimate, found {text!r}") from error


def _reference(text):
    if text in (None, "auto"):
        return text
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--reference: expected the number of an image, from 1, or auto, found {text!r}")
    return int(text) - 1
