import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from aiconfigurator_files import Row, Write


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """Keep the user's cache out of the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Write]:
    """Makes packages with one system; running any of their code fails the test. No other package is there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.12.0")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: real(name, package) if (tmp_path / name).exists() else None,
    )

    def make(module: str) -> Write:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("raise AssertionError('the package was run')")
        importlib.invalidate_caches()
        system = tmp_path / module / "systems" / "data" / "toy_sxm"

        def write(rows: list[Row], version: str = "0.9.0", place: str = "gemm/vllm", file: str = "gemm_perf") -> Path:
            (system / "gemm").mkdir(parents=True, exist_ok=True)
            folder = system / place / version
            folder.mkdir(parents=True, exist_ok=True)
            if rows:
                pl.DataFrame(rows).write_parquet(folder / f"{file}.parquet")
            return folder

        return write

    return make


@pytest.fixture
def write(tree: Callable[[str], Write]) -> Write:
    return tree("aiconfigurator_core")
