"""Per-operator tables, as the simulator Vidur keeps them: milliseconds of one layer by integer keys."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray
from estimators.tables_of_files import npz_arrays

#: Operators by tokens that every model runs; ``post_attention_layernorm`` is not read for models without that norm.
TOKEN_OPERATORS = (
    "attn_pre_proj",
    "attn_post_proj",
    "attn_rope",
    "attn_kv_cache_save",
    "input_layernorm",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "post_attention_layernorm",
    "add",
)
#: Operators by tokens that only several GPUs run.
NETWORK_OPERATORS = ("all_reduce", "send_recv")
#: Times of the host by requests in the batch, in the order in which Vidur adds them.
CPU_OPERATORS = ("schedule", "sampler_e2e", "prepare_inputs_e2e", "process_model_outputs", "ray_comm_time")
#: Entries of a table, most of which no key names.
_MOST_TIMES = 1 << 27


@dataclass(frozen=True, eq=False)
class OperatorTables:
    """Milliseconds of every operator of one layer on one GPU; NaN, or beyond the end, where there is no entry.

    Attributes:
        token_ms: by operator, float64 (tokens + 1,); names of TOKEN_OPERATORS and NETWORK_OPERATORS.
        decode_ms: attention of decodes, float64 (decodes + 1, mean context / kv_granularity + 1).
        prefill_ms: attention of chunks, float64 (history / kv_granularity + 1, equivalent chunk + 1).
        cpu_ms: by operator, float64 (requests + 1,); all of CPU_OPERATORS, or empty where the host takes no time.
        kv_granularity: tokens of a step of the axes of context and history.
        provenance: where the numbers come from; JSON-able.
    """

    token_ms: Mapping[str, FloatArray]
    decode_ms: FloatArray
    prefill_ms: FloatArray
    cpu_ms: Mapping[str, FloatArray] = field(default_factory=dict)
    kv_granularity: int = 64
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_operators(
        cls,
        operators: Mapping[str, tuple[Any, Any]],
        *,
        kv_granularity: int = 64,
        cpu_overhead: bool = False,
        provenance: Mapping[str, Any] | None = None,
    ) -> OperatorTables:
        """Build tables from Vidur's keys.

        Args:
            operators: for each operator its integer keys, (n, 1) or (n, 2), and float64 milliseconds (n,). Keys:
                (tokens,); ``attn_decode`` (decodes, mean context); ``attn_prefill`` (history, chunk squared); the CPU
                operators (requests,).
            kv_granularity: what contexts and histories are rounded up to.
            cpu_overhead: keep the CPU operators.
            provenance: where the numbers come from.

        Raises:
            EstimatorError: an operator is missing, or a time is not one.
        """
        for name in (*TOKEN_OPERATORS, "attn_decode", "attn_prefill"):
            if name not in operators and name != "post_attention_layernorm":
                raise EstimatorError("operators", sorted(operators), f"lack {name}", "give its keys and milliseconds")
        rows = {name: _rows(name, *table) for name, table in operators.items()}

        def line(name: str) -> FloatArray:
            keys, ms = rows[name]
            return _dense((keys[:, 0],), ms)

        decode_keys, decode_ms = rows["attn_decode"]
        prefill_keys, prefill_ms = rows["attn_prefill"]
        # Keys between the steps are never asked for.
        whole = decode_keys[:, 1] % kv_granularity == 0
        decode = _dense((decode_keys[whole, 0], decode_keys[whole, 1] // kv_granularity), decode_ms[whole])
        chunk = np.rint(np.sqrt(prefill_keys[:, 1])).astype(np.int64)
        whole = (prefill_keys[:, 0] % kv_granularity == 0) & (chunk * chunk == prefill_keys[:, 1])
        prefill = _dense((prefill_keys[whole, 0] // kv_granularity, chunk[whole]), prefill_ms[whole])
        return cls(
            token_ms={name: line(name) for name in (*TOKEN_OPERATORS, *NETWORK_OPERATORS) if name in rows},
            decode_ms=decode,
            prefill_ms=prefill,
            cpu_ms={name: line(name) for name in CPU_OPERATORS if cpu_overhead and name in rows},
            kv_granularity=kv_granularity,
            provenance=dict(provenance or {}),
        )

    @classmethod
    def read_npz(
        cls, path: str | os.PathLike[str], *, kv_granularity: int = 64, cpu_overhead: bool = False
    ) -> OperatorTables:
        """Read an .npz with arrays ``OPERATOR__keys`` and ``OPERATOR__ms``; see ``from_operators``.

        Raises:
            EstimatorError: the file cannot be read or is no such file.
        """
        try:
            arrays = npz_arrays(path)
            names = [name.removesuffix("__ms") for name in arrays if name.endswith("__ms")]
            operators = {name: (arrays[f"{name}__keys"], arrays[f"{name}__ms"]) for name in names}
        except (OSError, ValueError, KeyError) as error:
            mend = "give an .npz with arrays OPERATOR__keys and OPERATOR__ms"
            raise EstimatorError("tables", os.fspath(path), f"cannot be read ({error})", mend) from error
        provenance = {"source": "operator tables", "file": os.path.basename(path)}
        return cls.from_operators(
            operators, kv_granularity=kv_granularity, cpu_overhead=cpu_overhead, provenance=provenance
        )

    @cached_property
    def hash(self) -> str:
        """sha256 of all tables as hexadecimal text; provenance does not count."""
        digest = hashlib.sha256(f"{self.kv_granularity}".encode())
        tables = {"decode": self.decode_ms, "prefill": self.prefill_ms, **self.token_ms, **self.cpu_ms}
        for name in sorted(tables):
            digest.update(f"{name} {tables[name].shape}\n".encode())
            digest.update(np.ascontiguousarray(tables[name]).data)
        return digest.hexdigest()


def _rows(name: str, keys: Any, ms: Any) -> tuple[IntArray, FloatArray]:
    """Checked keys (n, 1 or 2) and milliseconds (n,)."""
    columns = 2 if name in ("attn_decode", "attn_prefill") else 1
    try:
        known, values = np.asarray(keys, dtype=np.int64), np.asarray(ms, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EstimatorError(f"operators: {name}", None, f"are no numbers ({error})", "give integers and ms") from error
    if known.shape != (values.size, columns) or values.ndim != 1 or known.min(initial=0) < 0:
        raise EstimatorError(f"operators: {name}", known.shape, "are no keys", f"give {columns} per time, 0 or more")
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        raise EstimatorError(f"operators: {name}", float(values[bad][0]), "is not a duration", "give 0 ms or more")
    return known, values


def _dense(keys: tuple[IntArray, ...], ms: FloatArray) -> FloatArray:
    """An array that holds each time at its key, and NaN elsewhere."""
    shape = [int(key.max(initial=0)) + 1 for key in keys]
    if math.prod(shape) > _MOST_TIMES:
        raise EstimatorError("operators", shape, f"is a table of more than {_MOST_TIMES:,} times", "give smaller keys")
    table: FloatArray = np.full(shape, np.nan)
    table[keys] = ms
    return table
