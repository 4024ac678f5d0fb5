"""From photographs and scenes to radiance with ESBN: the library, tools/fuse.py, tools/align_scenes.py and the export."""

import shutil

import keras
import numpy as np
import pytest
import stand_in_server
import tensorflow as tf
from conftest import draw_kernels
from PIL import Image

from hdr_tf import client, models, reconstruction, serving, weights
from hdr_tf.image import files, scenes, tone
from hdr_tf.models import esbn as esbn_networks
from tools import align_scenes, fuse

NARROW = {"align_filters": 2, "filters": 4, "growth": 2}
STOPS = (0, 2, 4)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One residual block instead of nine, for speed: reconstruction does not know of their number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(esbn_networks, "BLOCKS", 1)
        yield


@pytest.fixture(scope="module")
def joined():
    """A narrow `esbn_end_to_end` whose three networks do something."""
    model = models.build("esbn_end_to_end", **NARROW)
    draw_kernels(model, np.random.default_rng(1))
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
    return reconstruction.load_esbn(folder)


def _pictures(height=21, width=30, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (3, height, width, 3), dtype=dtype)


def _run_joined(joined, ldr, exposures):
    """The joined model on [3, H, W, 3] in 0..1."""
    hdr = ldr.astype("float64") ** 2.2 / np.reshape(exposures, (3, 1, 1, 1)) * 2 - 1
    inputs = {f"ldr_{side}": ldr[None, i] * 2 - 1 for i, side in enumerate(("low", "mid", "high"))}
    inputs |= {f"hdr_{side}": hdr[None, i].astype("float32") for i, side in enumerate(("low", "mid", "high"))}
    found = joined(inputs | {"exposures": np.float32([exposures])})
    return {name: (values.numpy()[0] + 1) / 2 for name, values in found.items()}


