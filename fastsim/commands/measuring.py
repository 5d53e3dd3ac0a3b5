"""What ``fastsim run`` adds to the summary of its run: whether the load was steady, and repeats with other seeds."""

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, TextIO

from fastsim.commands.parsing import progress
from fastsim.errors import ConfigError
from fastsim.options import integer

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.result import SimulationResult
    from traces import Workload

#: Each run is kept until the last one has ended.
_MOST_REPEATS = 1000


def add_load(result: "SimulationResult") -> None:
    """Say in the summary whether requests pile up, and warn if they do, unless the run has done both."""
    from fastsim.windows import describe_load, find_growth

    if "load" in result.summary:
        return
    requests = result.state.requests
    completed = requests[requests["completed_s"] >= 0]  # NaN where a limit of Vidur's rules came first
    result.summary["load"] = describe_load(result.config, completed)
    for warning in find_growth(result.summary["load"]):
        warnings.warn(warning, stacklevel=2)


def read_repeats(given: Optional[str], confidence: bool) -> int:
    """The number of runs that were asked for, 1 if nothing was.

    Raises:
        ConfigError: it is not a number of 2 or more, or intervals from one run were asked for too.
    """
    if given is None:
        return 1
    repeats = integer("repeats", given)
    if not 2 <= repeats <= _MOST_REPEATS:
        raise ConfigError("repeats", repeats, "do not tell how much runs differ", f"give 2 to {_MOST_REPEATS}, 5, say")
    if confidence:
        raise ConfigError("repeats", repeats, "are given beside --confidence", "give one of them")
    return repeats


def add_repeats(
    result: "SimulationResult",
    with_seed: "Callable[[int], tuple[SimulationConfig, Workload]]",
    tables: Any,
    repeats: int,
) -> None:
    """Run again with the seeds that follow, and say in the summary how far metrics differ.

    Args:
        result: of the first run.
        with_seed: what is simulated with another seed.
        tables: of the first run, which do not depend on the seed; None to read them from the cache.
        repeats: how many runs there are then.
    """
    from fastsim.confidence import over_seeds
    from fastsim.simulation import simulate_many

    first = result.config.seed
    with progress(f"repeating with {repeats - 1} other seeds"):
        runs = [with_seed(seed) for seed in range(first + 1, first + repeats)]
        same = None if tables is None else [tables] * len(runs)
        others = simulate_many([config for config, _ in runs], [workload for _, workload in runs], tables=same)
    result.summary["confidence"] = over_seeds([result.summary, *(other.summary for other in others)])
    if all(other.summary["metrics"] == result.summary["metrics"] for other in others):
        print("fastsim: note: all repeats are equal: nothing in this run is drawn at random", file=sys.stderr)


def can_print(text: str, stream: TextIO) -> bool:
    """Whether a stream's encoding has all characters of a text."""
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
