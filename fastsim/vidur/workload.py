"""Vidur's request generators in our words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.vidur.config_file import VidurFile

#: Vidur's traces of which we have the lengths inside, in quantiles.
EMBEDDED = {"splitwise_conv": "azure_conv_2023", "splitwise_code": "azure_code_2023"}
GENERATORS = ("synthetic", "trace_replay")
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
        notes: sentences on what was replaced.
    """

    flags: dict[str, Any]
    options: dict[str, dict[str, Any]]
    missing: dict[str, ConfigError]
    notes: tuple[str, ...] = ()


def read_traffic(file: "VidurFile") -> Traffic:
    """The request generator of a configuration.

    Raises:
        ConfigError: a table or choice is missing or unknown, or nothing bounds the number of requests.
    """
    table = file.table("request_generator_config")
    from traces.generators import requests_before

    name = file.choice(table, "request_generator_config", dict.fromkeys(GENERATORS))
    if name == "trace_replay":
        return _replay(file, table)
    lengths = file.table("request_generator_config", "length_generator_config")
    intervals = file.table("request_generator_config", "interval_generator_config")
    flags, options, missing = _lengths(file, lengths)
    notes: tuple[str, ...] = ()
    if "embedded" in flags:
        notes = (f"{lengths.get('trace_file')} is not here; lengths follow our table {flags['lengths']} of that trace",)
        del flags["embedded"]
    name = file.choice(intervals, "interval_generator_config", dict.fromkeys(INTERVALS))
    flags["arrivals"] = name
    options["arrivals"] = {"cv": intervals.get("cv", 0.5)} if name == "gamma" else {}
    if name in ("poisson", "gamma"):
        flags["qps"] = intervals.get("qps", 0.5 if name == "poisson" else 0.2)
    if name == "trace":
        path, error = _find(file, intervals.get("trace_file"), "arrivals")
        missing |= error
        options["arrivals"] = {
            "path": path,
            "start": intervals.get("start_time", ""),
            "end": intervals.get("end_time", ""),
            "time_scale": intervals.get("time_scale_factor", 1.0),
        }
    flags["requests"] = table.get("num_requests")
    duration_s = table.get("duration")
    if duration_s is None and flags["requests"] is None and name != "trace":
        what = "gives neither num_requests nor duration, so Vidur would never end"
        raise ConfigError("vidur-config: request_generator_config", None, what, "give one of them")
    if (duration_s is not None or flags["requests"] is None) and "arrivals" not in missing:
        rate = {"qps": flags["qps"]} if "qps" in flags else {}
        seed = file.values.get("seed", 0)
        # A duration wins over a number of requests; without either a trace of arrivals is taken whole.
        flags["requests"] = requests_before(
            _FOREVER_S if duration_s is None else duration_s,
            seed=seed,
            arrivals=name,
            arrival_options=options["arrivals"] | rate,
        )
    options["trace"] = {"max_total_tokens": file.max_tokens}  # for --trace, in place of the generators
    return Traffic(flags, options, missing, notes)


def _replay(file: "VidurFile", table: Mapping[str, Any]) -> Traffic:
    """A trace as it is, scaled; what is beyond max_tokens is cut off the prompts."""
    path, missing = _find(file, table.get("trace_file"), "trace")
    scales = {
        "prompt_scale": table.get("prefill_scale_factor", 1.0),
        "output_scale": table.get("decode_scale_factor", 1.0),
        "time_scale": table.get("time_scale_factor", 1.0),
        "max_total_tokens": file.max_tokens,
    }
    return Traffic({"trace": path}, {"trace": scales}, missing)


def _lengths(
    file: "VidurFile", table: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, ConfigError]]:
    """The length generator: flags, their options, and what is missing."""
    name = file.choice(table, "length_generator_config", dict.fromkeys(LENGTHS))
    ratio = table.get("prefill_to_decode_ratio", 20.0)
    least = max(2, table.get("min_tokens", 1024))
    totals = {"total_min": least, "total_max": file.max_tokens, "prompt_to_output": ratio}
    if name == "fixed":
        options = {"prompt": table.get("prefill_tokens", 2048), "output": table.get("decode_tokens", 512)}
        return {"lengths": "fixed"}, {"lengths": options}, {}
    if name == "uniform":
        return {"lengths": "uniform_total"}, {"lengths": totals}, {}
    if name == "zipf":
        skew = {"theta": table.get("theta", 0.6), "scramble": table.get("scramble", False)}
        return {"lengths": "zipf"}, {"lengths": totals | skew}, {}
    scales = {
        "prompt_scale": table.get("prefill_scale_factor", 1.0),
        "output_scale": table.get("decode_scale_factor", 1.0),
    }
    path, missing = _find(file, table.get("trace_file"), "lengths")
    embedded = EMBEDDED.get(Path(path).name.partition(".")[0])
    if missing and embedded and set(scales.values()) == {1.0}:
        return {"lengths": embedded, "embedded": True}, {"lengths": {}}, {}
    return {"lengths": "trace"}, {"lengths": {"path": path, **scales, "max_total": file.max_tokens}}, missing


def _find(file: "VidurFile", given: Any, flag: str) -> tuple[str, dict[str, ConfigError]]:
    """A file that Vidur names relative to its checkout: where it is, or the error to raise if nobody replaces it."""
    path = str(given)
    for candidate in (Path(path), file.path.parent / path, file.path.parent / Path(path).name):
        for place in (candidate, candidate.with_name(candidate.name + ".gz")):
            if place.is_file():
                return str(place), {}
    replace = "--trace FILE" if flag == "trace" else f"--{flag}.path FILE, or replay another with --trace FILE"
    where = "beside the configuration nor in the working directory"
    return path, {flag: ConfigError("vidur-config: trace_file", path, f"is neither {where}", f"give it with {replace}")}
