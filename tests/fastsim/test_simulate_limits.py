"""What the public call refuses, and what it warns about."""

import re
import warnings

import numpy as np
import polars as pl
import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import run, some_workload

import fastsim
from estimators import EstimatorError
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.profiled_range import ContextLengthWarning, ProfiledRangeWarning
from fastsim.schedulers import SCHEDULERS

# Memory


def test_num_kv_blocks_overrides_the_planner_less_the_null_block():
    planned = run(num_kv_blocks=500).summary["replicas"][0]
    assert planned["kv_blocks"] == 499
    # P + D - 1 = 160 tokens fill ten blocks; the engine keeps block 0 for itself.
    workload = Workload.from_arrays([0.0], [100], [61])
    assert run(workload, num_kv_blocks=11).summary["metrics"]["kv_use_max"] == 1.0
    with pytest.raises(ConfigError):
        run(workload, num_kv_blocks=10)


def test_few_blocks_mean_preemptions():
    workload = some_workload(200, qps=1e4)
    few, many = (run(workload, num_kv_blocks=blocks, max_model_len=300) for blocks in (21, 1000))
    assert many.summary["metrics"]["preemptions"] == 0
    assert few.summary["metrics"]["preemptions"] == few.requests["preemptions"].sum() > 0
    assert few.summary["metrics"]["kv_use_max"] == 1.0
    recomputed = few.summary["replicas"][0]["prefill_tokens"] - workload.prompt_tokens.sum()
    assert recomputed > 0


def test_a_model_that_does_not_fit_is_refused_with_what_is_missing_and_what_would_do():
    config = SimulationConfig(model="meta-llama/Llama-3.1-70B")
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, some_workload(5))
    sentence = str(caught.value)
    assert (caught.value.field, caught.value.value) == ("model", "meta-llama/Llama-3.1-70B")
    # 70.6e9 weights of 2 bytes are 131.4 GiB; of the card's 79.6 GiB the engine may use 71.7.
    assert "131.4 GiB of 79.6 GiB per GPU" in sentence
    missing_gib = float(sentence.split("GiB are missing")[0].split()[-1])
    assert 59.8 < missing_gib < 64
    proposed = re.search(r"; give tensor_parallel = (\d+) or pipeline_parallel = (\d+)\.$", sentence)
    assert proposed is not None
    tried = SimulationConfig(model=config.model, tensor_parallel=int(proposed[1]))
    assert fastsim.simulate(tried, some_workload(5)).summary["simulation"]["completed"] == 5


# What is refused


def test_a_request_longer_than_max_model_len():
    workload = Workload.from_arrays([0.0, 1.0, 2.0], [10, 100, 10], [10, 50, 10])
    assert run(workload, max_model_len=150).summary["simulation"]["completed"] == 3
    with pytest.raises(ConfigError) as caught:
        run(workload, max_model_len=149)
    assert (caught.value.field, caught.value.value) == ("max_model_len", 149)
    assert "request 1 (100 prompt + 50 output tokens)" in str(caught.value)
    assert caught.value.mend.startswith("give 150 or more")


def test_a_request_longer_than_all_kv_blocks():
    # 100 + 61 - 1 = 160 tokens are 10 blocks of 16; one more is the null block.
    workload = Workload.from_arrays([0.0, 1.0], [10, 100], [10, 61])
    assert run(workload, num_kv_blocks=11).summary["simulation"]["completed"] == 2
    with pytest.raises(ConfigError) as caught:
        run(workload, num_kv_blocks=10)
    assert (caught.value.field, caught.value.value) == ("num_kv_blocks", 10)
    assert "holds 144 tokens" in str(caught.value)
    assert "request 1 (100 prompt + 61 output tokens)" in str(caught.value)
    assert caught.value.mend.startswith("give 11 or more")


def test_a_pool_of_the_null_block_alone():
    config = plain_config(16, 128)
    with pytest.raises(ConfigError, match="give 2 or more"):
        fastsim.simulate(config.with_fields(num_kv_blocks=1), some_workload(5), plain_tables(config, 0.01))


@pytest.mark.parametrize(
    ("axis", "least"),
    [("max_tokens", 128), ("max_sequences", 16), ("max_kv", 100 * 16), ("max_history", 512), ("max_chunk", 128)],
)
def test_tables_that_are_too_small_are_refused(axis: str, least: int):
    config = plain_config(16, 128, num_kv_blocks=101, max_model_len=512)
    assert fastsim.simulate(config, some_workload(5), plain_tables(config, 0.01, **{axis: least}))
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, some_workload(5), plain_tables(config, 0.01, **{axis: least - 1}))
    assert (caught.value.field, caught.value.value) == (f"tables.{axis}", least - 1)
    assert f"less than the {least} " in str(caught.value)


