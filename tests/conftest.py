"""Where the stored outputs of the original programs and the authors' pictures lie.

`HDR_TF_GOLDEN` names the folder of golden cases (default: tests/golden, a copy without photographs), `HDR_TF_REFERENCE` the
folder with the authors' weights and pictures, which are not ours to copy: tests that need it skip where it is absent.
"""

import importlib.util
import os
import pathlib

import pytest

TESTS = pathlib.Path(__file__).parent
GOLDEN = pathlib.Path(os.environ.get("HDR_TF_GOLDEN", TESTS / "golden"))


def _golden():
    spec = importlib.util.spec_from_file_location("golden", GOLDEN / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden():
    """The module golden.py of the golden folder: manifest(), parameters(), inputs(), outputs() of a case, and FOLDER."""
    return _golden()


@pytest.fixture
def golden_case(request, golden):
    """The name of the case that the test asks for by indirect parametrisation; skips where the folder lacks it."""
    if not (golden.FOLDER / f"{request.param}.json").exists():
        pytest.skip(f"{golden.FOLDER} holds no case {request.param!r}")
    return request.param


@pytest.fixture(scope="session")
def reference():
    """The folder of the authors' weights and pictures."""
    folder = os.environ.get("HDR_TF_REFERENCE")
    if not folder:
        pytest.skip("HDR_TF_REFERENCE is not set: the authors' weights and pictures are not part of this repository")
    return pathlib.Path(folder)
