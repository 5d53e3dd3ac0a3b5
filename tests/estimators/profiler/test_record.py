import json
from pathlib import Path

import pytest

from estimators import EstimatorError
from estimators.profiler.points import Point
from estimators.profiler.record import Record
from estimators.profiler.timing import Timing

HEADER = {"model": "toy", "tp": (1, 2), "seed": 0}
ABOUT = {"spec": {"name": "toy"}}
ONE, TWO = Point("norm", "fp32", (1, 64)), Point("norm", "fp32", (2, 64))
TIMING = Timing(1e-6, 0.01, 9, "toy")


def record(path: Path, **changes) -> Record:
    return Record(path / "points.jsonl", {**HEADER, **changes}, ABOUT)


def test_what_was_added_is_there_when_it_is_opened_again(tmp_path: Path):
    record(tmp_path).add({ONE: TIMING, TWO: EstimatorError("norm", None, "has no kernel", "wait")}, 1.5)
    again = record(tmp_path)
    assert (again.times, again.refused) == ({ONE: TIMING}, {TWO: "norm has no kernel; wait."})
    assert (again.spent_s, again.resumed, len(again.timings[ONE])) == (1.5, 1, 1)


def test_a_last_line_that_a_kill_left_half_written_is_dropped(tmp_path: Path):
    record(tmp_path).add({ONE: TIMING, TWO: TIMING}, 1.0)
    path = tmp_path / "points.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
        path.write_bytes(whole[:cut])
        again = record(tmp_path)
        assert set(again.times) <= {ONE, TWO}
        again.add({TWO: TIMING}, 1.0)
        assert TWO in record(tmp_path).times
    path.write_bytes(whole[:10])  # not even a header: nothing is lost by beginning anew
    assert record(tmp_path).times == {}


@pytest.mark.parametrize("line", ["{", "[]", '{"operator": "norm"}', '{"spent_s": "long"}', "\x00\x00"])
def test_damage_elsewhere_is_told(tmp_path: Path, line: str):
    record(tmp_path).add({ONE: TIMING}, 1.0)
    path = tmp_path / "points.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    with pytest.raises(EstimatorError, match=r"points\.jsonl is damaged in line 2; remove the directory"):
        record(tmp_path)


def test_a_file_of_something_else_is_told(tmp_path: Path):
    (tmp_path / "points.jsonl").write_text(json.dumps({"a": 1}) + "\n")
    with pytest.raises(EstimatorError, match="is damaged in line 1"):
        record(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("model", "other"), ("tp", (1,)), ("seed", 1)])
def test_a_profile_of_something_else_is_not_gone_on_with(tmp_path: Path, name: str, value: object):
    record(tmp_path)
    with pytest.raises(EstimatorError, match=f"^{name} .* is not .*, with which .*points.jsonl was begun; give that"):
        record(tmp_path, **{name: value})


def test_what_is_told_only_is_that_of_the_beginning(tmp_path: Path):
    record(tmp_path)
    again = Record(tmp_path / "points.jsonl", HEADER, {"spec": {"name": "measured again"}})
    assert again.header["about"] == ABOUT


def test_of_several_timings_the_median_counts(tmp_path: Path):
    first = record(tmp_path)
    for seconds in (3e-6, 1e-6, 2e-6):
        first.add({ONE: Timing(seconds, 0.0, 9, "toy")}, 1.0)
    for each in (first, record(tmp_path)):
        assert each.times[ONE].seconds == 2e-6
        assert len(each.timings[ONE]) == 3


def test_times_are_those_at_the_usual_speed_of_the_device(tmp_path: Path):
    first = record(tmp_path)
    for point, slower in ((ONE, 1.0), (TWO, 2.0), (ONE, 1.5)):  # what else the machine did, in three batches
        first.add({point: Timing(slower * 1e-6, 0.0, 9, "toy", slower * 4e-3)}, 1.0)
    for each in (first, record(tmp_path)):
        assert each.yardstick_s == 6e-3
        assert each.times[ONE].seconds == pytest.approx(1.5e-6)
        assert each.times[TWO].seconds == pytest.approx(1.5e-6)
