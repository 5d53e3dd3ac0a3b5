"""Synthetic workloads by name, each with what it rests on.

``published`` means statistics that a publication states, ``fitted`` means a real trace, and ``assumed`` means neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from traces.errors import TraceError, shown
from traces.generators import generate
from traces.quantile_tables import load_quantile_table
from traces.stream import WorkloadStream
from traces.workload import Workload

Drawn = TypeVar("Drawn", Workload, WorkloadStream)


@dataclass(frozen=True)
class NamedWorkload:
    """One of them.

    Attributes:
        what: what its requests are.
        lengths: name of its embedded quantile table.
        lengths_basis: what its lengths rest on.
        arrivals: its arrival process.
        arrivals_basis: what its arrivals rest on.
        arrival_options: fields of that process, without ``qps``.
        qps: its rate, or None where any will do.
        max_total_tokens: most tokens of prompt and output together; longer requests lose prompt tokens.
    """

    what: str
    lengths: str
    lengths_basis: str
    arrivals: str
    arrivals_basis: str
    arrival_options: Mapping[str, object] = field(default_factory=dict)
    qps: float | None = None
    max_total_tokens: int | None = None

    @property
    def source(self) -> str:
        """Two sentences on where its lengths and its arrivals come from."""
        table = load_quantile_table(self.lengths)
        return f"Lengths {self.lengths_basis} ({table.citation}; {table.license}). Arrivals {self.arrivals_basis}."

    def parameters(self) -> dict[str, Any]:
        """Arguments of `traces.generate`, but for the number of requests, the rate and the seed."""
        return {
            "arrivals": self.arrivals,
            "arrival_options": dict(self.arrival_options),
            "lengths": "quantile_table",
            "length_options": {"table": self.lengths},
            "max_total_tokens": self.max_total_tokens,
        }


_POISSON: Final = "assumed: Poisson at the rate that is asked for, as in the paper"
_VIDUR_BENCH: Final = {"arrivals": "poisson", "arrivals_basis": _POISSON, "max_total_tokens": 4096}
_STATISTICS: Final = (
    "published: mean, median and 90 % quantile of prompts and outputs; assumed: the shape between them, independence"
)
WORKLOADS: Final[dict[str, NamedWorkload]] = {
    "chat-1m": NamedWorkload(
        "LMSys-Chat-1M-4K of the Vidur paper: conversations",
        "chat_1m_4k",
        _STATISTICS,
        **_VIDUR_BENCH,  # type: ignore[arg-type]
    ),
    "arxiv-4k": NamedWorkload(
        "Arxiv-Summarization-4K of the Vidur paper: summaries of papers",
        "arxiv_4k",
        "fitted: the lengths that Vidur ships, whose statistics are those that the paper publishes",
        **_VIDUR_BENCH,  # type: ignore[arg-type]
    ),
    "bwb-4k": NamedWorkload(
        "Bilingual-Web-Book-4K of the Vidur paper: translations of documents",
        "bwb_4k",
        _STATISTICS,
        **_VIDUR_BENCH,  # type: ignore[arg-type]
    ),
    "sharegpt-8k": NamedWorkload(
        "ShareGPT as in the Sarathi-Serve paper: turns of conversations, the conversation so far in the prompt",
        "sharegpt_8k",
        "fitted: the lengths that Sarathi-Serve ships",
        "poisson",
        _POISSON,
        max_total_tokens=8192,
    ),
    "azure-conv-like": NamedWorkload(
        "conversation requests of the Azure LLM inference trace 2023",
        "azure_conv_2023",
        "fitted: the trace",
        "mmpp",
        "fitted: variance of the trace's requests per minute, and how long they stay high or low; assumed: two rates",
        {"rates": (1.0, 1.55), "dwell_s": (740.0, 740.0)},
        qps=5.53,
    ),
    "azure-code-like": NamedWorkload(
        "code completion requests of the Azure LLM inference trace 2023",
        "azure_code_2023",
        "fitted: the trace",
        "on_off",
        "fitted: variance of the trace's requests per second, and how fast bursts end; assumed: none between bursts",
        {"on_s": 8.1, "off_s": 38.3},
        qps=2.566,
    ),
    "mooncake-conv-like": NamedWorkload(
        "conversation requests of the Mooncake trace, long prompts, without their common prefixes",
        "mooncake_conversation",
        "fitted: the trace",
        "poisson",
        "assumed: Poisson at the trace's rate, whose requests per minute vary little more than that",
        qps=3.4,
    ),
    "deepseek-r1-like": NamedWorkload(
        "reasoning requests of ServeGen's deepseek-r1, short prompts and long outputs",
        "deepseek_r1",
        "fitted: a day drawn from the histograms of ServeGen's clients",
        "diurnal",
        "fitted: a sine through the requests per hour of that day, of whose variance it explains 60 %",
        {"amplitude": 0.54, "phase": 0.23, "period_s": 86400.0},
        qps=16.0,
    ),
}


def named_workload(name: str, *, num_requests: int, qps: float | None = None, seed: int = 0) -> Workload:
    """Draw a workload by its name; its notes say what it rests on.

    Args:
        name: a name in ``traces.named.WORKLOADS``.
        num_requests: how many requests.
        qps: mean rate; None for that of the workload, which those of the Vidur and Sarathi papers lack.
        seed: an integer of at least 0.

    Raises:
        TraceError: there is no such workload, it has no rate of its own, or a value is out of range.
    """
    chosen = find(name)
    rate = chosen.qps if qps is None else qps
    if rate is None:
        raise TraceError("qps", None, f"is missing: {name} has no rate of its own", "give one")
    workload = generate(num_requests=num_requests, qps=rate, seed=seed, **chosen.parameters())
    return described(workload, name)


def described(workload: Drawn, name: str) -> Drawn:
    """The same requests, with the name and the source of what they were drawn from."""
    source = find(name).source
    provenance = {**workload.provenance, "workload": name, "source": source}
    if isinstance(workload, WorkloadStream):
        return replace(workload, given_notes=(*workload.given_notes, f"{name}: {source}"), provenance=provenance)
    return replace(workload, notes=(*workload.notes, f"{name}: {source}"), provenance=provenance)


def find(name: str) -> NamedWorkload:
    """The workload of a name.

    Raises:
        TraceError: there is none.
    """
    if name not in WORKLOADS:
        raise TraceError("workload", name, f"is {shown(name)}", f"choose one of {', '.join(WORKLOADS)}")
    return WORKLOADS[name]
