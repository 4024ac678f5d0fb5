"""Exported models: both signatures against the library, the folders for the server, requests good and bad, and the client."""

import base64
import functools
import io
import json
import pathlib
import re
import struct

import cv2
import grpc
import keras
import numpy as np
import openvino
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

import hdr_tf
from hdr_tf import systems
from hdr_tf.fusion import compiled
from hdr_tf.image import color
from hdr_tf.io import image_files
from hdr_tf.serving import client, color_ops, signatures
from hdr_tf.serving import export as serving_export
from hdr_tf.weights import save_weights
from tests import helpers, stand_in_server
from tools import export, fuse

MAX_PIXELS = 160_000  # 400 x 400: of the pyramid two networks, up to a shorter side of 383 and above
SERVED = "densefuse_rgb"  # of colour, as the default, and much faster to export and to compile
SERVED_PIXELS = 90_000


def bracket(count=2, height=24, width=32, dtype=np.uint8):
    """Exposures of a smooth scene, dark to bright, [H, W, 3]."""
    rows, columns = np.indices((height, width)) / 8
    scene = np.exp2(1.5 * np.sin(rows[..., None] + np.arange(3)) * np.cos(columns[..., None]) - 2)
    scene *= 1 + 0.1 * np.random.default_rng(0).random((height, width, 3))
    white = np.iinfo(dtype).max
    return [np.clip(white * scene * 4.0**i, 0, white).astype(dtype) for i in range(count)]


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image if image.ndim == 2 else image[..., ::-1])[1].tobytes()


def decoded(contents):
    image = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[..., ::-1]


