"""The command `hdr-tf`: its subcommands are modules with a `Config` and a `main`, which scripts in tools/ share."""

import importlib
import sys

from hdr_tf import cli

COMMANDS = ("fuse", "merge", "evaluate")


def run() -> None:
    """Runs the subcommand that the first word names."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        lines = [f"hdr-tf {name} ...    {summary(name)}" for name in COMMANDS]
        text = "\n".join(["usage: hdr-tf COMMAND ... (hdr-tf COMMAND --help explains its flags)", "", *lines])
        if asked in ("-h", "--help"):
            print(text)
            sys.exit(0)
        sys.exit(f"error: expected a command ({', '.join(COMMANDS)}), found {asked or 'none'}; hdr-tf --help explains")
    name = sys.argv.pop(1)
    module = importlib.import_module(f"hdr_tf.commands.{name}")
    sys.argv[0] = f"hdr-tf {name}"
    cli.run(module.main, module.Config)


def summary(name: str) -> str:
    """Returns the first line of a subcommand's help."""
    return importlib.import_module(f"hdr_tf.commands.{name}").__doc__.splitlines()[0]
