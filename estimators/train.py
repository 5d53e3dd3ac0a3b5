"""Trains the estimators of one device from its profiles and writes them with their provenance."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from estimators import onnx
from estimators.devices import DeviceSpec, load_device
from estimators.features import OPERATORS, Roofline, operators_of
from estimators.forest import LEAVES, TREES, TrainingSet, fit, held_out_errors, profiled_ranges
from estimators.model_spec import DTYPE_BYTES
from estimators.sources.aiconfigurator import Profiles, read_profiles

_LICENCE = "Apache-2.0, trained on tables of ai-dynamo/aiconfigurator, (c) NVIDIA CORPORATION & AFFILIATES"
_LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx")


def train(
    device: str | DeviceSpec,
    dtype: str,
    out_directory: Path | str,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Train every operator of a device and write ``OUT/<device>-<dtype>/<operator>.onnx.gz``.

    The same profiles, seed and library versions give the same files, byte for byte, on any number of threads.

    Args:
        device: a known device, or one's own; its name is also that of the profiled system.
        dtype: ``"bf16"`` or ``"fp8"``.
        out_directory: the zoo to write to.
        seed: of the trees and of the held-out splits.
        progress: is called with a line of text before each operator.

    Returns:
        What was written into each file, by operator: source, counts, ranges, held-out errors, and ``bytes``, its size.

    Raises:
        EstimatorError: for an unknown device or dtype, or when the profiles are not installed.
    """
    spec = device if isinstance(device, DeviceSpec) else load_device(device)
    report = {}
    operators = operators_of(dtype)
    for number, operator in enumerate(operators, start=1):
        profiles = read_profiles(spec.name, operator, dtype)
        if progress is not None:
            progress(f"{spec.name} {dtype}: {operator} ({number}/{len(operators)}, {profiles.frame.height} rows)")
        model, metadata = train_operator(profiles, spec, dtype, seed)
        path = Path(out_directory) / f"{spec.name}-{dtype}" / (operator + onnx.SUFFIX)
        onnx.save(path, model)
        report[operator] = {**metadata, "bytes": path.stat().st_size}
    return report


def train_operator(profiles: Profiles, device: DeviceSpec, dtype: str, seed: int) -> tuple[bytes, dict[str, Any]]:
    """Train one operator on all its rows; returns the ONNX model and the metadata inside it."""
    rows = training_set(profiles, device, dtype)
    metadata = _metadata(profiles, rows, dtype, seed)
    return onnx.export(fit(rows.features, rows.target, seed), rows.features.shape[1], metadata), metadata


def training_set(profiles: Profiles, device: DeviceSpec, dtype: str) -> TrainingSet:
    """Turn measured points into rows to learn from, with the roofline of ``device``."""
    operator = OPERATORS[profiles.operator]
    columns = {name: profiles.frame[name].to_numpy().astype(np.float64) for name in operator.columns}
    seconds = profiles.frame["seconds"].to_numpy()
    roofline = Roofline(
        peak_flops=device.peak_flops[dtype],
        memory_bandwidth=device.memory_bandwidth,
        num_sms=device.num_sms,
        link_bandwidth=device.nvlink_bandwidth,
        floor_s=float(seconds.min()),
        # FlashAttention 3 and 4 pack and split; 2, called "vllm_flash_attn" on older GPUs, does not.
        split_kv=all(kernel.endswith(("fa3", "fa4")) for kernel in profiles.kernels),
    )
    return TrainingSet.of(profiles.operator, columns, seconds, roofline, DTYPE_BYTES[dtype])


def _metadata(profiles: Profiles, rows: TrainingSet, dtype: str, seed: int) -> dict[str, Any]:
    counts = {
        "read": profiles.rows_read,
        "dropped": profiles.rows_dropped,
        "merged": profiles.rows_duplicate,
        "used": profiles.frame.height,
    }
    return {
        "operator": profiles.operator,
        "device": profiles.system,
        "dtype": dtype,
        "source": profiles.source,
        "engine": profiles.engine,
        "kernels": list(profiles.kernels),
        "licence": _LICENCE,
        "rows": counts,
        "profiled": profiled_ranges(rows),
        "features": list(OPERATORS[profiles.operator].features),
        "roofline": asdict(rows.roofline),
        "held_out_errors": held_out_errors(rows, seed),
        "forest": {"trees": TREES, "leaves": LEAVES, "seed": seed},
        "command": f"fastsim estimators train --device {profiles.system} --dtype {dtype} --seed {seed}",
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
