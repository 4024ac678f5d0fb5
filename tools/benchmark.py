"""Measures time and peak memory; prints tables in Markdown and writes JSON.

    python tools/benchmark.py --all --output=benchmark.json > docs/benchmarks.md
    python tools/benchmark.py --model=pyramid,densefuse_gray --size=2048
    python tools/benchmark.py --what=records --hdr_dir=DIR[,DIR]
    python tools/benchmark.py --what=training --filters=16 --patch=128 --batch=4
    python tools/benchmark.py --what=reconstruction --align_filters=16 --filters=16
    python tools/benchmark.py --what=reconstruction --model=ahdrnet,fshdr,hdr_transformer,sctnet --height=256 --width=256
    python tools/benchmark.py --what=large --model=pyramid,hyperp_mb
    python tools/benchmark.py --what=folder --scenes=20
    python tools/benchmark.py --what=files --model=enfuse,pyramid

--all makes every table of docs/benchmarks.md, in some 23 minutes on two cores.

fusion: every system beside OpenCV's Mertens fusion. records: ESBN's scenes written and read, beside the records of its own
program. training: steps a second of its networks, with the time of the input apart. reconstruction: radiance from three
exposures. large: two files of 24 megapixels. folder: brackets as a folder, where reading, fusing and writing overlap, and one
after another. files: two JPEG files to a PNG file, by programs with their start, and by a process that runs already, with
`fuse_files` and with an exported model. hdr_tf/benchmarking.py says what exactly is measured.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from typing import Literal

from hdr_tf import benchmarking, cli, fusing, fusion_evaluation, reconstruction
from hdr_tf.image import files


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    what: Literal["fusion", "records", "training", "reconstruction", "large", "folder", "files"] = "fusion"
    """see above"""
    all: bool = False
    """every table of docs/benchmarks.md, with sizes and models of its own"""
    model: str = ""
    """names with commas between them; all by default, of folder and files the first, and enfuse where it is installed, of
    reconstruction esbn (all but records)"""
    size: int = 1024
    """height and width of the pictures in pixels (fusion)"""
    rounds: int = 0
    """how often each is done; by default 15 fusions, 100 batches read, 15 steps, 3 reconstructions, 3 files"""
    output: str | None = None
    """a JSON file"""
    height: int = 0
    """of a scene in pixels; by default 1000, of large 4000, of folder and files 2000 (all but fusion and training)"""
    width: int = 0
    """of a scene in pixels; by default 1500, of large 6000, of folder and files 3000 (all but fusion and training)"""
    hdr_dir: str = ""
    """folders of .exr and .hdr files to make scenes of, with commas between them; sample photographs by default (records)"""
    scenes: int = 4
    """how many are written (records, folder)"""
    patches: int = 100
    """how many are written in the way of the original program, 4.1 MB each (records)"""
    workers: int = 0
    """processes that write; 0 for one per CPU (records)"""
    patch: int = 256
    """side in pixels (records, training)"""
    batch: int = 4
    """patches in a step (training)"""
    filters: int = 64
    """width of the network (training), of esbn's merging network (reconstruction)"""
    align_filters: int = 64
    """width of esbn's alignment networks (reconstruction)"""
    mixed_precision: bool = False
    """in bfloat16 (reconstruction)"""


