"""What an ONNX file must be before onnxruntime is given it: no more than the regressors of `estimators.regressors`.

The format can do much more: files beside it, loops, operators that take any amount of memory. And onnxruntime follows
the children of a tree wherever they point. So operators are listed, widths of what they compute are followed, and trees
must be trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOREST = "TreeEnsembleRegressor"
_ML = {_FOREST, "Scaler", "ArrayFeatureExtractor", "LinearRegressor"}
_PLAIN = {"Cast", "Mul", "Add", "Clip", "ReduceProd", "Concat", "Reshape"}
_NODE_LISTS = ("featureids", "modes", "nodeids", "treeids", "truenodeids", "falsenodeids", "values")
_LEAF_LISTS = ("treeids", "nodeids", "ids", "weights")
_OTHERS = {"n_targets", "post_transform", "base_values"}
_KNOWN = _OTHERS | {f"nodes_{name}" for name in _NODE_LISTS} | {f"target_{name}" for name in _LEAF_LISTS}
_MOST_NODES, _MOST_WIDTH, _MOST_TARGETS, _MOST_DEPTH = 20_000, 65_536, 64, 512
_ROW_OF_WORDS = 2  # rank of what has a row for each call


def check_model(content: bytes) -> None:
    """Refuse a model that is not built as those that fastsim trains.

    Args:
        content: the serialised model.

    Raises:
        ValueError: a clause that says what is wrong.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's, whose package has no types
        raise ValueError("it is no ONNX model") from error
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or len(graph.node) > _MOST_NODES:
        raise ValueError("it has more than a plain graph")
    constants = {entry.name: _constant(entry) for entry in graph.initializer}
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ValueError("it has not one input and one output")
    widths = {graph.input[0].name: _width_of_input(graph.input[0])}
    reshaped: set[str] = set()
    for node in graph.node:
        _check_place(node, widths, reshaped)
        attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        widths[node.output[0]] = _width(node, attributes, widths, constants)
        if widths[node.output[0]] > _MOST_WIDTH:
            raise ValueError("it computes too much of each row")
        if node.op_type == "Reshape" or reshaped & set(node.input):
            reshaped.add(node.output[0])
    if widths.get(graph.output[0].name, _MOST_TARGETS + 1) > _MOST_TARGETS:
        raise ValueError("its output is not one number for each member")


