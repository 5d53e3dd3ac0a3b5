"""The configuration: its defaults, its TOML form, and what it refuses."""

import pickle
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim import ConfigError, SimulationConfig
from fastsim.config_checks import DTYPES, EXPERT_LOADS
from fastsim.schedulers import SCHEDULERS


def test_defaults_are_legal_and_documented():
    config = SimulationConfig()
    assert (config.model, config.device, config.scheduler) == ("meta-llama/Llama-3.1-8B", "h100_sxm", "vllm_v1")
    assert (config.batch_policy.max_num_seqs, config.batch_policy.max_num_batched_tokens) == (256, 2048)
    for spec in fields(SimulationConfig):
        assert f"{spec.name}: " in SimulationConfig.__doc__


@st.composite
def configs(draw: st.DrawFn) -> SimulationConfig:
    """Any legal configuration."""
    max_num_seqs = draw(st.integers(1, 10_000))
    max_model_len = draw(st.integers(1, 10**6))
    chunked = draw(st.booleans())
    least = max_num_seqs if chunked else max(max_num_seqs, max_model_len)
    return SimulationConfig(
        model=draw(st.text()),
        device=draw(st.text()),
        tensor_parallel=draw(st.integers(1, 64)),
        pipeline_parallel=draw(st.integers(1, 64)),
        replicas=draw(st.integers(1, 10**4)),
        max_model_len=max_model_len,
        dtype=draw(st.sampled_from(DTYPES)),
        expert_load=draw(st.sampled_from(EXPERT_LOADS)),
        kv_dtype=draw(st.sampled_from(["auto", "bf16", "fp8"])),
        gpu_memory_utilization=draw(st.floats(0, 1, exclude_min=True)),
        num_kv_blocks=draw(st.none() | st.integers(1, 10**9)),
        block_size=draw(st.integers(1, 1024)),
        seed=draw(st.integers(0, 2**63 - 1)),
        scheduler_options={
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": draw(st.integers(least, least + 10**6)),
            "long_prefill_token_threshold": draw(st.integers(0, 10**6)),
            "scheduler_reserve_full_isl": draw(st.booleans()),
            "enable_chunked_prefill": chunked,
        },
        router=draw(st.sampled_from(["round_robin", "least_outstanding"])),
        record_batches=draw(st.booleans()),
        keep_requests=draw(st.booleans()),
    )


@given(configs())
def test_toml_round_trip(config: SimulationConfig):
    again = SimulationConfig.from_toml(config.to_toml())
    assert again.to_dict() == config.to_dict()
    assert again.batch_policy == config.batch_policy
    assert again.to_toml() == config.to_toml()


def test_toml_has_a_table_per_choice():
    text = SimulationConfig(scheduler_options={"max_num_seqs": 7}).to_toml({"trace": "a.csv"})
    lines = text.splitlines()
    section = lines[lines.index("[scheduler]") :]
    assert section[1] == 'name = "vllm_v1"'
    assert "max_num_seqs = 7" in section
    assert lines[-2:] == ["[workload]", 'trace = "a.csv"']
    assert "num_kv_blocks" not in text  # None has no TOML


def test_a_hand_written_file_needs_only_what_differs():
    config = SimulationConfig.from_toml('replicas = 1e1\nrouter = "least_outstanding"\n[scheduler]\nmax_num_seqs = 9\n')
    assert (config.replicas, config.router, config.scheduler) == (10, "least_outstanding", "vllm_v1")
    assert config.batch_policy.max_num_seqs == 9
    assert config.batch_policy.max_num_batched_tokens == 2048


