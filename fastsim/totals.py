"""What a summary says of requests that are no longer there: sums, and histograms of their latencies.

Counts and the sums of whole numbers are exact. Quantiles come from the histogram of `fastsim.kernel.histogram`, with a
relative error of at most 0.4 %, as those of a run of more than 2 M requests that is held in memory.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsim.hardware import contexts_of
from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.metrics import (
    Distribution,
    Finished,
    Summary,
    describe_hits,
    read_finished,
    sketched,
    sketched_distribution,
)
from fastsim.slo import Met, add_met, count_met, times_of


class Served(NamedTuple):
    """Sums over the completed requests of a run.

    Attributes:
        requests: how many there are.
        first_arrival_s: when the first arrived [s].
        last_completion_s: when the last completed [s].
        prompt_tokens: of all [tokens].
        output_tokens: of all [tokens].
        contexts: of all decodes, whole and within the model's window, see `fastsim.hardware.contexts_of` [tokens].
    """

    requests: int
    first_arrival_s: float
    last_completion_s: float
    prompt_tokens: int
    output_tokens: int
    contexts: tuple[float, float]

    @property
    def makespan_s(self) -> float:
        """Duration of the run [s]."""
        return self.last_completion_s - self.first_arrival_s


def served(finished: Finished, window: int | None) -> Served:
    """The sums over completed requests.

    Args:
        finished: the requests.
        window: of the model, see `fastsim.hardware.contexts_of` [tokens].
    """
    prompts, outputs = finished.prompt_tokens, finished.output_tokens
    return Served(
        len(prompts),
        finished.first_arrival_s,
        finished.last_completion_s,
        int(prompts.sum(dtype=np.int64)),
        int(outputs.sum(dtype=np.int64)),
        contexts_of(prompts, outputs, window),
    )


def joined(a: Served, b: Served) -> Served:
    """The sums over the requests of both."""
    return Served(
        a.requests + b.requests,
        min(a.first_arrival_s, b.first_arrival_s),
        max(a.last_completion_s, b.last_completion_s),
        a.prompt_tokens + b.prompt_tokens,
        a.output_tokens + b.output_tokens,
        (a.contexts[0] + b.contexts[0], a.contexts[1] + b.contexts[1]),
    )


class Latencies:
    """What is kept of the latencies of some requests.

    Attributes:
        requests: how many there are.
        preemptions: how often they were preempted.
        cached_tokens: prompt tokens that they found in the prefix cache [tokens].
        prompt_tokens: of all of them [tokens].
        counts: by metric the histogram, int64 [NUM_BUCKETS].
        sums: by metric the sum [s].
    """

    def __init__(self) -> None:
        self.requests = self.preemptions = self.cached_tokens = self.prompt_tokens = 0
        self.counts: dict[str, npt.NDArray[np.int64]] = {}
        self.sums: dict[str, float] = {}

    def add(self, finished: Finished, preemptions: int) -> None:
        """Add completed requests, which were preempted so often in all."""
        self.requests += len(finished.prompt_tokens)
        self.preemptions += preemptions
        self.cached_tokens += finished.cached_tokens
        self.prompt_tokens += int(finished.prompt_tokens.sum(dtype=np.int64))
        for name, values in finished.latencies.items():
            self._add(name, finished.counts[name], float(values.sum()))

    def _add(self, name: str, counts: npt.NDArray[np.int64], total: float) -> None:
        self.counts[name] = self.counts.get(name, 0) + counts
        self.sums[name] = self.sums.get(name, 0.0) + total

    @classmethod
    def of_all(cls, parts: "Iterable[Latencies]") -> "Latencies":
        """What is kept of the requests of all parts together."""
        whole = cls()
        for part in parts:
            for name in ("requests", "preemptions", "cached_tokens", "prompt_tokens"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            for name, counts in part.counts.items():
                whole._add(name, counts, part.sums[name])
        return whole

    def summary(self) -> dict[str, Summary]:
        """Mean and quantiles, by metric."""
        return {name: sketched(counts, self.sums[name]) for name, counts in self.counts.items()}

    def distributions(self) -> dict[str, Distribution]:
        """How many lie in each of some bins, by metric."""
        return {name: sketched_distribution(counts) for name, counts in self.counts.items()}

    def hits(self) -> dict[str, float]:
        """What they found in the prefix cache."""
        return describe_hits(self.cached_tokens, self.prompt_tokens)


class Totals:
    """What is kept of the requests of a stream.

    Attributes:
        served: sums over those added so far.
        lengths: how many have so many tokens, prompt and output together; int64 [most_tokens + 1].
        classes: by class what is kept of the latencies of its requests.
        met: by class how many meet their objectives.
    """

    def __init__(self, window: int | None, most_tokens: int, objectives: Mapping[str, Any]) -> None:
        """Begin with no request.

        Args:
            window: of the model, see `fastsim.hardware.contexts_of` [tokens].
            most_tokens: of a request, prompt and output together.
            objectives: what `fastsim.measuring.read_objectives` gives.
        """
        self._window, self._objectives = window, objectives
        self.met: dict[int, Met] = {}
        self.served = Served(0, math.inf, -math.inf, 0, 0, (0.0, 0.0))
        self.lengths = np.zeros(most_tokens + 1, np.int64)
        self.classes: dict[int, Latencies] = {}

    def add(self, requests: np.ndarray) -> None:
        """Add completed requests, REQUEST records [n]."""
        for number in np.unique(requests["request_class"]).tolist():
            own = requests["request_class"] == number
            part = requests if own.all() else requests[own]
            finished = read_finished(part)
            self.served = joined(self.served, served(finished, self._window))
            both = finished.prompt_tokens + finished.output_tokens
            self.lengths += np.bincount(both, minlength=len(self.lengths))
            self.classes.setdefault(number, Latencies()).add(finished, int(part["preemptions"].sum(dtype=np.int64)))
            if self._objectives:
                add_met(self.met, count_met(self._objectives, part["request_class"], times_of(part)))

    def describe(self, integers: npt.NDArray[np.int64], tbt_sum_s: float) -> dict[str, Any]:
        """The sections of a summary that are about latencies, as `fastsim.result.describe_run` takes them.

        Args:
            integers: the pool of the run, which begins with the histogram of time between tokens.
            tbt_sum_s: sum of all times between tokens [s].
        """
        whole, gaps = Latencies.of_all(self.classes.values()), integers[:NUM_BUCKETS]
        sections: dict[str, Any] = {
            "metrics": whole.summary() | {"tbt_s": sketched(gaps, tbt_sum_s)},
            "distributions": whole.distributions() | {"tbt_s": sketched_distribution(gaps)},
            "prefix_cache": whole.hits(),
        }
        if len(self.classes) > 1:
            sections["classes"] = {
                str(number): {"requests": part.requests}
                | part.summary()
                | {"preemptions": part.preemptions, "hit_rate": part.hits()["hit_rate"]}
                for number, part in sorted(self.classes.items())
            }
        return sections
