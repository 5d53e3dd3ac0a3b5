"""Whole profiles of a made-up device: what is left on disk, and what a stopped one goes on from."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from fake_device import FakeDevice, options, tiny

from estimators import EstimatorError, IterationTables
from estimators.devices import load_device
from estimators.profiler import ProfileReport, candidates, profile_with
from estimators.profiler.finish import Finish
from estimators.profiler.points import Limits
from estimators.sources.own import own_path, read_own, read_provenance

SMALL = Limits(max_tokens=16, max_num_seqs=4, max_model_len=32)
TESTS = Path(__file__).resolve().parents[2]


def run(path: Path, device: FakeDevice, **changes) -> ProfileReport:
    return profile_with(device, device.measure, tiny(), path, options(**{"limits": SMALL, "target": 0.2, **changes}))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ProfileReport:
    return run(tmp_path_factory.mktemp("profile"), FakeDevice(noise=0.01))


def test_a_profile_is_a_device(done: ProfileReport):
    tables = IterationTables.build(
        tiny(),
        str(done.directory),
        dtype="fp32",
        max_tokens=16,
        max_sequences=4,
        max_kv=64,
        max_model_len=32,
        cache=False,
    )
    assert load_device(done.directory).name == "toy"
    predicted = tables.iteration_time_s(2, 2, 2, 32)
    assert predicted == pytest.approx(truth(FakeDevice()), rel=0.2)
    assert tables.provenance["outside_profiles"] == []


def truth(device: FakeDevice) -> float:
    """Two decodes of 16 tokens."""
    from estimators.operators import iteration_calls
    from estimators.profiler import Point

    total = 0.0
    for call in iteration_calls(tiny(), 1, "fp32"):
        if call.axis == "prefill":
            continue
        one = call.measured() if call.operator == "bandwidth" else call
        columns = {"m": 2, "tokens": 2, "batch": 2, "kv": 16, **one.shape}
        total += call.count * device.seconds(Point.of(one.operator, one.dtype, columns))
    return total


def test_the_report_counts(done: ProfileReport):
    assert done.points == sum(1 for line in lines(done.directory) if "seconds" in line)
    assert done.grid > done.points
    assert (done.device, done.dtypes, done.tp, done.resumed) == ("toy", ("fp32",), (1,), 0)
    for each in done.operators:
        assert 0 < each.points <= each.grid
        assert (each.error is None) == (each.points < 5)
        assert each.met == (each.error is None or each.error <= 0.2)
        assert each.kernels == ("toy",)
    assert any("ran as toy" in note for note in done.notes)


class TwoOperators(FakeDevice):
    """A device that measures little, so that training on it takes little."""

    def __init__(self):
        super().__init__()
        operators = candidates(tiny(), [1], "fp32", SMALL)
        self.refuse = (*self.refuse, *(name for name, _ in operators if name not in ("gemm", "norm")))


def lines(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "points.jsonl").read_text().splitlines()]


def test_what_was_measured_is_there_in_our_schema_with_its_provenance(done: ProfileReport):
    path = own_path(done.directory, "gemm", "fp32")
    profiles, about = read_own(path), read_provenance(path)["provenance"]
    measured = [line for line in lines(done.directory) if line.get("operator") == "gemm"]
    assert sorted(profiles.frame["seconds"]) == sorted(line["seconds"] for line in measured)
    assert set(profiles.frame.columns) == {"m", "n", "k", "seconds", "spread"}
    assert (profiles.system, profiles.kernels) == ("toy", ("toy",))
    assert about.keys() >= {"device", "driver", "libraries", "date", "repeats"}


def test_a_finished_profile_measures_on_where_more_is_asked(tmp_path: Path):
    device = TwoOperators()
    first = run(tmp_path, device)
    batches = len(device.batches)
    again = run(tmp_path, device)
    assert len(device.batches) == batches
    assert again.resumed == again.points == first.points
    more = run(tmp_path, device, target=1e-6, budget_s=200.0)
    assert more.points > first.points


def test_a_budget_of_too_few_points_is_told_and_they_are_kept(tmp_path: Path):
    device = TwoOperators()

    def slowly(points):
        time.sleep(0.2)
        return device.measure(points)

    limits = options(limits=SMALL, budget_s=0.1)
    with pytest.raises(EstimatorError, match=r"budget '0.1 s' is spent before .* gemm fp32, .*; give more") as caught:
        profile_with(device, slowly, tiny(), tmp_path, limits)
    assert caught.value.field == "budget"
    (batch,) = device.batches
    assert run(tmp_path, device).resumed == sum(point.operator not in device.refuse for point in batch) > 0


def test_training_is_not_what_spends_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained = Finish.operators

    def slowly(self, campaign, grid):
        campaign._since -= 1000.0  # as if it had taken so long
        return trained(self, campaign, grid)

    monkeypatch.setattr(Finish, "operators", slowly)
    report = run(tmp_path, TwoOperators(), target=1e-6)
    assert "Every point of the operators above the target is measured." in report.notes
    assert not any("is spent" in note for note in report.notes)


def test_an_engines_cpu_times_are_kept_beside(tmp_path: Path):
    class Engine:
        def host_times(self, batch, repeats):
            return {"schedule": [1e-5 * batch] * repeats, "detokenize": [2e-5] * repeats}

    device = TwoOperators()
    profile_with(device, device.measure, tiny(), tmp_path, options(limits=SMALL, target=0.3), engine=Engine())
    frame = pl.read_parquet(tmp_path / "host.parquet")
    assert frame["batch"].to_list() == [1, 2, 4]
    assert frame["schedule"].to_list() == pytest.approx([1e-5, 2e-5, 4e-5])
    assert frame["launch"].null_count() == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtypes": ("bf16",)}, "dtype 'bf16' is not measured on toy; choose one of fp32"),
        ({"tp": (3,)}, "tp 3"),
    ],
)
def test_what_cannot_be_profiled_is_refused(tmp_path: Path, changes: dict, sentence: str):
    with pytest.raises(EstimatorError, match=sentence):
        run(tmp_path, FakeDevice(), **changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"budget_s": 0.0}, "budget"), ({"target": 1.0}, "target"), ({"tp": ()}, "tp"), ({"seed": -1}, "seed")],
)
def test_options_are_checked(changes: dict, field: str):
    with pytest.raises(EstimatorError) as caught:
        options(**changes).check()
    assert caught.value.field == field


_CHILD = """
import sys, time
from fake_device import FakeDevice, options, tiny
from estimators.profiler import Limits, profile_with
device = FakeDevice()
def slowly(points):
    time.sleep(0.3)
    return device.measure(points)
limits = Limits(max_tokens=16, max_num_seqs=4, max_model_len=32)
profile_with(device, slowly, tiny(), sys.argv[1], options(limits=limits, target=0.2))
"""


def test_a_killed_profile_goes_on_where_it_was(tmp_path: Path):
    places = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], env=os.environ | {"PYTHONPATH": places})
    path = tmp_path / "points.jsonl"
    until = time.monotonic() + 120
    while not (path.exists() and path.read_text().count("spent_s") >= 2):
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    with pytest.raises(EstimatorError, match="is no finished profile; run fastsim profile with this --out again"):
        load_device(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])  # as if in the middle of a line
    kept = sum("seconds" in line for line in path.read_text().splitlines()[1:-1])
    device = TwoOperators()
    report = run(tmp_path, device)
    assert report.resumed == kept > 20
    assert load_device(tmp_path).name == "toy"
    again = [point for batch in device.batches for point in batch]
    assert len(set(again)) + kept >= report.points
