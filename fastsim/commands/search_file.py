"""The file of ``fastsim search``: a space, workloads, limits and how to search, as TOML."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.commands.run_flags import RunCommand, read_settings, read_toml_file
from fastsim.commands.run_workload import lasting, read_workload
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.searching.runner import ALONE
from fastsim.searching.space import Space

if TYPE_CHECKING:
    from traces import Workload

_SECTIONS = ("space", "workload", "workloads", "slo", "search")
#: Fields of a section of a workload: what of ``fastsim run`` says what arrives.
_OF_WORKLOADS = ("requests", "qps", "arrivals", "lengths", "conversations", "class_shares", "workload", "trace")
#: Field of a section of a workload that cuts it into windows of so much time, each a workload of its own.
WINDOWS = "windows"
#: Fields of the section that says how to search.
OF_SEARCH = ("strategy", "tolerance", "requests", "seed", "trials", "threads", "executor")


@dataclass(frozen=True)
class SearchFile:
    """What a file says.

    Attributes:
        space: the section ``[space]``.
        workloads: by name the sections ``[workloads.NAME]``, or ``[workload]`` alone under the name ``"workload"``.
        slo: the section ``[slo]``.
        search: the section ``[search]``.
    """

    space: Mapping[str, Any]
    workloads: Mapping[str, Mapping[str, Any]]
    slo: Mapping[str, Any]
    search: Mapping[str, Any]


def read_search_file(path: str) -> SearchFile:
    """Read a file.

    Raises:
        ConfigError: it cannot be read, is not TOML, or has sections or fields that are not known.
    """
    given = read_toml_file("space", path)
    for name, section in given.items():
        if name not in _SECTIONS:
            wrong = f"is no section of {path}"
            raise ConfigError(name, None, wrong, f"the sections are {', '.join(f'[{one}]' for one in _SECTIONS)}")
        if not isinstance(section, dict):
            raise ConfigError(name, section, "is not a table", f"write a section [{name}]")
    if "space" not in given:
        raise ConfigError("space", path, "has no space", "write a section [space] with values of fields")
    if "workload" in given and "workloads" in given:
        raise ConfigError("workloads", None, "are given beside [workload]", "give one of the sections")
    workloads = given.get("workloads", {ALONE: given.get("workload", {})})
    for name, table in workloads.items():
        if not isinstance(table, dict):
            raise ConfigError(f"workloads.{name}", table, "is not a table", f"write a section [workloads.{name}]")
    search = given.get("search", {})
    for name, value in search.items():
        if name not in OF_SEARCH:
            raise ConfigError(f"search.{name}", value, "is not known", f"the fields are {', '.join(OF_SEARCH)}")
    return SearchFile(given["space"], workloads, given.get("slo", {}), search)


def read_space(file: SearchFile) -> Space:
    """The space of a file, with a greatest length where it gives none: the default, within what every model has.

    Raises:
        ConfigError: as `Space.read`.
        estimators.EstimatorError: an unknown model.
    """
    from estimators import load_model

    space = Space.read(file.space)
    models = [lasting(name) for name in space.fields.get("model", (SimulationConfig.model,))]
    given = {**file.space, "model": models}
    if "max_model_len" not in given:
        lengths = (load_model(name).max_position_embeddings for name in models)
        given["max_model_len"] = min(SimulationConfig.max_model_len, *lengths)
    return Space.read(given)


def read_workloads(file: SearchFile, space: Space, seed: int) -> "dict[str, Workload]":
    """The workloads of a file, drawn from a seed and no longer than every configuration takes.

    Raises:
        ConfigError: a field that is not known, or wrong.
        traces.TraceError: alike.
    """
    longest = min(space.fields["max_model_len"])
    config = SimulationConfig(max_model_len=longest, seed=seed)
    found: dict[str, Workload] = {}
    for name, table in file.workloads.items():
        requests = {"requests": file.search["requests"]} if "requests" in file.search else {}
        arriving = {field: value for field, value in table.items() if field != WINDOWS}
        defaults, options = read_settings(requests | arriving, _OF_WORKLOADS, f"workload {name}")
        workload = read_workload(RunCommand(**defaults), options, config)
        found |= _windows(name, workload, table[WINDOWS]) if WINDOWS in table else {name: workload}
    return found


def _windows(name: str, workload: "Workload", length: Any) -> "dict[str, Workload]":
    """The windows of a workload by their names, behind that of the workload where it has one of its own."""
    from fastsim.searching.drift import windows_of

    before = "" if name == ALONE else f"{name} "
    return {f"{before}{window}": part for window, part in windows_of(workload, length).items()}


def with_longest(space: Space, file: SearchFile, workloads: "Mapping[str, Workload]") -> Space:
    """The space with room for the longest request of all workloads, where the file gives no greatest length."""
    longest = max(int((one.prompt_tokens + one.output_tokens).max()) for one in workloads.values())
    length = space.fields["max_model_len"][0]
    if "max_model_len" in file.space or longest <= length:
        return space
    what = f"max_model_len raised from {length} to {longest}, the longest request of the workloads"
    print(f"fastsim: note: {what}", file=sys.stderr)
    return Space.read({**file.space, "model": space.fields["model"], "max_model_len": longest})
