"""Fuses a bracket; the command `hdr-tf fuse`, see hdr_tf/commands/fuse.py.

python tools/fuse.py dark.jpg middle.jpg bright.jpg -o fused.png
"""

from hdr_tf import cli
from hdr_tf.commands.fuse import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
