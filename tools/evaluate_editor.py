"""Compares policies of the two-exposure editor; the command `hdr-tf evaluate_editor`, see hdr_tf/commands/evaluate_editor.py.

python tools/evaluate_editor.py --weights=runs/a/dqn_editor.weights.h5 --hdr_dir=DIR --exclude=Tree,forest,hall,venice
"""

from hdr_tf import cli
from hdr_tf.commands.evaluate_editor import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
