"""Layerwise measurements (``estimators.sources.layerwise``) in the one schema of profiles.

A layer's products have the widths of the model it belongs to. Of attention the rows of a chunk alone and of decodes
alone are taken; those of both together have no place in the schema, nor have experts, which were measured by how many
of them were active.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.errors import EstimatorError
from estimators.model_spec import ModelSpec
from estimators.profiles import Profiles, check_operator, count_outliers, merge_points
from estimators.sources.layerwise import read_meta, read_rows, tp_folder
from estimators.sources.products import layer_products
from estimators.sources.rows import check_unit

if TYPE_CHECKING:
    import polars

LICENCE = "that of the files given; LLMServingSim's own are MIT"
_PRODUCTS = {"qkv_proj": "qkv", "o_proj": "output", "gate_up_proj": "up", "up_proj": "up", "down_proj": "down"}


def layerwise_profiles(directory: str | os.PathLike[str], tp: int, model: ModelSpec) -> list[Profiles]:
    """Read products, and attention of a chunk alone and of decodes alone.

    Args:
        directory: where ``meta.yaml`` is.
        tp: which of ``tpN/``.
        model: whose layers were measured, as ``meta.yaml`` names it.

    Returns:
        ``"gemm"`` in the type of the weights that ``meta.yaml`` calls the variant, ``"prefill_attention"`` and
        ``"decode_attention"`` over a bf16 cache.

    Raises:
        EstimatorError: naming the file, and the row where one is wrong.
    """
    root = Path(directory)
    meta = read_meta(root)
    folder = tp_folder(root, tp)
    products, products_read = _products(folder, model, tp)
    heads = {"q_heads": model.q_heads_per_gpu(tp), "kv_heads": model.kv_heads_per_gpu(tp), "head_dim": model.head_dim}
    chunks, decodes, attention_read = _attention(folder, {**heads, "window": 0})
    return [
        _profiles("gemm", str(meta.get("variant", "bf16")), products, products_read, meta, root),
        _profiles("prefill_attention", "bf16", chunks, attention_read, meta, root),
        _profiles("decode_attention", "bf16", decodes, attention_read, meta, root),
    ]


def _products(folder: Path, model: ModelSpec, tp: int) -> tuple[polars.DataFrame, int]:
    """m, n, k and seconds of the products of a layer and of the LM head; and how many rows were read."""
    import polars as pl

    inner = model.intermediate_size // tp
    up = inner * (2 if model.gated_mlp else 1)
    q_heads, kv_heads = model.q_heads_per_gpu(tp), model.kv_heads_per_gpu(tp)
    layer = layer_products(model.hidden_size, model.head_dim, q_heads, kv_heads, up, inner)
    widths = {name: layer[product] for name, product in _PRODUCTS.items()}
    widths["lm_head"] = (model.vocabulary_per_gpu(tp), model.hidden_size)
    parts, read = [], 0
    for name, rows in (("dense", "tokens"), ("per_sequence", "sequences")):
        path, frame = read_rows(folder, name)
        read += frame.height
        mine = frame.filter(pl.col("layer").is_in(list(widths)))
        n, k = (
            pl.col("layer").replace_strict(
                {layer: sides[side] for layer, sides in widths.items()}, return_dtype=pl.Int64
            )
            for side in (0, 1)
        )
        parts.append(mine.select(m=rows, n=n, k=k, seconds="seconds"))
        check_unit(str(path), parts[-1], "microseconds")
    return pl.concat(parts), read


def _attention(folder: Path, heads: Mapping[str, int]) -> tuple[polars.DataFrame, polars.DataFrame, int]:
    """Rows of a chunk alone and of decodes alone; and how many rows were read."""
    import polars as pl

    _, frame = read_rows(folder, "attention")
    same = {name: pl.lit(value) for name, value in heads.items()}
    chunks = frame.filter(pl.col("n_decode") == 0, pl.col("prefill_chunk") > 0)
    decodes = frame.filter(pl.col("prefill_chunk") == 0, pl.col("n_decode") > 0)
    chunks = chunks.select("seconds", **same, batch=pl.lit(1), chunk="prefill_chunk", history="kv_prefill")
    return chunks, decodes.select("seconds", **same, batch="n_decode", kv="kv_decode"), frame.height


def _profiles(
    operator: str, dtype: str, rows: polars.DataFrame, read: int, meta: Mapping[str, Any], root: Path
) -> Profiles:
    check_operator(operator, dtype)
    if not rows.height:
        raise EstimatorError("profiles", str(root), f"hold no rows of {operator}", "give a profile that holds some")
    frame = merge_points(operator, rows)
    return Profiles(
        system=str(meta.get("hardware", root.name)),
        operator=operator,
        dtype=dtype,
        frame=frame,
        source=f"layerwise profile of {meta.get('model', root.name)}",
        engine=f"vllm {meta.get('vllm_version', 'of no version told')}",
        licence=LICENCE,
        kernels=(),
        rows_read=read,
        rows_dropped=read - rows.height,
        rows_duplicate=rows.height - frame.height,
        outliers=count_outliers(operator, frame),
    )
