import itertools

import pytest
from fake_device import LIMITS, tiny

from estimators.profiler.design import corners, farthest, initial
from estimators.profiler.points import Point, candidates


@pytest.fixture(scope="module")
def decodes() -> list[Point]:
    return list(candidates(tiny(), [1, 2], "fp32", LIMITS)["decode_attention", "fp32"])


def test_the_ends_of_every_shape_come_first(decodes: list[Point]):
    first = initial(decodes, 24, 0)
    ends = {(1, 1), (1, 256), (16, 1), (16, 256)}
    for shape in {point.shape for point in decodes}:
        assert ends <= {point.size for point in first if point.shape == shape}


def test_half_of_the_rest_are_powers_of_two(decodes: list[Point]):
    first = initial(decodes, 40, 0)
    even = [point for point in first if all(value & (value - 1) == 0 for value in point.size)]
    assert 20 <= len(even) < 40


def test_the_design_has_no_point_twice_and_is_that_of_its_seed(decodes: list[Point]):
    first = initial(decodes, 40, 0)
    assert len(set(first)) == len(first) == 40
    assert initial(decodes, 40, 0) == first
    assert initial(decodes, 40, 1) != first
    assert set(first) <= set(decodes)


def test_of_few_points_all_are_taken(decodes: list[Point]):
    few = decodes[:5]
    assert sorted(initial(few, 24, 0)) == sorted(few)
    assert initial(decodes, 1, 0) == corners(decodes)


def test_points_lie_apart():
    points = [Point("norm", "fp32", (rows, 64)) for rows in range(1, 257)]
    chosen = farthest(points, [points[0], points[-1]], 3, 0)
    rows = sorted(point.values[0] for point in chosen)
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(rows))
    assert rows[0] > 1
    assert rows[-1] < 256
