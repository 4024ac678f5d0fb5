"""Records of scenes: whole ones (kinds "kalantari" and "selfhdr"), or patches as ESBN's own scripts write and read them.

Kinds "esbn_align" and "esbn_merge" are the original's records patch for patch (tfrecords/patches.py has the arithmetic):
the patches are numbered through all scenes in the order of their names, and `count` of them are drawn. The original writes
them in random order and reads the whole scene again for each. Here chance decides in which shard a patch is, and a shard
holds its patches scene by scene, each shard beginning with another scene, so that a scene is read once per shard.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from hdr_tf.io import image_files
from hdr_tf.io.scenes import HDR_NAME, list_scenes, read_scene
from hdr_tf.parallel import in_processes
from hdr_tf.progress import track
from tfrecords import patches, schema, writer

KINDS = ("kalantari", "selfhdr", "esbn_align", "esbn_merge")


def write_scenes(
    folder: pathlib.Path,
    kind: str,
    scenes: pathlib.Path,
    count: int = 0,
    patch: int = 256,
    seed: int = 0,
    shards: int = 8,
    num_processes: int | None = None,
    resume: bool = True,
    labels: pathlib.Path | None = None,
    structures: pathlib.Path | None = None,
) -> tuple[dict, list[str]]:
    """Writes the scenes of a folder; returns the manifest and a line for each scene that was left out.

    Every scene is read once before anything is written, so that the set is known. Damaged and incomplete scenes and those
    without radiance are left out, and for the ESBN kinds those smaller than a patch. Scenes may differ in size.

    Args:
        folder, num_processes, resume: see `writer.write`.
        kind: one of `KINDS`; the scenes of "esbn_merge" should be aligned.
        scenes: folder of scene folders, see hdr_tf/io/scenes.py.
        count: number of records, drawn by the seed; 0 for all scenes or patches. A patch of the ESBN kinds takes 4.1 MB.
        patch: side of the ESBN kinds' patches in pixels.
        seed: the same seed gives the same records.
        shards: number of files at most.
        labels: for kind "selfhdr" the folder of the aligned scenes, whose radiance is the colour label; a scene without a label
            is left out.
        structures: for kind "selfhdr" the folder of the structure labels, NAME.hdr for each scene, or None for the first stage.
            Labels of other scenes or of another size raise ValueError.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind out of {', '.join(KINDS)}, found {kind!r}")
    if min(seed, count) < 0:
        raise ValueError(f"expected seed and count of 0 or more, found {seed} and {count}")
    whole = kind in ("kalantari", "selfhdr")
    if (kind == "selfhdr") != (labels is not None) or (structures is not None and labels is None):
        flags = f"--kind={kind} --labels={labels or ''} --structures={structures or ''}"
        raise ValueError(f"expected --labels (--structures is optional) with --kind=selfhdr and no other kind, found {flags}")
    paths, left_out = list_scenes(scenes)
    looks = in_processes(_look, [(path, 1 if whole else patch, labels) for path in paths], num_processes)
    looks = dict(track(looks, f"{scenes}: reading", len(paths)))
    sizes = {path: looks[path] for path in paths if not isinstance(looks[path], str)}
    left_out += [looks[path] for path in paths if path not in sizes]
    if not sizes:
        raise ValueError(f"{scenes}: none of {len(left_out)} scenes can be used: {left_out[0]}")
    if structures is not None:
        _check_structures(structures, {path.name: size for path, size in sizes.items()})
    ends = np.cumsum([1 if whole else patches.count_patches(*size, patch) for size in sizes.values()])
    total = int(ends[-1])
    if count > total:
        raise ValueError(f"{scenes}: expected a count of at most {total}, found {count}")
    count = count or total
    shards = min(shards, count)
    order = np.random.default_rng(seed).permutation(total)[:count]
    paths, arguments = tuple(sizes), {"seed": seed}
    if kind == "selfhdr":
        arguments |= {"labels": str(labels), "structures": str(structures or "")}
    if whole:
        paths = tuple(paths[number] for number in np.sort(order))
        maker = SceneMaker(paths, labels, structures)
    else:
        arguments["patch"] = patch
        maker = PatchMaker(kind, paths, tuple(ends.tolist()), _by_scene(order, ends, shards), patch)
    arguments["scenes"] = [{"name": path.name, "height": sizes[path][0], "width": sizes[path][1]} for path in paths]
    return writer.write(folder, kind, maker, count, shards, arguments, num_processes, resume), left_out


