"""What a summary says of pipeline stages, from hand-made tables of the kernel."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from estimators import load_device, load_model
from fastsim import SimulationConfig
from fastsim.commands.summary import render
from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.state import REQUEST, records
from fastsim.metrics import bubble_fraction, describe_pipeline, describe_replica
from fastsim.result import summarize

#: What the metrics read of a replica.
REPLICA = np.dtype(
    [
        *((name, np.float64) for name in ("busy_s", "active_s", "running_seconds", "block_seconds", "tbt_sum_s")),
        ("attention_pairs", np.float64),
        *((name, np.int64) for name in ("completed", "iteration", "num_blocks", "peak_blocks", "peak_batch_tokens")),
        *((name, np.int64) for name in ("preemptions", "prefill_tokens", "decode_tokens", "caching")),
    ]
)
STAGE = np.dtype([("busy_s", np.float64)])


def replicas(stages: list[list[float]], active_s: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """REPLICA records, and the STAGE records of all, replica by replica, whose stages were busy so long [s]."""
    table = np.zeros(len(stages), REPLICA)
    table["busy_s"], table["active_s"] = [sum(busy) for busy in stages], active_s
    table["running_seconds"], table["block_seconds"] = 3 * table["active_s"], 20 * table["active_s"]
    table["num_blocks"], table["completed"] = 100, 1
    table["prefill_tokens"], table["decode_tokens"], table["attention_pairs"] = 10, 4, 95.0
    flat = np.zeros(sum(map(len, stages)), STAGE)
    flat["busy_s"] = np.concatenate(stages)
    return table, flat


def described(stages: list[float], active_s: float, makespan_s: float = 10.0) -> dict[str, Any]:
    table, flat = replicas([stages], [active_s])
    return describe_replica(table[0], flat, makespan_s)


def test_a_stage_waits_where_another_works():
    replica = described([6.0, 4.0], active_s=8.0)
    assert (replica["busy_s"], replica["active_s"]) == (10.0, 8.0)
    assert replica["stages"] == [{"utilization": 0.6}, {"utilization": 0.4}]
    assert replica["utilization"] == pytest.approx(0.5)
    # Of 2 x 8 s in which a batch was in flight the stages worked 10.
    assert replica["bubble_fraction"] == pytest.approx(6 / 16)


def test_means_are_over_the_time_with_a_batch_in_flight():
    replica = described([6.0, 4.0], active_s=8.0)
    assert replica["batch_size_mean"] == pytest.approx(3.0)
    assert replica["kv_use_mean"] == pytest.approx(0.2)


def test_one_stage_has_no_bubbles():
    replica = described([7.0], active_s=7.0)
    assert replica["bubble_fraction"] == 0.0
    assert replica["utilization"] == replica["stages"][0]["utilization"] == 0.7


def test_rounding_makes_no_stage_busier_than_the_time_there_was():
    replica = described([10.000000000000002, 10.000000000000002], active_s=10.0)
    assert replica["utilization"] == 1.0
    assert replica["stages"] == [{"utilization": 1.0}] * 2
    assert replica["bubble_fraction"] == 0.0


def test_no_time_has_no_shares():
    replica = described([0.0, 0.0], active_s=0.0, makespan_s=0.0)
    shares = ("utilization", "bubble_fraction", "batch_size_mean", "kv_use_mean")
    assert [replica[name] for name in shares] == [0.0] * 4
    assert bubble_fraction(0.0, 0.0) == 0.0


def test_stages_of_all_replicas_are_put_together():
    both = [described([6.0, 4.0], active_s=8.0), described([2.0, 1.0], active_s=2.0)]
    together = describe_pipeline(both)
    assert together["stage_utilization"] == pytest.approx([0.4, 0.25])
    # The longer a replica was at work, the more it counts: 13 of 2 x 10 s.
    assert together["bubble_fraction"] == pytest.approx(7 / 20)


def summary(pp: int, stages: list[list[float]], active_s: list[float], **fields: Any) -> dict[str, Any]:
    """The summary of two requests that took 10 s."""
    config = SimulationConfig(pipeline_parallel=pp, replicas=len(stages), **fields)
    requests = records(REQUEST, 2)
    requests["arrival_s"], requests["scheduled_s"], requests["first_token_s"] = [0.0, 1.0], [0.0, 1.0], [2.0, 3.0]
    requests["completed_s"], requests["prompt_tokens"], requests["output_tokens"] = [9.0, 10.0], 5, 3
    table, flat = replicas(stages, active_s)
    state = SimpleNamespace(
        requests=requests, replicas=table, stages=flat, integers=np.zeros(NUM_BUCKETS, np.int64), cluster=None
    )
    workload = SimpleNamespace(provenance={}, notes=(), objectives=(), request_class=np.zeros(2, np.int32))
    tables = SimpleNamespace(provenance={})
    model, device = load_model(config.model), load_device(config.device)
    whole = summarize(config, workload, tables, model, device, state)
    whole["simulation"] |= {"wall_s": 1.0, "requests_per_s": 2.0}
    return whole


def test_every_gpu_of_every_stage_is_paid_and_counted():
    metrics = summary(2, [[6.0, 4.0], [2.0, 1.0]], [8.0, 2.0], tensor_parallel=4)["metrics"]
    gpus, device, model = 2 * 4 * 2, load_device("h100_sxm"), load_model("Llama-3.1-8B")
    assert metrics["gpu_hours"] == pytest.approx(gpus * 10 / 3600)
    assert metrics["cost_usd"] == pytest.approx(gpus * 10 / 3600 * device.price_per_hour)
    flops = 28 * model.linear_flops_per_token + 6 * model.lm_head_flops_per_sequence
    flops += 190 * model.attention_flops_per_pair
    assert metrics["mfu"] == pytest.approx(flops / (gpus * 10 * device.peak_flops["bf16"]))
    assert metrics["utilization"] == pytest.approx(13 / (2 * 2 * 10))
    assert (metrics["batch_size_mean"], metrics["kv_use_mean"]) == pytest.approx((3.0, 0.2))


def test_stages_belong_to_their_replicas():
    whole = summary(2, [[6.0, 4.0], [2.0, 1.0]], [8.0, 2.0])
    busy = [[stage["utilization"] for stage in replica["stages"]] for replica in whole["replicas"]]
    assert busy == [[0.6, 0.4], [0.2, 0.1]]
    assert whole["metrics"]["stage_utilization"] == pytest.approx([0.4, 0.25])


def test_the_text_has_a_line_about_stages_where_there_are_several():
    text = render(summary(2, [[6.0, 4.0]], [8.0], tensor_parallel=2))
    assert "1 replica of 4 h100_sxm" in text
    assert "stages busy 60%, 40% of the time; bubbles 37.5% of the time in which a batch is in flight" in text
    assert "stages" not in render(summary(1, [[7.0]], [7.0]))
