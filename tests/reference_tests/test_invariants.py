"""What must hold in every run, on small crowded replicas."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.simulate import ReferenceConfig, ReferenceResult, simulate
from reference_tests.builders import DYADIC, UNEVEN, cases

Case = tuple[ReferenceConfig, list[tuple[float, int, int]]]


@given(cases())
def test_every_request_gets_its_tokens(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for (arrival_s, _, output_tokens), request in zip(requests, result.requests, strict=True):
        assert len(request.token_times) == output_tokens
        assert arrival_s <= request.scheduled_s < request.first_token_s
        assert all(before < after for before, after in pairwise(request.token_times))
        assert (request.first_token_s, request.completed_s) == (request.token_times[0], request.token_times[-1])


@given(cases())
def test_limits_of_a_batch_hold(case: Case) -> None:
    config, requests = case
    for batch in simulate(requests, UNEVEN, config).batches:
        assert batch.num_tokens == sum(tokens for _, tokens in batch.members) <= config.max_num_batched_tokens
        assert batch.num_sequences == len({name for name, _ in batch.members}) <= config.max_num_seqs
        assert 1 <= batch.num_sequences == batch.num_decodes + len(batch.chunks)
        assert batch.num_tokens == batch.num_decodes + sum(tokens for _, _, tokens in batch.chunks)
        assert batch.num_sequences <= batch.blocks_used <= config.num_usable_blocks
        if config.long_prefill_token_threshold > 0:
            assert all(tokens <= config.long_prefill_token_threshold for _, tokens in batch.members)


@given(cases())
def test_log_replays(case: Case) -> None:
    """Token by token from the log alone: who prefills, who decodes, what is in KV, when tokens come."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    computed, prefill, preemptions = [0] * len(requests), [0] * len(requests), [0] * len(requests)
    times: list[list[float]] = [[] for _ in requests]
    for batch in result.batches:
        for name in batch.preempted:
            assert computed[name] > 0
            computed[name] = 0
            preemptions[name] += 1
        chunks, decode_kv = [], 0
        for name, tokens in batch.members:
            known = requests[name][1] + len(times[name])
            if computed[name] == 0:
                prefill[name] = known
            if computed[name] < prefill[name]:
                chunks.append((name, computed[name], tokens))
            else:
                decode_kv += known
            computed[name] += tokens
            assert computed[name] <= known
            if computed[name] == known:
                times[name].append(batch.end_s)
        assert (batch.chunks, batch.decode_kv) == (chunks, decode_kv)
        assert batch.blocks_used >= sum(-(-computed[name] // config.block_size) for name, _ in batch.members)
    assert computed == [prompt + output - 1 for _, prompt, output in requests]
    assert preemptions == [request.preemptions for request in result.requests]
    assert times == [request.token_times for request in result.requests]


@given(cases())
def test_a_batch_that_preempted_admits_nobody(case: Case) -> None:
    config, requests = case
    for batch in simulate(requests, UNEVEN, config).batches:
        if batch.preempted:
            assert all(history > 0 for _, history, _ in batch.chunks)


@given(cases())
def test_clock_follows_the_tables_and_never_idles_with_work(case: Case) -> None:
    """A replica starts a batch at the end of the last one, or, if nothing was left, at the next arrival."""
    config, requests = case
    result = simulate(requests, DYADIC, config)
    for replica in result.replicas:
        mine = [i for i, request in enumerate(result.requests) if request.replica == replica.replica]
        clock_s, busy_s = 0.0, 0.0
        for batch in replica.batches:
            left = [
                requests[i][0] for i in mine if result.requests[i].completed_s > clock_s or requests[i][0] > clock_s
            ]
            assert batch.start_s == max(clock_s, min(left))
            chunks = [(history, tokens) for _, history, tokens in batch.chunks]
            duration_s = DYADIC.iteration_s(
                batch.num_tokens, batch.num_sequences, batch.num_decodes, batch.decode_kv, chunks
            )
            assert batch.end_s == batch.start_s + duration_s
            clock_s = batch.end_s
            busy_s += duration_s
        assert (replica.iterations, replica.busy_s) == (len(replica.batches), busy_s)
        assert replica.iterations <= sum(requests[i][1] + requests[i][2] - 1 for i in mine)


@given(cases())
def test_gaps_cover_the_time_between_tokens(case: Case) -> None:
    """One gap for each token but the first; together they are the times between first and last tokens."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    assert len(result.token_gaps_s) == sum(output - 1 for _, _, output in requests)
    total_s = math.fsum(request.completed_s - request.first_token_s for request in result.requests)
    assert math.fsum(result.token_gaps_s) == pytest.approx(total_s, rel=1e-9)


@given(cases())
def test_exact_clocks_give_exact_gaps(case: Case) -> None:
    """Where no bit is lost, both definitions of a gap are the same number."""
    config, requests = case
    result = simulate(requests, DYADIC, config)
    differences = [after - before for request in result.requests for before, after in pairwise(request.token_times)]
    assert sorted(result.token_gaps_s) == sorted(differences)


@given(cases())
def test_first_admissions_are_in_order_of_arrival(case: Case) -> None:
    """Strict head-of-line blocking: within a replica nobody is first scheduled before an earlier arrival."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    order = sorted(range(len(requests)), key=lambda i: (requests[i][0], i))
    for replica in range(config.replicas):
        starts = [result.requests[i].scheduled_s for i in order if result.requests[i].replica == replica]
        assert starts == sorted(starts)


@given(cases(router="round_robin"))
def test_round_robin_replicas_are_independent(case: Case) -> None:
    """Each behaves as if it were alone with its share of the requests."""
    config, requests = case
    together = simulate(requests, UNEVEN, config)
    for replica in range(config.replicas):
        mine = [i for i, request in enumerate(together.requests) if request.replica == replica]
        alone = simulate([requests[i] for i in mine], UNEVEN, replace(config, replicas=1))
        assert [replace(request, replica=replica) for request in alone.requests] == [together.requests[i] for i in mine]
        assert alone.token_gaps_s == together.replicas[replica].token_gaps_s


@given(cases(router="least_outstanding"))
def test_least_outstanding_chose_the_least(case: Case) -> None:
    """Counted again from the results: at each arrival the chosen replica had the fewest, of equals the lowest id."""
    config, requests = case
    result = simulate(requests, DYADIC, config)
    order = sorted(range(len(requests)), key=lambda i: (requests[i][0], i))
    for position, chosen in enumerate(order):
        counts = [0] * config.replicas
        for earlier in order[:position]:
            if result.requests[earlier].completed_s > requests[chosen][0]:
                counts[result.requests[earlier].replica] += 1
        assert result.requests[chosen].replica == counts.index(min(counts))


@given(cases())
def test_runs_are_repeatable(case: Case) -> None:
    """Nothing is kept from one run to the next."""
    config, requests = case

    def run() -> ReferenceResult:
        return simulate(requests, UNEVEN, config)

    assert run() == run()


@given(cases(), st.integers(0, 3))
def test_plenty_of_room_makes_the_gate_irrelevant(case: Case, replicas: int) -> None:
    """With blocks for everybody at once nobody is preempted, and the gate never closes."""
    config, requests = case
    roomy = replace(config, num_usable_blocks=48 * 12, replicas=replicas + 1)
    gated, ungated = (simulate(requests, UNEVEN, replace(roomy, full_sequence_gate=gate)) for gate in (True, False))
    assert gated == ungated
    assert sum(request.preemptions for request in gated.requests) == 0
