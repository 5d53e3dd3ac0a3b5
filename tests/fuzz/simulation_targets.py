"""Simulations of small random configurations and workloads, by the compiled event loop."""

import random
from pathlib import Path
from typing import Any

import numpy as np
from plain_tables import plain_tables

import fastsim
from fastsim import SimulationConfig, Workload
from fastsim.engine_presets import ENGINES
from fastsim.options import CLIENTS, QUEUES, ROUTERS
from fastsim.schedulers import SCHEDULERS
from fuzz.file_targets import target
from fuzz.mutation import VALUES

_LONGEST = 64


def some_workload(rng: random.Random) -> Workload:
    """A few requests, some of which cannot be served, with classes, sessions and shared blocks now and then."""
    n = rng.choice((1, 2, 5, 20, 40))
    generator = np.random.default_rng(rng.randrange(2**32))
    gap_s = rng.choice((0.0, 1e-6, 0.01, 1.0, 1e4))
    more: dict[str, Any] = {}
    if rng.random() < 0.3:
        more["request_class"] = generator.integers(0, 3, n)
    if rng.random() < 0.3:
        more["session"] = np.sort(generator.integers(0, 4, n))
        if rng.random() < 0.5:
            first = np.diff(more["session"], prepend=-1) > 0
            more["think_s"] = np.where(first, np.nan, generator.exponential(rng.choice((0.0, 1.0)), n))
    prompt, output = generator.integers(1, _LONGEST - 8, n), generator.integers(1, 9, n)
    if rng.random() < 0.3:
        counts = prompt // 4
        ids = np.concatenate([np.arange(count) for count in counts]) if counts.sum() else np.zeros(0, np.int64)
        more |= {"block_ids": ids, "block_offsets": np.concatenate([[0], counts.cumsum()]), "block_tokens": 4}
    return Workload.from_arrays(
        generator.exponential(gap_s, n).cumsum() if gap_s else np.zeros(n), prompt, output, **more
    )


def some_fields(rng: random.Random) -> dict[str, Any]:
    """Fields of a configuration, most of them right."""
    scheduler = rng.choice(list(SCHEDULERS))
    fields: dict[str, Any] = {
        "max_model_len": _LONGEST,
        "num_kv_blocks": rng.choice((8, 20, 80, 80, 200)),
        "block_size": 1 if scheduler == "lightllm" else rng.choice((1, 4, 16)),
        "scheduler": scheduler,
        "router": rng.choice(list(ROUTERS)),
        "replicas": rng.choice((1, 1, 2, 3)),
        "pipeline_parallel": rng.choice((1, 1, 1, 1, 2)),
        "data_parallel": rng.choice((1, 1, 2)) if scheduler == "vllm_v1" else 1,
        "seed": rng.randrange(5),
        "record_metrics": rng.random() < 0.3,
        "record_batches": rng.random() < 0.3,
    }
    if rng.random() < 0.4:
        fields["queue"] = rng.choice(list(QUEUES))
    if rng.random() < 0.5:
        own = [name for name in ENGINES if scheduler.startswith(name.partition("-")[0])]
        fields["engine"] = rng.choice([*own, "ideal"])
    if rng.random() < 0.3:
        fields["client"] = rng.choice(list(CLIENTS))
        if fields["client"] == "closed":
            fields["client_options"] = {"concurrency": rng.choice((1, 3, 100))}
    options: dict[str, Any] = {
        "max_num_seqs": rng.choice((1, 4, 16)),
        "max_num_batched_tokens": rng.choice((16, 64, 256)),
    }
    names = SCHEDULERS[fields["scheduler"]].__dataclass_fields__
    fields["scheduler_options"] = {name: value for name, value in options.items() if name in names}
    if rng.random() < 0.25:
        place = fields["scheduler_options"] if rng.random() < 0.5 else fields
        name = rng.choice([*names]) if place is not fields else rng.choice([*SimulationConfig.__dataclass_fields__])
        place[name] = rng.choice(VALUES)
    return fields


@target
def simulation(rng: random.Random, place: Path) -> object:
    """Every request is served in a number of iterations that its tokens bound: each iteration makes progress."""
    config = SimulationConfig(**some_fields(rng))
    workload = some_workload(rng)
    if config.parity is not None or config.num_kv_blocks is None:
        return None
    if config.num_kv_blocks > 10_000 or config.max_model_len > 10_000 or config.replicas > 100:
        return None  # right, but the tables and the state would take long to make
    limits = config.batch_policy
    sizes = ("max_num_batched_tokens", "chunk_size")
    if limits.max_num_seqs > 10_000 or any(getattr(limits, name, 1) > 100_000 for name in sizes):
        return None
    tables = plain_tables(config, rng.choice((0.0, 1e-3, 1.0)) + 1e-6, rng.choice((0.0, 1e-5)))
    result = fastsim.simulate(config, workload, tables)
    simulated = result.summary["simulation"]
    metrics = result.summary["metrics"]
    tokens = int((workload.prompt_tokens + workload.output_tokens).sum())
    passes = 1 + metrics["preemptions"] / len(workload)
    bound = (
        4
        * config.data_parallel
        * config.pipeline_parallel
        * (tokens * passes + len(workload) + 10)
        * (1 + metrics["preemptions"])
    )
    assert simulated["requests"] == len(workload)
    assert simulated["iterations"] <= bound, (simulated["iterations"], bound)
    return result.summary


@target
def arrays_of_a_workload(rng: random.Random, place: Path) -> object:
    """`Workload.from_arrays` of arrays that are none, or do not fit together."""
    arrays: dict[str, Any] = {"arrival_s": [0.0, 1.0], "prompt_tokens": [5, 6], "output_tokens": [1, 2]}
    extra = {"request_class": [0, 1], "session": [0, 0], "think_s": [float("nan"), 0.5], "block_ids": [1, 1]}
    extra |= {"block_offsets": [0, 1, 2], "block_tokens": 4, "notes": ("a",), "provenance": {}, "objectives": ()}
    arrays |= {name: extra[name] for name in rng.sample(list(extra), rng.randrange(len(extra)))}
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(list(arrays))
        kind = rng.random()
        if kind < 0.4 or not isinstance(arrays[name], list):
            arrays[name] = rng.choice(VALUES)
        elif kind < 0.8:
            arrays[name] = [*arrays[name][:-1], rng.choice(VALUES)]
        else:
            arrays[name] = np.array(arrays[name], dtype=object)[:, None]
    return Workload.from_arrays(**arrays).hash


@target
def fields_of_a_configuration(rng: random.Random, place: Path) -> object:
    """`SimulationConfig` of any values, and what it says of itself read again."""
    fields = some_fields(rng)
    for _ in range(rng.choice((0, 1, 1, 2))):
        fields[rng.choice([*SimulationConfig.__dataclass_fields__])] = rng.choice(VALUES)
    config = SimulationConfig(**fields)
    assert SimulationConfig.from_toml(config.to_toml()) == config
    return config
