"""Collectives among the GPUs of a node."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from estimators.features.roofline import Floats, Operator, Roofline
from estimators.profiles import COLUMNS


def _collective(passes: int, columns: Mapping[str, Floats], roofline: Roofline) -> tuple[list[Floats], Floats]:
    """``passes``: how often a ring sends the message, but for each GPU's own part."""
    gpus = columns["gpus"]
    size = roofline.element_bytes * columns["elements"]
    traffic = passes * (gpus - 1) / gpus * size
    return [np.log(gpus), np.log(size)], roofline.floor_s + traffic / roofline.link_bandwidth


def _operator(operator: str, passes: int) -> Operator:
    return Operator(columns=COLUMNS[operator], features=("log_gpus", "log_bytes"), compute=partial(_collective, passes))


ALL_REDUCE = _operator("all_reduce", 2)
ALL_GATHER = _operator("all_gather", 1)
REDUCE_SCATTER = _operator("reduce_scatter", 1)
ALL_TO_ALL = _operator("all_to_all", 1)
