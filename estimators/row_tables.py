"""Tables of one axis, and the time of operators along it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from estimators.devices import LINK_EFFICIENCY, DeviceSpec
from estimators.dtypes import DTYPE_BYTES
from estimators.layout import FloatArray, IntArray, log_index, log_points
from estimators.operators import OperatorCall, bandwidth_seconds
from estimators.profiles import COLLECTIVES

# Tokens are evaluated one by one up to here and for 2 ** _TOKEN_BITS of them per octave beyond, with linear
# interpolation between: below 1 % from a prediction for each, on average, and below 8 % at the worst.
_EXACT_TOKENS = 16384
_TOKEN_BITS = 6


class Estimators(Protocol):
    """Who knows the time of operators on one device in one dtype, such as ``OperatorEstimators``."""

    @property
    def hash(self) -> str:
        """Changes whenever a prediction may change."""

    @property
    def profiled(self) -> Mapping[str, Mapping[str, Any]]:
        """For each operator and column the [lowest, highest] value that was measured."""

    def predict(self, operator: str, columns: dict[str, NDArray[Any]], member: int = 0) -> FloatArray:
        """Return seconds, one per row of ``columns``; those of a member of the ensemble where it is not 0."""


def measured_calls(calls: Iterable[OperatorCall], estimators: Mapping[str, Estimators]) -> tuple[OperatorCall, ...]:
    """The calls, but those that move bytes as the operators that they were measured as, where estimators have these."""

    def known(call: OperatorCall) -> bool:
        return call.dtype in estimators and call.measured_as in estimators[call.dtype].profiled

    return tuple(call.measured() if known(call) else call for call in calls)


class Clock:
    """Tells how long operators take on one device.

    Attributes:
        device: the GPU.
        estimators: by dtype.
        member: 0 for the estimates themselves, else which of the equally likely alternatives.
    """

    def __init__(self, device: DeviceSpec, estimators: Mapping[str, Estimators], member: int = 0) -> None:
        """Keep the arguments."""
        self.device = device
        self.estimators = estimators
        self.member = member

    def metadata(self, call: OperatorCall) -> Mapping[str, Any]:
        """What the estimator behind a call says of itself; nothing where it is of a kind that says nothing."""
        known: Mapping[str, Any] = getattr(self.estimators[call.dtype], "metadata", {}).get(call.operator, {})
        return known

    def predict(self, call: OperatorCall, columns: dict[str, NDArray[Any]]) -> FloatArray:
        """Seconds of one call by the estimators' ``columns``."""
        return self.estimators[call.dtype].predict(call.operator, columns, self.member)

    def rows(self, calls: Sequence[tuple[OperatorCall, IntArray]]) -> list[FloatArray]:
        """Seconds of one of each of the calls by rows, 0 for no rows; one prediction per operator and dtype."""
        seconds: list[FloatArray] = [np.zeros(rows.size) for _, rows in calls]
        asked: dict[tuple[str, str], list[int]] = {}
        for number, (call, rows) in enumerate(calls):
            if call.operator == "bandwidth":
                seconds[number] = bandwidth_seconds(rows * call.shape["bytes"], self.device, call.shape["kernels"])
            elif between_nodes(call, self.device):
                seconds[number] = network_seconds(call, rows, self.device)
            else:
                asked.setdefault((call.operator, call.dtype), []).append(number)
        for (operator, dtype), numbers in asked.items():
            columns = [calls[number][0].columns(np.maximum(calls[number][1], 1)) for number in numbers]
            together = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
            answer = self.estimators[dtype].predict(operator, together, self.member)
            ends = np.cumsum([calls[number][1].size for number in numbers])
            for number, part in zip(numbers, np.split(answer, ends[:-1]), strict=True):
                seconds[number] = part
        return [np.where(rows > 0, part, 0.0) for part, (_, rows) in zip(seconds, calls, strict=True)]


def between_nodes(call: OperatorCall, device: DeviceSpec) -> bool:
    """Whether a collective is one between the GPUs of several nodes, which nobody measured."""
    return call.operator in COLLECTIVES and call.shape["gpus"] > device.gpus_per_node


def network_seconds(call: OperatorCall, rows: IntArray, device: DeviceSpec) -> FloatArray:
    """Seconds of a collective between nodes. MODELLED.

    Rings run over the network cards of all GPUs of a node side by side, so that they are as fast as these together or
    as the links inside, whichever is less; in an all-to-all a GPU sends all but its own node's part over its own card.
    A message to another node and back is added.
    """
    gpus, sent = call.shape["gpus"], rows * (call.shape["elements"] * int(DTYPE_BYTES[call.dtype]))
    card = device.inter_node_bandwidth
    if call.operator == "all_to_all":
        traffic, bandwidth = sent * (1 - device.gpus_per_node / gpus), card
    else:
        traffic = sent * ((gpus - 1) / gpus * (2 if call.operator == "all_reduce" else 1))
        bandwidth = min(device.nvlink_bandwidth, device.gpus_per_node * card)
    return np.asarray(2 * device.inter_node_latency_s + traffic / (LINK_EFFICIENCY * bandwidth))


def token_steps(most: int) -> IntArray:
    """Numbers of tokens that are evaluated, ascending, the largest included."""
    if most <= _EXACT_TOKENS:
        return np.arange(1, most + 1)
    count = int(log_index(most, _TOKEN_BITS)[0]) + 1
    beyond = log_points(count, _TOKEN_BITS)
    steps = np.append(np.arange(1, _EXACT_TOKENS + 1), beyond[beyond > _EXACT_TOKENS])
    return np.union1d(steps, most)


def row_tables(calls: Sequence[OperatorCall], clock: Clock, most: Mapping[str, int]) -> dict[str, FloatArray]:
    """Seconds of all calls by each of some axes.

    Args:
        calls: of an iteration; those of other axes are left out.
        clock: tells how long they take.
        most: the axes and how far each goes; sequences are evaluated one by one.

    Returns:
        By axis an array of shape (most + 1,), which begins with 0.
    """
    steps = {axis: np.arange(1, end + 1) if axis == "sequences" else token_steps(end) for axis, end in most.items()}
    chosen = [(call, steps[call.axis]) for call in calls if call.axis in steps]
    totals = {axis: np.zeros(at.size) for axis, at in steps.items()}
    for (call, _), seconds in zip(chosen, clock.rows(chosen), strict=True):
        totals[call.axis] += call.count * seconds
    return {
        axis: np.append(0.0, np.interp(np.arange(1, end + 1), steps[axis], totals[axis])) for axis, end in most.items()
    }
