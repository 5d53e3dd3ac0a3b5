"""Vidur's configuration files: every field in our words, its memory planner, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from vidur_files import BASIC, LLAMA_70B, write_vidur

from estimators import load_model
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.vidur.config_file import VidurFile, VidurSettings
from fastsim.vidur.memory import VidurMemory, plan_vidur_memory


@pytest.fixture
def read(tmp_path: Path):
    def read(parity: bool = False, **changes: Any) -> VidurSettings:
        return VidurFile(write_vidur(tmp_path / "config.json", **changes)).settings(parity)

    return read


def test_serving_by_our_rules(read):
    settings = read()
    config = SimulationConfig(**settings.serving)
    assert config == SimulationConfig(
        model="meta-llama/Llama-2-70b-hf",
        device="a100_sxm",
        tensor_parallel=4,
        replicas=2,
        max_model_len=2048,
        gpu_memory_utilization=0.9,
        block_size=16,
        seed=7,
        scheduler="sarathi",
        scheduler_options={"max_num_seqs": 64, "watermark_blocks_fraction": 0.02, "chunk_size": 256},
        router="least_outstanding",
    )
    assert settings.traffic.flags == {"arrivals": "poisson", "qps": 4.0, "lengths": "fixed", "requests": 60}
    assert settings.traffic.options["lengths"] == {"prompt": 300, "output": 20}
    assert settings.notes == ()


def test_serving_by_vidurs_rules(read):
    config = SimulationConfig(**read(parity=True, top={"time_limit": 9}, replica={"num_pipeline_stages": 2}).serving)
    assert (config.parity, config.router, config.pipeline_parallel) == ("vidur", "lor", 2)
    assert config.parity_options == {
        "time_limit_s": 9.0,
        "kv_cache_prediction_granularity": 32,
        "prediction_max_prefill_chunk_size": 2048,
        "prediction_max_batch_size": 64,
        "prediction_max_tokens_per_request": 2048,
        "attention_decode_batching_overhead_fraction": 0.2,
        "attention_prefill_batching_overhead_fraction": 0.3,
        "nccl_cpu_launch_overhead_ms": 0.05,
        "nccl_cpu_skew_overhead_per_device_ms": 0.01,
    }
    assert SimulationConfig.from_toml(config.to_toml()) == config


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (
            {"name": "vllm", "batch_size_cap": 9, "watermark_blocks_fraction": 0.0, "max_tokens_in_batch": 4000},
            ("vllm_v0", {"max_num_seqs": 9, "watermark_blocks_fraction": 0.0, "max_num_batched_tokens": 4000}),
        ),
        ({"name": "orca", "batch_size_cap": 9}, ("orca", {"max_num_seqs": 18})),
        ({"name": "faster_transformer", "batch_size_cap": 9}, ("faster_transformer", {"max_num_seqs": 18})),
        (
            {"name": "lightllm", "batch_size_cap": 9, "max_tokens_in_batch": 4000, "max_waiting_iters": 3},
            ("lightllm", {"max_num_seqs": 9, "max_num_batched_tokens": 4000, "max_waiting_iterations": 3}),
        ),
    ],
)
def test_batch_policies(read, scheduler: dict, expected: tuple[str, dict]):
    """Oddity 14: the cap of the two that reserve for life is of a micro-batch, of which a replica has two here."""
    table = {"block_size": 1, "num_blocks": 500, **scheduler}
    serving = read(whole={"scheduler": table}, replica={"num_pipeline_stages": 2}).serving
    assert (serving["scheduler"], serving["scheduler_options"]) == expected
    assert (serving["num_kv_blocks"], serving["block_size"]) == (500, 1)
    under_parity = read(parity=True, whole={"scheduler": table}, replica={"num_pipeline_stages": 2}).serving
    assert under_parity["scheduler_options"]["max_num_seqs"] == 9


@pytest.mark.parametrize(("vidur", "ours"), [("round_robin", "round_robin"), ("random", "random")])
def test_routers(read, vidur: str, ours: str):
    assert read(router={"name": vidur}).serving["router"] == ours
    assert read(parity=True, router={"name": vidur}).serving["router"] == ours


@pytest.mark.parametrize(
    ("changes", "flags", "options"),
    [
        (
            {"whole": {"intervals": {"name": "gamma", "qps": 2.0, "cv": 3.0}}},
            {"arrivals": "gamma", "qps": 2.0},
            {"arrivals": {"cv": 3.0}},
        ),
        ({"whole": {"intervals": {"name": "static"}}}, {"arrivals": "static"}, {"arrivals": {}}),
        (
            {"whole": {"lengths": {"name": "uniform", "min_tokens": 1, "prefill_to_decode_ratio": 5.0}}},
            {"lengths": "uniform_total"},
            {"lengths": {"total_min": 2, "total_max": 2048, "prompt_to_output": 5.0}},
        ),
        (
            {
                "whole": {
                    "lengths": {
                        "name": "zipf",
                        "theta": 0.7,
                        "scramble": True,
                        "min_tokens": 9,
                        "prefill_to_decode_ratio": 5.0,
                    }
                }
            },
            {"lengths": "zipf"},
            {"lengths": {"total_min": 9, "total_max": 2048, "prompt_to_output": 5.0, "theta": 0.7, "scramble": True}},
        ),
        (
            {"whole": {"lengths": {"name": "trace", "trace_file": "x/splitwise_code.csv"}}},
            {"lengths": "azure_code_2023"},
            {"lengths": {}},
        ),
    ],
)
def test_generators(read, changes: dict, flags: dict, options: dict):
    traffic = read(**changes).traffic
    assert traffic.flags | flags == traffic.flags
    assert traffic.options | options == traffic.options
    assert not traffic.missing


def test_a_duration_wins_over_a_number_of_requests(read):
    traffic = read(requests={"duration": 1000.0}).traffic
    workload = Workload.generate(num_requests=traffic.flags["requests"] + 1, qps=4.0, seed=7)
    assert workload.arrival_s[-2] < 1000.0 <= workload.arrival_s[-1]
    assert len(workload) == pytest.approx(4000, abs=190)


def test_traces_are_found_beside_the_configuration(read, tmp_path: Path):
    (tmp_path / "mine.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,5\n1,6,6\n2.5,7,7\n")
    lengths = {"name": "trace", "trace_file": "data/mine.csv", "prefill_scale_factor": 2.0}
    intervals = {"name": "trace", "trace_file": "mine.csv", "time_scale_factor": 3.0}
    traffic = read(whole={"lengths": lengths, "intervals": intervals}, requests={"num_requests": None}).traffic
    path = str(tmp_path / "mine.csv")
    assert traffic.options["lengths"] == {"path": path, "prompt_scale": 2.0, "output_scale": 1.0, "max_total": 2048}
    assert traffic.options["arrivals"] == {"path": path, "start": "", "end": "", "time_scale": 3.0}
    assert traffic.flags["requests"] == 2
    replay = {"name": "trace_replay", "trace_file": "mine.csv", "decode_scale_factor": 0.5, "max_tokens": 100}
    traffic = read(whole={"requests": replay}).traffic
    assert traffic.flags == {"trace": path}
    assert traffic.options["trace"] == {
        "prompt_scale": 1.0,
        "output_scale": 0.5,
        "time_scale": 1.0,
        "max_total_tokens": 100,
    }


def test_what_is_left_out_is_noted(read):
    notes = read(top={"time_limit": 100}, predictor={"skip_cpu_overhead_modeling": False}).notes
    assert notes == (
        "Vidur's time_limit of 100 s is left out: every request runs to its end",
        "Vidur's CPU overhead is left out: it comes from profiles of one's own engine",
    )


def test_a_model_is_the_built_in_one_if_it_has_its_sizes(read, tmp_path: Path):
    assert read().serving["model"] == "meta-llama/Llama-2-70b-hf"
    path = str(tmp_path / "config.json")
    assert read(model={"num_layers": 40}).serving["model"] == path
    assert load_model(path).num_layers == 40
    assert read(replica={"model_name": "someone/else"}).serving["model"] == path


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scheduler": {"name": "simple"}}, "replica_scheduler_config 'simple' is not one of Vidur's; give vllm, "),
        ({"router": {"name": "least"}}, "global_scheduler_config 'least' is not one of Vidur's; give round_robin, "),
        ({"intervals": {"name": "burst"}}, "interval_generator_config 'burst' is not one of Vidur's; give poisson, "),
        ({"requests": {"name": "x"}}, "request_generator_config 'x' is not one of Vidur's; give synthetic, "),
        ({"lengths": {"decode_tokens": None}}, "length_generator_config.decode_tokens is missing in "),
        ({"scheduler": {"batch_size_cap": None}}, "replica_scheduler_config.batch_size_cap is missing in "),
        ({"requests": {"num_requests": None}}, "gives neither num_requests nor duration"),
        ({"requests": {"duration": 1e-9}}, "duration_s is 1e-09, before any request; give a longer one."),
        ({"requests": {"duration": 5}, "whole": {"intervals": {"name": "static"}}}, "all come at time 0"),
        ({"model": {"num_kv_heads": 7}}, "num_kv_heads 7 does not divide num_q_heads 64; correct the file."),
        (
            {"replica": {"memory_margin_fraction": "much"}},
            "replica_config.memory_margin_fraction 'much' is not a finite",
        ),
        ({"replica": {"model_config": "big"}}, "has no table cluster_config.replica_config.model_config"),
        ({"model": {"partial_rotary_factor": "half"}}, "partial_rotary_factor 'half' is not a number above 0"),
        ({"requests": {"max_tokens": [4096]}}, "request_generator_config.max_tokens [4096] is not a finite number"),
        ({"intervals": {"qps": True}}, "interval_generator_config.qps True is not a finite number"),
        (
            {"lengths": {"name": "trace", "prefill_scale_factor": "x"}},
            "prefill_scale_factor 'x' is not a finite number",
        ),
        ({"top": {"seed": -1}}, "seed -1 is too small; give 0 or more."),
        ({"top": {"seed": "x"}}, "seed 'x' is not a whole number"),
        ({"whole": {"router": 3}}, "has no table cluster_config.global_scheduler_config; correct the file."),
    ],
)
def test_refusals(read, changes: dict, sentence: str):
    with pytest.raises(ValueError, match=r"\.$") as caught:
        read(**changes)
    assert sentence in str(caught.value)


def test_files_that_are_none_of_vidurs(tmp_path: Path):
    for name, text in (("list.json", "[1]"), ("hf.json", '{"hidden_size": 3}'), ("text.json", "no")):
        (tmp_path / name).write_text(text)
    for name in ("list.json", "hf.json", "text.json", "nothing.json"):
        with pytest.raises(ConfigError, match=r"give the config\.json that Vidur writes beside its results"):
            VidurFile(tmp_path / name)


def plan(**fields: Any) -> VidurMemory:
    given = {"model": "meta-llama/Llama-2-70b-hf", "tensor_parallel": 2, "max_model_len": 4096, **fields}
    config = SimulationConfig(parity="vidur", **{"scheduler": "sarathi", **given})
    return plan_vidur_memory(config, load_model(config.model), 80)


def test_memory_of_the_published_example():
    """13 slots of 4096 tokens: 3328 blocks of 16."""
    memory = plan()
    assert (memory.request_slots, memory.num_blocks, memory.watermark_blocks) == (13, 3328, 33)
    assert (memory.max_micro_batch, memory.blocks_for_life) == (13, 256)
    stages = plan(pipeline_parallel=2)
    assert (stages.request_slots, stages.num_blocks) == (64, 32768)
    given = plan(num_kv_blocks=700, scheduler="orca", scheduler_options={"max_num_seqs": 8})
    assert (given.num_blocks, given.watermark_blocks, given.max_micro_batch) == (700, 0, 8)


def test_a_model_that_does_not_fit():
    with pytest.raises(ConfigError, match=r"does not fit by Vidur's rules: weights of 127\.5 GiB"):
        plan(tensor_parallel=1)


def test_the_basic_file_is_complete():
    assert set(LLAMA_70B) >= {"num_layers", "vocab_size"}
    assert BASIC["request_generator_config"]["max_tokens"] == 2048
