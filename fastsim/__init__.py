"""fastsim: how will this LLM, on these GPUs, with this serving configuration, behave under this traffic?

>>> import fastsim
>>> config = fastsim.SimulationConfig(model="meta-llama/Llama-3.1-8B", device="h100_sxm")
>>> workload = fastsim.Workload.generate(num_requests=1000, qps=10, seed=0)
>>> result = fastsim.simulate(config, workload)
>>> result.summary["simulation"]["completed"]
1000
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastsim import kernel as kernel
    from fastsim.config import SimulationConfig as SimulationConfig
    from fastsim.errors import ConfigError as ConfigError
    from fastsim.result import SimulationResult as SimulationResult
    from fastsim.searching.capacity import capacity as capacity
    from fastsim.searching.runner import search as search
    from fastsim.simulation import simulate as simulate
    from fastsim.simulation import simulate_many as simulate_many
    from traces import Workload as Workload

#: Imported when first named, so that ``import fastsim`` and ``fastsim --help`` load neither numba nor numpy.
_WHERE = {
    "ConfigError": "fastsim.errors",
    "SimulationConfig": "fastsim.config",
    "SimulationResult": "fastsim.result",
    "Workload": "traces",
    "capacity": "fastsim.searching.capacity",
    "search": "fastsim.searching.runner",
    "simulate": "fastsim.simulation",
    "simulate_many": "fastsim.simulation",
}
__all__ = ["__version__", "kernel", *_WHERE]


def __dir__() -> list[str]:
    """Public names, those not imported yet included."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "kernel":
        return importlib.import_module("fastsim.kernel")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