def test_tables_too_small_for_the_equivalent_of_several_chunks_are_refused():
    # Four prompts of 30 tokens in one batch of up to 128 are looked up as one chunk of 60.
    config = plain_config(16, 128, max_model_len=32, num_kv_blocks=100)
    tables = plain_tables(config, 0.01, prefill_rule="equivalent_chunk", max_history=99 * 16, max_chunk=32)
    with pytest.raises(ConfigError):
        fastsim.simulate(config, Workload.from_arrays(np.zeros(4), np.full(4, 30), np.full(4, 2)), tables)


@pytest.mark.parametrize(
    ("fields", "field", "known"),
    [
        ({"model": "Llama-9-9000B"}, "model", "meta-llama/Llama-3.1-70B"),
        ({"device": "abacus"}, "device", "h100_sxm"),
        ({"tensor_parallel": 3}, "tp", "1, 2, 4, 8"),
    ],
)
def test_unknown_models_and_devices_name_known_ones(fields: dict, field: str, known: str):
    with pytest.raises(EstimatorError) as caught:
        fastsim.simulate(SimulationConfig(**fields), some_workload(5))
    assert caught.value.field == field
    assert known in str(caught.value)


# Profiled range


def test_reads_outside_the_profiled_range_warn():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    profiled = {
        "tokens": [1, 99],
        "sequences": [1, 16],
        "decode_context": [1, 108],
        "history": [0, 0],
        "chunk": [1, 128],
    }
    tables = plain_tables(config, 0.01, provenance={"profiled": profiled})
    with pytest.warns(
        ProfiledRangeWarning,
        match=r"up to 100 tokens in a batch, measured up to 99; "
        r"up to 109 tokens of context \(in 1 of 1 requests\), measured up to 108",
    ):
        fastsim.simulate(config, workload, tables)


def test_the_warning_says_how_often():
    # Two prompts at once, and one alone: eleven batches, of which nine have two decodes and none a prompt.
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0, 0.0, 9.0], [100, 20, 30], [10, 10, 1])
    profiled = {"decodes": [1, 1], "chunk": [1, 99], "decode_context": [1, 28]}
    with pytest.warns(ProfiledRangeWarning) as caught:
        fastsim.simulate(config, workload, plain_tables(config, 0.01, provenance={"profiled": profiled}))
    (said,) = (str(warning.message) for warning in caught if warning.category is ProfiledRangeWarning)
    assert "up to 109 tokens of context (in 3 of 3 requests), measured up to 28" in said
    assert said.endswith("; in all in 10 of 11 batches")


@pytest.mark.parametrize(
    "more",
    [{}, {"engine": "vllm-0.19"}, {"pipeline_parallel": 2}, {"scheduler": "sarathi"}, {"data_parallel": 2}],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::fastsim.profiled_range.ProfiledRangeWarning")
def test_batches_beyond_what_was_measured_are_those_of_the_log(more: dict):
    most = {"num_tokens": 90, "num_sequences": 9, "num_decodes": 7}
    profiled = {name.removeprefix("num_"): [1, value] for name, value in most.items()}
    outside = {}
    for recorded in (True, False):
        config = SimulationConfig(max_model_len=1024, num_kv_blocks=600, record_batches=recorded, **more)
        config = config.with_fields(
            scheduler_options={"max_num_seqs": 16, "chunk_size": 128}
            if "scheduler" in more
            else {"max_num_seqs": 16, "max_num_batched_tokens": 128}
        )
        tables = plain_tables(config, 0.01, 1e-5, provenance={"profiled": profiled})
        result = fastsim.simulate(config, some_workload(200), tables)
        outside[recorded] = int(result.state.replicas["outside_batches"].sum())
        if recorded:
            log = result.batches.filter(pl.col("stage") == 0)
            expected = len(log.filter(pl.any_horizontal(pl.col(name) > value for name, value in most.items())))
    assert 0 < expected < len(log)
    assert outside == {True: expected, False: expected}


def test_chunks_of_one_length_over_long_histories_count_once_for_each_batch():
    config = plain_config(16, 32)
    tables = plain_tables(config, 0.01, provenance={"profiled": {"history": [0, 50]}})
    with pytest.warns(ProfiledRangeWarning, match="up to 96 tokens before a chunk, .*; in all in 2 of 4 batches"):
        fastsim.simulate(config, Workload.from_arrays([0.0], [128], [1]), tables)


def test_engines_that_share_experts_read_the_tokens_of_all():
    from fastsim.profiled_range import _reads_outside
    from fastsim.simulation import simulate

    config = plain_config(16, 128)
    result = simulate(config, some_workload(3), plain_tables(config, 0.01))
    peak = int(result.state.replicas["peak_batch_tokens"].max())
    both, profiled = config.with_fields(data_parallel=2), {"profiled": {"engines": [1, 2 * peak - 1]}}
    (said,) = _reads_outside(both, profiled, result.state, np.array([5]))
    assert said == f"up to {2 * peak} tokens of engines that share experts, measured up to {2 * peak - 1}"


def test_reads_inside_the_profiled_range_do_not_warn():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    profiled = {"tokens": [1, 100], "sequences": [1, 1], "decode_kv": [1, 109], "history": [0, 0], "chunk": [1, 100]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProfiledRangeWarning)
        fastsim.simulate(config, workload, plain_tables(config, 0.01, provenance={"profiled": profiled}))


def test_the_warning_points_at_the_caller():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [100], [10])
    tables = plain_tables(config, 0.01, provenance={"profiled": {"tokens": [1, 50]}})
    with pytest.warns(ProfiledRangeWarning) as caught:
        fastsim.simulate(config, workload, tables)
    with pytest.warns(ProfiledRangeWarning) as from_threads:
        fastsim.simulate_many([config, config], workload, tables=[tables, tables])
    for found, times in ((caught, 1), (from_threads, 2)):
        files = [warning.filename for warning in found if warning.category is ProfiledRangeWarning]
        assert files == times * [__file__]


