"""A stand-in for TensorFlow Serving, for tests: models of a folder over gRPC, as far as the client needs it.

It loads the last version of each model that models.config lists into a session and feeds that by the names of the signature, as
the real server does: no Python looks at shapes in between.
"""

import contextlib
import pathlib
from concurrent import futures

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2


class StandIn(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers `Predict` for the models below a folder."""

    def __init__(self, folder: pathlib.Path):
        config = text_format.Parse((folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
        self._models = {}
        for model in config.model_config_list.config:
            versions = (folder / pathlib.Path(model.base_path).relative_to("/models")).iterdir()
            session = tf.compat.v1.Session(graph=tf.Graph())
            with session.graph.as_default():
                path = max(versions, key=lambda path: int(path.name))
                graph = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
            self._models[model.name] = session, graph.signature_def, {}

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Raises KeyError for another model, ValueError for other names, `tf.errors.OpError` for what the graph refuses."""
        session, signatures, callables = self._models[request.model_spec.name]
        name = request.model_spec.signature_name or "serving_default"
        if name not in signatures:
            raise ValueError(f'Serving signature key "{name}" not found.')
        signature = signatures[name]
        if set(signature.inputs) != set(request.inputs):
            raise ValueError(f"inputs do not match: expected {sorted(signature.inputs)}, found {sorted(request.inputs)}")
        for key, tensor in signature.inputs.items():
            if tensor.dtype != request.inputs[key].dtype:
                raise ValueError(f"{key}: expected {tf.as_dtype(tensor.dtype).name}, found another type")
        if name not in callables:
            options = config_pb2.CallableOptions()
            options.feed.extend(tensor.name for tensor in signature.inputs.values())
            options.fetch.extend(tensor.name for tensor in signature.outputs.values())
            callables[name] = session._make_callable_from_options(options)  # `run` would compare shapes
        values = callables[name](*(np.asarray(tf.make_ndarray(request.inputs[key])) for key in signature.inputs))
        response = predict_pb2.PredictResponse()
        for key, value in zip(signature.outputs, values, strict=True):
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def Predict(self, request, context):
        try:
            return self.predict(request)
        except KeyError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {error}")
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, getattr(error, "message", str(error)))


@contextlib.contextmanager
def serving(folder: pathlib.Path):
    """Serves a folder while the context lasts; yields the address, and the service."""
    limits = [(f"grpc.max_{way}_message_length", 2**31 - 1) for way in ("send", "receive")]  # as the real server has them
    server, service = grpc.server(futures.ThreadPoolExecutor(2), options=limits), StandIn(folder)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}", service
    finally:
        server.stop(None)
