"""Making the state of a run under parity; its caller has checked what there is to check."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastsim.kernel.histogram import NUM_BUCKETS
from fastsim.kernel.state import records
from fastsim.kernel.vidur import state as states
from fastsim.vidur.memory import VidurMemory

if TYPE_CHECKING:
    from fastsim.config import SimulationConfig
    from traces import Workload

_FIRST_LOG_ROWS = 1 << 16
#: No run forms more batches of a replica between two completions: what one of the longest requests may need with its
#: restarts, and in any case no more than a few seconds of our time.
_MOST_ITERATIONS = 20_000_000


def new_state(
    config: "SimulationConfig",
    workload: "Workload",
    memory: VidurMemory,
    choices: npt.NDArray[np.int64],
    *,
    num_layers: int,
    prefill_factor: float,
) -> states.State:
    """The state before the first arrival.

    Args:
        config: under parity.
        workload: sorted by arrival.
        memory: Vidur's plan.
        choices: int64 [n], the replica of each request for the router "random".
        num_layers: of the model.
        prefill_factor: what the attention of several chunks is multiplied with.
    """
    num_stages, num_replicas, n = config.pipeline_parallel, config.replicas, len(workload)
    requests = records(states.REQUEST, n)
    requests["arrival_s"] = workload.arrival_s
    requests["prefill"], requests["decode"] = workload.prompt_tokens, workload.output_tokens
    requests["replica"] = choices
    lists_each = states.QUEUES + 2 * num_stages
    lists = records(states.LIST, num_replicas * lists_each)
    lists["head"] = lists["tail"] = states.NONE
    batches = _free_batches(num_replicas, num_stages, lists)
    cluster = records(states.CLUSTER, 1)
    longest = int((workload.prompt_tokens + workload.output_tokens).max())
    cluster["policy"], cluster["router"] = states.POLICIES[config.scheduler], states.ROUTERS[config.router]
    cluster["num_stages"] = num_stages
    cluster["layers"] = num_layers // num_stages
    cluster["prefill_factor"] = prefill_factor
    cluster["time_limit_s"] = config.parity_choice.time_limit_s or np.inf
    cluster["max_iterations"] = min(num_stages * longest**2, _MOST_ITERATIONS)
    cluster["num_events"] = n
    cluster["record_batches"] = config.record_batches
    return states.State(
        work=states.Work(requests, batches, lists, np.zeros(2 * n + 2, np.int64)),
        replicas=_new_replicas(config, memory, lists_each),
        stages=records(states.STAGE, num_replicas * num_stages),
        # Every arrival makes one event, every micro-batch in flight has at most three, and every replica is woken once.
        events=records(states.EVENT, n + num_replicas * (4 * num_stages + 4)),
        cluster=cluster,
        tbt=np.zeros(NUM_BUCKETS, np.int64),
        log=records(states.STAGE_RUN, _FIRST_LOG_ROWS if config.record_batches else 0),
    )


def with_longer_log(state: states.State) -> states.State:
    """The same state with twice the room in its log."""
    log = records(states.STAGE_RUN, 2 * len(state.log))
    log[: len(state.log)] = state.log
    return state._replace(log=log)


def _free_batches(num_replicas: int, num_stages: int, lists: np.ndarray) -> np.ndarray:
    """Empty micro-batches, each in the free list of its replica (in place)."""
    lists_each = states.QUEUES + 2 * num_stages
    batches = records(states.BATCH, num_replicas * num_stages)
    for r in range(num_replicas):
        first, members = r * num_stages, r * lists_each + states.QUEUES + num_stages
        own = batches[first : first + num_stages]
        own["members"] = members + np.arange(num_stages)
        own["previous"] = np.arange(first - 1, first + num_stages - 1)
        own["next"] = np.arange(first + 1, first + num_stages + 1)
        own["previous"][0] = own["next"][-1] = states.NONE
        lists[r * lists_each + states.FREE] = (first, first + num_stages - 1, num_stages)
    return batches


def _new_replicas(config: "SimulationConfig", memory: VidurMemory, lists_each: int) -> np.ndarray:
    """Idle replicas."""
    policy = config.batch_policy
    replicas = records(states.REPLICA, config.replicas)
    replicas["lists"] = lists_each * np.arange(config.replicas)
    replicas["max_holders"] = policy.max_num_seqs
    # Vidur divides its cap by the stages, but not for the two that reserve for life (oddity 14).
    for_life = config.scheduler in ("orca", "faster_transformer")
    cap = memory.max_micro_batch if for_life else policy.max_num_seqs // config.pipeline_parallel
    replicas["max_micro_batch"] = cap
    replicas["max_tokens"] = getattr(policy, "chunk_size", None) or getattr(policy, "max_num_batched_tokens", 0)
    replicas["watermark_blocks"] = memory.watermark_blocks
    replicas["blocks_for_life"] = memory.blocks_for_life
    replicas["max_waiting_iterations"] = getattr(policy, "max_waiting_iterations", 0)
    replicas["num_blocks"] = replicas["free_blocks"] = memory.num_blocks
    replicas["block_size"] = config.block_size
    replicas["kv_granularity"] = config.parity_choice.kv_cache_prediction_granularity
    return replicas