def test_whole_numbers_may_be_written_as_floats_and_text():
    config = SimulationConfig(max_model_len=1e6, replicas="4", seed="1e6", num_kv_blocks="2e4")
    assert (config.max_model_len, config.replicas, config.seed, config.num_kv_blocks) == (10**6, 4, 10**6, 20_000)
    assert all(type(value) is int for value in (config.max_model_len, config.replicas, config.seed))
    options = {"max-num-batched-tokens": 1e5, "max_num_seqs": "1e3", "scheduler_reserve_full_isl": "false"}
    policy = SimulationConfig(scheduler_options=options).batch_policy
    assert (policy.max_num_batched_tokens, policy.max_num_seqs) == (100_000, 1000)
    assert policy.scheduler_reserve_full_isl is False


def test_large_whole_numbers_in_text_keep_every_digit():
    assert SimulationConfig(seed="9007199254740993").seed == 2**53 + 1


#: Arguments, the field at fault, and words that its sentence must have: what is wrong, or what there is instead.
BAD = [
    ({"scheduler": "fifo"}, "scheduler", ["'fifo'", "vllm_v1"]),
    ({"router": "random_walk"}, "router", ["'random_walk'", "round_robin"]),
    ({"engine": "magic"}, "engine", ["'magic'", "ideal"]),
    ({"scheduler_options": {"max_seqs": 3}}, "scheduler.max_seqs", ["max_num_seqs, max_num_batched_tokens"]),
    ({"router_options": {"cv": 3}}, "router.cv", ["round_robin has no fields"]),
    ({"scheduler_options": {"max_num_seqs": 0}}, "scheduler.max_num_seqs", ["0", "give 1 or more"]),
    ({"scheduler_options": {"max_num_seqs": 1.5}}, "scheduler.max_num_seqs", ["1.5", "whole number"]),
    ({"scheduler_options": {"max_num_batched_tokens": -1}}, "scheduler.max_num_batched_tokens", ["-1"]),
    ({"scheduler_options": {"max_num_batched_tokens": 255}}, "scheduler.max_num_batched_tokens", ["255", "256"]),
    ({"scheduler_options": {"enable_chunked_prefill": False}}, "scheduler.max_num_batched_tokens", ["2048", "8192"]),
    ({"scheduler_options": {"enable_chunked_prefill": "no"}}, "scheduler.enable_chunked_prefill", ["'no'"]),
    (
        {"scheduler_options": {"long_prefill_token_threshold": -5}},
        "scheduler.long_prefill_token_threshold",
        ["-5", "too small"],
    ),
    ({"scheduler_options": ["max_num_seqs"]}, "scheduler_options", ["dict"]),
    ({"pipeline_parallel": 0}, "pipeline_parallel", ["0", "give 1 or more"]),
    (
        {"pipeline_parallel": 2, "scheduler": "lightllm", "block_size": 1},
        "pipeline_parallel",
        ["2", "lightllm", "give 1"],
    ),
    (
        {"pipeline_parallel": 4, "scheduler": "sarathi", "scheduler_options": {"max_num_seqs": 3}},
        "scheduler.max_num_seqs",
        ["3", "pipeline_parallel = 4", "give 4 or more"],
    ),
    (
        {"parity": "vidur", "scheduler": "sarathi", "scheduler_options": {"preemption-mode": "swap"}},
        "scheduler.preemption_mode",
        ["'swap'", "does not exist in Vidur", "recompute"],
    ),
    ({"queue": None}, "queue", ["give a string"]),
    ({"queue_options": {3: 4}}, "queue.3", ["4", "fcfs has no fields"]),
    ({"data_parallel": 2, "scheduler": "sarathi"}, "data_parallel", ["2", "give 1, or scheduler = vllm_v1"]),
    ({"data_parallel": 2, "pipeline_parallel": 2}, "data_parallel", ["2", "give 1, or pipeline_parallel = 1"]),
    ({"expert_parallel": 2}, "expert_parallel", ["2", "give 1."]),
    ({"expert_parallel": 4, "data_parallel": 3, "tensor_parallel": 2}, "expert_parallel", ["4", "give 1 or 6"]),
    ({"tensor_parallel": 0}, "tensor_parallel", ["0", "give 1 or more"]),
    ({"replicas": -3}, "replicas", ["-3", "give 1 or more"]),
    ({"replicas": True}, "replicas", ["True"]),
    ({"replicas": "many"}, "replicas", ["'many'", "whole number"]),
    ({"replicas": float("nan")}, "replicas", ["nan"]),
    ({"replicas": float("inf")}, "replicas", ["inf"]),
    ({"replicas": None}, "replicas", ["whole number"]),
    ({"max_model_len": 0}, "max_model_len", ["0"]),
    ({"block_size": 0}, "block_size", ["0"]),
    ({"num_kv_blocks": 0}, "num_kv_blocks", ["0"]),
    ({"seed": -1}, "seed", ["-1", "give 0 or more"]),
    ({"gpu_memory_utilization": 0.0}, "gpu_memory_utilization", ["0.0"]),
    ({"gpu_memory_utilization": 1.1}, "gpu_memory_utilization", ["1.1"]),
    ({"gpu_memory_utilization": float("nan")}, "gpu_memory_utilization", ["nan"]),
    ({"gpu_memory_utilization": "most"}, "gpu_memory_utilization", ["'most'"]),
    ({"dtype": "fp4"}, "dtype", ["'fp4'", "give auto, bf16, fp8, fp8_block, nvfp4, mxfp4, int4 or fp32"]),
    ({"expert_load": "zipf"}, "expert_load", ["'zipf'", "give power_law_1.2, power_law_1.01 or balanced"]),
    ({"expert_exchange": "post"}, "expert_exchange", ["'post'", "give all_gather or all_to_all"]),
    ({"expert_exchange": "all_to_all"}, "expert_exchange", ["'all_to_all'", "of which there is one", "data_parallel"]),
    (
        {"expert_exchange": "all_to_all", "data_parallel": 2},
        "expert_exchange",
        ["a part only", "give expert_parallel = 2 with it"],
    ),
    ({"kv_dtype": "int8"}, "kv_dtype", ["'int8'", "give auto, bf16, fp32 or fp8"]),
    ({"parity": "vidur", "scheduler": "sarathi", "dtype": "fp8"}, "dtype", ["'fp8'", "bf16"]),
    ({"parity": "vidur", "scheduler": "sarathi", "kv_dtype": "fp8"}, "kv_dtype", ["'fp8'", "auto, bf16"]),
    ({"model": 8}, "model", ["8", "string"]),
    ({"record_batches": "perhaps"}, "record_batches", ["'perhaps'", "true"]),
    ({"keep_requests": 1}, "keep_requests", ["1", "true"]),
]


