import json

import numpy as np
import pytest

from traces import Objective, Workload, generate, read
from traces.describe import describe, octaves


@pytest.mark.parametrize(
    ("file", "expected"),
    [  # N, duration, QPS, CV, mean prompt, mean output, ratio of the sums, index of dispersion of minutes
        ("azure/AzureLLMInferenceTrace_conv.csv.gz", (19366, 3502, 5.53, 1.09, 1155, 211, 5.47, 16.1)),
        ("azure/AzureLLMInferenceTrace_code.csv.gz", (8819, 3436, 2.567, 13.15, 2048, 28, 73.45, 164.0)),
        ("mooncake/conversation_trace.jsonl.gz", (12031, 3537, 3.401, 3.03, 12035, 343, 35.13, 2.9)),
        ("mooncake/synthetic_trace.jsonl.gz", (3993, 1022, 3.907, 1.01, 15325, 149, 102.77, 1.2)),
        ("llmservingsim/workload_me2_01_mixed.jsonl.gz", (608, 61, 9.984, 0.99, 9218, 3021, 3.05, None)),
    ],
)
def test_public_traces_are_what_others_measured(public_traces, file, expected):
    described = describe(read(public_traces / file))
    found = (
        described["requests"],
        described["duration_s"],
        described["qps"],
        described["interarrival_cv"],
        described["prompt_tokens"]["mean"],
        described["output_tokens"]["mean"],
        described["prompt_to_output"]["of_sums"],
        described["index_of_dispersion"]["60"],
    )
    for value, reference in zip(found, expected, strict=True):
        if reference is not None:
            assert value == pytest.approx(reference, rel=0.02)
    json.dumps(described)


def test_prefix_reuse_of_mooncake(public_traces):
    described = describe(read(public_traces / "mooncake" / "conversation_trace.jsonl.gz"))
    assert described["prefix_reuse"] == pytest.approx(0.374, abs=0.001)
    assert described["block_tokens"] == 512


def test_poisson_is_1_all_over():
    described = describe(generate(num_requests=100_000, qps=10))
    assert described["interarrival_cv"] == pytest.approx(1, abs=0.02)
    for value in described["index_of_dispersion"].values():
        assert value == pytest.approx(1, abs=0.3)


def test_what_there_is_not_is_none():
    described = describe(Workload.from_arrays([0, 0], [3, 4], [1, 1]))
    for key in ("qps", "interarrival_cv", "prefix_reuse", "block_tokens", "sessions", "turns_per_session"):
        assert described[key] is None
    assert described["index_of_dispersion"] == {"1": None, "10": None, "60": None}
    assert described["histograms"]["requests_over_time"] is None
    assert describe(Workload.from_arrays([5], [3], [1]))["requests"] == 1


def test_sessions_classes_and_objectives():
    workload = Workload.from_arrays(
        [0, 1, 2, 3],
        [1] * 4,
        [1] * 4,
        request_class=[0, 1, 1, 1],
        session=[4, 4, -1, 2],
        objectives=[Objective("a"), Objective("b", e2e_s=3)],
    )
    described = describe(workload)
    assert (described["sessions"], described["turns_per_session"]) == (2, 1.5)
    assert described["classes"] == {"0": 1, "1": 3}
    assert described["objectives"][1] == {"name": "b", "ttft_s": None, "tpot_s": None, "e2e_s": 3.0}


def test_octaves():
    assert octaves(np.array([2, 3, 4, 31])) == {"from": [2, 4, 8, 16], "requests": [2, 1, 0, 1]}
    assert octaves(np.array([1])) == {"from": [1], "requests": [1]}
    assert octaves(np.array([2**31 - 1])) == {"from": [2**30], "requests": [1]}
