"""Writes synthetic scenes or brackets from HDR images; the command `hdr-tf scenes`, see hdr_tf/commands/scenes.py.

python tools/make_scenes.py --hdr_dir=DIR[,DIR] --output=data/scenes --count=100 --exclude=Tree,forest,hall,venice
"""

from hdr_tf import cli
from hdr_tf.commands.scenes import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
