"""Learning curves."""

import pytest
from training_sets import smooth_gemms

from estimators.errors import EstimatorError
from estimators.learning import learning_curve


def test_more_points_err_less_and_points_far_apart_less_than_drawn_ones() -> None:
    curve = learning_curve(smooth_gemms(), (10, 40, 640), seed=0)
    assert curve.points == (10, 40, 640)
    for errors in (curve.random, curve.chosen):
        assert errors[0] > 2 * errors[2]
        assert errors[2] < 0.1
    assert curve == learning_curve(smooth_gemms(), (10, 40, 640), seed=0)


@pytest.mark.parametrize("points", [(), (1, 10), (10, 5000)])
def test_numbers_of_points_that_cannot_be_trained_on_are_told(points: tuple[int, ...]) -> None:
    with pytest.raises(EstimatorError, match="give 2 to 1") as caught:
        learning_curve(smooth_gemms(), points, seed=0)
    assert caught.value.field == "points"
