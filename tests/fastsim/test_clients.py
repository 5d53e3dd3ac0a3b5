"""Clients: closed loops, think times, delays of the front end, and what results say of them."""

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import run, some_workload

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload

CLOSED = {"client": "closed"}


def closed(concurrency: int, workload: Workload | None = None, **more) -> fastsim.SimulationResult:
    fields = {name: more.pop(name) for name in tuple(more) if name not in ("think_s", "warmup_requests")}
    return run(workload, client="closed", client_options={"concurrency": concurrency, **more}, **fields)


def in_system(result: fastsim.SimulationResult) -> np.ndarray:
    """Requests sent and not completed just after each sending or completion."""
    frame = result.requests
    times = np.concatenate((frame["completed_s"], frame["arrival_s"]))
    change = np.repeat([-1, 1], len(frame))
    order = np.lexsort((change, times))  # completions first
    return change[order].cumsum()


# By hand: an iteration takes 1 s


def by_hand(workload: Workload, **fields) -> tuple[list[float], list[float]]:
    config = plain_config(16, 128, **fields)
    frame = fastsim.simulate(config, workload, plain_tables(config, 1.0)).requests
    return frame["arrival_s"].to_list(), frame["completed_s"].to_list()


def test_one_client_sends_one_after_the_other_whatever_the_workload_says():
    workload = Workload.from_arrays([5.0, 6.0, 7.0], [10, 10, 10], [3, 1, 2])
    sent, completed = by_hand(workload, client="closed", client_options={"concurrency": 1})
    assert sent == [0.0, 3.0, 4.0]
    assert completed == [3.0, 4.0, 6.0]


def test_a_client_thinks():
    workload = Workload.from_arrays([0.0] * 3, [10] * 3, [3, 1, 2])
    sent, completed = by_hand(workload, client="closed", client_options={"concurrency": 1, "think_s": 0.5})
    assert sent == [0.0, 3.5, 5.0]
    assert completed == [3.0, 4.5, 7.0]


def test_two_clients_share_the_workload():
    workload = Workload.from_arrays([0.0] * 4, [10] * 4, [3, 1, 2, 1])
    sent, completed = by_hand(workload, client="closed", client_options={"concurrency": 2})
    # The second is done at 1 and sends the third, which is done with the first at 3; one of them sends the fourth.
    assert sent == [0.0, 0.0, 1.0, 3.0]
    assert completed == [3.0, 1.0, 3.0, 4.0]


def test_more_clients_than_requests_send_them_all_at_once():
    workload = Workload.from_arrays([0.0, 9.0], [10, 10], [2, 2])
    sent, completed = by_hand(workload, client="closed", client_options={"concurrency": 5})
    assert (sent, completed) == ([0.0, 0.0], [2.0, 2.0])


def test_turns_wait_for_the_turn_before_and_think():
    workload = Workload.from_arrays(
        [0.0, 0.0, 0.0, 2.0], [10] * 4, [2, 1, 1, 1], session=[7, 7, 7, -1], think_s=[np.nan, 0.25, 0.0, np.nan]
    )
    sent, completed = by_hand(workload)
    # The second turn, sent at 2.25, waits for the iteration of the last request, from 2 to 3.
    assert sent == [0.0, 2.25, 4.0, 2.0]
    assert completed == [2.0, 4.0, 5.0, 3.0]


def test_the_front_end_delays_arrivals_and_answers_but_not_the_engine():
    options = {"ingress_s": 0.5, "ingress_s_per_token": 0.01, "egress_s": 0.25}
    workload = Workload.from_arrays([0.0], [100], [2])
    config = plain_config(16, 128, engine_options=options)
    frame = fastsim.simulate(config, workload, plain_tables(config, 1.0)).requests
    row = frame.row(0, named=True)
    assert (row["arrival_s"], row["scheduled_s"], row["first_token_s"], row["completed_s"]) == (0.0, 1.5, 2.75, 3.75)
    assert (row["ttft_s"], row["tpot_s"], row["e2e_s"]) == (2.75, 1.0, 3.75)


def test_a_longer_prompt_may_be_overtaken_on_its_way_in():
    workload = Workload.from_arrays([0.0, 0.1], [100, 10], [1, 1])
    options = {"ingress_s_per_token": 0.01}
    config = plain_config(16, 128, engine_options=options)
    result = fastsim.simulate(config, workload, plain_tables(config, 1.0))
    assert result.requests["arrival_s"].to_list() == [0.0, 0.1]
    assert result.requests["scheduled_s"].to_list() == [1.2, 0.2]
    assert result.requests["prompt_tokens"].to_list() == [100, 10]


def test_a_closed_client_waits_for_the_front_end_too():
    workload = Workload.from_arrays([0.0, 0.0], [10, 10], [1, 1])
    options = {"ingress_s": 0.5, "egress_s": 0.25}
    sent, completed = by_hand(workload, client="closed", client_options={"concurrency": 1}, engine_options=options)
    assert sent == [0.0, 1.75]
    assert completed == [1.75, 3.5]


