"""The batch policies of SGLang and TensorRT-LLM through the public call: options, refusals, and what they are for."""

from typing import Any

import numpy as np
import pytest
from kernel_cases import Case, random_tables, run_kernel
from plain_tables import plain_tables
from reference.simulate import ReferenceConfig
from reference.simulate import simulate as reference_simulate
from simulate_calls import some_workload

import fastsim
from estimators import load_device, load_model
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.batch_policy import Pool
from fastsim.memory import plan_memory


def engine(scheduler: str, options: dict[str, Any], **fields: Any) -> SimulationConfig:
    """A small configuration with KV blocks for everybody, unless fields say otherwise."""
    given = {"max_model_len": 512, "num_kv_blocks": 1000, "record_batches": True} | fields
    return SimulationConfig(scheduler=scheduler, scheduler_options={"max_num_seqs": 16} | options, **given)


def run(config: SimulationConfig, workload: Workload | None = None) -> fastsim.SimulationResult:
    return fastsim.simulate(config, workload or some_workload(), plain_tables(config, 0.01, 1e-5))


SMALL = {"sglang": {"max_prefill_tokens": 256, "chunked_prefill_size": 128}, "trtllm": {"max_num_batched_tokens": 256}}

CHUNKS_BELOW_A_BLOCK = {"max_num_seqs": 4, "max_num_batched_tokens": 15, "enable_chunked_prefill": True}

# What they do


def test_sglang_runs_prompts_and_decodes_apart():
    result = run(engine("sglang", SMALL["sglang"]))
    decodes, sequences = result.batches["num_decodes"], result.batches["num_sequences"]
    assert ((decodes == 0) | (decodes == sequences)).all()
    assert (decodes > 0).any()
    # Several prompts share a batch, and none of more than a chunk does.
    prompts = result.batches.filter(decodes == 0)
    assert prompts["num_sequences"].max() > 1
    assert prompts["num_tokens"].max() == 128


def test_sglang_without_chunks_runs_a_prompt_beyond_the_limit_alone():
    workload = Workload.from_arrays([0.0, 0.0, 0.0], [100, 400, 100], [2, 2, 2])
    batches = run(engine("sglang", {"max_prefill_tokens": 256, "chunked_prefill_size": 0}), workload).batches
    assert batches["num_tokens"].to_list() == [100, 400, 100, 3]


def test_sglang_retracts_the_more_the_less_memory_it_sets_aside():
    def preemptions(conservativeness: float) -> int:
        options = SMALL["sglang"] | {"schedule_conservativeness": conservativeness}
        # One by one, or outputs would be set aside whole; and few, as the ratio learns from each shortage.
        workload = Workload.from_arrays(np.arange(10) / 10, np.full(10, 30), np.full(10, 200))
        return run(engine("sglang", options, num_kv_blocks=60), workload).summary["metrics"]["preemptions"]

    few, some, many = (preemptions(conservativeness) for conservativeness in (10.0, 1.0, 0.0))
    assert few < some < many


def test_sglang_puts_a_retracted_request_behind_all_others():
    # In 6 blocks of 16 the first two run until they need a seventh, and the second has fewer outputs. Beside the first
    # nobody has room for all outputs that it lacks; then the third goes before the second.
    workload = Workload.from_arrays([0.0, 0.165, 0.165], [16, 16, 16], [60, 40, 40])
    config = engine("sglang", SMALL["sglang"] | {"schedule_conservativeness": 0.0}, num_kv_blocks=6)
    requests = run(config, workload).requests
    assert requests["preemptions"].to_list() == [0, 1, 0]
    assert requests["scheduled_s"][2] == requests["completed_s"][0]
    assert requests["completed_s"][1] > requests["completed_s"][2]


