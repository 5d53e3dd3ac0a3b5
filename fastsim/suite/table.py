"""The suite and its results as text that fits a wide terminal."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.suite.columns import COLUMNS, written
from fastsim.suite.scenarios import LOAD, MAX_MODEL_LEN, SLO, SUITE_VERSION, Scenario

_NAME = 18
_BRIEF = [column for column in COLUMNS if column.brief]
_WIDTHS = [max(len(column.label), 8) + 2 for column in _BRIEF]
_PILES_UP = "* more requests arrive than it serves: its latencies depend on how long it runs"


def describe(scenarios: Sequence[Scenario], requests: int) -> str:
    """What the scenarios are."""
    slo = f"TTFT <= {SLO['ttft_s']:g} s and TPOT <= {SLO['tpot_s'] * 1e3:g} ms"
    lines = [
        f"suite {SUITE_VERSION}: {len(scenarios)} scenarios named WORKLOAD/MODEL/DEVICE/SCHEDULER",
        "",
        f"Each is run twice with {requests:,} requests: they arrive at random at the rate below, which is {LOAD:.0%}",
        "of what vllm_v1 serves there, and (offline) all are there at the start. Batch policies have their default",
        f"values; one replica, requests of up to {MAX_MODEL_LEN:,} tokens. Goodput counts requests with {slo}.",
        "",
        f"{'workload':10}{'model':20}{'GPUs':14}{'requests/s':>10}  schedulers",
    ]
    for _, group in itertools.groupby(scenarios, lambda scenario: scenario.name.rpartition("/")[0]):
        alike = list(group)
        first = alike[0]
        place = f"{first.deployment.tensor_parallel} x {first.deployment.device}"
        schedulers = " ".join(scenario.scheduler for scenario in alike)
        lines.append(f"{first.workload:10}{first.deployment.name:20}{place:14}{first.qps:10g}  {schedulers}")
    return "\n".join(lines)


def render(document: Mapping[str, Any]) -> str:
    """The results: a table for each workload on each deployment.

    Args:
        document: of a `SuiteResult`.
    """
    suite, simulation = document["suite"], document["simulation"]
    lines: list[str] = []
    for _, group in itertools.groupby(document["rows"], lambda row: row["scenario"].rpartition("/")[0]):
        rows = list(group)
        lines += [heading(rows[0]), _line("", [column.label for column in _BRIEF])]
        for row in rows:
            mark = "*" if row["piles_up"] else ""
            lines.append(_line(row["scheduler"] + mark, [written(row[column.name], column.unit) for column in _BRIEF]))
        lines.append("")
    if any(row["piles_up"] for row in document["rows"]):
        lines += [_PILES_UP, ""]
    lines += [
        f"suite {suite['version']}, {suite['scenarios']} of {suite['of']} scenarios, {suite['requests']:,} requests, "
        f"seed {suite['seed']}: results {document['hash'][:16]}",
        f"in {simulation['wall_s']:.1f} s on {simulation['threads']} thread{'s' if simulation['threads'] > 1 else ''}",
    ]
    return "\n".join(lines)


def heading(row: Mapping[str, Any]) -> str:
    """What the scenarios beside this one have in common."""
    return f"{row['workload']}, {row['model']} on {row['gpus']} {row['device']}, {row['qps']:g} requests/s"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"  {name:{_NAME}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
