"""What bench/selftest.py makes of what was served and what was predicted."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables

from fastsim import Workload


@pytest.fixture(scope="module")
def compare(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("selftest_compare")


def iteration(compare: ModuleType, start_s: float, took_s: float, waited_s: float, **fields):
    seconds = dict.fromkeys(compare.HOST_TIMES, 0.0) | {"schedule": 0.1 * took_s, "device": 0.9 * took_s}
    given = {"num_tokens": 2, "num_sequences": 2, "num_decodes": 2, "kv": 20, "chunks": (), "waiting": 0}
    return compare.Iteration(
        start_s=start_s, end_s=start_s + took_s, waited_s=waited_s, seconds=seconds, **(given | fields)
    )


@pytest.fixture(scope="module")
def served(compare: ModuleType):
    workload = Workload.from_arrays([0.0, 1.0], [8, 8], [3, 1])
    prompt = {"num_tokens": 8, "num_sequences": 1, "num_decodes": 0, "kv": 0, "chunks": ((0, 8),)}
    iterations = [
        iteration(compare, 0.0, 0.1, 0.0, **prompt),
        iteration(compare, 0.1, 0.2, 0.0),
        iteration(compare, 0.3, 0.4, 0.2, waiting=3),
        iteration(compare, 1.0, 0.1, 0.0, **prompt, waiting=1),
    ]
    return compare.Served(workload, np.array([0.1, 1.1]), np.array([0.7, 1.1]), 0, iterations, [4e-3])


def test_figures_are_those_of_the_requests(compare: ModuleType, served):
    figures = served.figures()
    assert figures["ttft", "mean"] == pytest.approx(0.1)
    assert figures["tpot", "p90"] == pytest.approx(0.3)  # of the one with several tokens
    assert figures["latency", "mean"] == pytest.approx(0.4)
    assert figures["makespan", "all"] == pytest.approx(1.1)


def test_load_is_weighted_by_time(served):
    load = served.load()
    assert load["utilisation"] == pytest.approx(0.8 / 1.1)
    assert load["running"] == pytest.approx((0.2 + 2 * 0.6) / 0.8)
    assert load["waiting"] == pytest.approx((3 * 0.4 + 0.1) / 0.8)


def test_a_prediction_is_held_against_the_mean_of_the_runs(compare: ModuleType):
    key = ("tpot", "mean")
    (row,) = compare.rows_of(2, [{key: 1.0}, {key: 1.5}], {key: 1.0}, [{key: 1.1}, {key: 1.5}])
    assert row["measured_s"] == 1.25
    assert row["error"] == pytest.approx(-0.2)
    assert row["error_at_speed"] == pytest.approx(0.04)
    assert row["between"] == pytest.approx(0.5)
    rows = [{**row, "round": i, "error": error, "between": abs(error)} for i, error in enumerate((-0.3, 0.1, 0.2))]
    (over,) = compare.over_rounds(rows)
    assert (over["error"], over["least"], over["most"], over["between"]) == (0.1, -0.3, 0.2, 0.3)


def test_iterations_are_predicted_at_the_speed_of_their_run(compare: ModuleType, served):
    config = plain_config(4, 16, engine_options={"launch_s": 0.02, "process_s_per_request": 0.005})
    tables = plain_tables(config, 0.09)
    usual, slow = (compare.iteration_rows(0, served, tables, config, slower) for slower in (1.0, 2.0))
    for one, other in zip(usual, slow, strict=True):
        for name in ("predicted_s", "predicted_device_s", "predicted_host_s"):
            assert other[name] == pytest.approx(2 * one[name])
        assert other["measured_s"] == one["measured_s"]


def test_biases_of_iterations_tell_the_model_from_the_cpu_and_leave_out_what_was_disturbed(compare: ModuleType, served):
    config = plain_config(4, 16, engine_options={"launch_s": 0.02, "process_s_per_request": 0.005})
    tables = plain_tables(config, 0.09)
    kinds = {row["kind"]: row for row in compare.by_kind(compare.iteration_rows(0, served, tables, config, 1.0))}
    prefill, decode = kinds["prefill"], kinds["decode"]
    assert (prefill["iterations"], prefill["quiet"]) == (2, 1.0)
    assert prefill["bias"] == pytest.approx(0.115 / 0.1 - 1)
    assert prefill["bias_device"] == pytest.approx(0.0)
    assert prefill["bias_host"] == pytest.approx(0.025 / 0.01 - 1)
    assert (decode["quiet"], decode["share"]) == (0.5, pytest.approx(0.75))
    assert decode["bias"] == pytest.approx(0.24 / 0.6 - 1)
    assert decode["bias_quiet"] == pytest.approx(0.12 / 0.2 - 1)
