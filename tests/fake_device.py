"""A device whose times follow from formulas, for tests of the profiler: nothing is run, and torch is not needed."""

import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from estimators import ModelSpec, load_model
from estimators.devices import DeviceSpec
from estimators.errors import EstimatorError
from estimators.features import OPERATORS, Roofline, features_and_roofline
from estimators.profiler import Limits, Point, ProfileOptions
from estimators.profiler.timing import Timing

TINY = Path(__file__).resolve().parents[1] / "bench" / "selftest_models" / "llama-tiny.json"
LIMITS = Limits(max_tokens=128, max_num_seqs=16, max_model_len=256)
OPTIONS = ProfileOptions(budget_s=100.0, target=0.05, limits=LIMITS)
SPEC = DeviceSpec(
    name="toy",
    memory_bytes=1 << 34,
    peak_flops={"fp32": 1e11},
    memory_bandwidth=2e10,
    l2_bytes=1 << 25,
    l2_bandwidth=1e11,
    num_sms=2,
    nvlink_bandwidth=1e10,
    gpus_per_node=1,
    inter_node_bandwidth=1e9,
    pcie_bandwidth=1e10,
    power_watts=0.0,
    price_per_hour=0.0,
)
PROVENANCE = {"device": "a toy", "driver": "1", "libraries": {"torch": "9.9"}, "threads": 1}


def tiny() -> ModelSpec:
    """A Llama of two layers."""
    return load_model(TINY)


@dataclass
class FakeDevice:
    """Hardware and the measuring of it in one.

    Attributes:
        noise: standard deviation of the logarithm of a time.
        refuse: operators that it cannot measure.
        batch_s: what a batch takes, on ``clock``.
        batches: that were measured.
    """

    noise: float = 0.0
    refuse: tuple[str, ...] = ("mixed_attention", "skewed_decode_attention")
    batch_s: float = 1.0
    spec: DeviceSpec = SPEC
    known: bool = False
    provenance: dict[str, Any] = field(default_factory=lambda: dict(PROVENANCE))
    batches: list[list[Point]] = field(default_factory=list)
    now: float = 0.0

    def dtypes(self) -> tuple[str, ...]:
        return tuple(self.spec.peak_flops)

    def clock(self) -> float:
        return self.now

    def measure(self, points):
        self.batches.append(list(points))
        self.now += self.batch_s
        return [self._timing(point) for point in points]

    def _timing(self, point: Point) -> Timing | EstimatorError:
        if point.operator in self.refuse:
            return EstimatorError("operator", point.operator, "is not measured here", "leave it")
        draw = np.random.default_rng(zlib.crc32(repr((point, len(self.batches))).encode()))
        return Timing(self.seconds(point) * float(np.exp(self.noise * draw.standard_normal())), self.noise, 9, "toy")

    def seconds(self, point: Point) -> float:
        """The truth: a roofline and an efficiency that turns with the size."""
        roofline = Roofline(1e11, 2e10, 2, 1e10, 1e-6, False, 4, 4)
        columns = {name: np.asarray([float(value)]) for name, value in point.columns.items()}
        features, bound_s = features_and_roofline(point.operator, columns, roofline)
        assert point.operator in OPERATORS
        return float(bound_s[0] * (1.5 + 0.4 * np.sin(features[0, 0] / 2)))


def options(**changes) -> ProfileOptions:
    return replace(OPTIONS, **changes)
