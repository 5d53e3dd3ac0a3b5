"""Service level objectives of a whole run: what a quantile of a latency, or a part of the requests, must keep to.

Without any the rule of the Vidur paper holds: the 99th percentile of the scheduling delay is at most 5 s.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastsim.errors import ConfigError
from fastsim.measuring import seconds, split_unit

#: Latencies that can have a limit, and what they are called.
METRICS = {
    "scheduling_delay_s": "scheduling delay",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "tbt_s": "TBT",
    "e2e_s": "E2E",
}
ATTAINMENT = "attainment"
_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_OF_A_NAME = re.compile(rf"(.+?)(?:_s)?_({_QUANTILE.pattern}|mean|max)")


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        metric: a name of `METRICS`, or ``"attainment"``.
        quantile: ``"p50"``, ``"p99.9"``, ``"mean"`` or ``"max"``; empty for attainment.
        limit: the most that the latency may be [s], or the least part of the requests that meet the objectives of
            each.
    """

    metric: str
    quantile: str
    limit: float

    @property
    def key(self) -> str:
        """Its name in one word, such as ``"ttft_s.p90"``."""
        return f"{self.metric}.{self.quantile}" if self.quantile else self.metric

    @property
    def part(self) -> float | None:
        """The quantile as a number from 0 to 1; None for the mean and for attainment."""
        if self.quantile in ("", "mean"):
            return None
        return 1.0 if self.quantile == "max" else float(self.quantile[1:]) / 100

    @property
    def name(self) -> str:
        """Its name in words, such as ``"p90 TTFT"``."""
        return f"{self.quantile} {METRICS[self.metric]}" if self.quantile else ATTAINMENT

    def holds(self, value: float | None) -> bool:
        """Whether a value keeps it; None, of a run without any such time, does."""
        if value is None:
            return True
        return value >= self.limit if self.metric == ATTAINMENT else value <= self.limit

    def strain(self, value: float | None) -> float:
        """How near a value is to the limit: 1 at it, more beyond."""
        if value is None:
            return 0.0
        if self.metric == ATTAINMENT:
            return (1 - value) / (1 - self.limit) if self.limit < 1 else 1.0 + (1 - value)
        return value / self.limit


PAPER_RULE = (Limit("scheduling_delay_s", "p99", 5.0),)


def read_limits(slo: Mapping[str, Any] | None) -> tuple[Limit, ...]:
    """Read limits.

    Args:
        slo: by name of `METRICS` a table of quantiles with the most that each may be, seconds or text such as
            ``"200ms"``, and under ``"attainment"`` the part of the requests, 0.95 or ``"95%"``, that must meet the
            objectives of each (``SimulationConfig.slo``, or those of the workload):
            ``{"ttft_s": {"p50": 0.5, "p90": "2s"}, "attainment": 0.95}``. None, or none, for the paper's rule.

    Returns:
        The limits, in that order.

    Raises:
        ConfigError: an unknown name or quantile, or a limit that is none.
    """
    found: list[Limit] = []
    for name, given in (slo or {}).items():
        if name == ATTAINMENT:
            found.append(Limit(ATTAINMENT, "", _read_part(given)))
            continue
        if name not in METRICS:
            mend = f"give {', '.join((*METRICS, ATTAINMENT))}"
            raise ConfigError("slo", name, "is not what a capacity can be limited by", mend)
        if not isinstance(given, Mapping) or not given:
            raise ConfigError(f"slo.{name}", given, "names no quantile", 'give a table such as {"p99": 5.0}')
        found += [_read_limit(name, quantile, value) for quantile, value in given.items()]
    return tuple(found) or PAPER_RULE


def _read_limit(name: str, quantile: Any, value: Any) -> Limit:
    field = f"slo.{name}"
    if quantile not in ("mean", "max") and not _QUANTILE.fullmatch(str(quantile)):
        raise ConfigError(field, quantile, "is not a quantile", "give p50, p99.9, mean or max, say")
    limit_s = seconds(f"{field}.{quantile}", value)
    if limit_s <= 0:
        raise ConfigError(f"{field}.{quantile}", value, "is met by no run", "give more than 0")
    return Limit(name, str(quantile), limit_s)


def _read_part(value: Any) -> float:
    """A part of the requests: a number from 0 to 1, or text in per cent."""
    text = str(value).strip()
    amount, unit = split_unit(text.removesuffix("%"))
    part = None if amount is None or unit else amount / 100 if text.endswith("%") else amount
    if part is None or not 0 < part <= 1:
        raise ConfigError(f"slo.{ATTAINMENT}", value, "is not a part of the requests", "give 0.95 or 95%, say")
    return part


def parse_limits(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Limits as on the command line: ``scheduling_delay_p99=5s,ttft=1s,attainment=95%``.

    Returns:
        What `read_limits` takes, and the objectives of each request, which are the names without a quantile, as
        ``SimulationConfig.slo`` takes them.

    Raises:
        ConfigError: a part is not of this form.
    """
    limits: dict[str, Any] = {}
    objectives: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not (name and equals and value):
            mend = "give scheduling_delay_p99=5s,ttft_p90=2s, say"
            raise ConfigError("slo", text, "is not a list of limits", mend)
        if name == ATTAINMENT:
            limits[name] = value
        elif found := _OF_A_NAME.fullmatch(name.removesuffix("_s")):
            limits.setdefault(f"{found[1]}_s", {})[found[2]] = value
        else:
            objectives[f"{name.removesuffix('_s')}_s"] = value
    return limits, objectives
