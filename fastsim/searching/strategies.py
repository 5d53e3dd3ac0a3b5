"""Which configurations of a space are run, and with how many requests.

A strategy is a function ``(space, evaluator, seed, trials)`` that returns rows; what it says depends on nothing else,
neither on the order in which runs end nor on how many run at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from fastsim.searching.evaluator import Evaluator
from fastsim.searching.rows import Row
from fastsim.searching.space import Space
from fastsim.searching.tasks import OK

Strategy = Callable[[Space, Evaluator, int, int | None], list[Row]]
#: Of successive halving: the part of the configurations that gets runs so many times as long.
ETA = 3
#: Of successive halving: runs of different lengths at the most, and the shortest one [requests].
_RUNGS, _FEWEST_REQUESTS = 3, 100


def exhaustive(space: Space, evaluator: Evaluator, seed: int, trials: int | None) -> list[Row]:
    """Every configuration under every workload."""
    rows = evaluator.rows(space.candidates())
    evaluator.expect(sum(not row.status for row in rows))
    return evaluator.run([(row, None) for row in rows])


def halving(space: Space, evaluator: Evaluator, seed: int, trials: int | None) -> list[Row]:
    """Successive halving: all with the first requests of their workload, the best third with three times as many.

    The best are those of each model and workload.
    A configuration whose interval reaches that of the last of the best third goes on with it. Those that are dropped
    have the capacity of their last run, which is shorter than that of the others: not to be compared with these.
    """
    rows = evaluator.rows(space.candidates())
    alive = [number for number, row in enumerate(rows) if not row.status]
    lengths = {name: rungs(len(workload)) for name, workload in evaluator.workloads.items()}
    last = max(map(len, lengths.values()), default=1) - 1
    evaluator.expect(sum(-(-len(alive) // ETA**rung) for rung in range(last + 1)))
    for rung in range(last + 1):
        asked = []
        for number in alive:
            own = lengths[rows[number].workload]
            if (place := len(own) - 1 - last + rung) >= 0:  # those of a short workload are fewer, and the last ones
                asked.append((number, own[place]))
        ended = evaluator.run([(rows[number], requests) for number, requests in asked])
        for (number, _), row in zip(asked, ended, strict=True):
            rows[number] = row
        if rung < last:
            kept = _survivors(rows, alive)
            for number in set(alive) - kept:
                rows[number] = rows[number].dropped(f"dropped after a run of {_length(rows[number])} requests")
            alive = [number for number in alive if number in kept]
    return rows


def rungs(requests: int) -> list[int | None]:
    """Lengths of the runs under a workload of so many requests, ascending; None for all of them."""
    shorter = [requests // ETA**power for power in range(_RUNGS - 1, 0, -1)]
    return [*(length for length in shorter if length >= _FEWEST_REQUESTS), None]


def _length(row: Row) -> str:
    return "all" if row.outcome is None or row.outcome.requests is None else f"{row.outcome.requests:,}"


def _survivors(rows: Sequence[Row], alive: Sequence[int]) -> set[int]:
    """Of each workload and model the best part, ties with the last of them, and what has not run yet."""
    kept = {number for number in alive if not rows[number].status}
    ran = sorted((number for number in alive if rows[number].status == OK), key=lambda n: rows[n].case)
    for _, group in groupby(ran, key=lambda n: rows[n].case):
        order = sorted(group, key=lambda n: rows[n].worth, reverse=True)
        last = rows[order[-(-len(order) // ETA) - 1]]
        kept |= {n for n in order if rows[n].worth >= last.worth or rows[n].ties_with(last)}
    return kept


def _tpe(space: Space, evaluator: Evaluator, seed: int, trials: int | None) -> list[Row]:
    from fastsim.searching.tpe import tpe

    return tpe(space, evaluator, seed, trials)


STRATEGIES: Mapping[str, Strategy] = {"exhaustive": exhaustive, "halving": halving, "tpe": _tpe}
