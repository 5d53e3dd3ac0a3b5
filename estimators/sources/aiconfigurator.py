"""Kernel times measured by NVIDIA's aiconfigurator project (package ``aiconfigurator-core``, Apache-2.0).

Only parquet tables inside the installed package are read (``aiconfigurator_tree.py``). Several kernels may have been
timed at one point, and which ones differs from point to point: rows are merged into the median of each kernel, then the
fastest kernel.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError
from estimators.profiles import COLUMNS, ELEMENTWISE, Profiles, check_operator, count_outliers, merge_points
from estimators.sources.aiconfigurator_tables import KINDS, Kind, counted_rows, nccl_kind
from estimators.sources.aiconfigurator_tree import Table, choose_version, find_package, systems, table_versions
from estimators.sources.rows import read_table

if TYPE_CHECKING:
    import polars

LICENCE = "Apache-2.0, tables of ai-dynamo/aiconfigurator, (c) NVIDIA CORPORATION & AFFILIATES"
BACKENDS = ("vllm", "sglang", "trtllm")
#: Tables that are not to be learnt from, by system, operator, backend, version and dtype.
_BAD = {
    ("rtx_pro_6000_server", "gemm", "vllm", "0.19.0", "bf16"): (
        "has steps and spikes: it says 151 us for m=256, n=6144, k=4096, where the same product took 56 us inside vLLM"
    ),
    **{
        (system, "moe", "vllm", "0.24.0", "fp8"): (
            "takes 4 times as long as vLLM 0.19, and as the CUTLASS kernels in TensorRT-LLM's table, as if its own, of"
            " the same origin, had not been tuned"
        )
        for system in ("h100_sxm", "h200_sxm")
    },
}
#: Products that were timed without a CUDA graph hold the time in which the host launches them, which an engine does not
#: pay. The fastest of those tables takes 55 us, of others 1.5 to 12.4 us (docs/profiles.md).
_LAUNCH_S = 30e-6
_SMALL = 1e8  # operations of a product whose time is that of a launch, on any GPU
#: Whose tables serve where those of a backend are bad, the most alike first (docs/profiles.md).
_STAND_INS = {("gemm", "vllm", "fp8_block"): ("trtllm", "sglang"), ("moe", "vllm", "fp8"): ("trtllm",)}


def read_profiles(
    system: str,
    operator: str,
    dtype: str = "bf16",
    backend: str = "vllm",
    version: str | None = None,
    package: str | None = None,
) -> Profiles:
    """Read the measured times of an operator.

    Args:
        system: a system of the package, such as ``"h100_sxm"``.
        operator: a key of ``estimators.profiles.COLUMNS``; of those none is in the package that moves bytes only.
        dtype: one of ``DTYPES[operator]``: of a product's and the experts' weights, of the KV cache, or of what is
            sent. Products of fp8 weights take bf16 activations and quantise them, with one scale per tensor;
            ``"fp8_block"`` has one per block. Over an fp8 cache SGLang computes prefill in fp8, others in bf16.
        backend: ``"vllm"``, ``"sglang"`` or ``"trtllm"``; an all-reduce also of ``"nccl"``. All-gathers and the like
            are NCCL's under any engine. Where an engine's kernels of MLA were not measured alone, or its table is known
            to be bad, another's serve; ``Profiles.engine`` says whose they are.
        version: of the backend, such as ``"0.24.0"``; the newest that was measured in this dtype if None. Tables of
            others than the backend are their newest.
            A row of vLLM's attention of 0.24 holds writing the new keys and values to the cache, too.
        package: ``"aiconfigurator_core"`` or ``"aisimulate_core"``; the first that is installed if None.

    Raises:
        EstimatorError: when the package is missing, or has no such system, operator, dtype, backend, version or rows of
            that dtype; for a table known to be bad that is asked for by its version or has no stand-in; and for a row
            that is wrong, naming file, row and column.
    """
    check_operator(operator, dtype)
    known = (*BACKENDS, "nccl") if operator == "all_reduce" else BACKENDS
    if backend not in known:
        raise EstimatorError("backend", backend, f"has no {operator}", f"choose one of {', '.join(known)}")
    if operator in ELEMENTWISE:
        wrong, mend = "was measured by no engine there", "choose another operator or source"
        raise EstimatorError("operator", operator, wrong, mend)
    source, data = find_package(package)
    if system not in systems(data):
        raise EstimatorError(
            "system", system, f"has no profiles in {source}", f"choose one of {', '.join(systems(data))}"
        )
    kind = nccl_kind("all_reduce") if backend == "nccl" else KINDS[operator]
    wrong, mend = f"has no measured {operator} of {backend}", "choose another system or backend"
    missing = EstimatorError("system", system, wrong, mend)
    for library in _libraries(kind, operator, dtype, backend):
        tables = table_versions(data / system / kind.family / library, kind.file)
        if tables and library == backend:
            missing = EstimatorError("dtype", dtype, f"{wrong} on {system}", "choose another dtype")
        named = version if library == backend else None
        for table in choose_version(tables, named, f"{operator} of {library} on {system}"):
            profiles = _read_table(system, operator, dtype, kind, table, source, declared=named is not None)
            if profiles is None:
                continue
            bad = _why_bad(profiles, table)
            if bad is None:
                return profiles
            name = f"{operator} of {table.backend} {table.version} on {system}"
            missing = EstimatorError(name, dtype, bad, "choose another version, backend or source")
            break
        if named and tables:
            break
    raise missing


def _libraries(kind: Kind, operator: str, dtype: str, backend: str) -> Iterable[str]:
    """The folders that may hold a backend's rows, best first."""
    if kind.file == "nccl_perf.parquet":
        return ("nccl",)
    return dict.fromkeys((backend, *kind.borrowed, *_STAND_INS.get((operator, backend, dtype), ())))


