"""``trace.json.gz``: a run in the trace-event format, for Perfetto (ui.perfetto.dev) and chrome://tracing.

An engine is a process and a pipeline stage a thread; both are numbered from 1, as 0 means something else to Perfetto. A
batch is a slice on every stage. A request is a row of nested slices (queued, prefill, decode) below its engine, and a
flow of arrows from the batch in which it was first scheduled to those that gave it its first and its last token.
Counters show the tokens of batches, the KV blocks in use, and how many requests wait and run. Times are microseconds
with three decimals, from the beginning of the simulation.
"""

import gzip
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsim.export.timeline import NONE, Integers, Timeline, timeline
from fastsim.export.window import Window

if TYPE_CHECKING:
    from fastsim.result import SimulationResult

#: More events than this make a browser slow.
MANY_EVENTS = 1_000_000
#: Names of the batches, by whether they have decodes and chunks; a viewer gives each a colour.
_KINDS = {(True, False): "decode", (False, True): "prefill", (True, True): "mixed"}


def write_trace(result: "SimulationResult", path: Path, window: Window = Window()) -> int:  # noqa: B008
    """Write what happened in a window, as one gzipped JSON object.

    Args:
        result: of a run that kept its batch log, at least of the window.
        path: the file.
        window: batches that overlap it are written whole, requests are cut to it.

    Returns:
        The number of events.

    Raises:
        ConfigError: the run kept no batch log.
    """
    from estimators.files import replace_file

    events = trace_events(timeline(result, window), window, f"fastsim {result.config.model} on {result.config.device}")
    count = 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        # No time and no name in the header: equal runs give equal files.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed, io.TextIOWrapper(packed, "utf-8") as text:
            text.write('{"displayTimeUnit":"ms","traceEvents":[\n')
            for event in events:
                text.write(f",\n{event}" if count else event)
                count += 1
            text.write("\n]}\n")

    replace_file(path, write)
    return count


def trace_events(line: Timeline, window: Window, title: str) -> Iterator[str]:
    """The events, each as JSON.

    Args:
        line: what happened.
        window: to which requests are cut.
        title: of the processes.
    """
    return itertools.chain(
        _names(line, title),
        _batches(line),
        _batch_counters(line),
        _request_counters(line, window),
        _requests(line, window),
    )


def _names(line: Timeline, title: str) -> Iterator[str]:
    """Names of processes and threads, in order."""
    stages = int(line.batches["stage"].max(initial=0)) + 1
    served = np.concatenate((line.batches["replica"], line.engine[line.engine != NONE]))
    for engine in np.unique(served).tolist():
        replica, part = divmod(engine, line.engines)
        name = f"replica {replica}" + (f" engine {part}" if line.engines > 1 else "")
        yield _meta("process_name", engine, {"name": name})
        yield _meta("process_labels", engine, {"labels": title})
        yield _meta("process_sort_index", engine, {"sort_index": engine})
        for stage in range(stages):
            thread = f'"tid":{stage + 1},'
            yield _meta("thread_name", engine, {"name": f"stage {stage}"}, thread)
            yield _meta("thread_sort_index", engine, {"sort_index": stage}, thread)


def _meta(kind: str, engine: int, arguments: dict[str, object], thread: str = "") -> str:
    return f'{{"ph":"M","name":"{kind}","pid":{engine + 1},{thread}"args":{json.dumps(arguments)}}}'


def _batches(line: Timeline) -> Iterator[str]:
    """A slice for each batch and stage."""
    log = line.batches
    chunks = log["num_sequences"] - log["num_decodes"]
    columns = (
        log["replica"] + 1,
        log["stage"] + 1,
        nanoseconds(log["start_s"]),
        nanoseconds(log["end_s"]),
        line.number,
        log["num_decodes"],
        chunks,
        log["num_tokens"] - log["num_decodes"],
        log["decode_kv"],
        log["used_blocks"],
        log["preempted"],
    )
    for pid, tid, start, end, number, decodes, prefills, tokens, kv, blocks, preempted in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        yield (
            f'{{"ph":"X","name":"{_KINDS[decodes > 0, prefills > 0]}","cat":"batch","pid":{pid},"tid":{tid},'
            f'"ts":{micros(start)},"dur":{micros(end - start)},"args":{{"batch":{number},"decodes":{decodes},'
            f'"prefills":{prefills},"prefill_tokens":{tokens},"decode_kv_tokens":{kv},"kv_blocks":{blocks},'
            f'"preempted":{preempted}}}}}'
        )


