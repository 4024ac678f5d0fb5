"""From photographs and scenes to radiance with ESBN: the library, tools/fuse.py, tools/align_scenes.py and the export."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import systems, weights
from hdr_tf.io import image_files, scenes
from hdr_tf.models import esbn as esbn_networks
from hdr_tf.radiance import display, pipeline
from hdr_tf.radiance import esbn as esbn_runner
from hdr_tf.serving import client, export, signatures
from tests import helpers, stand_in_server
from tools import align_scenes, fuse

NARROW = {"align_filters": 2, "filters": 4, "growth": 2}
STOPS = (0, 2, 4)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One residual block instead of nine and one dense convolution instead of six, for speed: reconstruction does not know of
    their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esbn_networks, "BLOCKS", 1)
        patch.setattr(esbn_networks, "DENSE", 1)
        yield


@pytest.fixture(scope="module")
def joined():
    """A narrow `esbn_end_to_end` whose three networks do something."""
    model = systems.build("esbn_end_to_end", **NARROW)
    helpers.draw_kernels(model, np.random.default_rng(1))
    return model


@pytest.fixture(scope="module")
def folder(joined, tmp_path_factory):
    """A folder of the three weight files."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("esbn_align_low", "esbn_align_high", "esbn_fusion"):
        weights.save_weights(joined.get_layer(name), folder / f"{name}.weights.h5")
    return folder


@pytest.fixture(scope="module")
def esbn(folder):
    return pipeline.load("esbn", folder)


def _images(height=21, width=30, dtype=np.uint16, stops=STOPS):
    """Exposures of noise."""
    return helpers.expose(np.random.default_rng(0).random((height, width, 3), np.float32) ** 2 / 8, stops, dtype)


def _run_joined(joined, ldr, exposures):
    """The joined model on [3, H, W, 3] in 0..1."""
    hdr = ldr.astype("float64") ** 2.2 / np.reshape(exposures, (3, 1, 1, 1)) * 2 - 1
    inputs = {f"ldr_{side}": ldr[None, i] * 2 - 1 for i, side in enumerate(("low", "mid", "high"))}
    inputs |= {f"hdr_{side}": hdr[None, i].astype("float32") for i, side in enumerate(("low", "mid", "high"))}
    found = joined(inputs | {"exposures": np.float32([exposures])})
    return {name: (values.numpy()[0] + 1) / 2 for name, values in found.items()}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 17), (40, 24)])
