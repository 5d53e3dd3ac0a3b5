"""Limits of a run: how they are written, what they mean, and what is refused."""

import pytest

from fastsim.errors import ConfigError
from fastsim.searching.limits import PAPER_RULE, Limit, parse_limits, read_limits


def test_without_limits_the_papers_rule_holds():
    assert read_limits(None) == read_limits({}) == PAPER_RULE == (Limit("scheduling_delay_s", "p99", 5.0),)


def test_limits_are_read_in_order_with_units():
    found = read_limits(
        {"ttft_s": {"p50": "200ms", "p99.9": 2}, "attainment": "95%", "tbt_s": {"mean": 0.05, "max": 1}}
    )
    assert found == (
        Limit("ttft_s", "p50", 0.2),
        Limit("ttft_s", "p99.9", 2.0),
        Limit("attainment", "", 0.95),
        Limit("tbt_s", "mean", 0.05),
        Limit("tbt_s", "max", 1.0),
    )
    assert [limit.key for limit in found[:3]] == ["ttft_s.p50", "ttft_s.p99.9", "attainment"]
    assert [limit.part for limit in found] == [0.5, pytest.approx(0.999), None, None, 1.0]
    assert [limit.name for limit in found[:3]] == ["p50 TTFT", "p99.9 TTFT", "attainment"]


def test_a_limit_holds_up_to_itself_and_is_strained_beyond():
    latency, part = Limit("ttft_s", "p90", 2.0), Limit("attainment", "", 0.9)
    assert latency.holds(2.0)
    assert not latency.holds(2.0001)
    assert latency.holds(None)
    assert part.holds(0.9)
    assert not part.holds(0.8999)
    assert latency.strain(1.0) == 0.5
    assert part.strain(0.95) == pytest.approx(0.5)
    assert latency.strain(None) == 0.0


def test_the_command_line_tells_limits_from_objectives():
    limits, objectives = parse_limits(
        "scheduling_delay_p99=5s, ttft_p90_s=2s,ttft_mean=1,attainment=95%,ttft=1s,e2e_s=9"
    )
    assert limits == {"scheduling_delay_s": {"p99": "5s"}, "ttft_s": {"p90": "2s", "mean": "1"}, "attainment": "95%"}
    assert objectives == {"ttft_s": "1s", "e2e_s": "9"}


@pytest.mark.parametrize(
    ("slo", "field"),
    [
        ({"latency_s": {"p99": 1}}, "slo"),
        ({"ttft_s": 1.0}, "slo.ttft_s"),
        ({"ttft_s": {}}, "slo.ttft_s"),
        ({"ttft_s": {"q99": 1}}, "slo.ttft_s"),
        ({"ttft_s": {"p101": 1}}, "slo.ttft_s"),
        ({"ttft_s": {"p99": 0}}, "slo.ttft_s.p99"),
        ({"ttft_s": {"p99": "5 parsecs"}}, "slo.ttft_s.p99"),
        ({"attainment": 1.5}, "slo.attainment"),
        ({"attainment": "often"}, "slo.attainment"),
    ],
)
def test_what_is_no_limit_is_refused(slo: dict, field: str):
    with pytest.raises(ConfigError) as refused:
        read_limits(slo)
    assert refused.value.field == field


@pytest.mark.parametrize("text", ["", "ttft_p90", "ttft_p90=", "=2s"])
def test_what_is_no_list_of_limits_is_refused(text: str):
    with pytest.raises(ConfigError, match="is not a list of limits"):
        parse_limits(text)