def assert_within_a_level(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """{model: file of random weights}; the pyramid's, densefuse's come with the software."""
    folder, paths = tmp_path_factory.mktemp("weights"), dict.fromkeys(systems.names("fusion"))
    for model in ("deepfuse_official", "deepfuse_sunnerli", "hyperp_mb"):
        keras.utils.set_random_seed(1)
        paths[model] = str(folder / f"{model}.weights.h5")
        save_weights(systems.build(model), paths[model])
    return paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A server's folder with a model, version 1, that the server knows by the name of the default."""
    folder = tmp_path_factory.mktemp("exported")
    serving_export.export(SERVED, folder / "pyramid", max_pixels=SERVED_PIXELS)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """The address of a stand-in, and its service."""
    with stand_in_server.serving(folder) as (address, service):
        yield address, service


@pytest.mark.parametrize(
    ("model", "exposures"),
    [
        pytest.param("pyramid", 2, marks=pytest.mark.slow),
        pytest.param("deepfuse_official", 3, marks=pytest.mark.slow),
        pytest.param("deepfuse_sunnerli", 3, marks=pytest.mark.slow),
        pytest.param("densefuse_gray", 3, marks=pytest.mark.slow),
        pytest.param("densefuse_rgb", 2, marks=pytest.mark.slow),
        pytest.param("hyperp_mb", 2, marks=pytest.mark.slow),
    ],
)
def test_export(model, exposures, weights, tmp_path):
    version = serving_export.export(model, tmp_path / model, weights[model], exposures, MAX_PIXELS)
    signatures = tf.saved_model.load(str(version)).signatures

    system = systems.find(model)
    arguments = compiled.builder_arguments(system, exposures, 1024, 1024)
    network = systems.load_network(model, system.weights_path(weights[model]), **arguments)
    rng = np.random.default_rng(0)
    second_engine = openvino.Core().compile_model(str(version), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for height, width in ((24, 32), (37, 53)):  # neither is the size that the export was traced with: it has none
        images = {x.name: rng.random((2, height, width, x.shape[-1]), np.float32) for x in network.inputs}
        expected = keras.ops.convert_to_numpy(network(images)["fused"])
        tolerance = {"rtol": 0, "atol": 1e-5 * np.abs(expected).max()}  # float32 sums, taken in another order
        found = signatures["serving_default"](**{name: tf.constant(image) for name, image in images.items()})
        np.testing.assert_allclose(found["fused"], expected, **tolerance)
        np.testing.assert_allclose(second_engine(images)["fused"], expected, **tolerance)
    specs = signatures["serving_default"].structured_input_signature[1]
    assert {name: spec.dtype for name, spec in specs.items()} == dict.fromkeys(images, tf.float32)

    run = signatures["encoded"]
    names = [f"exposure_{number}" for number in range(1, exposures + 1)]
    assert run.structured_input_signature[1] == {name: tf.TensorSpec([None], tf.string, name) for name in names}
    assert run.structured_outputs == {"fused_bytes": tf.TensorSpec([None], tf.string, "fused_bytes")}

    def fused(*brackets, suffix=".png"):
        rows = [[encoded(image, suffix) for image in images] for images in brackets]
        columns = dict(zip(names, map(tf.constant, zip(*rows, strict=True)), strict=True))
        return [decoded(contents) for contents in run(**columns)["fused_bytes"].numpy()]

    def expected(images):
        return hdr_tf.fuse(images, model, weights[model], keep_order=True)

    # Widths of whole vectors: OpenCV computes Lab of floats otherwise in what is left of a row.
    eight, sixteen = bracket(exposures, 24, 32), bracket(exposures, 40, 16, np.uint16)
    gray = [image[..., 1] for image in sixteen]
    for found, images in zip(fused(eight, sixteen, gray), (eight, sixteen, gray), strict=True):
        assert_within_a_level(found, expected(images))
    mixed = [eight[0], *bracket(exposures, 24, 32, np.uint16)[1:]]
    assert_within_a_level(fused(mixed)[0], expected(mixed))
    paths = [tmp_path / f"{number}.jpg" for number in range(exposures)]
    for path, image in zip(paths, eight, strict=True):
        path.write_bytes(encoded(image, ".jpg"))
    assert_within_a_level(fused(eight, suffix=".jpg")[0], expected(paths))
    if exposures == 2:  # infrared and visible
        pair = [eight[0][..., 1], eight[1]]
        assert_within_a_level(fused(pair)[0], expected(pair))


@pytest.mark.parametrize("eight_bit", [True, False])
@pytest.mark.parametrize("model", [name for name in systems.names("fusion") if systems.SYSTEMS[name].color])
def test_colour(model, eight_bit):
    images = bracket(3, 64, 128, np.uint8 if eight_bit else np.uint16)
    images[0] = images[0] // 4  # down to Lab's linear part
    images = images if eight_bit else [image / np.float32(257) for image in images]
    ops, rule = color_ops.TensorFlowOps, systems.resolve(systems.SYSTEMS[model].color)
    tolerance = 0 if eight_bit else 1 / 257
    planes = [rule.split(image) for image in images]
    for expected, image in zip(planes, images, strict=True):
        np.testing.assert_allclose(rule.split(tf.constant(image), ops), expected, rtol=0, atol=tolerance)
    fused = (planes[0][0] / 2 + 60).astype(images[0].dtype)
    chroma = [pair for _, *pair in planes]
    joined = rule.join(tf.constant(fused), chroma, ops)
    np.testing.assert_allclose(joined, rule.join(fused, chroma), rtol=0, atol=tolerance)
    luminance = color.luminance(tf.constant(images[1]), ops)
    np.testing.assert_allclose(luminance, color.luminance(images[1]), rtol=0, atol=tolerance / 100)


@pytest.mark.slow
def test_lab_of_every_colour():
    ops = color_ops.TensorFlowOps
    green, blue = np.indices((256, 256), np.uint8)
    for level in range(256):
        rgb = np.dstack([np.full_like(green, level), green, blue])
        np.testing.assert_array_equal(ops.rgb_to_lab(tf.constant(rgb)), cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab))
        np.testing.assert_array_equal(ops.lab_to_rgb(tf.constant(rgb)), cv2.cvtColor(rgb, cv2.COLOR_Lab2RGB))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text(""), "a"),
        (lambda path: path.symlink_to("nowhere"), "a"),
        (lambda path: (path / "pictures").mkdir(parents=True), "a pictures"),
        (lambda path: path.with_name("models.config").write_text("models:"), "models.config"),
    ],
)
def test_export_refuses_other_folders(make, message, tmp_path):
    make(tmp_path / "a")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        export.main(export.Config(str(tmp_path / "a")))
    assert sorted(tmp_path.rglob("*")) == before


