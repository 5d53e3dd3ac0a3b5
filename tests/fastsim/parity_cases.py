"""Cases for the parity kernel: random tables and crowded replicas, in the reference's words and in ours."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hypothesis import strategies as st
from reference.config import ReferenceConfig
from reference.vidur_tables import VidurTables
from reference_tests.policy_cases import LONGEST, MOST_REQUESTS, PAPER_POLICIES
from reference_tests.policy_cases import cases as policy_cases

from estimators import load_model
from estimators.vidur_tables import CPU_OPERATORS, NETWORK_OPERATORS, TOKEN_OPERATORS, OperatorTables
from fastsim import SimulationConfig

#: GQA with a norm before the MLP; MHA without.
MODELS = ("meta-llama/Llama-3.1-8B", "microsoft/phi-2")
GRANULARITY = 4
_MOST_TOKENS = LONGEST * MOST_REQUESTS


@dataclass(frozen=True)
class ParityCase:
    """A run, twice: ``config`` and ``reference`` say the same."""

    config: SimulationConfig
    reference: ReferenceConfig
    requests: list[tuple[float, int, int]]
    cpu_overhead: bool

    @property
    def tables(self) -> OperatorTables:
        return product_tables(self.cpu_overhead)

    @property
    def reference_tables(self) -> VidurTables:
        model, options = load_model(self.config.model), self.config.parity_choice
        return VidurTables(
            operators=plain_operators(self.cpu_overhead),
            num_layers=model.num_layers // self.reference.num_stages,
            tensor_parallel=self.config.tensor_parallel,
            grouped_query_attention=model.num_kv_heads < model.num_q_heads,
            post_attention_norm=not model.parallel_attention_mlp,
            decode_overhead_fraction=options.attention_decode_batching_overhead_fraction,
            prefill_overhead_fraction=options.attention_prefill_batching_overhead_fraction,
            launch_overhead_ms=options.nccl_cpu_launch_overhead_ms,
            skew_overhead_per_device_ms=options.nccl_cpu_skew_overhead_per_device_ms,
            kv_granularity=GRANULARITY,
        )


@cache
def operators() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Keys and random milliseconds of every operator, for every batch of these cases."""
    rng = np.random.default_rng(5)
    tokens = np.arange(1, _MOST_TOKENS + 9)[:, None]
    requests = np.arange(1, MOST_REQUESTS + 1)
    contexts = np.arange(0, LONGEST + GRANULARITY + 1, GRANULARITY)
    histories = np.arange(0, MOST_REQUESTS * (LONGEST + GRANULARITY) + 1, GRANULARITY)
    chunks = np.arange(1, LONGEST * 4 + 1) ** 2
    keys = dict.fromkeys((*TOKEN_OPERATORS, *NETWORK_OPERATORS), tokens)
    keys |= dict.fromkeys(CPU_OPERATORS, requests[:, None])
    keys["attn_decode"] = np.stack(np.meshgrid(requests, contexts), -1).reshape(-1, 2)
    keys["attn_prefill"] = np.stack(np.meshgrid(histories, chunks), -1).reshape(-1, 2)
    return {name: (key, 2 * rng.random(len(key))) for name, key in keys.items()}


@cache
def product_tables(cpu_overhead: bool) -> OperatorTables:
    return OperatorTables.from_operators(operators(), kv_granularity=GRANULARITY, cpu_overhead=cpu_overhead)


@cache
def plain_operators(cpu_overhead: bool) -> dict[str, dict[tuple[int, ...], float]]:
    return {
        name: dict(zip(map(tuple, keys.tolist()), ms.tolist(), strict=True))
        for name, (keys, ms) in operators().items()
        if cpu_overhead or name not in CPU_OPERATORS
    }


def product_config(reference: ReferenceConfig, **fields: object) -> SimulationConfig:
    """The same configuration for the product."""
    policy = reference.batch_policy
    options: dict[str, object] = {"max_num_seqs": reference.max_num_seqs}
    if policy in ("vllm_v0", "sarathi"):
        options["watermark_blocks_fraction"] = reference.watermark_blocks_fraction
    if policy in ("vllm_v0", "lightllm"):
        options["max_num_batched_tokens"] = reference.max_num_batched_tokens
    if policy == "sarathi":
        options["chunk_size"] = reference.max_num_batched_tokens
    if policy == "lightllm":
        options["max_waiting_iterations"] = reference.max_waiting_iterations
    parity = {"kv_cache_prediction_granularity": GRANULARITY, "time_limit_s": reference.time_limit_s}
    given = {"model": MODELS[0], "device": "a100_sxm", "parity_options": parity, "record_batches": True, **fields}
    return SimulationConfig(
        parity="vidur",
        scheduler=policy,
        scheduler_options=options,
        router=reference.router,
        replicas=reference.replicas,
        pipeline_parallel=reference.num_stages,
        num_kv_blocks=reference.num_usable_blocks,
        block_size=reference.block_size,
        max_model_len=reference.max_model_len,
        **given,
    )


@st.composite
def parity_cases(draw: st.DrawFn) -> ParityCase:
    """A replica with room for the longest request or a little less, one to four stages, a few requests."""
    reference, requests = draw(policy_cases(PAPER_POLICIES))
    stages = reference.num_stages
    # Seldom: a pool, a cap or a budget so small that a replica may block for ever.
    least = max(1, reference.num_usable_blocks - (2 if reference.watermark_blocks_fraction else 1))
    pool = draw(st.sampled_from([least, least, reference.num_usable_blocks, max(1, least - 2)]))
    cap = max(1, reference.max_num_seqs - draw(st.sampled_from([0] * 6 + [stages])))
    replicas = draw(st.sampled_from([1, 1, 1, 2, 3]))
    num_requests = draw(st.integers(len(requests), MOST_REQUESTS))
    longest = reference.max_model_len
    for _ in range(len(requests), num_requests):
        prompt = draw(st.integers(1, longest - 1))
        requests = [*requests, (draw(st.integers(0, 16)) / 8, prompt, draw(st.integers(1, longest - prompt)))]
    reference = replace(
        reference,
        parity="vidur",
        # Vidur has no other queue order and does not swap.
        queue_order="fcfs",
        order_keys=(),
        preemption_mode="recompute",
        replicas=replicas,
        router_choices=tuple(draw(st.integers(0, replicas - 1)) for _ in range(num_requests)),
        router=draw(st.sampled_from(["round_robin", "random", "lor"])),
        num_usable_blocks=pool,
        max_num_seqs=cap,
        time_limit_s=draw(st.sampled_from([0.0, 0.0, 0.0, 0.5, 2.0])),
    )
    # The tables give batches of a tenth of a second or so: arrivals come closer than they do there.
    requests = [(arrival_s / draw(st.sampled_from([1, 8])), *sizes) for arrival_s, *sizes in requests]
    model, tp = draw(st.sampled_from([(MODELS[0], 1), (MODELS[0], 2), (MODELS[1], 1)]))
    parity = {
        "kv_cache_prediction_granularity": GRANULARITY,
        "time_limit_s": reference.time_limit_s,
        "nccl_cpu_skew_overhead_per_device_ms": draw(st.sampled_from([0.0, 0.3])),
    }
    config = product_config(reference, model=model, tensor_parallel=tp, parity_options=parity)
    return ParityCase(config, reference, requests, draw(st.booleans()))
