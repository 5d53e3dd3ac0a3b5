"""The log axis and the composition of an iteration's time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.tables import LogAxis, ReferenceTables
from reference_tests.builders import build_tables

BITS = st.integers(0, 7)
VALUES = st.integers(0, 2**40)


def test_log_axis_by_hand() -> None:
    """Two bits: 0 to 7 one by one, then four steps per octave."""
    axis = LogAxis("x", 20, 2)
    assert [axis.point(i) for i in range(14)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20]
    assert [axis.index(x) for x in (0, 7, 8, 9, 10, 15, 16, 19, 20)] == [0, 7, 8, 8, 9, 11, 12, 12, 13]
    assert [axis.weight(x) for x in (7, 8, 9, 16, 17, 19)] == [0.0, 0.0, 0.5, 0.0, 0.25, 0.75]
    assert axis.num_points == 15


@given(BITS, st.integers(0, 500))
def test_index_inverts_point(bits: int, index: int) -> None:
    axis = LogAxis("x", 0, bits)
    assert axis.index(axis.point(index)) == index
    assert axis.weight(axis.point(index)) == 0.0
    assert axis.point(index) < axis.point(index + 1)


@given(BITS, VALUES)
def test_value_lies_in_its_segment(bits: int, x: int) -> None:
    axis = LogAxis("x", x, bits)
    below, above = axis.point(axis.index(x)), axis.point(axis.index(x) + 1)
    assert below <= x < above
    assert below + (above - below) * axis.weight(x) == x
    assert above - below <= max(1, x >> bits)
    assert axis.index(x) + 1 == axis.num_points - 1


@given(BITS, VALUES, VALUES)
def test_index_is_monotone(bits: int, x: int, y: int) -> None:
    axis = LogAxis("x", 0, bits)
    assert (axis.index(min(x, y)), axis.weight(min(x, y))) <= (axis.index(max(x, y)), axis.weight(max(x, y)))


def test_flat_layout() -> None:
    """One number per cell, by hand: max 8, 1 bit: points 0 1 2 3 4 6 8 12 (index(8) = 6, and two more)."""
    layout = {"max_tokens": 2, "max_sequences": 1, "max_kv": 8, "max_history": 3, "max_chunk": 2}
    bits = {"kv_bits": 1, "history_bits": 1, "chunk_bits": 1}
    size = 3 + 2 + 2 * 8 + 5 * 4
    tables = ReferenceTables.from_dict({"values": range(size), **layout, **bits})
    assert (tables.sequence_offset, tables.decode_offset, tables.prefill_offset, tables.size) == (3, 5, 21, 41)
    assert tables.decode_s(1, 6) == 5 + 8 + 5
    assert tables.decode_s(1, 7) == 5 + 8 + 5.5
    assert tables.chunk_s(3, 2) == 21 + 3 * 4 + 2
    assert tables.iteration_s(2, 1, 1, 6, [(3, 2)]) == 2 + 4 + 18 + 35
    with pytest.raises(ValueError, match="values holds 40 numbers, the layout asks for 41"):
        ReferenceTables.from_dict({"values": range(size - 1), **layout, **bits})
    with pytest.raises(ValueError, match="unknown table fields"):
        ReferenceTables.from_dict({"values": range(size), **layout, **bits, "bits": 3})


@given(st.integers(0, 16), st.integers(0, 1024), st.integers(0, 256), st.integers(0, 64))
def test_linear_costs_are_exact(decodes: int, kv: int, history: int, chunk: int) -> None:
    """Interpolation of a (bi)linear cost gives the cost itself between the points, too."""
    tables = build_tables(
        token=lambda n: n,
        sequence=lambda n: 1000.0 * n,
        decode=lambda n, kv: 7.0 * n + 3.0 * kv,
        prefill=lambda h, c: (2.0 * h + 5.0) * (c + 4.0),
    )
    chunk_s = (2.0 * history + 5.0) * (chunk + 4.0)
    decode_s = 7.0 * decodes + 3.0 * kv if decodes else 0.0
    assert tables.iteration_s(9, 11, decodes, kv, [(history, chunk)]) == 11009.0 + decode_s + chunk_s
    assert tables.iteration_s(9, 11, decodes, kv, [(history, chunk)] * 3) == 11009.0 + decode_s + 3 * chunk_s


def test_order_of_additions() -> None:
    """The last bits tell ((token + sequence) + decode) + prefill from other orders."""
    tables = build_tables(
        token=lambda _: 1.0,
        sequence=lambda _: 2.0**-53,
        decode=lambda _n, _kv: 2.0**-53,
        prefill=lambda _h, _c: 2.0**-53,
    )
    assert tables.iteration_s(1, 1, 1, 1, []) == 1.0
    assert tables.iteration_s(1, 1, 1, 1, [(0, 1)]) == 1.0
    assert tables.iteration_s(1, 1, 1, 1, [(0, 1)] * 2) == 1.0 + 2.0**-52


def test_chunks_are_added_in_batch_order() -> None:
    tables = build_tables(prefill=lambda _h, c: 1.0 if c == 3 else 2.0**-53)
    assert tables.prefill_s([(0, 3), (0, 1), (0, 1)]) == 1.0
    assert tables.prefill_s([(0, 1), (0, 1), (0, 3)]) == 1.0 + 2.0**-52


@pytest.mark.parametrize(
    ("chunks", "history", "chunk"),
    [([(7, 5)], 7, 5), ([(2, 3), (5, 4)], 7, 5), ([(1, 1), (1, 1), (2, 1)], 4, 2), ([(0, 2), (0, 1)], 0, 2)],
)
def test_equivalent_chunk(chunks: list[tuple[int, int]], history: int, chunk: int) -> None:
    """Histories add up; chunks by the root of their squares: sqrt(3) rounds up, sqrt(5) down."""
    tables = build_tables(prefill=lambda h, c: 100.0 * h + c, prefill_rule="equivalent_chunk")
    assert tables.prefill_s(chunks) == 100.0 * history + chunk


def test_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="prefill_rule is 'mean'"):
        build_tables(prefill_rule="mean")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((65, 1, 0, 0, []), "tokens is 65"),
        ((1, 17, 0, 0, []), "sequences is 17"),
        ((1, 1, 17, 1, []), "decodes is 17"),
        ((1, 1, 1, 1025, []), "decode kv is 1025"),
        ((1, 1, 0, 0, [(257, 1)]), "history is 257"),
        ((1, 1, 0, 0, [(0, 65)]), "chunk is 65"),
        ((-1, 1, 0, 0, []), "tokens is -1"),
    ],
)
def test_counts_beyond_the_tables_are_refused(
    arguments: tuple[int, int, int, int, list[tuple[int, int]]], message: str
) -> None:
    """In a flat list they would read a neighbour."""
    with pytest.raises(ValueError, match=message):
        build_tables().iteration_s(*arguments)
