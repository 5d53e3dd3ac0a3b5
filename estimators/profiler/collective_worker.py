"""What each process of a measured collective does: one process for each device, all in step.

A module of its own, as every process imports it anew.
"""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from estimators.files import replace_file

Job = tuple[str, int]  # operator, elements
Call = Callable[[], object]

_TIMEOUT = datetime.timedelta(minutes=2)  # of a process that waits for another
_CAPTURED = 20  # calls in a CUDA graph: an engine's collectives are in one, too
_LEAST_S = 2e-3  # of a round of calls on a CPU, far above the clock's resolution
_MOST_CALLS = 100


def run_worker(
    rank: int, gpus: int, backend: str, dtype: torch.dtype, jobs: Sequence[Job], rounds: int, place: str
) -> None:
    """Measure all jobs with the other processes; the first one writes ``times.json``, seconds by (round, job).

    Args:
        rank: of this process.
        gpus: processes, and devices.
        backend: ``"nccl"``, or ``"gloo"`` where devices are CPUs.
        dtype: of the numbers that are sent.
        jobs: operators with their elements, multiples of ``gpus``.
        rounds: how often each is measured, all in turn.
        place: an empty directory.
    """
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    meet = f"file://{place}/meet"
    dist.init_process_group(backend, init_method=meet, rank=rank, world_size=gpus, timeout=_TIMEOUT)
    try:
        calls = [collective(operator, elements, gpus, dtype, device) for operator, elements in jobs]
        prepare = _captured if device.type == "cuda" else _repeated
        seconds = _in_turn([prepare(call) for call in calls], rounds).to(device)
        dist.all_reduce(seconds, dist.ReduceOp.MAX)  # a collective takes as long as on the slowest
        if rank == 0:
            text = json.dumps(seconds.tolist())
            replace_file(Path(place) / "times.json", lambda file: file.write(text.encode()))
    finally:
        dist.destroy_process_group()


def collective(operator: str, elements: int, gpus: int, dtype: torch.dtype, device: torch.device) -> Call:
    """One call of a collective among all processes, ``elements`` counted as in ``estimators.profiles.COLUMNS``."""
    whole = torch.zeros(elements, dtype=dtype, device=device)
    part = torch.zeros(elements // gpus, dtype=dtype, device=device)
    if operator == "all_reduce":
        return lambda: dist.all_reduce(whole)
    if operator == "all_gather":
        # torch 2.13 renamed both.
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        return lambda: gather(whole, part)
    if operator == "reduce_scatter":
        scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
        return lambda: scatter(part, whole)
    received = torch.empty_like(whole)
    return lambda: dist.all_to_all_single(received, whole)


def _in_turn(timers: Sequence[Callable[[], float]], rounds: int) -> torch.Tensor:
    """Seconds of one call by (round, job): every round has all jobs, in another order, the same in all processes."""
    seconds = torch.zeros(rounds, len(timers), dtype=torch.float64)
    order, chance = list(range(len(timers))), random.Random(0)
    for row in seconds:
        chance.shuffle(order)
        for job in order:
            dist.barrier()
            row[job] = timers[job]()
    return seconds


def _repeated(call: Call) -> Callable[[], float]:
    """Time a call on the host, which waits for it: as often as fills the least time, by the slowest process."""
    call()
    start = time.perf_counter()
    call()
    took = torch.tensor([time.perf_counter() - start])
    dist.all_reduce(took, dist.ReduceOp.MAX)
    times = min(_MOST_CALLS, 1 + int(_LEAST_S / took.item()))

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times

    return seconds


def _captured(call: Call) -> Callable[[], float]:
    """Time calls in a CUDA graph, after the first has set up the connections."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # NCCL's own threads may ask for events meanwhile, which a capture of all threads would forbid.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(_CAPTURED):
            call()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def seconds() -> float:
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3 / _CAPTURED

    seconds()
    return seconds