def test_export_refuses_numbers(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("2 1")):
        serving_export.export("hyperp_mb", tmp_path / "a", exposures=1)
    with pytest.raises(ValueError, match=helpers.mentions("max_pixels 64 63")):
        serving_export.export("pyramid", tmp_path / "a", max_pixels=63)
    assert not list(tmp_path.iterdir())


def test_warm_up(folder, server):
    listed = 'model_config_list { config { name: "pyramid" base_path: "/models/pyramid" model_platform: "tensorflow" } }'
    assert " ".join((folder / "models.config").read_text().split()) == listed
    path = folder / "pyramid" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(x) for x in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    requests = [log.predict_log.request for log in logs]
    assert [(request.model_spec.name, request.model_spec.signature_name) for request in requests] == [
        ("pyramid", "serving_default"),
        ("pyramid", "encoded"),
        ("pyramid", "encoded"),
    ]
    for request, name in zip(requests, ("fused", "fused_bytes", "fused_bytes"), strict=True):
        assert list(server[1].predict(request).outputs) == [name]


GOOD = dict(zip(("exposure_1", "exposure_2"), map(encoded, bracket()), strict=True))
FLOAT = {f"exposure_{i}": np.full((1, 16, 16, 3), i / 3, np.float32) for i in (1, 2)}


def _bomb(contents):
    return contents[:16] + struct.pack(">II", 60_000, 60_000) + contents[24:]


def _private_chunk_first():
    """A header of 8 x 8 for those who take the first chunk for one, and the true one, of 400 x 400, after it."""
    contents = encoded(np.zeros((400, 400, 3), np.uint8))
    return contents[:8] + helpers.png_chunk(b"prVt", struct.pack(">IIBBBBB", 24, 32, 8, 2, 0, 0, 0)) + contents[8:]


def _two_headers():
    contents = GOOD["exposure_2"]
    return contents[:33] + helpers.png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)) + contents[33:]


