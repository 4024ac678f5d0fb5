"""The one command line of all scripts: a frozen dataclass in, an exit code out.

A script is `main(config) -> int | None`, a frozen dataclass `Config` whose documented fields are the flags, and
`cli.run(main, Config)`. A field `simple_parsing.field(positional=True, default_factory=list)` takes the words,
`alias="-o"` adds a short name. `--flag=value` and `--flag value` are the same, also for numbers below 0; a boolean is `--flag`
or `--flag=false`.

Parses as `etils.eapp.make_flags_parser` does (simple_parsing for the dataclass, absl's flags for the rest) with three
differences: a stray word, which eapp ignores, is refused; a wrong flag or value gives one line and exit code 1, no usage or
traceback; words may stand before, between and after the flags.

While `main` runs, libraries in C and C++ are silent: TensorFlow 2.21 writes a dozen lines whenever it is imported, which
TF_CPP_MIN_LOG_LEVEL no longer stops, and decoders print lines about damaged files that `main` reports anyway. So a script
imports TensorFlow, and what imports it, inside `main`, which makes --help quick too. `--verbosity=1` shows everything.

An interrupt ends a script with one line, also while modules load.
"""
# ruff: noqa: E402, since an interrupt may come while the modules below load

import os
import pathlib
import sys
from types import TracebackType


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints an exception that nobody caught: one line for an interrupt, whatever a module that was loading made of it."""
    cause = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        _report_others(kind, error, trace)
    else:
        print("interrupted", file=sys.stderr)


_report_others = sys.excepthook
_script = pathlib.Path(getattr(sys.modules["__main__"], "__file__", None) or ".").parts[-2:]
if _script[-1:] == ("hdr-tf",) or _script[:1] in (("commands",), ("tools",), ("train",)):  # not a program that uses hdr_tf
    sys.excepthook = _report

import dataclasses
import difflib
import inspect
import logging
import re
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import simple_parsing
from absl import app, flags
from absl import logging as absl_logging

from hdr_tf import progress, quiet

ConfigT = TypeVar("ConfigT")


def run(main: Callable[[ConfigT], int | None], config_class: type[ConfigT]) -> NoReturn:
    """Parses `sys.argv` into `config_class`, calls `main` with it and exits with what it returns.

    A `ValueError` or an `OSError` becomes one line on stderr, `error: ...`, and exit code 1; with `--verbosity=1` it
    stays a traceback.
    """

    def parsed(argv: Sequence[str]) -> ConfigT:
        try:
            return parse(config_class, argv[1:])
        except ValueError as error:
            sys.exit(f"error: {one_line(error)}")

    def guarded(config: ConfigT) -> int | None:
        if flags.FLAGS.verbosity <= 0:
            _silence_libraries()
        try:
            with progress.display():
                return main(config)
        except (ValueError, OSError) as error:
            if flags.FLAGS.verbosity > 0:
                raise
            sys.exit(f"error: {one_line(error)}")

    sys.stdout.reconfigure(errors="backslashreplace")  # a name of a file may not fit the terminal's encoding
    # absl's default prefix (thread, file, line) is for a server's log, not for a photographer.
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    app.run(guarded, flags_parser=parsed)


def parse(config_class: type[ConfigT], words: Sequence[str]) -> ConfigT:
    """Returns the configuration that a command line (without the program's name) asks for.

    Raises:
      ValueError: an unknown flag, a value that does not fit, a missing flag or a stray word, in one line.
    """
    words = _with_current_names(config_class, words)
    fields = dataclasses.fields(config_class)
    switches = {f"--{field.name}" for field in fields if isinstance(field.default, bool)}
    words = _with_negative_lists(words, {f"--{field.name}" for field in fields} - switches)
    parser = _Parser(
        prog=pathlib.Path(sys.argv[0]).name,
        description=(inspect.getmodule(config_class).__doc__ or "").strip(),
        allow_abbrev=False,  # an abbreviation changes its meaning when a flag is added
    )
    parser.add_arguments(config_class, dest="config")
    # argparse would read the word after a switch as its value: `--keep_order A.jpg`.
    namespace, rest = parser.parse_known_args([f"{word}=true" if word in switches else word for word in words])
    flags.FLAGS.set_gnu_getopt(True)  # look for absl's flags after words too
    try:
        stray = flags.FLAGS(["", *rest])[1:]
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, [field.name for field in fields], n=1)
        hint = f"did you mean --{close[0]}?" if close else "--help lists the flags"
        raise ValueError(f"unknown flag {error.flagname!r}: {hint}") from error
    except flags.Error as error:
        raise ValueError(str(error)) from error
    positional = next((field.name for field in fields if field.metadata.get("positional")), None)
    if stray and positional is None:
        raise ValueError(f"unexpected word {stray[0]!r}: values belong to flags, as in --flag=value; --help lists them")
    if stray:  # argparse hands back the words after the first group of words
        return dataclasses.replace(namespace.config, **{positional: [*getattr(namespace.config, positional), *stray]})
    return namespace.config


def current_names(config_class: type, flags: dict) -> dict:
    """Returns flags, {name: value}, with the current names of those that were called otherwise in the past.

    A configuration class may list old names in `RENAMED`, {old flag: new flag}, and old values in `RENAMED_VALUES`, {flag: {old
    value: new value}}. The command line accepts both, and so does the config.json of a run.
    """
    renamed, values = getattr(config_class, "RENAMED", {}), getattr(config_class, "RENAMED_VALUES", {})
    flags = {renamed.get(name, name): value for name, value in flags.items()}
    return {name: values.get(name, {}).get(value, value) if isinstance(value, str) else value for name, value in flags.items()}


def _with_current_names(config_class, words):
    words = list(words)
    for i, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        separate = not equals and i + 1 < len(words)
        ((current, new),) = current_names(config_class, {name: words[i + 1] if separate else value}).items()
        words[i] = f"--{current}{equals}{new if equals else ''}"
        if separate and not new.startswith("--"):
            words[i + 1] = new
    return words


def _with_negative_lists(words, flags):
    """The words, in which numbers with commas that begin with a minus belong to the flag before them: argparse reads -2 as a
    number, but -2,0,2 as a flag."""
    joined = []
    for word in words:
        if joined and joined[-1] in flags and re.match(r"-\.?\d.*,", word):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def words(text: str) -> list[str]:
    """Returns the words of a flag that takes several with commas between them; none of an empty one."""
    return [word for word in text.split(",") if word]


def span(text: str, flag: str) -> tuple[int, int]:
    """Returns the two numbers in "3,5", or the one in "4" twice; ValueError, with the flag, for anything else."""
    numbers = words(text)
    if not 1 <= len(numbers) <= 2 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{flag}: expected a number or two as in 3,5, found {text!r}")
    return int(numbers[0]), int(numbers[-1])


def one_line(error: Exception) -> str:
    """Returns an error's message without line breaks; for errors of the operating system, the file first."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).splitlines()) or type(error).__name__


def _silence_libraries() -> None:
    """Gives Python's stderr a file descriptor of its own and points the one that libraries write to at nothing. Drops what
    decoders print."""
    sys.stdout = quiet.Output(sys.stdout)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    absl_logging.get_absl_handler().python_handler.setStream(_Stderr())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class _Stderr:
    """Whatever `sys.stderr` is at the moment: a progress bar replaces it, so that lines appear above the bar."""

    def __getattr__(self, name):
        return getattr(sys.stderr, name)

    def close(self):
        """Leaves it open: a program that sets up its own logging, as web servers do, closes the handlers that it finds."""


class _Parser(simple_parsing.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)
