"""How long requests would take on an idle replica: the simulator's own answer, so all that it models is in it."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsim.config import SimulationConfig

if TYPE_CHECKING:
    from fastsim.result import SimulationResult
    from traces import Workload

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Between two requests; doubled until each has completed before the next arrives. A power of two: times are exact [s].
_FIRST_GAP_S = 64.0


class Alone:
    """Times of requests alone on a replica of a configuration.

    A prompt is cut and timed as the batch policy, the tables and the engine's CPU times have it, behind what was found
    in the prefix cache. A step of a decode alone depends on its context only, so one request as long as the longest
    gives them all.
    """

    def __init__(self, config: SimulationConfig, tables: Any) -> None:
        """Remember what serves.

        Args:
            config: as of the run.
            tables: its iteration tables, as `fastsim.machine.tables_for` gives them.
        """
        self._config = config.with_fields(
            replicas=1,
            router="round_robin",
            router_options={},
            client="open",
            client_options={},
            record_batches=False,
            record_metrics=False,
            keep_requests=True,
            warmup=None,
            cooldown=None,
            slo={},
        )
        self._tables = tables

    def prefill_s(self, prompt_tokens: Integers, cached_tokens: Integers) -> Floats:
        """From being scheduled to the first token leaving the engine, by request [n] [s].

        Args:
            prompt_tokens: [n].
            cached_tokens: of these already in the cache [n].
        """
        pairs = np.stack((prompt_tokens, cached_tokens), axis=1)
        distinct, place = np.unique(pairs, axis=0, return_inverse=True)
        prompts, cached = distinct.T
        # What is found must have been there: before such a request comes one of the same text, as long as that.
        warm = cached > 0
        number = np.arange(len(distinct)) + np.cumsum(warm)
        lengths = np.empty(len(distinct) + int(warm.sum()), np.int64)
        text = np.empty_like(lengths)
        lengths[number], text[number] = prompts, np.arange(len(distinct))
        lengths[number[warm] - 1], text[number[warm] - 1] = cached[warm], text[number[warm]]
        result = self._one_by_one(lengths, np.ones_like(lengths), text if warm.any() else None)
        requests = result.state.requests[number]
        egress_s = self._config.engine_choice.egress_s
        seconds: Floats = requests["first_token_s"] - egress_s - requests["scheduled_s"]
        return seconds[place.ravel()]

    def decode_s(self, prompt_tokens: Integers, output_tokens: Integers) -> Floats:
        """From the first token to the last, by request [n] [s].

        Args:
            prompt_tokens: [n].
            output_tokens: [n].
        """
        longest = int((prompt_tokens + output_tokens).max())
        if int(output_tokens.max()) == 1:
            return np.zeros(len(prompt_tokens))
        result = self._one_by_one(np.array([1]), np.array([longest - 1]), None, record_batches=True)
        log = result.state.batches[: int(result.state.cluster["num_batches"][0])]
        ends_s = log["end_s"][log["stage"] == self._config.pipeline_parallel - 1]
        # Token k of that request comes with a context of k tokens; the next one after ends_s[k] - ends_s[k - 1].
        steps_s: Floats = ends_s[prompt_tokens + output_tokens - 2] - ends_s[prompt_tokens - 1]
        return steps_s

    def _one_by_one(
        self, prompt_tokens: Integers, output_tokens: Integers, text: Integers | None, **fields: Any
    ) -> "SimulationResult":
        """Simulate requests that never meet."""
        from fastsim.simulation import simulate

        gap_s = _FIRST_GAP_S
        while True:
            workload = self._workload(prompt_tokens, output_tokens, text, gap_s)
            result = simulate(self._config.with_fields(**fields), workload, self._tables)
            if (result.state.requests["completed_s"][:-1] < workload.arrival_s[1:]).all():
                return result
            gap_s *= 4

    def _workload(
        self, prompt_tokens: Integers, output_tokens: Integers, text: Integers | None, gap_s: float
    ) -> "Workload":
        """Requests that are so far apart; those of one text begin alike."""
        from traces import Workload

        named: dict[str, Any] = {}
        if text is not None:
            size = self._config.block_size
            whole = -(-self._config.max_model_len // size) * size
            named = {"block_ids": text, "block_offsets": np.arange(len(text) + 1), "block_tokens": whole}
        return Workload.from_arrays(gap_s * np.arange(len(prompt_tokens)), prompt_tokens, output_tokens, **named)
