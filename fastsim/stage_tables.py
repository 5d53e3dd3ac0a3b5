"""The iteration tables of a replica: one for each pipeline stage, laid end to end for the kernel."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.batch_policy import Pool
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from estimators import IterationTables, TableLayout
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
    config: SimulationConfig, tables: "IterationTables | Sequence[IterationTables]", pool: Pool
) -> StageTables:
    """Lay the tables of the stages end to end; equal ones once.

    Args:
        config: what serves.
        tables: of every stage, or one for each.
        pool: the KV memory of a replica.

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
    check_tables(config, stages[0], pool)
    if len(stages) == 1:  # also spares the hash of the values
        return StageTables((stages[0],), stages[0].values, (0,))
    distinct = {stage.values_sha256: stage.values for stage in stages}
    begins = {sha256: i * stages[0].size for i, sha256 in enumerate(distinct)}
    values = stages[0].values if len(distinct) == 1 else np.concatenate(list(distinct.values()))
    return StageTables(tuple(stages), values, tuple(begins[stage.values_sha256] for stage in stages))


def axes_of(tables: "IterationTables") -> tuple[Any, ...]:
    """What must be the same of all stages."""
    return tables.layout, tables.prefill_rule, tables.joint, tables.skew


def check_tables(config: SimulationConfig, tables: "IterationTables", pool: Pool) -> None:
    """Refuse tables that a run could read beyond their end.

    Raises:
        ConfigError: naming the axis that is too short.
    """
    policy, layout = config.batch_policy, tables.layout
    equivalent, joint = tables.prefill_rule == "equivalent_chunk", tables.joint
    tokens, kv = policy.most_tokens(pool), pool.num_blocks * pool.block_size
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
