"""The findings of a search as text that fits a terminal."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastsim.searching.cases import knobs_in_words, short_name, title_of
from fastsim.searching.limits import ATTAINMENT, Limit
from fastsim.searching.texts import METRICS, amount, bar, digits, duration

#: Of more models and workloads than this a line each is said, and the rest is in the files.
IN_FULL = 4
#: So many configurations, values of a knob, and workloads beside each other are named at most.
_TIES, _FRONT, _VALUES, _ACROSS = 3, 8, 6, 6
_WIDTH, _INDENT = 116, 4


def words(found: Mapping[str, Any], with_bars: bool = True) -> str:
    """What a search found, several lines.

    Args:
        found: of `fastsim.searching.findings.describe`.
        with_bars: draw bars, in characters that not every terminal has.
    """
    described = found["cases"]
    lines = _wrapped(f"{METRICS[found['goal']].name} at the highest rate with {_objectives(found['slo'])}", 0)
    if len(described) > IN_FULL:
        lines += _in_short(found)
    else:
        lines += [line for case in described for line in ("", *_in_full(case, found["goal"], with_bars))]
    if found["mismatch"]:
        lines += ["", *_mismatch(found)]
    if found["regret"]:
        lines += ["", *_regret(found)]
    return "\n".join(line.rstrip() for line in lines)


def _objectives(limits: Sequence[Mapping[str, Any]]) -> str:
    """The objectives of a search in words."""
    parts = []
    for limit in (Limit(**one) for one in limits):
        most = limit.metric != ATTAINMENT
        parts.append(f"{limit.name} {'<=' if most else '>='} {duration(limit.limit) if most else f'{limit.limit:.1%}'}")
    return " and ".join(parts)


def _in_short(found: Mapping[str, Any]) -> list[str]:
    """A line or two for each case; one whose best, or what is tied with it, was the best before is still that."""
    lines: list[str] = []
    before: dict[str | None, str] = {}
    for case in found["cases"]:
        best, model = case["best"], case["model"]
        if best is None:
            lines.append(f"  {title_of(case['model'], case['workload'])}: no configuration holds")
            continue
        fine = [best["config_id"], *(one["config_id"] for one in case["ties"])]
        if before.get(model) in fine:
            told = f"still [{before[model]}]"
        else:
            before[model] = best["config_id"]
            told = f"{_name(best)}   [{best['config_id']}]"
        lines += _wrapped(f"{title_of(case['model'], case['workload'])}: {digits(best[found['goal']])}   {told}", 2)
    return lines


def _in_full(case: Mapping[str, Any], goal: str, with_bars: bool) -> Iterator[str]:
    best = case["best"]
    counted = f"{case['compared']:,} of {case['configurations']:,} configurations compared"
    yield f"{title_of(case['model'], case['workload'])}: {counted}"
    if best is None:
        yield "  none of them holds"
        return
    yield from _wrapped(f"best   {_name(best)}   [{best['config_id']}]", 2)
    yield from _wrapped(f"{_values(best)}; held back by {best['binding']}", 9, 9)
    if not best["long_enough"]:
        yield from _wrapped("the workload is too short for this capacity to be that of a longer one", 9, 9)
    yield from _ties(case)
    yield from _front(case, goal, with_bars)
    yield from _knobs(case, with_bars)


def _values(best: Mapping[str, Any]) -> str:
    parts = [f"{amount('capacity_qps', best['capacity_qps'])}"]
    if best.get("qps_per_dollar") is not None:
        parts.append(f"{amount('qps_per_dollar', best['qps_per_dollar'])} requests per dollar")
    parts += [
        f"{METRICS[name].name.removesuffix(' at capacity')} {amount(name, best.get(name))}" for name in _LATENCIES
    ]
    return ", ".join(parts)


_LATENCIES = ("ttft_p90_s", "tpot_p90_s")
_FRONT_GOAL = {"qps_per_dollar": "per dollar", "capacity_qps": "QPS"}
_FRONT_CELLS = 12


def _name(one: Mapping[str, Any]) -> str:
    return knobs_in_words(one["knobs"], list(one["knobs"]))


def _ties(case: Mapping[str, Any]) -> Iterator[str]:
    tied = case["ties"]
    if tied:
        named = "; ".join(_name(one) for one in tied[:_TIES])
        more = f"; and {len(tied) - _TIES:,} more" if len(tied) > _TIES else ""
        yield from _wrapped(f"tied   {named}{more}", 2)


def _front(case: Mapping[str, Any], goal: str, with_bars: bool) -> Iterator[str]:
    """The Pareto front: with fewer points than it has, those spread evenly over it."""
    front = case["pareto"]
    if len(front) < 2:
        return
    shown = front if len(front) <= _FRONT else [front[i * (len(front) - 1) // (_FRONT - 1)] for i in range(_FRONT)]
    yield ""
    of = "" if len(shown) == len(front) else f"{len(shown)} of {len(front):,} points"
    yield f"  {'Pareto front':14}{_FRONT_GOAL[goal]:>12}{'TTFT p90':>11}{'TPOT p90':>11}   {of}"
    for one in shown:
        drawn = bar(one[goal] / front[0][goal], _FRONT_CELLS) if with_bars else ""
        cells = "".join(f"{amount(name, one[name]):>11}" for name in _LATENCIES)
        yield f"    {drawn:12}{digits(one[goal]):>12}{cells}   {_cut(_name(one), _WIDTH - 53)}"


def _knobs(case: Mapping[str, Any], with_bars: bool) -> Iterator[str]:
    """What each knob matters, the largest share first."""
    knobs = case["sensitivity"]
    known = {name: knob for name, knob in knobs.items() if knob["share"] is not None}
    if not known:
        return
    yield ""
    yield f"  {'what matters':20}{'share of the variance':30}best with each value, relative to the best of all"
    for name, knob in sorted(known.items(), key=lambda pair: -pair[1]["share"]):
        values = sorted(knob["values"], key=lambda value: -value["reach"])
        reach = "   ".join(f"{value['value']} {value['reach']:.0%}" for value in values[:_VALUES])
        more = f"   and {len(values) - _VALUES} more" if len(values) > _VALUES else ""
        yield from _wrapped(f"{_share(short_name(name), knob['share'], with_bars)}{reach}{more}", 4, 52)
    together = max(0.0, 1 - sum(knob["share"] for knob in known.values()))
    if len(known) > 1:
        yield f"    {_share('together', together, with_bars)}what only combinations explain"


def _share(name: str, share: float, with_bars: bool) -> str:
    return f"{_cut(name, 17):18}{share:6.1%} {bar(share) if with_bars else '':22} "


def _mismatch(found: Mapping[str, Any]) -> Iterator[str]:
    """For each model a table: a row for each workload's best, a column for each workload that it serves."""
    yield "cost of each workload with what is the best for another, relative to its own best"
    for model, rows in _by_model(found["mismatch"]).items():
        columns = list(dict.fromkeys(row["run_on"] for row in rows))
        if len(columns) > _ACROSS:
            yield from _wrapped(_worst(model, rows), 2)
            continue
        factors = {(row["best_on"], row["run_on"]): _factor(row) for row in rows}
        yield f"  {_cut(model or 'best for', 30):32}" + "".join(f"{_cut(f'on {name}', 13):>14}" for name in columns)
        for chosen in columns:
            yield f"    {_cut(chosen, 28):30}" + "".join(f"{factors[chosen, name]:>14}" for name in columns)
    if any("(" in _factor(row) for row in found["mismatch"]):
        yield "  (in brackets: with another that is tied with the best)"


