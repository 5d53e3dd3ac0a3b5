import json

import numpy as np
import pytest

from traces import ClientClass, Objective, TraceError, mix

CHAT = ClientClass(0.7, "gamma", {"cv": 2}, "fixed", {"prompt": 100, "output": 50}, Objective("chat", ttft_s=1))
BATCH = ClientClass(0.3, "on_off", {"on_s": 5, "off_s": 5}, "fixed", {"prompt": 900, "output": 9}, Objective("batch"))


def test_each_kind_has_its_share_lengths_and_class():
    workload = mix([CHAT, BATCH], num_requests=20_000, qps=10, seed=3)
    batch = workload.request_class == 1
    assert batch.mean() == pytest.approx(0.3, abs=0.03)
    assert workload.qps == pytest.approx(10, rel=0.15)  # bursts
    assert set(workload.prompt_tokens[batch].tolist()) == {900}
    assert set(workload.output_tokens[~batch].tolist()) == {50}
    assert [objective.name for objective in workload.objectives] == ["chat", "batch"]
    json.dumps(workload.provenance)


@pytest.mark.parametrize("classes", [[CHAT, BATCH], [ClientClass(0.01, "weibull", {"cv": 5}), ClientClass(0.99)]])
def test_more_requests_extend_the_same_workload(classes):
    few, many = (mix(classes, num_requests=n, qps=10, seed=1) for n in (300, 2000))
    assert many.head(300).hash == few.hash


def test_kinds_do_not_depend_on_each_other():
    first = mix([CHAT, BATCH], num_requests=3000, qps=10)
    other = mix([CHAT, ClientClass(0.3, objective=Objective("x"))], num_requests=3000, qps=10)
    chats = [workload.arrival_s[workload.request_class == 0][:1500] for workload in (first, other)]
    np.testing.assert_array_equal(*chats)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([], "classes is []; give a sequence of ClientClass."),
        ([ClientClass(0.5)], "class_shares sums to 0.5; give 1 to 128 numbers above 0 that sum to 1."),
        ([CHAT, ClientClass(0.3)], "objective is given for some classes only; give one for each, or for none."),
        (
            [ClientClass(1, "static")],
            "arrivals is 'static', which has no share of a rate; choose a process with a rate.",
        ),
        ([ClientClass(1, "burst")], "arrivals is 'burst'; choose one of diurnal, gamma,"),
    ],
)
def test_bad_mixes(classes, words):
    with pytest.raises(TraceError) as caught:
        mix(classes, num_requests=10, qps=1)
    assert str(caught.value).startswith(words)
