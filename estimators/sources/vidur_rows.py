"""The rows of each of Vidur's files, in the one schema of profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError
from estimators.sources.products import layer_products
from estimators.sources.rows import LARGE, ROW, check_unit, numbers, read_text, refuse_rows, require_columns
from estimators.tables_of_files import csv_bytes

if TYPE_CHECKING:
    import polars

_PRODUCTS = {"attn_pre_proj": "qkv", "attn_post_proj": "output", "mlp_up_proj": "up", "mlp_down_proj": "down"}
_MLP_KEYS = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "num_tokens", "num_tensor_parallel_workers")
_ATTENTION_KEYS = ("n_q_head", "n_kv_head", "n_embd", "num_tensor_parallel_workers", "batch_size")
#: How much faster than most of a file no product is; in Vidur's own files it is a third at most.
_TOO_FAST = 10
_SKIP = "mend the row, or give skip_bad=True to drop such rows"
#: A table that is a copy of another GPU's, by node: the sha256 of its text.
_COPIES = {"h100_pairwise_nvlink": "b962137cf047ab0bb80d11f45ea2a008b9684d0749805995b44b112ae302fff4"}


def _bytes(path: Path) -> bytes:
    try:
        return csv_bytes(path)
    except (OSError, ValueError) as error:
        raise EstimatorError(str(path), None, f"cannot be read ({error})", "give a table of CSV") from error


def read_products(operator: str, path: Path, skip_bad: bool) -> tuple[polars.DataFrame, int]:
    """The four products of every row of ``mlp.csv``: m, n, k and seconds; and how many that could be."""
    import polars as pl

    frame = _gated(path, _shapes(path, _MLP_KEYS))
    sizes = _sizes("n_head")
    up = pl.col("inner") * pl.when("gated").then(2).otherwise(1)
    products = layer_products(pl.col("n_embd"), *sizes, up, pl.col("inner"))
    parts = []
    for name, product in _PRODUCTS.items():
        timed, seconds = _timed(path, frame, name, skip_bad)
        n, k = products[product]
        parts.append(timed.select(ROW, pl.lit(name).alias("name"), m=pl.col("num_tokens"), n=n, k=k, seconds=seconds))
    rows = _of_products(path, pl.concat(parts), skip_bad)
    check_unit(str(path), rows, "milliseconds")
    return rows.select("m", "n", "k", "seconds"), frame.height * len(parts)


def _of_products(path: Path, rows: polars.DataFrame, skip_bad: bool) -> polars.DataFrame:
    """Refuse, or drop, times in which no product can have been computed: the profiler took another kernel's."""
    import polars as pl

    work = 2.0 * pl.col("m") * pl.col("n") * pl.col("k")
    rates = rows.select(rate=work / pl.col("seconds"), large=work >= LARGE)
    usual = rates.filter("large").select(pl.col("rate").median()).item()
    if usual is None:
        return rows
    faster = rates["rate"] / usual
    bad = faster > _TOO_FAST
    if skip_bad or not bad.any():
        return rows.filter(~bad)
    first = int(bad.arg_true()[0])
    one = rows.row(first, named=True)
    place = f"{path}: row {one[ROW]}, column 'time_stats.{one['name']}.median'"
    wrong = f"is {faster[first]:.0f} times faster than most products there, so another kernel was timed"
    raise EstimatorError(place, one["seconds"] * 1e3, wrong, _SKIP)


def read_elementwise(operator: str, path: Path, skip_bad: bool) -> tuple[polars.DataFrame, int]:
    """An element-wise operator of ``mlp.csv``: tokens, width and seconds."""
    import polars as pl

    frame = _shapes(path, _MLP_KEYS)
    if f"time_stats.{operator}.median" not in frame.columns and operator == "post_attention_layernorm":
        # A model whose attention and MLP share a norm.
        return pl.DataFrame(schema={"tokens": pl.Int64, "width": pl.Int64, "seconds": pl.Float64}), 0
    head_dim, q_heads, kv_heads = _sizes("n_head")
    width = {"mlp_act": pl.col("inner"), "attn_rope": (q_heads + kv_heads) * head_dim}.get(operator, pl.col("n_embd"))
    timed, seconds = _timed(path, frame, operator, skip_bad)
    return timed.select(tokens=pl.col("num_tokens"), width=width, seconds=seconds), frame.height


