"""What must hold in every run of every policy, with stages, on small crowded replicas."""

from collections import defaultdict
from itertools import pairwise

from hypothesis import given, settings
from reference.results import BatchRecord
from reference.simulate import simulate
from reference_tests.policy_cases import DISJOINT_POLICIES, PAPER_POLICIES, UNEVEN, Case, cases, queue_key


def stage_times(batch: BatchRecord) -> list[tuple[float, float]]:
    """When a batch started and ended on each stage."""
    return batch.stage_times or [(batch.start_s, batch.end_s)]


@settings(max_examples=400)
@given(cases())
def test_every_request_gets_its_tokens(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for (arrival_s, _, output_tokens), request in zip(requests, result.requests, strict=True):
        assert len(request.token_times) == output_tokens
        assert arrival_s <= request.scheduled_s < request.first_token_s
        assert all(before < after for before, after in pairwise(request.token_times))
    assert len(result.token_gaps_s) == sum(output - 1 for _, _, output in requests)


@settings(max_examples=200)
@given(cases())
def test_stages_are_fifo_servers(case: Case) -> None:
    """Each stage starts a micro-batch at once when both are free, and takes what its tables and its link say."""
    config, requests = case
    for replica in simulate(requests, UNEVEN, config).replicas:
        free_s = [0.0] * config.num_stages
        busy_s = 0.0
        for batch in replica.batches:
            begin_s = batch.start_s
            chunks = [(history, tokens) for _, history, tokens in batch.chunks]
            compute_s = UNEVEN.iteration_s(
                batch.num_tokens, batch.num_sequences, batch.num_decodes, batch.decode_kv, chunks
            )
            for stage, times in enumerate(stage_times(batch)):
                send_s = config.send_latency_s[stage] + config.send_s_per_token[stage] * batch.num_tokens
                duration_s = compute_s + send_s if stage < config.num_stages - 1 else compute_s
                if (num_copied := batch.swapped_out_blocks + batch.swapped_in_blocks) > 0:
                    duration_s += config.swap_s_per_block * num_copied
                start_s = max(begin_s, free_s[stage])
                assert times == (start_s, start_s + duration_s)
                begin_s = free_s[stage] = start_s + duration_s
                busy_s += duration_s
            assert batch.end_s == begin_s
        assert (replica.iterations, replica.busy_s) == (len(replica.batches), busy_s)


@settings(max_examples=200)
@given(cases())
def test_no_more_micro_batches_in_flight_than_stages(case: Case) -> None:
    config, requests = case
    for replica in simulate(requests, UNEVEN, config).replicas:
        for number, batch in enumerate(replica.batches):
            earlier = replica.batches[:number]
            assert sum(other.end_s > batch.start_s for other in earlier) < config.num_stages


@settings(max_examples=200)
@given(cases(DISJOINT_POLICIES))
def test_micro_batches_in_flight_are_disjoint(case: Case) -> None:
    config, requests = case
    for replica in simulate(requests, UNEVEN, config).replicas:
        free_from: dict[int, float] = defaultdict(float)
        for batch in replica.batches:
            for name, _ in batch.members:
                assert free_from[name] <= batch.start_s
                free_from[name] = batch.end_s


@settings(max_examples=200)
@given(cases(PAPER_POLICIES))
def test_limits_of_a_batch_hold(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for batch in result.batches:
        names = [name for name, _ in batch.members]
        assert 1 <= len(names) == len(set(names)) <= config.max_num_seqs // config.num_stages
        assert batch.num_tokens == batch.num_decodes + sum(tokens for _, _, tokens in batch.chunks)
        assert batch.blocks_used <= config.num_usable_blocks
        decodes = [name for name in names if name not in {chunk[0] for chunk in batch.chunks}]
        if batch.swapped_in_blocks == 0:
            assert decodes == sorted(decodes, key=lambda name: queue_key(case, name))
            assert names[: len(decodes)] == decodes
        if config.batch_policy in ("vllm_v0", "lightllm", "faster_transformer"):
            assert batch.num_decodes in (0, len(names))
        if config.batch_policy == "vllm_v0" and batch.chunks:
            assert len(names) * max(tokens for _, _, tokens in batch.chunks) <= config.max_num_batched_tokens
        if config.batch_policy == "lightllm":
            assert batch.num_tokens <= max(config.max_num_batched_tokens, batch.num_decodes)
        if config.batch_policy == "sarathi":
            assert batch.num_tokens <= max(config.max_num_batched_tokens, batch.num_decodes)
        else:
            assert all(history == 0 for _, history, _ in batch.chunks)
    if config.batch_policy not in ("vllm_v0", "sarathi"):
        assert sum(request.preemptions for request in result.requests) == 0


@settings(max_examples=200)
@given(cases(DISJOINT_POLICIES))
def test_log_replays(case: Case) -> None:
    """Token by token from the log alone; a restart keeps the prompt and the outputs so far (oddity 6 corrected)."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for replica in result.replicas:
        computed: dict[int, int] = defaultdict(int)
        times: dict[int, list[float]] = defaultdict(list)
        target = {name: requests[name][1] for name in range(len(requests))}
        landing: list[tuple[float, int]] = []
        for batch in replica.batches:
            for end_s, name in [landed for landed in landing if landed[0] <= batch.start_s]:
                landing.remove((end_s, name))
                times[name].append(end_s)
            for name in batch.preempted if config.preemption_mode == "recompute" else []:
                computed[name] = 0
                target[name] = requests[name][1] + len(times[name])
            for name, tokens in batch.members:
                is_chunk = computed[name] < target[name]
                assert ((name, computed[name], tokens) in batch.chunks) == is_chunk
                computed[name] += tokens
                assert computed[name] <= target[name] if is_chunk else tokens == 1
                if computed[name] >= target[name]:
                    landing.append((batch.end_s, name))
        for end_s, name in landing:
            times[name].append(end_s)
        for name, request in enumerate(result.requests):
            if request.replica == replica.replica:
                assert times[name] == request.token_times
                assert computed[name] == requests[name][1] + requests[name][2] - 1


@settings(max_examples=200)
@given(cases(("faster_transformer",)))
def test_nobody_joins_a_running_group(case: Case) -> None:
    config, requests = case
    for replica in simulate(requests, UNEVEN, config).replicas:
        groups: list[set[int]] = []
        for batch in replica.batches:
            names = {name for name, _ in batch.members}
            if batch.chunks:
                groups.append(names)
            else:
                assert any(names <= group for group in groups)


@settings(max_examples=200)
@given(cases())
def test_nobody_overtakes(case: Case) -> None:
    """Who is first scheduled stands, of all that have arrived and were never scheduled, first in queue order."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for name, request in enumerate(result.requests):
        for other, (arrival_s, _, _) in enumerate(requests):
            waits = arrival_s <= request.scheduled_s < result.requests[other].scheduled_s
            if waits and result.requests[other].replica == request.replica:
                assert queue_key(case, name) < queue_key(case, other)


@settings(max_examples=200)
@given(cases(max_stages=1))
def test_one_stage_never_idles_with_work(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for replica in result.replicas:
        mine = [i for i, request in enumerate(result.requests) if request.replica == replica.replica]
        clock_s = 0.0
        for batch in replica.batches:
            left = [requests[i][0] for i in mine if result.requests[i].completed_s > clock_s]
            assert batch.start_s == max(clock_s, min(left))
            clock_s = batch.end_s


@settings(max_examples=100)
@given(cases())
def test_runs_are_repeatable(case: Case) -> None:
    config, requests = case
    assert simulate(requests, UNEVEN, config) == simulate(requests, UNEVEN, config)
