"""The self-test's engine under virtual time: its timestamps are fastsim's, to the last bit."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_tables import plain_config

import fastsim
from estimators import IterationTables, TableLayout
from fastsim import SimulationConfig, Workload
from fastsim.batch_policy import Pool
from fastsim.stage_tables import engine_values, join_tables

_BLOCK, _MOST_LENGTH = 4, 40


@pytest.fixture(scope="module")
def engine(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("selftest_engine")


@dataclass(frozen=True)
class Case:
    config: SimulationConfig
    workload: Workload
    tables: IterationTables


@st.composite
def cases(draw: st.DrawFn) -> Case:
    max_num_seqs = draw(st.integers(1, 6))
    host_s = draw(st.sampled_from([0.0, 0.003]))
    config = plain_config(
        max_num_seqs,
        draw(st.integers(max_num_seqs, 30)),
        block_size=_BLOCK,
        max_model_len=_MOST_LENGTH,
        # The null block, and little more than what the longest request needs.
        num_kv_blocks=1 + _MOST_LENGTH // _BLOCK + draw(st.integers(0, 8)),
        engine_options={"launch_s": host_s, "launch_s_per_request": host_s / 7, "process_s": host_s / 3},
        record_batches=True,
    )
    requests = draw(
        st.lists(
            st.tuples(st.floats(0, 2), st.integers(1, 24), st.integers(1, _MOST_LENGTH - 24)), min_size=1, max_size=20
        )
    )
    return Case(config, Workload.from_arrays(*zip(*requests, strict=True)), random_tables(config, draw(st.integers(0))))


def random_tables(config: SimulationConfig, seed: int) -> IterationTables:
    """Tables just large enough, of random times."""
    rng = np.random.default_rng(seed % 2**32)
    policy = config.batch_policy
    kv = policy.max_num_seqs * config.max_model_len
    tokens = policy.max_num_batched_tokens
    layout = TableLayout(tokens, policy.max_num_seqs, kv, config.max_model_len, config.max_model_len, 1, 2, 1)
    return IterationTables(rng.uniform(0, 0.05, layout.size), layout, "sum", {})


def as_the_kernel_reads(case: Case) -> IterationTables:
    """The tables with the engine's CPU time, as the event loop reads them."""
    config = case.config
    pool = Pool(config.num_kv_blocks - 1, config.block_size, config.max_model_len)
    values, bases = engine_values(config, join_tables(config, case.tables, pool, names_blocks=False))
    return IterationTables(values[bases[0] :][: case.tables.layout.size], case.tables.layout, "sum", {})


def served(engine: ModuleType, case: Case, yardstick_takes_s: float | None = None) -> Any:
    config, workload = case.config, case.workload
    policy = config.batch_policy
    limits = engine.Limits(
        config.num_kv_blocks - 1, config.block_size, policy.max_num_batched_tokens, policy.max_num_seqs
    )
    clock = engine.VirtualClock()
    run = engine.Engine(limits, engine.TableRunner(as_the_kernel_reads(case), clock), clock)
    if yardstick_takes_s is not None:

        def yardstick() -> float:
            clock.now_s += yardstick_takes_s
            return yardstick_takes_s

        run.yardstick = yardstick
    columns = (workload.arrival_s, workload.prompt_tokens, workload.output_tokens)
    requests = [
        engine.Request([0] * prompt, output, arrival)
        for arrival, prompt, output in zip(*(column.tolist() for column in columns), strict=True)
    ]
    run.serve(requests)
    return run, requests


@given(case=cases())
def test_times_equal_those_of_the_simulation_to_the_last_bit(engine: ModuleType, case: Case):
    run, requests = served(engine, case)
    result = fastsim.simulate(case.config, case.workload, case.tables)
    told = result.requests.sort("request_id")
    for name in ("first_token_s", "completed_s", "preemptions"):
        assert [getattr(request, name) for request in requests] == told[name].to_list()
    batches = result.batches
    names = {"start_s": "start_s", "end_s": "end_s", "num_tokens": "num_tokens", "num_sequences": "num_sequences"}
    names |= {"num_decodes": "num_decodes", "kv": "decode_kv"}
    for ours, theirs in names.items():
        assert [getattr(iteration, ours) for iteration in run.iterations] == batches[theirs].to_list()


def test_little_memory_preempts_and_every_token_is_computed_once_more(engine: ModuleType):
    config = plain_config(4, 16, block_size=_BLOCK, max_model_len=_MOST_LENGTH, num_kv_blocks=12)
    workload = Workload.from_arrays([0.0] * 4, [8] * 4, [16] * 4)
    run, requests = served(engine, Case(config, workload, random_tables(config, 0)))
    assert sum(request.preemptions for request in requests) > 0
    assert run.scheduler.blocks.num_free == 11
    assert sum(iteration.num_tokens for iteration in run.iterations) > 4 * 23
    assert [len(request.outputs) for request in requests] == [16] * 4


def test_a_request_that_never_fits_is_refused(engine: ModuleType):
    scheduler = engine.Scheduler(engine.Limits(3, _BLOCK, 16, 4))
    scheduler.add(engine.Request([0] * 8, 5, 0.0))
    with pytest.raises(ValueError, match="does not fit 3 blocks"):
        scheduler.add(engine.Request([0] * 8, 6, 0.0))


def test_the_clock_stands_still_while_the_speed_is_measured(engine: ModuleType):
    config = plain_config(4, 16, block_size=_BLOCK, max_model_len=_MOST_LENGTH, num_kv_blocks=40)
    case = Case(config, Workload.from_arrays([0.0] * 12, [8] * 12, [16] * 12), random_tables(config, 0))
    (plain, _), (run, _) = served(engine, case), served(engine, case, yardstick_takes_s=1.0)
    assert len(run.iterations) >= 40
    assert run.yardstick_s == [1.0] * (len(run.iterations) // 20)
    ends = ([one.end_s for one in each.iterations] for each in (plain, run))
    np.testing.assert_allclose(*ends, rtol=1e-12)
