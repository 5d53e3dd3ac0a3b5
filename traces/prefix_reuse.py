"""How much of the prompts is text that was seen before."""

import numpy as np

from traces.workload import Workload


def prefix_reuse(workload: Workload) -> float:
    """The part of all prompt tokens that a cache of endless size would find, 0 to 1; 0 without block ids.

    A request finds the longest run of blocks from its first on whose ids an earlier one in the order of the workload
    has; all tokens of a last block that the prompt does not fill count. It is the most that any engine can find: one
    computes at least one token of each prompt anew, caches full blocks only, and forgets.
    """
    import polars as pl

    if not len(workload.block_ids):
        return 0.0
    new = np.flatnonzero(pl.Series(workload.block_ids).is_first_distinct())
    # The first new block of each request ends its run: those behind it do not count.
    first_new = np.append(new, len(workload.block_ids))[np.searchsorted(new, workload.block_offsets[:-1])]
    runs = np.minimum(first_new, workload.block_offsets[1:]) - workload.block_offsets[:-1]
    found = np.minimum(runs * workload.block_tokens, workload.prompt_tokens)
    return float(found.sum() / workload.prompt_tokens.sum())
