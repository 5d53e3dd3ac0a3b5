"""Capacities with other tables that are as likely."""

import functools

import pytest

import fastsim
from fastsim.errors import ConfigError
from fastsim.searching.capacity import capacity
from fastsim.searching.uncertainty import Spread, spread_of


@functools.cache
def spread_with(max_num_seqs: int, **fields) -> Spread:
    options = {"max_num_seqs": max_num_seqs}
    config = fastsim.SimulationConfig(scheduler="vllm_v1", scheduler_options=options, **fields)
    return spread_of(config, some_workload())


@functools.cache
def some_workload() -> fastsim.Workload:
    return fastsim.Workload.generate(num_requests=300, qps=5, seed=0)


def test_the_middle_is_the_capacity():
    config = fastsim.SimulationConfig(scheduler="vllm_v1", scheduler_options={"max_num_seqs": 64})
    found = spread_with(64)
    assert found.qps == capacity(config, some_workload(), tolerance=1e-3).qps
    assert found.interval[0] < found.qps < found.interval[1]
    assert 0.001 < found.half_width < 0.3
    assert len(set(found.members)) > 1


def test_a_ratio_is_known_better_than_what_it_is_of():
    found = spread_with(64).ratio(spread_with(48))
    assert found[0] > 1  # told apart
    assert found[1] / found[0] < (spread_with(64).interval[1] / spread_with(64).interval[0]) ** 0.5
    same = spread_with(64).ratio(spread_with(64))
    assert same == pytest.approx([1, 1])


def test_where_nothing_holds_there_is_no_interval():
    nothing, some = Spread(0.0, (0.0,) * 5), Spread(2.0, (1.9, 2.0, 2.1, 2.0, 1.8))
    assert nothing.interval is None
    assert nothing.half_width is None
    assert some.ratio(nothing) is None
    assert nothing.ratio(some) is None


def test_the_ratio_is_taken_member_by_member():
    one, other = Spread(2.0, (1.0, 2.0, 4.0, 2.0, 2.0)), Spread(1.0, (0.5, 1.0, 2.0, 1.0, 1.0))
    assert one.ratio(other) == pytest.approx([2.0, 2.0])
    assert one.interval[1] > 3


def test_without_estimators_there_are_no_other_tables():
    with pytest.raises(ConfigError, match="intervals"):
        spread_of(fastsim.SimulationConfig(parity="vidur", scheduler="sarathi"), some_workload())
