from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from roofline_estimators import LAUNCH, SMALL, RooflineEstimators, build_small

from estimators import build
from estimators.devices import device_names, load_device
from estimators.errors import EstimatorError
from estimators.estimator import OperatorEstimators
from estimators.layout import log_points
from estimators.models import load_model
from estimators.operators import bandwidth_seconds
from estimators.tables import IterationTables, TableLayout


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
    head = 2 * predict("gemm", m=sequences, n=128256 // 2, k=4096)  # wider than measured: in two parts
    head += sum(float(bandwidth_seconds(sequences * 128256 * size, device, 5)) for size in (6, 4))
    return 32 * layer + outer + head


def decode_seconds(batch, kv):
    return 32 * predict("decode_attention", batch=batch, kv=kv / batch, q_heads=32, kv_heads=8, head_dim=128, window=0)


def prefill_seconds(history, chunk):
    return 32 * predict(
        "prefill_attention", batch=1, chunk=chunk, history=history, q_heads=32, kv_heads=8, head_dim=128, window=0
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
    assert provenance["kv_dtype"] == "bf16"
    assert provenance["estimators"] == {"bf16": "roofline"}
    assert provenance["profiled"] == {
        "tokens": [1, 8192],
        "sequences": [1, 8192],
        "engines": None,
        "decodes": [1, 512],
        "decode_context": [1, 131071],
        "decode_kv": [1, 512 * 131071],
        "history": [0, 65536],
        "chunk": [1, 16384],
    }


@pytest.mark.parametrize(
    ("model", "device", "tp", "expected"),
    [
        ("Llama-3.1-70B", "h100_sxm", 4, []),
        ("Llama-3.1-8B", "a100_sxm", 2, []),
        ("Llama-3.1-8B", "h100_sxm", 1, []),
        (
            "Llama-2-7b-hf",
            "h200_sxm",
            1,
            ["decode_attention lies outside the measured shapes: key/value heads per GPU 32 (measured 1 to 8)"],
        ),
        (
            "phi-2",
            "a100_sxm",
            1,
            [
                "decode_attention lies outside the measured shapes: "
                "key/value heads per GPU 32 (measured 1 to 8), head size 80 (only 128 was measured)",
                "prefill_attention lies outside the measured shapes: head size 80 (only 128 was measured)",
            ],
        ),
    ],
)
def test_provenance_tells_what_was_never_measured(model, device, tp, expected):
    tables = IterationTables.build(model, device, tp, max_tokens=16, max_sequences=4, max_model_len=64, cache=False)
    assert tables.provenance["outside_profiles"] == expected


def test_more_gpus_than_were_measured_are_told():
    node, known = replace(load_device("h100_sxm"), gpus_per_node=16), RooflineEstimators()
    known.profiled["all_reduce"]["gpus"] = [2, 8]
    tables = IterationTables.build("Llama-3.1-70B", node, 16, cache=False, estimators=known)
    calls = ("embedding_all_reduce", "logits_gather", "attention_all_reduce", "mlp_all_reduce")
    assert tables.provenance["outside_profiles"] == [
        f"{call} lies outside the measured shapes: GPUs 16 (measured 2 to 8)" for call in calls
    ]


def test_each_product_is_timed_in_its_own_dtype():
    limits = {"max_tokens": 64, "max_sequences": 8, "max_model_len": 4096, "cache": False}

    def build(**kinds):
        return IterationTables.build("Llama-3.1-8B", "h200_sxm", **limits, **kinds)

    bf16, fp8, cache = build(), build(dtype="fp8"), build(dtype="fp8", kv_dtype="fp8")
    estimators = {kind: OperatorEstimators.load("h200_sxm", kind) for kind in ("bf16", "fp8")}
    assert fp8.provenance["estimators"] == {kind: known.hash for kind, known in estimators.items()}
    assert (fp8.provenance["kv_dtype"], cache.provenance["kv_dtype"]) == ("bf16", "fp8")
    shapes = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)]
    saved = 0.0
    for n, k in shapes:
        shape = {"m": 32, "n": n, "k": k}
        saved += 32 * (estimators["bf16"].predict("gemm", shape) - estimators["fp8"].predict("gemm", shape))
    assert bf16.token_s[32] - fp8.token_s[32] == pytest.approx(saved, rel=1e-5)
    np.testing.assert_allclose(fp8.sequence_s, bf16.sequence_s, rtol=1e-5)
    np.testing.assert_array_equal(fp8.decode_s, bf16.decode_s)
    # The decodes of 8 long contexts read half the bytes.
    assert 0.5 < cache.decode_time_s(8, 32768) / fp8.decode_time_s(8, 32768) < 0.9


def test_a_dtype_that_was_never_measured_is_refused():
    with pytest.raises(EstimatorError, match="'a100_sxm fp8' has no estimators"):
        IterationTables.build("Llama-3.1-8B", "a100_sxm", kv_dtype="fp8")


