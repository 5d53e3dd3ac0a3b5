"""Experts that engines or GPUs share: their part of the tables, and what is read for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from layerwise_files import experts_profile, write_config, write_profile, write_rows

from estimators import EstimatorError, IterationTables, ModelSpec, TableLayout, load_model
from estimators.expert_layout import ExpertLayout
from estimators.layerwise import layerwise_tables
from estimators.sources.all_reduce import AllReduce, Exchange, read_exchange

PROFILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles"
SMALL = {"max_tokens": 128, "max_sequences": 8, "max_model_len": 256}
LAYERS, HIDDEN = 48, 2048


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    spec = load_model(write_config(tmp_path))
    assert spec.experts is not None
    return spec


def exchange(gpus: int, us_per_element: float = 0.0) -> Exchange:
    """A microsecond, and some for each number exchanged."""
    elements = np.array([0, 1 << 20])
    return Exchange(gpus, elements, (1 + us_per_element * elements) / 1e6, "toy")


def simple_profile(root: Path, tp: int = 1, us: float = 7) -> Path:
    """A profile whose experts take 7 us for each that is activated and 1 us for each token."""
    experts_profile(root, tp)
    rows = [(n, experts, us * experts + n) for n in (1, 2, 64, 512) for experts in (4, 8, 64, 128)]
    write_rows(root / f"tp{tp}" / "moe.csv", "tokens,activated_experts,time_us", rows)
    return root


# Tables


@pytest.mark.parametrize("tokens", [2, 20, 128, 256])
def test_each_gpu_has_its_part_of_tokens_and_activated_experts(tmp_path: Path, model: ModelSpec, tokens: int):
    root = simple_profile(tmp_path / "profile")
    tables = layerwise_tables(root, model, data_parallel=2, expert_parallel=2, exchange=exchange(2, 0.001), **SMALL)
    assert tables.expert == ExpertLayout(256, 2)
    activated = float(model.experts.expected_experts(np.array(tokens))) / 2
    expected_us = LAYERS * (7 * activated + tokens / 2 + 1 + 0.001 * tokens * HIDDEN)
    assert float(tables.expert_time_s(tokens)) == pytest.approx(expected_us / 1e6)
    assert float(tables.expert_time_s(0)) == 0


def test_an_engines_own_part_is_what_it_was_without_its_experts(tmp_path: Path, model: ModelSpec):
    root = simple_profile(tmp_path / "profile")
    alone = layerwise_tables(root, model, **SMALL)
    shared = layerwise_tables(root, model, data_parallel=2, exchange=exchange(2), **SMALL)
    tokens = np.arange(1, 129)
    experts_us = 7 * model.experts.expected_experts(tokens) + tokens
    assert alone.token_s[1:] - shared.token_s[1:] == pytest.approx(LAYERS * experts_us / 1e6)
    for name in ("sequence_s", "decode_s", "prefill_s", "joint_s"):
        assert np.array_equal(getattr(alone, name), getattr(shared, name))
    assert alone.expert_s.size == 0


def test_parts_of_every_expert_weigh_as_much_as_so_many_whole_ones(tmp_path: Path, model: ModelSpec):
    root = simple_profile(tmp_path / "profile")
    whole, parts = (
        layerwise_tables(root, model, data_parallel=2, expert_parallel=ep, exchange=exchange(2), **SMALL)
        for ep in (2, 1)
    )
    assert np.array_equal(whole.values, parts.values)
    assert (whole.provenance["experts"]["whole"], parts.provenance["experts"]["whole"]) == (True, False)
    # Unless a part of each was measured.
    simple_profile(tmp_path / "profile", tp=2, us=5)
    measured = layerwise_tables(root, model, data_parallel=2, exchange=exchange(2), **SMALL)
    activated = float(model.experts.expected_experts(np.array(50)))
    assert float(measured.expert_time_s(50)) == pytest.approx(LAYERS * (5 * activated + 50 + 1) / 1e6)
    again = layerwise_tables(root, model, data_parallel=2, expert_parallel=2, exchange=exchange(2), **SMALL)
    assert np.array_equal(again.values, whole.values)


def test_one_engine_may_have_whole_experts_on_each_gpu(tmp_path: Path, model: ModelSpec):
    root = simple_profile(tmp_path / "profile")
    simple_profile(tmp_path / "profile", tp=2, us=5)
    free = AllReduce(2, np.array([1, 2]), np.zeros(2), "toy")
    parts, whole = (layerwise_tables(root, model, 2, expert_parallel=ep, all_reduce=free, **SMALL) for ep in (1, 2))
    activated = float(model.experts.expected_experts(np.array(50)))
    difference_us = LAYERS * ((7 * activated / 2 + 50 / 2) - (5 * activated + 50))
    assert whole.token_s[50] - parts.token_s[50] == pytest.approx(difference_us / 1e6)
    assert whole.expert is None


def test_dense_engines_have_the_tables_of_one(tmp_path: Path):
    root = write_profile(tmp_path / "profile")
    one, two = (layerwise_tables(root, "Llama-3.1-8B", data_parallel=n, **SMALL) for n in (1, 2))
    assert (two.expert, two.hash) == (None, one.hash)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"data_parallel": 2}, "data_parallel"),
        ({"data_parallel": 2, "exchange": exchange(4)}, "data_parallel"),
        ({"data_parallel": 4, "expert_parallel": 2, "exchange": exchange(4)}, "expert_parallel"),
        ({"data_parallel": 0}, "data_parallel"),
        ({"expert_parallel": 2.0}, "expert_parallel"),
    ],
)
def test_engines_that_cannot_share_are_refused(tmp_path: Path, model: ModelSpec, arguments: dict, field: str):
    with pytest.raises(EstimatorError) as caught:
        layerwise_tables(simple_profile(tmp_path / "profile"), model, **arguments, **SMALL)
    assert caught.value.field == field


def test_dense_models_have_no_experts_to_share(tmp_path: Path):
    with pytest.raises(EstimatorError, match=r"expert_parallel 2 shares experts, and .* has none; give 1"):
        layerwise_tables(write_profile(tmp_path / "profile"), "Llama-3.1-8B", expert_parallel=2, **SMALL)


# The part


def plain(expert: ExpertLayout | None = None) -> IterationTables:
    layout = TableLayout(4, 2, 8, 8, 4, 0, 0, 0)
    values = np.arange(layout.size + (expert.size if expert else 0), dtype=float)
    return IterationTables(values, layout, expert=expert)


def test_files_hold_the_part(tmp_path: Path):
    tables = plain(ExpertLayout(8, 2))
    tables.save(tmp_path / "tables")
    loaded = IterationTables.load(tmp_path / "tables")
    assert (loaded.expert, loaded.hash) == (tables.expert, tables.hash)
    assert loaded.expert_s.tolist() == tables.values[-9:].tolist()
    assert tables.hash != replace(tables, expert=ExpertLayout(8, 2), values=tables.values + 1).hash


def test_it_must_hold_all_that_the_engines_may_have():
    with pytest.raises(EstimatorError, match=r"expert.max_tokens 7 is less than what 2 engines have together; give 8"):
        plain(ExpertLayout(7, 2))
    with pytest.raises(EstimatorError, match="engines 1 is not an integer from 2"):
        ExpertLayout(8, 1)
    with pytest.raises(EstimatorError, match="n_tokens 9 is outside the tables"):
        plain(ExpertLayout(8, 2)).expert_time_s(9)
    with pytest.raises(EstimatorError, match="n_tokens 1 is outside the tables"):
        plain().expert_time_s(1)


# Communication


def test_an_exchange_is_an_all_gather_and_a_reduce_scatter(tmp_path: Path):
    path = tmp_path / "h100_sxm" / "nccl-2.29.2" / "nccl_perf.parquet"
    path.parent.mkdir(parents=True)
    operations = {"all_gather": 1.0, "reduce_scatter": 2.0, "all_reduce": 50.0}
    rows = [
        {
            **{"kernel_source": "NCCL", "nccl_dtype": dtype, "op_name": name, "num_gpus": 2},
            **{"message_size": size, "latency": ms + size / 1024},
        }
        for name, ms in operations.items()
        for dtype in ("half", "int8")
        for size in (1024, 2048)
        if dtype == "half" or ms < 2
    ]
    pl.DataFrame(rows).write_parquet(path)
    times = read_exchange(tmp_path, "H100", 2)
    assert (times.gpus, times.source) == (2, "h100_sxm nccl 2.29.2")
    assert times.at([1024, 1536, 4096]).tolist() == pytest.approx([0.005, 0.006, 0.011])
    with pytest.raises(EstimatorError, match="data_parallel 4 GPUs have no all-gather and reduce-scatter in"):
        read_exchange(tmp_path, "H100", 4)


@pytest.mark.skipif(not PROFILES.exists(), reason="needs the measured profiles, which are not distributed")
def test_message_sizes_count_the_elements_of_all_gpus():
    # An all-reduce is a reduce-scatter and an all-gather, so with many bytes it takes about as long as both: if they
    # counted the elements of one GPU it would take half as long, or a quarter.
    system = PROFILES / "aiconfigurator" / "rtx_pro_6000_server"
    rows = pl.read_parquet(next(system.glob("nccl-*/nccl_perf.parquet")))
    elements = 1 << 26
    for gpus in (2, 4):
        alone = rows.filter(op_name="all_reduce", nccl_dtype="half", num_gpus=gpus, message_size=elements)
        both = float(read_exchange(PROFILES, "RTXPRO6000", gpus).at(elements))
        assert both == pytest.approx(alone["latency"].item() / 1e3, rel=0.25)