def _factor(row: Mapping[str, Any]) -> str:
    """The cost with the best of another workload, and, where it is less, with one that is tied with it."""
    factor, least = ("fails" if row[name] is None else f"{row[name]:.2f}" for name in ("factor", "least_factor"))
    return factor if factor == least else f"{factor} ({least})"


def _worst(model: str | None, rows: Sequence[Mapping[str, Any]]) -> str:
    """The largest factor in words, of workloads too many for a table."""
    failing = sum(row["factor"] is None for row in rows)
    worst = max(rows, key=lambda row: row["factor"] or 0.0)
    words = f"{worst['factor']:.2f} at most: {worst['run_on']} with the best for {worst['best_on']}"
    told = f"{model}: " if model else ""
    return f"{told}{words}" + (
        f"; {failing:,} pairs of workloads have no such cost, as nothing holds" if failing else ""
    )


def _regret(found: Mapping[str, Any]) -> Iterator[str]:
    """For each model the configuration that is best kept through all workloads."""
    yield "one configuration for all workloads, with as many requests each, above changing to the best on each"
    for model, rows in _by_model(found["regret"]).items():
        kept = rows[0]
        told = f"{model}: " if model else ""
        worst = f"at most {kept['worst_factor'] - 1:.1%}, on {kept['worst_on']}"
        yield from _wrapped(f"{told}[{kept['config_id']}] costs {kept['regret']:.1%} more; {worst}", 2)


def _by_model(rows: Sequence[Mapping[str, Any]]) -> dict[str | None, list[Mapping[str, Any]]]:
    found: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return found


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "~"


def _wrapped(text: str, indent: int, further: int | None = None) -> list[str]:
    """A text in lines that fit, those behind the first further in."""
    later = indent + 7 if further is None else further
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * later,
        drop_whitespace=True,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
