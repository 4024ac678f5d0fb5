"""Fuses on a server: the client of what `hdr_tf.serving` exports, over gRPC (needs the extra `serve`).

>>> client = Client("localhost:8500", "pyramid")  # doctest: +SKIP
>>> fused = fusing.fuse_files(["dark.jpg", "bright.jpg"], "fused.png", client=client)  # doctest: +SKIP

Pictures are read, sorted and aligned here; what is sent is PNG, upright, dark to bright.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from hdr_tf.image.depth import from_unit
from hdr_tf.image.scenes import EXPOSURE_NAMES

WAIT = 10  # seconds for a server to answer at all
# What protobuf can hold, and what the server takes; gRPC's own limit is 4 MiB, less than one photograph.
MAX_MESSAGE = 2**31 - 1


class Client:
    """A model on a server.

    As the `model` of `reconstruction.fuse_radiance`, it takes the place of a loaded one.

    Args:
        server: host:port, or host:port/name if the server knows the model by another name.
        model: a name in `fusing.SYSTEMS` or `reconstruction.MODELS`, but for "fshdr", which takes aligned pictures.

    Raises:
        ValueError: such a model is not served for pictures; tensorflow-serving-api is missing.
        OSError: nobody answers there.
    """

    aligns = False

    def __init__(self, server: str, model: str):
        if model in ("dqn_editor", "fshdr"):
            raise ValueError(f"--server: {model} works on pictures outside its network and cannot fuse on a server")
        address, _, name = server.partition("/")
        self._name, self._server = name or model, address
        self._predict = _stub(address).Predict

    def __str__(self):
        return f"{self._server}/{self._name}"

    def fuse(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Fuses pictures of one size and type, [H, W, 3] RGB or [H, W], uint8 or uint16, dark to bright; returns one such.

        Raises:
            ValueError: the server refuses the pictures.
            OSError: the connection broke.
        """
        inputs = {f"exposure_{number}": [_encoded(picture)] for number, picture in enumerate(pictures, start=1)}
        fused = cv2.imdecode(np.frombuffer(self._ask(inputs)["fused_bytes"], np.uint8), cv2.IMREAD_UNCHANGED)
        return fused if fused.ndim == 2 else np.ascontiguousarray(fused[..., ::-1])

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Returns the pictures as they are: the server aligns them."""
        return ldr

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Reconstructs radiance.

        Args:
            ldr: [3, H, W, 3] float32 in 0..1, low to high, of pictures of 8 or 16 bit.
            exposures: 2**stops of the three, of the lowest 1.

        Returns:
            The radiance, [H, W, 3] float32.

        Raises:
            As of `fuse`.
        """
        import tensorflow as tf

        pictures = from_unit(ldr, np.uint16)
        inputs = {f"ldr_{side}": [_encoded(picture)] for side, picture in zip(EXPOSURE_NAMES, pictures, strict=True)}
        return tf.io.parse_tensor(self._ask(inputs | {"exposures": np.float32([exposures])})["hdr_bytes"], tf.float32).numpy()

    def _ask(self, inputs):
        """Sends a batch of one to the signature `encoded`; returns {name: bytes}."""
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, "encoded"
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            outputs = self._predict(request).outputs
        except grpc.RpcError as error:
            told = f"{self._server}: {self._name}: {(error.details() or error.code().name).splitlines()[0]}"
            refused = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            raise (ValueError if refused else ConnectionError)(told) from error
        return {name: tensor.string_val[0] for name, tensor in outputs.items()}


@functools.cache
def _stub(address):
    try:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc
    except ModuleNotFoundError as error:
        raise ValueError("--server needs tensorflow-serving-api: pip install 'hdr_tf[serve]'") from error

    limits = [(f"grpc.max_{way}_message_length", MAX_MESSAGE) for way in ("send", "receive")]
    channel = grpc.insecure_channel(address, limits)
    try:
        grpc.channel_ready_future(channel).result(WAIT)
    except grpc.FutureTimeoutError as error:
        channel.close()
        raise ConnectionError(f"{address}: no server answers within {WAIT} seconds; expected host:port of gRPC") from error
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def _encoded(picture):
    return cv2.imencode(".png", picture if picture.ndim == 2 else picture[..., ::-1])[1].tobytes()
