"""Packages laid out as aiconfigurator's, with tables of a few rows."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

Row = dict[str, object]
#: Writes rows as a table: of a file, family, backend and version.
Write = Callable[..., Path]

installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed"
)


def gemm_row(m: int, latency: float, kernel: str = "linear", dtype: str = "bfloat16") -> Row:
    return {"kernel_source": kernel, "gemm_dtype": dtype, "m": m, "n": 8192, "k": 8192, "latency": latency}


def reuse(folder: Path, from_version: str) -> None:
    declared = {"schema_version": 1, "reuse": [{"table": "gemm_perf", "from_version": from_version, "reason": "alike"}]}
    (folder / "reuse.yaml").write_text(yaml.safe_dump(declared))
