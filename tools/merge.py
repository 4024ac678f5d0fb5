"""Merges a bracket to radiance; the command `hdr-tf merge`, see hdr_tf/commands/merge.py.

python tools/merge.py short.jpg middle.jpg long.jpg -o scene.exr
"""

from hdr_tf import cli
from hdr_tf.commands.merge import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
