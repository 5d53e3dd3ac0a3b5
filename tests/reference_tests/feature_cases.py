"""Draws what an engine and its clients add to a case: prefix caching, scheduling ahead, CPU time, delays, clients.

Everything is drawn as fields of the reference's configuration; `kernel_cases.prepare_kernel` has what they mean for the
kernel.
"""

import math
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from reference.config_checks import CACHING_POLICIES
from reference.simulate import ReferenceConfig

Request = tuple[float, int, int]
Drawn = tuple[ReferenceConfig, list[Request]]

#: What can be drawn; a test asks for those that it is about.
FEATURES = ("caching", "ahead", "overheads", "closed", "sessions", "delays", "prefix_aware")
#: Several engines in a replica, of vllm_v1 with one stage; beside FEATURES.
ENGINES = "engines"


@st.composite
def featured(
    draw: st.DrawFn, config: ReferenceConfig, requests: list[Request], features: tuple[str, ...], coarse: bool
) -> Drawn:
    """A case with some of the features; those that its batch policy or queue order excludes are left out.

    Args:
        draw: of hypothesis.
        config: without any of them.
        requests: in order of arrival.
        features: names in FEATURES, or ENGINES.
        coarse: whether all times are multiples of 1/8 s, so that events meet.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    on = {name for name in features if draw(st.sampled_from([True, True, False]))}
    if {"closed", "sessions"} <= on:
        on.discard(draw(st.sampled_from(["closed", "sessions"])))
    times = st.sampled_from([0.0, 0.0, 0.125, 1.0] if coarse else [0.0, 0.0, 0.0003, 0.02, 0.7])
    vllm = config.batch_policy == "vllm_v1"
    if "sessions" in on:
        config, requests = with_sessions(rng, config, requests, [draw(times), draw(times)])
    if "caching" in on and config.batch_policy in CACHING_POLICIES:
        config = replace(
            config,
            preemption_mode="recompute",
            enable_prefix_caching=True,
            uncached_blocks_first=vllm and draw(st.booleans()),
            **named_texts(rng, config, requests, draw(st.sampled_from([0.3, 0.7, 0.95]))),
        )
    if "ahead" in on and vllm and config.queue_order != "priority":
        config = replace(config, preemption_mode="recompute", async_scheduling=True)
    if "overheads" in on:
        names = ("launch_s", "launch_s_per_request", "process_s", "process_s_per_request")
        sizes = draw(st.sampled_from([(), (1, 2, 4, 8, 16), (3, 40), (1, 2, 4, *range(8, 257, 8))]))
        config = replace(config, capture_sizes=sizes, **{name: draw(times) for name in names})
    if "closed" in on:
        concurrency = draw(st.integers(1, len(requests) + 2))
        config = replace(config, client="closed", concurrency=concurrency, client_think_s=draw(times))
    if "delays" in on:
        config = replace(config, ingress_s=draw(times), ingress_s_per_token=draw(times) / 16, egress_s=draw(times))
    if "prefix_aware" in on:
        weight = draw(st.sampled_from([0.0, 0.3, 1.0, 4.0]))
        config = replace(
            config, router="prefix_aware", router_choices=(), hit_weight=weight, replicas=draw(st.integers(1, 3))
        )
    if ENGINES in on and vllm and config.num_stages == 1:
        config = replace(config, data_parallel=draw(st.integers(2, 3)))
    return config, requests


def with_sessions(
    rng: np.random.Generator, config: ReferenceConfig, requests: list[Request], think_s: list[float]
) -> Drawn:
    """Turns of conversations that wait for the one before; such a turn stands where its session begins."""
    sessions = rng.integers(-1, max(1, len(requests) // 4), len(requests)).tolist()
    first: dict[int, float] = {}
    rows = []
    for (arrival_s, prompt, output), session in zip(requests, sessions, strict=True):
        think = math.nan
        if session in first and rng.random() < 0.8:
            arrival_s, think = first[session], float(rng.choice(think_s))
        elif session != -1:
            first.setdefault(session, arrival_s)
        rows.append((arrival_s, prompt, output, session, think))
    # The keys of the queue order are random anyway and need not follow.
    rows.sort(key=lambda row: row[0])
    config = replace(config, sessions=tuple(row[3] for row in rows), think_s=tuple(row[4] for row in rows))
    return config, [row[:3] for row in rows]


def named_texts(
    rng: np.random.Generator, config: ReferenceConfig, requests: list[Request], share: float
) -> dict[str, object]:
    """Fields that name the texts of requests: walks through a tree, of which two share what they begin with.

    Args:
        rng: random numbers.
        config: with the block size, and with sessions, whose later turns go on where the one before stopped.
        requests: their lengths limit the walks.
        share: probability that a step goes where an earlier walk may have gone.
    """
    size = config.block_size
    divisors = [each for each in (1, 2, 4, size // 2, size) if each > 0 and size % each == 0]
    block_tokens = int(rng.choice([size, size, 2 * size, 3 * size, *divisors]))
    names: dict[tuple[int, int], int] = {}
    latest: dict[int, list[int]] = {}
    block_ids = []
    for row, ((_, prompt, output), session) in enumerate(zip(requests, config.sessions, strict=True)):
        most = -(-(prompt + output) // block_tokens)
        # Some texts have a name to the end, their outputs included, others for a part of the prompt.
        length = most if rng.random() < 0.5 else int(rng.integers(0, most + 1))
        walk = list(latest.get(session, [])[:length]) if session != -1 else []
        while len(walk) < length:
            branch = int(rng.integers(0, 2)) if rng.random() < share else 2 + row
            step = (walk[-1] if walk else -1, branch)
            walk.append(names.setdefault(step, int(rng.integers(0, 2**62))))
        latest[session] = walk
        block_ids.append(tuple(walk))
    return {"block_tokens": block_tokens, "block_ids": tuple(block_ids)}
