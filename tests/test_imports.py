"""Imports run one way: who may import whom, checked against every import statement."""

import ast

import pytest

from tests import helpers

# From top to bottom: a room imports itself and the rooms below its line, not its neighbours.
LEVELS = (
    ("tools", "train"),
    ("hdr_tf.commands",),
    ("hdr_tf.page",),
    ("hdr_tf.benchmarks", "hdr_tf.device_check", "hdr_tf.rl"),
    ("hdr_tf.evaluation", "hdr_tf.serving"),
    ("hdr_tf.fusion", "hdr_tf.radiance"),
    ("hdr_tf.systems",),
    ("hdr_tf.editor",),
    ("hdr_tf.training", "tfrecords"),
    ("hdr_tf.batch", "hdr_tf.batch_beam", "hdr_tf.checkpoints", "hdr_tf.synthesis", "hdr_tf.weights"),
    ("hdr_tf.io",),
    ("hdr_tf.image", "hdr_tf.models"),
    ("hdr_tf.losses", "hdr_tf.metrics"),
    ("hdr_tf.cli", "hdr_tf.device", "hdr_tf.parallel"),
    ("hdr_tf.progress", "hdr_tf.quiet"),
    ("hdr_tf",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
KEPT_APART = {  # room: our modules that it may import, where the levels would allow more
    "hdr_tf.models": {"hdr_tf.models"},
    "hdr_tf.losses": set(),
    "hdr_tf.metrics": set(),
}
# Rooms, or modules of them, that may import these libraries; nobody else may.
LIBRARIES = {
    "keras": {
        *(
            "hdr_tf.models",
            "hdr_tf.losses",
            "hdr_tf.weights",
            "hdr_tf.training",
            "hdr_tf.editor",
            "hdr_tf.rl",
            "hdr_tf.serving",
        ),
        *("hdr_tf.benchmarks", "hdr_tf.device_check", "train"),
    },
    "tensorflow": {
        *("hdr_tf.fusion.compiled", "hdr_tf.radiance.esbn", "hdr_tf.radiance.merge", "hdr_tf.radiance.selfhdr"),
        *(
            "hdr_tf.checkpoints",
            "hdr_tf.device",
            "hdr_tf.weights",
            "hdr_tf.training",
            "hdr_tf.rl",
            "hdr_tf.serving",
            "hdr_tf.benchmarks",
            "hdr_tf.device_check",
            "tfrecords",
            "train",
        ),
    },
    "ai_edge_litert": {"hdr_tf.fusion.lite"},
    "matplotlib": {"hdr_tf.evaluation.curves"},
    "tensorboard": set(),
    "tf_keras": set(),
    "tf_agents": {"hdr_tf.rl"},
    "torch": set(),
    "cv2": {
        *("hdr_tf.image", "hdr_tf.io", "hdr_tf.synthesis", "hdr_tf.editor", "hdr_tf.rl", "hdr_tf.serving", "hdr_tf.evaluation"),
        *(
            "hdr_tf.fusion.blend",
            "hdr_tf.fusion.deghost",
            "hdr_tf.parallel",
            "hdr_tf.benchmarks",
            "hdr_tf.radiance.merge",
            "tfrecords",
        ),
    },
    "skimage": {"hdr_tf.metrics", "hdr_tf.synthesis", "hdr_tf.editor", "hdr_tf.rl", "hdr_tf.evaluation"},
    "grpc": {"hdr_tf.serving.client"},
    "tensorflow_serving": {"hdr_tf.serving"},
    "apache_beam": {"hdr_tf.batch_beam"},
    "gradio": {"hdr_tf.page"},
}
INTERFACE = helpers.ROOT / "hdr_tf" / "__init__.py"
SCRIPTS = ("tools", "train", "hdr_tf.commands")  # import what is heavy inside their functions, so that --help is quick


def _modules():
    folders = [helpers.ROOT / name for name in ("hdr_tf", "tfrecords", "train", "tools")]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def _name(path):
    parts = path.relative_to(helpers.ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _within(module, rooms):
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _room(module):
    return max((room for room in LEVEL if _within(module, [room])), key=len)


def _imports(path):
    """Yields (module, line, whether inside a function) of every import; `from a import b` yields a.b. The public interface
    names what it imports on use in a block for type checkers, which never runs."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if path == INTERFACE and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, child.lineno, inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                yield from ((f"{child.module}.{alias.name}", child.lineno, inside) for alias in child.names)
            yield from walk(child, inside or isinstance(child, ast.FunctionDef))

    yield from walk(ast.parse(path.read_text()), False)


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_imports_run_one_way(path):
    name = _name(path)
    room = _room(name)
    for module, line, inside in _imports(path):
        top = module.split(".")[0]
        where = f"{path.relative_to(helpers.ROOT)}:{line}: {name} imports {module}"
        if top in ("hdr_tf", "tfrecords", "train", "tools"):
            other = _room(module)
            assert other == room or LEVEL[other] > LEVEL[room], where
            assert _within(module, KEPT_APART.get(room, [module])), where
            assert (other, room) not in (("tools", "tools"), ("train", "train")), where
        elif top in LIBRARIES:
            assert _within(name, LIBRARIES[top]), where
        assert not inside or room in SCRIPTS, f"{where} inside a function"
        assert inside or room not in ("tools", "train") or top not in ("keras", "tensorflow"), where


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_keras_3_is_import_keras(path):
    """tf.keras exists inside hdr_tf/rl only, where TF-Agents needs Keras 2."""
    attributes = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "tf.keras" not in attributes or _within(_name(path), ["hdr_tf.rl"])


def test_only_the_editors_training_asks_for_keras_2():
    asking = [_name(path) for path in _modules() if 'environ["TF_USE_LEGACY_KERAS"]' in path.read_text()]
    assert asking == ["hdr_tf.rl"]
