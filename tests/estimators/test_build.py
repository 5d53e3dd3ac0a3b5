import numpy as np
import pytest
from roofline_estimators import LAUNCH, SMALL, RooflineEstimators, build_small

from estimators.devices import device_names, load_device
from estimators.errors import EstimatorError
from estimators.models import load_model
from estimators.operators import bandwidth_seconds
from estimators.tables import IterationTables


def predict(operator, **columns):
    return float(
        RooflineEstimators().predict(operator, {name: np.array([value]) for name, value in columns.items()})[0]
    )


def linear_seconds(tokens, sequences):
    """Llama-3.1-8B on one H100, without attention, written out."""
    device = load_device("h100_sxm")
    shapes = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)]
    layer = sum(predict("gemm", m=tokens, n=n, k=k) for n, k in shapes)
    elements = [4 * 4096, 4 * 4096, 2 * 40 * 128, 4 * 8 * 128, 3 * 14336]  # norms, rope, KV write, activation
    layer += sum(float(bandwidth_seconds(tokens * count * 2, device)) for count in elements)
    outer = sum(float(bandwidth_seconds(tokens * count * 2, device)) for count in (2 * 4096, 4 * 4096))
    head = predict("gemm", m=sequences, n=128256, k=4096)
    head += sum(float(bandwidth_seconds(sequences * 128256 * size, device, 5)) for size in (6, 4))
    return 32 * layer + outer + head


def decode_seconds(batch, kv):
    return 32 * predict("decode_attention", batch=batch, kv=kv / batch, q_heads=32, kv_heads=8, head_dim=128)


def prefill_seconds(history, chunk):
    return 32 * predict(
        "prefill_attention", batch=1, chunk=chunk, history=history, q_heads=32, kv_heads=8, head_dim=128
    )


@pytest.mark.parametrize(("batch", "kv"), [(1, 1), (1, 8192), (7, 7 * 1024), (64, 2**16), (128, 2**18)])
def test_a_decode_iteration_on_grid_points_is_exact(batch, kv):
    seconds = build_small().iteration_time_s(batch, batch, batch, kv)
    assert seconds == pytest.approx(linear_seconds(batch, batch) + decode_seconds(batch, kv), rel=1e-12)


@pytest.mark.parametrize(("history", "chunk"), [(0, 1), (0, 2048), (1024, 1024), (4096, 33), (31, 63)])
def test_a_prefill_iteration_on_grid_points_is_exact(history, chunk):
    seconds = build_small().iteration_time_s(chunk, 1, chunks=[(history, chunk)])
    assert seconds == pytest.approx(linear_seconds(chunk, 1) + prefill_seconds(history, chunk), rel=1e-12)


def test_off_the_grid_attention_is_within_a_tenth_of_a_percent():
    tables, draw = build_small(), np.random.default_rng(1)
    launch = tables.provenance["attention_launch_s"]
    for batch in draw.integers(1, 257, 100):
        # Up to what 2**19 tokens and 8192 per request allow, and over cells that only the longest contexts reach.
        kv = int(draw.integers(batch, min(batch * 8192, 2**19) + 1))
        assert tables.decode_time_s(batch, kv) + launch == pytest.approx(decode_seconds(batch, kv), rel=1e-3)
    for _ in range(100):
        history, chunk = int(draw.integers(0, 8193)), int(draw.integers(1, 2049))
        assert tables.prefill_time_s(history, chunk) + launch == pytest.approx(
            prefill_seconds(history, chunk), rel=1e-3
        )


def test_every_request_at_full_length_is_served_exactly():
    tables = build_small()
    for batch in (1, 2, 33, 64):
        seconds = tables.decode_time_s(batch, batch * 8192) + tables.provenance["attention_launch_s"]
        assert seconds == pytest.approx(decode_seconds(batch, batch * 8192), rel=1e-12)