def read_attention(operator: str, path: Path, skip_bad: bool) -> tuple[polars.DataFrame, int]:
    """Attention, or writing to the cache, of ``attention.csv``: the operator's columns, seconds and ``backend``.

    A decode's own token is not among those its row says are cached, but it is read with them.
    """
    import polars as pl

    frame = _shapes(path, _ATTENTION_KEYS)
    place = str(path)
    require_columns(place, frame, ["prefill_chunk_size", "kv_cache_size", "attention_backend"])
    frame = frame.with_columns(numbers(place, frame, name, 0) for name in ("prefill_chunk_size", "kv_cache_size"))
    chunk, cached, batch = pl.col("prefill_chunk_size"), pl.col("kv_cache_size"), pl.col("batch_size")
    head_dim, q_heads, kv_heads = _sizes("n_q_head")
    heads = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim, "window": pl.lit(0)}
    backend = pl.col("attention_backend").str.strip_prefix("AttentionBackend.")
    if operator == "attn_kv_cache_save":
        timed, seconds = _timed(path, frame, operator, skip_bad)
        tokens = batch * pl.max_horizontal(chunk, 1)
        columns = {"tokens": tokens, "width": 2 * kv_heads * head_dim}
    elif operator == "prefill_attention":
        timed, seconds = _timed(path, frame.filter(chunk > 0), "attn_prefill", skip_bad)
        columns = {"batch": batch, "chunk": chunk, "history": cached, **heads}
    else:
        timed, seconds = _timed(path, frame.filter(chunk == 0), "attn_decode", skip_bad)
        columns = {"batch": batch, "kv": cached + 1, **heads}
    return timed.select(**columns, seconds=seconds, backend=backend), frame.height


def read_messages(operator: str, path: Path, skip_bad: bool) -> tuple[polars.DataFrame, int]:
    """``all_reduce.csv`` within one node, or ``send_recv.csv``: the operator's columns and seconds."""
    import polars as pl

    place, node = str(path), path.parent.name
    if operator == "send_recv" and hashlib.sha256(_bytes(path)).hexdigest() == _COPIES.get(node):
        wrong = "is a byte for byte copy of that of a100_pairwise_nvlink and no measurement"
        raise EstimatorError(place, None, wrong, "choose another node")
    keys = ("num_workers", "devices_per_node", "size")
    frame = read_text(path).with_row_index(ROW, offset=2)
    require_columns(place, frame, keys)
    frame = frame.with_columns(numbers(place, frame, name, 2 if name == "size" else 1) for name in keys)
    elements = pl.col("size") // 2
    if operator == "send_recv":
        timed, seconds = _timed(path, frame, operator, skip_bad)
        return timed.select("devices_per_node", elements=elements, seconds=seconds), frame.height
    inside = frame.filter((pl.col("num_workers") == pl.col("devices_per_node")) & (pl.col("num_workers") > 1))
    timed, seconds = _timed(path, inside, operator, skip_bad)
    return timed.select(gpus=pl.col("num_workers"), elements=elements, seconds=seconds), frame.height


def _shapes(path: Path, keys: Sequence[str]) -> polars.DataFrame:
    """A file's rows with their shapes as integers, and ``inner``, the width inside the MLP on one GPU."""
    import polars as pl

    place = str(path)
    frame = read_text(path).with_row_index(ROW, offset=2)
    require_columns(place, frame, keys)
    frame = frame.with_columns(numbers(place, frame, name, 1) for name in keys)
    if "n_expanded_embd" in keys:
        frame = frame.with_columns(inner=pl.col("n_expanded_embd") // pl.col("num_tensor_parallel_workers"))
    return frame


def _gated(path: Path, frame: polars.DataFrame) -> polars.DataFrame:
    import polars as pl

    require_columns(str(path), frame, ["use_gated_mlp"])
    given = frame["use_gated_mlp"]
    known = given.is_in(["True", "False"]).fill_null(False)
    refuse_rows(str(path), frame, "use_gated_mlp", ~known, "is neither True nor False")
    return frame.with_columns(gated=pl.col("use_gated_mlp") == "True")


def _sizes(q_heads: str) -> tuple[polars.Expr, polars.Expr, polars.Expr]:
    """Width of a head, and query and key-value heads on one GPU, which has a copy where there are fewer than GPUs."""
    import polars as pl

    tp = pl.col("num_tensor_parallel_workers")
    kv_heads = (pl.col("n_kv_head") + tp - 1) // tp
    return pl.col("n_embd") // pl.col(q_heads), pl.col(q_heads) // tp, kv_heads


def _timed(path: Path, frame: polars.DataFrame, name: str, skip_bad: bool) -> tuple[polars.DataFrame, polars.Series]:
    """The rows that have the median time of an operator, and it in seconds."""
    import polars as pl

    if not frame.height:
        return frame, pl.Series("seconds", [], pl.Float64)
    place, column = str(path), f"time_stats.{name}.median"
    require_columns(place, frame, [column])
    empty = frame[column].is_null()
    if skip_bad:
        frame = frame.filter(~empty)
    else:
        refuse_rows(place, frame, column, empty, "is empty", _SKIP)
    return frame, (numbers(place, frame, column, None) / 1e3).alias("seconds")
