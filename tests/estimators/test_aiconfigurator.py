"""Reading the kernel tables of aiconfigurator-core, and of the package that follows it."""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml

from estimators.errors import EstimatorError
from estimators.profiles import COLUMNS
from estimators.sources import aiconfigurator
from estimators.sources.aiconfigurator import read_profiles
from estimators.sources.aiconfigurator_tree import version_key

Row = dict[str, object]
#: Writes rows as a table: of a file, family, backend and version.
Write = Callable[..., Path]

installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core is not installed"
)


def gemm_row(m: int, latency: float, kernel: str = "linear", dtype: str = "bfloat16") -> Row:
    return {"kernel_source": kernel, "gemm_dtype": dtype, "m": m, "n": 8192, "k": 8192, "latency": latency}


def attention_row(isl: int, latency: float, **other: object) -> Row:
    shape = {"batch_size": 1, "isl": isl, "step": 0, "num_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    types = {"beam_width": 1, "attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16"}
    return {"kernel_source": "fa", **shape, **types, "latency": latency, **other}


def moe_row(tokens: int, latency: float, **other: object) -> Row:
    shape = {"num_tokens": tokens, "hidden_size": 64, "inter_size": 96, "topk": 2, "num_experts": 8}
    split = {"moe_tp_size": 1, "moe_ep_size": 1, "distribution": "balanced", "moe_dtype": "bfloat16"}
    return {"kernel_source": "triton", **shape, **split, "latency": latency, **other}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Write]:
    """Makes packages with one system; running any of their code fails the test. No other package is there."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.12.0")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, package=None: real(name, package) if (tmp_path / name).exists() else None,
    )

    def make(module: str) -> Write:
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("raise AssertionError('the package was run')")
        importlib.invalidate_caches()
        system = tmp_path / module / "systems" / "data" / "toy_sxm"

        def write(rows: list[Row], version: str = "0.9.0", place: str = "gemm/vllm", file: str = "gemm_perf") -> Path:
            (system / "gemm").mkdir(parents=True, exist_ok=True)
            folder = system / place / version
            folder.mkdir(parents=True, exist_ok=True)
            if rows:
                pl.DataFrame(rows).write_parquet(folder / f"{file}.parquet")
            return folder

        return write

    return make


@pytest.fixture
def write(tree: Callable[[str], Write]) -> Write:
    return tree("aiconfigurator_core")


def reuse(folder: Path, from_version: str, table: str = "gemm_perf") -> None:
    declared = {"schema_version": 1, "reuse": [{"table": table, "from_version": from_version, "reason": "alike"}]}
    (folder / "reuse.yaml").write_text(yaml.safe_dump(declared))


# Rows


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


def test_kernels_of_mla_are_borrowed_where_an_engine_was_not_measured(write: Write) -> None:
    row = {"kernel_source": "x", "mla_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "num_heads": 8, "batch_size": 2}
    for backend, ms in (("sglang", 1.0), ("trtllm", 2.0)):
        write([row | {"isl": 1, "step": 63, "latency": ms}], "1.0", f"mla/{backend}", "generation_mla_perf")
        write([row | {"isl": 64, "step": 0, "latency": ms}], "1.0", f"mla/{backend}", "context_mla_perf")
    decode = read_profiles("toy_sxm", "latent_decode", version="0.9.0")
    assert (decode.engine, decode.frame["kv"].to_list()) == ("trtllm 1.0", [64])
    assert read_profiles("toy_sxm", "latent_decode", backend="sglang").engine == "sglang 1.0"
    # SGLang's prompts may be over the compressed cache, which vLLM's are not.
    assert read_profiles("toy_sxm", "latent_prefill").engine == "trtllm 1.0"


def test_collectives_are_nccl_under_any_engine(write: Write) -> None:
    rows = [
        {
            "kernel_source": "NCCL",
            "nccl_dtype": dtype,
            "op_name": name,
            "num_gpus": 4,
            "message_size": 256,
            "latency": ms,
        }
        for name, ms in (("all_gather", 1.0), ("reduce_scatter", 2.0), ("alltoall", 3.0), ("all_reduce", 4.0))
        for dtype in ("half", "int8")
    ]
    write(rows, "2.29.2", "comm/nccl", "nccl_perf")
    names = ("all_gather", "reduce_scatter", "all_to_all")
    found = [read_profiles("toy_sxm", name, backend="sglang", version="0.5.14") for name in names]
    found.append(read_profiles("toy_sxm", "all_reduce", backend="nccl"))
    assert [profiles.frame.row(0) for profiles in found] == [(4, 256, pytest.approx(ms / 1e3)) for ms in (1, 2, 3, 4)]
    assert {profiles.engine for profiles in found} == {"nccl 2.29.2"}


# Versions


def test_versions_are_ordered_as_releases_are() -> None:
    ordered = [
        "dev-1aa0e962",
        "0.1.dev19262",
        "0.5.6",
        "0.5.6.post2",
        "0.5.10",
        "1.3.0a1",
        "1.3.0rc9",
        "1.3.0rc20",
        "1.3.0",
    ]
    assert sorted(reversed(ordered), key=version_key) == ordered


def test_the_newest_measured_version_is_read_or_the_named_one(write: Write) -> None:
    write([gemm_row(1, 9.0)], "0.9.0")
    write([gemm_row(1, 10.0)], "0.10.0")
    reuse(write([], "0.11.0"), "0.10.0")
    write([gemm_row(1, 12.0, dtype="fp8")], "0.12.0")  # not of the dtype that is asked for
    engines = {
        version: read_profiles("toy_sxm", "gemm", version=version).engine for version in (None, "0.9.0", "0.11.0")
    }
    assert engines == {None: "vllm 0.10.0", "0.9.0": "vllm 0.9.0", "0.11.0": "vllm 0.11.0 (by the table of 0.10.0)"}
    assert read_profiles("toy_sxm", "gemm", version="0.11.0").frame["seconds"].to_list() == [pytest.approx(10e-3)]
    with pytest.raises(
        EstimatorError, match=r"version '0.8.0' has no gemm of vllm on toy_sxm; choose one of 0.12.0, 0.11.0"
    ):
        read_profiles("toy_sxm", "gemm", version="0.8.0")


def test_a_version_reuses_what_its_own_rows_lack(write: Write) -> None:
    write([gemm_row(1, 1.0), gemm_row(2, 2.0)], "1.3.0rc20")
    reuse(write([gemm_row(2, 5.0)], "1.3.0rc23"), "1.3.0rc20")
    profiles = read_profiles("toy_sxm", "gemm")
    assert profiles.frame.select("m", "seconds").rows() == [(1, 1e-3), (2, 5e-3)]
    assert profiles.engine == "vllm 1.3.0rc23 (with rows of 1.3.0rc20)"
    assert (profiles.rows_read, profiles.rows_dropped, profiles.rows_duplicate) == (3, 0, 1)


def test_a_declaration_that_leads_nowhere_is_told(write: Write) -> None:
    reuse(write([], "0.11.0"), "0.10.0")
    with pytest.raises(EstimatorError, match=r"vllm/0.11.0/reuse.yaml '0.10.0' holds no gemm_perf.parquet"):
        read_profiles("toy_sxm", "gemm")
    (write([], "0.11.0") / "reuse.yaml").write_text("version: 0.10.0")
    with pytest.raises(EstimatorError, match=r"0.11.0/reuse.yaml is no list of reused tables"):
        read_profiles("toy_sxm", "gemm")


def test_a_table_known_to_be_bad_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ("gemm", "vllm", "0.19.0", "bf16")
    reason = aiconfigurator._BAD["rtx_pro_6000_server", *key]
    write([gemm_row(1, 1.0), gemm_row(1, 1.0, dtype="fp8")], "0.19.0")
    assert read_profiles("toy_sxm", "gemm").frame.height == 1  # of another system
    monkeypatch.setattr(aiconfigurator, "_BAD", {("toy_sxm", *key): reason})
    for version in (None, "0.19.0"):
        with pytest.raises(EstimatorError, match="has steps and spikes") as caught:
            read_profiles("toy_sxm", "gemm", version=version)
    assert caught.value.field == "gemm of vllm 0.19.0 on toy_sxm"
    assert read_profiles("toy_sxm", "gemm", "fp8").frame.height == 1


def test_products_timed_with_their_launch_are_refused_and_another_engines_stand_in(write: Write) -> None:
    small = {"n": 128, "k": 128}
    write([gemm_row(m, 0.055 + m / 1e3, dtype="fp8_block") | small for m in (1, 2)], "0.24.0")
    message = "holds the time in which the host launches: no product takes less than 56 us"
    with pytest.raises(EstimatorError, match=message):
        read_profiles("toy_sxm", "gemm", "fp8_block")
    write([gemm_row(1, 0.004, dtype="fp8_block") | small], "0.5.14", "gemm/sglang")
    assert read_profiles("toy_sxm", "gemm", "fp8_block").engine == "sglang 0.5.14"
    with pytest.raises(EstimatorError, match=message):
        read_profiles("toy_sxm", "gemm", "fp8_block", version="0.24.0")


# Packages


@pytest.mark.parametrize("tree_in", ["aiconfigurator_core", "aisimulate_core"])
def test_the_successor_has_the_tree_in_a_module_of_either_name(
    tree: Callable[[str], Write], tree_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name != "aisimulate":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.13.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    writers = {module: tree(module) for module in ("aiconfigurator_core", "aisimulate_core")}
    writers[tree_in]([gemm_row(1, 1.0)])
    assert read_profiles("toy_sxm", "gemm").source == "aisimulate 0.13.0"
    assert read_profiles("toy_sxm", "gemm", package=tree_in).frame.height == 1
    other = next(module for module in writers if module != tree_in)
    with pytest.raises(EstimatorError, match="is not installed"):
        read_profiles("toy_sxm", "gemm", package=other)


def test_a_system_without_the_operator_is_told(write: Write) -> None:
    write([gemm_row(1, 1.0)])
    with pytest.raises(EstimatorError, match="'toy_sxm' has no measured all_reduce of vllm"):
        read_profiles("toy_sxm", "all_reduce")


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EstimatorError, match="is not installed") as caught:
        read_profiles("h100_sxm", "gemm")
    assert "pip install 'fastsim-llm[profiles]'" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "field", "listed"),
    [
        ({"system": "tpu_v5"}, "system", "h100_sxm"),
        ({"operator": "softmax"}, "operator", "decode_attention"),
        ({"dtype": "fp4"}, "dtype", "bf16"),
        ({"operator": "latent_bmm", "dtype": "fp8"}, "dtype", "bf16"),
        ({"backend": "tgi"}, "backend", "sglang"),
        ({"backend": "nccl"}, "backend", "vllm"),
        ({"package": "vidur"}, "package", "aisimulate_core"),
    ],
)
@installed
def test_unknown_names_list_the_known(arguments: dict[str, str], field: str, listed: str) -> None:
    with pytest.raises(EstimatorError) as caught:
        read_profiles(**({"system": "h100_sxm", "operator": "gemm"} | arguments))
    assert caught.value.field == field
    assert listed in caught.value.mend


# The package itself


@pytest.mark.parametrize("system", ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s"])
@installed
def test_every_operator_of_a_system_is_read(system: str) -> None:
    for operator, columns in COLUMNS.items():
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


@pytest.mark.parametrize(("system", "stands_in"), [("h100_sxm", "trtllm"), ("b200_sxm", "trtllm"), ("l40s", "trtllm")])
@installed
def test_no_table_of_products_holds_launches_of_the_host(system: str, stands_in: str) -> None:
    for dtype, engine in (("bf16", "vllm"), ("fp8", "vllm"), ("fp8_block", stands_in)):
        profiles = read_profiles(system, "gemm", dtype)
        assert profiles.engine.startswith(engine)
        assert profiles.frame["seconds"].min() < 7e-6


@installed
def test_experts_of_fp8_on_hopper_are_those_that_were_tuned() -> None:
    assert read_profiles("h100_sxm", "moe", "fp8").engine.startswith("trtllm")
    assert read_profiles("b200_sxm", "moe", "fp8").engine.startswith("vllm")
    with pytest.raises(EstimatorError, match=r"takes 4 times as long as vLLM 0.19"):
        read_profiles("h100_sxm", "moe", "fp8", version="0.24.0")
