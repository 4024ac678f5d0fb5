"""TensorFlow functions for the rules of `hdr_tf.image.color`, for exported graphs (see `hdr_tf.serving`).

A split or join of that module takes and returns tensors if it receives `TensorFlowOps`: `hyperp_mb_split(rgb, TensorFlowOps)`.

Results equal those of NumPy: exactly for 8-bit images, and within one level of 65535 for 16-bit ones. OpenCV's conversions are
repeated with the constants and tables of its color_yuv and color_lab (4.x and 5.0.0): 8-bit Lab in integers with 12 to 15
fractional bits, float Lab with the cubic splines that OpenCV uses for the cube root and for sRGB's gamma, which are off by up
to 8 levels of 65535 near their ends.
"""

import functools

import numpy as np
import scipy.interpolate
import tensorflow as tf

from hdr_tf.image import color

# OpenCV's YCrCb: the weights of Cr and of Cb in R, G and B.
_RGB_FROM_CR, _RGB_FROM_CB = np.float32([1.403, -0.714, 0]), np.float32([0, -0.344, 1.773])

# OpenCV's Lab: XYZ of linear sRGB, divided by D65's white, and back.
_D65_WHITE = np.array([0.950456, 1, 1.088754])
_RGB_TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_XYZ_TO_RGB = np.array([[3.240479, -1.53715, -0.498535], [-0.969256, 1.875991, 0.041556], [0.055648, -0.204043, 1.057311]])
_RGB_TO_XYZ, _XYZ_TO_RGB = _RGB_TO_XYZ / _D65_WHITE[:, None], _XYZ_TO_RGB * _D65_WHITE
_LINEAR_LAB_END = 216 / 24389  # of Y, below which lightness is linear; (6 / 29)**3
_LAB_UNIT = 1 << 14  # represents 1 in the tables from Lab
_FIRST_ROOT = -8145  # the root at index 0 of the table of X and Z
_SPLINE_SEGMENTS = 1024

_stack = functools.partial(tf.stack, axis=-1)


