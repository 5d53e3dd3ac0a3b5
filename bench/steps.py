"""Single batches that the record of a measured run shows, against the tables: where fidelity is won or lost.

    python bench/steps.py DIR --profiles DIR [--json]

DIR and ``--profiles`` are those of ``fidelity.py``. As long as nothing is preempted, a request gets a token from every
batch after its first, so its record says how many batches lie between its first and its last token. Two kinds of
batches can be timed from that, without any simulated history:

* ``prompts``: a batch that ends with first tokens, and whose predecessor ended with somebody's first or last token
  after it was scheduled; what it takes is the difference.
* ``decodes``: a stretch without prompts, between two tokens whose distance in batches follows from the requests that
  link them; what a batch takes is its length over that distance.

Contexts are those of the record, between first and last token in proportion to time; prefix hits are the simulated
ones. Runs with preemptions are left out, and those of several data-parallel engines: their records do not tell the
batches.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from common import Row, emit, figure, note, parser
from deployment import Deployment, deployment_of
from measured import FloatArray, Measured, add_run_flags, chosen_folders, read_run

import fastsim
from estimators import EstimatorError
from fastsim.batch_policy import Pool
from fastsim.stage_tables import engine_values, join_tables

#: Events closer than this are one [s]; fewer batches than this make no stretch.
SAME_S, LEAST_BATCHES = 1e-4, 5
SAMPLES = 20
#: Least numbers of decodes in the groups of the record.
SIZES = (0, 44, 64, 96, 122)


class Record:
    """A run without preemptions, and the batches that it shows."""

    def __init__(self, run: Measured, deployment: Deployment, cached_tokens: np.ndarray) -> None:
        """``cached_tokens`` of each request come from its simulation."""
        self.run, self.tables, config = run, deployment.tables, deployment.config
        self.chunks = [
            (int(cached), int(prompt - cached))
            for cached, prompt in zip(cached_tokens, run.workload.prompt_tokens, strict=True)
        ]
        self.most_tokens = config.batch_policy.max_num_batched_tokens
        pool = Pool(config.num_kv_blocks or 0, config.block_size, config.max_model_len)
        values, bases = engine_values(config, join_tables(config, self.tables, pool, names_blocks=True))
        layout = self.tables.layout
        of_engine = values[bases[0] :]
        self.padded_token_s = of_engine[: layout.sequence_offset]
        self.cpu_s = of_engine[layout.sequence_offset : layout.decode_offset] - self.tables.sequence_s

    def contexts(self, at_s: float) -> FloatArray:
        """Contexts of the requests that decode in a batch that ends at some time."""
        run = self.run
        on = (run.first_token_s < at_s - SAME_S / 2) & (run.completed_s > at_s - SAME_S / 2)
        first_s, last_s = run.first_token_s[on], run.completed_s[on]
        done = (at_s - first_s) / (last_s - first_s) * (run.workload.output_tokens[on] - 1)
        return np.rint(run.workload.prompt_tokens[on] + done)

    def batch_s(self, contexts: FloatArray, chunks: list[tuple[int, int]]) -> float:
        """What the tables say of a batch, with padding and a synchronous engine's CPU time."""
        n, tokens = len(contexts), len(contexts) + sum(chunk for _, chunk in chunks)
        ends = (int(contexts.min()), int(contexts.max())) if n else (0, 0)
        requests = n + len(chunks)
        whole = self.tables.iteration_time_s(tokens, requests, n, int(contexts.sum()), chunks, ends)
        return float(whole - self.tables.token_s[tokens] + self.padded_token_s[tokens] + self.cpu_s[requests])

    def prompts(self) -> Iterator[Row]:
        """Batches that end with first tokens."""
        run = self.run
        ends = np.unique(np.concatenate([run.first_token_s, run.completed_s]).round(6))
        for end_s in np.unique(run.first_token_s.round(6)):
            of_batch = np.flatnonzero(abs(run.first_token_s - end_s) < SAME_S)
            before = ends[(ends > run.scheduled_s[of_batch].max() + SAME_S) & (ends < end_s - SAME_S)]
            contexts, chunks = self.contexts(end_s), [self.chunks[i] for i in of_batch]
            tokens = len(contexts) + sum(chunk for _, chunk in chunks)
            # Prompts that were cut are not told apart, nor is a batch whose predecessor left no trace.
            if len(before) == 1 and tokens <= self.most_tokens and np.ptp(run.scheduled_s[of_batch]) < SAME_S:
                yield self._row("prompts", end_s, contexts, tokens, end_s - before[0], self.batch_s(contexts, chunks))

    def decodes(self) -> Iterator[Row]:
        """Stretches without prompts."""
        starts = np.sort(self.run.first_token_s)
        for batches, begin_s, end_s in _stretches(self.run):
            # The batch that ends with the first token of a prompt lies before it, so none may follow the beginning.
            if batches < LEAST_BATCHES or np.searchsorted(starts, begin_s + SAME_S) < np.searchsorted(starts, end_s):
                continue
            times = begin_s + (np.arange(SAMPLES) + 0.5) / SAMPLES * (end_s - begin_s)
            rates = [1 / self.batch_s(self.contexts(at_s), []) for at_s in times]
            contexts = self.contexts(float(np.mean(times)))
            measured_s, simulated_s = (end_s - begin_s) / batches, 1 / float(np.mean(rates))
            yield self._row("decodes", end_s, contexts, len(contexts), measured_s, simulated_s)

    def _row(
        self, kind: str, end_s: float, contexts: FloatArray, tokens: int, measured_s: float, simulated_s: float
    ) -> Row:
        return {
            "run": self.run.name,
            "kind": kind,
            "end_s": float(end_s),
            "tokens": tokens,
            "decodes": len(contexts),
            "mean_context": float(contexts.mean()) if len(contexts) else None,
            "longest_context": float(contexts.max()) if len(contexts) else None,
            "measured_s": float(measured_s),
            "simulated_s": simulated_s,
            "error": float(simulated_s / measured_s - 1),
        }


