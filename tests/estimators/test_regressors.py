"""Kinds of regressors, fitted and exported."""

from pathlib import Path

import numpy as np
import pytest
from training_sets import smooth_gemms

from estimators.errors import EstimatorError
from estimators.onnx import Model, compressed, export
from estimators.regressors import KINDS, MEMBERS, fit

ROWS = smooth_gemms(600, noise=0.1)
BETWEEN = (ROWS.features[1:] + ROWS.features[:-1]) / 2


@pytest.fixture(scope="module", params=KINDS)
def fitted(request: pytest.FixtureRequest) -> tuple[str, object]:
    return request.param, fit(request.param, ROWS.features, ROWS.target, seed=3)


def test_every_kind_predicts_the_same_times_from_its_file(fitted) -> None:
    kind, regressor = fitted
    file = Model(compressed(export(regressor, ROWS.features.shape[1], {})), Path(kind))
    for features in (ROWS.features, BETWEEN):
        expected = np.exp(regressor.predict(features)) * 1e-3
        assert expected.shape == (len(features), MEMBERS)
        np.testing.assert_allclose(np.exp(file.predict(features).astype(np.float64)) * 1e-3, expected, rtol=1e-5)


def test_every_kind_learns_and_its_members_differ(fitted) -> None:
    kind, regressor = fitted
    predicted = regressor.predict(ROWS.features)
    left = 0.8 if kind == "linear" else 0.4  # of the spread
    assert np.std(predicted.mean(axis=1) - ROWS.target) < left * np.std(ROWS.target)
    assert regressor.predict(BETWEEN).std(axis=1).mean() > 1e-3


def test_every_kind_stays_at_the_edge_of_what_it_saw(fitted) -> None:
    _, regressor = fitted
    beyond = ROWS.features.max(axis=0, keepdims=True) + np.float32([[0], [1], [100]])
    predicted = regressor.predict(beyond)
    np.testing.assert_allclose(predicted[1:], predicted[:2], rtol=1e-4)


def test_the_same_seed_gives_the_same_members_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (fit("forest", ROWS.features, ROWS.target, seed) for seed in (3, 4))
    monkeypatch.setattr("estimators.regressors._THREADED", 1)
    same = fit("forest", ROWS.features, ROWS.target, 3)
    for member, again, different in zip(one.estimators_, same.estimators_, other.estimators_, strict=True):
        assert (member.n_jobs, again.n_jobs) == (1, -1)
        for tree, twin in zip(member, again, strict=True):
            np.testing.assert_array_equal(tree.tree_.threshold, twin.tree_.threshold)
            np.testing.assert_array_equal(tree.tree_.value, twin.tree_.value)
        assert not np.array_equal(member.predict(ROWS.features), different.predict(ROWS.features))


def test_trees_are_rounded_before_they_predict() -> None:
    for member in fit("forest", ROWS.features, ROWS.target, seed=0).estimators_:
        for tree in member:
            steps = np.concatenate([tree.tree_.threshold * 1024, tree.tree_.value.ravel() * 1024 / len(member)])
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


def test_an_unknown_kind_lists_those_there_are() -> None:
    with pytest.raises(EstimatorError, match="choose one of forest, boosted, linear, polynomial") as caught:
        fit("neural", ROWS.features, ROWS.target, seed=0)
    assert caught.value.field == "kind"
