"""Which part of a model's tables rests on measurements."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from estimators.devices import DeviceSpec
from estimators.operators import OperatorCall
from estimators.row_tables import Estimators, between_nodes

_MEASURED = Mapping[str, Mapping[str, Mapping[str, Any]]]
#: Columns of fixed shapes and what they are called. What two GPUs exchange for a row is no shape of its own.
_NAMES = {
    "q_heads": "query heads per GPU",
    "kv_heads": "key/value heads per GPU",
    "heads": "heads per GPU",
    "head_dim": "head size",
    "window": "window",
    "width": "numbers per token",
    "n": "n",
    "k": "k",
    "gpus": "GPUs",
    "hidden": "hidden size",
    "inter": "inner width per GPU",
    "topk": "experts per token",
    "experts": "experts",
    "local_experts": "experts per GPU",
    "load": "load",
}
#: Columns that choose the kernel rather than grow: between measured values nobody knows.
_CHOICES = ("head_dim", "hidden", "topk", "experts")
#: Sides of a product: below the least measured it takes no longer than there, which is next to nothing. Routers of few
#: experts are such.
_SIDES = ("n", "k")


def measured_by(estimators: Mapping[str, Estimators], calls: Collection[OperatorCall]) -> _MEASURED:
    """For each dtype, operator and column the measured range; beside them ``"values"``, of columns that have few.

    Of the operators that are called alone: to look at another one is to decode its file.
    """
    measured: dict[str, dict[str, Mapping[str, Any]]] = {}
    for kind, known in estimators.items():
        metadata, called = getattr(known, "metadata", {}), {call.operator for call in calls if call.dtype == kind}
        measured[kind] = {
            operator: {**known.profiled[operator], "values": metadata.get(operator, {}).get("measured_values", {})}
            for operator in sorted(called & set(known.profiled))
        }
    return measured


def profiled_axes(calls: tuple[OperatorCall, ...], measured: _MEASURED) -> dict[str, list[int | float] | None]:
    """Ranges of the tables' axes that the estimators' measurements cover; None where they say nothing.

    Args:
        calls: the model's operators.
        measured: what ``measured_by`` returns.

    Returns:
        [lowest, highest] by axis. What a simulation compares with each:

        * ``tokens``, ``sequences``: tokens and requests of a batch.
        * ``engines``: tokens of all engines that share experts together; None where they share none.
        * ``decodes``: number of decodes in a batch.
        * ``decode_context``: longest context of one decode, tokens.
        * ``decode_kv``: KV tokens that all decodes of a batch read, the total that ``decodes`` and ``decode_context``
          span. Within both of them it is within this, but not the other way round.
        * ``history``, ``chunk``: tokens before a chunk and in it. Where no chunk over a history was measured, one is
          modelled by the measured chunk of as many query tiles and as long a loop over keys, so ``history`` is covered
          as far as the keys read were (``"history_is": "modelled"`` in the provenance).
    """

    def spans(axis: str, columns: tuple[str, ...]) -> list[int | float] | None:
        """What all calls of an axis have measured of one of these columns, in rows."""
        ranges = []
        for call in calls:
            found = measured.get(call.dtype, {}).get(call.operator, {})
            for column in columns:
                if call.axis == axis and column in found:
                    each = call.shape["elements"] if column == "elements" else 1
                    low, high = (np.asarray(found[column]).astype(np.int64)).tolist()
                    ranges.append((-(-low // each), high // each))
        return [max(low for low, _ in ranges), min(high for _, high in ranges)] if ranges else None

    batch, context = spans("decode", ("batch",)), spans("decode", ("kv",))
    chunk, history = spans("prefill", ("chunk",)), spans("prefill", ("history",))
    return {
        "tokens": spans("tokens", ("m", "tokens", "elements")),
        "sequences": spans("sequences", ("m", "tokens")),
        "engines": spans("engines", ("tokens", "elements")),
        "decodes": batch,
        "decode_context": context,
        "decode_kv": [batch[0] * context[0], batch[1] * context[1]] if batch and context else None,
        "history": [0, max(chunk[1] - 1, history[1] if history else 0)] if chunk else None,
        "chunk": chunk,
    }


def measures_history(calls: tuple[OperatorCall, ...], measured: _MEASURED) -> bool:
    """Whether chunks over a history were measured in every kind of attention called; arguments as above."""
    prefills = [measured.get(call.dtype, {}).get(call.operator, {}) for call in calls if call.axis == "prefill"]
    return all(found.get("history", (0, 0))[1] > 0 for found in prefills)


def outside_profiles(calls: tuple[OperatorCall, ...], measured: _MEASURED, device: DeviceSpec) -> list[str]:
    """Return a sentence, without its full stop, for each call whose fixed shape lies outside what was measured.

    The first two arguments are those of ``profiled_axes``. A head size between two that were measured is outside, too.
    """
    sentences = []
    for call in calls:
        if between_nodes(call, device):
            sentences.append(f"{call.name} joins {call.shape['gpus']} GPUs of several nodes, which is modelled")
        elif beyond := outside_shape(call, measured):
            sentences.append(f"{call.name} lies outside the measured shapes: {', '.join(beyond)}")
    return sentences


def outside_shape(call: OperatorCall, measured: _MEASURED) -> list[str]:
    """What of a call's fixed shape was not measured, in words."""
    ranges = measured.get(call.dtype, {}).get(call.operator, {})
    values = ranges.get("values", {})
    beyond = []
    for column, value in call.shape.items():
        if column not in _NAMES or column not in ranges or (column == "window" and value == 0):
            continue
        low, high = ranges[column]
        if column in _SIDES and value < low:
            continue
        if not low <= value <= high:
            beyond.append(f"{_NAMES[column]} {value} ({_range(low, high)})")
        elif column in _CHOICES and values.get(column) and value not in values[column]:
            below = max(other for other in values[column] if other < value)
            above = min(other for other in values[column] if other > value)
            beyond.append(f"{_NAMES[column]} {value} (between the measured {below:.0f} and {above:.0f})")
    return beyond


def _range(low: float, high: float) -> str:
    return f"only {low:.0f} was measured" if low == high else f"measured {low:.0f} to {high:.0f}"
