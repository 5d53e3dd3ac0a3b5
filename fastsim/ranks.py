"""Values by rank, exactly, without sorting all of them.

A histogram says in which bucket a rank lies; only the values of such buckets are sorted.
"""

import numpy as np
import numpy.typing as npt

from fastsim.kernel.histogram import NUM_BUCKETS, bucket_indices
from fastsim.kernel.slots import table_functions

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Ranked:
    """Some values and their histogram.

    Attributes:
        values: float64 [n], one at least.
        counts: how many lie in each bucket of `fastsim.kernel.histogram`, int64 [NUM_BUCKETS].
    """

    def __init__(self, values: Floats, counts: Integers) -> None:
        self.values, self.counts = values, counts
        self._below = np.append(0, np.cumsum(counts))

    def at(self, ranks: Integers) -> Floats:
        """The values of these ranks, from 0 on; float64 [ranks]."""
        buckets = np.searchsorted(self._below, ranks, side="right") - 1
        ascending, first = self._sorted(buckets)
        found: Floats = ascending[first + (ranks - self._below[buckets])]
        return found

    def below(self, edges: Floats) -> Integers:
        """How many values are less than each of some edges; int64 [edges]."""
        buckets = bucket_indices(edges)
        ascending, first = self._sorted(buckets)
        found: Integers = self._below[buckets] + (np.searchsorted(ascending, edges) - first)
        return found

    def _sorted(self, buckets: Integers) -> tuple[Floats, Integers]:
        """The values of some buckets, ascending, and where those of each begin; int64 [buckets]."""
        wanted = np.zeros(NUM_BUCKETS, np.int64)
        wanted[buckets] = 1
        ends = np.cumsum(wanted * self.counts)
        ascending = np.empty(ends[-1] + 1)
        *_, gather = table_functions()
        gather(self.values, wanted, ascending)
        ascending = ascending[:-1]
        ascending.sort()
        return ascending, (ends - self.counts)[buckets]
