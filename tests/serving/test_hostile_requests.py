"""Requests that ask for more than they send, to every exported system: refused by the name of the input, before the work."""

import re

import cv2
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from hdr_tf import systems
from hdr_tf.editor.features import Features
from hdr_tf.models import esbn
from hdr_tf.models.dqn_editor import dqn_editor
from hdr_tf.serving import export as serving_export
from hdr_tf.weights import save_weights
from tests import helpers, stand_in_server

MAX_PIXELS = 6_400
LENGTH = Features(["tiny"]).length


def filled(*shape, dtype=tf.float32, value=0.5):
    """A tensor of a few bytes: a shape and one value."""
    proto = tf.make_tensor_proto(value, dtype)
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


def png(height, width):
    return cv2.imencode(".png", np.full((height, width, 3), 99, np.uint8))[1].tobytes()


def text(contents, rows=1):
    return filled(rows, dtype=tf.string, value=contents)


def lying(contents, height, width):
    return contents[:16] + height.to_bytes(4, "big") + width.to_bytes(4, "big") + contents[24:]


IMAGES = ("ldr_low", "ldr_mid", "ldr_high")
GOOD = {
    ("esbn", "serving_default"): {name: filled(1, 16, 24, 3) for name in IMAGES},
    ("esbn", "encoded"): {name: text(png(16, 24)) for name in IMAGES},
    ("dqn_editor", "serving_default"): {"features": filled(2, LENGTH)},
}
for signature in ("serving_default", "encoded"):
    GOOD["esbn", signature]["exposures"] = tf.make_tensor_proto(np.float32([[1, 4, 16]]))


TENSORS = (
    ((1, 80, 81, 3), f"1 {MAX_PIXELS}"),
    ((1, 1, 7000, 3), f"1 {MAX_PIXELS}"),
    ((17, 16, 24, 3), f"1 {MAX_PIXELS}"),
    ((1, 7, 24, 3), "8 x 8"),
    ((16, 24, 3), ""),
    ((1, 1, 16, 24, 3), ""),
    ((), ""),
)
FILES = (
    (text(png(80, 81)), f"1 {MAX_PIXELS}"),
    (text(lying(png(16, 24), 2**31 - 1, 2**31 - 1)), f"1 {MAX_PIXELS}"),
    (text(lying(png(16, 24), 2**31, 8)), f"1 {MAX_PIXELS}"),
    (text(b""), "JPEG PNG"),
    (text(b"\xff\xd8\xff"), ""),
    (filled(1, 1, dtype=tf.string, value=png(16, 24)), ""),
)
HOSTILE = [
    *[("esbn", "serving_default", dict.fromkeys(IMAGES, filled(*shape)), words) for shape, words in TENSORS],
    *[("esbn", "encoded", dict.fromkeys(IMAGES, contents), words) for contents, words in FILES],
    ("esbn", "serving_default", {"exposures": filled(1, 3)}, "exposures"),
    ("esbn", "serving_default", {"exposures": filled(1, 3, value=np.nan)}, "exposures"),
    ("esbn", "serving_default", {"ldr_mid": filled(1, 16, 24, 3, value=np.inf)}, "ldr_mid finite"),
    ("esbn", "encoded", {"exposures": filled(1, 3, value=-1.0)}, "exposures"),
    ("esbn", "encoded", {name: text(png(16, 24), 65) for name in IMAGES} | {"exposures": filled(65, 3)}, "64 65"),
    ("dqn_editor", "serving_default", {"features": filled(MAX_PIXELS, LENGTH)}, f"features 1 {MAX_PIXELS}"),
    ("dqn_editor", "serving_default", {"features": filled(1, LENGTH, value=np.nan)}, "features finite"),
    ("dqn_editor", "serving_default", {"features": filled(1, LENGTH + 1)}, ""),
    ("dqn_editor", "serving_default", {"features": filled(LENGTH)}, ""),
    ("dqn_editor", "serving_default", {"features": filled(1, 1, LENGTH)}, ""),
    ("dqn_editor", "serving_default", {"features": filled()}, ""),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Answers for small exports of the systems."""
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esbn, "BLOCKS", 1)
        joined = systems.build("esbn_end_to_end", align_filters=2, filters=2, growth=1)
        for name in systems.find("esbn").weight_files:
            save_weights(joined.get_layer(name), folder / "esbn_weights" / f"{name}.weights.h5")
        save_weights(dqn_editor(LENGTH, (4,)), folder / "policy.weights.h5", features="tiny")
        serving_export.export("esbn", folder / "esbn", folder / "esbn_weights", max_pixels=MAX_PIXELS)
    serving_export.export("dqn_editor", folder / "dqn_editor", folder / "policy.weights.h5", max_pixels=MAX_PIXELS)
    with stand_in_server.serving(folder) as (_, service):
        yield service


def predict(service, model, signature, inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value)
    assert request.ByteSize() < 100_000
    return service.predict(request)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "signature", "inputs", "words"), HOSTILE)
def test_a_request_that_asks_for_more_than_it_sends(model, signature, inputs, words, service):
    good = GOOD[model, signature]
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)) as caught:
        predict(service, model, signature, good | inputs)
    message = getattr(caught.value, "message", str(caught.value))
    assert any(re.search(rf"\b{name}\b", message) for name in inputs) and helpers.mentioned(words, message)
    assert predict(service, model, signature, good).outputs


@pytest.mark.slow
def test_the_largest_request_is_answered(service):
    assert predict(service, "dqn_editor", "serving_default", {"features": filled(MAX_PIXELS // LENGTH, LENGTH)}).outputs
    largest = GOOD["esbn", "serving_default"] | {name: filled(1, 80, 80, 3) for name in IMAGES}
    assert predict(service, "esbn", "serving_default", largest).outputs["hdr"].tensor_shape.dim[1].size == 80
