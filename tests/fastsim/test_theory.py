"""With constant iteration times a replica is a queue whose behaviour is known in closed form.

A request with a prompt of one chunk and D outputs takes D iterations. With ``max_num_seqs=1`` a replica is therefore a
single server with service time D * c, first come first served: M/D/1 for D = 1 and M/G/1 for random D.
"""

import numpy as np
import pytest
from plain_tables import plain_config, plain_tables

import fastsim

REQUESTS = 200_000
SERVICE_S = 0.05


def waiting_s(rng: np.random.Generator, rate: float, output_tokens: np.ndarray, iteration_s: float) -> np.ndarray:
    """Waiting times of one server under Poisson arrivals [s]."""
    config = plain_config(1, 64)
    arrival_s = rng.exponential(1 / rate, len(output_tokens)).cumsum()
    workload = fastsim.Workload.from_arrays(arrival_s, np.full(len(output_tokens), 10), output_tokens)
    result = fastsim.simulate(config, workload, plain_tables(config, iteration_s))
    return result.requests["scheduling_delay_s"].to_numpy()


def mean_and_error(values: np.ndarray, num_batches: int = 50) -> tuple[float, float]:
    """Mean of a correlated series, and its standard error by the method of batch means."""
    means = values[: len(values) // num_batches * num_batches].reshape(num_batches, -1).mean(axis=1)
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(num_batches))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_m_d_1_waits_as_pollaczek_khinchine_say(load: float):
    waits = waiting_s(np.random.default_rng(1), load / SERVICE_S, np.ones(REQUESTS, int), SERVICE_S)
    expected = load * SERVICE_S / (2 * (1 - load))
    mean, error = mean_and_error(waits)
    assert error < 0.02 * expected  # else the next line would say little
    assert (
        abs(mean - expected) < 3.5 * error
    )  # 1 in 1000 by chance (Student, 49 degrees of freedom), and the seed is fixed
    # An arrival finds the server idle with probability 1 - load.
    idle, error = mean_and_error((waits == 0).astype(float))
    assert abs(idle - (1 - load)) < 3.5 * error


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_geometric_outputs_are_nearly_m_m_1(load: float):
    # D is geometric with mean 1/p: exponential service but for the granularity of iterations.
    p, iteration_s = 0.05, SERVICE_S * 0.05
    rng = np.random.default_rng(2)
    waits = waiting_s(rng, load / SERVICE_S, rng.geometric(p, REQUESTS), iteration_s)
    second_moment = (2 - p) / p**2 * iteration_s**2
    expected = load / SERVICE_S * second_moment / (2 * (1 - load))
    mean, error = mean_and_error(waits)
    assert error < 0.04 * expected
    assert abs(mean - expected) < 3.5 * error
    # M/M/1 itself, of which the service has less variance by the factor 1 - p/2.
    assert expected == pytest.approx(load * SERVICE_S / (1 - load) * (1 - p / 2))


def test_every_single_wait_obeys_lindley():
    # Times are multiples of 2**-10 s, so that neither side loses a bit.
    rng = np.random.default_rng(3)
    n, iteration_s = 20_000, 1 / 16
    arrival_s = np.round(rng.exponential(1.0, n).cumsum() * 1024) / 1024
    output_tokens = rng.integers(1, 30, n)
    config = plain_config(1, 64)
    workload = fastsim.Workload.from_arrays(arrival_s, np.full(n, 10), output_tokens)
    requests = fastsim.simulate(config, workload, plain_tables(config, iteration_s)).requests
    waits = [0.0]
    for gap_s, served_s in zip(np.diff(arrival_s), iteration_s * output_tokens, strict=False):
        waits.append(max(0.0, waits[-1] + served_s - gap_s))
    assert requests["scheduling_delay_s"].to_list() == waits


@pytest.mark.parametrize("replicas", [1, 3])
def test_little_s_law(replicas: int):
    # Iterations that take longer for more tokens, and many requests in a batch: running_seconds is the integral over
    # time of the number in service, which the kernel keeps per iteration; the right-hand side comes from the requests.
    rng = np.random.default_rng(4)
    n = 20_000
    config = plain_config(32, 4096, replicas=replicas, max_model_len=256)
    arrival_s = rng.exponential(0.02 / replicas, n).cumsum()
    workload = fastsim.Workload.from_arrays(arrival_s, rng.integers(1, 100, n), rng.integers(1, 100, n))
    result = fastsim.simulate(config, workload, plain_tables(config, 0.01, 1e-5))
    metrics, makespan_s = result.summary["metrics"], result.summary["simulation"]["makespan_s"]
    assert metrics["preemptions"] == 0
    in_service_s = (result.requests["completed_s"] - result.requests["scheduled_s"]).mean()
    number_in_service = result.state.replicas["running_seconds"].sum() / makespan_s
    assert number_in_service > 2 * replicas
    assert number_in_service == pytest.approx(metrics["throughput_requests_per_s"] * in_service_s, rel=1e-9)
    # The summary states the same number, per replica and while it was busy.
    busy_s = result.state.replicas["busy_s"].sum()
    assert metrics["batch_size_mean"] * busy_s == pytest.approx(number_in_service * makespan_s, rel=1e-9)


@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (20, 1), (20, 33), (1, 100)])
def test_saturated_throughput_of_equal_requests(prompt: int, output: int):
    # Wave after wave of 16: one iteration for all prompts, then output - 1 for the decodes.
    waves, batch = 7, 16
    config = plain_config(batch, 512, max_model_len=256)
    n = waves * batch
    workload = fastsim.Workload.from_arrays(np.zeros(n), np.full(n, prompt), np.full(n, output))
    metrics = fastsim.simulate(config, workload, plain_tables(config, 0.01, 1e-4)).summary["metrics"]
    wave_s = output * 0.01 + batch * (prompt + output - 1) * 1e-4
    assert metrics["throughput_requests_per_s"] == pytest.approx(batch / wave_s)
    assert metrics["throughput_output_tokens_per_s"] == pytest.approx(batch * output / wave_s)
    assert metrics["batch_size_mean"] == pytest.approx(batch)
    assert metrics["utilization"] == pytest.approx(1)


def test_tpot_is_the_iteration_time():
    # Times are multiples of 2**-10 s, so that the clock loses no bit.
    rng = np.random.default_rng(5)
    n = 3000
    config = plain_config(64, 4096)
    arrival_s = rng.integers(0, 200_000, n) / 1024
    workload = fastsim.Workload.from_arrays(arrival_s, rng.integers(1, 100, n), rng.integers(2, 300, n))
    result = fastsim.simulate(config, workload, plain_tables(config, 1 / 64))
    assert result.summary["metrics"]["preemptions"] == 0
    assert set(result.requests["tpot_s"]) == {1 / 64}


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding"])
def test_replicas_multiply_the_throughput_of_a_burst(router: str):
    def throughput(replicas: int) -> float:
        config = plain_config(8, 256, replicas=replicas, router=router)
        n = 8 * 5 * 12
        workload = fastsim.Workload.from_arrays(np.zeros(n), np.full(n, 20), np.full(n, 50))
        return fastsim.simulate(config, workload, plain_tables(config, 0.02)).summary["metrics"][
            "throughput_requests_per_s"
        ]

    alone = throughput(1)
    for replicas in (2, 3, 4):
        assert throughput(replicas) == pytest.approx(replicas * alone)
