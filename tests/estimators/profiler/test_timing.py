import dataclasses
import gc
import math
import time

import pytest

torch = pytest.importorskip("torch", reason="the profiler's timing needs torch")

from estimators.profiler import host_timing, timing  # noqa: E402
from estimators.profiler.kernels.prepared import Prepared  # noqa: E402
from estimators.profiler.timing import Round, time_all  # noqa: E402


class Fake:
    """A runner whose rounds are given; it writes down when they are run."""

    def __init__(self, name: str, rounds: list[Round], log: list[str]):
        self.kernel, self._rounds, self._log = name, iter(rounds), log

    def start(self) -> None:
        self._log.append(self.kernel)

    def result(self) -> Round:
        return next(self._rounds)


@pytest.fixture
def timed(cpu, monkeypatch):
    """Time runners whose rounds are given by name; returns timings by name, and the order of the rounds."""

    def run(given: dict[str, list[Round]], **options):
        log: list[str] = []
        fakes = [Fake(name, each, log) for name, each in given.items()]
        monkeypatch.setattr(timing, "_runners", lambda hardware, prepared, least_s: fakes)
        return {each.kernel: each for each in time_all(cpu, fakes, **options)}, log

    return run


def test_operators_take_turns_in_an_order_of_each_round(timed):
    names = list("abcdef")
    _, log = timed({name: [Round(1e-3, 1)] * 9 for name in names})
    rounds = [log[i : i + 6] for i in range(0, len(log), 6)]
    assert len(rounds) == 9
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) > 5


def test_a_time_is_the_median_of_its_rounds_and_a_single_odd_one_counts_for_nothing(timed):
    got, _ = timed({"a": [Round(s * 1e-3, 7) for s in (1.0, 1.1, 50.0, 0.9, 1.05)]}, rounds=5)
    assert math.isclose(got["a"].seconds, 1.05e-3)
    assert math.isclose(got["a"].spread, 1.4826 * 0.05 / 1.05)
    assert got["a"].repeats == 35


def test_rounds_that_were_disturbed_are_run_again_and_do_not_count(timed):
    good, bad = Round(1e-3, 2), Round(9e-3, 2, disturbed=True)
    got, log = timed({"a": [good, bad, bad, good, good, bad, good]}, rounds=4)
    assert (got["a"].seconds, got["a"].spread, got["a"].repeats) == (1e-3, 0, 8)
    assert len(log) == 7


def test_where_nearly_all_rounds_were_disturbed_they_count(timed):
    got, log = timed({"a": [Round(2e-3, 1, disturbed=True)] * 5 + [Round(1e-3, 1)]}, rounds=3)
    assert got["a"].seconds == 2e-3
    assert len(log) == 6


def test_what_takes_long_is_timed_in_three_rounds(timed):
    got, log = timed({"long": [Round(0.4, 1)] * 9, "short": [Round(1e-3, 1)] * 9})
    assert log.count("long") == 3
    assert log.count("short") == 9
    assert got["long"].seconds == 0.4


def wait(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


def test_calls_on_a_cpu_go_round_the_copies_and_take_what_they_take(cpu):
    seen: list[int] = []
    prepared = [Prepared(lambda i: (seen.append(i), wait(2e-4)), 3, "waits")]
    (got,) = time_all(cpu, prepared, rounds=3)
    assert 2e-4 <= got.seconds < 1e-3
    assert got.kernel == "waits"
    assert seen == [i % 3 for i in range(len(seen))]
    assert got.repeats <= len(seen)
    assert gc.isenabled()


@pytest.mark.parametrize("behind_product", [True, False])
def test_what_runs_before_it_in_an_engine_runs_before_each_call(cpu, monkeypatch, behind_product: bool):
    events: list[object] = []
    monkeypatch.setattr(host_timing, "linear", lambda x, weight: events.append(len(x)))
    monkeypatch.setattr(host_timing, "add_rms_norm", lambda x, *others: events.append("norm"))
    prepared = Prepared(lambda i: events.append("call"), 1, "fast", rows=5, behind_product=behind_product)
    time_all(cpu, [prepared], rounds=2)
    turn = [5, "call"] if behind_product else [5, "norm", "call"]
    calls = events[host_timing._WARM_UP_CALLS :]
    assert len(calls) >= 8 * len(turn)
    assert calls == turn * (len(calls) // len(turn))


def test_calls_that_waited_for_a_core_do_not_count(cpu):
    runner = host_timing.HostRunner(Prepared(lambda i: wait(1e-4), 1, "waits"), 1e-3, host_timing.Between(cpu))

    class Waits:
        """Every other call waited for a second."""

        def __init__(self):
            self.read = 0

        def total_ns(self) -> int:
            self.read += 1
            return self.read // 4 * 10**9

    runner.waits = Waits()
    runner.start()
    assert [disturbed for _, disturbed in runner._calls] == [False, True] * (len(runner._calls) // 2) + [False] * (
        len(runner._calls) % 2
    )
    assert not runner.result().disturbed
    runner._calls = [(5, True), (7, True), (6, True)]
    assert runner.result() == Round(6 * 1e-9, 3, disturbed=True)


def test_waiting_is_counted_where_the_system_tells():
    waits = host_timing.Waits()
    assert waits.total_ns() >= 0
    waits._files.append(1 << 20)  # of a thread that has ended
    assert waits.total_ns() >= 0
    waits._files.pop()


def test_a_timing_holds_numbers_only(cpu):
    (got,) = time_all(cpu, [Prepared(lambda i: None, 1, "nothing")], rounds=1)
    assert [type(value) for value in dataclasses.asdict(got).values()] == [float, float, int, str, type(None)]
    assert got.spread == 0
