"""How far tables are from the estimators between their points, up to contexts of 128 k."""

import numpy as np
import pytest

from estimators.attention_tables import decode_calls_seconds, prefill_calls_seconds
from estimators.build import Deployment, load_estimators
from estimators.devices import load_device
from estimators.models import load_model
from estimators.row_tables import Clock
from estimators.tables import IterationTables

LIMITS = {"max_tokens": 8192, "max_sequences": 1024, "max_kv": 4_000_000, "max_model_len": 131072}
DEVICE = load_device("h100_sxm")
POINTS = 1000


def _log_uniform(draw, low, high):
    return np.exp(draw.uniform(np.log(low), np.log(high), POINTS)).astype(np.int64)


@pytest.mark.parametrize(("model", "tp"), [("Llama-3.1-70B", 4), ("google/gemma-3-27b-it", 2)])
def test_tables_are_near_the_estimators_everywhere(model, tp):
    deployment, draw = Deployment(tp), np.random.default_rng(0)
    calls = deployment.calls(load_model(model))
    clock = Clock(DEVICE, load_estimators(calls, DEVICE))
    tables = IterationTables.build(model, DEVICE, tp, cache=False, **LIMITS)
    launch = tables.provenance["attention_launch_s"]

    batch = _log_uniform(draw, 1, LIMITS["max_sequences"])
    kv = np.minimum(batch * _log_uniform(draw, 16, LIMITS["max_model_len"]), LIMITS["max_kv"])
    decode = decode_calls_seconds(calls, clock, batch, kv / batch)
    of_tables = {"decode": (tables.decode_time_s(batch, kv) + launch, decode, tables.token_s[batch])}
    history = _log_uniform(draw, 16, LIMITS["max_model_len"]) * (draw.random(POINTS) > 0.3)
    chunk = _log_uniform(draw, 1, LIMITS["max_tokens"])
    prefill = prefill_calls_seconds(calls, clock, history, chunk)
    of_tables["prefill"] = (tables.prefill_time_s(history, chunk) + launch, prefill, tables.token_s[chunk])

    for kind, (table, exact, rest) in of_tables.items():
        attention, iteration = abs(table / exact - 1), abs(table - exact) / (exact + rest - launch)
        print(f"{model} {kind}: attention {attention.mean():.2%}, iteration {iteration.mean():.2%}")
        # Smoothing (docs/accuracy.md) is in it, too; it makes up about half.
        assert attention.mean() < 0.005
        assert iteration.mean() < 0.002
        assert np.quantile(iteration, 0.95) < 0.01
