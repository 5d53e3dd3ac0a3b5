"""Vidur's way to learn an operator beside ours, on the same rows: errors, size, and time to build.

Vidur trains a forest for each operator, model and number of GPUs, on raw milliseconds by the sizes themselves; trees
are as good as unbounded. Of its grid (250 to 750 trees, depth 8 to 32, splits from 2 to 10 rows), which it searches
with 270 fits, the middle number of trees and the least bounds are taken here, so its search costs nothing and its trees
are the most precise. Ours is one estimator for all shapes, trained on the rows of all models.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import FloatArray, Row
from numpy.typing import NDArray

from estimators import onnx
from estimators.regressors import fit
from estimators.training import TrainingSet

TREES, SMOKE_TREES, DEPTH = 500, 10, 32
#: What Vidur's forests see, and the column along which sizes are between or beyond those that were trained on.
FEATURES: Mapping[str, Callable[[Mapping[str, FloatArray]], list[FloatArray]]] = {
    "gemm": lambda columns: [columns["m"]],
    "prefill_attention": lambda columns: [columns["history"], columns["chunk"] ** 2],
    "decode_attention": lambda columns: [columns["batch"], columns["kv"]],
    "all_reduce": lambda columns: [columns["elements"]],
}
GROWING = {"gemm": "m", "prefill_attention": "chunk", "decode_attention": "kv", "all_reduce": "elements"}
#: (n, k) of a layer of Llama-2-70B on 2 GPUs: of queries, keys and values, of the output, up with the gate, and down.
PRODUCTS = ((5120, 8192), (8192, 4096), (28672, 8192), (8192, 14336))
#: Sizes that Vidur tabulates.
TABULATED: Mapping[str, Mapping[str, NDArray[np.int64]]] = {
    "gemm": {"m": np.arange(1, 4097)},
    "prefill_attention": {"history": np.arange(0, 4097, 64), "chunk": np.arange(1, 4097)},
    "decode_attention": {"batch": np.arange(1, 129), "kv": np.arange(64, 4097, 64)},
    "all_reduce": {"elements": 8192 * np.arange(1, 4097)},
}
_Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Learnt:
    """An estimator of either recipe.

    Attributes:
        predict: seconds of rows.
        models: what was fitted, with the number of their features.
        export: the bytes of one of them as an ONNX model.
    """

    predict: Callable[[TrainingSet], FloatArray]
    models: list[tuple[Any, int]]
    export: Callable[[Any, int], bytes]


def ours(rows: TrainingSet, _: int = 0) -> Learnt:
    """One estimator of log(time / roofline) for all shapes."""
    members = fit("forest", rows.features, rows.target, 0)

    def predict(asked: TrainingSet) -> FloatArray:
        return np.exp(members.predict(asked.features).mean(axis=1)) * asked.bound_s

    return Learnt(
        predict, [(members, rows.features.shape[1])], lambda model, features: onnx.export(model, features, {})
    )


def vidurs(rows: TrainingSet, trees: int = TREES) -> Learnt:
    """A forest of milliseconds for each shape."""
    from sklearn.ensemble import RandomForestRegressor

    forests = {}
    for shape, mask in _shapes(rows):
        seen = _seen(rows)[mask]
        forest = RandomForestRegressor(trees, max_depth=DEPTH, n_jobs=-1, random_state=0)
        forests[shape] = forest.fit(seen, 1e3 * rows.seconds[mask]), seen.shape[1]

    def predict(asked: TrainingSet) -> FloatArray:
        seconds = np.full(asked.seconds.size, np.nan)
        for shape, mask in _shapes(asked):
            if shape in forests:
                seconds[mask] = 1e-3 * forests[shape][0].predict(_seen(asked)[mask])
        return seconds

    return Learnt(predict, list(forests.values()), _exported)


def _exported(forest: Any, features: int) -> bytes:
    """A forest as scikit-learn's exporter writes it."""
    from skl2onnx import to_onnx

    model: bytes = to_onnx(forest, np.zeros((1, features), np.float32)).SerializeToString()
    return model


RECIPES: Mapping[str, Callable[[TrainingSet, int], Learnt]] = {"fastsim": ours, "vidur": vidurs}


