"""The command line that all scripts share."""

import dataclasses
import signal
from typing import Literal

import pytest
import simple_parsing

from hdr_tf import cli
from hdr_tf.io import image_files
from tests import helpers


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of a script with positional words."""

    images: list[str] = simple_parsing.field(positional=True, default_factory=list)
    """files"""
    output: str | None = simple_parsing.field(default=None, alias="-o")
    """where to"""
    depth: Literal[8, 16] | None = None
    """bits"""
    align: Literal["none", "mtb"] = "none"
    """how"""
    keep_order: bool = False
    """as they come"""
    learning_rate: float = 2e-3
    """step"""
    sides: tuple[int, ...] = (48, 64)
    """pixels"""


@dataclasses.dataclass(frozen=True)
class Wordless:
    """Flags of a script without positional words."""

    output: str
    """required"""
    steps: int = 3
    """count"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("A B -o C", {"images": ["A", "B"], "output": "C"}),
        ("A -o C B --align mtb D", {"images": ["A", "B", "D"], "output": "C", "align": "mtb"}),
        ("--output=C --align=mtb --depth=16", {"output": "C", "align": "mtb", "depth": 16}),
        ("--keep_order A B", {"keep_order": True, "images": ["A", "B"]}),
        ("--keep_order=false A", {"images": ["A"]}),
        ("--learning_rate=-1e-3", {"learning_rate": -1e-3}),
        ("--sides 1 2 3", {"sides": (1, 2, 3)}),
        ("--sides -1 2 --learning_rate -1 A", {"sides": (-1, 2), "learning_rate": -1, "images": ["A"]}),
        ("A --output -2,.5,3 B", {"output": "-2,.5,3", "images": ["A", "B"]}),
        ("A --verbosity=-1 B", {"images": ["A", "B"]}),
        ("-- -A", {"images": ["-A"]}),
    ],
)
def test_parse(line, expected):
    assert cli.parse(Config, line.split()) == Config(**expected)


@pytest.mark.parametrize(
    ("config_class", "line", "message"),
    [
        (Config, "--keep_ordr", "keep_ordr --keep_order"),
        (Config, "--foo=3 A", "foo --help"),
        (Config, "-x A", "x --help"),
        (Config, "--keep A", "keep"),  # no abbreviations
        (Config, "--align=maybe", "--align maybe"),
        (Config, "--depth=9", "--depth 9"),
        (Config, "--learning_rate=fast", "--learning_rate fast"),
        (Config, "--keep_order=7", "--keep_order 7"),
        (Config, "--align", "--align"),
        (Config, "--verbosity=loud", "--verbosity=loud"),
        (Wordless, "--steps=2", "--output"),
        (Wordless, "--output=C D", "D"),
        (Wordless, "D --output=C --verbosity=0", "D"),
        (Wordless, "--output=C --steps=2.5", "--steps 2.5"),
    ],
)
def test_refused_in_one_line(config_class, line, message):
    with pytest.raises(ValueError, match=helpers.mentions(message)) as caught:
        cli.parse(config_class, line.split())
    assert "\n" not in str(caught.value)


def test_a_span_is_one_number_or_two():
    assert cli.span("4", "--n") == (4, 4) and cli.span("3,5", "--n") == (3, 5)
    for text in ("", "3,4,5", "-3", "3-5", "few"):
        with pytest.raises(ValueError, match=helpers.mentions(f"--n 3,5 {text!r}")):
            cli.span(text, "--n")


SCRIPT = '''"""What the script does."""
import dataclasses, os, warnings
from absl import logging
from hdr_tf import cli

@dataclasses.dataclass(frozen=True)
class Config:
    """Flags."""
    do: str = "nothing"
    """what to do"""

def main(config):
    os.write(2, b"a C++ library talks\\n")
    if config.do == "value":
        raise ValueError("expected this\\nfound that")
    if config.do == "file":
        open("/missing/file")
    if config.do == "log":
        logging.info("note")
    if config.do == "print":
        print("\\u65e5")
    return {"fail": 3}.get(config.do)

if __name__ == "__main__":
    cli.run(main, Config)
'''


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("", 0, ""),
        ("--do=fail", 3, ""),
        ("--do=log", 0, "INFO: note"),
        ("--do=value", 1, "expected this found that"),
        ("--do=file", 1, "/missing/file"),
        ("word", 1, "word --help"),
        ("--xyz", 1, "xyz --help"),
    ],
)
def test_run(tmp_path, line, code, words):
    result = _run(tmp_path, line)
    assert (result.returncode, result.stderr.count("\n")) == (code, bool(words))
    assert helpers.mentioned(words, result.stderr) and result.stderr.startswith("error: ") == (code == 1)


def test_names_that_the_terminal_cannot_show_are_printed(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    result = _run(tmp_path, "--do=print")
    assert (result.returncode, result.stdout) == (0, "\\u65e5\n")


def test_verbosity_shows_everything(tmp_path):
    result = _run(tmp_path, "--do=value --verbosity=1")
    assert result.returncode == 1
    assert "a C++ library talks" in result.stderr
    assert "Traceback" in result.stderr


def test_help_shows_the_fields(tmp_path):
    result = _run(tmp_path, "--help")
    assert result.returncode == 0
    assert "What the script does." in result.stdout
    assert helpers.mentioned("what to do nothing", result.stdout)


@pytest.mark.parametrize(("text", "expected"), [("", []), ("a", ["a"]), ("a,b c,", ["a", "b c"])])
def test_words(text, expected):
    assert cli.words(text) == expected


def _run(folder, line):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return helpers.run_python(str(script), *line.split())


INTERRUPTED = """
import os, runpy, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
script, module, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("module", ["simple_parsing", "rich.progress", "tensorflow"])
def test_an_interrupt_while_modules_load_gives_one_line(module, tmp_path):
    for name, image in zip("ab", (helpers.RGB8, helpers.RGB8[::-1]), strict=True):
        image_files.write_image(tmp_path / f"{name}.png", image)
    words = [helpers.ROOT / "tools/fuse.py", module, *tmp_path.glob("*.png"), "-o", tmp_path / "out.png", "--model=hyperp_mb"]
    result = helpers.run_python("-c", INTERRUPTED, *map(str, words), cwd=helpers.ROOT)
    assert result.returncode in (1, 130, -signal.SIGINT)
    assert result.stderr.splitlines() == ["interrupted"]
    assert helpers.names(tmp_path) == {"a.png", "b.png"}
