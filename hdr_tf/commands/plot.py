"""Draws the learning curves of training runs: columns of their log.csv over the steps.

    hdr-tf plot --runs=runs/a,runs/b --column=loss --output=curves.png
    hdr-tf plot --runs=runs/editor --column=return,valid_return --output=curves.png

The steps of the two-exposure editor are edits.
"""

import dataclasses
import pathlib

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to draw."""

    runs: str  # folders of training runs, separated by commas
    output: str  # the image to write
    column: str = "loss"  # columns of log.csv, separated by commas


def main(config: Config) -> None:
    from hdr_tf.evaluation.curves import learning_curves
    from hdr_tf.io import image_files

    curves = learning_curves(cli.words(config.runs), cli.words(config.column))
    image_files.write_image(pathlib.Path(config.output), curves)
    print(f"{config.output}: {config.column} of {config.runs}")
