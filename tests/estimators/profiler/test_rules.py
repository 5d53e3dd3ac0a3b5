from collections.abc import Sequence
from pathlib import Path

import pytest

from estimators.errors import EstimatorError
from estimators.profiler.points import Limits, Point
from estimators.profiler.record import Record
from estimators.profiler.rules import RuleCheck, check_rules
from estimators.profiler.timing import Timing

LIMITS = Limits(max_tokens=512, max_num_seqs=32, max_model_len=1024)
_LAUNCH_S = 1e-5


def _grid(kv: int = 1024, window: int = 0, batch: int = 32):
    heads = ({"q_heads": 8, "kv_heads": 2, "head_dim": 64}, {"q_heads": 4, "kv_heads": 1, "head_dim": 64})
    points = [
        Point.of("decode_attention", "fp32", {"batch": batch, "kv": kv, "window": window, **each}) for each in heads
    ]
    return {("decode_attention", "fp32"): dict.fromkeys(points, 1.0)}


class Device:
    """Takes a launch, and time by what is read and multiplied; more for unequal decodes."""

    def __init__(self, kernel: str, launch_s: float = _LAUNCH_S, skew: float = 1.0) -> None:
        self.kernel, self.launch_s, self.skew = kernel, launch_s, skew
        self.asked: list[Point] = []

    def __call__(self, points: Sequence[Point]) -> list[Timing | EstimatorError]:
        self.asked += points
        return [Timing(self.seconds(point), 0.0, 9, self.kernel) for point in points]

    def seconds(self, point: Point) -> float:
        columns = point.columns
        assert columns["q_heads"] == 8
        decodes = columns.get("decodes", columns.get("batch", 0))
        read = decodes * columns.get("kv", 0) * (self.skew if "longest" in columns else 1)
        chunk = columns.get("chunk", 0)
        return self.launch_s + 1e-8 * read + 1e-8 * chunk * (columns.get("history", 0) + chunk / 2)


def _record(tmp_path: Path) -> Record:
    return Record(tmp_path / "points.jsonl", {"model": "m"}, {})


def test_a_device_that_follows_the_rules_takes_what_tables_say(tmp_path: Path):
    mixed, skewed = check_rules(_record(tmp_path), Device("flash"), _grid(), LIMITS)
    assert mixed.operator == "mixed_attention"
    assert len(mixed.ratios) == 8
    # Of the launch that is shared, one of a token is left, which reads that token.
    assert mixed.ratios == pytest.approx([1.0] * 8, rel=1e-3)
    assert skewed.ratios == pytest.approx([1.0] * 4)


def test_a_launch_for_each_request_is_not_shared(tmp_path: Path):
    mixed, _ = check_rules(_record(tmp_path), Device("sdpa_per_request"), _grid(), LIMITS)
    assert max(mixed.ratios) < 1


def test_a_device_that_waits_for_the_longest_is_told(tmp_path: Path):
    _, skewed = check_rules(_record(tmp_path), Device("flash", launch_s=0.0, skew=1.3), _grid(), LIMITS)
    assert skewed.ratios == pytest.approx([1.3] * 4)
    assert skewed.sentence() == (
        "Decodes of unequal contexts took 1.30 of what tables say, as many of their mean: median of 4 fp32 batches, "
        "1.30 to 1.30."
    )


def test_what_is_kept_is_not_measured_again(tmp_path: Path):
    first, again = Device("flash"), Device("flash")
    checks = check_rules(_record(tmp_path), first, _grid(), LIMITS)
    assert len(first.asked) == len(set(first.asked))
    assert check_rules(_record(tmp_path), again, _grid(), LIMITS) == checks
    assert again.asked == []


@pytest.mark.parametrize("grid", [{}, _grid(window=64), _grid(kv=1)])
def test_without_such_attention_nothing_is_checked(tmp_path: Path, grid):
    device = Device("flash")
    assert check_rules(_record(tmp_path), device, grid, LIMITS) == []
    assert device.asked == []


def test_batches_stay_within_the_grid(tmp_path: Path):
    device = Device("flash")
    check_rules(_record(tmp_path), device, _grid(kv=1024, batch=2), LIMITS)
    for point in device.asked:
        columns = point.columns
        assert columns.get("decodes", columns.get("batch", 1)) * columns.get("kv", 1) <= 2 * 1024
        assert columns.get("history", 0) + columns.get("chunk", 0) <= 1024
        assert columns.get("longest", 1) <= 1024


def test_batches_that_cannot_be_measured_are_left_out(tmp_path: Path):
    def refuse(points: Sequence[Point]) -> list[Timing | EstimatorError]:
        error = EstimatorError("mixed_attention", None, "has no kernel", "wait")
        timings = Device("flash")(points)
        return [
            error if point.operator == "mixed_attention" else each for point, each in zip(points, timings, strict=True)
        ]

    (check,) = check_rules(_record(tmp_path), refuse, _grid(), LIMITS)
    assert check.operator == "skewed_decode_attention"


def test_a_mixed_batch_is_told():
    assert RuleCheck("mixed_attention", "bf16", (0.9, 1.0, 1.2)).sentence() == (
        "Decodes and a chunk in one batch took 1.00 of what tables say, the two alone: median of 3 bf16 batches, "
        "0.90 to 1.20."
    )
