"""What a visitor of the page has: the files of a bracket, and what was made of them.

A session reads with `io`, fuses with `fusion.pipeline` and merges with `radiance.pipeline`, whose errors and notes are those of
the commands. Everything that it writes lies in its own folder, which `close` removes.
"""

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import queue
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import ExifTags, Image

from hdr_tf import progress, systems
from hdr_tf.fusion import pipeline
from hdr_tf.image import color, exposure_fusion, tone
from hdr_tf.image.depth import from_unit, to_depth, to_rgb
from hdr_tf.io import brackets, exif, hdr_files, image_files, outputs
from hdr_tf.radiance import display
from hdr_tf.radiance import pipeline as radiance_pipeline

FEWEST, MOST = 2, 9
SIDE = 1600  # pixels of the longer side of what is shown
ALIGNMENTS = {  # by task: what `Choice.align` may be, and what it is called
    "fusion": {
        "auto": "Camera may have moved: align where it helps",
        "none": "Tripod: nothing moved",
        "homography": "Align by matched features",
        "mtb": "Align by a shift",
        "deghost": "Things moved: deghost",
    },
    "radiance": {"flow": "Camera or things moved: optical flow", "none": "Tripod: nothing moved"},
}
MERTENS = "OpenCV's Mertens"
_BIN = 0.5  # stops, of the histogram


class CancelledError(Exception):
    """The visitor ended the work."""


@dataclasses.dataclass(frozen=True)
class Exposure:
    """A file of the bracket."""

    path: pathlib.Path
    shown: np.ndarray  # [H, W, 3] uint8, at most `SIDE` pixels a side
    settings: tuple[float | None, float | None, float | None]  # seconds, f-number and ISO, as the camera shows them
    exposure: float | None  # see `image_files.LoadedImage`


@dataclasses.dataclass(frozen=True)
class Choice:
    """What to do with a bracket."""

    task: str = "fusion"
    model: str = systems.names("fusion")[0]
    align: str = "auto"
    crop: bool = False
    stops: Mapping[str, float] | None = None  # by file name; None: as EXIF says


@dataclasses.dataclass(frozen=True)
class Result:
    """What was made of a bracket."""

    files: list[pathlib.Path]  # to take home
    shown: np.ndarray  # the fused image or the preview of the radiance, as `Exposure.shown`
    compared: dict[str, np.ndarray]  # other images of that size by name: the exposures, aligned, and OpenCV's fusion of them
    notes: list[str]
    steps: np.ndarray | None = None  # of a system that works in steps, with their values
    radiance: np.ndarray | None = None  # as large as `shown`; the reference clips at 1
    exposure_map: np.ndarray | None = None  # which exposure a pixel comes from
    legend: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # name and colour (#rrggbb) of each exposure in it


def models(task: str, count: int) -> list[str]:
    """Returns the names of the systems that can do a task with so many exposures and the weights that come with them."""

    def takes(system):
        if task == "radiance" and not radiance_pipeline.takes_any_number(system):
            return count >= 3  # it uses three of them
        least, most = system.exposures
        return least <= count <= (most or count)

    return [name for name in systems.names(task) if systems.SYSTEMS[name].bundled and takes(systems.SYSTEMS[name])]


