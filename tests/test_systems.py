"""The registry: what the program says about its systems, and a throw-away system that nothing but a record describes."""

import json
import pathlib
import re
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import hdr_tf
from hdr_tf import systems
from hdr_tf.commands import convert, evaluate, fuse, merge
from hdr_tf.commands import export as export_command
from hdr_tf.io import image_files
from hdr_tf.models import blocks
from hdr_tf.serving import export

ROOT = pathlib.Path(__file__).parent.parent


def weighted_mean(exposures=2):
    """The network of the throw-away system: the mean of its images, the last one counted twice."""
    inputs, images = blocks.image_inputs([f"exposure_{i + 1}" for i in range(exposures)], 3)
    return keras.Model(inputs, {"fused": (sum(images[1:], images[0]) + images[-1]) / (exposures + 1)}, name="weighted_mean")


@pytest.fixture
def throw_away(monkeypatch):
    """Adds a system through the registry alone."""
    system = systems.FusionSystem(
        name="throw_away",
        description="a mean",
        paper="none",
        networks={"throw_away": systems.Network(f"{__name__}:weighted_mean")},
        weight_files=(),
        encode=lambda values: values / 255,
        decode=lambda values: values * 255,
        to_8_bit="round",
        stages=(systems.Stage(halo=0),),
    )
    monkeypatch.setitem(systems.SYSTEMS, system.name, system)
    return system.name


def test_a_new_system_is_fused_evaluated_and_exported_by_its_record_alone(throw_away, tmp_path):
    rng = np.random.default_rng(0)
    exposures = [np.sort(rng.integers(low, low + 100, (48, 60, 3), np.uint8), axis=0) for low in (20, 120)]
    expected = np.rint((np.float64(exposures[0]) + 2 * np.float64(exposures[1])) / 3)
    np.testing.assert_allclose(hdr_tf.fuse(exposures, model=throw_away, keep_order=True), expected, atol=1)

    paths = [tmp_path / "brackets" / "a" / f"{number}.png" for number in (1, 2)]
    paths[0].parent.mkdir(parents=True)
    for path, pixels in zip(paths, exposures, strict=True):
        image_files.write_image(path, pixels)
    assert fuse.main(fuse.Config(images=list(map(str, paths)), output=str(tmp_path / "fused.png"), model=throw_away)) == 0
    fused = image_files.read_image(tmp_path / "fused.png").pixels
    np.testing.assert_allclose(fused, expected, atol=1)

    scores = tmp_path / "scores"
    flags = {"scenes": str(tmp_path / "brackets"), "output": str(scores), "model": f"{throw_away},mean"}
    assert evaluate.main(evaluate.Config(**flags)) == 0
    assert throw_away in json.dumps(json.loads((scores / "scores.json").read_text())["means"])

    version = export.export(throw_away, tmp_path / "exported" / throw_away)
    encoded = tf.saved_model.load(str(version)).signatures["encoded"]
    files = {f"exposure_{number}": tf.constant([path.read_bytes()]) for number, path in enumerate(paths, start=1)}
    served = cv2.imdecode(np.frombuffer(encoded(**files)["fused_bytes"].numpy()[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_allclose(np.int32(served), np.int32(fused), atol=1)


def test_each_tool_offers_the_systems_of_the_registry(throw_away, capsys):
    for command in (fuse, evaluate, export_command):
        with pytest.raises(SystemExit) as error:
            from hdr_tf import cli

            cli.parse(command.Config, ["--help"])
        assert error.value.code == 0
        text = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert all(name in text for name in systems.names() if name != throw_away), command
    with pytest.raises(SystemExit):
        cli.parse(merge.Config, ["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in systems.names("radiance"))
    assert set(convert.CONVERTED) == {
        *("deepfuse_official", "deepfuse_sunnerli", "densefuse_gray", "densefuse_rgb", "hyperp_mb", "dqn_editor", "esbn_align"),
        *("esbn_fusion", "ahdrnet", "fshdr", "hdr_transformer", "sctnet"),
    }


@pytest.mark.parametrize("name", systems.names())
def test_every_reference_of_a_record_leads_somewhere(name):
    system = systems.SYSTEMS[name]
    references = [system.runner, system.endpoints, getattr(system, "size_arguments", None), getattr(system, "color", None)]
    for network in system.networks.values():
        references += [network.builder, network.original_names, network.sizes]
    assert all(systems.resolve(reference) is not None for reference in references if reference)
    assert system.name == name and system.description and system.paper


@pytest.mark.parametrize("task", [None, "fusion", "radiance"])
def test_an_unknown_name_is_refused_with_the_choices(task):
    with pytest.raises(ValueError, match="'densefuse'") as error:
        systems.find("densefuse", task)
    assert all(name in str(error.value) for name in systems.names(task))


def test_bundled_weights_are_those_in_the_folder():
    bundled = {path.name.removesuffix(".weights.h5") for path in systems.PRETRAINED.glob("*.weights.h5")}
    known = {name for system in systems.SYSTEMS.values() for name in system.weight_files}
    assert bundled - known == {"dqn_editor_reference"}  # a second policy
    assert {name for name in systems.names() if systems.SYSTEMS[name].bundled} == {
        *("pyramid", "deepfuse_official", "densefuse_gray", "densefuse_rgb", "hyperp_mb", "dqn_editor", "esbn", "ahdrnet"),
        *("merge", "merge_classical"),
    }


def test_the_readme_has_a_row_for_each_system():
    rows = re.findall(r"^\| `(\w+)`(?: \(default\))? +\|(.*)\|$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    cells = {name: [cell.strip() for cell in row.split("|")] for name, row in rows}
    assert list(cells) == list(systems.names())
    for name, (task, exposures, moving, bundled, *_) in cells.items():
        system = systems.SYSTEMS[name]
        least, most = system.exposures
        assert task == system.task, name
        assert exposures == (f"{least}" if least == most else f"{least} to {most}" if most else f"{least} or more"), name
        assert (moving, bundled) == tuple("yes" if value else "no" for value in (system.moving, system.bundled)), name


@pytest.mark.parametrize(
    "module",
    [
        *("hdr_tf", "hdr_tf.systems", "hdr_tf.cli", "hdr_tf.commands", "hdr_tf.commands.fuse", "hdr_tf.commands.merge"),
        *("hdr_tf.fusion.pipeline", "hdr_tf.radiance.light", "hdr_tf.radiance.merge_classical"),
        *("hdr_tf.radiance.pipeline", "hdr_tf.io.image_files", "hdr_tf.io.scenes", "hdr_tf.io.brackets", "hdr_tf.io.outputs"),
        *("hdr_tf.radiance.merge_classical", "hdr_tf.image.trusted_merge"),
        *("hdr_tf.image.color", "hdr_tf.image.align", "hdr_tf.image.optical_flow", "hdr_tf.image.exposure_fusion"),
    ],
)
def test_light_modules_import_neither_keras_nor_tensorflow(module):
    program = f"import sys, {module}; sys.exit(bool({{'keras', 'tensorflow'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT).returncode == 0
