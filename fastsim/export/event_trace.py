"""``--event-trace``: a run as JSON lines, one event each.

Every line has the same keys: ``id`` (its number), ``kind``, ``start_s``, ``duration_s``, ``replica`` (and ``engine``,
where replicas have several), ``stage`` and ``batch`` of a ``batch``, ``request`` of what happens to one: ``queued``,
``prefill`` and ``decode``. What does not apply is null. Lines are in order of their start.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from fastsim.export.timeline import NONE, Timeline, timeline
from fastsim.export.window import Window

if TYPE_CHECKING:
    from fastsim.result import SimulationResult

KINDS = ("batch", "queued", "prefill", "decode")


def write_event_trace(result: "SimulationResult", path: Path, window: Window = Window()) -> int:  # noqa: B008
    """Write what happened in a window.

    Args:
        result: of a run that kept its batch log, at least of the window.
        path: the file.
        window: events that overlap it are written whole.

    Returns:
        The number of events.

    Raises:
        ConfigError: the run kept no batch log.
    """
    from estimators.files import replace_file

    line = timeline(result, window)
    count = 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        text = io.TextIOWrapper(file, encoding="ascii")
        for event in events(line, window):
            text.write(event)
            count += 1
        text.detach()

    replace_file(path, write)
    return count


def events(line: Timeline, window: Window) -> Iterator[str]:
    """The lines, in order of their start; of what starts at one time requests come first."""
    log, batches, requests = line.batches, len(line.batches), len(line.rows)
    edges = (line.sent_s, line.scheduled_s, line.first_token_s, line.completed_s)
    kind = np.concatenate((np.repeat((1, 2, 3), requests), np.zeros(batches, np.int64)))
    start_s = np.concatenate((*edges[:3], log["start_s"]))
    end_s = np.concatenate((*edges[1:], log["end_s"]))
    # -1 stands for null.
    engine = np.concatenate((*[line.engine] * 3, log["replica"]))
    stage = np.concatenate((np.full(3 * requests, NONE), log["stage"]))
    batch = np.concatenate((np.full(3 * requests, NONE), line.number))
    request = np.concatenate((*[line.rows] * 3, np.full(batches, NONE)))
    order = np.argsort(start_s, kind="stable")
    order = order[(end_s[order] > window.start_s) & (start_s[order] < window.end_s)]
    columns = (kind, start_s, end_s - start_s, engine, stage, request, batch)
    for number, (what, start, duration, who, *places) in enumerate(
        zip(*(column[order].tolist() for column in columns), strict=True)
    ):
        stage_text, request_text, batch_text = ("null" if place == NONE else str(place) for place in places)
        yield (
            f'{{"id":{number},"kind":"{KINDS[what]}","start_s":{start:.9f},"duration_s":{duration:.9f},'
            f'{_server(who, line.engines)},"stage":{stage_text},"request":{request_text},"batch":{batch_text}}}\n'
        )


def _server(engine: int, engines: int) -> str:
    """Replica, and engine where it has several."""
    if engines == 1:
        return f'"replica":{engine}'
    replica, part = ("null", "null") if engine == NONE else divmod(engine, engines)
    return f'"replica":{replica},"engine":{part}'