class Session:
    """The bracket of a visitor and what became of it.

    Args:
        folder: of its own; created, and removed by `close`.
        max_pixels: a larger image is refused before it is decoded.
    """

    def __init__(self, folder: pathlib.Path, max_pixels: int = image_files.MAX_PIXELS):
        self.folder, self.max_pixels = folder, max_pixels
        self.exposures: list[Exposure] = []  # dark to bright
        self.paths: list[pathlib.Path] = []  # in the order given
        self.notes: list[str] = []
        self.result: Result | None = None
        self._cancelled = threading.Event()  # of the present run
        self._busy = threading.Lock()
        self._closed = False
        self._number = 0  # of the run: each has a folder, so that a browser takes no file of an earlier one for the present

    def load(self, uploads: Sequence[str | os.PathLike]) -> None:
        """Takes the files of a bracket in place of earlier ones.

        Raises:
            ValueError, OSError: as `fuse` does for these files, with names in place of paths.
        """
        self.cancel()
        with self._at_work() as notes:
            self._forget()
            if not FEWEST <= len(uploads) <= MOST:
                raise ValueError(f"expected {FEWEST} to {MOST} images of one scene, found {len(uploads)}")
            paths = [self._taken(pathlib.Path(path)) for path in uploads]
            names = [path.name for path in paths]
            brackets.check_different(paths)
            loaded = [image_files.read_image(path, self.max_pixels) for path in paths]
            alike = brackets.turned_alike([image.pixels for image in loaded], [image.orientation for image in loaded], names)
            loaded = [dataclasses.replace(image, pixels=pixels) for image, pixels in zip(loaded, alike, strict=True)]
            brackets.check_sizes(alike, names, systems.MIN_SIDE)
            notes += [f"{image.path.name}: {note}" for image in loaded for note in image.notes]
            self.exposures = [_exposure(image) for image in brackets.dark_to_bright(loaded, names)]
            self.paths, self.notes = paths, notes

    def clear(self) -> None:
        """Forgets the bracket."""
        self.cancel()
        with self._at_work():
            self._forget()

    def stops(self) -> list[float | None]:
        """Returns the exposures as EXIF gives them, dark to bright, in stops from the middle one; None where it does not."""
        found = [exposure.exposure and math.log2(exposure.exposure) for exposure in self.exposures]
        middle = found[(len(found) - 1) // 2] if found else None
        return [None if stop is None else stop - (middle or 0) for stop in found]

    def run(self, choice: Choice) -> Iterator[str]:
        """Fuses or merges the bracket in a thread; yields the stage when it begins and every second. `result` is what came out.

        Raises:
            CancelledError: `cancel` was called; work ends where its next stage or tile would begin.
            ValueError, OSError: those of `fuse` and `merge`, with names in place of paths.
        """
        if not self.paths:
            raise ValueError(f"expected {FEWEST} to {MOST} images of one scene, found none")
        self.cancel()
        cancelled = self._cancelled = threading.Event()
        events = queue.SimpleQueue()
        task = self._fuse if choice.task == "fusion" else self._merge

        def heard(description):
            if cancelled.is_set():
                raise CancelledError("cancelled")
            events.put(description)

        def work():
            try:
                with self._at_work() as notes, progress.listen(heard):
                    self._number += 1
                    self.result = None
                    self._remove_others()
                    result = task(choice)
                    if cancelled.is_set():
                        raise CancelledError("cancelled")
                    self.result = dataclasses.replace(result, notes=notes)
                events.put(None)
            except BaseException as error:  # the caller's to handle
                events.put(error)

        threading.Thread(target=work, daemon=True).start()
        event = "reading"
        try:
            while event is not None:
                yield event
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=1)
                if isinstance(event, BaseException):
                    raise event
        finally:
            cancelled.set()  # nobody waits for it any more

    def cancel(self) -> None:
        """Ends what `run` does, see there."""
        self._cancelled.set()

    def show(self, name: str, pixels: np.ndarray) -> pathlib.Path:
        """Writes an image, uint8, for the browser and returns its file."""
        path = self._folder() / "shown" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_files.write_image(path, pixels)
        return path

    def at_exposure(self, stops: float) -> np.ndarray:
        """Returns the radiance as an exposure shows it that is so many stops longer than the reference, uint8."""
        return from_unit(tone.to_exposure(self.result.radiance, 2.0**stops), np.uint8)

    def histogram(self) -> list[tuple[float, float]]:
        """Returns stops from the reference's clip, in steps of half a stop, and the share of pixels in each; the darkest and
        brightest thousandth are left out."""
        luminance = color.luminance(self.result.radiance)
        stops = np.log2(luminance[luminance > 0])
        if not stops.size:
            return []
        low, high = np.floor(np.percentile(stops, (0.1, 99.9)) / _BIN) * _BIN
        edges = np.arange(low, high + 2 * _BIN, _BIN)
        counts, _ = np.histogram(stops, edges)
        return list(zip(edges[:-1].tolist(), (counts / luminance.size).tolist(), strict=True))

    def close(self) -> None:
        """Ends the work and removes all files."""
        self._closed = True
        self.cancel()
        with self._busy:
            shutil.rmtree(self.folder, ignore_errors=True)

    # === The work ===

    @contextlib.contextmanager
    def _at_work(self):
        """One at a time. Yields the list of what this thread logs; errors lose the folder in which the files happen to lie."""
        with self._busy, _logged() as lines:
            if self._closed:
                raise CancelledError("the session has ended")
            try:
                yield lines
            except (ValueError, OSError) as error:
                from_here = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
                raise ValueError(self._without_folder(str(from_here))) from error
            finally:
                lines[:] = map(self._without_folder, lines)

    def _without_folder(self, text):
        return re.sub(rf"{re.escape(str(self.folder))}/\d+/", "", text)

    def _folder(self):
        return self.folder / str(self._number)

    def _taken(self, upload):
        """The path of a copy in the folder of this session, where its name may be there already."""
        number, path = 1, self._folder() / upload.name
        while path.exists():
            number += 1
            path = self._folder() / outputs.named(upload.stem, f"_{number}{upload.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(upload, path)
        return path

    def _forget(self):
        self.exposures, self.paths, self.notes, self.result = [], [], [], None
        self._number += 1
        self._remove_others()

    def _remove_others(self):
        """Removes the files of earlier runs and brackets."""
        kept = {self._folder(), *(path.parent for path in self.paths)}
        for folder in self.folder.glob("*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _output(self, ending):
        return self._folder() / outputs.named(min(path.stem for path in self.paths), ending)

    def _stops(self, choice):
        return None if choice.stops is None else [choice.stops[path.name] for path in self.paths]

    def _fuse(self, choice):
        arguments = {"model": choice.model, "align": choice.align, "crop": choice.crop, "max_pixels": self.max_pixels}
        if choice.align == "none":
            arguments |= {"crop": False}
        elif choice.align == "deghost":
            arguments |= {"align": "none", "crop": False, "deghost": True, "exposures": self._stops(choice)}
        if choice.align != "none":
            arguments["save_aligned"] = self._folder() / "aligned"  # to be shown; nothing is written there
        if systems.find(choice.model).steps:
            arguments["trace"] = self._folder() / "steps.png"
        *others, fused = pipeline.fuse_to_outputs(self.paths, self._output("_fused.png"), **arguments)
        tiff = fused._replace(path=self._output("_fused.tif"), pixels=to_depth(fused.pixels, 16))
        jpeg = fused._replace(path=self._output("_fused.jpg"), pixels=to_depth(fused.pixels, 8))
        pipeline.write_outputs([fused, tiff, jpeg])
        steps = others.pop().pixels if "trace" in arguments else None
        names = [exposure.path.name for exposure in self.exposures]
        aligned = [_shown(output.pixels) for output in others] or [exposure.shown for exposure in self.exposures]
        files = [output.path for output in (fused, tiff, jpeg)]
        return Result(files, _shown(fused.pixels), _compared(names, aligned), [], steps)

    def _merge(self, choice):
        own = radiance_pipeline.takes_any_number(systems.find(choice.model, "radiance"))
        output, map_path = self._output("_merged.exr"), self._output("_exposure_map.png")
        arguments = {"model": choice.model, "exposures": self._stops(choice), "max_pixels": self.max_pixels}
        if own:
            arguments |= {"align": choice.align, "save_exposure_map": map_path}
        radiance = radiance_pipeline.fuse_radiance(self.paths, output, **arguments)
        header = image_files.read_radiance_header(output)
        relative = radiance / np.float32(header.white_level)
        preview = output.with_name(outputs.named(output.stem, "_preview.png"))
        shown = image_files.read_image(preview)
        with progress.stage("writing"):
            image_files.write_radiance(output.with_suffix(".hdr"), np.maximum(radiance, 0), header)
            gain = display.gain(relative)
            hdr_files.write_ultrahdr(
                output.with_suffix(".jpg"), shown.pixels, gain, display.PEAK, shown.metadata, shown.reached
            )
        names = [exposure.path.name for exposure in self.exposures]
        return Result(
            files=[output, output.with_suffix(".hdr"), output.with_suffix(".jpg"), preview, *([map_path] if own else [])],
            shown=_shown(shown.pixels),
            compared=_compared(names, [exposure.shown for exposure in self.exposures]),
            notes=[],
            radiance=_reduced(relative),
            exposure_map=_shown(image_files.read_image(map_path).pixels) if own else None,
            legend=_legend(names) if own else [],
        )


def _exposure(image):
    tags = {}
    if image.metadata.exif:
        table = Image.Exif()
        with contextlib.suppress(Exception):  # damaged EXIF raises anything
            table.load(image.metadata.exif)
            tags = table.get_ifd(ExifTags.IFD.Exif)
    return Exposure(image.path, _shown(image.pixels), exif.written_settings(tags), image.exposure)


def _compared(names, images):
    return dict(zip(names, images, strict=True)) | {MERTENS: exposure_fusion.mertens_reference(np.stack(images))}


def _legend(names):
    colours = radiance_pipeline.exposure_map(np.arange(len(names) + 1)[None], np.zeros((1, len(names) + 1), bool), len(names))
    clipped = "#" + bytes(radiance_pipeline.CLIPPED).hex()
    listed = zip([*names, "filled: no exposure can be trusted"], colours[0], strict=True)
    return [*((name, "#" + bytes(colour).hex()) for name, colour in listed), ("clipped in every exposure", clipped)]


def _size(image):
    """Width and height, reduced so that the longer side has at most `SIDE` pixels."""
    height, width = image.shape[:2]
    factor = min(1, SIDE / max(height, width))
    return max(1, round(width * factor)), max(1, round(height * factor))


def _shown(pixels):
    image = Image.fromarray(to_rgb(to_depth(pixels, 8)))
    return np.asarray(image.resize(_size(pixels), Image.Resampling.BOX))


def _reduced(radiance):
    planes = [Image.fromarray(np.ascontiguousarray(radiance[..., channel])) for channel in range(3)]
    return np.dstack([np.asarray(plane.resize(_size(radiance), Image.Resampling.BOX)) for plane in planes])


@contextlib.contextmanager
def _logged():
    """Yields the list of what this thread logs."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            if record.thread == threading.get_ident():
                lines.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("absl")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
