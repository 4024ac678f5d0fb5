"""The command line that all scripts share."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
import simple_parsing

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """Flags of a script with positional words."""

    pictures: list[str] = simple_parsing.field(positional=True, default_factory=list)
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
        ("A B -o C", {"pictures": ["A", "B"], "output": "C"}),
        ("A -o C B --align mtb D", {"pictures": ["A", "B", "D"], "output": "C", "align": "mtb"}),
        ("--output=C --align=mtb --depth=16", {"output": "C", "align": "mtb", "depth": 16}),
        ("--keep_order A B", {"keep_order": True, "pictures": ["A", "B"]}),
        ("--keep_order=false A", {"pictures": ["A"]}),
        ("--learning_rate=-1e-3", {"learning_rate": -1e-3}),
        ("--sides 1 2 3", {"sides": (1, 2, 3)}),
        ("A --verbosity=-1 B", {"pictures": ["A", "B"]}),
        ("-- -A", {"pictures": ["-A"]}),
    ],
)
def test_parse(line, expected):
    assert cli.parse(Config, line.split()) == Config(**expected)


@pytest.mark.parametrize(
    ("config_class", "line", "message"),
    [
        (Config, "--keep_ordr", "unknown flag 'keep_ordr': did you mean --keep_order?"),
        (Config, "--foo=3 A", "unknown flag 'foo': --help lists the flags"),
        (Config, "-x A", "unknown flag 'x': --help lists the flags"),
        (Config, "--keep A", "unknown flag 'keep'"),  # no abbreviations
        (Config, "--align=maybe", "argument --align: invalid choice: 'maybe'"),
        (Config, "--depth=9", "argument --depth: invalid .* value: '9'"),
        (Config, "--learning_rate=fast", "argument --learning_rate: invalid float value: 'fast'"),
        (Config, "--keep_order=7", "--keep_order.*'7'"),
        (Config, "--align", "argument --align: expected one argument"),
        (Config, "--verbosity=loud", "flag --verbosity=loud"),
        (Wordless, "--steps=2", "arguments are required: --output"),
        (Wordless, "--output=C D", "unexpected word 'D'"),
        (Wordless, "D --output=C --verbosity=0", "unexpected word 'D'"),
        (Wordless, "--output=C --steps=2.5", "argument --steps: invalid int value: '2.5'"),
    ],
)
def test_refused_in_one_line(config_class, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        cli.parse(config_class, line.split())
    assert "\n" not in str(caught.value)


def test_a_span_is_one_number_or_two():
    assert cli.span("4", "--n") == (4, 4) and cli.span("3,5", "--n") == (3, 5)
    for text in ("", "3,4,5", "-3", "3-5", "few"):
        with pytest.raises(ValueError, match=f"--n: expected a number or two as in 3,5, found {text!r}"):
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
    ("line", "code", "stderr"),
    [
        ("", 0, ""),
        ("--do=fail", 3, ""),
        ("--do=log", 0, "INFO: note\n"),
        ("--do=value", 1, "error: expected this found that\n"),
        ("--do=file", 1, "error: /missing/file: No such file or directory\n"),
        ("word", 1, "error: unexpected word 'word': values belong to flags, as in --flag=value; --help lists them\n"),
        ("--xyz", 1, "error: unknown flag 'xyz': --help lists the flags\n"),
    ],
)
def test_run(tmp_path, line, code, stderr):
    result = _run(tmp_path, line)
    assert (result.returncode, result.stderr) == (code, stderr)


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
    assert "what to do (default: nothing)" in result.stdout


@pytest.mark.parametrize(("text", "expected"), [("", []), ("a", ["a"]), ("a,b c,", ["a", "b c"])])
def test_words(text, expected):
    assert cli.words(text) == expected


def _run(folder, line):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return subprocess.run([sys.executable, str(script), *line.split()], capture_output=True, text=True, timeout=60)
