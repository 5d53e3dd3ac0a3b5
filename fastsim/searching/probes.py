"""Probes of a capacity: the workload at one rate, and whether its limits hold (`fastsim.searching.verdicts`)."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import ConfigError
from fastsim.measuring import read_span
from fastsim.searching.limits import ATTAINMENT, Limit
from fastsim.searching.shared import roomy_tables
from fastsim.searching.verdicts import judge, measure

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from fastsim.kernel.prepare_stops import Stop
    from fastsim.kernel.state import State
    from traces import Workload

#: Times of clients and of replicas differ by sums that are rounded [s].
_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Probe:
    """One simulation at one rate.

    Attributes:
        qps: requests that arrive in a second, (n - 1) / (last - first arrival).
        holds: whether every limit holds and no queue builds up.
        stopped_early: the simulation ended as soon as it was certain that a limit breaks; then there are no metrics.
        binding: which limit breaks, or is the nearest to, in words.
        metrics: value of each limit by its key, such as ``"ttft_s.p90"``; and always ``ttft_s`` and ``tpot_s`` at p50,
            p90 and p99, ``e2e_s.p50``, ``scheduling_delay_s.p99``, ``throughput_requests_per_s``, ``mfu``,
            ``waiting_last_s`` (mean scheduling delay of the last tenth to arrive), ``served_s`` (mean time from being
            scheduled to the last token), ``arriving_s`` (last arrival less the first) and ``makespan_s``. A value that
            no request has is left out.
        requests: that were simulated to their end.
        wall_s: it took.
    """

    qps: float
    holds: bool
    stopped_early: bool
    binding: str
    metrics: Mapping[str, float]
    requests: int
    wall_s: float


class Prober:
    """Probes one configuration under one workload at any rate; what rates share is prepared once."""

    def __init__(
        self,
        config: "SimulationConfig",
        workload: "Workload",
        limits: Sequence[Limit],
        tables: Any = None,
        stops: bool = True,
    ) -> None:
        """Prepare the probes.

        Args:
            config: what serves; nothing is recorded that no limit needs.
            workload: what arrives, at any rate.
            limits: from `read_limits`.
            tables: as `fastsim.simulate` takes them; looked up, or built and cached, when not given.
            stops: end simulations as soon as it is certain that a limit breaks.

        Raises:
            ConfigError: arrivals have no rate or none that can be changed, requests have no objectives of which a part
                could be attained, or as `fastsim.simulate`.
            estimators.EstimatorError: unknown model or device, or a model that cannot be split that way.
        """
        from fastsim.preparing import compile_kernel, load_parts
        from fastsim.slo import objectives_of

        _check(config, workload)
        _, self.objectives, _ = objectives_of(config.slo, workload)
        if any(limit.metric == ATTAINMENT for limit in limits) and not any(self.objectives.values()):
            mend = "give slo of the configuration, or of the workload, such as ttft_s = 1.0"
            raise ConfigError("slo.attainment", None, "has no objectives that a request could meet", mend)
        # An objective on the longest gap between tokens needs a run that records.
        notes = any(
            "worst_tbt_s" in table for table in (config.slo, *config.slo.values()) if isinstance(table, Mapping)
        )
        self.config = config.with_fields(record_batches=False, record_metrics=notes)
        self.workload, self.limits = workload, tuple(limits)
        self.stops: list[tuple[Limit, Stop]] = []
        if tables is None:
            tables = roomy_tables(self.config, workload.block_tokens > 0)
        if config.parity is not None:
            self.tables = tables
            return
        self.parts = load_parts(self.config, workload, tables)
        self.loop = compile_kernel(self.config, workload)
        if stops:
            self.stops = self._place_stops()

    def __call__(self, qps: float) -> Probe:
        """Simulate the workload at a rate."""
        started = time.perf_counter()
        state, broken = self.run(self.workload.scaled(qps), self.stops)
        completed = int(state.replicas["completed"].sum())
        if broken is not None:
            binding = f"{broken.name} above {broken.limit:.3g} s"
            return Probe(qps, False, True, binding, {}, completed, time.perf_counter() - started)
        metrics = measure(self.config, state, self.limits, self.objectives) | self._rates(state)
        holds, binding = judge(metrics, self.limits)
        return Probe(qps, holds, False, binding, metrics, completed, time.perf_counter() - started)

    def of_head(self, n: int) -> "Prober":
        """The same of the first n requests."""
        prober = copy.copy(self)
        prober.workload = self.workload.head(n)
        return prober

    @property
    def counts_some(self) -> bool:
        """Whether some requests are not measured."""
        return self.config.warmup is not None or self.config.cooldown is not None

    def run(self, workload: "Workload", stops: "Sequence[tuple[Limit, Stop]]" = ()) -> "tuple[State, Limit | None]":
        """Simulate a workload.

        Args:
            workload: the prober's, or its first requests, at any rate.
            stops: what ends the simulation early.

        Returns:
            The kernel's tables, as `fastsim.SimulationResult` has them; and the limit that ended it early, if any.
        """
        if self.config.parity is not None:
            from fastsim.simulation import simulate_quietly

            return simulate_quietly(self.config, workload, self.tables)[0].state, None
        from fastsim.kernel.prepare_clients import as_clients_see
        from fastsim.kernel.prepare_series import order_notes
        from fastsim.kernel.prepare_stops import broken_stop, with_stops
        from fastsim.kernel.state import DONE, STOPPED
        from fastsim.options import ROUTERS
        from fastsim.preparing import clients_of, start_state

        model, device, pool, tables = self.parts
        reads_replicas = ROUTERS[self.config.router].reads_replicas  # type: ignore[attr-defined]
        state, values = start_state(self.config, workload, tables, model, device, pool, reads_replicas)
        if stops:
            state = with_stops(state, [stop for _, stop in stops], *self._counted())
        run, slots = self.loop
        status = run(state, values, slots)
        if status == STOPPED:
            return state, stops[broken_stop(state)][0]
        if status != DONE:
            raise RuntimeError(
                f"the simulation stopped with status {status}: this is a bug of fastsim, please report it"
            )
        clients = clients_of(self.config)
        order_notes(state, clients)
        return state._replace(requests=as_clients_see(state.requests, state.pending, workload, clients)), None

    def _place_stops(self) -> "list[tuple[Limit, Stop]]":
        """The limits that can end a simulation early; those on shorter times come first, as `with_stops` has them."""
        from fastsim.kernel.prepare_stops import LATENCIES, Stop

        engine = self.config.engine_choice
        if engine.ingress_s_per_token > 0 and self.counts_some:
            return []  # requests may overtake each other on their way, and leave the window that is measured
        # What a client sees of a delay of its own is longer than what the replica sees, by at least so much.
        beside_s = {name: engine.ingress_s + engine.egress_s for name in ("ttft_s", "e2e_s")}
        beside_s |= {"scheduling_delay_s": engine.ingress_s, "tpot_s": 0.0}
        rounding_s = _ROUNDING_S if any((engine.ingress_s, engine.ingress_s_per_token, engine.egress_s)) else 0.0
        found = [
            (limit, Stop(limit.metric, limit.part, limit.limit - beside_s[limit.metric] + rounding_s))
            for limit in self.limits
            if limit.metric in LATENCIES and limit.part is not None
        ]
        return sorted(found, key=lambda stop: stop[1].limit_s)

    def _counted(self) -> tuple[int, int]:
        """The first of the requests that are measured, in order of arrival, and behind the last."""
        from fastsim.windows import find_window

        n, window = len(self.workload), find_window(self.config, self.workload.arrival_s)
        if window is None:
            return 0, n
        return int(window.counted.argmax()), n - int(window.counted[::-1].argmax())

    def _rates(self, state: "State") -> dict[str, float]:
        """Throughput, MFU, and how long the run took."""
        from estimators import load_device, load_model
        from fastsim.result import flops_of

        requests, config = state.requests, self.config
        model, device = load_model(config.model), load_device(config.device)
        makespan_s = float(requests["completed_s"].max() - requests["arrival_s"].min())
        gpus = config.replicas * config.data_parallel * config.tensor_parallel * config.pipeline_parallel
        flops = flops_of(model, state.replicas, int(requests["output_tokens"].sum(dtype=np.int64)))
        rate = gpus * device.matrix_rate(model.resolve_dtype(config.dtype))
        found = {"makespan_s": makespan_s}
        if makespan_s > 0:
            found |= {"throughput_requests_per_s": len(requests) / makespan_s, "mfu": flops / (rate * makespan_s)}
        return found


def _check(config: "SimulationConfig", workload: "Workload") -> None:
    """Refuse what has no rate that could be changed, or no window that would be the same at any.

    Raises:
        ConfigError: as said.
    """
    if config.client != "open":
        mend = 'give client = "open"'
        raise ConfigError("client", config.client, "sends as fast as it is served, at no rate of its own", mend)
    if not np.isnan(workload.think_s).all():
        mend = "give a workload without think times"
        raise ConfigError("think_s", None, "lets requests arrive when others complete, at no rate of their own", mend)
    if workload.qps is None:
        mend = "take one with arrivals spread over time"
        raise ConfigError("workload", None, "arrives at one time, which has no rate to change", mend)
    for name in ("warmup", "cooldown"):
        value = getattr(config, name)
        if value is not None and not read_span(name, value)[1]:
            raise ConfigError(
                name, value, "is of other requests at each rate", "give a number of requests, 500req, say"
            )
