"""The splits and joins of `hdr_tf.image.color` as TensorFlow operations, for graphs that are exported (`hdr_tf.serving`).

A pair of functions for each system in `COLOR_OPS`. `split(rgb, eight_bit)` takes [H, W, 3] float32 RGB in 0..255, whole numbers
if `eight_bit`, and returns luminance and two chroma planes, [H, W] float32. `join(fused, chroma, eight_bit)` takes the fused
luminance, likewise, and one pair of chroma planes for each picture, and returns [H, W, 3] float32 RGB. `eight_bit` chooses the
arithmetic as the type of the picture does there. What each rule is and where it comes from is told there too.

The results are those of `hdr_tf.image.color`: of 8-bit pictures the same, of 16-bit ones within one level of 65535. OpenCV's
conversions are repeated with the constants and tables of its color_yuv and color_lab (4.x and 5.0.0): Lab of 8 bit in
whole numbers of 12 to 15 binary places, Lab of floats with the cubic splines that stand there for the cube root and for sRGB's
gamma and are off by up to 8 levels of 65535 near their ends.
"""

import functools

import numpy as np
import scipy.interpolate
import tensorflow as tf

from hdr_tf.image import color

_CR, _CB = 0.713, 0.564  # OpenCV's YCrCb
_FROM_CR, _FROM_CB = np.float32([1.403, -0.714, 0]), np.float32([0, -0.344, 1.773])

# OpenCV's Lab: XYZ of linear sRGB, over D65's white, and back.
_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_FROM_XYZ = np.array([[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]])
_WHITE = np.array([0.950456, 1, 1.088754])
_TO_XYZ, _FROM_XYZ = _TO_XYZ / _WHITE[:, None], _FROM_XYZ * _WHITE
_KNEE = 216 / 24389  # of Y, below which lightness is linear; (6 / 29)**3
_BASE = 1 << 14  # one, in the tables from Lab
_LOWEST = -8145  # index of the table of X and Z
_CUBE_ROOT_END, _SEGMENTS = 1.5, 1024  # of the splines


def luminance(rgb, eight_bit):
    """Returns Pillow's L, [H, W] float32."""
    if not eight_bit:
        return tf.cast(_linear([19595 / 65536, 38470 / 65536, 7471 / 65536], rgb, 0), tf.float32)
    red, green, blue = _integers(rgb)
    return tf.cast(_descale(19595 * red + 38470 * green + 7471 * blue, 16), tf.float32)


def _densefuse_gray_split(rgb, eight_bit):
    cb = _linear([-0.168736, -0.331264, 0.5], rgb, 128)
    cr = _linear([0.5, -0.418688, -0.081312], rgb, 128)
    return luminance(rgb, eight_bit), tf.cast(cb, tf.float32), tf.cast(cr, tf.float32)


def _densefuse_gray_join(fused, chroma, eight_bit):
    fused = tf.cast(fused, tf.float64)
    cb, cr = (plane - 128 for plane in _means(chroma))
    return _finish([fused + 1.402 * cr, fused - 0.344136 * cb - 0.714136 * cr, fused + 1.772 * cb], eight_bit)


def _deepfuse_official_split(rgb, eight_bit):
    planes = [_linear(row, rgb, offset) for row, offset in zip(color.STUDIO, (16, 128, 128), strict=True)]
    return tuple(tf.cast(_round(plane) if eight_bit else plane, tf.float32) for plane in planes)


def _deepfuse_official_join(fused, chroma, eight_bit):
    counts = tf.math.bincount(tf.cast(tf.reshape(_round(fused), [-1]), tf.int32), minlength=256)
    levels = tf.cumsum(counts) / tf.size(fused)
    low, high = (tf.argmax(tf.cast(reached, tf.int32)) for reached in (levels > 0.01, levels >= 0.99))
    flat = low == high
    low, high = (
        tf.cast(tf.where(flat, end, limit), tf.float64) / 255 for limit, end in ((low, np.int64(0)), (high, np.int64(255)))
    )
    stretched = (tf.clip_by_value(tf.cast(fused, tf.float64) / 255, low, high) - low) / (high - low)
    planes = [stretched * 235 + (1 - stretched) * 16]
    for channel in zip(*chroma, strict=True):
        channel = [tf.cast(plane, tf.float64) for plane in channel]
        weights = [tf.abs(plane - 128) for plane in channel]
        total = sum(weights)
        mean = sum(plane * weight / total for plane, weight in zip(channel, weights, strict=True))
        planes.append(tf.where(total == 0, np.float64(128), mean))
    ycbcr = tf.stack(planes, axis=-1)
    if eight_bit:
        ycbcr = _round(ycbcr)
    return _finish([_linear(row, ycbcr, -row @ [16, 128, 128]) for row in color.STUDIO_INVERSE], eight_bit)


