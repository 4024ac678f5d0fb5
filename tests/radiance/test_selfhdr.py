"""The four networks that SelfHDR trains, on images: the library, tools/fuse.py, tools/evaluate.py and the export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hdr_tf import systems, weights
from hdr_tf.evaluation.evaluate import evaluate as evaluate_models
from hdr_tf.image import hdr_merge, optical_flow, tone
from hdr_tf.io import image_files, scenes
from hdr_tf.models import blocks
from hdr_tf.radiance import display, pipeline, selfhdr
from hdr_tf.serving import export as serving_export
from hdr_tf.serving import signatures
from tests import helpers
from tools import evaluate, export, fuse

STOPS = (0.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def networks():
    """Small networks whose radiance depends on the images."""
    keras.utils.set_random_seed(2)
    found = {name: systems.build(name, **arguments) for name, arguments in helpers.SMALL.items()}
    generator = np.random.default_rng(1)
    for network in found.values():
        helpers.draw_kernels(network, generator)
    return found


@pytest.fixture(scope="module")
def folder(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, network in networks.items():
        weights.save_weights(network, folder / f"{name}.weights.h5")
    return folder


@pytest.fixture(scope="module")
def runners(folder):
    """As wide and deep as the files tell."""
    return {name: pipeline.load(name, folder) for name in helpers.SMALL}


@pytest.fixture
def loaded(runners, monkeypatch):
    """Saves the seconds that loading and compiling again takes."""
    monkeypatch.setattr(selfhdr, "load", lambda system, path, mixed_precision=False: runners[system.name])


def images(height=21, width=30):
    """Three exposures of a smooth scene, moved between them, [3, H, W, 3] uint16."""
    rows, columns = np.indices((height, width), np.float32)
    views = [np.sin((rows[..., None] + shift) / 3 + np.arange(3)) * np.cos(columns[..., None] / 4) for shift in (0, 1, 2)]
    return helpers.expose([np.float32(np.exp2(3 * view - 4)) for view in views], STOPS)


def run(network, ldr, exposures=(1, 4, 16)):
    """What the network makes of images [3, H, W, 3] in 0..1, computed apart from `hdr_tf.radiance.selfhdr`."""
    inputs = {f"ldr_{side}": np.float32(image)[None] for side, image in zip(blocks.EXPOSURE_NAMES, ldr, strict=True)}
    for side, exposure in zip(blocks.EXPOSURE_NAMES, exposures, strict=True):
        inputs[f"hdr_{side}"] = np.float32(inputs[f"ldr_{side}"].astype(float) ** 2.2 / exposure)
    return network(inputs)["hdr"].numpy()[0]


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", helpers.SMALL)
def test_fuse(networks, folder, tmp_path, name):
    ldr, output = images(), tmp_path / "out.exr"
    paths = helpers.write_bracket(tmp_path / "in", ldr)
    given = [paths[2], paths[0], paths[1]]
    path = str(folder / f"{name}.weights.h5")
    assert fuse.main(fuse.Config(given, str(output), model=name, exposures="3,-1,1", weights=path)) == 0
    seen = ldr / np.float32(2**16)
    if name == "fshdr":
        seen = optical_flow.confident_flow(ldr / np.float32(65535), (1, 4, 16)).images * (65535 / 65536)
    expected = run(networks[name], seen)
    assert expected.std() > 0.01
    # Exposures count from the shortest, at -1 stops; the network runs compiled, in another order of sums.
    np.testing.assert_allclose(image_files.read_radiance(output) / 2, expected, rtol=0, atol=2e-6)
    preview = image_files.read_image(tmp_path / "out_preview.png").pixels
    assert np.abs(preview - display.tone_map(expected).astype(int)).max() <= 1  # for the difference above


@pytest.mark.parametrize("name", [pytest.param("esbn", marks=pytest.mark.slow), *helpers.SMALL])
def test_mixed_precision(folder, name):
    """Close to float32, but not it, and only where it was asked for."""
    weights_of = None if name == "esbn" else folder
    whole, half = (pipeline.load(name, weights_of, mixed_precision=mixed) for mixed in (False, True))
    (_, expected), (_, found) = (pipeline.reconstruct(system, images(), (1, 4, 16)) for system in (whole, half))
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    # bfloat16 rounds by 2**-9 of a value at most; a result has some tens of roundings in a row before it, that cancel mostly.
    assert 0 < np.abs(found - expected).max() < 0.05 and np.abs(found - expected).mean() < 2**-7
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("side", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_and_radiance_are_the_originals(side, dtype):
    """16 bit over 2**16, 8 bit as 16, and the power of that over the exposure."""
    top = np.iinfo(dtype).max
    ldr = np.tile(np.array([0, top // 3, top], dtype)[:, None, None, None], (1, 8, 8, 3))
    stub = selfhdr.SelfHdr(
        systems.find("ahdrnet"), lambda inputs, training: {"hdr": inputs[f"hdr_{blocks.EXPOSURE_NAMES[side]}"]}
    )
    _, found = pipeline.reconstruct(stub, ldr, (0.25, 1, 4))
    value = (0, 21845, 65535)[side] / 65536
    np.testing.assert_allclose(found, value**2.2 / (0.25, 1, 4)[side], rtol=1e-6)


@pytest.mark.parametrize("name", ["ahdrnet", "fshdr"])
def test_tiles_equal_the_whole(runners, monkeypatch, name):
    runner, ldr = runners[name], np.random.default_rng(0).random((3, 40, 72, 3), np.float32)
    whole = runner.merge(ldr, (1, 4, 16))
    monkeypatch.setattr(runner, "_tile", 32)
    np.testing.assert_allclose(runner.merge(ldr, (1, 4, 16)), whole, rtol=0, atol=1e-6)  # sums in another order
    monkeypatch.setattr(runner, "_halo", 2)
    assert np.abs(runner.merge(ldr, (1, 4, 16)) - whole).max() > 1e-4


@pytest.mark.parametrize("name", helpers.SMALL)
def test_swapped_networks_swap_red_and_blue(networks, name):
    ldr = np.random.default_rng(0).random((3, 16, 16, 3))
    expected = run(networks[name], ldr)
    weights.swap_red_and_blue(networks[name])
    found, unchanged = run(networks[name], ldr[..., ::-1])[..., ::-1], run(networks[name], ldr)
    weights.swap_red_and_blue(networks[name])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)  # sums in another order
    assert np.abs(unchanged - expected).max() > 0.01


@pytest.mark.usefixtures("loaded")
def test_brackets_and_aligned_images(folder, tmp_path, capsys):
    helpers.write_bracket(tmp_path / "in", images())
    brackets = tmp_path / "brackets"
    brackets.mkdir()
    (tmp_path / "in").rename(brackets / "church")
    (brackets / "empty").mkdir()
    config = {"brackets": str(brackets), "output": str(tmp_path / "out"), "exposures": "0,2,4", "weights": str(folder)}
    config["save_aligned"] = str(tmp_path / "aligned")
    assert fuse.main(fuse.Config(model="fshdr", **config)) == 1
    assert "error: empty: " in capsys.readouterr().err
    assert helpers.names(tmp_path / "out") == {"church.exr", "church_preview.png", "summary.json"}
    assert helpers.names(tmp_path / "aligned/church") == {"1_a.png", "2_b.png", "3_c.png"}


@pytest.fixture
def scene_folder(tmp_path):
    """A scene with ground truth, and a stack in Tursun's layout, of which the 5th, 7th and 9th image are taken."""
    ldr = images(24, 32)
    scenes.write_scene(tmp_path / "scenes" / "a", ldr, np.array(STOPS), tone.to_radiance(ldr[1] / np.float32(65535), 4))
    stack = tmp_path / "scenes" / "b"
    stack.mkdir()
    for number in range(9):
        image_files.write_image(stack / f"{number}.tif", ldr[min(number // 2 - 2, 2)] if number >= 4 else np.zeros_like(ldr[0]))
    (stack / "exposure.txt").write_text("".join(f"{0.01 * 2.0**number}\n" for number in range(9)))
    return tmp_path / "scenes"


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(("name", "aligned"), [("ahdrnet", False), ("fshdr", True)])
def test_evaluate(runners, folder, scene_folder, tmp_path, capsys, name, aligned):
    output = tmp_path / "out"
    config = evaluate.Config(scenes=str(scene_folder), output=str(output), model=name, weights=str(folder))
    assert evaluate.main(config) == 0
    printed = capsys.readouterr().out
    for words in ("PSNR-mu", "SSIM-mu", "SSIM-L"):
        assert words in printed
    _, expected = pipeline.reconstruct(runners[name], images(24, 32), (1, 4, 16))
    for scene in "ab":  # Tursun's exposures count from the shortest of the three
        np.testing.assert_allclose(image_files.read_radiance(output / scene / f"{name}.exr"), expected, rtol=0, atol=1e-6)
        found = helpers.names(output / scene)
        assert (f"{name}_aligned_low.png" in found) == aligned and f"{name}.png" in found


def test_the_colour_label_is_scored(scene_folder, tmp_path):
    reports = {
        method: evaluate_models(scene_folder, tmp_path / method, ["syn_hdr"], align=method)
        for method in ("none", "flow", "confident_flow")
    }
    found = optical_flow.confident_flow(images(24, 32) / np.float32(65535), (1, 4, 16))
    expected = hdr_merge.syn_hdr(found.images, (1, 4, 16))
    np.testing.assert_array_equal(image_files.read_radiance(tmp_path / "confident_flow" / "a" / "syn_hdr.exr"), expected)
    scores = {method: report["scenes"]["a"]["scores"]["syn_hdr"]["psnr_t"] for method, report in reports.items()}
    assert scores["confident_flow"] > scores["none"] + 3 and len(set(scores.values())) == 3


def test_flat_images_are_told(tmp_path, caplog):
    scenes.write_scene(tmp_path / "scenes" / "flat", np.full((3, 16, 16, 3), 65535, np.uint16), np.array(STOPS))
    report = evaluate_models(tmp_path / "scenes", tmp_path / "out", ["syn_hdr"], align="confident_flow")
    assert not report["errors"]
    assert helpers.mentioned("flat: 1 3", caplog.text)


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("name", ["fshdr", "hdr_transformer"])
def test_export(networks, folder, tmp_path, name):
    export.main(export.Config(str(tmp_path / "saved"), name, str(folder / f"{name}.weights.h5")))
    serve = tf.saved_model.load(str(tmp_path / "saved" / "1")).signatures[signatures.TENSORS]
    for size in ((21, 30), (16, 9)):
        ldr = np.random.default_rng(0).random((3, *size, 3), np.float32)
        names = [f"ldr_{name}" for name in blocks.EXPOSURE_NAMES]
        inputs = {name: tf.constant(np.stack([x, x[::-1]])) for name, x in zip(names, ldr, strict=True)}
        found = serve(**inputs, exposures=tf.constant([[1.0, 4, 16], [1, 2, 4]]))["hdr"]
        first, second = ldr * (65535 / 65536), ldr[:, ::-1] * (65535 / 65536)
        np.testing.assert_allclose(found[0], run(networks[name], first), rtol=0, atol=2e-6)  # another compilation
        np.testing.assert_allclose(found[1], run(networks[name], second, (1, 2, 4)), rtol=0, atol=2e-6)


def test_weights_come_with_the_software_as_soon_as_they_lie_there(networks, folder, monkeypatch):
    monkeypatch.setattr(systems, "PRETRAINED", folder)
    assert pipeline.load("fshdr").network.count_params() == networks["fshdr"].count_params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "ahdrnet train/ hdr-tf convert"),
        ({"weights": "none.weights.h5"}, "none.weights.h5 ahdrnet"),
        ({"weights": "fshdr.weights.h5"}, "fshdr.weights.h5 fshdr ahdrnet"),
        ({"weights": "ahdrnet.weights.h5", "save_aligned": "aligned"}, "save_aligned"),
        ({"weights": "ahdrnet.weights.h5", "align": "mtb"}, "--align --model=ahdrnet"),
        ({"weights": "a.tif"}, "a.tif"),
    ],
)
def test_fuse_refuses(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(systems, "PRETRAINED", tmp_path)
    paths = helpers.write_bracket(tmp_path / "in", images())
    monkeypatch.chdir(tmp_path / "in" if arguments.get("weights") == "a.tif" else folder)
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        fuse.main(fuse.Config(paths, str(tmp_path / "out.exr"), model="ahdrnet", exposures="0,2,4", **arguments))
    assert "\n" not in str(caught.value) and helpers.names(tmp_path) == {"in"}


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match=helpers.mentions("original_protocol esbn fshdr")):
        evaluate_models(tmp_path / "scenes", tmp_path / "out", ["fshdr"], original_protocol=True)
    with pytest.raises(ValueError, match=helpers.mentions("ahdrnet 3 2")):
        serving_export.export("ahdrnet", tmp_path / "saved", exposures=2)
    with pytest.raises(ValueError, match=helpers.mentions("esbn_fusion esbn ahdrnet")):
        pipeline.load("esbn_fusion")
    with pytest.raises(ValueError, match=helpers.mentions(f"mertens {' '.join(systems.names('radiance'))}")):
        systems.find("mertens")
