"""CPU times of an engine, as the profiler asks for them."""

from dataclasses import dataclass, field

from estimators.host_times import HOST_COLUMNS
from estimators.profiler.host import measure_host


@dataclass
class FakeEngine:
    """Scheduling takes a microsecond per request, but in one step of each call; it does not tell its launches."""

    asked: list[tuple[int, int]] = field(default_factory=list)

    def host_times(self, batch: int, repeats: int) -> dict[str, list[float]]:
        self.asked.append((batch, repeats))
        usual = [batch * 1e-6] * (repeats - 1)
        return {"schedule": [*usual, 1.0], "sampling": [2e-6] * repeats, "launch": []}


def test_each_batch_size_has_the_median_of_its_steps_and_null_for_what_is_not_told():
    engine = FakeEngine()
    frame = measure_host(engine, [4, 1, 4], repeats=5)
    assert tuple(frame.columns) == HOST_COLUMNS
    assert frame["batch"].to_list() == [1, 4]
    assert frame["schedule"].to_list() == [1e-6, 4e-6]
    assert frame["sampling"].to_list() == [2e-6, 2e-6]
    assert frame["launch"].null_count() == frame["detokenize"].null_count() == 2


def test_the_first_steps_at_a_batch_size_are_not_counted():
    engine = FakeEngine()
    measure_host(engine, [2], repeats=3)
    assert engine.asked == [(2, 3), (2, 3)]
