"""Small tables and workloads for the tests of the reference simulator."""

import math
from collections.abc import Callable

from hypothesis import strategies as st
from reference.simulate import ReferenceConfig, ReferenceTables
from reference.tables import LogAxis


def build_tables(
    token: Callable[[int], float] = lambda _: 0.0,
    sequence: Callable[[int], float] = lambda _: 0.0,
    decode: Callable[[int, int], float] = lambda _n, _kv: 0.0,
    prefill: Callable[[int, int], float] = lambda _history, _chunk: 0.0,
    prefill_rule: str = "sum",
    max_tokens: int = 64,
    max_sequences: int = 16,
    max_kv: int = 1024,
    max_history: int = 256,
    max_chunk: int = 64,
    bits: int = 1,
) -> ReferenceTables:
    """Tables whose points are the values of the functions there; the default is zero everywhere."""
    kv = LogAxis("kv", max_kv, bits)
    history = LogAxis("history", max_history, bits)
    chunk = LogAxis("chunk", max_chunk, bits)
    values = [token(n) for n in range(max_tokens + 1)]
    values += [sequence(n) for n in range(max_sequences + 1)]
    values += [decode(n, kv.point(i)) for n in range(max_sequences + 1) for i in range(kv.num_points)]
    values += [
        prefill(history.point(i), chunk.point(j)) for i in range(history.num_points) for j in range(chunk.num_points)
    ]
    return ReferenceTables.from_dict(
        {
            "values": values,
            "max_tokens": max_tokens,
            "max_sequences": max_sequences,
            "max_kv": max_kv,
            "max_history": max_history,
            "max_chunk": max_chunk,
            "kv_bits": bits,
            "history_bits": bits,
            "chunk_bits": bits,
            "prefill_rule": prefill_rule,
        }
    )


ONE_SECOND = build_tables(token=lambda _: 1.0)
"""Every iteration takes one second, so iteration k of a replica that never idles ends at k + 1."""

DYADIC = build_tables(
    token=lambda n: 0.5 + n / 8,
    sequence=lambda n: n / 4,
    decode=lambda n, kv: n / 8 + kv / 32,
    prefill=lambda h, c: c / 8 + h / 16,
)
"""Durations are multiples of 1/32 s: clocks are exact, and arrivals meet the ends of iterations."""

UNEVEN = build_tables(
    token=lambda n: 0.1 + math.sqrt(n) / 7,
    sequence=lambda n: math.log1p(n) / 3,
    decode=lambda n, kv: (n * 0.01 + math.sqrt(kv)) / 11,
    prefill=lambda h, c: (c + 0.3) * (h + 0.7) / 997,
)
"""Durations with all bits set."""


@st.composite
def configs(draw: st.DrawFn, router: str | None = None) -> ReferenceConfig:
    """Small replicas, short of blocks, seats and budget."""
    max_num_seqs = draw(st.integers(1, 6))
    return ReferenceConfig(
        num_usable_blocks=draw(st.integers(1, 16)),
        block_size=draw(st.integers(1, 4)),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + draw(st.integers(0, 12)),
        max_model_len=draw(st.integers(2, 48)),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 1, 2, 3, 5])),
        full_sequence_gate=draw(st.booleans()),
        replicas=draw(st.integers(1, 3)),
        router=router or draw(st.sampled_from(["round_robin", "least_outstanding"])),
    )


@st.composite
def workloads(draw: st.DrawFn, config: ReferenceConfig, min_size: int = 1) -> list[tuple[float, int, int]]:
    """Requests that fit, in any order, crowded at the start, with many equal arrival times."""
    longest = min(config.max_model_len, config.num_usable_blocks * config.block_size + 1)
    requests = []
    for _ in range(draw(st.integers(min_size, 12))):
        total = draw(st.integers(2, longest))
        requests.append((draw(st.integers(0, 40)) / 8, prompt := draw(st.integers(1, total - 1)), total - prompt))
    return requests


@st.composite
def cases(draw: st.DrawFn, router: str | None = None) -> tuple[ReferenceConfig, list[tuple[float, int, int]]]:
    """A configuration and a workload that fits it."""
    config = draw(configs(router))
    return config, draw(workloads(config))
