"""Exports a network for TensorFlow Serving or LiteRT; the command `hdr-tf export`, see hdr_tf/commands/export.py.

python tools/export.py --output=exported/pyramid
"""

from hdr_tf import cli
from hdr_tf.commands.export import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
