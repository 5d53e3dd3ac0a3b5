"""``fastsim run``: the main job."""

import json
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from fastsim.commands.measuring import add_load, add_repeats, can_print, read_repeats
from fastsim.commands.parsing import Parser, flag, progress, split_options
from fastsim.commands.traces_of_run import traced_window, write_traces
from fastsim.commands.vidur import read_vidur
from fastsim.config import SimulationConfig, read_toml
from fastsim.config_checks import DTYPES, EXPERT_EXCHANGES, EXPERT_LOADS
from fastsim.engine_presets import ENGINES
from fastsim.errors import ConfigError
from fastsim.options import CLIENTS, QUEUES, ROUTERS, integer, number
from fastsim.schedulers import SCHEDULERS
from fastsim.vidur.options import PARITIES

if TYPE_CHECKING:
    from traces import Workload

#: Choices of the configuration whose fields are flags of the form --group.field.
_SERVING = ("scheduler", "queue", "router", "engine", "client", "parity")
#: Generators of workloads, which a trace does without.
_GENERATORS = ("arrivals", "lengths", "conversations")
#: All groups of such flags. Those of slo are classes of requests.
GROUPS = (*_SERVING, *_GENERATORS, "trace", "slo")
#: Flags that no file has.
_OF_THE_COMMAND_LINE = {"config", "vidur_config", "out", "json", "intervals", "trace_window", "event_trace"}
_OF_THE_COMMAND_LINE |= {"confidence", "repeats"}
_DEFAULT = SimulationConfig()
DEFAULT_REQUESTS = 10_000
DEFAULT_ARRIVALS = "poisson"
DEFAULT_LENGTHS = "azure_conv_2023"
#: About half of what the default configuration can serve.
DEFAULT_QPS = 12.0


