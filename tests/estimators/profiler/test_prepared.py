import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="the profiler's kernels need torch")

from estimators.errors import EstimatorError  # noqa: E402
from estimators.profiler.hardware import Hardware  # noqa: E402
from estimators.profiler.kernels import operators, prepare  # noqa: E402
from estimators.profiler.kernels.operands import OVERFLOW, copies_of, release, views  # noqa: E402
from estimators.profiles import ELEMENTWISE  # noqa: E402

HEADS = {"q_heads": 4, "kv_heads": 2, "head_dim": 16, "window": 0}
POINTS = {
    "gemm": {"m": 3, "n": 32, "k": 16},
    "decode_attention": {"batch": 2, "kv": 9, **HEADS},
    "prefill_attention": {"batch": 2, "chunk": 3, "history": 4, **HEADS},
    **{operator: {"tokens": 5, "width": 96} for operator in ELEMENTWISE},
}
ROWS = {"gemm": 3, "decode_attention": 2, "prefill_attention": 6}


@pytest.fixture(autouse=True)
def _give_memory_back():
    yield
    release()


def ready(hardware: Hardware, operator: str, columns: dict[str, int], dtype: str = "fp32"):
    return prepare(hardware, operator, dtype, columns, block_size=4, seed=0)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("operator", POINTS)
def test_every_operator_runs_on_each_of_its_copies(cpu, operator: str, dtype: str):
    prepared = ready(cpu, operator, POINTS[operator], dtype)
    assert prepared.rows == ROWS.get(operator, 5)
    with torch.inference_mode():
        for i in {0, prepared.copies - 1}:
            made = prepared.run(i)
            for tensor in made if isinstance(made, tuple) else (made,):
                assert tensor is None or tensor.isfinite().all()


@pytest.mark.parametrize("width", [1, 2, 64, 96, 768, 2048, 2500])
@pytest.mark.parametrize("operator", ELEMENTWISE)
def test_element_wise_operators_take_any_width(cpu, operator: str, width: int):
    with torch.inference_mode():
        ready(cpu, operator, {"tokens": 2, "width": width}).run(0)


def test_what_this_module_measures_can_be_measured():
    assert set(POINTS) <= set(operators())


def test_weights_overflow_the_cache_together_and_activations_do_not_go_round(cpu):
    weights = 64 * 128 * 4
    assert ready(cpu, "gemm", {"m": 1, "n": 64, "k": 128}).copies == OVERFLOW * cpu.cache_bytes // weights
    assert ready(cpu, "gemm", {"m": 1, "n": 1024, "k": 1024}).copies == 1
    assert ready(cpu, "norm", {"tokens": 1, "width": 64}).copies == 1
    assert copies_of(dataclasses.replace(cpu, cache_bytes=1 << 40), 1) == 1024


def test_copies_are_different_weights(cpu):
    made = ready(cpu, "gemm", {"m": 1, "n": 64, "k": 128})
    with torch.inference_mode():
        assert not torch.equal(made.run(0), made.run(1))


def test_operands_are_the_same_for_the_same_seed_and_share_memory(cpu):
    first = views(cpu, torch.float32, (8,), 2, seed=3).clone()
    assert views(cpu, torch.float32, (4,), 2, seed=3).flatten().tolist() == first[0].tolist()
    release()
    assert torch.equal(views(cpu, torch.float32, (8,), 2, seed=3), first)
    assert first.abs().max() <= 1


@pytest.mark.parametrize(
    ("operator", "dtype", "columns", "field"),
    [
        ("all_reduce", "fp32", {}, "operator"),
        ("gemm", "fp8", POINTS["gemm"], "dtype"),
        ("gemm", "fp32", {"m": 1, "n": 0, "k": 8}, "n"),
        ("gemm", "fp32", {"m": 1, "n": 8}, "k"),
        ("decode_attention", "fp32", {**POINTS["decode_attention"], "window": 8}, "window"),
        ("prefill_attention", "fp32", {**POINTS["prefill_attention"], "q_heads": 3}, "q_heads"),
        ("gemm", "fp32", {"m": 1, "n": 1 << 20, "k": 1 << 20}, "operands"),
        ("norm", "fp32", {"tokens": 1 << 20, "width": 1 << 20}, "operands"),
    ],
)
def test_what_cannot_be_measured_is_refused(cpu, operator: str, dtype: str, columns: dict[str, int], field: str):
    with pytest.raises(EstimatorError) as error:
        ready(cpu, operator, columns, dtype)
    assert error.value.field == field


def test_types_without_a_kernel_are_refused_where_the_device_computes_them(cpu):
    able = dataclasses.replace(cpu, types=("bf16", "fp8"))
    for operator in ("decode_attention", "norm"):
        with pytest.raises(EstimatorError, match="has no kernel of"):
            ready(able, operator, POINTS[operator], "fp8")
    with pytest.raises(EstimatorError, match="multiples of 16"):
        ready(able, "gemm", {"m": 1, "n": 24, "k": 16}, "fp8")


def test_a_window_as_long_as_the_context_hides_nothing(cpu):
    columns = {**POINTS["decode_attention"], "window": 9}
    assert ready(cpu, "decode_attention", columns).kernel == "torch_sdpa_per_request"
