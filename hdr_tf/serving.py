"""A network and its weights as a TensorFlow SavedModel, for TensorFlow Serving and for programs that know nothing of this one.

A model's folder holds a folder for each version, as the server wants it, and the folder around it a list of the models:

    exported/models.config                                            for tensorflow_model_server --model_config_file
    exported/pyramid/1/saved_model.pb, variables, fingerprint.pb
    exported/pyramid/1/assets.extra/tf_serving_warmup_requests        what the server runs before it answers

The signature `serving_default` takes and returns float32 tensors, `encoded` (hdr_tf/encoded.py) the bytes of files.
docs/serving.md tells both, and how to ask for them.
"""

import functools
import importlib.util
import math
import os
import pathlib

import cv2
import keras
import numpy as np
import tensorflow as tf
from absl import logging

from hdr_tf import editor, encoded, fusing, reconstruction
from hdr_tf.image import files

SIGNATURE = "serving_default"
ENCODED = "encoded"
TYPICAL_SIDE = 1024  # pixels: the pyramid's number of levels belongs to a size, though any size goes through it
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
    """Writes the next version of a model, completely or not at all, and lists the model beside its folder.

    The signature `serving_default` takes the network's inputs by name, [B, H, W, C] float32 of any size, and returns
    {"fused": [B, H, W, C]}; the ranges are the network's own. That of a model of radiance is its `reconstruct_batch`
    (`hdr_tf.reconstruction.Esbn`, `hdr_tf.selfhdr.SelfHdr`); that of "dqn_editor" takes "features", [B, length] float32 as
    hdr_tf/features.py makes them, and returns "q", [B, 6], and "edit", [B] int64, the best one, -1 where no value is positive.

    The signature `encoded` is that of `encoded.fusion` or `encoded.reconstruction`; "dqn_editor" has none, since it edits
    pictures with OpenCV.

    Args:
        model: a name in `fusing.MODELS` or `reconstruction.MODELS`.
        output: the model's folder, whose name is the model's on the server; it is made, or has a version already.
        weights: a .weights.h5 file, of "esbn" the folder of its three; None takes those that come with the software.
        exposures: number of inputs; None is 2, and 3 for radiance.
        max_pixels: `encoded` refuses a larger picture before it is decoded; 64 and more.

    Returns:
        The folder of the version.

    Raises:
        ValueError: the output is something else, or beside it a list that is none; the model is unknown, has no weights, or
            takes another number of inputs.
        OSError: the output cannot be written.
    """
    output = pathlib.Path(output).absolute()
    version = output / str(_last_version(output) + 1)
    for_server = importlib.util.find_spec("tensorflow_serving") is not None
    if for_server:
        server_list = _server_list(output.parent / CONFIG, output.name)
    else:
        logging.warning("%s: no warm-up requests and no %s: they need pip install 'hdr_tf[serve]'", version, CONFIG)
    if model in reconstruction.MODELS:
        networks, endpoints = _radiance(model, weights, exposures, max_pixels)
    elif model == fusing.EDITOR:
        networks, endpoints = _editor(weights, exposures)
    else:
        networks, endpoints = _fusing(model, weights, exposures, max_pixels)
    # The archive finds the variables in the graphs, which do not keep them alive: that `networks` does. `track` would look for
    # tables in every layer, which takes longer than all the rest.
    archive = keras.export.ExportArchive()
    for name, (function, signature) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=[{spec.name: spec for spec in signature}])
    output.mkdir(parents=True, exist_ok=True)
    with files.atomic(version) as temporary:
        archive.write_out(temporary, verbose=False)
        if for_server:
            _write_requests(temporary, output.name, {name: signature for name, (_, signature) in endpoints.items()})
    if for_server:
        with files.atomic(output.parent / CONFIG) as path:
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


