"""What estimators see of an operator, and its roofline."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators.features import OPERATORS, Roofline, features_and_roofline, operators_of
from estimators.features.attention import seen_keys
from estimators.profiles import COLUMNS, DTYPES, ELEMENTWISE

ROOFLINE = Roofline(
    peak_flops=1e15, memory_bandwidth=3e12, num_sms=132, link_bandwidth=450e9, floor_s=1e-5, split_kv=True
)


HEADS = {"q_heads": 32, "kv_heads": 8, "head_dim": 128, "window": 0}
EXPERTS = {"hidden": 4096, "inter": 1536, "topk": 8, "experts": 128, "local_experts": 128}


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
        ("decode_attention", {"batch": 8, "kv": 500, **HEADS, "q_heads": 4, "kv_heads": 2}, 8 * 1000 * 256),
        (
            "prefill_attention",
            {"batch": 1, "chunk": 64, "history": 36, **HEADS, "q_heads": 4, "kv_heads": 2},
            200 * 256,
        ),
        ("latent_decode", {"batch": 8, "kv": 500, "heads": 16}, 8 * 500 * 576),
    ],
)
def test_what_is_quantised_moves_fewer_bytes(operator: str, columns: dict[str, float], halved: int) -> None:
    activations = 1 if operator == "gemm" else 2
    fp8 = replace(ROOFLINE, element_bytes=1, operand_bytes=activations)
    two, one = (np.exp(feature(operator, "log_bytes", roofline, **columns)) for roofline in (ROOFLINE, fp8))
    assert two - one == pytest.approx(halved, rel=1e-3)


def test_a_wave_more_than_the_multiprocessors_hold_is_seen() -> None:
    full = feature("gemm", "wave_padding_128x128", m=128 * 12, n=128 * 11, k=64)
    one_more = feature("gemm", "wave_padding_128x128", m=128 * 12 + 1, n=128 * 11, k=64)
    assert full == pytest.approx(1.0)
    assert one_more == pytest.approx(2 * 132 / 143)


def test_prefill_flops_count_history_and_half_of_the_chunk() -> None:
    shape = {"batch": 2, "chunk": 100, "history": 1000, **HEADS}
    assert np.exp(feature("prefill_attention", "log_flops", **shape)) == pytest.approx(
        4 * 2 * 32 * 128 * 100 * (1000 + 101 / 2), rel=1e-5
    )


def test_a_short_chunk_waits_for_its_history_unless_the_kernel_splits_it() -> None:
    shape = {"batch": 1, "chunk": 64, **HEADS}
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
    seconds = bound("decode_attention", batch=64, kv=4000, **HEADS)
    traffic = 2 * 64 * 2 * 128 * (32 + 8 * 4000)
    padded = 64 * 8 * 4000 * 128 * 4 * 128  # 4 of 128 rows used
    assert seconds == pytest.approx(1e-5 + traffic / 3e12 + padded / 1e15)
    short = {"batch": 64, **HEADS}
    growth = bound("decode_attention", kv=100, **short) - bound("decode_attention", kv=1, **short)
    assert growth == pytest.approx(2 * 64 * 2 * 128 * 8 * 99 / 3e12)  # one step of the loop either way


def test_ungrouped_decode_leaves_multiprocessors_idle_unless_the_kernel_splits_it() -> None:
    shape = {"batch": 1, "kv": 65536, "kv_heads": 4, "head_dim": 128, "window": 0}
    whole = replace(ROOFLINE, split_kv=False)
    assert bound("decode_attention", whole, q_heads=4, **shape) > 10 * bound("decode_attention", q_heads=4, **shape)
    assert bound("decode_attention", whole, q_heads=8, **shape) == bound("decode_attention", q_heads=8, **shape)


def test_a_window_keeps_older_kernels_from_packing_the_heads_of_a_group() -> None:
    shape = {"batch": 64, "kv": 512, **HEADS}
    whole = replace(ROOFLINE, split_kv=False)
    windowed = {**shape, "window": 1024}
    assert bound("decode_attention", whole, **shape) == bound("decode_attention", **shape)
    assert bound("decode_attention", whole, **windowed) > 1.5 * bound("decode_attention", **windowed)
    # A prompt's chunk of one token is such a decode, too.
    chunk = {"batch": 1, "chunk": 1, "history": 65535, **HEADS}
    assert bound("prefill_attention", whole, **{**chunk, "window": 131072}) > 3 * bound(
        "prefill_attention", whole, **chunk
    )


def test_all_reduce_sends_what_a_ring_sends() -> None:
    assert bound("all_reduce", gpus=4, elements=1 << 20) == pytest.approx(1e-5 + 1.5 * (1 << 21) / 450e9)


def test_what_has_32_bits_moves_twice_the_bytes() -> None:
    fp32 = replace(ROOFLINE, element_bytes=4, operand_bytes=4)
    moved = {
        "gemm": {"m": 64, "n": 4096, "k": 1024},
        "decode_attention": {"batch": 8, "kv": 500, **HEADS},
        "prefill_attention": {"batch": 1, "chunk": 64, "history": 36, **HEADS},
        "latent_prefill": {"batch": 1, "chunk": 64, "history": 36, "heads": 16},
        "latent_decode": {"batch": 8, "kv": 500, "heads": 16},
        "all_reduce": {"gpus": 4, "elements": 1 << 20},
        "norm": {"tokens": 64, "width": 4096},
    }
    for operator, columns in moved.items():
        two, four = (feature(operator, "log_bytes", roofline, **columns) for roofline in (ROOFLINE, fp32))
        assert four - two == pytest.approx(np.log(2), rel=1e-5), operator


def test_element_wise_operators_move_what_they_read_and_write() -> None:
    shape = {"tokens": 100, "width": 4096}
    assert bound("norm", **shape) == pytest.approx(1e-5 + 4 * 2 * 409600 / 3e12)
    assert bound("activation", **shape) == pytest.approx(1e-5 + 3 * 2 * 409600 / 3e12)
    assert bound("logits_cast", **shape) == pytest.approx(1e-5 + (2 + 4) * 409600 / 3e12)
    assert bound("sampling", **shape) == pytest.approx(1e-5 + 4 * 409600 / 3e12)


def test_other_collectives_send_it_once() -> None:
    for operator in ("all_gather", "reduce_scatter", "all_to_all"):
        assert bound(operator, gpus=4, elements=1 << 20) == pytest.approx(1e-5 + 0.75 * (1 << 21) / 450e9)


def test_operators_and_their_columns_are_those_of_the_profiles() -> None:
    assert {name: operator.columns for name, operator in OPERATORS.items()} == COLUMNS
    for dtype in ("bf16", "fp8", "fp8_block", "nvfp4", "mxfp4", "int4"):
        assert operators_of(dtype) == tuple(name for name in OPERATORS if dtype in DTYPES[name])
    assert operators_of("fp7") == ()


@given(chunk=st.integers(1, 300), history=st.integers(0, 300), window=st.integers(0, 400))
def test_keys_seen_through_a_window_are_counted_one_by_one(chunk: int, history: int, window: int) -> None:
    counted = sum(min(position + 1, window or position + 1) for position in range(history, history + chunk))
    columns = (np.array([value], dtype=np.float64) for value in (chunk, history, window))
    assert seen_keys(*columns)[0] == pytest.approx(counted)


def test_a_window_bounds_what_attention_reads_and_multiplies() -> None:
    window = {**HEADS, "window": 1024}
    far, near = ({"batch": 16, "kv": kv} for kv in (100_000, 1024))
    assert bound("decode_attention", **far, **window) == bound("decode_attention", **near, **HEADS)
    assert feature("decode_attention", "windowed", **far, **window) == 1
    assert feature("decode_attention", "windowed", **near, **window) == 0
    chunk = {"batch": 1, "chunk": 512}
    late, later = (bound("prefill_attention", history=history, **chunk, **window) for history in (8192, 65536))
    assert late == later
    assert late < 0.5 * bound("prefill_attention", history=8192, **chunk, **HEADS)


def test_latent_decode_reads_one_key_for_all_heads() -> None:
    # 576 numbers of a token, whose 512 are the value; queries and results of every head beside them.
    seconds = bound("latent_decode", batch=4, kv=10_000, heads=128)
    traffic = 2 * 4 * (10_000 * 576 + 128 * 1088)
    assert seconds == pytest.approx(1e-5 + traffic / 3e12 + 2 * 4 * 128 * 10_000 * 1088 / 1e15)


def test_latent_prefill_multiplies_192_and_128_numbers_of_a_pair() -> None:
    flops = np.exp(feature("latent_prefill", "log_flops", batch=2, chunk=100, history=50, heads=16))
    assert flops == pytest.approx(2 * 2 * 16 * 320 * 100 * (50 + 101 / 2), rel=1e-5)


def test_each_head_has_a_matrix_in_a_latent_product() -> None:
    seconds = bound("latent_bmm", tokens=64, heads=16, n=512, k=128)
    traffic = 2 * 16 * (64 * 128 + 512 * 128 + 64 * 512)
    assert seconds == pytest.approx(1e-5 + 2 * 16 * 64 * 512 * 128 / 1e15 + traffic / 3e12)


def experts_read(tokens: int, load: int = 0, local: int = 128) -> float:
    shape = {**EXPERTS, "local_experts": local}
    return float(np.exp(feature("moe", "log_chosen", tokens=tokens, load=load, **shape)))


def test_only_chosen_experts_are_read() -> None:
    assert [experts_read(tokens) for tokens in (1, 4, 16, 4096)] == pytest.approx([8, 32, 128, 128])
    assert experts_read(4, local=32) == pytest.approx(8)


def test_an_uneven_load_reads_fewer_experts_and_fills_the_busiest_gpu() -> None:
    assert experts_read(16, load=120) < experts_read(16, load=101) < experts_read(16)
    rows = {
        load: feature(
            "moe",
            "log_rows",
            tokens=4096,
            load=load,
            **EXPERTS,
        )
        for load in (0, 120)
    }
    assert rows[120] == pytest.approx(rows[0], abs=0.05)  # all experts are here: as many rows
    shape = {**EXPERTS, "local_experts": 16}
    even, uneven = (feature("moe", "log_rows", tokens=4096, load=load, **shape) for load in (0, 120))
    assert 1.2 < np.exp(uneven - even) < 8


def test_experts_pay_for_their_weights_and_for_padded_rows() -> None:
    one, full = (bound("moe", tokens=tokens, load=0, **EXPERTS) for tokens in (1, 8192))
    weights = 2 * 3 * 4096 * 1536
    assert one == pytest.approx(1e-5 + 8 * weights / 3e12 + 8 * 16 * 6 * 4096 * 1536 / 1e15, rel=0.01)
    assert full == pytest.approx(1e-5 + 128 * weights / 3e12 + 8192 * 8 * 6 * 4096 * 1536 / 1e15, rel=0.3)
    quantised = replace(ROOFLINE, element_bytes=0.5)
    assert bound("moe", quantised, tokens=1, load=0, **EXPERTS) < 0.4 * one


GROWING = {
    "gemm": ("m", {"n": 4096, "k": 4096}),
    "prefill_attention": ("history", {"batch": 1, "chunk": 256, **HEADS}),
    "decode_attention": ("kv", {"batch": 32, **HEADS}),
    "latent_prefill": ("chunk", {"batch": 1, "history": 0, "heads": 16}),
    "latent_decode": ("kv", {"batch": 32, "heads": 16}),
    "latent_bmm": ("tokens", {"heads": 16, "n": 512, "k": 128}),
    "moe": ("tokens", {**EXPERTS, "load": 120}),
    **{name: ("elements", {"gpus": 8}) for name in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")},
    **{name: ("tokens", {"width": 4096}) for name in ELEMENTWISE},
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_rooflines_grow_without_end_and_without_a_fall(operator: str) -> None:
    growing, shape = GROWING[operator]
    values = np.unique(np.geomspace(1, 1 << 26, 200).round())
    columns = {name: np.full(values.size, float(value)) for name, value in shape.items()} | {growing: values}
    seconds = features_and_roofline(operator, columns, ROOFLINE)[1]
    assert (np.diff(seconds) >= -1e-3 * seconds[:-1]).all()
    assert seconds[-1] > 1.7 * seconds[values.searchsorted(1 << 25)]
