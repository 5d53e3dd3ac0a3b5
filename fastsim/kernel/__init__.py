"""The compiled core: everything that runs inside the event loop.

``fastsim.kernel.run(state, tables, policies)`` is the jitted entry; it may be called from a user's own ``@njit`` code.
It is compiled, or loaded from the cache, when it is first named.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """Build ``run`` when it is first asked for: it has an explicit signature, and those compile at once."""
    if name == "run":
        from fastsim.kernel.slots import RUN, compiled

        return compiled("loop:run", RUN)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
