"""Where the time of batches went, and how large they were: ``summary["operators"]`` and ``summary["batches"]``.

The kernel counts how often batches had so many tokens and requests, and sums the time of attention; all else follows by
multiplying with the tables, or with what each operator takes by itself where the tables are of our estimators.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig
from fastsim.engine_presets import schedules_ahead
from fastsim.kernel.prepare_series import histograms
from fastsim.kernel.visits import CHUNK_TOKENS, DECODES, DECODES_ALONE, SEQUENCES, TOKENS
from fastsim.stage_tables import StageTables, capture_sizes, padded_tokens

if TYPE_CHECKING:
    from estimators import DeviceSpec, IterationTables, ModelSpec
    from fastsim.kernel.state import State

FloatArray = npt.NDArray[np.float64]
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def describe_batches(state: "State") -> dict[str, dict[str, dict[str, float | None]]]:
    """How large the batches of a run that recorded were, those of all replicas together.

    Returns:
        Of ``requests``, ``decodes``, ``prefill_tokens`` and ``tokens`` of a batch the mean, quantiles and the largest,
        ``per_iteration`` (each batch counts once) and ``per_second`` (each counts for as long as it took: of several
        stages, the first).
    """
    found = histograms(state)
    alone, chunks = found[DECODES_ALONE], found[CHUNK_TOKENS]
    all_alone = tuple(np.array([weights.sum()]) for weights in alone)
    distributions = {
        "requests": [_sum(found[SEQUENCES][k], alone[k]) for k in range(2)],
        "decodes": [_sum(found[DECODES][k], alone[k]) for k in range(2)],
        "prefill_tokens": [_sum(chunks[k], all_alone[k]) for k in range(2)],
        "tokens": [_sum(found[TOKENS][k], alone[k]) for k in range(2)],
    }
    return {
        name: {"per_iteration": _distribution(counts), "per_second": _distribution(seconds)}
        for name, (counts, seconds) in distributions.items()
    }


def _sum(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> FloatArray:
    """Two histograms added up, of different length."""
    total = np.zeros(max(len(a), len(b)))
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def _distribution(weights: FloatArray) -> dict[str, float | None]:
    """Mean, quantiles and the largest of the numbers 0, 1, ... with some weights; None of no weight."""
    total = float(weights.sum())
    if total == 0:
        return dict.fromkeys(("mean", *_QUANTILES, "max"))
    cumulated = np.cumsum(weights)
    at = np.minimum(np.searchsorted(cumulated, np.array(list(_QUANTILES.values())) * cumulated[-1]), len(weights) - 1)
    mean = float(weights @ np.arange(len(weights))) / total
    quantiles = dict(zip(_QUANTILES, map(float, at), strict=True))
    return {"mean": mean, **quantiles, "max": float(np.flatnonzero(weights)[-1])}


def describe_operators(
    config: SimulationConfig, tables: StageTables, model: "ModelSpec", device: "DeviceSpec", state: "State"
) -> list[dict[str, dict[str, float]]]:
    """What the time of each pipeline stage was spent on, over all replicas.

    Returns:
        For each stage by name the ``seconds`` and their ``share`` of the stage's busy time: operators as
        ``estimators.operators`` calls them where the tables are of our estimators, else ``tokens`` and ``requests``;
        ``decode_attention`` and ``prefill_attention`` (which has all attention of a batch where the tables are of both
        together); and where there is any ``cpu`` of the engine, ``copies`` of swapped KV and ``send`` to the next
        stage. Of engines in lockstep all but attention and copies is ``experts_and_others``, waiting included.
    """
    pp = config.pipeline_parallel
    records = state.stages.reshape(len(state.replicas), pp)
    places = state.replicas[:, None] if pp == 1 else records
    found = histograms(state)
    tokens = _sum(found[TOKENS][0], found[DECODES_ALONE][0])
    sequences = _sum(found[SEQUENCES][0], found[DECODES_ALONE][0])
    stages = []
    for s in range(pp):
        busy_s = float(records["busy_s"][:, s].sum())
        attention = {
            "decode_attention": float(places["decode_attention_s"][:, s].sum()),
            "prefill_attention": float(places["prefill_attention_s"][:, s].sum()),
        }
        copies = {"copies": float(places["copies_s"][:, s].sum())}
        if tables.in_lockstep:
            known = attention | copies
            seconds = {"experts_and_others": busy_s - sum(known.values())} | known
        else:
            rows = _rows(config, tables.stages[s], s, model, device)
            padded = padded_tokens(capture_sizes(config), tables.stages[s].layout.max_tokens)
            seconds = {name: float(tokens @ _padded(by, padded)) for name, by in rows["tokens"].items()}
            seconds |= {name: float(sequences @ by) for name, by in rows["sequences"].items()}
            seconds |= attention | copies | {"cpu": _cpu_s(config, sequences) if s == 0 else 0.0}
            seconds["send"] = float(
                records["send_latency_s"][0, s] * tokens.sum()
                + records["send_s_per_token"][0, s] * (tokens @ np.arange(len(tokens)))
            )
        always = set(seconds) - {"copies", "cpu", "send"}
        stages.append(
            {
                name: {"seconds": of_one, "share": of_one / busy_s if busy_s > 0 else 0.0}
                for name, of_one in seconds.items()
                if name in always or of_one > 0
            }
        )
    return stages


def _padded(by_tokens: FloatArray, padded: npt.NDArray[np.int64]) -> FloatArray:
    """What is read by number of tokens where batches are padded."""
    read = by_tokens.copy()
    read[: len(padded)] = by_tokens[padded]
    return read


def _cpu_s(config: SimulationConfig, sequences: FloatArray) -> float:
    """CPU time of a synchronous engine for batches of so many requests [s]; scheduled ahead it is none of the GPU's."""
    if schedules_ahead(config):
        return 0.0
    engine = config.engine_choice
    per_request = engine.launch_s_per_request + engine.process_s_per_request
    requests = float(sequences @ np.arange(len(sequences)))
    return float((engine.launch_s + engine.process_s) * sequences.sum() + per_request * requests)


