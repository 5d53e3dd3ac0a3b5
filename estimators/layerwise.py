"""Iteration tables from a model's layers, measured one by one (``estimators.sources.layerwise``).

An iteration is the sum of its layers, each linear between the measured numbers of tokens or requests. Nothing is
fitted.
Attention is looked up for the chunks and the decodes of a batch together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from estimators.attention_grid import fill_holes, grid_of, resample
from estimators.errors import EstimatorError
from estimators.expert_layout import ExpertLayout
from estimators.joint import JointLayout, SkewLayout
from estimators.layout import FloatArray, IntArray, TableLayout, log_points
from estimators.model_spec import ModelSpec, Stage
from estimators.models import load_model
from estimators.operators import iteration_calls
from estimators.shared_experts import LayerExperts, check_engines
from estimators.sources.all_reduce import AllReduce, Exchange
from estimators.sources.layerwise import LayerwiseProfile, SkewFit, read_layerwise
from estimators.tables import IterationTables

# Of each layer, and the MLP of a dense one.
_LAYER = ("layernorm", "layernorm", "qkv_proj", "rotary_emb", "o_proj")
_MLP = ("gate_up_proj", "act_fn", "down_proj")
#: Fewest rows of a tile of a matrix kernel on tensor cores.
_TILE = 16
# A batch of which all decodes were as long as its longest would take longer, and no shorter one saves more than that
# costs: shares beyond either come of buckets in which both took about the same.
_MOST_ALPHA = 1.0
# One axis of the joint table has 2 points per octave, the factor between measurements or finer.
_JOINT_BITS = 1


def layerwise_tables(
    directory: str | os.PathLike[str],
    model: str | os.PathLike[str] | ModelSpec,
    tp: int = 1,
    *,
    max_tokens: int = 2048,
    max_sequences: int = 256,
    max_kv: int | None = None,
    max_model_len: int = 8192,
    pp: int = 1,
    stage: int = 0,
    all_reduce: AllReduce | None = None,
    data_parallel: int = 1,
    expert_parallel: int = 1,
    exchange: Exchange | None = None,
) -> IterationTables:
    """Tabulate a pipeline stage of a model from a directory of layerwise measurements.

    Args:
        directory: where ``meta.yaml`` is.
        model: a name, the path of a ``config.json``, or a ModelSpec; says how many layers there are.
        tp: GPUs that share every layer; must have been measured.
        max_tokens: most tokens in an iteration.
        max_sequences: most requests in an iteration.
        max_kv: most KV tokens that the decodes of an iteration read together; see ``IterationTables.build``. Not used
            where the profile has a correction for unequal decodes, which also looks up all of them at full length.
        max_model_len: longest request, prompt and output.
        pp: number of pipeline stages; sending from one to the next is left to the caller.
        stage: which of them, 0 to ``pp - 1``.
        all_reduce: of ``tp`` GPUs, which the profile does not hold; needed where ``tp`` is more than 1.
        data_parallel: engines of a replica; those of a model with experts share them, and have a table of their own.
        expert_parallel: 1, or ``tp * data_parallel`` where each of these GPUs has some whole experts; needs the
            measurements of whole experts in ``tp1``. With 1 each has its part of every expert: if that was not measured
            at that degree (``moe.csv``) it takes as long as so large a part of the experts.
        exchange: between these GPUs; needed where engines share experts.

    Raises:
        EstimatorError: naming the argument, or the file and its row, that is wrong.
    """
    spec = model if isinstance(model, ModelSpec) else load_model(model)
    profile = read_layerwise(directory, tp)
    if (all_reduce.gpus if all_reduce else 1) != tp:
        wrong = "needs the time of an all-reduce of as many GPUs, which layerwise profiles do not hold"
        raise EstimatorError("tp", tp, wrong, "give all_reduce, as estimators.sources.all_reduce reads it")
    part = spec.pipeline_stage(pp, stage)
    shared = check_engines(spec, tp, data_parallel, expert_parallel, exchange)
    if profile.skew is not None:
        max_kv = None
    covering = TableLayout.covering(max_tokens, max_sequences, max_kv, max_model_len)
    layout = TableLayout(
        covering.max_tokens, covering.max_sequences, covering.max_kv, covering.max_history, covering.max_tokens
    )
    joint = JointLayout(
        layout.max_chunk, layout.max_history, layout.max_sequences, layout.max_history, *[_JOINT_BITS] * 4
    )
    attention = _Attention(*profile.attention)
    experts = None
    if spec.experts is not None:
        experts = LayerExperts(directory, spec, tp, data_parallel, expert_parallel)
    values = [
        _token_table(profile, spec, part, layout.max_tokens, None if shared else experts),
        _sequence_table(profile, part.last, layout.max_sequences),
        part.layers * attention.decode_table(layout),
        part.layers * attention.prefill_table(layout),
        part.layers * attention.joint_table(joint),
    ]
    if all_reduce is not None:
        for call in iteration_calls(spec, tp, "auto", pp, stage):
            if call.operator == "all_reduce":
                table = values[("tokens", "sequences").index(call.axis)]
                table[1:] += call.count * all_reduce.at(np.arange(1, table.size) * call.shape["elements"])
    skew = None
    if profile.skew is not None:
        skew = SkewLayout(*profile.skew.alpha.shape)
        values.append(_skew_values(profile.skew))
    expert = None
    if shared and experts is not None and exchange is not None:
        expert = ExpertLayout(data_parallel * layout.max_tokens, data_parallel)
        tokens = np.arange(1, expert.size)
        values.append(np.append(0.0, part.layers * (experts.seconds(tokens) + exchange.at(tokens * spec.hidden_size))))
    flat = np.concatenate([table.ravel() for table in values])
    flat.flags.writeable = False
    provenance = {
        "source": "layerwise profile",
        "model": spec.name,
        "tp": tp,
        "stage": part._asdict(),
        "measured": {
            key: str(profile.meta.get(key)) for key in ("hardware", "gpu", "model", "variant", "vllm_version")
        },
        "profiled": _profiled(profile),
        "history_is": "measured",
        "skew": skew is not None,
        "all_reduce": None if all_reduce is None else all_reduce.source,
        "experts": None if experts is None else experts.provenance,
        "exchange": exchange.source if shared and exchange is not None else None,
    }
    return IterationTables(flat, layout, "joint", provenance, joint, skew, expert)


def _token_table(
    profile: LayerwiseProfile, spec: ModelSpec, part: Stage, most: int, experts: LayerExperts | None
) -> FloatArray:
    """Seconds by number of tokens, without attention, and without experts that engines share."""
    tokens = np.arange(1, most + 1)
    names = [*_LAYER, *["qk_norm"] * spec.qk_norm, *(_MLP if spec.experts is None else ())]
    seconds = part.layers * sum((_along(profile.dense, "dense.csv", name, tokens) for name in names), np.zeros(most))
    if experts is not None:
        seconds += part.layers * experts.seconds(tokens)
    if part.first:
        seconds += _along(profile.dense, "dense.csv", "embedding", tokens)
    if part.last:
        seconds += _along(profile.dense, "dense.csv", "final_layernorm", tokens)
    return np.append(0.0, seconds)


def _sequence_table(profile: LayerwiseProfile, last: bool, most: int) -> FloatArray:
    """Seconds by number of requests."""
    seconds = np.zeros(most)
    if last:
        for name in ("lm_head", "sampler"):
            seconds += _along(profile.per_sequence, "per_sequence.csv", name, np.arange(1, most + 1))
    return np.append(0.0, seconds)


def _along(layers: Mapping[str, tuple[IntArray, FloatArray]], file: str, name: str, counts: IntArray) -> FloatArray:
    """Seconds of one layer.

    Kernels cut their rows into tiles, so between what was measured a count takes as long as the tiles that it fills.
    Beyond it the line through the last point and the one at half of it goes on.
    """
    if name not in layers:
        raise EstimatorError(file, None, f"has no rows of {name!r}", "give a profile that holds every layer")
    measured, seconds = layers[name]
    following = measured[np.minimum(np.searchsorted(measured, counts), len(measured) - 1)]
    inside = np.interp(np.minimum(-(-counts // _TILE) * _TILE, following), measured, seconds)
    end, half = measured[-1], measured[-1] / 2
    slope = max(0.0, (seconds[-1] - np.interp(half, measured, seconds)) / (end - half))
    return np.asarray(np.where(counts > end, seconds[-1] + slope * (counts - end), inside))


class _Attention:
    """One layer's attention on the measured grid without holes, and what it becomes on the axes of tables.

    The measured rows are of three kinds: decodes alone, a chunk alone, and both.
    """

    def __init__(self, keys: IntArray, seconds: FloatArray) -> None:
        """Fill the holes of the three grids; ``keys`` are chunk, history, decodes and context."""
        has_chunk, has_decodes = keys[:, 0] > 0, keys[:, 2] > 0
        kinds = {
            "decodes": (~has_chunk & has_decodes, [2, 3]),
            "a chunk": (has_chunk & ~has_decodes, [0, 1]),
            "both": (has_chunk & has_decodes, [0, 1, 2, 3]),
        }
        filled = {}
        for kind, (rows, columns) in kinds.items():
            if not rows.any():
                raise EstimatorError("attention.csv", None, f"has no rows of {kind}", "give a profile that holds them")
            axes, grid = grid_of(keys[rows][:, columns], seconds[rows])
            filled[kind] = axes, fill_holes(axes, grid)
        (self.decodes, self.contexts), self.decode_s = filled["decodes"]
        (self.chunks, self.histories), self.chunk_s = filled["a chunk"]
        self.joint_axes, self.joint_s = filled["both"]

    def decode_table(self, layout: TableLayout) -> FloatArray:
        """Seconds by (decodes, kv points); row 0 is 0."""
        decodes = np.arange(1, layout.max_sequences + 1)
        rows = resample(self.decode_s, self.decodes, decodes, 0)
        points = log_points(layout.kv_points, layout.kv_bits)
        table = np.zeros((layout.max_sequences + 1, layout.kv_points))
        for n, row in zip(decodes, rows, strict=True):
            table[n] = resample(row, self.contexts, points / n, 0)
        return table

    def prefill_table(self, layout: TableLayout) -> FloatArray:
        """Seconds by (history points, chunk points)."""
        histories = log_points(layout.history_points, layout.history_bits)
        chunks = log_points(layout.chunk_points, layout.chunk_bits)
        return self._prefill(chunks, histories).T

    def joint_table(self, layout: JointLayout) -> FloatArray:
        """Seconds by (chunk, history, decodes, context) points."""
        bits = (layout.chunk_bits, layout.history_bits, layout.decode_bits, layout.context_bits)
        chunks, *others = (log_points(count, b) for count, b in zip(layout.shape, bits, strict=True))
        table = self.joint_s
        for number, points in enumerate(others, start=1):
            table = resample(table, self.joint_axes[number], points, number)
        longest = self.joint_axes[0][-1]
        table = resample(table, self.joint_axes[0], np.minimum(chunks, longest), 0)
        more = self._prefill(chunks, others[0]) - self._prefill(np.minimum(chunks, longest), others[0])
        return table + more[:, :, None, None]

    def _prefill(self, chunks: IntArray, histories: IntArray) -> FloatArray:
        """Seconds of a chunk alone, shape (chunks, histories).

        A chunk beyond the longest measured takes as long as so many of that length whose queries see as many keys.
        """
        longest = self.chunks[-1]
        rows = resample(self.chunk_s, self.chunks, np.minimum(chunks, longest), 0)
        table = np.empty((chunks.size, histories.size))
        for k, chunk in enumerate(chunks):
            parts = max(1.0, chunk / longest)
            seen = histories + max(0.0, (chunk - longest) / 2)
            table[k] = parts * resample(rows[k], self.histories, seen, 0)
        return table


def _skew_values(fit: SkewFit) -> FloatArray:
    """Edges and shares as ``SkewLayout`` orders them: chunks, decodes, rates, contexts, histories.

    A chunk that was not measured goes with the nearest, by their ratio; but 0, decodes alone, only with itself.
    """
    some = fit.chunks[fit.chunks > 0].astype(np.float64)
    chunks = np.sqrt(some[:-1] * some[1:])
    if fit.chunks[0] == 0:
        chunks = np.append(0.0, chunks)[: fit.chunks.size - 1]
    return np.concatenate([chunks, *fit.edges, np.clip(fit.alpha, -_MOST_ALPHA, _MOST_ALPHA).ravel()])


def _profiled(profile: LayerwiseProfile) -> dict[str, list[int]]:
    """Ranges of the tables' axes that were measured, as ``estimators.coverage.profiled_axes`` tells them."""

    def span(values: Sequence[int] | IntArray) -> list[int]:
        return [int(min(values)), int(max(values))]

    def shared(layers: Mapping[str, tuple[IntArray, FloatArray]]) -> list[int]:
        ranges: list[Any] = [span(counts) for counts, _ in layers.values()]
        return [max(low for low, _ in ranges), min(high for _, high in ranges)]

    keys, _ = profile.attention
    decodes, context = span(keys[keys[:, 2] > 0][:, 2]), span(keys[keys[:, 2] > 0][:, 3])
    return {
        "tokens": shared(profile.dense),
        "sequences": shared(profile.per_sequence),
        "decodes": decodes,
        "decode_context": context,
        "decode_kv": [decodes[0] * context[0], decodes[1] * context[1]],
        "history": span(keys[keys[:, 0] > 0][:, 1]),
        "chunk": span(keys[keys[:, 0] > 0][:, 0]),
    }
