"""Writes TFRecords for training; the command `hdr-tf records`, see hdr_tf/commands/records.py.

python tools/make_tfrecord.py --scenes=data/scenes --output=data/train
"""

from hdr_tf import cli
from hdr_tf.commands.records import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
