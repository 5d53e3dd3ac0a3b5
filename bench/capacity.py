"""Speed of `fastsim.capacity`: wall time, probes and simulated requests, and whether its answer is right.

The configurations are the default one under several limits, and others under the paper's rule. After each search the
workload is simulated whole at 0.97 and at 1.03 of the capacity: the one must hold, and the other break.
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

from common import Row, emit, figure, note, parser

import fastsim
from fastsim.machine import tables_for
from fastsim.searching.limits import read_limits
from fastsim.searching.probes import Prober

#: What is searched: fields of the configuration, and limits.
CASES: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({}, None),
    ({}, {"ttft_s": {"p90": 0.5}}),
    ({}, {"tpot_s": {"p99": 0.03}}),
    ({}, {"ttft_s": {"p90": 2.0}, "tbt_s": {"p99": 0.2}}),
    ({"scheduler": "sarathi"}, None),
    ({"replicas": 4}, None),
    ({"engine": "vllm-0.19"}, None),
]


def search(fields: dict[str, Any], slo: dict[str, Any] | None, num_requests: int, repeats: int) -> Row:
    """One row: the best of several searches, and the check of the answer."""
    config = fastsim.SimulationConfig(**fields)
    note(f"{fields or 'default'}, {slo or 'the rule of the paper'}: {num_requests:,} requests")
    tables = tables_for(config)
    workload = fastsim.Workload.generate(
        num_requests=num_requests, qps=12.0, max_total_tokens=config.max_model_len, seed=config.seed
    )
    fastsim.capacity(config, workload.head(200), slo, tables=tables)  # compiles what is not compiled yet
    walls = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = fastsim.capacity(config, workload, slo, tables=tables)
        walls.append(time.perf_counter() - started)
    whole = Prober(config, workload, read_limits(slo), tables, stops=False)
    return {
        "config": ",".join(f"{name}={value}" for name, value in fields.items()) or "default",
        "limits": ",".join(f"{limit.key}<={limit.limit:g}" for limit in read_limits(slo)),
        "requests": num_requests,
        "capacity_qps": found.qps,
        "long_enough": found.long_enough,
        "probes": len(found.probes),
        "stopped": sum(probe.stopped_early for probe in found.probes),
        "simulated_requests": sum(probe.requests for probe in found.probes),
        "wall_s": min(walls),
        "holds_below": whole(0.97 * found.qps).holds,
        "breaks_above": not whole(1.03 * found.qps).holds,
    }


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: what each capacity took."""
    for row in printed["rows"]:
        what = f"One capacity, {row['requests']:,} requests, best of several"
        name = f"{row['config']}; {row['limits']}"
        yield figure(what, name, "time", row["wall_s"], "s")
        yield figure(what, name, "probes", row["probes"], "")
        yield figure(what, name, "simulated requests", row["simulated_requests"], "")
        yield figure(what, name, "right", int(row["holds_below"] and row["breaks_above"]), "of 1")


def main() -> int:
    """Print the rows; returns the exit code: 1 where an answer is wrong."""
    arguments = parser("speed of the search for a capacity").parse_args()
    sizes, repeats = ([1_000], 1) if arguments.smoke else ([1_000, 16_000], 5)
    cases = CASES[:2] if arguments.smoke else CASES
    rows = [search(fields, slo, size, repeats) for size in sizes for fields, slo in cases]
    emit(rows, arguments.json)
    return 0 if all(row["holds_below"] and row["breaks_above"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
