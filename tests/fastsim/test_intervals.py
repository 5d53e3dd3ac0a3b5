"""Intervals: what a few other tables, as likely as the estimates, make of the metrics."""

import re
import warnings

import pytest
from plain_tables import plain_config, plain_tables
from simulate_calls import some_workload, without_wall_time

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload
from fastsim.commands.summary import render
from fastsim.intervals import COVERAGE, MEMBERS, describe_intervals, half_width, interval
from fastsim.profiled_range import ProfiledRangeWarning

#: What the iteration times of the members are multiplied by.
FACTORS = (1.0, 1.1, 1 / 1.1, 1.0, 1 / 1.1, 1.1)
#: Seconds by iteration and by token.
TIMES = 0.01, 1e-5


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for the estimators; the list has the members that were asked for."""
    asked: list[int] = []

    def tables(config: SimulationConfig, names_blocks: bool = False, member: int = 0):
        asked.append(member)
        provenance = {"profiled": {"tokens": [1, 50]}}
        return plain_tables(config, *(FACTORS[member] * seconds for seconds in TIMES), provenance=provenance)

    monkeypatch.setattr("fastsim.preparing.tables_for", tables)
    return asked


def test_an_interval_is_the_spread_about_the_estimate():
    low, high = interval(2.0, [2.2, 2.0, 2.0 / 1.1])
    assert (low, high) == (pytest.approx(2.0 / 1.1**1.645), pytest.approx(2.0 * 1.1**1.645))
    # Members that are all off to one side do not agree with the estimate.
    assert interval(2.0, [2.2, 2.2])[1] > 2.2
    assert half_width([low, high]) == pytest.approx(1.1**1.645 - 1)


@pytest.mark.parametrize(("estimate", "members"), [(None, [None]), (0.0, [0.0]), (1.0, [0.0]), (1.0, [None])])
def test_what_has_no_logarithm_has_no_interval(estimate: float | None, members: list):
    assert interval(estimate, members) is None
    assert half_width(None) is None


@pytest.mark.filterwarnings("ignore::fastsim.profiled_range.ProfiledRangeWarning")
def test_intervals_are_in_the_summary_where_they_are_asked_for(members: list[int]):
    config, workload = plain_config(16, 128), some_workload(60, qps=0.01)
    plain = fastsim.simulate(config, workload)
    result = fastsim.simulate(config, workload, intervals=True)
    assert sorted(members) == [0, *range(MEMBERS + 1)]
    found = result.summary.pop("intervals")
    assert without_wall_time(result.summary) == without_wall_time(plain.summary)
    assert (found["coverage"], found["members"]) == (COVERAGE, MEMBERS)
    # Requests that are served alone take as long as their iterations.
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        for statistic in ("mean", "p50", "p90", "p99"):
            value = plain.summary["metrics"][name][statistic]
            expected = [value / 1.1**1.645, value * 1.1**1.645]
            assert found["metrics"][name][statistic] == pytest.approx(expected, rel=0.01)
    # Clients that send little are served at the rate at which they send.
    assert half_width(found["metrics"]["throughput_requests_per_s"]) < 0.01


def test_one_run_warns_once(members: list[int]):
    config, workload = plain_config(16, 128), some_workload(20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fastsim.simulate(config, workload, intervals=True)
        fastsim.simulate_many([config], workload, intervals=True)
    found = [warning.filename for warning in caught if warning.category is ProfiledRangeWarning]
    assert found == [__file__] * 2


@pytest.mark.filterwarnings("ignore::fastsim.profiled_range.ProfiledRangeWarning")
@pytest.mark.parametrize("threads", [1, 3, None])
def test_intervals_do_not_depend_on_the_number_of_threads(members: list[int], threads: int | None):
    configs = [plain_config(16, 128, replicas=replicas, record_batches=replicas == 2) for replicas in (1, 2)]
    workloads = [some_workload(100, seed=seed) for seed in range(2)]
    many = fastsim.simulate_many(configs, workloads, threads, intervals=True)
    for result, config, workload in zip(many, configs, workloads, strict=True):
        alone = fastsim.simulate(config, workload, intervals=True)
        assert result.summary["intervals"] == alone.summary["intervals"]


def test_intervals_of_what_has_no_estimators_are_refused():
    config, workload = plain_config(16, 128), Workload.from_arrays([0.0], [10], [4])
    tables = plain_tables(config, 0.01)
    for call in (
        lambda: fastsim.simulate(config, workload, tables, intervals=True),
        lambda: fastsim.simulate_many([config], workload, tables=[tables], intervals=True),
    ):
        with pytest.raises(ConfigError, match="tables were given; leave out the intervals, or the tables") as caught:
            call()
        assert caught.value.field == "intervals"
    vidur = SimulationConfig(parity="vidur", scheduler="sarathi")
    with pytest.raises(ConfigError, match="parity = 'vidur'"):
        fastsim.simulate(vidur, workload, intervals=True)


def test_metrics_without_a_number_have_no_interval():
    none = dict.fromkeys(("mean", "p50", "p90", "p99"))
    latency = dict.fromkeys(none, 1.0)
    metrics = dict.fromkeys(("ttft_s", "tbt_s", "e2e_s"), latency) | {"tpot_s": none}
    metrics |= {f"throughput_{of}_per_s": 2.0 for of in ("requests", "output_tokens", "tokens")}
    found = describe_intervals(metrics, [metrics] * 5)["metrics"]
    assert found["tpot_s"] == none
    assert found["ttft_s"]["p99"] == [1.0, 1.0]


@pytest.mark.filterwarnings("ignore::fastsim.profiled_range.ProfiledRangeWarning")
def test_the_text_says_how_far_a_number_may_be_off(members: list[int]):
    config, workload = plain_config(16, 128), some_workload(30)
    plain = render(fastsim.simulate(config, workload).summary).splitlines()
    lines = render(fastsim.simulate(config, workload, intervals=True).summary).splitlines()
    assert all(len(line) <= 120 for line in lines)
    (tpot,) = (i for i, line in enumerate(lines) if line.startswith("TPOT"))
    assert re.fullmatch(r"( +± 17\.\d%){4}", lines[tpot + 1])  # 1.1 ** 1.645 = 1.17, and a little for the load
    assert any("requests/s" in line and "(± " in line for line in lines)
    assert any(line.startswith("intervals         90%") for line in lines)
    assert not any("±" in line for line in plain)
