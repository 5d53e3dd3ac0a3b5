"""Measured times of operators in one schema, whatever source they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from estimators.errors import EstimatorError

if TYPE_CHECKING:
    import polars

_HEADS = {"q_heads": 1, "kv_heads": 1, "head_dim": 1}
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
#: Operators that move bytes and hardly compute, with what their ``width`` counts for each token:
#:
#: * ``norm``: RMS norm of the sum with the residual, both handed on, as vLLM fuses it; the hidden size.
#: * ``plain_norm``: RMS norm alone; all numbers normed.
#: * ``rope``: rotation in place; rotated numbers of queries and keys, (q_heads + kv_heads) x rotary_dim.
#: * ``kv_write``: keys and values into the cache; 2 x kv_heads x head_dim.
#: * ``activation``: of a gate, times the other half; the output. ``plain_activation``: without a gate (GELU).
#: * ``embedding``: rows of a table; the hidden size. ``add``: sum of two; the output.
#: * ``gating``: softmax over a router's logits and the choice of experts; the experts.
#: * ``logits_cast``: to 32 bits, ``sampling``: the largest of those; the vocabulary. ``tokens`` are requests here.
ELEMENTWISE = (
    *("norm", "plain_norm", "rope", "kv_write", "activation", "plain_activation", "embedding", "add", "gating"),
    *("logits_cast", "sampling"),
)

#: The columns of each operator, all integers, with the least value of each. A row is ONE call on ONE GPU.
#:
#: * ``window``: tokens a query sees at most, 0 where it sees all; ``history``: tokens in the cache before the chunk.
#: * ``latent_prefill``: attention of MLA over keys and values that were expanded to heads (192 and 128 numbers);
#:   ``latent_decode``: over its compressed cache (512 + 64 numbers a token); both the kernel alone; ``latent_bmm``: the
#:   product of each head that leads into the compressed space (k 128, n 512) or out of it (k 512, n 128).
#: * ``moe``: routed gated experts. ``tokens``: of all GPUs that share the experts; ``inter``: width of one expert's
#:   shard; ``local_experts``: of the ``experts`` those on this GPU; ``load``: 100 x the exponent of the power law by
#:   which tokens prefer experts, 0 where all get the same.
#: * ``elements``: numbers of the type. Of an all-reduce and an all-to-all those each GPU gives, of an all-gather and a
#:   reduce-scatter those of all GPUs together.
#: * ``width`` of the element-wise operators: numbers per token, see ``ELEMENTWISE``.
COLUMNS: Mapping[str, Mapping[str, int]] = {
    "gemm": {"m": 1, "n": 1, "k": 1},
    "prefill_attention": {"batch": 1, "chunk": 1, "history": 0, **_HEADS, "window": 0},
    "decode_attention": {"batch": 1, "kv": 1, **_HEADS, "window": 0},
    "latent_prefill": {"batch": 1, "chunk": 1, "history": 0, "heads": 1},
    "latent_decode": {"batch": 1, "kv": 1, "heads": 1},
    "latent_bmm": {"tokens": 1, "heads": 1, "n": 1, "k": 1},
    "moe": {"tokens": 1, "hidden": 1, "inter": 1, "topk": 1, "experts": 1, "local_experts": 1, "load": 0},
    **{name: {"gpus": 2, "elements": 1} for name in COLLECTIVES},
    **{name: {"tokens": 1, "width": 1} for name in ELEMENTWISE},
}
#: Attention, measured by the type of the KV cache.
ATTENTION = ("prefill_attention", "decode_attention", "latent_prefill", "latent_decode")
#: Attention of batches that tables put together from equal ones, to see how far that holds. ``mixed_attention``: one
#: chunk, and decodes of ``kv`` tokens each; ``skewed_decode_attention``: one decode of the ``longest`` context, all
#: others of equal ones, ``kv`` tokens on average.
BATCHES: Mapping[str, Mapping[str, int]] = {
    "mixed_attention": {"chunk": 1, "history": 0, "decodes": 1, "kv": 1, **_HEADS},
    "skewed_decode_attention": {"batch": 2, "kv": 1, "longest": 1, **_HEADS},
}
#: Element-wise operators as Vidur measures them, whose kernels are others than those above.
VIDUR_ELEMENTWISE = (
    *("emb", "input_layernorm", "post_attention_layernorm", "attn_rope", "attn_kv_cache_save", "mlp_act"),
)
#: Operators that some sources measure and nothing here learns. ``width``: numbers per token. ``devices_per_node``: 1
#: where sender and receiver are in two nodes, 2 where they are in one.
OTHER_COLUMNS: Mapping[str, Mapping[str, int]] = {
    **BATCHES,
    "send_recv": {"devices_per_node": 1, "elements": 1},
    **{name: {"tokens": 1, "width": 1} for name in VIDUR_ELEMENTWISE},
}
#: The types each operator is measured in: of a product's and the experts' weights, of the KV cache, of what is sent or
#: moved.
DTYPES: Mapping[str, tuple[str, ...]] = {
    "gemm": ("bf16", "fp32", "fp8", "fp8_block", "nvfp4"),
    "prefill_attention": ("bf16", "fp32", "fp8"),
    "decode_attention": ("bf16", "fp32", "fp8"),
    "latent_prefill": ("bf16", "fp32", "fp8"),
    "latent_decode": ("bf16", "fp32", "fp8"),
    "latent_bmm": ("bf16", "fp32"),
    "moe": ("bf16", "fp32", "fp8", "fp8_block", "nvfp4", "mxfp4", "int4"),
    **dict.fromkeys((*COLLECTIVES, *ELEMENTWISE), ("bf16", "fp32")),
    **dict.fromkeys(BATCHES, ("bf16", "fp32", "fp8")),
}
_GROWING = ("m", "chunk", "kv", "tokens", "elements")  # the column along which the time of an operator grows
OUTLIER = 1.3
_PER_REQUEST = "_per_request"  # in the names of attention kernels that run for one request after the other


@dataclass(frozen=True)
class Profiles:
    """Measured times of one operator on one system.

    Attributes:
        system: the system's name, which is the device's name where it has one here.
        operator: a key of ``COLUMNS``, or of ``OTHER_COLUMNS``.
        dtype: one of ``DTYPES[operator]``.
        frame: one row per measured point, sorted: the operator's columns (int64) and ``seconds`` (float64); and, where
            the source tells it, ``spread``, the standard deviation of repeated measurements over their mean.
        source: package or directory, with its version, that the rows come from.
        engine: whose kernels were timed: a serving engine or a library, with its version.
        licence: of the rows, with whom to name.
        kernels: names of the kernels behind the rows, sorted; empty where the source does not tell.
        rows_read: rows in the files.
        rows_dropped: rows of another dtype, kernel or backend, or left out as the source's reader says.
        rows_duplicate: rows merged into another of the same point.
        outliers: points slower than 1.3 x the next larger one along the growing column. They are kept: some are
            spikes of the measurement, others steps between kernels.
    """

    system: str
    operator: str
    dtype: str
    frame: polars.DataFrame
    source: str
    engine: str
    licence: str
    kernels: tuple[str, ...]
    rows_read: int
    rows_dropped: int
    rows_duplicate: int
    outliers: int


def runs_per_request(kernels: Iterable[str]) -> bool:
    """Whether one of these attention kernels runs for one request after the other, as its name says."""
    return any(_PER_REQUEST in kernel for kernel in kernels)


def columns_of(operator: str) -> Mapping[str, int]:
    """The columns of an operator with their least values.

    Raises:
        EstimatorError: for an operator without a schema.
    """
    columns = COLUMNS.get(operator) or OTHER_COLUMNS.get(operator)
    if columns is None:
        known = ", ".join(sorted({*COLUMNS, *OTHER_COLUMNS}))
        raise EstimatorError("operator", operator, "is not profiled", f"choose one of {known}")
    return columns


def check_operator(operator: str, dtype: str) -> None:
    """Refuse an operator without a schema, and a dtype it is not measured in.

    Raises:
        EstimatorError: naming which.
    """
    columns_of(operator)
    known = DTYPES.get(operator, ("bf16",))
    if dtype not in known:
        wrong = f"is none that {operator} is profiled in"
        raise EstimatorError("dtype", dtype, wrong, f"choose one of {', '.join(known)}")


def merge_points(operator: str, rows: polars.DataFrame) -> polars.DataFrame:
    """Make one row of each point: the median of each kernel's rows, then the fastest kernel.

    Args:
        operator: a key of ``COLUMNS`` or ``OTHER_COLUMNS``.
        rows: the operator's columns and ``seconds``; ``kernel`` and ``spread`` where the source tells them.

    Returns:
        The operator's columns, ``seconds`` and, if given, ``spread``, sorted by the columns in their order.
    """
    import polars as pl

    points = list(columns_of(operator))
    kernels = ["kernel"] if "kernel" in rows.columns else []
    values = [name for name in ("seconds", "spread") if name in rows.columns]
    medians = rows.group_by(*points, *kernels).agg(pl.col(values).median())
    fastest = medians.group_by(points).agg(pl.col(values).sort_by("seconds").first())
    return fastest.select(*(pl.col(name).cast(pl.Int64) for name in points), *values).sort(points)


def count_outliers(operator: str, frame: polars.DataFrame) -> int:
    """How many points of a merged frame are slower than 1.3 x the next larger one, all else equal."""
    import polars as pl

    columns = columns_of(operator)
    growing = next(name for name in _GROWING if name in columns)
    shape = [name for name in columns if name != growing]
    ordered = frame.sort(*shape, growing)
    larger = pl.col("seconds").shift(-1).over(shape)
    return int(ordered.select((pl.col("seconds") > OUTLIER * larger).fill_null(False).sum()).item())