def _write_bracket(folder, pictures, times=None, names="abc"):
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.tif" for name in names]
    for path, pixels, time in zip(paths, pictures, times or [None] * len(pictures), strict=True):
        if time is None:
            files.write_picture(path, pixels)
        else:
            exif = Image.Exif()
            exif.get_ifd(0x8769)[0x829A] = time  # ExposureTime
            path = path.with_suffix(".png")
            Image.fromarray(pixels).save(path, exif=exif.tobytes())
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 17), (40, 24)])
def test_reconstruct_equals_the_joined_network(esbn, joined, height, width):
    pictures, exposures = _pictures(height, width), (0.25, 1, 4)
    aligned, radiance = reconstruction.reconstruct(esbn, pictures, exposures)
    expected = _run_joined(joined, pictures / np.float32(65535), exposures)
    assert aligned.dtype == radiance.dtype == np.float32
    # The radiance of an input is computed in float32 on one side and float64 on the other.
    np.testing.assert_allclose(aligned[0], expected["aligned_low"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(aligned[1], pictures[1] / np.float32(65535))
    np.testing.assert_allclose(aligned[2], expected["aligned_high"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(radiance, expected["hdr"], rtol=0, atol=1e-5)


def test_one_level_of_16_bit_matters(esbn):
    pictures = _pictures()
    changed = pictures.copy()
    changed[1, 10, 15, 1] ^= 1
    aligned, radiance = reconstruction.reconstruct(esbn, pictures, (1, 4, 16))
    other, changed = reconstruction.reconstruct(esbn, changed, (1, 4, 16))
    assert (other[1] != aligned[1]).sum() == 1 and (changed != radiance).any()


def test_tiles_equal_the_whole(esbn, monkeypatch):
    ldr = _pictures(75, 93) / np.float32(65535)
    monkeypatch.setattr(reconstruction, "TILE", 16)
    tiled = esbn.merge(ldr, (1, 4, 16))
    monkeypatch.setattr(reconstruction, "TILE", 96)
    whole = esbn.merge(ldr, (1, 4, 16))
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)  # sums in another order; a halo too small shows in 1e-3


def test_alignment_in_tiles_equals_the_whole(esbn, monkeypatch):
    ldr = _pictures(19, 413) / np.float32(65535)
    whole = esbn.align("low", ldr[0], ldr[1], 1, 4)
    monkeypatch.setattr(reconstruction, "ALIGN_WHOLE", 0)
    monkeypatch.setattr(reconstruction, "ALIGN_TILE", 16)
    np.testing.assert_allclose(esbn.align("low", ldr[0], ldr[1], 1, 4), whole, rtol=0, atol=1e-6)  # sums in another order
    monkeypatch.setattr(reconstruction, "ALIGN_HALO", 16)
    assert np.abs(esbn.align("low", ldr[0], ldr[1], 1, 4) - whole).max() > 1e-5


def test_alignment_sees_as_far_as_its_halo(monkeypatch):
    """Where kernels and pictures are positive, the gradient of eight columns of the result is 0 but for what they see."""
    monkeypatch.setattr(esbn_networks, "BLOCKS", 9)
    network = models.build("esbn_align", filters=1)
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
        assert reconstruction.ALIGN_HALO - 16 < far <= reconstruction.ALIGN_HALO


def test_sizes_share_a_trace(esbn):
    for size in ((9, 30), (32, 8), (17, 17)):
        reconstruction.reconstruct(esbn, _pictures(*size), (1, 4, 16))
    assert all(function.experimental_get_tracing_count() == 1 for function in (*esbn._align.values(), esbn._merge))


@pytest.mark.parametrize("golden_case", ["esbn_reconstruction"], indirect=True)
def test_the_networks_meet_what_the_original_script_feeds(golden, golden_case):
    """The script's own aligned pictures, merged: what it computes from the files is what `merge` computes from the arrays."""
    expected = golden.outputs(golden_case)
    scene = scenes.read_scene(golden.FOLDER / "kalantari_scene" / "001")
    fed = {}

    def network(inputs, training):
        fed.update({name: values.numpy()[0] for name, values in inputs.items()})
        return {"hdr": inputs["ldr_mid"]}

    aligned = np.stack([expected[f"aligned_{number}_png"] for number in (1, 2, 3)]) / np.float32(255)
    tf.config.run_functions_eagerly(True)
    try:
        reconstruction.Esbn(None, None, network).merge(aligned, scene.exposures)
    finally:
        tf.config.run_functions_eagerly(False)
    for name, values in fed.items():
        theirs = expected[f"fusion_input_{name[:3].upper()}{name[3:]}"][0]
        # float32: the script takes the power of the picture in 0..1, the network's input is scaled to -1..1 first.
        np.testing.assert_allclose(values, theirs, rtol=0, atol=1e-6 * np.abs(theirs).max(), err_msg=name)


@pytest.mark.parametrize(
    ("ldr", "exposures", "message"),
    [
        (_pictures()[:2], (1, 4, 16), r"expected three pictures .*, found \[2, 21, 30, 3\] of uint16"),
        (_pictures() / 65535, (1, 4, 16), "of float64"),
        (_pictures(7, 30), (1, 4, 16), "at least 8"),
        (_pictures(), (4, 1, 16), r"three increasing exposures above 0, found \[4.0, 1.0, 16.0\]"),
        (_pictures(), (0, 1, 4), "above 0"),
        (_pictures(), (1, 4, np.nan), "increasing"),
        (_pictures(), (1, 4), "increasing"),
    ],
)
def test_reconstruct_refuses(esbn, ldr, exposures, message):
    with pytest.raises(ValueError, match=message):
        reconstruction.reconstruct(esbn, ldr, exposures)


def test_widths_are_read_from_the_files(esbn):
    assert esbn.low.name == "esbn_align_low" and esbn.high.name == "esbn_align_high"
    assert esbn.low.get_layer("decoder_conv3").filters == 8
    assert esbn.fusion.get_layer("dense_conv1").filters == 2


def test_missing_and_foreign_weights(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="found no esbn_align_low.weights.h5, .*: train them .*--weights=FOLDER"):
        reconstruction.load_esbn(tmp_path)
    shutil.copytree(folder, tmp_path / "w")
    shutil.copy(folder / "esbn_align_low.weights.h5", tmp_path / "w" / "esbn_fusion.weights.h5")
    with pytest.raises(
        ValueError, match=r"esbn_fusion.weights.h5 \(weights of esbn_align_low\): does not fit esbn_fusion"
    ) as caught:
        reconstruction.load_esbn(tmp_path / "w")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    with pytest.raises(ValueError, match="^the software comes without esbn_align_low.weights.h5"):
        reconstruction.load_esbn()


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
    assert reconstruction.choose_exposures(np.array(stops, float)) == chosen


@pytest.mark.parametrize("stops", [(0, 0, 0), (0, 0, 2), (0, 2, 2)])
def test_equal_exposures_are_refused(stops):
    with pytest.raises(ValueError, match="expected three different exposures, .* found the stops 0, "):
        reconstruction.choose_exposures(np.array(stops, float))


@pytest.fixture
def loaded(esbn, monkeypatch):
    """Saves the seconds that loading the same weights again takes."""
    monkeypatch.setattr(reconstruction, "load_esbn", lambda folder, networks=(): esbn)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_fuse_writes_radiance_and_preview(esbn, folder, tmp_path, capsys, suffix):
    pictures = _pictures()
    low, mid, high = _write_bracket(tmp_path / "in", pictures)
    output = tmp_path / "new" / f"out{suffix}"
    code = fuse.main(
        fuse.Config([str(high), str(low), str(mid)], str(output), model="esbn", exposures="3,-1,1", weights=str(folder))
    )
    assert code == 0 and capsys.readouterr().out == f"fused: {output} (30 x 21, 32 bit)\n"
    _, radiance = reconstruction.reconstruct(esbn, pictures, (1, 4, 16))
    found = files.read_radiance(output)
    # Counted from the shortest exposure, and back: that of -1 stops shows radiance 2 as 1.
    np.testing.assert_allclose(found, 2 * radiance, rtol=0, atol=0 if suffix == ".exr" else 0.01)
    preview = files.read_picture(tmp_path / "new" / "out_preview.png").pixels
    np.testing.assert_array_equal(preview, np.rint(255 * tone.mu_law(radiance)))
    assert sorted(path.name for path in output.parent.iterdir()) == sorted([output.name, "out_preview.png"])


@pytest.mark.usefixtures("loaded")
def test_exposures_from_exif_and_both_depths(esbn, folder, tmp_path):
    pictures = _pictures(dtype=np.uint8)
    paths = _write_bracket(tmp_path / "in", pictures[[1, 2, 0]], times=[1 / 60, 1 / 15, 1 / 240])
    found = reconstruction.fuse_radiance(paths, tmp_path / "out.exr", weights=folder, save_aligned=tmp_path / "aligned")
    aligned, radiance = reconstruction.reconstruct(esbn, pictures, (1, 4, 16))
    np.testing.assert_allclose(found, 240 * radiance, rtol=1e-4, atol=1e-3)  # EXIF's fractions make exposures of 1e-6 precision
    names = ["1_c.png", "2_a.png", "3_b.png"]
    assert sorted(path.name for path in (tmp_path / "aligned").iterdir()) == names
    for name, picture in zip(names, aligned, strict=True):
        written = files.read_picture(tmp_path / "aligned" / name).pixels
        assert written.dtype == np.uint8 and np.abs(written - 255 * picture).max() < 0.51
    sixteen = _write_bracket(tmp_path / "16", [pictures[2].astype(np.uint16) * 257], names="d")
    mixed = reconstruction.fuse_radiance([paths[2], paths[0], *sixteen], tmp_path / "m.exr", (0, 2, 4), esbn)
    np.testing.assert_allclose(mixed, radiance, rtol=0, atol=1e-6)


def test_gray_pictures(esbn, tmp_path):
    pictures = _pictures()[..., 0]
    paths = _write_bracket(tmp_path / "in", pictures)
    found = reconstruction.fuse_radiance(paths, tmp_path / "out.exr", STOPS, esbn)
    _, expected = reconstruction.reconstruct(esbn, np.repeat(pictures[..., None], 3, -1), (1, 4, 16))
    np.testing.assert_array_equal(found, expected)


def test_three_of_five(esbn, tmp_path):
    pictures = np.concatenate([_pictures(), _pictures()[:2]])
    paths = _write_bracket(tmp_path / "in", pictures, names="abcde")
    found = reconstruction.fuse_radiance(paths, tmp_path / "out.exr", (0, 2, 4, 7, -3), esbn)
    _, radiance = reconstruction.reconstruct(esbn, pictures[[0, 1, 2]], (1, 4, 16))
    np.testing.assert_array_equal(found, radiance)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a.tif: radiance needs the exposures, and EXIF tells none: pass --exposures=STOPS"),
        ({"exposures": "0,2"}, r"expected 3 exposures \(stops\), one for each picture, found 0.0, 2.0"),
        ({"exposures": "0,two,4"}, "expected numbers .*, found '0,two,4'"),
        ({"exposures": "0,nan,4"}, "expected 3 exposures"),
        ({"exposures": "2,2,2"}, "expected three different exposures"),
        ({"exposures": "0,2,4", "output": "out.png"}, "expected an output ending in .exr or .hdr, .* found '.png'"),
        ({"exposures": "0,2,4", "align": "mtb"}, "--align does not go with --model=esbn"),
        ({"exposures": "0,2,4", "depth": 16}, "--depth does not go with"),
        ({"pictures": 2, "exposures": "0,2"}, "at least 3 exposures, found 2"),
        ({"exposures": "0,2,4", "weights": "nowhere"}, "nowhere: found no esbn_align_low.weights.h5"),
        ({"model": "pyramid", "exposures": "0,2,4"}, "--exposures belongs to radiance .esbn, .*, not to --model=pyramid"),
        ({"model": "pyramid", "mixed_precision": True}, "--mixed_precision belongs to radiance .esbn, "),
        ({"server": "nowhere", "mixed_precision": True}, "--mixed_precision does not go with --server"),
    ],
)
def test_fuse_refuses(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    paths = _write_bracket(tmp_path / "in", _pictures())[: arguments.pop("pictures", 3)]
    config = {"pictures": [str(path) for path in paths], "output": "out.exr", "model": "esbn"} | arguments
    with pytest.raises(ValueError, match=message) as caught:
        fuse.main(fuse.Config(**config))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_fuse_refuses_unequal_small_and_overwritten_pictures(esbn, tmp_path):
    paths = _write_bracket(tmp_path / "in", [*_pictures()[:2], _pictures(21, 31)[0]])
    with pytest.raises(ValueError, match="c.tif is 31 x 21 pixels and .*a.tif 30 x 21: expected pictures of one size"):
        reconstruction.fuse_radiance(paths, tmp_path / "out.exr", STOPS, esbn)
    paths = _write_bracket(tmp_path / "small", _pictures(7, 30))
    with pytest.raises(ValueError, match="a.tif: expected at least 8 x 8 pixels, found 30 x 7"):
        reconstruction.fuse_radiance(paths, tmp_path / "out.exr", STOPS, esbn)
    preview = tmp_path / "in" / "x_preview.png"
    files.write_picture(preview, _pictures()[0])
    with pytest.raises(ValueError, match="x_preview.png: is one of the pictures to fuse"):
        reconstruction.fuse_radiance([*paths[:2], preview], tmp_path / "in" / "x.exr", STOPS, esbn)


@pytest.mark.usefixtures("loaded")
def test_brackets(folder, tmp_path, capsys):
    _write_bracket(tmp_path / "brackets" / "church", _pictures(dtype=np.uint8), times=[1 / 240, 1 / 60, 1 / 15])
    _write_bracket(tmp_path / "brackets" / "night", _pictures())
    config = {"model": "esbn", "weights": str(folder), "brackets": str(tmp_path / "brackets")}
    assert fuse.main(fuse.Config(output=str(tmp_path / "fused"), **config)) == 1
    told = capsys.readouterr()
    assert "error: night: " in told.err and "EXIF tells none" in told.err
    assert told.out.endswith(f"1 of 2 brackets fused into {tmp_path / 'fused'}\n")
    assert sorted(path.name for path in (tmp_path / "fused").iterdir()) == ["church.exr", "church_preview.png", "summary.json"]
    with pytest.raises(ValueError, match="lies among the brackets"):
        fuse.main(fuse.Config(output=str(tmp_path / "brackets" / "fused"), **config))


def test_align_scenes(esbn, folder, tmp_path, capsys):
    pictures, hdr = _pictures(), np.random.default_rng(0).random((21, 30, 3), dtype=np.float32)
    scenes.write_scene(tmp_path / "scenes" / "001", pictures, STOPS, hdr)
    scenes.write_scene(tmp_path / "scenes" / "002", pictures, STOPS)
    scenes.write_scene(tmp_path / "scenes" / "003", pictures, STOPS)
    (tmp_path / "scenes" / "003" / "exposure.txt").write_text("0\nx\n4\n")
    (tmp_path / "scenes" / "004").mkdir()
    alignment = tmp_path / "weights"
    alignment.mkdir()
    for side in ("low", "high"):  # the merging network is trained afterwards
        shutil.copy(folder / f"esbn_align_{side}.weights.h5", alignment)
    config = align_scenes.Config(str(tmp_path / "scenes"), str(tmp_path / "aligned"), "esbn", str(alignment))
    assert align_scenes.main(config) == 1
    told = capsys.readouterr()
    assert told.out == f"2 of 4 scenes aligned into {tmp_path / 'aligned'}\n"
    assert told.err.count("error: ") == 2 and "003" in told.err and "004: expected exposure.txt" in told.err
    assert sorted(path.name for path in (tmp_path / "aligned").iterdir()) == ["001", "002"]
    found, original = (scenes.read_scene(tmp_path / folder / "001") for folder in ("aligned", "scenes"))
    expected = esbn.align_both(pictures / np.float32(65535), (1, 4, 16))
    np.testing.assert_array_equal(found.ldr, np.rint(255 * expected))
    np.testing.assert_array_equal(found.ldr[1], original.at_8_bit()[1])
    np.testing.assert_array_equal(found.stops, STOPS)
    np.testing.assert_array_equal(found.hdr, original.hdr)
    assert scenes.read_scene(tmp_path / "aligned" / "002").hdr is None
    assert align_scenes.main(config) == 1  # nothing is written over
    assert "001: expected a folder that is not there yet" in capsys.readouterr().err
    with pytest.raises(ValueError, match="lies among the scenes"):
        align_scenes.main(align_scenes.Config(config.scenes, f"{config.scenes}/aligned", "esbn", config.weights))


def test_export(esbn, folder, tmp_path):
    serving.export("esbn", tmp_path / "esbn", folder)
    serve = tf.saved_model.load(str(tmp_path / "esbn" / "1")).signatures[serving.SIGNATURE]
    for size in ((21, 30), (8, 9)):
        pictures = _pictures(*size) / np.float32(65535)
        inputs = {f"ldr_{side}": picture[None] for side, picture in zip(("low", "mid", "high"), pictures, strict=True)}
        inputs = {name: tf.constant(values) for name, values in inputs.items()} | {"exposures": tf.constant([[1.0, 4.0, 16.0]])}
        found = serve(**inputs)
        aligned, radiance = reconstruction.reconstruct(esbn, _pictures(*size), (1, 4, 16))
        assert set(found) == {"aligned_low", "aligned_high", "hdr"}
        for name, expected in (("aligned_low", aligned[0]), ("aligned_high", aligned[2]), ("hdr", radiance)):
            np.testing.assert_allclose(found[name][0], expected, rtol=0, atol=1e-6, err_msg=name)  # another compilation
    with pytest.raises(ValueError, match="esbn takes exactly 3 exposures, found 2"):
        serving.export("esbn", tmp_path / "other", folder, exposures=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["esbn", "models.config"]

    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, picture in zip(paths, _pictures(), strict=True):
        files.write_picture(path, picture)
    stops = (1, 3, 5)  # the shortest exposure is 2
    expected = reconstruction.fuse_radiance(paths, tmp_path / "expected.exr", stops, esbn)
    with stand_in_server.serving(tmp_path) as (address, _):
        found = reconstruction.fuse_radiance(paths, tmp_path / "found.exr", stops, client.Client(address, "esbn"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    signature = tf.saved_model.load(str(tmp_path / "esbn" / "1")).signatures[serving.ENCODED]
    names = ("ldr_low", "ldr_mid", "ldr_high")
    contents = {name: tf.constant([path.read_bytes()]) for name, path in zip(names, paths, strict=True)}
    found = signature(**contents, exposures=tf.constant([[2.0, 8.0, 32.0]]))
    np.testing.assert_allclose(tf.io.parse_tensor(found["hdr_bytes"][0], tf.float32), expected, rtol=0, atol=1e-6)
    preview = tf.io.decode_png(found["preview_bytes"][0]).numpy().astype(int)
    assert np.abs(preview - files.read_picture(tmp_path / "expected_preview.png").pixels).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="exposures: expected them above 0 and increasing"):
        signature(**contents, exposures=tf.constant([[2.0, 8.0, 8.0]]))
