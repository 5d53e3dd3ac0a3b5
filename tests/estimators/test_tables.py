import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roofline_estimators import build_small, random_arrays

from estimators.errors import EstimatorError
from estimators.tables import IterationTables, TableLayout


def test_arrays_come_back_as_given():
    given_arrays = random_arrays()
    tables = IterationTables.from_arrays(**given_arrays, provenance={"source": "test"})
    for name in ("token_s", "sequence_s", "decode_s", "prefill_s"):
        assert np.array_equal(getattr(tables, name), given_arrays[name])
    assert tables.provenance == {"source": "test"}
    assert not tables.values.flags.writeable
    assert tables.values.size == tables.layout.size


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_s", np.ones(1)),
        ("token_s", np.ones((2, 2))),
        ("token_s", ["a"]),
        ("sequence_s", np.array(1.0)),
        ("decode_s", np.ones((3, 5))),
        ("prefill_s", np.ones(7)),
        ("max_kv", 0),
        ("max_history", None),
    ],
)
def test_a_wrong_shape_is_refused_by_name(field, value):
    with pytest.raises(EstimatorError) as caught:
        IterationTables.from_arrays(**{**random_arrays(), field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["token_s", "sequence_s", "decode_s", "prefill_s"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1e-9])
def test_a_value_that_is_no_duration_is_refused_by_name(field, bad):
    given_arrays = random_arrays()
    given_arrays[field].flat[-1] = bad
    with pytest.raises(EstimatorError) as caught:
        IterationTables.from_arrays(**given_arrays)
    assert caught.value.field == field
    assert caught.value.value == pytest.approx(bad, nan_ok=True)


def test_a_wrong_rule_or_flat_array_is_refused():
    with pytest.raises(EstimatorError, match="equivalent_chunk"):
        IterationTables.from_arrays(**random_arrays(), prefill_rule="product")
    with pytest.raises(EstimatorError, match="equivalent_chunk"):
        build_small(prefill_rule="product")
    layout = TableLayout(1, 1, 1, 1, 1)
    for values in (np.zeros(layout.size - 1), np.zeros(layout.size, np.float32), np.zeros(2 * layout.size)[::2]):
        with pytest.raises(EstimatorError, match="values"):
            IterationTables(values, layout)


def scalar_lookup(row, x, bits):
    shift = max(0, x.bit_length() - 1 - bits)
    index, weight = (shift << bits) + (x >> shift), (x & ((1 << shift) - 1)) / 2**shift
    return row[index] + (row[index + 1] - row[index]) * weight


@given(
    st.integers(0, 4), st.integers(0, 2), st.integers(0, 2), st.integers(0, 40), st.integers(0, 70), st.integers(1, 130)
)
def test_lookups_equal_the_scalar_definition_to_the_last_bit(tokens, sequences, decodes, kv, history, chunk):
    tables = IterationTables.from_arrays(**random_arrays())
    decode = scalar_lookup(tables.decode_s[decodes], kv, 4) if decodes else 0.0
    shift = max(0, history.bit_length() - 5)
    row, weight = (shift << 4) + (history >> shift), (history & ((1 << shift) - 1)) / 2**shift
    below, above = (scalar_lookup(tables.prefill_s[i], chunk, 5) for i in (row, row + 1))
    prefill = 0.0 + (below + (above - below) * weight)
    assert tables.decode_time_s(decodes, kv) == decode
    assert tables.prefill_time_s(history, chunk) == prefill
    expected = ((tables.token_s[tokens] + tables.sequence_s[sequences]) + decode) + prefill
    assert tables.iteration_time_s(tokens, sequences, decodes, kv, [(history, chunk)]) == expected


def test_lookups_take_arrays():
    tables = IterationTables.from_arrays(**random_arrays())
    kv = np.arange(41)
    together = tables.decode_time_s(np.array([[0], [1], [2]]), kv)
    assert together.shape == (3, 41)
    assert not together[0].any()
    assert together[2, 37] == tables.decode_time_s(2, 37)


@pytest.mark.parametrize("rule", ["sum", "equivalent_chunk"])
def test_the_rules_for_several_chunks(rule):
    tables = IterationTables.from_arrays(**random_arrays(), prefill_rule=rule)
    chunks = [(10, 30), (20, 40), (5, 7)]
    prefill = tables.iteration_time_s(0, 0, chunks=chunks) - tables.iteration_time_s(0, 0)
    if rule == "sum":
        expected = sum(float(tables.prefill_time_s(*chunk)) for chunk in chunks)
    else:
        expected = float(tables.prefill_time_s(35, 50))  # sqrt(900 + 1600 + 49) = 50.49
    assert prefill == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((5, 1), "n_tokens"),
        ((-1, 1), "n_tokens"),
        ((1, 3), "n_sequences"),
        ((1, 1, 3, 1), "n_decode"),
        ((1, 1, 1, 41), "kv"),
        ((1, 1, 0, 0, [(71, 1)]), "history"),
        ((1, 1, 0, 0, [(0, 131)]), "chunk"),
        ((1, 1, 0, 0, [(0, 0)]), "chunk"),
        ((1.5, 1), "n_tokens"),
    ],
)
def test_a_lookup_outside_the_tables_is_refused(arguments, field):
    with pytest.raises(EstimatorError) as caught:
        IterationTables.from_arrays(**random_arrays()).iteration_time_s(*arguments)
    assert caught.value.field == field
