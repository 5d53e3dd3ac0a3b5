import dataclasses
import importlib
from collections.abc import Mapping

import pytest

from estimators.errors import EstimatorError
from estimators.profiles import columns_of

torch = pytest.importorskip("torch", reason="needs torch, which the extra 'profile' brings")
hardware_module = importlib.import_module("estimators.profiler.hardware")
kernels = importlib.import_module("estimators.profiler.kernels")
experts = importlib.import_module("estimators.profiler.kernels.experts")
mixed = importlib.import_module("estimators.profiler.kernels.mixed")

HEADS = {"q_heads": 4, "kv_heads": 2, "head_dim": 16}
MOE = {"tokens": 5, "hidden": 32, "inter": 16, "topk": 2, "experts": 8, "local_experts": 4, "load": 120}
POINTS: Mapping[str, Mapping[str, int]] = {
    "moe": MOE,
    "latent_prefill": {"batch": 2, "chunk": 3, "history": 4, "heads": 2},
    "latent_decode": {"batch": 2, "kv": 9, "heads": 2},
    "latent_bmm": {"tokens": 3, "heads": 2, "n": 16, "k": 8},
    "mixed_attention": {"chunk": 6, "history": 3, "decodes": 2, "kv": 9, **HEADS},
    "skewed_decode_attention": {"batch": 3, "kv": 5, "longest": 10, **HEADS},
}


@pytest.fixture
def hardware(cpu):
    """A CPU with so small a cache that few copies overflow it."""
    return dataclasses.replace(cpu, cache_bytes=1 << 18)


def _prepare(hardware, operator: str, columns: Mapping[str, int], dtype: str = "fp32"):
    return kernels.prepare(hardware, operator, dtype, columns, block_size=4, seed=0)


@pytest.mark.parametrize("operator", POINTS)
def test_every_set_of_operands_runs(hardware, operator: str):
    assert tuple(POINTS[operator]) == tuple(columns_of(operator))
    prepared = _prepare(hardware, operator, POINTS[operator])
    assert prepared.copies > 1 or operator == "latent_prefill"
    for i in (0, prepared.copies - 1):
        prepared.run(i)


@pytest.mark.parametrize("operator", POINTS)
def test_a_type_without_a_kernel_is_refused(hardware, operator: str):
    fp8 = dataclasses.replace(hardware, types=("fp32", "fp8"))
    with pytest.raises(EstimatorError, match=f"dtype 'fp8' has no kernel of {operator}"):
        _prepare(fp8, operator, POINTS[operator], "fp8")


def test_experts_of_all_copies_overflow_the_cache_twice(hardware, monkeypatch: pytest.MonkeyPatch):
    touched: list[tuple[int, int]] = []

    def noted(x, chosen, weights, gate_up, down, rows, grouped):
        touched.extend((gate_up.data_ptr(), expert) for expert in set(chosen[chosen < len(gate_up)].tolist()))
        assert int((chosen < len(gate_up)).sum()) == rows
        assert not set(range(gate_up.data_ptr(), gate_up.data_ptr() + gate_up.nbytes)) & {down.data_ptr()}

    monkeypatch.setattr(experts, "run_experts", noted)
    prepared = _prepare(hardware, "moe", MOE | {"tokens": 1})
    for i in range(prepared.copies):
        prepared.run(i)
    assert len(set(touched)) * 3 * 32 * 16 * 4 >= 2 * hardware.cache_bytes


def test_experts_without_a_grouped_kernel_go_one_by_one(hardware):
    assert _prepare(hardware, "moe", MOE).kernel == "torch_mm_per_expert"
    assert experts.choose_grouped(torch.device("cpu"), torch.bfloat16) is experts.grouped_by_loop


def test_latent_decodes_are_left_to_a_catalogue_on_cuda(hardware):
    class Cuda(hardware_module.Hardware):
        is_cuda = True

    cuda = Cuda(**{field.name: getattr(hardware, field.name) for field in dataclasses.fields(hardware)})
    with pytest.raises(EstimatorError, match=r"latent_decode has no kernel in torch.*; take a cat"):
        _prepare(cuda, "latent_decode", POINTS["latent_decode"])


@pytest.mark.parametrize("longest", [4, 14])
def test_a_longest_context_that_cannot_be_is_refused(hardware, longest: int):
    with pytest.raises(EstimatorError, match=rf"longest {longest} is no longest of 3 contexts .*; give 5 to 13"):
        _prepare(hardware, "skewed_decode_attention", POINTS["skewed_decode_attention"] | {"longest": longest})


@pytest.mark.parametrize("longest", [5, 10, 13])
def test_unequal_contexts_have_the_mean_asked_for(hardware, monkeypatch: pytest.MonkeyPatch, longest: int):
    seen = []

    def noted(q, k_cache, v_cache, tables, lens, scale, backend):
        seen.append(lens.tolist())
        assert int(tables.max()) < len(k_cache)
        used = [block for table, length in zip(tables, lens, strict=True) for block in table[: -(-int(length) // 4)]]
        assert len(set(map(int, used))) == len(used)

    monkeypatch.setattr(mixed, "attend_decodes", noted)
    prepared = _prepare(hardware, "skewed_decode_attention", POINTS["skewed_decode_attention"] | {"longest": longest})
    prepared.run(prepared.copies - 1)
    (lengths,) = seen
    assert max(lengths) == longest
    assert sum(lengths) == 15


def test_a_mixed_batch_by_a_kernel_of_batches_is_the_same_as_its_parts(hardware, monkeypatch: pytest.MonkeyPatch):
    parts, whole = [], []
    monkeypatch.setattr(mixed, "attend_decodes", _kept(mixed.attend_decodes, parts))
    monkeypatch.setattr(mixed, "attend_chunk", _kept(mixed.attend_chunk, parts))
    torch.manual_seed(0)
    _prepare(hardware, "mixed_attention", POINTS["mixed_attention"]).run(0)
    one_by_one = mixed.attend
    monkeypatch.setattr(mixed, "choose_backend", lambda *_: "of_batches")
    monkeypatch.setattr(mixed, "attend", _kept(lambda *args: one_by_one(*args[:-1]), whole))
    torch.manual_seed(0)
    _prepare(hardware, "mixed_attention", POINTS["mixed_attention"]).run(0)
    torch.testing.assert_close(torch.cat(parts), whole[0])


def _kept(function, results: list):
    def call(*args):
        results.append(function(*args))
        return results[-1]

    return call