def test_attention_is_launched_once_per_iteration():
    tables = build_small()
    one = tables.iteration_time_s(64, 1, chunks=[(0, 64)])
    two = tables.iteration_time_s(64, 1, chunks=[(0, 32), (0, 32)])
    work = [prefill_seconds(0, chunk) - 32 * LAUNCH for chunk in (64, 32)]
    # The smallest attention is a launch and next to nothing: the second chunk may keep that little.
    assert two - one == pytest.approx(2 * work[1] - work[0], abs=1e-6)


def test_no_decode_costs_nothing():
    assert not build_small().decode_time_s(0, np.arange(100)).any()


def test_tensor_parallel_tables_hold_communication():
    with_links, without = RooflineEstimators(), RooflineEstimators()
    without._all_reduce = lambda gpus, elements: np.full(elements.shape, -LAUNCH)
    difference = build_small(with_links, tp=2).token_s - build_small(without, tp=2).token_s
    expected = 65 * predict("all_reduce", gpus=2, elements=100 * 4096)
    assert difference[100] == pytest.approx(expected, rel=1e-9)


def test_the_equivalent_chunk_rule_reaches_the_sum_of_histories():
    tables = build_small(prefill_rule="equivalent_chunk")
    chunks = [(8000, 300), (8000, 400), (8000, 100)]
    seconds = tables.iteration_time_s(800, 3, chunks=chunks)
    expected = linear_seconds(800, 3) + prefill_seconds(24000, round((300**2 + 400**2 + 100**2) ** 0.5))
    assert seconds == pytest.approx(expected, rel=1e-3)


def test_a_build_asks_each_operator_once():
    known = RooflineEstimators()
    build_small(known, tp=2, max_tokens=8192, max_sequences=1024, max_kv=4_000_000, max_model_len=131072)
    assert sorted(known.calls) == ["all_reduce", "decode_attention", "gemm", "prefill_attention"]
    assert known.rows < 300_000


def test_provenance_names_its_sources_and_the_profiled_ranges():
    provenance = build_small(model=load_model("Llama-3.1-8B"), tp=2).provenance
    assert provenance["model"] == "meta-llama/Llama-3.1-8B"
    assert (provenance["device"], provenance["tp"], provenance["dtype"]) == ("h100_sxm", 2, "bf16")
    assert provenance["estimators"] == "roofline"
    assert provenance["profiled"] == {
        "tokens": [1, 8192],
        "sequences": [1, 8192],
        "decodes": [1, 512],
        "decode_context": [1, 131071],
        "decode_kv": [1, 512 * 131071],
        "history": [0, 16383],
        "chunk": [1, 16384],
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "Llama-9"}, "model"),
        ({"tp": 3}, "tp"),
        ({"tp": 16}, "tp"),
        ({"dtype": "fp4"}, "dtype"),
        ({"max_tokens": 2**21}, "layout"),
    ],
)
def test_a_bad_argument_is_refused_by_name(change, field):
    with pytest.raises(EstimatorError) as caught:
        build_small(**change)
    assert caught.value.field == field


@pytest.mark.parametrize("device", device_names())
@pytest.mark.parametrize(("model", "tp"), [("Llama-3.1-8B", 1), ("Llama-3.1-70B", 4)])
def test_the_shipped_estimators_stay_near_what_the_device_can_do(device, model, tp):
    tables = IterationTables.build(model, device, tp, **SMALL, cache=False)
    spec, gpu = load_model(model), load_device(device)
    # One decode reads every weight but the embedding table; 2048 tokens keep the matrix units busy.
    weights = spec.weight_bytes(tp) - 2 * spec.vocabulary_per_gpu(tp) * spec.hidden_size
    assert 1.0 < tables.iteration_time_s(1, 1, 1, 1000) / (weights / gpu.memory_bandwidth) < 2.0
    flops = 2048 * spec.linear_flops_per_token / tp
    assert 1.0 < tables.iteration_time_s(2048, 1, chunks=[(0, 2048)]) / (flops / gpu.peak_flops["bf16"]) < 2.0
