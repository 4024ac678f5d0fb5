"""`merge`, exported once: its signatures against the runner for several numbers and sizes of exposures, client, bad input."""

import re
import struct

import cv2
import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from hdr_tf import systems
from hdr_tf.image import noise as noise_model
from hdr_tf.image import optical_flow, tone
from hdr_tf.radiance import merge
from hdr_tf.serving import client
from hdr_tf.serving import export as serving_export
from hdr_tf.weights import save_weights
from tests import helpers, stand_in_server
from tools import export

pytestmark = pytest.mark.slow  # the export takes half a minute

MAX_PIXELS = 20_000
NOISE = noise_model.Noise(2e-4, 3e-4, 1 / 65535)
# Of radiance up to about 2: the runner rounds what its fill begins with to 16 bit, the exported graph does not.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def bracket(count, height, width, dtype=np.uint16, shift=0):
    """Exposures of a smooth scene with a red piece that moves, short to long, [H, W, 3]; and their exposures.

    The camera moves by `shift` pixels to the right between two of them."""
    rng, images, exposures = np.random.default_rng(0), [], 2 ** np.linspace(-2.5, 2.5, count)
    top, left = height // 4, width // 4
    for number, exposure in enumerate(exposures):
        rows, columns = np.indices((height, width)) / 8
        columns += number * shift / 8
        light = np.exp2(2.5 * np.sin(rows[..., None] + np.arange(3)) * np.cos(columns[..., None]) - 3)
        light[top + 2 * number : 2 * (top + number), left : 2 * left] = [1.5, 0.3, 0.02]
        signal = np.clip(light * exposure, 0, 1)
        signal += rng.normal(0, 1, signal.shape) * np.sqrt(NOISE.gain * signal + NOISE.read**2)
        white = np.iinfo(dtype).max
        images.append(np.rint(white * np.clip(signal, 0, 1) ** (1 / tone.DISPLAY_GAMMA)).astype(dtype))
    return images, exposures


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def facts(exposures, reference, batch=1):
    """The inputs that both signatures share."""
    numbers = np.float32([exposures]), np.int32([reference]), np.float32([NOISE])
    return {name: np.repeat(x, batch, axis=0) for name, x in zip(("exposures", "reference", "noise"), numbers, strict=True)}


def tensors(images, exposures, reference, inside=None):
    """The inputs of `serving_default`."""
    linear = tone.to_radiance(np.float32(images) / np.iinfo(images[0].dtype).max, 1)
    inside = np.full((len(images), 1, 1), optical_flow.UNMOVED) if inside is None else inside
    return {"images": linear[None], "inside": np.float32(inside)[None, ..., None]} | facts(exposures, reference)


