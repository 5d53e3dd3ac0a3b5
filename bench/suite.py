"""How long the standard scenarios take: ``fastsim bench``, whole processes.

    python bench/suite.py [--json] [--smoke]

The first run builds tables and compiles event loops where the caches lack them; the second one finds them there.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

from common import Row, emit, figure, note, parser

SMOKE = ("--scenario", "chat-1m/llama-3.1-8b/*/vllm_v1", "--requests", "200")


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: the process with full caches; the other one depends on what was run before."""
    for row in printed["rows"]:
        if row["what"] == "full caches":
            yield figure("`fastsim bench`, whole process", row["what"], "time", row["wall_s"], "s")


def main() -> int:
    """Print the rows; returns the exit code."""
    options = parser("how long the standard scenarios take").parse_args()
    rows = []
    for what in ("caches as they were", "full caches"):
        note(f"fastsim bench: {what}")
        command = [sys.executable, "-m", "fastsim", "bench", "--json", *(SMOKE if options.smoke else ())]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows.append({"what": what, "wall_s": time.perf_counter() - began})
    emit(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