def assert_one_sentence(error: ConfigError, field: str, words: list[str]) -> None:
    """The message is one sentence that names the field, and the error carries its parts."""
    sentence = str(error)
    assert isinstance(error, ValueError)
    assert error.field == field
    assert sentence.startswith(field)
    assert "\n" not in sentence
    assert sentence.endswith(f"; {error.mend}.")
    assert error.value is None or repr(error.value) in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(("given", "field", "words"), BAD, ids=[f"{field}-{words[0]}" for _, field, words in BAD])
def test_bad_values_are_refused_in_one_sentence(given: dict, field: str, words: list[str]):
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(**given)
    assert_one_sentence(caught.value, field, words)


def test_options_that_are_legal_alone_may_contradict_each_other():
    with pytest.raises(ConfigError, match="without chunked prefill") as caught:
        SimulationConfig(max_model_len=4096, scheduler_options={"enable_chunked_prefill": False})
    assert (caught.value.field, caught.value.value) == ("scheduler.max_num_batched_tokens", 2048)


def test_unknown_fields_list_the_known_ones():
    with pytest.raises(ConfigError) as caught:
        SimulationConfig.from_toml("tensor_paralel = 2\n")
    assert_one_sentence(caught.value, "tensor_paralel", ["2", *(spec.name for spec in fields(SimulationConfig))])


