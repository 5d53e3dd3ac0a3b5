"""From an operator's shape to what its estimator sees: numbers for the trees, and a roofline.

The trees predict log(time / roofline). A forest cannot extrapolate; the roofline does it for it:
a launch floor plus the time of the arithmetic plus the time of the memory or link traffic, at the device's peak rates.
Features are logarithms of the quantities kernels are tiled and bound by, so that a shape never measured lands near
measured shapes that keep the device busy in the same way. Computed in float64, handed on as float32, by the same code
in training and in prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTIVATION_BYTES = 2  # bf16, whatever the type of weights and KV cache
_GEMM_TILES = ((128, 128), (128, 256), (64, 128), (256, 128))
_QUERY_TILE = 128  # rows of queries one thread block of FlashAttention works on
_KEY_TILE = 128  # keys of one step of its loop


@dataclass(frozen=True)
class Roofline:
    """The constants of the roofline, kept with each trained estimator.

    Attributes:
        peak_flops: matrix rate at the operator's dtype, per second.
        memory_bandwidth: bytes per second.
        num_sms: streaming multiprocessors.
        link_bandwidth: GPU to its peers, one direction, bytes per second.
        floor_s: least time of one call, seconds; the smallest that was measured.
        split_kv: whether attention kernels split a long KV loop over idle multiprocessors and pack the query heads of a
            group into one tile always, as FlashAttention 3 does, or only to decode grouped queries, as 2 does.
    """

    peak_flops: float
    memory_bandwidth: float
    num_sms: int
    link_bandwidth: float
    floor_s: float
    split_kv: bool


@dataclass(frozen=True)
class Operator:
    """An operator: its columns with their least values, its features, and the function that computes them.

    ``compute(columns, roofline, element_bytes)`` takes float64 arrays of equal length and returns the feature arrays,
    in the order of ``features``, and the roofline in seconds.
    """

    columns: Mapping[str, int]
    features: tuple[str, ...]
    compute: Callable[[Mapping[str, Floats], Roofline, int], tuple[list[Floats], Floats]]


def features_and_roofline(
    operator: str, columns: Mapping[str, Floats], roofline: Roofline, element_bytes: int = ACTIVATION_BYTES
) -> tuple[NDArray[np.float32], Floats]:
    """Compute what the trees of ``operator`` see.

    Args:
        operator: a key of ``OPERATORS``.
        columns: the operator's columns, float64, all of length n.
        roofline: the constants.
        element_bytes: of what is quantised: both factors of a product, or keys and values.

    Returns:
        Features, float32 of shape (n, features), and the roofline in seconds, float64 of shape (n,).
    """
    values, seconds = OPERATORS[operator].compute(columns, roofline, element_bytes)
    features = np.empty((len(seconds), len(values)), dtype=np.float32)
    for index, value in enumerate(values):
        features[:, index] = value
    return features, seconds


def _gemm(columns: Mapping[str, Floats], roofline: Roofline, element_bytes: int) -> tuple[list[Floats], Floats]:
    m, n, k = columns["m"], columns["n"], columns["k"]
    flops = 2 * m * n * k
    traffic = element_bytes * (m * k + n * k) + ACTIVATION_BYTES * m * n
    values = [np.log(x) for x in (m, n, k, flops, traffic, flops / traffic)]
    for rows, width in _GEMM_TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / width)
        waves = tiles / roofline.num_sms
        values += [np.log(tiles), np.ceil(waves) / waves]
    return values, roofline.floor_s + flops / roofline.peak_flops + traffic / roofline.memory_bandwidth


def _prefill_attention(
    columns: Mapping[str, Floats], roofline: Roofline, element_bytes: int
) -> tuple[list[Floats], Floats]:
    """A chunk of queries after a history.

    Measured points have no history. What carries over to chunks that have one is how many tiles there are and how many
    keys each loops over, so neither chunk nor history is a feature by itself.
    """
    batch, chunk, history = columns["batch"], columns["chunk"], columns["history"]
    q_heads, kv_heads, head_dim = columns["q_heads"], columns["kv_heads"], columns["head_dim"]
    group = q_heads / kv_heads
    context = history + chunk
    flops = 4 * batch * q_heads * head_dim * chunk * (history + (chunk + 1) / 2)
    traffic = head_dim * batch * 2 * (ACTIVATION_BYTES * q_heads * chunk + element_bytes * kv_heads * context)
    if roofline.split_kv:
        tiles = np.ceil(chunk * group / _QUERY_TILE) * batch * kv_heads
        splits = np.clip(np.floor(roofline.num_sms / tiles), 1, np.ceil(context / _QUERY_TILE))
    else:
        tiles = np.ceil(chunk / _QUERY_TILE) * batch * q_heads
        splits = np.ones_like(tiles)
    waves = tiles / roofline.num_sms
    loop = history + np.minimum(chunk, (chunk + _QUERY_TILE) / 2)  # keys a tile loops over, mean over the tiles
    # Either all multiprocessors are busy, or the tile with the longest loop decides.
    busy = np.maximum(waves * loop, context / splits)
    arithmetic = busy * _QUERY_TILE * 4 * head_dim * roofline.num_sms / roofline.peak_flops
    values = [
        np.log(waves),
        np.log(loop),
        np.log(group),
        head_dim,
        np.log(traffic),
        np.ceil(waves) / waves,
        np.log(flops),
        np.log(batch),
    ]
    return values, roofline.floor_s + arithmetic + traffic / roofline.memory_bandwidth


def _decode_attention(
    columns: Mapping[str, Floats], roofline: Roofline, element_bytes: int
) -> tuple[list[Floats], Floats]:
    """One query token for each request; the query heads of a group share a tile, which is mostly padding."""
    batch, kv = columns["batch"], columns["kv"]
    q_heads, kv_heads, head_dim = columns["q_heads"], columns["kv_heads"], columns["head_dim"]
    group = q_heads / kv_heads
    traffic = head_dim * batch * 2 * (ACTIVATION_BYTES * q_heads + element_bytes * kv_heads * kv)
    tiles = np.ceil(group / _QUERY_TILE) * batch * kv_heads
    waves = tiles / roofline.num_sms
    loop = np.maximum(kv, _KEY_TILE)  # no other rounding: kv is a mean over requests
    arithmetic = tiles * loop * _QUERY_TILE * 4 * head_dim / roofline.peak_flops
    # FlashAttention 2 splits a KV loop over idle multiprocessors only where several query heads share it.
    idle = np.where((group > 1) | roofline.split_kv, 1.0, np.maximum(1 / waves, 1.0))
    values = [
        np.log(batch),
        np.log(kv),
        np.log(group),
        head_dim,
        np.log(traffic),
        np.log(batch * kv_heads),
        np.log(batch * q_heads),
        np.ceil(waves) / waves,
    ]
    return values, roofline.floor_s + arithmetic + idle * traffic / roofline.memory_bandwidth


def _all_reduce(columns: Mapping[str, Floats], roofline: Roofline, element_bytes: int) -> tuple[list[Floats], Floats]:
    gpus, elements = columns["gpus"], columns["elements"]
    size = element_bytes * elements
    traffic = 2 * (gpus - 1) / gpus * size  # what a ring sends per GPU
    return [np.log(gpus), np.log(size)], roofline.floor_s + traffic / roofline.link_bandwidth


OPERATORS: Mapping[str, Operator] = {
    "gemm": Operator(
        columns={"m": 1, "n": 1, "k": 1},
        features=(
            *("log_m", "log_n", "log_k", "log_flops", "log_bytes", "log_intensity"),
            *(f"{what}_{rows}x{width}" for rows, width in _GEMM_TILES for what in ("log_tiles", "wave_padding")),
        ),
        compute=_gemm,
    ),
    "prefill_attention": Operator(
        columns={"batch": 1, "chunk": 1, "history": 0, "q_heads": 1, "kv_heads": 1, "head_dim": 1},
        features=(
            *("log_waves", "log_loop", "log_group", "head_dim", "log_bytes"),
            *("wave_padding", "log_flops", "log_batch"),
        ),
        compute=_prefill_attention,
    ),
    "decode_attention": Operator(
        columns={"batch": 1, "kv": 1, "q_heads": 1, "kv_heads": 1, "head_dim": 1},
        features=(
            *("log_batch", "log_kv", "log_group", "head_dim", "log_bytes"),
            *("log_kv_head_batch", "log_q_head_batch", "wave_padding"),
        ),
        compute=_decode_attention,
    ),
    "all_reduce": Operator(columns={"gpus": 2, "elements": 1}, features=("log_gpus", "log_bytes"), compute=_all_reduce),
}


def operators_of(dtype: str) -> tuple[str, ...]:
    """Operators that there are in a dtype: all in bf16; in fp8 products and attention, whose results are bf16."""
    return tuple(name for name in OPERATORS if dtype != "fp8" or name != "all_reduce")
