"""Measures time and peak memory; prints tables in Markdown and writes JSON.

    hdr-tf benchmark --all --output=benchmark.json > benchmarks.md
    hdr-tf benchmark --model=pyramid,densefuse_gray --size=2048
    hdr-tf benchmark --what=records --hdr_dir=DIR[,DIR]
    hdr-tf benchmark --what=reconstruction --model=ahdrnet,fshdr,hdr_transformer,sctnet --height=256 --width=256

--all takes about 23 minutes on two cores. hdr_tf/benchmarks.py defines every column of the tables:

    fusion            every system and OpenCV's Mertens fusion
    records           ESBN's scenes written and read, compared with the records of its own program
    training          training steps of ESBN's networks, and the time of their input
    reconstruction    radiance from three exposures
    large             two files of 24 megapixels
    folder            brackets as a folder, where reading, fusing and writing overlap, and one after another
    files             two JPEG files to a PNG file: by programs, start included, and in a running process
    device            whether this machine computes what it should, within 8 minutes (hdr_tf/device_check.py)
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from typing import Literal, NamedTuple

from hdr_tf import cli, systems
from hdr_tf.io import outputs


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure."""

    RENAMED = {"workers": "num_processes"}

    what: Literal["fusion", "records", "training", "reconstruction", "large", "folder", "files", "device"] = "fusion"
    """chooses the table, see above"""
    all: bool = False
    """makes every table, with sizes and models of its own"""
    model: str = ""
    """names the models, with commas between them (all tables but records); default: all; for reconstruction merge,
    merge_classical and esbn, for folder pyramid, for files pyramid and enfuse if it is installed"""
    size: int = 1024
    """sets the height and width of the images in pixels (fusion)"""
    rounds: int = 0
    """repeats each measurement this many times; default: 15 fusions, 100 batches read, 15 steps, 3 reconstructions, 3 files;
    steps of training (device), default: 50"""
    output: str | None = None
    """writes the tables to this JSON file too"""
    height: int = 0
    """sets the height of the images in pixels (not fusion, training); default: 1000, large 4000, folder and files 2000"""
    width: int = 0
    """sets the width of the images in pixels (not fusion, training); default: 1500, large 6000, folder and files 3000"""
    hdr_dir: str = ""
    """names folders of .exr and .hdr files to make scenes from, with commas between; default: sample photographs (records)"""
    scenes: int = 4
    """sets the number of scenes or brackets (records, folder)"""
    patches: int = 100
    """sets how many patches are written as the original program does, 4.1 MB each (records)"""
    num_processes: int = 0
    """sets how many processes write; 0: one per CPU (records)"""
    patch: int = 256
    """sets the side of a patch in pixels (records, training)"""
    batch: int = 4
    """sets the number of patches per step (training)"""
    filters: int = 64
    """sets the width of the network (training), of ESBN's merging network (reconstruction)"""
    align_filters: int = 64
    """sets the width of ESBN's alignment networks (reconstruction)"""
    mixed_precision: bool = False
    """computes in bfloat16 (reconstruction)"""


COLUMNS = {  # of all tables: key in a row, heading and format
    "check": ("check", ""),
    "what": ("of", ""),
    "model": ("model", ""),
    "way": ("way", ""),
    "precision": ("precision", ""),
    "result": ("result", ""),
    "found": ("found", ""),
    "network_ms": ("network ms", ".0f"),
    "fuse_ms": ("fuse ms", ".0f"),
    "mertens_ms": ("Mertens ms", ".0f"),
    "ratio": ("/ Mertens", ".2f"),
    "gflop": ("GFLOP", ".1f"),
    "of_matmul": ("of a matmul's rate", ".0%"),
    "compiled_mb": ("compiled MB", ".0f"),
    "scene_mb": ("MB/scene", ".1f"),
    "scene_s": ("s/scene", ".2f"),
    "patch_s": ("original s/patch", ".4f"),
    "times_smaller": ("smaller", ".0f"),
    "times_faster": ("faster", ".0f"),
    "patches_per_s_2": ("patches/s, 2 threads", ".0f"),
    "patches_per_s": ("patches/s", ".0f"),
    "input_ms": ("input ms", ".1f"),
    "step_ms": ("step ms", ".1f"),
    "both_ms": ("both ms", ".1f"),
    "steps_per_s": ("steps/s", ".2f"),
    "first_s": ("first s", ".1f"),
    "seconds": ("s", ".2f"),
    "flow_s": ("flow s", ".2f"),
    "unaligned_s": ("merge s", ".2f"),
    "of_esbn": ("/ esbn", ".2f"),
    "single_s": ("s/bracket singly", ".2f"),
    "folder_s": ("s/bracket", ".2f"),
    "gain": ("gain", ".2f"),
    "peak_mb": ("peak MB", ".0f"),
}
FUSION, RADIANCE = systems.names("fusion"), systems.names("radiance")
ANY_NUMBER = tuple(name for name in RADIANCE if systems.find(name).exposures != (3, 3))  # of exposures
SELFHDR = tuple(name for name in RADIANCE if name not in (*ANY_NUMBER, "esbn"))


class Table(NamedTuple):
    title: str
    arguments: tuple[str, ...]  # of hdr_tf.benchmarks.measure_<what>, after the model if there are models
    models: tuple[str, ...] = ()  # that can be measured
    default: tuple[str, ...] = ()  # models that are measured if none is named; none: all
    shape: tuple[int, int] = (1000, 1500)  # height and width
    rounds: int = 3


