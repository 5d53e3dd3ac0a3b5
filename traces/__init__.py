"""What arrives, and when: request traces, synthetic workloads, and the arrays they become.

Knows nothing of estimators or of the simulator. Importing it is cheap: polars loads with the first file read.
"""

from traces.errors import TraceError
from traces.generators import generate
from traces.prefix_reuse import prefix_reuse
from traces.readers import read
from traces.workload import Workload

__all__ = ["TraceError", "Workload", "generate", "prefix_reuse", "read"]
