"""A profiled device: the directory that ``fastsim profile`` leaves, with ``device.json`` and what was trained there.

``device.json`` holds ``format``, ``version``, ``device`` (the fields of ``DeviceSpec``) and ``provenance``: what the
one who measured says of it. It is written last, so that a directory which has one is finished.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from estimators.bounded import parsed_json, read_bounded
from estimators.devices import DeviceSpec
from estimators.dtypes import MATRIX_TYPES
from estimators.errors import EstimatorError
from estimators.files import replace_file

_FORMAT, _VERSION = "fastsim device", 1
_FILE, _ESTIMATORS = "device.json", "estimators"
_MEND = "run fastsim profile with another --out"
_MAY_BE_ZERO = ("power_watts", "price_per_hour", "nvlink_latency_s", "inter_node_latency_s")
_FIGURES = {spec.name: spec.type for spec in fields(DeviceSpec) if spec.type in ("int", "float")}


def device_path(directory: str | os.PathLike[str]) -> Path:
    """Where a profiled device is described."""
    return Path(directory) / _FILE


def own_zoo(directory: str | os.PathLike[str]) -> Path:
    """Where a profiled device's own estimators are, laid out as ``estimators.train.train`` writes them."""
    return Path(directory) / _ESTIMATORS


def write_device(directory: str | os.PathLike[str], spec: DeviceSpec, provenance: Mapping[str, Any]) -> None:
    """Describe a profiled device in its directory, in one step.

    Args:
        directory: of the profile.
        spec: what was measured, or what is known of the board; its ``directory`` is left out.
        provenance: JSON-able.

    Raises:
        EstimatorError: when it could not be read back.
    """
    path = device_path(directory)
    told = spec.figures()
    _spec(path, told, directory)
    content = {"format": _FORMAT, "version": _VERSION, "device": told, "provenance": dict(provenance)}
    try:
        text = json.dumps(content, indent=1).encode()
    except TypeError as error:
        mend = "use strings, numbers, lists and dicts"
        raise EstimatorError("provenance", None, f"cannot be written as JSON ({error})", mend) from error
    replace_file(path, lambda file: file.write(text))


def read_device(directory: str | os.PathLike[str]) -> tuple[DeviceSpec, dict[str, Any]]:
    """Return a profiled device, and the provenance it was written with.

    Raises:
        EstimatorError: when there is no ``device.json``, or it is not one that ``write_device`` wrote.
    """
    path = device_path(directory)
    try:
        content = parsed_json(read_bounded(path))
    except FileNotFoundError:
        mend = "run fastsim profile with this --out again, it goes on where it stopped"
        raise EstimatorError("device", os.fspath(directory), "is no finished profile", mend) from None
    except (OSError, ValueError) as error:
        raise EstimatorError(str(path), None, f"cannot be read as JSON ({error})", _MEND) from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise EstimatorError(str(path), None, "was not written by fastsim", _MEND)
    if content.get("version") != _VERSION:
        raise EstimatorError(f"{path}: version", content.get("version"), f"is not {_VERSION}", _MEND)
    told, provenance = content.get("device"), content.get("provenance")
    if not isinstance(told, dict) or not isinstance(provenance, dict):
        raise EstimatorError(str(path), None, "does not hold a device and its provenance", _MEND)
    return _spec(path, told, directory), provenance


def _spec(path: Path, told: Mapping[str, Any], directory: str | os.PathLike[str]) -> DeviceSpec:
    """The device of the parsed fields, each checked."""
    wanted = {"name", "peak_flops", *_FIGURES}
    if missing := sorted(wanted - set(told)):
        raise EstimatorError(str(path), None, f"does not say {', '.join(missing)}", _MEND)
    if unknown := sorted(set(told) - wanted):
        raise EstimatorError(str(path), None, f"says {', '.join(unknown)}, of which nothing is known", _MEND)
    name, peaks = told["name"], told["peak_flops"]
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise EstimatorError(f"{path}: name", name, "is no name of a device", "give a word")
    if not isinstance(peaks, dict) or not peaks or set(peaks) - set(MATRIX_TYPES.values()):
        known = ", ".join(dict.fromkeys(MATRIX_TYPES.values()))
        raise EstimatorError(f"{path}: peak_flops", peaks, "is no table of rates by type", f"give some of {known}")
    for kind, rate in peaks.items():
        _check_figure(f"{path}: peak_flops: {kind}", rate, "float", False)
    for figure, kind in _FIGURES.items():
        _check_figure(f"{path}: {figure}", told[figure], kind, figure in _MAY_BE_ZERO)
    return replace(DeviceSpec(**told), directory=str(Path(directory).resolve()))


def _check_figure(field: str, value: Any, kind: str, may_be_zero: bool) -> None:
    whole = type(value) is int
    finite = whole or (kind == "float" and type(value) is float and math.isfinite(value))
    if not finite or value < 0 or (value == 0 and not may_be_zero):
        what = f"a {'whole ' if kind == 'int' else ''}number {'from 0 on' if may_be_zero else 'above 0'}"
        raise EstimatorError(field, value, f"is not {what}", f"give {what}")
