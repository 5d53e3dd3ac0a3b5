"""The rows of aiconfigurator's tables: which count, and what they say."""

import polars as pl
import pytest
from aiconfigurator_files import Row, Write, gemm_row, installed

from estimators.errors import EstimatorError
from estimators.profiles import COLUMNS, ELEMENTWISE
from estimators.sources.aiconfigurator import read_profiles


def attention_row(isl: int, latency: float, **other: object) -> Row:
    shape = {"batch_size": 1, "isl": isl, "step": 0, "num_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    types = {"beam_width": 1, "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16"}
    return {"kernel_source": "fa", **shape, **types, "latency": latency, **other}


def moe_row(tokens: int, latency: float, **other: object) -> Row:
    shape = {"num_tokens": tokens, "hidden_size": 64, "inter_size": 96, "topk": 2, "num_experts": 8}
    split = {"moe_tp_size": 1, "moe_ep_size": 1, "distribution": "balanced", "moe_dtype": "bfloat16"}
    return {"kernel_source": "triton", **shape, **split, "latency": latency, **other}


def test_rows_of_one_point_are_merged_into_the_median_of_the_fastest_kernel(write: Write) -> None:
    slow = [gemm_row(2, latency, "slow") for latency in (5.0, 6.0, 7.0)]
    fast = [gemm_row(2, latency, "fast") for latency in (2.0, 3.0, 100.0)]
    write([*slow, *fast, gemm_row(1, 4.0)])
    profiles = read_profiles("toy_sxm", "gemm")
    assert profiles.frame.to_dicts() == [
        {"m": 1, "n": 8192, "k": 8192, "seconds": pytest.approx(4e-3)},
        {"m": 2, "n": 8192, "k": 8192, "seconds": pytest.approx(3e-3)},
    ]
    assert (profiles.rows_read, profiles.rows_dropped, profiles.rows_duplicate) == (7, 0, 5)
    assert profiles.outliers == 1  # one row of four milliseconds before three
    assert profiles.kernels == ("fast", "linear", "slow")
    assert (profiles.source, profiles.engine) == ("aiconfigurator-core 0.12.0", "vllm 0.9.0")


@pytest.mark.parametrize(("dtype", "milliseconds"), [("bf16", 1.0), ("fp8", 0.5), ("fp8_block", 0.7), ("nvfp4", 0.3)])
def test_each_dtype_has_its_rows(write: Write, dtype: str, milliseconds: float) -> None:
    rows = [gemm_row(1, ms, dtype=name) for name, ms in (("bfloat16", 1.0), ("fp8", 0.5), ("fp8_block", 0.7))]
    write([*rows, gemm_row(1, 0.3, dtype="nvfp4"), gemm_row(1, 0.1, dtype="int8_wo")])
    profiles = read_profiles("toy_sxm", "gemm", dtype)
    assert profiles.frame["seconds"].to_list() == [pytest.approx(milliseconds / 1e3)]
    assert (profiles.rows_read, profiles.rows_dropped) == (5, 4)


def test_a_dtype_without_rows_is_told(write: Write) -> None:
    write([gemm_row(1, 1.0)])
    with pytest.raises(EstimatorError, match="has no measured gemm of vllm on toy_sxm") as caught:
        read_profiles("toy_sxm", "gemm", "fp8")
    assert caught.value.field == "dtype"


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), None])
def test_a_time_that_is_none_names_file_and_row(write: Write, wrong: float | None) -> None:
    write([gemm_row(1, 1.0), gemm_row(2, 1.0, dtype="fp8"), gemm_row(3, 1.0) | {"latency": wrong}])
    with pytest.raises(EstimatorError, match=r"gemm_perf.parquet: row 3, column 'latency'.* is (not a number|empty)"):
        read_profiles("toy_sxm", "gemm")


def test_an_empty_key_names_file_and_row(write: Write) -> None:
    write([gemm_row(1, 1.0), gemm_row(1, 1.0) | {"k": None}])
    with pytest.raises(EstimatorError, match=r"toy_sxm/gemm/vllm/0.9.0/gemm_perf.parquet: row 2, column 'k' is empty"):
        read_profiles("toy_sxm", "gemm")


def test_an_empty_dtype_is_not_dropped_silently(write: Write) -> None:
    write([gemm_row(1, 1.0), gemm_row(1, 1.0) | {"gemm_dtype": None}])
    with pytest.raises(EstimatorError, match=r"row 2, column 'gemm_dtype' is empty"):
        read_profiles("toy_sxm", "gemm")