def _constant(entry: Any) -> NDArray[Any]:
    """The numbers in the file; none that are elsewhere."""
    import onnx

    if entry.external_data or entry.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError("it refers to another file")
    if entry.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT64) or len(entry.dims) > _ROW_OF_WORDS:
        raise ValueError("a constant in it is no list of numbers")
    size = int(np.prod([float(length) for length in entry.dims])) if entry.dims else 1
    held = max(len(entry.raw_data) // 4, len(entry.float_data), len(entry.int64_data))
    if not 0 <= size <= min(held, _MOST_WIDTH):
        raise ValueError("a constant in it claims more numbers than there are")
    found: NDArray[Any] = onnx.numpy_helper.to_array(entry)
    return found


def _width_of_input(value: Any) -> int:
    dims = value.type.tensor_type.shape.dim
    if len(dims) != _ROW_OF_WORDS or dims[0].dim_value or not 0 < dims[1].dim_value <= _MOST_WIDTH:
        raise ValueError("its input is not a table of features")
    return int(dims[1].dim_value)


def _check_place(node: Any, widths: Mapping[str, int], reshaped: set[str]) -> None:
    """Refuse an operator that is not ours, or one that stands where none of ours does."""
    if node.op_type not in (_ML if node.domain == "ai.onnx.ml" else _PLAIN if not node.domain else ()):
        raise ValueError(f"it has the operator {node.domain}.{node.op_type}"[:80].strip())
    if len(node.output) != 1 or node.output[0] in widths or not node.input or node.input[0] not in widths:
        raise ValueError(f"{node.op_type} in it has other inputs and outputs than fastsim writes")
    if node.op_type != "Concat" and reshaped & set(node.input):
        raise ValueError("it goes on after it was reshaped")


def _width(
    node: Any, attributes: Mapping[str, Any], widths: Mapping[str, int], constants: Mapping[str, NDArray[Any]]
) -> int:
    """Numbers of a row that an operator gives; the others of its inputs must be constants."""
    width = widths[node.input[0]]
    if node.op_type == "Concat":
        if attributes.get("axis") not in (1, -1) or not set(node.input) <= set(widths):
            raise ValueError("it puts rows below each other")
        return sum(widths[name] for name in node.input)
    if not set(node.input[1:]) <= set(constants):
        raise ValueError(f"{node.op_type} in it takes what is no constant")
    others = [constants[name] for name in node.input[1:]]
    if node.op_type == _FOREST:
        _check_forest(attributes, width)
        return int(attributes["n_targets"])
    if node.op_type == "ArrayFeatureExtractor":
        if others[0].size == 0 or others[0].min() < 0 or others[0].max() >= width:
            raise ValueError("it takes a feature that there is not")
        return int(others[0].size)
    if node.op_type == "LinearRegressor":
        targets, factors = int(attributes.get("targets", 1)), len(attributes.get("coefficients", ()))
        if not 1 <= targets <= _MOST_TARGETS or factors != targets * width:
            raise ValueError("its coefficients are not one for each feature")
        if len(attributes.get("intercepts", ())) not in (0, targets):
            raise ValueError("its intercepts are not one for each target")
        return targets
    if node.op_type == "ReduceProd":
        if attributes.get("axes") not in ([1], [-1]) or attributes.get("keepdims", 1) != 1:
            raise ValueError("it multiplies rows with each other")
        return 1
    if node.op_type in ("Mul", "Add") and any(other.ndim > 1 or other.size not in (1, width) for other in others):
        raise ValueError("it combines lists of different lengths")
    return width


def _check_forest(attributes: Mapping[str, Any], width: int) -> None:
    """Refuse an ensemble whose trees are no trees, or which reads or adds to what there is not."""
    if set(attributes) - _KNOWN or _KNOWN - set(attributes) - {"base_values", "post_transform"}:
        raise ValueError("its trees have other attributes than fastsim writes")
    targets = int(attributes["n_targets"])
    if not 1 <= targets <= _MOST_TARGETS or len(attributes.get("base_values", ())) not in (0, targets):
        raise ValueError("its trees have other targets than members")
    if attributes.get("post_transform", b"NONE") != b"NONE":
        raise ValueError("it transforms what its trees say")
    nodes, leaves = _lists(attributes, "nodes_", _NODE_LISTS), _lists(attributes, "target_", _LEAF_LISTS)
    start, places = _places(nodes["treeids"], nodes["nodeids"])
    nodes = {name: values[np.argsort(places)] for name, values in nodes.items()}
    is_leaf = nodes["modes"] == b"LEAF"
    if not (is_leaf | (nodes["modes"] == b"BRANCH_LEQ")).all():
        raise ValueError("its trees branch in another way than fastsim's")
    features = nodes["featureids"][~is_leaf]
    if ((features < 0) | (features >= width)).any():
        raise ValueError("its trees read a feature that there is not")
    _check_children(nodes, is_leaf, start)
    trees, numbers = leaves["treeids"], leaves["nodeids"]
    if ((trees < 0) | (trees >= len(start) - 1)).any():
        raise ValueError("its weights belong to no trees")
    inside = (numbers >= 0) & (numbers < np.diff(start)[trees])
    if not inside.all() or not is_leaf[start[trees] + numbers].all():
        raise ValueError("its weights belong to no leaves")
    if ((leaves["ids"] < 0) | (leaves["ids"] >= targets)).any():
        raise ValueError("its leaves add to a member that there is not")


def _lists(attributes: Mapping[str, Any], prefix: str, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Some attributes as arrays of one length, above 0."""
    given = [attributes[prefix + name] for name in names]
    if not all(isinstance(one, list) for one in given) or len({len(one) for one in given}) != 1 or not given[0]:
        raise ValueError("the lists of its trees are not of one length")
    return {name: np.asarray(one) for name, one in zip(names, given, strict=True)}


def _places(trees: NDArray[np.int64], numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each tree starts and the last ends, and the place of each node: its number behind the start of its tree."""
    first = np.flatnonzero(np.diff(trees, prepend=-1))
    start = np.append(first, len(trees))
    counts = np.diff(start)
    if (trees != np.repeat(np.arange(first.size), counts)).any():
        raise ValueError("its trees are not numbered one by one")
    places = np.repeat(first, counts) + numbers
    inside = (numbers >= 0) & (numbers < np.repeat(counts, counts))
    if not inside.all() or np.unique(places).size != places.size:
        raise ValueError("its nodes are not numbered one by one")
    return start, places


def _check_children(nodes: Mapping[str, NDArray[Any]], is_leaf: NDArray[np.bool_], start: NDArray[np.int64]) -> None:
    """Every node but the first of a tree is the child of one before it, and none is deep."""
    counts = np.diff(start)
    first = np.repeat(start[:-1], counts)[~is_leaf]
    end = np.repeat(start[1:], counts)[~is_leaf]
    parent = np.flatnonzero(~is_leaf)
    depth = np.zeros(len(is_leaf), dtype=np.int64)
    children = []
    for side in ("truenodeids", "falsenodeids"):
        numbers = nodes[side][~is_leaf]
        child = first + numbers
        if ((numbers < 0) | (numbers >= end - first) | (child <= parent)).any():
            raise ValueError("its trees have a child that is not behind its parent")
        children.append(child)
    both = np.concatenate(children)
    if np.unique(both).size != both.size or both.size != len(is_leaf) - len(counts):
        raise ValueError("its trees have a node of two parents, or of none")
    for _ in range(_MOST_DEPTH):
        deeper = depth.copy()
        for child in children:
            deeper[child] = depth[parent] + 1
        if (deeper == depth).all():
            return
        depth = deeper
    raise ValueError("its trees are too deep")
