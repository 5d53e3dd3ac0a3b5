"""How wrong an estimator is on what it has not seen, and how wide its intervals must be to say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.features import Floats
from estimators.members import COVERAGE, DEVIATIONS, Calibration
from estimators.profiles import COLLECTIVES, ELEMENTWISE
from estimators.regressors import fit
from estimators.training import TrainingSet

#: Parts that each split makes, one after the other held out.
FOLDS: Mapping[str, int] = {"shapes": 5, "models": 5, "between": 3, "rows": 3}

# What a split keeps together: rows that agree in these columns are all trained on or all held out. "shapes" asks for
# shapes never measured, "models" for experts of models never measured on any number of GPUs; "between" for lengths that
# the grid steps over, a quarter of an octave at a time; "rows" for nothing but the repeatability of the measurement.
_HEADS = ("q_heads", "kv_heads", "head_dim", "window")
_SPLITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gemm": {"shapes": ("n", "k"), "between": ("m",), "rows": ()},
    "prefill_attention": {"shapes": _HEADS, "between": ("chunk",), "rows": ()},
    "decode_attention": {"shapes": _HEADS, "between": ("kv",), "rows": ()},
    "latent_prefill": {"shapes": ("heads",), "between": ("chunk",), "rows": ()},
    "latent_decode": {"shapes": ("heads",), "between": ("kv",), "rows": ()},
    "latent_bmm": {"shapes": ("heads",), "between": ("tokens",), "rows": ()},
    "moe": {
        "shapes": ("hidden", "inter", "topk", "experts", "local_experts"),
        "models": ("hidden", "topk", "experts"),
        "between": ("tokens",),
        "rows": (),
    },
    **{name: {"shapes": ("elements",), "rows": ()} for name in COLLECTIVES},
    **{name: {"shapes": ("width",), "between": ("tokens",), "rows": ()} for name in ELEMENTWISE},
}
# Which split judges: the first that has so many groups.
_JUDGES: Mapping[str, int] = {"shapes": 8, "between": 3, "rows": 2}
_SMALLEST_REGION = 0.02  # of the rows; a smaller region says little about its error
_PICTURE_OCTAVES = 4  # columns of a picture for each octave of measured time
_PICTURE_STEPS = np.round(np.arange(-0.6, 0.601, 0.04), 2)  # edges of log(predicted / measured)


@dataclass(frozen=True)
class HeldOut:
    """What cross-validation says of one operator.

    Attributes:
        judged_by: the split by which an estimator is judged, see ``judging_split``; None where nothing can be held out.
        errors: for each split the median, mean and 95th percentile of |predicted / measured - 1|, the bias (mean of
            log(predicted / measured)) and the worst region: the octave of one column with the largest mean error.
        picture: counts of the rows of that split, by quarter octaves of measured time and steps of
            log(predicted / measured).
        calibration: how far the members must be moved apart to cover what they claim there.
    """

    judged_by: str | None
    errors: dict[str, dict[str, Any]]
    picture: dict[str, Any]
    calibration: Calibration


def hold_out(rows: TrainingSet, kind: str, seed: int) -> HeldOut:
    """Cross-validate: every row is predicted by members that have not seen its group."""
    errors: dict[str, dict[str, Any]] = {}
    picture: dict[str, Any] = {}
    calibration = Calibration(1.0, 0.0, COVERAGE, None)
    judge = judging_split(rows)
    for split in _SPLITS[rows.operator]:
        fold = _folds(rows, split, seed)
        if fold.max() == 0:
            continue  # a single group: nothing to hold out
        members = _cross_predict(rows, fold, kind, seed)
        deviation = members.mean(axis=1) - rows.target
        errors[split] = _summary(rows, deviation)
        if split == judge:
            picture = _picture(rows.seconds, deviation)
            calibration = _calibrate(rows.operator, members, deviation, fold)
    return HeldOut(judge, errors, picture, calibration)


def judging_split(rows: TrainingSet) -> str | None:
    """The split by which kinds of regressors are compared and intervals are calibrated.

    That of unseen shapes; of unseen lengths or rows where there are so few shapes that they are those of one model,
    whose simulation will ask for no others. None where nothing can be held out.
    """
    for split, least in _JUDGES.items():
        if split in _SPLITS[rows.operator] and _groups(rows, split).max() + 1 >= least:
            return split
    return None


def judged_error(rows: TrainingSet, kind: str, seed: int) -> float:
    """Mean |predicted / measured - 1| on the judging split; infinite where there is none."""
    split = judging_split(rows)
    if split is None:
        return float("inf")
    return float(fold_errors(rows, _folds(rows, split, seed), kind, seed).mean())


def fold_errors(rows: TrainingSet, fold: NDArray[np.int64], kind: str, seed: int) -> Floats:
    """|predicted / measured - 1| of each row by members trained without its ``fold``, both of shape (rows,)."""
    errors: Floats = np.abs(np.expm1(_cross_predict(rows, fold, kind, seed).mean(axis=1) - rows.target))
    return errors


def shape_folds(rows: TrainingSet, seed: int) -> NDArray[np.int64]:
    """Number of the part each row is in when whole shapes are kept together, int64 of shape (rows,)."""
    return _folds(rows, "shapes", seed)


def _folds(rows: TrainingSet, split: str, seed: int) -> NDArray[np.int64]:
    """Number of the part each row is in, where a split keeps groups together."""
    group = _groups(rows, split)
    fold: NDArray[np.int64] = np.random.default_rng(seed).permutation(group.max() + 1)[group] % FOLDS[split]
    return fold


def _groups(rows: TrainingSet, split: str) -> NDArray[np.int64]:
    """Number of the group each row is in, from 0 on."""
    together = _SPLITS[rows.operator][split]
    if not together:
        return np.arange(len(rows.seconds))
    if len(together) == 1:
        keys = np.floor(4 * np.log2(rows.columns[together[0]])).astype(np.int64)
    else:
        keys = np.stack([rows.columns[name] for name in together], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel()


def _cross_predict(rows: TrainingSet, fold: NDArray[np.int64], kind: str, seed: int) -> Floats:
    """What members trained without a row's fold predict for it, of shape (rows, MEMBERS)."""
    parts = {}
    for number in np.unique(fold):
        out = fold == number
        parts[number] = fit(kind, rows.features[~out], rows.target[~out], seed).predict(rows.features[out])
    predicted = np.empty((len(fold), parts[0].shape[1]))
    for number, part in parts.items():
        predicted[fold == number] = part
    return predicted


