"""Reading Vidur's profiles into the one schema."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from estimators.errors import EstimatorError
from estimators.host_times import HOST_COLUMNS
from estimators.sources import vidur_rows
from estimators.sources.vidur import read_cpu_overheads, read_vidur

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles"
shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the measured profiles, which are not distributed")
Row = dict[str, Any]


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = pl.DataFrame(rows, infer_schema_length=None).write_csv()
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def mlp_row(tokens: int, tp: int = 1, **other: Any) -> Row:
    shape = {"n_head": 8, "n_kv_head": 2, "n_embd": 1024, "n_expanded_embd": 4096, "use_gated_mlp": "True"}
    names = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj", "mlp_act", "attn_rope", "emb")
    times = {f"time_stats.{name}.median": ms for ms, name in enumerate(names, start=1)}
    return {**shape, **times, "num_tokens": tokens, "num_tensor_parallel_workers": tp, **other}


def attention_row(batch: int, chunk: int, cached: int, ms: float, **other: Any) -> Row:
    shape = {"n_embd": 1024, "n_q_head": 8, "n_kv_head": 2, "num_tensor_parallel_workers": 2, "block_size": 16}
    own = {"batch_size": batch, "prefill_chunk_size": chunk, "kv_cache_size": cached}
    times = {"attn_prefill": ms if chunk else None, "attn_decode": None if chunk else ms, "attn_kv_cache_save": ms / 10}
    backend = {"attention_backend": "AttentionBackend.FLASHINFER"}
    return {**shape, **own, **{f"time_stats.{name}.median": one for name, one in times.items()}, **backend, **other}


def message_row(workers: int, per_node: int, size: int, ms: float, name: str = "all_reduce") -> Row:
    return {"num_workers": workers, "devices_per_node": per_node, "size": size, f"time_stats.{name}.median": ms}


MLP = Path("compute/a100/org/model/mlp.csv")
ATTENTION = Path("compute/a100/org/model/attention.csv")


# Compute


def test_products_are_those_of_one_gpu(tmp_path: Path):
    write(tmp_path / MLP, [mlp_row(4, tp=4)])
    profiles = read_vidur(tmp_path, "gemm", "a100")
    # 2 query heads of 128 and a copy of one of the 2 key-value heads on each of 4 GPUs; 1024 of the MLP, gate and all.
    assert profiles.frame.rows() == [
        (4, 512, 1024, pytest.approx(1e-3)),
        (4, 1024, 256, pytest.approx(2e-3)),
        (4, 1024, 1024, pytest.approx(4e-3)),
        (4, 2048, 1024, pytest.approx(3e-3)),
    ]
    assert (profiles.system, profiles.dtype, profiles.rows_read, profiles.rows_dropped) == ("a100", "bf16", 4, 0)


def test_an_mlp_without_a_gate_is_half_as_wide(tmp_path: Path):
    write(tmp_path / MLP, [mlp_row(4, use_gated_mlp="False")])
    frame = read_vidur(tmp_path, "gemm", "a100").frame
    assert frame.filter(seconds=3e-3).select("n", "k").rows() == [(4096, 1024)]
    write(tmp_path / MLP, [mlp_row(4, use_gated_mlp="yes")])
    with pytest.raises(EstimatorError, match=r"mlp.csv: row 2, column 'use_gated_mlp' 'yes' is neither True nor False"):
        read_vidur(tmp_path, "gemm", "a100")


def test_repeated_points_are_merged_and_counted(tmp_path: Path):
    rows = [mlp_row(4), mlp_row(4) | {"time_stats.attn_pre_proj.median": 3.0}]
    write(tmp_path / MLP, rows)
    write(tmp_path / "compute/a100/org/other/mlp.csv.gz", [mlp_row(4) | {"time_stats.attn_pre_proj.median": 1.5}])
    profiles = read_vidur(tmp_path, "gemm", "a100")
    assert (profiles.rows_read, profiles.rows_duplicate, profiles.frame.height) == (12, 8, 4)
    assert profiles.frame.filter(n=1536)["seconds"].item() == pytest.approx(1.5e-3)
    assert read_vidur(tmp_path, "gemm", "a100", model="org/other").rows_read == 4


@pytest.mark.parametrize(("operator", "width", "ms"), [("mlp_act", 2048, 5), ("attn_rope", 640, 6), ("emb", 1024, 7)])
def test_elementwise_operators_have_a_width(tmp_path: Path, operator: str, width: int, ms: int):
    write(tmp_path / MLP, [mlp_row(4, tp=2)])
    assert read_vidur(tmp_path, operator, "a100").frame.rows() == [(4, width, pytest.approx(ms / 1e3))]


def test_attention_of_chunks_and_of_decodes(tmp_path: Path):
    rows = [attention_row(1, 64, 128, 2.0), attention_row(8, 0, 127, 1.0)]
    write(tmp_path / ATTENTION, rows)
    chunks, decodes = (read_vidur(tmp_path, f"{kind}_attention", "a100") for kind in ("prefill", "decode"))
    assert chunks.frame.row(0, named=True) == {
        **{"batch": 1, "chunk": 64, "history": 128, "q_heads": 4, "kv_heads": 1, "head_dim": 128, "window": 0},
        "seconds": pytest.approx(2e-3),
    }
    assert decodes.frame.select("batch", "kv", "seconds").rows() == [(8, 128, pytest.approx(1e-3))]
    assert (decodes.rows_read, decodes.rows_dropped, decodes.kernels) == (2, 1, ("FLASHINFER",))
    saved = read_vidur(tmp_path, "attn_kv_cache_save", "a100").frame
    assert saved.select("tokens", "width").rows() == [(8, 256), (64, 256)]


def test_the_older_layout_has_all_files_of_a_gpu_in_one_folder(tmp_path: Path):
    old = [{name: value for name, value in attention_row(8, 0, 31, 1.0).items() if "kv_cache_save" not in name}]
    write(tmp_path / "a100" / "attention.csv.gz", old)
    write(tmp_path / "a100" / "all_reduce.csv.gz", [message_row(2, 2, 4096, 1.0)])
    assert read_vidur(tmp_path, "decode_attention", "a100").frame["kv"].to_list() == [32]
    assert read_vidur(tmp_path, "all_reduce", "a100").frame.rows() == [(2, 2048, 1e-3)]
    with pytest.raises(EstimatorError, match=r"has no column 'time_stats.attn_kv_cache_save.median'"):
        read_vidur(tmp_path, "attn_kv_cache_save", "a100")


# Messages


def test_an_all_reduce_is_within_one_node(tmp_path: Path):
    rows = [message_row(2, 2, 4096, 1.0), message_row(2, 1, 4096, 9.0), message_row(4, 2, 4096, 9.0)]
    write(tmp_path / "network/dgx/all_reduce.csv", [*rows, message_row(4, 4, 4096, 2.0)])
    profiles = read_vidur(tmp_path, "all_reduce", "dgx")
    assert profiles.frame.rows() == [(2, 2048, 1e-3), (4, 2048, 2e-3)]
    assert (profiles.rows_read, profiles.rows_dropped) == (4, 2)
    write(tmp_path / "network/dgx/all_reduce.csv", rows[1:])
    with pytest.raises(EstimatorError, match="'dgx' has no all_reduce within one node"):
        read_vidur(tmp_path, "all_reduce", "dgx")


def test_sending_tells_one_node_from_two(tmp_path: Path):
    rows = [message_row(2, per_node, 2048, per_node, "send_recv") for per_node in (2, 1)]
    write(tmp_path / "network/dgx/send_recv.csv", rows)
    assert read_vidur(tmp_path, "send_recv", "dgx").frame.rows() == [(1, 1024, 1e-3), (2, 1024, 2e-3)]


def test_a_copied_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [message_row(2, 2, 2048, 1.0, "send_recv")]
    path = write(tmp_path / "network/h100_pairwise_nvlink/send_recv.csv", rows)
    assert read_vidur(tmp_path, "send_recv", "h100_pairwise_nvlink").frame.height == 1  # a measurement
    copied = {"h100_pairwise_nvlink": hashlib.sha256(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(vidur_rows, "_COPIES", copied)
    with pytest.raises(EstimatorError, match="is a byte for byte copy of that of a100_pairwise_nvlink"):
        read_vidur(tmp_path, "send_recv", "h100_pairwise_nvlink")


# The host


@pytest.mark.parametrize("spelling", [str.upper, str.lower])
@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_times_of_the_host_by_batch(tmp_path: Path, spelling: Any, statistic: str):
    names = ["schedule", "sampler_e2e", "prepare_inputs_e2e", "process_model_outputs"]
    times = {spelling(f"{name}_median"): ms for ms, name in enumerate(names, start=1)}
    times[spelling(f"ray_comm_time_{statistic}")] = 5
    row = {"model_name": "org/model", "batch_size": 8, "tensor_parallel_degree": 2}
    write(tmp_path / "cpu_overhead/dgx/org/model/cpu_overheads.csv", [row | times, row | times])
    frame = read_cpu_overheads(tmp_path, "dgx")
    assert frame.rows() == [("org/model", 2, 8, *(pytest.approx(ms / 1e3) for ms in (1, 3, 5, 2, 4)), None)]
    assert frame.columns == ["model", "tp", *HOST_COLUMNS]


# What is wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_stats.mlp_act.median": 0.0}, "row 3, column 'time_stats.mlp_act.median' '0.0' is not a number above 0"),
        (
            {"time_stats.mlp_act.median": "fast"},
            "row 3, column 'time_stats.mlp_act.median' 'fast' is not a number above 0",
        ),
        ({"time_stats.mlp_act.median": None}, "row 3, column 'time_stats.mlp_act.median' is empty; .* skip_bad=True"),
        ({"num_tokens": 2.5}, "row 3, column 'num_tokens' '2.5' is not a whole number from 1 on"),
        ({"n_embd": None}, "row 3, column 'n_embd' is empty"),
    ],
)
def test_a_wrong_cell_names_file_row_and_column(tmp_path: Path, change: Row, message: str):
    rows = [mlp_row(4), mlp_row(8)]
    rows[1] = {name: str(value) for name, value in rows[1].items()} | {
        k: v if v is None else str(v) for k, v in change.items()
    }
    rows[0] = {name: str(value) for name, value in rows[0].items()}
    write(tmp_path / MLP, rows)
    with pytest.raises(EstimatorError, match=f"mlp.csv: {message}"):
        read_vidur(tmp_path, "mlp_act", "a100")


def test_empty_times_are_dropped_where_asked_and_counted(tmp_path: Path):
    write(tmp_path / MLP, [mlp_row(4), mlp_row(8) | {"time_stats.attn_pre_proj.median": None}])
    with pytest.raises(EstimatorError, match=r"row 3, column 'time_stats.attn_pre_proj.median' is empty"):
        read_vidur(tmp_path, "gemm", "a100")
    profiles = read_vidur(tmp_path, "gemm", "a100", skip_bad=True)
    assert (profiles.rows_read, profiles.rows_dropped, profiles.frame.height) == (8, 1, 7)
    assert read_vidur(tmp_path, "mlp_act", "a100").rows_dropped == 0  # the operator that is asked for has all its cells


def test_a_time_of_another_kernel_is_refused_or_dropped(tmp_path: Path):
    right = {"n_embd": 4096, "n_expanded_embd": 16384, "time_stats.mlp_up_proj.median": 8.0}
    rows = [mlp_row(4096, **right), mlp_row(8192, **right | {"time_stats.attn_pre_proj.median": 0.002})]
    write(tmp_path / MLP, rows)
    message = (
        r"mlp.csv: row 3, column 'time_stats.attn_pre_proj.median' 0.002 is .* times faster than most products there"
    )
    with pytest.raises(EstimatorError, match=message):
        read_vidur(tmp_path, "gemm", "a100")
    profiles = read_vidur(tmp_path, "gemm", "a100", skip_bad=True)
    assert (profiles.rows_read, profiles.rows_dropped) == (8, 1)
    assert profiles.frame["seconds"].min() > 0.5e-3


def test_a_missing_column_is_named(tmp_path: Path):
    write(tmp_path / MLP, [{name: value for name, value in mlp_row(4).items() if name != "n_kv_head"}])
    with pytest.raises(EstimatorError, match=r"mlp.csv has no column 'n_kv_head'"):
        read_vidur(tmp_path, "gemm", "a100")


def test_times_in_another_unit_are_refused(tmp_path: Path):
    row = mlp_row(4096, n_embd=8192, n_expanded_embd=28672) | {
        "time_stats.mlp_up_proj.median": 13_000.0
    }  # microseconds
    write(tmp_path / MLP, [row])
    with pytest.raises(EstimatorError, match=r"mlp.csv: the product with m=4096, .* give times in milliseconds"):
        read_vidur(tmp_path, "gemm", "a100")


def test_what_is_not_there_is_told(tmp_path: Path):
    write(tmp_path / MLP, [mlp_row(4)])
    for device, model in (("h100", None), ("a100", "org/none")):
        with pytest.raises(EstimatorError, match=r"hold no mlp.csv of"):
            read_vidur(tmp_path, "gemm", device, model=model)
    with pytest.raises(EstimatorError, match="operator 'moe' is not in Vidur's files; choose one of gemm"):
        read_vidur(tmp_path, "moe", "a100")
    (tmp_path / MLP).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EstimatorError, match=r"mlp.csv"):
        read_vidur(tmp_path, "gemm", "a100")


# The measured files


@shared
@pytest.mark.parametrize(("device", "tflops"), [("a100", 270), ("a40", 135), ("h100", 894)])
def test_vidurs_own_products(device: str, tflops: float):
    profiles = read_vidur(SHARED / "vidur", "gemm", device)
    assert profiles.rows_read == profiles.rows_dropped + profiles.rows_duplicate + profiles.frame.height
    work = 2 * profiles.frame["m"].cast(float) * profiles.frame["n"] * profiles.frame["k"]
    assert (work / profiles.frame["seconds"]).max() / 1e12 == pytest.approx(tflops, abs=1)


@shared
def test_the_copied_table_of_vidur_is_refused():
    with pytest.raises(EstimatorError, match="is a byte for byte copy"):
        read_vidur(SHARED / "vidur", "send_recv", "h100_pairwise_nvlink")
    assert read_vidur(SHARED / "vidur", "send_recv", "a100_pairwise_nvlink").frame.height > 1900


@shared
def test_the_fork_with_empty_cells():
    with pytest.raises(EstimatorError, match="is empty; mend the row, or give skip_bad=True"):
        read_vidur(SHARED / "vidur_fork_a30", "gemm", "a30")
    # 365 cells are empty, and in 117 the profiler took a kernel of 2 us for a product of up to 500.
    assert read_vidur(SHARED / "vidur_fork_a30", "gemm", "a30", skip_bad=True).rows_dropped == 365 + 117
    assert read_vidur(SHARED / "vidur_fork_a30", "decode_attention", "a30").kernels == ("FLASHINFER",)


@shared
def test_files_of_vidurs_history(tmp_path: Path):
    history = SHARED / "vidur" / "history"
    for gpu, old, name in (
        ("a100", "a100_attention_old", "attention"),
        ("a100", "a100_cpu_overheads_151169a1", "cpu_overheads"),
        ("a40", "a40_cpu_overheads_bfb80913", "cpu_overheads"),
        ("a40", "a40_all_reduce", "all_reduce"),
    ):
        (tmp_path / gpu).mkdir(exist_ok=True)
        (tmp_path / gpu / f"{name}.csv.gz").symlink_to(history / f"{old}.csv.gz")
    decodes = read_vidur(tmp_path, "decode_attention", "a100")
    assert decodes.rows_read - decodes.rows_dropped == 10240
    assert read_vidur(tmp_path, "all_reduce", "a40").frame["gpus"].unique().sort().to_list() == [2, 4, 8]
    assert [read_cpu_overheads(tmp_path, gpu).height for gpu in ("a100", "a40")] == [56, 204]