@dataclass
class RunCommand:
    """Flags of ``fastsim run``."""

    config: Optional[str] = flag(None, "TOML file with any of these settings; flags override it")
    vidur_config: Optional[str] = flag(None, "config.json of the simulator Vidur; flags override it (docs/vidur.md)")
    model: str = flag(_DEFAULT.model, "built-in model name, or path of a Hugging Face config.json")
    device: str = flag(_DEFAULT.device, "GPU, or directory of a profile")
    tensor_parallel: int = flag(1, "GPUs that share each layer", "--tp", "--tensor-parallel")
    pipeline_parallel: int = flag(1, "pipeline stages", "--pp", "--pipeline-parallel")
    data_parallel: int = flag(1, "engines of a replica (vllm_v1, one pipeline stage)", "--dp", "--data-parallel")
    expert_parallel: int = flag(1, "GPUs that have some whole experts each: 1, or tp x dp", "--ep", "--expert-parallel")
    expert_load: str = flag(_DEFAULT.expert_load, f"how unequally tokens fall on experts: {', '.join(EXPERT_LOADS)}")
    expert_exchange: str = flag(
        _DEFAULT.expert_exchange, f"how tokens reach the experts of other engines: {', '.join(EXPERT_EXCHANGES)}"
    )
    replicas: int = flag(1, "copies of the model")
    max_model_len: Optional[int] = flag(
        None,
        f"longest request in tokens (default: {_DEFAULT.max_model_len}, within what the model and a trace ask for)",
    )
    dtype: str = flag(
        _DEFAULT.dtype, f"of the weights: {', '.join(DTYPES[1:])}, or auto for that of the checkpoint, else bf16"
    )
    kv_dtype: str = flag(
        _DEFAULT.kv_dtype, "of the KV cache: bf16, fp32, fp8, or auto for what the checkpoint asks for"
    )
    gpu_memory_utilization: float = flag(_DEFAULT.gpu_memory_utilization, "part of the GPU memory to use")
    num_kv_blocks: Optional[int] = flag(None, "KV blocks of an engine (default: from the GPU memory)")
    block_size: int = flag(_DEFAULT.block_size, "tokens per KV block")
    scheduler: str = flag(_DEFAULT.scheduler, f"batch policy: {', '.join(SCHEDULERS)}")
    queue: str = flag(_DEFAULT.queue, f"which waiting request is tried next: {', '.join(QUEUES)}")
    router: str = flag(_DEFAULT.router, f"which replica a request goes to: {', '.join(ROUTERS)}")
    engine: str = flag(_DEFAULT.engine, f"what happens around the batch policy: {', '.join(ENGINES)}")
    client: str = flag(
        _DEFAULT.client, f"who sends the requests: {', '.join(CLIENTS)}; closed needs --client.concurrency"
    )
    parity: Optional[str] = flag(None, "vidur: simulate by the exact rules of Vidur, oddities included")
    requests: Optional[int] = flag(None, f"number of requests (default: {DEFAULT_REQUESTS:,}, or the whole trace)")
    qps: Optional[float] = flag(None, f"arrivals per second (default: {DEFAULT_QPS:g}, or those of the trace)")
    arrivals: Optional[str] = flag(None, f"arrival process, see below (default: {DEFAULT_ARRIVALS})")
    lengths: Optional[str] = flag(None, f"length distribution, see below (default: {DEFAULT_LENGTHS})")
    conversations: Optional[str] = flag(
        None, "requests are turns of conversations, see below; needs --conversations.turns"
    )
    class_shares: Optional[str] = flag(
        None,
        "shares of the request classes, the most important first: 0.2,0.8 (default: those of the trace, or one)",
    )
    workload: Optional[str] = flag(
        None, "arrivals and lengths by one name, see 'fastsim traces list'; --qps overrides its rate"
    )
    trace: Optional[str] = flag(
        None, "replay this trace: a file in any format of docs/workloads.md, or the name of one that was fetched"
    )
    seed: int = flag(0, "of everything random")
    slo: Optional[str] = flag(
        None, "objectives, such as ttft=1s,tpot=50ms; of a class --slo.0 ttft=500ms (default: those of the workload)"
    )
    warmup: Optional[str] = flag(None, "measure no requests that arrive in the first 60s, say, or the first 500req")
    cooldown: Optional[str] = flag(None, "the same of the last ones")
    power_watts: Optional[float] = flag(None, "that a GPU draws (default: the most that its data sheet states)")
    price_per_hour: Optional[float] = flag(None, "of a GPU in US dollars (default: an assumed list price)")
    out: Optional[str] = flag(None, "directory for frames of requests and of time, summary.json and config.toml")
    intervals: bool = flag(False, "also say how far the metrics may be off because times are predicted; five more runs")
    confidence: bool = flag(False, "also say how far latencies may be off because the run is so short")
    repeats: Optional[str] = flag(None, "run so many times with other seeds, and say how far metrics differ")
    json: bool = flag(False, "print the summary as one JSON object, and nothing else")
    keep_requests: bool = flag(True, "keep no row per request, as always above 2 M requests")
    record_batches: bool = flag(False, "with --out: also write batches.parquet, one row per iteration")
    trace_window: Optional[str] = flag(
        None, "with --out: also write trace.json.gz, for Perfetto, of A:B seconds of the run, or : for all of it"
    )
    event_trace: Optional[str] = flag(None, "write this file: JSON lines, an event each, within --trace-window if any")
    record_metrics: bool = flag(False, "record operators' shares, sizes of batches and series over time; on with --out")


def _epilog() -> str:
    """The choices' own fields, for the help."""
    from traces.arrivals import ARRIVALS
    from traces.conversations import CONVERSATIONS
    from traces.lengths import LENGTHS
    from traces.resizing import Resizing

    groups = {
        "scheduler": SCHEDULERS,
        "queue": QUEUES,
        "router": ROUTERS,
        "engine": ENGINES,
        "client": CLIENTS,
        "parity": PARITIES,
        "arrivals": ARRIVALS,
        "lengths": LENGTHS,
        "conversations": CONVERSATIONS,
        "trace": {"FILE": Resizing},
    }
    lines = ["choices and their fields (of an engine those that differ from ideal, which has them all):"]
    for group, choices in groups.items():
        for name, choice in choices.items():
            lines.append(f"  --{group} {name}")
            lines += [f"      --{group}.{flag_name} X{default}" for flag_name, default in _fields_of(choice)]
    return "\n".join(lines)


