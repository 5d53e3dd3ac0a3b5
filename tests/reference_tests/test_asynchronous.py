"""Scheduling ahead: the golden trace, and the two clocks in runs small enough to be worked out by hand."""

from typing import Any

import pytest
from reference.config import ReferenceConfig
from reference.requests import Request
from reference.simulate import ReferenceResult, simulate
from reference.vllm_v1 import VllmV1
from reference_tests.builders import ONE_SECOND, build_tables


def test_golden_trace_of_the_real_scheduler() -> None:
    """The asynchronous column of VLLM.md part 4, step by step: calls, blocks, preemptions, outputs, free blocks."""
    a, b, c = Request(0, 0.0, 6, 4), Request(1, 0.0, 6, 4), Request(2, 0.0, 4, 2)
    config = ReferenceConfig(
        num_usable_blocks=5,
        block_size=4,
        max_num_seqs=3,
        max_num_batched_tokens=8,
        enable_prefix_caching=True,
        async_scheduling=True,
    )
    scheduler = VllmV1(config)
    scheduler.add(a)
    scheduler.add(b)
    calls = [
        # (request, history, tokens, blocks) of the batch; preempted; free queue; who gets which output afterwards
        ([(a, 0, 6, [1, 2]), (b, 0, 2, [3])], [], [4, 5], []),
        ([(a, 6, 1, [1, 2]), (b, 2, 4, [3, 4])], [], [5], [(0, [a])]),
        ([(a, 7, 1, [1, 2]), (b, 6, 1, [3, 4]), (c, 0, 4, [5])], [], [], [(1, [a, b])]),
        ([(a, 8, 1, [1, 2, 5]), (b, 7, 1, [3, 4])], [c], [], [(2, [a, b, c])]),
        ([], [b], [4, 3], [(3, [a, b])]),
        ([(b, 4, 5, [3, 4, 5]), (c, 0, 3, [2])], [], [1], []),
        ([(c, 3, 2, [2, 1])], [], [], [(5, [b])]),
        ([], [], [5, 4, 3], [(6, [c])]),
    ]
    batches = []
    for number, (members, preempted, free, outputs) in enumerate(calls):
        if number == 2:
            scheduler.add(c)
        batches.append(batch := scheduler.schedule())
        got = [(m.request, m.history, m.tokens, list(m.request.blocks)) for m in batch.members]
        assert (got, batch.preempted, list(scheduler.pool.free)) == (members, preempted, free), number
        if number == 4:
            assert list(scheduler.waiting) == [b, c]
        for output, producers in outputs:
            assert [m.request for m in scheduler.process_outputs(batches[output])] == producers, number
    assert not scheduler.has_unfinished
    assert [each.preemptions for each in (a, b, c)] == [0, 1, 1]


def run(requests: list[tuple[float, int, int]], tables: Any = ONE_SECOND, **options: Any) -> ReferenceResult:
    """One replica that schedules ahead, roomy except where the options say otherwise; blocks are single tokens."""
    sizes = {
        "num_usable_blocks": 100,
        "block_size": 1,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 16,
        "max_model_len": 64,
        "async_scheduling": True,
    }
    return simulate(requests, tables, ReferenceConfig(**{**sizes, **options}))


def times(result: ReferenceResult) -> list[list[float]]:
    return [request.token_times for request in result.requests]


def clocks(result: ReferenceResult) -> list[tuple[float, float, float]]:
    """When each batch was formed, started and ended."""
    return [(batch.formed_s, batch.start_s, batch.end_s) for batch in result.batches]


