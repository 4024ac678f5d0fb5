"""Imports run one way: the table of who may import whom, checked against every import statement."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DIRECTED = {  # libraries that only some rooms may import; what is not named here anybody may
    "keras",
    "tensorflow",
    "tf_keras",
    "tf_agents",
    "cv2",
    "skimage",
    "torch",
    "grpc",
    "tensorflow_serving",
}

# room -> (our modules that it may import, directed libraries that it may import, the same inside functions only)
IMAGING = {"cv2", "skimage"}
TABLE = {
    "hdr_tf.models": ({"hdr_tf.models"}, {"keras"}, set()),
    "hdr_tf.losses": (set(), {"keras"}, set()),
    "hdr_tf.metrics": (set(), {"skimage"}, set()),
    "hdr_tf.image": ({"hdr_tf.image", "hdr_tf.quiet"}, IMAGING, set()),
    "hdr_tf.quiet": (set(), set(), set()),
    "hdr_tf.cli": ({"hdr_tf.quiet"}, set(), set()),
    "hdr_tf.weights": ({"hdr_tf.image.files"}, {"keras"}, {"tensorflow"}),
    "hdr_tf.training": (
        {"hdr_tf.image.files", "hdr_tf.kfac", "hdr_tf.weights", "hdr_tf.workers"},
        {"keras"},
        {"tensorflow"},
    ),
    "hdr_tf.workers": (set(), {"keras"}, {"tensorflow"}),
    "hdr_tf.pixels": ({"hdr_tf.image.scenes"}, set(), {"keras", "tensorflow"}),
    "hdr_tf.kfac": (set(), {"keras", "tensorflow"}, set()),
    "hdr_tf.features": ({"hdr_tf.image", "hdr_tf.models"}, set(), set()),
    "hdr_tf.editor": ({"hdr_tf.features", "hdr_tf.image", "hdr_tf.models", "hdr_tf.weights"}, {"keras", "cv2"}, set()),
    "hdr_tf.rl": (
        {
            *("hdr_tf.rl", "hdr_tf.features", "hdr_tf.image", "hdr_tf.losses", "hdr_tf.models"),
            *("hdr_tf.report", "hdr_tf.training"),  # its table of text; the flags of the agent
        },
        {"keras", "tensorflow", "tf_agents"} | IMAGING,
        set(),
    ),
    "hdr_tf.folders": ({"hdr_tf.cli", "hdr_tf.image.files"}, set(), set()),
    "hdr_tf.fusing": (
        {"hdr_tf.editor", "hdr_tf.folders", "hdr_tf.image", "hdr_tf.models", "hdr_tf.weights"},
        {"keras", "tensorflow", "cv2"},
        set(),
    ),
    "hdr_tf.beam": ({"hdr_tf.fusing", "hdr_tf.image"}, set(), set()),
    "hdr_tf.benchmarking": (
        {
            *("hdr_tf.fusing", "hdr_tf.image", "hdr_tf.losses", "hdr_tf.models", "hdr_tf.reconstruction", "hdr_tf.selfhdr"),
            *("hdr_tf.serving", "hdr_tf.training", "hdr_tf.weights", "tfrecords"),  # it measures all of them
        },
        {"keras", "tensorflow", "cv2"},
        set(),
    ),
    "hdr_tf.reconstruction": (
        {"hdr_tf.folders", "hdr_tf.fusing", "hdr_tf.image", "hdr_tf.models", "hdr_tf.selfhdr", "hdr_tf.weights"},
        {"keras", "tensorflow"},
        set(),
    ),
    "hdr_tf.selfhdr": ({"hdr_tf.image", "hdr_tf.models", "hdr_tf.weights"}, set(), {"tensorflow"}),
    "hdr_tf.evaluation": (
        {"hdr_tf.image", "hdr_tf.metrics", "hdr_tf.reconstruction", "hdr_tf.report", "hdr_tf.selfhdr"},
        {"cv2"},
        set(),
    ),
    "hdr_tf.report": ({"hdr_tf.image.files"}, {"cv2"}, set()),
    "hdr_tf.fusion_evaluation": (
        {"hdr_tf.fusing", "hdr_tf.image", "hdr_tf.losses", "hdr_tf.metrics", "hdr_tf.report", "hdr_tf.weights"},
        {"skimage"},
        set(),
    ),
    "hdr_tf.serving": (
        {"hdr_tf.editor", "hdr_tf.encoded", "hdr_tf.fusing", "hdr_tf.reconstruction", "hdr_tf.image"},
        {"keras", "tensorflow", "cv2"},
        {"tensorflow_serving"},
    ),
    "hdr_tf.encoded": (
        {"hdr_tf.color_ops", "hdr_tf.fusing", "hdr_tf.image.depth", "hdr_tf.losses"},
        {"keras", "tensorflow"},
        set(),
    ),
    "hdr_tf.color_ops": ({"hdr_tf.image.color"}, {"tensorflow"}, set()),
    "hdr_tf.client": ({"hdr_tf.image"}, {"cv2"}, {"tensorflow", "tensorflow_serving", "grpc"}),
    "hdr_tf": ({"hdr_tf.fusing"}, set(), set()),
    "tfrecords": ({"tfrecords", "hdr_tf.image"}, {"tensorflow"}, set()),
    "train": ({"hdr_tf", "tfrecords"}, {"keras", "tensorflow"}, set()),
    "tools": ({"hdr_tf", "tfrecords"}, {"keras", "tensorflow"} | IMAGING, set()),
}


def _modules():
    return [path for folder in ("hdr_tf", "tfrecords", "train", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]


def _name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _within(module, rooms):
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


def _imports(path):
    """Yields (module, line, whether inside a function) of every import; `from a import b` yields a.b."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
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
    room = max((room for room in TABLE if _within(name, [room])), key=len)
    ours, libraries, late = TABLE[room]
    for module, line, inside in _imports(path):
        top = module.split(".")[0]
        where = f"{path.relative_to(ROOT)}:{line}: {room} imports {module}"
        if top in ("hdr_tf", "tfrecords", "train", "tools"):
            allowed = _within(module, ours) or (room in ("train", "tools") and top in ours)
            assert allowed and top not in ("train", "tools"), where
        elif top in DIRECTED:
            assert top in libraries or (inside and top in late), where


@pytest.mark.parametrize("path", _modules(), ids=_name)
def test_keras_3_is_import_keras(path):
    """tf.keras exists inside hdr_tf/rl only, where TF-Agents needs Keras 2."""
    attributes = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert "tf.keras" not in attributes or _within(_name(path), ["hdr_tf.rl"])


def test_only_the_editors_training_asks_for_keras_2():
    asking = [_name(path) for path in _modules() if 'environ["TF_USE_LEGACY_KERAS"]' in path.read_text()]
    assert asking == ["hdr_tf.rl"]
