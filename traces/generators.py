"""Synthetic workloads: an arrival process and a length distribution, from one seed."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from traces.arrivals import ARRIVALS, ArrivalProcess, Gamma, Poisson, Static, Weibull
from traces.choices import choose
from traces.classes import check_shares, draw_classes
from traces.conversations import CONVERSATIONS, Conversations, draw_conversations
from traces.errors import TraceError, real_number, shown, whole_number
from traces.lengths import LENGTHS, LengthDistribution, Lengths
from traces.modulated import Diurnal, Mmpp, OnOff
from traces.resizing import cut_prompts
from traces.trace_columns import TraceArrivals
from traces.workload import Workload

# Rows drawn at a time: the temporary arrays of a block stay in the processor's cache, which is 3 times as fast.
_BLOCK: Final = 65_536
#: Processes whose arrivals at another rate are the same ones on another time axis.
_STRETCHABLE: Final = (Poisson, Gamma, Weibull)
#: Arrivals that take no ``qps``, and why.
WITHOUT_RATE: Final = {
    "replay": "arrivals of a trace come when they come; rate_scale takes more or fewer of them",
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
    conversations: str | None = None,
    conversation_options: Mapping[str, object] | None = None,
    class_shares: Sequence[float] | None = None,
    seed: int = 0,
) -> Workload:
    """Draw a workload.

    With ``conversations`` the requests are turns: each turn's prompt is that of the turn before, its output, and the
    drawn prompt, which is what the user adds; it arrives a think time after the turn before completes. Block ids name
    the full blocks of prompts and outputs, so that caches find what was said.

    The seed is split into one stream for arrivals, one for lengths, one for classes and two for conversations, so
    workloads of one seed have the same lengths whatever their arrivals, and the first k requests are the same whatever
    ``num_requests``: searches compare like with like.

    Args:
        num_requests: how many, at least 1; whole floats such as 1e6 are taken.
        qps: mean arrival rate in requests per second, for the processes that have one; or give it in
            ``arrival_options``. Conversations begin at the rate of qps / turns.
        arrivals: a name in ``traces.arrivals.ARRIVALS``: diurnal, gamma, mmpp, on_off, poisson, replay, static, trace,
            weibull. Of conversations it is the process of their first turns.
        arrival_options: fields of that process.
        lengths: a name in ``traces.lengths.LENGTHS``: azure_code_2023, azure_conv_2023, correlated, empirical, fixed,
            lognormal, quantile_table, trace, uniform, uniform_total, zipf.
        length_options: fields of that distribution.
        max_total_tokens: most tokens of prompt and output together, at least 2. Longer requests lose prompt tokens;
            outputs beyond max_total_tokens - 1 are cut to that first. Conversations end before they get longer. None
            cuts nothing.
        conversations: a name in ``traces.conversations.CONVERSATIONS``: fixed, geometric, for the number of turns; None
            for requests that have nothing to do with each other.
        conversation_options: fields of that choice: turns, think_s, think_cv, system_prompt_tokens, block_tokens.
        class_shares: probability of each request class from 0, the most important: 1 to 128 numbers above 0 that sum
            to 1. None leaves all requests in class 0.
        seed: an integer of at least 0.

    Raises:
        TraceError: an unknown choice, an unknown or missing option, or a value out of range.
    """
    recipe = read_recipe(
        num_requests=num_requests,
        qps=qps,
        arrivals=arrivals,
        arrival_options=arrival_options,
        lengths=lengths,
        length_options=length_options,
        max_total_tokens=max_total_tokens,
        conversations=conversations,
        conversation_options=conversation_options,
        class_shares=class_shares,
        seed=seed,
    )
    n, process, distribution, talk = recipe.num_requests, recipe.process, recipe.distribution, recipe.talk
    notes = recipe.notes
    more: dict[str, Any] = {}
    arrival_stream, length_stream = streams(recipe.seed)
    if talk is None:
        with ThreadPoolExecutor(1) as threads:  # numpy draws both at once, from streams of their own
            waiting = threads.submit(process.sample, n, arrival_stream)
            prompt_tokens, output_tokens, num_cut = draw_lengths(
                distribution, n, length_stream, recipe.max_total_tokens
            )
            arrival_s = waiting.result()
        notes += recipe.notes_on_cut(num_cut)
    else:

        def draw_whole(m: int) -> Lengths:
            return draw_lengths(distribution, m, streams(recipe.seed)[1], None)[:2]

        turns = draw_conversations(talk, n, recipe.seed, draw_whole, recipe.max_total_tokens)
        prompt_tokens, output_tokens = turns.prompt_tokens, turns.output_tokens
        notes += turns.notes
        starts_s = _of_conversations(process, talk.turns).sample(int(turns.session[-1]) + 1, arrival_stream)
        arrival_s = starts_s[turns.session] * (talk.turns if isinstance(process, _STRETCHABLE) else 1)
        more = {"session": turns.session, "think_s": turns.think_s, "blocks": turns.blocks}
    if recipe.shares is not None:
        more["request_class"] = draw_classes(n, recipe.shares, recipe.seed)
    return Workload(arrival_s, prompt_tokens, output_tokens, recipe.provenance, notes, **more)


@dataclass(frozen=True)
class Recipe:
    """The arguments of `generate`, checked.

    Attributes:
        num_requests: how many requests.
        process: when they arrive.
        distribution: how long they are.
        max_total_tokens: most tokens of prompt and output together; None for no limit.
        talk: the conversations that they are turns of, if any.
        shares: probabilities of the classes; None for one class.
        seed: of all that is drawn.
        notes: what is known before anything is drawn.
        provenance: what was asked for; JSON-able.
    """

    num_requests: int
    process: ArrivalProcess
    distribution: LengthDistribution
    max_total_tokens: int | None
    talk: Conversations | None
    shares: list[float] | None
    seed: int
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def notes_on_cut(self, num_cut: int) -> tuple[str, ...]:
        """What is to be said where so many requests were cut."""
        if num_cut == 0:
            return ()
        return (f"{num_cut} of {self.num_requests} requests were cut to max_total_tokens {self.max_total_tokens}",)


def read_recipe(
    *,
    num_requests: int,
    qps: float | None = None,
    arrivals: str = "poisson",
    arrival_options: Mapping[str, object] | None = None,
    lengths: str = "azure_conv_2023",
    length_options: Mapping[str, object] | None = None,
    max_total_tokens: int | None = 8192,
    conversations: str | None = None,
    conversation_options: Mapping[str, object] | None = None,
    class_shares: Sequence[float] | None = None,
    seed: int = 0,
) -> Recipe:
    """Check the arguments of `generate`, and draw nothing yet.

    Raises:
        TraceError: as `generate` says.
    """
    n = whole_number("num_requests", num_requests, 1)
    seed = whole_number("seed", seed, 0, 2**128 - 1)
    if max_total_tokens is not None:
        max_total_tokens = whole_number("max_total_tokens", max_total_tokens, 2)
    shares = None if class_shares is None else check_shares(class_shares)
    process, notes = _process(qps, arrivals, arrival_options)
    distribution = choose("lengths", LENGTHS, lengths, _options("length_options", length_options))
    talk = _conversations(conversations, conversation_options)
    provenance: dict[str, Any] = {
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
    if talk is not None:
        provenance["generator"] |= {"conversations": conversations, "conversation_options": dict(vars(talk))}
    return Recipe(n, process, distribution, max_total_tokens, talk, shares, seed, notes, provenance)


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
        while (arrival_s := process.sample(n, streams(seed)[0]))[-1] < duration_s:
            n *= 2
    count = int(np.searchsorted(arrival_s, duration_s, side="left"))
    if count == 0:
        raise TraceError("duration_s", duration_s, f"is {shown(duration_s)}, before any request", "give a longer one")
    return count


def _process(
    qps: float | None, arrivals: str, arrival_options: Mapping[str, object] | None
) -> tuple[ArrivalProcess, tuple[str, ...]]:
    """The arrival process that is asked for, and a note where it has no use for ``qps``."""
    options = _options("arrival_options", arrival_options)
    notes: tuple[str, ...] = ()
    if qps is not None:
        if "qps" in options:
            raise TraceError("qps", qps, f"is {shown(qps)} and stands in arrival_options too", "give it once")
        if arrivals in WITHOUT_RATE:
            notes = (f"qps {shown(qps)} is not used: {WITHOUT_RATE[arrivals]}",)
        else:
            options["qps"] = qps
    return choose("arrivals", ARRIVALS, arrivals, options), notes


def _conversations(name: str | None, given: Mapping[str, object] | None) -> Conversations | None:
    """The choice of conversations that is asked for, if any."""
    options = _options("conversation_options", given)
    if name is not None:
        return choose("conversations", CONVERSATIONS, name, options)
    if options:
        problem, mend = "is given without conversations", f"choose one of {', '.join(CONVERSATIONS)}"
        raise TraceError("conversation_options", options, problem, mend)
    return None


def streams(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
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


def _of_conversations(process: ArrivalProcess, turns: float) -> ArrivalProcess:
    """The process at 1 / ``turns`` of its rate, where stretching its arrivals would not do."""
    if isinstance(process, Diurnal | Mmpp | OnOff):
        return replace(process, qps=process.qps / turns)
    return process


def draw_lengths(
    distribution: LengthDistribution, n: int, rng: np.random.Generator, max_total_tokens: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Prompt and output tokens, each of shape (n,), drawn block by block, and how many requests were cut."""
    prompt_tokens, output_tokens, num_cut = np.empty(n, np.int64), np.empty(n, np.int64), 0
    for start in range(0, n, _BLOCK):
        block = slice(start, min(start + _BLOCK, n))
        prompt, output = distribution.sample(block.stop - start, rng)
        if max_total_tokens is not None:
            prompt, output, cut_here = cut_prompts(prompt, output, max_total_tokens)
            num_cut += cut_here
        prompt_tokens[block], output_tokens[block] = prompt, output
    return prompt_tokens, output_tokens, num_cut
