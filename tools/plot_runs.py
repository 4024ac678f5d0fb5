"""Draws the learning curves of training runs: columns of their log.csv over the steps.

    python tools/plot_runs.py --runs=runs/a,runs/b --column=loss --output=curves.png
    python tools/plot_runs.py --runs=runs/editor --column=return,valid_return --output=curves.png

The steps of the two-exposure editor are edits.
"""

import dataclasses
import pathlib

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to draw."""

    runs: str
    """folders of runs, with commas between them"""
    output: str
    """the picture"""
    column: str = "loss"
    """of log.csv, or several with commas between them"""


def main(config: Config) -> None:
    from hdr_tf import report
    from hdr_tf.image import files

    files.write_picture(pathlib.Path(config.output), report.learning_curves(cli.words(config.runs), cli.words(config.column)))
    print(f"{config.output}: {config.column} of {config.runs}")


if __name__ == "__main__":
    cli.run(main, Config)