def run(signature, inputs):
    return {name: x.numpy() for name, x in signature(**{name: tf.constant(x) for name, x in inputs.items()}).items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights that are nowhere zero, as those of the untrained network are."""
    keras.utils.set_random_seed(0)
    network, rng = systems.build("merge"), np.random.default_rng(0)
    for variable in network.trainable_variables:
        if not np.any(variable.numpy()):
            variable.assign(rng.normal(0, 0.05, variable.shape))
    path = tmp_path_factory.mktemp("weights") / "merge.weights.h5"
    save_weights(network, path)
    return path


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export.main(export.Config(str(folder / "merge"), "merge", str(weights), max_pixels=MAX_PIXELS))
    return folder


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder / "merge" / "1")).signatures


@pytest.fixture(scope="module")
def server(folder):
    """The address of a stand-in, and its service."""
    with stand_in_server.serving(folder) as (address, service):
        yield address, service


@pytest.fixture(scope="module")
def runner(weights):
    return systems.load_runner("merge", weights)


@pytest.mark.parametrize(
    ("count", "height", "width", "reference"), [(2, 8, 8, 0), (3, 61, 67, 1), (5, 72, 96, 0), (9, 40, 53, 4)]
)
def test_linear_tensors(count, height, width, reference, signatures, runner):
    images, exposures = bracket(count, height, width)
    arguments = {"reference": reference, "align": False, "noise": NOISE}
    found = run(signatures["serving_default"], tensors(images, exposures, reference))
    expected = runner.reconstruct(images, exposures, **arguments)
    np.testing.assert_allclose(found["denoised"][0], expected.radiance, **TOLERANCE)
    np.testing.assert_array_equal(found["source"][0], expected.source)
    noisy = runner.reconstruct(images, exposures, **arguments, denoise=0).radiance
    np.testing.assert_allclose(found["radiance"][0], noisy, **TOLERANCE)
    assert count == 2 or np.abs(noisy - expected.radiance).max() > 100 * TOLERANCE["atol"]
    # Only ratios of exposures matter; and a batch of two is two batches.
    relative = run(signatures["serving_default"], tensors(images, exposures / exposures[reference], reference))
    np.testing.assert_allclose(relative["denoised"], found["denoised"] * exposures[reference], **TOLERANCE)
    twice = {name: np.repeat(x, 2, axis=0) for name, x in tensors(images, exposures, reference).items()}
    np.testing.assert_allclose(run(signatures["serving_default"], twice)["denoised"][1], found["denoised"][0], **TOLERANCE)


def test_aligned_tensors(signatures, runner):
    images, exposures = bracket(3, 72, 96, shift=3)
    expected = runner.reconstruct(images, exposures, noise=NOISE)
    aligned, inside = expected.registered.images, expected.registered.inside
    assert not np.all(inside)
    found = run(signatures["serving_default"], tensors(aligned, exposures, 1, inside))
    np.testing.assert_allclose(found["denoised"][0], expected.radiance, **TOLERANCE)
    # Linear values above 1 are clipped, and below 0 there is no light.
    beyond = tensors(aligned, exposures, 1, inside)
    beyond["images"] = np.where(beyond["images"] == 1, np.float32(3), np.where(beyond["images"] == 0, -1, beyond["images"]))
    np.testing.assert_array_equal(run(signatures["serving_default"], beyond)["denoised"], found["denoised"])


@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint16, ".png"), (np.uint8, ".png"), (np.uint8, ".jpg")])
def test_encoded(dtype, suffix, signatures, runner):
    images, exposures = bracket(4, 61, 67, dtype)
    files = [encoded(image, suffix) for image in images]
    decoded = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1] for file in files]
    expected = runner.reconstruct(decoded, exposures, align=False, noise=NOISE)
    found = run(signatures["encoded"], {"images": [files, files]} | facts(exposures, 1, 2))
    for row in range(2):
        radiance = tf.io.parse_tensor(found["hdr_bytes"][row], tf.float32).numpy()
        np.testing.assert_allclose(radiance, expected.radiance, **TOLERANCE)
        source, preview = (
            cv2.imdecode(np.frombuffer(found[name][row], np.uint8), cv2.IMREAD_UNCHANGED)
            for name in ("source_bytes", "preview_bytes")
        )
        assert np.mean(source != expected.source) < 1e-3
        shown = 255 * tone.mu_law(np.clip(expected.radiance * exposures[0], 0, 1))
        assert np.abs(preview[..., ::-1] - shown).max() < 0.6


def test_warm_up(folder, server):
    path = folder / "merge" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(x) for x in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    requests = [log.predict_log.request for log in logs]
    names = [request.model_spec.signature_name for request in requests]
    assert names == ["serving_default", "encoded", "encoded", "fill", "weigh", "denoise"]
    for request in requests:
        assert server[1].predict(request).outputs


@pytest.mark.parametrize(
    ("count", "height", "width", "tile_values", "arguments"),
    [
        (3, 61, 67, 2**22, {}),
        (2, 24, 400, 2**12, {"fill": False, "denoise": 0, "align": False}),  # in tiles
        (5, 200, 210, 2**12, {"reference": 0, "noise": NOISE}),
    ],
)
def test_client(count, height, width, tile_values, arguments, server, runner, monkeypatch):
    """The client aligns, tiles and removes noise as the runner does; only the network is elsewhere."""
    monkeypatch.setattr(merge, "TILE_VALUES", tile_values)
    images, exposures = bracket(count, height, width, shift=2)
    remote = client.connect(f"{server[0]}/merge", systems.find("merge"))
    assert str(remote) == f"{server[0]}/merge" and remote.aligns and remote.networks == ()
    found, expected = (system.reconstruct(images, exposures, **arguments) for system in (remote, runner))
    np.testing.assert_allclose(found.radiance, expected.radiance, rtol=1e-5, atol=1e-6)
    # Where two exposures count the same, rounding decides: another compilation may name the other one.
    assert np.mean(found.source != expected.source) < 1e-3
    assert found.noise == expected.noise


def test_documented_program(tmp_path, monkeypatch, capsys):
    """That of docs/serving.md: a still scene without noise comes back."""
    page = (helpers.ROOT / "docs" / "serving.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "saved_model" in block]
    export.main(export.Config(str(tmp_path / "exported" / "merge"), "merge"))
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(program, {})
    assert float(capsys.readouterr().out) < 1e-4


def test_client_refuses(server, monkeypatch):
    system = systems.find("merge")
    with pytest.raises(ValueError, match=helpers.mentions("other Servable")) as caught:
        client.connect(f"{server[0]}/other", system).reconstruct(*bracket(2, 16, 16))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=helpers.mentions("--server merge_classical")):
        client.connect(server[0], systems.find("merge_classical"))
    monkeypatch.setattr(client, "WAIT", 0.5)
    with pytest.raises(OSError, match=helpers.mentions("localhost:1")):
        client.connect("localhost:1", system)


def test_export_refuses(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("merge_classical network --model=merge")):
        serving_export.export("merge_classical", tmp_path / "a")
    with pytest.raises(ValueError, match=helpers.mentions("merge 2 9 10")):
        serving_export.export("merge", tmp_path / "a", exposures=10)
    assert not list(tmp_path.iterdir())


IMAGES, EXPOSURES = bracket(3, 16, 24)
FLOAT = tensors(IMAGES, EXPOSURES, 1)
FILES = [encoded(image) for image in IMAGES]
GOOD = {"images": np.array([FILES], object)} | facts(EXPOSURES, 1)


def _files(*files):
    return {"images": np.array([files], object)}


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("serving_default", {"images": FLOAT["images"][0]}, "images"),
        ("serving_default", {"images": FLOAT["images"][..., :1]}, "images"),
        ("serving_default", {"images": FLOAT["images"].astype(np.uint8)}, "images float32"),
        ("serving_default", {"images": FLOAT["images"][:, :2]}, "inside"),
        ("serving_default", {name: FLOAT[name][:, :2] for name in ("images", "inside")}, "exposures"),
        (
            "serving_default",
            {"images": FLOAT["images"][:, :1], "inside": FLOAT["inside"][:, :1], "exposures": FLOAT["exposures"][:, :1]},
            "2 9",
        ),
        ("serving_default", {"images": FLOAT["images"][:, :, :4, :4]}, "images 8 x 8"),
        (
            "serving_default",
            {"images": np.ones((1, 3, 100, 201, 3), np.float32), "inside": np.ones((1, 3, 1, 1, 1), np.float32)},
            "images 1 20000",
        ),
        ("serving_default", {"images": np.where(FLOAT["images"] > 0, np.float32(np.nan), 0)}, "images finite"),
        ("serving_default", {"inside": np.ones((1, 3, 16, 23, 1), np.float32)}, "inside"),
        ("serving_default", {"inside": np.ones((1, 3), np.float32)}, "inside"),
        ("serving_default", {"inside": np.full((1, 3, 1, 1, 1), np.nan, np.float32)}, "inside finite"),
        ("serving_default", {"exposures": FLOAT["exposures"][0]}, "exposures"),
        ("serving_default", {"exposures": -FLOAT["exposures"]}, "exposures 0"),
        ("serving_default", {"exposures": np.float32([[1, 2, np.inf]])}, "exposures 0"),
        ("serving_default", {"reference": np.int32([3])}, "reference index 3"),
        ("serving_default", {"reference": np.int32([-1])}, "reference index"),
        ("serving_default", {"reference": np.int32([1, 1])}, "reference"),
        ("serving_default", {"noise": np.float32([[1e-4, 0, 0]])}, "noise"),
        ("serving_default", {"noise": np.float32([[1e-4, -1, 0, 0]])}, "noise"),
        ("serving_default", {"noise": np.float32([[1e-4, np.nan, 0, 0]])}, "noise finite"),
        ("encoded", {"images": GOOD["images"][0]}, "images"),
        ("encoded", {"images": GOOD["images"][:, :2]}, "exposures"),
        ("encoded", _files(FILES[0], b"", FILES[2]), "images JPEG PNG"),
        ("encoded", _files(FILES[0], b"GIF89a, not a photograph", FILES[2]), "images JPEG PNG"),
        ("encoded", _files(FILES[0], FILES[1][:-500], FILES[2]), "images"),
        ("encoded", _files(FILES[0], encoded(IMAGES[1][:-1]), FILES[2]), "images size"),
        ("encoded", _files(*[encoded(np.zeros((4, 4, 3), np.uint8))] * 3), "images 8 x 8"),
        ("encoded", _files(*[file[:16] + struct.pack(">II", 60_000, 60_000) + file[24:] for file in FILES]), "1 20000"),
        ("encoded", {"exposures": np.float32([[0, 1, 2]])}, "exposures 0"),
        ("encoded", {"reference": np.int32([7])}, "reference index 7"),
        ("encoded", {"inside": FLOAT["inside"]}, "inputs do not match"),
    ],
)
def test_bad_request(signature, inputs, words, server):
    """Refused with a line that has the name of the input, and the server continues."""
    good = FLOAT if signature == "serving_default" else GOOD
    channel = grpc.insecure_channel(server[0])
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

    def request(inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "merge", signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    with channel:
        with pytest.raises(grpc.RpcError) as caught:
            predict(request(good | inputs), timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert helpers.mentioned(words, caught.value.details())
        assert predict(request(good), timeout=60).outputs