def _why_bad(profiles: Profiles, table: Table) -> str | None:
    """What is wrong with a table that is not to be learnt from."""
    if profiles.operator == "gemm":
        frame = profiles.frame
        small = frame.filter(2.0 * frame["m"] * frame["n"] * frame["k"] < _SMALL)["seconds"].to_numpy()
        if small.size and small.min() > _LAUNCH_S:
            least = f"{small.min() * 1e6:.0f} us"
            return f"holds the time in which the host launches: no product takes less than {least}"
    return _BAD.get((profiles.system, profiles.operator, table.backend, table.version, profiles.dtype))


def _read_table(
    system: str, operator: str, dtype: str, kind: Kind, table: Table, source: str, declared: bool
) -> Profiles | None:
    """A version's rows of a dtype and of what it declares to re-use; None where there are none.

    Unless ``declared``, none of its own are none.
    """
    import polars as pl

    points = list(COLUMNS[operator])
    frames: list[polars.DataFrame] = []
    versions: list[str] = []
    kernels: set[str] = set()
    read = kept = 0
    for version, file in table.files:
        place = f"{system}/{kind.family}/{table.backend}/{version}/{file.name}"
        raw, _ = read_table(file.read_bytes(), place)
        rows = counted_rows(place, raw, operator, dtype, kind, table.backend)
        merged = merge_points(operator, rows)
        for own in frames:  # what a version re-uses is what its own rows lack
            merged = merged.join(own, on=points, how="anti")
        if merged.height:
            frames.append(merged)
            versions.append(version)
            kernels.update(rows["kernel"].unique())
        read, kept = read + raw.height, kept + rows.height
    if not frames or not (declared or table.version in versions):
        return None
    frame = pl.concat(frames).sort(points)
    return Profiles(
        system=system,
        operator=operator,
        dtype=dtype,
        frame=frame,
        source=source,
        engine=table.engine(versions),
        licence=LICENCE,
        kernels=tuple(sorted(kernels)),
        rows_read=read,
        rows_dropped=read - kept,
        rows_duplicate=kept - frame.height,
        outliers=count_outliers(operator, frame),
    )
