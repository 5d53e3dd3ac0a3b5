"""The trees of several ONNX ensembles as one, numbered so that they compress well.

``skl2onnx`` writes an ensemble for each member. Numbers of nodes are most of such a file and say little: if the i-th
inner node, level by level, has the children 2 i + 1 and 2 i + 2, and inner nodes come before leaves, only one list of
numbers differs from tree to tree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_KIND = "TreeEnsembleRegressor"
_NODES = ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_featureids", "nodes_values")


def joined(graph: Any) -> None:
    """Replace the tree ensembles of an ONNX graph, one of one target each, by one; other graphs stay as they are."""
    from onnx import helper

    ensembles = [node for node in graph.node if node.op_type == _KIND]
    if not ensembles:
        return
    parts = [{entry.name: helper.get_attribute_value(entry) for entry in node.attribute} for node in ensembles]
    merged: dict[str, Any] = {
        "n_targets": len(parts),
        "nodes_modes": [],
        "post_transform": "NONE",
        **{name: [] for name in (*_NODES, "nodes_treeids", "target_treeids", "target_nodeids")},
        **{name: [] for name in ("target_ids", "target_weights")},
    }
    if "base_values" in parts[0]:
        merged["base_values"] = [part["base_values"][0] for part in parts]
    for target, part in enumerate(parts):
        _append_trees(merged, part, target)
    output = graph.output[0].name
    node = helper.make_node(_KIND, list(ensembles[0].input), [output], domain="ai.onnx.ml", name=_KIND, **merged)
    del graph.node[:]
    del graph.initializer[:]
    graph.node.append(node)


def _append_trees(merged: dict[str, Any], part: dict[str, Any], target: int) -> None:
    given = {name: np.asarray(part[name]) for name in (*_NODES, "nodes_treeids")}
    _, starts = np.unique(given["nodes_treeids"], return_index=True)  # node i of a tree is the i-th from its start
    weights = np.zeros(given["nodes_treeids"].size)
    weights[starts[np.asarray(part["target_treeids"])] + np.asarray(part["target_nodeids"])] = part["target_weights"]
    first = merged["nodes_treeids"][-1] + 1 if merged["nodes_treeids"] else 0
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], weights.size], strict=True), start=first):
        rows = slice(start, end)
        inner, leaves, ids = _numbered(given["nodes_truenodeids"][rows], given["nodes_falsenodeids"][rows])
        nodes = np.concatenate([inner, leaves])
        children = np.arange(inner.size)
        none = np.zeros(leaves.size, dtype=np.int64)
        added = {
            "nodes_nodeids": ids[nodes],
            "nodes_truenodeids": np.concatenate([2 * children + 1, none]),
            "nodes_falsenodeids": np.concatenate([2 * children + 2, none]),
            "nodes_featureids": given["nodes_featureids"][rows][nodes],
            "nodes_values": given["nodes_values"][rows][nodes],
            "nodes_treeids": np.full(nodes.size, number),
            "target_treeids": np.full(leaves.size, number),
            "target_nodeids": ids[leaves],
            "target_ids": np.full(leaves.size, target),
            "target_weights": weights[rows][leaves],
        }
        for name, values in added.items():
            merged[name] += values.tolist()
        merged["nodes_modes"] += ["BRANCH_LEQ"] * inner.size + ["LEAF"] * leaves.size


def _numbered(yes: NDArray[np.int64], no: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """Inner nodes and leaves of a tree in the order of their new numbers, and the new number of each node."""
    queue, ids = [0], np.zeros(yes.size, dtype=np.int64)
    inner: list[int] = []
    for node in queue:
        if yes[node] == no[node]:
            continue
        for child in (int(yes[node]), int(no[node])):
            ids[child] = len(queue)
            queue.append(child)
        inner.append(node)
    is_leaf = yes == no
    order = np.asarray(queue)
    return np.asarray(inner, dtype=np.int64), order[is_leaf[order]], ids