# Laws


@pytest.mark.parametrize(("replicas", "stages"), [(1, 1), (3, 1), (1, 3)])
def test_as_many_requests_as_clients_are_under_way_until_the_workload_ends(replicas: int, stages: int):
    result = closed(12, some_workload(400), replicas=replicas, pipeline_parallel=stages, router="least_outstanding")
    count = in_system(result)
    assert count.max() == 12
    sends = np.sort(result.requests["arrival_s"].to_numpy())
    assert (sends[:12] == 0.0).all()
    # Every later sending is a completion.
    assert set(sends[12:]) <= set(result.requests["completed_s"])


def test_littles_law():
    result = closed(8, some_workload(2000))
    metrics, makespan_s = result.summary["metrics"], result.summary["simulation"]["makespan_s"]
    mean_in_system = result.requests["e2e_s"].sum() / makespan_s
    assert mean_in_system == pytest.approx(metrics["throughput_requests_per_s"] * metrics["e2e_s"]["mean"])
    assert 7.9 < mean_in_system <= 8.0


def test_thinking_clients_leave_the_engine_idle():
    # N / X = latency + think time.
    result = closed(4, some_workload(2000), think_s=20.0)
    metrics = result.summary["metrics"]
    cycle_s = metrics["e2e_s"]["mean"] + 20.0
    assert metrics["throughput_requests_per_s"] == pytest.approx(4 / cycle_s, rel=0.01)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "session_affinity", "random"])
def test_several_replicas_serve_what_one_client_sends_at_its_time(router: str):
    result = closed(5, some_workload(300, session=np.arange(300) % 7), replicas=3, router=router, record_batches=True)
    frame = result.requests
    assert (frame["arrival_s"] <= frame["scheduled_s"]).all()
    assert in_system(result).max() == 5
    assert frame["request_id"].to_list() == list(range(300))
    again = closed(5, some_workload(300, session=np.arange(300) % 7), replicas=3, router=router)
    assert again.requests.equals(frame)  # the log changes nothing


# Results


def test_warm_up_counts_in_no_latency_but_in_all_counts():
    workload = some_workload(300)
    warm, cold = closed(6, workload, warmup_requests=100), closed(6, workload)
    assert warm.requests.equals(cold.requests)
    for name in ("ttft_s", "e2e_s"):
        assert warm.summary["metrics"][name]["mean"] == pytest.approx(cold.requests[name][100:].mean())
        assert cold.summary["metrics"][name]["mean"] == pytest.approx(cold.requests[name].mean())
    assert warm.summary["simulation"]["completed"] == 300
    assert warm.summary["prefix_cache"]["prompt_tokens"] == workload.prompt_tokens[100:].sum()


def test_hits_are_told_per_request_overall_and_per_class():
    ids = [[1, 2, 3, 4]] * 4
    workload = Workload.from_arrays(
        [0.0, 50.0, 100.0, 150.0], [64] * 4, [2] * 4, block_ids=ids, block_tokens=16, request_class=[0, 1, 0, 1]
    )
    result = run(workload)
    # One token is always computed, so of four full blocks three are found.
    assert result.requests["cached_tokens"].to_list() == [0, 48, 48, 48]
    assert result.summary["prefix_cache"] == {
        "enabled": True,
        "cached_tokens": 144,
        "prompt_tokens": 256,
        "hit_rate": 144 / 256,
    }
    assert [result.summary["classes"][number]["hit_rate"] for number in ("0", "1")] == [48 / 128, 96 / 128]
    config = plain_config(16, 128)
    config = config.with_fields(scheduler_options=config.scheduler_options | {"enable_prefix_caching": False})
    off = fastsim.simulate(config, workload, plain_tables(config, 1.0)).summary["prefix_cache"]
    assert (off["enabled"], off["hit_rate"]) == (False, 0.0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (CLOSED, "client.concurrency"),
        (CLOSED | {"client_options": {"concurrency": 0}}, "client.concurrency"),
        (CLOSED | {"client_options": {"concurrency": 1, "think_s": -1}}, "client.think_s"),
        (CLOSED | {"client_options": {"concurrency": 1, "warmup_requests": -1}}, "client.warmup_requests"),
        ({"client": "impatient"}, "client"),
        ({"client_options": {"concurrency": 3}}, "client.concurrency"),
        (
            CLOSED | {"client_options": {"concurrency": 3}, "parity": "vidur", "scheduler": "sarathi"},
            "client",
        ),
    ],
)
def test_refusals(fields: dict, field: str):
    with pytest.raises(ConfigError) as refusal:
        SimulationConfig(**fields)
    assert refusal.value.field == field


def test_a_warm_up_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match="warmup_requests 3 leaves none of the 3"):
        closed(1, some_workload(3), warmup_requests=3)


def test_configurations_with_clients_survive_toml():
    config = SimulationConfig(client="closed", client_options={"concurrency": 64, "think_s": 1.5})
    assert SimulationConfig.from_toml(config.to_toml()) == config
