"""Compiling ahead of time: the kernels that runs of the usual configurations need, in several processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from fastsim.options import ROUTERS
from fastsim.schedulers import SCHEDULERS

#: Kinds of replicas by the name of their number in `fastsim.kernel.advance`.
_KINDS = ("ONE_STAGE", "AHEAD", "STAGES", "LOCKSTEP")


def usual_kernels() -> list[tuple[str, str]]:
    """Kernels that a run may need, those that take longest first: each ``"module:function"`` and its signature's name.

    They are the event loop for every kind of replica, the batch policies, the routers, what fills, reads and moves
    tables, and Vidur's event loop. What only compiled code of a user's own calls is not among them.
    """
    loops = [(f"loop:{loop}", kind) for loop in ("without_clients", "with_clients") for kind in _KINDS]
    schedules = dict.fromkeys(scheduler.kernel for scheduler in SCHEDULERS.values())
    routes = dict.fromkeys(router.kernel for router in ROUTERS.values())  # type: ignore[attr-defined]
    return [
        *loops,
        ("vidur.loop:run", "VIDUR"),
        *((kernel, "SCHEDULE") for kernel in schedules),
        *((kernel, "ROUTE") for kernel in routes),
        ("segment:count_done", "COUNT_DONE"),
        ("segment:drop_done", "DROP_DONE"),
        ("columns", "TABLES"),
    ]


def compile_usual(
    kernels: Sequence[tuple[str, str]] | None = None, processes: int | None = None
) -> Iterator[tuple[str, int]]:
    """Compile kernels that are not kept yet, in no order.

    Args:
        kernels: which; None for `usual_kernels`.
        processes: how many at a time; None for one per core.

    Yields:
        Of each kernel its name, and how many functions of it had to be compiled, when it is done.
    """
    todo = usual_kernels() if kernels is None else kernels
    # Not forked: a child would have locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count(), context) as pool:
        for done in as_completed([pool.submit(_compile, *kernel) for kernel in todo]):
            yield done.result()


def _compile(kernel: str, signature: str) -> tuple[str, int]:
    """Compile one of them: its name, and how many functions were not kept yet."""
    from fastsim.kernel import advance, slots
    from fastsim.kernel.jit import DISABLED

    functions: Sequence[Any]
    if signature == "VIDUR":
        from fastsim.vidur.simulate import compile_parity_kernel

        functions = [compile_parity_kernel()]
    elif signature == "TABLES":
        functions = slots.table_functions()
    elif signature in _KINDS:
        functions = [slots.compiled(kernel, slots.run_of_kind(getattr(advance, signature)))]
    else:
        functions = [slots.compiled(kernel, getattr(slots, signature))]
    name = f"{kernel} ({signature.lower()})" if signature in _KINDS else kernel
    if DISABLED:
        return name, 0
    return name, sum(sum(function.stats.cache_misses.values()) for function in functions)
