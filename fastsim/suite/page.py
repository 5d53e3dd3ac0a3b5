"""The results as one HTML page that loads nothing."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from fastsim.report.document import whole_page
from fastsim.suite.columns import COLUMNS, written
from fastsim.suite.dots import DotChart, draw_dots
from fastsim.suite.scenarios import SCHEDULERS
from fastsim.svg import element
from traces.named import WORKLOADS

_CHARTS = (
    DotChart("TTFT, p99", "less is better; hollow where requests pile up", "ttft_p99_s", "s"),
    DotChart("TPOT, p99", "less is better", "tpot_p99_s", "s"),
    DotChart("TBT, p99", "time between tokens, less is better", "tbt_p99_s", "s"),
    DotChart("Goodput", "of the best in its row, more is better", "goodput_requests_per_s", "", True),
    DotChart("Offline tokens", "per second, of the best in its row", "offline_output_tokens_per_s", "", True),
    DotChart("Cost", "per million output tokens, less is better", "usd_per_million_output_tokens", "$"),
)
_ORIGIN = (
    "All times are simulated: those of iterations are predicted from measured kernels; queues, batches and memory "
    "follow from the rules of each batch policy. Costs are at assumed list prices. This compares batch policies on the "
    "same kernels, with no CPU time around them; it does not compare the engines that they come from."
)


def draw_page(document: Mapping[str, Any]) -> str:
    """The HTML of the page.

    Args:
        document: of a `SuiteResult`.
    """
    suite, rows = document["suite"], document["rows"]
    title = f"fastsim bench, suite {suite['version']}"
    slo = suite["slo"]
    about = (
        f"{suite['scenarios']} of {suite['of']} scenarios, {suite['requests']:,} requests each, seed {suite['seed']}, "
        f"fastsim {document['versions']['fastsim']}; results {document['hash'][:16]}."
    )
    load = (
        f"Requests arrive at {suite['load']:.0%} of the rate that vllm_v1 serves on that deployment, whatever the "
        "batch policy; offline all are there at the start. Goodput counts requests whose TTFT is at most "
        f"{written(slo['ttft_s'], 's')} and TPOT at most {written(slo['tpot_s'], 's')}."
    )
    header = [
        element("h1", title),
        element("p", about, class_="load"),
        element("p", load, class_="load"),
        _legend(rows),
    ]
    body = [
        element("header", header),
        *(_section(workload, rows) for workload in dict.fromkeys(row["workload"] for row in rows)),
        element("section", [element("h2", "All scenarios"), _filter(len(rows)), _table(rows)], id="all"),
        element("footer", _ORIGIN),
    ]
    own = files("fastsim.suite")
    script, style = (own.joinpath(name).read_text("utf-8") for name in ("page.js", "page.css"))
    return whole_page(title, body, script, style)


def _legend(rows: Sequence[Mapping[str, Any]]) -> str:
    there = {row["scheduler"] for row in rows}
    entries = [
        element("li", [element("span", name, class_=f"name run{number}")])
        for number, name in enumerate(SCHEDULERS)
        if name in there
    ]
    return element("ul", entries, class_="schedulers")


def _section(workload: str, rows: Sequence[Mapping[str, Any]]) -> str:
    own = [row for row in rows if row["workload"] == workload]
    charts = [draw_dots(chart, own) for chart in _CHARTS]
    what = element("p", WORKLOADS[workload].what, class_="load")
    return element("section", [element("h2", workload), what, element("div", charts, class_="charts")], id=workload)


def _filter(count: int) -> str:
    field = "<input type='search' placeholder='chat llama a100'>"
    label = element("label", ["Show", field])
    shown = element("span", f"{count} of {count} scenarios", id="shown", role="status", class_="same")
    return element("div", [label, shown], class_="filter")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    labels = ["scenario", "rate, req/s", *(column.label for column in COLUMNS)]
    heads = [element("th", [element("button", label, type="button")], scope="col") for label in labels]
    inside = element("table", [element("thead", [element("tr", heads)]), element("tbody", [_row(row) for row in rows])])
    return element("div", [inside], class_="wide results", tabindex="0", role="region", aria_label="All scenarios")


def _row(row: Mapping[str, Any]) -> str:
    name, mark = row["scenario"], " *" if row["piles_up"] else ""
    cells = [element("th", name + mark, scope="row", data_value=name)]
    cells += [_cell(row["qps"], "")]
    return element("tr", [*cells, *(_cell(row[column.name], column.unit) for column in COLUMNS)])


def _cell(value: float | None, unit: str) -> str:
    return element("td", written(value, unit), data_value="" if value is None else repr(value))
