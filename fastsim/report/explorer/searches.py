"""A search to explore, from its directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estimators.bounded import parsed_json, read_bounded
from estimators.tables_of_files import MAX_TABLE_BYTES
from fastsim.errors import ConfigError
from fastsim.report.runs import read_frame

if TYPE_CHECKING:
    import polars as pl

_SEARCH, _CONFIGURATIONS, _PROBES, _JOURNAL = "search.json", "configurations.parquet", "probes.parquet", "journal.jsonl"
_NEEDED = ("config_id", "workload", "status", "reason", "capacity_qps", "price_per_hour")


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        name: of its directory.
        about: its search.json: space, objectives, workloads, counts.
        configurations: its configurations.parquet, a row for each configuration under each workload.
        probes: its probes.parquet, a row for each rate that was tried; None where there is none.
    """

    name: str
    about: Mapping[str, Any]
    configurations: "pl.DataFrame"
    probes: "pl.DataFrame | None" = None


def is_search(directory: str) -> bool:
    """Whether a directory is one that ``fastsim search --out`` has written or is writing."""
    return any((Path(directory) / name).is_file() for name in (_SEARCH, _CONFIGURATIONS, _JOURNAL))


def read_search(directory: str) -> Search:
    """Read what a search has written.

    Raises:
        ConfigError: it has not ended, or a file of it cannot be read.
    """
    path = Path(directory).absolute()
    try:
        about = parsed_json(read_bounded(path / _SEARCH, MAX_TABLE_BYTES))
    except OSError as error:
        wrong, mend = f"has no {_SEARCH} ({error.strerror})", "give a directory that fastsim search --out has written"
        if (path / _JOURNAL).is_file():
            wrong, mend = "is of a search that has not ended", "let it end, or go on with fastsim search --resume"
        raise ConfigError("DIR", str(path), wrong, mend) from None
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise ConfigError("DIR", str(path), f"has a {_SEARCH} that is no JSON object", "search again")
    configurations = read_frame(path / _CONFIGURATIONS, _NEEDED)
    if configurations is None:
        raise ConfigError("DIR", str(path), f"has no {_CONFIGURATIONS}", "search again")
    # Where nothing fits, nothing was tried.
    probes = read_frame(path / _PROBES, ("config_id", "workload", "qps", "holds"), may_be_empty=True)
    return Search(path.name, about, configurations, probes)
