"""The compiled core: everything that runs inside the event loop.

``fastsim.kernel.run(state, tables, policies)`` is its entry, from Python and from a user's own ``@njit`` code;
``copy_state`` and ``reset`` take a state back to where a run began (docs/embedding.md).
"""

import importlib
from typing import Any

#: Imported when first named: they load numba.
_WHERE = {"run": "entry", "reset": "entry", "copy_state": "prepare"}


def __getattr__(name: str) -> Any:
    """Import a function for callers when it is first used."""
    if name in _WHERE:
        return getattr(importlib.import_module(f"fastsim.kernel.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
