"""The runner of a network that also comes as a LiteRT model (`hdr_tf.serving.litert`). It fuses without TensorFlow, whose
import alone takes longer than such a fusion.

An image passes through the network in the stages that the registry lists, tile by tile where a stage has a halo and as many
tiles at a time as there are processors. What the last stage does is done by OpenCV (`hdr_tf.fusion.blend`). The tiles depend on
the size of the image alone, so the number of processors changes no bit.

Which engine fuses a bracket depends on nothing but the weights: LiteRT if they are those that the model file was made from,
which it names by their SHA-256; TensorFlow (`hdr_tf.fusion.compiled`) otherwise, and where ai-edge-litert is not installed.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import queue
import threading
from collections.abc import Sequence

import numpy as np

from hdr_tf import systems
from hdr_tf.fusion import arithmetic, blend
from hdr_tf.image import tiling

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # there is no wheel for some platforms
    Interpreter = None

TILE = 512  # pixels, a multiple of 16


def load(system: systems.FusionSystem, path: pathlib.Path, **options) -> "LiteRunner":
    """Returns the runner of a network with its weights; the same one again as long as the file does not change."""
    return _load(system, path.resolve(), path.stat().st_mtime_ns, tuple(sorted(options.items())))


@functools.lru_cache(maxsize=2)
def _load(system, path, changed, options):
    return LiteRunner(system, path, dict(options))


class LiteRunner:
    """Fuses images of any number, size and depth; see `hdr_tf.fusion.pipeline` for the methods of a runner."""

    def __init__(self, system: systems.FusionSystem, path: pathlib.Path, options: dict):
        """Args: as `compiled.NetworkRunner`."""
        self._system, self._path, self._options = system, path, options
        self._model = self._heavy = None
        self._lock = threading.Lock()
        file = systems.PRETRAINED / f"{system.name}.tflite"
        if Interpreter and file.exists():
            model = file.read_bytes()
            if hashlib.sha256(path.read_bytes()).hexdigest().encode() in model:
                self._model = model
        # Interpreters, each of which serves one thread at a time; they are made when they are needed.
        self._idle = queue.LifoQueue()
        for _ in range(_workers()):
            self._idle.put(None)

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Loads what `fuse` needs; errors as in `compiled.NetworkRunner.prepare`."""
        if self._model is None:
            self._compiled().prepare(exposures, height, width, eight_bit)

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Fuses images, see `hdr_tf.fusion.pipeline`."""
        if self._model is None:
            return self._compiled().fuse(images, gray_and_color)
        return arithmetic.fuse(self._system, self._network, images, gray_and_color)

    def _compiled(self):
        with self._lock:
            if self._heavy is None:
                self._heavy = systems.resolve("hdr_tf.fusion.compiled:load")(self._system, self._path, **self._options)
            return self._heavy

    def _network(self, planes):
        side, eight_bit = min(planes[0].shape[:2]), planes[0].dtype == np.uint8
        arrays = {"exposures": planes}  # by name one for each exposure or, of a blend, a single one, [H, W, C]
        *stages, last = self._system.stages
        with concurrent.futures.ThreadPoolExecutor(_workers()) as pool:
            for stage in stages:
                with self._interpreter() as interpreter:
                    chosen = _signature(interpreter, stage, side)
                    signature = interpreter.get_signature_runner(chosen)
                    inputs, outputs = list(signature.get_input_details()), list(signature.get_output_details())

                def run(parts, stage=stage, chosen=chosen, inputs=inputs, outputs=outputs):
                    if stage is stages[0]:
                        parts = [self._encoded(part) for part in parts]
                    batches = {name: np.stack(group) for name, group in zip(inputs, grouped(inputs, parts), strict=True)}
                    with self._interpreter() as interpreter:
                        found = interpreter.get_signature_runner(chosen)(**batches)
                    return [array for name in outputs for array in found[name]]

                def grouped(names, parts):
                    parts = iter(parts)
                    return [[next(parts) for _ in range(1 if name.endswith("_blend") else len(planes))] for name in names]

                taken = [array for name in inputs for array in arrays[name]]
                if stage.halo is None:
                    found = run(taken)
                else:  # the first image, which the stage may not take, gives tile and halo their unit
                    found = tiling.several_in_tiles(
                        lambda parts, run=run: run(parts[1:]), [planes[0], *taken], TILE, stage.halo, pool.map
                    )
                arrays |= zip(outputs, grouped(outputs, found), strict=True)

            def blended(parts):
                count = len(planes)
                exposures, full, half = ([*parts[i * count : (i + 1) * count]] for i in range(3))
                fused = blend.blend([self._encoded(part) for part in exposures], full, half, parts[-1])
                fused = np.clip(self._system.decode(fused), 0, 255)
                return (fused + np.float32(0.5)).astype(np.uint8) if eight_bit else fused

            names = ("exposures", "full_weight_1", "half_weight_1", "quarter_blend")
            taken = [array for name in names for array in arrays[name]]
            return tiling.in_tiles(blended, taken, blend.TILE, last.halo, pool.map)

    def _encoded(self, plane):
        """A tile in the network's range. The first and the last stage do this anew: all of an image would take much memory."""
        return self._system.encode(arithmetic.pixels(plane).astype(np.float32))

    @contextlib.contextmanager
    def _interpreter(self):
        """An interpreter for this thread alone."""
        interpreter = self._idle.get()
        try:
            interpreter = interpreter or Interpreter(model_content=self._model, num_threads=1)
            yield interpreter
        finally:
            self._idle.put(interpreter)


def _signature(interpreter, stage, side):
    """The name of the signature of a stage for images of a short side in pixels: it ends in the smallest that it is for."""
    names = [name for name in interpreter.get_signature_list() if name.startswith(f"{stage.layer}_")]
    sides = {int(name.rpartition("_")[2]): name for name in names}
    return sides[max(least for least in sides if least <= side)]


def _workers():
    return os.cpu_count() or 1
