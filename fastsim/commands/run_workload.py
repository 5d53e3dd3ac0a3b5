"""The workload that the flags of ``fastsim run`` ask for, and how config.toml keeps it."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.commands.parsing import progress
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from fastsim.options import integer, number

if TYPE_CHECKING:
    from fastsim.commands.run_flags import RunCommand
    from traces import Workload

#: Generators of workloads, which a trace does without.
GENERATORS = ("arrivals", "lengths", "conversations")
DEFAULT_REQUESTS = 10_000
DEFAULT_ARRIVALS = "poisson"
DEFAULT_LENGTHS = "azure_conv_2023"
#: About half of what the default configuration can serve.
DEFAULT_QPS = 12.0


def read_workload(command: "RunCommand", options: dict[str, dict[str, Any]], config: SimulationConfig) -> "Workload":
    """The workload that the flags ask for, held in memory.

    Args and errors are those of `read_arriving`.
    """
    workload: Workload = read_arriving(command, options, config, may_stream=False)
    return workload


def read_arriving(
    command: "RunCommand", options: dict[str, dict[str, Any]], config: SimulationConfig, may_stream: bool
) -> Any:
    """The workload that the flags ask for, a Workload or a WorkloadStream.

    Args:
        command: of which only flags of the workload are read.
        options: fields of its choices, by `fastsim.commands.run_flags.GROUPS`.
        config: who sends it, from which seed, and the longest request that is drawn.
        may_stream: whether so many requests that no row of them is kept are drawn, or read from one of our Parquet
            files as they are there, while they are simulated.

    Raises:
        ConfigError: flags that do not go together, or a value that is wrong.
        traces.TraceError: as said, by what draws or reads it.
    """
    from fastsim.metrics import KEEP_LIMIT
    from traces import Workload
    from traces.catalog import located
    from traces.choices import choose
    from traces.rates import with_arrivals
    from traces.resizing import Resizing
    from traces.scanning import UnscannableError, count_rows

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
        return _generate(command, options, config, num_requests, qps, may_stream)
    for group in (*GENERATORS, "workload"):
        asked = getattr(command, group) or options.get(group)
        if asked:
            raise ConfigError(group, asked, "is given with a trace, which has its own", f"leave out --{group}")
    as_it_is = not (options["trace"] or command.requests or command.qps or command.class_shares)
    path = located(command.trace)
    if may_stream and as_it_is and path.is_file() and count_rows(path) > KEEP_LIMIT:
        with suppress(UnscannableError), progress(f"checking {command.trace}"):
            return Workload.scan(path)
    with progress(f"reading {command.trace}"):
        workload = Workload.read(path)
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
    return workload


def _generate(
    command: "RunCommand",
    options: dict[str, dict[str, Any]],
    config: SimulationConfig,
    num_requests: int | None,
    qps: float | None,
    may_stream: bool,
) -> Any:
    """The synthetic workload that the flags ask for."""
    from fastsim.metrics import KEEP_LIMIT
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
    if config.max_model_len < 2:
        raise ConfigError(
            "max_model_len", config.max_model_len, "has no room for a prompt and an output", "give 2 or more"
        )
    parameters["max_total_tokens"] = min(parameters["max_total_tokens"] or config.max_model_len, config.max_model_len)
    talk = {"conversations": command.conversations, "conversation_options": options["conversations"] or None}
    draw: Any = Workload.generate
    if may_stream and not any(talk.values()) and (num_requests or 0) > KEEP_LIMIT:
        draw = Workload.stream
    workload = draw(
        num_requests=DEFAULT_REQUESTS if num_requests is None else num_requests,
        qps=qps,
        **talk,
        class_shares=None if command.class_shares is None else _shares(command.class_shares),
        seed=config.seed,
        **parameters,
    )
    return workload if command.workload is None else described(workload, command.workload)


def _shares(given: Any) -> Any:
    """The shares of the classes: numbers with commas between them on the command line, a list in TOML."""
    return [number("class_shares", share) for share in given.split(",")] if isinstance(given, str) else given


def workload_table(command: "RunCommand", options: dict[str, dict[str, Any]], num_requests: int) -> dict[str, Any]:
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
    table["lengths"] = {"name": lengths, **{key: lasting(value) for key, value in options["lengths"].items()}}
    if command.client == "closed":
        return table
    if command.qps is None and arrivals not in WITHOUT_RATE and "qps" not in options["arrivals"]:
        table["qps"] = DEFAULT_QPS
    table["arrivals"] = {"name": arrivals, **{key: lasting(value) for key, value in options["arrivals"].items()}}
    return table


def lasting(value: Any) -> Any:
    """A path that holds from any directory, and other values as they are."""
    return str(Path(value).resolve()) if isinstance(value, str) and Path(value).is_file() else value
