"""Simulating a stream of requests: what is held are those that wait or run, and what came of the others is folded.

The kernel runs segment by segment (`fastsim.kernel.segment`): the next chunk of the stream is put behind the requests
of the table, the loop runs until all of them have arrived, and those that have completed, up to the oldest that has
not, are added to the totals, written to a file if there is one, and dropped. A run that holds all requests is the same
to the last bit.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.config import SimulationConfig
from fastsim.custom import check_status, reads_replicas
from fastsim.errors import ConfigError
from fastsim.machine import check_requests
from fastsim.preparing import compile_kernel, load_parts, start_state
from fastsim.profiled_range import find_warnings
from fastsim.queue_orders import order_keys, prediction_stream
from fastsim.requests_file import RequestsFile
from fastsim.result import SKETCHED, SimulationResult, describe_run, requests_frame
from fastsim.slo import describe_met
from fastsim.totals import Totals

if TYPE_CHECKING:
    from fastsim.batch_policy import Pool
    from fastsim.kernel.prepare import Bounds
    from fastsim.kernel.state import State
    from traces import Workload, WorkloadStream

#: What a stream does not go with yet, and what to do: fields of the configuration that must have their defaults.
_IN_MEMORY = {
    "parity": "leave it out",
    "record_batches": "leave it out",
    "record_metrics": "leave it out",
    "warmup": "leave it out, and read requests_file",
    "cooldown": "leave it out, and read requests_file",
    "client": 'give "open"',
}
#: Part of the table that must be done before it is dropped: the rest is moved, which costs as much as it is long.
_LEAST_PART = 0.5
_DELAYS = ("ingress_s", "ingress_s_per_token", "egress_s")


def find_unstreamable(config: SimulationConfig) -> ConfigError | None:
    """Why requests must be held in memory, if they must: the field that asks for it."""
    for name, mend in _IN_MEMORY.items():
        if (value := getattr(config, name)) != getattr(SimulationConfig(), name):
            wrong = "does not go with a stream of requests"
            return ConfigError(name, value, wrong, f"{mend}, or hold the requests in memory (Workload.generate)")
    for name in _DELAYS:
        if (value := getattr(config.engine_choice, name)) != 0:
            wrong = "is a delay of the front end, which does not go with a stream of requests"
            mend = "give 0, or hold the requests in memory (Workload.generate)"
            return ConfigError(f"engine.{name}", value, wrong, mend)
    return None


def check_stream(config: SimulationConfig, **arguments: Any) -> None:
    """Refuse what needs all requests in memory.

    Args:
        config: what serves.
        **arguments: of `simulate`, which must ask for nothing.

    Raises:
        ConfigError: naming the first that does.
    """
    for name, value in arguments.items():
        if value:
            mend = "leave it out, or hold the requests in memory (Workload.generate)"
            raise ConfigError(name, value, "does not go with a stream of requests", mend)
    if (error := find_unstreamable(config)) is not None:
        raise error


def simulate_stream(
    config: SimulationConfig,
    stream: "WorkloadStream",
    tables: Any,
    own: Mapping[str, Any],
    requests_file: str | os.PathLike[str] | None,
    watch: "Callable[[State], None] | None",
) -> tuple[SimulationResult, list[Warning]]:
    """What `fastsim.simulation.simulate` does of a stream, and what it warns about.

    Args:
        config: what serves, which `check_stream` has passed.
        stream: what arrives.
        tables: as `simulate` takes them.
        own: by ``batch_policy`` and ``router`` functions of one's own.
        requests_file: where to write the rows of the requests, in order of arrival; None for nowhere.
        watch: called with the kernel's tables before the first arrival; those of the replicas stay the same.

    Raises:
        ConfigError: as `simulate` says.
    """
    path = None if requests_file is None else Path(requests_file)
    if path is not None and path.is_dir():
        raise ConfigError("requests_file", str(path), "is a directory", "give the path of a file")
    chunks = iter(stream)
    first = next(chunks)
    model, device, pool, joined = load_parts(config, first, tables)
    run, (schedule, route) = compile_kernel(config, first)
    slots = own.get("batch_policy", schedule), own.get("router", route)
    started = time.perf_counter()
    bounds = _bounds(config, stream)
    state, values = start_state(config, first, joined, model, device, pool, reads_replicas(config, own), bounds=bounds)
    state = state._replace(requests=state.requests[:0])
    if watch is not None:
        watch(state)

    def run_on(state: "State") -> int:
        return check_status(run(state, values, slots), config, own)

    totals = Totals(model.window, bounds.tokens, config.slo)
    with _written(stream, path) as write:
        for done in _segments(config, chain((first,), chunks), len(stream), pool, state, run_on):
            write(done, totals.served.requests)
            totals.add(done)
    latencies = totals.describe(state.integers, float(state.replicas["tbt_sum_s"].sum()))
    summary = describe_run(
        config, stream, joined, (model, device), state, totals.served, {"quantiles": SKETCHED} | latencies
    )
    if config.slo:
        tbt_p99_s, duration_s = summary["metrics"]["tbt_s"]["p99"], totals.served.makespan_s
        summary["slo"] = describe_met("configuration", config.slo, {}, totals.met, tbt_p99_s, duration_s)
    wall_s = time.perf_counter() - started
    summary["simulation"] |= {"wall_s": wall_s, "requests_per_s": len(stream) / wall_s}
    summary["hashes"] = {"tables": joined.hash, "workload": stream.hash}
    found = find_warnings(config, totals.lengths, model, joined, state)
    return SimulationResult(config, summary, state, requests_file=path), found


def _bounds(config: SimulationConfig, stream: "WorkloadStream") -> "Bounds":
    """How many requests a stream has, and how long they are at most."""
    from fastsim.kernel.prepare import Bounds

    tokens = min(config.max_model_len, stream.most_tokens or config.max_model_len)
    return Bounds(len(stream), tokens - 1, tokens)


def _segments(
    config: SimulationConfig,
    chunks: "Iterable[Workload]",
    total: int,
    pool: "Pool",
    state: "State",
    run_on: "Callable[[State], int]",
) -> Iterator[np.ndarray]:
    """Run along a stream; yields what has completed, in order of arrival: REQUEST records, dropped after that.

    Args:
        config: what serves.
        chunks: what arrives.
        total: requests of all chunks.
        pool: the KV memory of an engine.
        state: before the first arrival, with no request in its table.
        run_on: runs the event loop and returns DONE or NEEDS_REQUESTS.
    """
    from fastsim.kernel.prepare import new_requests
    from fastsim.kernel.prepare_segments import append_requests, count_done, drop_done
    from fastsim.kernel.state import DONE

    buffer, predictions, arrived = state.requests, prediction_stream(config), 0
    for chunk in chunks:
        check_requests(config, chunk, pool, arrived)
        rows = np.arange(arrived, arrived + len(chunk))
        new = new_requests(chunk, order_keys(config, chunk, predictions), rows)
        state, buffer = append_requests(state, new, buffer)
        arrived += len(chunk)
        state.cluster["more_to_come"] = arrived < total
        if run_on(state) == DONE:
            break
        count = count_done(state)
        if count >= _LEAST_PART * len(state.requests):
            yield state.requests[:count]
            state = drop_done(state, count)
    yield state.requests


@contextlib.contextmanager
def _written(stream: "WorkloadStream", path: Path | None) -> Iterator[Callable[[np.ndarray, int], None]]:
    """What writes completed requests, the first of which has a number, to a file; or nothing, where path is None."""
    from fastsim.kernel.state import REQUEST, records

    if path is None:
        yield lambda requests, first: None
        return
    given = ["request_class"] if stream.has_classes else []
    with RequestsFile(path, requests_frame(records(REQUEST, 0), 0, {}, given)) as file:
        yield lambda requests, first: file.write(requests_frame(requests, first, {}, given))
