"""A camera's RAW files as the sensor saw them, for merging: linear, in the camera's own primaries, with the sensor's noise.

    sensor = raw.read_sensor("a.dng")                       # linear camera RGB; 1 = the sensor clips, channel by channel
    ...                                                     # align and merge the exposures' `linear` to radiance
    radiance = raw.neutral_highlights(radiance, clipped, sensor.white_balance)
    srgb = raw.to_output(radiance, sensor.white_balance, sensor.matrix)

White balance and colour matrix come after the merge, because only the sensor's own values tell what is clipped. All frames
take both from one image, the reference.

LibRaw interpolates the mosaic (AHD). What it does was tried out on DNG files of known content; four things follow:
- It interpolates far better with a white balance (linear PSNR 29.1 dB on a photograph of 500x334 pixels, 27.2 without), so it
  gets the camera's, which is divided out again. Its highlight mode "ignore" makes the largest multiplier 1, so that no
  channel is cut for it.
- It cuts values below the black level, which makes noise in the dark brighter. It is therefore given a black level that is
  lower by 1/64 of the range, which is subtracted afterwards: the mean of the noise stays right and values may be negative.
- Next to clipped samples interpolated values mean nothing. Where a clipped sample of a channel is among the 3x3 samples around
  an interpolated value, the value is 1, as if it were clipped itself.
- It scales floating-point DNG files by their brightest pixel; they are refused.
It does not apply the opcode lists of a DNG (lens shading of telephones).
"""

import contextlib
import dataclasses
import io
import math
import os
import pathlib

import cv2
import numpy as np
import scipy
import tifffile

from hdr_tf import __version__, quiet
from hdr_tf.io import exif, image_files, outputs

# IEC 61966-2-1: linear sRGB to CIE XYZ of D65.
SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)

_NOISE_PROFILE, _SAMPLE_FORMAT, _PHOTOMETRIC = 51041, 339, 262
_CFA, _LINEAR_RAW = 32803, 34892
_MARGIN = 64  # what is kept below the black level, as a divisor of the range
_STRIP = 64  # rows, so that temporary arrays stay in the cache

# Of `photon_transfer`: samples of one colour in a patch, each way; the quantile of a bin's patches; the share of the bins below
# the line; bins, at most; patches of a bin, at least.
_SIDE, _QUANTILE, _BELOW, _BINS, _PATCHES = 4, 0.05, 0.05, 100, 400


@dataclasses.dataclass(frozen=True)
class Noise:
    """The noise of a sensor's samples: a signal s, 1 at the clip, has the variance gain * s + read**2."""

    gain: float  # 1 / full well in electrons, at least 0
    read: float  # standard deviation in the dark, at least that of rounding to the sensor's levels


@dataclasses.dataclass(frozen=True)
class RawImage:
    """The content of a RAW file."""

    path: pathlib.Path
    linear: np.ndarray  # [H, W, 3] float32, camera RGB, upright; -1/64 to 1, which is clipped (one level for all channels)
    exposure: float | None  # see `image_files.LoadedImage`
    white_balance: np.ndarray  # [3] float64, the multipliers of the camera's setting, that of green is 1
    xyz_to_camera: np.ndarray  # [3, 3] float64, a DNG's ColorMatrix for D65, without white balance
    noise: Noise | None  # None if neither stated nor measurable
    exposure_time: float | None  # seconds
    f_number: float | None
    iso: float | None
    notes: tuple[str, ...] = ()  # what was missing and what was assumed, a line each
    metadata: exif.Metadata = exif.NO_METADATA
    orientation: int = 1  # EXIF's, that was applied

    @property
    def matrix(self) -> np.ndarray:
        """[3, 3], from white-balanced camera RGB to linear sRGB; its rows add up to 1, so that neutral stays neutral."""
        to_camera = self.xyz_to_camera @ SRGB_TO_XYZ
        return np.linalg.inv(to_camera / to_camera.sum(axis=1, keepdims=True))


