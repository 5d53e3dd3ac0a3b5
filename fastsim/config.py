"""The whole configuration of a simulation: one frozen dataclass, and its TOML form."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from fastsim.config_checks import EXPERT_EXCHANGES, EXPERT_LOADS, check_engines, check_names
from fastsim.engine_presets import ENGINES, Engine, check_engine
from fastsim.errors import ConfigError
from fastsim.measuring import check_spans, check_worst_tbt, read_objectives
from fastsim.options import CLIENTS, QUEUES, ROUTERS, as_table, boolean, choose, default_of, integer, number
from fastsim.schedulers import SCHEDULERS
from fastsim.vidur.options import PARITIES, VIDUR_ROUTERS, check_choices

_KINDS = ("scheduler", "queue", "router", "engine", "client", "parity")
#: Largest values that are simulated: what is more is a slip, and would end in the machine's memory.
_MOST, _MOST_OF_OTHERS = {"replicas": 100_000, "data_parallel": 1000, "num_kv_blocks": 1 << 30}, 1 << 31
#: Characters of a TOML file, dots in a line of it, and bits of an integer: no sentence can name one of 4,300 digits.
MAX_TOML, _MOST_DOTS, _MOST_BITS = 1 << 20, 200, 1000
#: The kernel counts cohorts in eight bits.
_MOST_STAGES = 100
#: Each replica keeps a count for each place within a block.
_MOST_BLOCK_TOKENS = 1 << 16


@dataclass(frozen=True)
class SimulationConfig:
    """What is simulated; every field has a default.

    Attributes:
        model: built-in model name, or path of a Hugging Face ``config.json``.
        device: GPU name, or the directory that ``fastsim profile`` wrote.
        tensor_parallel: GPUs that share each layer.
        pipeline_parallel: pipeline stages of a replica, each on GPUs of its own.
        data_parallel: engines of a replica, each with its own queue, KV blocks and ``tensor_parallel`` GPUs; those of a
            model with experts share them and run in lockstep.
        expert_parallel: GPUs that have some whole experts each: 1, or all ``tensor_parallel * data_parallel``. With 1
            all GPUs have their part of every expert.
        expert_load: how unequally tokens fall on experts: ``"power_law_1.2"``, ``"power_law_1.01"`` or ``"balanced"``.
        expert_exchange: how tokens reach the experts of other engines: ``"all_gather"`` or ``"all_to_all"``.
        replicas: copies of the model.
        max_model_len: longest request, prompt and output together [tokens].
        dtype: of the weights of the layers, such as ``"bf16"``, ``"fp8"`` or ``"mxfp4"``; all else is bf16, or with
            ``"fp32"``, of CPUs, alike. ``"auto"`` is that of the checkpoint, else bf16.
        kv_dtype: of the KV cache, ``"bf16"``, ``"fp32"`` or ``"fp8"``; ``"auto"`` is what the checkpoint asks for, else
            the type of all else.
        gpu_memory_utilization: part of the device memory that the engine may use.
        num_kv_blocks: KV blocks of an engine as it reports them; None computes them from the memory.
        block_size: tokens per KV block.
        seed: of everything random.
        scheduler: batch policy.
        scheduler_options: its fields that differ from their defaults.
        queue: which waiting request is tried next.
        queue_options: its fields that differ from their defaults.
        router: which replica a request goes to.
        router_options: its fields that differ from their defaults.
        engine: what happens around the batch policy, by engine and version.
        engine_options: its fields that differ from the preset's.
        client: who sends the requests, and when.
        client_options: its fields that differ from their defaults.
        parity: ``"vidur"`` simulates by the exact rules of the simulator Vidur, oddities included; None by ours.
        parity_options: its fields that differ from their defaults.
        record_batches: keep one row per iteration and stage in ``SimulationResult.batches``.
        record_metrics: also record what happened over time (``SimulationResult.timeseries``), sizes of batches and the
            time of operators (``summary["batches"]`` and ``["operators"]``), and preempted time and the longest time
            between tokens of each request.
        keep_requests: keep one row per request; always off above 2 M requests.
        slo: service level objectives in place of the workload's, such as ``{"ttft_s": 1.0, "tpot_s": 0.05}``, and by
            number of a class what is other for it: ``{"e2e_s": 60, "0": {"ttft_s": "500ms"}}``. The names are
            ``ttft_s``, ``tpot_s``, ``worst_tbt_s``, ``e2e_s``, and of the whole run ``tbt_p99_s``.
        warmup: which first requests are not measured, such as ``"60s"`` of arrivals or ``"500req"``.
        cooldown: which last requests are not measured, alike.
        power_watts: that a GPU draws; None for the most that its data sheet states.
        price_per_hour: of a GPU [US dollars]; None for an assumed list price.
    """

    model: str = "meta-llama/Llama-3.1-8B"
    device: str = "h100_sxm"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    expert_load: str = EXPERT_LOADS[0]
    expert_exchange: str = EXPERT_EXCHANGES[0]
    replicas: int = 1
    max_model_len: int = 8192
    dtype: str = "bf16"
    kv_dtype: str = "auto"
    gpu_memory_utilization: float = 0.9
    num_kv_blocks: int | None = None
    block_size: int = 16
    seed: int = 0
    scheduler: str = "vllm_v1"
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "fcfs"
    queue_options: Mapping[str, Any] = field(default_factory=dict)
    router: str = "round_robin"
    router_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "ideal"
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    client: str = "open"
    client_options: Mapping[str, Any] = field(default_factory=dict)
    parity: str | None = None
    parity_options: Mapping[str, Any] = field(default_factory=dict)
    record_batches: bool = False
    record_metrics: bool = False
    keep_requests: bool = True
    slo: Mapping[str, Any] = field(default_factory=dict)
    warmup: str | None = None
    cooldown: str | None = None
    power_watts: float | None = None
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ConfigError: one sentence about the first field that is wrong.
        """
        for spec in fields(self):
            object.__setattr__(self, spec.name, read_field(spec, getattr(self, spec.name)))
        check_choices(self)
        check_names(self)
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                "gpu_memory_utilization", self.gpu_memory_utilization, "is not a part of the memory", "give 0.9, say"
            )
        for kind, choices in self._choices().items():
            if getattr(self, kind) is None:
                if options := dict(self._options(kind)):
                    raise ConfigError(f"{kind}_options", options, "belong to no choice", f"give {kind}")
                continue
            # Only what differs from the defaults is kept: equal configurations are equal however they are written.
            chosen = choose(kind, choices, getattr(self, kind), self._options(kind))
            defaults = as_table(default_of(choices[getattr(self, kind)]))
            options = {name: value for name, value in as_table(chosen).items() if value != defaults[name]}
            object.__setattr__(self, f"{kind}_options", options)
        self.batch_policy.check(self.max_model_len, self.block_size)
        if self.block_size > _MOST_BLOCK_TOKENS:
            wrong, mend = "are more tokens to a KV block than are simulated", f"give {_MOST_BLOCK_TOKENS} or less"
            raise ConfigError("block_size", self.block_size, wrong, mend)
        if self.pipeline_parallel > _MOST_STAGES:
            mend = f"give {_MOST_STAGES} or less"
            raise ConfigError("pipeline_parallel", self.pipeline_parallel, "are more stages than are simulated", mend)
        # Vidur starts whatever it is given, and its orca and faster_transformer count the requests of a micro-batch.
        if self.parity is None or self.scheduler == "lightllm":
            self.batch_policy.check_stages(self.pipeline_parallel)
        check_engines(self)
        check_engine(self)
        if self.record_metrics and self.parity is not None:
            mend = "leave it out, or parity"
            raise ConfigError("record_metrics", True, f"is not known to parity = {self.parity}", mend)
        self.client_choice.check()
        object.__setattr__(self, "slo", read_objectives(self.slo))
        check_spans(self)
        check_worst_tbt(self)

    def __hash__(self) -> int:
        return hash(self.to_toml())

    @cached_property
    def batch_policy(self) -> Any:
        """The batch policy's dataclass with its options."""
        return choose("scheduler", SCHEDULERS, self.scheduler, self.scheduler_options)

    @cached_property
    def queue_order(self) -> Any:
        """The queue order's dataclass with its options."""
        return choose("queue", QUEUES, self.queue, self.queue_options)

    @cached_property
    def router_choice(self) -> Any:
        """The router's dataclass with its options."""
        return choose("router", self._choices()["router"], self.router, self.router_options)

    @cached_property
    def engine_choice(self) -> Engine:
        """The engine preset with its options."""
        engine: Engine = choose("engine", ENGINES, self.engine, self.engine_options)
        return engine

    @cached_property
    def client_choice(self) -> Any:
        """The client's dataclass with its options."""
        return choose("client", CLIENTS, self.client, self.client_options)

    @cached_property
    def parity_choice(self) -> Any:
        """The dataclass of the parity with its options."""
        return choose("parity", PARITIES, self.parity or "", self.parity_options)

    def with_fields(self, **values: Any) -> "SimulationConfig":
        """A copy with some fields replaced."""
        return replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """All fields, options resolved to their values; JSON-able and, None left out, TOML-able.

        A choice is a table with its name: ``{"scheduler": {"name": "vllm_v1", "max_num_seqs": 256, ...}}``.
        """
        result: dict[str, Any] = {}
        for spec in fields(self):
            if spec.name in _KINDS and getattr(self, spec.name) is not None:
                choices = self._choices()[spec.name]
                chosen = choose(spec.name, choices, getattr(self, spec.name), self._options(spec.name))
                result[spec.name] = {"name": getattr(self, spec.name), **as_table(chosen)}
            elif not spec.name.endswith("_options"):
                result[spec.name] = getattr(self, spec.name)
        return result

    def _choices(self) -> dict[str, Mapping[str, Any]]:
        """The dataclasses or presets by name, for each kind of choice."""
        return {
            "scheduler": SCHEDULERS,
            "queue": QUEUES,
            "router": VIDUR_ROUTERS if self.parity else ROUTERS,
            "engine": ENGINES,
            "client": CLIENTS,
            "parity": PARITIES,
        }

    def _options(self, kind: str) -> Mapping[str, Any]:
        options: Mapping[str, Any] = getattr(self, f"{kind}_options")
        return options

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SimulationConfig":
        """The inverse of `to_dict`; missing fields have their defaults, and a choice may be its bare name.

        Raises:
            ConfigError: an unknown field (the sentence lists those there are), or a wrong value.
        """
        given = dict(values)
        for kind in _KINDS:
            choice = given.get(kind)
            if isinstance(choice, Mapping):
                given[kind] = choice.get("name", getattr(cls, kind))
                given[f"{kind}_options"] = {key: value for key, value in choice.items() if key != "name"}
        known = [spec.name for spec in fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigError(name, values.get(name), "is not known", f"the fields are {', '.join(known)}")
        return cls(**given)

    def to_toml(self, workload: Mapping[str, Any] | None = None) -> str:
        """The configuration as TOML; fields that are None are left out.

        Args:
            workload: a section ``[workload]`` to append.
        """
        import tomli_w

        table = _without_none(self.to_dict())
        return tomli_w.dumps(table if workload is None else table | {"workload": dict(workload)})

    @classmethod
    def from_toml(cls, text: str) -> "SimulationConfig":
        """Read what `to_toml` wrote; a section ``[workload]`` is left to whoever makes workloads.

        Raises:
            ConfigError: the text is not TOML, or a field is wrong.
        """
        values = read_toml("config", text)
        values.pop("workload", None)
        return cls.from_dict(values)


def read_field(spec: "Field[Any]", value: Any) -> Any:
    """Bring the value of one field of a configuration into its type.

    Raises:
        ConfigError: it is not of that type, or out of range.
    """
    name, annotation = spec.name, spec.type
    if value is None and annotation in (int | None, float | None, str | None):
        return None
    if annotation in (int, int | None):
        value = integer(name, value)
        least, most = (0, None) if name == "seed" else (1, _MOST.get(name, _MOST_OF_OTHERS))
        if value < least:
            raise ConfigError(name, value, "is too small", f"give {least} or more")
        if most is not None and value > most:
            raise ConfigError(name, value, "is too large", f"give {most} or less")
    elif annotation is float:
        value = number(name, value)
    elif annotation == float | None:
        value = number(name, value)
        if value < 0:
            raise ConfigError(name, value, "is negative", "give 0 or more")
    elif annotation is bool:
        value = boolean(name, value)
    elif annotation in (str, str | None):
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str):
            raise ConfigError(name, value, "is not a name", "give a string")
    elif not isinstance(value, Mapping):
        raise ConfigError(name, value, "is not a table of fields", "give a dict such as {'max_num_seqs': 128}")
    return value


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table without what is None, for which TOML has no word; the tables in it alike."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def read_toml(source: str, text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: the text is not TOML; the sentence says where.
    """
    import tomllib

    # The time and memory that tomllib takes for a key grow with the square of its parts.
    if len(text) > MAX_TOML or any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
        wrong = f"has more than {MAX_TOML:,} characters, or {_MOST_DOTS} dots in a line"
        raise ConfigError("config", source, wrong, "give a shorter one")
    try:
        table = tomllib.loads(text)
        _check_integers(table.values())
    except (ValueError, RecursionError) as error:  # beside its own errors: numbers of thousands of digits, deep nesting
        raise ConfigError("config", source, f"is not TOML ({error})", "mend that line") from None
    return table


def _check_integers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, dict | list):
            _check_integers(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise ValueError(f"an integer has {value.bit_length():,} bits")
