"""The signature `encoded`: from the bytes of image files to the bytes of the fused one, in one TensorFlow graph.

It does what `hdr_tf.fusion.pipeline` does with images that are read and sorted, but as a whole, not in tiles. Files are decoded
as `image_files.read_image` decodes them (8-bit JPEG and PNG, 16-bit PNG, alpha dropped; JPEG by libjpeg's accurate integer
transform, because TensorFlow's default is up to 8 levels off). Their depth is read from the header, because TensorFlow would
scale 8 bit by 257 for PNG and by 256 for JPEG. EXIF is not read: orientation is not applied, the order is that of the inputs,
and a gray and a colour image are always taken for infrared and visible.

A wrong request fails an assertion that begins with the name of the input, before any pixel is decoded. Damaged pixels are
reported by the decoder, at a node of that name.
"""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from hdr_tf import losses, systems
from hdr_tf.fusion import compiled
from hdr_tf.image import color, optical_flow
from hdr_tf.image.depth import GRAY_TOLERANCE
from hdr_tf.serving import color_ops
from hdr_tf.serving.signatures import EXPOSURES, FUSED, HDR, IMAGES, INSIDE, NOISE, PREVIEW, REFERENCE, SOURCE

# A PNG has its only header in the first chunk, or decoders differ in which one they use.
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff"
_PNG_HEADER = 33  # bytes, to the end of IHDR
_MAX_SCANS = 100  # of a JPEG, each of which may cost as much as decoding the whole image
MAX_ROWS = 64  # of a batch of files: the same small file many times would take hours
_SHOWN = 9  # numbers that a message lists
_COMPRESSION = 1  # the default of 6 takes seven times as long, longer than fusing does, for files a sixth smaller


def of_shape(inputs: dict, row: Sequence[int]) -> dict:
    """Returns named tensors [B, *row] after assertions that they have that shape: they may arrive with other axes than the
    graph was traced with."""
    checks = []
    for name, x in inputs.items():
        found = tf.shape(x)
        expected = tf.concat([found[:1], tf.constant(row, tf.int32)], axis=0)
        same = (tf.size(found) > 0) & (_text(found) == _text(expected))
        checks.append(_require(same, f"{name}: expected the shape", expected, "found", found))
    return _after(checks, inputs)


def limited(inputs: dict, most: int, count: int = 1) -> dict:
    """Returns named tensors [..., C] after assertions that each has at most `most` * `count` pixels in all, all images of a
    request taken together: a tensor of a few bytes may have any shape, with one value everywhere."""
    checks = []
    for name, x in inputs.items():
        pixels = tf.reduce_prod(tf.cast(tf.shape(x)[:-1], tf.float64))  # as an integer, the product may overflow
        checks.append(_require(pixels <= most * count, f"{name}: expected 1 to {most} pixels, found the shape", tf.shape(x)))
    return _after(checks, inputs)


def checked(images: dict, max_pixels: int) -> dict:
    """Returns named images [B, H, W, C] float32 after assertions that they are finite, of one size, large enough and of no more
    than `max_pixels` pixels, the batch taken together."""
    images = limited(images, max_pixels)
    first = next(iter(images.values()))
    expected = tf.concat([tf.shape(first)[:3], first.shape[3:]], axis=0)
    asserted = {}
    for name, image in images.items():
        found = tf.shape(image)
        # An image may arrive with more axes than the graph was traced with, which breaks a comparison of tensors, not of texts.
        same = _require(_text(found) == _text(expected), f"{name}: expected images of the shape", expected, "found", found)
        with tf.control_dependencies([same, _require_side(name, found[1:3])]):
            asserted[name] = tf.debugging.check_numerics(image, f"{name}: expected finite values")
    return asserted


def checked_exposures(exposures: tf.Tensor) -> tf.Tensor:
    """Returns exposures [..., 3] float32 after an assertion that they are finite, above 0 and increasing."""
    above = tf.concat([tf.zeros_like(exposures[..., :1]), exposures[..., :-1]], axis=-1)
    right = tf.reduce_all(tf.math.is_finite(exposures) & (exposures > above))
    with tf.control_dependencies([_require(right, "exposures: expected them above 0 and increasing, found", exposures)]):
        return tf.identity(exposures)


