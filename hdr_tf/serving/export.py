"""A system and its weights as a TensorFlow SavedModel, for TensorFlow Serving and for programs that know nothing of this one.

A model's folder holds a folder for each version, as the server expects it, and next to it lies a list of the models, for
`tensorflow_model_server --model_config_file`. docs/serving.md shows these folders and what goes in and out.
"""

import math
import os
import pathlib

import cv2
import keras
import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf import text_format

from hdr_tf import systems
from hdr_tf.io import outputs
from hdr_tf.serving.signatures import ENCODED

try:
    from tensorflow_serving.apis import prediction_log_pb2
    from tensorflow_serving.config import model_server_config_pb2
except ModuleNotFoundError:  # the extra `serve`
    prediction_log_pb2 = None

MAX_PIXELS = 50_000_000
CONFIG = "models.config"
_WARM_UP_SIDE = 64  # pixels


def export(
    model: str,
    output: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    exposures: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> pathlib.Path:
    """Writes the next version of a model, completely or not at all, into a folder that it returns, and lists the model.

    Args:
        model: name of a system.
        output: the model's folder, whose name is the model's name on the server; it is created, or holds versions already.
        weights: a .weights.h5 file, or the folder of several; None for the bundled weights.
        exposures: number of inputs; None: 2, and 3 for radiance. An exported `merge` takes every number.
        max_pixels: every signature refuses a larger image, `encoded` before it is decoded; at least 64.
    """
    system = systems.find(model)
    if not system.endpoints:
        raise ValueError(f"{model} has no network to export: --model=merge has one and takes the same images")
    output = pathlib.Path(output).absolute()
    version = output / str(_last_version(output) + 1)
    if prediction_log_pb2:
        server_list = _server_list(output.parent / CONFIG, output.name)
    else:
        logging.warning("%s: no warm-up requests and no %s: they need pip install 'hdr_tf[serve]'", version, CONFIG)
    networks, endpoints = systems.resolve(system.endpoints)(system, system.weights_path(weights), exposures, max_pixels)
    # The archive finds the variables in the graphs, which do not keep them alive: that `networks` does. `track` would look for
    # tables in every layer, which takes longer than all the rest.
    archive = keras.export.ExportArchive()
    for name, endpoint in endpoints.items():
        signature = [{spec.name: spec for spec in endpoint.inputs}]
        # Traced here, once: both the archive and the SavedModel trace what they are given again.
        traced = tf.function(endpoint.function, signature, autograph=False).get_concrete_function()
        archive.add_endpoint(name, traced.__call__, signature)
    output.mkdir(parents=True, exist_ok=True)
    with outputs.atomic(version) as temporary:
        archive.write_out(temporary, verbose=False)
        if prediction_log_pb2:
            _write_requests(temporary, output.name, endpoints)
    if prediction_log_pb2:
        with outputs.atomic(output.parent / CONFIG) as path:
            path.write_text(server_list)
    return version


def _last_version(output):
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ValueError(f"{output}: expected the folder of a model, or none yet; remove it or choose another")
    names = [path.name for path in output.iterdir() if path.name[0] != "."] if output.is_dir() else []
    for name in names:
        if not name.isdecimal():
            raise ValueError(f"{output}: expected the folder of a model, with versions 1, 2, ... in it, found {name}")
    return max(map(int, names), default=0)


def _write_requests(folder, model, endpoints):
    """Writes what the server is to run before it answers: each signature once, `encoded` with images of 8 and of 16 bit."""
    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for name, endpoint in endpoints.items():
            for depth in (8, 16) if name == ENCODED else (8,):
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name, request.model_spec.signature_name = model, name
                for spec in endpoint.inputs:
                    example = _example(spec, depth, endpoint.examples.get(spec.name))
                    request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(example))
                writer.write(log.SerializeToString())


def _example(spec, depth, shape=None):
    """A small input of a signature: values that rise from 0.1 to 1, or an image of them in a JPEG (8 bit) or PNG file."""
    shape = shape or [1 if axis == 0 else size or _WARM_UP_SIDE for axis, size in enumerate(spec.shape)]
    if spec.dtype == tf.string:
        image = np.linspace(0.1, 1, _WARM_UP_SIDE**2).reshape(_WARM_UP_SIDE, _WARM_UP_SIDE, 1) * [1, 0.8, 0.5]
        suffix, pixels = (".jpg", np.uint8(255 * image)) if depth == 8 else (".png", np.uint16(65535 * image))
        return np.full(shape, cv2.imencode(suffix, pixels)[1].tobytes(), object)
    return np.linspace(0.1, 1, math.prod(shape)).reshape(shape).astype(spec.dtype.as_numpy_dtype)


def _server_list(path, model):
    """The server's list of models, a ModelServerConfig as text, of the file if there is one, and with the model in it."""
    config = model_server_config_pb2.ModelServerConfig()
    if path.exists():
        try:
            text_format.Parse(path.read_bytes(), config)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected TensorFlow Serving's list of models: {error}") from error
    models = config.model_config_list.config
    if model not in {entry.name for entry in models}:
        models.add(name=model, base_path=f"/models/{model}", model_platform="tensorflow")
    return text_format.MessageToString(config)
