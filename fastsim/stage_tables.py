"""The iteration tables of a replica: one for each pipeline stage, laid end to end for the kernel."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.batch_policy import Pool
from fastsim.config import SimulationConfig
from fastsim.engine_presets import caches_prefixes, schedules_ahead
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from estimators import IterationTables, ModelSpec, TableLayout
    from estimators.joint import JointLayout


@dataclass(frozen=True, eq=False)
class StageTables:
    """The tables of all pipeline stages of a replica.

    Attributes:
        stages: those of each stage; all have the same layout and rule.
        values: their values [s], float64, one after the other, equal ones once; not copied if all are equal.
        bases: where those of each stage begin in ``values``.
    """

    stages: "tuple[IterationTables, ...]"
    values: npt.NDArray[np.float64]
    bases: tuple[int, ...]

    @property
    def in_lockstep(self) -> bool:
        """Whether they are of engines that share experts, and so run in lockstep."""
        return self.stages[0].expert is not None

    @property
    def hash(self) -> str:
        """SHA-256, hex: equal hashes mean equal simulations. That of the tables themselves if all are equal."""
        if not any(self.bases):
            return self.stages[0].hash
        return hashlib.sha256("".join(stage.hash for stage in self.stages).encode()).hexdigest()

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from; a list ``stages`` unless all are equal."""
        if not any(self.bases):
            return dict(self.stages[0].provenance)
        return {"stages": [dict(stage.provenance) for stage in self.stages]}


def join_tables(
    config: SimulationConfig,
    tables: "IterationTables | Sequence[IterationTables]",
    pool: Pool,
    names_blocks: bool = False,
    model: "ModelSpec | None" = None,
) -> StageTables:
    """Lay the tables of the stages end to end; equal ones once.

    Args:
        config: what serves.
        tables: of every stage, or one for each.
        pool: the KV memory of a replica.
        names_blocks: whether the workload names the blocks of its requests.
        model: what is simulated, for tables that say what they are of; None checks none.

    Raises:
        ConfigError: there are not as many as stages, they do not go together, or a run could read beyond their end.
    """
    stages = list(tables) if isinstance(tables, Sequence) else [tables] * config.pipeline_parallel
    if len(stages) != config.pipeline_parallel:
        wrong = f"do not match pipeline_parallel = {config.pipeline_parallel}"
        raise ConfigError("tables", len(stages), wrong, "give one for each stage, or one for all")
    for stage in stages:
        if axes_of(stage) != axes_of(stages[0]):
            raise ConfigError("tables", None, "differ in their axes or rule", "build those of all stages alike")
    for number, stage in enumerate(stages):
        check_stage(config, model, stage, number)
    check_tables(config, stages[0], pool, names_blocks)
    if len(stages) == 1:  # also spares the hash of the values
        return StageTables((stages[0],), stages[0].values, (0,))
    distinct = {stage.values_sha256: stage.values for stage in stages}
    begins = {sha256: i * stages[0].size for i, sha256 in enumerate(distinct)}
    values = stages[0].values if len(distinct) == 1 else np.concatenate(list(distinct.values()))
    return StageTables(tuple(stages), values, tuple(begins[stage.values_sha256] for stage in stages))


def check_stage(config: SimulationConfig, model: "ModelSpec | None", tables: "IterationTables", stage: int) -> None:
    """Refuse tables that say that they are of other layers or another tensor parallelism.

    Raises:
        ConfigError: as said.
    """
    made_for = tables.provenance
    if model is None or "stage" not in made_for:
        return
    part = model.pipeline_stage(config.pipeline_parallel, stage)._asdict()
    if dict(made_for["stage"]) != part:
        wrong = f"are of {_layers(made_for['stage'])}, not of {_layers(part)} of {model.name}"
        raise ConfigError("tables", None, wrong, f"build those of stage {stage} of {config.pipeline_parallel}")
    if made_for.get("tp", config.tensor_parallel) != config.tensor_parallel:
        wrong = f"are of tp {made_for['tp']}, not of tensor_parallel = {config.tensor_parallel}"
        raise ConfigError("tables", None, wrong, "build them for as many GPUs")


def _layers(part: Mapping[str, Any]) -> str:
    """A stage in words."""
    ends = [name for name, has in (("embedding", part["first"]), ("output", part["last"])) if has]
    return " and ".join([f"{part['layers']} layers", *ends])


