"""The names of KV blocks: from the ids that a workload carries to those of an engine's blocks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    from traces import Workload


@dataclass(frozen=True, eq=False)
class NamedBlocks:
    """Which KV blocks of each request have a name, and which (docs/policies.md, section 9).

    Attributes:
        ids: of all requests, one after another; int64 [any].
        first_id: where each request's begin, int64 [num_requests].
        num_named: full blocks of each request that have a name; int64 [num_requests].
        blocks_per_id: consecutive blocks that share an id.
    """

    ids: NDArray[np.int64]
    first_id: NDArray[np.int64]
    num_named: NDArray[np.int64]
    blocks_per_id: int


def name_blocks(workload: "Workload", block_size: int) -> NamedBlocks | None:
    """The names that a workload gives to blocks of block_size tokens; None if it gives none.

    Raises:
        ConfigError: neither the block size nor the tokens of an id are a multiple of the other.
    """
    tokens = workload.block_tokens
    if tokens == 0:
        return None
    ids, first_id = workload.block_ids, workload.block_offsets[:-1]
    num_ids = np.diff(workload.block_offsets)
    per_id, per_block = tokens // block_size, block_size // tokens
    if max(per_id * block_size, per_block * tokens) != max(tokens, block_size):
        problem = f"does not divide the {tokens} tokens of the workload's block ids, nor do they divide it"
        raise ConfigError("block_size", block_size, problem, f"give a divisor or a multiple of {tokens}")
    if per_block > 1:
        # An id stands for all tokens up to its end: that of a block is the last that it covers.
        num_ids = num_ids // per_block
        ends = np.cumsum(num_ids)
        k = np.arange(ends[-1]) - np.repeat(ends - num_ids, num_ids)
        ids = ids[np.repeat(first_id, num_ids) + per_block * (k + 1) - 1]
        first_id = ends - num_ids
        per_id = 1
    whole = (workload.prompt_tokens + workload.output_tokens) // block_size
    return NamedBlocks(ids, first_id, np.minimum(num_ids * per_id, whole), per_id)