@dataclasses.dataclass(frozen=True)
class SceneMaker:
    """Makes record i of kind "kalantari" or, with labels, "selfhdr": scene i of `paths`, whole and without loss."""

    paths: tuple[pathlib.Path, ...]
    labels: pathlib.Path | None = None
    structures: pathlib.Path | None = None

    def __call__(self, index: int) -> dict:
        scene = _read(self.paths[index], self.labels)
        fields = {
            "ldr": scene.ldr.astype(np.uint16),
            "depth": np.int32(8 * scene.ldr.itemsize),
            "stops": scene.stops,
            "hdr": scene.hdr,
            "name": scene.name,
        }
        if self.structures is not None:
            fields["structure"] = image_files.read_radiance(self.structures / f"{scene.name}.hdr")
        elif self.labels is not None:
            fields["structure"] = np.empty([0, 0, 3], np.float32)
        return fields


@dataclasses.dataclass(frozen=True)
class PatchMaker:
    """Makes record i of the ESBN kinds: patch `order[i]`, counted through all scenes. Scene s of `paths` ends before patch
    `ends[s]`; `patch` is the side in pixels."""

    kind: str
    paths: tuple[pathlib.Path, ...]
    ends: tuple[int, ...]
    order: np.ndarray
    patch: int

    def __call__(self, index: int) -> dict:
        number = self.order[index]
        scene = int(np.searchsorted(self.ends, number, "right"))
        first = self.ends[scene - 1] if scene else 0
        names = schema.esbn_names(self.kind)
        arrays = _patches(self.paths[scene], tuple(names), self.patch).cut(number - first)
        return {names[ours]: array for ours, array in arrays.items()}


@functools.lru_cache(maxsize=1)
def _patches(path, features, patch):
    scene = read_scene(path)
    return patches.Patches(scene.ldr, scene.exposures, scene.hdr, features, patch)


def _by_scene(order, ends, shards):
    """The order with the patches of each shard sorted by scene, each shard beginning with another scene."""
    order = order.copy()
    for shard in range(shards):
        part = order[shard::shards]
        scene = np.searchsorted(ends, part, "right")
        order[shard::shards] = part[np.argsort((scene - shard * len(ends) // shards) % len(ends), kind="stable")]
    return order


def _read(path, labels):
    """The scene, with the colour label as its radiance if there is a folder of labels."""
    scene = read_scene(path)
    if labels is None:
        return scene
    label = read_scene(labels / path.name).hdr
    if label is None or label.shape != scene.ldr.shape[1:]:
        found = "none" if label is None else f"{label.shape[1]} x {label.shape[0]}"
        expected = f"a colour label ({HDR_NAME}) of {scene.ldr.shape[2]} x {scene.ldr.shape[1]} pixels"
        raise ValueError(f"{labels / path.name}: expected {expected}, found {found}")
    return dataclasses.replace(scene, hdr=label)


def _check_structures(folder, sizes):
    labels = {path.stem for path in folder.glob("*.hdr")}
    different = {"missing": sorted(sizes.keys() - labels), "of no scene": sorted(labels - sizes.keys())}
    listed = ", ".join(f"{len(names)} {what} ({names[0]})" for what, names in different.items() if names)
    if listed:
        raise ValueError(f"{folder}: expected a structure label for each of {len(sizes)} scenes, found {listed}")
    for name, (height, width) in sizes.items():
        shape = image_files.read_radiance(folder / f"{name}.hdr").shape
        if shape[:2] != (height, width):
            raise ValueError(f"{folder / name}.hdr: expected {width} x {height} pixels, found {shape[1]} x {shape[0]}")


def _look(path, smallest, labels):
    """The path of the scene, and its height and width or a line that says why it cannot be used."""
    try:
        scene = _read(path, labels)
    except (ValueError, OSError) as error:
        return path, str(error)
    height, width = scene.ldr.shape[1:3]
    if scene.hdr is None:
        return path, f"{path}: has no true radiance (HDRImg.hdr)"
    if min(height, width) < smallest:
        return path, f"{path}: expected at least {smallest} x {smallest} pixels, found {width} x {height}"
    return path, (height, width)
