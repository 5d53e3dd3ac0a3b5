"""Queue orders through the public call: their keys, and whom they help."""

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables

import fastsim
from fastsim import SimulationConfig, Workload
from fastsim.queue_orders import order_keys


def keys(output_tokens: np.ndarray, **fields) -> np.ndarray | None:
    n = len(output_tokens)
    workload = Workload.from_arrays(np.zeros(n), np.ones(n, int), output_tokens, request_class=np.arange(n) % 3)
    return order_keys(SimulationConfig(**fields), workload)


def predict(output_tokens: np.ndarray, error: float, seed: int = 0) -> np.ndarray:
    return keys(output_tokens, queue="sjf", queue_options={"prediction_error": error}, seed=seed)


def test_keys():
    output_tokens = np.array([5, 1, 700])
    assert keys(output_tokens) is None
    assert keys(output_tokens, queue="priority").tolist() == [0, 1, 2]
    assert keys(output_tokens, queue="sjf").tolist() == [5, 1, 700]


def test_prediction_errors_have_their_deviation_and_the_seed_decides():
    predicted = predict(np.full(20_000, 10_000), 0.5)
    logarithm = np.log(predicted / 10_000)
    assert logarithm.std() == pytest.approx(0.5, rel=0.03)
    assert logarithm.mean() == pytest.approx(0, abs=0.015)
    assert (predicted == predict(np.full(20_000, 10_000), 0.5)).all()
    assert (predicted != predict(np.full(20_000, 10_000), 0.5, seed=1)).any()
    # The first requests get the same, however many there are.
    assert (predict(np.full(100, 10_000), 0.5) == predicted[:100]).all()


def test_any_error_gives_a_number_of_tokens():
    assert set(predict(np.full(50, 3), 1e6)) == {1, 2**31 - 1}


@pytest.mark.parametrize("pipeline_parallel", [1, 3])
def test_whom_an_order_helps_under_overload(pipeline_parallel: int):
    rng = np.random.default_rng(0)
    n = 300
    workload = Workload.from_arrays(
        np.arange(n) / 100, np.full(n, 40), rng.integers(1, 80, n), request_class=(np.arange(n) % 4 > 0).astype(int)
    )
    results = {}
    for queue in ("fcfs", "priority", "sjf"):
        config = plain_config(12, 64, queue=queue, pipeline_parallel=pipeline_parallel)
        results[queue] = fastsim.simulate(config, workload, plain_tables(config, 0.01)).summary
    e2e = {queue: summary["metrics"]["e2e_s"]["mean"] for queue, summary in results.items()}
    assert e2e["sjf"] < 0.8 * e2e["fcfs"]
    classes = {
        queue: [described["e2e_s"]["mean"] for described in summary["classes"].values()]
        for queue, summary in results.items()
    }
    assert classes["priority"][0] < 0.5 * classes["fcfs"][0]
    assert classes["priority"][1] > classes["fcfs"][1]
