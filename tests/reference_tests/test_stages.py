"""Pipeline stages: when micro-batches are formed, and vllm_v1 with several of them in flight."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.builders import build_tables
from reference_tests.policy_cases import CONSTANT, UNEVEN, Case, cases


def run(requests: list[tuple[float, int, int]], tables: Any = CONSTANT, **options: Any) -> ReferenceResult:
    """Two stages of one second each, roomy except where the options say otherwise."""
    sizes = {
        "num_usable_blocks": 200,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 64,
        "max_model_len": 50,
        "num_stages": 2,
    }
    return simulate(requests, tables, ReferenceConfig(**{**sizes, **options}))


def times(result: ReferenceResult) -> list[list[float]]:
    return [request.token_times for request in result.requests]


def test_the_papers_policies_fill_a_free_slot_at_an_arrival() -> None:
    """The second prompt enters stage 0 as soon as the first has left it; from then on the two take turns."""
    result = run([(0.0, 4, 3), (0.5, 4, 3)], batch_policy="sarathi")
    assert times(result) == [[2.0, 4.0, 6.0], [3.0, 5.0, 7.0]]
    assert [batch.stage_times for batch in result.batches[:2]] == [[(0.0, 1.0), (1.0, 2.0)], [(1.0, 2.0), (2.0, 3.0)]]
    assert result.requests[1].scheduled_s == 0.5


def test_vllm_v1_waits_for_its_oldest_micro_batch() -> None:
    """It found nothing to schedule at 0.0, so it sees the second request when the first has its token."""
    result = run([(0.0, 4, 3), (0.5, 4, 3)])
    assert times(result) == [[2.0, 4.0, 6.0], [4.0, 6.0, 8.0]]


def test_vllm_v1_overlaps_the_chunks_of_a_prompt() -> None:
    """Both chunks are formed at 0.0; the decode needs their token."""
    result = run([(0.0, 8, 2)], max_num_batched_tokens=4)
    assert [batch.start_s for batch in result.batches] == [0.0, 0.0, 3.0]
    assert times(result) == [[3.0, 5.0]]


def test_the_papers_policies_do_not_overlap_a_request_with_itself() -> None:
    result = run([(0.0, 8, 2)], max_num_batched_tokens=4, batch_policy="sarathi")
    assert times(result) == [[4.0, 6.0]]


def test_vllm_v1_delivers_the_token_of_a_preempted_request() -> None:
    """A second request is evicted while its last token is on the way: it ends as if nothing had happened."""
    # 0.0: A6, B2 in one batch; B2 more at 0.0 in the next: 10 blocks. 2.0: A decodes into block 11.
    # 3.0: B, with 4 in KV, has its first token and needs block 12 to decode.
    result = run([(0.0, 6, 3), (0.0, 4, 2)], max_num_batched_tokens=8, num_usable_blocks=12)
    assert times(result) == [[2.0, 4.0, 6.0], [3.0, 5.0]]
    # At 4.0 A needs block 13, of 12, and evicts B, whose last token comes at 5.0.
    assert [request.preemptions for request in result.requests] == [0, 1]
    assert result.batches[-1].preempted == [1]


def test_vllm_v1_does_not_admit_a_request_whose_token_is_on_the_way() -> None:
    """Three stages. At 3.0 the first decodes and evicts the third, whose token comes at 5.0.

    At 4.0 the second has gone and there is room for the third's 8 tokens; it waits until 5.0 all the same and is then
    prefilled with 9, in chunks of 8 and 1.
    """
    options = {"num_stages": 3, "max_num_batched_tokens": 8, "num_usable_blocks": 24}
    result = run([(0.0, 8, 2), (0.0, 8, 1), (0.0, 8, 2)], **options)
    assert [(batch.start_s, batch.members) for batch in result.batches[3:]] == [
        (3.0, [(0, 1)]),
        (5.0, [(2, 8)]),
        (5.0, [(2, 1)]),
    ]
    assert times(result) == [[3.0, 6.0], [4.0], [5.0, 9.0]]


@settings(max_examples=300)
@given(cases(("vllm_v1",)))
def test_log_of_vllm_v1_replays(case: Case) -> None:
    """Token by token: what is computed counts when a batch is formed, tokens when it ends."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for replica in result.replicas:
        computed: dict[int, int] = defaultdict(int)
        target: dict[int, int] = {}
        token_times: dict[int, list[float]] = defaultdict(list)
        landing: list[tuple[float, int]] = []
        for batch in [*replica.batches, None]:
            start_s = batch.start_s if batch else float("inf")
            for end_s, name in [landed for landed in landing if landed[0] <= start_s]:
                landing.remove((end_s, name))
                if len(token_times[name]) < requests[name][2]:
                    token_times[name].append(end_s)
            if batch is None:
                break
            for name in batch.preempted if config.preemption_mode == "recompute" else []:
                computed[name] = 0
            for name, tokens in batch.members:
                assert name not in {landed for _, landed in landing}
                known = requests[name][1] + len(token_times[name])
                if computed[name] == 0:
                    target[name] = known
                assert ((name, computed[name], tokens) in batch.chunks) == (computed[name] < target[name])
                computed[name] += tokens
                assert computed[name] <= known
                if computed[name] == known:
                    landing.append((batch.end_s, name))
        for name, request in enumerate(result.requests):
            if request.replica == replica.replica:
                assert token_times[name] == request.token_times


def test_every_stage_has_its_own_tables_and_all_but_the_last_send() -> None:
    """Stage 0 takes 1 s and 0.25 s + 4 times 0.125 s to send, stage 1 takes 2 s."""
    tables = [build_tables(token=lambda _: 1.0), build_tables(token=lambda _: 2.0)]
    result = run([(0.0, 4, 1)], tables, send_latency_s=(0.25, 0.0), send_s_per_token=(0.125, 0.0))
    assert result.batches[0].stage_times == [(0.0, 1.75), (1.75, 3.75)]
    assert result.replicas[0].busy_s == 3.75


def test_each_boundary_has_its_own_link() -> None:
    """4 tokens: 0.25 + 4 * 0.125 behind stage 0, 0.5 + 0 behind stage 1, nothing behind the last."""
    options = {"num_stages": 3, "send_latency_s": (0.25, 0.5, 0.0), "send_s_per_token": (0.125, 0.0, 0.0)}
    assert run([(0.0, 4, 1)], **options).batches[0].stage_times == [(0.0, 1.75), (1.75, 3.25), (3.25, 4.25)]


def test_one_table_for_each_stage() -> None:
    with pytest.raises(ValueError, match="there are 1 tables, one is needed for each of 2 stages"):
        run([(0.0, 4, 1)], [CONSTANT])