def _fields_of(choice: Any) -> list[tuple[str, str]]:
    """Name and default, as text, of the fields of a choice: of a preset that is not plain those that it sets."""
    shown = []
    for spec in fields(choice):
        default = spec.default if isinstance(choice, type) else getattr(choice, spec.name)
        inherited = not isinstance(choice, type) and choice != type(choice)() and default == spec.default
        if spec.name != "qps" and not inherited:  # qps is a flag of its own
            text = "" if default is MISSING else f"   (default: {default})"
            shown.append((spec.name.replace("_", "-"), text))
    return shown


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    rest, options = split_options(words, GROUPS)
    parser = Parser(RunCommand, "run", "Simulate one configuration under one workload.", _epilog())
    defaults, file_options, notes = _read_files(rest, words)
    parser.set_defaults(**defaults)
    command: RunCommand = parser.parse_args(rest)
    if options["trace"] and command.trace is None:
        field, value = next(iter(options["trace"].items()))
        raise ConfigError(f"trace.{field}", value, "is given without a trace", "give --trace FILE")
    if file_options:
        # Where a flag makes another choice than the file, the fields of the file's choice mean nothing.
        kept = {group for group in GROUPS if defaults.get(group) in (None, getattr(command, group))}
        options = {group: (file_options.get(group, {}) if group in kept else {}) | options[group] for group in GROUPS}
    if command.record_batches and command.out is None:
        if not defaults.get("record_batches"):
            raise ConfigError("record_batches", None, "has nowhere to write to", "give --out DIR")
        command.record_batches = False  # the file is of a run that wrote them, this one writes nothing
    if command.parity is None:
        command.record_metrics |= command.out is not None
    elif defaults.get("record_metrics"):
        command.record_metrics = False  # the file is of a run by our rules
    if command.out is not None:
        from fastsim.result import writable_directory

        writable_directory(command.out)
    window = traced_window(command)
    repeats = read_repeats(command.repeats, command.confidence)
    config, workload = _prepare(command, options)
    tables = _prepare_machine(config, workload, command.intervals)
    # What traces calls max_total_tokens is this command's max_model_len.
    for note in (*notes, *(note.replace("max_total_tokens", "max_model_len") for note in workload.notes)):
        print(f"fastsim: note: {note}", file=sys.stderr)

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
        )
    add_load(result)
    if repeats > 1:

        def with_seed(seed: int) -> tuple[SimulationConfig, "Workload"]:
            # The greatest length was settled by the first run.
            other: Any = replace(command, seed=seed, max_model_len=config.max_model_len)
            return _prepare(other, options)

        add_repeats(result, with_seed, tables, repeats)
    if command.out is not None:
        try:
            result.write(command.out, _workload_table(command, options, len(workload)))
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


def _read_files(
    rest: Sequence[str], words: Sequence[str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], tuple[str, ...]]:
    """Defaults for the flags, the fields of the choices, and notes, from --config or --vidur-config, if either."""
    path, vidur = _early_value(rest, "--config"), _early_value(rest, "--vidur-config")
    if path is not None and vidur is not None:
        raise ConfigError("vidur-config", vidur, "is given beside --config", "give one of them")
    if path is not None:
        defaults, options = _read_config(path)
        given = {word.removeprefix("--").partition("=")[0] for word in rest if word.startswith("--")}
        replaced: tuple[str, ...] = ()
        if "trace" in given and "trace" not in defaults:
            replaced = ("requests", "qps", "workload", *_GENERATORS)
        elif "workload" in given:
            replaced = ("trace", "qps", *_GENERATORS)
        elif given & set(_GENERATORS):
            replaced = ("trace", "workload")
        if _early_value(rest, "--client") == "closed" and not given & {"qps", "arrivals"}:
            replaced += ("qps", "arrivals")
        for name in replaced:
            defaults.pop(name, None)
            options.pop(name, None)
        return defaults, options, ()
    return read_vidur(vidur, words) if vidur is not None else ({}, {}, ())


