"""Measured rows that tests make up."""

import numpy as np

from estimators.features import Roofline, features_and_roofline
from estimators.training import TrainingSet

ROOFLINE = Roofline(
    peak_flops=1e15, memory_bandwidth=3e12, num_sms=132, link_bandwidth=450e9, floor_s=1e-5, split_kv=True
)


def gemms() -> TrainingSet:
    """Rows of 60 shapes (n, k), each with an efficiency of its own, at 10 values of m."""
    generator = np.random.default_rng(7)
    n, k = generator.choice(np.arange(1, 200), size=(2, 60)) * 64.0
    efficiency = np.repeat(generator.uniform(0.3, 0.9, size=60), 10)
    columns = {"m": np.tile(2.0 ** np.arange(10), 60), "n": np.repeat(n, 10), "k": np.repeat(k, 10)}
    _, roofline_s = features_and_roofline("gemm", columns, ROOFLINE)
    return TrainingSet.of("gemm", columns, roofline_s / efficiency, ROOFLINE)


def smooth_gemms(rows: int = 1500, noise: float = 0.0) -> TrainingSet:
    """Rows of a shape each, most of them small, whose efficiency follows from their arithmetic; noise on log time."""
    generator = np.random.default_rng(0)
    columns = {name: np.exp(generator.exponential(2.0, rows)).clip(1, 4096).round() for name in ("m", "n", "k")}
    features, bound_s = features_and_roofline("gemm", columns, ROOFLINE)
    noisy = np.sin(features[:, 3] / 3) + noise * generator.standard_normal(rows)
    return TrainingSet.of("gemm", columns, bound_s * np.exp(noisy), ROOFLINE)
