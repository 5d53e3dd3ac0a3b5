"""What must hold in every run with a prefix cache, scheduling ahead, CPU time, delays and clients."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import reference.vllm_v1
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.overheads import launch_s, process_s
from reference.request_blocks import RequestBlocks
from reference.requests import Request
from reference.results import BatchRecord, ReplicaResult
from reference.simulate import ReferenceConfig, simulate
from reference_tests.feature_cases import FEATURES
from reference_tests.policy_cases import UNEVEN, Case, cases

VLLM = ("vllm_v1",)
EVERYTHING = cases(features=FEATURES)
ONE_STAGE = cases(VLLM, max_stages=1, orders=("fcfs", "sjf"), features=FEATURES)


def processed_s(replica: ReplicaResult, config: ReferenceConfig) -> list[float]:
    """When the outputs of each batch of an engine that schedules ahead were processed, from the log alone."""
    times: list[float] = []
    for number, batch in enumerate(replica.batches):
        # It looked last when it processed the batch before, or when it formed this one.
        looked_s = max([batch.formed_s, *times[number - 1 :]])
        times.append(max(looked_s, batch.end_s) + process_s(config, batch.num_sequences))
    return times


@settings(max_examples=200)
@given(EVERYTHING)
def test_every_request_gets_its_tokens(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for (_, prompt_tokens, output_tokens), request in zip(requests, result.requests, strict=True):
        assert len(request.token_times) == output_tokens
        arrival_s = request.arrival_s + config.ingress_s + config.ingress_s_per_token * prompt_tokens
        assert arrival_s <= request.scheduled_s < request.first_token_s
        assert all(before < after for before, after in pairwise(request.token_times))
        assert request.cached_tokens % config.block_size == 0
        assert request.cached_tokens < prompt_tokens
    if not config.enable_prefix_caching:
        assert not any(request.cached_tokens for request in result.requests)
    assert len(result.token_gaps_s) == sum(output - 1 for _, _, output in requests)


@settings(max_examples=200)
@given(cases(VLLM, modes=("recompute",), features=FEATURES))
def test_log_replays(case: Case) -> None:
    """Every token is in the cache when its request is admitted, or computed once until it is preempted."""
    config, requests = case
    result = simulate(requests, UNEVEN, config)
    for replica in result.replicas:
        computed: dict[int, int] = {}
        ended: dict[int, int] = {}
        for batch in replica.batches:
            history = {name: before for name, before, _ in batch.chunks}
            for name in batch.preempted:
                ended[name] = computed.pop(name)
            assert batch.num_tokens == sum(tokens for _, tokens in batch.members) <= config.max_num_batched_tokens
            for name, tokens in batch.members:
                if name not in computed:
                    assert history[name] % config.block_size == 0
                    assert history[name] == 0 or config.enable_prefix_caching
                    if name not in ended:
                        assert history[name] == result.requests[name].cached_tokens
                    computed[name] = history[name]
                assert history.get(name, computed[name]) == computed[name]
                computed[name] += tokens
        for name, request in enumerate(result.requests):
            if request.replica == replica.replica:
                # Who is preempted with the last token in flight completes without another admission.
                assert computed.get(name, ended.get(name)) == requests[name][1] + requests[name][2] - 1


@settings(max_examples=200)
@given(ONE_STAGE)
def test_two_clocks(case: Case) -> None:
    """The device runs one batch at a time, in order; at most two are in flight; nothing is late."""
    config, requests = case
    config = replace(config, preemption_mode="recompute", async_scheduling=True)
    result = simulate(requests, UNEVEN, config)
    for replica in result.replicas:
        done_s = processed_s(replica, config)
        for number, batch in enumerate(replica.batches):
            device_free_s = replica.batches[number - 1].end_s if number > 0 else 0.0
            assert batch.start_s == max(batch.formed_s + launch_s(config, batch.num_sequences), device_free_s)
            if number > 1:
                assert batch.formed_s >= done_s[number - 2]
        # A batch is formed when one has been processed, at once with another, or when a request reaches an idle engine.
        for number, (before, batch) in enumerate(pairwise(replica.batches)):
            if batch.formed_s not in (before.formed_s, *done_s[max(0, number - 1) : number + 1]):
                assert batch.formed_s > done_s[number]
        mine = [request for request in result.requests if request.replica == replica.replica]
        delivered_s = {time_s + config.egress_s for time_s in done_s}
        assert all(delivered_s.issuperset(request.token_times) for request in mine)


@settings(max_examples=100)
@given(EVERYTHING)
def test_closed_clients_wait_for_their_answers(case: Case) -> None:
    """At no time are more requests under way than there are clients, and requests are sent in order."""
    config, requests = case
    config = replace(config, client="closed", think_s=())
    result = simulate(requests, UNEVEN, config).requests
    assert all(before.arrival_s <= after.arrival_s for before, after in pairwise(result))
    ends = sorted(request.completed_s + config.client_think_s for request in result)
    for number, request in enumerate(result):
        assert request.arrival_s == (ends[number - config.concurrency] if number >= config.concurrency else 0.0)


@settings(max_examples=100)
@given(cases(features=("sessions", "caching", "ahead", "delays")))
def test_turns_wait_for_the_one_before(case: Case) -> None:
    config, requests = case
    result = simulate(requests, UNEVEN, config).requests
    latest: dict[int, float] = {}
    think_s = config.think_s or (math.nan,) * len(requests)
    for (arrival_s, _, _), session, think, request in zip(requests, config.sessions, think_s, result, strict=True):
        assert request.arrival_s == (arrival_s if math.isnan(think) else latest[session] + think)
        latest[session] = request.completed_s


@settings(max_examples=100)
@given(cases(features=("caching", "ahead", "overheads")))
def test_as_many_clients_as_requests_are_one_burst(case: Case) -> None:
    config, requests = case
    closed = simulate(requests, UNEVEN, replace(config, client="closed", concurrency=len(requests)))
    burst = simulate([(0.0, *sizes) for _, *sizes in requests], UNEVEN, config)
    assert closed == burst


@settings(max_examples=100)
@given(cases(VLLM, features=("ahead", "closed", "sessions")), st.booleans())
def test_a_cache_in_which_nothing_is_shared_matters_to_the_preempted_only(case: Case, uncached_first: bool) -> None:
    config, requests = case
    config = replace(config, preemption_mode="recompute", uncached_blocks_first=uncached_first)
    off = simulate(requests, UNEVEN, replace(config, enable_prefix_caching=False))
    on = simulate(requests, UNEVEN, replace(config, enable_prefix_caching=True))
    assert not any(request.cached_tokens for request in on.requests)
    if not any(request.preemptions for request in off.requests):
        assert on == off


class EagerBlocks(RequestBlocks):
    """As the engine: a block enters the index as soon as it is counted as marked, who ever fills it."""

    def count_marked(self, request: Request, tokens: int) -> None:
        super().count_marked(request, tokens)
        self.mark_counted(request)


@settings(max_examples=200)
@given(cases(VLLM, modes=("recompute",), features=FEATURES))
def test_blocks_of_decodes_may_enter_the_index_late(case: Case) -> None:
    """Unless the workload names them, nobody can find them before their request gives them up."""
    config, requests = case
    if config.block_ids:
        prompts_only = (
            ids[: prompt // config.block_tokens] for ids, (_, prompt, _) in zip(config.block_ids, requests, strict=True)
        )
        config = replace(config, block_ids=tuple(prompts_only))
    late = simulate(requests, UNEVEN, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference.vllm_v1, "RequestBlocks", EagerBlocks)
        assert simulate(requests, UNEVEN, config) == late


@settings(max_examples=100)
@given(ONE_STAGE)
def test_a_batch_never_holds_more_blocks_than_there_are(case: Case) -> None:
    """Shared blocks count once; each member's blocks are there."""
    config, requests = case

    def least(batch: BatchRecord) -> int:
        return max((history + tokens for _, history, tokens in batch.chunks), default=1)

    for batch in simulate(requests, UNEVEN, config).batches:
        assert -(-least(batch) // config.block_size) <= batch.blocks_used <= config.num_usable_blocks
