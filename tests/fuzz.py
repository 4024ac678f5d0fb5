"""Attacks every reader with mutated files: seeded, so that a run can be repeated, and in a process that may die.

    python tests/fuzz.py                                      a minute, as in .ci/run
    python tests/fuzz.py --seconds=3600 --seed=7              an hour of other inputs
    python tests/fuzz.py --targets=weights,checkpoint         of two readers
    python tests/fuzz.py --guided --targets=codecs            of one reader, chosen by atheris (pip install atheris)
    python tests/fuzz.py --replay=tests/fuzz_corpus           the inputs that were findings once

The makers of the tests write a corpus of small intact files. Each input is one of them, changed in up to eight places: bits,
bytes, lengths and sizes, pieces cut, doubled or taken from another file. A reader may return or raise ValueError or OSError, as
one line that names the file; a served signature may refuse its input. Anything else is a finding: another exception, a message
that names no file or is long, a crash, more than `MAX_SECONDS` or `MAX_MEMORY` for one input. Its file is written to
tests/fuzz_corpus/TARGET, where tests/test_fuzz.py reads it from then on, and the exit code is 1.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CORPUS = ROOT / "tests" / "fuzz_corpus"
MAX_SECONDS = 20  # of processor time, for one input
MAX_MEMORY = 2**20  # kilobytes that one input may add to the largest memory of the process
MAX_MESSAGE = 3000  # characters
MAX_PIXELS = 2**20  # of an image, so that a large one that is valid takes no time
START = 600  # seconds in which a worker has to make its corpus
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


class Target(NamedTuple):
    """A reader and intact files for it."""

    seeds: dict[str, bytes]
    """{name: contents}; the reader gets the name's suffix"""
    read: Callable[[pathlib.Path], object]
    refusals: tuple[type[Exception], ...] = (ValueError, OSError)
    repair: Callable[[bytes], bytes] = bytes
    """makes checksums right that would keep the reader from what was changed"""


# === Changes ===


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Returns a copy that is changed in one to eight places."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8))):
        size = len(result)
        at, length = rng.randrange(size + 1), rng.choice((1, 2, 4, 16, 64, 256, size // 4))
        kind = rng.randrange(9)
        if kind == 0 and size:
            result[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at : at + 1] = bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))])
        elif kind in (2, 3):
            width, order = rng.choice((2, 4, 8)), rng.choice(("big", "little"))
            result[at : at + width] = (rng.choice(NUMBERS) % 256**width).to_bytes(width, order)
        elif kind == 4:
            del result[at : at + length]
        elif kind == 5:
            result[at:at] = result[at : at + length] * rng.choice((1, 1, 2, 10))
        elif kind == 6:
            other, start = rng.choice(others), rng.randrange(len(data) + 1)
            result[at : at + length] = other[start : start + length]
        elif kind == 7:
            digits = [place for place, byte in enumerate(result[:4096]) if 48 <= byte <= 57]
            if digits:
                result[rng.choice(digits)] = rng.randrange(48, 58)
        elif rng.random() < 0.3:
            del result[at:]
    return bytes(result)