def _cmyk():
    file = io.BytesIO()
    Image.new("CMYK", (32, 24)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"exposure_2": FLOAT["exposure_2"][0]}, "exposure_2"),
        ({"exposure_2": FLOAT["exposure_2"][..., :1]}, "exposure_2"),
        ({name: np.dstack([x] * 2)[None] for name, x in (("exposure_1", FLOAT["exposure_1"][0]),)}, "exposure_1"),
        ({"exposure_2": FLOAT["exposure_2"].astype(np.uint8)}, "exposure_2 float32"),
        ({"exposure_2": FLOAT["exposure_2"][:, 1:]}, "exposure_2"),
        ({"exposure_2": FLOAT["exposure_2"][:, :1, :1]}, "exposure_2"),
        ({"exposure_2": np.repeat(FLOAT["exposure_2"], 2, axis=0)}, "exposure_2"),
        ({name: x[:, :1, :1] for name, x in FLOAT.items()}, "exposure_1 8 x 8"),
        ({"exposure_2": np.where(FLOAT["exposure_2"] > 0, np.float32(np.nan), 0)}, "exposure_2 finite"),
        ({"exposure_2": np.full((1, 16, 16, 3), np.inf, np.float32)}, "exposure_2 finite"),
        ({name: np.ones((1, 300, 301, 3), np.float32) for name in FLOAT}, "exposure_1 1 90000"),
        ({name: np.ones((2, 300, 151, 3), np.float32) for name in FLOAT}, "exposure_1 1 90000"),
        ({name: [contents] * 65 for name, contents in GOOD.items()}, "64 65"),
        ({"exposure_3": FLOAT["exposure_2"]}, "inputs do not match"),
        ({"exposure_2": [b""]}, "exposure_2 JPEG PNG"),
        ({"exposure_2": [b"GIF89a, not a photograph"]}, "exposure_2 JPEG PNG"),
        ({"exposure_2": [GOOD["exposure_2"][:20]]}, "exposure_2 JPEG PNG"),
        ({"exposure_2": [GOOD["exposure_2"][:-500]]}, "exposure_2"),
        ({"exposure_2": [GOOD["exposure_2"][:500] + b"flipped" + GOOD["exposure_2"][507:]]}, "exposure_2"),
        ({"exposure_2": [encoded(bracket()[1], ".jpg")[:-500]]}, "exposure_2"),
        ({"exposure_2": [b"\xff\xd8\xff\xe0"]}, "exposure_2"),
        ({"exposure_2": [_cmyk()]}, "exposure_2 gray RGB"),
        ({"exposure_2": [_bomb(GOOD["exposure_2"])]}, "exposure_2 1 90000"),
        ({"exposure_2": [_private_chunk_first()]}, "exposure_2 JPEG PNG"),
        ({"exposure_2": [_two_headers()]}, "exposure_2"),
        ({"exposure_2": [helpers.jpeg_of_scans(101)]}, "exposure_2 100 101"),
        ({"exposure_2": [encoded(bracket()[1][:-1])]}, "exposure_2 size"),
        ({name: [encoded(np.zeros((1, 1, 3), np.uint8))] for name in GOOD}, "exposure_1 8 x 8"),
        ({"exposure_2": [GOOD["exposure_2"]] * 2}, "batch size"),
        ({"exposure_2": [1.5]}, "exposure_2 string"),
    ],
)
def test_bad_request(inputs, words, server):
    """Told by the name of the input, and the server goes on."""
    floating = isinstance(next(iter(inputs.values())), np.ndarray)
    good = FLOAT if floating else {name: [contents] for name, contents in GOOD.items()}
    channel = grpc.insecure_channel(server[0])
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

    def request(inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "pyramid"
        request.model_spec.signature_name = "serving_default" if floating else "encoded"
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return predict_pb2.PredictRequest.FromString(request.SerializeToString())

    with channel:
        with pytest.raises(grpc.RpcError) as caught:
            predict(request(good | inputs), timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert helpers.mentioned(words, caught.value.details())
        assert list(predict(request(good), timeout=60).outputs) == ["fused" if floating else "fused_bytes"]


def write_photographs(folder, dtype=np.uint8):
    """A bracket of two on its side, the bright one first by name, with exposures in EXIF where the format is JPEG."""
    folder.mkdir(parents=True)
    paths = []
    for name, image, time in zip("ba", bracket(2, 24, 32, dtype), (0.01, 0.04), strict=True):
        if dtype == np.uint8:
            helpers.write_photograph(folder / f"{name}.jpg", image, time, 6, quality=95)
        else:
            image_files.write_image(folder / f"{name}.png", image)
        paths.append(str(next(folder.glob(f"{name}.*"))))
    return sorted(paths)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_client(dtype, server, tmp_path, capsys):
    paths = write_photographs(tmp_path / "brackets" / "church", dtype)
    assert fuse.main(fuse.Config(paths, str(tmp_path / "fused.tif"), server=server[0])) == 0
    assert_within_a_level(image_files.read_image(tmp_path / "fused.tif").pixels, hdr_tf.fuse(paths, SERVED))
    config = fuse.Config(brackets=str(tmp_path / "brackets"), output=str(tmp_path / "fused"), server=f"{server[0]}/pyramid")
    assert fuse.main(config) == 0
    assert helpers.mentioned(f"1 {tmp_path / 'fused'}", capsys.readouterr().out)
    assert_within_a_level(image_files.read_image(tmp_path / "fused" / "church.png").pixels, hdr_tf.fuse(paths, SERVED))


def test_documented_request(server, tmp_path, monkeypatch):
    """The program of docs/serving.md."""
    page = (helpers.ROOT / "docs" / "serving.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "grpc" in block]
    monkeypatch.chdir(tmp_path)
    for name, image in zip(("dark.jpg", "bright.jpg"), bracket(), strict=True):
        pathlib.Path(name).write_bytes(encoded(image, ".jpg"))
    exec(program.replace("localhost:8500", server[0]), {})
    found = image_files.read_image("fused.png").pixels
    assert_within_a_level(found, hdr_tf.fuse(["dark.jpg", "bright.jpg"], SERVED, keep_order=True))


def rest(service, url, body):
    """What the server answers to a REST request: the same as over gRPC, with bytes in base64."""
    asked, request = json.loads(body), predict_pb2.PredictRequest()
    request.model_spec.name = re.fullmatch(r"http://localhost:8501/v1/models/(\w+):predict", url)[1]
    request.model_spec.signature_name = asked["signature_name"]
    for name, column in asked["inputs"].items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto([base64.b64decode(value["b64"]) for value in column]))
    ((name, tensor),) = service.predict(request).outputs.items()
    assert name.endswith("_bytes")  # which tells the server that it is no text
    return io.StringIO(json.dumps({"outputs": [{"b64": base64.b64encode(value).decode()} for value in tensor.string_val]}))


def test_documented_rest_request(server, tmp_path, monkeypatch):
    """The other program of docs/serving.md."""
    page = (helpers.ROOT / "docs" / "serving.md").read_text()
    (program,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "b64" in block]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("urllib.request.urlopen", functools.partial(rest, server[1]))
    for name, image in zip(("dark.jpg", "bright.jpg"), bracket(), strict=True):
        pathlib.Path(name).write_bytes(encoded(image, ".jpg"))
    exec(program, {})
    found = image_files.read_image("fused.png").pixels
    assert_within_a_level(found, hdr_tf.fuse(["dark.jpg", "bright.jpg"], SERVED, keep_order=True))


def test_documented_bodies_have_the_names_of_the_signatures():
    page = (helpers.ROOT / "docs" / "serving.md").read_text()
    rows = [row.split(" | ") for row in re.findall(r"^\| (.*`encoded`.*b64.*) \|$", page, re.MULTILINE)]
    assert [[set(re.findall(r'"(\w+)": \[', cell)) for cell in row[1:]] for row in rows] == [
        [{signatures.exposure_input(number) for number in (1, 2)}, set()],
        [
            {signatures.IMAGES, signatures.EXPOSURES, signatures.REFERENCE, signatures.NOISE},
            {signatures.HDR, signatures.PREVIEW, signatures.SOURCE},
        ],
        [{*signatures.LDR, signatures.EXPOSURES}, {signatures.HDR, signatures.PREVIEW}],
    ]


def test_documented_batches(server):
    """Settings that the server knows, and a batch as large as they allow, of images of several sizes."""
    page = (helpers.ROOT / "docs" / "serving.md").read_text()
    (config,) = [block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "max_batch_size" in block]
    settings = {name: int(value) for name, value in re.findall(r"^(\w+) \{ value: (\d+) \}$", config, re.MULTILINE)}
    assert list(settings) == ["max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"]
    assert len(config.splitlines()) == 4 and settings["max_batch_size"] <= 64
    pairs = [bracket(height=24 + i, width=40 - i) for i in range(settings["max_batch_size"])]
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "pyramid", signatures.ENCODED
    for name, column in zip(("exposure_1", "exposure_2"), zip(*pairs, strict=True), strict=True):
        request.inputs[name].CopyFrom(tf.make_tensor_proto([encoded(image) for image in column]))
    found = server[1].predict(request).outputs["fused_bytes"].string_val
    for contents, pair in zip(found, pairs, strict=True):
        assert_within_a_level(decoded(contents), hdr_tf.fuse(pair, SERVED, keep_order=True))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "densefuse_gray"}, ValueError, "densefuse_gray Servable"),
        ({"weights": "a.weights.h5"}, ValueError, "--weights --server"),
        ({"model": "dqn_editor"}, ValueError, "dqn_editor"),
        ({"model": "mertens"}, ValueError, "mertens pyramid"),
        ({"server": "localhost:1"}, OSError, "localhost:1"),
        ({"number": 3}, ValueError, "pyramid inputs do not match"),
    ],
)
def test_client_refuses(arguments, error, message, server, tmp_path, monkeypatch):
    if error is OSError:  # whom a busy machine keeps waiting is not to be taken for nobody
        monkeypatch.setattr(client, "WAIT", 0.5)
    paths = write_photographs(tmp_path / "in")[: arguments.pop("number", 2)]
    if "inputs do not match" in message and len(paths) < 3:
        paths += helpers.write_bracket(tmp_path / "in", [255 - image_files.read_image(paths[0]).pixels], names="z")
    with pytest.raises(error, match=helpers.mentions(message)) as caught:
        fuse.main(fuse.Config(paths, str(tmp_path / "out.png"), **{"server": server[0]} | arguments))
    assert "\n" not in str(caught.value) and helpers.names(tmp_path) == {"in"}
