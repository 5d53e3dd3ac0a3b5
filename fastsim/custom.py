"""A user's own batch policy or router: a plain or ``@njit`` function, checked and compiled into a function slot.

docs/custom.md shows both.
"""

import inspect
from collections.abc import Callable
from typing import Any

from fastsim.errors import ConfigError

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