def _png_checksums(data):
    """Gives the chunks of a PNG the checksums that their contents have."""
    result, at = bytearray(data), 8
    while at + 12 <= len(result):
        end = at + 8 + int.from_bytes(result[at : at + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(bytes(result[at + 4 : end])).to_bytes(4, "big")
        at = end + 4
    return bytes(result)


def _zip_checksums(data):
    """Gives the first member of an archive, if it is stored as it is, the checksum that its contents have."""
    result = bytearray(data)
    start, size = 30 + int.from_bytes(data[26:28], "little"), int.from_bytes(data[22:26], "little")
    old, new = bytes(result[14:18]), zlib.crc32(data[start : start + size]).to_bytes(4, "little")
    return bytes(result.replace(old, new)) if data[:4] == b"PK\3\4" and old.strip(b"\0") else data


# === Readers ===


def _images(folder):
    import cv2
    import numpy as np
    import tifffile
    from PIL import Image

    from hdr_tf.io import exif, image_files
    from tests import helpers

    smooth = np.uint8(255 * helpers.smooth_scene(24, 32).clip(0, 1))
    deep, light = smooth.astype(np.uint16) * 257, smooth.astype(np.float32) / 255
    for name, pixels in (("a.png", smooth), ("b.png", deep), ("c.jpg", smooth), ("d.tif", smooth), ("e.tif", deep)):
        image_files.write_image(folder / name, pixels)
    helpers.write_photograph(folder / "f.jpg", smooth, 0.01, 6)
    for name in ("g.exr", "h.hdr"):
        image_files.write_radiance(folder / name, light)
    Image.fromarray(smooth).save(folder / "j.jpg", progressive=True)
    Image.fromarray(smooth).convert("P").save(folder / "k.png")
    Image.fromarray(np.dstack([smooth, smooth[..., :1]])).save(folder / "l.png")
    for number, compression in enumerate(("tiff_lzw", "tiff_deflate", "packbits")):
        Image.fromarray(smooth).save(folder / f"m{number}.tif", compression=compression)
    helpers.write_dng(folder / "o.dng", cv2.resize(light, (48, 32)))
    tifffile.imwrite(folder / "p.tif", deep[..., :2], photometric="minisblack", extrasamples=["unassalpha"], tile=(16, 16))
    helpers.write_packed_tiff(folder / "q.tif", deep >> 4, 12, photometric="rgb")

    def read(path):
        if path.suffix in (".exr", ".hdr"):
            image_files.read_radiance(path, MAX_PIXELS)
            image_files.read_radiance_header(path)
        elif path.suffix == ".dng":
            from hdr_tf.io import raw

            raw.read_sensor(path, MAX_PIXELS)
            exif.read_raw(path)
        else:
            image_files.read_image(path, MAX_PIXELS)

    def repair(data):
        return _png_checksums(data) if data[:4] == b"\x89PNG" else data

    return Target(_contents(folder), read, repair=repair)


def _codecs(folder):
    """The formats of phones and of the web."""
    import imagecodecs
    import numpy as np
    import pillow_heif
    from PIL import Image

    from hdr_tf.io import image_files
    from tests import helpers

    smooth = np.uint8(255 * helpers.smooth_scene(24, 32).clip(0, 1))
    deep, clear = smooth.astype(np.uint16) * 4, np.dstack([smooth, smooth[..., :1]])
    tags = Image.Exif()
    tags[0x0112] = 6
    for name, pixels, options in (
        ("a.webp", smooth, {"exif": tags}),
        ("b.webp", clear, {"lossless": True}),
        ("c.avif", smooth, {"exif": tags}),
        ("d.avif", clear, {}),
        ("e.avif", smooth, {"save_all": True, "append_images": [Image.fromarray(smooth[::-1])]}),
        ("f.mpo", smooth, {"save_all": True, "append_images": [Image.fromarray(smooth[::-1])]}),
    ):
        Image.fromarray(pixels).save(folder / name, **options)
    (folder / "g.avif").write_bytes(imagecodecs.avif_encode(deep, bitspersample=10))
    (folder / "h.jxl").write_bytes(imagecodecs.jpegxl_encode(smooth, lossless=True, usecontainer=True))
    (folder / "i.jxl").write_bytes(imagecodecs.jpegxl_encode(deep, level=90))
    for name, mode, pixels in (("j.heic", "RGB", smooth), ("k.heic", "RGB;16", deep << 6)):
        pillow_heif.from_bytes(mode, (32, 24), pixels.tobytes()).save(folder / name, exif=tags.tobytes())

    def read(path):
        image_files.read_image(path, MAX_PIXELS)
        image_files.read_metadata(path)
        image_files.read_capture(path)

    return Target(_contents(folder), read)


def _checkpoint(folder):
    import numpy as np

    from hdr_tf import checkpoints

    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI6\ntQ"
    tensor += b"I0\n(I2\nI3\nt(I3\nI1\ntI00\nNtR"
    for name, text in (("a.pth", b"(dS'w'\n%ss."), ("b.pth", b"(dS'model'\n(dS'w'\n%sssS'epoch'\nI3\ns.")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("a/data.pkl", text % tensor)
            archive.writestr("a/data/0", np.arange(6, dtype="<f4").tobytes())
    np.savez(folder / "c.npz", a=np.arange(6.0), b=np.ones((2, 3), np.float32))
    np.savez_compressed(folder / "d.npz", a=np.arange(60.0))
    for path in (ROOT / "tests/golden/torch_files").glob("[!r]*.pth"):  # those that begin with refuse_me are refused
        shutil.copy(path, folder)
    return Target(_contents(folder), checkpoints.read_checkpoint, repair=_zip_checksums)


def _tensorflow(folder):
    import tensorflow as tf

    from hdr_tf import checkpoints

    names = [f"conv{number}/w" for number in range(4)]
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names, shape_and_slices=[""] * 4, tensors=[tf.range(40.0)] * 4)
    data, shard = _contents(folder), "m.data-00000-of-00001"

    def read(path):
        path.with_name(shard.replace("m", path.stem, 1)).write_bytes(data[shard])
        return checkpoints.read_checkpoint(path)

    return Target({"m.index": data["m.index"]}, read)


def _weights(folder):
    import h5py
    import keras

    from hdr_tf import weights

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(2, name="b")], name="net")
    weights.save_weights(model, folder / "a.weights.h5")
    shutil.copy(folder / "a.weights.h5", folder / "b.weights.h5")
    with h5py.File(folder / "b.weights.h5", "a") as file:
        del file.attrs[weights.CHECKSUM]
    shutil.copy(folder / "b.weights.h5", folder / "c.weights.h5")
    with h5py.File(folder / "c.weights.h5", "a") as file:
        file.attrs["model"] = "net"  # of variable length, as earlier versions wrote it
    before = [array.copy() for array in model.get_weights()]

    def read(path):
        try:
            weights.load_weights(model, path)
        except ValueError:
            if any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True)):
                raise RuntimeError("a file that was refused has changed weights") from None
            raise
        model.set_weights(before)

    return Target(_contents(folder), read)


