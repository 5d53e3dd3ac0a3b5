"""What every family of operators shares: the constants of the roofline, and what an operator is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ACTIVATION_BYTES = 2  # bf16, what operators hand on where weights and KV cache have 16 bits or less


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
        element_bytes: of a weight, or of a key's or value's number.
        operand_bytes: of an activation's number as the matrix units take it.
        per_request: whether attention kernels run for one request after the other, each with a launch of its own and
            without padding to tiles.
    """

    peak_flops: float
    memory_bandwidth: float
    num_sms: int
    link_bandwidth: float
    floor_s: float
    split_kv: bool
    element_bytes: float = ACTIVATION_BYTES
    operand_bytes: float = ACTIVATION_BYTES
    per_request: bool = False

    @property
    def activation_bytes(self) -> float:
        """Of an activation's number as operators hand it on: as matrix units take it, but where they quantise it."""
        return max(ACTIVATION_BYTES, self.operand_bytes)

    def seconds(self, flops: Floats, traffic: Floats) -> Floats:
        """The floor, the arithmetic at peak rate and the bytes at peak bandwidth, one after the other."""
        return self.floor_s + flops / self.peak_flops + traffic / self.memory_bandwidth

    def wave_padding(self, tiles: Floats) -> Floats:
        """How many times as long as on busy multiprocessors ``tiles`` equal tiles take, one on each at a time."""
        waves = tiles / self.num_sms
        return np.asarray(np.ceil(waves) / waves)


@dataclass(frozen=True)
class Operator:
    """An operator: its columns with their least values, its features, and the function that computes them.

    ``compute(columns, roofline)`` takes float64 arrays of equal length and returns the feature arrays, in the order of
    ``features``, and the roofline in seconds. ``modelled`` are columns that features turn into quantities of measured
    points, so that their values need not have been measured.
    """

    columns: Mapping[str, int]
    features: tuple[str, ...]
    compute: Callable[[Mapping[str, Floats], Roofline], tuple[list[Floats], Floats]]
    modelled: tuple[str, ...] = ()
