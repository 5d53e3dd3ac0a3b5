"""The examples in the documentation do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page(page: str):
    assert doctest.testfile(str(ROOT / page), module_relative=False).failed == 0


def test_the_readme_has_examples():
    assert doctest.DocTestParser().get_examples((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_example_of_the_package():
    result = doctest.testmod(importlib.import_module("fastsim"))
    assert result.attempted > 0
    assert result.failed == 0