# What a run rests on


def test_shapes_that_were_not_measured_are_named():
    # The catalogue has head size 128 alone for A100, and no more than 8 key/value heads in decodes.
    config = SimulationConfig(model="phi-2", device="a100_sxm", max_model_len=512)
    with pytest.warns(ProfiledRangeWarning, match="head size 80"):
        fastsim.simulate(config, Workload.from_arrays([0.0], [100], [10]))


@pytest.mark.filterwarnings("ignore::fastsim.profiled_range.ProfiledRangeWarning")
def test_contexts_that_the_model_was_not_made_for_are_named():
    config = SimulationConfig(model="phi-2", device="a100_sxm", max_model_len=4096)
    with pytest.warns(ContextLengthWarning, match="2048 positions"):
        fastsim.simulate(config, Workload.from_arrays([0.0], [3000], [10]))


def test_the_default_rests_on_measured_shapes():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ProfiledRangeWarning)
        fastsim.simulate(SimulationConfig(), Workload.generate(num_requests=300, qps=10))


def test_tables_of_zeros_have_no_rates():
    config = plain_config(16, 128)
    metrics = fastsim.simulate(config, some_workload(5), plain_tables(config, 0.0)).summary["metrics"]
    assert metrics["ttft_s"]["p99"] == 0.0
    burst = Workload.from_arrays([0.0, 0.0], [10, 10], [5, 5])
    metrics = fastsim.simulate(config, burst, plain_tables(config, 0.0)).summary["metrics"]
    assert metrics["throughput_requests_per_s"] is None
    assert metrics["mfu"] is None


def test_tables_can_be_injected_into_many():
    configs = [plain_config(16, 128), plain_config(16, 128, replicas=2)]
    tables = [plain_tables(config, seconds) for config, seconds in zip(configs, (0.01, 0.5), strict=True)]
    slow = fastsim.simulate_many(configs, some_workload(50), tables=tables)[1]
    assert slow.summary["metrics"]["tpot_s"]["p50"] == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="tables"):
        fastsim.simulate_many(configs, some_workload(50), tables=tables[:1])


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"vllm_v1"}))
def test_requests_that_a_batch_policy_could_never_run_are_refused(scheduler: str):
    options = {"max_num_batched_tokens": 300} if scheduler in ("vllm_v0", "lightllm") else {}
    block_size = 1 if scheduler == "lightllm" else 16
    config = SimulationConfig(
        scheduler=scheduler,
        scheduler_options=options,
        block_size=block_size,
        max_model_len=600,
        num_kv_blocks=512 // block_size,
    )
    # 512 tokens of KV: enough for the request alone, but not for what the policy asks for beside it.
    workload = Workload.from_arrays([0.0], [480], [20 if scheduler == "orca" else 33])
    with pytest.raises(ConfigError) as caught:
        fastsim.simulate(config, workload)
    assert caught.value.field == "scheduler"
    assert "480 prompt" in str(caught.value)
