"""The four networks that SelfHDR trains, on pictures: the library, tools/fuse.py, tools/evaluate.py and the export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw_kernels

from hdr_tf import evaluation, fusing, models, reconstruction, selfhdr, serving, weights
from hdr_tf.image import files, merging, optical_flow, scenes, tone
from hdr_tf.models import blocks
from tools import evaluate, export, fuse

SMALL = {
    "ahdrnet": {"filters": 8, "growth": 4},
    "fshdr": {"filters": 4},
    "hdr_transformer": {"filters": 8, "heads": 2, "depths": (1,), "test_padding": True},
    "sctnet": {"filters": 24, "heads": 3, "depths": (2,), "test_padding": True},
}
STOPS = (0.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def networks():
    """Small networks whose radiance depends on the pictures."""
    keras.utils.set_random_seed(2)
    found = {name: models.build(name, **arguments) for name, arguments in SMALL.items()}
    generator = np.random.default_rng(1)
    for network in found.values():
        draw_kernels(network, generator)
    return found


@pytest.fixture(scope="module")
def folder(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, network in networks.items():
        weights.save_weights(network, folder / f"{name}.weights.h5")
    return folder


@pytest.fixture(scope="module")
def systems(folder):
    """As wide and deep as the files tell."""
    return {name: reconstruction.load(name, folder) for name in SMALL}


@pytest.fixture
def loaded(systems, monkeypatch):
    """Saves the seconds that loading and compiling again takes."""
    monkeypatch.setattr(selfhdr, "load_selfhdr", lambda name, path: systems[name])


def pictures(height=21, width=30):
    """Three exposures of a smooth scene, moved between them, [3, H, W, 3] uint16."""
    rows, columns = np.indices((height, width), np.float32)
    views = [np.sin((rows[..., None] + shift) / 3 + np.arange(3)) * np.cos(columns[..., None] / 4) for shift in (0, 1, 2)]
    hdr = [np.float32(np.exp2(3 * view - 4)) for view in views]
    ldr = np.stack([tone.to_exposure(radiance, 2.0**stop) for radiance, stop in zip(hdr, STOPS, strict=True)])
    return np.rint(65535 * ldr).astype(np.uint16)


def run(network, ldr, exposures=(1, 4, 16)):
    """What the network makes of pictures [3, H, W, 3] in 0..1, computed apart from `hdr_tf.selfhdr`."""
    inputs = {f"ldr_{side}": np.float32(picture)[None] for side, picture in zip(blocks.EXPOSURE_NAMES, ldr, strict=True)}
    for side, exposure in zip(blocks.EXPOSURE_NAMES, exposures, strict=True):
        inputs[f"hdr_{side}"] = np.float32(inputs[f"ldr_{side}"].astype(float) ** 2.2 / exposure)
    return network(inputs)["hdr"].numpy()[0]


def write_bracket(folder, ldr):
    folder.mkdir()
    paths = [folder / f"{name}.tif" for name in "abc"]
    for path, pixels in zip(paths, ldr, strict=True):
        files.write_picture(path, pixels)
    return [str(path) for path in paths]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", SMALL)
def test_fuse(networks, folder, tmp_path, name):
    ldr, output = pictures(), tmp_path / "out.exr"
    paths = write_bracket(tmp_path / "in", ldr)
    given = [paths[2], paths[0], paths[1]]
    path = str(folder / f"{name}.weights.h5")
    assert fuse.main(fuse.Config(given, str(output), model=name, exposures="3,-1,1", weights=path)) == 0
    seen = ldr / np.float32(2**16)
    if name == "fshdr":
        seen = optical_flow.confident_flow(ldr / np.float32(65535), (1, 4, 16)).pictures * (65535 / 65536)
    expected = run(networks[name], seen)
    assert expected.std() > 0.01
    # Exposures count from the shortest, at -1 stops; the network runs compiled, in another order of sums.
    np.testing.assert_allclose(files.read_radiance(output) / 2, expected, rtol=0, atol=2e-6)
    preview = files.read_picture(tmp_path / "out_preview.png").pixels
    np.testing.assert_allclose(preview, 255 * tone.mu_law(expected), rtol=0, atol=0.6)  # rounded, and the difference above


@pytest.mark.parametrize("name", ["esbn", *SMALL])
def test_mixed_precision(folder, name):
    """Close to float32, but not it, and only where it was asked for."""
    weights_of = None if name == "esbn" else folder
    whole, half = (reconstruction.load(name, weights_of, mixed_precision=mixed) for mixed in (False, True))
    (_, expected), (_, found) = (reconstruction.reconstruct(system, pictures(), (1, 4, 16)) for system in (whole, half))
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    # bfloat16 rounds by 2**-9 of a value at most; a result has some tens of roundings in a row behind it, that cancel mostly.
    assert 0 < np.abs(found - expected).max() < 0.05 and np.abs(found - expected).mean() < 2**-7
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("side", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_and_radiance_are_the_originals(side, dtype):
    """16 bit over 2**16, 8 bit as 16, and the power of that over the exposure."""
    top = np.iinfo(dtype).max
    ldr = np.tile(np.array([0, top // 3, top], dtype)[:, None, None, None], (1, 8, 8, 3))
    stub = selfhdr.SelfHdr("ahdrnet", lambda inputs, training: {"hdr": inputs[f"hdr_{blocks.EXPOSURE_NAMES[side]}"]})
    _, found = reconstruction.reconstruct(stub, ldr, (0.25, 1, 4))
    value = (0, 21845, 65535)[side] / 65536
    np.testing.assert_allclose(found, value**2.2 / (0.25, 1, 4)[side], rtol=1e-6)


@pytest.mark.parametrize("name", selfhdr.REACH)
def test_tiles_equal_the_whole(systems, monkeypatch, name):
    system, ldr = systems[name], np.random.default_rng(0).random((3, 40, 72, 3), np.float32)
    whole = system.merge(ldr, (1, 4, 16))
    monkeypatch.setattr(selfhdr, "TILE", 32)
    np.testing.assert_allclose(system.merge(ldr, (1, 4, 16)), whole, rtol=0, atol=1e-6)  # sums in another order
    monkeypatch.setattr(system, "_reach", 2)
    assert np.abs(system.merge(ldr, (1, 4, 16)) - whole).max() > 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_swapped_networks_swap_red_and_blue(networks, name):
    ldr = np.random.default_rng(0).random((3, 16, 16, 3))
    expected = run(networks[name], ldr)
    weights.swap_red_and_blue(networks[name])
    found, unchanged = run(networks[name], ldr[..., ::-1])[..., ::-1], run(networks[name], ldr)
    weights.swap_red_and_blue(networks[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)  # sums in another order
    assert np.abs(unchanged - expected).max() > 0.01


@pytest.mark.usefixtures("loaded")
def test_brackets_and_aligned_pictures(folder, tmp_path, capsys):
    write_bracket(tmp_path / "in", pictures())
    brackets = tmp_path / "brackets"
    brackets.mkdir()
    (tmp_path / "in").rename(brackets / "church")
    (brackets / "empty").mkdir()
    config = {"brackets": str(brackets), "output": str(tmp_path / "out"), "exposures": "0,2,4", "weights": str(folder)}
    config["save_aligned"] = str(tmp_path / "aligned")
    assert fuse.main(fuse.Config(model="fshdr", **config)) == 1
    assert "error: empty: " in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["church.exr", "church_preview.png", "summary.json"]
    assert sorted(path.name for path in (tmp_path / "aligned/church").iterdir()) == ["1_a.png", "2_b.png", "3_c.png"]


@pytest.fixture
def scene_folder(tmp_path):
    """A scene with ground truth, and a stack in Tursun's layout, of which the 5th, 7th and 9th picture are taken."""
    ldr = pictures(24, 32)
    scenes.write_scene(tmp_path / "scenes" / "a", ldr, np.array(STOPS), tone.to_radiance(ldr[1] / np.float32(65535), 4))
    stack = tmp_path / "scenes" / "b"
    stack.mkdir()
    for number in range(9):
        files.write_picture(stack / f"{number}.tif", ldr[min(number // 2 - 2, 2)] if number >= 4 else np.zeros_like(ldr[0]))
    (stack / "exposure.txt").write_text("".join(f"{0.01 * 2.0**number}\n" for number in range(9)))
    return tmp_path / "scenes"


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("name", "aligned"), [("ahdrnet", False), ("fshdr", True)])
def test_evaluate(systems, folder, scene_folder, tmp_path, capsys, name, aligned):
    output = tmp_path / "out"
    config = evaluate.Config(scenes=str(scene_folder), output=str(output), model=name, weights=str(folder))
    assert evaluate.main(config) == 0
    printed = capsys.readouterr().out
    for words in ("SelfHDR's PSNR-mu", "SelfHDR's SSIM-mu", "SelfHDR's SSIM-L"):
        assert words in printed
    _, expected = reconstruction.reconstruct(systems[name], pictures(24, 32), (1, 4, 16))
    for scene in "ab":  # Tursun's exposures count from the shortest of the three
        np.testing.assert_allclose(files.read_radiance(output / scene / "radiance.exr"), expected, rtol=0, atol=1e-6)
        found = {path.name for path in (output / scene).iterdir()}
        assert ("aligned_low.png" in found) == aligned and {"radiance.hdr", "tone_mapped.png"} < found


def test_the_colour_label_is_scored(scene_folder, tmp_path):
    reports = {
        method: evaluation.evaluate(scene_folder, tmp_path / method, "syn_hdr", align=method)
        for method in ("none", "flow", "confident_flow")
    }
    found = optical_flow.confident_flow(pictures(24, 32) / np.float32(65535), (1, 4, 16))
    expected = merging.syn_hdr(found.pictures, (1, 4, 16))
    np.testing.assert_array_equal(files.read_radiance(tmp_path / "confident_flow" / "a" / "radiance.exr"), expected)
    scores = {method: report["scenes"]["a"]["scores"]["psnr_t"] for method, report in reports.items()}
    assert scores["confident_flow"] > scores["none"] + 3 and len(set(scores.values())) == 3


def test_flat_pictures_are_told(tmp_path, caplog):
    scenes.write_scene(tmp_path / "scenes" / "flat", np.full((3, 16, 16, 3), 65535, np.uint16), np.array(STOPS))
    report = evaluation.evaluate(tmp_path / "scenes", tmp_path / "out", "syn_hdr", align="confident_flow")
    assert not report["errors"]
    assert "flat: picture 1 of 3 is not aligned: the reference is flat or clipped" in caplog.text


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", ["fshdr", "hdr_transformer"])
def test_export(networks, folder, tmp_path, name):
    export.main(export.Config(str(tmp_path / "saved"), name, str(folder / f"{name}.weights.h5")))
    serve = tf.saved_model.load(str(tmp_path / "saved" / "1")).signatures[serving.SIGNATURE]
    for size in ((21, 30), (16, 9)):
        ldr = np.random.default_rng(0).random((3, *size, 3), np.float32)
        names = [f"ldr_{name}" for name in blocks.EXPOSURE_NAMES]
        inputs = {name: tf.constant(np.stack([x, x[::-1]])) for name, x in zip(names, ldr, strict=True)}
        found = serve(**inputs, exposures=tf.constant([[1.0, 4, 16], [1, 2, 4]]))["hdr"]
        first, second = ldr * (65535 / 65536), ldr[:, ::-1] * (65535 / 65536)
        np.testing.assert_allclose(found[0], run(networks[name], first), rtol=0, atol=2e-6)  # another compilation
        np.testing.assert_allclose(found[1], run(networks[name], second, (1, 2, 4)), rtol=0, atol=2e-6)


def test_weights_come_with_the_software_as_soon_as_they_lie_there(networks, folder, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED", folder)
    assert reconstruction.load("fshdr").network.count_params() == networks["fshdr"].count_params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {},
            "ahdrnet comes without weights: train it .train/selfhdr.py.* or convert the authors' .tools/convert_checkpoint.py",
        ),
        ({"weights": "none.weights.h5"}, "none.weights.h5: expected weights of ahdrnet .*, found none"),
        ({"weights": "fshdr.weights.h5"}, r"fshdr.weights.h5 \(weights of fshdr\): does not fit ahdrnet"),
        ({"weights": "ahdrnet.weights.h5", "save_aligned": "aligned"}, "save_aligned: there is nothing to save"),
        ({"weights": "ahdrnet.weights.h5", "align": "mtb"}, "--align does not go with --model=ahdrnet"),
        ({"weights": "a.tif"}, "a.tif: expected weights"),
    ],
)
def test_fuse_refuses(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(weights, "PRETRAINED", tmp_path)
    paths = write_bracket(tmp_path / "in", pictures())
    monkeypatch.chdir(tmp_path / "in" if arguments.get("weights") == "a.tif" else folder)
    with pytest.raises(ValueError, match=message) as caught:
        fuse.main(fuse.Config(paths, str(tmp_path / "out.exr"), model="ahdrnet", exposures="0,2,4", **arguments))
    assert "\n" not in str(caught.value) and [path.name for path in tmp_path.iterdir()] == ["in"]


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match="align: fshdr has its pictures aligned by confident_flow"):
        evaluation.evaluate(tmp_path, tmp_path / "out", "fshdr", align="flow")
    with pytest.raises(ValueError, match="fshdr has no original protocol"):
        evaluation.evaluate(tmp_path, tmp_path / "out", "fshdr", original_protocol=True)
    with pytest.raises(ValueError, match="sctnet takes exactly 3 exposures, found 2"):
        serving.export("sctnet", tmp_path / "saved", exposures=2)
    with pytest.raises(ValueError, match="unknown model 'esbn_fusion': expected one of esbn, ahdrnet"):
        reconstruction.load("esbn_fusion")
    with pytest.raises(ValueError, match="unknown model 'mertens'") as caught:
        fusing.check_model("mertens", None, 2)
    assert str(caught.value).endswith(f"or for radiance {', '.join(reconstruction.MODELS)}")
