"""Draws the learning curves of training runs; the command `hdr-tf plot`, see hdr_tf/commands/plot.py.

python tools/plot_runs.py --runs=runs/a,runs/b --column=loss --output=curves.png
"""

from hdr_tf import cli
from hdr_tf.commands.plot import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