class TensorFlowOps:
    """`color.NumpyOps` for tensors."""

    abs, cast, clip, cumsum, floor, sum = tf.abs, tf.cast, tf.clip_by_value, tf.cumsum, tf.floor, tf.reduce_sum
    stack, where = _stack, tf.where
    histogram = staticmethod(lambda levels: tf.math.bincount(tf.cast(levels, tf.int32), minlength=256))

    @staticmethod
    def rgb_to_ycrcb(rgb):
        if rgb.dtype == tf.uint8:
            red, green, blue = _integers(rgb)
            y = _descale(4899 * red + 9617 * green + 1868 * blue, 14)
            return _saturate([y, _descale((red - y) * 11682, 14) + 128, _descale((blue - y) * 9241, 14) + 128])
        red, green, blue = tf.unstack(rgb / 255, axis=-1)
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        # OpenCV's neutral chroma is 0.5, which is 127.5 of 255; here it is 128.
        return _stack([y * 255, ((red - y) * 0.713 + 0.5) * 255 + 0.5, ((blue - y) * 0.564 + 0.5) * 255 + 0.5])

    @staticmethod
    def ycrcb_to_rgb(planes):
        if planes.dtype == tf.uint8:
            y, cr, cb = _integers(planes)
            cr, cb = cr - 128, cb - 128
            blue, green, red = _descale(29049 * cb, 14), _descale(-5636 * cb - 11698 * cr, 14), _descale(22987 * cr, 14)
            return _saturate([y + red, y + green, y + blue])
        cr, cb = ((planes[..., i, None] - 128) / 255 for i in (1, 2))
        return (planes[..., :1] / 255 + cr * _RGB_FROM_CR + cb * _RGB_FROM_CB) * 255

    @staticmethod
    def rgb_to_lab(rgb):
        if rgb.dtype == tf.uint8:
            light, root = _lab_tables()[:2]
            matrix = np.rint(_RGB_TO_XYZ * (1 << 12)).astype(np.int32)
            xyz = _transform(matrix, [tf.gather(light, plane) for plane in _integers(rgb)])
            x, y, z = (tf.gather(root, _descale(plane, 12)) for plane in xyz)
            one = 1 << 15
            lightness = _descale(296 * y - 16 * 255 * one // 100, 15)  # 296 is (116 * 255 + 50) // 100
            return _saturate([lightness, _descale(500 * (x - y), 15) + 128, _descale(200 * (y - z), 15) + 128])
        xyz = _transform(np.float32(_RGB_TO_XYZ), tf.unstack(color.linear_light(rgb / 255, tf.where), axis=-1))
        x, y, z = (_interpolate(_cube_root, 1.5, plane) for plane in xyz)
        lightness = tf.where(xyz[1] > _LINEAR_LAB_END, 116 * y - 16, xyz[1] * (24389 / 27))
        return _stack([lightness * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128])

    @staticmethod
    def lab_to_rgb(planes):
        if planes.dtype == tf.uint8:
            gamma, luminances, roots, cubes = _lab_tables()[2:]
            lightness, a, b = _integers(planes)
            root = tf.gather(roots, lightness)
            # Before it shifts, OpenCV adds less than one half: 1 << 7 for 13 places, 1 << 4 for 9.
            x = root + tf.bitwise.right_shift(268435 * a + (1 << 7), 13) - 128 * _LAB_UNIT // 500
            z = root - tf.bitwise.right_shift(41943 * b + (1 << 4), 9) + 128 * _LAB_UNIT // 200 - 1
            xyz = tf.gather(cubes, x - _FIRST_ROOT), tf.gather(luminances, lightness), tf.gather(cubes, z - _FIRST_ROOT)
            linear = _descale(_stack(_transform(np.rint(_XYZ_TO_RGB * (1 << 12)).astype(np.int32), xyz)), 14)
            return tf.cast(tf.gather(gamma, tf.clip_by_value(linear, 0, 4095)), tf.uint8)
        lightness, a, b = tf.unstack(planes, axis=-1)
        y, root = _luminance_and_root(lightness / 2.55, tf.where)
        roots = root + (a - 128) / 500, root - (b - 128) / 200
        x, z = (tf.where(r <= 6 / 29, (r - 16 / 116) * (108 / 841), r**3) for r in roots)
        linear = _stack(_transform(np.float32(_XYZ_TO_RGB), (x, y, z)))
        return _interpolate(_gamma_encode, 1, tf.clip_by_value(linear, 0, 1)) * 255


@functools.cache
def _lab_tables():
    """OpenCV's int32 tables for 8-bit Lab: linear light for 256 levels; cube root for XYZ; level for linear light; Y and its
    root for 256 levels of lightness; X or Z for its root."""
    light = 2040 * color.linear_light(np.arange(256) / 255)
    # Rounding to float32 decides ties; the last bit of NumPy's own float32 cube root depends on the machine.
    root = (1 << 15) * _cube_root(np.arange(3072) / 2040).astype(np.float32)
    gamma = 255 * _gamma_encode(np.arange(4096) / 4096)
    luminances, roots = _luminance_and_root(np.arange(256) / 2.55)
    at = np.arange(_FIRST_ROOT, _LAB_UNIT * 9 // 4 + _FIRST_ROOT)
    truncated = np.sign(at) * (np.abs(at) * 108 // 841)  # division as in C
    cubes = np.where(at <= 3390, truncated - _LAB_UNIT * 16 // 116 * 108 // 841, at * at // _LAB_UNIT * at // _LAB_UNIT)
    tables = (light, root, gamma, _LAB_UNIT * luminances, _LAB_UNIT * roots, cubes)
    return tuple(np.rint(table).astype(np.int32) for table in tables)


def _luminance_and_root(lightness, where=np.where):
    """Y for a lightness in 0..100, and its cube root, which continues as a line towards black."""
    root = (lightness + 16) / 116
    y = where(lightness <= 8, lightness * (27 / 24389), root**3)
    return y, where(lightness <= 8, y * (841 / 108) + 16 / 116, root)


def _cube_root(values):
    return np.where(values < _LINEAR_LAB_END, values * (841 / 108) + 16 / 116, np.cbrt(values))


def _gamma_encode(values):
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


@functools.cache
def _spline(function, end):
    """[1024, 4] float32: coefficients of the cubic in each segment of 0..end, highest power first."""
    values = function(np.linspace(0, end, _SPLINE_SEGMENTS + 1))
    return scipy.interpolate.CubicSpline(np.arange(len(values)), values, bc_type="natural").c.T.astype(np.float32)


def _interpolate(function, end, values):
    at = values * (_SPLINE_SEGMENTS / end)
    segment = tf.clip_by_value(tf.cast(at, tf.int32), 0, _SPLINE_SEGMENTS - 1)
    at = at - tf.cast(segment, tf.float32)
    third, second, first, value = tf.unstack(tf.gather(_spline(function, end), segment), axis=-1)
    return ((third * at + second) * at + first) * at + value


def _transform(matrix, planes):
    return [row[0] * planes[0] + row[1] * planes[1] + row[2] * planes[2] for row in matrix]


def _integers(image):
    return tf.unstack(tf.cast(image, tf.int32), axis=-1)


def _descale(values, places):
    """Divides integers by 2**places, rounding half up."""
    return tf.bitwise.right_shift(values + (1 << places - 1), places)


def _saturate(planes):
    return tf.cast(tf.clip_by_value(_stack(planes), 0, 255), tf.uint8)
