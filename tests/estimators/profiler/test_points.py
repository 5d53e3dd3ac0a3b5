from dataclasses import replace

import pytest
from fake_device import LIMITS, tiny

from estimators import EstimatorError, load_model
from estimators.operators import iteration_calls
from estimators.profiler import Limits, Point, candidates
from estimators.profiles import COLLECTIVES


@pytest.mark.parametrize(
    ("model", "dtype", "tps"),
    [
        ("Llama-3.1-8B", "bf16", (1, 2, 4, 8)),
        ("Llama-3.1-8B", "fp8", (1, 4)),
        ("Mixtral-8x7B-v0.1", "bf16", (2, 8)),
        ("DeepSeek-V3", "fp8_block", (8,)),
        ("gemma-2-9b", "bf16", (1,)),
    ],
)
def test_the_grid_has_every_shape_of_an_iteration_at_every_tp(model: str, dtype: str, tps: tuple[int, ...]):
    spec = load_model(model)
    grid = candidates(spec, tps, dtype, Limits())
    for tp in tps:
        for call in iteration_calls(spec, tp, dtype):
            if call.operator in COLLECTIVES or (call.operator == "bandwidth" and not call.measured_as):
                continue
            wanted = call.measured() if call.operator == "bandwidth" else call
            points = grid[wanted.operator, wanted.dtype]
            same = [point for point in points if wanted.shape.items() <= point.columns.items()]
            assert len(same) >= 10, (tp, call)


def test_sizes_reach_from_one_to_the_limits_with_both_sides_of_tiles():
    grid = candidates(load_model("Llama-3.1-8B"), [1], "bf16", Limits(2048, 128, 4096))
    rows = {point.columns["m"] for point in grid["gemm", "bf16"] if point.columns["n"] == 6144}
    assert {1, 2, 3, 4, 8, 40, 128, 129, 1920, 1921, 2048} <= rows
    heads = {point.columns["m"] for point in grid["gemm", "bf16"] if point.columns["n"] > 28672}
    assert (min(heads), max(heads)) == (1, 128)
    chunks = [(point.columns["history"], point.columns["chunk"]) for point in grid["prefill_attention", "bf16"]]
    assert {(0, 1), (0, 2048), (4095, 1)} <= set(chunks)
    assert max(history + chunk for history, chunk in chunks) == 4096
    assert {(1, 1), (128, 4096)} <= {point.size for point in grid["decode_attention", "bf16"]}


def test_no_batch_reads_more_than_the_memory_beside_the_weights_holds():
    model = load_model("Llama-3.1-8B")
    memory = model.weight_bytes(1, "bf16") + 10_000 * model.kv_bytes_per_token()
    grid = candidates(model, [1], "bf16", Limits(), memory)
    read = [point.columns["batch"] * point.columns["kv"] for point in grid["decode_attention", "bf16"]]
    assert 8000 < max(read) <= 10_000


def test_windows_bound_what_is_read():
    grid = candidates(load_model("gemma-2-9b"), [1], "bf16", Limits(max_model_len=8192))
    windowed = [point.columns for point in grid["decode_attention", "bf16"] if point.columns["window"]]
    assert {columns["window"] for columns in windowed} == {4096}
    assert max(columns["kv"] for columns in windowed) == 4096


def test_calls_of_a_point_are_counted():
    grid = candidates(tiny(), [1], "fp32", LIMITS)
    norms = {point: calls for point, calls in grid["norm", "fp32"].items()}
    assert set(norms.values()) == {5.0}  # two in each of two layers, and the last


def test_a_point_knows_its_columns_shape_and_size():
    point = Point.of("gemm", "fp32", {"k": 3, "m": 1, "n": 2})
    assert (point.columns, point.shape, point.size) == ({"m": 1, "n": 2, "k": 3}, (2, 3), (1,))


@pytest.mark.parametrize("name", ["max_tokens", "max_num_seqs", "max_model_len", "block_size"])
def test_limits_are_numbers(name: str):
    with pytest.raises(EstimatorError, match=f"{name} 0 is not a limit; give 1 or more"):
        replace(LIMITS, **{name: 0}).check()


def test_a_batch_of_fewer_tokens_than_requests_is_refused():
    with pytest.raises(EstimatorError, match="max_tokens 8 is less than max_num_seqs = 16; give 16 or more"):
        replace(LIMITS, max_tokens=8).check()
