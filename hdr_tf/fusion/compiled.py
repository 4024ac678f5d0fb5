"""The runner of fusion networks: from images to one image, through a network that TensorFlow compiles.

8-bit images go through the arithmetic that the original publishes, including its rounding and truncation; 16-bit images go
through the same formulas in float32 on v / 257, rounded once at the end. Images are split into the luminance, which the network
takes, and chroma, as the system's colour rule says (`hdr_tf.image.color`); the fused luminance is joined with the chroma.

An image of more than `UNTILED_LIMIT` pixels passes through the network in the stages that the registry lists, tile by tile
where a stage has a halo, in a fraction of the memory."""

import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf import systems
from hdr_tf.image import color, tiling
from hdr_tf.image.depth import is_gray, to_rgb

UNTILED_LIMIT = 2**20  # pixels
TILE = 512  # pixels, a multiple of 4
CACHED = 16  # runners, and compiled networks of each


def load(system: systems.FusionSystem, path: pathlib.Path | None, **options) -> "NetworkRunner":
    """Returns the runner of a network with its weights; the same one again as long as the file does not change."""
    changed = path and path.stat().st_mtime_ns
    return _load(system, path and path.resolve(), changed, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=CACHED)
def _load(system, path, changed, options):
    return NetworkRunner(system, path, dict(options))


def builder_arguments(system: systems.FusionSystem, exposures: int, height: int, width: int) -> dict:
    """Returns the arguments of the network's builder for so many images of a size in pixels."""
    if system.size_arguments is None:
        return {"exposures": exposures}
    return systems.resolve(system.size_arguments)(exposures, height, width)


def in_range(system: systems.FusionSystem, values: tf.Tensor, eight_bit: bool) -> tf.Tensor:
    """Returns decoded values clipped to 0..255. For 8-bit images they are prepared so that truncating them gives the level that
    `to_8_bit` asks for."""
    if eight_bit and system.to_8_bit == "stretch":
        lowest, highest = tf.reduce_min(values), tf.reduce_max(values)
        values = tf.math.divide_no_nan(255.0, highest - lowest) * (values - lowest)
    values = tf.clip_by_value(values, 0, 255)
    return values if not eight_bit or system.to_8_bit == "truncate" else values + 0.5


class NetworkRunner:
    """Fuses images of any number, size and depth by one network; see `hdr_tf.fusion.pipeline` for the methods of a runner."""

    def __init__(self, system: systems.FusionSystem, path: pathlib.Path | None, options: dict):
        """Args: the system, its weights file, and further arguments of the network's builder."""
        self._system, self._path, self._options = system, path, options
        self._compiled = functools.lru_cache(maxsize=CACHED)(self._compile)

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Builds the network for so many images of this size and depth.

        Raises:
            ValueError: the network does not take them, or the weights are damaged or of another network.
            OSError: the weights cannot be read.
        """
        self.network(exposures, height, width, eight_bit)

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Fuses images, see `hdr_tf.fusion.pipeline`."""
        system = self._system
        eight_bit = images[0].dtype == np.uint8
        network = self.network(len(images), *images[0].shape[:2], eight_bit)

        def fuse_planes(planes):
            shape = planes[0].shape
            return network([plane.reshape(*shape[:2], -1) for plane in planes]).reshape(shape)

        def fuse_luminance(planes):
            if system.color is not None:
                return fuse_planes(planes)
            return color.luminance(fuse_planes([to_rgb(plane) for plane in planes]))

        gray = [is_gray(image) for image in images]
        if all(gray):
            fused = fuse_luminance([plane if plane.ndim == 2 else color.luminance(plane) for plane in map(_pixels, images)])
        elif system.color is None and not (system.keeps_color and gray_and_color):
            fused = fuse_planes([to_rgb(image) for image in images])
        else:
            rule = systems.resolve(system.color) if system.color else color.DENSEFUSE_GRAY
            luminances, *chroma = zip(*(rule.split(to_rgb(_pixels(image))) for image in images), strict=True)
            luminances = [luminance.astype(np.uint8 if eight_bit else np.float32) for luminance in luminances]
            chroma = list(zip(*chroma, strict=True))
            if gray_and_color:
                logging.info("one gray and one colour image: luminances fused, colour kept")
                chroma = [chroma[gray.index(False)]]
            fused = rule.join(fuse_luminance(luminances), chroma)
        if not eight_bit:
            fused = np.clip(fused, 0, 255)
            fused *= 257
            fused = np.round(fused, out=fused).astype(np.uint16)
        return fused

    def network(self, exposures: int, height: int, width: int, eight_bit: bool) -> Callable:
        """Returns the compiled network for so many images of this size and depth: a function from a list of planes [H, W, C],
        dark to bright, to the fused one, uint8 to uint8, or uint16 or float32 in 0..255 to float32 in 0..255."""
        return self._compiled(tuple(builder_arguments(self._system, exposures, height, width).items()), eight_bit)

    def _compile(self, arguments, eight_bit):
        system = self._system
        network = systems.load_network(next(iter(system.networks)), self._path, **dict(arguments), **self._options)
        whole = _compile_stage(system, network, network, eight_bit)
        models = [network.get_layer(stage.layer) if stage.layer else network for stage in system.stages]
        runs = [whole if model is network else _compile_stage(system, network, model, eight_bit) for model in models]

        def fuse(planes):
            height, width = planes[0].shape[:2]
            if height * width <= UNTILED_LIMIT or not models:
                return whole(planes)[0]
            arrays = dict(zip(network.input, planes, strict=True))
            for number, (stage, model, run) in enumerate(zip(system.stages, models, runs, strict=True), start=1):
                taken = [arrays[name] for name in model.input]
                if stage.halo is None:
                    outputs = run(taken)
                else:  # the first image, which the stage may not take, gives tile and halo their unit
                    outputs = tiling.several_in_tiles(
                        lambda parts, run=run: run(parts[1:]), [planes[0], *taken], TILE * system.tile_scale, stage.halo
                    )
                arrays |= zip(model.output, outputs, strict=True)
                needed = {name for later in models[number:] for name in later.input}
                arrays = {name: array for name, array in arrays.items() if name in needed}
            return outputs[0]

        return fuse


def _compile_stage(system, network, model, eight_bit):
    """Returns a function from arrays [H, W, C], the model's inputs, to its outputs: the fused pixels, or those of a stage."""
    # `input` and `output` keep the order, dark to bright; `inputs` is sorted by name.
    dtypes = {name: tf.uint8 if eight_bit and name in network.input else tf.float32 for name in model.input}
    signature = [tf.TensorSpec([None, None, None, x.shape[-1]], dtypes[name]) for name, x in model.input.items()]

    def encoded(pixels):
        return system.encode(tf.cast(pixels, tf.float32))

    def decoded(fused):
        fused = in_range(system, system.decode(fused), eight_bit)
        return tf.cast(fused, tf.uint8) if eight_bit else fused

    @functools.partial(tf.function, input_signature=[signature])
    def run(arrays):
        pairs = zip(model.input, arrays, strict=True)
        outputs = model({name: encoded(x) if name in network.input else x for name, x in pairs}, training=False)
        return [decoded(outputs[name]) if name == "fused" else tf.cast(outputs[name], tf.float32) for name in model.output]

    return lambda arrays: [output.numpy()[0] for output in run([_pixels(array)[None] for array in arrays])]


def _pixels(image):
    """The values of an image in 0..255, uint8 or float32."""
    return image / np.float32(257) if image.dtype == np.uint16 else image
