"""Vidur's request generators in our words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.vidur.config_file import VidurFile

#: Vidur's traces of which we have the lengths inside, in quantiles.
EMBEDDED = {"splitwise_conv": "azure_conv_2023", "splitwise_code": "azure_code_2023"}
GENERATORS = ("synthetic", "trace_replay", "trace")
INTERVALS = ("poisson", "gamma", "static", "trace")
LENGTHS = ("trace", "fixed", "uniform", "zipf")
_FOREVER_S = 1e12


@dataclass(frozen=True)
class Traffic:
    """What arrives, as flags of ``fastsim run``.

    Attributes:
        flags: requests, qps, arrivals, lengths, trace: those that are given.
        options: fields of the choices arrivals, lengths and trace.
        missing: a file that is not there, by the flag that would replace it.
        notes: sentences on lengths that were replaced.
    """

    flags: dict[str, Any]
    options: dict[str, dict[str, Any]]
    missing: dict[str, ConfigError] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __or__(self, other: "Traffic") -> "Traffic":
        """Both together."""
        return Traffic(
            self.flags | other.flags,
            self.options | other.options,
            self.missing | other.missing,
            self.notes + other.notes,
        )


def read_traffic(file: "VidurFile") -> Traffic:
    """The request generator of a configuration.

    Raises:
        ConfigError: a table, a choice or a number is missing or unknown, or nothing bounds the number of requests.
    """
    table = file.table("request_generator_config")
    if file.choice(table, "request_generator_config", dict.fromkeys(GENERATORS)) != "synthetic":
        return _replay(file, table)
    arrivals = _arrivals(file, file.table("request_generator_config", "interval_generator_config"))
    lengths = _lengths(file, file.table("request_generator_config", "length_generator_config"))
    # For --trace, in place of the generators.
    rest = Traffic({"requests": _count(file, table, arrivals)}, {"trace": {"max_total_tokens": file.max_tokens}})
    return arrivals | lengths | rest


def _replay(file: "VidurFile", table: Mapping[str, Any]) -> Traffic:
    """A trace as it is, scaled; what is beyond max_tokens is cut off the prompts."""
    path, missing = _find(file, table, "trace")
    scales = _scales(file, table, "request_generator_config") | {
        "time_scale": file.number(table, "request_generator_config", "time_scale_factor", 1.0),
        "max_total_tokens": file.max_tokens,
    }
    return Traffic({"trace": path}, {"trace": scales}, missing)


def _arrivals(file: "VidurFile", table: Mapping[str, Any]) -> Traffic:
    """The interval generator."""
    what = "interval_generator_config"
    name = file.choice(table, what, dict.fromkeys(INTERVALS))
    if name == "static":
        return Traffic({"arrivals": name}, {"arrivals": {}})
    if name != "trace":
        options = {"cv": file.number(table, what, "cv")} if name == "gamma" else {}
        return Traffic({"arrivals": name, "qps": file.number(table, what, "qps")}, {"arrivals": options})
    path, missing = _find(file, table, "arrivals")
    bounds = {"start": table.get("start_time", ""), "end": table.get("end_time", "")}
    options = {"path": path, **bounds, "time_scale": file.number(table, what, "time_scale_factor", 1.0)}
    return Traffic({"arrivals": name}, {"arrivals": options}, missing)


def _count(file: "VidurFile", table: Mapping[str, Any], arrivals: Traffic) -> int | None:
    """Number of requests: a duration wins over it, and without either a trace of arrivals is taken whole.

    Raises:
        ConfigError: nothing bounds it.
    """
    from traces.generators import requests_before

    name, duration_s, count = arrivals.flags["arrivals"], table.get("duration"), table.get("num_requests")
    if arrivals.missing or (duration_s is None and count is not None):
        return count
    if duration_s is None and name != "trace":
        what = "gives neither num_requests nor duration, so Vidur would never end"
        raise ConfigError("vidur-config: request_generator_config", None, what, "give one of them")
    rate = {"qps": arrivals.flags["qps"]} if "qps" in arrivals.flags else {}
    return requests_before(
        _FOREVER_S if duration_s is None else duration_s,
        seed=file.seed,
        arrivals=name,
        arrival_options=arrivals.options["arrivals"] | rate,
    )


def _lengths(file: "VidurFile", table: Mapping[str, Any]) -> Traffic:
    """The length generator."""
    what = "length_generator_config"
    name = file.choice(table, what, dict.fromkeys(LENGTHS))
    if name == "fixed":
        sides = {"prompt": "prefill_tokens", "output": "decode_tokens"}
        fixed = {ours: file.number(table, what, theirs) for ours, theirs in sides.items()}
        return Traffic({"lengths": "fixed"}, {"lengths": fixed})
    if name in ("uniform", "zipf"):
        totals = {
            "total_min": max(2, file.number(table, what, "min_tokens")),
            "total_max": file.max_tokens,
            "prompt_to_output": file.number(table, what, "prefill_to_decode_ratio"),
        }
        if name == "uniform":
            return Traffic({"lengths": "uniform_total"}, {"lengths": totals})
        skew = {"theta": file.number(table, what, "theta"), "scramble": bool(table.get("scramble", False))}
        return Traffic({"lengths": "zipf"}, {"lengths": totals | skew})
    path, missing = _find(file, table, "lengths")
    scales = _scales(file, table, what)
    embedded = EMBEDDED.get(Path(path).name.partition(".")[0])
    if missing and embedded and set(scales.values()) == {1.0}:
        note = f"{path} is not here; lengths follow our table {embedded} of that trace"
        return Traffic({"lengths": embedded}, {"lengths": {}}, notes=(note,))
    return Traffic({"lengths": "trace"}, {"lengths": {"path": path, **scales, "max_total": file.max_tokens}}, missing)


def _scales(file: "VidurFile", table: Mapping[str, Any], what: str) -> dict[str, float]:
    """What lengths are multiplied with."""
    sides = {"prompt_scale": "prefill_scale_factor", "output_scale": "decode_scale_factor"}
    return {ours: float(file.number(table, what, theirs, 1.0)) for ours, theirs in sides.items()}


def _find(file: "VidurFile", table: Mapping[str, Any], flag: str) -> tuple[str, dict[str, ConfigError]]:
    """A file that Vidur names relative to its checkout: where it is, or the error to raise if nobody replaces it."""
    path = str(table.get("trace_file"))
    for candidate in (Path(path), file.path.parent / path, file.path.parent / Path(path).name):
        for place in (candidate, candidate.with_name(candidate.name + ".gz")):
            if place.is_file():
                return str(place), {}
    replace = "--trace FILE" if flag == "trace" else f"--{flag}.path FILE, or replay another with --trace FILE"
    where = "beside the configuration nor in the working directory"
    return path, {flag: ConfigError("vidur-config: trace_file", path, f"is neither {where}", f"give it with {replace}")}
