"""What arrives, and when: request traces, synthetic workloads, and the arrays they become.

Knows nothing of estimators or of the simulator. Importing it is cheap: polars loads with the first file read.
"""

from traces.catalog import fetch
from traces.describe import describe
from traces.errors import TraceError
from traces.generators import generate
from traces.mixing import ClientClass, mix
from traces.named import named_workload
from traces.objectives import Objective
from traces.parquet import write
from traces.prefix_reuse import prefix_reuse
from traces.rates import with_arrivals, with_rate
from traces.readers import read
from traces.servegen import ServeGenPool
from traces.sharegpt import read_sharegpt
from traces.stream import WorkloadStream
from traces.workload import Workload

__all__ = [
    "ClientClass",
    "Objective",
    "ServeGenPool",
    "TraceError",
    "Workload",
    "WorkloadStream",
    "describe",
    "fetch",
    "generate",
    "mix",
    "named_workload",
    "prefix_reuse",
    "read",
    "read_sharegpt",
    "with_arrivals",
    "with_rate",
    "write",
]
