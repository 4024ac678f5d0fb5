"""Converts the authors' checkpoint of a published network; the command `hdr-tf convert`, see hdr_tf/commands/convert.py.

python tools/convert_checkpoint.py --model=densefuse_gray --checkpoint=gray.model --output=gray.weights.h5
"""

from hdr_tf import cli
from hdr_tf.commands.convert import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
