"""Which operators one iteration runs, and what the element-wise ones cost.

The list follows what vLLM runs inside a CUDA graph: the residual addition is fused into the norm, rotation works in
place on queries and keys, activation and gating are one kernel. Matrix products, attention, experts and collectives are
left to learned estimators; everything else moves bytes and follows ``bandwidth_seconds``.

Products of fp8 and nvfp4 weights take bf16 activations and were measured together with the kernel that quantises them,
so that kernel is no call of its own here: the least time of a product is 4 to 6 us in these types and 2 to 3 in bf16.
vLLM's compiler fuses all but one of the four in a layer into the norm or activation before, which this leaves out: 2 us
for each with few tokens, up to 60 us with 8,192. docs/operators.md says what holds for the other types.
"""

from estimators.operators.bandwidth import GRAPH_GAP_SECONDS, KERNEL_SECONDS, bandwidth_seconds
from estimators.operators.calls import ROW_AXES, OperatorCall
from estimators.operators.iteration import iteration_calls
from estimators.operators.parallel import Parallel, check_sharing

__all__ = [
    "GRAPH_GAP_SECONDS",
    "KERNEL_SECONDS",
    "ROW_AXES",
    "OperatorCall",
    "Parallel",
    "bandwidth_seconds",
    "check_sharing",
    "iteration_calls",
]
