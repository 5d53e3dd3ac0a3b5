"""What ``fastsim run --out DIR`` has written, read again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from estimators.bounded import parsed_json, read_bounded, text_of
from fastsim.config import MAX_TOML, SimulationConfig
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl


class Run(NamedTuple):
    """A run that was written.

    Attributes:
        config: what was simulated.
        summary: as `fastsim.result.SimulationResult.summary`.
        requests: one row per request.
    """

    config: SimulationConfig
    summary: dict[str, Any]
    requests: "pl.DataFrame"


def read_run(directory: str) -> Run:
    """Read what a run has written.

    Raises:
        ConfigError: the directory has none, or one that kept no requests.
    """
    from estimators.tables_of_files import parquet_frame

    folder = Path(directory)
    for name in ("config.toml", "summary.json"):
        if not (folder / name).is_file():
            raise ConfigError("directory", directory, f"has no {name}", "give what fastsim run --out DIR has written")
    if not (folder / "requests.parquet").is_file():
        mend = "repeat the run with at most 2 M requests, and with keep_requests"
        raise ConfigError("directory", directory, "has no requests.parquet", mend)
    try:
        text = text_of(read_bounded(folder / "config.toml", MAX_TOML))
        summary = parsed_json(read_bounded(folder / "summary.json"))
        requests, _ = parquet_frame(folder / "requests.parquet")
        config = SimulationConfig.from_toml(text)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError("directory", directory, f"cannot be read ({error})", "repeat the run") from None
    return Run(config, summary, requests)


def tables_of(run: Run) -> tuple[Any, bool]:
    """Iteration tables for the configuration of a run, from the cache or built.

    Returns:
        The tables, and whether they are those that the run read: not, where it was given others or is of another
        version.
    """
    from fastsim.machine import load_machine, tables_for
    from fastsim.stage_tables import join_tables

    model, _, pool = load_machine(run.config)
    # Only what has a name can have been found; but a run may have named blocks and found none.
    names_blocks = bool((run.requests["cached_tokens"] > 0).any())
    for named in dict.fromkeys((names_blocks, True)):
        tables = tables_for(run.config, named)
        if join_tables(run.config, tables, pool, named, model).hash == run.summary["hashes"]["tables"]:
            return tables, True
    return tables_for(run.config, names_blocks), False
