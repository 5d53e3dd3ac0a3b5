from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roofline_estimators import build_small

from estimators.errors import EstimatorError
from estimators.layout import TableLayout, log_index, log_points


@given(st.integers(0, 2**40), st.integers(0, 10))
def test_a_log_axis_interpolates_to_the_integer_itself(x, bits):
    index, weight = log_index(x, bits)
    below, above = log_points(int(index) + 2, bits)[-2:]
    assert 0 <= weight < 1
    assert below <= x < above
    assert below + weight * (above - below) == x


@given(st.integers(0, 2**40), st.integers(0, 10))
def test_a_log_axis_follows_its_scalar_definition(x, bits):
    shift = max(0, x.bit_length() - 1 - bits)
    index, weight = log_index(x, bits)
    assert index == (shift << bits) + (x >> shift)
    assert weight == (x & ((1 << shift) - 1)) / 2**shift


@given(st.integers(0, 2**40), st.integers(0, 10))
def test_points_rise_and_are_their_own_index(x, bits):
    count = int(log_index(x, bits)[0]) + 2
    points = log_points(count, bits)
    assert (np.diff(points) > 0).all()
    assert np.array_equal(points[: 2 ** (bits + 1)], np.arange(min(count, 2 ** (bits + 1))))
    index, weight = log_index(points, bits)
    assert np.array_equal(index, np.arange(count))
    assert not weight.any()
    # 2**bits steps per octave.
    steps = np.diff(points)[2**bits :]
    assert (steps <= points[2**bits : -1] / 2**bits).all()


@given(st.integers(1, 5000), st.integers(1, 500), st.integers(1, 2**22), st.integers(1, 2**17), st.integers(1, 2**13))
def test_every_index_that_is_served_has_a_right_neighbour(tokens, sequences, kv, history, chunk):
    layout = TableLayout(tokens, sequences, kv, history, chunk)
    assert log_index(kv, 4)[0] + 2 == layout.kv_points
    assert log_index(history, 4)[0] + 2 == layout.history_points
    assert log_index(chunk, 5)[0] + 2 == layout.chunk_points
    offsets = (layout.token_offset, layout.sequence_offset, layout.decode_offset, layout.prefill_offset, layout.size)
    sizes = (
        tokens + 1,
        sequences + 1,
        (sequences + 1) * layout.kv_points,
        layout.history_points * layout.chunk_points,
    )
    assert offsets[0] == 0
    assert tuple(np.diff(offsets)) == sizes


def test_limits_are_rounded_up_so_that_configurations_share_tables():
    assert TableLayout.covering(2000, 200, 300_000, 8000) == TableLayout.covering(2048, 256, 400_000, 8192)
    assert TableLayout.covering(2048, 256, 2**19, 8192) == TableLayout(2048, 256, 2**19, 8192, 2048)
    assert TableLayout.covering(8192, 256, 2**19, 1000).max_chunk == 1024
    assert TableLayout.covering(8192, 256, 2**19, 1000, "equivalent_chunk") == TableLayout(
        8192, 256, 2**19, 2**19, 8192
    )


def test_without_max_kv_every_request_fits_at_full_length():
    assert TableLayout.covering(2048, 256, None, 8192).max_kv == 256 * 8192
    assert TableLayout.covering(2048, 2**30, None, 2**30).max_kv == 2**40
    with pytest.raises(EstimatorError, match="max_model_len"):
        TableLayout.covering(2048, 256, None, "8192")


@pytest.mark.parametrize("field", ["max_tokens", "max_sequences", "max_kv", "max_model_len"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", 2**41])
def test_a_limit_that_is_no_count_is_refused(field, value):
    with pytest.raises(EstimatorError) as caught:
        build_small(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(("field", "value"), [("kv_bits", -1), ("chunk_bits", 11), ("max_chunk", 0), ("max_kv", 2.0)])
def test_a_layout_field_out_of_range_is_refused(field, value):
    with pytest.raises(EstimatorError) as caught:
        replace(TableLayout(1, 1, 1, 1, 1), **{field: value})
    assert caught.value.field == field