@pytest.mark.parametrize("text", ["replicas = \n", "replicas 4", "[scheduler\n", "a = 1\na = 2\n"])
def test_text_that_is_not_toml_is_refused_with_its_place(text: str):
    with pytest.raises(ConfigError) as caught:
        SimulationConfig.from_toml(text)
    assert_one_sentence(caught.value, "config", ["is not TOML", "line"])


def test_errors_travel_between_processes():
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(replicas=-3)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is ConfigError
    assert (str(again), again.field, again.value, again.mend) == (
        str(caught.value),
        caught.value.field,
        caught.value.value,
        caught.value.mend,
    )


def test_a_configuration_does_not_change_with_the_dict_it_was_made_of():
    options = {"max_num_seqs": 8}
    config = SimulationConfig(scheduler_options=options)
    options["max_num_seqs"] = 0
    assert config.batch_policy.max_num_seqs == 8


def test_fields_can_be_replaced_and_are_checked_again():
    config = SimulationConfig().with_fields(replicas=3)
    assert config.replicas == 3
    with pytest.raises(ConfigError):
        config.with_fields(replicas=0)


def test_equal_configurations_are_equal_however_they_are_written():
    written_out = SimulationConfig(scheduler_options={"max-num-seqs": 256, "max_num_batched_tokens": "2048"})
    assert written_out == SimulationConfig()
    assert hash(written_out) == hash(SimulationConfig())
    assert SimulationConfig.from_dict(written_out.to_dict()) == written_out
    assert SimulationConfig(scheduler_options={"max_num_seqs": 255}) != written_out


def test_a_field_given_in_two_spellings_is_refused():
    with pytest.raises(ConfigError, match="is given twice"):
        SimulationConfig(scheduler_options={"max_num_seqs": 64, "max-num-seqs": 32})


def test_the_section_of_the_workload_is_left_to_others():
    config = SimulationConfig(replicas=3)
    assert SimulationConfig.from_toml(config.to_toml({"requests": 10})) == config


@pytest.mark.parametrize(
    ("scheduler", "fields", "field"),
    [
        ("sarathi", {"chunk_size": 0}, "scheduler.chunk_size"),
        ("vllm_v0", {"watermark_blocks_fraction": 1.0}, "scheduler.watermark_blocks_fraction"),
        ("orca", {"max_num_batched_tokens": 4096}, "scheduler.max_num_batched_tokens"),
        ("lightllm", {}, "block_size"),
    ],
)
def test_every_batch_policy_refuses_what_it_cannot_run(scheduler: str, fields: dict, field: str):
    with pytest.raises(ConfigError) as caught:
        SimulationConfig(scheduler=scheduler, scheduler_options=fields)
    assert caught.value.field == field


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"lightllm"}))
def test_a_micro_batch_has_room_for_a_request(scheduler: str):
    few = {"max_num_seqs": 3}
    assert SimulationConfig(pipeline_parallel=3, scheduler=scheduler, scheduler_options=few).pipeline_parallel == 3
    if scheduler == "vllm_v1":  # its limit is that of all micro-batches together
        assert SimulationConfig(pipeline_parallel=4, scheduler=scheduler, scheduler_options=few)
    else:
        with pytest.raises(ConfigError):
            SimulationConfig(pipeline_parallel=4, scheduler=scheduler, scheduler_options=few)


@pytest.mark.parametrize("value", [2**63, -(10**400), 1e300, "9223372036854775808"])
def test_whole_numbers_beyond_the_kernels_tables_are_refused(value: object):
    with pytest.raises(ConfigError, match=r"max_num_seqs .* has more than 64 bits; give a number below 2\*\*63"):
        SimulationConfig(scheduler_options={"max_num_seqs": value})


def test_a_block_of_more_tokens_than_are_counted_is_refused():
    with pytest.raises(ConfigError, match=r"block_size 65537 .*; give 65536 or less"):
        SimulationConfig(block_size=65_537)
