"""The page about a search: what is said in words and tables, and the places that its script fills."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastsim.report.document import WRITTEN_BY, data_for_script, document
from fastsim.report.explorer.findings import mismatch_table, regret_table, sensitivity_table
from fastsim.report.explorer.payload import payload
from fastsim.report.explorer.searches import Search, read_search
from fastsim.report.explorer.words import (
    best_tiles,
    left_out,
    load,
    names_of,
    notes,
    objectives,
    space_table,
    told_tables,
)
from fastsim.searching.cases import free_knobs_of
from fastsim.svg import element

_SCRIPTS = ("state", "axes", "scatter", "parallel", "cards", "probes", "table", "limits", "explorer")
_ORIGIN = (
    f"{WRITTEN_BY} All rates and latencies are simulated: times of iterations are predicted from measured kernels, or "
    "were given; queues, batches and memory follow from the rules of the engine. Prices are assumed list prices unless "
    "the space gives them."
)
_RULE = element(
    "p",
    "Each configuration is shown at the highest rate that the search tried at which it holds the objectives of the "
    "search and meets the limits set here. Hollow: a rate below its capacity, where the next one that was tried does "
    "not meet them; the truth lies between the two. Faint: meets them at no rate that was tried, or is not among the "
    "chosen values.",
    class_="load",
)
#: Title, and measures of the two axes at first.
_SCATTERS = (
    ("Gain against TTFT", ("qps_per_dollar", "ttft_p90_s")),
    ("Gain against TPOT", ("qps_per_dollar", "tpot_p90_s")),
    ("TTFT against TPOT", ("ttft_p90_s", "tpot_p90_s")),
    ("Rate against price", ("capacity_qps", "price_per_hour")),
)


def write_explorer(directory: str, path: Path) -> None:
    """Write the page.

    Args:
        directory: of the search.
        path: of the page.

    Raises:
        ConfigError: the directory cannot be read.
        OSError: the page cannot be written.
    """
    from estimators.files import replace_file

    page = draw_explorer(read_search(directory)).encode()
    replace_file(path, lambda file: file.write(page))


def draw_explorer(search: Search) -> str:
    """The HTML of the page."""
    data, knobs = payload(search), free_knobs_of(search.configurations)
    findings, names = search.about.get("findings") or {}, names_of(search, knobs)
    title = f"Search {search.name}"
    body = [
        element(
            "header",
            [
                element("h1", title),
                element("p", load(search), class_="load"),
                element("p", objectives(search.about), class_="load"),
                best_tiles(search, knobs),
                *_listed(notes(search, data["rows"])),
            ],
        ),
        *(_explored(data) if data["rows"] else []),
        *_section("Sensitivity", sensitivity_table(findings)),
        *_section("Misconfiguration", mismatch_table(findings, names)),
        *_section("One for all", regret_table(findings, names)),
        *_section("Left out", left_out(search, knobs)),
        *_section("Space", space_table(search.about.get("space") or {})),
        *_section("Search", told_tables(search.about)),
        element("footer", _ORIGIN),
        data_for_script(data, id="found"),
    ]
    return document(title, body, ["explorer/explorer.css"], [f"explorer/{name}.js" for name in _SCRIPTS])


def _listed(sentences: Sequence[str]) -> list[str]:
    return [element("ul", [element("li", one) for one in sentences], class_="notes")] if sentences else []


def _section(name: str, content: str, **attributes: object) -> list[str]:
    """A section with its heading; none where there is nothing in it."""
    place = {"id": name.lower().replace(" ", "-")} | attributes
    return [element("section", [element("h2", name), content], **place)] if content else []


def _explored(data: Mapping[str, Any]) -> list[str]:
    """The sections that the script fills, the limits beside all others."""
    without = element("p", "The charts need a browser with JavaScript; the tables below do not.", class_="load")
    columns = {measure["column"] for measure in data["measures"]}
    charts = [_scatter(title, shown) for title, shown in _SCATTERS if columns.issuperset(shown)]
    views = [
        *_section("Fronts", _place("legend", class_="legend") + element("div", charts, class_="charts fronts") + _RULE),
        *_section("Configurations", _place("cards", class_="cards")),
        *_section("Parallel coordinates", _parallel()),
        *_section("Probes", _probes()),
        *_section("Table", _place("all")),
    ]
    beside = element("aside", [element("h2", "Limits"), _place("controls")], id="limits")
    return [
        element("noscript", [without]),
        element("div", [beside, element("div", views, class_="views")], id="explorer"),
    ]


def _parallel() -> str:
    note = "a line for each configuration, through what the space varies and its numbers"
    plot = element("div", [_plot("parallel coordinates", "0 0 1080 370")], class_="wide across")
    caption = element("figcaption", [element("b", "What leads where"), " ", element("span", note)])
    return element("figure", [caption, plot], id="lines-across")


def _place(name: str, **attributes: object) -> str:
    return element("div", "", id=name, **attributes)


def _plot(what: str, box: str) -> str:
    label = f"{what}. Arrow keys go from one configuration to the next, Enter selects it."
    svg = element("svg", viewBox=box, role="img", aria_hidden="true")
    return element("div", [svg], class_="plot", tabindex="0", role="group", aria_label=label)


def _scatter(title: str, shown: tuple[str, str]) -> str:
    content = [element("figcaption", [element("b", title)]), _plot(title, "0 0 520 330")]
    return element("figure", content, class_="scatter", data_y=shown[0], data_x=shown[1])


def _probes() -> str:
    """Charts of two measures over the rates tried, and a table of all."""
    figures = [
        element(
            "figure", [element("figcaption"), element("svg", viewBox="0 0 520 260", aria_hidden="true")], data_y=column
        )
        for column in ("ttft_p90_s", "tpot_p90_s")
    ]
    said = element("p", id="probed", class_="load")
    return said + element("div", figures, class_="charts fronts probed") + _place("probes-table")
