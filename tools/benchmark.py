"""Measures time and peak memory of every system beside OpenCV's Mertens fusion; prints a table and writes JSON.

    python tools/benchmark.py --output=benchmark.json
    python tools/benchmark.py --model=pyramid,densefuse_gray --size=2048

hdr_tf/benchmarking.py says what exactly is measured.
"""

import dataclasses
import json
import os
import pathlib
import platform

import rich.console
import rich.table

from hdr_tf import benchmarking, cli, fusing
from hdr_tf.image import files


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    model: str = ",".join([benchmarking.MERTENS, *fusing.SYSTEMS])
    """names with commas between them"""
    size: int = 1024
    """height and width of the pictures in pixels"""
    rounds: int = 15
    """how often each fuses, after three rounds to warm up"""
    output: str | None = None
    """a JSON file"""


def main(config: Config) -> None:
    names = config.model.split(",")
    for name in names:
        if name != benchmarking.MERTENS:
            fusing.check_model(name, None, 2)
    if config.size < 16 or config.rounds < 1:
        raise ValueError(f"expected a size of at least 16 and a round or more, found {config.size} and {config.rounds}")
    if config.output:
        pathlib.Path(config.output).parent.mkdir(parents=True, exist_ok=True)  # to fail before the work, not after it
    rows = [benchmarking.measure(name, config.size, config.rounds) for name in names]
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    table = rich.table.Table(title=f"two exposures of {config.size} x {config.size}, {machine}")
    for column in ("system", "network ms", "fuse ms", "Mertens ms", "ratio", "peak MB"):
        table.add_column(column, justify="left" if column == "system" else "right")
    for row in rows:
        network = "" if row["network_ms"] is None else f"{row['network_ms']:.0f}"
        times = (f"{row['fuse_ms']:.0f}", f"{row['mertens_ms']:.0f}", f"{row['ratio']:.2f}")
        table.add_row(row["system"], network, *times, f"{row['peak_mb']:.0f}")
    rich.console.Console().print(table)
    if config.output:
        with files.atomic(config.output) as temporary:
            temporary.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main, Config)
