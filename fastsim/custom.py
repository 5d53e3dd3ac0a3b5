"""A user's own batch policy or router: a plain or ``@njit`` function, checked and compiled into a function slot.

docs/custom.md shows both.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.options import ROUTERS

_PARAMETERS = {
    "batch_policy": ("requests", "replica", "integers"),
    "router": ("requests", "replicas", "cluster", "i"),
}
_MEANING = {"batch_policy": "the number of tokens in the batch", "router": "the number of a replica"}


def as_slot(kind: str, function: Callable[..., Any]) -> Any:
    """Compile a user's function for the event loop.

    Args:
        kind: ``"batch_policy"`` or ``"router"``.
        function: takes (requests, replica, integers), or (requests, replicas, cluster, i); the tables are those of
            `fastsim.kernel.state`.

    Returns:
        The function slot.

    Raises:
        ConfigError: the function takes other arguments, reads a field that does not exist, does not compile, or does
            not return a whole number.
    """
    from numba import njit, types
    from numba.core.errors import NumbaError, UnsupportedBytecodeError

    from fastsim.kernel.slots import ROUTE, SCHEDULE

    plain = getattr(function, "py_func", function)
    name = getattr(plain, "__name__", "f")
    expected = f"write it as {name}({', '.join(_PARAMETERS[kind])}), returning {_MEANING[kind]}"
    if not inspect.isfunction(plain):
        raise ConfigError(kind, None, f"is of type {type(function).__name__}, not a function", expected)
    if len(inspect.signature(plain).parameters) != len(_PARAMETERS[kind]):
        raise ConfigError(kind, name, "does not take the arguments of a " + kind.replace("_", " "), expected)
    signature = ROUTE if kind == "router" else SCHEDULE
    try:
        inferred: Any = njit(plain)
        inferred.compile(signature.args)
        returned = inferred.nopython_signatures[0].return_type
        if not isinstance(returned, types.Integer):
            raise ConfigError(kind, name, f"returns {returned}", expected)
        return njit(signature)(plain)
    except KeyError as error:
        raise ConfigError(kind, name, f"reads a field {error} that does not exist", _known_fields(kind)) from None
    except (NumbaError, UnsupportedBytecodeError) as error:
        reason = next((line for line in str(error).splitlines() if "Error" in line or "attribute" in line), str(error))
        raise ConfigError(kind, name, f"does not compile ({reason.strip()})", expected) from None


def _known_fields(kind: str) -> str:
    """The fields of every table that a slot of this kind gets."""
    from fastsim.kernel.state import CLUSTER, REPLICA, REQUEST

    tables = {"requests": REQUEST, "replica": REPLICA, "replicas": REPLICA, "cluster": CLUSTER}
    known = [
        f"the fields of {parameter} are {', '.join(tables[parameter].names or ())}"
        for parameter in _PARAMETERS[kind]
        if parameter in tables
    ]
    return "; ".join(known)


def reads_replicas(config: SimulationConfig, own: Mapping[str, Any]) -> bool:
    """Whether the router, one of one's own if it is in ``own``, looks at replicas."""
    return "router" in own or bool(ROUTERS[config.router].reads_replicas)  # type: ignore[attr-defined]


def check_status(status: int, config: SimulationConfig, own: Mapping[str, Any]) -> int:
    """What the event loop returned, if that is DONE or, of a stream, NEEDS_REQUESTS.

    Raises:
        ConfigError: a function of one's own, by ``batch_policy`` or ``router`` in ``own``, does not work.
    """
    from fastsim.kernel import state as states

    if status == states.NO_SUCH_REPLICA and "router" in own:
        mend = f"return 0 to {config.replicas - 1}"
        raise ConfigError("router", own["router"].__name__, "chose a replica that does not exist", mend)
    if status == states.NO_PROGRESS and "batch_policy" in own:
        mend = "admit the head of the waiting queue whenever nothing runs"
        raise ConfigError("batch_policy", own["batch_policy"].__name__, "leaves requests waiting for ever", mend)
    if status not in (states.DONE, states.NEEDS_REQUESTS):
        # Cannot happen with the policies of this package: a request that fits makes progress in every iteration.
        raise RuntimeError(f"the simulation stopped with status {status}: this is a bug of fastsim, please report it")
    return status
