"""How long an iteration of a model takes on a device: specs, operator estimators and dense tables.

Everything is imported when first used, so that ``import estimators`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimators.devices import DeviceSpec, load_device
    from estimators.errors import EstimatorError
    from estimators.models import ModelSpec, load_model
    from estimators.tables import IterationTables, TableLayout

__all__ = [
    "DeviceSpec",
    "EstimatorError",
    "IterationTables",
    "ModelSpec",
    "TableLayout",
    "load_device",
    "load_model",
]

_HOMES = {
    "DeviceSpec": "devices",
    "EstimatorError": "errors",
    "IterationTables": "tables",
    "ModelSpec": "models",
    "TableLayout": "tables",
    "load_device": "devices",
    "load_model": "models",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
