"""A histogram of durations with logarithmic buckets: relative error at most 0.4 %, two integer operations per entry.

A bucket is the exponent and the first 7 bits of the fraction of a float64, so 128 buckets to the octave.
"""

import numpy as np

from fastsim.kernel.jit import float_bits, jit

FRACTION_BITS = 7
#: Durations below 2**-20 s (about a microsecond) fall into the first bucket, from 2**30 s (34 years) into the last.
LOWEST_EXPONENT, HIGHEST_EXPONENT = -20, 30
NUM_BUCKETS = (HIGHEST_EXPONENT - LOWEST_EXPONENT) << FRACTION_BITS
_SHIFT = 52 - FRACTION_BITS
_FIRST = (1023 + LOWEST_EXPONENT) << FRACTION_BITS


@jit()
def bucket(duration_s):
    """Bucket of one duration >= 0 [s]."""
    index = (float_bits(duration_s) >> _SHIFT) - _FIRST
    return min(max(index, 0), NUM_BUCKETS - 1)


def bucket_indices(durations_s: np.ndarray) -> np.ndarray:
    """Buckets of many durations, int64 [n]."""
    index = (np.ascontiguousarray(durations_s).view(np.int64) >> _SHIFT) - _FIRST
    clipped: np.ndarray = np.clip(index, 0, NUM_BUCKETS - 1)
    return clipped


def bucket_counts(durations_s: np.ndarray) -> np.ndarray:
    """Histogram of many durations.

    Args:
        durations_s: float64 [n], >= 0 [s].

    Returns:
        int64 [NUM_BUCKETS].
    """
    return np.bincount(bucket_indices(durations_s), minlength=NUM_BUCKETS)


def bucket_values() -> np.ndarray:
    """Middle of each bucket [s], float64 [NUM_BUCKETS]; 0 for the first, which holds everything shorter."""
    edges = np.left_shift(np.arange(NUM_BUCKETS + 1) + _FIRST, _SHIFT).view(np.float64)
    middles = (edges[:-1] + edges[1:]) / 2
    middles[0] = 0.0
    return middles
