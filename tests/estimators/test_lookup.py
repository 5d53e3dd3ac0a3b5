"""The operators of one iteration, one by one."""

import pytest
from model_specs import DEEPSEEK_V3, GPT_OSS, MIXTRAL
from roofline_estimators import RooflineEstimators, build_small

from estimators.build import Deployment
from estimators.devices import load_device
from estimators.errors import EstimatorError
from estimators.lookup import SHARED_LAUNCHES, operation_times
from estimators.models import load_model

BATCHES = [
    {"decodes": 32, "kv": 32 * 1024},
    {"chunks": [(0, 512)]},
    {"chunks": [(0, 64), (1024, 512)]},
    {"decodes": 7, "kv": 7000, "chunks": [(0, 64), (1000, 500)]},
]


def seconds(model, deployment=None, **batch):
    rows = operation_times(model, "h100_sxm", deployment, estimators=RooflineEstimators(), **batch)
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.seconds == pytest.approx(row.layers * row.seconds_each) for row in rows)
    return sum(row.seconds for row in rows)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("model", "tp"),
    [(load_model("Llama-3.1-8B"), 1), (GPT_OSS, 2), (DEEPSEEK_V3, 8)],
    ids=lambda value: getattr(value, "name", None),
)
def test_they_sum_to_what_the_tables_say(model, tp, batch):
    chunks = batch.get("chunks", [])
    decodes, kv = batch.get("decodes", 0), batch.get("kv", 0)
    tokens = decodes + sum(chunk for _, chunk in chunks)
    tables = build_small(model=model, tp=tp, dtype="auto")
    expected = tables.iteration_time_s(tokens, decodes + len(chunks), decodes, kv, chunks)
    assert seconds(model, Deployment(tp, "auto"), **batch) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    ("model", "shared"), [(load_model("Llama-3.1-8B"), True), (DEEPSEEK_V3, False)], ids=["heads", "latent"]
)
def test_decodes_and_a_chunk_share_a_launch_where_one_kernel_serves_both(model, shared):
    deployment = Deployment(8, "auto")
    together = seconds(model, deployment, decodes=32, kv=32 * 1024, chunks=[(0, 64)])
    rows = operation_times(
        model, "h100_sxm", deployment, estimators=RooflineEstimators(), decodes=32, kv=32 * 1024, chunks=[(0, 64)]
    )
    assert any(row.name == SHARED_LAUNCHES for row in rows) == shared
    tables = build_small(model=model, tp=8, dtype="auto")
    assert (tables.provenance["attention_launch_s"] > 0) == shared
    assert together == pytest.approx(tables.iteration_time_s(96, 33, 32, 32 * 1024, [(0, 64)]), rel=2e-3)


class OneByOne(RooflineEstimators):
    """Attention runs for one request after the other."""

    def __init__(self):
        super().__init__()
        self.metadata = {"decode_attention": {"kernels": ["sdpa", "torch_sdpa_per_request"]}}


def test_a_loop_over_requests_shares_no_launch():
    batch = {"decodes": 32, "kv": 32 * 1024, "chunks": [(0, 64)]}
    rows = operation_times(load_model("Llama-3.1-8B"), "h100_sxm", **batch, estimators=OneByOne())
    assert not any(row.name == SHARED_LAUNCHES for row in rows)
    assert build_small(OneByOne()).provenance["attention_launch_s"] == 0


def test_engines_that_share_experts_wait_for_the_tokens_of_all():
    split = {"data_parallel": 4, "expert_parallel": 8}
    tables = build_small(model=MIXTRAL, tp=2, **split)
    expected = tables.iteration_time_s(32, 32, 32, 32 * 1024) + float(tables.expert_time_s(100))
    batch = {"decodes": 32, "kv": 32 * 1024}
    assert seconds(MIXTRAL, Deployment(2, **split), engine_tokens=100, **batch) == pytest.approx(expected, rel=1e-9)


def test_each_tells_what_it_is():
    rows = operation_times(
        GPT_OSS, load_device("h100_sxm"), Deployment(2, "auto"), **BATCHES[3], estimators=RooflineEstimators()
    )
    found = {row.name: row for row in rows}
    assert (found["experts"].operator, found["experts"].dtype, found["experts"].layers) == ("moe", "mxfp4", 36)
    assert (found["rope"].source, found["rope"].inside) == ("bandwidth model", None)
    assert (found["qkv_proj"].source, found["qkv_proj"].inside) == ("estimators given", True)
    assert found[SHARED_LAUNCHES].seconds < 0
    assert "window_decode_attention" in found
    chunks = {"chunks": [(0, 64), (1000, 500)]}
    rows = operation_times(DEEPSEEK_V3, "h100_sxm", Deployment(8, "auto"), **chunks, estimators=RooflineEstimators())
    assert {row.name: row.inside for row in rows}["history_kv_b_proj"]
    # Not what is not there.
    assert not any(
        "prefill" in row.name
        for row in operation_times(
            GPT_OSS, "h100_sxm", Deployment(2, "auto"), **BATCHES[0], estimators=RooflineEstimators()
        )
    )


def test_what_was_not_measured_is_told():
    known = RooflineEstimators()
    known.profiled["gemm"]["n"] = [64, 65536]
    known.profiled["decode_attention"]["head_dim"] = [64, 256]

    def inside(**batch):
        rows = operation_times("phi-2", "h100_sxm", estimators=known, **batch)
        return {row.name: row.inside for row in rows}

    batch = {"decodes": 500, "kv": 500 * 100}
    assert inside(**batch)["decode_attention"]
    # A head size of 80 lies between two that were measured, if that is known.
    known.metadata = {"decode_attention": {"measured_values": {"head_dim": [64, 128, 256]}}}
    assert not inside(**batch)["decode_attention"]
    found = inside(decodes=600, kv=600 * 100)
    assert (found["qkv_proj"], found["decode_attention"], found["rope"]) == (True, False, None)
    assert not inside(chunks=[(0, 16385)])["prefill_attention"]
    assert not inside(chunks=[(16000, 1000)])["prefill_attention"]
    assert inside(chunks=[(0, 8192)])["qkv_proj"]
    assert not inside(chunks=[(0, 8193)])["qkv_proj"]


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        ({}, "decodes"),
        ({"decodes": -1, "kv": 5}, "kv"),
        ({"decodes": 5, "kv": 4}, "kv"),
        ({"kv": 4, "chunks": [(0, 1)]}, "kv"),
        ({"chunks": [(0, 0)]}, "chunks"),
        ({"chunks": [(-1, 1)]}, "chunks"),
    ],
)
def test_no_batch_is_refused(batch, field):
    with pytest.raises(EstimatorError) as caught:
        operation_times("Llama-3.1-8B", "h100_sxm", estimators=RooflineEstimators(), **batch)
    assert caught.value.field == field
