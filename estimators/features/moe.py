"""The experts of a layer: every token passes ``topk`` of ``experts``, and this GPU holds ``local_experts`` of them.

How long they take depends on how many of them anyone chose, because each reads its weights, and on how many rows each
gets, because rows are padded to a tile. Both follow from how tokens spread: evenly, or as draws from a power law with
the exponent ``load`` / 100 between one token and 0.8 of all, the way the measured batches were made; then the GPU with
the largest part was measured.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS

_QUANTILES = (np.arange(32) + 0.5) / 32  # experts of a power law, from the least loaded to the most
_MOST_EVEN_SHARE = 0.8  # of all tokens, of the most loaded expert before scaling
_PADDING = 16  # least rows of a tile
_ROWS, _WIDTH = 64, 128  # of the tiles that fill the multiprocessors


def _moe(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    tokens, hidden, inter = columns["tokens"], columns["hidden"], columns["inter"]
    topk, experts, local, load = (columns[name] for name in ("topk", "experts", "local_experts", "load"))
    chosen, rows, padded, tall = (local * part for part in _spread(tokens, topk, experts, local, load))
    weights = roofline.element_bytes * 3 * hidden * inter * chosen
    flops = 6 * hidden * inter * padded
    traffic = weights + roofline.operand_bytes * rows * (hidden + inter)
    traffic += roofline.activation_bytes * rows * (2 * inter + hidden)
    tiles = tall * np.ceil(2 * inter / _WIDTH)
    values = [np.log(x) for x in (tokens, hidden, inter, topk, experts, local)]
    values += [load / 100]
    values += [np.log(x) for x in (rows, chosen, rows / chosen, weights, flops, flops / traffic, tiles)]
    # Rows whose width is no multiple of what a load takes at once are read by other, much slower code.
    alignment = np.log2(np.gcd(np.rint(inter).astype(np.int64), _WIDTH))
    return [*values, roofline.wave_padding(tiles), alignment], roofline.seconds(flops, traffic)


def _spread(
    tokens: Floats, topk: Floats, experts: Floats, local: Floats, load: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Per local expert: the chance to be chosen, its rows, those with padding, and its tiles."""
    each = tokens * topk / experts
    parts = _of(each[:, None])
    skewed = load > 0
    if skewed.any():
        drawn = power_law(_QUANTILES, tokens[skewed][:, None], each[skewed][:, None], load[skewed][:, None])
        share = drawn / drawn.mean(axis=1, keepdims=True)
        groups = np.maximum(experts[skewed] / local[skewed], 1)
        largest = 1 + share.std(axis=1) * np.sqrt(2 * np.log(groups) / local[skewed])  # of normal sums
        share = share * np.minimum(np.minimum(largest, groups), experts[skewed] / topk[skewed])[:, None]
        rows = np.minimum(share * each[skewed][:, None], tokens[skewed][:, None])
        for part, of in zip(parts, _of(rows), strict=True):
            part[skewed] = of
    return parts


def power_law(uniform: Floats, tokens: Floats | float, each: Floats | float, load: Floats | float) -> Floats:
    """Loads of experts before they are scaled to the rows that there are, all arguments broadcast.

    Args:
        uniform: places between the least and the most loaded expert, 0 to 1.
        tokens: of the batch.
        each: rows that an expert gets on average.
        load: 100 x the exponent.
    """
    # At an exponent of 1 the law has another form; 1.01 is nearly the same.
    alpha = np.clip(load, 101, 300) / 100
    many = each > 1
    least = np.where(many, 1.0, 0.01)
    most = np.where(many, np.maximum(_MOST_EVEN_SHARE * tokens, 1.01), 2.0)
    low, high = least ** (1 - alpha), most ** (1 - alpha)
    return ((high - low) * uniform + low) ** (1 / (1 - alpha))


def _of(rows: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Means over experts, along axis 1, of what ``_spread`` returns."""
    chosen = np.minimum(rows, 1)
    many = np.maximum(rows, 1)
    return (
        chosen.mean(axis=1),
        rows.mean(axis=1),
        (chosen * np.ceil(many / _PADDING) * _PADDING).mean(axis=1),
        (chosen * np.ceil(many / _ROWS)).mean(axis=1),
    )


MOE = Operator(
    columns=COLUMNS["moe"],
    features=(
        *("log_tokens", "log_hidden", "log_inter", "log_topk", "log_experts", "log_local_experts", "load"),
        *("log_rows", "log_chosen", "log_rows_each", "log_weight_bytes", "log_flops", "log_intensity", "log_tiles"),
        *("wave_padding", "log_alignment"),
    ),
    compute=_moe,
)
