"""From photographs to light: what a merge takes, whatever the files hold.

    frames = read(["a.jpg", "b.jpg", "c.jpg"])
    exposures = find_exposures(frames, None, "auto")
    light = to_light(frames, exposures, "auto")          # images of gamma 2.2, short to long, and their exposures

A merge works on light, but its images are integers of gamma 2.2. So files are decoded with their response and encoded again
with 16 bit; images that follow gamma 2.2 anyway stay as they are. The response is

    auto        linear for RAW and floating-point TIFF; what the file states if that is linear, PQ or HLG (`io.transfer`);
                otherwise the encoding for display that the file states, or gamma 2.2, unless the exposures disagree under it:
                then it is estimated from them
    estimate    estimated from the exposures
    gamma, srgb, linear, pq, hlg, or a file that `io.responses` wrote

Where the response is known or was estimated, exposures are refined, because cameras round them ("1/60" is 1/64). Under an
encoding for display, which is mostly an assumption, they stay: both cannot be measured at once.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import logging

from hdr_tf import systems
from hdr_tf.image import reach, stated_exposures, tone
from hdr_tf.image import response as responses
from hdr_tf.image.depth import from_unit, to_depth, to_rgb, to_unit
from hdr_tf.image.noise import Noise
from hdr_tf.image.response import Response
from hdr_tf.io import brackets, image_files, raw, transfer
from hdr_tf.io import responses as response_files
from hdr_tf.io.exif import NO_METADATA, Metadata
from hdr_tf.radiance.merge_classical import middle

ESTIMATED = ("auto", "estimate")
NAMED = ("gamma", "srgb", "linear", "pq", "hlg")

_CLIPPED, _DARK = 0.98, 2 / 255  # of the brightest encoded channel: above the first it is clipped, up to the second black
_USELESS = 0.999  # share of the pixels
_OVERLAP = 1e-4  # share of the pixels that neighbours show neither black nor clipped, at least
_ROUNDED = 1.15  # ratio of two exposures to the stated one, at most: times are rounded by up to 7 %
_VALUES, _SAME_CURVE = np.linspace(0, 1, 256, dtype=np.float32), 0.02  # of linear values; gamma 2.2 and sRGB differ by 0.007
_WORTH_A_LINE = 2 ** (1 / 6)  # of an exposure to the stated one


@dataclasses.dataclass(frozen=True)
class Frame:
    """An exposure as it was read."""

    name: str  # for messages
    path: pathlib.Path | None
    pixels: np.ndarray  # [H, W, 3] uint8 or uint16, encoded
    exposure: float | None  # see `image_files.LoadedImage`
    metadata: Metadata = NO_METADATA
    curve: str | None = None  # what the file states: "linear", "pq" or "hlg"
    is_light: bool = False  # whether the pixels were linear light, which reading has encoded with gamma 2.2
    sensor: raw.RawImage | None = None  # of RAW, without its pixels
    reached: np.ndarray | None = None  # [H, W] bool, False where the file is transparent; None for nowhere
    start: Response | None = None  # the encoding for display that the file states, where `curve` is None
    orientation: int = 1  # EXIF's, that was applied


@dataclasses.dataclass(frozen=True)
class Light:
    """What a merge takes, short to long."""

    frames: list[Frame]  # without pixels
    images: list[np.ndarray]  # N of [H, W, 3] uint8 or uint16, gamma 2.2
    exposures: np.ndarray  # [N] float64: 2**stops, refined where the response is known
    response: Response  # how the files were decoded
    step: float  # between encoded values
    dark_error: float  # see `Response.dark_error`
    noise: Noise | None  # of RAW, where it is known
    order: list[int]  # index of each frame among the given ones
    useful: list[bool]  # whether it is neither clipped nor black everywhere
    reached: np.ndarray | None = None  # [H, W] bool, False where no exposure shows anything; None for nowhere

    @property
    def sensor(self) -> raw.RawImage | None:
        """Of the first frame, None if the bracket is not RAW."""
        return self.frames[0].sensor

    @property
    def response_name(self) -> str:
        """For a header."""
        return "linear (RAW)" if self.sensor else self.response.name

    @property
    def middle(self) -> int:
        """Index of the middle exposure of those that show something, the darker one of two."""
        shown = np.flatnonzero(self.useful)
        return int(shown[middle(self.exposures[shown])])

    @property
    def scale(self) -> float:
        """The factor after which radiance of an estimated response is as bright as in other brackets of the camera."""
        return self.response.scale if self.response.values is not None else 1.0


# === Reading ===


def read(
    images: Sequence, max_pixels: int = image_files.MAX_PIXELS, develop: bool = False, allow_missing: bool = False
) -> list[Frame]:
    """Reads photographs; what was dropped is logged.

    Args:
        images: paths of JPEG, PNG, TIFF (8 or 16 bit, or floating point in 0..1) or RAW files, or arrays [H, W, 3] or [H, W]
            of uint8 or uint16; of one size.
        max_pixels: a larger file is refused before it is decoded.
        develop: takes RAW files as LibRaw's sRGB images, for systems that know nothing else.
        allow_missing: images that cannot be read are left out, if two others are left.

    Raises:
        ValueError: images do not go together, or a floating-point TIFF holds NaN. OSError: a file cannot be read.
    """

    def read_one(numbered):
        number, image = numbered
        return _read(image, number, max_pixels, develop)

    brackets.check_different([image for image in images if isinstance(image, (str, os.PathLike))])
    numbered = list(enumerate(images, start=1))
    frames = brackets.readable(numbered, read_one) if allow_missing else list(map(read_one, numbered))
    turns = [frame.orientation for frame in frames]
    alike = brackets.turned_alike([frame.pixels for frame in frames], turns, [frame.name for frame in frames])
    frames = [dataclasses.replace(frame, pixels=pixels) for frame, pixels in zip(frames, alike, strict=True)]
    brackets.check_sizes([frame.pixels for frame in frames], [frame.name for frame in frames], systems.MIN_SIDE)
    for kind, having in (
        ("RAW", [bool(frame.sensor) for frame in frames]),
        ("linear light", [frame.is_light for frame in frames]),
        (f"{frames[0].curve or 'no curve'} stated", [frame.curve == frames[0].curve for frame in frames]),
    ):
        if len(set(having)) > 1:
            one, other = frames[having.index(True)], frames[having.index(False)]
            raise ValueError(f"{other.name}: expected images of one kind, found {kind} in {one.name} and another here")
    light = start(frames).decode(_VALUES)
    for frame in frames:
        if np.abs(start([frame]).decode(_VALUES) - light).max() > _SAME_CURVE:
            names = start([frame]).name, start(frames).name, frames[0].name
            raise ValueError(f"{frame.name}: states the curve {names[0]}, expected {names[1]} as in {names[2]}")
    depth = 8 * max(frame.pixels.itemsize for frame in frames)
    return [dataclasses.replace(frame, pixels=to_rgb(to_depth(frame.pixels, depth))) for frame in frames]


def _read(image, number, max_pixels, develop):
    if isinstance(image, image_files.LoadedImage):
        return _stating(image)
    if not isinstance(image, (str, os.PathLike)):
        pixels = np.asarray(image)
        if pixels.dtype not in (np.uint8, np.uint16) or not (pixels.ndim == 2 or pixels.ndim == 3 and pixels.shape[2] == 3):
            raise ValueError(
                f"image {number}: expected a path or an array [H, W, 3] or [H, W] of uint8 or uint16, "
                f"found {list(pixels.shape)} of {pixels.dtype}"
            )
        return Frame(f"image {number}", None, pixels, None)
    path = pathlib.Path(image)
    if path.suffix.lower() in image_files.RAW_SUFFIXES and not develop:
        sensor = raw.read_sensor(path, max_pixels)
        pixels, nothing = _encoded(sensor.linear), np.empty((0, 0, 3), np.float32)
        for note in sensor.notes:
            logging.info("%s: %s", path, note)
        sensor = dataclasses.replace(sensor, linear=nothing)
        facts = {"sensor": sensor, "orientation": sensor.orientation}
        return Frame(str(path), path, pixels, sensor.exposure, sensor.metadata, "linear", True, **facts)
    if image_files.is_float_tiff(path):
        linear, reached = image_files.read_float_tiff(path, max_pixels)
        wrong = linear.size - np.count_nonzero(np.isfinite(linear))
        if wrong:
            raise ValueError(f"{path}: expected finite values from 0 to 1, found {wrong:,} that are infinite or not a number")
        if linear.max() > 1:
            logging.info("%s: values above 1, up to %.3g, count as clipped", path, linear.max())
        return Frame(str(path), path, _encoded(linear), None, NO_METADATA, "linear", True, reached=reached)
    return _stating(image_files.read_image(path, max_pixels))


def _stating(loaded):
    """A frame of the pixels of a file, with the curve that it states."""
    path = loaded.path
    for note in loaded.notes:
        logging.info("%s: %s", path, note)
    pixels, reached = loaded.pixels, loaded.reached
    if reached is not None:  # black counts neither for the response nor for the range
        pixels = np.where(reached if pixels.ndim == 2 else reached[..., None], pixels, pixels.dtype.type(0))
    stated = transfer.stated(loaded.metadata)
    curve = stated.name if stated and stated.name in transfer.LIGHT else None
    facts = {"reached": reached, "start": None if curve else stated, "orientation": loaded.orientation}
    return Frame(str(path), path, pixels, loaded.exposure, loaded.metadata, curve, **facts)


def _encoded(linear):
    """Gamma 2.2, uint16; what is below 0, as noise in the dark of RAW, becomes 0."""
    return np.stack([from_unit(tone.to_exposure(row, 1), np.uint16) for row in linear])


# === Response and exposures ===


def start(frames: Sequence[Frame]) -> Response:
    """Returns the encoding for display of frames whose response is not known: what the first file states, or gamma 2.2."""
    return frames[0].start or Response.gamma()


def check_response(setting: str | Response) -> str | Response:
    """Returns a setting of the response, a file of one read; ValueError if there is no such response."""
    if isinstance(setting, Response) or setting in (*ESTIMATED, *NAMED):
        return setting
    if not setting or not pathlib.Path(setting).exists():
        raise ValueError(f"response: expected one of {', '.join((*ESTIMATED, *NAMED))}, or a file of one, found {setting!r}")
    return response_files.read_response(setting)


def known_response(frames: Sequence[Frame], setting: str | Response) -> Response | None:
    """Returns the response by which the frames' pixels are encoded, None if it has to be found from them.

    Args:
        frames: as `read` returns them.
        setting: see `check_response`.
    """
    if frames[0].is_light:
        if not isinstance(setting, str) or setting not in (*ESTIMATED, "linear"):
            name = setting if isinstance(setting, str) else setting.name
            raise ValueError(f"{frames[0].name}: holds linear light, found the response {name}; leave it out")
        return Response("linear")
    if isinstance(setting, Response):
        return setting
    if setting == "auto":
        return Response(frames[0].curve) if frames[0].curve else None
    return None if setting == "estimate" else Response(setting)


def find_exposures(
    frames: Sequence[Frame], exposures: Sequence[float] | str | None, setting: str | Response, needs: str = "radiance"
) -> np.ndarray:
    """Returns the exposures of the frames, [N] float64, in their order.

    Args:
        frames: as `read` returns them.
        exposures: stops; None for those in EXIF; "estimate" measures them, which needs a known response.
        setting: of the response, see `check_response`.
        needs: what the exposures are for, in messages.
    """
    if isinstance(exposures, str):
        if exposures != "estimate":
            raise ValueError(f"expected stops, such as --exposures=-2,0,2, or --exposures=estimate, found {exposures!r}")
        response = known_response(frames, setting)
        if response is None:
            raise ValueError(
                "--exposures=estimate needs a known response, because both cannot be measured at once: give --response as one "
                f"of {', '.join(NAMED)} or the file of one, or give the exposures"
            )
        images = responses.reduced([frame.pixels for frame in frames])
        return responses.estimate_exposures(images, Response.gamma() if frames[0].is_light else response)
    if exposures is None:
        for frame in frames:
            if frame.exposure is None:
                raise ValueError(
                    f"{frame.name}: {needs} needs the exposures, and EXIF gives none: pass --exposures=STOPS, log2, one for "
                    "each image, such as --exposures=-2,0,2"
                )
        found = np.array([frame.exposure for frame in frames], np.float64)
        most = 2 * stated_exposures.MOST_STOPS
        if np.ptp(np.log2(found)) > most:
            listed = ", ".join(f"{stops:.1f}" for stops in np.log2(found))
            raise ValueError(f"{frames[0].name}: expected exposures within {most} stops, EXIF says {listed}")
        return found
    return stated_exposures.from_stops(exposures, len(frames))


def check_exposures(frames: Sequence[Frame], exposures: np.ndarray, setting: str | Response, trust: bool = False) -> np.ndarray:
    """Compares exposures with the images; returns them, corrected where the response is linear, PQ or HLG and a step is off by
    1/6 to 1 stop, which is logged.

    Args:
        frames: as `read` returns them.
        exposures: of them, 2**stops.
        setting: of the response, see `check_response`.
        trust: takes the exposures as they are.

    Raises:
        ValueError: the images contradict the exposures, see `image.stated_exposures`.
    """
    if trust:
        return exposures
    response = known_response(frames, setting)
    right = response is not None and response.name in transfer.LIGHT
    curve = response or start(frames)
    curve = Response.gamma() if frames[0].is_light else curve
    images = responses.reduced([frame.pixels for frame in frames])
    return stated_exposures.confirmed(images, exposures, curve, right, [frame.name for frame in frames])


def find_response(
    bracket_list: Sequence[tuple[np.ndarray, Sequence[float]]],
    setting: str,
    assumed: Response | None = None,
    trust: bool = True,
) -> Response:
    """Returns the response that brackets of one camera share: estimated, or `assumed` where that fits or nothing better can be
    had, which is logged.

    Args:
        bracket_list: (images [N, H, W, 3], exposures) of each, as `image.response.reduced` returns the images.
        setting: "auto" or "estimate".
        assumed: see `start`; None for gamma 2.2.
        trust: whether exposures that fit under no response are accepted; otherwise they raise ValueError.
    """
    assumed = assumed or Response.gamma()
    name = "gamma 2.2" if assumed.name == "gamma" else assumed.name
    found = responses.estimate(bracket_list, assumed)
    if not trust and found.response is not None and found.after > stated_exposures.RESIDUAL:
        raise ValueError(
            f"expected exposures that fit the images within {stated_exposures.RESIDUAL / math.log(2):.2g} stops under some "
            f"response, found {found.after / math.log(2):.2f}: give the right --exposures (stops, log2), or --trust_exposures; "
            "or the images do not show one scene"
        )
    if setting == "auto" and found.response and not found.before > responses.DISAGREEMENT:
        return assumed
    if found.response is None:
        logging.warning("the response cannot be estimated (%s): %s is assumed", found.reason, name)
        return assumed
    if found.after > max(responses.DISAGREEMENT, min(found.before / 2, 2 * responses.DISAGREEMENT)):
        logging.warning(
            "the exposures disagree by %.0f %% whatever the response: %s is assumed; are they those of the images "
            "(EXIF, --exposures), and do the images show one scene?",
            *(100 * math.expm1(found.after), name),
        )
        return assumed
    logging.info(
        "response estimated: the exposures disagree by %.0f %% with %s and by %.0f %% with it",
        *(100 * math.expm1(found.before), name, 100 * math.expm1(found.after)),
    )
    return found.response


# === Light ===


def to_light(
    frames: Sequence[Frame],
    exposures: Sequence[float] | np.ndarray,
    setting: str | Response,
    assume_gamma: bool = False,
    trust: bool = True,
) -> Light:
    """Decodes a bracket.

    Args:
        frames: as `read` returns them; memory: the pixels of each are kept as long as the caller keeps the frames.
        exposures: of them, 2**stops.
        setting: of the response, see `check_response`.
        trust: see `find_response`.
        assume_gamma: with "auto", takes gamma 2.2 for images that state no curve, or that of sRGB, whether the exposures fit or
            not.

    Raises:
        ValueError: all exposures are clipped or black, or two neighbours share no values that are neither.
    """
    order = np.argsort(exposures, kind="stable").tolist()
    frames, exposures = [frames[i] for i in order], np.float64(exposures)[order]
    response, assumed = known_response(frames, setting), start(frames)
    if response is None and assume_gamma and setting == "auto":
        assumed = response = Response.gamma() if assumed.name == "srgb" else assumed
    if response is None:
        measured = responses.reduced([frame.pixels for frame in frames])
        response = find_response([(measured, exposures)], setting, assumed, trust)
    curve = Response.gamma() if frames[0].is_light else response
    kind = frames[0].pixels.dtype
    step, dark_error = 1 / np.iinfo(kind).max, curve.dark_error(kind)
    images = [_decoded(frame.pixels, curve) for frame in frames]
    masks = [frame.reached for frame in frames]
    small = responses.reduced(images)
    useful = check_range(small, exposures, [frame.name for frame in frames])
    if response.name != "gamma" and response is not assumed:
        exposures = _refined(small, exposures, frames)
    noise = next((frame.sensor.noise for frame in frames if frame.sensor and frame.sensor.noise), None)
    noise = noise and Noise(noise.gain, noise.read, step)
    images = reach.fill(images, masks, exposures)
    frames = [dataclasses.replace(frame, pixels=frame.pixels[:0], reached=None) for frame in frames]
    return Light(frames, images, exposures, response, step, dark_error, noise, order, useful, reach.union(masks))


def _decoded(pixels, response):
    """Gamma 2.2 of pixels that a response encodes."""
    if response.name == "gamma":
        return pixels
    levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)
    return from_unit(tone.to_exposure(response.decode(levels), 1), np.uint16)[pixels]


def _refined(small, exposures, frames):
    """Exposures as the images show them. Where that changes a ratio of neighbours more than cameras' rounding would, something
    else did, such as the light on a part of the scene: there the ratio stays."""
    fixed = middle(exposures)
    refined = responses.refine_exposures(tone.to_radiance(to_unit(small), 1), exposures, fixed)
    steps = np.diff(np.log(refined / exposures))
    changes = np.exp(np.cumsum([0, *np.where(np.abs(steps) < math.log(_ROUNDED), steps, 0)]))
    changes /= changes[fixed]
    if max(changes.max(), 1 / changes.min()) > _WORTH_A_LINE:
        listed = ", ".join(
            f"{pathlib.Path(frame.name).name} {change - 1:+.0%}" for frame, change in zip(frames, changes, strict=True)
        )
        logging.info("exposures, as the images show them: %s", listed)
    return exposures * changes


def check_range(images: np.ndarray, exposures: Sequence[float], names: Sequence[str]) -> list[bool]:
    """Returns for each exposure whether it shows anything; which ones do not is logged.

    Args:
        images: [N, H, W, 3] uint8 or uint16, gamma 2.2, short to long.
        exposures: of them.
        names: of them.

    Raises:
        ValueError: no exposure shows anything, or two neighbours of those that do share nothing.
    """
    values = [np.sort(to_unit(image.max(axis=2)), axis=None) for image in images]
    clipped, black = ([mean(value) for value in values] for mean in (_share_clipped, _share_black))
    if min(clipped) > _USELESS:
        raise ValueError(
            f"{names[0]}: is the shortest exposure and is clipped in {clipped[0]:.1%} of its pixels, like all others: "
            "there is nothing to merge; expose for the highlights"
        )
    if min(black) > _USELESS:
        raise ValueError(
            f"{names[-1]}: is the longest exposure and is black in {black[-1]:.1%} of its pixels, like all others: "
            "there is nothing to merge; expose longer"
        )
    useful = [max(pair) <= _USELESS for pair in zip(clipped, black, strict=True)]
    pairs = np.flatnonzero(useful) if any(useful) else np.arange(len(values))
    for short, long in zip(pairs[:-1], pairs[1:], strict=True):
        # Equal ranks show about the same light, wherever it is in the images.
        shared = np.mean((values[short] > _DARK) & (values[long] < _CLIPPED))
        if shared < _OVERLAP and exposures[short] < exposures[long]:
            raise ValueError(
                f"{names[long]}: is clipped wherever {names[short]} is not black: the two exposures share no usable range, so "
                "they cannot be compared; leave one of them out, or add an exposure between them"
            )
    for name, shows, share in zip(names, useful, clipped, strict=True):
        if not shows:
            logging.warning("%s is %s everywhere and adds nothing", name, "clipped" if share > _USELESS else "black")
    return useful


def _share_clipped(values):
    return float(np.mean(values >= _CLIPPED))


def _share_black(values):
    return float(np.mean(values <= _DARK))


def best_reference(images: Sequence[np.ndarray]) -> int:
    """Returns the index of the image with the fewest clipped and dark pixels.

    Args:
        images: N of [H, W, 3] uint8 or uint16, gamma 2.2.
    """
    peaks = [to_unit(image.max(axis=2)) for image in responses.reduced(images)]
    return int(np.argmin([np.mean((peak >= _CLIPPED) | (peak <= 0.1)) for peak in peaks]))
