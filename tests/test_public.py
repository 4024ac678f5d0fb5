"""The public interface: every name is there, documented, and on the page that the documentation shows it on."""

import inspect
import re

import pytest

import hdr_tf
from tests import helpers


@pytest.mark.parametrize("name", hdr_tf.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(hdr_tf, name))


def test_the_page_of_the_interface_has_every_public_name():
    page = (helpers.ROOT / "docs" / "api.md").read_text()
    assert sorted(re.findall(r"^::: hdr_tf\.(\w+)$", page, flags=re.MULTILINE)) == sorted(hdr_tf.__all__)
    assert sorted(re.findall(r"^\| `hdr_tf\.(\w+)` \|", page, flags=re.MULTILINE)) == sorted(hdr_tf.__all__)


def test_type_checkers_see_the_public_names():
    text = (helpers.ROOT / "hdr_tf" / "__init__.py").read_text()
    imports = re.findall(r"^    from (\S+) import (.+)$", text, flags=re.MULTILINE)
    places = {name: module for module, names in imports for name in names.split(", ")}
    assert places == hdr_tf._MODULES and set(places) == set(hdr_tf.__all__)
    assert (helpers.ROOT / "hdr_tf" / "py.typed").exists()


def test_the_site_has_every_page():
    pages = re.findall(r": (\S+\.md)$", (helpers.ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    files = [helpers.ROOT / page for page in pages]
    files = [path.with_suffix(".py") if path.parent.name == "tutorials" else path for path in files]  # `.ci/docs` converts them
    assert all(path.is_file() for path in files) and len(files) == len(set(files))
    assert {*(helpers.ROOT / "docs").glob("*.md"), *(helpers.ROOT / "docs" / "tutorials").glob("*.py")} <= set(files)
