"""From the bytes of picture files to those of the fused one in one TensorFlow graph: signature `encoded` of `hdr_tf.serving`.

What `hdr_tf.fusing` does with read and sorted pictures, operation by operation: decoded as `files.read_picture` decodes them
(8-bit JPEG and PNG, 16-bit PNG, alpha dropped; JPEG by libjpeg's accurate integer transform, as TensorFlow's default is up to
8 levels off), met as `fusing.SYSTEMS` says, with the colour rules of `hdr_tf.color_ops`, fused whole and not in tiles. Their
depth is read from the header, as TensorFlow would scale 8 bit of a PNG by 257, of a JPEG by 256.

Not in the graph: EXIF. Orientation is not applied, the order is that of the inputs, and of two pictures a gray and a colour one
are always infrared and visible.

What a request can get wrong fails an assertion that begins with the name of the input, before a pixel is decoded; of damaged
pixels the decoder tells, at a node of that name.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from hdr_tf import color_ops, fusing, losses
from hdr_tf.image.depth import GRAY_TOLERANCE

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_HEADER = 33  # bytes, to the end of IHDR
_COMPRESSION = 1  # the default of 6 takes seven times as long, longer than fusing does, for files a sixth smaller


def checked(pictures: dict) -> dict:
    """Returns named pictures [B, H, W, C] float32 behind assertions that they are finite, of one size and large enough."""
    first = next(iter(pictures.values()))
    expected = tf.concat([tf.shape(first)[:3], first.shape[3:]], axis=0)
    behind = {}
    for name, picture in pictures.items():
        found = tf.shape(picture)
        # A server feeds what comes: the number of axes that the graph was traced with may not hold, and whatever counts on it
        # breaks. Texts do not.
        same = tf.strings.format("{}", found) == tf.strings.format("{}", expected)
        same = _require(same, f"{name}: expected pictures of the shape", expected, "found", found)
        with tf.control_dependencies([same, _require_side(name, found[1:3])]):
            behind[name] = tf.debugging.check_numerics(picture, f"{name}: expected finite values")
    return behind


def checked_exposures(exposures: tf.Tensor) -> tf.Tensor:
    """Returns exposures [..., 3] float32 behind an assertion that they are finite, above 0 and increasing."""
    above = tf.concat([tf.zeros_like(exposures[..., :1]), exposures[..., :-1]], axis=-1)
    right = tf.reduce_all(tf.math.is_finite(exposures) & (exposures > above))
    with tf.control_dependencies([_require(right, "exposures: expected them above 0 and increasing, found", exposures)]):
        return tf.identity(exposures)


def fusion(model: str, networks: dict[int, keras.Model], max_pixels: int) -> Callable[[dict], dict]:
    """Returns what a model of `fusing` does with files.

    Args:
        model: a name in `fusing.SYSTEMS`.
        networks: each behind the shorter side of a picture, in pixels, from which on it is the one; the first from 0.
        max_pixels: of a picture.

    Returns:
        A function from {"exposure_1", ...: [B] strings, dark to bright} to {"fused_bytes": [B] PNG files}.
    """
    system = fusing.SYSTEMS[model]
    names = next(iter(networks.values())).input  # `input` keeps the order, dark to bright; `inputs` is sorted by name

    def run(pictures):
        inputs = dict(zip(names, (system.encode(picture[None]) for picture in pictures), strict=True))
        branches = [functools.partial(_function(network), inputs, training=False) for network in networks.values()]
        side = tf.reduce_min(tf.shape(pictures[0])[:2])
        index = tf.reduce_sum(tf.cast(side >= list(networks), tf.int32)) - 1
        return system.decode(tf.switch_case(index, branches)["fused"])[0]

    signature = [tf.TensorSpec([None, None, x.shape[-1]]) for x in names.values()]
    # Traced here, or each of the up to six places that call it would trace it again.
    run = _function(run, [signature]).get_concrete_function()

    def fuse(row):
        headers = _headers(row, max_pixels)

        def fuse_at(eight_bit):
            pictures = [_decode(contents, *headers[name], eight_bit, name) for name, contents in row.items()]
            return tf.io.encode_png(_fuse(pictures, model, run, eight_bit), _COMPRESSION)

        deep = tf.reduce_any([sixteen_bit for _, sixteen_bit in headers.values()])
        return tf.cond(deep, lambda: fuse_at(eight_bit=False), lambda: fuse_at(eight_bit=True))

    return lambda inputs: {"fused_bytes": _map(fuse, inputs, tf.string)}


def _function(function, signature=None):
    """Compiles a function that is not inlined where it is called: what is, a server optimises before its first answer, networks
    for other sizes six times each."""
    return tf.function(function, signature, autograph=False, experimental_attributes={"_noinline": True})


def reconstruction(system, max_pixels: int) -> Callable[[dict], dict]:
    """Returns what a model of radiance does with files.

    Args:
        system: what `hdr_tf.reconstruction.load` returns.
        max_pixels: of a picture.

    Returns:
        A function from {"ldr_low", "ldr_mid", "ldr_high": [B] strings, "exposures": [B, 3] float32} to {"hdr_bytes": [B]
        serialised tensors [H, W, 3] float32, v**2.2 / exposure of an encoded value v, "preview_bytes": [B] PNG files}.
    """

    def reconstruct(row):
        exposures = checked_exposures(row.pop("exposures"))
        inputs = {}
        for name, (png, sixteen_bit) in _headers(row, max_pixels).items():
            picture = _decode(row[name], png, sixteen_bit, False, name)
            inputs[name] = tf.cast(picture, tf.float32)[None] / 65535
        relative = exposures / exposures[0]  # of the shortest 1, as the networks know it
        radiance = system.reconstruct_batch(inputs | {"exposures": relative[None]})["hdr"][0]
        preview = tf.round(255 * losses.mu_law(radiance))
        return tf.io.serialize_tensor(radiance / exposures[0]), tf.io.encode_png(tf.cast(preview, tf.uint8), _COMPRESSION)

    def reconstruct_batch(inputs):
        radiance, preview = _map(reconstruct, inputs, (tf.string, tf.string))
        return {"hdr_bytes": radiance, "preview_bytes": preview}

    return reconstruct_batch


def _map(function, inputs, dtypes):
    """Runs a function of one row of the batch on all, one after the other: each may need much memory."""
    rows = [tf.shape(x)[0] for x in inputs.values()]
    same = _require(tf.reduce_all(tf.stack(rows) == rows[0]), f"{', '.join(inputs)}: expected one batch size, found", *rows)
    with tf.control_dependencies([same]):
        inputs = {name: tf.identity(x) for name, x in inputs.items()}
    return tf.map_fn(function, inputs, fn_output_signature=dtypes, parallel_iterations=1)


def _headers(row, max_pixels):
    """{name: (is it a PNG, has it 16 bit)} of files, which are replaced in `row` by themselves behind assertions."""
    headers, checks, first = {}, [], None
    for name, contents in row.items():
        length, begins = tf.strings.length(contents), tf.strings.substr(contents, 0, 8)
        png = (begins == _PNG) & (length >= _PNG_HEADER)
        jpeg = tf.strings.substr(contents, 0, 3) == _JPEG
        known = _require(png | jpeg, f"{name}: expected a JPEG or PNG file, found other bytes:", length)
        with tf.control_dependencies([known]):
            contents = tf.identity(contents)
        height, width, depth, channels = tf.unstack(
            tf.cond(png, functools.partial(_png_header, contents), functools.partial(_jpeg_header, contents, name))
        )
        size = tf.stack([height, width])
        first = size if first is None else first
        checks += [
            _require(channels <= 3, f"{name}: expected gray or RGB, found channels:", channels),
            _require(
                (height > 0) & (width > 0) & (tf.cast(height, tf.float32) * tf.cast(width, tf.float32) <= max_pixels),
                f"{name}: expected 1 to {max_pixels} pixels, its header says (height, width)",
                size,
            ),
            _require_side(name, size),
            _require(
                tf.reduce_all(size == first), f"{name}: expected pictures of one size, found (height, width)", size, first
            ),
        ]
        headers[name] = png, depth == 16
        row[name] = contents
    with tf.control_dependencies(checks):
        row |= {name: tf.identity(contents) for name, contents in row.items()}
    return headers


def _png_header(contents):
    """[height, width, bits, 3] int32."""
    width, height = tf.unstack(tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False), num=2)
    bits = tf.io.decode_raw(tf.strings.substr(contents, 24, 1), tf.uint8)[0]
    return tf.stack([height, width, tf.cast(bits, tf.int32), 3])  # alpha is dropped


def _jpeg_header(contents, name):
    """[height, width, 8, channels] int32."""
    height, width, channels = tf.unstack(tf.image.extract_jpeg_shape(contents, name=name))
    return tf.stack([height, width, 8, channels])


def _decode(contents, png, sixteen_bit, eight_bit, name):
    """Returns a picture [H, W, 3], uint8 or, if not `eight_bit`, uint16, where 255 becomes 65535."""

    def narrow():
        decode_png = functools.partial(tf.io.decode_png, contents, channels=3, name=name)
        decode_jpeg = functools.partial(tf.io.decode_jpeg, contents, channels=3, dct_method="INTEGER_ACCURATE", name=name)
        return tf.cond(png, decode_png, decode_jpeg)

    if eight_bit:
        return narrow()
    return tf.cond(
        sixteen_bit,
        functools.partial(tf.io.decode_png, contents, channels=3, dtype=tf.uint16, name=name),
        lambda: tf.cast(tf.cast(narrow(), tf.int32) * 257, tf.uint16),
    )


def _fuse(pictures, model, run, eight_bit):
    """`fusing._fuse`: pictures [H, W, 3], dark to bright, to the fused one, [H, W, 3] or [H, W, 1], in their type."""
    system = fusing.SYSTEMS[model]
    gray = [_is_gray(picture, GRAY_TOLERANCE * (1 if eight_bit else 257)) for picture in pictures]
    rgb = [tf.cast(picture, tf.float32) / (1 if eight_bit else 257) for picture in pictures]
    gray_and_colour = gray[0] != gray[1] if len(gray) == 2 else False

    def fuse_planes(planes):
        fused = system.in_range(run(planes), eight_bit)
        return tf.floor(fused) if eight_bit else fused

    def fuse_luminance(planes):
        if system.split is not None:
            return fuse_planes([plane[..., None] for plane in planes])[..., 0]
        return color_ops.luminance(fuse_planes([tf.stack([plane] * 3, axis=-1) for plane in planes]), eight_bit)

    def fuse_gray():
        return fuse_luminance([color_ops.luminance(x, eight_bit) for x in rgb])[..., None]

    def fuse_split():
        split, join = color_ops.COLOR_OPS.get(model, color_ops.COLOR_OPS["densefuse_gray"])
        luminances, *chroma = zip(*(split(x, eight_bit) for x in rgb), strict=True)
        chroma = list(zip(*chroma, strict=True))
        if len(chroma) == 2:  # the mean of twice the colour picture's chroma is that chroma
            first, second = chroma
            chroma = [tf.where(gray[0], second, first), tf.where(gray[1], first, second)]
            chroma = [tf.unstack(pair) for pair in chroma]
        return join(fuse_luminance(luminances), chroma, eight_bit)

    def fuse_colour():
        if system.split is not None:
            return fuse_split()
        if len(gray) > 2 or not system.keeps_colour:
            return fuse_planes(rgb)
        return tf.cond(gray_and_colour, fuse_split, lambda: fuse_planes(rgb))

    fused = tf.cond(tf.reduce_all(gray), fuse_gray, fuse_colour)
    if eight_bit:
        return tf.cast(fused, tf.uint8)
    return tf.cast(tf.round(tf.clip_by_value(fused, 0, 255) * 257), tf.uint16)


def _is_gray(picture, tolerance):
    red, green, blue = tf.unstack(tf.cast(picture, tf.int32), axis=-1)
    return tf.reduce_all([tf.reduce_max(tf.abs(a - b)) <= tolerance for a, b in ((red, green), (green, blue), (blue, red))])


def _require_side(name, size):
    side = fusing.MIN_SIDE
    return _require(
        tf.reduce_all(size >= side), f"{name}: expected at least {side} x {side} pixels, found (height, width)", size
    )


def _require(condition, message, *found):
    return tf.debugging.Assert(condition, [message, *found])
