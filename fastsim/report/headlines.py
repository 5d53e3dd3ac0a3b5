"""Numbers of runs side by side: the headline ones, and tables of all of them with what differs from the first run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.report.quantities import NOTHING, change, significant, written
from fastsim.report.runs import Run
from fastsim.svg import element

_COLUMNS = ("mean", "p50", "p90", "p99")
_LATENCIES = {
    "TTFT": "ttft_s",
    "TPOT": "tpot_s",
    "TBT": "tbt_s",
    "E2E": "e2e_s",
    "Normalised E2E": "e2e_normalized_s",
    "Scheduling delay": "scheduling_delay_s",
}


@dataclass(frozen=True)
class _Number:
    """A number of a summary: its ``path`` of keys, and whether more or less of it is ``better`` (+1, -1, else 0)."""

    label: str
    path: str
    unit: str
    better: int = 0
    headline: bool = False

    def of(self, run: Run) -> float | None:
        """The number of one run; None where it has none."""
        value: Any = run.summary
        for key in self.path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None or isinstance(value, bool) else float(value)


_NUMBERS = (
    _Number("TTFT, p50", "metrics.ttft_s.p50", "s", -1, True),
    _Number("TTFT, p99", "metrics.ttft_s.p99", "s", -1, True),
    _Number("TPOT, p50", "metrics.tpot_s.p50", "s", -1, True),
    _Number("TPOT, p99", "metrics.tpot_s.p99", "s", -1, True),
    _Number("E2E, p50", "metrics.e2e_s.p50", "s", -1, True),
    _Number("Requests per second", "metrics.throughput_requests_per_s", "", 1, True),
    _Number("Output tokens per second", "metrics.throughput_output_tokens_per_s", "", 1, True),
    _Number("Tokens per second", "metrics.throughput_tokens_per_s", "", 1),
    _Number("Objectives met", "slo.attainment", "share", 1, True),
    _Number("Goodput, requests per second", "slo.goodput_requests_per_s", "", 1, True),
    _Number("Cost per million output tokens", "metrics.cost_usd_per_million_output_tokens", "$", -1, True),
    _Number("GPU hours", "metrics.gpu_hours", "h", -1),
    _Number("Energy per million output tokens", "hardware.energy_kwh_per_million_output_tokens", "kWh", -1),
    _Number("FLOPs used of the peak (MFU)", "metrics.mfu", "share", 1, True),
    _Number("Bandwidth used of the peak (MBU), at least", "hardware.mbu", "share", 1),
    _Number("GPUs busy", "metrics.utilization", "share"),
    _Number("Stages waiting for others", "metrics.bubble_fraction", "share", -1),
    _Number("Batch, mean requests", "metrics.batch_size_mean", ""),
    _Number("KV cache used, mean", "metrics.kv_use_mean", "share"),
    _Number("KV cache used, at most", "metrics.kv_use_max", "share", 0, True),
    _Number("Preemptions", "metrics.preemptions", "", -1),
    _Number("Prompt tokens found in the prefix cache", "prefix_cache.hit_rate", "share", 1),
    _Number("Requests", "simulation.requests", ""),
    _Number("Iterations", "simulation.iterations", ""),
    _Number("Simulated time", "simulation.makespan_s", "s"),
    _Number("Simulated in", "simulation.wall_s", "s"),
)


def tiles(runs: Sequence[Run]) -> str:
    """The headline numbers, a tile each."""
    return element("div", [_tile(number, runs) for number in _shown(runs) if number.headline], class_="tiles")


def _shown(runs: Sequence[Run]) -> list[_Number]:
    """The numbers that any run has."""
    return [number for number in _NUMBERS if any(number.of(run) is not None for run in runs)]


def _tile(number: _Number, runs: Sequence[Run]) -> str:
    base = number.of(runs[0])
    rows = []
    for i, run in enumerate(runs):
        value = number.of(run)
        name = [element("span", run.name, class_=f"name run{i}")] if len(runs) > 1 else []
        difference = [_difference(value, base, number.better)] if i > 0 else []
        rows.append(element("dd", [*name, element("b", written(value, number.unit)), *difference]))
    return element("dl", [element("dt", number.label), *rows])


def _difference(value: float | None, base: float | None, better: int) -> str:
    """How far a value is from that of the first run, green or red where one is better."""
    text = change(value, base)
    if not text or value is None or base is None:
        return ""
    judged = better * (value - base) if text != "±0%" else 0
    return " " + element("small", text, class_="better" if judged > 0 else "worse" if judged < 0 else "same")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """A table that scrolls by itself where it is too wide.

    Args:
        head: texts of the columns.
        rows: elements of cells, the first one the head of its row.
        label: what it is, for those who do not see it.
    """
    top = element("tr", [element("th", text, scope="col") for text in head])
    body = [element("tr", row) for row in rows]
    inside = element("table", [element("thead", [top]), element("tbody", body)])
    return element("div", [inside], class_="wide", tabindex="0", role="region", aria_label=label)


def latency_table(runs: Sequence[Run]) -> str:
    """Means and quantiles of every latency, a row for each run."""
    rows = []
    for label, key in _LATENCIES.items():
        base = runs[0].summary["metrics"].get(key, {})
        for i, run in enumerate(runs):
            found = run.summary["metrics"].get(key, {})
            within = run.summary.get("confidence", {}).get("metrics", {}).get(key, {})
            cells = [
                element("td", [_cell(found.get(column), base.get(column), i, within.get(column))])
                for column in _COLUMNS
            ]
            rows.append([*_row_head(label if i == 0 else "", run, i, len(runs)), *cells])
    return table(["Latency", *_run_head(runs), *_COLUMNS], rows, "Latencies")


def _cell(value: float | None, base: float | None, run: int, within: Mapping[str, float] | None) -> str:
    """A latency, its interval if there is one, and how far it is from that of the first run."""
    interval = ""
    if within and value:
        half = (within["high"] - within["low"]) / 2
        interval = " " + element("small", f"± {significant(100 * half / abs(value), 2)}%", class_="same")
    return element("span", written(value, "s")) + interval + (_difference(value, base, -1) if run > 0 else "")


def _run_head(runs: Sequence[Run]) -> list[str]:
    return ["Run"] if len(runs) > 1 else []


def _row_head(label: str, run: Run, number: int, runs: int) -> list[str]:
    """The label of a row, and of several runs whose it is."""
    name = [element("td", [element("span", run.name, class_=f"name run{number}")], class_="run")]
    return [element("th", label, scope="row"), *(name if runs > 1 else [])]


def number_table(runs: Sequence[Run]) -> str:
    """All numbers but latencies, a column for each run."""
    rows = []
    for number in _shown(runs):
        if number.path.split(".")[1] in _LATENCIES.values():
            continue
        base = number.of(runs[0])
        cells = []
        for i, run in enumerate(runs):
            value = number.of(run)
            difference = _difference(value, base, number.better) if i > 0 else ""
            cells.append(element("td", [element("span", written(value, number.unit)) + difference]))
        rows.append([element("th", number.label, scope="row"), *cells])
    return table(["Number", *(run.name for run in runs)], rows, "Numbers")


_OF_REPLICAS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("requests", "requests", lambda value: written(value, "")),
    ("busy", "utilization", lambda value: written(value, "share")),
    ("mean batch", "batch_size_mean", lambda value: written(value, "")),
    ("KV used, mean", "kv_use_mean", lambda value: written(value, "share")),
    ("at most", "kv_use_max", lambda value: written(value, "share")),
    ("preemptions", "preemptions", lambda value: written(value, "")),
)


def replica_table(runs: Sequence[Run]) -> str:
    """What each replica did, of runs that have several; empty where none has."""
    rows = []
    for i, run in enumerate(runs):
        replicas = run.summary["replicas"]
        for number, replica in enumerate(replicas if len(replicas) > 1 else []):
            cells = [
                element("td", shown(replica[key]) if key in replica else NOTHING) for _, key, shown in _OF_REPLICAS
            ]
            rows.append([*_row_head(f"replica {number}", run, i, len(runs)), *cells])
    head = ["Replica", *_run_head(runs), *(label for label, _, _ in _OF_REPLICAS)]
    return table(head, rows, "Replicas") if rows else ""
