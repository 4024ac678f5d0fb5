"""Measures time and peak memory; the command `hdr-tf benchmark`, see hdr_tf/commands/benchmark.py.

python tools/benchmark.py --all --output=benchmark.json > docs/benchmarks.md
"""

from hdr_tf import cli
from hdr_tf.commands.benchmark import Config, main

if __name__ == "__main__":
    cli.run(main, Config)
