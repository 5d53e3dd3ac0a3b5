"""Multi-head latent attention: the kernel alone, in the sizes of DeepSeek-V2 and -V3, the only ones measured.

A prompt attends with keys and values of every head, expanded from the latent cache (no history is in them); a decode
step attends in the latent space itself, where all heads share one key of 512 + 64 numbers, whose 512 are the value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from estimators.features.attention import KEY_TILE, QUERY_TILE, seen_keys
from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS

_KEY_DIM, _VALUE_DIM = 192, 128  # of a head, of a prompt
_LATENT_KEY_DIM, _LATENT_VALUE_DIM = 576, 512
_HEAD_TILE = 64  # query heads one thread block of FlashMLA works on


def _latent_prefill(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    batch, chunk, history, heads = (columns[name] for name in ("batch", "chunk", "history", "heads"))
    width = _KEY_DIM + _VALUE_DIM
    flops = 2 * batch * heads * width * seen_keys(chunk, history, np.zeros_like(chunk))
    traffic = roofline.activation_bytes * batch * heads * width * (2 * chunk + history)
    tiles = np.ceil(chunk / QUERY_TILE) * batch * heads
    waves = tiles / roofline.num_sms
    loop = history + np.minimum(chunk, (chunk + QUERY_TILE) / 2)
    busy = np.maximum(waves * loop, history + chunk)
    arithmetic = busy * QUERY_TILE * 2 * width * roofline.num_sms
    values = [
        np.log(waves),
        np.log(loop),
        np.log(traffic),
        roofline.wave_padding(tiles),
        np.log(flops),
        np.log(batch),
        np.log(heads),
    ]
    return values, roofline.seconds(arithmetic, traffic)


def _latent_decode(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    batch, kv, heads = columns["batch"], columns["kv"], columns["heads"]
    width = _LATENT_KEY_DIM + _LATENT_VALUE_DIM
    traffic = batch * (roofline.element_bytes * kv * _LATENT_KEY_DIM + roofline.activation_bytes * heads * width)
    tiles = np.ceil(heads / _HEAD_TILE) * batch
    arithmetic = tiles * np.maximum(kv, KEY_TILE) * _HEAD_TILE * 2 * width
    values = [
        np.log(batch),
        np.log(kv),
        np.log(heads),
        np.log(traffic),
        np.log(batch * heads * kv),
        roofline.wave_padding(tiles),
    ]
    return values, roofline.seconds(arithmetic, traffic)


LATENT_PREFILL = Operator(
    columns=COLUMNS["latent_prefill"],
    features=("log_waves", "log_loop", "log_bytes", "wave_padding", "log_flops", "log_batch", "log_heads"),
    compute=_latent_prefill,
    modelled=("history",),
)
LATENT_DECODE = Operator(
    columns=COLUMNS["latent_decode"],
    features=("log_batch", "log_kv", "log_heads", "log_bytes", "log_head_kv", "wave_padding"),
    compute=_latent_decode,
)
