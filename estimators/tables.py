"""Iteration times as dense arrays that a simulator can read in a few nanoseconds.

Seconds of one iteration = ((token[n_tokens] + sequence[n_sequences]) + decode(n_decode, kv)) + prefill(chunks), where

* ``n_tokens`` counts all tokens of the batch and ``n_sequences`` all its requests,
* ``decode(n, kv)`` is for ``n`` decodes that read ``kv`` tokens in total, 0 when there is none,
* ``prefill`` depends on the rule: ``"sum"`` adds P(history, chunk) over the chunks in batch order, starting from 0.0;
  ``"equivalent_chunk"`` is one P(sum of histories, rint(sqrt(sum of chunk squared))), the rule of Vidur's paper;
  ``"joint"`` is one chunk for all (``estimators.joint.one_chunk``): P(history, chunk) where nobody decodes, and else
  ``decode`` is 0 and ``prefill`` is J(chunk, history, n, mean), the attention of both together (``JointLayout``), with
  mean = (2 kv + n) // (2 n).

Tables of that rule may correct ``decode`` and J for decodes of unequal length (``SkewLayout``).

Where several engines share the experts of a model (``ExpertLayout``), all this is the part of one engine without its
experts, and their time is a table by the tokens of all engines together.

The axes of tokens, sequences and decodes have a step for every number. The axes of KV, history and chunk are log axes:
exact up to ``2**(bits + 1)``, then ``2**bits`` steps per octave with linear interpolation.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from estimators.errors import EstimatorError
from estimators.expert_layout import ExpertLayout
from estimators.joint import TABLE_RULES, JointLayout, SkewLayout, TableRule, one_chunk, skewed
from estimators.layout import FloatArray, PrefillRule, TableLayout, check_prefill_rule, log_index

if TYPE_CHECKING:
    from estimators.devices import DeviceSpec
    from estimators.model_spec import ModelSpec
    from estimators.row_tables import Estimators

__all__ = ["IterationTables", "PrefillRule", "TableLayout"]


@dataclass(frozen=True, eq=False)
class IterationTables:
    """The tables of one model, or of one pipeline stage of it, on one device, as one flat array.

    Attributes:
        values: seconds, float64, shape (layout.size,), C-contiguous, possibly read-only or memory-mapped. In this
            order: token, sequence, decode (decodes x kv points), prefill (history points x chunk points), and the
            parts of ``joint``, ``skew`` and ``expert`` if there are any.
        layout: sizes and offsets of the first four.
        prefill_rule: ``"sum"`` (a variable-length attention kernel does the work of its chunks one after another; fits
            FlashAttention as vLLM and SGLang call it, as long as chunks are long enough to fill the GPU) or
            ``"equivalent_chunk"`` (the paper's rule; for comparison with Vidur, whose engines it was made for) or
            ``"joint"`` (attention was measured for chunks and decodes together).
        provenance: where the numbers come from; JSON-able.
        joint: layout of the table of chunks and decodes together; given with the rule ``"joint"`` and with no other.
        skew: layout of the correction for decodes of unequal length, if there is one; only with ``joint``.
        expert: layout of the table of experts that several engines share, if they do.
    """

    values: FloatArray
    layout: TableLayout
    prefill_rule: TableRule = "sum"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    joint: JointLayout | None = None
    skew: SkewLayout | None = None
    expert: ExpertLayout | None = None

    def __post_init__(self) -> None:
        """Check rule, shape and values."""
        if self.prefill_rule not in TABLE_RULES:
            raise EstimatorError(
                "prefill_rule", self.prefill_rule, "is not known", f"choose {' or '.join(TABLE_RULES)}"
            )
        if (self.prefill_rule == "joint") != (self.joint is not None) or (self.skew is not None and self.joint is None):
            wrong = "does not go with the optional parts of the tables"
            raise EstimatorError("prefill_rule", self.prefill_rule, wrong, 'give joint with the rule "joint" alone')
        values = self.values
        if values.dtype != np.float64 or values.shape != (self.size,) or not values.flags.c_contiguous:
            shape = f"{values.dtype} {values.shape}"
            mend = f"give {self.size} float64 in a row"
            raise EstimatorError("values", shape, "do not fit the layout", mend)
        if not np.isfinite(self.skew_values).all():
            raise EstimatorError("skew", None, "holds values that are not finite", "give finite numbers")
        if self.expert is not None and self.expert.max_tokens < self.expert.engines * self.layout.max_tokens:
            wrong = f"is less than what {self.expert.engines} engines have together"
            mend = f"give {self.expert.engines * self.layout.max_tokens} or more"
            raise EstimatorError("expert.max_tokens", self.expert.max_tokens, wrong, mend)
        for name in ("token_s", "sequence_s", "decode_s", "prefill_s", "joint_s", "expert_s"):
            table = getattr(self, name)
            # A NaN fails both comparisons.
            if table.size and not (table.min() >= 0.0 and table.max() < math.inf):
                bad = table[~(np.isfinite(table) & (table >= 0.0))]
                mend = "give finite seconds of 0 or more"
                raise EstimatorError(name, float(bad[0]), "is among the values and is not a duration", mend)

    @classmethod
    def from_arrays(
        cls,
        *,
        token_s: ArrayLike,
        sequence_s: ArrayLike,
        decode_s: ArrayLike,
        prefill_s: ArrayLike,
        max_kv: int,
        max_history: int,
        max_chunk: int,
        kv_bits: int = 4,
        history_bits: int = 4,
        chunk_bits: int = 5,
        prefill_rule: PrefillRule = "sum",
        provenance: Mapping[str, Any] | None = None,
    ) -> IterationTables:
        """Build tables from arrays of seconds.

        Args:
            token_s: shape (max_tokens + 1,), by number of tokens.
            sequence_s: shape (max_sequences + 1,), by number of requests.
            decode_s: shape (max_sequences + 1, kv points). The row of no decode is never read.
            prefill_s: shape (history points, chunk points). The column of chunk 0 is never read.
            max_kv: largest total that the KV axis serves; the axis has ``TableLayout.kv_points`` points.
            max_history: largest history served.
            max_chunk: longest chunk served.
            kv_bits: log2 of the steps per octave on the KV axis.
            history_bits: the same for histories.
            chunk_bits: the same for chunks.
            prefill_rule: ``"sum"`` or ``"equivalent_chunk"``.
            provenance: where the numbers come from; JSON-able.

        Raises:
            EstimatorError: naming the argument whose shape or values are wrong.
        """
        given = {"token_s": token_s, "sequence_s": sequence_s, "decode_s": decode_s, "prefill_s": prefill_s}
        arrays = {name: _as_floats(name, value) for name, value in given.items()}
        for name in ("token_s", "sequence_s"):
            if arrays[name].ndim != 1 or arrays[name].size < 2:
                raise EstimatorError(name, arrays[name].shape, "is not the shape of a row", "give 2 seconds or more")
        layout = TableLayout(
            arrays["token_s"].size - 1,
            arrays["sequence_s"].size - 1,
            max_kv,
            max_history,
            max_chunk,
            kv_bits,
            history_bits,
            chunk_bits,
        )
        shapes = {
            "decode_s": (layout.max_sequences + 1, layout.kv_points),
            "prefill_s": (layout.history_points, layout.chunk_points),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise EstimatorError(name, arrays[name].shape, "is not the shape that its axes need", f"give {shape}")
        values = np.concatenate([array.ravel() for array in arrays.values()])
        values.flags.writeable = False
        return cls(values, layout, prefill_rule, dict(provenance or {}))

    @classmethod
    def build(
        cls,
        model: str | os.PathLike[str] | ModelSpec,
        device: str | DeviceSpec,
        tp: int = 1,
        dtype: str = "bf16",
        *,
        kv_dtype: str = "auto",
        max_tokens: int = 2048,
        max_sequences: int = 256,
        max_kv: int | None = None,
        max_model_len: int = 8192,
        prefill_rule: PrefillRule = "sum",
        cache: bool = True,
        estimators: Estimators | None = None,
        pp: int = 1,
        stage: int = 0,
        data_parallel: int = 1,
        expert_parallel: int = 1,
        expert_load: str = "power_law_1.2",
        expert_exchange: str = "all_gather",
        member: int = 0,
    ) -> IterationTables:
        """Tabulate a pipeline stage of a model on a device, or load the tables from the cache.

        The limits default to those of fastsim's default configuration.

        Args:
            model: a name, the path of a ``config.json``, or a ModelSpec.
            device: a name, the directory of a profile, or a DeviceSpec.
            tp: GPUs that share every layer.
            dtype: of the weights of the layers; activations, embedding and LM head are alike, or bf16 where those are
                quantised. ``"auto"`` is the type of the checkpoint.
            kv_dtype: of the KV cache; ``"auto"`` is what the checkpoint asks for, else the type of the activations.
            max_tokens: most tokens in an iteration; evaluated one by one to 16384, then 64 per octave, with linear
                interpolation.
            max_sequences: most requests in an iteration.
            max_kv: most KV tokens that the decodes of an iteration read together, such as the tokens that the KV
                blocks hold; ``max_sequences * max_model_len``, beyond which nothing can read, when None.
            max_model_len: longest request, prompt and output.
            prefill_rule: ``"sum"`` or ``"equivalent_chunk"``.
            cache: look under ``$XDG_CACHE_HOME/fastsim/tables`` first and keep the tables there.
            estimators: who knows the time of operators; the shipped ones for ``device`` and ``dtype`` when None.
            pp: number of pipeline stages; sending from one to the next is left to the caller.
            stage: which of them, 0 to ``pp - 1``.
            data_parallel: engines of ``tp`` GPUs each. Those of a model with experts share them, and have a table of
                the experts' time of their own (``expert``).
            expert_parallel: GPUs that have some whole experts each, ``tp * data_parallel``; 1 where each has a part of
                every expert.
            expert_load: how unevenly tokens are routed to experts, ``"balanced"``, ``"power_law_1.01"`` or
                ``"power_law_1.2"``, as it was measured.
            expert_exchange: how tokens come to the experts of other engines, ``"all_gather"`` (and back by a
                reduce-scatter, as vLLM does if not told otherwise) or ``"all_to_all"``.
            member: 0 for the estimates, 1 and more for equally likely alternatives that the estimators' errors allow.

        Raises:
            EstimatorError: naming the argument that is wrong.
        """
        from estimators.build import Deployment, build_tables
        from estimators.models import ModelSpec, load_model

        check_prefill_rule(prefill_rule)
        layout = TableLayout.covering(max_tokens, max_sequences, max_kv, max_model_len, prefill_rule)
        spec = model if isinstance(model, ModelSpec) else load_model(model)
        deployment = Deployment(
            tp, dtype, kv_dtype, pp, stage, data_parallel, expert_parallel, expert_load, expert_exchange
        )
        return build_tables(spec, device, deployment, layout, prefill_rule, cache, estimators, member)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``PATH.npy`` (the flat array) and ``PATH.json`` (what it is), each atomically."""
        from estimators.cache import save_tables

        save_tables(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> IterationTables:
        """Read what ``save`` wrote; the values are memory-mapped and checked against their SHA-256.

        Raises:
            EstimatorError: when a file is missing, damaged, or does not belong to the other.
        """
        from estimators.cache import load_tables

        return load_tables(path)

    @property
    def token_s(self) -> FloatArray:
        """Seconds by number of tokens, shape (max_tokens + 1,)."""
        return self.values[: self.layout.sequence_offset]

    @property
    def sequence_s(self) -> FloatArray:
        """Seconds by number of requests, shape (max_sequences + 1,)."""
        return self.values[self.layout.sequence_offset : self.layout.decode_offset]

    @property
    def decode_s(self) -> FloatArray:
        """Seconds of decode attention, shape (max_sequences + 1, kv points)."""
        flat = self.values[self.layout.decode_offset : self.layout.prefill_offset]
        return flat.reshape(self.layout.max_sequences + 1, self.layout.kv_points)

    @property
    def prefill_s(self) -> FloatArray:
        """Seconds of prefill attention, shape (history points, chunk points)."""
        flat = self.values[self.layout.prefill_offset : self.layout.size]
        return flat.reshape(self.layout.history_points, self.layout.chunk_points)

    @property
    def joint_s(self) -> FloatArray:
        """Seconds of attention of a chunk and decodes together, shape ``joint.shape``; empty without them."""
        if self.joint is None:
            return self.values[:0]
        return self.values[self.layout.size : self.layout.size + self.joint.size].reshape(self.joint.shape)

    @property
    def skew_values(self) -> FloatArray:
        """Edges and alphas of the correction for decodes of unequal length, shape (skew.size,); empty without one."""
        begin = self.layout.size + (self.joint.size if self.joint else 0)
        return self.values[begin : begin + (self.skew.size if self.skew else 0)]

    @property
    def expert_s(self) -> FloatArray:
        """Seconds of the experts by the tokens of all engines, shape (expert.size,); empty where they share none."""
        return self.values[self.size - (self.expert.size if self.expert else 0) :]

    @property
    def size(self) -> int:
        """Number of values."""
        return self.layout.size + sum(part.size for part in (self.joint, self.skew, self.expert) if part is not None)

    @cached_property
    def values_sha256(self) -> str:
        """SHA-256 of the flat array, hex."""
        return hashlib.sha256(self.values.data).hexdigest()

    @property
    def hash(self) -> str:
        """SHA-256 of values, layout and rule, hex: equal hashes mean equal simulations."""
        parts = [self.values_sha256, asdict(self.layout), self.prefill_rule]
        parts += [asdict(part) for part in (self.joint, self.skew, self.expert) if part is not None]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def decode_time_s(self, n_decode: ArrayLike, kv: ArrayLike) -> FloatArray:
        """Look up decode attention, seconds.

        Args:
            n_decode: decodes, integers 0 to max_sequences.
            kv: tokens they read in total, integers 0 to max_kv; broadcast against ``n_decode``.
        """
        row = _in_range("n_decode", n_decode, self.layout.max_sequences)
        column, weight = log_index(_in_range("kv", kv, self.layout.max_kv), self.layout.kv_bits)
        low, high = self.decode_s[row, column], self.decode_s[row, column + 1]
        return np.where(row == 0, 0.0, low + (high - low) * weight)

    def prefill_time_s(self, history: ArrayLike, chunk: ArrayLike) -> FloatArray:
        """Look up prefill attention of single chunks, seconds.

        Args:
            history: tokens before the chunk, integers 0 to max_history.
            chunk: length of the chunk, integers 1 to max_chunk; broadcast against ``history``.
        """
        row, row_weight = log_index(_in_range("history", history, self.layout.max_history), self.layout.history_bits)
        column, weight = log_index(_in_range("chunk", chunk, self.layout.max_chunk, 1), self.layout.chunk_bits)
        table = self.prefill_s
        below = table[row, column] + (table[row, column + 1] - table[row, column]) * weight
        above = table[row + 1, column] + (table[row + 1, column + 1] - table[row + 1, column]) * weight
        return np.asarray(below + (above - below) * row_weight)

    def iteration_time_s(
        self,
        n_tokens: int,
        n_sequences: int,
        n_decode: int = 0,
        kv: int = 0,
        chunks: Iterable[tuple[int, int]] = (),
        contexts: tuple[int, int] = (0, 0),
    ) -> float:
        """Return the seconds of one iteration, added up in the order that the module's docstring states.

        Args:
            n_tokens: all tokens of the batch: one per decode and the chunks.
            n_sequences: all requests of the batch.
            n_decode: decodes among them.
            kv: tokens that the decodes read in total.
            chunks: (history, chunk) of the others, in batch order.
            contexts: shortest and longest context of a decode, for tables with a correction of their inequality; equal
                where that is left out.

        Raises:
            EstimatorError: when an argument lies outside the tables.
        """
        token = self.token_s[_in_range("n_tokens", n_tokens, self.layout.max_tokens)]
        sequence = self.sequence_s[_in_range("n_sequences", n_sequences, self.layout.max_sequences)]
        if self.joint is None:
            return float(((token + sequence) + self.decode_time_s(n_decode, kv)) + self._prefill(list(chunks)))
        return float((token + sequence) + self._joint(list(chunks), n_decode, kv, contexts))

    def expert_time_s(self, n_tokens: ArrayLike) -> FloatArray:
        """Look up the experts that several engines share, seconds.

        Args:
            n_tokens: tokens of all engines together, integers 0 to expert.max_tokens.
        """
        return np.asarray(self.expert_s[_in_range("n_tokens", n_tokens, self.expert.max_tokens if self.expert else -1)])

    def _joint(self, chunks: list[tuple[int, int]], decodes: int, kv: int, contexts: tuple[int, int]) -> float:
        """Attention under the rule ``"joint"``."""
        history, chunk = one_chunk(chunks) if chunks else (0, 0)
        if decodes == 0:
            return float(self.prefill_time_s(history, chunk)) if chunk else 0.0

        def at(total: int, each: int) -> float:
            if not chunk:
                return float(self.decode_time_s(decodes, total))
            assert self.joint is not None
            place = (("chunk", chunk), ("history", history), ("decodes", decodes), ("context", each))
            for name, value in place:
                _in_range(name, value, getattr(self.joint, f"max_{name}"))
            return self.joint.lookup(self.joint_s, *(value for _, value in place))

        mean_s = at(kv, (2 * kv + decodes) // (2 * decodes))
        shortest, longest = contexts
        if self.skew is None or shortest == longest:
            return mean_s
        rate = (kv - decodes * shortest) / (decodes * (longest - shortest))
        alpha = self.skew.alpha(self.skew_values, (chunk, decodes, rate, longest, history))
        return skewed(mean_s, at(decodes * longest, longest), alpha)

    def _prefill(self, chunks: list[tuple[int, int]]) -> float:
        if chunks and self.prefill_rule == "equivalent_chunk":
            history = sum(history for history, _ in chunks)
            chunks = [(history, round(math.sqrt(float(sum(chunk * chunk for _, chunk in chunks)))))]
        total = 0.0
        for history, chunk in chunks:
            total += float(self.prefill_time_s(history, chunk))
        return total


def _as_floats(name: str, value: ArrayLike) -> FloatArray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EstimatorError(name, type(value).__name__, "is not an array of numbers", "give seconds") from error


def _in_range(name: str, value: ArrayLike, most: int, least: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.integer):
        raise EstimatorError(name, value, "is not an integer", "give integers")
    if array.size and (array.min() < least or array.max() > most):
        bad = array[(array < least) | (array > most)].ravel()[0]
        wrong = f"is outside the tables, which reach from {least} to {most}"
        raise EstimatorError(name, int(bad), wrong, "build larger ones")
    return array.astype(np.int64)