def _manifest(folder):
    from hdr_tf.io import manifest
    from hdr_tf.training import run_folder
    from hdr_tf.training.config import TrainingConfig
    from tests import helpers
    from tfrecords import dataset, writer

    shards = folder / "set"
    writer.write(shards, "bracket", helpers.bracket_record, 6, shards=2, arguments={"exposures": [3, 3]}, num_processes=1)
    run_folder.write_config(folder, TrainingConfig())
    (shards / "manifest.json").rename(folder / "a.manifest")
    (folder / "config.json").rename(folder / "b.config")
    begun = manifest.Manifest(folder / "c.scenes", "scenes", {"note": "x", "arguments": {"a": [1, 2]}}, lambda *_: True)
    begun.add("001", {"size": 1})
    seeds = {path.name: path.read_bytes() for path in folder.glob("?.*")}

    def read(path):
        if path.suffix == ".manifest":
            shutil.copy(path, shards / "manifest.json")
            try:
                sum(1 for _ in dataset.load(shards))
                dataset.example_dataset(shards, lambda pixels, rng: {"x": pixels[:1]}, 1, 2)
            except ValueError as error:  # which names the manifest or a shard
                raise ValueError(str(error).replace(str(shards), str(path))) from error
        elif path.suffix == ".config":
            shutil.copy(path, path.parent / "config.json")
            try:
                run_folder.write_config(path.parent, TrainingConfig())
            except ValueError as error:
                raise ValueError(str(error).replace("config.json", path.name)) from error
        else:
            manifest.Manifest(path, "scenes", {"note": "x", "arguments": {"a": [1, 2]}}, lambda name, facts: facts["size"] > 0)

    return Target(seeds, read)


def _served(folder):
    import cv2
    import numpy as np
    import tensorflow as tf

    from hdr_tf import systems
    from hdr_tf.serving import endpoints
    from tests import helpers

    system = systems.find("densefuse_gray")
    _, served = endpoints.fusion(system, system.weights_path(None), None, 10_000)
    signature = [{spec.name: spec for spec in served["encoded"].inputs}]
    run = tf.function(served["encoded"].function, signature, autograph=False)
    smooth = np.uint8(255 * helpers.smooth_scene(16, 24).clip(0, 1))
    good = tf.constant([cv2.imencode(".png", smooth)[1].tobytes()])
    seeds = {f"a{name}": cv2.imencode(name, smooth)[1].tobytes() for name in (".png", ".jpg")}
    seeds["b.png"] = cv2.imencode(".png", smooth.astype(np.uint16) * 257)[1].tobytes()
    seeds["c.jpg"] = cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()

    def read(path):
        run({"exposure_1": good, "exposure_2": tf.constant([path.read_bytes()])})

    def repair(data):
        return _png_checksums(data) if data[:4] == b"\x89PNG" else data

    return Target(seeds, read, (tf.errors.InvalidArgumentError,), repair)


