"""What an engine adds to the time of an iteration, written into the tables (docs/policies.md, section 10)."""

from collections.abc import Sequence
from dataclasses import replace

from reference.config import ReferenceConfig
from reference.tables import ReferenceTables


def launch_s(config: ReferenceConfig, num_sequences: int) -> float:
    """CPU seconds between the forming of a batch and its start."""
    return config.launch_s + config.launch_s_per_request * num_sequences


def process_s(config: ReferenceConfig, num_sequences: int) -> float:
    """CPU seconds between the end of a batch and its tokens."""
    return config.process_s + config.process_s_per_request * num_sequences


def padded(num_tokens: int, capture_sizes: Sequence[int]) -> int:
    """The next capture size; beyond the largest, and if there is none, the number itself."""
    return min((size for size in capture_sizes if size >= num_tokens), default=num_tokens)


def with_padding(tables: ReferenceTables, capture_sizes: Sequence[int]) -> ReferenceTables:
    """Tables whose token table is read at the padded number, or at its last entry if that lies beyond it."""
    values = list(tables.values)
    for num_tokens in range(tables.max_tokens + 1):
        values[num_tokens] = tables.values[min(padded(num_tokens, capture_sizes), tables.max_tokens)]
    return replace(tables, values=values)


def with_cpu_time(tables: ReferenceTables, config: ReferenceConfig) -> ReferenceTables:
    """Tables whose sequence table has the CPU time that a synchronous engine adds to every iteration."""
    if process_s(config, 1) + launch_s(config, 1) == 0.0:
        return tables
    values = list(tables.values)
    for num_sequences in range(1, tables.max_sequences + 1):
        cpu_s = launch_s(config, num_sequences) + process_s(config, num_sequences)
        values[tables.sequence_offset + num_sequences] += cpu_s
    return replace(tables, values=values)


def tables_of_stages(
    tables: ReferenceTables | Sequence[ReferenceTables], config: ReferenceConfig
) -> list[ReferenceTables]:
    """What each stage reads: padded, and on the first stage of a synchronous engine with its CPU time.

    Engines in lockstep read the tables as they are, since all of them are padded and timed together.

    Args:
        tables: One for all stages, or one for each.
        config: Of the engine.

    Returns:
        One for each stage.

    Raises:
        ValueError: There are others than one or one for each.
    """
    stages = [tables] * config.num_stages if isinstance(tables, ReferenceTables) else list(tables)
    if len(stages) != config.num_stages:
        raise ValueError(f"there are {len(stages)} tables, one is needed for each of {config.num_stages} stages")
    if stages[0].expert is not None:
        return stages
    if config.capture_sizes:
        padded_tables = {id(stage): with_padding(stage, config.capture_sizes) for stage in stages}
        stages = [padded_tables[id(stage)] for stage in stages]
    if not config.is_asynchronous:
        stages[0] = with_cpu_time(stages[0], config)
    return stages