def test_a_missing_column_is_named(write: Write) -> None:
    write([{name: value for name, value in gemm_row(1, 1.0).items() if name != "n"}])
    with pytest.raises(EstimatorError, match="has no column 'n'"):
        read_profiles("toy_sxm", "gemm")


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_another_unit_shows_in_the_times(write: Write, factor: float) -> None:
    write([gemm_row(8192, 4.0 * factor)])  # 1.1e12 operations in 4 milliseconds
    with pytest.raises(EstimatorError, match=r"takes .* s, as on no GPU; give times in milliseconds"):
        read_profiles("toy_sxm", "gemm")


def test_older_tables_were_measured_without_windows(write: Write) -> None:
    write([attention_row(16, 1.0)], place="attention/vllm", file="context_attention_perf")
    assert read_profiles("toy_sxm", "prefill_attention").frame["window"].to_list() == [0]


def test_windows_are_told_apart_and_beams_and_types_dropped(write: Write) -> None:
    rows = [attention_row(16, 4.0, window_size=0), attention_row(16, 1.0, window_size=128)]
    others = [{"beam_width": 2}, {"attn_dtype": "fp8"}, {"kv_cache_dtype": "fp8"}]
    rows += [attention_row(16, 0.5, window_size=0, **other) for other in others]
    write(rows, place="attention/vllm", file="context_attention_perf")
    profiles = read_profiles("toy_sxm", "prefill_attention")
    assert profiles.frame.select("window", "seconds").rows() == [(0, 4e-3), (128, 1e-3)]
    assert profiles.rows_dropped == 3


def test_sglang_computes_prefill_over_an_fp8_cache_in_fp8(write: Write) -> None:
    row = attention_row(16, 1.0, attn_dtype="fp8", kv_cache_dtype="fp8")
    for backend in ("sglang", "trtllm"):
        write([row], place=f"attention/{backend}", file="context_attention_perf")
    assert read_profiles("toy_sxm", "prefill_attention", "fp8", "sglang").frame.height == 1
    with pytest.raises(EstimatorError, match="has no measured prefill_attention of trtllm"):
        read_profiles("toy_sxm", "prefill_attention", "fp8", "trtllm")


def test_experts_are_those_of_one_gpu(write: Write) -> None:
    rows = [
        moe_row(1, 1.0, moe_tp_size=2),
        moe_row(1, 2.0, moe_ep_size=4, distribution="power_law_1.01"),
        moe_row(1, 3.0, distribution="power_law_1.2"),
    ]
    write(rows, place="moe/vllm", file="moe_perf")
    frame = read_profiles("toy_sxm", "moe").frame
    assert frame.select("inter", "local_experts", "load", "seconds").sort("seconds").rows() == [
        (48, 8, 0, 1e-3),
        (96, 2, 101, 2e-3),
        (96, 8, 120, 3e-3),
    ]
    assert frame.columns == [*COLUMNS["moe"], "seconds"]


def test_experts_without_a_gate_or_of_another_activation_are_left_out(write: Write) -> None:
    others = [
        {"kernel_source": "moe_torch_flow_nongated"},
        {"kernel_source": "marlin_situ_as_silu"},
        {"hidden_size": 2688, "inter_size": 1856},  # Nemotron 3 Nano
    ]
    write([moe_row(1, 1.0), *(moe_row(1, 0.5, **other) for other in others)], place="moe/vllm", file="moe_perf")
    profiles = read_profiles("toy_sxm", "moe")
    assert profiles.frame["seconds"].to_list() == [1e-3]
    assert profiles.rows_dropped == 3


@pytest.mark.parametrize(("dtype", "name"), [("mxfp4", "w4a16_mxfp4"), ("int4", "int4_wo")])
def test_experts_of_4_bits(write: Write, dtype: str, name: str) -> None:
    write([moe_row(1, 1.0), moe_row(1, 0.5, moe_dtype=name)], place="moe/vllm", file="moe_perf")
    assert read_profiles("toy_sxm", "moe", dtype).frame["seconds"].to_list() == [0.5e-3]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"distribution": "uniform"}, "row 2, column 'distribution' 'uniform' is no balance and no power law"),
        ({"moe_tp_size": 5}, "row 2, column 'inter_size / moe_tp_size' 19.2 is not a whole number"),
    ],
)
def test_experts_that_are_not_understood_are_refused(write: Write, other: Row, message: str) -> None:
    write([moe_row(1, 1.0), moe_row(2, 1.0, **other)], place="moe/vllm", file="moe_perf")
    with pytest.raises(EstimatorError, match=message):
        read_profiles("toy_sxm", "moe")


