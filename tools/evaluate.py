"""Scores models on scenes; the command `hdr-tf evaluate`, see hdr_tf/commands/evaluate.py.

python tools/evaluate.py --model=pyramid,mertens,mean --scenes=brackets --output=scores
"""

from hdr_tf import cli
from hdr_tf.commands.evaluate import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
