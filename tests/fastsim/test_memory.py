"""The memory planner."""

import re

import pytest

from estimators import DeviceSpec, load_device, load_model
from fastsim import ConfigError, SimulationConfig
from fastsim.memory import MemoryPlan, StageMemory, block_bytes, plan_memory


def card(memory_bytes: float) -> DeviceSpec:
    """A GPU of which only the memory matters."""
    return DeviceSpec(
        name="card",
        memory_bytes=int(memory_bytes),
        peak_flops={"bf16": 165e12},
        memory_bandwidth=1e12,
        l2_bytes=72 << 20,
        l2_bandwidth=5e12,
        num_sms=128,
        nvlink_bandwidth=32e9,
        gpus_per_node=8,
        inter_node_bandwidth=12.5e9,
        pcie_bandwidth=32e9,
        power_watts=450.0,
        price_per_hour=0.5,
    )


def test_plan_of_the_one_server_whose_blocks_are_known():
    # vLLM on a 24 GiB card, Llama-3.1-8B in bf16, 2048 tokens, 256 requests: 2588 blocks.
    plan = plan_memory(SimulationConfig(), load_model("Llama-3.1-8B"), card(25.25e9))
    (stage,) = plan.stages
    assert stage.block_bytes == 2 << 20
    assert stage.weight_bytes == pytest.approx(16.06e9, rel=0.001)
    assert plan.num_blocks == pytest.approx(2588, rel=0.05)


def test_plan_adds_up():
    config, device = SimulationConfig(gpu_memory_utilization=0.8), load_device("h100_sxm")
    plan = plan_memory(config, load_model(config.model), device)
    (stage,) = plan.stages
    used = stage.weight_bytes + stage.reserve_bytes + plan.num_blocks * stage.block_bytes
    assert used <= 0.8 * device.memory_bytes < used + stage.block_bytes
    assert stage.reserve_bytes > 0


def test_tensor_parallel_splits_weights_and_blocks():
    model, device = load_model("Llama-3.1-8B"), load_device("h100_sxm")
    one, four = (plan_memory(SimulationConfig(tensor_parallel=tp), model, device) for tp in (1, 4))
    assert four.stages[0].block_bytes == one.stages[0].block_bytes / 4
    assert four.stages[0].weight_bytes == pytest.approx(one.stages[0].weight_bytes / 4, rel=0.001)
    assert four.num_blocks > 4 * one.num_blocks


