"""The runner of a network that also comes as a LiteRT model (`hdr_tf.serving.litert`). It fuses without TensorFlow, whose
import alone takes longer than such a fusion.

Which engine fuses a bracket depends on nothing but the bracket: LiteRT if all its exposures together have at most `LIMIT`
pixels and the weights are those that the model file was made from, which it names by their SHA-256; TensorFlow
(`hdr_tf.fusion.compiled`) otherwise, and where ai-edge-litert is not installed. The number of threads changes no bit.
"""

import functools
import hashlib
import os
import pathlib
import threading
from collections.abc import Sequence

import numpy as np

from hdr_tf import systems
from hdr_tf.fusion import arithmetic

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:  # there is no wheel for some platforms
    Interpreter = None

LIMIT = 2**23  # pixels of all exposures: two images of 4 megapixels take 1.2 GB


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
        self._model = self._shape = self._signature = self._heavy = None
        self._lock = threading.Lock()  # an interpreter serves one thread at a time
        file = systems.PRETRAINED / f"{system.name}.tflite"
        if Interpreter and file.exists():
            model = file.read_bytes()
            if hashlib.sha256(path.read_bytes()).hexdigest().encode() in model:
                self._model = model

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Loads what `fuse` needs; errors as in `compiled.NetworkRunner.prepare`."""
        if not self._is_light(exposures, height, width):
            self._compiled().prepare(exposures, height, width, eight_bit)

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Fuses images, see `hdr_tf.fusion.pipeline`."""
        if not self._is_light(len(images), *images[0].shape[:2]):
            return self._compiled().fuse(images, gray_and_color)
        return arithmetic.fuse(self._system, self._network, images, gray_and_color)

    def _is_light(self, exposures, height, width):
        return self._model is not None and exposures * height * width <= LIMIT

    def _compiled(self):
        with self._lock:
            if self._heavy is None:
                self._heavy = systems.resolve("hdr_tf.fusion.compiled:load")(self._system, self._path, **self._options)
            return self._heavy

    def _network(self, planes):
        with self._lock:
            exposures = np.stack(list(map(arithmetic.pixels, planes)), dtype=np.float32)
            if exposures.shape != self._shape:
                self._shape = self._signature = None  # frees the memory of another size
                self._signature = _signature(self._model, min(exposures.shape[1:3]))
                self._shape = exposures.shape
            fused = self._signature(exposures=self._system.encode(exposures))["fused"][0]
        fused = np.clip(self._system.decode(fused), 0, 255)
        return (fused + np.float32(0.5)).astype(np.uint8) if planes[0].dtype == np.uint8 else fused


def _signature(model, short_side):
    """The signature of the model for images of a short side: each name ends in the smallest that it is for."""
    interpreter = Interpreter(model_content=model, num_threads=os.cpu_count())
    sides = {int(name.rpartition("_")[2]): name for name in interpreter.get_signature_list()}
    return interpreter.get_signature_runner(sides[max(side for side in sides if side <= short_side)])
