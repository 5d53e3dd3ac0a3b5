"""ServeGen: clients as rates in windows of time, and as histograms of lengths; not requests, but what draws them.

A folder or an archive (.tar, .tar.gz) with two files for each client:

- ``chunk-K-trace.csv`` without a header: start of a window [s], requests per second in it, coefficient of variation of
  the intervals, their family (Gamma or Weibull, empty where the rate is 0), and its two parameters, shape and scale.
- ``chunk-K-dataset.json``: start of a longer window -> histograms ``input_tokens`` and ``output_tokens``, each a text
  of the form ``{tokens: probability, ...}``. Archives without them give rates only.

How requests are drawn: in each window a client sends its rate times the length of the window, rounded up or down at
random so that the mean is kept. One interval more than that is drawn from the family with its shape, and all are
stretched to fill the window, so the rate is met exactly, as in ServeGen's own generator, and the scale has no part.
Prompt and output are drawn independently from the histograms of the time (ServeGen's own takes one random number for
both, so that the longest prompts get the longest outputs).
"""

import os
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from traces import servegen_files
from traces.choices import choose
from traces.errors import MAX_TOKENS, real_number, whole_number
from traces.files import file_error
from traces.lengths import LENGTHS, LengthDistribution
from traces.servegen_files import Client, Histograms
from traces.workload import Workload

#: What `traces.read` draws at most, as expected number of requests.
MOST_REQUESTS: Final = 10_000_000
_FIRST_KEY: Final = 8  # of the streams of the seed; `traces.generators` has those below


