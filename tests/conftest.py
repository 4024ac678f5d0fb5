"""Where the stored outputs of the original programs and the authors' images lie.

`HDR_TF_GOLDEN` names the folder of golden cases (default: tests/golden, a copy without photographs), `HDR_TF_REFERENCE` the
folder with the authors' weights and images, which are not ours to copy: tests that need it skip where it is absent.
"""

import functools
import gc
import importlib.util
import os
import pathlib

import hypothesis
import pytest
from absl import logging

TESTS = pathlib.Path(__file__).parent
GOLDEN = pathlib.Path(os.environ.get("HDR_TF_GOLDEN", TESTS / "golden"))

# The same few examples in each run, however slow the machine.
hypothesis.settings.register_profile(
    "tests", max_examples=20, deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


def pytest_collection_finish():
    """Tracing makes so many objects that looking for garbage takes a sixth of the time: looks for it less often, and not among
    what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000)


def _golden():
    spec = importlib.util.spec_from_file_location("golden", GOLDEN / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
    """Keeps more compiled networks than a program does: tests take turns with more of them, and compiling takes seconds."""
    from hdr_tf.fusion import compiled
    from hdr_tf.radiance import esbn, merge, selfhdr

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_load", functools.lru_cache(maxsize=48)(compiled._load.__wrapped__))
        for module in (esbn, merge, selfhdr):
            patch.setattr(module, "load", _once(module.load))
        yield


def _once(load):
    """Returns the function that loads a runner so that it returns the same one again as long as no weights file changes."""

    @functools.lru_cache(maxsize=12)
    def cached(system, path, changed, options):
        return load(system, path, **dict(options))

    def loaded(system, path, **options):
        files = [path] if path.is_file() else [path / f"{name}.weights.h5" for name in system.weight_files]
        changed = tuple(file.stat().st_mtime_ns for file in files)
        return cached(system, path.resolve(), changed, tuple(sorted(options.items())))

    return loaded


@pytest.fixture(scope="session")
def golden():
    """The module golden.py of the golden folder: manifest(), parameters(), inputs(), outputs() of a case, and FOLDER."""
    return _golden()


@pytest.fixture
def warnings(monkeypatch):
    """The list of what is logged as a warning."""
    messages = []
    monkeypatch.setattr(logging, "warning", lambda message, *values: messages.append(message % values if values else message))
    return messages


@pytest.fixture
def golden_case(request, golden):
    """The name of the case that the test asks for by indirect parametrisation; skips where the folder lacks it."""
    if not (golden.FOLDER / f"{request.param}.json").exists():
        pytest.skip(f"{golden.FOLDER} holds no case {request.param!r}")
    return request.param


@pytest.fixture(scope="session")
def reference():
    """The folder of the authors' weights and images."""
    folder = os.environ.get("HDR_TF_REFERENCE")
    if not folder:
        pytest.skip("HDR_TF_REFERENCE is not set: the authors' weights and images are not part of this repository")
    return pathlib.Path(folder)


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Random weights of every network, {name: file}; in the published ones every kernel averages, so that images come out."""
    import keras

    from hdr_tf import systems
    from hdr_tf.weights import save_weights

    folder = tmp_path_factory.mktemp("weights")
    paths = {name: folder / f"{name}.weights.h5" for name in systems.names("fusion") if name != "dqn_editor"}
    for name, path in paths.items():
        keras.utils.set_random_seed(1)
        network = systems.build(name)
        for kernel in network.weights if name != "pyramid" else ():
            if len(kernel.shape) == 4:
                kernel.assign(abs(kernel.numpy()) / abs(kernel.numpy()).sum(axis=(0, 1, 2)))
        save_weights(network, path)
    return paths
