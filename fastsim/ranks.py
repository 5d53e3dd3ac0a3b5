"""Values by rank, exactly, without sorting all of them.

A histogram says in which bucket a rank lies; only the values of such buckets are sorted.
"""

import numpy as np
import numpy.typing as npt

from fastsim.kernel.histogram import NUM_BUCKETS, bucket_indices
from fastsim.kernel.slots import table_functions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_NO_EDGES = np.empty(0)


class Ranked:
    """Some values and their histogram.

    Args:
        values: float64 [n], one at least.
        counts: how many lie in each bucket of `fastsim.kernel.histogram`, int64 [NUM_BUCKETS].
        ranks: those of which the values will be asked for, int64 [ranks].
        edges: those below which values will be counted, float64 [edges].
    """

    def __init__(self, values: Floats, counts: Integers, ranks: Integers, edges: Floats = _NO_EDGES) -> None:
        self._below = np.append(0, np.cumsum(counts))
        wanted = np.zeros(NUM_BUCKETS, np.int64)
        wanted[self._bucket_of_rank(ranks)] = 1
        wanted[bucket_indices(edges)] = 1
        ends = np.cumsum(wanted * counts)
        gathered = np.empty(ends[-1] + 1)
        *_, gather = table_functions()
        gather(values, wanted, gathered)
        self._ascending = np.sort(gathered[:-1])
        self._begins = ends - counts

    def at(self, ranks: Integers) -> Floats:
        """The values of these ranks, from 0 on; float64 [ranks]."""
        buckets = self._bucket_of_rank(ranks)
        found: Floats = self._ascending[self._begins[buckets] + (ranks - self._below[buckets])]
        return found

    def below(self, edges: Floats) -> Integers:
        """How many values are less than each of some edges; int64 [edges]."""
        buckets = bucket_indices(edges)
        found: Integers = self._below[buckets] + (np.searchsorted(self._ascending, edges) - self._begins[buckets])
        return found

    def _bucket_of_rank(self, ranks: Integers) -> Integers:
        found: Integers = np.searchsorted(self._below, ranks, side="right") - 1
        return found