@dataclass(frozen=True, eq=False)
class ServeGenPool:
    """Clients of one model.

    Attributes:
        path: where they come from.
        clients: the clients, in the order of their numbers.
        window_s: length of the windows [s].
        sha256: of the archive; empty for a folder.
    """

    path: str
    clients: tuple[Client, ...] = field(repr=False)
    window_s: float
    sha256: str = ""

    @classmethod
    def read(cls, path: str | os.PathLike[str], folder: str = "") -> "ServeGenPool":
        """Read a folder or an archive.

        Args:
            path: the folder or the archive.
            folder: end of the name of a folder in an archive of several models, such as "reason/deepseek-r1".

        Raises:
            TraceError: there are no clients in it, or a cell is bad.
        """
        clients, sha256 = servegen_files.read_clients(path, folder)
        starts = np.unique(np.concatenate([client.start_s for client in clients]))
        window_s = float(np.diff(starts).min()) if len(starts) > 1 else 600.0
        return cls(str(path), clients, window_s, sha256)

    @property
    def duration_s(self) -> float:
        """End of the last window [s]."""
        return max(float(client.start_s[-1]) for client in self.clients) + self.window_s

    @property
    def has_lengths(self) -> bool:
        """Whether every client that sends requests has histograms."""
        return all(client.histograms or not client.rate.any() for client in self.clients)

    def expected_requests(self, until_s: float) -> float:
        """Mean number of requests before a time [s]."""
        return sum(
            float((client.rate * np.clip(until_s - client.start_s, 0, self.window_s)).sum()) for client in self.clients
        )

    def generate(
        self,
        duration_s: float | None = None,
        *,
        rate_scale: float = 1.0,
        lengths: str | None = None,
        length_options: dict[str, object] | None = None,
        seed: int = 0,
    ) -> Workload:
        """Draw requests; those of a shorter duration are the first ones of a longer one.

        Args:
            duration_s: how much of the time to draw, from its beginning; None for all.
            rate_scale: what rates are multiplied with.
            lengths: a name in ``traces.lengths.LENGTHS``, in place of the histograms; archives without need it.
            length_options: fields of that distribution.
            seed: an integer of at least 0.

        Raises:
            TraceError: an argument is out of range, there are no lengths, or no request is drawn.
        """
        until_s = self.duration_s if duration_s is None else real_number("duration_s", duration_s, 1e-3, 1e9)
        rate_scale = real_number("rate_scale", rate_scale, 1e-9, 1e9)
        seed = whole_number("seed", seed, 0, 2**128 - 1)
        chosen = None if lengths is None else choose("lengths", LENGTHS, lengths, length_options or {})
        if chosen is None and not self.has_lengths:
            mend = "give lengths to traces.ServeGenPool.generate, such as lengths='lognormal' with length_options"
            raise file_error(self.path, "has rates but no lengths (no chunk-*-dataset.json)", mend)
        parts = []
        for index, client in enumerate(self.clients):
            stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_FIRST_KEY, index))))
            parts += self._draw(client, until_s, rate_scale, chosen, stream)
        arrival_s = np.concatenate([part.arrival_s for part in parts] or [np.empty(0)])
        kept = np.flatnonzero(arrival_s < until_s)
        if not len(kept):
            raise file_error(self.path, f"has no request before {until_s:g} s", "give a longer duration_s")
        kept = kept[np.argsort(arrival_s[kept], kind="stable")]
        prompt_tokens, output_tokens = (
            np.concatenate([getattr(part, name) for part in parts])[kept] for name in ("prompt_tokens", "output_tokens")
        )
        provenance: dict[str, Any] = {"file": os.path.basename(self.path), "format": "servegen", "sha256": self.sha256}
        provenance["drawn"] = {
            "duration_s": until_s,
            "rate_scale": rate_scale,
            "lengths": lengths,
            "length_options": {} if chosen is None else dict(vars(chosen)),
            "seed": seed,
        }
        notes = (f"drawn with seed {seed} from the rates of {len(self.clients)} clients over {until_s:g} s",)
        return Workload(arrival_s[kept], prompt_tokens, output_tokens, provenance, notes)

    def _draw(
        self,
        client: Client,
        until_s: float,
        rate_scale: float,
        chosen: LengthDistribution | None,
        stream: np.random.Generator,
    ) -> list["_Part"]:
        """Requests of a client, window by window."""
        parts = []
        for window in range(int(np.searchsorted(client.start_s, until_s))):
            if not client.rate[window]:
                continue
            count = int(client.rate[window] * rate_scale * self.window_s + stream.random())
            arrival_s = client.start_s[window] + self.window_s * _places(client, window, count, stream)
            if chosen is not None:
                prompt, output = chosen.sample(count, stream)
            else:
                prompt, output = _lengths(client.histograms_at(float(client.start_s[window])), count, stream)
            parts.append(_Part(arrival_s, prompt, output))
        return parts


class _Part(NamedTuple):
    """Requests of one window, each array of shape (n,)."""

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


def draw_some(path: str | os.PathLike[str]) -> Workload:
    """What `traces.read` gives: all of the time with seed 0, or as much as has `MOST_REQUESTS`."""
    pool = ServeGenPool.read(path)
    until_s = pool.duration_s
    while pool.expected_requests(until_s) > MOST_REQUESTS:
        until_s -= pool.window_s
    return pool.generate(until_s)


def _places(client: Client, window: int, count: int, stream: np.random.Generator) -> NDArray[np.float64]:
    """Where in a window requests arrive, 0 to 1, nondecreasing, shape (count,)."""
    draw = stream.weibull if client.is_weibull[window] else stream.standard_gamma
    ends = np.cumsum(draw(client.shape[window], count + 1))
    # Intervals of a tiny shape may all be smaller than the smallest number.
    return ends[:-1] / ends[-1] if ends[-1] > 0 else np.arange(1, count + 1) / (count + 1)


def _lengths(histograms: Histograms, count: int, stream: np.random.Generator) -> Any:
    """Prompt and output tokens, each of shape (count,)."""
    drawn = []
    for histogram in (histograms.prompt, histograms.output):
        place = np.searchsorted(histogram.cumulated, stream.random(count) * histogram.cumulated[-1], side="right")
        drawn.append(np.clip(histogram.tokens[place], 1, MAX_TOKENS))
    return drawn
