"""The command `hdr-tf`: its subcommands, the scripts that share them, and what messages and pages call them."""

import importlib
import re
import sys

import pytest

from hdr_tf import cli
from hdr_tf.commands import COMMANDS, fuse, plot
from hdr_tf.training import run_folder
from hdr_tf.training.config import TrainingConfig
from tests import helpers

FOLDERS = [helpers.ROOT / name for name in ("hdr_tf", "tfrecords", "docs")]
TEXTS = [path for folder in FOLDERS for end in ("py", "md", "html") for path in sorted(folder.rglob(f"*.{end}"))]
TEXTS += [helpers.ROOT / "README.md", helpers.ROOT / "SECURITY.md"]


def test_every_module_is_a_subcommand_and_every_script_one_of_them():
    modules = {path.stem for path in (helpers.ROOT / "hdr_tf" / "commands").glob("*.py")}
    assert set(COMMANDS) == modules - {"__init__", "__main__", "shared"}
    scripts = [path.stem for path in (helpers.ROOT / "tools").glob("*.py")]
    mains = [importlib.import_module(f"tools.{name}").main for name in scripts]
    assert sorted(main.__module__ for main in mains) == sorted(f"hdr_tf.commands.{name}" for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_subcommand(name, capsys, monkeypatch):
    module = importlib.import_module(f"hdr_tf.commands.{name}")
    monkeypatch.setattr(sys, "argv", [f"hdr-tf {name}"])
    with pytest.raises(SystemExit) as stopped:
        cli.parse(module.Config, ["--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and printed.startswith(f"usage: hdr-tf {name} ")
    assert f"    hdr-tf {name} " in module.__doc__ and module.__doc__.splitlines()[0] in printed
    assert "docs/" not in printed  # the wheel has none


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 1), (["fuze"], 1)])
def test_the_command_lists_its_subcommands(words, code):
    result = helpers.run_python("-m", "hdr_tf.commands", *words, cwd=helpers.ROOT)
    assert result.returncode == code
    assert all(re.search(rf"\b{name}\b", result.stderr if code else result.stdout) for name in COMMANDS)


LOADED = """
import sys
from hdr_tf import commands
print("numpy" in sys.modules)
for name in commands.COMMANDS:
    __import__(f"hdr_tf.commands.{name}")
print(*{"keras", "tensorflow", "h5py", "matplotlib"}.intersection(sys.modules))
"""


def test_help_loads_nothing_heavy():
    assert helpers.run_python("-c", LOADED, cwd=helpers.ROOT, check=True).stdout == "False\n\n"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(helpers.ROOT)))
def test_texts_name_commands_and_extras_that_a_reader_of_the_wheel_has(path):
    text = path.read_text()
    assert not re.findall(r"python tools/|tools/\w+\.py", text)
    assert set(re.findall(r"\bhdr-tf ([a-z_]+)", text)) <= set(COMMANDS)
    project = (helpers.ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    assert set(re.findall(r"hdr_tf\[(\w+)\]", text)) <= set(re.findall(r"^(\w+) = \[", project, flags=re.MULTILINE))


def test_the_sample_needs_no_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fuse.main(fuse.Config(sample=True)) == 0
    names = {"hdr_tf_sample.png", *(f"hdr_tf_sample_exposure_{number}.png" for number in (1, 2, 3))}
    assert helpers.names(tmp_path) == names
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


def test_curves_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "hdr_tf.evaluation.curves", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match=helpers.mentions("matplotlib 'hdr_tf[train]'")):
        plot.main(plot.Config(runs="run", output=str(tmp_path / "curves.png")))


def test_training_without_tensorboard_leaves_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=helpers.mentions("tensorboard 'hdr_tf[train]'")):
        run_folder.write_config(tmp_path / "run", TrainingConfig())
    assert not list(tmp_path.iterdir())
