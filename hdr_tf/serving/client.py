"""Fuses and merges on a server: the client of an exported model (`hdr_tf.serving.export`), over gRPC. Needs the extra `serve`.

>>> client = connect("localhost:8500", systems.find("pyramid"))  # doctest: +SKIP
>>> fused = pipeline.fuse_files(["dark.jpg", "bright.jpg"], "fused.png", runner=client)  # doctest: +SKIP

Images are read, sorted and aligned on this machine. What is sent is PNG, upright, dark to bright; for `merge` it is pixels, in
tiles.
"""

import functools
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow as tf

from hdr_tf import systems
from hdr_tf.image.depth import from_unit
from hdr_tf.radiance import merge
from hdr_tf.serving.signatures import ENCODED, EXPOSURES, FUSED, HDR, LDR, exposure_input

try:
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
except ModuleNotFoundError as error:
    raise ValueError("--server needs tensorflow-serving-api: pip install 'hdr_tf[serve]'") from error

WAIT = 10  # seconds for a server to answer at all
# What protobuf can hold, and what the server takes; gRPC's own limit is 4 MiB, less than one photograph.
MAX_MESSAGE = 2**31 - 1


def connect(server: str, system: systems.System):
    """Returns the runner of a system that lets a server run it, a `Client` or a `MergeClient`.

    Args:
        server: host:port, or host:port/name if the server knows the model by another name; OSError if nobody answers there.
        system: which one; ValueError if no server can run it.
    """
    if not system.client:
        raise ValueError(f"--server: {system.name} works on images outside a network and cannot run on a server")
    return systems.resolve(system.client)(server, system)


class _Model:
    """A model on a server; arguments as for `connect`."""

    def __init__(self, server: str, system: systems.System):
        address, _, name = server.partition("/")
        self._name, self._server = name or system.name, address
        self._predict = _stub(address).Predict

    def __str__(self):
        return f"{self._server}/{self._name}"

    def _request(self, signature, inputs):
        """Sends a batch of one; returns {name: TensorProto}."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = self._name, signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        try:
            return self._predict(request).outputs
        except grpc.RpcError as error:
            message = f"{self._server}: {self._name}: {(error.details() or error.code().name).splitlines()[0]}"
            refused = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            raise (ValueError if refused else ConnectionError)(message) from error


class Client(_Model):
    """A runner of fusion (see `hdr_tf.fusion.pipeline`) and of three exposures to radiance (see `hdr_tf.radiance.pipeline`)."""

    aligns = False

    def prepare(self, exposures: int, height: int, width: int, eight_bit: bool) -> None:
        """Does nothing: the server has the network."""

    def fuse(self, images: Sequence[np.ndarray], gray_and_color: bool = False) -> np.ndarray:
        """Fuses images of one size and type, [H, W, 3] RGB or [H, W], uint8 or uint16, dark to bright; returns one such image.
        ValueError if the server refuses the images, OSError if the connection breaks."""
        inputs = {exposure_input(number): [_to_png(image)] for number, image in enumerate(images, start=1)}
        fused = cv2.imdecode(np.frombuffer(self._ask(inputs)[FUSED], np.uint8), cv2.IMREAD_UNCHANGED)
        return fused if fused.ndim == 2 else np.ascontiguousarray(fused[..., ::-1])

    def align_both(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Returns the images as they are: the server aligns them."""
        return ldr

    def merge(self, ldr: np.ndarray, exposures: Sequence[float]) -> np.ndarray:
        """Merges three exposures, [3, H, W, 3] float32 in 0..1 from images of 8 or 16 bit, low to high, to radiance, [H, W, 3]
        float32. `exposures` are 2**stops, 1 for the lowest. Errors as in `fuse`."""
        inputs = {name: [_to_png(image)] for name, image in zip(LDR, from_unit(ldr, np.uint16), strict=True)}
        return tf.io.parse_tensor(self._ask(inputs | {EXPOSURES: np.float32([exposures])})[HDR], tf.float32).numpy()

    def _ask(self, inputs):
        """Asks the signature `encoded`; returns {name: bytes}."""
        return {name: tensor.string_val[0] for name, tensor in self._request(ENCODED, inputs).items()}


class MergeClient(_Model, merge.Merge):
    """The runner of `merge` (see `hdr_tf.radiance.merge`), whose network is on the server.

    Alignment and the estimate of the noise stay on this machine. The server gets the images at a quarter of their
    size, then tile after tile, so that its memory and the messages are bounded."""

    networks = ()

    def __init__(self, server: str, system: systems.System):
        super().__init__(server, system)
        self._fill, self._weigh, self._denoise = (functools.partial(self._run, stage) for stage in merge.STAGES)

    def _run(self, stage, *values):
        """Asks for a stage of the network, with its inputs by position; returns {name: array}."""
        outputs = self._request(stage, dict(zip(merge.STAGES[stage], values, strict=True)))
        return {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}


@functools.cache
def _stub(address):
    limits = [(f"grpc.max_{way}_message_length", MAX_MESSAGE) for way in ("send", "receive")]
    channel = grpc.insecure_channel(address, limits)
    try:
        grpc.channel_ready_future(channel).result(WAIT)
    except grpc.FutureTimeoutError as error:
        channel.close()
        raise ConnectionError(f"{address}: no server answers within {WAIT} seconds; expected host:port of gRPC") from error
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def _to_png(image):
    return cv2.imencode(".png", image if image.ndim == 2 else image[..., ::-1])[1].tobytes()