def test_model_and_device_are_enough():
    tables = IterationTables.build(model="Llama-3.1-8B", device="h100_sxm", tp=2, estimators=RooflineEstimators())
    assert tables.layout == TableLayout(2048, 256, 256 * 8192, max_history=8192, max_chunk=2048)


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_pool_smaller_than_the_number_of_requests_is_built(blocks):
    limits = {"max_tokens": 64, "max_sequences": 256, "max_model_len": 128, "cache": False}
    small = IterationTables.build("Llama-3.1-8B", "h100_sxm", max_kv=16 * blocks, **limits)
    large = IterationTables.build("Llama-3.1-8B", "h100_sxm", max_kv=4096, **limits)
    for batch in range(1, 16 * blocks + 1):
        kv = np.arange(batch, 16 * blocks + 1)
        # Where a row ends, fewer neighbours are smoothed with it.
        np.testing.assert_allclose(small.decode_time_s(batch, kv), large.decode_time_s(batch, kv), rtol=0.02, atol=2e-5)


def test_many_tokens_are_evaluated_on_a_log_axis():
    known = RooflineEstimators()
    tables = build_small(known, max_tokens=500_000)
    assert known.rows < 200_000
    exact = build_small(max_tokens=16384).token_s
    np.testing.assert_allclose(tables.token_s[:16385], exact, rtol=1e-12)
    launch = tables.provenance["attention_launch_s"]
    head = tables.sequence_s[1]
    for tokens in (16640, 2**18, 2**18 + 2**12, 2**19):
        assert tables.token_s[tokens] - launch + head == pytest.approx(linear_seconds(tokens, 1), rel=1e-12)
    for tokens in (16385, 20_001, 300_000, 499_999):
        assert tables.token_s[tokens] - launch + head == pytest.approx(linear_seconds(tokens, 1), rel=1e-5)


@pytest.mark.parametrize(("gpus", "mend"), [(8, "choose one of 1, 2, 4, 8 for"), (1, "choose 1 for")])
@pytest.mark.parametrize("tp", [3, 16])
def test_only_splits_that_fit_the_node_are_offered(gpus, mend, tp):
    node = replace(load_device("h100_sxm"), gpus_per_node=gpus)
    with pytest.raises(EstimatorError, match=mend) as caught:
        IterationTables.build("Llama-3.1-70B", node, tp, estimators=RooflineEstimators())
    assert caught.value.field == "tp"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "Llama-9"}, "model"),
        ({"tp": 3}, "tp"),
        ({"tp": 16}, "tp"),
        ({"dtype": "fp4"}, "dtype"),
        ({"max_tokens": 2**27}, "layout"),
        ({"max_sequences": 2**22, "max_kv": 1}, "layout"),
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
    # The faster the GPU, the more launches and all-reduces of 80 layers weigh. Without NVLink one all-reduce of these
    # tokens takes as long as the products of four layers (13.6 ms among 4 L40S, as measured).
    few, many = {("b200_sxm", 4): (2.3, 2.5), ("l40s", 4): (2.0, 14.0)}.get((device, tp), (2.0, 2.0))
    assert 1.0 < tables.iteration_time_s(1, 1, 1, 1000) / (weights / gpu.memory_bandwidth) < few
    flops = 2048 * spec.linear_flops_per_token / tp
    assert 1.0 < tables.iteration_time_s(2048, 1, chunks=[(0, 2048)]) / (flops / gpu.peak_flops["bf16"]) < many


@pytest.mark.parametrize("device", device_names())
@pytest.mark.parametrize(
    ("model", "tp"), [("Llama-3.1-8B", 1), ("Llama-3.1-8B", 2), ("Llama-3.1-70B", 4), ("Llama-3.1-70B", 8)]
)
def test_more_work_takes_no_less_time(device, model, tp):
    tables = IterationTables.build(model, device, tp, max_kv=2**20, cache=False)
    launch, decodes = tables.provenance["attention_launch_s"], np.arange(1, 257)[:, None]
    kv = log_points(tables.layout.kv_points, tables.layout.kv_bits)
    reached = (kv >= decodes) & (kv <= decodes * 8192)
    decode = np.where(reached, tables.decode_s[1:] + launch, 0)
    # Longer contexts, the same number of decodes.
    assert (np.maximum.accumulate(decode, axis=1)[reached] <= decode[reached] * (1 + 1e-9)).all()
    # More decodes, the same KV in total. Measured times fall there too: more requests fill the GPU better.
    fall = 1 - decode[reached] / np.maximum.accumulate(decode, axis=0)[reached]
    assert fall.max() < (0.6 if device in ("a100_sxm", "l40s") else 0.25)  # FlashAttention 2, else 3 and 4

    prefill = tables.prefill_s + launch
    assert (np.diff(prefill, axis=0) >= -1e-9 * prefill[1:]).all()
    assert (np.diff(prefill[:, 16:], axis=1) >= -1e-9 * prefill[:, 17:]).all()
    short = prefill[:, 1:17]
    assert (1 - short / np.maximum.accumulate(short, axis=1)).max() < 0.1


@pytest.mark.parametrize("module", ["devices", "dtypes", "model_spec", "profiles", "row_tables", "operators/outer"])
def test_an_edited_constant_meets_no_old_tables(module):
    source = Path(build.__file__).parent / f"{module}.py"  # such as devices.LINK_EFFICIENCY, of collectives
    assert source in build.table_sources()