def test_the_products_of_mla_lead_into_its_space_and_out_of_it(write: Write) -> None:
    rows = [
        {
            "kernel_source": "bmm",
            "bmm_dtype": "bfloat16",
            "op_name": name,
            "num_tokens": 4,
            "num_heads": 16,
            "latency": ms,
        }
        for name, ms in (("mla_gen_pre", 1.0), ("mla_gen_post", 2.0))
    ]
    write(rows, place="mla_bmm/vllm", file="mla_bmm_perf")
    frame = read_profiles("toy_sxm", "latent_bmm").frame
    assert frame.select("n", "k", "seconds").sort("n").rows() == [(128, 512, 2e-3), (512, 128, 1e-3)]


# The package itself


@pytest.mark.parametrize("system", ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s"])
@installed
def test_every_operator_of_a_system_is_read(system: str) -> None:
    for operator, columns in COLUMNS.items():
        if operator in ELEMENTWISE:
            continue
        profiles = read_profiles(system, operator)
        assert profiles.frame.columns == [*columns, "seconds"]
        assert profiles.rows_read == profiles.rows_dropped + profiles.rows_duplicate + profiles.frame.height
        assert profiles.frame.equals(profiles.frame.sort(list(columns)))
        assert profiles.frame.null_count().transpose().sum().item() == 0
        for name, least in columns.items():
            assert profiles.frame[name].min() >= least


@installed
def test_decode_context_is_prompt_plus_step() -> None:
    frame = read_profiles("a100_sxm", "decode_attention").frame
    assert frame["kv"].unique().sort().to_list() == [2**power for power in range(1, 18)]


@installed
def test_windows_bound_what_attention_reads() -> None:
    frame = read_profiles("h100_sxm", "decode_attention").frame
    assert frame["window"].unique().sort().to_list() == [0, 128, 1024, 8192]
    same = frame.filter(batch=64, q_heads=64, kv_heads=8, head_dim=64)
    seconds = {
        (kv, window): same.filter(kv=kv, window=window)["seconds"].item() for kv in (512, 8192) for window in (0, 128)
    }
    assert seconds[8192, 128] == pytest.approx(seconds[512, 128], rel=0.1)
    assert seconds[8192, 0] > 5 * seconds[512, 0]


@installed
def test_all_reduce_is_that_of_cuda_graphs() -> None:
    profiles = read_profiles("h100_sxm", "all_reduce")
    assert profiles.kernels == ("vLLM_custom_graph",)
    smallest = profiles.frame.filter(pl.col("elements") == 128)["seconds"]
    assert smallest.max() < 6e-6  # launched eagerly they take 20 microseconds


@installed
def test_times_are_seconds() -> None:
    # 2 * 4096**3 FLOP at some 750 TFLOP/s.
    frame = read_profiles("h100_sxm", "gemm").frame.filter(m=4096, n=4096, k=4096)
    assert frame["seconds"].to_list() == [pytest.approx(1.8e-4, rel=0.2)]


@installed
def test_prompts_of_mla_are_computed_over_expanded_heads() -> None:
    # 4 x 16 heads x 4096**2 / 2 pairs x (192 + 128) x 2 FLOP at some 500 TFLOP/s; over the compressed cache 3.4 times.
    profiles = read_profiles("h100_sxm", "latent_prefill")
    assert profiles.engine.startswith("trtllm")
    assert profiles.frame.filter(batch=4, chunk=4096, heads=16)["seconds"].item() == pytest.approx(6.7e-4, rel=0.1)


@installed
def test_counts_of_spikes_are_those_known() -> None:
    # Shares of 35,742 points: figures of another program over the same tables.
    points = 35742
    for dtype, share in (("bf16", 0.007), ("fp8", 0.063), ("nvfp4", 0.002)):
        profiles = read_profiles("b200_sxm", "gemm", dtype)
        assert profiles.frame.height == points
        assert profiles.outliers / points == pytest.approx(share, abs=0.0006)
