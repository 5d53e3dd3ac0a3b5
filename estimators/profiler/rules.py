"""How far the rules hold by which tables put an iteration's attention together, on batches that were measured whole.

Tables add up the decodes of a batch and its chunk, each timed alone, and take decodes of unequal contexts for as many
of their mean. Estimators learn equal batches only. Here some mixed and unequal ones are timed in turns with what the
rules make them of, so that neither a forest's error nor a clock that drifts is in between.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from statistics import median

from estimators.profiler.campaign import Measure
from estimators.profiler.points import Kind, Limits, Point
from estimators.profiler.record import Record
from estimators.profiles import runs_per_request

_DECODES, _CHUNK = "decode_attention", "prefill_attention"
_SIZES = (8, 2)  # a batch is this part of the largest
_LENGTHS = (16, 4)  # and a context this part of the longest
_LONGEST = 4  # of a skewed batch, times the mean


@dataclass(frozen=True)
class RuleCheck:
    """Batches of one kind.

    Attributes:
        operator: ``mixed_attention`` or ``skewed_decode_attention``.
        dtype: of the KV cache.
        ratios: measured seconds over those that the rule makes of the parts, sorted.
    """

    operator: str
    dtype: str
    ratios: tuple[float, ...]

    def sentence(self) -> str:
        """The same for a reader."""
        parts = {
            "mixed_attention": ("Decodes and a chunk in one batch", "the two alone"),
            "skewed_decode_attention": ("Decodes of unequal contexts", "as many of their mean"),
        }
        batch, rule = parts[self.operator]
        low, high = self.ratios[0], self.ratios[-1]
        return (
            f"{batch} took {median(self.ratios):.2f} of what tables say, {rule}: median of {len(self.ratios)} "
            f"{self.dtype} batches, {low:.2f} to {high:.2f}."
        )


@dataclass(frozen=True)
class _Rule:
    """A batch, what is added up for it, and calls of which the shorter one's launch is shared."""

    batch: Point
    parts: tuple[Point, ...]
    launches: tuple[Point, ...] = ()

    @property
    def points(self) -> tuple[Point, ...]:
        return (self.batch, *self.parts, *self.launches)

    def ratio(self, record: Record) -> float | None:
        """Measured over composed, None where some point was refused."""
        times = record.times
        if not all(point in times for point in self.points):
            return None
        composed = sum(times[part].seconds for part in self.parts)
        if not runs_per_request([times[self.batch].kernel]):
            composed -= min((times[launch].seconds for launch in self.launches), default=0.0)
        return times[self.batch].seconds / composed


def check_rules(
    record: Record, measure: Measure, grid: Mapping[Kind, Mapping[Point, float]], limits: Limits
) -> list[RuleCheck]:
    """Time batches of the largest heads in the grid, and compare them with their parts. Takes some seconds.

    Args:
        record: where points are kept; those in it are not measured again.
        measure: times points.
        grid: the points of a model; of those without attention over heads nothing is checked.
        limits: how large batches get.

    Returns:
        One entry for each operator and type that could be measured.
    """
    rules = [rule for kind, points in grid.items() if kind[0] == _DECODES for rule in _rules(kind[1], points, limits)]
    needed = dict.fromkeys(point for rule in rules for point in rule.points)
    missing = [point for point in needed if record.is_open(point)]
    if missing:
        began = time.monotonic()
        found = measure(missing)
        record.add(dict(zip(missing, found, strict=True)), time.monotonic() - began)
    checks: dict[Kind, list[float]] = {}
    for rule in rules:
        if (ratio := rule.ratio(record)) is not None:
            checks.setdefault((rule.batch.operator, rule.batch.dtype), []).append(ratio)
    return [RuleCheck(*kind, tuple(sorted(ratios))) for kind, ratios in sorted(checks.items())]


def _rules(dtype: str, points: Mapping[Point, float], limits: Limits) -> list[_Rule]:
    """Batches of the points' largest heads without a window, within what the points reach."""
    full = [point.columns for point in points if not point.columns["window"]]
    if not full:
        return []
    names = ("q_heads", "kv_heads", "head_dim")
    heads = dict(zip(names, max(tuple(columns[name] for name in names) for columns in full), strict=True))
    longest = max(columns["kv"] for columns in full)
    most_kv = max(columns["batch"] * columns["kv"] for columns in full)
    sizes = [(limits.max_num_seqs // part, min(limits.max_tokens, longest) // part) for part in _SIZES]
    rules = []
    for (batch, chunk), kv in product(sizes, [longest // part for part in _LENGTHS]):
        kv = min(kv, most_kv // max(batch, 1))
        if batch < 2 or not 0 < chunk <= longest // 2 or kv < 1:
            continue
        rules += [_mixed(dtype, heads, chunk, history, batch, kv) for history in (0, chunk)]
        if kv > 1:
            rules.append(_skewed(dtype, heads, batch, kv, min(_LONGEST * kv, longest, batch * (kv - 1) + 1)))
    return rules


def _mixed(dtype: str, heads: Mapping[str, int], chunk: int, history: int, decodes: int, kv: int) -> _Rule:
    columns = {"chunk": chunk, "history": history, "decodes": decodes, "kv": kv, **heads}
    return _Rule(
        Point.of("mixed_attention", dtype, columns),
        (_decode(dtype, heads, decodes, kv), _prefill(dtype, heads, chunk, history)),
        (_decode(dtype, heads, 1, 1), _prefill(dtype, heads, 1, 0)),
    )


def _skewed(dtype: str, heads: Mapping[str, int], batch: int, kv: int, longest: int) -> _Rule:
    columns = {"batch": batch, "kv": kv, "longest": longest, **heads}
    return _Rule(Point.of("skewed_decode_attention", dtype, columns), (_decode(dtype, heads, batch, kv),))


def _decode(dtype: str, heads: Mapping[str, int], batch: int, kv: int) -> Point:
    return Point.of(_DECODES, dtype, {"batch": batch, "kv": kv, "window": 0, **heads})


def _prefill(dtype: str, heads: Mapping[str, int], chunk: int, history: int) -> Point:
    return Point.of(_CHUNK, dtype, {"batch": 1, "chunk": chunk, "history": history, "window": 0, **heads})