def test_golden_trace_in_time() -> None:
    """Call 4 of the trace forms nothing, so the device idles nowhere but takes no second batch before 4.0 either."""
    sizes = {"num_usable_blocks": 5, "block_size": 4, "max_num_seqs": 3, "max_num_batched_tokens": 8}
    result = run([(0.0, 6, 4), (0.0, 6, 4), (0.5, 4, 2)], enable_prefix_caching=True, **sizes)
    assert clocks(result) == [(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (4, 4, 5), (4, 5, 6)]
    assert times(result) == [[1, 2, 3, 4], [2, 3, 4, 5], [3, 6]]
    assert [batch.preempted for batch in result.batches] == [[], [], [], [2], [1], []]


def test_cpu_time_hides_behind_the_device() -> None:
    """0.25 s to launch and 0.5 s to process: only the first launch and each last bit of processing show."""
    result = run([(0.0, 4, 4)], launch_s=0.25, process_s=0.5)
    assert clocks(result) == [(0.0, 0.25, 1.25), (0.0, 1.25, 2.25), (1.75, 2.25, 3.25), (2.75, 3.25, 4.25)]
    assert times(result) == [[1.75, 2.75, 3.75, 4.75]]
    synchronous = run([(0.0, 4, 4)], launch_s=0.25, process_s=0.5, async_scheduling=False)
    assert times(synchronous) == [[1.75, 3.5, 5.25, 7.0]]


def test_cpu_time_that_exceeds_the_device_sets_the_pace() -> None:
    """Processing and the next launch follow each other; the device waits."""
    result = run([(0.0, 4, 4)], launch_s=1.0, process_s=1.5)
    # 0: two are formed. 2.0 + 1.5: first output, the third is formed. max(3.5, 3.0) + 1.5: second output, the fourth.
    assert clocks(result) == [(0.0, 1.0, 2.0), (0.0, 2.0, 3.0), (3.5, 4.5, 5.5), (5.0, 6.0, 7.0)]
    assert times(result) == [[3.5, 5.0, 7.0, 8.5]]


def test_cpu_time_counts_requests() -> None:
    """Two requests: 0.125 + 2 * 0.0625 to launch, 2 * 0.25 to process."""
    result = run([(0.0, 4, 1), (0.0, 4, 1)], launch_s=0.125, launch_s_per_request=0.0625, process_s_per_request=0.25)
    assert (clocks(result), times(result)) == ([(0.0, 0.25, 1.25)], [[1.75], [1.75]])


def test_an_arrival_waits_for_the_next_processing_and_runs_a_batch_later() -> None:
    """At 1.5 batches 1 (till 2.0) and, formed at 1.0, 2 (till 3.0) are in flight. It is seen at 2.0 and runs at 3.0.

    Synchronous it runs at 2.0.
    """
    requests = [(0.0, 4, 9), (1.5, 4, 1)]
    result = run(requests)
    assert (result.requests[1].scheduled_s, result.requests[1].first_token_s) == (2.0, 4.0)
    assert run(requests, async_scheduling=False).requests[1].first_token_s == 3.0


def test_from_idle_the_prompt_and_the_first_decode_are_formed_at_once() -> None:
    """So an arrival just after waits for both."""
    result = run([(0.0, 4, 9), (0.25, 4, 1)])
    assert [batch.formed_s for batch in result.batches[:3]] == [0.0, 0.0, 1.0]
    assert (result.requests[1].scheduled_s, result.requests[1].first_token_s) == (1.0, 3.0)


def test_with_one_batch_in_flight_and_nothing_to_add_it_waits() -> None:
    """A request of one token: its only batch is in flight, and an arrival meanwhile is not seen before its end."""
    result = run([(0.0, 4, 1), (0.25, 4, 1)])
    assert clocks(result) == [(0, 0, 1), (1, 1, 2)]


def test_no_slot_is_wasted_on_a_finished_request() -> None:
    """The last token is foreseen: as many batches as tokens, as in a synchronous engine."""
    requests = [(0.0, 4, 5), (0.0, 4, 2)]
    ahead, synchronous = run(requests), run(requests, async_scheduling=False)
    assert [batch.members for batch in ahead.batches] == [batch.members for batch in synchronous.batches]
    assert times(ahead) == times(synchronous)


def test_the_last_chunk_of_a_prompt_is_not_taken_for_a_token_in_flight() -> None:
    """One token of the prompt is left and one output is to come: nothing is in flight that would give it."""
    result = run([(0.0, 17, 1)])
    assert [batch.members for batch in result.batches] == [[(0, 16)], [(0, 1)]]


def test_a_batch_that_has_ended_is_processed_before_another_is_formed() -> None:
    """Iterations take no time: 0 completes and the third request is sent before the second decodes."""
    options = {"client": "closed", "concurrency": 2}
    result = run([(0.0, 4, 1), (0.0, 4, 2), (0.0, 4, 1)], build_tables(), **options)
    assert [batch.members for batch in result.batches] == [[(0, 4), (1, 4)], [(1, 1), (2, 4)]]


def test_a_request_keeps_its_place_until_its_last_token_is_processed() -> None:
    """One place: in the call at 1.0 the first is passed over, with its last token in flight, and holds its place.

    The second is admitted at 2.0, when the first has gone. With two places, and a budget for one prompt, it is at 0.0.
    """
    requests = [(0.0, 12, 2), (0.0, 12, 1)]
    assert clocks(run(requests, max_num_seqs=1)) == [(0, 0, 1), (0, 1, 2), (2, 2, 3)]
    roomy = run(requests, max_num_seqs=2)
    assert [batch.members for batch in roomy.batches] == [[(0, 12), (1, 4)], [(0, 1), (1, 8)]]


def test_a_preempted_request_gets_the_token_in_flight() -> None:
    """At 2.0 0 needs a twelfth of 11 blocks: 1, whose third and last token is in flight, goes, and completes at 3.0."""
    result = run([(0.0, 4, 6), (0.0, 3, 3)], num_usable_blocks=11)
    assert times(result)[1] == [1, 2, 3]
    assert [request.preemptions for request in result.requests] == [0, 1]
    assert [(batch.formed_s, batch.preempted) for batch in result.batches if batch.preempted] == [(2.0, [1])]
    assert times(result)[0] == [1, 2, 3, 4, 5, 6]


def test_gaps_are_differences_of_times() -> None:
    result = run([(0.0, 4, 4)], launch_s=1.0, process_s=1.5)
    assert result.token_gaps_s == [1.5, 2.0, 1.5]
    assert result.replicas[0].busy_s == 4.0


def test_a_replica_with_stages_schedules_synchronously() -> None:
    options = {"num_stages": 2, "launch_s": 0.25, "process_s": 0.25}
    assert run([(0.0, 8, 3)], **options) == run([(0.0, 8, 3)], async_scheduling=False, **options)


def test_kv_of_a_decode_in_flight_counts() -> None:
    """The third token of a prompt of 4 is computed while the second is in flight: 6 KV tokens."""
    kv = build_tables(token=lambda _: 1.0, decode=lambda _n, kv: kv / 4)
    assert [batch.decode_kv for batch in run([(0.0, 4, 3)], kv).batches] == [0, 5, 6]


@pytest.mark.parametrize("options", [{"batch_policy": "sarathi"}, {"queue_order": "priority"}])
def test_what_cannot_be_scheduled_ahead_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="async_scheduling is set"):
        run([(0.0, 4, 1)], **options)
