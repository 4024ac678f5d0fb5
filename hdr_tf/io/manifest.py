"""Resume manifests: JSON files that say what a folder holds, so that interrupted work continues where it stopped."""

import json
import pathlib
from collections.abc import Callable, Collection
from typing import Any

from hdr_tf.io import outputs


class Manifest:
    """A plan and the entries of it that are finished, in a file that is written anew after each entry.

    Attributes:
        content: what the file holds, in JSON's types: the plan, and the finished entries under a key of their own.
        entries: {name: facts} of what is finished, by name.
    """

    def __init__(
        self,
        path: pathlib.Path,
        key: str,
        plan: dict,
        is_finished: Callable[[str, Any], bool],
        ignored: Collection[str] = (),
        indent: int = 1,
    ):
        """Begins or continues a manifest, and writes it. Raises ValueError if the file holds something else or another plan.

        Args:
            path: of the file, whose folder is created.
            key: the key of the entries.
            plan: everything else that the file holds.
            is_finished: returns whether an entry, given its name and its facts, still is as it was when it was finished.
            ignored: keys of the plan that may differ from the file's.
            indent: of the file's lines.
        """
        self._path, self._key, self._indent = path, key, indent
        self.content = json.loads(json.dumps(plan)) | {key: {}}
        stored = read(path)
        if stored is not None:
            check_plan(path, stored, self.content, {key, *ignored})
            try:
                self.entries.update({name: facts for name, facts in stored[key].items() if is_finished(name, facts)})
            except (KeyError, TypeError, AttributeError) as error:
                raise _not_a_manifest(path) from error
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, self.content, indent)

    @property
    def entries(self) -> dict[str, Any]:
        return self.content[self._key]

    def add(self, name: str, facts: Any) -> None:
        """Adds a finished entry and writes the file."""
        self.content[self._key] = dict(sorted({**self.entries, name: facts}.items()))
        save(self._path, self.content, self._indent)


def read(path: pathlib.Path) -> dict | None:
    """Returns the JSON object in a file, or None if there is no file. Raises ValueError if the file holds something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise _not_a_manifest(path) from error
    if not isinstance(content, dict):
        raise _not_a_manifest(path)
    return content


def save(path: pathlib.Path, content: dict, indent: int = 1) -> None:
    """Writes a JSON object, as a whole or not at all."""
    with outputs.atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n")


def check_plan(
    path: pathlib.Path, stored: dict, planned: dict, ignored: Collection[str] = (), remedy: str = "choose another folder"
) -> None:
    """Raises ValueError if two plans differ in keys that are not `ignored`. It names them, of inner objects their keys."""
    if different := _differences(stored, planned, ignored):
        raise ValueError(f"{path}: was begun with other values of {', '.join(sorted(different))}; {remedy}")


def _differences(stored, planned, ignored=()):
    names = []
    for key in (stored.keys() | planned.keys()) - set(ignored):
        before, now = stored.get(key), planned.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            names += _differences(before, now)
        elif before != now:
            names.append(key)
    return names


def _not_a_manifest(path):
    return ValueError(f"{path}: expected a manifest that this software wrote, found something else; choose another folder")
