import pytest

torch = pytest.importorskip("torch", reason="the profiler's measuring needs torch")

from estimators.errors import EstimatorError  # noqa: E402
from estimators.profiler import Point, kernels, measure  # noqa: E402
from estimators.profiler.hardware import MemoryShortError  # noqa: E402
from estimators.profiler.kernels import Prepared  # noqa: E402
from estimators.profiler.timing import Timing  # noqa: E402

YARDSTICK_S = 5e-3
ONE_TO_THREE = [Point.of("norm", "fp32", {"tokens": tokens, "width": 64}) for tokens in (1, 2, 3)]


@pytest.mark.parametrize(
    ("kind", "failures", "batches"),
    [
        (EstimatorError, 9, [[1, 3]]),  # refused, whatever else there is
        (MemoryShortError, 1, [[1], [2, 3]]),  # there is room once the others are timed
        (MemoryShortError, 9, [[1], [3]]),
    ],
)
def test_points_are_timed_together_but_where_memory_is_short(cpu, monkeypatch, kind, failures: int, batches):
    timed: list[list[int]] = []
    left = iter(range(failures))

    def prepare(hardware, operator, dtype, columns, **options):
        if columns["tokens"] == 2 and next(left, None) is not None:
            raise kind("operands", None, "do not fit", "wait")
        return Prepared(lambda i: None, 1, "toy", rows=columns["tokens"])

    def time_all(hardware, prepared, seed):
        *points, last = prepared
        assert last.kernel == "yardstick"
        timed.append([each.rows for each in points])
        return [Timing(1e-6 * each.rows, 0.0, 9, "toy") for each in points] + [Timing(YARDSTICK_S, 0.0, 9, "yardstick")]

    monkeypatch.setattr(kernels, "prepare", prepare)
    monkeypatch.setattr(measure, "yardstick", lambda hardware: Prepared(lambda i: None, 1, "yardstick"))
    monkeypatch.setattr(measure, "time_all", time_all)
    one, two, three = measure.DeviceMeasure(cpu, 16, 0)(ONE_TO_THREE)
    assert timed == batches
    assert (one.seconds, three.seconds, one.yardstick_s) == (1e-6, pytest.approx(3e-6), YARDSTICK_S)
    assert isinstance(two, kind) if failures > 1 else two.seconds == 2e-6
