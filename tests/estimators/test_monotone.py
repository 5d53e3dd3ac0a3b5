import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from estimators.monotone import smooth_rows

seconds = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.floats(1e-6, 1e2))


@given(seconds)
def test_it_is_the_isotonic_regression_of_log_time(rows):
    from sklearn.isotonic import isotonic_regression

    expected = [np.exp(isotonic_regression(np.log(row))) for row in rows]
    np.testing.assert_allclose(smooth_rows(rows), expected, rtol=1e-9)


@given(seconds)
def test_smoothing_both_ways_leaves_no_fall_in_either(rows):
    smooth = smooth_rows(smooth_rows(rows).T).T
    for axis in (0, 1):
        before, after = (np.delete(smooth, place, axis) for place in (-1, 0))
        assert (after >= before * (1 - 1e-9)).all()


@given(seconds)
def test_rows_that_do_not_fall_stay_as_they_are(rows):
    rising = np.sort(rows, axis=1)
    assert np.array_equal(smooth_rows(rising), rising)


def test_what_is_given_is_not_changed():
    rows = np.array([[2.0, 1.0]])
    np.testing.assert_allclose(smooth_rows(rows), [[2**0.5, 2**0.5]])
    assert rows.tolist() == [[2.0, 1.0]]
