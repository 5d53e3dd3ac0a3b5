"""What the rules do to latency, on a workload short of KV blocks: the directions that VLLM.md part 11 reports."""

import random
from dataclasses import replace
from functools import cache
from statistics import mean
from typing import Any

import pytest
from reference.requests import Request
from reference.results import ReferenceResult
from reference.simulate import ReferenceConfig, simulate
from reference.waiting import WaitingQueue
from reference_tests.builders import build_tables

LONGEST = 1024
CONFIG = ReferenceConfig(
    num_usable_blocks=250,
    block_size=16,
    max_num_seqs=64,
    max_num_batched_tokens=512,
    max_model_len=LONGEST,
    enable_prefix_caching=True,
)
LINEAR = build_tables(
    token=lambda n: 0.008 + 30e-6 * n,
    decode=lambda _n, kv: 2e-7 * kv,
    prefill=lambda history, chunk: 1e-9 * chunk * (history + chunk / 2),
    max_tokens=512,
    max_sequences=64,
    max_kv=64 * LONGEST,
    max_history=LONGEST,
    max_chunk=512,
)


#: Requests per second.
LOW, OVERLOAD = 1.0, 40.0


@cache
def conversations(requests_per_s: float) -> list[tuple[float, int, int]]:
    """Prompts and outputs of skewed lengths, arriving at random."""
    rng = random.Random(7)
    arrival_s, requests = 0.0, []
    for _ in range(120 if requests_per_s > LOW else 30):
        arrival_s += rng.expovariate(requests_per_s)
        prompt = max(4, min(500, round(rng.lognormvariate(4.5, 1.0))))
        output = max(2, min(500, round(rng.lognormvariate(4.8, 0.8))))
        requests.append((arrival_s, prompt, output))
    return requests


def run(requests_per_s: float, **options: Any) -> ReferenceResult:
    """The workload at a rate, served with what the options change."""
    return simulate(conversations(requests_per_s), LINEAR, replace(CONFIG, **options))


def latency(result: ReferenceResult) -> float:
    return mean(request.completed_s - request.arrival_s for request in result.requests)


def first_token(result: ReferenceResult) -> float:
    return mean(request.first_token_s - request.arrival_s for request in result.requests)


def per_token(result: ReferenceResult) -> float:
    return mean(
        (request.completed_s - request.first_token_s) / (len(request.token_times) - 1) for request in result.requests
    )


def preemptions(result: ReferenceResult) -> int:
    return sum(request.preemptions for request in result.requests)


def test_the_cache_pays_by_what_preempted_requests_find_of_themselves() -> None:
    """Nobody shares a text, so without preemption it changes nothing."""
    on, off = run(OVERLOAD), run(OVERLOAD, enable_prefix_caching=False)
    assert preemptions(on) > 50
    assert sum(request.cached_tokens for request in on.requests) == 0
    assert latency(on) < 0.99 * latency(off)
    assert first_token(on) < first_token(off)
    assert run(LOW) == run(LOW, enable_prefix_caching=False)


def test_shared_prompts_pay_more() -> None:
    """Every prompt begins with one of three texts of 4 blocks."""
    prompts = [prompt for _, prompt, _ in conversations(OVERLOAD)]
    texts = tuple(tuple(range(10 * (i % 3), 10 * (i % 3) + min(4, p // 16))) for i, p in enumerate(prompts))
    shared = run(OVERLOAD, block_ids=texts, block_tokens=16)
    assert sum(request.cached_tokens for request in shared.requests) > sum(prompts) / 10
    assert latency(shared) < 0.95 * latency(run(OVERLOAD))


def test_the_gate_prevents_preemptions() -> None:
    gated, ungated = run(OVERLOAD), run(OVERLOAD, full_sequence_gate=False)
    assert preemptions(gated) < preemptions(ungated)
    assert latency(gated) < latency(ungated)


def test_more_blocks_less_waiting() -> None:
    few, some, many = (latency(run(OVERLOAD, num_usable_blocks=blocks)) for blocks in (250, 275, 400))
    assert few > some > many


def test_where_uncached_blocks_go_hardly_matters() -> None:
    assert latency(run(OVERLOAD, uncached_blocks_first=True)) == pytest.approx(latency(run(OVERLOAD)), rel=0.01)


def test_preempted_requests_at_the_back_trade_time_per_token_for_time_to_first_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    front = run(OVERLOAD)

    def push_back(queue: WaitingQueue, request: Request) -> None:
        queue.append(request)

    monkeypatch.setattr(WaitingQueue, "push_front", push_back)
    back = run(OVERLOAD)
    assert latency(back) > latency(front)
    assert first_token(back) < 0.6 * first_token(front)
    assert per_token(back) > 2 * per_token(front)


def test_scheduling_ahead_costs_a_part_of_a_step_to_the_first_token_at_low_load() -> None:
    """Who arrives while others decode waits for the batch that is formed already. Time per token is the same."""
    ahead, synchronous = run(LOW, async_scheduling=True), run(LOW)
    assert first_token(ahead) - first_token(synchronous) == pytest.approx(per_token(synchronous), rel=0.5)
    assert per_token(ahead) == pytest.approx(per_token(synchronous), rel=0.01)
    assert latency(run(OVERLOAD, async_scheduling=True)) == pytest.approx(latency(run(OVERLOAD)), rel=0.03)


@pytest.mark.parametrize("load", [LOW, OVERLOAD])
def test_scheduling_ahead_hides_cpu_time(load: float) -> None:
    cpu = {"launch_s": 0.001, "process_s": 0.002}
    free, synchronous, ahead = run(load), run(load, **cpu), run(load, async_scheduling=True, **cpu)
    assert per_token(synchronous) > 1.2 * per_token(free)
    assert per_token(ahead) == pytest.approx(per_token(free), rel=0.03)
