"""Batch policies and routers that a user brings along."""

import numpy as np
import pytest
from numba import njit
from plain_tables import plain_config, plain_tables

import fastsim
from fastsim import ConfigError, Workload
from fastsim.kernel.jit import DISABLED

pytestmark = pytest.mark.skipif(DISABLED, reason="NUMBA_DISABLE_JIT is set")


def run(replicas: int = 1, **own) -> fastsim.SimulationResult:
    config = plain_config(16, 128, replicas=replicas)
    workload = Workload.from_arrays(np.arange(60) / 10, np.full(60, 50), np.full(60, 20))
    return fastsim.simulate(config, workload, plain_tables(config, 0.01), **own)


def test_a_router_of_ones_own_decides():
    def last(requests, replicas, cluster, i):
        return replicas.size - 1

    for router in (last, njit(last)):
        result = run(3, router=router)
        assert result.requests["replica"].unique().to_list() == [2]


def test_a_router_of_ones_own_finds_the_replicas_as_they_are():
    def fewest(requests, replicas, cluster, i):
        best = 0
        for r in range(1, replicas.size):
            if replicas[r].outstanding < replicas[best].outstanding:
                best = r
        return best

    config = plain_config(16, 128, replicas=3, router="least_outstanding")
    workload = Workload.from_arrays(np.arange(60) / 50, np.full(60, 50), np.arange(60) + 1)
    tables = plain_tables(config, 0.01)
    own, ours = fastsim.simulate(config, workload, tables, router=fewest), fastsim.simulate(config, workload, tables)
    assert own.requests.equals(ours.requests)


def test_a_batch_policy_of_ones_own_is_called():
    from fastsim.kernel import vllm_v1

    assert run(batch_policy=vllm_v1.schedule).requests.equals(run().requests)


def four(requests, replicas, cluster, i):
    return 4


def half(requests, replicas, cluster, i):
    return 0.5


def misspelt(requests, replicas, cluster, i):
    return requests[i].promt_tokens


def unknown(requests, replicas, cluster, i):
    return nothing_of_that_name  # noqa: F821


def too_few(requests, replicas):
    return 0


def importing(requests, replicas, cluster, i):
    import os

    return len(os.sep)


class Callable:
    def __call__(self, requests, replicas, cluster, i):
        return 0


def idle(requests, replica, integers):
    return 0


@pytest.mark.parametrize("kind", ["router", "batch_policy"])
def test_what_a_function_raises_reaches_its_user(kind: str):
    def router(requests, replicas, cluster, i):
        if i > 20:
            raise ArithmeticError("mine")
        return 0

    def batch_policy(requests, replica, integers):
        if replica.num_blocks > 0:
            raise ArithmeticError("mine")
        return 0

    with pytest.raises(ArithmeticError, match="mine"):
        run(3, **{kind: {"router": router, "batch_policy": batch_policy}[kind]})


@pytest.mark.parametrize(
    ("kind", "function", "words"),
    [
        ("router", four, ["chose a replica that does not exist", "0 to 2"]),
        ("router", half, ["returns float64", "half(requests, replicas, cluster, i)"]),
        ("router", misspelt, ["'promt_tokens'", "prompt_tokens", "outstanding", "turn"]),
        ("router", unknown, ["does not compile", "nothing_of_that_name"]),
        ("router", too_few, ["does not take the arguments", "too_few(requests, replicas, cluster, i)"]),
        ("router", 3, ["is of type int, not a function"]),
        ("router", Callable(), ["is of type Callable, not a function", "returning the number of a replica"]),
        ("router", importing, ["importing", "does not compile", "IMPORT_NAME"]),
        ("batch_policy", idle, ["leaves requests waiting for ever"]),
        ("batch_policy", four, ["does not take the arguments", "four(requests, replica, integers)"]),
    ],
)
def test_functions_that_do_not_work_are_refused_in_one_sentence(kind: str, function: object, words: list[str]):
    with pytest.raises(ConfigError) as caught:
        run(3, **{kind: function})
    assert caught.value.field == kind
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
