"""Features, rooflines, training and held-out errors."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.features import OPERATORS, Roofline, features_and_roofline
from estimators.forest import TrainingSet, fit, held_out_errors, profiled_ranges

ROOFLINE = Roofline(
    peak_flops=1e15, memory_bandwidth=3e12, num_sms=132, link_bandwidth=450e9, floor_s=1e-5, split_kv=True
)


def arrays(**columns: float) -> dict[str, np.ndarray]:
    return {name: np.array([value], dtype=np.float64) for name, value in columns.items()}


def feature(operator: str, name: str, roofline: Roofline = ROOFLINE, **columns: float) -> float:
    values, _ = features_and_roofline(operator, arrays(**columns), roofline)
    return float(values[0, OPERATORS[operator].features.index(name)])


def bound(operator: str, roofline: Roofline = ROOFLINE, **columns: float) -> float:
    return float(features_and_roofline(operator, arrays(**columns), roofline)[1][0])


@pytest.mark.parametrize("operator", OPERATORS)
@given(data=st.data())
def test_features_are_finite_and_named(operator: str, data: st.DataObject) -> None:
    least = OPERATORS[operator].columns
    columns = {name: data.draw(st.floats(low, 1e6)) for name, low in least.items()}
    values, seconds = features_and_roofline(operator, arrays(**columns), ROOFLINE)
    assert values.dtype == np.float32
    assert values.shape == (1, len(OPERATORS[operator].features))
    assert np.isfinite(values).all()
    assert np.isfinite(seconds).all()
    assert seconds[0] >= ROOFLINE.floor_s


def test_gemm_roofline_is_floor_plus_arithmetic_plus_traffic() -> None:
    expected = 1e-5 + 2 * 64 * 4096 * 1024 / 1e15 + 2 * (64 * 1024 + 4096 * 1024 + 64 * 4096) / 3e12
    assert bound("gemm", m=64, n=4096, k=1024) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("operator", "columns", "halved"),
    [
        ("gemm", {"m": 64, "n": 4096, "k": 1024}, 64 * 1024 + 4096 * 1024),
        ("decode_attention", {"batch": 8, "kv": 500, "q_heads": 4, "kv_heads": 2, "head_dim": 128}, 8 * 1000 * 256),
        (
            "prefill_attention",
            {"batch": 1, "chunk": 64, "history": 36, "q_heads": 4, "kv_heads": 2, "head_dim": 128},
            200 * 256,
        ),
    ],
)
def test_what_is_quantised_moves_fewer_bytes(operator: str, columns: dict[str, float], halved: int) -> None:
    two, one = (features_and_roofline(operator, arrays(**columns), ROOFLINE, size)[0][0] for size in (2, 1))
    position = OPERATORS[operator].features.index("log_bytes")
    assert np.exp(two[position]) - np.exp(one[position]) == pytest.approx(halved, rel=1e-3)


def test_a_wave_more_than_the_multiprocessors_hold_is_seen() -> None:
    full = feature("gemm", "wave_padding_128x128", m=128 * 12, n=128 * 11, k=64)
    one_more = feature("gemm", "wave_padding_128x128", m=128 * 12 + 1, n=128 * 11, k=64)
    assert full == pytest.approx(1.0)
    assert one_more == pytest.approx(2 * 132 / 143)


def test_prefill_flops_count_history_and_half_of_the_chunk() -> None:
    shape = {"batch": 2, "chunk": 100, "history": 1000, "q_heads": 32, "kv_heads": 8, "head_dim": 128}
    assert np.exp(feature("prefill_attention", "log_flops", **shape)) == pytest.approx(
        4 * 2 * 32 * 128 * 100 * (1000 + 101 / 2), rel=1e-5
    )


def test_a_short_chunk_waits_for_its_history_unless_the_kernel_splits_it() -> None:
    shape = {"batch": 1, "chunk": 64, "q_heads": 32, "kv_heads": 8, "head_dim": 128}
    whole = replace(ROOFLINE, split_kv=False)

    def growth(roofline: Roofline) -> float:
        return bound("prefill_attention", roofline, history=16384, **shape) - bound(
            "prefill_attention", roofline, history=8192, **shape
        )

    # 32 tiles of one head each, every one on its own multiprocessor, loop over all keys.
    one_multiprocessor = 8192 * 128 * 4 * 128 / (1e15 / 132)
    traffic = 2 * 8192 * 2 * 8 * 128 / 3e12
    assert growth(whole) == pytest.approx(one_multiprocessor + traffic)
    assert growth(ROOFLINE) < growth(whole) / 3


def test_decodes_read_their_cache_and_fill_their_tiles() -> None:
    seconds = bound("decode_attention", batch=64, kv=4000, q_heads=32, kv_heads=8, head_dim=128)
    traffic = 2 * 64 * 2 * 128 * (32 + 8 * 4000)
    padded = 64 * 8 * 4000 * 128 * 4 * 128  # 4 of 128 rows used
    assert seconds == pytest.approx(1e-5 + traffic / 3e12 + padded / 1e15)
    short = {"batch": 64, "q_heads": 32, "kv_heads": 8, "head_dim": 128}
    growth = bound("decode_attention", kv=100, **short) - bound("decode_attention", kv=1, **short)
    assert growth == pytest.approx(2 * 64 * 2 * 128 * 8 * 99 / 3e12)  # one step of the loop either way


def test_ungrouped_decode_leaves_multiprocessors_idle_unless_the_kernel_splits_it() -> None:
    shape = {"batch": 1, "kv": 65536, "kv_heads": 4, "head_dim": 128}
    whole = replace(ROOFLINE, split_kv=False)
    assert bound("decode_attention", whole, q_heads=4, **shape) > 10 * bound("decode_attention", q_heads=4, **shape)
    assert bound("decode_attention", whole, q_heads=8, **shape) == bound("decode_attention", q_heads=8, **shape)


def test_all_reduce_sends_what_a_ring_sends() -> None:
    assert bound("all_reduce", gpus=4, elements=1 << 20) == pytest.approx(1e-5 + 1.5 * (1 << 21) / 450e9)


def gemms() -> TrainingSet:
    """Rows of 60 shapes (n, k), each with an efficiency of its own, at 10 values of m."""
    generator = np.random.default_rng(7)
    n, k = generator.choice(np.arange(1, 200), size=(2, 60)) * 64.0
    efficiency = np.repeat(generator.uniform(0.3, 0.9, size=60), 10)
    columns = {"m": np.tile(2.0 ** np.arange(10), 60), "n": np.repeat(n, 10), "k": np.repeat(k, 10)}
    _, roofline_s = features_and_roofline("gemm", columns, ROOFLINE)
    return TrainingSet.of("gemm", columns, roofline_s / efficiency, ROOFLINE)


def test_same_rows_and_seed_give_the_same_forest_on_any_number_of_threads() -> None:
    rows = gemms()
    several = fit(rows.features, rows.target, seed=3)
    single = fit(rows.features, rows.target, seed=3).set_params(n_jobs=1).fit(rows.features, rows.target)
    other = fit(rows.features, rows.target, seed=4)
    for tree, same, different in zip(several, single, other, strict=True):
        np.testing.assert_array_equal(tree.tree_.threshold, same.tree_.threshold)
        np.testing.assert_array_equal(tree.tree_.value, same.tree_.value)
        assert not np.array_equal(tree.tree_.threshold, different.tree_.threshold)


def test_unseen_shapes_are_harder_than_unseen_rows_when_every_shape_differs() -> None:
    errors = held_out_errors(gemms(), seed=0)
    assert list(errors) == ["shapes", "between", "rows"]
    assert errors["rows"]["mean"] < 0.05
    assert errors["shapes"]["mean"] > 0.2


def test_the_worst_region_is_where_time_cannot_be_learned() -> None:
    rows = gemms()
    seconds = rows.seconds.copy()
    lost = rows.columns["m"] == 64
    seconds[lost] *= np.random.default_rng(1).uniform(1, 20, size=lost.sum())
    worst = held_out_errors(TrainingSet.of("gemm", rows.columns, seconds, ROOFLINE), seed=0)["rows"]["worst"]
    assert (worst["column"], worst["range"], worst["rows"]) == ("m", [64, 64], 60)


def test_profiled_ranges_are_lowest_and_highest() -> None:
    rows = gemms()
    assert profiled_ranges(rows)["m"] == [1.0, 512.0]
    assert profiled_ranges(rows)["n"] == [rows.columns["n"].min(), rows.columns["n"].max()]