def _fusing(model, weights, exposures, max_pixels):
    """The networks of a model of `fusing`, and {signature: (function, its inputs)}."""
    count = 2 if exposures is None else exposures
    fusing.check_model(model, weights, count)
    if max_pixels < fusing.MIN_SIDE**2:
        raise ValueError(f"expected max_pixels of {fusing.MIN_SIDE**2} and more, found {max_pixels}")

    def arguments(side):
        return tuple(fusing.SYSTEMS[model].arguments(count, side, side).items())

    load = functools.cache(lambda arguments: fusing.load_network(model, weights, **dict(arguments)))
    network = load(arguments(TYPICAL_SIDE))
    sides = {}  # the pyramid is another network for another size
    for side in range(math.isqrt(max_pixels) + 1):
        sides.setdefault(arguments(side), side)
    networks = {side: load(arguments) for arguments, side in sides.items()}
    tensors = [tf.TensorSpec([None, None, None, x.shape[-1]], tf.float32, name) for name, x in network.input.items()]
    strings = [tf.TensorSpec([None], tf.string, f"exposure_{number}") for number in range(1, count + 1)]
    return {network, *networks.values()}, {
        SIGNATURE: (lambda inputs: network(encoded.checked(inputs), training=False), tensors),
        ENCODED: (encoded.fusion(model, networks, max_pixels), strings),
    }


def _radiance(model, weights, exposures, max_pixels):
    if exposures not in (None, 3):
        raise ValueError(f"{model} takes exactly 3 exposures, found {exposures}")
    system = reconstruction.load(model, weights)
    names = ("ldr_low", "ldr_mid", "ldr_high")
    numbers = tf.TensorSpec([None, 3], tf.float32, "exposures")

    def reconstruct(inputs):
        pictures = encoded.checked({name: inputs[name] for name in names})
        return system.reconstruct_batch(pictures | {"exposures": encoded.checked_exposures(inputs["exposures"])})

    return system.networks, {
        SIGNATURE: (reconstruct, [*(tf.TensorSpec([None, None, None, 3], tf.float32, name) for name in names), numbers]),
        ENCODED: (
            encoded.reconstruction(system, max_pixels),
            [*(tf.TensorSpec([None], tf.string, name) for name in names), numbers],
        ),
    }


def _editor(weights, exposures):
    fusing.check_model(fusing.EDITOR, weights, 2 if exposures is None else exposures)
    network = editor.load_network(fusing.weights_file(fusing.EDITOR, weights))

    def act(inputs):
        features = tf.debugging.check_numerics(inputs["features"], "features: expected finite values")
        q_values = network(features, training=False)
        best = tf.where(tf.reduce_max(q_values, axis=1) > 0, tf.argmax(q_values, axis=1), -1)
        return {"q": q_values, "edit": best}

    return [network], {SIGNATURE: (act, [tf.TensorSpec([None, network.input_shape[1]], tf.float32, "features")])}


def _write_requests(folder, model, signatures):
    """Writes what the server is to run before it answers: each signature once, `encoded` with pictures of 8 and of 16 bit."""
    from tensorflow_serving.apis import prediction_log_pb2

    extra = folder / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for name, signature in signatures.items():
            for depth in (8, 16) if name == ENCODED else (8,):
                log = prediction_log_pb2.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name, request.model_spec.signature_name = model, name
                for spec in signature:
                    request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(_example(spec, depth)))
                writer.write(log.SerializeToString())


def _example(spec, depth):
    """A small input of a signature: values that rise from 0.1 to 1, or a picture of them in a JPEG (8 bit) or PNG file."""
    if spec.dtype == tf.string:
        picture = np.linspace(0.1, 1, _WARM_UP_SIDE**2).reshape(_WARM_UP_SIDE, _WARM_UP_SIDE, 1) * [1, 0.8, 0.5]
        suffix, pixels = (".jpg", np.uint8(255 * picture)) if depth == 8 else (".png", np.uint16(65535 * picture))
        return [cv2.imencode(suffix, pixels)[1].tobytes()]
    shape = [1 if axis == 0 else size or _WARM_UP_SIDE for axis, size in enumerate(spec.shape)]
    return np.linspace(0.1, 1, math.prod(shape), dtype=np.float32).reshape(shape)


def _server_list(path, model):
    """The server's list of models, a ModelServerConfig as text, of the file if there is one, and with the model in it."""
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

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
