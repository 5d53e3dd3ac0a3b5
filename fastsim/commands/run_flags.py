"""The flags of ``fastsim run``, and the files that stand in for them: --config and --vidur-config."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Optional

from fastsim.commands.parsing import Parser, flag, split_options
from fastsim.commands.run_workload import DEFAULT_ARRIVALS, DEFAULT_LENGTHS, DEFAULT_QPS, DEFAULT_REQUESTS, GENERATORS
from fastsim.commands.vidur import read_vidur
from fastsim.config import MAX_TOML, SimulationConfig, read_toml
from fastsim.config_checks import DTYPES, EXPERT_EXCHANGES, EXPERT_LOADS
from fastsim.engine_presets import ENGINES
from fastsim.errors import ConfigError
from fastsim.options import CLIENTS, QUEUES, ROUTERS
from fastsim.schedulers import SCHEDULERS
from fastsim.vidur.options import PARITIES

#: Choices of the configuration whose fields are flags of the form --group.field.
SERVING = ("scheduler", "queue", "router", "engine", "client", "parity")
#: All groups of such flags. Those of slo are classes of requests.
GROUPS = (*SERVING, *GENERATORS, "trace", "slo")
#: Flags that no file has.
_OF_THE_COMMAND_LINE = {"config", "vidur_config", "out", "json", "intervals", "trace_window", "event_trace"}
_OF_THE_COMMAND_LINE |= {"confidence", "repeats"}
_DEFAULT = SimulationConfig()


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


def read_flags(
    words: Sequence[str], command_class: type[Any], name: str, what: str
) -> tuple[Any, dict[str, dict[str, Any]], dict[str, Any], tuple[str, ...]]:
    """Read the command line of a command that has the flags of ``fastsim run``, and the file that it names, if any.

    Args:
        words: behind the command's name.
        command_class: the dataclass behind it.
        name: of the command.
        what: it does, in a sentence.

    Returns:
        The flags; by group the fields of the choices; what of the flags the file says; and notes.

    Raises:
        ConfigError: flags or fields that are not known or do not go together, or a file that cannot be read.
    """
    rest, options = split_options(words, GROUPS)
    parser = Parser(command_class, name, what, _epilog() if {"-h", "--help"} & {*words} else "")
    defaults, file_options, notes = _read_files(rest, words)
    known = {spec.name for spec in fields(command_class)}
    parser.set_defaults(**{field: value for field, value in defaults.items() if field in known})
    command = parser.parse_args(rest)
    if options["trace"] and command.trace is None:
        field, value = next(iter(options["trace"].items()))
        raise ConfigError(f"trace.{field}", value, "is given without a trace", "give --trace FILE")
    if file_options:
        # Where a flag makes another choice than the file, the fields of the file's choice mean nothing.
        kept = {group for group in GROUPS if defaults.get(group) in (None, getattr(command, group))}
        options = {group: (file_options.get(group, {}) if group in kept else {}) | options[group] for group in GROUPS}
    return command, options, defaults, notes


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
            replaced = ("requests", "qps", "workload", *GENERATORS)
        elif "workload" in given:
            replaced = ("trace", "qps", *GENERATORS)
        elif given & set(GENERATORS):
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
    values = read_toml_file("config", path)
    workload = values.pop("workload", {})
    if not isinstance(workload, dict):
        raise ConfigError("workload", workload, "is not a table", "write a section [workload]")
    return read_settings(values | workload, {spec.name for spec in fields(RunCommand)} - _OF_THE_COMMAND_LINE, path)


def read_toml_file(field: str, path: str) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    from estimators.bounded import read_bounded, text_of

    try:
        text = text_of(read_bounded(path, MAX_TOML))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(field, path, f"cannot be read ({reason})", "give a TOML file") from None
    return read_toml(path, text)


def read_settings(
    values: Mapping[str, Any], known: Collection[str], source: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Values for flags, and the fields of the choices, from a table.

    Args:
        values: by flag its value, or of a choice a table with its name and fields.
        known: flags that the table may have.
        source: where it is, for the message.

    Raises:
        ConfigError: an unknown flag.
    """
    defaults: dict[str, Any] = {}
    options: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(name, value, f"is not known in {source}", f"the fields are {', '.join(sorted(known))}")
        if name in GROUPS and isinstance(value, dict):
            options[name] = {key: entry for key, entry in value.items() if key != "name"}
            value = value.get("name")
        if value is not None:
            defaults[name] = value
    return defaults, options
