"""The page docs/record.md, made of a record."""

from collections.abc import Mapping, Sequence
from typing import Any

from common import STANDARD_WORK, Row
from registry import BENCHES, NOT_RECORDED

_HEAD = """# The record

Figures that these pages claim, from one run of `python -m bench all --json`, whose output is
[record.json](record.json); `python -m bench table docs/record.json` makes this page of it. `DIR` is a folder of data of
others: `golden` has runs of the real Vidur, `data` measured runs, traces and profiles.
"""
_README_BEGIN, _README_END = "<!-- record: the standard work -->", "<!-- record: end -->"
_README_COLUMNS = ("1 replica", "64 replicas", "1 replica of 4 stages", "iterations per request")
_NOT = """## What is not in the record

These figures are in the page named, with the machine that they were measured on; so are the parts of a call and its
instructions ([kernel.md](kernel.md)), two runs of the command line ([scale.md](scale.md)), and what others measured of
their simulators ([peers.md](peers.md)).

| bench | page | why not |
|---|---|---|
"""


def page_of(record: Mapping[str, Any]) -> str:
    """The text of the page.

    Raises:
        KeyError: it is no record.
    """
    parts = [_HEAD, _machine(record)]
    for bench in BENCHES:
        rows = [row for row in record["rows"] if row["bench"] == bench.name]
        reasons = {**record["skipped"], **record["failed"]}
        told = f"`{rows[0]['command']}`" if rows else f"Not told: {reasons.get(bench.name, 'not run for this record')}"
        # A heading even so, as other pages link to it.
        parts.append(f"## {bench.title}\n\n{told}; see [{bench.page}]({bench.page}).\n")
        matters = dict.fromkeys(row["what"] for row in rows)
        parts += [_table(what, [row for row in rows if row["what"] == what]) for what in matters]
    parts.append(
        _NOT + "".join(f"| `{name}` | [{page}]({page}) | {why} |\n" for name, (page, why) in NOT_RECORDED.items())
    )
    return "\n".join(parts)


def readme_of(text: str, record: Mapping[str, Any]) -> str:
    """The README with the table of the standard work of a record; as it is where the record has none."""
    rows = [row for row in record["rows"] if row["what"] == STANDARD_WORK and row["of"] in _README_COLUMNS]
    if not rows:
        return text
    head, begin, rest = text.partition(_README_BEGIN)
    _, end, tail = rest.partition(_README_END)
    if not (begin and end):
        raise KeyError(f"README.md lacks {_README_BEGIN} or {_README_END}")
    table = _table(STANDARD_WORK, rows).partition("\n\n")[2]
    return f"{head}{begin}\n{table}\n{_machine(record)}{end}{tail}"


def _machine(record: Mapping[str, Any]) -> str:
    """The machine and versions, in a line or two."""
    told = dict(record["machine"])
    minutes = sum(record["seconds"].values()) / 60
    versions = ", ".join(f"{name} {told[name]}" for name in ("python", "numpy", "numba", "fastsim"))
    return (
        f"Machine: {told['cpu']}, {told['cores']} cores, load {told['load_1min']:.1f} when the run began; {versions}. "
        f"The run took {minutes:.0f} min.\n"
    )


def _table(what: str, rows: Sequence[Row]) -> str:
    """The rows of one matter: names down, and what is told of each across."""
    columns = list(dict.fromkeys(row["of"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["name"], {})[row["of"]] = shown(row["figure"], row["unit"])
    lines = [f"{what}:", "", f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(of.get(column, '') for column in columns)} |" for name, of in cells.items()]
    return "\n".join(lines) + "\n"


def shown(figure: float | None, unit: str) -> str:
    """A figure as people read it; parts of one as per cent, signed ones with ``+%``."""
    if figure is None:
        return ""
    if unit in ("%", "+%"):
        rounded = round(100 * figure, 1)
        return f"{rounded:{'+' if unit == '+%' and rounded else ''}.1f} %".replace("-0.0", "0.0")
    if unit == "s":
        return _seconds(figure)
    for most, letter in ((1e6, "M"), (1e4, "k")):
        if "/s" in unit and abs(figure) >= most:
            return f"{figure / {'M': 1e6, 'k': 1e3}[letter]:.{1 if figure < 100 * most else 0}f} {letter}"
    number = f"{figure:,}" if isinstance(figure, int) else f"{figure:,.0f}" if figure >= 1000 else f"{figure:.3g}"
    return f"{number} {unit}" if unit and "/s" not in unit else number


def _seconds(figure: float) -> str:
    if abs(figure) < 1e-9:
        return f"{figure:.2g} s"
    figure = float(f"{figure:.3g}")
    scales = ((60, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"))
    per, name = next(((per, name) for least, per, name in scales if abs(figure) >= least), (1e-6, "us"))
    return f"{figure / per:.3g} {name}"
