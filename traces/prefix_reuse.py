"""How much of the prompts is text that was seen before."""

import numpy as np

from traces.workload import Workload


def prefix_reuse(workload: Workload) -> float:
    """The part of all prompt tokens that a cache of endless size would find, 0 to 1; 0 without block ids.

    A request finds the longest run of blocks from its first on whose ids an earlier one in the order of the workload
    has, the last of them as far as one of those reaches into it. It is the most that any engine can find: one computes
    at least one token of each prompt anew, caches full blocks only, and forgets.
    """
    import polars as pl

    if not len(workload.block_ids):
        return 0.0
    ids, offsets, tokens = workload.block_ids, workload.block_offsets, workload.block_tokens
    new = np.flatnonzero(pl.Series(ids).is_first_distinct())
    # The first new block of each request ends its run: those behind it do not count.
    first_new = np.append(new, len(ids))[np.searchsorted(new, offsets[:-1])]
    runs = np.minimum(first_new, offsets[1:]) - offsets[:-1]
    finds = np.flatnonzero(runs)
    last = (offsets[:-1] + runs - 1)[finds]
    # Of the ids that end a run: how far into the text the requests before reach that have them.
    entries = np.flatnonzero(pl.Series(ids).is_in(pl.Series(ids[last]).unique().implode()))
    rows = np.searchsorted(offsets, entries, side="right") - 1
    ends = np.minimum(
        (entries - offsets[rows] + 1) * tokens, workload.prompt_tokens[rows] + workload.output_tokens[rows]
    )
    frame = pl.DataFrame({"id": ids[entries], "end": ends})
    before = frame.select(pl.col("end").cum_max().shift(1).over("id"))["end"].fill_null(0).to_numpy()
    reach = before[np.searchsorted(entries, last)]
    found = np.minimum(np.minimum(runs[finds] * tokens, reach), workload.prompt_tokens[finds])
    return float(found.sum() / workload.prompt_tokens.sum())