def read_sensor(path: str | os.PathLike, max_pixels: int = image_files.MAX_PIXELS) -> RawImage:
    """Reads a RAW file without the camera's rendering: no white balance, no colour matrix, no curve, nothing cut.

    Noise comes from the file's NoiseProfile (DNG), otherwise from its mosaic, see `photon_transfer`. Limit and errors are those
    of `image_files.read_image`; a file without red, green and blue samples of integers raises ValueError.
    """
    path = pathlib.Path(path)
    notes = []
    with image_files.open_raw(path, max_pixels) as (raw, rawpy):
        noise, floating = _dng_tags(path)
        if floating:
            raise ValueError(f"{path}: expected a RAW file of integers, found floating point; convert it to OpenEXR to read it")
        if raw.num_colors != 3 or set(raw.color_desc) != set(b"RGB"):
            colours = raw.color_desc.decode(errors="replace")
            raise ValueError(f"{path}: expected a sensor with red, green and blue, found {raw.num_colors} colours ({colours})")
        black = np.array(raw.black_level_per_channel, np.int64)
        if raw.raw_pattern is None or 3 not in raw.raw_pattern:  # no second green
            black[3] = black[1]
        span = int((_white_levels(raw, black) - black).min())
        if span < 1:
            raise ValueError(f"{path}: expected a white level above the black level, found {raw.white_level} and {black.max()}")
        balance, balance_notes = _white_balance(raw)
        xyz_to_camera, matrix_notes = _xyz_to_camera(raw)
        notes += balance_notes + matrix_notes
        orientation = image_files.RAW_ORIENTATION.get(raw.sizes.flip, 1)
        mosaic = colours = None
        if raw.raw_type == rawpy.RawType.Flat:
            mosaic, colours = raw.raw_image_visible, raw.raw_colors_visible
            if noise is None and raw.raw_pattern is not None:
                noise = photon_transfer(mosaic, raw.raw_pattern, black, span)
        linear = _develop(raw, rawpy, black, span, balance)  # from here on LibRaw forgets orientation and second green
        if mosaic is not None and mosaic.shape == linear.shape[:2]:
            _mark_clipped(linear, mosaic >= (black + span).astype(mosaic.dtype)[colours], colours)
        elif mosaic is not None:
            notes.append("the pixels are not square: what lies next to clipped samples is not marked as clipped")
        linear = np.ascontiguousarray(image_files.upright(linear, orientation))
        settings = raw.other
    if noise is None:
        notes.append("the noise is neither stated nor measurable")
    values = (settings.shutter_speed, settings.aperture, settings.iso_speed)
    time, aperture, iso = (value if value > 0 and math.isfinite(value) else None for value in values)
    metadata = exif.read_raw(path)
    if not metadata.exif:
        notes.append("EXIF cannot be read: dropped")
    exposure = image_files.raw_exposure(settings)
    return RawImage(
        path, linear, exposure, balance, xyz_to_camera, noise, time, aperture, iso, tuple(notes), metadata, orientation
    )


