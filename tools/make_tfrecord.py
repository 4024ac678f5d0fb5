"""Writes TFRecords for training.

    python tools/make_tfrecord.py --kind=bracket --hdr_dir=DIR[,DIR] --output=data/train --count=1500

Kind "bracket": exposures of one scene, made from pictures of known radiance (OpenEXR, Radiance) by a simulated camera with
random exposure times, response and noise. In and out:

    hdr_dir/              data/train/
      bridge.exr            manifest.json
      desk.hdr              bracket-00000-of-00008.tfrecord.gz
      ...                   ...

Interrupted, it goes on where it stopped when started again. tfrecords/schema.py declares the fields, tfrecords/dataset.py
reads them.
"""

import dataclasses
import pathlib
import sys

from hdr_tf import cli


@dataclasses.dataclass(frozen=True)
class Config:
    """What to write, and from what."""

    # What a record is: bracket.
    kind: str = "bracket"
    # Folder of .exr and .hdr files, or several with commas between them.
    hdr_dir: str = ""
    # Folder for the records; made if absent.
    output: str = ""
    # Number of records.
    count: int = 1000
    # Side of the square pictures in pixels.
    size: int = 256
    # Number of exposures in a record: one number, or the least and the largest with a comma between them (2 to 9).
    exposures: str = "3,5"
    # Names (without suffix) of pictures to leave out, with commas between them.
    exclude: str = ""
    # Also use the photographs in scikit-image's wheel under made-up light.
    photos: bool = False
    # The same seed gives the same records.
    seed: int = 0
    # Number of files.
    shards: int = 8
    # Number of processes; 0 for one per CPU.
    workers: int = 0


def main(config: Config) -> None:
    # Here, so that --help does not wait for TensorFlow.
    from tfrecords import writer

    if config.kind != "bracket":
        raise ValueError(f"unknown kind {config.kind!r}: known are bracket")
    if not config.output:
        raise ValueError("--output: expected a folder to write to, found nothing")
    numbers = words(config.exposures)
    if not 1 <= len(numbers) <= 2 or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"--exposures: expected a number or two as in 3,5, found {config.exposures!r}")
    manifest, unreadable = writer.write_brackets(
        pathlib.Path(config.output),
        [pathlib.Path(folder) for folder in words(config.hdr_dir)],
        config.count,
        config.size,
        (int(numbers[0]), int(numbers[-1])),
        words(config.exclude),
        config.photos,
        config.seed,
        config.shards,
        config.workers or None,
    )
    for line in unreadable:
        print(f"left out: {line}", file=sys.stderr)
    megabytes = sum(shard["bytes"] for shard in manifest["shards"].values()) / 1e6
    print(f"{config.output}: {manifest['count']} records in {len(manifest['shards'])} shards, {megabytes:.0f} MB")


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    cli.run(main, Config)
