"""``fastsim capacity``."""

import json
from pathlib import Path

import pytest
from cli_calls import Cli

SMALL = ("--requests", 300, "--max-model-len", 1024, "--num-kv-blocks", 500)
SMALL += ("--scheduler.max-num-seqs", 16, "--scheduler.max-num-batched-tokens", 128)


def test_it_prints_the_capacity_and_its_probes(cli: Cli):
    out = cli("capacity", *SMALL).out
    lines = out.splitlines()
    assert any(line.startswith("capacity") and "requests/s" in line for line in lines)
    assert any(line.startswith("above it") for line in lines)
    assert sum("holds" in line for line in lines) >= 1
    assert sum("breaks" in line for line in lines) >= 1
    assert sum("<- capacity" in line for line in lines) == 1
    assert max(map(len, lines)) <= 160


def test_json_has_what_was_asked_and_found_and_out_keeps_it(cli: Cli, tmp_path: Path):
    slo = "ttft_p90=2s,attainment=90%,ttft=1s"
    found = cli("capacity", *SMALL, "--slo", slo, "--tolerance", 0.05, "--out", tmp_path / "out", "--json").summary
    low, high = found["capacity"]["bracket"]
    assert low == found["capacity"]["qps"] < high <= low * 1.05
    assert [limit["metric"] for limit in found["limits"]] == ["ttft_s", "attainment"]
    assert found["config"]["slo"] == {"ttft_s": 1.0}
    kept = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert kept["capacity"]["qps"] == low
    again = cli("capacity", "--config", tmp_path / "out" / "config.toml", "--slo", slo.rpartition(",")[0], "--json")
    assert again.summary["workload"]["hash"] == found["workload"]["hash"]
    assert again.summary["capacity"]["qps"] == pytest.approx(low, rel=0.05)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--slo", "ttft"), "slo"),
        (("--slo", "speed_p99=1s"), "slo"),
        (("--slo", "attainment=90%"), "slo.attainment"),
        (("--tolerance", "0"), "tolerance"),
        (("--tolerance", "much"), "tolerance"),
        (("--client", "closed", "--client.concurrency", "4"), "client"),
        (("--repeats", "3"), "--repeats"),
        (("--arrivals", "static"), "workload"),
    ],
)
def test_what_makes_no_sense_is_refused(cli: Cli, words: tuple, named: str):
    cli("capacity", *SMALL, *words).assert_refused(named)
