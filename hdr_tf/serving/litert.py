"""A fusion network and its weights as a LiteRT model, which needs no TensorFlow: for `hdr_tf.fusion.lite` and for phones.

docs/mobile.md shows what goes in and out.
"""

import hashlib
import os
import pathlib
import tempfile

import keras
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from hdr_tf import systems
from hdr_tf.io import outputs

INPUT, OUTPUT = "exposures", "fused"


def export(
    model: str, output: str | os.PathLike, weights: str | os.PathLike | None = None, float16: bool = False
) -> pathlib.Path:
    """Writes the LiteRT model of a fusion system, completely or not at all, to a file .tflite, which it returns.

    The model has a signature for each range of image sizes, named short_side_N by the smallest short side N, in pixels. Each
    takes {"exposures": [N, H, W, 3]}, the images of one bracket in the network's range, any number of any size, and returns
    {"fused": [1, H, W, 3]}; all are float32. The model's description holds the SHA-256 of the weights file.

    Args:
        model: name of a system whose record has `lite_arguments`.
        output: the file; its folder is created.
        weights: a .weights.h5 file; None for the bundled weights.
        float16: whether the weights are stored in 16 bit, which moves the results.
    """
    system, output = systems.find(model), pathlib.Path(output)
    having = [name for name in systems.names("fusion") if systems.SYSTEMS[name].lite_arguments]
    if model not in having:
        raise ValueError(f"expected a model that can be exported to LiteRT ({', '.join(having)}), found {model}")
    if output.suffix != ".tflite":
        raise ValueError(f"{output}: expected a name that ends in .tflite")
    path = system.weights_path(weights)
    name = next(iter(system.networks))
    signatures, network = {}, None
    for stage, by_side in systems.resolve(system.lite_arguments)().items():
        for side, arguments in by_side.items():
            if network is None:
                network = systems.load_network(name, path, **arguments)
            built = systems.build(name, share=network, **arguments)
            signatures[f"{stage or 'short_side'}_{side}"] = _function(built.get_layer(stage) if stage else built)
    module = tf.Module()
    module.network_variables = [variable.value for variable in network.weights]  # a SavedModel asks for an owner
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        if float16:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        converted = flatbuffer_utils.convert_bytearray_to_object(converter.convert())
    for graph in converted.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None  # a third of the file; signatures have names of their own
    converted.description = f"{model}, weights of SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    output.parent.mkdir(parents=True, exist_ok=True)
    with outputs.atomic(output) as temporary:
        temporary.write_bytes(flatbuffer_utils.convert_object_to_bytearray(converted))
    return output


def _function(network: keras.Model):
    """Its concrete function from its inputs to its outputs, all [N, H, W, C] float32 of any size, by their names."""
    inputs = {name: tf.TensorSpec([None, None, None, x.shape[-1]], name=name) for name, x in network.input.items()}
    return tf.function(lambda **tensors: network(tensors, training=False)).get_concrete_function(**inputs)