def _early_value(words: Sequence[str], name: str) -> str | None:
    """The value of a flag that must be read before the others, which override what its file says."""
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{name}="):
            return word.removeprefix(f"{name}=")
    return None


def _read_config(path: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Defaults for the flags, and the fields of the choices, from a TOML file.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has an unknown field.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError("config", path, f"cannot be read ({reason})", "give a TOML file") from None
    values = read_toml(path, text)
    workload = values.pop("workload", {})
    if not isinstance(workload, dict):
        raise ConfigError("workload", workload, "is not a table", "write a section [workload]")
    defaults: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    known = {spec.name for spec in fields(RunCommand)} - _OF_THE_COMMAND_LINE
    for name, value in (values | workload).items():
        if name not in known:
            raise ConfigError(name, value, f"is not known in {path}", f"the fields are {', '.join(sorted(known))}")
        if name in GROUPS and isinstance(value, dict):
            options[name] = {key: entry for key, entry in value.items() if key != "name"}
            value = value.get("name")
        if value is not None:
            defaults[name] = value
    return defaults, options


def _prepare(command: RunCommand, options: dict[str, dict[str, Any]]) -> tuple[SimulationConfig, "Workload"]:
    """The configuration and the workload that the flags ask for."""
    from fastsim.machine import load_machine
    from traces import Workload
    from traces.catalog import located
    from traces.choices import choose
    from traces.rates import with_arrivals
    from traces.resizing import Resizing

    names = {spec.name for spec in fields(SimulationConfig)}
    given = {name: value for name, value in vars(command).items() if name in names and value is not None}
    given["model"] = _lasting(given["model"])
    given |= {f"{kind}_options": options[kind] for kind in _SERVING}
    given["slo"] = _objectives(command.slo, options["slo"])
    config = SimulationConfig(**given)
    made_for = load_machine(config)[0].max_position_embeddings
    if command.max_model_len is None and made_for < config.max_model_len:
        config = config.with_fields(max_model_len=made_for)
    if config.client == "closed":
        for name, asked in (("qps", command.qps), ("arrivals", command.arrivals or options["arrivals"])):
            if asked:
                wrong = "is given with closed clients, which send when they have their last answer"
                raise ConfigError(name, asked, wrong, f"leave out --{name}, or the client")
    num_requests = None if command.requests is None else integer("requests", command.requests)
    if num_requests is not None and num_requests < 1:
        raise ConfigError("requests", num_requests, "is too small", "give 1 or more")
    qps = None if command.qps is None else number("qps", command.qps)
    if command.trace is None:
        return config, _generate(command, options, config, num_requests, qps)
    for group in (*_GENERATORS, "workload"):
        asked = getattr(command, group) or options.get(group)
        if asked:
            raise ConfigError(group, asked, "is given with a trace, which has its own", f"leave out --{group}")
    with progress(f"reading {command.trace}"):
        workload = Workload.read(located(command.trace))
    if options["trace"]:
        workload = choose("trace", {"FILE": Resizing}, "FILE", options["trace"]).apply(workload, config.seed)
    if num_requests is not None:
        if num_requests > len(workload):
            wrong = f"is more than the {len(workload)} of the trace, which is never looped"
            raise ConfigError("requests", num_requests, wrong, f"give {len(workload)} or less")
        workload = workload.head(num_requests)
    if qps is not None:
        is_spread = workload.qps is not None or len(workload) == 1
        workload = workload.scaled(qps) if is_spread else with_arrivals(workload, qps=qps, seed=config.seed)
    if command.class_shares is not None:
        workload = workload.with_classes(_shares(command.class_shares), config.seed)
    longest = int((workload.prompt_tokens + workload.output_tokens).max())
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


def _generate(
    command: RunCommand,
    options: dict[str, dict[str, Any]],
    config: SimulationConfig,
    num_requests: int | None,
    qps: float | None,
) -> "Workload":
    """The synthetic workload that the flags ask for."""
    from traces import Workload
    from traces.generators import WITHOUT_RATE
    from traces.named import described, find

    parameters: dict[str, Any] = {
        "arrivals": command.arrivals or DEFAULT_ARRIVALS,
        "arrival_options": options["arrivals"],
        "lengths": command.lengths or DEFAULT_LENGTHS,
        "length_options": options["lengths"],
        "max_total_tokens": None,
    }
    default_qps = DEFAULT_QPS
    if command.workload is not None:
        for group in ("arrivals", "lengths"):
            if asked := getattr(command, group) or options[group]:
                raise ConfigError(group, asked, "is given with a workload, which has its own", f"leave out --{group}")
        named = find(command.workload)
        parameters, default_qps = named.parameters(), named.qps or DEFAULT_QPS
    if qps is None and parameters["arrivals"] not in WITHOUT_RATE and "qps" not in options["arrivals"]:
        qps = default_qps
    parameters["max_total_tokens"] = min(parameters["max_total_tokens"] or config.max_model_len, config.max_model_len)
    workload = Workload.generate(
        num_requests=DEFAULT_REQUESTS if num_requests is None else num_requests,
        qps=qps,
        conversations=command.conversations,
        conversation_options=options["conversations"] or None,
        class_shares=None if command.class_shares is None else _shares(command.class_shares),
        seed=config.seed,
        **parameters,
    )
    return workload if command.workload is None else described(workload, command.workload)


def _shares(given: Any) -> Any:
    """The shares of the classes: numbers with commas between them on the command line, a list in TOML."""
    return [number("class_shares", share) for share in given.split(",")] if isinstance(given, str) else given


def _prepare_machine(config: SimulationConfig, workload: "Workload", intervals: bool) -> Any:
    """Tables and compiled kernel: what takes long the first time, each with its progress line.

    Returns:
        The tables; None with intervals, for which several are read from the cache.
    """
    from fastsim.intervals import MEMBERS, check_intervals
    from fastsim.machine import check_requests, load_machine, tables_for
    from fastsim.simulation import compile_kernel

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


def _workload_table(command: RunCommand, options: dict[str, dict[str, Any]], num_requests: int) -> dict[str, Any]:
    """The section [workload] of config.toml, from which --config repeats the run, whatever the defaults are then."""
    from traces.generators import WITHOUT_RATE

    table: dict[str, Any] = {}
    if command.requests is not None or command.trace is None:
        table["requests"] = num_requests
    if command.qps is not None:
        table["qps"] = number("qps", command.qps)
    if command.class_shares is not None:
        table["class_shares"] = _shares(command.class_shares)
    if command.trace is not None:
        from traces.catalog import located

        trace = str(located(command.trace).resolve())
        return {"trace": {"name": trace, **options["trace"]} if options["trace"] else trace, **table}
    arrivals, lengths = command.arrivals or DEFAULT_ARRIVALS, command.lengths or DEFAULT_LENGTHS
    if command.conversations is not None:
        table["conversations"] = {"name": command.conversations, **options["conversations"]}
    if command.workload is not None:
        return table | {"workload": command.workload}
    table["lengths"] = {"name": lengths, **{key: _lasting(value) for key, value in options["lengths"].items()}}
    if command.client == "closed":
        return table
    if command.qps is None and arrivals not in WITHOUT_RATE and "qps" not in options["arrivals"]:
        table["qps"] = DEFAULT_QPS
    table["arrivals"] = {"name": arrivals, **{key: _lasting(value) for key, value in options["arrivals"].items()}}
    return table


def _lasting(value: Any) -> Any:
    """A path that holds from any directory, and other values as they are."""
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_file() else value
