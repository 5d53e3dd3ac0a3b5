"""What the best configuration for one workload costs on another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_frames import frame_of, row, some_frame

from fastsim.searching.mismatch import mismatch

WORKLOADS = ("chat", "code", "paper")
CAPACITIES = st.lists(st.tuples(*[st.one_of(st.none(), st.floats(0, 50))] * 3), min_size=1, max_size=8)


@given(CAPACITIES)
def test_a_factor_is_at_least_one_and_one_on_the_own_workload(table: list[tuple]):
    rows = [row(str(i), values[j], workload) for j, workload in enumerate(WORKLOADS) for i, values in enumerate(table)]
    found = mismatch(frame_of(rows))
    served = [any(value for values in table if (value := values[j])) for j in range(3)]
    assert len(found) == sum(served) ** 2
    for one in found.iter_rows(named=True):
        assert one["factor"] is None or one["factor"] >= 1
        assert one["least_factor"] is None or one["factor"] is None or 1 <= one["least_factor"] <= one["factor"]
        if one["best_on"] == one["run_on"]:
            assert one["factor"] == 1


def test_the_cost_is_that_of_a_request():
    rows = [row("a", 10, "chat"), row("b", 8, "chat"), row("a", 2, "code"), row("b", 5, "code")]
    found = {(one["best_on"], one["run_on"]): one for one in mismatch(frame_of(rows)).iter_rows(named=True)}
    assert {pair: one["factor"] for pair, one in found.items()} == {
        ("chat", "chat"): 1.0,
        ("chat", "code"): 2.5,
        ("code", "chat"): 1.25,
        ("code", "code"): 1.0,
    }
    assert found["chat", "code"]["config_id"] == "a"
    assert found["chat", "code"]["value"] == 2 * 1800
    assert found["chat", "code"]["best"] == 5 * 1800


def test_of_ties_the_one_that_does_best_elsewhere_is_told():
    rows = [row("a", 10, "chat"), row("b", 9.95, "chat"), row("a", 2, "code"), row("b", 4, "code"), row("c", 5, "code")]
    found = mismatch(frame_of(rows)).filter(best_on="chat", run_on="code")
    assert found.select("config_id", "factor", "least_factor").rows() == [("a", 2.5, 1.25)]


def test_what_fails_or_was_not_run_elsewhere_has_no_factor():
    rows = [row("a", 10, "chat"), row("b", 8, "chat"), row("a", 0.0, "code"), row("b", 5, "code")]
    rows += [row("a", None, "paper"), row("b", 1, "paper")]
    found = mismatch(frame_of(rows)).filter(best_on="chat")
    assert found["factor"].to_list() == [1.0, None, None]
    assert found["value"].to_list() == [10 * 1800, None, None]


def test_models_are_kept_apart():
    found = mismatch(some_frame())
    assert found["model"].to_list() == ["small"] * 4 + ["large"] * 4
    assert found.filter(model="small", best_on="chat", run_on="code")["factor"].item() == pytest.approx(2.5)


def test_where_nothing_holds_there_is_nothing():
    assert mismatch(frame_of([row("a", 0.0), row("b", None)])).is_empty()
