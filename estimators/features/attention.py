"""Attention over keys and values of every KV head, of all tokens before or of the last ``window`` only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS

QUERY_TILE = 128  # rows of queries one thread block of FlashAttention works on
KEY_TILE = 128  # keys of one step of its loop


def seen_keys(chunk: Floats, history: Floats, window: Floats) -> Floats:
    """Keys that the queries of a chunk see together: each its own, and those before it inside the window (0: all)."""
    window = np.where(window > 0, window, np.inf)
    growing = np.clip(window - history, 0, chunk)  # queries that see less than a full window
    rest = chunk - growing
    return np.asarray(growing * (history + (growing + 1) / 2) + rest * np.minimum(window, history + chunk))


def _packed(chunk: Floats, group: Floats, window: Floats) -> NDArray[np.bool_]:
    """Whether FlashAttention 2 packs the heads of a group into a tile and splits the KV loop if multiprocessors idle.

    It does for one query that several heads share, unless it has a window.
    """
    return np.asarray((chunk == 1) & (group > 1) & (window == 0))


def _prefill_attention(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    """A chunk of queries after a history.

    Measured points have no history. What carries over to chunks that have one is how many tiles there are and how many
    keys each loops over, so neither chunk nor history is a feature by itself.
    """
    batch, chunk, history = columns["batch"], columns["chunk"], columns["history"]
    q_heads, kv_heads, head_dim = columns["q_heads"], columns["kv_heads"], columns["head_dim"]
    window = np.where(columns["window"] > 0, columns["window"], np.inf)
    group = q_heads / kv_heads
    seen = seen_keys(chunk, history, columns["window"])
    flops = 4 * batch * q_heads * head_dim * seen
    context = np.minimum(history + chunk, window + chunk)  # keys that anyone sees
    moved = roofline.activation_bytes * q_heads * chunk + roofline.element_bytes * kv_heads * context
    traffic = head_dim * batch * 2 * moved
    longest = np.minimum(history + chunk, window + QUERY_TILE)  # keys that the last tile loops over
    if roofline.split_kv:
        tiles = np.ceil(chunk * group / QUERY_TILE) * batch * kv_heads
        splits = np.clip(np.floor(roofline.num_sms / tiles), 1, np.ceil(longest / QUERY_TILE))
    else:
        packed = _packed(chunk, group, columns["window"])
        tiles = np.ceil(chunk / QUERY_TILE) * batch * np.where(packed, kv_heads, q_heads)
        splits = np.where(packed, np.clip(np.floor(roofline.num_sms / tiles), 1, np.ceil(longest / QUERY_TILE)), 1.0)
    waves = tiles / roofline.num_sms
    whole = history + np.minimum(chunk, (chunk + QUERY_TILE) / 2)  # keys a tile loops over, mean over the tiles
    loop = np.minimum(whole, seen / chunk + QUERY_TILE)  # a tile's queries see windows that end one after the other
    # Either all multiprocessors are busy, or the tile with the longest loop decides.
    busy = np.maximum(waves * loop, longest / splits)
    arithmetic = flops if roofline.per_request else busy * QUERY_TILE * 4 * head_dim * roofline.num_sms
    values = [
        np.log(waves),
        np.log(loop),
        np.log(group),
        head_dim,
        np.log(traffic),
        roofline.wave_padding(tiles),
        np.log(flops),
        np.log(batch),
        np.log(batch * q_heads),
        (history + chunk > window).astype(np.float64),
    ]
    return values, _seconds(batch, arithmetic, traffic, roofline)


def _decode_attention(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    """One query token for each request; the query heads of a group share a tile, which is mostly padding."""
    batch, q_heads, kv_heads, head_dim = (columns[name] for name in ("batch", "q_heads", "kv_heads", "head_dim"))
    window = np.where(columns["window"] > 0, columns["window"], np.inf)
    kv = np.minimum(columns["kv"], window)
    group = q_heads / kv_heads
    traffic = head_dim * batch * 2 * (roofline.activation_bytes * q_heads + roofline.element_bytes * kv_heads * kv)
    packed = roofline.split_kv | _packed(np.ones_like(kv), group, columns["window"])
    tiles = np.ceil(group / QUERY_TILE) * batch * np.where(packed, kv_heads, q_heads)
    loop = np.maximum(kv, KEY_TILE)  # no other rounding: kv is a mean over requests
    padded = tiles * loop * QUERY_TILE
    arithmetic = (batch * q_heads * kv if roofline.per_request else padded) * 4 * head_dim
    idle = np.where(packed, 1.0, np.maximum(roofline.num_sms / tiles, 1.0))
    values = [
        np.log(batch),
        np.log(kv),
        np.log(group),
        head_dim,
        np.log(traffic),
        np.log(batch * np.where(packed, kv_heads, q_heads)),
        np.log(batch * q_heads),
        roofline.wave_padding(tiles),
        np.log(np.minimum(columns["kv"], window + KEY_TILE)),  # a window ends within steps of the loop
        (columns["kv"] > window).astype(np.float64),
    ]
    return values, _seconds(batch, arithmetic, idle * traffic, roofline)


def _seconds(batch: Floats, arithmetic: Floats, traffic: Floats, roofline: Roofline) -> Floats:
    """The roofline, with a floor for each request where each has a launch."""
    seconds = roofline.seconds(arithmetic, traffic)
    return seconds + (batch - 1) * roofline.floor_s if roofline.per_request else seconds


PREFILL_ATTENTION = Operator(
    columns=COLUMNS["prefill_attention"],
    features=(
        *("log_waves", "log_loop", "log_group", "head_dim", "log_bytes"),
        *("wave_padding", "log_flops", "log_batch", "log_q_head_batch", "windowed"),
    ),
    compute=_prefill_attention,
    modelled=("history", "window"),
)
DECODE_ATTENTION = Operator(
    columns=COLUMNS["decode_attention"],
    features=(
        *("log_batch", "log_kv", "log_group", "head_dim", "log_bytes"),
        *("log_kv_head_batch", "log_q_head_batch", "wave_padding", "log_loop", "windowed"),
    ),
    compute=_decode_attention,
    modelled=("window",),
)
