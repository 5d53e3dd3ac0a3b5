"""The look-up of what an iteration consists of, on the command line."""

import json

import pytest
from cli_calls import Cli

from estimators.build import Deployment
from estimators.lookup import OperationTime
from fastsim.commands.operation_report import batch_of

ROWS = [
    OperationTime("qkv_proj", "gemm", "bf16", 32, 1e-5, 3.2e-4, 0.8, "toy engine, toy 1.0", True),
    OperationTime("norm", "bandwidth", "", 64, 1.5e-6, 9.6e-5, 0.24, "bandwidth model", None),
    OperationTime("attention", "prefill_attention", "bf16", 32, 1e-6, 3.2e-5, 0.08, "toy engine, toy 1.0", False),
    OperationTime("shared_launches", "attention", "", 1, -4.8e-5, -4.8e-5, -0.12, "modelled", None),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list:
    """What the estimators were asked for; they answer ROWS."""
    calls: list = []

    def operation_times(model, device, deployment, **batch):
        calls.append((model, device, deployment, batch))
        return ROWS

    monkeypatch.setattr("estimators.lookup.operation_times", operation_times)
    return calls


def test_a_line_for_each_operator_and_their_sum(cli: Cli, asked: list):
    lines = cli("estimators", "show", "toy", "h100_sxm", "--decodes", 8, "--kv", "1e4").out.splitlines()
    assert lines[0] == "toy on 1 h100_sxm: 8 decodes that read 10,000 tokens"
    assert all(len(line) <= 120 for line in lines)
    (proj,) = (line for line in lines if line.startswith("qkv_proj"))
    assert proj.split() == ["qkv_proj", "gemm", "bf16", "32", "10.0", "0.320", "80.0%", "█" * 13, "measured", "range"]
    assert any(line.startswith("attention") and line.endswith("EXTRAPOLATED") for line in lines)
    (total,) = (line for line in lines if line.startswith("an iteration"))
    assert total.split()[-1] == "0.400"
    assert "  toy engine, toy 1.0: gemm, prefill_attention" in lines
    assert asked == [("toy", "h100_sxm", Deployment(dtype="auto"), batch_of(None, 8, 1e4, None))]


def test_json_has_the_same(cli: Cli, asked: list):
    words = ("--tp", 2, "--dp", 4, "--ep", 8, "--dtype", "fp8", "--kv-dtype", "fp8", "--expert-load", "balanced")
    batch = ("--chunks", "512,2048:16", "--tokens", 600)
    found = json.loads(cli("estimators", "show", "toy", "--device", "h200_sxm", *words, *batch, "--json").out)
    assert found["title"] == "toy on 8 h200_sxm"
    assert found["iteration_s"] == pytest.approx(4e-4)
    assert [row["name"] for row in found["operations"]] == [row.name for row in ROWS]
    assert found["batch"] == {"decodes": 0, "kv": 0, "chunks": [[0, 512], [2048, 16]], "tokens": 600}
    expected = Deployment(2, "fp8", "fp8", data_parallel=4, expert_parallel=8, expert_load="balanced")
    assert asked[0][2] == expected


def test_a_batch_of_decodes_where_none_is_asked_for():
    assert batch_of(None, None, None, None) == {"decodes": 64, "kv": 65536, "chunks": [], "tokens": None}
    assert batch_of(None, None, None, "7")["decodes"] == 0
    assert batch_of(None, "3", None, "7") == {"decodes": 3, "kv": 3072, "chunks": [(0, 7)], "tokens": None}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["toy", "h100_sxm", "--decodes", "few"], ["decodes 'few'", "whole number"]),
        (["toy", "h100_sxm", "--chunks", "5:x"], ["chunks 'x'", "whole number"]),
        (["toy", "h100_sxm", "--decodes", "8", "--tokens", "7"], ["tokens 7", "less than the 8"]),
        (["toy", "h100_sxm", "--decodes", "-3"], ["decodes -3", "0 or more"]),
        (["toy", "h100_sxm", "--device", "l40s"], ["device 'l40s'", "is not h100_sxm"]),
        (["toy"], ["device", "is not given", "show toy h100_sxm"]),
    ],
)
def test_bad_batches_are_refused(cli: Cli, asked: list, words: list[str], expected: list[str]):
    cli("estimators", "show", *words).assert_refused(*expected)


def test_models_are_for_show_alone(cli: Cli):
    cli("estimators", "list", "toy").assert_refused("model 'toy'", "means nothing to list")


@pytest.mark.parametrize(("flag", "value"), [("--zoo", "zoo"), ("--plot", "errors.html")])
def test_what_a_look_up_does_not_read_is_refused(cli: Cli, asked: list, flag: str, value: str):
    run = cli("estimators", "show", "toy", "h100_sxm", flag, value)
    assert (run.code, asked) == (2, [])
    assert f"{flag[2:]} '{value}' means nothing to show of a model" in run.err