def engine_values(config: SimulationConfig, tables: StageTables) -> tuple[npt.NDArray[np.float64], tuple[int, ...]]:
    """The values that the kernel reads: with graph padding, and on the first stage a synchronous engine's CPU time.

    Engines in lockstep read the tables as they are: all of them are padded, and wait, together.

    Args:
        config: what serves.
        tables: those of its stages, which stay as they are.

    Returns:
        The values [s], and where those of each stage begin: those of ``tables`` where the engine adds nothing.
    """
    if tables.in_lockstep:
        return tables.values, tables.bases
    engine, layout = config.engine_choice, tables.stages[0].layout
    padded = padded_tokens(capture_sizes(config), layout.max_tokens)
    cpu_s = np.zeros(layout.max_sequences + 1)
    if not schedules_ahead(config):
        requests = np.arange(1, len(cpu_s))
        cpu_s[1:] = (engine.launch_s + engine.launch_s_per_request * requests) + (
            engine.process_s + engine.process_s_per_request * requests
        )
    if len(padded) == 1 and not cpu_s.any():
        return tables.values, tables.bases
    size = len(tables.stages[0].values)
    alone = tables.bases.count(tables.bases[0]) == 1
    # Only the first stage has the CPU time: where others share its tables it gets some of its own, behind all others.
    first = tables.values[tables.bases[0] :][: 0 if alone or not cpu_s.any() else size]
    values = np.concatenate((tables.values, first))
    bases = (tables.bases[0] if len(first) == 0 else len(tables.values), *tables.bases[1:])
    values[bases[0] + layout.sequence_offset :][: len(cpu_s)] += cpu_s
    for base in range(0, len(values), size):
        token_s = values[base + layout.token_offset :][: layout.max_tokens + 1]
        token_s[: len(padded)] = token_s[padded]
    return values, bases


def padded_tokens(capture_sizes: Sequence[int], max_tokens: int) -> npt.NDArray[np.int64]:
    """By number of tokens, up to the largest capture size or max_tokens, what a batch is padded to; [0] without any."""
    sizes = np.array([0, *capture_sizes], np.int64)
    numbers = np.arange(min(sizes[-1], max_tokens) + 1)
    return np.minimum(sizes[np.searchsorted(sizes, numbers)], max_tokens)


def capture_sizes(config: SimulationConfig) -> tuple[int, ...]:
    """Numbers of tokens, ascending, to which the engine pads batches."""
    policy = config.batch_policy
    return config.engine_choice.padded_sizes(policy.max_num_seqs, policy.activation_tokens(config.max_model_len))


def most_decode_kv(config: SimulationConfig, pool: Pool, names_blocks: bool) -> int:
    """Most KV tokens that the decodes of an iteration read together: one block may be read by each of them."""
    if caches_prefixes(config, names_blocks) and names_blocks:
        most: int = config.batch_policy.max_num_seqs * pool.max_model_len
        return most
    return pool.num_blocks * pool.block_size


def axes_of(tables: "IterationTables") -> tuple[Any, ...]:
    """What must be the same of all stages."""
    return tables.layout, tables.prefill_rule, tables.joint, tables.skew, tables.expert


def check_experts(config: SimulationConfig, model: "ModelSpec", tables: StageTables) -> None:
    """Refuse tables that were not made for the number of engines that share the experts of a model.

    Raises:
        ConfigError: as said.
    """
    engines = config.data_parallel if model.experts is not None else 1
    expert = tables.stages[0].expert
    of_tables = 1 if expert is None else expert.engines
    if of_tables != engines:
        wrong = f"is the number of engines whose experts they time together, and {engines} share those of {model.name}"
        raise ConfigError("tables.expert.engines", of_tables, wrong, f"build them with data_parallel = {engines}")


def check_tables(config: SimulationConfig, tables: "IterationTables", pool: Pool, names_blocks: bool) -> None:
    """Refuse tables that a run could read beyond their end.

    Raises:
        ConfigError: naming the axis that is too short.
    """
    policy, layout = config.batch_policy, tables.layout
    equivalent, joint = tables.prefill_rule == "equivalent_chunk", tables.joint
    tokens, kv = policy.most_tokens(pool), most_decode_kv(config, pool, names_blocks)
    needed = {
        "max_tokens": tokens,
        "max_sequences": policy.max_num_seqs,
        "max_kv": min(kv, policy.max_num_seqs * pool.max_model_len),
        "max_chunk": tokens if equivalent or joint else min(tokens, pool.max_model_len),
        "max_history": kv if equivalent else pool.max_model_len,
    }
    if tables.skew is not None:  # all decodes may be taken as long as the longest
        needed["max_kv"] = policy.max_num_seqs * pool.max_model_len
    parts: list[tuple[str, TableLayout | JointLayout, dict[str, int]]] = [("tables", layout, needed)]
    if joint is not None:
        of_both = {"max_decodes": policy.max_num_seqs, "max_context": pool.max_model_len}
        of_both |= {axis: needed[axis] for axis in ("max_chunk", "max_history")}
        parts.append(("tables.joint", joint, of_both))
    for part, axes, lengths in parts:
        check_axes(part, axes, lengths)


def check_axes(part: str, axes: "TableLayout | JointLayout", lengths: Mapping[str, int]) -> None:
    """Refuse axes that are shorter than some lengths.

    Raises:
        ConfigError: naming the axis that is too short.
    """
    for axis, least in lengths.items():
        if getattr(axes, axis) < least:
            raise ConfigError(
                f"{part}.{axis}",
                getattr(axes, axis),
                f"is less than the {least} that this configuration can reach",
                "build larger tables or lower the limits of the scheduler",
            )
