"""``fastsim run``: the main job."""

import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.commands.measuring import add_load, add_repeats, can_print, read_repeats
from fastsim.commands.parsing import progress
from fastsim.commands.run_flags import SERVING, RunCommand, read_flags
from fastsim.commands.run_workload import lasting, read_arriving, workload_table
from fastsim.commands.traces_of_run import traced_window, write_traces
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from traces import Workload, WorkloadStream


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    from traces import WorkloadStream

    command: RunCommand
    what = "Simulate one configuration under one workload."
    command, options, defaults, notes = read_flags(words, RunCommand, "run", what)
    if command.record_batches and command.out is None:
        if not defaults.get("record_batches"):
            raise ConfigError("record_batches", None, "has nowhere to write to", "give --out DIR")
        command.record_batches = False  # the file is of a run that wrote them, this one writes nothing
    if command.parity is not None and defaults.get("record_metrics"):
        command.record_metrics = False  # the file is of a run by our rules
    if command.out is not None:
        from fastsim.result import writable_directory

        writable_directory(command.out)
    window = traced_window(command)
    repeats = read_repeats(command.repeats, command.confidence)
    needs_all = (command.intervals, command.confidence, repeats > 1, window, command.event_trace)
    config, workload = prepare(command, options, may_stream=not any(needs_all))
    streams = isinstance(workload, WorkloadStream)
    if command.out is not None and command.parity is None and not streams:
        command.record_metrics = True
        config = config.with_fields(record_metrics=True)
    tables = prepare_machine(config, workload, command.intervals)
    given_notes = workload.given_notes if streams else workload.notes
    say((*notes, *given_notes))
    if streams and command.out is not None:
        say(["so many requests are not held in memory: without --record-metrics nothing is recorded over time"])

    from fastsim.progress import ProgressLine
    from fastsim.simulation import simulate

    with ProgressLine(len(workload)) as line:
        result = simulate(
            config,
            workload,
            tables,
            intervals=command.intervals,
            batch_window=window,
            confidence=command.confidence,
            watch=line.watch,
            requests_file=_rows_file(command) if streams else None,
        )
    if streams:
        say(workload.notes[len(given_notes) :])
    else:
        add_load(result)
    if repeats > 1:

        def with_seed(seed: int) -> tuple[SimulationConfig, "Workload"]:
            # The greatest length was settled by the first run.
            other: Any = replace(command, seed=seed, max_model_len=config.max_model_len)
            return prepare(other, options)

        add_repeats(result, with_seed, tables, repeats)
    if command.out is not None:
        try:
            result.write(command.out, workload_table(command, options, len(workload)))
        except OSError as error:
            raise ConfigError("out", command.out, f"cannot be written ({error})", "choose another") from None
    if window is not None:
        write_traces(command, result, window)
    if command.json:
        print(json.dumps(result.summary))
    else:
        from fastsim.commands.summary import BARS, render

        print(render(result.summary, with_bars=can_print(BARS, sys.stdout)))
        if command.out is not None:
            print(f"\nwritten to {command.out}")
    return 0


def say(notes: Sequence[str]) -> None:
    """Print notes on a workload; what traces calls max_total_tokens is this command's max_model_len."""
    for note in notes:
        print(f"fastsim: note: {note.replace('max_total_tokens', 'max_model_len')}", file=sys.stderr)


def _rows_file(command: RunCommand) -> Path | None:
    """Where the rows of a stream's requests go."""
    return Path(command.out) / "requests.parquet" if command.out is not None and command.keep_requests else None


def prepare(
    command: RunCommand, options: dict[str, dict[str, Any]], may_stream: bool = False
) -> tuple[SimulationConfig, Any]:
    """The configuration and the workload that the flags ask for.

    With ``may_stream`` that is a WorkloadStream where there are many requests, and nothing needs all of them.
    """
    from fastsim.machine import load_machine
    from fastsim.streaming import find_unstreamable
    from traces import WorkloadStream

    names = {spec.name for spec in fields(SimulationConfig)}
    given = {name: value for name, value in vars(command).items() if name in names and value is not None}
    given["model"] = lasting(given["model"])
    given |= {f"{kind}_options": options[kind] for kind in SERVING}
    given["slo"] = _objectives(command.slo, options["slo"])
    config = SimulationConfig(**given)
    made_for = load_machine(config)[0].max_position_embeddings
    if command.max_model_len is None and made_for < config.max_model_len:
        config = config.with_fields(max_model_len=made_for)
    workload = read_arriving(command, options, config, may_stream and find_unstreamable(config) is None)
    if command.trace is None:
        return config, workload
    streams = isinstance(workload, WorkloadStream)
    longest = workload.most_tokens if streams else int((workload.prompt_tokens + workload.output_tokens).max())
    if command.max_model_len is None and longest > config.max_model_len:
        print(
            f"fastsim: note: max_model_len raised from {config.max_model_len} to {longest}, "
            "the longest request of the trace",
            file=sys.stderr,
        )
        config = config.with_fields(max_model_len=longest)
    return config, workload


def _objectives(text: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Objectives from a file and from flags, of which those of all requests go before the file's."""
    from fastsim.measuring import parse_objectives

    found = {key: parse_objectives(value) if _is_list(value) else value for key, value in given.items()}
    return found | ({} if text is None else parse_objectives(text))


def _is_list(value: Any) -> bool:
    return isinstance(value, str) and "=" in value


def prepare_machine(config: SimulationConfig, workload: "Workload | WorkloadStream", intervals: bool) -> Any:
    """Tables and compiled kernel: what takes long the first time, each with its progress line.

    Returns:
        The tables; None with intervals, for which several are read from the cache.
    """
    from fastsim.intervals import MEMBERS, check_intervals
    from fastsim.machine import check_requests, load_machine, tables_for
    from fastsim.preparing import compile_kernel
    from traces import Workload

    if not isinstance(workload, Workload):
        workload = next(iter(workload))  # the others are like it, and are checked when they come
    if intervals:
        check_intervals(config, None)
    check_requests(config, workload, load_machine(config)[2])
    with progress(f"building the tables of {config.model} on {config.device}"):
        tables = tables_for(config, workload.block_tokens > 0)
        for member in range(1, MEMBERS + 1 if intervals else 1):
            tables_for(config, workload.block_tokens > 0, member)
    with progress("preparing the event loop, which is compiled once per machine"):
        compile_kernel(config, workload)
    return None if intervals else tables