_ENFUSE = ("enfuse",) if shutil.which("enfuse") else ()
_PAIR = "two exposures of {width} x {height}"
_ESBN = "{filters} filters, batches of {batch} patches of {patch}"
_RECONSTRUCTION = ("shape", "align_filters", "filters", "rounds", "mixed_precision")
TABLES = {
    "fusion": Table("two exposures of {size} x {size}", ("size", "rounds"), ("mertens", *FUSION), rounds=15),
    "records": Table(
        "{scenes} scenes of {width} x {height}, patches of {patch}",
        ("hdr_dirs", "shape", "scenes", "patch", "patches", "rounds", "num_processes"),
        rounds=100,
    ),
    "training": Table(_ESBN, ("filters", "batch", "patch", "rounds"), ("esbn_align", "esbn_fusion"), rounds=15),
    "reconstruction": Table("three exposures of {width} x {height}", _RECONSTRUCTION, RADIANCE, ANY_NUMBER + ("esbn",)),
    "large": Table(f"{_PAIR}, 8 bit", ("shape",), FUSION, shape=(4000, 6000)),
    "folder": Table(f"{{scenes}} brackets of {_PAIR}, 8 bit", ("shape", "scenes"), FUSION, FUSION[:1], (2000, 3000)),
    "files": Table(f"{_PAIR}, JPEG to PNG, 8 bit", ("shape", "rounds"), _ENFUSE + FUSION, _ENFUSE + FUSION[:1], (2000, 3000)),
    "device": Table("{rounds} steps of training", ("rounds",), rounds=50),
}
ALL = (
    {"what": "fusion", "rounds": 5},
    {"what": "fusion", "size": 3464, "rounds": 3, "model": "mertens,pyramid,dqn_editor"},
    {"what": "large"},
    {"what": "files"},
    {"what": "folder", "scenes": 8},
    {"what": "records"},
    {"what": "training", "patch": 128, "rounds": 5},
    {"what": "reconstruction", "align_filters": 16},
    {"what": "reconstruction", "model": ",".join(SELFHDR), "height": 256, "width": 256},
    {"what": "reconstruction", "model": "ahdrnet", "height": 1024, "width": 1024},
    {"what": "reconstruction", "model": "ahdrnet", "height": 1024, "width": 1024, "mixed_precision": True},
)


def main(config: Config) -> int:
    configs = [dataclasses.replace(config, **flags) for flags in ALL] if config.all else [config]
    if config.all and dataclasses.replace(config, output=None) != Config(all=True):
        raise ValueError("--all has sizes and models of its own: of the other flags only --output goes with it")
    for each in configs:
        _check(each)
    if config.output:
        pathlib.Path(config.output).parent.mkdir(parents=True, exist_ok=True)  # to fail before the work, not after it
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "opencv-python-headless")]
    machine = ", ".join([f"{os.cpu_count()} cores", platform.machine(), f"Python {platform.python_version()}", *versions])
    print(f"# Benchmarks\n\n`hdr-tf benchmark --all` on {machine}." if config.all else f"{machine}.")
    tables = []
    for each in configs:
        title, rows = _measured(each)
        print(f"\n## {each.what.capitalize()}: {title}\n\n{_markdown(rows)}", flush=True)
        tables.append({"what": each.what, "title": title, "rows": rows})
    if config.output:
        with outputs.atomic(config.output) as temporary:
            temporary.write_text(json.dumps({"machine": machine, "tables": tables}, indent=2) + "\n")
    return int(any(str(row.get("result", "")).startswith("FAIL") for table in tables for row in table["rows"]))


def _measured(config):
    """Returns the title of a table and its rows."""
    # The first imports no TensorFlow where Keras has another backend.
    if config.what == "device":
        from hdr_tf import device_check as benchmarks
    else:
        from hdr_tf import benchmarks

    table, (height, width) = TABLES[config.what], _shape(config)
    settings = dataclasses.asdict(config) | {"hdr_dirs": cli.words(config.hdr_dir), "rounds": config.rounds or table.rounds}
    settings |= {"height": height, "width": width, "shape": (height, width)}
    measure, arguments = getattr(benchmarks, f"measure_{config.what}"), [settings[name] for name in table.arguments]
    names = cli.words(config.model) or table.default or table.models
    measured = [measure(name, *arguments) for name in names] if names else [measure(*arguments)]
    return table.title.format(**settings), [row for rows in measured for row in (rows if isinstance(rows, list) else [rows])]


def _markdown(rows):
    columns = {key: column for key, column in COLUMNS.items() if any(key in row for row in rows)}
    lines = [[heading for heading, _ in columns.values()], ["---:" if form else "---" for _, form in columns.values()]]
    lines += [["" if row.get(key) is None else format(row[key], form) for key, (_, form) in columns.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shape(config):
    height, width = TABLES[config.what].shape
    return config.height or height, config.width or width


def _check(config):
    models = TABLES[config.what].models
    for name in cli.words(config.model):
        if name not in models:
            raise ValueError(f"--model={name}: --what={config.what} measures {', '.join(models) or 'no model'}")
        if name in FUSION:
            systems.find(name).check_exposures(2)
    if min(config.size, *_shape(config)) < 16 or config.rounds < 0:
        found = f"{config.size}, {config.width} x {config.height} and {config.rounds}"
        raise ValueError(f"expected sizes of at least 16 and rounds of 0 or more, found {found}")
    for flag in ("scenes", "patches", "batch", "filters", "align_filters"):
        if getattr(config, flag) < 1:
            raise ValueError(f"--{flag}: expected 1 or more, found {getattr(config, flag)}")