def _stretches(run: Measured) -> Iterator[tuple[int, float, float]]:
    """Batches between neighbouring tokens that requests link: their number, and the times of the two tokens."""
    place: dict[float, tuple[float, int]] = {}  # time -> (the time that stands for its group, batches after that)
    for first_s, last_s, steps in zip(
        run.first_token_s.round(6), run.completed_s.round(6), run.workload.output_tokens - 1, strict=True
    ):
        group, ahead = place.setdefault(float(first_s), (float(first_s), 0))
        other, behind = place.setdefault(float(last_s), (float(last_s), 0))
        if group != other:
            shift = ahead + int(steps) - behind
            place |= {at: (group, count + shift) for at, (whose, count) in place.items() if whose == other}
    groups: dict[float, list[tuple[int, float]]] = {}
    for at, (group, count) in place.items():
        groups.setdefault(group, []).append((count, at))
    for members in groups.values():
        members.sort()
        for (first, begin_s), (last, end_s) in pairwise(members):
            yield last - first, begin_s, end_s


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: median errors of batches by kind and number of decodes."""
    groups: dict[str, list[float]] = {}
    for row in sorted(printed["rows"], key=lambda row: (row["run"], row["kind"], row["decodes"])):
        low = max((least for least in SIZES if least <= row["decodes"]), default=0)
        groups.setdefault(f"{row['run']}, {row['kind']}, from {low} decodes on", []).append(row["error"])
    for name, errors in groups.items():
        yield figure("Tables over measured batches", name, "batches", len(errors), "")
        yield figure("Tables over measured batches", name, "median error", float(np.median(errors)), "+%")


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("single batches of measured runs")
    add_run_flags(arguments)
    options = arguments.parse_args()
    folders = chosen_folders(options)
    if not folders:
        return 2
    rows: list[Row] = []
    is_bad = False
    for folder in folders:
        try:
            run = read_run(folder)
            deployment = deployment_of(run, options.profiles)
            if deployment.config.data_parallel > 1:
                note(f"{run.name}: has several engines, so its record does not tell the batches of each")
                continue
            result = fastsim.simulate(deployment.config, run.workload, deployment.tables)
        except (ValueError, EstimatorError) as error:  # one bad run must not hide the others
            note(f"{folder.resolve().name}: {error}")
            is_bad = True
            continue
        requests = result.requests.sort("request_id")
        if requests["preemptions"].sum():
            note(f"{run.name}: has preemptions, so its record does not tell the batches")
            continue
        record = Record(run, deployment, requests["cached_tokens"].to_numpy())
        rows += [*record.prompts(), *record.decodes()]
    emit(rows, options.json)
    return 2 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
