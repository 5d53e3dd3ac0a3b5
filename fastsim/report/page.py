"""The page about runs: its sections."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastsim.report.charts import draw_lines
from fastsim.report.document import WRITTEN_BY, document
from fastsim.report.headlines import latency_table, number_table, replica_table, tiles
from fastsim.report.latencies import distributions
from fastsim.report.notes import notes
from fastsim.report.over_time import charts_over_time
from fastsim.report.quantities import written
from fastsim.report.runs import Run, read_runs
from fastsim.report.settings import settings
from fastsim.report.shares import objective_bars, operator_bars
from fastsim.svg import element

_ORIGIN = (
    f"{WRITTEN_BY} All times are simulated: those of iterations are predicted from measured "
    "kernels, or were given; queues, batches and memory follow from the rules of the engine. Costs are at an assumed "
    "list price unless the configuration gives one."
)


def write_report(directories: Sequence[str], path: Path) -> None:
    """Write the page.

    Args:
        directories: of the runs, which are held against the first one.
        path: of the page.

    Raises:
        ConfigError: a directory cannot be read.
        OSError: the page cannot be written.
    """
    from estimators.files import replace_file

    page = draw_page(read_runs(directories)).encode()
    replace_file(path, lambda file: file.write(page))


def draw_page(runs: Sequence[Run]) -> str:
    """The HTML of the page."""
    title = _system(runs[0].summary) if len(runs) == 1 else f"{len(runs)} runs side by side"
    sections: Mapping[str, Callable[[], list[str]]] = {
        "Latencies": lambda: [_charts(runs, distributions(runs)), latency_table(runs)],
        "Over time": lambda: [_charts(runs, charts_over_time(runs))],
        "Objectives": lambda: [_grid(objective_bars(runs))],
        "Operators": lambda: [_grid(operator_bars(runs))],
        "Replicas": lambda: [replica_table(runs)],
        "Numbers": lambda: [number_table(runs)],
        "Configuration": lambda: settings(runs),
    }
    drawn = {name: "".join(draw()) for name, draw in sections.items()}
    body = [
        element("header", [element("h1", title), *_legend(runs), tiles(runs), *_notes(runs)]),
        *(
            element("section", [element("h2", name), content], id=name.lower().replace(" ", "-"))
            for name, content in drawn.items()
            if content
        ),
        element("footer", _ORIGIN),
    ]
    return document(title, body, scripts=["page.js"])


def _charts(runs: Sequence[Run], charts: Sequence[Any]) -> str:
    return _grid([draw_lines(chart, [run.name for run in runs]) for chart in charts])


def _grid(figures: Sequence[str]) -> str:
    return element("div", figures, class_="charts") if figures else ""


def _legend(runs: Sequence[Run]) -> list[str]:
    """What each run is, with its colour; of one alone its scheduler and workload."""
    if len(runs) == 1:
        return [element("p", _load(runs[0].summary), class_="load")]
    entries = [
        element("li", [element("b", run.name, class_=f"name run{i}"), " ", element("span", _whole_load(run))])
        for i, run in enumerate(runs)
    ]
    said = f"Differences are from {runs[0].name}."
    return [element("ul", entries, class_="runs"), element("p", said, class_="load")]


def _whole_load(run: Run) -> str:
    return f"{_system(run.summary)}, {_load(run.summary)}"


def _system(summary: Mapping[str, Any]) -> str:
    config = summary["config"]
    gpus = config["tensor_parallel"] * config["pipeline_parallel"] * config["data_parallel"]
    count = config["replicas"]
    return f"{config['model']} on {count} replica{'s' if count > 1 else ''} of {gpus} {config['device']}"


def _load(summary: Mapping[str, Any]) -> str:
    requests, makespan_s = summary["simulation"]["requests"], summary["simulation"]["makespan_s"]
    scheduler = summary["config"]["scheduler"]["name"]
    return f"{scheduler}, {requests:,} request{'s' if requests != 1 else ''} in {written(makespan_s, 's')}"


def _notes(runs: Sequence[Run]) -> list[str]:
    found = notes(runs)
    return [element("ul", [element("li", note) for note in found], class_="notes")] if found else []
