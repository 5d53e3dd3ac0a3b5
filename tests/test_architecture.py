"""The arrows of import run only downward: fastsim -> estimators, fastsim -> traces."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {"traces": {"estimators", "fastsim"}, "estimators": {"traces", "fastsim"}}
#: Modules that a bare `fastsim --help` imports: they load nothing heavy.
LIGHT = ["fastsim/__init__.py", "fastsim/cli.py", "fastsim/config.py", "fastsim/errors.py", "fastsim/options.py"]
LIGHT += ["fastsim/config_checks.py", "fastsim/vidur/options.py"]
LIGHT += ["estimators/__init__.py", "estimators/dtypes.py", "estimators/errors.py", "estimators/expert_traffic.py"]
HEAVY = {"numba", "numpy", "polars", "sklearn", "skl2onnx", "onnx", "onnxruntime"}


def imported(tree: ast.AST, top_level_only: bool = False) -> set[str]:
    """First names of the modules that a file imports."""
    nodes = tree.body if top_level_only else ast.walk(tree)  # type: ignore[attr-defined]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_knows_only_what_is_below_it(package: str):
    sources = list((ROOT / package).rglob("*.py"))
    assert sources
    for source in sources:
        assert not imported(ast.parse(source.read_text())) & FORBIDDEN[package], source


@pytest.mark.parametrize("path", LIGHT)
def test_light_modules_import_nothing_heavy(path: str):
    assert not imported(ast.parse((ROOT / path).read_text()), top_level_only=True) & HEAVY


@pytest.mark.parametrize("package", ["fastsim", "estimators", "traces"])
def test_training_libraries_are_imported_inside_functions_only(package: str):
    for source in (ROOT / package).rglob("*.py"):
        heavy = imported(ast.parse(source.read_text()), top_level_only=True) & {"sklearn", "skl2onnx", "onnxruntime"}
        assert not heavy, source
