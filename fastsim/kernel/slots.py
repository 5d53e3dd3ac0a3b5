"""Function slots: batch policies and routers compiled to function pointers of fixed types.

The event loop is compiled once and cached, whatever function sits in a slot; a call costs about 20 ns, so a slot is
asked once per decision and never once per candidate.
"""

import functools
import importlib
import warnings
from typing import Any

from numba import from_dtype, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaExperimentalFeatureWarning

from estimators.files import locked
from fastsim.kernel.jit import DISABLED, cache_directory, jit
from fastsim.kernel.state import BATCH, CLUSTER, PENDING, REPLICA, REQUEST, STAGE, State

# Function slots are numba's "first-class functions", experimental by name; our tests pin what we use of them.
warnings.filterwarnings("ignore", message=".*First-class function type", category=NumbaExperimentalFeatureWarning)

_REQUESTS = types.Array(from_dtype(REQUEST), 1, "C")
_REPLICAS = types.Array(from_dtype(REPLICA), 1, "C")
_CLUSTER = types.Array(from_dtype(CLUSTER), 1, "C")
_INTEGERS = types.Array(types.int64, 1, "C")
_BATCHES = types.Array(from_dtype(BATCH), 1, "C")
_STAGES = types.Array(from_dtype(STAGE), 1, "C")
_PENDING = types.Array(from_dtype(PENDING), 1, "C")

#: (requests, replica, integers) -> tokens in the batch
SCHEDULE = types.int64(_REQUESTS, from_dtype(REPLICA), _INTEGERS)
#: (requests, replicas, cluster, i) -> replica
ROUTE = types.int64(_REQUESTS, _REPLICAS, from_dtype(CLUSTER), types.int64)
_RUN_ARGUMENTS = (
    types.NamedTuple((_REQUESTS, _REPLICAS, _CLUSTER, _INTEGERS, _BATCHES, _STAGES, _PENDING, _REPLICAS), State),
    types.Array(types.float64, 1, "C", readonly=True),
    types.Tuple((types.FunctionType(SCHEDULE), types.FunctionType(ROUTE))),
)
#: (state, start)
RESTART = types.void(_RUN_ARGUMENTS[0], _RUN_ARGUMENTS[0])
#: (state, tables, (schedule, route)) -> status
RUN = types.int64(*_RUN_ARGUMENTS)


def run_of_kind(kind: tuple[int, ...]) -> Any:
    """(state, tables, (schedule, route), kind) -> status, for one of the kinds of `fastsim.kernel.advance`."""
    return types.int64(*_RUN_ARGUMENTS, types.UniTuple(types.int64, len(kind)))


_READ_ONLY = {dtype: types.Array(dtype, 1, "C", readonly=True) for dtype in (types.float64, types.int64, types.int32)}
#: (requests, arrival_s, prompt_tokens, output_tokens, request_class, session)
FILL_REQUESTS = types.void(
    _REQUESTS,
    _READ_ONLY[types.float64],
    _READ_ONLY[types.int64],
    _READ_ONLY[types.int64],
    _READ_ONLY[types.int32],
    _READ_ONLY[types.int64],
)
#: (state, stack) -> requests that nobody needs any more
COUNT_DONE = types.int64(_RUN_ARGUMENTS[0], _INTEGERS)
#: (state, count)
DROP_DONE = types.void(_RUN_ARGUMENTS[0], types.int64)
#: (requests, sent_s, egress_s)
SEE_TIMES = types.void(_REQUESTS, _READ_ONLY[types.float64], types.float64)
_FLOATS = types.Array(types.float64, 1, "C")
#: (requests, latencies, counts, tokens, totals) -> values of TPOT
READ_REQUESTS = types.int64(
    _REQUESTS,
    types.Array(types.float64, 2, "C"),
    types.Array(types.int64, 2, "C"),
    types.Array(types.int32, 2, "C"),
    _FLOATS,
)
#: (values, wanted, gathered)
GATHER = types.void(_FLOATS, _INTEGERS, _FLOATS)


@functools.cache
def compiled(kernel: str, signature: Any) -> Any:
    """A function of this package, compiled now or loaded from the cache.

    Of several processes that need it at a time one compiles, and the others load what it leaves.

    Args:
        kernel: ``"module:function"``.
        signature: one of those above.
    """
    module, name = kernel.split(":")
    function = getattr(importlib.import_module(f"fastsim.kernel.{module}"), name)
    if DISABLED:
        return function
    plain = getattr(function, "py_func", function)
    # Numba's lock first, which a thread that compiles a function of a user's holds when it comes here.
    with global_compiler_lock, locked(cache_directory() / f"{kernel}.lock"):
        return jit(signature)(plain)


def policies(schedule: str, route: str) -> tuple[Any, Any]:
    """The batch policy and the router for `run`, each as ``"module:function"``."""
    return compiled(schedule, SCHEDULE), compiled(route, ROUTE)


def table_functions() -> tuple[Any, Any, Any, Any]:
    """The functions that fill the request table, write the clients' times into it, read it, and gather values."""
    return (
        compiled("columns:fill_requests", FILL_REQUESTS),
        compiled("columns:see_times", SEE_TIMES),
        compiled("columns:read_requests", READ_REQUESTS),
        compiled("columns:gather", GATHER),
    )
