"""Operator times in the CSV files of the simulator Vidur's profilers, in a directory laid out like its own.

``compute/GPU/ORG/MODEL/mlp.csv`` and ``attention.csv``, ``network/NODE/all_reduce.csv`` and ``send_recv.csv``,
``cpu_overhead/NODE/ORG/MODEL/cpu_overheads.csv``, gzipped or not; in the older layout all files of a GPU are in
``GPU/``. Times are milliseconds (the medians are read), the ``size`` of a message is bytes of 16-bit numbers. Shapes
are those of a whole layer, and the rows say how many GPUs shared it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError
from estimators.host_times import HOST_COLUMNS
from estimators.profiles import VIDUR_ELEMENTWISE, Profiles, check_operator, count_outliers, merge_points
from estimators.sources.rows import ROW, find_csv, numbers, read_text, require_columns
from estimators.sources.vidur_rows import read_attention, read_elementwise, read_messages, read_products

if TYPE_CHECKING:
    import polars

LICENCE = "that of the files given; Vidur's own are MIT, (c) Microsoft Corporation"
_MESSAGES = ("all_reduce", "send_recv")
_ATTENTION = ("prefill_attention", "decode_attention", "attn_kv_cache_save")
#: What the host does in an iteration, and which statistic Vidur takes of it (an older file has medians alone). Vidur
#: measures no launch: its Ray workers get each batch by a message, which stands in its place.
_CPU = {
    "schedule": ("schedule_median",),
    "prepare_inputs": ("prepare_inputs_e2e_median",),
    "launch": ("ray_comm_time_mean", "ray_comm_time_median"),
    "sampling": ("sampler_e2e_median",),
    "process_outputs": ("process_model_outputs_median",),
}
_Reader = Callable[[str, Path, bool], "tuple[polars.DataFrame, int]"]


def read_vidur(
    directory: str | os.PathLike[str],
    operator: str,
    device: str,
    *,
    model: str | None = None,
    skip_bad: bool = False,
) -> Profiles:
    """Read the measured times of an operator.

    Args:
        directory: as Vidur's ``data/profiling``.
        operator: ``"gemm"`` (all four products of all models), ``"prefill_attention"``, ``"decode_attention"``,
            ``"all_reduce"``, ``"send_recv"``, ``"add"``, or one of ``estimators.profiles.VIDUR_ELEMENTWISE``.
        device: the GPU's folder, such as ``"a100"``; of messages the node's, such as ``"a100_dgx"``.
        model: ``"ORG/MODEL"``, of several only this one.
        skip_bad: drop rows without a time, and products timed as ten times faster than most, and count them; by default
            one is refused.

    Returns:
        The points: bf16 stands for any 16-bit type (Vidur measures fp16). A message's sender and receivers are in one
        node, except as ``devices_per_node`` of ``"send_recv"`` says; rows of an all-reduce between nodes are dropped.

    Raises:
        EstimatorError: when there is no such file, or one lacks a column or has a cell that is wrong, naming file, row
            and column; and for a table known to be a copy of another.
    """
    import polars as pl

    check_operator(operator, "bf16")
    read, name = _reader(operator)
    root = Path(directory)
    tables = [read(operator, path, skip_bad) for path in _find(root, name, device, model)]
    rows = pl.concat([table for table, _ in tables])
    if not rows.height:
        where = "within one node " if operator == "all_reduce" else ""
        raise EstimatorError("device", device, f"has no {operator} {where}in its {name}.csv", "give another directory")
    backends = rows["backend"].drop_nulls().unique().sort().to_list() if "backend" in rows.columns else []
    frame = merge_points(operator, rows)
    total = sum(count for _, count in tables)
    return Profiles(
        system=device,
        operator=operator,
        dtype="bf16",
        frame=frame,
        source=f"Vidur's profiles in {root.resolve().name}" + (f", {model}" if model else ""),
        engine="Vidur's profilers",
        licence=LICENCE,
        kernels=tuple(backends),
        rows_read=total,
        rows_dropped=total - rows.height,
        rows_duplicate=rows.height - frame.height,
        outliers=count_outliers(operator, frame),
    )


def read_cpu_overheads(directory: str | os.PathLike[str], node: str) -> polars.DataFrame:
    """Read what the host did in an iteration.

    Args:
        directory: as Vidur's ``data/profiling``.
        node: the folder's name, such as ``"a100_pairwise_nvlink"``.

    Returns:
        One row per model, tensor parallelism and batch size, sorted: ``model``, ``tp``, and the columns of
        ``estimators.host_times``; the median of rows that repeat the others. ``launch`` is Vidur's ``ray_comm_time``,
        ``sampling`` its ``sampler_e2e``, which waits for the GPU's sampling, too; ``detokenize`` is null, part of
        ``process_outputs`` there.

    Raises:
        EstimatorError: when there is no such file, or one lacks a column or has a cell that is wrong.
    """
    import polars as pl

    frames = []
    for path in _find(Path(directory), "cpu_overheads", node, None):
        place = str(path)
        text = read_text(path)
        names = [name.lower() for name in text.columns]
        if len({ROW, *names}) <= len(names):
            raise EstimatorError(place, None, "has two columns of one name", "rename one of them")
        text = text.rename(dict(zip(text.columns, names, strict=True))).with_row_index(ROW, offset=2)
        timed = {name: next((one for one in given if one in text.columns), given[0]) for name, given in _CPU.items()}
        require_columns(place, text, ["model_name", "batch_size", "tensor_parallel_degree", *timed.values()])
        columns = [
            text["model_name"].alias("model"),
            numbers(place, text, "tensor_parallel_degree", 1).alias("tp"),
            numbers(place, text, "batch_size", 1).alias("batch"),
        ]
        columns += [(numbers(place, text, column, None) / 1e3).alias(name) for name, column in timed.items()]
        frames.append(pl.DataFrame(columns))
    keys = ["model", "tp", "batch"]
    medians = pl.concat(frames).group_by(keys).agg(pl.col(*_CPU).median()).sort(keys)
    return medians.with_columns(pl.lit(None, pl.Float64).alias("detokenize")).select("model", "tp", *HOST_COLUMNS)


def _reader(operator: str) -> tuple[_Reader, str]:
    """What reads the rows of an operator, with how many there were, and the name of its file."""
    if operator == "gemm":
        return read_products, "mlp"
    if operator in _ATTENTION:
        return read_attention, "attention"
    if operator in _MESSAGES:
        return read_messages, operator
    if operator in (*VIDUR_ELEMENTWISE, "add"):
        return read_elementwise, "mlp"
    known = ", ".join(("gemm", *_ATTENTION, *_MESSAGES))
    raise EstimatorError("operator", operator, "is not in Vidur's files", f"choose one of {known}")


def _find(root: Path, name: str, device: str, model: str | None) -> list[Path]:
    """The files of a name of a GPU or node, of one model or of all, in either layout."""
    if name in _MESSAGES:
        folders = [root / "network" / device]
    else:
        top = root / ("cpu_overhead" if name == "cpu_overheads" else "compute") / device
        folders = [top / model] if model else sorted(top.glob("*/*"))
    others = [] if model else [root / device]
    found = [path for folder in (*folders, *others) if (path := find_csv(folder, name)) is not None]
    if not found:
        what = f"hold no {name}.csv of {device}" + (f" and {model}" if model else "")
        mend = "give a directory laid out as Vidur's data/profiling"
        raise EstimatorError("profiles", str(root), what, mend)
    return found