def checked_bracket(inputs: dict, counts: tuple[int, int], max_pixels: int) -> dict:
    """Returns the inputs of `merge` (see `endpoints.merge`; the images are tensors [B, N, H, W, 3], or files, [B, N] strings)
    after assertions that their shapes and values go together. N is within `counts`; of tensors, the N exposures have at most
    `max_pixels` pixels each, the batch taken together."""
    images, found = inputs[IMAGES], {name: tf.shape(x) for name, x in inputs.items()}
    size, files = found[IMAGES], images.dtype == tf.string
    # An input may arrive with other axes than the graph was traced with, so the shapes that are expected have a known length.
    if files:
        expected = {IMAGES: [[size[:1], tf.size(images)[None] // tf.maximum(size[:1], 1)]]}
    else:
        expected = {IMAGES: [[size[:4], [3]]], INSIDE: [[size[:4], [1]], [size[:2], [1, 1, 1]]]}
    expected |= {EXPOSURES: [[size[:2]]], REFERENCE: [[size[:1]]], NOISE: [[size[:1], [4]]]}
    checks = []
    for name, choices in expected.items():
        shapes = [tf.concat(parts, axis=0) for parts in choices]
        same = tf.reduce_any([_text(found[name]) == _text(shape) for shape in shapes])
        with tf.control_dependencies(checks):  # those of the images, to begin with
            checks.append(_require(same, f"{name}: expected the shape", shapes[0], "found", found[name]))
    if not files:
        checks.append(_require_side(IMAGES, size[2:4]))
        with tf.control_dependencies(checks):
            pixels = tf.reduce_prod(tf.cast(tf.gather(size, [0, 2, 3]), tf.float64))
        checks.append(_require(pixels <= max_pixels, f"{IMAGES}: expected 1 to {max_pixels} pixels, found the shape", size))
    inputs = _after(checks, inputs)
    least, most = counts
    enough = tf.reduce_all((size[1:2] >= least) & (size[1:2] <= most))
    exposures, reference, noise = (inputs[name] for name in (EXPOSURES, REFERENCE, NOISE))
    lit, chosen, known = exposures > 0, (reference >= 0) & (reference < size[1:2]), noise >= 0
    lit, known = (x & tf.math.is_finite(values) for x, values in ((lit, exposures), (known, noise)))
    checks = [
        _require(enough, f"images: expected {least} to {most} exposures, found the shape", size),
        _require(tf.reduce_all(lit), "exposures: expected them above 0, found", exposures),
        _require(tf.reduce_all(chosen), "reference: expected the index of an exposure, from 0, found", reference),
        _require(tf.reduce_all(known), "noise: expected finite values from 0, found", noise),
    ]
    if not files:
        inputs |= {
            name: tf.debugging.check_numerics(inputs[name], f"{name}: expected finite values") for name in (IMAGES, INSIDE)
        }
    return _after(checks, inputs)


def _after(checks, inputs):
    with tf.control_dependencies(checks):
        return {name: tf.identity(x) for name, x in inputs.items()}


def fusion(system: systems.FusionSystem, networks: dict[int, keras.Model], max_pixels: int) -> Callable[[dict], dict]:
    """Returns the function from {"exposure_1", ...: [B] strings, dark to bright} to {"fused_bytes": [B] PNG files}.

    `networks` has the network for each smallest shorter side of an image, in pixels; the first one is 0. An image of more than
    `max_pixels` is refused."""
    names = next(iter(networks.values())).input  # `input` keeps the order, dark to bright; `inputs` is sorted by name

    def run(images):
        inputs = dict(zip(names, (system.encode(image[None]) for image in images), strict=True))
        branches = [functools.partial(_function(network), inputs, training=False) for network in networks.values()]
        side = tf.reduce_min(tf.shape(images[0])[:2])
        index = tf.reduce_sum(tf.cast(side >= list(networks), tf.int32)) - 1
        return system.decode(tf.switch_case(index, branches)["fused"])[0]

    signature = [tf.TensorSpec([None, None, x.shape[-1]]) for x in names.values()]
    # Traced once, here: otherwise each of up to six callers would trace it again.
    run = compiled_apart(run, [signature])

    def fuse(row):
        headers = _headers(row, max_pixels)

        def fuse_at(eight_bit):
            images = [_decode(contents, *headers[name], eight_bit, name) for name, contents in row.items()]
            return tf.io.encode_png(_fuse(images, system, run, eight_bit), _COMPRESSION)

        deep = tf.reduce_any([sixteen_bit for _, sixteen_bit, _ in headers.values()])
        return tf.cond(deep, lambda: fuse_at(eight_bit=False), lambda: fuse_at(eight_bit=True))

    return lambda inputs: {FUSED: _map(fuse, inputs, tf.string)}


def compiled_apart(function: Callable, signature: list) -> Callable:
    """Traces a function, once, that is not inlined where it is called. A server optimises whatever is inlined before its first
    answer: the networks for other sizes too, six times each."""
    return _function(function, signature).get_concrete_function()


def _function(function, signature=None):
    return tf.function(function, signature, autograph=False, experimental_attributes={"_noinline": True})


def reconstruction(runner, max_pixels: int) -> Callable[[dict], dict]:
    """Returns the function from {"ldr_low", "ldr_mid", "ldr_high": [B] strings, "exposures": [B, 3] float32} to {"hdr_bytes":
    [B] serialised tensors [H, W, 3] float32, v**2.2 / exposure of an encoded value v, "preview_bytes": [B] PNG files}.

    `runner` is what `hdr_tf.radiance.pipeline.load` returns. An image of more than `max_pixels` is refused."""

    def reconstruct(row):
        exposures = checked_exposures(row.pop(EXPOSURES))
        inputs = {}
        for name, header in _headers(row, max_pixels).items():
            inputs[name] = tf.cast(_decode(row[name], *header, False, name), tf.float32)[None] / 65535
        relative = exposures / exposures[0]  # 1 for the shortest one, as in training
        radiance = runner.reconstruct_batch(inputs | {EXPOSURES: relative[None]})["hdr"][0]
        preview = tf.round(255 * losses.mu_law(radiance))
        return tf.io.serialize_tensor(radiance / exposures[0]), tf.io.encode_png(tf.cast(preview, tf.uint8), _COMPRESSION)

    def reconstruct_batch(inputs):
        return dict(zip((HDR, PREVIEW), _map(reconstruct, inputs, (tf.string, tf.string)), strict=True))

    return reconstruct_batch


def merging(merge_batch: Callable[[dict], dict], counts: tuple[int, int], max_pixels: int) -> Callable[[dict], dict]:
    """Returns the function from {"images": [B, N] strings, aligned, of gamma 2.2, "exposures": [B, N], "reference": [B],
    "noise": [B, 4]} to {"hdr_bytes": [B] serialised tensors [H, W, 3] float32, linear value / exposure, without noise,
    "preview_bytes": [B] PNG files, "source_bytes": [B] gray PNG files}.

    `merge_batch` is `Merge.reconstruct_batch`, N is within `counts`, and an image of more than `max_pixels` is refused."""

    def merge(row):
        exposures, images = row[EXPOSURES], tf.cast(_decode_all(row[IMAGES], max_pixels), tf.float32) / 65535
        inside = tf.fill([1, tf.size(exposures), 1, 1, 1], float(optical_flow.UNMOVED))
        merged = merge_batch({name: x[None] for name, x in (row | {IMAGES: images}).items()} | {INSIDE: inside})
        radiance = merged["denoised"][0]
        # 1 is where the shortest exposure clips; the fill may be above.
        preview = tf.round(255 * losses.mu_law(tf.clip_by_value(radiance * tf.reduce_min(exposures), 0, 1)))
        pixels = tf.cast(preview, tf.uint8), merged["source"][0][..., None]
        return tf.io.serialize_tensor(radiance), *(tf.io.encode_png(x, _COMPRESSION) for x in pixels)

    def merge_files(inputs):
        rows = _map(merge, checked_bracket(inputs, counts, max_pixels), (tf.string,) * 3)
        return dict(zip((HDR, PREVIEW, SOURCE), rows, strict=True))

    return merge_files


def _decode_all(files, max_pixels):
    """Decodes files, [N] strings, of one size, [N, H, W, 3] uint16; none before the headers of all are checked."""

    def header(contents):
        contents, png, sixteen_bit, size, checks = _header(IMAGES, contents, max_pixels)
        with tf.control_dependencies(checks):
            return tf.identity(png), tf.identity(sixteen_bit), tf.identity(size)

    def decode(row):
        return _decode(*row, False, IMAGES)

    png, sixteen_bit, sizes = tf.map_fn(header, files, fn_output_signature=(tf.bool, tf.bool, tf.int32))
    with tf.control_dependencies([_require_one_size(IMAGES, sizes, sizes[0])]):
        rows = tf.identity(files), png, sixteen_bit, sizes
    return tf.map_fn(decode, rows, fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint16))


def _map(function, inputs, dtypes):
    """Runs a function of one row of the batch on all rows, one after the other, because each may need much memory."""
    files = {name: x for name, x in inputs.items() if x.dtype == tf.string and x.shape.rank == 1}
    inputs = inputs | of_shape(files, [])
    rows = [tf.shape(x)[0] for x in inputs.values()]
    same = _require(tf.reduce_all(tf.stack(rows) == rows[0]), f"{', '.join(inputs)}: expected one batch size, found", *rows)
    with tf.control_dependencies([same]):
        few = _require(rows[0] <= MAX_ROWS, f"{', '.join(inputs)}: expected 1 to {MAX_ROWS} rows, found", rows[0])
    return tf.map_fn(function, _after([few], inputs), fn_output_signature=dtypes, parallel_iterations=1)


def _headers(row, max_pixels):
    """Returns {name: (is it a PNG, has it 16 bit, its size)} of the files in `row`, and puts assertions before them there."""
    headers, checks, first = {}, [], None
    for name, contents in row.items():
        row[name], png, sixteen_bit, size, its_checks = _header(name, contents, max_pixels)
        headers[name] = png, sixteen_bit, size
        first = size if first is None else first
        checks += [*its_checks, _require_one_size(name, size, first)]
    row |= _after(checks, row)
    return headers


def _header(name, contents, max_pixels):
    """Returns a file, whether it is a PNG, whether it has 16 bit, its size (height, width), and the assertions that belong
    before its pixels are decoded."""
    length, begins = tf.strings.length(contents), tf.strings.substr(contents, 0, len(_PNG))
    png = (begins == _PNG) & (length >= _PNG_HEADER)
    jpeg = tf.strings.substr(contents, 0, 3) == _JPEG
    known = _require(png | jpeg, f"{name}: expected a JPEG or PNG file, found other bytes:", length)
    with tf.control_dependencies([known]):
        contents = tf.identity(contents)
    header = tf.cond(png, functools.partial(_png_header, contents), functools.partial(_jpeg_header, contents, name))
    size, depth, channels, scans = header[:2], header[2], header[3], header[4]
    fits = tf.reduce_all(size > 0) & (tf.reduce_prod(tf.cast(size, tf.float32)) <= max_pixels)
    checks = [
        _require(channels <= 3, f"{name}: expected gray or RGB, found channels:", channels),
        _require(scans <= _MAX_SCANS, f"{name}: expected at most {_MAX_SCANS} scans, found", scans),
        _require(fits, f"{name}: expected 1 to {max_pixels} pixels, its header says (height, width)", size),
        _require_side(name, size),
    ]
    return contents, png, depth == 16, size, checks


def _png_header(contents):
    """[height, width, bits, 3, 1] int32."""
    width, height = tf.unstack(tf.io.decode_raw(tf.strings.substr(contents, 16, 8), tf.int32, little_endian=False), num=2)
    bits = tf.io.decode_raw(tf.strings.substr(contents, 24, 1), tf.uint8)[0]
    return tf.stack([height, width, tf.cast(bits, tf.int32), 3, 1])  # alpha is dropped


def _jpeg_header(contents, name):
    """[height, width, 8, channels, scans] int32."""
    height, width, channels = tf.unstack(tf.image.extract_jpeg_shape(contents, name=name))
    # The header of a scan, FF DA, has a length of 6 + 2 n bytes for n components. Those of a thumbnail count too.
    data = tf.io.decode_raw(contents, tf.uint8)
    after = tf.where((data == 0xFF)[:-1] & (data == 0xDA)[1:]) + [[2, 3, 4]]
    high, low, components = tf.unstack(tf.gather(tf.pad(data, [[0, 3]]), after), axis=1)
    scans = (high == 0) & (low == 6 + 2 * components) & (components >= 1) & (components <= 4)
    return tf.stack([height, width, 8, channels, tf.math.count_nonzero(scans, dtype=tf.int32)])


def _decode(contents, png, sixteen_bit, size, eight_bit, name):
    """Returns an image [H, W, 3] of the size that was checked: uint8 if `eight_bit`, else uint16, to which 8-bit levels are
    scaled (255 becomes 65535)."""
    decode_png = functools.partial(tf.io.decode_png, contents, channels=3, name=name)
    decode_jpeg = functools.partial(tf.io.decode_jpeg, contents, channels=3, dct_method="INTEGER_ACCURATE", name=name)
    narrow, deep = functools.partial(tf.cond, png, decode_png, decode_jpeg), functools.partial(decode_png, dtype=tf.uint16)
    image = narrow() if eight_bit else tf.cond(sixteen_bit, deep, lambda: tf.cast(tf.cast(narrow(), tf.int32) * 257, tf.uint16))
    same = _require(tf.reduce_all(tf.shape(image)[:2] == size), f"{name}: expected (height, width)", size)
    with tf.control_dependencies([same]):
        return tf.identity(image)


def _fuse(images, system, run, eight_bit):
    """`fusion.compiled.NetworkRunner.fuse` for tensors: images [H, W, 3], dark to bright, into [H, W, 3] or [H, W, 1]."""
    ops, rule = color_ops.TensorFlowOps, systems.resolve(system.color) if system.color else None
    gray = [_is_gray(image, GRAY_TOLERANCE * (1 if eight_bit else 257)) for image in images]
    rgb = images if eight_bit else [tf.cast(image, tf.float32) / 257 for image in images]

    def fuse_planes(planes):
        fused = compiled.in_range(system, run([tf.cast(plane, tf.float32) for plane in planes]), eight_bit)
        return tf.cast(fused, rgb[0].dtype)

    def fuse_luminance(planes):
        if rule is not None:
            return fuse_planes([plane[..., None] for plane in planes])[..., 0]
        return color.luminance(fuse_planes([tf.stack([plane] * 3, axis=-1) for plane in planes]), ops)

    def fuse_split():
        split, join = rule or color.DENSEFUSE_GRAY
        luminances, *chroma = zip(*(split(x, ops) for x in rgb), strict=True)
        chroma = list(zip(*chroma, strict=True))
        if len(chroma) == 2:  # the mean of twice the colour image's chroma is that chroma
            first, second = chroma
            chroma = [tf.unstack(tf.where(gray[0], second, first)), tf.unstack(tf.where(gray[1], first, second))]
        return join(fuse_luminance(luminances), chroma, ops)

    def fuse_color():
        if rule is not None:
            return fuse_split()
        if len(gray) > 2 or not system.keeps_color:
            return fuse_planes(rgb)
        return tf.cond(gray[0] != gray[1], fuse_split, lambda: fuse_planes(rgb))

    fused = tf.cond(tf.reduce_all(gray), lambda: fuse_luminance([color.luminance(x, ops) for x in rgb])[..., None], fuse_color)
    return fused if eight_bit else tf.cast(tf.round(tf.clip_by_value(fused, 0, 255) * 257), tf.uint16)


def _is_gray(image, tolerance):
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    return tf.reduce_all([tf.reduce_max(tf.abs(a - b)) <= tolerance for a, b in ((red, green), (green, blue), (blue, red))])


def _require_side(name, size):
    side, fits = systems.MIN_SIDE, tf.reduce_all(size >= systems.MIN_SIDE)
    return _require(fits, f"{name}: expected at least {side} x {side} pixels, found (height, width)", size)


def _require_one_size(name, sizes, first):
    same = tf.reduce_all(sizes == first)
    return _require(same, f"{name}: expected images of one size, found (height, width)", sizes, first)


def _text(shape):
    return tf.strings.format("{}", shape)


def _require(condition, message, *found):
    return tf.debugging.Assert(condition, [message, *found], summarize=_SHOWN)