def _rows(
    config: SimulationConfig, tables: "IterationTables", stage: int, model: "ModelSpec", device: "DeviceSpec"
) -> dict[str, dict[str, FloatArray]]:
    """What batches take by tokens and by requests, by axis and name: by operator if these add up to the tables."""
    layout = tables.layout
    whole = {
        "tokens": np.asarray(tables.values[layout.token_offset :][: layout.max_tokens + 1]),
        "sequences": np.asarray(tables.values[layout.sequence_offset :][: layout.max_sequences + 1]),
    }
    by_axis = {"tokens": {"tokens": whole["tokens"]}, "sequences": {"requests": whole["sequences"]}}
    if tables.provenance.get("source") != "operator estimators":
        return by_axis
    from estimators.build import Deployment
    from estimators.operator_rows import operator_rows

    deployment = Deployment(
        tp=config.tensor_parallel,
        dtype=config.dtype,
        kv_dtype=config.kv_dtype,
        pp=config.pipeline_parallel,
        stage=stage,
        data_parallel=config.data_parallel,
        expert_parallel=config.expert_parallel,
        expert_load=config.expert_load,
        expert_exchange=config.expert_exchange,
    )
    rows = operator_rows(model, device, deployment, layout, tables.provenance.get("member", 0))
    launch = np.full(layout.max_tokens + 1, float(tables.provenance.get("attention_launch_s", 0.0)))
    launch[0] = 0.0
    rows["tokens"]["attention_launch"] = launch
    adds_up = all(np.allclose(sum(rows[axis].values()), whole[axis], rtol=1e-6, atol=0) for axis in whole)
    return rows if adds_up else by_axis
