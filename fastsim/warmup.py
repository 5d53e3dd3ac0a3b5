"""Compiling ahead of time: the kernels that runs of the usual configurations need, in several processes."""

import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from fastsim.errors import ConfigError
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

    Raises:
        ConfigError: what was compiled cannot be kept.
    """
    todo = usual_kernels() if kernels is None else kernels
    # Not forked: a child would have locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes or os.cpu_count(), context) as pool:
        try:
            for done in as_completed([pool.submit(_compile, *kernel) for kernel in todo]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _compile(kernel: str, signature: str) -> tuple[str, int]:
    """Compile one of them: its name, and how many functions were not kept yet."""
    from fastsim.kernel.disk_cache import KernelsNotKeptWarning
    from fastsim.kernel.jit import DISABLED

    warnings.simplefilter("error", KernelsNotKeptWarning)  # of this process, which only compiles
    try:
        functions = _functions(kernel, signature)
    except KernelsNotKeptWarning as told:
        wrong, mend = f"cannot be written ({told.reason})", "make room, or set XDG_CACHE_HOME to another place"
        raise ConfigError("directory", str(told.directory), wrong, mend) from None
    name = f"{kernel} ({signature.lower()})" if signature in _KINDS else kernel
    if DISABLED:
        return name, 0
    return name, sum(sum(function.stats.cache_misses.values()) for function in functions)


def _functions(kernel: str, signature: str) -> Sequence[Any]:
    """Compiled, or loaded."""
    from fastsim.kernel import advance, slots

    if signature == "VIDUR":
        from fastsim.vidur.simulate import compile_parity_kernel

        return [compile_parity_kernel()]
    if signature == "TABLES":
        return slots.table_functions()
    if signature in _KINDS:
        return [slots.compiled(kernel, slots.run_of_kind(getattr(advance, signature)))]
    return [slots.compiled(kernel, getattr(slots, signature))]
