"""Kernel times measured by NVIDIA's aiconfigurator project (package ``aiconfigurator-core``, Apache-2.0).

Only the parquet tables inside the installed package are read. The package itself is never imported: importing it would
load its compiled engine, so its place is looked up without running it.

What the tables hold, as far as it matters here: ``latency`` is in milliseconds per call; ``message_size`` counts
elements, not bytes; a decode row's context is ``isl + step``; several ``kernel_source`` rows may share one point.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    import polars

PACKAGE = "aiconfigurator-core"
INSTALL = "pip install 'fastsim-llm[profiles]'"
_MODULE = "aiconfigurator_core"
_DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}


@dataclass(frozen=True)
class _Table:
    """Where an operator's rows are, which of them count, and what their columns are called here."""

    folder: str
    file: str
    columns: dict[str, str]
    keep: dict[str, object]
    dtype_column: str


_ATTENTION = {"q_heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
_TABLES = {
    "gemm": _Table(
        folder="gemm",
        file="gemm_perf.parquet",
        columns={"m": "m", "n": "n", "k": "k"},
        keep={},
        dtype_column="gemm_dtype",
    ),
    "prefill_attention": _Table(
        folder="attention",
        file="context_attention_perf.parquet",
        columns={"batch": "batch_size", "chunk": "isl", "history": "step", **_ATTENTION},
        keep={"beam_width": 1, "window_size": 0, "attn_dtype": "bfloat16"},
        dtype_column="kv_cache_dtype",
    ),
    "decode_attention": _Table(
        folder="attention",
        file="generation_attention_perf.parquet",
        columns={"batch": "batch_size", "kv": "isl + step", **_ATTENTION},
        keep={"beam_width": 1, "window_size": 0, "attn_dtype": "bfloat16"},
        dtype_column="kv_cache_dtype",
    ),
    # vLLM replays decode batches from CUDA graphs, so the graph rows are what a serving engine pays; the eager rows add
    # about 15 microseconds of launch to every call.
    "all_reduce": _Table(
        folder="comm",
        file="custom_allreduce_perf.parquet",
        columns={"gpus": "num_gpus", "elements": "message_size"},
        keep={"backend": "vllm_graph", "op_name": "all_reduce"},
        dtype_column="allreduce_dtype",
    ),
}


@dataclass(frozen=True)
class Profiles:
    """Measured times of one operator on one system.

    Attributes:
        system: the system's name, which is the device's name here.
        operator: ``"gemm"``, ``"prefill_attention"``, ``"decode_attention"`` or ``"all_reduce"``.
        frame: one row per measured point, sorted: the operator's columns (int64) and ``seconds`` (float64).
        source: package and version the rows come from.
        engine: serving engine and version whose kernels were timed.
        kernels: names of the kernels behind the rows, sorted.
        rows_read: rows in the file.
        rows_dropped: rows of another dtype, window, beam width or backend, or without a positive time.
        rows_duplicate: rows merged into another of the same point (median per kernel, then the fastest kernel).
    """

    system: str
    operator: str
    frame: polars.DataFrame
    source: str
    engine: str
    kernels: tuple[str, ...]
    rows_read: int
    rows_dropped: int
    rows_duplicate: int


def read_profiles(system: str, operator: str, dtype: str = "bf16") -> Profiles:
    """Read the newest measured vLLM table of an operator.

    Args:
        system: a system of the package, such as ``"h100_sxm"``.
        operator: one of the operators in ``Profiles.operator``.
        dtype: ``"bf16"`` or ``"fp8"``: of a product's weights, of the KV cache, or of what is reduced. Products of fp8
            weights take bf16 activations and quantise them, with one scale per tensor (not per block).

    Returns:
        The points, with counts of what was read, dropped and merged.

    Raises:
        EstimatorError: when the package is missing, or has no such system, operator or dtype, or no rows of that dtype.
    """
    import polars as pl

    if operator not in _TABLES:
        raise EstimatorError("operator", operator, "is not profiled", f"choose one of {', '.join(sorted(_TABLES))}")
    if dtype not in _DTYPES:
        raise EstimatorError("dtype", dtype, "is not read", f"choose one of {', '.join(sorted(_DTYPES))}")
    table = _TABLES[operator]
    version, file = _newest(_system_root(system) / table.folder / "vllm", table.file, system, operator)
    raw = pl.read_parquet(file.read_bytes())

    keep = table.keep | {table.dtype_column: _DTYPES[dtype]}
    conditions = [pl.col(column) == value for column, value in keep.items() if column in raw.columns]
    kept = raw.filter(*conditions, pl.col("latency").is_finite(), pl.col("latency") > 0)
    if not kept.height:
        raise EstimatorError("dtype", dtype, f"has no measured {operator} on {system}", "choose another dtype")
    points = list(table.columns)
    frame = (
        kept.select(
            *(pl.sql_expr(expression).cast(pl.Int64).alias(name) for name, expression in table.columns.items()),
            "kernel_source",
            seconds=pl.col("latency") / 1e3,
        )
        .group_by(*points, "kernel_source")
        .agg(pl.col("seconds").median())
        .group_by(points)
        .agg(pl.col("seconds").min())
        .sort(points)
    )
    return Profiles(
        system=system,
        operator=operator,
        frame=frame,
        source=f"{PACKAGE} {importlib.metadata.version(PACKAGE)}",
        engine=f"vllm {version}",
        kernels=tuple(sorted(kept["kernel_source"].unique())),
        rows_read=raw.height,
        rows_dropped=raw.height - kept.height,
        rows_duplicate=kept.height - frame.height,
    )


def _system_root(system: str) -> Traversable:
    spec = importlib.util.find_spec(_MODULE)
    if spec is None:
        raise EstimatorError("package", PACKAGE, "is not installed, and it holds the profiles", f"run {INSTALL}")
    # A module made from its spec but never executed: enough to find its files.
    data = importlib.resources.files(importlib.util.module_from_spec(spec)) / "systems" / "data"
    known = sorted(entry.name for entry in data.iterdir() if (entry / "gemm" / "vllm").is_dir())
    if system not in known:
        raise EstimatorError(
            "system", system, f"has no vLLM profiles in {PACKAGE}", f"choose one of {', '.join(known)}"
        )
    return data / system


def _newest(folder: Traversable, name: str, system: str, operator: str) -> tuple[str, Traversable]:
    """The newest version that was measured; later ones that only declare its re-use carry no such file."""
    measured = [entry for entry in folder.iterdir() if (entry / name).is_file()] if folder.is_dir() else []
    if not measured:
        raise EstimatorError("system", system, f"has no measured {operator} of vLLM", "choose another system")
    newest = max(measured, key=lambda entry: tuple(int(part) for part in entry.name.split(".")))
    return newest.name, newest / name
