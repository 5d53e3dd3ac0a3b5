"""What happened in a window of time: the batches, the requests, and which batches a request was in at its turns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsim.engine_presets import schedules_ahead
from fastsim.errors import ConfigError
from fastsim.export.window import Window

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.result import SimulationResult

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Times of one event that were computed in two ways may differ by so much [s].
_ROUNDING_S = 1e-9
#: No batch.
NONE = -1


@dataclass(frozen=True)
class Timeline:
    """What happened in a window.

    Attributes:
        batches: rows of the batch log that overlap it: BATCH records, of which ``replica`` is the number of an engine.
        number: of the batch of each row; the rows of a batch on several pipeline stages have the same.
        rows: of the requests that are under way in it, their rows in the workload, by time of sending.
        sent_s: when each of them is sent, and so on; all times are the clients' but for ``scheduled_s`` [s].
        scheduled_s: first time in a batch.
        first_token_s: first token.
        completed_s: last token.
        engine: which served each of them.
        turns: [requests, 3] rows of ``batches`` in which each was first scheduled, and whose ends gave it its first and
            its last token; NONE for those outside of the window.
        engines: data-parallel engines of a replica.
    """

    batches: np.ndarray
    number: Integers
    rows: Integers
    sent_s: Floats
    scheduled_s: Floats
    first_token_s: Floats
    completed_s: Floats
    engine: Integers
    turns: Integers
    engines: int


def timeline(result: "SimulationResult", window: Window) -> Timeline:
    """What happened in a window of a run that kept its batch log.

    Raises:
        ConfigError: it kept none.
    """
    log = batch_log(result)
    batches = log[(log["end_s"] > window.start_s) & (log["start_s"] < window.end_s)]
    requests, config = result.state.requests, result.config
    under_way = (requests["arrival_s"] < window.end_s) & (requests["completed_s"] > window.start_s)
    rows = np.flatnonzero(under_way)
    rows = rows[np.argsort(requests["arrival_s"][rows], kind="stable")]
    names = ("arrival_s", "scheduled_s", "first_token_s", "completed_s")
    sent_s, scheduled_s, first_token_s, completed_s = (np.ascontiguousarray(requests[name][rows]) for name in names)
    engine = engine_of(result)[rows]
    egress_s = config.engine_choice.egress_s
    tokens_s = (first_token_s - egress_s, completed_s - egress_s)
    turns = find_turns(batches, config.pipeline_parallel, engine, scheduled_s, tokens_s, token_lag_s(config))
    return Timeline(
        batches,
        number_batches(batches),
        rows,
        sent_s,
        scheduled_s,
        first_token_s,
        completed_s,
        engine,
        turns,
        config.data_parallel,
    )


def batch_log(result: "SimulationResult") -> np.ndarray:
    """The batch log of a run.

    Raises:
        ConfigError: it kept none, or is one of Vidur's rules, whose log is another.
    """
    if result.config.parity is not None:
        mend = "give --record-batches, for batches.parquet"
        raise ConfigError("parity", result.config.parity, "has a batch log that is not traced", mend)
    if not result.state.cluster["record_batches"][0]:
        raise ConfigError("record_batches", False, "leaves nothing to trace", "give record_batches=True")
    log: np.ndarray = result.state.batches[: int(result.state.cluster["num_batches"][0])]
    return log


def number_batches(batches: np.ndarray) -> Integers:
    """Number of the batch of each row; the rows of one batch stand behind each other, by stage."""
    first = np.ones(len(batches), bool)
    first[1:] = (batches["stage"][1:] <= batches["stage"][:-1]) | (batches["replica"][1:] != batches["replica"][:-1])
    numbers: Integers = np.cumsum(first) - 1
    return numbers


def engine_of(result: "SimulationResult") -> Integers:
    """Number of the engine that served each request; NONE where replicas have several and ``record_metrics`` is off."""
    replica = result.state.requests["replica"].astype(np.int64)
    if result.config.data_parallel == 1:
        return replica
    if not result.config.record_metrics:
        return np.full(len(replica), NONE)
    from fastsim.kernel.prepare_series import engine_of as noted

    return noted(result.state)


def find_turns(
    batches: np.ndarray, stages: int, engine: Integers, scheduled_s: Floats, tokens_s: tuple[Floats, ...], lag_s: float
) -> Integers:
    """Rows of the batches in which requests were first scheduled, and of those whose ends gave them tokens.

    A batch is formed when it starts or, with one in flight before it, earlier: that of a request is taken to be the
    first on the first stage to start at that time or later, which it is unless two are formed at one time. The one that
    gave it a token is the last on the last stage to end by then.

    Args:
        batches: BATCH records, those of an engine by time.
        stages: pipeline stages.
        engine: of the requests [n].
        scheduled_s: when they were first in a batch [n] [s].
        tokens_s: when tokens of theirs left the engine, [n] each [s].
        lag_s: most time between the end of a batch and its tokens leaving the engine [s].
    """
    turns = np.full((len(engine), 1 + len(tokens_s)), NONE)
    by_engine = np.argsort(engine, kind="stable")
    edges = np.searchsorted(engine[by_engine], np.arange(int(engine.max(initial=0)) + 2))
    order = np.argsort(batches["replica"], kind="stable")
    log_edges = np.searchsorted(batches["replica"][order], np.arange(len(edges)))
    for number in range(len(edges) - 1):
        mine, log = by_engine[edges[number] : edges[number + 1]], order[log_edges[number] : log_edges[number + 1]]
        first, last = (log[batches["stage"][log] == stage] for stage in (0, stages - 1))
        if len(mine) == 0 or len(first) == 0 or len(last) == 0:
            continue
        starts_s, ends_s = batches["start_s"][first], batches["end_s"][last]
        place = np.searchsorted(starts_s, scheduled_s[mine] - _ROUNDING_S)
        # Before the first row that is kept nobody knows whether there was another.
        inside = (place < len(first)) & (scheduled_s[mine] >= starts_s[0] - _ROUNDING_S)
        turns[mine[inside], 0] = first[place[inside]]
        for turn, token_s in enumerate(tokens_s, 1):
            place = np.searchsorted(ends_s, token_s[mine] + _ROUNDING_S, side="right") - 1
            inside = (place >= 0) & (token_s[mine] - ends_s[place] <= lag_s + _ROUNDING_S)
            turns[mine[inside], turn] = last[place[inside]]
    return turns


def token_lag_s(config: "SimulationConfig") -> float:
    """Most time between the end of a batch in the log and its tokens leaving the engine [s].

    Only engines that schedule ahead have any: the rows of others end with the CPU's work. They may be one behind.
    """
    engine = config.engine_choice
    if not schedules_ahead(config):
        return 0.0
    return 2 * (engine.process_s + engine.process_s_per_request * int(config.batch_policy.max_num_seqs))