# Of a row: key, heading and format of the columns.
COLUMNS = {
    "fusion": (
        ("system", "system", ""),
        ("network_ms", "network ms", ".0f"),
        ("fuse_ms", "fuse ms", ".0f"),
        ("mertens_ms", "Mertens ms", ".0f"),
        ("ratio", "/ Mertens", ".2f"),
        ("gflop", "GFLOP", ".1f"),
        ("of_matmul", "of a matmul's rate", ".0%"),
        ("compiled_mb", "compiled MB", ".0f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "records": (
        ("scene_mb", "MB/scene", ".1f"),
        ("scene_s", "s/scene", ".2f"),
        ("patch_s", "original s/patch", ".4f"),
        ("times_smaller", "smaller", ".0f"),
        ("times_faster", "faster", ".0f"),
        ("patches_per_s", "patches/s", ".0f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "training": (
        ("model", "model", ""),
        ("input_ms", "input ms", ".1f"),
        ("step_ms", "step ms", ".1f"),
        ("both_ms", "both ms", ".1f"),
        ("steps_per_s", "steps/s", ".2f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "reconstruction": (
        ("model", "model", ""),
        ("precision", "precision", ""),
        ("merged", "merged", ""),
        ("first_s", "first s", ".1f"),
        ("seconds", "s", ".1f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "large": (
        ("model", "model", ""),
        ("seconds", "s", ".1f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "folder": (
        ("model", "model", ""),
        ("single_s", "s/bracket singly", ".2f"),
        ("folder_s", "s/bracket", ".2f"),
        ("gain", "gain", ".2f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
    "files": (
        ("model", "model", ""),
        ("way", "way", ""),
        ("first_s", "first s", ".1f"),
        ("seconds", "s", ".2f"),
        ("peak_mb", "peak MB", ".0f"),
    ),
}
MODELS = {
    "fusion": (benchmarking.MERTENS, *fusing.MODELS),
    "training": ("esbn_align", "esbn_fusion"),
    "reconstruction": reconstruction.MODELS[:1],
    "large": fusing.MODELS,
    "folder": fusing.MODELS[:1],
    "files": (*[benchmarking.ENFUSE] * (shutil.which(benchmarking.ENFUSE) is not None), fusing.MODELS[0]),
}
SIZES = {"large": (4000, 6000), "folder": (2000, 3000), "files": (2000, 3000)}  # height and width
ROUNDS = {"fusion": 15, "records": 100, "training": 15, "reconstruction": 3, "large": 1, "folder": 1, "files": 3}
ALL = (
    {"what": "fusion", "rounds": 5},
    {"what": "fusion", "size": 3464, "rounds": 3, "model": "mertens,pyramid,dqn_editor"},
    {"what": "large"},
    {"what": "files"},
    {"what": "folder", "scenes": 8},
    {"what": "records"},
    {"what": "training", "patch": 128, "rounds": 5},
    {"what": "reconstruction", "align_filters": 16},
    {"what": "reconstruction", "model": "ahdrnet,fshdr,hdr_transformer,sctnet", "height": 256, "width": 256},
    {"what": "reconstruction", "model": "ahdrnet", "height": 1024, "width": 1024},
    {"what": "reconstruction", "model": "ahdrnet", "height": 1024, "width": 1024, "mixed_precision": True},
)


def main(config: Config) -> None:
    configs = [dataclasses.replace(config, **flags) for flags in ALL] if config.all else [config]
    if config.all and dataclasses.replace(config, output=None) != Config(all=True):
        raise ValueError("--all has sizes and models of its own: of the other flags only --output goes with it")
    for each in configs:
        _check(each)
    if config.output:
        pathlib.Path(config.output).parent.mkdir(parents=True, exist_ok=True)  # to fail before the work, not after it
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "opencv-python-headless")
    )
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"
    print(f"# Benchmarks\n\n`python tools/benchmark.py --all` on {machine}." if config.all else f"{machine}.")
    tables = []
    for each in configs:
        title, rows = _measured(each)
        print(f"\n## {each.what.capitalize()}: {title}\n\n{_markdown(COLUMNS[each.what], rows)}", flush=True)
        tables.append({"what": each.what, "title": title, "rows": rows})
    if config.output:
        with files.atomic(config.output) as temporary:
            temporary.write_text(json.dumps({"machine": machine, "tables": tables}, indent=2) + "\n")


def _measured(config):
    """The title of a table and its rows."""
    names = cli.words(config.model) or MODELS.get(config.what, ())
    rounds, size = config.rounds or ROUNDS[config.what], _size(config)
    if config.what == "fusion":
        title = f"two exposures of {config.size} x {config.size}"
        rows = [benchmarking.measure(name, config.size, rounds) for name in names]
    elif config.what == "records":
        title = f"{config.scenes} scenes of {size[1]} x {size[0]}, patches of {config.patch}"
        folders = cli.words(config.hdr_dir)
        numbers = (config.scenes, config.patch, config.patches, rounds, config.workers)
        rows = [benchmarking.measure_records(folders, size, *numbers)]
    elif config.what == "training":
        title = f"{config.filters} filters, batches of {config.batch} patches of {config.patch}"
        rows = [benchmarking.measure_training(name, config.filters, config.batch, config.patch, rounds) for name in names]
    elif config.what == "files":
        title = f"two exposures of {size[1]} x {size[0]}, JPEG to PNG, 8 bit"
        rows = [row for name in names for row in benchmarking.measure_files(name, size, rounds)]
    elif config.what == "large":
        title = f"two exposures of {size[1]} x {size[0]}, 8 bit"
        rows = [benchmarking.measure_large(name, size) for name in names]
    elif config.what == "folder":
        title = f"{config.scenes} brackets of two exposures of {size[1]} x {size[0]}, 8 bit"
        rows = [benchmarking.measure_folder(name, size, config.scenes) for name in names]
    else:
        title = f"three exposures of {size[1]} x {size[0]}"
        widths = config.align_filters, config.filters
        rows = [benchmarking.measure_reconstruction(name, size, *widths, rounds, config.mixed_precision) for name in names]
    return title, rows


def _markdown(columns, rows):
    lines = [[heading for _, heading, _ in columns], ["---" if not form else "---:" for *_, form in columns]]
    lines += [["" if row[key] is None else format(row[key], form) for key, _, form in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _size(config):
    height, width = SIZES.get(config.what, (1000, 1500))
    return config.height or height, config.width or width


def _check(config):
    for name in cli.words(config.model):
        if config.what not in MODELS:
            raise ValueError(f"--model: --what={config.what} has none to choose from")
        if config.what == "fusion" and name != benchmarking.MERTENS:
            fusing.check_model(name, None, 2)
        if config.what in ("large", "folder") or (config.what == "files" and name != benchmarking.ENFUSE):
            fusing.check_model(name, None, 2)
        if config.what == "files" and name == benchmarking.ENFUSE:
            fusion_evaluation.enfuse_program()
        known = {"training": MODELS["training"], "reconstruction": reconstruction.MODELS}.get(config.what)
        if known and name not in known:
            raise ValueError(f"unknown model {name!r}: known are {', '.join(known)}")
    if min(config.size, *_size(config)) < 16 or config.rounds < 0:
        found = f"{config.size}, {config.width} x {config.height} and {config.rounds}"
        raise ValueError(f"expected sizes of at least 16 and rounds of 0 or more, found {found}")
    for flag in ("scenes", "patches", "batch", "filters", "align_filters"):
        if getattr(config, flag) < 1:
            raise ValueError(f"--{flag}: expected 1 or more, found {getattr(config, flag)}")


if __name__ == "__main__":
    cli.run(main, Config)