def compare(rows: TrainingSet, trees: int) -> Iterator[Row]:
    """Errors of both recipes on the same held-out rows of Llama-2-70B's shapes."""
    asked = target(rows)
    for split, held in _splits(rows, asked).items():
        for recipe, learn in RECIPES.items():
            # Vidur's knows its own shapes only, so other rows are no use to it.
            known = ~held & asked if recipe == "vidur" else ~held
            predicted = learn(part(rows, known), trees).predict(part(rows, held & asked)) if known.any() else np.nan
            error = np.abs(predicted / rows.seconds[held & asked] - 1)
            figures = {"median": np.median(error), "mean": error.mean(), "p95": np.percentile(error, 95)}
            shown = {name: None if np.isnan(value) else float(value) for name, value in figures.items()}
            counts = {"trained": int(known.sum()), "rows": int((held & asked).sum())}
            yield {"operator": rows.operator, "split": split, "recipe": recipe, **counts, **shown}


def build(rows: TrainingSet, trees: int) -> Iterator[Row]:
    """Seconds to train, export and tabulate the shapes of Llama-2-70B, and bytes of the ONNX models."""
    own = part(rows, target(rows))
    asked = _grid(own)
    for recipe, learn in RECIPES.items():
        started = time.perf_counter()
        learnt = learn(own if recipe == "vidur" else rows, trees)
        trained = time.perf_counter()
        exported = [learnt.export(model, features) for model, features in learnt.models]
        written = time.perf_counter()
        learnt.predict(asked)
        seconds = {"train_s": trained - started, "export_s": written - trained}
        seconds["tabulate_s"] = time.perf_counter() - written
        size = {"onnx_bytes": sum(map(len, exported)), "tabulated": asked.seconds.size}
        yield {"operator": rows.operator, "recipe": recipe, "models": len(exported), **seconds, **size}


def part(rows: TrainingSet, mask: _Mask) -> TrainingSet:
    """Some of the rows; with the same roofline."""
    return TrainingSet.of(
        rows.operator, {name: value[mask] for name, value in rows.columns.items()}, rows.seconds[mask], rows.roofline
    )


def _splits(rows: TrainingSet, asked: _Mask) -> dict[str, _Mask]:
    """What is held out: any fifth of the rows, sizes between others, sizes beyond all others, shapes."""
    draw, size = np.random.default_rng(0), rows.columns[GROWING[rows.operator]]
    quarter = np.unique(np.floor(4 * np.log2(size)), return_inverse=True)[1]
    splits = {
        "rows": draw.random(size.size) < 0.2,
        # The fifth one of every five neighbours, so that the ends are always trained on.
        "between": (quarter % 5 == 2) & (quarter < quarter.max()),
        "beyond": size > size.max() / 2,
    }
    if rows.operator == "gemm":
        splits["shapes"] = asked
    return splits


def target(rows: TrainingSet) -> _Mask:
    """The rows of Llama-2-70B on 2 GPUs."""
    if rows.operator == "gemm":
        shapes = zip(rows.columns["n"], rows.columns["k"], strict=True)
        return np.array([shape in PRODUCTS for shape in shapes])
    if rows.operator == "all_reduce":
        return rows.columns["gpus"] == 2
    return np.ones(rows.seconds.size, dtype=np.bool_)


def _shapes(rows: TrainingSet) -> Iterator[tuple[tuple[float, ...], _Mask]]:
    """What Vidur has a forest each for."""
    if rows.operator != "gemm":
        yield (), np.ones(rows.seconds.size, dtype=np.bool_)
        return
    for n, k in sorted(set(zip(rows.columns["n"], rows.columns["k"], strict=True))):
        yield (n, k), (rows.columns["n"] == n) & (rows.columns["k"] == k)


def _seen(rows: TrainingSet) -> NDArray[np.float32]:
    return np.stack(FEATURES[rows.operator](rows.columns), axis=1).astype(np.float32)


def _grid(rows: TrainingSet) -> TrainingSet:
    """The sizes that Vidur tabulates, of each shape of ``rows``; without times."""
    axes = TABULATED[rows.operator]
    sizes = dict(zip(axes, (part.ravel() for part in np.meshgrid(*axes.values(), indexing="ij")), strict=True))
    count = next(iter(sizes.values())).size
    fixed = [{name: values[mask][0] for name, values in rows.columns.items()} for _, mask in _shapes(rows)]
    columns = {
        name: np.concatenate([sizes.get(name, np.full(count, shape[name])) for shape in fixed]).astype(np.float64)
        for name in rows.columns
    }
    return TrainingSet.of(rows.operator, columns, np.ones(count * len(fixed)), rows.roofline)