def _summary(rows: TrainingSet, deviation: Floats) -> dict[str, Any]:
    error = np.abs(np.expm1(deviation))
    return {
        "median": _rounded(np.median(error)),
        "mean": _rounded(error.mean()),
        "p95": _rounded(np.percentile(error, 95)),
        "bias": _rounded(deviation.mean()),
        "worst": _worst_region(rows.columns, error),
    }


def _worst_region(columns: Mapping[str, Floats], error: Floats) -> dict[str, object]:
    worst: dict[str, object] = {"mean": -1.0}
    for name, values in columns.items():
        octave = np.floor(np.log2(np.maximum(values, 1)))
        for number in np.unique(octave):
            inside = octave == number
            mean = _rounded(error[inside].mean())
            if inside.mean() >= _SMALLEST_REGION and mean > float(str(worst["mean"])):
                span = [int(values[inside].min()), int(values[inside].max())]
                worst = {"column": name, "range": span, "rows": int(inside.sum()), "mean": mean}
    return worst


def _picture(seconds: Floats, deviation: Floats) -> dict[str, Any]:
    """Counts only: no measured row can be read off it."""
    column = np.floor(_PICTURE_OCTAVES * np.log2(seconds)).astype(np.int64)
    row = np.clip(np.searchsorted(_PICTURE_STEPS, deviation), 1, len(_PICTURE_STEPS) - 1) - 1
    counts = np.zeros((int(np.ptp(column)) + 1, len(_PICTURE_STEPS) - 1), dtype=np.int64)
    np.add.at(counts, (column - column.min(), row), 1)
    return {
        "first_octave_quarter": int(column.min()),
        "log_ratio_edges": _PICTURE_STEPS.tolist(),
        "counts": counts.tolist(),
    }


def _calibrate(operator: str, members: Floats, deviation: Floats, fold: NDArray[np.int64]) -> Calibration:
    """Find what covers the errors; how much it covers is measured on folds it was not found on."""
    covered = 0
    for number in np.unique(fold):
        out = fold == number
        found = _found(operator, members[~out], deviation[~out])
        spread = found.apart(operator, members[out]).std(axis=1, ddof=1)
        covered += int((np.abs(deviation[out]) <= DEVIATIONS * spread).sum())
    found = _found(operator, members, deviation)
    return Calibration(found.inflation, found.shared, COVERAGE, _rounded(covered / len(deviation)))


def _found(operator: str, members: Floats, deviation: Floats) -> Calibration:
    shared = float(np.median(members.std(axis=1, ddof=1)))
    shared = shared or float(np.abs(deviation).mean())  # of few rows, which members know by heart
    spread = Calibration(1.0, shared, COVERAGE, None).apart(operator, members).std(axis=1, ddof=1)
    needed = np.abs(deviation) / np.maximum(DEVIATIONS * spread, 1e-9)
    return Calibration(float(np.quantile(needed, COVERAGE)), shared, COVERAGE, None)


def _rounded(value: float) -> float:
    return round(float(value), 4)
