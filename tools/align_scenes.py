"""Aligns the exposures of moving scenes with the middle one; the command `hdr-tf align`, see hdr_tf/commands/align.py.

python tools/align_scenes.py --scenes=scenes --output=aligned_scenes
"""

from hdr_tf import cli
from hdr_tf.commands.align import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
