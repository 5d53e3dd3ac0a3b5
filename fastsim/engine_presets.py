"""What happens around the batch policy, by engine and version: one dataclass of numbers, and presets of it by name.

docs/policies.md, section 10, has the rules, and docs/engines.md says what each field does to the results and where its
numbers come from. Nothing here imports numba or numpy.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from fastsim.batch_policy import SWAP
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig

#: The longest of an engine's times [s].
_LONGEST_S = 3600
#: Names of lists of CUDA-graph capture sizes, see `capture_sizes`.
NO_GRAPHS, BY_8, BY_8_AND_16, SGLANG = "none", "by_8", "by_8_and_16", "sglang"


@dataclass(frozen=True)
class Engine:
    """An engine around its batch policy.

    Attributes:
        async_scheduling: form the next batch while one runs (``vllm_v1`` with one pipeline stage; else synchronous).
        launch_s: CPU time from forming a batch to its start on the GPU [s].
        launch_s_per_request: the same per request of the batch [s].
        process_s: CPU time from the end of a batch on the GPU until its tokens are out and the next can be formed [s].
        process_s_per_request: the same per request of the batch [s].
        capture_sizes: numbers of tokens to which a batch is padded: ``"none"``; ``"by_8"`` (1, 2, 4, every 8 to 512);
            ``"by_8_and_16"`` (1, 2, 4, every 8 to 256, every 16 to 512, at most 2 max_num_seqs and
            max_num_batched_tokens); ``"sglang"`` (1, 2, 4, every 8 with 12 to 256, at most max_num_seqs).
        full_sequence_gate: whether the engine has the test that ``scheduler_reserve_full_isl`` switches on.
        uncached_blocks_first: with prefix caching, freed blocks that are not cached are the next to be taken.
        prefix_caching: cache prefixes unless the scheduler's field says otherwise; where false, only those of workloads
            that name their blocks.
        ingress_s: front-end time from the client's sending to the arrival at the replica [s].
        ingress_s_per_token: the same per prompt token [s].
        egress_s: front-end time from the engine's token to the client [s].
    """

    async_scheduling: bool = False
    launch_s: float = 0.0
    launch_s_per_request: float = 0.0
    process_s: float = 0.0
    process_s_per_request: float = 0.0
    capture_sizes: str = field(default=NO_GRAPHS, metadata={"choices": (NO_GRAPHS, BY_8, BY_8_AND_16, SGLANG)})
    full_sequence_gate: bool = True
    uncached_blocks_first: bool = False
    prefix_caching: bool = False
    ingress_s: float = 0.0
    ingress_s_per_token: float = 0.0
    egress_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse times that are negative or of hours.

        Raises:
            ConfigError: naming the field.
        """
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.type is float and not 0 <= value <= _LONGEST_S:
                mend = f"give 0 to {_LONGEST_S} seconds"
                raise ConfigError(f"engine.{spec.name}", value, "is no time of an engine", mend)

    def padded_sizes(self, max_num_seqs: int, max_num_batched_tokens: int) -> tuple[int, ...]:
        """The capture sizes, ascending; none where batches are not padded.

        Args:
            max_num_seqs: most requests of a batch.
            max_num_batched_tokens: most tokens of a batch.
        """
        if self.capture_sizes == BY_8:
            return (1, 2, 4, *range(8, 513, 8))
        if self.capture_sizes == BY_8_AND_16:
            largest = min(2 * max_num_seqs, 512, max_num_batched_tokens)
            return tuple(size for size in (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16)) if size <= largest)
        if self.capture_sizes == SGLANG:
            return tuple(size for size in (1, 2, 4, 8, 12, *range(16, 257, 8)) if size <= max_num_seqs)
        return ()


def _engine(launch_s: float, process_s: float, **rules: Any) -> Engine:
    """An engine of which one request costs what it does in vLLM; see below for its times."""
    per_request: dict[str, Any] = {"launch_s_per_request": 2e-6, "process_s_per_request": 1.1e-6}
    return Engine(launch_s=launch_s, process_s=process_s, prefix_caching=True, **per_request, **_FRONT_END, **rules)


#: Front end, all assumptions: tokenisers of Hugging Face read about a million tokens a second on one core; a
#: millisecond for HTTP and the hop to the engine process, half of one for a token's way back.
_FRONT_END: dict[str, Any] = {"ingress_s": 1e-3, "ingress_s_per_token": 1e-6, "egress_s": 5e-4}
#: CPU time of vLLM V1, on one GPU (docs/engines.md adds it up). Measured by others in 2026: `schedule` 0.2 ms, state
#: updates and inputs at least 0.23 ms (vllm pull 42131), `update_from_output` 1.1 us per request (pull 46112).
#: Assumed: 0.17 ms for the launch of the graph and the sampler, 0.2 ms for the copy of the tokens to the host and their
#: sending, and 2 us per request for how scheduling and inputs grow with the batch.
_V012 = _engine(6e-4, 2e-4, capture_sizes=BY_8_AND_16, full_sequence_gate=False)
_V019 = replace(_V012, async_scheduling=True, full_sequence_gate=True)
#: CPU time of 0.9: Llama-3.2-1B took 2.6 ms per token at small batches, a tenth of it in the part of preparing inputs
#: that a shortcut saved (vllm pull 17866). That its kernels take half of that is assumed, so 1.3 ms are left.
_V09 = _engine(1e-3, 3e-4, capture_sizes=BY_8, full_sequence_gate=False)
IDEAL = Engine()
#: By name. What a version does (scheduling, gate, blocks, capture sizes) was read in its source; for times see above.
ENGINES: Mapping[str, Engine] = {
    "ideal": IDEAL,
    # Its loop overlaps the CPU's work with the GPU's, which takes no time here; that this costs a finishing request one
    # more slot in a decode batch is not modelled.
    "sglang-0.5": Engine(capture_sizes=SGLANG, prefix_caching=True, **_FRONT_END),
    "vllm-0.9": _V09,
    "vllm-0.12": _V012,
    "vllm-0.19": _V019,
    "vllm-head": replace(_V019, uncached_blocks_first=True),
}

