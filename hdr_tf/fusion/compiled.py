"""The runner of fusion networks: from images to one image, through a network that TensorFlow compiles.

An image of more than `UNTILED_LIMIT` pixels passes through the network in the stages that the registry lists, tile by tile
where a stage has a halo, in a fraction of the memory."""

import functools
import pathlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from hdr_tf import device, systems
from hdr_tf.fusion import arithmetic
from hdr_tf.image import tiling

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
        self._changed = path and path.stat().st_mtime_ns
        self._compiled = functools.lru_cache(maxsize=CACHED)(self._compile)
        self._lock = threading.Lock()  # several threads that need the same network wait for one to make it

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Builds the network for so many images of this size and depth.

        Raises:
            ValueError: the network does not take them, or the weights are damaged or of another network.
            OSError: the weights cannot be read.
        """
        self.network(exposures, height, width, eight_bit)

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Fuses images, see `hdr_tf.fusion.pipeline`."""
        network = self.network(len(images), *images[0].shape[:2], images[0].dtype == np.uint8)
        return arithmetic.fuse(self._system, network, images, gray_and_color)

    def network(self, exposures: int, height: int, width: int, eight_bit: bool) -> Callable:
        """Returns the compiled network for so many images of this size and depth: a function from a list of planes [H, W, C],
        dark to bright, to the fused one, uint8 to uint8, or uint16 or float32 in 0..255 to float32 in 0..255."""
        with self._lock:
            return self._compiled(tuple(builder_arguments(self._system, exposures, height, width).items()), eight_bit)

    def _compile(self, arguments, eight_bit):
        system = self._system
        if self._path and self._path.stat().st_mtime_ns != self._changed:
            raise ValueError(f"{self._path}: the weights have changed since they were loaded; load them again")
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
                    tile = TILE * system.tile_scale * device.tile_scale()
                    outputs = tiling.several_in_tiles(
                        lambda parts, run=run: run(parts[1:]), [planes[0], *taken], tile, stage.halo
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

    return lambda arrays: [output.numpy()[0] for output in run([arithmetic.pixels(array)[None] for array in arrays])]
