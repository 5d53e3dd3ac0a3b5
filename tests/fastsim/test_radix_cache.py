"""SGLang's radix cache: the kernel equals the reference simulator, and its tree is whole when a run ends."""

import numpy as np
import pytest
from comparisons import assert_equal
from hypothesis import given, settings
from kernel_cases import Case, cases, run_kernel
from reference.simulate import simulate as reference_simulate

from fastsim import ConfigError, SimulationConfig, Workload, simulate
from fastsim.kernel.jit import DISABLED
from fastsim.kernel.radix_tree import ACCESS, CHILDREN, FIRST, HI, LO, LOCKS, NEWER, NO_NODE, PARENT
from fastsim.kernel.state import NONE, State

EXAMPLES = 60 if DISABLED else 600

cached = cases(max_requests=20, policies=("sglang",), features=("caching", "sessions", "prefix_aware"))


@settings(max_examples=EXAMPLES)
@given(cached)
def test_requests_equal_the_reference(case: Case):
    assert_equal(case, run_kernel(case), reference_simulate(case.requests, case.tables, case.config))


@settings(max_examples=EXAMPLES // 3)
@given(cached)
def test_every_batch_equals_the_reference(case: Case):
    state = run_kernel(case, record_batches=True)
    log = state.batches[: state.cluster[0].num_batches]
    expected = reference_simulate(case.requests, case.tables, case.config)
    for replica in range(case.config.replicas):
        got = log[(log["replica"] == replica) & (log["stage"] == 0)]
        for row, batch in zip(got, expected.replicas[replica].batches, strict=True):
            assert (row.num_tokens, row.num_sequences) == (batch.num_tokens, batch.num_sequences)
            assert (row.used_blocks, row.preempted) == (batch.blocks_used, len(batch.preempted))


def nodes_of(state: State, replica: np.void) -> list[int]:
    """All nodes of a replica's tree but its root, from its table of children."""
    table = state.integers[replica["children"] : replica["children"] + replica["children_mask"] + 1]
    return table[table != NO_NODE].tolist()


@settings(max_examples=EXAMPLES // 3)
@given(cached)
def test_the_tree_is_whole_in_the_end(case: Case):
    state = run_kernel(case)
    integers = state.integers
    assert (state.requests["last_use"] == NONE).all()
    for replica in state.replicas:
        if not replica["radix"]:
            continue
        nodes, root = nodes_of(state, replica), int(replica["root"])
        assert integers[root + LOCKS] == 1
        assert [integers[node + LOCKS] for node in nodes] == [0] * len(nodes)
        assert replica["free_blocks"] == replica["num_blocks"]
        assert replica["evictable"] == sum(integers[node + HI] - integers[node + LO] for node in nodes)
        assert all(integers[node + LO] == integers[integers[node + PARENT] + HI] for node in nodes)
        assert all(integers[node + LO] < integers[node + HI] for node in nodes)
        assert len({(integers[node + PARENT], integers[node + FIRST]) for node in nodes}) == len(nodes)
        parents = [int(integers[node + PARENT]) for node in nodes]
        assert all(integers[node + CHILDREN] == parents.count(node) for node in [root, *nodes])
        leaves = []
        leaf = int(replica["oldest_leaf"])
        while leaf != NO_NODE:
            leaves.append(leaf)
            leaf = int(integers[leaf + NEWER])
        numbers = [int(integers[leaf + ACCESS]) for leaf in leaves]
        assert numbers == sorted(set(numbers))
        assert set(leaves) == {node for node in nodes if integers[node + CHILDREN] == 0}


def conversation(**columns) -> Workload:
    """Two requests with the same first 64 tokens, the second long after the first."""
    return Workload.from_arrays([0.0, 100.0], [80, 80], [20, 20], **columns)


SHARED = {"block_ids": [1, 2, 3, 4, 1, 2, 3, 4], "block_offsets": [0, 4, 8], "block_tokens": 16}


def test_a_text_is_found_again():
    config = SimulationConfig(scheduler="sglang", num_kv_blocks=100)
    requests = simulate(config, conversation(**SHARED)).requests
    assert requests["cached_tokens"].to_list() == [0, 64]
    off = config.with_fields(scheduler_options={"enable_prefix_caching": False})
    assert simulate(off, conversation(**SHARED)).requests["cached_tokens"].to_list() == [0, 0]


def test_other_words_than_true_and_false_are_refused():
    options = {"enable_prefix_caching": "perhaps"}
    with pytest.raises(ConfigError, match="enable_prefix_caching"):
        SimulationConfig(scheduler="sglang", scheduler_options=options)
