"""Records of scenes: whole ones (kinds "kalantari" and "selfhdr"), or patches as ESBN's own scripts write and read them.

Kind "selfhdr" has what SelfHDR trains on: the pictures as they were taken, the colour label in the place of the radiance, from
the aligned scene of the same name, and, for the second stage, the structure label.

Kinds "esbn_align" and "esbn_merge" are the original's records patch for patch (hdr_tf/image/patches.py has the arithmetic):
patch n of a set counts through all scenes in the order of their names, and `count` of them are drawn. The original writes
them in random order and reads the whole scene anew for each; here chance decides which shard a patch comes to, and a shard
holds its patches scene by scene, beginning with another scene in each, so that a scene is read once a shard.
"""

import dataclasses
import functools
import pathlib

import numpy as np

from hdr_tf.image import files, patches
from hdr_tf.image.processes import in_processes, track
from hdr_tf.image.scenes import HDR_NAME, list_scenes, read_scene
from tfrecords import schema, writer

KINDS = ("kalantari", "selfhdr", "esbn_align", "esbn_merge")


def write_scenes(
    folder: pathlib.Path,
    kind: str,
    scenes: pathlib.Path,
    count: int = 0,
    patch: int = 256,
    seed: int = 0,
    shards: int = 8,
    workers: int | None = None,
    resume: bool = True,
    labels: pathlib.Path | None = None,
    structures: pathlib.Path | None = None,
) -> tuple[dict, list[str]]:
    """Writes the scenes of a folder, and returns the manifest and a line for each scene that had to be left out.

    Every scene is read once before anything is written, so that the set is known: damaged and incomplete scenes and those
    without radiance are left out, for the ESBN kinds also those smaller than a patch. Sizes may differ from scene to scene.

    Args:
        folder: see `writer.write`, as are workers and resume.
        kind: one of `KINDS`; of "esbn_merge" the low and high pictures of the scenes should be aligned ones.
        scenes: folder of scene folders, see hdr_tf/image/scenes.py.
        count: how many records, drawn by the seed; 0 for all scenes or patches. The ESBN kinds take 4.1 MB a patch.
        patch: side of the ESBN kinds' patches in pixels.
        seed: the same seed gives the same records.
        shards: number of files at most.
        labels: of kind "selfhdr" the folder of the aligned scenes, whose radiance is the colour label; a scene without one is
            left out.
        structures: of kind "selfhdr" the folder of the structure labels, NAME.hdr for each scene, or None for the first stage.

    Raises:
        ValueError: no usable scene, numbers out of range, labels that do not belong to the kind, structure labels of other
            scenes or another size than these, or see `writer.write`.
        OSError: see `writer.write`.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind out of {', '.join(KINDS)}, found {kind!r}")
    if min(seed, count) < 0:
        raise ValueError(f"expected seed and count of 0 or more, found {seed} and {count}")
    whole = kind in ("kalantari", "selfhdr")
    if (kind == "selfhdr") != (labels is not None) or (structures is not None and labels is None):
        found = f"--kind={kind}, --labels={labels or ''} --structures={structures or ''}"
        raise ValueError(f"expected --labels with --kind=selfhdr, --structures perhaps, both with no other kind, found {found}")
    paths, left_out = list_scenes(scenes)
    looks = in_processes(_look, [(path, 1 if whole else patch, labels) for path in paths], workers)
    looks = dict(track(looks, f"{scenes}: reading", len(paths)))
    sizes = {path: looks[path] for path in paths if not isinstance(looks[path], str)}
    left_out += [looks[path] for path in paths if path not in sizes]
    if not sizes:
        raise ValueError(f"{scenes}: none of {len(left_out)} scenes can be used: {left_out[0]}")
    if structures is not None:
        _check_structures(structures, {path.name: size for path, size in sizes.items()})
    if whole:
        ends = np.arange(1, len(sizes) + 1)
    else:
        ends = np.cumsum([patches.count_patches(*size, patch) for size in sizes.values()])
    total = int(ends[-1])
    if count > total:
        raise ValueError(f"{scenes}: expected a count of at most {total}, found {count}")
    shards = min(shards, count or total)
    arguments = {"seed": seed}
    if kind == "selfhdr":
        arguments |= {"labels": str(labels), "structures": str(structures or "")}
    if whole:
        chosen = np.sort(np.random.default_rng(seed).permutation(total)[: count or total])
        paths = tuple(list(sizes)[number] for number in chosen)
        maker = SceneMaker(paths, labels, structures)
    else:
        paths = tuple(sizes)
        arguments["patch"] = patch
        order = np.random.default_rng(seed).permutation(total)[: count or total]
        maker = PatchMaker(kind, paths, tuple(ends.tolist()), _by_scene(order, ends, shards), patch)
    arguments["scenes"] = [{"name": path.name, "height": sizes[path][0], "width": sizes[path][1]} for path in paths]
    return writer.write(folder, kind, maker, count or total, shards, arguments, workers, resume), left_out


@dataclasses.dataclass(frozen=True)
class SceneMaker:
    """Makes record i of kind "kalantari", with labels of kind "selfhdr": scene i, whole and without loss.

    Attributes:
        paths: scene folders.
        labels, structures: see `write_scenes`.
    """

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
        if self.labels is None:
            return fields
        if self.structures is None:
            return fields | {"structure": np.empty([0, 0, 3], np.float32)}
        return fields | {"structure": files.read_radiance(self.structures / f"{scene.name}.hdr")}


@dataclasses.dataclass(frozen=True)
class PatchMaker:
    """Makes record i of the ESBN kinds: patch `order[i]` of all scenes one after the other.

    Attributes:
        kind: "esbn_align" or "esbn_merge".
        paths: scene folders.
        ends: numbers of patches of the scenes, summed up.
        order: int64, the patches in the order of the records.
        patch: side in pixels.
    """

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
    """The order with what comes to each shard sorted by scene, in each shard beginning with another one."""
    order = order.copy()
    for shard in range(shards):
        part = order[shard::shards]
        scene = np.searchsorted(ends, part, "right")
        order[shard::shards] = part[np.argsort((scene - shard * len(ends) // shards) % len(ends), kind="stable")]
    return order


def _read(path, labels):
    """The scene, with the colour label for its radiance if there is a folder of labels."""
    scene = read_scene(path)
    if labels is None:
        return scene
    label = read_scene(labels / path.name)
    if label.hdr is None or label.hdr.shape != scene.ldr.shape[1:]:
        found = "none" if label.hdr is None else f"{label.hdr.shape[1]} x {label.hdr.shape[0]}"
        expected = f"a colour label ({HDR_NAME}) of {scene.ldr.shape[2]} x {scene.ldr.shape[1]} pixels"
        raise ValueError(f"{labels / path.name}: expected {expected}, found {found}")
    return dataclasses.replace(scene, hdr=label.hdr)


def _check_structures(folder, sizes):
    found = {path.stem for path in folder.glob("*.hdr")}
    missing, strange = sorted(set(sizes) - found), sorted(found - set(sizes))
    if missing or strange:
        both = ("missing", missing), ("of no scene", strange)
        told = [f"{len(names)} {what} ({names[0]})" for what, names in both if names]
        raise ValueError(f"{folder}: expected a structure label for each of {len(sizes)} scenes, found {', '.join(told)}")
    for name, (height, width) in sizes.items():
        shape = files.read_radiance(folder / f"{name}.hdr").shape
        if shape[:2] != (height, width):
            raise ValueError(f"{folder / name}.hdr: expected {width} x {height} pixels, found {shape[1]} x {shape[0]}")


def _look(path, smallest, labels):
    """The scene's path, and its height and width or a line that tells why it cannot be used."""
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
