"""Which part of a model's tables rests on measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from estimators.operators import OperatorCall

_MEASURED = Mapping[str, Mapping[str, Mapping[str, Any]]]
_NAMES = {
    "q_heads": "query heads per GPU",
    "kv_heads": "key/value heads per GPU",
    "head_dim": "head size",
    "n": "n",
    "k": "k",
    "gpus": "GPUs",
}


def profiled_axes(calls: tuple[OperatorCall, ...], measured: _MEASURED) -> dict[str, list[int | float] | None]:
    """Ranges of the tables' axes that the estimators' measurements cover; None where they say nothing.

    Args:
        calls: the model's operators.
        measured: for each dtype, operator and column the [lowest, highest] measured value.

    Returns:
        [lowest, highest] by axis. What a simulation compares with each:

        * ``tokens``, ``sequences``: tokens and requests of a batch.
        * ``decodes``: number of decodes in a batch.
        * ``decode_context``: longest context of one decode, tokens.
        * ``decode_kv``: KV tokens that all decodes of a batch read, the total that ``decodes`` and ``decode_context``
          span. Within both of them it is within this, but not the other way round.
        * ``history``, ``chunk``: tokens before a chunk and in it. No chunk over a history was measured: it is modelled
          by the measured chunk of as many query tiles and as long a loop over keys, so ``history`` is covered as far as
          the keys read were (``"history_is": "modelled"`` in the provenance).
    """

    def span(operator: str, column: str, axis: str = "tokens") -> list[Any] | None:
        calls_of = [call for call in calls if call.operator == operator]
        call = next((call for call in calls_of if call.axis == axis), calls_of[0] if calls_of else None)
        found = None if call is None else measured[call.dtype].get(operator, {}).get(column)
        return None if found is None else list(np.asarray(found).tolist())  # Plain numbers, for the JSON header.

    tokens = span("gemm", "m")
    reduced = span("all_reduce", "elements")
    width = next((call.shape["elements"] for call in calls if call.name == "attention_all_reduce"), None)
    if tokens and reduced and width:
        tokens = [max(tokens[0], -(-reduced[0] // width)), min(tokens[1], reduced[1] // width)]
    batch, context = span("decode_attention", "batch"), span("decode_attention", "kv")
    chunk = span("prefill_attention", "chunk")
    total = [batch[0] * context[0], batch[1] * context[1]] if batch and context else None
    return {
        "tokens": tokens,
        "sequences": span("gemm", "m", "sequences"),
        "decodes": batch,
        "decode_context": context,
        "decode_kv": total,
        "history": [0, chunk[1] - 1] if chunk else None,
        "chunk": chunk,
    }


def outside_profiles(calls: tuple[OperatorCall, ...], measured: _MEASURED) -> list[str]:
    """Return a sentence, without its full stop, for each call whose fixed shape lies outside what was measured.

    The arguments are those of ``profiled_axes``. Only lowest and highest values are known, so a head size
    between two measured ones counts as inside.
    """
    sentences = []
    for call in calls:
        ranges = measured.get(call.dtype, {}).get(call.operator, {})
        beyond = [
            f"{_NAMES[column]} {value} ({_range(*ranges[column])})"
            for column, value in call.shape.items()
            if column in _NAMES and column in ranges and not ranges[column][0] <= value <= ranges[column][1]
        ]
        if beyond:
            sentences.append(f"{call.name} lies outside the measured shapes: {', '.join(beyond)}")
    return sentences


def _range(low: float, high: float) -> str:
    return f"only {low:.0f} was measured" if low == high else f"measured {low:.0f} to {high:.0f}"
