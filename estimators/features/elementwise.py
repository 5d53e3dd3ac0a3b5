"""Operators that move bytes and hardly compute."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS, ELEMENTWISE

_LOGIT_BYTES = 4
#: Numbers of the type, and logits of 32 bits, that each reads and writes for one of its width.
_MOVED: Mapping[str, tuple[int, int]] = {
    "norm": (4, 0),  # hidden state and residual, in and out
    "plain_norm": (2, 0),
    "rope": (2, 0),
    "kv_write": (2, 0),
    "activation": (3, 0),  # both halves in
    "plain_activation": (2, 0),
    "embedding": (2, 0),
    "add": (3, 0),
    "gating": (1, 0),
    "logits_cast": (1, 1),
    "sampling": (0, 1),
}


def _elementwise(operator: str, columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    tokens, width = columns["tokens"], columns["width"]
    numbers, logits = _MOVED[operator]
    traffic = tokens * width * (numbers * roofline.element_bytes + logits * _LOGIT_BYTES)
    return [np.log(tokens), np.log(width), np.log(traffic)], roofline.floor_s + traffic / roofline.memory_bandwidth


ELEMENTWISE_OPERATORS: Mapping[str, Operator] = {
    operator: Operator(
        columns=COLUMNS[operator],
        features=("log_tokens", "log_width", "log_bytes"),
        compute=partial(_elementwise, operator),
    )
    for operator in ELEMENTWISE
}
