"""Growth: time and memory of the standard work from 10^4 to 10^7 requests.

    python bench/scaling.py [--json] [--smoke]

Each size runs in a process of its own, so that its peak memory is its own.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator

from common import Row, emit, figure, note, parser, standard_work

import fastsim

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)


def one(num_requests: int) -> Row:
    """One size, in this process."""
    config, workload, tables = standard_work(num_requests)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run = fastsim.simulate(config, workload, tables).summary["simulation"]
    return {
        "requests": num_requests,
        "iterations": run["iterations"],
        "wall_s": run["wall_s"],
        "requests_per_s": run["requests_per_s"],
        "iterations_per_s": run["iterations"] / run["wall_s"],
        "rss_before_mib": before_mib,
        "rss_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: time and memory of each size."""
    for row in printed["rows"]:
        name = f"{row['requests']:,} requests"
        yield figure("The standard work", name, "time", row["wall_s"], "s")
        yield figure("The standard work", name, "requests/s", row["requests_per_s"], "requests/s")
        yield figure("The standard work", name, "iterations/s", row["iterations_per_s"], "iterations/s")
        yield figure("The standard work", name, "peak memory", row["rss_peak_mib"], "MiB")


def main() -> None:
    """Print the rows."""
    arguments = parser("growth with the number of requests")
    arguments.add_argument("--one", type=int, help="one size in this process, as JSON")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(one(options.one)))
        return
    rows = []
    for size in SIZES[:2] if options.smoke else SIZES:
        note(f"{size:,} requests")
        command = [sys.executable, __file__, "--one", str(size)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    emit(rows, options.json)


if __name__ == "__main__":
    main()
