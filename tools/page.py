"""Serves the page; the command `hdr-tf page`, see hdr_tf/commands/page.py.

python tools/page.py --open
"""

from hdr_tf import cli
from hdr_tf.commands.page import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
