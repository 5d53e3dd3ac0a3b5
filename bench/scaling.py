"""Growth: time and memory of the standard work, from 10^4 to 10^7 requests in memory and from 10^6 to 10^8 streamed.

    python bench/scaling.py [--json] [--smoke]

Each size runs in a process of its own, so that its peak memory is its own. In memory the requests are drawn before the
time is taken, in a stream while it is; the time of the processor is that of the whole process, start and all.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator

from common import Row, emit, figure, note, parser, standard_parameters

import fastsim

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
STREAMED = (1_000_000, 10_000_000, 100_000_000)
#: Sizes of both for a smoke test.
SMOKE = (SIZES[:2], SIZES[1:2])


def one(num_requests: int, streamed: bool) -> Row:
    """One size, in this process."""
    config, parameters, tables = standard_parameters(num_requests)
    draw = fastsim.Workload.stream if streamed else fastsim.Workload.generate
    workload = draw(**parameters)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    run = fastsim.simulate(config, workload, tables).summary["simulation"]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "requests": num_requests,
        "streamed": streamed,
        "iterations": run["iterations"],
        "wall_s": run["wall_s"],
        "requests_per_s": run["requests_per_s"],
        "iterations_per_s": run["iterations"] / run["wall_s"],
        "rss_before_mib": before_mib,
        "rss_peak_mib": used.ru_maxrss / 1024,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: time and memory of each size."""
    for row in printed["rows"]:
        name = f"{row['requests']:,} requests" + (", streamed" if row["streamed"] else "")
        yield figure("The standard work", name, "time", row["wall_s"], "s")
        yield figure("The standard work", name, "requests/s", row["requests_per_s"], "requests/s")
        yield figure("The standard work", name, "iterations/s", row["iterations_per_s"], "iterations/s")
        yield figure("The standard work", name, "processor time", row["cpu_s"], "s")
        yield figure("The standard work", name, "peak memory", row["rss_peak_mib"], "MiB")


def main() -> None:
    """Print the rows."""
    arguments = parser("growth with the number of requests")
    arguments.add_argument("--one", type=int, help="one size in this process, as JSON")
    arguments.add_argument("--streamed", action="store_true", help="with --one: as a stream")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.streamed)))
        return
    held, streamed = SMOKE if options.smoke else (SIZES, STREAMED)
    rows = []
    for size, flags in [(size, []) for size in held] + [(size, ["--streamed"]) for size in streamed]:
        note(f"{size:,} requests {' '.join(flags)}")
        command = [sys.executable, __file__, "--one", str(size), *flags]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    emit(rows, options.json)


if __name__ == "__main__":
    main()