def test_fp8_halves_the_matrices_and_on_demand_the_cache():
    model, device = load_model("Llama-3.1-8B"), load_device("h100_sxm")

    def stage(**fields: str) -> StageMemory:
        (only,) = plan_memory(SimulationConfig(**fields), model, device).stages
        return only

    bf16, fp8, cache = stage(), stage(dtype="fp8"), stage(dtype="fp8", kv_dtype="fp8")
    # Embedding, LM head and norms stay bf16.
    assert bf16.weight_bytes - fp8.weight_bytes == model.linear_flops_per_token // 2
    assert cache.weight_bytes == fp8.weight_bytes
    assert bf16.reserve_bytes == fp8.reserve_bytes == cache.reserve_bytes
    assert (fp8.block_bytes, cache.block_bytes) == (bf16.block_bytes, bf16.block_bytes // 2)
    assert stage(kv_dtype="fp8").block_bytes == cache.block_bytes


def test_auto_is_the_cache_that_the_checkpoint_asks_for():
    model = load_model("nvidia/Llama-3.1-8B-Instruct-FP8")
    fields = {"model": model.name, "dtype": "fp8"}
    assert block_bytes(SimulationConfig(**fields), model) == (1 << 20,)
    assert block_bytes(SimulationConfig(**fields, kv_dtype="bf16"), model) == (2 << 20,)


def test_larger_batches_leave_fewer_blocks():
    model, device = load_model("Llama-3.1-8B"), load_device("h100_sxm")

    def blocks(**options: int) -> int:
        return plan_memory(SimulationConfig(scheduler_options=options), model, device).num_blocks

    assert blocks(max_num_batched_tokens=16384) < blocks() < blocks(max_num_seqs=16)


def stage_plans(pp: int, device: DeviceSpec, **fields: object) -> MemoryPlan:
    config = SimulationConfig(model="Llama-3.1-70B", pipeline_parallel=pp, **fields)
    return plan_memory(config, load_model(config.model), device)


def test_a_plan_has_the_weights_and_blocks_of_each_stage():
    model, plan = load_model("Llama-3.1-70B"), stage_plans(3, load_device("h200_sxm"))
    assert sum(stage.weight_bytes for stage in plan.stages) == model.weight_bytes()
    # 27, 27 and 26 of 80 layers.
    assert [stage.block_bytes for stage in plan.stages] == [16 * 4096 * layers for layers in (27, 27, 26)]
    assert (
        plan.num_blocks == min(stage.num_blocks for stage in plan.stages) == plan.stages[plan.tightest_stage].num_blocks
    )


def test_only_the_last_stage_reserves_memory_for_sampling():
    few, many = (stage_plans(3, load_device("h200_sxm"), scheduler_options={"max_num_seqs": n}) for n in (256, 1256))
    grown = [more.reserve_bytes - less.reserve_bytes for more, less in zip(many.stages, few.stages, strict=True)]
    assert grown == [0, 0, 1000 * 128256 * 10]


def test_stages_keep_one_micro_batch_of_activations_each():
    two, four = (stage_plans(pp, load_device("h200_sxm")).stages[-1] for pp in (2, 4))
    assert two.reserve_bytes == four.reserve_bytes


@pytest.mark.parametrize(("pp", "tightest"), [(2, 1), (3, 0), (4, 3)])
def test_the_tightest_stage_decides(pp: int, tightest: int):
    # Of equal numbers of layers the last stage has the head and the logits too; 27, 27 and 26 leave it the most.
    assert stage_plans(pp, load_device("h200_sxm")).tightest_stage == tightest


def test_the_null_block_and_one_more_are_the_least_of_every_stage():
    model, config = load_model("Llama-3.1-8B"), SimulationConfig(pipeline_parallel=2)
    last = plan_memory(config, model, load_device("h100_sxm")).stages[1]
    least = (last.weight_bytes + last.reserve_bytes + 2 * last.block_bytes) / 0.9
    assert plan_memory(config, model, card(least + 2)).num_blocks == 2
    sentence = (
        r"with tensor_parallel = 1 and pipeline_parallel = 2: the weights of stage 1 \(of 0 to 1\) take 7\.5 GiB .*"
        r" 2\.0 GiB are missing .*; give tensor_parallel = 2 or pipeline_parallel = 3\.$"
    )
    with pytest.raises(ConfigError, match=sentence):
        plan_memory(config, model, card(least - 2 * (1 << 30) / 0.9))


def test_a_model_that_does_not_fit_says_what_is_missing_and_what_would_do():
    model, config = load_model("Llama-3.1-8B"), SimulationConfig()
    (stage,) = plan_memory(config, model, card(25.25e9)).stages
    # The null block and one more are the least: 3 GiB less than those need.
    least = (stage.weight_bytes + stage.reserve_bytes + 2 * stage.block_bytes) / 0.9
    assert plan_memory(config, model, card(least + 1)).num_blocks == 2
    with pytest.raises(
        ConfigError, match=r"3\.0 GiB are missing .*; give tensor_parallel = 2 or pipeline_parallel = 2\.$"
    ):
        plan_memory(config, model, card(least - 3 * (1 << 30) / 0.9))
    with pytest.raises(ConfigError, match=r"; take a larger GPU or a smaller model\.$"):
        plan_memory(config, model, card(1 << 30))


@pytest.mark.parametrize("memory_gib", [9, 4, 3, 2, 1])
def test_the_split_that_is_proposed_fits(memory_gib: float):
    model, config, device = load_model("Llama-3.1-8B"), SimulationConfig(), card(memory_gib * (1 << 30))
    with pytest.raises(ConfigError) as caught:
        plan_memory(config, model, device)
    splits = [dict(re.findall(r"(\w+) = (\d+)", part)) for part in caught.value.mend.split(" or ")]
    splits = [{name: int(value) for name, value in split.items()} for split in splits if split]
    assert bool(splits) == (memory_gib > 1)
    for split in splits:
        assert plan_memory(config.with_fields(**split), model, device).num_blocks >= 2
        fewer = split | {name: value - 1 for name, value in split.items() if name == "pipeline_parallel"}
        if fewer != split:
            with pytest.raises(ConfigError):
                plan_memory(config.with_fields(**fewer), model, device)


def test_no_split_is_proposed_that_the_scheduler_refuses():
    config = SimulationConfig(scheduler="lightllm", block_size=1, max_model_len=1024)
    with pytest.raises(ConfigError) as caught:
        plan_memory(config, load_model("Llama-3.1-8B"), card(9 * (1 << 30)))
    assert "pipeline_parallel" not in caught.value.mend
    assert caught.value.mend.startswith("give tensor_parallel = ")


def stage_of(model: str, device: str = "h200_sxm", **fields: object) -> StageMemory:
    spec = load_model(model)
    dtype = spec.resolve_dtype()
    (only,) = plan_memory(SimulationConfig(model=model, dtype=dtype, **fields), spec, load_device(device)).stages
    return only


def test_all_is_twice_as_large_in_32_bits():
    model = load_model("Llama-3.1-8B")
    (two,), (four,) = (
        plan_memory(SimulationConfig(dtype=dtype), model, load_device("h100_sxm")).stages for dtype in ("bf16", "fp32")
    )
    assert (four.weight_bytes, four.block_bytes) == (2 * two.weight_bytes, 2 * two.block_bytes)
    activations = 2 * 2048 * (2 * 4096 + 3 * 14336)
    assert four.reserve_bytes - two.reserve_bytes == activations


def test_experts_are_shared_by_the_gpus_of_all_engines():
    eight = stage_of("DeepSeek-V3", tensor_parallel=8)
    spread = stage_of("DeepSeek-V3", data_parallel=8, expert_parallel=8)
    assert 84e9 < eight.weight_bytes < 87e9
    # Attention, dense layers and shared experts are whole on each GPU, 14 GB in fp8, and embedding and LM head.
    experts = 58 * 256 * 3 * 7168 * 2048
    assert spread.weight_bytes - experts // 8 == load_model("DeepSeek-V3").weight_bytes() - experts


def test_the_latent_cache_is_whole_on_every_gpu():
    one = 16 * 61 * (512 + 64)
    for tp in (4, 8):
        assert stage_of("nvidia/DeepSeek-R1-0528-NVFP4", tensor_parallel=tp).block_bytes == one
        assert stage_of("nvidia/DeepSeek-R1-0528-NVFP4", tensor_parallel=tp, kv_dtype="bf16").block_bytes == 2 * one


def test_quantised_latent_attention_keeps_a_copy_that_is_not():
    fp8, nvfp4 = (stage_of(name, tensor_parallel=8) for name in ("DeepSeek-V3", "nvidia/DeepSeek-R1-0528-NVFP4"))
    assert fp8.reserve_bytes - nvfp4.reserve_bytes == 2 * 61 * 512 * (128 // 8) * (128 + 128)


def test_layers_with_a_window_keep_what_it_sees():
    def block(length: int) -> int:
        return stage_of("gpt-oss-120b", "h100_sxm", max_model_len=length).block_bytes

    every = 16 * 36 * 2 * 8 * 64 * 2
    assert block(128) == every
    assert every // 2 < block(131072) < 1.01 * every / 2
    assert every // 2 < block(131072) < block(4096) < every


def test_experts_in_mxfp4_are_padded():
    # What vLLM 0.14 says that it loaded on an H100 (vllm-project/vllm issue 33155).
    assert stage_of("gpt-oss-120b", "h100_sxm").weight_bytes / (1 << 30) == pytest.approx(64.38, rel=0.005)
    two = stage_of("gpt-oss-120b", "h100_sxm", tensor_parallel=2)
    assert two.weight_bytes == pytest.approx(stage_of("gpt-oss-120b", "h100_sxm").weight_bytes / 2, rel=0.001)


def test_weights_of_a_mixture_are_what_vllm_loads():
    # On each of four GPUs (vllm-project/vllm issue 17327).
    assert stage_of("Qwen3-30B-A3B", tensor_parallel=4).weight_bytes / (1 << 30) == pytest.approx(14.2474, rel=0.001)


def test_a_large_mixture_fits_where_it_is_served():
    # gpt-oss-120b is made for one GPU of 80 GB, DeepSeek-R1 in fp8 for eight of 141 GB, in NVFP4 for eight of 80.
    assert stage_of("gpt-oss-120b", "h100_sxm").num_blocks > 2000
    assert stage_of("DeepSeek-R1", tensor_parallel=8).num_blocks > 10_000
    assert stage_of("nvidia/DeepSeek-R1-0528-NVFP4", "h100_sxm", tensor_parallel=8).num_blocks > 2000
    with pytest.raises(ConfigError, match="does not fit"):
        stage_of("DeepSeek-R1", "h100_sxm", tensor_parallel=8)


def test_the_split_that_would_fit_goes_with_the_experts():
    fields = {"model": "DeepSeek-R1", "device": "h200_sxm", "dtype": "auto"}
    config = SimulationConfig(tensor_parallel=4, expert_parallel=4, **fields)
    with pytest.raises(ConfigError, match="give tensor_parallel = 8 with expert_parallel = 8"):
        plan_memory(config, load_model("DeepSeek-R1"), load_device("h200_sxm"))


def test_routed_tokens_need_room():
    few, many = (stage_of("Qwen3-30B-A3B", scheduler_options={"max_num_batched_tokens": n}) for n in (2048, 4096))
    # A row of hidden states, and one of an expert's inner width, for each of 8 experts, beside residual and input.
    assert many.reserve_bytes - few.reserve_bytes == 2048 * 2 * (2 * 2048 + 8 * (2048 + 768))