def _tensors(folder):
    """The signatures of tensors: numbers, and shapes that do not go together."""
    import numpy as np
    import tensorflow as tf

    from hdr_tf import systems
    from hdr_tf.serving import endpoints

    system = systems.find("densefuse_gray")
    _, served = endpoints.fusion(system, system.weights_path(None), None, 10_000)
    signature = [{spec.name: spec for spec in served["serving_default"].inputs}]
    run = tf.function(served["serving_default"].function, signature, autograph=False)
    good = np.full((1, 16, 24, 1), 0.5, np.float32)
    head = np.int32(good.shape).tobytes()

    def read(path):
        data = path.read_bytes().ljust(16, b"\0")
        shape = (*np.frombuffer(data[:12], "<i4") % 64, 1)
        values = np.resize(np.frombuffer(data[16 : len(data) // 4 * 4], "<f4"), shape) if len(data) >= 20 else np.zeros(shape)
        run({"exposure_1": tf.constant(good), "exposure_2": tf.constant(values.astype(np.float32))})

    return Target({"a.bin": head + good.tobytes()}, read, (tf.errors.InvalidArgumentError,))


TARGETS = {
    "images": _images,
    "codecs": _codecs,
    "checkpoint": _checkpoint,
    "tensorflow": _tensorflow,
    "weights": _weights,
    "manifest": _manifest,
    "served": _served,
    "tensors": _tensors,
}


def _contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# === One input, and many ===


def problem(target: Target, path: pathlib.Path) -> str | None:
    """Reads a file; returns what is wrong with how that ended, or None."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        target.read(path)
    except target.refusals as error:
        from hdr_tf import cli

        message = getattr(error, "message", None) or cli.one_line(error)
        if path.stem not in message and ValueError in target.refusals:
            return f"names no file: {message[:MAX_MESSAGE]}"
        if len(message) > MAX_MESSAGE:
            return f"a message of {len(message)} characters: {message[:200]}"
    except MemoryError:
        return "MemoryError"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:MAX_MESSAGE]}"
    if (seconds := time.process_time() - start) > MAX_SECONDS:
        return f"{seconds:.1f} s"
    if (more := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) > MAX_MEMORY:
        return f"{more} kB of memory"
    return None


def attack(name: str, seed: int, first: int, seconds: float, scratch: pathlib.Path) -> None:
    """Reads mutated files from number `first` on, and prints a line of JSON after each finding and at the end. The file that is
    being read lies in `scratch`, for whoever finds this process dead."""
    (folder := scratch / "seeds").mkdir()
    target = TARGETS[name](folder)
    seeds = list(target.seeds.items())
    for seed_name, contents in seeds:
        (scratch / f"intact_{seed_name}").write_bytes(contents)
        found = None
        try:
            target.read(scratch / f"intact_{seed_name}")
        except target.refusals as error:
            found = error
        if found:
            raise SystemExit(f"{name}: the intact {seed_name} is refused: {found}")
    number, start = first, time.monotonic()
    print(json.dumps({"ready": True}), flush=True)
    while time.monotonic() - start < seconds:
        rng = random.Random(f"{name} {seed} {number}")
        seed_name, contents = rng.choice(seeds)
        contents = mutated(contents, [other for _, other in seeds], rng)
        contents = target.repair(contents) if rng.random() < 0.7 else contents
        suffixes = seed_name[seed_name.index(".") :]
        path = scratch / f"input_{number}{suffixes}"
        path.write_bytes(contents)
        if found := problem(target, path):
            print(json.dumps({"number": number, "found": found, "path": str(path)}), flush=True)
        else:
            path.unlink(missing_ok=True)
        number += 1
    print(json.dumps({"done": number - first}), flush=True)


def run(names: list[str], seconds: float, seed: int) -> int:
    """Attacks the targets one after the other, each in a process of its own, and returns the number of findings."""
    findings, share = 0, seconds / len(names)
    for name in names:
        done, first, left = 0, 0, share
        while left > 0:
            with tempfile.TemporaryDirectory() as scratch:
                count, spent, found = _work(name, seed, first, left, pathlib.Path(scratch))
            findings, done, first, left = findings + found, done + count, first + count + 1, left - spent
        print(f"{name}: {done} inputs in {share - left:.0f} s", flush=True)
    print(f"{findings} findings")
    return findings


def _work(name, seed, first, seconds, scratch):
    """Runs `attack` in a process; returns the number of inputs, the seconds that they took, and the number of findings."""
    command = [sys.executable, __file__, f"--inside={name}", f"--seed={seed}", f"--first={first}", f"--seconds={seconds}"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (scratch / "errors").open("wb") as errors:
        worker = subprocess.Popen([*command, f"--scratch={scratch}"], stdout=subprocess.PIPE, stderr=errors, env=environment)
    signal.signal(signal.SIGALRM, lambda *_: worker.kill())
    signal.alarm(START)
    started, found, count = None, 0, None
    for line in worker.stdout:
        if not line.startswith(b"{"):
            continue
        message = json.loads(line)
        if "ready" in message:
            started = time.monotonic()
            signal.alarm(int(seconds) + 10 * MAX_SECONDS)
        elif "done" in message:
            count = message["done"]
        else:
            found += _keep(name, pathlib.Path(message["path"]), message["found"])
    code = worker.wait()
    signal.alarm(0)
    if started is None:
        raise SystemExit(f"{name}: the corpus cannot be made: {(scratch / 'errors').read_text(errors='replace')[-2000:]}")
    spent = time.monotonic() - started
    if count is None:  # it died, of what it was reading
        last = max(scratch.glob("input_*"), key=lambda path: path.stat().st_mtime_ns, default=None)
        if last is None:
            raise SystemExit(f"{name}: ended with code {code} before the first input")
        found += _keep(name, last, f"the process ended with code {code}")
        count = int(last.name.split("_")[1].split(".")[0]) - first
    return count, spent, found


def _keep(name, path, found):
    """Copies the file of a finding to the corpus and prints what it is; returns 1."""
    contents = path.read_bytes() if path.exists() else b""
    kept = CORPUS / name / f"{zlib.crc32(contents):08x}{path.name[path.name.index('.') :]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(contents)
    print(f"FINDING {name} {kept.relative_to(ROOT)}: {found}", flush=True)
    return 1


def replay(folder: pathlib.Path) -> int:
    """Reads the files of former findings, {folder}/TARGET/*; returns the number of those that still are one."""
    findings = 0
    for target_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        with tempfile.TemporaryDirectory() as scratch:
            (seeds := pathlib.Path(scratch) / "seeds").mkdir()
            target = TARGETS[target_folder.name](seeds)
            for path in sorted(target_folder.iterdir()):
                if found := problem(target, pathlib.Path(shutil.copy(path, scratch))):
                    print(f"FINDING {path}: {found}")
                    findings += 1
    return findings


def guided(name: str, seconds: float, seed: int) -> None:
    """Attacks one reader in this process with inputs by which atheris follows branches of our code. Ends at the first finding,
    with its file in the corpus and another exit code than 0."""
    import atheris

    with tempfile.TemporaryDirectory() as scratch:
        for part in ("seeds", "inputs"):
            (pathlib.Path(scratch) / part).mkdir()
        with atheris.instrument_imports(include=["hdr_tf", "tfrecords"]):
            target = TARGETS[name](pathlib.Path(scratch) / "seeds")
        suffixes = [seed_name[seed_name.index(".") :] for seed_name in target.seeds]
        for number, contents in enumerate(target.seeds.values()):  # the first byte says which name an input gets
            (pathlib.Path(scratch) / "inputs" / str(number)).write_bytes(bytes([number]) + contents)

        def read(data):
            path = pathlib.Path(scratch) / f"input{suffixes[data[0] % len(suffixes)] if data else suffixes[0]}"
            path.write_bytes(target.repair(data[1:]))
            if found := problem(target, path):
                _keep(name, path, found)
                raise RuntimeError(found)

        options = [f"-max_total_time={seconds:.0f}", f"-seed={seed}", "-max_len=20000", f"-artifact_prefix={scratch}/"]
        atheris.Setup([sys.argv[0], *options, str(pathlib.Path(scratch) / "inputs")], read)
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="time of all targets together, without making their corpora")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", default=",".join(TARGETS), help="names with commas between them")
    parser.add_argument("--replay", type=pathlib.Path, help="a folder of former findings")
    parser.add_argument("--guided", action="store_true", help="one target, by atheris")
    for name in ("--inside", "--first", "--scratch"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.inside:
        attack(flags.inside, flags.seed, int(flags.first), flags.seconds, pathlib.Path(flags.scratch))
        return 0
    if flags.replay:
        return 1 if replay(flags.replay) else 0
    if flags.guided:
        guided(flags.targets, flags.seconds, flags.seed)
        return 0
    return 1 if run(flags.targets.split(","), flags.seconds, flags.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
