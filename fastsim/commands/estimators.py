"""``fastsim estimators {list,show,train}``: the operator estimators behind the tables."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from fastsim.commands.parsing import Parser, flag
from fastsim.errors import ConfigError
from fastsim.options import integer

_ACTIONS = "list, show or train"


@dataclass
class EstimatorsCommand:
    """Flags of ``fastsim estimators``."""

    action: str = flag("list", _ACTIONS, "action")
    device: Optional[str] = flag(None, "GPU; list and show take all when it is not given")
    dtype: Optional[str] = flag(None, "of a product's weights or the KV cache: bf16 or fp8; list and show take both")
    out: Optional[str] = flag(None, "train: directory of the new zoo")
    seed: int = flag(0, "train: of the trees and of the held-out splits")
    json: bool = flag(False, "print one JSON object, and nothing else")


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from estimators.estimator import list_zoo

    parser = Parser(EstimatorsCommand, "estimators", "List, show or train the operator estimators.")
    action_given = bool(words) and not words[0].startswith("-")
    command: EstimatorsCommand = parser.parse_args(list(words) if action_given else ["list", *words])
    known = list_zoo()
    device = None if command.device is None else command.device.lower()
    entries = [entry for entry in known if device in (None, entry[0]) and command.dtype in (None, entry[1])]
    if command.action in ("list", "show") and not entries:
        names = ", ".join(f"{name} {dtype}" for name, dtype in known)
        asked = f"{command.device or 'any GPU'} {command.dtype or 'in any dtype'}"
        raise ConfigError("device", asked, "has no estimators", f"choose one of {names}")
    if command.action == "list":
        _print(command, [{"device": device, "dtype": dtype} for device, dtype in entries], _listing(entries))
    elif command.action == "show":
        from estimators.estimator import describe

        reports = {f"{name} {dtype}": describe(name, dtype) for name, dtype in entries}
        _print(command, reports, "\n\n".join(_report(name, report) for name, report in reports.items()))
    elif command.action == "train":
        _train(command)
    else:
        raise ConfigError("action", command.action, "is not known", f"choose {_ACTIONS}")
    return 0


def _train(command: EstimatorsCommand) -> None:
    """Train the estimators of a device from the measured profiles, and report their held-out errors."""
    from estimators.train import train
    from fastsim.result import writable_directory

    if command.device is None or command.out is None:
        missing = "device" if command.device is None else "out"
        raise ConfigError(missing, None, "is not given", f"write --{missing}, such as --device h100_sxm --out zoo")
    out = writable_directory(command.out)
    seed = integer("seed", command.seed)
    dtype = command.dtype or "bf16"
    report = train(command.device, dtype, out, seed, lambda line: print(f"fastsim: {line}", file=sys.stderr))
    name = f"{command.device} {dtype}"
    _print(command, {name: report}, _report(name, report))


def _print(command: EstimatorsCommand, data: Any, text: str) -> None:
    print(json.dumps(data) if command.json else text)


def _listing(entries: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{device:16}{dtype}" for device, dtype in entries)


def _report(name: str, report: Mapping[str, Mapping[str, Any]]) -> str:
    """Errors and ranges of one entry of the zoo as text."""
    first = next(iter(report.values()))
    lines = [
        f"{name}, from {first['source']}",
        "",
        f"{'':20}{'held out':12}{'median':>9}{'mean':>9}{'p95':>9}   measured with, rows used; where it is worst",
    ]
    for operator, metadata in report.items():
        for i, (split, errors) in enumerate(metadata["held_out_errors"].items()):
            cells = "".join(f"{errors[column]:9.1%}" for column in ("median", "mean", "p95"))
            worst = errors["worst"]
            low, high = worst["range"]
            where = f"{worst['column']} {low:g} to {high:g}: {worst['mean']:.1%}"
            origin = f"{metadata['engine']}, {metadata['rows']['used']:,}; " if i == 0 else ""
            lines.append(f"{operator if i == 0 else '':20}{split:12}{cells}   {origin}{where}")
    return "\n".join(lines)