def _deepfuse_sunnerli_split(rgb, eight_bit):
    if eight_bit:
        red, green, blue = _integers(rgb)
        y = _descale(4899 * red + 9617 * green + 1868 * blue, 14)
        chroma = (_descale((plane - y) * scale, 14) + 128 for plane, scale in ((red, 11682), (blue, 9241)))
        return tuple(tf.cast(tf.clip_by_value(plane, 0, 255), tf.float32) for plane in (y, *chroma))
    red, green, blue = tf.unstack(rgb / 255, axis=-1)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    # In image.color these planes count from 128 to 128.5 more, as OpenCV's own chroma of floats is around 0.5.
    return y * 255, ((red - y) * _CR + 0.5) * 255 + 0.5, ((blue - y) * _CB + 0.5) * 255 + 0.5


def _deepfuse_sunnerli_join(fused, chroma, eight_bit):
    means = []
    for channel in zip(*chroma, strict=True):
        channel = [tf.cast(plane, tf.float64) for plane in channel]
        weights = [tf.reduce_sum(tf.abs(plane - 127.5)) for plane in channel]
        mean = sum(plane * weight for plane, weight in zip(channel, weights, strict=True)) / sum(weights)
        means.append(tf.where(sum(weights) == 0, np.float64(128), mean))
    if eight_bit:
        y, cr, cb = (tf.cast(plane, tf.int32) for plane in (fused, *means))
        cr, cb = cr - 128, cb - 128
        blue, green, red = _descale(29049 * cb, 14), _descale(-5636 * cb - 11698 * cr, 14), _descale(22987 * cr, 14)
        return tf.cast(tf.clip_by_value(tf.stack([y + red, y + green, y + blue], axis=-1), 0, 255), tf.float32)
    cr, cb = ((tf.cast(mean, tf.float32) - 128)[..., None] / 255 for mean in means)
    return tf.clip_by_value((fused[..., None] / 255 + cr * _FROM_CR + cb * _FROM_CB) * 255, 0, 255)


