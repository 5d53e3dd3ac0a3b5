"""Where aiconfigurator's tables hold each operator, and the rows of a table that count, in the one schema.

``latency`` is in milliseconds per call; ``message_size`` counts elements, not bytes; a decode row's context is
``isl + step``; a mixture's ``inter_size`` is that of the whole expert, ``num_experts`` that of all GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from estimators.profiles import COLUMNS
from estimators.sources.rows import ROW, check_unit, numbers, refuse_rows, require_columns

if TYPE_CHECKING:
    import polars

_FLOAT_DTYPES = {"bf16": "bfloat16", "fp8": "fp8", "fp8_block": "fp8_block", "nvfp4": "nvfp4"}


@dataclass(frozen=True)
class Kind:
    """Where an operator's rows are, which of them count, and what their columns are called there.

    ``columns`` holds sums, products and quotients of the file's columns; ``keep`` which values of a column count, where
    the file has that column; ``borrowed`` the backends that serve where the asked one was not measured.
    """

    family: str
    file: str
    columns: Mapping[str, str]
    dtype_column: str
    dtypes: Mapping[str, str] = field(default_factory=lambda: _FLOAT_DTYPES)
    keep: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    borrowed: tuple[str, ...] = ()


_PROMPTS = {"batch": "batch_size", "chunk": "isl", "history": "step"}
_DECODES = {"batch": "batch_size", "kv": "isl + step"}


def _attention(file: str, sizes: Mapping[str, str]) -> Kind:
    heads = {"q_heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}
    keep = {"beam_width": (1,), "attn_dtype": ("bfloat16",)}
    return Kind("attention", file, {**sizes, **heads, "window": "window_size"}, "kv_cache_dtype", keep=keep)


def _latent(file: str, sizes: Mapping[str, str]) -> Kind:
    # The kernels alone. vLLM was measured as whole modules, projections and all, so others' kernels serve for it. It
    # computes prompts over expanded heads, as TensorRT-LLM does; SGLang's rows of Hopper are over the compressed cache,
    # 3.4 times the arithmetic, and its decodes over an fp8 cache there take five times as long as vLLM's modules.
    columns, keep = {**sizes, "heads": "num_heads"}, {"mla_dtype": ("bfloat16",)}
    return Kind("mla", file, columns, "kv_cache_dtype", keep=keep, borrowed=("trtllm", "sglang"))


def nccl_kind(name: str) -> Kind:
    """A collective of NCCL, by its name there."""
    columns = {"gpus": "num_gpus", "elements": "message_size"}
    return Kind("comm", "nccl_perf.parquet", columns, "nccl_dtype", {"bf16": "half"}, {"op_name": (name,)})


KINDS: Mapping[str, Kind] = {
    "gemm": Kind("gemm", "gemm_perf.parquet", {"m": "m", "n": "n", "k": "k"}, "gemm_dtype"),
    "prefill_attention": _attention("context_attention_perf.parquet", _PROMPTS),
    "decode_attention": _attention("generation_attention_perf.parquet", _DECODES),
    "latent_prefill": _latent("context_mla_perf.parquet", _PROMPTS),
    "latent_decode": _latent("generation_mla_perf.parquet", _DECODES),
    "latent_bmm": Kind(
        "mla_bmm",
        "mla_bmm_perf.parquet",
        {"tokens": "num_tokens", "heads": "num_heads", "n": "n", "k": "k"},
        "bmm_dtype",
        borrowed=("sglang", "trtllm"),
    ),
    "moe": Kind(
        "moe",
        "moe_perf.parquet",
        {
            **{"tokens": "num_tokens", "hidden": "hidden_size", "inter": "inter_size / moe_tp_size", "topk": "topk"},
            **{"experts": "num_experts", "local_experts": "num_experts / moe_ep_size", "load": "load"},
        },
        "moe_dtype",
        {**_FLOAT_DTYPES, "mxfp4": "w4a16_mxfp4", "int4": "int4_wo"},
    ),
    # Engines replay decode batches from CUDA graphs, so the graph rows are what they pay; the eager rows add about 15
    # microseconds of launch to every call.
    "all_reduce": Kind(
        "comm",
        "custom_allreduce_perf.parquet",
        {"gpus": "num_gpus", "elements": "message_size"},
        "allreduce_dtype",
        keep={"op_name": ("all_reduce",), "backend": ("vllm_graph", "sglang_graph")},
    ),
    "all_gather": nccl_kind("all_gather"),
    "reduce_scatter": nccl_kind("reduce_scatter"),
    "all_to_all": nccl_kind("alltoall"),
}

#: Experts without a gate, which do two products where gated ones do three. TensorRT-LLM's tables name their kernels so;
#: in others' the shapes tell them: hidden and inner width, of Nemotron 3.
_NON_GATED = ((1024, 2688), (2048, 5120), (2688, 1856), (4096, 2688), (8192, 5120))
_OTHER_EXPERTS = "nongated|situ_as_silu"  # in the kernel's name: no gate, or another activation
_BMM = {"mla_gen_pre": {"n": 512, "k": 128}, "mla_gen_post": {"n": 128, "k": 512}}


def counted_rows(
    place: str, raw: polars.DataFrame, operator: str, dtype: str, kind: Kind, library: str
) -> polars.DataFrame:
    """The rows of a table that count: the operator's columns, ``kernel`` and ``seconds``.

    Args:
        place: the file, for messages.
        raw: all of it.
        operator: a key of ``KINDS``.
        dtype: which rows.
        kind: where they are.
        library: the backend; SGLang's prefill attention over an fp8 cache is computed in fp8.

    Raises:
        EstimatorError: for a column that is missing and a cell that is wrong, naming the row and column.
    """
    import polars as pl

    table = _derived(place, raw.with_row_index(ROW, offset=1), operator)
    used = {name for expression in kind.columns.values() for name in expression.replace("/", "+").split(" + ")}
    names = [kind.dtype_column, "kernel_source"]
    require_columns(place, table, sorted({*used, *names, "latency"}))
    keep = dict(kind.keep)
    for name in (*names, *(name for name in keep if name in table.columns)):
        refuse_rows(place, table, name, table[name].is_null(), "is empty")
    if library == "sglang" and dtype == "fp8" and "attn_dtype" in keep:
        keep["attn_dtype"] = ("bfloat16", "fp8")
    wanted = [pl.col(name).is_in(list(values)) for name, values in keep.items() if name in table.columns]
    kept = table.filter(pl.col(kind.dtype_column) == kind.dtypes.get(dtype, ""), *wanted)
    if operator == "moe":
        shapes = pl.any_horizontal(
            *((pl.col("hidden_size") == hidden) & (pl.col("inter_size") == inter) for hidden, inter in _NON_GATED)
        )
        kept = kept.filter(~pl.col("kernel_source").str.contains(_OTHER_EXPERTS), ~shapes)
    given = kept.select(ROW, *(pl.sql_expr(expression).alias(expression) for expression in kind.columns.values()))
    columns = [
        numbers(place, given, expression, COLUMNS[operator][name]).alias(name)
        for name, expression in kind.columns.items()
    ]
    seconds = numbers(place, kept, "latency", None) / 1e3
    rows = pl.DataFrame([*columns, kept["kernel_source"].alias("kernel"), seconds.alias("seconds")])
    if operator == "gemm":
        check_unit(place, rows, "milliseconds")
    return rows


def _derived(place: str, table: polars.DataFrame, operator: str) -> polars.DataFrame:
    """The table with the columns that some or all files lack: windows, the sides of MLA's products, loads."""
    import polars as pl

    if operator.endswith("_attention") and "window_size" not in table.columns:
        return table.with_columns(window_size=pl.lit(0))  # older tables were measured without windows
    if operator == "latent_bmm":
        require_columns(place, table, ["op_name"])
        refuse_rows(
            place, table, "op_name", ~table["op_name"].is_in(list(_BMM)).fill_null(False), "is no product of MLA"
        )
        sides = {side: pl.col("op_name").replace_strict({name: of[side] for name, of in _BMM.items()}) for side in "nk"}
        return table.with_columns(**sides)
    if operator == "moe":
        require_columns(place, table, ["distribution", "hidden_size", "inter_size"])
        exponent = table["distribution"].str.strip_prefix("power_law_").cast(pl.Float64, strict=False)
        balanced = (table["distribution"] == "balanced").fill_null(False)
        refuse_rows(
            place, table, "distribution", ~(balanced | exponent.is_not_null()), "is no balance and no power law"
        )
        return table.with_columns(load=pl.when(balanced).then(0).otherwise((100 * exponent).round()))
    return table
