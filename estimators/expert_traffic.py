"""How tokens fall on experts and reach them: the names that there are, the defaults first. Imports nothing."""

from __future__ import annotations

from collections.abc import Mapping

#: How unevenly routers load experts, by the distributions that were measured: 100 x the exponent of a power law.
EXPERT_LOADS: Mapping[str, int] = {"power_law_1.2": 120, "power_law_1.01": 101, "balanced": 0}
#: How engines that share experts bring tokens to them and back.
EXPERT_EXCHANGES = ("all_gather", "all_to_all")
