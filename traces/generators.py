"""Synthetic workloads: an arrival process and a length distribution, from one seed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from traces.arrivals import ARRIVALS, Static
from traces.choices import choose
from traces.classes import check_shares, draw_classes
from traces.errors import TraceError, real_number, shown, whole_number
from traces.lengths import LENGTHS, LengthDistribution, Lengths
from traces.resizing import cut_prompts
from traces.trace_columns import TraceArrivals
from traces.workload import Workload

# Rows drawn at a time: the temporary arrays of a block stay in the processor's cache, which is 3 times as fast.
_BLOCK: Final = 65_536
_WITHOUT_RATE: Final = {
    "static": "static arrivals are all at time 0",
    "trace": "arrivals of a file come when they come; time_scale stretches them",
}


def generate(
    *,
    num_requests: int,
    qps: float | None = None,
    arrivals: str = "poisson",
    arrival_options: Mapping[str, object] | None = None,
    lengths: str = "azure_conv_2023",
    length_options: Mapping[str, object] | None = None,
    max_total_tokens: int | None = 8192,
    class_shares: Sequence[float] | None = None,
    seed: int = 0,
) -> Workload:
    """Draw a workload.

    The seed is split into one stream for arrivals, one for lengths and one for classes, so workloads of one seed have
    the same lengths whatever their arrivals, and the first k requests are the same whatever ``num_requests``: searches
    compare like with like.

    Args:
        num_requests: how many, at least 1; whole floats such as 1e6 are taken.
        qps: mean arrival rate in requests per second, for the processes that have one; or give it in
            ``arrival_options``.
        arrivals: a name in ``traces.arrivals.ARRIVALS``: gamma, poisson, static, trace.
        arrival_options: fields of that process.
        lengths: a name in ``traces.lengths.LENGTHS``: azure_code_2023, azure_conv_2023, fixed, lognormal,
            quantile_table, trace, uniform, uniform_total, zipf.
        length_options: fields of that distribution.
        max_total_tokens: most tokens of prompt and output together, at least 2. Longer requests lose prompt tokens;
            outputs beyond max_total_tokens - 1 are cut to that first. None cuts nothing.
        class_shares: probability of each request class from 0, the most important: 1 to 128 numbers above 0 that sum
            to 1. None leaves all requests in class 0.
        seed: an integer of at least 0.

    Raises:
        TraceError: an unknown choice, an unknown or missing option, or a value out of range.
    """
    n = whole_number("num_requests", num_requests, 1)
    seed = whole_number("seed", seed, 0, 2**128 - 1)
    if max_total_tokens is not None:
        max_total_tokens = whole_number("max_total_tokens", max_total_tokens, 2)
    shares = None if class_shares is None else check_shares(class_shares)
    process_options = _options("arrival_options", arrival_options)
    notes: tuple[str, ...] = ()
    if qps is not None:
        if "qps" in process_options:
            raise TraceError("qps", qps, f"is {shown(qps)} and stands in arrival_options too", "give it once")
        if arrivals in _WITHOUT_RATE:
            notes = (f"qps {shown(qps)} is not used: {_WITHOUT_RATE[arrivals]}",)
        else:
            process_options["qps"] = qps
    process = choose("arrivals", ARRIVALS, arrivals, process_options)
    distribution = choose("lengths", LENGTHS, lengths, _options("length_options", length_options))

    arrival_stream, length_stream = _streams(seed)
    prompt_tokens, output_tokens = _draw(distribution, n, length_stream)
    if max_total_tokens is not None:
        prompt_tokens, output_tokens, num_cut = cut_prompts(prompt_tokens, output_tokens, max_total_tokens)
        if num_cut:
            notes += (f"{num_cut} of {n} requests were cut to max_total_tokens {max_total_tokens}",)
    arrival_s = process.sample(n, arrival_stream)

    provenance = {
        "generator": {
            "num_requests": n,
            "arrivals": arrivals,
            "arrival_options": dict(vars(process)),
            "lengths": lengths,
            "length_options": dict(vars(distribution)),
            "max_total_tokens": max_total_tokens,
            "class_shares": shares,
            "seed": seed,
        },
        "numpy": np.__version__,
    }
    request_class = None if shares is None else draw_classes(n, shares, seed)
    return Workload.from_arrays(arrival_s, prompt_tokens, output_tokens, provenance, notes, request_class)


def requests_before(
    duration_s: float, *, seed: int, arrivals: str, arrival_options: Mapping[str, object] | None = None
) -> int:
    """How many of the requests that `generate` draws arrive before a time.

    Args:
        duration_s: the time, more than 0 [s].
        seed: as for `generate`.
        arrivals: as for `generate`, but not static.
        arrival_options: as for `generate`, ``qps`` among them.

    Raises:
        TraceError: none arrives before it, or all arrive at time 0.
    """
    duration_s = real_number("duration_s", duration_s, 0, 1e12)
    process = choose("arrivals", ARRIVALS, arrivals, _options("arrival_options", arrival_options))
    if isinstance(process, TraceArrivals):
        arrival_s = process.times_s()
    elif isinstance(process, Static):
        raise TraceError("arrivals", arrivals, "all come at time 0, whatever the duration", "give a number of requests")
    else:
        n = 1024
        while (arrival_s := process.sample(n, _streams(seed)[0]))[-1] < duration_s:
            n *= 2
    count = int(np.searchsorted(arrival_s, duration_s, side="left"))
    if count == 0:
        raise TraceError("duration_s", duration_s, f"is {shown(duration_s)}, before any request", "give a longer one")
    return count


def _streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """The streams of arrivals and of lengths."""
    arrival_stream, length_stream = (
        np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(2)
    )
    return arrival_stream, length_stream


def _options(field: str, options: Mapping[str, object] | None) -> dict[str, Any]:
    """A copy of an options argument."""
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TraceError(field, options, f"is {shown(options)}", "give a mapping of option names to values")
    return dict(options)


def _draw(distribution: LengthDistribution, n: int, rng: np.random.Generator) -> Lengths:
    """Prompt and output tokens, each of shape (n,), drawn block by block."""
    prompt_tokens, output_tokens = np.empty(n, np.int64), np.empty(n, np.int64)
    for start in range(0, n, _BLOCK):
        block = slice(start, min(start + _BLOCK, n))
        prompt_tokens[block], output_tokens[block] = distribution.sample(block.stop - start, rng)
    return prompt_tokens, output_tokens
