"""Bars: where the time of the GPUs went, and which part of the requests met their objectives."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.charts import Bar, draw_bars
from fastsim.report.quantities import significant, written
from fastsim.report.runs import Run

#: Operators below this share in every run are drawn as one.
_SMALL = 0.005
_OBJECTIVES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "worst_tbt_s": "worst TBT", "e2e_s": "E2E"}


def operator_bars(runs: Sequence[Run]) -> list[str]:
    """A figure for each pipeline stage that any run has operators of, the largest ones of the first run on top."""
    stages = [run.summary.get("operators", []) for run in runs]
    figures, most = [], max(map(len, stages))
    for stage in range(most):
        found = {i: _gathered(of_run[stage], stages, stage) for i, of_run in enumerate(stages) if stage < len(of_run)}
        names = dict.fromkeys(name for operators in found.values() for name in operators)
        first = next(iter(found.values()))
        order = sorted(names, key=lambda name: (name == "others", -first.get(name, {}).get("share", 0.0)))
        rows = [
            (
                name.replace("_", " "),
                [_operator(i, operators[name]) for i, operators in found.items() if name in operators],
            )
            for name in order
        ]
        title = "Operators" if most == 1 else f"Operators of stage {stage}"
        widest = max(bar.share for _, bars in rows for bar in bars) or 1.0
        figures.append(draw_bars(title, "part of the busy time, and time", rows, [run.name for run in runs], widest))
    return figures


def _gathered(
    operators: Mapping[str, Mapping[str, float]], stages: Sequence[Sequence[Mapping[str, Any]]], stage: int
) -> dict[str, Mapping[str, float]]:
    """The operators of one run, those that are small in every run as one."""
    large = {
        name
        for of_run in stages
        if stage < len(of_run)
        for name, operator in of_run[stage].items()
        if operator["share"] >= _SMALL
    }
    small = [operator for name, operator in operators.items() if name not in large]
    shown = {name: operator for name, operator in operators.items() if name in large}
    others = {key: sum(operator[key] for operator in small) for key in ("seconds", "share")}
    return shown | ({"others": others} if small else {})


def _operator(run: int, operator: Mapping[str, float]) -> Bar:
    return Bar(run, operator["share"], f"{operator['share']:.1%}, {written(operator['seconds'], 's')}")


def objective_bars(runs: Sequence[Run]) -> list[str]:
    """A figure of which part of the requests met which objectives, of each class; none if no run has objectives."""
    rows: dict[str, list[Bar]] = {}
    for i, run in enumerate(runs):
        slo = run.summary.get("slo", {})
        if slo:
            rows.setdefault("all objectives", []).append(_met(i, slo["attainment"], slo.get("requests")))
        for number, described in slo.get("classes", {}).items():
            several = len(slo["classes"]) > 1
            of = f"{described.get('name', f'class {number}')}: " if several else ""
            if several:
                rows.setdefault(f"{of}all", []).append(_met(i, described["attainment"], described.get("requests")))
            for name, objective in described.get("objectives", {}).items():
                label = f"{of}{_OBJECTIVES.get(name, name)} ≤ {written(objective['limit_s'], 's')}"
                rows.setdefault(label, []).append(_met(i, objective["attainment"], None))
    if not rows:
        return []
    note, names = "part of the requests that meet them", [run.name for run in runs]
    return [draw_bars("Objectives", note, list(rows.items()), names, 1.0)]


def _met(run: int, attainment: float, requests: int | None) -> Bar:
    count = "" if requests is None else f" of {significant(requests, 9)}"
    return Bar(run, attainment, f"{significant(100 * attainment)}%{count}")
