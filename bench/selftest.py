"""The proof: an engine of our own serves requests in real time, and fastsim predicts it from a profile of this device.

    python bench/selftest.py [--model FILE] [--device auto] [--rounds 3] [--requests N] [--qps Q] [--budget 60] [--json]

Each round profiles the device into a fresh directory (``fastsim profile``: operators, and the CPU times of the engine),
in slices, and serves a list of requests before, between and behind them; then it simulates the list with that directory
as the device. Nothing is fitted to a served request. ``measured`` is the mean of the runs and ``between`` how far the
slowest was from the fastest: what the machine itself does not repeat cannot be predicted.

Shared machines change their speed by tens of per cent within a minute. Slices and runs that alternate meet the same
machine on average; and both time the same work, the profiler's yardstick, in each batch of points and every twenty
iterations. ``error`` compares with the profile as it is; ``error_at_speed`` with one whose times, all alike, are those
of the speed that the yardstick had in each run.

Without ``--qps`` requests arrive at a part of the rate that the engine reached when all of them waited at once, in a
run before the first round that also warms it up; so queues are neither empty nor growing. Then every iteration of the
runs is looked up in the tables by itself, at that speed: that tells errors of operators from errors of the schedule,
which has none (tests/bench/test_selftest_scheduler.py).

The profiler takes weights from memory. The tiny model of ``--smoke`` lives in the caches, so that its errors say only
that everything runs. On CUDA the model is launched kernel by kernel, without graphs.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, emit, note, parser, print_groups
from selftest_compare import Figures, Served, by_kind, iteration_rows, over_rounds, rows_of, simulated_figures
from selftest_engine import Engine
from selftest_model import ModelRunner
from selftest_scheduler import Limits, Request

import fastsim
from estimators import EstimatorError, IterationTables, load_model
from estimators.host_times import fit_host_times, read_host_times
from estimators.profiler import Limits as ProfileLimits
from estimators.profiler import ProfileReport, profile
from estimators.profiler.hardware import Hardware, open_hardware
from estimators.profiler.host_timing import Waits
from estimators.profiler.kernels.backends import choose_backend
from estimators.profiler.yardstick import yardstick
from fastsim.errors import ConfigError
from fastsim.machine import tables_for

MODELS = Path(__file__).resolve().parent / "selftest_models"
#: Part of the engine's capacity at which requests arrive.
LOAD = 0.5
#: Parts of a profile, with a run of the engine behind each.
SLICES = 3
#: Longest request and output; of a model that takes fewer tokens, those.
MAX_MODEL_LEN, MAX_OUTPUT = 1024, 160
LIMITS = Limits(num_blocks=400, block_size=16, max_num_batched_tokens=256, max_num_seqs=16)


@dataclass
class Bench:
    """What is served, where, and by what."""

    model: str
    hardware: Hardware
    dtype: str = field(init=False)
    max_model_len: int = field(init=False)
    runner: ModelRunner = field(init=False)

    def __post_init__(self) -> None:
        self.dtype = self.hardware.dtypes()[0]
        backend = choose_backend(self.hardware, LIMITS.block_size)
        spec, device = load_model(self.model), self.hardware.device
        self.max_model_len = min(MAX_MODEL_LEN, spec.max_position_embeddings)
        self.runner = ModelRunner(spec, LIMITS, self.max_model_len, device, self.dtype, backend)
        self._waits = Waits()
        self._yardstick, self._turn = yardstick(self.hardware), 0
        self._vocabulary = [f" w{i}" for i in range(spec.vocab_size)]

    def engine(self) -> Engine:
        """An idle engine whose clock starts now."""
        return Engine(LIMITS, self.runner, detokenize=self._text, waited_ns=self._waits.total_ns, yardstick=self._speed)

    def serve(self, workload: fastsim.Workload) -> Served:
        """Serve requests of random prompts."""
        rng = np.random.default_rng(0)
        words = len(self._vocabulary)
        columns = (workload.arrival_s, workload.prompt_tokens, workload.output_tokens)
        requests = [
            Request(rng.integers(words, size=prompt).tolist(), output, arrival)
            for arrival, prompt, output in zip(*(column.tolist() for column in columns), strict=True)
        ]
        engine = self.engine()
        engine.serve(requests)
        first, completed = (
            np.array([getattr(request, name) for request in requests]) for name in ("first_token_s", "completed_s")
        )
        preemptions = sum(request.preemptions for request in requests)
        return Served(workload, first, completed, preemptions, engine.iterations, engine.yardstick_s)

    def profile(self, out: Path, budget_s: float, seed: int) -> ProfileReport:
        """Profile the device and the engine into a directory."""
        limits = ProfileLimits(
            max_tokens=LIMITS.max_num_batched_tokens,
            max_num_seqs=LIMITS.max_num_seqs,
            max_model_len=self.max_model_len,
            block_size=LIMITS.block_size,
        )
        device = str(self.hardware.device)
        return profile(
            self.model,
            out,
            device=device,
            dtypes=(self.dtype,),
            budget_s=budget_s,
            limits=limits,
            seed=seed,
            engine=self.engine(),
        )

    def config(self, directory: Path) -> fastsim.SimulationConfig:
        """The engine, on the device that a directory holds."""
        host = fit_host_times(read_host_times(directory))
        return fastsim.SimulationConfig(
            model=self.model,
            device=str(directory),
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            block_size=LIMITS.block_size,
            num_kv_blocks=LIMITS.num_blocks + 1,  # it counts the null block
            scheduler_options={name: getattr(LIMITS, name) for name in ("max_num_batched_tokens", "max_num_seqs")},
            engine_options=asdict(host),
        )

    @torch.inference_mode()
    def _speed(self) -> float:
        """Seconds of the yardstick."""
        self._turn = (self._turn + 1) % self._yardstick.copies
        began_s = time.perf_counter()
        self._yardstick.run(self._turn)
        self.hardware.synchronize()
        return time.perf_counter() - began_s

    def _text(self, tokens: Sequence[int]) -> str:
        return "".join(self._vocabulary[token] for token in tokens)


def workload_of(number: int, qps: float | None, seed: int, max_model_len: int) -> fastsim.Workload:
    """Requests of 8 to 480 tokens that want 4 to 160, fewer of a short model; all at once or as a Poisson process."""
    rng = np.random.default_rng(seed)
    arrivals = np.zeros(number) if qps is None else rng.exponential(1 / qps, number).cumsum()
    prompts = np.clip(rng.lognormal(np.log(96), 0.8, number).astype(int), 8, max_model_len // 2 - 32)
    outputs = np.clip(rng.lognormal(np.log(40), 0.6, number).astype(int), 4, min(MAX_OUTPUT, max_model_len // 2))
    return fastsim.Workload.from_arrays(arrivals - arrivals[0], prompts, outputs)


def run_round(
    bench: Bench, number: int, workload: fastsim.Workload, budget_s: float
) -> tuple[list[Row], list[Row], Row]:
    """One round: its rows, those of its iterations, and what is told of it beside."""
    served = [bench.serve(workload)]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "device"
        for part in range(1, SLICES + 1):
            report = bench.profile(directory, budget_s * part / SLICES, number)
            served.append(bench.serve(workload))
        config = bench.config(directory)
        tables = tables_for(config)
        assert report.yardstick_s is not None
        slower = [float(np.median(one.yardstick_s)) / report.yardstick_s for one in served]
        predicted, *at_speed = (simulate_at(one, config, tables, workload) for one in (1.0, *slower))
    rows = rows_of(number, [one.figures() for one in served], predicted, at_speed)
    iterations = [
        row
        for one, part in zip(served, slower, strict=True)
        for row in iteration_rows(number, one, tables, config, part)
    ]
    told = {"round": number, **served[-1].load(), "slower": slower, "engine_options": dict(config.engine_options)}
    return rows, iterations, told | {"profile": profile_row(report)}


def simulate_at(
    slower: float, config: fastsim.SimulationConfig, tables: IterationTables, workload: fastsim.Workload
) -> Figures:
    """What a device so much slower than the profiled one is predicted to do."""
    times = {name: slower * value for name, value in config.engine_options.items()}
    scaled = replace(tables, values=slower * tables.values)
    return simulated_figures(fastsim.simulate(config.with_fields(engine_options=times), workload, scaled), workload)


def profile_row(report: ProfileReport) -> Row:
    """A profile, JSON-able."""
    told = {**asdict(report), "points": report.points, "grid": report.grid}
    del told["directory"]  # which is gone by then
    return told


def print_round(told: Row) -> None:
    """Print what is told of a round beside its rows."""
    host = ", ".join(f"{name} {1e6 * value:.0f} us" for name, value in told["engine_options"].items())
    print(
        f"round {told['round']}: utilisation {told['utilisation']:.0%}, {told['running']:.1f} requests running and "
        f"{told['waiting']:.1f} waiting, {told['preemptions']} preemptions; slower than the profile by "
        f"{', '.join(f'{one - 1:+.0%}' for one in told['slower'])}; CPU: {host}"
    )


def main() -> int:
    """Print the rows; returns the exit code."""
    arguments = parser("an engine of our own, measured and predicted")
    arguments.add_argument("--model", type=Path, help="config.json of a Llama shape (llama-25m.json)")
    arguments.add_argument("--device", default="auto", help="auto, cpu or cuda")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--requests", type=int, default=150)
    arguments.add_argument("--qps", type=float, help=f"requests/s; {LOAD:.0%} of what the engine can do if not given")
    arguments.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="of each profile")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    if options.smoke:
        options.model, options.rounds, options.requests = MODELS / "llama-tiny.json", 1, 12
        options.budget = min(options.budget, 45.0)
    try:
        for name in ("rounds", "requests", "qps"):
            if (value := getattr(options, name)) is not None and value <= 0:
                raise ConfigError(f"--{name}", value, "serves nobody", "give more than 0")
        bench = Bench(str(options.model or MODELS / "llama-25m.json"), open_hardware(options.device))
        printed = run_rounds(bench, options)
    except (ConfigError, EstimatorError) as error:
        note(str(error))
        return 2
    rows, iterations, rounds = printed
    kinds, summary = by_kind(iterations), over_rounds(rows)
    emit(rows, options.json, rounds=rounds, iterations=kinds, summary=summary, hardware=dict(bench.hardware.provenance))
    if not options.json:
        for told in rounds:
            print_round(told)
        print_groups(kinds)
        print_groups(summary)
    return 0


def run_rounds(bench: Bench, options: Any) -> tuple[list[Row], list[Row], list[Row]]:
    """All rounds: rows, rows of iterations, and what is told of each round beside."""
    full = bench.serve(workload_of(min(options.requests, 60), None, options.seed, bench.max_model_len))
    qps = options.qps or LOAD * len(full.workload) / float(full.completed_s.max())
    note(f"{qps:.2f} requests/s")
    rows: list[Row] = []
    iterations: list[Row] = []
    rounds: list[Row] = []
    for number in range(options.rounds):
        workload = workload_of(options.requests, qps, options.seed + number, bench.max_model_len)
        found, single, told = run_round(bench, number, workload, options.budget)
        rows += found
        iterations += single
        rounds.append({**told, "qps": qps})
    return rows, iterations, rounds


if __name__ == "__main__":
    sys.exit(main())