#: From which version of vLLM on which preset holds, and what of it the version had different: asynchronous scheduling
#: became the default in 0.14, the gate came in 0.19, capture sizes by 16 in 0.11.1.
_VLLM_VERSIONS: tuple[tuple[tuple[int, int, int], str, Mapping[str, Any]], ...] = (
    ((0, 20, 0), "vllm-head", {}),
    ((0, 19, 0), "vllm-0.19", {}),
    ((0, 14, 0), "vllm-0.12", {"async_scheduling": True}),
    ((0, 11, 1), "vllm-0.12", {}),
    ((0, 0, 0), "vllm-0.9", {}),
)


def engine_of_vllm(version: str) -> tuple[str, dict[str, Any]]:
    """The preset whose rules a version of vLLM follows, and the fields in which it differs.

    Args:
        version: such as ``"0.16.1"``; the newest rules if empty.

    Raises:
        ConfigError: it is no version.
    """
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if version and not found:
        raise ConfigError("vllm_version", version, "is no version", "give one such as 0.19.0")
    numbers = tuple(int(part or "0") for part in found.groups()) if found else _VLLM_VERSIONS[0][0]
    return next((name, dict(options)) for first, name, options in _VLLM_VERSIONS if first <= numbers)


def schedules_ahead(config: "SimulationConfig") -> bool:
    """Whether batches are formed while one runs: with pipeline stages they never are."""
    engine: Engine = config.engine_choice
    return engine.async_scheduling and config.pipeline_parallel == 1


def caches_prefixes(config: "SimulationConfig", names_blocks: bool) -> bool:
    """Whether a run caches prefixes.

    Args:
        config: what serves.
        names_blocks: whether the workload names the blocks of its requests.

    Raises:
        ConfigError: caching does not go with the rest of the configuration.
    """
    policy = config.batch_policy
    asked = getattr(policy, "enable_prefix_caching", False)
    caching = bool(asked) if asked is not None else config.engine_choice.prefix_caching or names_blocks
    if caching and getattr(policy, "preemption_mode", "") == SWAP:
        mend = "give scheduler.enable_prefix_caching = false, or recompute"
        raise ConfigError("scheduler.preemption_mode", SWAP, "does not go with prefix caching", mend)
    return caching


def check_engine(config: "SimulationConfig") -> None:
    """Refuse an engine that does not go with the rest of the configuration.

    Raises:
        ConfigError: naming the field.
    """
    name, scheduler = config.engine, config.scheduler
    if config.parity is not None:
        if config.engine_choice != IDEAL:
            wrong = 'adds what does not exist in Vidur, so not under parity = "vidur"'
            raise ConfigError("engine", name, wrong, "choose ideal, without fields")
        return
    for family, served in (("vllm-", "vllm_v1"), ("sglang-", "sglang")):
        if name.startswith(family) and scheduler != served:
            mend = f"give scheduler {served}, or engine ideal"
            raise ConfigError("engine", name, f"does not go with scheduler {scheduler}", mend)
    if config.engine_choice.prefix_caching and not hasattr(config.batch_policy, "enable_prefix_caching"):
        mend = "leave it out, or choose vllm_v1 or sglang"
        raise ConfigError("engine.prefix_caching", True, f"does not go with scheduler {scheduler}", mend)
    if schedules_ahead(config):
        mend = "give engine.async_scheduling = false, or leave out what it does not go with"
        needed = [("scheduler", scheduler, ("vllm_v1",)), ("queue", config.queue, ("fcfs", "sjf"))]
        if scheduler == "vllm_v1":
            needed.append(("scheduler.preemption_mode", config.batch_policy.preemption_mode, ("recompute",)))
        for field_name, value, known in needed:
            if value not in known:
                raise ConfigError(field_name, value, "does not go with asynchronous scheduling", mend)
    caches_prefixes(config, names_blocks=False)


def engine_limits(config: "SimulationConfig", names_blocks: bool, in_lockstep: bool = False) -> dict[str, float]:
    """Fields of the kernel's REPLICA record that the engine sets, with their values.

    What a synchronous engine's CPU time costs is in the tables (`fastsim.stage_tables.engine_values`), so 0 here, but
    for engines in lockstep.

    Args:
        config: what serves.
        names_blocks: whether the workload names the blocks of its requests.
        in_lockstep: whether the engines of a replica run in lockstep.

    Raises:
        ConfigError: caching does not go with the rest of the configuration.
    """
    engine: Engine = config.engine_choice
    ahead = schedules_ahead(config)
    result: dict[str, float] = {
        "async_scheduling": ahead,
        "caching": caches_prefixes(config, names_blocks),
        "uncached_first": engine.uncached_blocks_first,
    }
    for name in ("launch_s", "launch_s_per_request", "process_s", "process_s_per_request"):
        result[name] = getattr(engine, name) if ahead or in_lockstep else 0.0
    if not engine.full_sequence_gate:
        result["scheduler_reserve_full_isl"] = False
    return result
