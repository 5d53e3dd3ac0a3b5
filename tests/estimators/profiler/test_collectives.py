import importlib
from types import SimpleNamespace

import pytest

from estimators.profiles import COLLECTIVES

torch = pytest.importorskip("torch", reason="needs torch, which the extra 'profile' brings")
collectives = importlib.import_module("estimators.profiler.collectives")


def _hardware(kind: str, known: bool) -> SimpleNamespace:
    return SimpleNamespace(device=SimpleNamespace(type=kind), known=known, spec=SimpleNamespace(name="board"))


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_are_timed_in_every_collective():
    rows = collectives.time_collectives("gloo", 2, [63, 1 << 18], "fp32", COLLECTIVES, rounds=3)
    assert [row[:3] for row in rows] == [(name, 2, size) for name in COLLECTIVES for size in (64, 1 << 18)]
    for _, _, _, seconds, spread in rows:
        assert 0 < seconds < 1
        assert spread >= 0
    frames = collectives._frames(rows)
    assert tuple(frames) == COLLECTIVES
    assert frames["all_reduce"].columns == ["gpus", "elements", "seconds", "spread"]


@pytest.mark.parametrize(
    ("known", "said"), [(True, "that the package has of board are taken"), (False, "(tp > 1) cannot be simulated")]
)
def test_one_device_says_what_is_taken_instead(known: bool, said: str):
    measured = collectives.measure_collectives(_hardware("cpu", known), (1, 2, 4), [1024])
    assert not measured.frames
    assert measured.note.startswith("Collectives of 2 or 4 devices were not measured, 1 device is at hand: ")
    assert said in measured.note


def test_a_single_device_asks_for_no_collective():
    assert collectives.measure_collectives(_hardware("cpu", False), (1,)).note == ""


def test_a_failing_process_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)

    def fail(*_: object) -> None:
        raise RuntimeError("process 0 terminated\nncclUnhandledCudaError: no link")

    monkeypatch.setattr(collectives, "time_collectives", fail)
    measured = collectives.measure_collectives(_hardware("cuda", True), (2, 8), [1024])
    assert not measured.frames
    assert measured.note.startswith("Collectives could not be measured (ncclUnhandledCudaError: no link): those that")