def test_reconstruct_equals_the_joined_network(esbn, joined, height, width):
    images, exposures = _images(height, width), (0.25, 1, 4)
    aligned, radiance = pipeline.reconstruct(esbn, images, exposures)
    expected = _run_joined(joined, images / np.float32(65535), exposures)
    assert aligned.dtype == radiance.dtype == np.float32
    # The radiance of an input is computed in float32 on one side and float64 on the other.
    np.testing.assert_allclose(aligned[0], expected["aligned_low"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(aligned[1], images[1] / np.float32(65535))
    np.testing.assert_allclose(aligned[2], expected["aligned_high"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(radiance, expected["hdr"], rtol=0, atol=1e-5)


def test_one_level_of_16_bit_matters(esbn):
    images = _images()
    changed = images.copy()
    changed[1, 10, 15, 1] ^= 1
    aligned, radiance = pipeline.reconstruct(esbn, images, (1, 4, 16))
    other, changed = pipeline.reconstruct(esbn, changed, (1, 4, 16))
    assert (other[1] != aligned[1]).sum() == 1 and (changed != radiance).any()


def test_tiles_equal_the_whole(esbn, monkeypatch):
    ldr = _images(75, 93) / np.float32(65535)
    monkeypatch.setattr(esbn_runner, "TILE", 16)
    tiled = esbn.merge(ldr, (1, 4, 16))
    monkeypatch.setattr(esbn_runner, "TILE", 96)
    whole = esbn.merge(ldr, (1, 4, 16))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)  # sums in another order; a halo too small shows in 1e-3


def test_alignment_in_tiles_equals_the_whole(esbn, monkeypatch):
    ldr = _images(19, 413) / np.float32(65535)
    whole = esbn.align("low", ldr[0], ldr[1], 1, 4)
    monkeypatch.setattr(esbn_runner, "ALIGN_UNTILED_LIMIT", 0)
    monkeypatch.setattr(esbn_runner, "ALIGN_TILE", 16)
    np.testing.assert_allclose(esbn.align("low", ldr[0], ldr[1], 1, 4), whole, rtol=0, atol=1e-6)  # sums in another order
    monkeypatch.setattr(esbn_runner, "ALIGN_HALO", 16)
    assert np.abs(esbn.align("low", ldr[0], ldr[1], 1, 4) - whole).max() > 1e-5


def test_alignment_sees_as_far_as_its_halo(monkeypatch):
    """Where kernels and images are positive, the gradient of eight columns of the result is 0 but for what they see."""
    monkeypatch.setattr(esbn_networks, "BLOCKS", 9)
    network = systems.build("esbn_align", filters=1)
    for variable in network.weights:
        if variable.name == "kernel":
            variable.assign(tf.fill(variable.shape, 0.2))
    network = keras.Model(network.input, network.get_layer("decoder_output").output)  # tanh has no gradient so far out
    inputs = {name: tf.ones((1, 8, 440, 3)) for name in network.input}
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        columns = tf.reduce_sum(network(inputs)[:, :, 216:224])
    for gradient in tape.gradient(columns, inputs).values():
        seen = np.flatnonzero(gradient.numpy().any(axis=(0, 1, 3)))
        far = max(216 - seen.min(), seen.max() - 223)
        assert esbn_runner.ALIGN_HALO - 16 < far <= esbn_runner.ALIGN_HALO


def test_sizes_share_a_trace(esbn):
    for size in ((9, 30), (32, 8), (17, 17)):
        pipeline.reconstruct(esbn, _images(*size), (1, 4, 16))
    assert all(function.experimental_get_tracing_count() == 1 for function in (*esbn._align.values(), esbn._merge))


@helpers.golden_cases("esbn_reconstruction")
def test_the_networks_meet_what_the_original_script_feeds(golden, golden_case):
    """The script's own aligned images, merged: what it computes from the files is what `merge` computes from the arrays."""
    expected = golden.outputs(golden_case)
    scene = scenes.read_scene(golden.FOLDER / "kalantari_scene" / "001")
    fed = {}

    def network(inputs, training):
        fed.update({name: values.numpy()[0] for name, values in inputs.items()})
        return {"hdr": inputs["ldr_mid"]}

    aligned = np.stack([expected[f"aligned_{number}_png"] for number in (1, 2, 3)]) / np.float32(255)
    tf.config.run_functions_eagerly(True)
    try:
        esbn_runner.Esbn(None, None, network).merge(aligned, scene.exposures)
    finally:
        tf.config.run_functions_eagerly(False)
    for name, values in fed.items():
        theirs = expected[f"fusion_input_{name[:3].upper()}{name[3:]}"][0]
        # float32: the script takes the power of the image in 0..1, the network's input is scaled to -1..1 first.
        np.testing.assert_allclose(values, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize(
    ("ldr", "exposures", "message"),
    [
        (_images()[:2], (1, 4, 16), "2, 21, 30, 3 uint16"),
        (_images() / 65535, (1, 4, 16), "float64"),
        (_images(7, 30), (1, 4, 16), "8 7, 30"),
        (_images(), (4, 1, 16), "4.0, 1.0, 16.0"),
        (_images(), (0, 1, 4), "0.0, 1.0, 4.0"),
        (_images(), (1, 4, np.nan), "1.0, 4.0, nan"),
        (_images(), (1, 4), "1.0, 4.0"),
    ],
)
def test_reconstruct_refuses(esbn, ldr, exposures, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)):
        pipeline.reconstruct(esbn, ldr, exposures)


def test_widths_are_read_from_the_files(esbn):
    assert esbn.low.name == "esbn_align_low" and esbn.high.name == "esbn_align_high"
    assert esbn.low.get_layer("decoder_conv3").filters == 8
    assert esbn.fusion.get_layer("dense_conv1").filters == 2


def test_missing_and_foreign_weights(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=helpers.mentions(f"{tmp_path} esbn_align_low.weights.h5")):
        pipeline.load("esbn", tmp_path)
    shutil.copytree(folder, tmp_path / "w")
    shutil.copy(folder / "esbn_align_low.weights.h5", tmp_path / "w" / "esbn_fusion.weights.h5")
    with pytest.raises(ValueError, match=r"esbn_fusion\.weights\.h5\b.*\besbn_align_low\b.*\besbn_fusion\b") as caught:
        pipeline.load("esbn", tmp_path / "w")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(systems, "PRETRAINED", tmp_path)
    with pytest.raises(ValueError, match=helpers.mentions("esbn_align_low.weights.h5")):
        pipeline.load("esbn")


@pytest.mark.parametrize(
    ("stops", "chosen"),
    [
        ((0, 2, 4), (0, 1, 2)),
        ((4, 0, 2), (1, 2, 0)),
        ((-4, -2, 0, 2, 4), (1, 2, 3)),
        ((-3, -2, -1, 0, 1, 2, 3), (0, 3, 6)),  # 2 and 3 stops are both usual: the farther
        ((-1, 0, 1, 8), (0, 1, 2)),  # of four the darker of the two in the middle
        ((-6, -1, 0, 1.5, 9), (1, 2, 3)),
        ((0, 0, 1, 2, 2), (0, 2, 3)),
    ],
)
def test_choice_of_three_exposures(stops, chosen):
    assert pipeline.choose_exposures(np.array(stops, float)) == chosen


@pytest.mark.parametrize("stops", [(0, 0, 0), (0, 0, 2), (0, 2, 2)])
def test_equal_exposures_are_refused(stops):
    with pytest.raises(ValueError, match=rf"\b{stops[0]}, {stops[1]}, {stops[2]}\b"):
        pipeline.choose_exposures(np.array(stops, float))


@pytest.fixture
def loaded(esbn, monkeypatch):
    """Saves the seconds that loading the same weights again takes."""
    monkeypatch.setattr(esbn_runner, "load", lambda system, folder, mixed_precision=False: esbn)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_fuse_writes_radiance_and_preview(esbn, folder, tmp_path, capsys, suffix):
    images = _images()
    low, mid, high = helpers.write_bracket(tmp_path / "in", images)
    output = tmp_path / "new" / f"out{suffix}"
    code = fuse.main(fuse.Config([high, low, mid], str(output), model="esbn", exposures="3,-1,1", weights=str(folder)))
    assert code == 0 and helpers.mentioned(f"{output} 30 x 21 32", capsys.readouterr().out)
    _, radiance = pipeline.reconstruct(esbn, images, (1, 4, 16))
    found = image_files.read_radiance(output)
    # Counted from the shortest exposure, and back: that of -1 stops shows radiance 2 as 1.
    np.testing.assert_allclose(found, 2 * radiance, rtol=0, atol=0 if suffix == ".exr" else 0.01)
    preview = image_files.read_image(tmp_path / "new" / "out_preview.png").pixels
    np.testing.assert_array_equal(preview, display.tone_map(radiance))
    assert sorted(path.name for path in output.parent.iterdir()) == sorted([output.name, "out_preview.png"])


@pytest.mark.usefixtures("loaded")
def test_exposures_from_exif_and_both_depths(esbn, folder, tmp_path):
    images = _images(dtype=np.uint8)
    paths = helpers.write_bracket(tmp_path / "in", images[[1, 2, 0]], times=[1 / 60, 1 / 15, 1 / 250])  # 1/64, 1/16 and 1/256 s
    found = pipeline.fuse_radiance(paths, tmp_path / "out.exr", model="esbn", weights=folder, save_aligned=tmp_path / "aligned")
    aligned, radiance = pipeline.reconstruct(esbn, images, (1, 4, 16))
    np.testing.assert_allclose(found, 256 * radiance, rtol=1e-4, atol=1e-3)  # EXIF's fractions make exposures of 1e-6 precision
    names = ["1_c.png", "2_a.png", "3_b.png"]
    assert sorted(path.name for path in (tmp_path / "aligned").iterdir()) == names
    for name, image in zip(names, aligned, strict=True):
        written = image_files.read_image(tmp_path / "aligned" / name).pixels
        assert written.dtype == np.uint8 and np.abs(written - 255 * image).max() < 0.51
    sixteen = helpers.write_bracket(tmp_path / "16", [images[2].astype(np.uint16) * 257], names="d")
    mixed = pipeline.fuse_radiance([paths[2], paths[0], *sixteen], tmp_path / "m.exr", (0, 2, 4), model="esbn", runner=esbn)
    np.testing.assert_allclose(mixed, radiance, rtol=0, atol=1e-6)


def test_gray_images(esbn, tmp_path):
    images = _images()[..., 0]
    paths = helpers.write_bracket(tmp_path / "in", images)
    found = pipeline.fuse_radiance(paths, tmp_path / "out.exr", STOPS, model="esbn", runner=esbn)
    _, expected = pipeline.reconstruct(esbn, np.repeat(images[..., None], 3, -1), (1, 4, 16))
    np.testing.assert_array_equal(found, expected)


def test_three_of_five(esbn, tmp_path):
    images = _images(stops=(0, 2, 4, 7, -3))
    paths = helpers.write_bracket(tmp_path / "in", images, names="abcde")
    found = pipeline.fuse_radiance(paths, tmp_path / "out.exr", (0, 2, 4, 7, -3), model="esbn", runner=esbn)
    _, radiance = pipeline.reconstruct(esbn, images[[0, 1, 2]], (1, 4, 16))
    np.testing.assert_array_equal(found, radiance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a.tif EXIF --exposures=STOPS"),
        ({"exposures": "0,2"}, "3 0.0, 2.0"),
        ({"exposures": "0,two,4"}, "0,two,4"),
        ({"exposures": "0,nan,4"}, "3 0.0, nan, 4.0"),
        ({"exposures": "2,2,2"}, "a.tif b.tif --exposures"),
        ({"exposures": "0,2,4", "output": "out.png"}, "out.png .exr .hdr"),
        ({"exposures": "0,2,4", "align": "mtb"}, "--align --model=esbn"),
        ({"exposures": "0,2,4", "depth": 16}, "--depth"),
        ({"number": 2, "exposures": "0,2"}, "3 2"),
        ({"exposures": "0,2,4", "weights": "nowhere"}, "nowhere esbn_align_low.weights.h5"),
        ({"model": "pyramid", "exposures": "0,2,4"}, "--exposures esbn"),
        ({"model": "pyramid", "mixed_precision": True}, "mixed_precision esbn"),
        ({"server": "nowhere", "mixed_precision": True}, "--mixed_precision --server"),
    ],
)
def test_fuse_refuses(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    paths = helpers.write_bracket(tmp_path / "in", _images())[: arguments.pop("number", 3)]
    config = {"images": paths, "output": "out.exr", "model": "esbn"} | arguments
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        fuse.main(fuse.Config(**config))
    assert "\n" not in str(caught.value)
    assert helpers.names(tmp_path) == {"in"}


def test_fuse_refuses_unequal_small_and_overwritten_images(esbn, tmp_path):
    paths = helpers.write_bracket(tmp_path / "in", [*_images()[:2], _images(21, 31)[0]])
    with pytest.raises(ValueError, match=helpers.mentions("c.tif 31 x 21 a.tif 30 x 21")):
        pipeline.fuse_radiance(paths, tmp_path / "out.exr", STOPS, model="esbn", runner=esbn)
    paths = helpers.write_bracket(tmp_path / "small", _images(7, 30))
    with pytest.raises(ValueError, match=helpers.mentions("a.tif 8 x 8 30 x 7")):
        pipeline.fuse_radiance(paths, tmp_path / "out.exr", STOPS, model="esbn", runner=esbn)
    preview = tmp_path / "in" / "x_preview.png"
    image_files.write_image(preview, _images()[0])
    with pytest.raises(ValueError, match=helpers.mentions("x_preview.png")):
        pipeline.fuse_radiance([*paths[:2], preview], tmp_path / "in" / "x.exr", STOPS, model="esbn", runner=esbn)


@pytest.mark.usefixtures("loaded")
def test_brackets(folder, tmp_path, capsys):
    helpers.write_bracket(tmp_path / "brackets" / "church", _images(dtype=np.uint8), times=[1 / 240, 1 / 60, 1 / 15])
    helpers.write_bracket(tmp_path / "brackets" / "night", _images())
    config = {"model": "esbn", "weights": str(folder), "brackets": str(tmp_path / "brackets")}
    assert fuse.main(fuse.Config(output=str(tmp_path / "fused"), **config)) == 1
    message = capsys.readouterr()
    assert "error: night: " in message.err and helpers.mentioned("night EXIF --exposures=STOPS", message.err)
    assert helpers.mentioned(f"1 2 {tmp_path / 'fused'}", message.out.splitlines()[-1])
    assert helpers.names(tmp_path / "fused") == {"church.exr", "church_preview.png", "summary.json"}
    with pytest.raises(ValueError, match=helpers.mentions(str(tmp_path / "brackets" / "fused"))):
        fuse.main(fuse.Config(output=str(tmp_path / "brackets" / "fused"), **config))


def test_align_scenes(esbn, folder, tmp_path, capsys):
    images, hdr = _images(), np.random.default_rng(0).random((21, 30, 3), dtype=np.float32)
    scenes.write_scene(tmp_path / "scenes" / "001", images, STOPS, hdr)
    scenes.write_scene(tmp_path / "scenes" / "002", images, STOPS)
    scenes.write_scene(tmp_path / "scenes" / "003", images, STOPS)
    (tmp_path / "scenes" / "003" / "exposure.txt").write_text("0\nx\n4\n")
    (tmp_path / "scenes" / "004").mkdir()
    alignment = tmp_path / "weights"
    alignment.mkdir()
    for side in ("low", "high"):  # the merging network is trained afterwards
        shutil.copy(folder / f"esbn_align_{side}.weights.h5", alignment)
    config = align_scenes.Config(str(tmp_path / "scenes"), str(tmp_path / "aligned"), "esbn", str(alignment))
    assert align_scenes.main(config) == 1
    message = capsys.readouterr()
    assert helpers.mentioned(f"2 4 {tmp_path / 'aligned'}", message.out) and message.out.count("\n") == 1
    assert message.err.count("error: ") == 2 and "003" in message.err and helpers.mentioned("004 exposure.txt", message.err)
    assert helpers.names(tmp_path / "aligned") == {"001", "002"}
    found, original = (scenes.read_scene(tmp_path / folder / "001") for folder in ("aligned", "scenes"))
    expected = esbn.align_both(images / np.float32(65535), (1, 4, 16))
    np.testing.assert_array_equal(found.ldr, np.rint(255 * expected))
    np.testing.assert_array_equal(found.ldr[1], original.at_8_bit()[1])
    np.testing.assert_array_equal(found.stops, STOPS)
    np.testing.assert_array_equal(found.hdr, original.hdr)
    assert scenes.read_scene(tmp_path / "aligned" / "002").hdr is None
    assert align_scenes.main(config) == 1  # nothing is written over
    assert helpers.mentioned(str(tmp_path / "aligned" / "001"), capsys.readouterr().err)
    with pytest.raises(ValueError, match=helpers.mentions(f"{config.scenes}/aligned scenes")):
        align_scenes.main(align_scenes.Config(config.scenes, f"{config.scenes}/aligned", "esbn", config.weights))


def test_export(esbn, folder, tmp_path):
    export.export("esbn", tmp_path / "esbn", folder)
    exported = tf.saved_model.load(str(tmp_path / "esbn" / "1")).signatures
    serve = exported[signatures.TENSORS]
    for size in ((21, 30), (8, 9)):
        images = _images(*size) / np.float32(65535)
        inputs = {f"ldr_{side}": image[None] for side, image in zip(("low", "mid", "high"), images, strict=True)}
        inputs = {name: tf.constant(values) for name, values in inputs.items()} | {"exposures": tf.constant([[1.0, 4.0, 16.0]])}
        found = serve(**inputs)
        aligned, radiance = pipeline.reconstruct(esbn, _images(*size), (1, 4, 16))
        assert set(found) == {"aligned_low", "aligned_high", "hdr"}
        for name, expected in (("aligned_low", aligned[0]), ("aligned_high", aligned[2]), ("hdr", radiance)):
            np.testing.assert_allclose(found[name][0], expected, rtol=0, atol=1e-6, err_msg=name)  # another compilation
    with pytest.raises(ValueError, match=helpers.mentions("esbn 3 2")):
        export.export("esbn", tmp_path / "other", folder, exposures=2)
    assert helpers.names(tmp_path) == {"esbn", "models.config"}

    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, _images(), strict=True):
        image_files.write_image(path, image)
    stops = (1, 3, 5)  # the shortest exposure is 2
    expected = pipeline.fuse_radiance(paths, tmp_path / "expected.exr", stops, "esbn", runner=esbn, tonemap="mu_law")
    with stand_in_server.serving(tmp_path) as (address, _):
        found = pipeline.fuse_radiance(
            paths, tmp_path / "found.exr", stops, model="esbn", runner=client.Client(address, systems.find("esbn"))
        )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    signature = exported[signatures.ENCODED]
    names = ("ldr_low", "ldr_mid", "ldr_high")
    contents = {name: tf.constant([path.read_bytes()]) for name, path in zip(names, paths, strict=True)}
    found = signature(**contents, exposures=tf.constant([[2.0, 8.0, 32.0]]))
    np.testing.assert_allclose(tf.io.parse_tensor(found["hdr_bytes"][0], tf.float32), expected, rtol=0, atol=1e-6)
    preview = tf.io.decode_png(found["preview_bytes"][0]).numpy().astype(int)
    assert np.abs(preview - image_files.read_image(tmp_path / "expected_preview.png").pixels).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match=helpers.mentions("exposures 0")):
        signature(**contents, exposures=tf.constant([[2.0, 8.0, 8.0]]))
