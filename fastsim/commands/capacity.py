"""``fastsim capacity``: the highest rate at which a configuration holds its limits."""

import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, Optional

from fastsim.commands.measuring import can_print
from fastsim.commands.parsing import flag, progress
from fastsim.commands.run import prepare, prepare_machine
from fastsim.commands.run_flags import RunCommand, read_flags
from fastsim.commands.run_workload import workload_table
from fastsim.commands.summary import _replicas
from fastsim.errors import ConfigError
from fastsim.options import number
from fastsim.searching.limits import Limit, parse_limits, read_limits

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.searching.capacity import Capacity
    from traces import Workload

_WHAT = (
    "Find the highest rate at which limits hold and no queue builds up. All probes simulate the same requests, those "
    "of the flags below, with arrivals scaled to their rates."
)
#: Flags of ``fastsim run`` that mean nothing here, and those that mean something else.
_NOT_HERE = {"intervals", "confidence", "repeats", "keep_requests", "record_batches", "record_metrics"}
_NOT_HERE |= {"trace_window", "event_trace", "slo", "out", "json"}
_OWN = [
    (
        "slo",
        Optional[str],
        flag(
            None,
            "limits, such as ttft_p90=2s,tpot_p99=100ms (default: scheduling_delay_p99=5s); or "
            "attainment=95%,ttft=1s: such a part of the requests meets objectives of its own",
        ),
    ),
    ("tolerance", float, flag(0.01, "largest part by which the rate that holds and one that does not differ")),
    ("out", Optional[str], flag(None, "directory for capacity.json and config.toml")),
    ("json", bool, flag(False, "print the capacity as one JSON object, and nothing else")),
]
_SHARED = [
    (spec.name, spec.type, field(default=spec.default, metadata=spec.metadata))
    for spec in fields(RunCommand)
    if spec.name not in _NOT_HERE
]
#: Flags of ``fastsim capacity``.
CapacityCommand: Any = make_dataclass("CapacityCommand", [*_SHARED, *_OWN])
#: Width of the longest bar [characters].
_BAR = 24


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from fastsim.searching.capacity import capacity, check_tolerance

    command, options, _, notes = read_flags(words, CapacityCommand, "capacity", _WHAT)
    slo, objectives = ({}, {}) if command.slo is None else parse_limits(command.slo)
    limits = read_limits(slo)
    command.slo = ",".join(f"{name}={value}" for name, value in objectives.items()) or None
    tolerance = check_tolerance(number("tolerance", command.tolerance))
    if command.out is not None:
        from fastsim.result import writable_directory

        writable_directory(command.out)
    config, workload = prepare(command, options)
    tables = prepare_machine(config, workload, False)
    for note in (*notes, *(note.replace("max_total_tokens", "max_model_len") for note in workload.notes)):
        print(f"fastsim: note: {note}", file=sys.stderr)
    with progress(f"searching for the capacity under {len(workload):,} requests"):
        found = capacity(config, workload, slo, tables=tables, tolerance=tolerance)
    described = describe(config, workload, limits, found)
    if command.out is not None:
        _write(command.out, described, config.to_toml(workload_table(command, options, len(workload))))
    if command.json:
        print(json.dumps(described))
        return 0
    print(render(described, with_bars=can_print("█", sys.stdout)))
    if command.out is not None:
        print(f"\nwritten to {command.out}")
    return 0


def describe(
    config: "SimulationConfig", workload: "Workload", limits: Sequence[Limit], found: "Capacity"
) -> dict[str, Any]:
    """What was asked and what was found, JSON-able."""
    from fastsim import __version__

    return {
        "version": __version__,
        "config": config.to_dict(),
        "workload": {
            "source": dict(workload.provenance),
            "notes": list(workload.notes),
            "requests": len(workload),
            "hash": workload.hash,
        },
        "limits": [vars(limit) for limit in limits],
        "capacity": found.as_dict(),
    }


def _write(directory: str, described: Mapping[str, Any], config: str) -> None:
    """Write capacity.json, and config.toml for ``fastsim run`` or this command.

    Raises:
        ConfigError: the directory cannot be written.
    """
    from estimators.files import replace_files
    from fastsim.result import writable_directory

    target = writable_directory(directory)
    text = json.dumps(described, indent=2) + "\n"
    try:
        replace_files(
            {
                target / "config.toml": lambda file: file.write(config.encode()),
                target / "capacity.json": lambda file: file.write(text.encode()),
            }
        )
    except OSError as error:
        raise ConfigError("out", directory, f"cannot be written ({error})", "choose another") from None


def render(described: Mapping[str, Any], with_bars: bool = True) -> str:
    """What `describe` says as text, several lines.

    Args:
        described: from `describe`.
        with_bars: draw the rates, in characters that not every terminal has.
    """
    found, config = described["capacity"], described["config"]
    probes = sorted(found["probes"], key=lambda probe: probe["qps"])
    low, high = found["bracket"]
    above = "everything holds" if high is None else f"at {high:.4g} requests/s {found['binding']}"
    best = found["at_capacity"]
    wall_s = sum(probe["wall_s"] for probe in probes)
    lines = [
        f"{config['model']} on {_replicas(config)}, {config['scheduler']['name']}, "
        f"{described['workload']['requests']:,} requests",
        "",
        f"capacity          {found['qps']:.4g} requests/s, within {found['tolerance']:.2g}",
        f"above it          {above}",
        *_wrapped("long enough" if found["long_enough"] else "too short", found["why"].partition(": ")[2]),
        *([_latencies(best["metrics"])] if best["metrics"] and found["qps"] > 0 else []),
        "",
        f"{'requests/s':>12}  {'':{_BAR if with_bars else 0}}{'  ' if with_bars else ''}verdict",
        *(_row(probe, probes[-1]["qps"], low, with_bars) for probe in probes),
        "",
        f"{len(probes)} probes of {sum(probe['requests'] for probe in probes):,} requests in {wall_s:.2f} s",
    ]
    return "\n".join(lines)


def _wrapped(title: str, text: str) -> list[str]:
    """A text behind its title, in lines that a terminal has room for."""
    return textwrap.wrap(f"{title:18}{text}", 112, subsequent_indent=" " * 18)


def _latencies(metrics: Mapping[str, float]) -> str:
    """A line about what requests meet with at capacity."""
    quantiles = ("p50", "p90", "p99")
    ttft, tpot = (
        "/".join(f"{metrics.get(f'{metric}.{quantile}', 0.0) * 1e3:.4g}" for quantile in quantiles)
        for metric in ("ttft_s", "tpot_s")
    )
    mfu = f", MFU {metrics['mfu']:.1%}" if "mfu" in metrics else ""
    return f"at it             TTFT p50/p90/p99 {ttft} ms, TPOT {tpot} ms{mfu}"


def _row(probe: Mapping[str, Any], most_qps: float, capacity_qps: float, with_bars: bool) -> str:
    """A line about one probe."""
    bar = f"{'█' * max(round(_BAR * probe['qps'] / most_qps), 1):{_BAR}}  " if with_bars else ""
    verdict = "holds " if probe["holds"] else "breaks"
    mark = "  <- capacity" if probe["holds"] and probe["qps"] == capacity_qps else ""
    return f"{probe['qps']:12.4g}  {bar}{verdict}  {probe['binding']}{mark}"
