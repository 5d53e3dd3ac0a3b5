"""Export and loading of trained estimators."""

import lzma
from pathlib import Path

import numpy as np
import onnx
import pytest

from estimators.errors import EstimatorError
from estimators.onnx import Model, compressed, export, save
from estimators.regressors import MEMBERS, fit


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    features = generator.uniform(0, 30, size=(3000, 4)).astype(np.float32)
    return features, np.sin(features[:, 0]) + 0.1 * features[:, 1]


@pytest.fixture(scope="module")
def forest(rows: tuple[np.ndarray, np.ndarray]) -> object:
    return fit("forest", *rows, seed=0)


def loaded(model: bytes) -> Model:
    return Model(compressed(model), Path("model"))


def test_file_predicts_what_the_forest_does(rows: tuple[np.ndarray, np.ndarray], forest) -> None:
    features, _ = rows
    expected = np.exp(forest.predict(features))
    np.testing.assert_allclose(np.exp(loaded(export(forest, 4, {})).predict(features)), expected, rtol=1e-5)


def test_values_next_to_a_threshold_take_the_same_branch(forest) -> None:
    # Thresholds are float64 in the forest and float32 in the file: rounded up, one would send a value the wrong way.
    features = []
    for tree in [tree for member in forest.estimators_ for tree in member][:5]:
        for column, threshold in zip(tree.tree_.feature, tree.tree_.threshold, strict=True):
            if column >= 0:
                nearest = np.float32(threshold)
                for value in (np.nextafter(nearest, np.float32(-1)), nearest, np.nextafter(nearest, np.float32(99))):
                    features.append(np.full(4, 15, dtype=np.float32))
                    features[-1][column] = value
    features = np.stack(features)
    expected = np.exp(forest.predict(features))
    np.testing.assert_allclose(np.exp(loaded(export(forest, 4, {})).predict(features)), expected, rtol=1e-5)


def test_all_members_are_one_ensemble_numbered_level_by_level(forest) -> None:
    graph = onnx.load_from_string(export(forest, 4, {})).graph
    (ensemble,) = graph.node
    parts = {part.name: onnx.helper.get_attribute_value(part) for part in ensemble.attribute}
    assert parts["n_targets"] == MEMBERS
    trees = np.array(parts["nodes_treeids"])
    inner = np.array([mode == b"BRANCH_LEQ" for mode in parts["nodes_modes"]])
    for tree in np.unique(trees):
        rows = (trees == tree) & inner
        np.testing.assert_array_equal(np.array(parts["nodes_truenodeids"])[rows], 2 * np.arange(rows.sum()) + 1)
        np.testing.assert_array_equal(np.array(parts["nodes_falsenodeids"])[rows], 2 * np.arange(rows.sum()) + 2)
        assert sorted(np.array(parts["nodes_nodeids"])[trees == tree]) == list(range((trees == tree).sum()))


def test_metadata_comes_back(forest) -> None:
    metadata = {"source": "profiles 1.0", "rows": {"used": 3}, "floor_s": 2.3671111298931973e-06, "kernels": ["a", "b"]}
    assert loaded(export(forest, 4, metadata)).metadata == metadata


def test_two_trainings_write_the_same_bytes(rows: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    for name in ("first", "second"):
        save(tmp_path / name / "gemm.onnx.xz", export(fit("forest", *rows, seed=0), 4, {"seed": 0}))
    first, second = ((tmp_path / name / "gemm.onnx.xz").read_bytes() for name in ("first", "second"))
    assert first == second
    assert export(fit("forest", *rows, seed=1), 4, {"seed": 0}) != lzma.decompress(first)


def test_save_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    path = tmp_path / "zoo" / "gemm.onnx.xz"
    save(path, b"old")
    save(path, b"new")
    assert lzma.decompress(path.read_bytes()) == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [b"", b"not compressed", lzma.compress(b"not a model"), lzma.compress(b""), lzma.compress(bytes(5000))[:30]],
    ids=["empty", "plain", "no model", "no content", "cut"],
)
def test_a_damaged_file_is_told_in_one_sentence(content: bytes) -> None:
    with pytest.raises(EstimatorError, match="is damaged or is not an estimator of fastsim") as caught:
        Model(content, Path("zoo/gemm.onnx.xz"))
    assert caught.value.value == "zoo/gemm.onnx.xz"
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_is_noticed(forest) -> None:
    content = bytearray(compressed(export(forest, 4, {})))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(EstimatorError, match="is damaged"):
        Model(bytes(content), Path("gemm.onnx.xz"))
