"""What bench/splitwise.py makes of measurements, on profiles made here."""

import gzip
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from run_files import bench, refusal, refusal_of_table

HEADER = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel\n"
#: Milliseconds of the layer's operators by tokens, and of an all-reduce of two GPUs by bytes, as made below.
LAYER_MS, EXCHANGE_MS = {1: 0.9, 1000: 9.0, 2000: 18.0}, {16384: 0.04, 8 << 20: 0.02, 64 << 20: 0.3}


@pytest.fixture(scope="module")
def times(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("splitwise_times")


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


@pytest.fixture
def profiles(tmp_path: Path, times: ModuleType) -> Path:
    """Vidur's files of an A100, of round numbers; in each a row of another model or place."""
    vidur = tmp_path / "profiles" / "vidur"
    tokens, n = [*LAYER_MS, 1], len(LAYER_MS) + 1
    shape = {"n_embd": [8192] * n, "n_expanded_embd": [28672] * n, "n_head": [64] * n, "n_kv_head": [8] * n}
    parts = {f"time_stats.{part}.median": [ms / 9 for ms in [*LAYER_MS.values(), 99.0]] for part in times.LAYER}
    where = {"num_tokens": tokens, "num_tensor_parallel_workers": [2] * (n - 1) + [4]}
    write(vidur / "compute/a100/meta-llama/Llama-2-70b-hf/mlp.csv.gz", {**shape, **parts, **where})
    exchange = {"num_workers": [2] * 4, "devices_per_node": [2, 2, 2, 1], "size": [*EXCHANGE_MS, 16384]}
    measured = {"time_stats.all_reduce.median": [*EXCHANGE_MS.values(), 5.0]}
    write(vidur / "network/a100_dgx/all_reduce.csv.gz", exchange | measured)
    attention = {
        "batch_size": [1, 1, 1, 4, 4],
        "prefill_chunk_size": [512, 4096, 512, 0, 0],
        "kv_cache_size": [0, 0, 64, 512, 1024],
        **{name: [value] * 5 for name, value in {"n_embd": 8192, "n_q_head": 64, "n_kv_head": 8}.items()},
        "num_tensor_parallel_workers": [2] * 5,
        "time_stats.attn_prefill.median": [0.06, 2.0, 9.0, "", ""],
        "time_stats.attn_decode.median": ["", "", "", 0.02, 0.04],
        "time_stats.attn_input_reshape.median": [0.0] * 5,
        "time_stats.attn_output_reshape.median": [0.01] * 5,
    }
    write(vidur / "history/a100_attention_old.csv.gz", attention)
    cpu = {f"{part}_MEDIAN": [0.5, 1.0, 2.0, 8.0] for part in times.CPU_PARTS}
    cpu |= {"batch_size": [8, 16, 8, 8], "tensor_parallel_degree": [2, 2, 4, 2]}
    write(vidur / "history/a100_cpu_overheads_151169a1.csv.gz", cpu | {"model_name": [times.MODEL] * 3 + ["other"]})
    return vidur


def test_an_iteration_is_the_sum_of_what_vidur_measured(times: ModuleType, profiles: Path):
    vidur = times.Vidur(profiles, "a100_sxm", 2, zoo=None)
    # Attention of prompts adds up, beyond 4,096 it grows with the square; reshaping is part of it.
    assert vidur.attention.prompt_attention_s(2, 512) == pytest.approx(80 * 2 * 0.07e-3)
    assert vidur.attention.prompt_attention_s(1, 8192) == pytest.approx(80 * 4 * 2.01e-3)
    assert vidur.attention.token_attention_s(4, 768) == pytest.approx(80 * 0.04e-3)
    # Smaller all-reduces take no longer than larger ones: the first two share their mean in log time.
    exchange_ms = (0.04 * 0.02) ** 0.5
    layer_ms = 0.9 + (9.0 - 0.9) * 3 / 999
    assert vidur.token_s(4, 768) == pytest.approx(80e-3 * (layer_ms + 2 * exchange_ms + 0.04))
    # Beyond 2,000 tokens on the line through the last two points.
    assert vidur.prompt_s(8, 512) == pytest.approx(80e-3 * (36.864 + 2 * 0.3 + 8 * 0.07))


def test_longer_batches_are_those_of_the_same_layer_in_another_model(times: ModuleType, profiles: Path):
    models = profiles / "compute" / "a100" / "meta-llama"
    text = gzip.decompress((models / "Llama-2-70b-hf" / "mlp.csv.gz").read_bytes()).decode().splitlines()
    longer = text[3].replace(",2000,", ",4000,").replace(",2.0", ",10.0")
    (models / "Meta-Llama-3-70B").mkdir()
    (models / "Meta-Llama-3-70B" / "mlp.csv.gz").write_bytes(gzip.compress("\n".join([text[0], longer]).encode()))
    sizes, ms = times.Vidur(profiles, "a100_sxm", 2, zoo=None).layer
    assert (list(sizes), ms[-1]) == ([1, 1000, 2000, 4000], pytest.approx(90.0))


def test_cpu_time_is_that_of_the_nearest_measured(times: ModuleType, profiles: Path):
    cpu = times.CpuTimes(profiles / "history" / "a100_cpu_overheads_151169a1.csv.gz")
    assert [cpu.seconds(2, n) for n in (1, 8, 12, 32)] == pytest.approx([3e-3, 3e-3, 4.5e-3, 12e-3])
    assert cpu.seconds(8, 1) == cpu.seconds(4, 1) == pytest.approx(12e-3)


def test_medians_of_repeats_are_compared_and_the_rest_is_counted(tmp_path: Path, profiles: Path):
    rows = [
        *(f"llama2-70b,a100-80gb,512,4,512,{ms},{ms / 10},2" for ms in (100, 900, 200)),
        "llama2-70b,a100-80gb,512,64,128,1,1,2",
        "llama2-70b,h100-80gb-pcap,512,1,128,1,1,2",
        "bloom-176b,a100-80gb,512,1,128,1,1,8",
        "llama2-70b,a100-80gb,512,1,128,,1,2",
    ]
    path = tmp_path / "measured.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    code, printed, _ = bench("splitwise.py", path, "--profiles", profiles.parent)
    assert code == 0
    found = {(row["source"], row["metric"]): row for row in printed["rows"]}
    assert set(found) == {(source, metric) for source in ("zoo", "vidur") for metric in ("prompt", "token")}
    prompt, token = found["vidur", "prompt"], found["vidur", "token"]
    assert [prompt[name] for name in ("hardware", "tp", "prompt", "batch", "output")] == ["a100-80gb", 2, 512, 4, 512]
    assert (prompt["measured_ms"], token["measured_ms"]) == (200, 20)
    assert prompt["cpu_ms"] == pytest.approx(3.0)
    # At the mean context, 768 tokens.
    assert token["simulated_ms"] == pytest.approx(3 + 80 * (0.9 + 8.1 * 3 / 999 + 2 * 0.0008**0.5 + 0.04))
    assert token["error"] == pytest.approx(token["simulated_ms"] / 20 - 1)
    # 2,048 tokens of 70B on two A100s: 140 TFLOP each, at 230 to 300 TFLOP/s.
    assert 450 < found["zoo", "prompt"]["simulated_ms"] < 650
    groups = {(group["source"], group["metric"]): group for group in printed["groups"]}
    assert groups["vidur", "token"]["median_ape"] == pytest.approx(abs(token["error"]))
    assert printed["left_out"] == {
        "an empty cell": 1,
        "did not run as one batch": 1,
        "power-capped, derived from the others": 1,
        "model bloom-176b": 1,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "is not there"),
        ("a,b\n1,2\n", "lacks the column tensor_parallel"),
        (HEADER + "llama2-70b,a100-80gb,512,two,128,1,1,2\n", "batch_size 'two' is no number (row 2 of"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(tmp_path: Path, text: str | None, why: str):
    assert why in refusal_of_table("splitwise.py", tmp_path / "measured.csv", text)


def test_profiles_without_the_model_are_told_in_a_sentence(tmp_path: Path, profiles: Path):
    path = tmp_path / "measured.csv"
    path.write_text(HEADER + "llama2-70b,a100-80gb,512,1,128,1,1,8\n")
    said = refusal("splitwise.py", path, "--profiles", profiles.parent)
    assert "has no rows of a model like meta-llama/Llama-2-70b-hf on 8 GPUs" in said