def to_output(radiance: np.ndarray, white_balance: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Returns linear sRGB, [H, W, 3] float32, of camera RGB: white balance, then colour matrix.

    Nothing is cut: colours outside sRGB have negative values, and values above 1 stay.

    Args:
        radiance: [H, W, 3], linear camera RGB in any scale.
        white_balance, matrix: of the reference, see `RawImage`.
    """
    return cv2.transform(np.asarray(radiance, np.float32), np.asarray(matrix) * white_balance)


def neutral_highlights(radiance: np.ndarray, clipped: np.ndarray, white_balance: np.ndarray) -> np.ndarray:
    """Returns camera RGB whose clipped channels cannot tint highlights, [H, W, 3] float32.

    Every channel clips at the same value, which white balance then multiplies differently: green, multiplied least, would stay
    behind and white would become magenta. A clipped value is only a lower bound. It is therefore raised to the brightest
    channel of its pixel after white balance. A pixel with all channels clipped becomes neutral; one with red clipped that is
    red anyway stays as it is. Nothing is lowered, so a lamp does not become darker than its rim.

    Args:
        radiance: [H, W, 3], linear camera RGB in any scale.
        clipped: bool, [H, W, 3]: the channels that are clipped in every exposure; or [H, W]: pixels, with all their channels.
        white_balance: of the reference, [3], above 0.
    """
    clipped = np.broadcast_to(np.asarray(clipped, bool).reshape(*radiance.shape[:2], -1), radiance.shape)
    balance = np.float32(white_balance)
    result = np.array(radiance, np.float32)
    for top in range(0, len(result), _STRIP):
        strip, where = result[top : top + _STRIP], clipped[top : top + _STRIP]
        if where.any():
            balanced = strip * balance
            brightest = np.maximum(np.maximum(balanced[..., 0], balanced[..., 1]), balanced[..., 2])
            np.copyto(strip, brightest[..., None] / balance, where=where)
    return result


def write_linear_dng(
    path: str | os.PathLike,
    radiance: np.ndarray,
    white_balance: np.ndarray,
    xyz_to_camera: np.ndarray,
    metadata: exif.Metadata = exif.NO_METADATA,
    half: bool = False,
) -> None:
    """Writes merged camera RGB as a linear floating-point DNG 1.4, which RAW developers open like a photograph.

    The file holds values up to 1. Brighter radiance is divided by a power of 2, which the tag BaselineExposure states in stops,
    so that developers show 1 as white. The file is not compressed; it appears complete or not at all.

    Args:
        path: ends in .dng.
        radiance: [H, W, 3] float32, linear camera RGB, finite; 1 is white.
        white_balance, xyz_to_camera: of the reference, see `RawImage`.
        metadata: EXIF, which is fitted to the image; a colour profile is dropped, as the camera's primaries are not its own.
        half: writes 16-bit instead of 32-bit floating point.
    """
    path, radiance = pathlib.Path(path), np.asarray(radiance)
    if path.suffix.lower() != ".dng":
        raise ValueError(f"{path}: expected a name ending in .dng, found {path.suffix!r}")
    if radiance.ndim != 3 or radiance.shape[2] != 3 or radiance.size == 0 or radiance.dtype != np.float32:
        raise ValueError(f"{path}: expected [H, W, 3] of float32, found {list(radiance.shape)} of {radiance.dtype}")
    if not np.isfinite(radiance).all():
        raise ValueError(f"{path}: expected finite values, found others")
    white_balance, xyz_to_camera = (np.asarray(values, np.float64) for values in (white_balance, xyz_to_camera))
    if white_balance.shape != (3,) or not 0 < white_balance.min() <= white_balance.max() < math.inf:
        raise ValueError(f"{path}: expected 3 multipliers of white balance above 0, found {white_balance.tolist()}")
    if xyz_to_camera.shape != (3, 3) or not np.isfinite(xyz_to_camera).all():
        raise ValueError(f"{path}: expected a colour matrix of 3 x 3 numbers, found {xyz_to_camera.tolist()}")
    stops = max(math.ceil(math.log2(max(radiance.max(), 1))), 0)
    pixels = np.ldexp(radiance, -stops)
    pixels = image_files.to_half(path, pixels) if half else pixels
    tags = (
        ("Orientation", "H", 1, 1),
        ("DNGVersion", "B", 4, (1, 4, 0, 0)),
        ("DNGBackwardVersion", "B", 4, (1, 4, 0, 0)),
        ("UniqueCameraModel", "s", 0, "hdr_tf merged"),
        ("BlackLevel", "H", 3, (0, 0, 0)),
        ("WhiteLevel", "H", 3, (1, 1, 1)),
        ("ColorMatrix1", "2i", 9, _rational(xyz_to_camera.ravel())),
        ("CalibrationIlluminant1", "H", 1, 21),  # D65
        ("AsShotNeutral", "2I", 3, _rational(white_balance.min() / white_balance)),
        ("BaselineExposure", "2i", 1, (stops, 1)),
    )
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        pixels,
        photometric=_LINEAR_RAW,
        planarconfig="contig",
        subfiletype=0,
        software=f"hdr_tf {__version__}",
        extratags=[(tifffile.TIFF.TAGS[name], kind, count, value, True) for name, kind, count, value in tags],
        metadata=None,
    )
    with quiet.decoders():
        data = exif.into_tiff(stream.getvalue(), exif.fitted(metadata._replace(icc=None), radiance.shape))
    with outputs.atomic(path) as temporary:
        temporary.write_bytes(data)


def _rational(values):
    """Numerators and denominators, as TIFF stores them."""
    return [part for value in values for part in (round(value * 1_000_000), 1_000_000)]


def absolute_scale(f_number: float, exposure_time: float, iso: float) -> float:
    """Returns the luminance in cd/m² of a linear value of 1, where the sensor clips: 78 N**2 / (0.65 S t).

    ISO 12232 defines the saturation-based speed as S = 78 / H for the exposure H, in lux seconds, that just clips; 0.65 N**-2
    is the share of a scene's luminance that reaches the sensor through a typical lens. Real lenses, and cameras that state
    another kind of speed, differ: the result is good to ± 1 stop. ValueError if a value is not above 0.
    """
    if not all(math.isfinite(value) and value > 0 for value in (f_number, exposure_time, iso)):
        raise ValueError(
            f"absolute luminance needs f-number, exposure time and ISO above 0, found {f_number}, {exposure_time} and {iso}"
        )
    return 78 * f_number**2 / (0.65 * iso * exposure_time)


def photon_transfer(mosaic: np.ndarray, pattern: np.ndarray, black: np.ndarray, span: int) -> Noise | None:
    """Measures a sensor's noise in one image: the variance of small patches over their mean.

    Patches are 4x4 samples of one place of the pattern, hence of one colour, and not interpolated. What remains of a patch
    after a quadratic surface is subtracted is noise, or texture, which only adds to it. Of patches with similar means the 5 %
    quantile counts, divided by what it would be of Gaussian noise alone; a line is fitted that few of these values are below.

    Measured on synthetic mosaics of a ramp: gain and read noise 4 to 8 % too low. With noise added to JPEG files that were
    scaled down to 0.1 to 2.3 megapixels, whose every patch has texture and some noise of its own: read noise right where there
    is something dark, gain 1.5 times too high in the median, 4 times at worst.

    Args:
        mosaic: [H, W], the sensor's integers.
        pattern: [P, P], the index 0 to 3 of the colour at each place of the mosaic's period, from the upper left.
        black: [4], the black levels by colour index.
        span: levels from black to where the sensor clips.

    Returns:
        The noise, or None if there are too few patches that are neither clipped nor at 0.
    """
    means, variances = [], []
    for (row, column), colour in np.ndenumerate(pattern):
        plane = mosaic[row :: pattern.shape[0], column :: pattern.shape[1]]
        height, width = (size // _SIDE for size in plane.shape)
        patches = plane[: height * _SIDE, : width * _SIDE].reshape(height, _SIDE, width, _SIDE)
        patches = patches.swapaxes(1, 2).reshape(-1, _SIDE**2)
        limit = black[colour] + 0.9 * span
        patches = patches[(patches.max(axis=1, initial=0) < limit) & (patches.min(axis=1, initial=1) > 0)]
        patches = (patches - np.float32(black[colour])) / np.float32(span)
        means.append(patches.mean(axis=1))
        variances.append(np.square(patches @ _ROUGHNESS).mean(axis=1))
    means, variances = np.concatenate(means).astype(np.float64), np.concatenate(variances).astype(np.float64)
    if means.size < _PATCHES:
        return None
    bins = np.array_split(np.argsort(means), min(_BINS, means.size // _PATCHES))
    degrees = _ROUGHNESS.shape[1]
    expected = scipy.stats.chi2.ppf(_QUANTILE, degrees) / degrees
    rounding = 1 / (12 * span**2)
    centers = np.array([max(means[part].mean(), 0.0) for part in bins])
    gain, dark = 0.0, max(float(np.median(variances)), rounding)
    for _ in range(4):  # the model flattens the variances within a bin, then the bins correct the model
        modelled = np.maximum(gain * np.maximum(means, 0) + dark, rounding)
        ratios = [np.quantile(variances[part] / modelled[part], _QUANTILE) / expected for part in bins]
        gain, dark = _lower_line(centers, np.maximum((gain * centers + dark) * ratios, rounding))
        dark = max(dark, rounding)
    return Noise(float(gain), math.sqrt(dark))


def _lower_line(x, y):
    """Slope and offset, both at least 0, of a line: least squares of relative deviations, values above it with less weight."""
    weights, line = np.ones(len(x)), np.zeros(2)
    for _ in range(20):
        factors = np.stack([x, np.ones_like(x)], axis=1) / y[:, None]
        line, _ = scipy.optimize.nnls(factors * weights[:, None], weights)
        weights = np.sqrt(np.where(factors @ line < 1, _BELOW, 1 - _BELOW))
    return line.tolist()


def _roughness():
    """[16, 10]: an orthonormal basis of what is in a patch beyond a quadratic surface."""
    y, x = (axis.ravel() for axis in np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2)
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    return np.linalg.qr(surface, mode="complete")[0][:, surface.shape[1] :].astype(np.float32)


_ROUGHNESS = _roughness()


def _develop(raw, rawpy, black, span, balance):
    """Camera RGB, [H, W, 3] float32, at most 1, not yet upright; see the module's docstring."""
    lowest, margin, white = int(black.min()), int(min(black.min(), span // _MARGIN)), raw.white_level
    pixels = raw.postprocess(
        output_color=rawpy.ColorSpace.raw,
        output_bps=16,
        gamma=(1, 1),
        no_auto_bright=True,
        adjust_maximum_thr=0,
        user_wb=[*balance.tolist(), float(balance[1])],
        highlight_mode=rawpy.HighlightMode.Ignore,
        user_black=lowest - margin,
        user_cblack=(black - lowest).tolist(),
        user_flip=0,
    )
    levels = (white - lowest + margin) / 65535 * balance.max() / balance  # of the sensor, to one of LibRaw's
    scale, offset = np.float32(levels / span), np.float32(margin / span)
    linear = np.empty(pixels.shape, np.float32)
    for top in range(0, len(linear), _STRIP):
        rows = slice(top, top + _STRIP)
        values = pixels[rows] * scale - offset
        linear[rows] = np.where(values > 1 - 2 * scale, 1, values)  # LibRaw rounds the clip, too
    return linear


def _mark_clipped(linear, clipped, colours):
    """Sets to 1 what is clipped, in place; interpolated values also where a sample of their 3x3 neighbourhood is clipped."""
    if not clipped.any():
        return
    for channel in range(3):
        own = (colours == channel) | ((colours == 3) & (channel == 1))
        samples = clipped & own
        near = cv2.dilate(samples.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
        linear[..., channel][np.where(own, samples, near)] = 1


def _white_levels(raw, black):
    """[4] levels. Some cameras state the level at which each channel clips, which is lower than the largest of the format."""
    stated = raw.camera_white_level_per_channel
    white = np.full(4, raw.white_level, np.int64)
    if stated is not None:
        stated = np.array(stated, np.int64)
        white = np.where((stated > black) & (stated < white), stated, white)
    return white


def _white_balance(raw):
    """[3] multipliers, and notes."""
    for multipliers, notes in (
        (raw.camera_whitebalance, []),
        (raw.daylight_whitebalance, ["no white balance of the camera: daylight is assumed"]),
    ):
        multipliers = np.array(multipliers[:3], np.float64)
        if np.isfinite(multipliers).all() and multipliers.min() > 0:
            return multipliers / multipliers[1], notes
    return np.ones(3), ["no white balance: the sensor's own is kept"]


def _xyz_to_camera(raw):
    """[3, 3], and notes. The matrix in the file comes first, then LibRaw's own table of cameras."""
    from_file = np.asarray(raw.color_matrix, np.float64)[:3, :3]
    daylight = np.asarray(raw.daylight_whitebalance, np.float64)[:3]
    if abs(np.linalg.det(from_file)) > 1e-6 and daylight.min() > 0:
        # LibRaw has made it a matrix of white-balanced values to sRGB, and kept the white balance apart.
        return np.linalg.inv(from_file) / daylight[:, None] @ np.linalg.inv(SRGB_TO_XYZ), []
    table = np.asarray(raw.rgb_xyz_matrix, np.float64)[:3]
    if abs(np.linalg.det(table)) > 1e-6:
        return table, []
    return np.linalg.inv(SRGB_TO_XYZ), ["no colour matrix: the camera's primaries are taken for those of sRGB"]


def _dng_tags(path):
    """The NoiseProfile, None if there is none, and whether the sensor's values are floating point."""
    profile, floating = None, False
    with contextlib.suppress(Exception), tifffile.TiffFile(path) as file:  # CR3, RAF and others are no TIFF
        pages = [page for first in file.pages for page in (first, *(first.pages or ()))]
        for page in pages:
            values = np.array(page.tags.valueof(_NOISE_PROFILE, ()), np.float64)
            if values.size in (2, 6, 8) and np.isfinite(values).all() and values.min() >= 0 and values.max() > 0:
                # One pair for all planes, or one for each of them, which differ little: one noise, of their mean variance.
                profile = Noise(values[::2].mean().item(), math.sqrt(values[1::2].mean()))
            if page.tags.valueof(_PHOTOMETRIC) in (_CFA, _LINEAR_RAW):
                floating |= np.max(page.tags.valueof(_SAMPLE_FORMAT, 1)) == 3
    return profile, floating
