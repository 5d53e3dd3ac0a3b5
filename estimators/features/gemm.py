"""Products of activations and weights, alone or, of multi-head latent attention, one for each head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS

_TILE = 128
_TILES = ((128, 128), (128, 256), (64, 128), (256, 128))


def _product(heads: Floats | float, m: Floats, n: Floats, k: Floats, roofline: Roofline) -> tuple[list[Floats], Floats]:
    flops = 2 * heads * m * n * k
    moved = roofline.operand_bytes * m * k + roofline.element_bytes * n * k + roofline.activation_bytes * m * n
    traffic = heads * moved
    values = [np.log(x) for x in (m, n, k, flops, traffic, flops / traffic)]
    for rows, width in _TILES:
        tiles = heads * np.ceil(m / rows) * np.ceil(n / width)
        values += [np.log(tiles), roofline.wave_padding(tiles)]
    values += [np.log(np.ceil(x / _TILE) * _TILE / x) for x in (m, n)]
    return values, roofline.seconds(flops, traffic)


def _gemm(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    return _product(1.0, columns["m"], columns["n"], columns["k"], roofline)


def _latent_bmm(columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    """Every head's own n x k matrix, by which queries enter the latent space and values leave it."""
    heads = columns["heads"]
    values, seconds = _product(heads, columns["tokens"], columns["n"], columns["k"], roofline)
    return [*values, np.log(heads)], seconds


_FEATURES = (
    *("log_m", "log_n", "log_k", "log_flops", "log_bytes", "log_intensity"),
    *(f"{what}_{rows}x{width}" for rows, width in _TILES for what in ("log_tiles", "wave_padding")),
    *("log_padding_m", "log_padding_n"),
)
GEMM = Operator(columns=COLUMNS["gemm"], features=_FEATURES, compute=_gemm)
LATENT_BMM = Operator(columns=COLUMNS["latent_bmm"], features=(*_FEATURES, "log_heads"), compute=_latent_bmm)