@pytest.mark.parametrize("num_stages", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_sglang_clips_the_outputs_that_it_expects_as_the_reference_does(seed: int, num_stages: int):
    # Outputs below, at and above the clip of 4096, too long for the generated cases.
    rng = np.random.default_rng(seed)
    config = ReferenceConfig(
        batch_policy="sglang",
        num_usable_blocks=560 + 400 * (seed % 2),
        max_num_seqs=6,
        max_model_len=8500,
        max_prefill_tokens=3000,
        chunked_prefill_size=500,
        schedule_conservativeness=[0.3, 1.0][seed // 2],
        num_stages=num_stages,
        send_latency_s=(0.0,) * num_stages,
        send_s_per_token=(0.0,) * num_stages,
        sessions=(-1,) * 6,
    )
    outputs = rng.choice([3000, 4095, 4096, 4097, 5000, 7000], 6)
    arrivals, prompts = rng.uniform(0, 1000, 6).cumsum(), rng.integers(1, 1500, 6)
    requests = [(float(a), int(p), int(o)) for a, p, o in zip(arrivals, prompts, outputs, strict=True)]
    case = Case(requests, config, [random_tables(rng, config, "sum", False)] * num_stages)
    state, expected = run_kernel(case), reference_simulate(requests, case.tables, config)
    assert state.requests["scheduled_s"].tolist() == [request.scheduled_s for request in expected.requests]
    assert state.requests["completed_s"].tolist() == [request.completed_s for request in expected.requests]
    assert state.requests["preemptions"].tolist() == [request.preemptions for request in expected.requests]
    assert state.replicas["num_long_outputs"][0] == 0


def test_sglang_shares_the_places_of_a_batch_among_the_stages():
    # All eight come at once: with one stage four would run together.
    workload = Workload.from_arrays(np.zeros(8), np.full(8, 20), np.full(8, 30))
    batches = run(engine("sglang", SMALL["sglang"] | {"max_num_seqs": 4}, pipeline_parallel=2), workload).batches
    first = batches.filter(batches["stage"] == 0)
    assert first["num_sequences"].to_list()[:2] == [2, 2]
    assert first["num_sequences"].max() == 2


def test_sglang_decodes_wait_for_the_prompts_of_their_own_stage_slot_alone():
    # Each slot has a place left when the third request comes, and the first that is free takes it.
    workload = Workload.from_arrays([0.0, 0.0, 0.1], [20, 20, 20], [30, 30, 1])
    options = SMALL["sglang"] | {"max_num_seqs": 4, "max_prefill_tokens": 20}
    result = run(engine("sglang", options, pipeline_parallel=2), workload)
    first = result.batches.filter(result.batches["stage"] == 0)
    prompts = first.filter(first["num_decodes"] == 0)
    assert prompts["num_sequences"].to_list() == [1, 1, 1]
    # The first would complete before the second, had its slot not run the third prompt.
    assert result.requests["completed_s"][0] > result.requests["completed_s"][1]
    alone = run(engine("sglang", options, pipeline_parallel=2), Workload.from_arrays([0.0, 0.0], [20, 20], [30, 30]))
    assert alone.requests["completed_s"][0] < alone.requests["completed_s"][1]


def test_trtllm_never_evicts_where_it_guarantees():
    def preemptions(policy: str) -> int:
        options = {"max_num_batched_tokens": 512, "capacity_scheduler_policy": policy}
        result = run(engine("trtllm", options, num_kv_blocks=40), some_workload(200, qps=1e4))
        assert result.summary["simulation"]["completed"] == 200
        return result.summary["metrics"]["preemptions"]

    assert preemptions("guaranteed_no_evict") == 0
    assert preemptions("max_utilization") > 0


def test_trtllm_guarantees_whole_outputs():
    # 8 blocks: each of the two needs 100 + 100 tokens, 7 blocks of 32, so the second waits for the first.
    workload = Workload.from_arrays([0.0, 0.0], [100, 100], [100, 100])
    options = SMALL["trtllm"] | {"capacity_scheduler_policy": "guaranteed_no_evict"}
    requests = run(engine("trtllm", options, num_kv_blocks=13, block_size=32), workload).requests
    assert requests["scheduled_s"][1] == requests["completed_s"][0]
    requests = run(engine("trtllm", options, num_kv_blocks=14, block_size=32), workload).requests
    assert requests["scheduled_s"][1] == 0.0


def test_trtllm_cuts_prompts_to_whole_blocks():
    workload = Workload.from_arrays([0.0, 0.0], [100, 400], [3, 3])
    config = engine("trtllm", {"max_num_batched_tokens": 256, "enable_chunked_prefill": True}, block_size=32)
    batches = run(config, workload).batches
    # 156 tokens are left for the second prompt, 4 blocks of 32; then 255, 7 blocks; then its last 48 tokens.
    assert batches["num_tokens"].to_list() == [228, 225, 49, 1, 1]


# Options


def test_the_capacity_policy_is_one_of_two_words():
    with pytest.raises(ConfigError) as caught:
        engine("trtllm", {"capacity_scheduler_policy": "static_batch"})
    assert caught.value.field == "scheduler.capacity_scheduler_policy"
    assert str(caught.value).endswith("choose one of guaranteed_no_evict, max_utilization.")
    with pytest.raises(ConfigError):
        engine("trtllm", {"capacity_scheduler_policy": 1})


def test_the_capacity_policy_survives_toml():
    config = engine("trtllm", {"capacity-scheduler-policy": "max_utilization"})
    assert config.batch_policy.capacity_scheduler_policy == "max_utilization"
    assert SimulationConfig.from_toml(config.to_toml()) == config
    assert engine("trtllm", {"capacity_scheduler_policy": "guaranteed_no_evict"}) == engine("trtllm", {})


@pytest.mark.parametrize(
    ("scheduler", "options", "field"),
    [
        ("sglang", {"max_prefill_tokens": 0}, "max_prefill_tokens"),
        ("sglang", {"chunked_prefill_size": 15}, "chunked_prefill_size"),
        ("sglang", {"schedule_conservativeness": -0.1}, "schedule_conservativeness"),
        ("trtllm", {"max_num_batched_tokens": 15}, "max_num_batched_tokens"),
        ("trtllm", CHUNKS_BELOW_A_BLOCK, "max_num_batched_tokens"),
    ],
)
def test_limits_with_which_no_engine_would_start_are_refused(scheduler: str, options: dict, field: str):
    with pytest.raises(ConfigError, match=f"scheduler.{field}"):
        engine(scheduler, options)


# Requests that could never run


@pytest.mark.parametrize(
    ("scheduler", "options", "blocks", "prompt", "output"),
    [
        # As many tokens as the pool holds: memory is refused for ever.
        ("sglang", {}, 10, 100, 59),
        # The last output takes no memory, but is guaranteed some.
        ("trtllm", {}, 10, 100, 60),
        ("trtllm", {"max_num_batched_tokens": 100}, 10, 100, 60),
        # Paused before its last output it comes back with 159 tokens to prefill, uncut.
        ("trtllm", {"capacity_scheduler_policy": "max_utilization", "max_num_batched_tokens": 159}, 10, 100, 60),
        ("trtllm", {"capacity_scheduler_policy": "max_utilization", "enable_chunked_prefill": True}, 10, 100, 61),
    ],
)
def test_the_longest_request_that_can_run(scheduler: str, options: dict, blocks: int, prompt: int, output: int):
    config = engine(scheduler, options, num_kv_blocks=blocks)
    assert run(config, Workload.from_arrays([0.0], [prompt], [output])).summary["simulation"]["completed"] == 1
    with pytest.raises(ConfigError):
        run(config, Workload.from_arrays([0.0], [prompt], [output + 1]))


def test_trtllm_without_chunks_refuses_a_prompt_beyond_the_limit():
    with pytest.raises(ConfigError, match="101 prompt"):
        run(engine("trtllm", {"max_num_batched_tokens": 100}), Workload.from_arrays([0.0], [101], [1]))


# Sizes


@pytest.mark.parametrize(
    ("options", "most", "prompts"),
    [
        ({"max_prefill_tokens": 300, "chunked_prefill_size": 200}, 200, [300]),
        ({"max_prefill_tokens": 300, "chunked_prefill_size": 2000}, 511, [511]),
        ({"max_prefill_tokens": 300, "chunked_prefill_size": 0}, 511, [511]),
        ({"max_prefill_tokens": 1000, "chunked_prefill_size": 0}, 999, [300, 300, 399]),
        ({"max_prefill_tokens": 10, "chunked_prefill_size": 16, "max_num_seqs": 64}, 64, [1] * 64),
    ],
)
def test_the_largest_batch_of_sglang(options: dict, most: int, prompts: list[int]):
    config = engine("sglang", options, block_size=1, num_kv_blocks=20_000)
    assert config.batch_policy.most_tokens(Pool(20_000, 1, 512)) == most
    outputs = [100 if len(prompts) == 64 else 1] * len(prompts)
    workload = Workload.from_arrays(np.zeros(len(prompts)), prompts, outputs)
    assert run(config, workload).batches["num_tokens"].max() == most


def test_the_planner_sets_memory_aside_for_the_prompts_of_sglang():
    model, device = load_model("meta-llama/Llama-3.1-8B"), load_device("h100_sxm")

    def blocks(scheduler: str, **options: Any) -> int:
        config = SimulationConfig(scheduler=scheduler, scheduler_options={"max_num_seqs": 256} | options)
        return plan_memory(config, model, device).num_blocks

    assert blocks("sglang", chunked_prefill_size=2048) == blocks("vllm_v1", max_num_batched_tokens=2048)
    assert blocks("sglang", chunked_prefill_size=8192) == blocks("trtllm", max_num_batched_tokens=8192)
    assert blocks("sglang", chunked_prefill_size=0) < blocks("sglang", chunked_prefill_size=8192)
