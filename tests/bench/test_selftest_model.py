"""The self-test's model against a forward pass without a cache, written without the profiler's functions."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from run_files import REPOSITORY

from estimators.errors import EstimatorError
from estimators.models import load_model

torch = pytest.importorskip("torch", reason="the self-test's model needs torch")

TINY = REPOSITORY / "bench" / "selftest_models" / "llama-tiny.json"


@pytest.fixture(scope="module")
def engine(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("selftest_engine")


@pytest.fixture(scope="module")
def model(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("selftest_model")


def naive_logits(runner: Any, ids: list[int]) -> Any:
    """Logits behind every token, (tokens, vocabulary), one head at a time."""
    spec, n = runner.spec, len(ids)
    x = runner.table[ids]
    for layer in runner.layers:
        heads = (normed(x, layer.input_norm) @ layer.qkv.T).view(n, -1, spec.head_dim)
        q, k, v = heads.split([spec.num_q_heads, spec.num_kv_heads, spec.num_kv_heads], dim=1)
        q, k = rotated(q), rotated(k)
        outs = []
        for head in range(spec.num_q_heads):
            of = head * spec.num_kv_heads // spec.num_q_heads
            scores = q[:, head] @ k[:, of].T / spec.head_dim**0.5
            scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
            outs.append(scores.softmax(-1) @ v[:, of])
        x = x + torch.cat(outs, dim=1) @ layer.o.T
        gate, up = (normed(x, layer.post_norm) @ layer.gate_up.T).chunk(2, dim=1)
        x = x + (gate / (1 + (-gate).exp()) * up) @ layer.down.T
    return normed(x, runner.final_norm) @ runner.lm_head.T


def normed(x: Any, weight: Any) -> Any:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def rotated(heads: Any) -> Any:
    n, _, dim = heads.shape
    angles = torch.arange(n)[:, None] / 10000.0 ** (torch.arange(0, dim, 2) / dim)
    turned = torch.view_as_complex(torch.stack(heads.chunk(2, dim=-1), dim=-1)) * torch.polar(
        torch.ones_like(angles), angles
    ).unsqueeze(1)
    return torch.cat((turned.real, turned.imag), dim=-1)


def test_a_cut_and_preempted_request_gets_the_logits_and_tokens_of_a_whole_forward(
    engine: ModuleType, model: ModuleType
):
    limits = engine.Limits(num_blocks=14, block_size=4, max_num_batched_tokens=9, max_num_seqs=3)
    runner = model.ModelRunner(load_model(str(TINY)), limits, 64, torch.device("cpu"))
    seen: list[tuple[Any, int, Any]] = []
    launch = runner.launch

    def noting(inputs: Any) -> Any:
        with torch.inference_mode():
            logits = runner.logits(inputs)  # twice on the same cache: it writes the same keys and values
        members = run.batch.members
        for member, row in zip(members, logits, strict=True):
            seen.append((member.request, member.history + member.tokens - 1, row))
        return launch(inputs)

    runner.launch = noting
    run = engine.Engine(limits, runner, engine.VirtualClock(), lambda tokens: f"<{tokens[0]}>")
    schedule = run.scheduler.schedule

    def scheduled() -> Any:
        run.batch = schedule()
        return run.batch

    run.scheduler.schedule = scheduled
    draw = torch.Generator().manual_seed(1)
    requests = [
        engine.Request(torch.randint(256, (length,), generator=draw).tolist(), 20, 0.0) for length in (20, 1, 13, 7)
    ]
    run.serve(requests)
    assert sum(request.preemptions for request in requests) > 0
    for request in requests:
        whole = naive_logits(runner, request.prompt + request.outputs)
        assert request.outputs == whole[len(request.prompt) - 1 : -1].argmax(-1).tolist()
        assert request.text == "".join(f"<{token}>" for token in request.outputs)
        # A causal model: what is behind a token does not change its logits.
        mine = [(place, row) for member, place, row in seen if member is request]
        assert len(mine) >= request.output_tokens
        rows = torch.stack([row for _, row in mine])
        torch.testing.assert_close(rows, whole[[place for place, _ in mine]], rtol=1e-4, atol=1e-4)
    kinds = {iteration.kind for iteration in run.iterations}
    assert kinds == {"decode", "mixed", "prefill"}


def test_the_cache_is_shared_by_nobody(engine: ModuleType, model: ModuleType):
    limits = engine.Limits(num_blocks=8, block_size=4, max_num_batched_tokens=64, max_num_seqs=8)
    runner = model.ModelRunner(load_model(str(TINY)), limits, 64, torch.device("cpu"))
    scheduler = engine.Scheduler(limits)
    for length in (9, 3):
        scheduler.add(engine.Request([5] * length, 4, 0.0))
    slots = runner.prepare(scheduler.schedule()).slots.tolist()
    assert len(set(slots)) == 12
    assert min(slots) >= limits.block_size  # block 0 is the null block


def test_cpu_times_are_those_of_steps_in_which_all_decode(engine: ModuleType, model: ModuleType):
    limits = engine.Limits(num_blocks=32, block_size=8, max_num_batched_tokens=40, max_num_seqs=4)
    runner = model.ModelRunner(load_model(str(TINY)), limits, 64, torch.device("cpu"))
    idle = engine.Engine(limits, runner)
    times = idle.host_times(4, repeats=6)
    # The budget cuts the prompts of 16 tokens: the last of them decodes two steps behind the first.
    assert {name: len(seconds) for name, seconds in times.items()} == dict.fromkeys(times, 5)
    assert set(times["launch"]) == {0.0}  # its computing is the operators' own time
    assert min(times["schedule"]) > 0
    assert idle.scheduler.blocks.num_free == 32
    assert idle.iterations == []


def test_a_model_that_is_no_llama_is_refused(engine: ModuleType, model: ModuleType):
    limits = engine.Limits(num_blocks=8, block_size=4, max_num_batched_tokens=64, max_num_seqs=8)
    with pytest.raises(EstimatorError, match=r"more than a Llama's shape \(qk_norm\); give the config.json of a Llama"):
        model.ModelRunner(load_model("Qwen/Qwen3-0.6B"), limits, 64, torch.device("cpu"))
