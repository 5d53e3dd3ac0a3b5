"""What an engine adds to its tables."""

import pytest
from reference.overheads import padded, tables_of_stages, with_cpu_time, with_padding
from reference.simulate import ReferenceConfig, simulate
from reference_tests.builders import build_tables

TOKENS = build_tables(token=float, sequence=lambda n: n / 4, max_tokens=20, max_sequences=4)
CONFIG = ReferenceConfig(100, launch_s=1.0, launch_s_per_request=0.25, process_s=2.0, process_s_per_request=0.5)


def test_a_batch_is_padded_to_the_next_capture_size() -> None:
    assert [padded(n, (1, 2, 4, 8)) for n in range(1, 11)] == [1, 2, 4, 4, 8, 8, 8, 8, 9, 10]
    assert padded(5, ()) == 5


def test_the_token_table_is_read_at_the_padded_number() -> None:
    """Of the last entry where that lies beyond the table; nothing else changes."""
    tables = with_padding(TOKENS, (1, 8, 32))
    assert list(tables.values[1:21]) == [1.0] + [8.0] * 7 + [20.0] * 12
    assert tables.values[21:] == TOKENS.values[21:]


def test_cpu_time_is_in_the_sequence_table() -> None:
    tables = with_cpu_time(TOKENS, CONFIG)
    assert list(tables.values[21:26]) == [0.0, 4.0, 5.0, 6.0, 7.0]
    assert (tables.values[:21], tables.values[26:]) == (TOKENS.values[:21], TOKENS.values[26:])


def test_only_the_first_stage_of_a_synchronous_engine_has_cpu_time() -> None:
    with_cpu = with_cpu_time(TOKENS, CONFIG)
    for config, expected in (
        ({}, [with_cpu]),
        ({"async_scheduling": True}, [TOKENS]),
        ({"num_stages": 2}, [with_cpu, TOKENS]),
        ({"num_stages": 2, "async_scheduling": True}, [with_cpu, TOKENS]),
    ):
        times = {"launch_s": 1.0, "launch_s_per_request": 0.25, "process_s": 2.0, "process_s_per_request": 0.5}
        assert tables_of_stages(TOKENS, ReferenceConfig(100, **times, **config)) == expected


@pytest.mark.parametrize("policy", ["vllm_v1", "sarathi", "sglang"])
def test_a_synchronous_iteration_takes_as_much_longer(policy: str) -> None:
    """One request: 4 tokens padded to 8, then 1; each takes a quarter second for its row, and the CPU time of one."""
    times = {"launch_s": 0.5, "process_s_per_request": 0.25}
    config = ReferenceConfig(100, 1, 4, 16, 16, batch_policy=policy, capture_sizes=(1, 8), **times)
    result = simulate([(0.0, 4, 2)], TOKENS, config)
    assert result.requests[0].token_times == [9.0, 11.0]


def test_sizes_must_ascend() -> None:
    with pytest.raises(ValueError, match=r"capture_sizes are \(4, 2\)"):
        ReferenceConfig(100, capture_sizes=(4, 2))
