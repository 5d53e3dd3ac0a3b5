"""The one schema of measured operators."""

import polars as pl
import pytest

from estimators.errors import EstimatorError
from estimators.profiles import (
    BATCHES,
    COLUMNS,
    DTYPES,
    OTHER_COLUMNS,
    check_operator,
    columns_of,
    count_outliers,
    merge_points,
    runs_per_request,
)


def test_every_operator_has_columns_and_dtypes():
    assert {*COLUMNS, *BATCHES} == set(DTYPES)
    assert not set(COLUMNS) & set(OTHER_COLUMNS)
    for operator in (*COLUMNS, *OTHER_COLUMNS):
        assert all(least in (0, 1, 2) for least in columns_of(operator).values())


@pytest.mark.parametrize(("operator", "dtype", "field"), [("softmax", "bf16", "operator"), ("gemm", "int4", "dtype")])
def test_what_has_no_schema_is_refused(operator: str, dtype: str, field: str):
    with pytest.raises(EstimatorError) as caught:
        check_operator(operator, dtype)
    assert caught.value.field == field


def test_a_point_is_the_median_of_its_fastest_kernel():
    rows = pl.DataFrame(
        {
            "gpus": [2] * 6,
            "elements": [8, 8, 8, 8, 8, 4],
            "kernel": ["a", "a", "a", "b", "b", "b"],
            "seconds": [1.0, 2.0, 9.0, 3.0, 4.0, 5.0],
            "spread": [0.1, 0.2, 0.9, 0.3, 0.4, 0.5],
        }
    )
    merged = merge_points("all_reduce", rows)
    assert merged.rows() == [(2, 4, 5.0, 0.5), (2, 8, 2.0, 0.2)]
    assert merged.columns == ["gpus", "elements", "seconds", "spread"]
    one = merge_points("all_reduce", rows.drop("kernel", "spread"))
    assert one.rows() == [(2, 4, 5.0), (2, 8, 3.0)]


def test_outliers_are_slower_than_the_next_larger_of_the_same_shape():
    frame = pl.DataFrame(
        {"m": [1, 2, 4, 8, 1, 2], "n": [8] * 4 + [16] * 2, "k": [8] * 6, "seconds": [1.0, 2.7, 2.0, 1.6, 9.0, 8.0]}
    )
    assert count_outliers("gemm", frame) == 1  # 2.7 before 2.0; 9.0 before 8.0 is within the measurement
    assert count_outliers("gemm", frame.sample(fraction=1.0, shuffle=True, seed=1)) == 1


@pytest.mark.parametrize(
    ("kernels", "expected"),
    [([], False), (["flash"], False), (["sdpa", "torch_sdpa_per_request"], True), (["a_per_request_eager"], True)],
)
def test_kernels_that_loop_over_requests_say_so(kernels: list[str], expected: bool):
    assert runs_per_request(kernels) is expected
