"""Builds iteration tables: a model's operators, timed by estimators over the whole grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estimators import cache as table_cache
from estimators.attention_tables import decode_batches, decode_table, prefill_table, shares_launch
from estimators.coverage import measured_by, measures_history, outside_profiles, profiled_axes
from estimators.devices import DeviceSpec, load_device
from estimators.errors import EstimatorError
from estimators.expert_layout import ExpertLayout
from estimators.layout import PrefillRule, TableLayout
from estimators.model_spec import ModelSpec
from estimators.operators import ROW_AXES, OperatorCall, iteration_calls
from estimators.row_tables import Clock, Estimators, measured_calls, row_tables, token_steps
from estimators.tables import IterationTables

# Rows through the estimators in one build: at 1 to 2 s for each million (measured, products and decodes, two cores).
_MOST_ROWS = 3_000_000
# Values in the tables, 512 MiB.
_MOST_VALUES = 1 << 26
# Modules that turn predictions into tables, with the operators.
_CODE = (
    *("attention_tables", "build", "coverage", "devices", "dtypes", "expert_traffic", "layout", "model_spec"),
    *("monotone", "profiles", "row_tables"),
)


@dataclass(frozen=True)
class Deployment:
    """What is tabulated; the fields are arguments of ``IterationTables.build``."""

    tp: int = 1
    dtype: str = "bf16"
    kv_dtype: str = "auto"
    pp: int = 1
    stage: int = 0
    data_parallel: int = 1
    expert_parallel: int = 1
    expert_load: str = "power_law_1.2"
    expert_exchange: str = "all_gather"

    def calls(self, model: ModelSpec) -> tuple[OperatorCall, ...]:
        """Operators of one iteration."""
        return iteration_calls(model, **asdict(self))

    def provenance(self, model: ModelSpec) -> dict[str, Any]:
        """What of it the tables depend on, JSON-able.

        Not which stage of how many: stages that hold the same take the same time, and share an entry of the cache. The
        same is true of engines that share no experts.
        """
        dtype = model.resolve_dtype(self.dtype)
        kinds = {"dtype": dtype, "kv_dtype": model.kv_cache_dtype(self.kv_dtype, dtype)}
        experts = None
        if model.experts is not None:
            names = ("data_parallel", "expert_parallel", "expert_load", "expert_exchange")
            experts = {name: getattr(self, name) for name in names}
        part = model.pipeline_stage(self.pp, self.stage)._asdict()
        return {"tp": self.tp, **kinds, "stage": part, "experts": experts}


def build_tables(
    spec: ModelSpec,
    device: str | DeviceSpec,
    deployment: Deployment,
    layout: TableLayout,
    prefill_rule: PrefillRule = "sum",
    cache: bool = True,
    estimators: Estimators | None = None,
    member: int = 0,
) -> IterationTables:
    """Build tables or load them from the cache; the arguments are those of ``IterationTables.build``."""
    gpu = device if isinstance(device, DeviceSpec) else load_device(device)
    tp = deployment.tp
    spec.check_tensor_parallel(tp, gpu.gpus_per_node)
    if tp > gpu.gpus_per_node:
        wrong = f"is more than the {gpu.gpus_per_node} GPUs of a {gpu.name} node"
        raise EstimatorError("tp", tp, wrong, spec.tensor_parallel_mend(gpu.gpus_per_node))
    calls = deployment.calls(spec)
    expert = None
    if any(call.axis == "engines" for call in calls):
        expert = ExpertLayout(deployment.data_parallel * layout.max_tokens, deployment.data_parallel)
    known = load_estimators(calls, gpu, estimators)
    calls = measured_calls(calls, known)
    told = {"model": spec.name, "device": gpu.name, **deployment.provenance(spec), "member": member}

    def build() -> IterationTables:
        _check_size(layout, expert, calls)
        return _build(calls, Clock(gpu, known, member), layout, expert, prefill_rule, told)

    if not cache:
        return build()
    parts = {
        **told,
        "estimators": {kind: of.hash for kind, of in known.items()},
        "model": asdict(spec),
        "device": gpu.figures(),
        "layout": asdict(layout),
        "prefill_rule": prefill_rule,
    }
    return table_cache.cached(table_cache.content_key(parts, table_sources()), build)


def table_sources() -> list[Path]:
    """The code that turns predictions into tables, part of the key: an edited constant must not meet old tables."""
    here = Path(__file__).parent
    return [*(here / f"{name}.py" for name in _CODE), *sorted((here / "operators").glob("*.py"))]


def load_estimators(
    calls: tuple[OperatorCall, ...], device: DeviceSpec, estimators: Estimators | None = None
) -> dict[str, Estimators]:
    """Who knows the times of some calls, by dtype: ``estimators``, or those of a device.

    A dtype in which all calls move bytes is there only if one of them was measured.
    """
    from estimators.device_estimators import device_files, estimators_of

    kinds = {call.dtype for call in calls}
    known = {kind: device_files(device, kind) if estimators is None else estimators.profiled for kind in kinds}
    needed = {call.dtype for call in calls if call.operator != "bandwidth" or call.measured_as in known[call.dtype]}
    return {kind: estimators or estimators_of(device, kind) for kind in sorted(needed)}


def _build(
    calls: tuple[OperatorCall, ...],
    clock: Clock,
    layout: TableLayout,
    expert: ExpertLayout | None,
    prefill_rule: PrefillRule,
    told: Mapping[str, Any],
) -> IterationTables:
    most = {"tokens": layout.max_tokens, "sequences": layout.max_sequences}
    if expert is not None:
        most["engines"] = expert.max_tokens
    rows = row_tables(calls, clock, most)
    decode_s, prefill_s = decode_table(calls, layout, clock), prefill_table(calls, layout, clock)
    # One kernel serves the decodes and the chunks of an iteration, so its launch is paid once per iteration, with the
    # tokens, and not again by every chunk: what the emptiest attention costs moves from the two attention tables to the
    # token table. An iteration of decodes only, or of one chunk, costs what it did.
    launch = min(decode_s[1:].min(), prefill_s[:, 1:].min()) if shares_launch(calls, clock) else 0.0
    rows["tokens"][1:] += launch
    decode_s[1:] -= launch
    prefill_s[:, 1:] -= launch
    parts = [rows["tokens"], rows["sequences"], decode_s, prefill_s, *([rows["engines"]] if expert else [])]
    values = np.concatenate([part.ravel() for part in parts])
    values.flags.writeable = False
    measured = measured_by(clock.estimators, calls)
    provenance = {
        "source": "operator estimators",
        **told,
        "estimators": {kind: of.hash for kind, of in clock.estimators.items()},
        "version": table_cache.FORMAT_VERSION,
        "profiled": profiled_axes(calls, measured),
        "outside_profiles": outside_profiles(calls, measured, clock.device),
        "history_is": "measured" if measures_history(calls, measured) else "modelled",
        "attention_launch_s": float(launch),
    }
    return IterationTables(values, layout, prefill_rule, provenance, expert=expert)


def _check_size(layout: TableLayout, expert: ExpertLayout | None, calls: tuple[OperatorCall, ...]) -> None:
    size = layout.size + (expert.size if expert else 0)
    limits = [("values", size, _MOST_VALUES)]
    if size <= _MOST_VALUES:  # Else even counting the rows takes too long.
        limits.append(("estimator rows", _count_rows(layout, expert, calls), _MOST_ROWS))
    for what, needed, most in limits:
        if needed > most:
            mend = f"lower max_tokens, max_sequences or max_model_len until {most} are enough"
            raise EstimatorError("layout", needed, f"{what} are too many for one build", mend)


def _count_rows(layout: TableLayout, expert: ExpertLayout | None, calls: tuple[OperatorCall, ...]) -> int:
    """Most rows that a build sends through the estimators."""
    steps = dict.fromkeys(ROW_AXES, layout.history_points + layout.chunk_points)
    steps |= {"tokens": token_steps(layout.max_tokens).size, "sequences": layout.max_sequences}
    steps |= {"engines": token_steps(expert.max_tokens).size if expert else 0}
    batches = decode_batches(layout).size
    points = steps | {
        "decodes": batches,
        "decode": batches * layout.kv_points,
        "prefill": layout.history_points * layout.chunk_points,
    }
    return sum(points[call.axis] for call in calls if call.operator != "bandwidth")
