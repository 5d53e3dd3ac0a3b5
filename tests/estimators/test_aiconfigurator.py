"""Whose tables of aiconfigurator-core, and of the package that follows it, are read: package, version, engine."""

import importlib.metadata
from collections.abc import Callable

import pytest
from aiconfigurator_files import Write, gemm_row, installed, reuse

from estimators.errors import EstimatorError
from estimators.sources import aiconfigurator
from estimators.sources.aiconfigurator import read_profiles
from estimators.sources.aiconfigurator_tree import version_key

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


# Engines


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