def _batch_counters(line: Timeline) -> Iterator[str]:
    """Tokens of the batch on the first stage, 0 where there is none, and the KV blocks in use as it starts."""
    log = line.batches[line.batches["stage"] == 0]
    log = log[np.argsort(log["replica"], kind="stable")]
    starts, ends = nanoseconds(log["start_s"]), nanoseconds(log["end_s"])
    follows = np.zeros(len(log), bool)
    follows[:-1] = (log["replica"][1:] == log["replica"][:-1]) & (starts[1:] <= ends[:-1])
    columns = (log["replica"] + 1, starts, ends, log["num_decodes"], log["num_tokens"], log["used_blocks"], follows)
    for pid, start, end, decodes, tokens, blocks, goes_on in zip(*(each.tolist() for each in columns), strict=True):
        yield _counter("tokens of the batch", pid, start, f'"decode":{decodes},"prefill":{tokens - decodes}')
        yield _counter("KV blocks in use", pid, start, f'"blocks":{blocks}')
        if not goes_on:
            yield _counter("tokens of the batch", pid, end, '"decode":0,"prefill":0')


def _counter(name: str, pid: int, time: int, values: str) -> str:
    return f'{{"ph":"C","name":"{name}","pid":{pid},"ts":{micros(time)},"args":{{{values}}}}}'


def _request_counters(line: Timeline, window: Window) -> Iterator[str]:
    """How many requests of each engine wait for their first batch, and how many run; who was preempted still runs."""
    known = line.engine != NONE
    # Each request passes from one count to the other. What came before counts at the window's beginning.
    times = np.concatenate([column[known] for column in (line.sent_s, line.scheduled_s, line.completed_s)])
    engine, n = np.tile(line.engine[known], 3), int(known.sum())
    waits, runs = np.repeat((1, -1, 0), n), np.repeat((0, 1, -1), n)
    order = np.lexsort((times, engine))
    order = order[times[order] < window.end_s]
    engine, at = engine[order], nanoseconds(np.maximum(times[order], window.start_s))
    first = np.searchsorted(engine, engine)
    last_of_time = np.ones(len(at), bool)
    last_of_time[:-1] = (at[1:] != at[:-1]) | (engine[1:] != engine[:-1])
    counts = []
    for change in (waits[order], runs[order]):
        total = np.cumsum(change)
        counts.append((total - (total - change)[first])[last_of_time])
    columns = (engine[last_of_time] + 1, at[last_of_time], *counts)
    for pid, time, waiting, running in zip(*(column.tolist() for column in columns), strict=True):
        yield _counter("requests", pid, time, f'"waiting":{waiting},"running":{running}')


def _requests(line: Timeline, window: Window) -> Iterator[str]:
    """The slices of each request, and its arrows."""
    edges = (line.sent_s, line.scheduled_s, line.first_token_s, line.completed_s)
    cut = (nanoseconds(np.clip(edge, window.start_s, min(window.end_s, edges[-1].max(initial=0)))) for edge in edges)
    engine = np.where(line.engine == NONE, 0, line.engine) + 1
    middle = _middles(line.batches)
    pid_of, tid_of = line.batches["replica"] + 1, line.batches["stage"] + 1
    latencies = ((edge - line.sent_s).tolist() for edge in edges[1:])
    columns = (column.tolist() for column in (line.rows, engine, *cut, line.turns))
    for row, pid, sent, scheduled, first, done, turns, delay_s, ttft_s, e2e_s in zip(*columns, *latencies, strict=True):
        common = f'"cat":"request","id":"{row}","pid":{pid},"tid":1'
        told = f',"args":{{"scheduling_delay_s":{delay_s:.9f},"ttft_s":{ttft_s:.9f},"e2e_s":{e2e_s:.9f}}}'
        yield _edge("b", f"request {row}", common, sent, told)
        for name, begin, end in (("queued", sent, scheduled), ("prefill", scheduled, first), ("decode", first, done)):
            if end > begin:
                yield _edge("b", name, common, begin)
                yield _edge("e", name, common, end)
        yield _edge("e", f"request {row}", common, done)
        points = [turn for turn, after in itertools.pairwise((*turns, NONE)) if turn not in (NONE, after)]
        if len(points) > 1:
            for phase, point in zip(("s", *"t" * (len(points) - 2), "f"), points, strict=True):
                binding = ',"bp":"e"' if phase == "f" else ""
                yield (
                    f'{{"ph":"{phase}","name":"request","cat":"request","id":"{row}"{binding},"pid":{pid_of[point]},'
                    f'"tid":{tid_of[point]},"ts":{micros(int(middle[point]))}}}'
                )


def _edge(phase: str, name: str, common: str, time: int, more: str = "") -> str:
    return f'{{"ph":"{phase}","name":"{name}",{common},"ts":{micros(time)}{more}}}'


def _middles(batches: np.ndarray) -> Integers:
    """A time within each slice, which belongs to no neighbour [ns]."""
    middle: Integers = (nanoseconds(batches["start_s"]) + nanoseconds(batches["end_s"])) // 2
    return middle


def nanoseconds(seconds: npt.NDArray[np.float64]) -> Integers:
    """Whole nanoseconds: so slices that follow each other do not overlap once they are rounded."""
    return np.rint(seconds * 1e9).astype(np.int64)


def micros(nanos: int) -> str:
    """Microseconds, as JSON."""
    return f"{nanos // 1000}.{nanos % 1000:03d}"
