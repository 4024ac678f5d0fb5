"""The command `hdr-tf`: its subcommands are modules with a `Config` and a `main`, which scripts in tools/ share."""

import importlib
import sys

from hdr_tf import cli

COMMANDS = {  # module: what it does, here so that `hdr-tf --help` loads none of them
    "fuse": "fuses a bracket to an image for display",
    "merge": "merges a bracket to radiance",
    "page": "serves a page for both in the browser",
    "evaluate": "scores models on scenes and writes a report",
    "export": "exports a network for TensorFlow Serving or LiteRT",
    "convert": "converts the authors' checkpoint of a published network",
    "scenes": "writes synthetic scenes or brackets from HDR images",
    "align": "aligns the exposures of moving scenes",
    "records": "writes records for training",
    "plot": "draws learning curves of training runs",
    "evaluate_editor": "compares policies of the two-exposure editor",
    "benchmark": "measures time and memory",
}


def run() -> None:
    """Runs the subcommand that the first word names."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        lines = [f"  {name:15}  {summary}" for name, summary in COMMANDS.items()]
        text = "\n".join(["usage: hdr-tf COMMAND ... (hdr-tf COMMAND --help explains its flags)", "", *lines])
        if asked in ("-h", "--help"):
            print(text)
            sys.exit(0)
        sys.exit(f"error: expected a command ({', '.join(COMMANDS)}), found {asked or 'none'}; hdr-tf --help explains")
    name = sys.argv.pop(1)
    module = importlib.import_module(f"hdr_tf.commands.{name}")
    sys.argv[0] = f"hdr-tf {name}"
    cli.run(module.main, module.Config)