def _hyperp_mb_split(rgb, eight_bit):
    if eight_bit:
        gamma, root = _lab_tables()[:2]
        linear = [tf.gather(gamma, plane) for plane in _integers(rgb)]
        matrix = np.rint(_TO_XYZ * (1 << 12)).astype(np.int32)
        x, y, z = (tf.gather(root, _descale(_weighted(row, linear), 12)) for row in matrix)
        one = 1 << 15
        lightness = _descale(296 * y - 16 * 255 * one // 100, 15)  # 296 is (116 * 255 + 50) // 100
        planes = (lightness, _descale(500 * (x - y), 15) + 128, _descale(200 * (y - z), 15) + 128)
        return tuple(tf.cast(tf.clip_by_value(plane, 0, 255), tf.float32) for plane in planes)
    rgb = rgb / 255
    linear = tf.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = [_weighted(row, tf.unstack(linear, axis=-1)) for row in np.float32(_TO_XYZ)]
    x, y, z = (_spline(_cube_root_spline(), value * (_SEGMENTS / _CUBE_ROOT_END)) for value in xyz)
    lightness = tf.where(xyz[1] > _KNEE, 116 * y - 16, xyz[1] * (24389 / 27))
    return lightness * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128


def _hyperp_mb_join(fused, chroma, eight_bit):
    planes = [fused, *_means(chroma)]
    if eight_bit:
        inverse_gamma, luminances, roots, cubes = _lab_tables()[2:]
        lightness, a, b = (tf.cast(plane, tf.int32) for plane in planes)
        root = tf.gather(roots, lightness)
        # OpenCV adds less than a half before it shifts: 1 << 7 of 13 places, 1 << 4 of 9.
        x = tf.gather(cubes, root + tf.bitwise.right_shift(268435 * a + (1 << 7), 13) - 128 * _BASE // 500 - _LOWEST)
        z = tf.gather(cubes, root - tf.bitwise.right_shift(41943 * b + (1 << 4), 9) + 128 * _BASE // 200 - 1 - _LOWEST)
        matrix = np.rint(_FROM_XYZ * (1 << 12)).astype(np.int32)
        linear = [_descale(_weighted(row, (x, tf.gather(luminances, lightness), z)), 14) for row in matrix]
        return tf.cast(tf.gather(inverse_gamma, tf.clip_by_value(tf.stack(linear, axis=-1), 0, 4095)), tf.float32)
    lightness, a, b = (tf.cast(plane, tf.float32) for plane in planes)
    lightness = lightness / 2.55
    dark = lightness <= 8
    y = tf.where(dark, lightness * (27 / 24389), ((lightness + 16) / 116) ** 3)
    root = tf.where(dark, y * (841 / 108) + 16 / 116, (lightness + 16) / 116)
    roots = (root + (a - 128) / 500, root - (b - 128) / 200)
    x, z = (tf.where(r <= 6 / 29, (r - 16 / 116) * (108 / 841), r**3) for r in roots)
    linear = (_weighted(row, (x, y, z)) for row in np.float32(_FROM_XYZ))
    spline = _inverse_gamma_spline()
    encoded = [_spline(spline, tf.clip_by_value(plane, 0, 1) * _SEGMENTS) for plane in linear]
    return tf.clip_by_value(tf.stack(encoded, axis=-1) * 255, 0, 255)


COLOR_OPS = {
    "deepfuse_official": (_deepfuse_official_split, _deepfuse_official_join),
    "deepfuse_sunnerli": (_deepfuse_sunnerli_split, _deepfuse_sunnerli_join),
    "densefuse_gray": (_densefuse_gray_split, _densefuse_gray_join),
    "hyperp_mb": (_hyperp_mb_split, _hyperp_mb_join),
}


@functools.cache
def _lab_tables():
    """OpenCV's tables of 8-bit Lab, int32: linear light of 256 levels; cube root of XYZ; the level of linear light; Y and its
    root of 256 levels of lightness; X or Z of their roots."""
    gamma = 2040 * _linear_light(np.arange(256) / 255)
    root = (1 << 15) * _cube_root(np.arange(3072, dtype=np.float32) / np.float32(2040))  # float32 decides two halves
    inverse_gamma = 255 * _gamma_coded(np.arange(4096) / 4096)
    lightness = np.arange(256) / 2.55
    dark = lightness <= 8
    luminances = np.where(dark, lightness * 27 / 24389, ((lightness + 16) / 116) ** 3)
    roots = np.where(dark, luminances * 841 / 108 + 16 / 116, (lightness + 16) / 116)
    at = np.arange(_LOWEST, _BASE * 9 // 4 + _LOWEST)
    truncated = np.sign(at) * (np.abs(at) * 108 // 841)  # as C divides
    cubes = np.where(at <= 3390, truncated - _BASE * 16 // 116 * 108 // 841, at * at // _BASE * at // _BASE)
    tables = (gamma, root, inverse_gamma, _BASE * luminances, _BASE * roots, cubes)
    return tuple(np.rint(table).astype(np.int32) for table in tables)


@functools.cache
def _cube_root_spline():
    return _coefficients(_cube_root(np.linspace(0, _CUBE_ROOT_END, _SEGMENTS + 1)))


@functools.cache
def _inverse_gamma_spline():
    return _coefficients(_gamma_coded(np.linspace(0, 1, _SEGMENTS + 1)))


def _coefficients(values):
    """[1024, 4] float32: of the cubic in each segment, highest power first."""
    return scipy.interpolate.CubicSpline(np.arange(len(values)), values, bc_type="natural").c.T.astype(np.float32)


def _spline(coefficients, at):
    segment = tf.clip_by_value(tf.cast(at, tf.int32), 0, _SEGMENTS - 1)
    at = at - tf.cast(segment, tf.float32)
    third, second, first, value = tf.unstack(tf.gather(coefficients, segment), axis=-1)
    return ((third * at + second) * at + first) * at + value


def _cube_root(values):
    return np.where(values < _KNEE, values * (841 / 108) + 16 / 116, np.cbrt(values))


def _linear_light(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _gamma_coded(values):
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def _linear(coefficients, image, offset):
    """The weighted sum of three channels, in float64."""
    return _weighted(np.float64(coefficients), [tf.cast(x, tf.float64) for x in tf.unstack(image, axis=-1)]) + offset


def _weighted(weights, planes):
    first, second, third = (weight * plane for weight, plane in zip(weights, planes, strict=True))
    return first + second + third


def _means(chroma):
    return [sum(tf.cast(plane, tf.float64) for plane in channel) / len(channel) for channel in zip(*chroma, strict=True)]


def _integers(rgb):
    return tuple(tf.unstack(tf.cast(rgb, tf.int32), axis=-1))


def _descale(values, places):
    """Divides whole numbers by 2**places, halves up."""
    return tf.bitwise.right_shift(values + (1 << places - 1), places)


def _round(values):
    """MATLAB's conversion to uint8: halves up, saturated."""
    return tf.clip_by_value(tf.floor(values + 0.5), 0, 255)


def _finish(planes, eight_bit):
    rgb = tf.stack(planes, axis=-1)
    return tf.cast(_round(rgb) if eight_bit else tf.clip_by_value(rgb, 0, 255), tf.float32)
