"""The examples in the documentation do what they say."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

from fastsim.cli import main
from fastsim.commands.summary import BARS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
#: What a page's examples import beside fastsim's own dependencies: of the extra ``test``.
NEEDS = {"docs/embedding.md": "optuna"}


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page(page: str):
    if page in NEEDS:
        pytest.importorskip(NEEDS[page], reason="the extra test is not installed")
    assert doctest.testfile(str(ROOT / page), module_relative=False).failed == 0


def test_the_readme_has_examples():
    assert doctest.DocTestParser().get_examples((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_example_of_the_package():
    result = doctest.testmod(importlib.import_module("fastsim"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_sample_output_of_the_readme_is_what_a_bare_run_prints(capsys: pytest.CaptureFixture):
    assert main(["run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = readme.index(printed[0])
    for shown, line in zip(readme[start:], printed[:-1], strict=False):  # the last line is about this machine
        # A bar too may be one step higher or lower.
        assert re.sub(rf"[\d.,]+|[{BARS}]", "#", shown) == re.sub(rf"[\d.,]+|[{BARS}]", "#", line)
        # Rounding in the forests may differ between processors, in digits that hardly show.
        numbers = [[float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\.?\d*", text)] for text in (shown, line)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.11)
