"""Runs to report on, from their directories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.bounded import parsed_json, read_bounded
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

#: As many colours as can be told apart.
MOST_RUNS = 8
_SECTIONS = ("config", "simulation", "metrics", "replicas", "hashes", "workload")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: what it is called on the page: as much of the end of its path as tells it from the others.
        summary: its summary.json.
        requests: its requests.parquet, those that its latencies are of; None where there is none.
        timeseries: its timeseries.parquet; None where there is none.
    """

    name: str
    summary: Mapping[str, Any]
    requests: "pl.DataFrame | None" = None
    timeseries: "pl.DataFrame | None" = None


def read_runs(directories: Sequence[str]) -> list[Run]:
    """Read what some runs have written.

    Raises:
        ConfigError: there are none or too many, one is given twice, or has no summary that can be read.
    """
    if not directories:
        raise ConfigError("DIR", None, "is not given", "give directories that fastsim run --out has written")
    if len(directories) > MOST_RUNS:
        raise ConfigError("DIR", len(directories), "runs cannot be told apart", f"give {MOST_RUNS} or fewer")
    paths = [Path(directory).absolute() for directory in directories]
    for i, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:i]]:
            raise ConfigError("DIR", directories[i], "is given twice", "give it once")
    return [_read(path, name) for path, name in zip(paths, short_names(paths), strict=True)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of some paths that differ from each other, as many parts of each."""
    deepest = max(len(path.parts) for path in paths)
    for parts in range(1, deepest):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path, name: str) -> Run:
    mend = "give a directory that fastsim run --out has written"
    try:
        summary = parsed_json(read_bounded(path / "summary.json"))
    except OSError as error:
        raise ConfigError("DIR", str(path), f"has no summary.json ({error.strerror})", mend) from None
    except ValueError:
        raise ConfigError("DIR", str(path), "has a summary.json that is no JSON", mend) from None
    missing = [key for key in _SECTIONS if not isinstance(summary, dict) or key not in summary]
    if missing:
        raise ConfigError("DIR", str(path), f"has a summary.json without {', '.join(missing)}", mend)
    requests = read_frame(path / "requests.parquet", ("arrival_s", "ttft_s", "tpot_s", "e2e_s"))
    if requests is not None:
        requests = _measured(requests, summary)
    return Run(name, summary, requests, read_frame(path / "timeseries.parquet", ("replica", "start_s", "end_s")))


def _measured(requests: "pl.DataFrame", summary: Mapping[str, Any]) -> "pl.DataFrame":
    """The requests that the latencies of a summary are of: those behind a warm-up and before a cool-down."""
    window = summary.get("window")
    if window is None:
        return requests[summary["config"].get("client", {}).get("warmup_requests", 0) :]
    arrived = requests["arrival_s"].is_between(window["start_s"], window["end_s"])
    # A cool-down of so many requests begins with the first of these, which does not count any more.
    return requests.filter(arrived).sort("arrival_s").head(window["requests"])


def read_frame(path: Path, needed: Sequence[str], may_be_empty: bool = False) -> "pl.DataFrame | None":
    """The Parquet file of a directory; None where there is none.

    Raises:
        ConfigError: it cannot be read, lacks a column that is needed, or has no row although it may not be empty.
    """
    if not path.is_file():
        return None
    from estimators.tables_of_files import parquet_frame

    mend = "write the directory again, or remove the file"
    try:
        frame, _ = parquet_frame(path)
    except (OSError, ValueError):
        raise ConfigError("DIR", str(path), "is no Parquet file that can be read", mend) from None
    missing = [column for column in needed if column not in frame.columns]
    if missing or (frame.is_empty() and not may_be_empty):
        wrong = f"has no column {missing[0]}" if missing else "has no row"
        raise ConfigError("DIR", str(path), wrong, mend)
    return frame
