"""Several engines in a replica: who gets a request, and rounds in lockstep worked out by hand."""

from dataclasses import replace
from typing import Any

import pytest
from reference.config import ReferenceConfig
from reference.simulate import ReferenceResult, simulate
from reference.tables import ReferenceTables
from reference_tests.builders import ONE_SECOND, build_tables


def with_experts(tables: ReferenceTables, per_token_s: float, most: int = 128) -> ReferenceTables:
    """Engines in lockstep whose experts take so long for each token of all."""
    return replace(tables, expert=[per_token_s * n for n in range(most + 1)])


#: An eighth of a second per token of an engine; a quarter of one per request; half of one per token of all.
ROUNDS = with_experts(build_tables(token=lambda n: n / 8, sequence=lambda n: n / 4), 0.5)


def run(requests: list[tuple[float, int, int]], tables: ReferenceTables, **options: Any) -> ReferenceResult:
    """Two engines, roomy except where the options say otherwise; blocks are single tokens."""
    sizes = {
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 64,
        "data_parallel": 2,
    }
    return simulate(requests, tables, ReferenceConfig(**{**sizes, **options}))


def times(result: ReferenceResult) -> list[list[float]]:
    return [request.token_times for request in result.requests]


def members(result: ReferenceResult) -> list[list[list[tuple[int, int]]]]:
    """The batches of each engine."""
    return [[batch.members for batch in engine.batches] for engine in result.replicas]


def test_requests_go_to_the_engine_with_fewest_waiting_and_running() -> None:
    """0 and 1 go to one engine each, 2 to the first of equals; while they run, 3 counts four times as it waits."""
    result = run([(0.0, 2, 9), (0.0, 2, 3), (0.0, 2, 9), (2.5, 2, 3), (2.5, 2, 1)], ONE_SECOND)
    # At 2.5 the first engine has two running, the second one: 3 goes there, and waits: 4 goes to the first.
    assert [sorted({i for batch in engine for i, _ in batch}) for engine in members(result)] == [[0, 2, 4], [1, 3]]
    assert {request.replica for request in result.requests} == {0}


def test_dense_engines_know_nothing_of_each_other() -> None:
    """The second engine starts at its request's arrival, in the middle of the first one's iteration."""
    assert times(run([(0.0, 2, 2), (0.5, 2, 2)], ONE_SECOND)) == [[1, 2], [1.5, 2.5]]


def test_a_round_takes_the_slowest_engine_and_the_experts_of_all() -> None:
    """Prompts of 8 and 2: (8/8 + 1/4) + 10 * 0.5; then one token each: (1/8 + 1/4) + 2 * 0.5."""
    result = run([(0.0, 8, 2), (0.0, 2, 2)], ROUNDS)
    assert times(result) == [[6.25, 7.625], [6.25, 7.625]]
    assert [engine.busy_s for engine in result.replicas] == [7.625, 7.625]


def test_an_engine_without_a_batch_takes_part_with_a_dummy_of_one_token() -> None:
    """(4/8 + 1/4) + 5 * 0.5, and (1/8 + 1/4) + 2 * 0.5; the other engine is not busy."""
    result = run([(0.0, 4, 2)], ROUNDS)
    assert times(result) == [[3.25, 4.625]]
    assert [(engine.iterations, engine.busy_s) for engine in result.replicas] == [(2, 4.625), (0, 0.0)]


def test_an_arrival_at_an_idle_engine_waits_for_the_round_in_flight() -> None:
    """The first round ends at 3.25; then a prompt of 2 beside a decode: (2/8 + 1/4) + 3 * 0.5."""
    result = run([(0.0, 4, 2), (1.0, 2, 1)], ROUNDS)
    assert times(result) == [[3.25, 5.25], [5.25]]
    assert result.requests[1].scheduled_s == 3.25


@pytest.mark.parametrize(
    ("prompts", "end_s"),
    [
        # Both are padded to the largest padded number: 8/8 + 1/4 + 16 * 0.5.
        ((5, 2), 9.25),
        # The dummy as well: 4/8 + 1/4 + 8 * 0.5.
        ((3,), 4.75),
        # One is too long for a graph: none is padded. 9/8 + 1/4 + 12 * 0.5.
        ((9, 3), 7.375),
    ],
)
def test_all_engines_are_padded_alike_or_none_is(prompts: tuple[int, ...], end_s: float) -> None:
    result = run([(0.0, prompt, 1) for prompt in prompts], ROUNDS, capture_sizes=(1, 2, 4, 8))
    assert times(result) == [[end_s]] * len(prompts)


def test_a_padded_number_beyond_the_table_is_its_last_entry() -> None:
    """16 tokens are the most: 16/8 + 1/4 + 32 * 0.5."""
    tables = with_experts(build_tables(token=lambda n: n / 8, sequence=lambda n: n / 4, max_tokens=16), 0.5)
    assert times(run([(0.0, 9, 1)], tables, capture_sizes=(40,))) == [[18.25]]


def test_cpu_time_is_that_of_the_largest_batch() -> None:
    """One engine has two requests, the other one: launch 2 * 1.0, process 2 * 0.25, on top of a round.

    The round: 2/8 + 2/4 + 3 * 0.5.
    """
    options = {"launch_s_per_request": 1.0, "process_s_per_request": 0.25}
    requests = [(0.0, 1, 1)] * 3
    assert times(run(requests, ROUNDS, **options)) == [[4.75]] * 3
    ahead = run(requests, ROUNDS, async_scheduling=True, **options)
    assert times(ahead) == [[4.75]] * 3
    assert [(batch.start_s, batch.end_s) for batch in ahead.batches] == [(2.0, 4.25)] * 2
    assert [engine.busy_s for engine in ahead.replicas] == [2.25, 2.25]


def test_rounds_are_formed_ahead() -> None:
    """Two at 0, as one engine alone would: rounds of 3.25, 1.375 and 1.375 s follow each other without a pause."""
    result = run([(0.0, 4, 3), (1.0, 2, 1)], ROUNDS, async_scheduling=True)
    # The second request is seen at 3.25 and runs beside the last token of the first: (2/8 + 1/4) + 3 * 0.5.
    assert times(result) == [[3.25, 4.625, 6.625], [6.625]]
    assert result.requests[1].scheduled_s == 3.25


def test_engines_have_blocks_of_their_own() -> None:
    """Requests of 9 tokens at their ends, of 10 blocks on each engine: nobody is preempted."""
    result = run([(0.0, 4, 6), (0.0, 4, 6)], ROUNDS, num_usable_blocks=10)
    assert [request.preemptions for request in result.requests] == [0, 0]
    together = run([(0.0, 4, 6), (0.0, 4, 6)], ONE_SECOND, num_usable_blocks=10, data_parallel=1)
    assert [request.preemptions for request in together.requests] == [0, 1]


@pytest.mark.parametrize("options", [{"batch_policy": "orca"}, {"num_stages": 2}])
def test_only_vllm_v1_with_one_stage_has_engines(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"data_parallel is 2, that needs batch_policy 'vllm_v1' and one stage"):
        run([(0.0, 4, 6)], ONE_SECOND, **options)
